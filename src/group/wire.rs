//! Kafka's primitive types, read from and written to bytes: both the classic encoding and the
//! flexible one of KIP-482. Knows no schema.
//!
//! Reading never trusts a length: every count is held against the bytes that are left before
//! anything is allocated for it.

use bytes::Bytes;

use crate::base::TopicId;

/// The bytes do not follow their schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What was being read.
    pub what: &'static str,
}

/// A cursor over bytes that somebody else wrote.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start, in the classic encoding.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            rest: bytes,
            flexible: false,
        }
    }

    /// Switches to the flexible encoding for what follows, or back.
    pub fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        if count > self.rest.len() {
            return Err(Malformed { what });
        }
        let (head, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        self.take(N, what)?
            .try_into()
            .map_err(|_| Malformed { what })
    }

    /// One signed byte.
    pub fn int8(&mut self) -> Result<i8, Malformed> {
        self.array("int8").map(i8::from_be_bytes)
    }

    /// A big-endian 16-bit number.
    pub fn int16(&mut self) -> Result<i16, Malformed> {
        self.array("int16").map(i16::from_be_bytes)
    }

    /// A big-endian 32-bit number.
    pub fn int32(&mut self) -> Result<i32, Malformed> {
        self.array("int32").map(i32::from_be_bytes)
    }

    /// A big-endian 64-bit number.
    pub fn int64(&mut self) -> Result<i64, Malformed> {
        self.array("int64").map(i64::from_be_bytes)
    }

    /// A topic's UUID.
    pub fn uuid(&mut self) -> Result<TopicId, Malformed> {
        self.array("uuid").map(TopicId)
    }

    /// An unsigned varint of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array("varint")?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed { what: "varint" })
    }

    /// The length in front of a string, an array or bytes; none for null. `wide` is the width
    /// that the classic encoding uses: 2 for strings, 4 for arrays and bytes.
    fn length(&mut self, wide: usize, what: &'static str) -> Result<Option<usize>, Malformed> {
        let length = if self.flexible {
            i64::from(self.unsigned_varint()?) - 1
        } else if wide == 2 {
            i64::from(self.int16()?)
        } else {
            i64::from(self.int32()?)
        };
        match length {
            -1 => Ok(None),
            length if length < 0 || length as usize > self.rest.len() => Err(Malformed { what }),
            length => Ok(Some(length as usize)),
        }
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self) -> Result<Option<String>, Malformed> {
        let Some(length) = self.length(2, "string length")? else {
            return Ok(None);
        };
        let bytes = self.take(length, "string")?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed {
            what: "string utf-8",
        })?;
        Ok(Some(text.to_owned()))
    }

    /// A string.
    pub fn string(&mut self) -> Result<String, Malformed> {
        self.nullable_string()?.ok_or(Malformed {
            what: "string is null",
        })
    }

    /// Bytes; null reads as empty.
    pub fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.length(4, "bytes length")?.unwrap_or(0);
        Ok(Bytes::copy_from_slice(self.take(length, "bytes")?))
    }

    /// An array whose elements `read` reads; null reads as empty. Every element takes at least
    /// one byte, so that a count above the bytes left is refused before anything is allocated.
    pub fn vec<T>(
        &mut self,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.length(4, "array count")?.unwrap_or(0);
        let mut items = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// The tagged fields at the end of a flexible structure, each given to `read`; nothing in
    /// the classic encoding.
    pub fn tagged(
        &mut self,
        mut read: impl FnMut(u32, Reader<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let field = self.take(size, "tagged field")?;
            read(
                tag,
                Reader {
                    rest: field,
                    flexible: true,
                },
            )?;
        }
        Ok(())
    }

    /// Skips the tagged fields at the end of a flexible structure.
    pub fn skip_tagged(&mut self) -> Result<(), Malformed> {
        self.tagged(|_, _| Ok(()))
    }
}

