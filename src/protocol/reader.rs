//! Reading the wire's primitives, bounds-checked: nothing is copied, nothing is allocated on the
//! word of a length that the bytes do not bear out.
//!
//! Knows no message. Source of the encodings: apache/kafka `common/utils/ByteUtils.java`, KIP-482.

use bytes::Bytes;

use super::error::ErrorCode;
use super::malformed::Malformed;
use super::messages::StrBytes;
use crate::base::TopicId;

/// Memory that elements may take for each byte of a body. The worst that a client has reason to
/// send (topic names of three letters) takes about 16.
const MEMORY_PER_BYTE: usize = 24;
/// Memory that elements may take however small the body is, in bytes.
const MEMORY_MIN: usize = 64 << 10;
/// Memory that elements may take however large the body is, in bytes.
const MEMORY_MAX: usize = 64 << 20;

/// The longest string, in bytes, also where a compact length could say more (apache/kafka
/// generated code refuses lengths above 0x7fff).
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// The most memory, in bytes, that decoding a body of `length` bytes may take. The bytes of strings
/// and records are not in it: they stay where they are.
pub const fn memory_limit(length: usize) -> usize {
    let limit = length
        .saturating_mul(MEMORY_PER_BYTE)
        .saturating_add(MEMORY_MIN);
    if limit < MEMORY_MAX {
        limit
    } else {
        MEMORY_MAX
    }
}

