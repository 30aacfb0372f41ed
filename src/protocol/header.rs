//! Frames and headers: what stands around every body.
//!
//! ```text
//! frame            size i32 (excludes itself) | header | body
//! request header   api key i16 | version i16 | correlation id i32 | client id (i16 length, -1 null)
//!                  | tagged fields, from header version 2
//! response header  correlation id i32 | tagged fields, in header version 1
//! ```
//!
//! The client id keeps its old two-byte length in header 2, so that a broker can read the header of
//! an ApiVersions request of any version (apache/kafka `RequestHeader.json`, KIP-511).
//! Knows no socket and no body.

use bytes::Bytes;

use super::api::response_header_version;
use super::api::{ApiKey, ApiVersions, is_flexible, request_header_version};
use super::malformed::Malformed;
use super::messages::StrBytes;
use super::reader::Reader;
use super::writer::Writer;

/// Bytes of the size that every frame begins with.
pub const FRAME_SIZE_BYTES: usize = 4;

/// Kafka's default of `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 104_857_600;

/// A frame's size that no frame may have. Kafka closes the connection without an answer
/// (apache/kafka `NetworkReceive`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRefused {
    /// A size below 0.
    Negative {
        /// The size that was sent.
        size: i32,
    },
    /// A size above `socket.request.max.bytes`.
    TooLarge {
        /// The size that was sent.
        size: usize,
        /// The largest allowed.
        max: usize,
    },
}

impl std::fmt::Display for FrameRefused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            FrameRefused::Negative { size } => write!(f, "a frame of {size} bytes"),
            FrameRefused::TooLarge { size, max } => {
                write!(f, "a frame of {size} bytes, the largest allowed is {max}")
            }
        }
    }
}

impl std::error::Error for FrameRefused {}

/// The size of a frame's contents, header and body, from its first four bytes.
pub const fn frame_size(prefix: [u8; FRAME_SIZE_BYTES], max: usize) -> Result<usize, FrameRefused> {
    let size = i32::from_be_bytes(prefix);
    if size < 0 {
        Err(FrameRefused::Negative { size })
    } else if size as usize > max {
        Err(FrameRefused::TooLarge {
            size: size as usize,
            max,
        })
    } else {
        Ok(size as usize)
    }
}

/// A request's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API.
    pub key: ApiKey,
    /// The version of the body, and of the response that is expected.
    pub version: i16,
    /// The client's number for this request; the response repeats it.
    pub correlation_id: i32,
    /// What the client calls itself; null counts as empty (apache/kafka `RequestHeader.parse`).
    pub client_id: StrBytes,
}

impl RequestHeader {
    /// Cuts the contents of a frame (without its size) into header and body. Nothing is copied.
    ///
    /// A version that is not accepted is *not* refused here, since an ApiVersions request of an
    /// unknown version wants an answer: see [`RequestHeader::is_supported`]. A key without a name
    /// is refused, as Kafka does.
    pub fn parse(frame: &Bytes) -> Result<(RequestHeader, Bytes), Malformed> {
        let mut reader = Reader::new(frame);
        let number = reader.i16()?;
        let version = reader.i16()?;
        let key = ApiKey::from_code(number).ok_or(Malformed::UnknownApi(number))?;
        let correlation_id = reader.i32()?;
        let client_id = reader.nullable_text(false)?.unwrap_or_default();
        reader.skip_tagged_fields(request_header_version(key, version) >= 2)?;
        Ok((
            RequestHeader {
                key,
                version,
                correlation_id,
                client_id,
            },
            reader.rest(),
        ))
    }

    /// True when the version is accepted as the table says. Of other requests only ApiVersions is
    /// answered, with error 35 in a body of version 0 (KIP-511); Kafka closes the connection for
    /// the rest (apache/kafka `SocketServer.parseRequestHeader`).
    pub fn is_supported(&self, versions: ApiVersions) -> bool {
        versions.key == self.key && versions.accepts(self.version)
    }

    /// True when the body has compact lengths and tagged fields.
    pub fn is_flexible(&self) -> bool {
        is_flexible(self.key, self.version)
    }

    /// Appends the header in the version that goes with the body.
    pub fn write(&self, writer: &mut Writer) {
        writer.i16(self.key.code());
        writer.i16(self.version);
        writer.i32(self.correlation_id);
        writer.nullable_text(false, Some(&self.client_id));
        writer.no_tagged_fields(request_header_version(self.key, self.version) >= 2);
    }
}

/// Appends the response header that goes with this version of this API.
pub fn write_response_header(writer: &mut Writer, key: ApiKey, version: i16, correlation_id: i32) {
    writer.i32(correlation_id);
    writer.no_tagged_fields(response_header_version(key, version) >= 1);
}

/// Bytes that [`write_response_header`] appends.
pub const fn response_header_size(key: ApiKey, version: i16) -> usize {
    4 + response_header_version(key, version) as usize
}

/// Cuts the contents of a response frame (without its size) into correlation id and body.
pub fn parse_response_header(
    frame: &Bytes,
    key: ApiKey,
    version: i16,
) -> Result<(i32, Bytes), Malformed> {
    let mut reader = Reader::new(frame);
    let correlation_id = reader.i32()?;
    reader.skip_tagged_fields(response_header_version(key, version) >= 1)?;
    Ok((correlation_id, reader.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_size_below_zero_or_above_the_limit_is_refused() {
        let size = |size: i32| frame_size(size.to_be_bytes(), FRAME_BYTES_MAX);
        assert_eq!(size(-1), Err(FrameRefused::Negative { size: -1 }));
        assert_eq!(size(0), Ok(0));
        assert_eq!(size(104_857_600), Ok(104_857_600));
        let max = FRAME_BYTES_MAX;
        assert_eq!(
            size(104_857_601),
            Err(FrameRefused::TooLarge {
                size: 104_857_601,
                max
            })
        );
    }

    #[test]
    fn header_2_keeps_the_old_client_id_and_leaves_the_body_where_it_is() {
        let frame =
            Bytes::from_static(b"\x00\x00\x00\x09\x00\x00\x00\x07\x00\x03abc\x01\x05\x02xyBODY");
        let (header, body) = RequestHeader::parse(&frame).unwrap();
        assert_eq!(header.key, ApiKey::Produce);
        assert_eq!((header.version, header.correlation_id), (9, 7));
        assert_eq!(&*header.client_id, "abc");
        assert_eq!(body, "BODY");
        assert_eq!(body.as_ptr(), frame[frame.len() - 4..].as_ptr());
    }

    #[test]
    fn a_null_client_id_counts_as_empty() {
        let frame = Bytes::from_static(b"\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff");
        let (header, body) = RequestHeader::parse(&frame).unwrap();
        assert_eq!((header.key, &*header.client_id), (ApiKey::ApiVersions, ""));
        assert!(body.is_empty());
    }

    #[test]
    fn an_unknown_version_is_parsed_so_that_api_versions_can_be_answered() {
        let frame = Bytes::from_static(b"\x00\x12\x00\x63\x00\x00\x00\x01\x00\x00\x00rest");
        let (header, _) = RequestHeader::parse(&frame).unwrap();
        assert_eq!(header.version, 99);
        assert!(!header.is_supported(ApiVersions::of(ApiKey::ApiVersions)));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let frame = Bytes::from_static(b"\x00\x04\x00\x00\x00\x00\x00\x01\xff\xff");
        assert_eq!(RequestHeader::parse(&frame), Err(Malformed::UnknownApi(4)));
    }
}