/// Bytes in the making.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Writer {
    /// Begins with a schema's version, as keys, values and the consumer protocol do.
    pub fn versioned(version: i16, flexible: bool) -> Writer {
        let mut writer = Writer {
            bytes: Vec::with_capacity(64),
            flexible,
        };
        writer.int16(version);
        writer
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// One signed byte.
    pub fn int8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A big-endian 16-bit number.
    pub fn int16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A big-endian 32-bit number.
    pub fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A big-endian 64-bit number.
    pub fn int64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// A topic's UUID.
    pub fn uuid(&mut self, value: TopicId) {
        self.bytes.extend_from_slice(&value.0);
    }

    /// An unsigned varint.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn length(&mut self, wide: usize, length: Option<usize>) {
        // What is written here came in one request, so it is far below these widths.
        let length = length.map_or(-1, |length| length as i64);
        if self.flexible {
            self.unsigned_varint((length + 1) as u32);
        } else if wide == 2 {
            self.int16(i16::try_from(length).unwrap_or(i16::MAX));
        } else {
            self.int32(length as i32);
        }
    }

    /// A string that may be null. The classic encoding holds 32,767 bytes at most; what is longer
    /// (which no request can carry in its classic encoding) is cut at a character.
    pub fn nullable_string(&mut self, text: Option<&str>) {
        let mut text = text;
        if let Some(long) = text.filter(|text| !self.flexible && text.len() > i16::MAX as usize) {
            let cut = (0..=i16::MAX as usize)
                .rev()
                .find(|&at| long.is_char_boundary(at));
            text = Some(&long[..cut.unwrap_or(0)]);
        }
        self.length(2, text.map(str::len));
        self.bytes.extend_from_slice(text.unwrap_or("").as_bytes());
    }

    /// A string.
    pub fn string(&mut self, text: &str) {
        self.nullable_string(Some(text));
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.length(4, Some(bytes.len()));
        self.bytes.extend_from_slice(bytes);
    }

    /// Null bytes.
    pub fn null_bytes(&mut self) {
        self.length(4, None);
    }

    /// An array; `write` writes one element.
    pub fn array<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Writer, T),
    ) {
        self.length(4, Some(items.len()));
        for item in items {
            write(self, item);
        }
    }

    /// The end of a structure: no tagged fields. Nothing in the classic encoding.
    pub fn no_tagged(&mut self) {
        if self.flexible {
            self.unsigned_varint(0);
        }
    }

    /// The end of a flexible structure with one tagged field, written by `write`.
    pub fn one_tagged(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        let mut field = Writer {
            bytes: Vec::new(),
            flexible: true,
        };
        write(&mut field);
        self.unsigned_varint(1);
        self.unsigned_varint(tag);
        self.unsigned_varint(field.bytes.len() as u32);
        self.bytes.extend_from_slice(&field.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_above_the_bytes_left_is_refused_before_anything_is_allocated() {
        let mut reader = Reader::new(&[0x7f, 0xff, 0xff, 0xff, 0]);
        assert_eq!(
            reader.vec(|r| r.int8()),
            Err(Malformed {
                what: "array count"
            })
        );
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(reader.unsigned_varint(), Err(Malformed { what: "varint" }));
    }

    #[test]
    fn flexible_and_classic_strings_read_back() {
        for flexible in [false, true] {
            let mut writer = Writer::versioned(3, flexible);
            writer.string("käse");
            writer.nullable_string(None);
            writer.bytes(b"xyz");
            writer.no_tagged();
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.int16(), Ok(3));
            reader.set_flexible(flexible);
            assert_eq!(reader.string().as_deref(), Ok("käse"));
            assert_eq!(reader.nullable_string(), Ok(None));
            assert_eq!(reader.bytes().as_deref(), Ok(&b"xyz"[..]));
            assert_eq!(reader.skip_tagged(), Ok(()));
            assert_eq!(reader.left(), 0);
        }
    }
}
