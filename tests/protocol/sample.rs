//! Valid bodies made from a message's shape, and what a hostile sender makes of them.

use corelane::base::Prng;
use corelane::protocol::Writer;
use corelane::protocol::walk::{Item, Items, Kind};

/// A body of this shape with random contents, and nothing null.
pub fn body(random: &mut Prng, shape: &str, version: i16, flexible: bool) -> Vec<u8> {
    let mut sample = Sample {
        random,
        version,
        flexible,
        least: 0,
    };
    let mut writer = Writer::default();
    sample.fields(&mut writer, shape.as_bytes());
    writer.finish().to_vec()
}

/// The body of this shape that makes a decoder take the most memory for its size: arrays at `depth`
/// have `count` elements, those around them one, those inside none; everything else is as short as
/// can be. With `unknown` there is a tagged field that nobody knows in every struct.
pub fn dense(shape: &str, version: i16, flexible: bool, depth: u32, unknown: bool) -> Vec<u8> {
    let mut writer = Writer::default();
    Dense {
        version,
        flexible,
        unknown,
    }
    .fields(&mut writer, shape.as_bytes(), depth);
    writer.finish().to_vec()
}

struct Dense {
    version: i16,
    flexible: bool,
    unknown: bool,
}

impl Dense {
    fn fields(&self, out: &mut Writer, shape: &[u8], depth: u32) {
        for item in Items(shape) {
            if item.tag.is_none() && item.from <= self.version && self.version <= item.to {
                self.field(out, item.kind, depth);
            }
        }
        if self.flexible && self.unknown {
            out.raw(&[1, 99, 0]);
        } else {
            out.no_tagged_fields(self.flexible);
        }
    }

    fn field(&self, out: &mut Writer, kind: Kind, depth: u32) {
        let count = match depth {
            0 => 0,
            1 => 5_000,
            _ => 1,
        };
        match kind {
            Kind::Fixed(size) => out.raw(&[0; 16][..size]),
            Kind::Text => out.text(self.flexible, ""),
            Kind::Bytes => out.nullable_bytes(self.flexible, Some(&[])),
            Kind::Structs(inside) => {
                out.length(self.flexible, Some(count));
                (0..count).for_each(|_| self.fields(out, inside, depth.saturating_sub(1)));
            }
            Kind::Primitives(inside) => {
                out.length(self.flexible, Some(count));
                let item = Items(inside).next().unwrap();
                (0..count).for_each(|_| self.field(out, item.kind, 0));
            }
            Kind::Struct(inside) => self.fields(out, inside, depth),
            Kind::Optional(inside) => {
                out.i8(1);
                self.fields(out, inside, depth);
            }
        }
    }
}

struct Sample<'a> {
    random: &'a mut Prng,
    version: i16,
    flexible: bool,
    /// Elements that every array has at least. Not 0 in tagged fields: an empty one is the default,
    /// which an encoder leaves out.
    least: u64,
}

impl Sample<'_> {
    fn fields(&mut self, out: &mut Writer, shape: &[u8]) {
        let here = |item: &Item| item.from <= self.version && self.version <= item.to;
        let items: Vec<Item> = Items(shape).filter(here).collect();
        for item in items.iter().filter(|item| item.tag.is_none()) {
            self.field(out, item.kind);
        }
        if !self.flexible {
            return;
        }
        let mut tagged: Vec<&Item> = items.iter().filter(|item| item.tag.is_some()).collect();
        tagged.retain(|_| !self.random.one_in(3));
        out.uvarint(tagged.len() as u32);
        for item in tagged {
            out.tagged_field(item.tag.unwrap(), |out| {
                let before = std::mem::replace(&mut self.least, 1);
                self.field(out, item.kind);
                self.least = before;
            });
        }
    }

    fn count(&mut self) -> usize {
        (self.least + self.random.below(3)) as usize
    }

    fn field(&mut self, out: &mut Writer, kind: Kind) {
        match kind {
            Kind::Fixed(1) => out.bool(self.random.one_in(2) || self.least > 0),
            Kind::Fixed(size) => {
                let mut bytes = vec![0; size];
                self.random.fill(&mut bytes);
                out.raw(&bytes);
            }
            Kind::Text => {
                let length = self.random.below(6) as usize;
                out.text(self.flexible, &"topic-"[..length]);
            }
            Kind::Bytes => {
                let mut bytes = vec![0; self.random.below(40) as usize];
                self.random.fill(&mut bytes);
                out.nullable_bytes(self.flexible, Some(&bytes));
            }
            Kind::Structs(inside) => {
                let count = self.count();
                out.length(self.flexible, Some(count));
                (0..count).for_each(|_| self.fields(out, inside));
            }
            Kind::Primitives(inside) => {
                let count = self.count();
                out.length(self.flexible, Some(count));
                let item = Items(inside).next().unwrap();
                (0..count).for_each(|_| self.field(out, item.kind));
            }
            Kind::Struct(inside) => self.fields(out, inside),
            Kind::Optional(inside) => {
                let there = self.random.one_in(2);
                out.i8(if there { 1 } else { -1 });
                if there {
                    self.fields(out, inside);
                }
            }
        }
    }
}

/// Damages a body: bits, lengths, its end, its order.
pub fn damage(random: &mut Prng, body: &mut Vec<u8>) {
    for _ in 0..1 + random.below(4) {
        if body.is_empty() {
            body.push(random.next_u64() as u8);
        }
        let at = random.below(body.len() as u64) as usize;
        match random.below(7) {
            0 => body[at] ^= 1 << random.below(8),
            1 => body.truncate(at),
            2 => overwrite(body, at, &[0x7f, 0xff, 0xff, 0xff]),
            3 => overwrite(body, at, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            4 => overwrite(body, at, &(random.below(100_000) as u32).to_be_bytes()),
            5 => {
                let piece: Vec<u8> = body[at..].to_vec();
                body.extend(piece.iter().cycle().take(random.below(4000) as usize));
            }
            _ => body[at] = random.next_u64() as u8,
        }
    }
}

fn overwrite(body: &mut [u8], at: usize, with: &[u8]) {
    let end = body.len().min(at + with.len());
    body[at..end].copy_from_slice(&with[..end - at]);
}

/// A body of random bytes.
pub fn noise(random: &mut Prng) -> Vec<u8> {
    let mut bytes = vec![0; random.below(300) as usize];
    random.fill(&mut bytes);
    if random.one_in(2) {
        bytes.iter_mut().for_each(|byte| *byte &= 0x07);
    }
    bytes
}
