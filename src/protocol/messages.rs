//! Every message but Produce and Fetch on the hot path: the only file that names the
//! `kafka-protocol` crate, whose message types it hands on.
//!
//! [`decode`] and [`decode_response`] first walk the body along its shape ([`super::walk`]), since
//! the crate's decoders allocate by the counts on the wire. After a walk they cannot panic: they
//! read through checked `try_get_*` only, and do not recurse. Bytes after the last field are let
//! pass, as Kafka does.

use std::fmt;

use bytes::{Bytes, BytesMut};
pub use kafka_protocol::messages::*;
pub use kafka_protocol::protocol::{Decodable, Encodable, Message, Request, StrBytes};
pub use uuid::Uuid;

// Hidden on purpose: the crate's own ApiKey overstates the versions of three APIs, and its header
// is not the one that we read.
#[allow(hidden_glob_reexports)]
use super::api::{ApiKey, decodable_max, is_flexible};
#[allow(hidden_glob_reexports)]
use super::header::{RequestHeader, write_response_header};
use super::malformed::Malformed;
use super::shapes::shapes;
use super::walk::walk;
use super::writer::Writer;
use crate::base::TopicId;

/// A message that cannot be written in the version asked for: a field is set that the version does
/// not have, or something is too long. The reason is for our own log, not for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unencodable {
    /// The API's number.
    pub key: i16,
    /// The version asked for.
    pub version: i16,
    /// What the encoder said.
    pub reason: String,
}

impl fmt::Display for Unencodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "API {} in version {}: {}",
            self.key, self.version, self.reason
        )
    }
}

impl std::error::Error for Unencodable {}

/// Decodes the body of a request, whatever it holds. Strings and bytes are slices of `body`.
pub fn decode<T: Request>(body: Bytes, version: i16) -> Result<T, Malformed> {
    let key = key_of::<T>(version)?;
    decode_walked(body, shape_of(key).request, key, version)
}

/// Decodes the body of the response to a request of type `T`.
pub fn decode_response<T: Request>(body: Bytes, version: i16) -> Result<T::Response, Malformed> {
    let key = key_of::<T>(version)?;
    decode_walked(body, shape_of(key).response, key, version)
}

fn decode_walked<M: Decodable>(
    mut body: Bytes,
    shape: &'static str,
    key: ApiKey,
    version: i16,
) -> Result<M, Malformed> {
    walk(&body, shape, version, is_flexible(key, version))?;
    M::decode(&mut body, version).map_err(|_| Malformed::Refused)
}

fn key_of<T: Request>(version: i16) -> Result<ApiKey, Malformed> {
    let key = ApiKey::from_code(T::KEY).ok_or(Malformed::UnknownApi(T::KEY))?;
    if version < T::VERSIONS.min || version > decodable_max(key) {
        return Err(Malformed::UnknownVersion {
            key: T::KEY,
            version,
        });
    }
    Ok(key)
}

fn shape_of(key: ApiKey) -> super::shapes::Shapes {
    shapes(key.code()).expect("a shape for every key that has a name")
}

/// The body of `message` in `version`; `key` is only named in the error.
pub fn encode<M: Encodable>(key: ApiKey, message: &M, version: i16) -> Result<Bytes, Unencodable> {
    let mut body = BytesMut::new();
    append(key, message, version, &mut body)?;
    Ok(body.freeze())
}

fn append<M: Encodable>(
    key: ApiKey,
    message: &M,
    version: i16,
    out: &mut BytesMut,
) -> Result<(), Unencodable> {
    let written = message.compute_size(version).and_then(|size| {
        out.reserve(size);
        message.encode(out, version)
    });
    written.map_err(|reason| Unencodable {
        key: key.code(),
        version,
        reason: reason.to_string(),
    })
}

/// A whole response frame: size, header, body.
pub fn reply_frame<M: Encodable>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    message: &M,
) -> Result<Bytes, Unencodable> {
    let mut writer = Writer::default();
    writer.begin_frame();
    write_response_header(&mut writer, key, version, correlation_id);
    append(key, message, version, writer.buffer())?;
    Ok(writer.finish_frame(0))
}

/// A whole request frame: size, header, body.
pub fn encode_request<T: Request>(
    version: i16,
    correlation_id: i32,
    client_id: &StrBytes,
    message: &T,
) -> Result<Bytes, Unencodable> {
    let key = key_of::<T>(version).map_err(|malformed| Unencodable {
        key: T::KEY,
        version,
        reason: malformed.to_string(),
    })?;
    let header = RequestHeader {
        key,
        version,
        correlation_id,
        client_id: client_id.clone(),
    };
    let mut writer = Writer::default();
    writer.begin_frame();
    header.write(&mut writer);
    append(key, message, version, writer.buffer())?;
    Ok(writer.finish_frame(0))
}

/// A topic's id as the messages have it.
pub fn uuid(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

/// A topic's id from a message.
pub fn topic_id(uuid: Uuid) -> TopicId {
    TopicId(uuid.into_bytes())
}
