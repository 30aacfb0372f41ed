//! Kafka's flexible encoding (KIP-482), as far as metadata records need it: compact strings and
//! arrays, unsigned varints, tagged fields. Every length is checked against the bytes that are left
//! before anything is allocated.
//!
//! Knows no record; `records` composes these.

use crate::base::TopicId;

use super::records::DecodeError;

/// Bytes being read from the front.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

/// Shorthand for what reading gives.
pub(super) type Read<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        if count > self.bytes.len() {
            return Err(DecodeError::Truncated {
                wanted: count,
                left: self.bytes.len(),
            });
        }
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn i8(&mut self) -> Read<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    /// Kafka reads any byte but 0 as true.
    pub(super) fn bool(&mut self) -> Read<bool> {
        Ok(self.i8()? != 0)
    }

    pub(super) fn i16(&mut self) -> Read<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Read<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Read<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub(super) fn uuid(&mut self) -> Read<TopicId> {
        Ok(TopicId(self.array()?))
    }

    /// At most five bytes, seven bits each, the lowest first.
    pub(super) fn varint(&mut self) -> Read<u32> {
        let mut value = 0u64;
        for place in 0..5 {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Varint);
            }
        }
        Err(DecodeError::Varint)
    }

    /// A compact length: none for null.
    fn length(&mut self) -> Read<Option<usize>> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    pub(super) fn nullable_string(&mut self) -> Read<Option<String>> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Utf8)?;
        Ok(Some(text.to_owned()))
    }

    pub(super) fn string(&mut self) -> Read<String> {
        self.nullable_string()?.ok_or(DecodeError::Null)
    }

    /// A nullable compact array whose elements take at least `least` bytes each: a count that
    /// cannot fit into what is left is refused before memory is taken for it.
    pub(super) fn nullable_list<T>(
        &mut self,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Option<Vec<T>>> {
        let Some(count) = self.length()? else {
            return Ok(None);
        };
        let wanted = count.saturating_mul(least);
        if wanted > self.left() {
            return Err(DecodeError::Truncated {
                wanted,
                left: self.left(),
            });
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(Some(list))
    }

    pub(super) fn list<T>(
        &mut self,
        least: usize,
        element: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        self.nullable_list(least, element)?.ok_or(DecodeError::Null)
    }

    /// The tagged fields at the end of a structure: `known` is given each tag with a reader of its
    /// contents and says whether it read it. Unknown tags are skipped, as KIP-482 asks.
    pub(super) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader<'a>) -> Read<bool>,
    ) -> Read<()> {
        let count = self.varint()?;
        for _ in 0..count {
            let (tag, size) = (self.varint()?, self.varint()? as usize);
            let mut contents = Reader::new(self.take(size)?);
            if known(tag, &mut contents)? && contents.left() > 0 {
                return Err(DecodeError::TrailingBytes {
                    count: contents.left(),
                });
            }
        }
        Ok(())
    }

    /// The tagged fields of a structure that knows none.
    pub(super) fn no_tags(&mut self) -> Read<()> {
        self.tags(|_, _| Ok(false))
    }
}

/// Bytes being written.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn uuid(&mut self, value: TopicId) {
        self.bytes.extend_from_slice(&value.0);
    }

    pub(super) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn length(&mut self, length: usize) {
        let length = u32::try_from(length + 1).expect("a record below 4 GiB");
        self.varint(length);
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) {
        let Some(text) = value else {
            return self.varint(0);
        };
        self.length(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(super) fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    pub(super) fn list<T>(&mut self, list: &[T], mut element: impl FnMut(&mut Writer, &T)) {
        self.length(list.len());
        for item in list {
            element(self, item);
        }
    }

    /// The tagged fields that are present, in ascending order of tag.
    pub(super) fn tags(&mut self, fields: &[(u32, Vec<u8>)]) {
        self.varint(u32::try_from(fields.len()).expect("a handful of tags"));
        for (tag, contents) in fields {
            self.varint(*tag);
            self.varint(u32::try_from(contents.len()).expect("a record below 4 GiB"));
            self.bytes.extend_from_slice(contents);
        }
    }
}

/// The contents of one tagged field.
pub(super) fn contents(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    write(&mut writer);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_kafkas_and_the_sixth_byte_is_refused() {
        for (value, bytes) in [(0, vec![0]), (127, vec![127]), (300, vec![0xac, 2])] {
            assert_eq!(contents(|writer| writer.varint(value)), bytes);
            assert_eq!(Reader::new(&bytes).varint(), Ok(value));
        }
        let largest = contents(|writer| writer.varint(u32::MAX));
        assert_eq!(Reader::new(&largest).varint(), Ok(u32::MAX));
        assert_eq!(Reader::new(&[0x80; 6]).varint(), Err(DecodeError::Varint));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x7f]).varint(),
            Err(DecodeError::Varint)
        );
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_memory_is_taken() {
        let bytes = contents(|writer| writer.varint(u32::MAX));
        let list = Reader::new(&bytes).list(4, |reader| reader.i32());
        assert!(matches!(list, Err(DecodeError::Truncated { .. })));
    }
}
