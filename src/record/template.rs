//! A batch whose records all have the same size, made once and filled again and again: a load
//! generator's way of making gigabytes of batches a second without copying their contents.

use crate::base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use super::batches::Batch;
use super::build::BatchBuilder;
use super::codec::{Codec, Scratch};
use super::header::{BatchHeader, HEADER_BYTES, LENGTH_OVERHEAD, seal};

/// Equal records in one buffer. Key and value of each may be written in place; [`seal`] then makes
/// a batch of the first so many.
///
/// [`seal`]: BatchTemplate::seal
#[derive(Debug)]
pub struct BatchTemplate {
    /// 61 bytes for the header, then all records, not compressed.
    bytes: Vec<u8>,
    /// The compressed batch, when there is a codec.
    packed: Vec<u8>,
    slots: Vec<Slot>,
    codec: Codec,
    level: Option<i32>,
}

/// Where a record's parts lie in the buffer.
#[derive(Clone, Copy, Debug)]
struct Slot {
    key: (usize, usize),
    value: (usize, usize),
    end: usize,
}

impl BatchTemplate {
    /// `records` records (at least one) with values of `value_bytes` zeros and, unless `None`, keys
    /// of so many. `level` is the codec's: see [`Codec::compress`].
    pub fn new(
        codec: Codec,
        level: Option<i32>,
        records: usize,
        key_bytes: Option<usize>,
        value_bytes: usize,
    ) -> BatchTemplate {
        let (key, value) = (key_bytes.map(|size| vec![0; size]), vec![0; value_bytes]);
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..records.max(1) {
            builder.append(0, key.as_deref(), Some(&value), &[]);
        }
        let bytes = builder.finish();
        let place = |part: Option<&[u8]>| {
            let part = part.unwrap_or_default();
            let at = (part.as_ptr() as usize).saturating_sub(bytes.as_ptr() as usize);
            (at, part.len())
        };
        let mut scratch = Scratch::default();
        let batch = Batch::parse(&bytes).expect("a batch just built");
        let records = batch.records(&mut scratch, usize::MAX);
        let mut slots: Vec<Slot> = records
            .expect("its records")
            .map(|record| {
                let record = record.expect("a record just built");
                let value = place(record.value);
                let key = record.key.map_or((value.0, 0), |key| place(Some(key)));
                // The count of headers, none, is the byte behind the value.
                let end = value.0 + value.1 + 1;
                Slot { key, value, end }
            })
            .collect();
        if let Some(last) = slots.last_mut() {
            last.end = bytes.len();
        }
        BatchTemplate {
            bytes,
            packed: Vec::new(),
            slots,
            codec,
            level,
        }
    }

    /// How many records it has room for.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The value of record `index`, to be written.
    pub fn value(&mut self, index: usize) -> &mut [u8] {
        let (at, size) = self.slots[index].value;
        &mut self.bytes[at..at + size]
    }

    /// The key of record `index`, to be written; empty when there are no keys.
    pub fn key(&mut self, index: usize) -> &mut [u8] {
        let (at, size) = self.slots[index].key;
        &mut self.bytes[at..at + size]
    }

    /// A whole batch of the first `count` records, at least one and at most [`capacity`], with base
    /// offset 0, all with `timestamp` (milliseconds since the Unix epoch), and its CRC.
    ///
    /// [`capacity`]: BatchTemplate::capacity
    pub fn seal(
        &mut self,
        count: usize,
        timestamp: i64,
        producer: Option<(ProducerId, ProducerEpoch, Sequence)>,
    ) -> &[u8] {
        assert!((1..=self.slots.len()).contains(&count), "{count} records");
        let end = self.slots[count - 1].end;
        let batch = match self.codec {
            Codec::None => &mut self.bytes[..end],
            codec => {
                self.packed.clear();
                self.packed.resize(HEADER_BYTES, 0);
                let section = &self.bytes[HEADER_BYTES..end];
                codec.compress(section, self.level, &mut self.packed);
                &mut self.packed[..]
            }
        };
        let none = (ProducerId(-1), ProducerEpoch(-1), Sequence(-1));
        let (producer_id, producer_epoch, base_sequence) = producer.unwrap_or(none);
        let header = BatchHeader {
            base_offset: Offset(0),
            batch_length: (batch.len() - LENGTH_OVERHEAD) as i32,
            leader_epoch: LeaderEpoch(-1),
            magic: 2,
            crc: 0,
            attributes: self.codec as i16,
            last_offset_delta: count as i32 - 1,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: count as i32,
        };
        header.write(batch);
        seal(batch);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_template_is_a_batch_like_any_other() {
        for codec in Codec::ALL {
            let mut template = BatchTemplate::new(codec, None, 200, Some(3), 100);
            assert_eq!(template.capacity(), 200);
            for count in [1, 63, 64, 65, 200] {
                for index in 0..count {
                    template.key(index).copy_from_slice(b"key");
                    template.value(index)[..8].copy_from_slice(&(index as u64).to_be_bytes());
                }
                let producer = (ProducerId(7), ProducerEpoch(1), Sequence(40));
                let bytes = template.seal(count, 1_700_000_000_000, Some(producer));
                let batch = Batch::parse(bytes).expect("a batch");
                batch.verify().expect("its CRC");
                assert_eq!(batch.header.base_sequence, Sequence(40));
                let mut scratch = Scratch::default();
                let records = batch.records(&mut scratch, 1 << 20).expect("records");
                let mut seen = 0;
                for record in records {
                    let record = record.expect("a record");
                    assert_eq!(record.offset, Offset(seen));
                    assert_eq!(record.key, Some(&b"key"[..]));
                    let value = record.value.expect("a value");
                    assert_eq!(value.len(), 100);
                    assert_eq!(value[..8], (seen as u64).to_be_bytes());
                    seen += 1;
                }
                assert_eq!(seen as usize, count, "{codec:?}");
            }
        }
    }
}
