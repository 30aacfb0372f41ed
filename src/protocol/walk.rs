//! The walk over a body before its decoder sees it.
//!
//! The decoders of the `kafka-protocol` crate take the counts on the wire at their word: five bytes
//! that claim an array of 2^32 elements make them ask for hundreds of gigabytes, and the process
//! aborts. They also ignore the length of a tagged field that they know. So every body is first
//! walked along its shape ([`super::shapes`]): every count and length is proven by the bytes that
//! are there, and the memory that the decoder will take is added up and bounded. Knows no field's
//! meaning; allocates nothing.

use bytes::Bytes;

use super::malformed::Malformed;
use super::reader::Reader;

/// Memory of a string or of bytes in a decoded struct, beside the bytes themselves.
const SLICE_MEMORY: usize = size_of::<Option<Bytes>>();
/// Memory of an empty vector or map in a decoded struct.
const VEC_MEMORY: usize = 24;
/// Memory of the first node of a map of unknown tagged fields, with room for eleven.
const TAG_MAP_MEMORY: usize = 448;
/// Memory of each entry of such a map when its nodes are as empty as they may be.
const TAG_MEMORY: usize = 96;

/// Walks `body` along `shape` and says whether a decoder may have it. Bytes after the last field
/// are let pass, as Kafka does (apache/kafka `AbstractRequest.parseRequest`). Answers the number of
/// bytes that the message takes.
pub fn walk(
    body: &Bytes,
    shape: &'static str,
    version: i16,
    flexible: bool,
) -> Result<usize, Malformed> {
    let mut walk = Walk {
        reader: Reader::new(body),
        version,
        flexible,
    };
    walk.fields(shape.as_bytes())?;
    Ok(walk.reader.position())
}

/// One field of a shape.
#[derive(Clone, Copy)]
pub struct Item<'s> {
    /// Its tag, when it is a tagged field.
    pub tag: Option<u32>,
    /// The first version that has it.
    pub from: i16,
    /// The last version that has it.
    pub to: i16,
    /// What it is.
    pub kind: Kind<'s>,
}

/// What a field is; with the shape of what is inside.
#[derive(Clone, Copy)]
pub enum Kind<'s> {
    /// So many bytes.
    Fixed(usize),
    /// A string.
    Text,
    /// Bytes.
    Bytes,
    /// An array of structs.
    Structs(&'s [u8]),
    /// An array of one primitive.
    Primitives(&'s [u8]),
    /// A struct.
    Struct(&'s [u8]),
    /// A struct after a presence byte.
    Optional(&'s [u8]),
}

/// The fields of a shape, one after the other. A shape that is not well formed is a bug.
#[derive(Clone, Copy)]
pub struct Items<'s>(pub &'s [u8]);

impl<'s> Iterator for Items<'s> {
    type Item = Item<'s>;

    fn next(&mut self) -> Option<Item<'s>> {
        while self.0.first() == Some(&b' ') {
            self.0 = &self.0[1..];
        }
        if self.0.first()? != &b'<' {
            return Some(self.item(None));
        }
        let inside = self.bracketed();
        let at = inside.iter().position(|byte| *byte == b'@').expect("a tag");
        let tag = number(&inside[..at]) as u32;
        Some(Items(&inside[at + 1..]).item(Some(tag)))
    }
}

impl<'s> Items<'s> {
    fn item(&mut self, tag: Option<u32>) -> Item<'s> {
        let (mut from, mut to) = (0, i16::MAX);
        if self.0[0].is_ascii_digit() {
            let colon = self
                .0
                .iter()
                .position(|byte| *byte == b':')
                .expect("a version");
            let (range, rest) = (&self.0[..colon], &self.0[colon + 1..]);
            let mut ends = range.split(|byte| *byte == b'-').map(number);
            from = ends.next().unwrap_or(from);
            to = ends.next().unwrap_or(to);
            self.0 = rest;
        }
        Item {
            tag,
            from,
            to,
            kind: self.kind(),
        }
    }

    fn kind(&mut self) -> Kind<'s> {
        match self.0[0] {
            b'[' => return Kind::Structs(self.bracketed()),
            b'(' => return Kind::Primitives(self.bracketed()),
            b'{' => return Kind::Struct(self.bracketed()),
            b'?' => {
                self.0 = &self.0[1..];
                return Kind::Optional(self.bracketed());
            }
            _ => {}
        }
        let letter = self.0[0];
        self.0 = &self.0[1..];
        match letter {
            b's' => Kind::Text,
            b'y' => Kind::Bytes,
            letter => Kind::Fixed(fixed_size(letter).expect("a letter of the shape language")),
        }
    }

    /// Takes a bracket with all that is in it, and answers what is in it.
    fn bracketed(&mut self) -> &'s [u8] {
        let mut depth = 0;
        for (at, byte) in self.0.iter().enumerate() {
            match byte {
                b'[' | b'(' | b'{' | b'<' => depth += 1,
                b']' | b')' | b'}' | b'>' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let inside = &self.0[1..at];
                self.0 = &self.0[at + 1..];
                return inside;
            }
        }
        panic!("a bracket that is not closed")
    }
}

