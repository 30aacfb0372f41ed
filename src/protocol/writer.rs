//! Writing the wire's primitives into one growing buffer.
//!
//! Knows no message. Arrays and bytes that are ours to write are far below the wire's limits; one
//! that is not stops the node, since half a message must never leave it. A string that is too long
//! is cut, since a message to a person may quote what a client sent.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::FRAME_SIZE_BYTES;
use super::reader::TEXT_BYTES_MAX;
use crate::base::TopicId;

/// A buffer that wire primitives are appended to.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: BytesMut,
}

impl Writer {
    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Writer {
        Writer {
            bytes: BytesMut::with_capacity(capacity),
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True before anything is written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    /// Leaves room for a frame's size, to be filled by [`Writer::finish_frame`].
    pub fn begin_frame(&mut self) {
        assert!(self.bytes.is_empty(), "a frame begins with its size");
        self.bytes.put_i32(0);
    }

    /// What was written, as a frame: its first four bytes become the size of the rest, plus
    /// `elsewhere` bytes of the frame that are not in this buffer.
    pub fn finish_frame(mut self, elsewhere: usize) -> Bytes {
        let size = self.bytes.len() - FRAME_SIZE_BYTES + elsewhere;
        let size = i32::try_from(size).expect("a frame below 2 GiB");
        self.bytes[..FRAME_SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
        self.bytes.freeze()
    }

    /// The buffer itself, for encoders that append to one.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// A signed byte.
    pub fn i8(&mut self, value: i8) {
        self.bytes.put_i8(value);
    }

    /// A boolean, as 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.bytes.put_u8(u8::from(value));
    }

    /// A big-endian `i16`.
    pub fn i16(&mut self, value: i16) {
        self.bytes.put_i16(value);
    }

    /// A big-endian `i32`.
    pub fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    /// A big-endian `i64`.
    pub fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    /// A topic's UUID.
    pub fn topic_id(&mut self, id: TopicId) {
        self.bytes.put_slice(&id.0);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.put_slice(bytes);
    }

    /// An unsigned varint.
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }

    /// The length of bytes or the count of an array, none for null: `i32`, or compact.
    pub fn length(&mut self, compact: bool, length: Option<usize>) {
        let length = length.map(|length| i32::try_from(length).expect("a length below 2 GiB"));
        match (compact, length) {
            (true, Some(length)) => self.uvarint(length as u32 + 1),
            (true, None) => self.uvarint(0),
            (false, Some(length)) => self.i32(length),
            (false, None) => self.i32(-1),
        }
    }

    /// A string that may be null: `i16` length, or compact. One of more than 32,767 bytes is cut at
    /// the last whole character.
    pub fn nullable_text(&mut self, compact: bool, text: Option<&str>) {
        let text = text.map(|text| &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
        match (compact, text.map(str::len)) {
            (true, Some(length)) => self.uvarint(length as u32 + 1),
            (true, None) => self.uvarint(0),
            (false, Some(length)) => self.i16(length as i16),
            (false, None) => self.i16(-1),
        }
        self.raw(text.unwrap_or_default().as_bytes());
    }

    /// A string.
    pub fn text(&mut self, compact: bool, text: &str) {
        self.nullable_text(compact, Some(text));
    }

    /// Bytes that may be null.
    pub fn nullable_bytes(&mut self, compact: bool, bytes: Option<&[u8]>) {
        self.length(compact, bytes.map(<[u8]>::len));
        self.raw(bytes.unwrap_or_default());
    }

    /// The end of a struct without tagged fields, if it is `flexible`.
    pub fn no_tagged_fields(&mut self, flexible: bool) {
        if flexible {
            self.uvarint(0);
        }
    }

    /// One tagged field: its tag, its length and what `write` writes.
    pub fn tagged_field(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        let mut contents = Writer::default();
        write(&mut contents);
        self.uvarint(tag);
        self.uvarint(contents.len() as u32);
        self.raw(&contents.bytes);
    }
}
