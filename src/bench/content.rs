//! What is inside a generated record, so that whoever reads it knows whence it came and whether it
//! is whole. Knows no socket and no clock.
//!
//! ```text
//! value   0 magic u32 | 4 run u32 | 8 producer u32 | 12 CRC-32C of what follows the stamp u32
//!        16 sequence u64, of this producer in this partition, from 0
//!        24 intended time u64, nanoseconds of the machine's monotonic clock
//!        32 filler
//! ```

use std::collections::HashMap;

use crate::base::{PartitionIndex, Prng, crc32c};
use crate::record::{BatchTemplate, Codec};

/// Bytes of the stamp: the smallest value.
pub const STAMP_BYTES: usize = 32;

const MAGIC: u32 = 0xC07E_1A4E;

/// What records look like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Bytes of a value, at least [`STAMP_BYTES`].
    pub value_bytes: usize,
    /// Bytes of a key; none for records without one.
    pub key_bytes: Option<usize>,
    /// How many different keys there are, at least one.
    pub keys: u64,
    /// How much of the filler is the same byte over and over, 0 to 1; the rest is random.
    pub compressible: f64,
    /// What batches are compressed with, and how hard.
    pub codec: Codec,
    /// The codec's level.
    pub level: Option<i32>,
    /// Records in a full batch, at least one.
    pub batch_records: usize,
}

/// What a stamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which run made the record.
    pub run: u32,
    /// Which producer of that run.
    pub producer: u32,
    /// Its number among that producer's records in that partition.
    pub sequence: u64,
    /// When it was due.
    pub intended: u64,
}

/// Makes batches of stamped records.
#[derive(Debug)]
pub struct Maker {
    template: BatchTemplate,
    random: Prng,
    keys: u64,
    key_bytes: usize,
    /// The CRC of each slot's filler.
    crcs: Vec<u32>,
    run: u32,
}

impl Maker {
    /// Records of `shape` for the run `run`.
    pub fn new(shape: &Shape, run: u32) -> Maker {
        let mut template = BatchTemplate::new(
            shape.codec,
            shape.level,
            shape.batch_records,
            shape.key_bytes,
            shape.value_bytes.max(STAMP_BYTES),
        );
        let mut random = Prng::new(u64::from(run));
        let mut crcs = Vec::new();
        for index in 0..template.capacity() {
            let filler = &mut template.value(index)[STAMP_BYTES..];
            let same = (filler.len() as f64 * shape.compressible.clamp(0.0, 1.0)) as usize;
            filler[..same].fill(b'x');
            random.fill(&mut filler[same..]);
            crcs.push(crc32c(filler));
        }
        Maker {
            template,
            random,
            keys: shape.keys.max(1),
            key_bytes: shape.key_bytes.unwrap_or(0),
            crcs,
            run,
        }
    }

    /// Stamps record `index` of the next batch.
    pub fn stamp(&mut self, index: usize, producer: u32, sequence: u64, intended: u64) {
        if self.key_bytes > 0 {
            let key = self.random.below(self.keys);
            let mut bytes = Prng::new(key);
            bytes.fill(self.template.key(index));
        }
        let value = self.template.value(index);
        value[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        value[4..8].copy_from_slice(&self.run.to_le_bytes());
        value[8..12].copy_from_slice(&producer.to_le_bytes());
        value[12..16].copy_from_slice(&self.crcs[index].to_le_bytes());
        value[16..24].copy_from_slice(&sequence.to_le_bytes());
        value[24..32].copy_from_slice(&intended.to_le_bytes());
    }

    /// The template, to be sealed.
    pub fn template(&mut self) -> &mut BatchTemplate {
        &mut self.template
    }
}

/// Reads the stamp of a value and, if asked to, checks its filler. None if either is not what a
/// [`Maker`] writes.
pub fn read(value: &[u8], with_filler: bool) -> Option<Stamp> {
    let (stamp, filler) = value.split_at_checked(STAMP_BYTES)?;
    let word = |at: usize| u32::from_le_bytes(stamp[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(stamp[at..at + 8].try_into().expect("eight bytes"));
    if word(0) != MAGIC || (with_filler && word(12) != crc32c(filler)) {
        return None;
    }
    Some(Stamp {
        run: word(4),
        producer: word(8),
        sequence: long(16),
        intended: long(24),
    })
}

/// Follows the records of one reader and says what is missing or comes twice.
#[derive(Debug, Default)]
pub struct Following {
    expected: HashMap<(PartitionIndex, u32, u32), u64>,
    /// The last one looked up: records come in batches of one producer.
    last: Option<((PartitionIndex, u32, u32), u64)>,
    /// Numbers that were skipped.
    pub missing: u64,
    /// Numbers at or below one seen before.
    pub repeated: u64,
}

impl Following {
    /// Takes note of a record. The first of a producer in a partition must have number 0 if
    /// `from_first`, any otherwise.
    pub fn see(&mut self, partition: PartitionIndex, stamp: &Stamp, from_first: bool) {
        let key = (partition, stamp.run, stamp.producer);
        if self.last.is_none_or(|(last, _)| last != key) {
            if let Some((last, expected)) = self.last {
                self.expected.insert(last, expected);
            }
            let first = if from_first { 0 } else { stamp.sequence };
            let expected = self.expected.get(&key).copied().unwrap_or(first);
            self.last = Some((key, expected));
        }
        let Some((_, expected)) = &mut self.last else {
            return;
        };
        if stamp.sequence < *expected {
            self.repeated += 1;
        } else {
            self.missing += stamp.sequence - *expected;
            *expected = stamp.sequence + 1;
        }
    }

    /// Begins again, as a reader does that goes back to the first record; counts stay.
    pub fn rewind(&mut self) {
        self.expected.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Batch, Scratch};

    fn shape() -> Shape {
        Shape {
            value_bytes: 100,
            key_bytes: Some(8),
            keys: 3,
            compressible: 0.5,
            codec: Codec::Lz4,
            level: None,
            batch_records: 10,
        }
    }

    #[test]
    fn a_record_says_whence_it_came_and_a_changed_one_is_found_out() {
        let mut maker = Maker::new(&shape(), 9);
        for index in 0..10 {
            maker.stamp(index, 4, 100 + index as u64, 7);
        }
        let bytes = maker.template().seal(10, 0, None).to_vec();
        let batch = Batch::parse(&bytes).expect("a batch");
        let mut scratch = Scratch::default();
        for (index, record) in batch
            .records(&mut scratch, 1 << 20)
            .expect("records")
            .enumerate()
        {
            let value = record.expect("a record").value.expect("a value").to_vec();
            let stamp = read(&value, true).expect("a stamp");
            assert_eq!(
                (stamp.run, stamp.producer, stamp.sequence, stamp.intended),
                (9, 4, 100 + index as u64, 7)
            );
            let mut changed = value.clone();
            changed[99] ^= 1;
            assert_eq!(read(&changed, true), None);
            assert_eq!(read(&changed, false), Some(stamp), "who does not look");
            assert_eq!(read(&value[..31], false), None);
        }
    }

    #[test]
    fn what_is_missing_and_what_comes_twice_is_counted() {
        let mut following = Following::default();
        let mut see = |producer, sequence| {
            let stamp = Stamp {
                run: 1,
                producer,
                sequence,
                intended: 0,
            };
            following.see(PartitionIndex(0), &stamp, true);
        };
        for (producer, sequence) in [(0, 0), (1, 0), (0, 1), (0, 4), (1, 1), (0, 4), (0, 5)] {
            see(producer, sequence);
        }
        assert_eq!((following.missing, following.repeated), (2, 1));
    }
}