/// A cursor over bytes from the wire. What it returns are slices of those bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    /// Memory that elements may still take.
    memory_left: usize,
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(&mut self) -> Result<$type, Malformed> {
            Ok(<$type>::from_be_bytes(self.array()?))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// A cursor at the first of `bytes`.
    pub fn new(bytes: &'a Bytes) -> Reader<'a> {
        Reader {
            bytes,
            at: 0,
            memory_left: memory_limit(bytes.len()),
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What has not been read yet, as a slice of the same memory.
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    fixed! {
        /// A signed byte.
        i8: i8;
        /// A big-endian `i16`.
        i16: i16;
        /// A big-endian `i32`.
        i32: i32;
        /// A big-endian `i64`.
        i64: i64;
    }

    /// A boolean: any byte but 0 is true (apache/kafka generated code reads `readByte() != 0`).
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        Ok(self.i8()? != 0)
    }

    /// An error code; one that is not known reads as `UnknownServerError`, as in Kafka's clients.
    pub fn error(&mut self) -> Result<ErrorCode, Malformed> {
        Ok(ErrorCode::from_code(self.i16()?).unwrap_or(ErrorCode::UnknownServerError))
    }

    /// A topic's UUID; all zeros when there is none.
    pub fn topic_id(&mut self) -> Result<TopicId, Malformed> {
        Ok(TopicId(self.array()?))
    }

    /// An unsigned varint of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, Malformed> {
        let long = self.uvarint_of(32)?;
        Ok(long as u32)
    }

    /// A zig-zag varint of at most 32 bits.
    pub fn varint(&mut self) -> Result<i32, Malformed> {
        let raw = self.uvarint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// A zig-zag varint of at most 64 bits.
    pub fn varlong(&mut self) -> Result<i64, Malformed> {
        let raw = self.uvarint_of(64)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn uvarint_of(&mut self, bits: u32) -> Result<u64, Malformed> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let [byte] = self.array()?;
            let part = u64::from(byte & 0x7f);
            if shift >= bits || (bits - shift < 7 && part >> (bits - shift) != 0) {
                return Err(Malformed::LongVarint);
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// Steps over `count` bytes.
    pub fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        if count > self.left() {
            return Err(Malformed::Truncated {
                wanted: count,
                left: self.left(),
            });
        }
        self.at += count;
        Ok(())
    }

    /// The next `count` bytes, as a slice of the same memory.
    pub fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        let from = self.at;
        self.skip(count)?;
        Ok(self.bytes.slice(from..self.at))
    }

    /// The length of a string, none for null: `i16`, or compact (varint, N + 1, 0 for null).
    pub fn text_length(&mut self, compact: bool) -> Result<Option<usize>, Malformed> {
        if !compact {
            return length(i32::from(self.i16()?));
        }
        match self.compact_length()? {
            Some(length) if length > TEXT_BYTES_MAX => Err(Malformed::LongText(length)),
            length => Ok(length),
        }
    }

    /// The length of bytes or the count of an array, none for null: `i32`, or compact.
    pub fn length(&mut self, compact: bool) -> Result<Option<usize>, Malformed> {
        if compact {
            self.compact_length()
        } else {
            length(self.i32()?)
        }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, Malformed> {
        Ok((self.uvarint()? as usize).checked_sub(1))
    }

    /// A string that may be null.
    pub fn nullable_text(&mut self, compact: bool) -> Result<Option<StrBytes>, Malformed> {
        let Some(length) = self.text_length(compact)? else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        StrBytes::from_utf8(bytes)
            .map(Some)
            .map_err(|_| Malformed::NotText)
    }

    /// A string that may not be null.
    pub fn text(&mut self, compact: bool) -> Result<StrBytes, Malformed> {
        self.nullable_text(compact)?.ok_or(Malformed::Null)
    }

    /// Bytes that may be null, as a slice of the same memory.
    pub fn nullable_bytes(&mut self, compact: bool) -> Result<Option<Bytes>, Malformed> {
        match self.length(compact)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// The count of an array whose elements take at least `least` bytes each on the wire, and an
    /// empty vector with room for them; none for null.
    pub fn nullable_array<T>(
        &mut self,
        compact: bool,
        least: usize,
    ) -> Result<Option<(usize, Vec<T>)>, Malformed> {
        let Some(count) = self.length(compact)? else {
            return Ok(None);
        };
        self.claim(count, least, size_of::<T>())?;
        Ok(Some((count, Vec::with_capacity(count))))
    }

    /// As [`Reader::nullable_array`], for an array that may not be null.
    pub fn array_of<T>(
        &mut self,
        compact: bool,
        least: usize,
    ) -> Result<(usize, Vec<T>), Malformed> {
        self.nullable_array(compact, least)?.ok_or(Malformed::Null)
    }

    /// Checks that `count` elements of `least` bytes on the wire can be there, and that `memory`
    /// bytes for each of them are within the limit for this body.
    pub fn claim(&mut self, count: usize, least: usize, memory: usize) -> Result<(), Malformed> {
        if count > self.left() / least.max(1) {
            return Err(Malformed::Count {
                count,
                left: self.left(),
            });
        }
        self.claim_memory(count.saturating_mul(memory))
    }

    /// Checks that `bytes` more of memory are within the limit for this body.
    pub fn claim_memory(&mut self, bytes: usize) -> Result<(), Malformed> {
        let Some(memory_left) = self.memory_left.checked_sub(bytes) else {
            return Err(Malformed::TooManyElements {
                limit: memory_limit(self.bytes.len()),
            });
        };
        self.memory_left = memory_left;
        Ok(())
    }

    /// Steps over the tagged fields that end a struct, if it is `flexible` (KIP-482: tags that one
    /// does not know are skipped, never refused).
    pub fn skip_tagged_fields(&mut self, flexible: bool) -> Result<(), Malformed> {
        self.tagged_fields(flexible, |_, _| Ok(false))
    }

    /// Hands each tagged field to `read` with its tag; `read` answers false, having read nothing,
    /// for a tag that it does not know. A field whose contents are not as long as its sender says
    /// is refused.
    pub fn tagged_fields(
        &mut self,
        flexible: bool,
        mut read: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        let count = if flexible { self.uvarint()? } else { 0 };
        for _ in 0..count {
            let tag = self.uvarint()?;
            let claimed = self.uvarint()? as usize;
            if claimed > self.left() {
                return Err(Malformed::Truncated {
                    wanted: claimed,
                    left: self.left(),
                });
            }
            let from = self.at;
            if !read(tag, self)? {
                self.skip(claimed)?;
            }
            if self.at - from != claimed {
                return Err(Malformed::TaggedFieldLength {
                    claimed,
                    read: self.at - from,
                });
            }
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.bytes[self.at..].first_chunk::<N>() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(Malformed::Truncated {
                wanted: N,
                left: self.left(),
            }),
        }
    }
}

/// A signed length: -1 is null, anything else below 0 is wrong.
fn length(signed: i32) -> Result<Option<usize>, Malformed> {
    match usize::try_from(signed) {
        Ok(length) => Ok(Some(length)),
        Err(_) if signed == -1 => Ok(None),
        Err(_) => Err(Malformed::NegativeLength(signed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_at_most_their_bits() {
        let read = |bytes: &'static [u8]| Reader::new(&Bytes::from_static(bytes)).uvarint();
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0x1f]),
            Err(Malformed::LongVarint)
        );
        assert_eq!(
            read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            Err(Malformed::LongVarint)
        );
        assert_eq!(
            read(&[0x80]),
            Err(Malformed::Truncated { wanted: 1, left: 0 })
        );
        let long = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(Reader::new(&long).varlong(), Ok(i64::MIN));
        assert_eq!(Reader::new(&Bytes::from_static(&[3])).varint(), Ok(-2));
    }

    #[test]
    fn an_array_longer_than_its_bytes_is_refused_before_it_is_allocated() {
        let bytes = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 1, 2, 3]);
        let refused = Reader::new(&bytes).array_of::<u64>(false, 4).unwrap_err();
        assert_eq!(
            refused,
            Malformed::Count {
                count: i32::MAX as usize,
                left: 3
            }
        );
    }

    #[test]
    fn memory_beyond_the_limit_is_refused_though_the_elements_are_there() {
        let bytes = Bytes::from(vec![0; 10_000]);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.claim(10_000, 1, 24), Ok(()));
        let limit = memory_limit(10_000);
        assert_eq!(
            reader.claim(10_000, 1, 24),
            Err(Malformed::TooManyElements { limit })
        );
    }

    #[test]
    fn unknown_tags_are_skipped_and_wrong_lengths_are_refused() {
        let bytes = Bytes::from_static(&[2, 9, 3, 1, 2, 3, 200, 1, 0, 42]);
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.skip_tagged_fields(true), Ok(()));
        assert_eq!(reader.i8(), Ok(42));
        let wrong = Bytes::from_static(&[1, 0, 3, 1, 2, 3]);
        let read = Reader::new(&wrong).tagged_fields(true, |_, reader| {
            reader.i16()?;
            Ok(true)
        });
        assert_eq!(
            read,
            Err(Malformed::TaggedFieldLength {
                claimed: 3,
                read: 2
            })
        );
    }
}