fn number(digits: &[u8]) -> i16 {
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + i16::from(digit - b'0'))
}

fn fixed_size(letter: u8) -> Option<usize> {
    match letter {
        b'b' => Some(1),
        b'h' => Some(2),
        b'w' => Some(4),
        b'l' => Some(8),
        b'u' => Some(16),
        _ => None,
    }
}

/// Memory that a decoded struct of this shape takes, at most; what its arrays point to not included.
fn struct_memory(shape: &[u8]) -> usize {
    let fields = Items(shape).map(|item| match item.kind {
        Kind::Fixed(size) => size.max(8),
        Kind::Text | Kind::Bytes => SLICE_MEMORY,
        Kind::Structs(_) | Kind::Primitives(_) => VEC_MEMORY,
        Kind::Struct(inside) => struct_memory(inside),
        Kind::Optional(inside) => struct_memory(inside) + 8,
    });
    fields.sum::<usize>() + VEC_MEMORY
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
}

impl Walk<'_> {
    /// Walks a struct: its fields, then its tagged fields.
    fn fields(&mut self, shape: &'static [u8]) -> Result<(), Malformed> {
        for item in Items(shape) {
            if item.tag.is_none() && self.has(&item) {
                self.field(item.kind)?;
            }
        }
        if self.flexible {
            self.tagged_fields(shape)
        } else {
            Ok(())
        }
    }

    fn has(&self, item: &Item) -> bool {
        item.from <= self.version && self.version <= item.to
    }

    fn field(&mut self, kind: Kind<'static>) -> Result<(), Malformed> {
        match kind {
            Kind::Fixed(size) => self.reader.skip(size),
            Kind::Text => {
                let length = self.reader.text_length(self.flexible)?;
                self.reader.skip(length.unwrap_or(0))
            }
            Kind::Bytes => {
                let length = self.reader.length(self.flexible)?;
                self.reader.skip(length.unwrap_or(0))
            }
            Kind::Structs(inside) => self.structs(inside),
            Kind::Primitives(inside) => self.primitives(inside[0]),
            Kind::Struct(inside) => self.fields(inside),
            // Any byte but 1 stands for null, as the decoder has it.
            Kind::Optional(inside) if self.reader.i8()? == 1 => self.fields(inside),
            Kind::Optional(_) => Ok(()),
        }
    }

    fn structs(&mut self, inside: &'static [u8]) -> Result<(), Malformed> {
        let count = self.reader.length(self.flexible)?.unwrap_or(0);
        self.reader.claim(count, 1, struct_memory(inside))?;
        (0..count).try_for_each(|_| self.fields(inside))
    }

    fn primitives(&mut self, letter: u8) -> Result<(), Malformed> {
        let count = self.reader.length(self.flexible)?.unwrap_or(0);
        if let Some(size) = fixed_size(letter) {
            self.reader.claim(count, size, size)?;
            return self.reader.skip(count * size);
        }
        self.reader.claim(count, 1, SLICE_MEMORY)?;
        let kind = if letter == b's' {
            Kind::Text
        } else {
            Kind::Bytes
        };
        (0..count).try_for_each(|_| self.field(kind))
    }

    fn tagged_fields(&mut self, shape: &'static [u8]) -> Result<(), Malformed> {
        let count = self.reader.uvarint()?;
        let mut first_unknown = true;
        for _ in 0..count {
            let tag = self.reader.uvarint()?;
            let claimed = self.reader.uvarint()? as usize;
            let from = self.reader.position();
            let known = Items(shape).find(|item| item.tag == Some(tag) && self.has(item));
            if let Some(item) = known {
                self.field(item.kind)?;
            } else {
                let map = if first_unknown { TAG_MAP_MEMORY } else { 0 };
                self.reader.claim_memory(map + TAG_MEMORY)?;
                self.reader.skip(claimed)?;
                first_unknown = false;
            }
            let read = self.reader.position() - from;
            if read != claimed {
                return Err(Malformed::TaggedFieldLength { claimed, read });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::shapes::shapes;
    use super::super::{ApiKey, ApiVersions, api};
    use super::*;

    fn check(shape: &'static str, version: i16, flexible: bool, bytes: &'static [u8]) -> usize {
        walk(&Bytes::from_static(bytes), shape, version, flexible).unwrap()
    }

    #[test]
    fn a_body_is_as_long_as_its_shape_says_and_the_rest_is_let_pass() {
        assert_eq!(check("w 2:h", 1, false, &[0, 0, 0, 1, 7, 7]), 4);
        assert_eq!(check("w 2:h", 2, false, &[0, 0, 0, 1, 7, 7]), 6);
        assert_eq!(check("0-1:w 2:h", 2, false, &[0, 0, 0, 1, 7, 7]), 2);
        assert_eq!(
            check("[s (w)]", 0, true, &[2, 2, b'a', 2, 0, 0, 0, 9, 0, 0, 5]),
            10
        );
        assert_eq!(check("[s (w)]", 0, true, &[0, 0]), 2);
        assert_eq!(check("?{w} b", 0, true, &[0xff, 7, 0]), 3);
        assert_eq!(check("?{w} b", 0, true, &[1, 0, 0, 0, 0, 0, 7, 0]), 8);
    }

    #[test]
    fn an_empty_tagged_field_that_nobody_knows_may_be_the_last_thing() {
        assert_eq!(check("b", 0, true, &[7, 1, 99, 0]), 4);
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused() {
        let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        let refused = walk(&body, "[s]", 0, true);
        assert_eq!(
            refused,
            Err(Malformed::Count {
                count: u32::MAX as usize - 1,
                left: 0
            })
        );
    }

    #[test]
    fn a_known_tagged_field_may_not_hide_an_array_behind_a_short_length() {
        let body = Bytes::from_static(&[1, 0, 1, 3, 0, 0, 0, 0]);
        let refused = walk(&body, "<0@[b]>", 0, true);
        assert_eq!(
            refused,
            Err(Malformed::TaggedFieldLength {
                claimed: 1,
                read: 5
            })
        );
    }

    #[test]
    fn every_shape_is_well_formed() {
        for key in ApiKey::ALL {
            let both = shapes(key.code()).expect("a shape for every key");
            for shape in [both.request, both.response] {
                assert!(struct_memory(shape.as_bytes()) >= VEC_MEMORY, "{key}");
            }
            assert!(
                api::decodable_max(*key) >= ApiVersions::of(*key).max,
                "{key}"
            );
        }
    }
}
