//! Making batches: what a coordinator writes, what recompression gives, what compaction keeps.

use crate::base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

use super::codec::Codec;
use super::header::{
    BatchHeader, CONTROL_BIT, DELETE_HORIZON_BIT, HEADER_BYTES, LENGTH_OVERHEAD,
    LOG_APPEND_TIME_BIT, TRANSACTIONAL_BIT, TimestampType, seal,
};
use super::records::Record;
use super::varint::{varlong_size, write_nullable, write_varint, write_varlong};

/// The most bytes of records in one batch: what its length field can say, with room for a header
/// and for what compression may add.
const SECTION_BYTES_MAX: usize = (i32::MAX - (1 << 20)) as usize;

/// Gathers records into one batch. The header's fields are set in any order before `finish`;
/// by default: base offset 0, leader epoch -1, no producer, create time.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// 61 bytes left free for the header, then the records.
    bytes: Vec<u8>,
    /// One record's headers, while they are encoded.
    headers: Vec<u8>,
    codec: Codec,
    level: Option<i32>,
    flags: i16,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    /// What deltas count from, once it is known.
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    max_timestamp_kept: Option<i64>,
    last_offset: Option<Offset>,
    last_offset_kept: Option<Offset>,
    count: i32,
}

impl BatchBuilder {
    /// An empty batch whose records will be compressed with `codec`.
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            bytes: vec![0; HEADER_BYTES],
            headers: Vec::new(),
            codec,
            level: None,
            flags: 0,
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
            producer_id: ProducerId(-1),
            producer_epoch: ProducerEpoch(-1),
            base_sequence: Sequence(-1),
            base_timestamp: None,
            max_timestamp: -1,
            max_timestamp_kept: None,
            last_offset: None,
            last_offset_kept: None,
            count: 0,
        }
    }

    /// For compaction: a batch that keeps what `original` must keep though records go: first and
    /// last offset, leader epoch, producer id, epoch and sequences, flags, append time, delete
    /// horizon; and, when no record stays, the max timestamp. Errors: `UnknownCodec`.
    pub fn rebuild(original: &BatchHeader) -> Result<BatchBuilder, super::BatchError> {
        let mut builder = BatchBuilder::new(original.codec()?);
        builder.flags = original.attributes & (TRANSACTIONAL_BIT | CONTROL_BIT);
        builder.base_offset = original.base_offset;
        builder.last_offset_kept = Some(original.last_offset());
        builder.leader_epoch = original.leader_epoch;
        builder.producer_id = original.producer_id;
        builder.producer_epoch = original.producer_epoch;
        builder.base_sequence = original.base_sequence;
        builder.max_timestamp_kept = Some(original.max_timestamp);
        if original.timestamp_type() == TimestampType::LogAppendTime {
            builder.flags |= LOG_APPEND_TIME_BIT;
        }
        if let Some(horizon) = original.delete_horizon() {
            builder = builder.delete_horizon(horizon);
        }
        Ok(builder)
    }

    /// The compression level, on the codec's scale: see [`Codec::compress`].
    pub fn level(mut self, level: i32) -> BatchBuilder {
        self.level = Some(level);
        self
    }

    /// The first record's offset unless records are given offsets of their own; from a client, 0.
    pub fn base_offset(mut self, offset: Offset) -> BatchBuilder {
        assert!(self.count == 0, "the base offset comes before the records");
        self.base_offset = offset;
        self
    }

    /// The last offset the header shall name, though the last record may lie before it.
    pub fn last_offset(mut self, offset: Offset) -> BatchBuilder {
        self.last_offset_kept = Some(offset);
        self
    }

    /// The leader epoch at append.
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> BatchBuilder {
        self.leader_epoch = epoch;
        self
    }

    /// The idempotent producer and the sequence of the first record, -1 in control batches.
    pub fn producer(
        mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        base_sequence: Sequence,
    ) -> BatchBuilder {
        (self.producer_id, self.producer_epoch) = (id, epoch);
        self.base_sequence = base_sequence;
        self
    }

    /// Part of a transaction.
    pub fn transactional(mut self, yes: bool) -> BatchBuilder {
        self.set_flag(TRANSACTIONAL_BIT, yes);
        self
    }

    /// Holds control records.
    pub fn control(mut self, yes: bool) -> BatchBuilder {
        self.set_flag(CONTROL_BIT, yes);
        self
    }

    /// Timestamps are the broker's: `append_time`, in milliseconds since the Unix epoch.
    pub fn log_append_time(mut self, append_time: i64) -> BatchBuilder {
        self.set_flag(LOG_APPEND_TIME_BIT, true);
        self.max_timestamp_kept = Some(append_time);
        self
    }

    /// Sets the delete horizon (KIP-534), in milliseconds since the Unix epoch. It takes the base
    /// timestamp's place, so it comes before the records.
    pub fn delete_horizon(mut self, horizon: i64) -> BatchBuilder {
        assert!(
            self.count == 0,
            "the delete horizon comes before the records"
        );
        self.set_flag(DELETE_HORIZON_BIT, true);
        self.base_timestamp = Some(horizon);
        self
    }

    fn set_flag(&mut self, bit: i16, yes: bool) {
        self.flags = if yes {
            self.flags | bit
        } else {
            self.flags & !bit
        };
    }

    /// Records so far.
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// Bytes of the batch so far, before compression.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record at the next offset; `timestamp` in milliseconds since the Unix epoch, -1 for
    /// none. Panics when the batch would pass 2 GiB.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        self.append_at(self.next_offset(), timestamp, key, value, headers);
    }

    /// Adds a record at `offset`, which is greater than the one before, at least the base offset
    /// and within `i32::MAX` of it; panics otherwise, and as [`BatchBuilder::append`] does.
    pub fn append_at(
        &mut self,
        offset: Offset,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        let mut encoded = std::mem::take(&mut self.headers);
        encoded.clear();
        for (header_key, header_value) in headers {
            write_nullable(&mut encoded, Some(header_key));
            write_nullable(&mut encoded, *header_value);
        }
        self.write(offset, timestamp, (key, value), (headers.len(), &encoded));
        self.headers = encoded;
    }

    /// Adds a record of another batch, at its own offset: see [`BatchBuilder::append_at`].
    pub fn append_record(&mut self, record: &Record) {
        self.append_record_at(record.offset, record);
    }

    /// Adds a record of another batch at the next offset, whatever its own was.
    pub fn append_renumbered(&mut self, record: &Record) {
        self.append_record_at(self.next_offset(), record);
    }

    fn append_record_at(&mut self, offset: Offset, record: &Record) {
        let headers = (record.headers.len(), record.headers.encoded());
        self.write(
            offset,
            record.timestamp,
            (record.key, record.value),
            headers,
        );
    }

    fn next_offset(&self) -> Offset {
        self.last_offset
            .map_or(self.base_offset, |last| last.plus(1))
    }

    /// Writes one record; headers are a count and their encoded bytes.
    fn write(
        &mut self,
        offset: Offset,
        timestamp: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        (header_count, headers): (usize, &[u8]),
    ) {
        assert!(
            offset >= self.next_offset(),
            "{offset} after {:?}",
            self.last_offset
        );
        let offset_delta = i32::try_from(offset.0 - self.base_offset.0)
            .unwrap_or_else(|_| panic!("{offset} is too far from {}", self.base_offset));
        let base_timestamp = *self.base_timestamp.get_or_insert(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);
        let field = |bytes: Option<&[u8]>| match bytes {
            None => 1,
            Some(bytes) => varlong_size(bytes.len() as i64) + bytes.len(),
        };
        let body = 1
            + varlong_size(timestamp_delta)
            + varlong_size(i64::from(offset_delta))
            + field(key)
            + field(value)
            + varlong_size(header_count as i64)
            + headers.len();
        let size = self.bytes.len() + body;
        assert!(size <= SECTION_BYTES_MAX, "a batch of {size} bytes");
        self.bytes.reserve(body + varlong_size(body as i64));
        write_varlong(&mut self.bytes, body as i64);
        self.bytes.push(0);
        write_varlong(&mut self.bytes, timestamp_delta);
        write_varint(&mut self.bytes, offset_delta);
        write_nullable(&mut self.bytes, key);
        write_nullable(&mut self.bytes, value);
        write_varlong(&mut self.bytes, header_count as i64);
        self.bytes.extend_from_slice(headers);
        self.last_offset = Some(offset);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
    }

    /// The batch, sealed with its CRC. Without records it is the empty batch that compaction
    /// leaves to keep a producer's sequence. Panics when the last offset asked for lies before the
    /// last record, or more than `i32::MAX` after the base offset.
    pub fn finish(self) -> Vec<u8> {
        let header = self.header();
        let mut batch = self.bytes;
        if self.codec != Codec::None && self.count > 0 {
            let mut packed = Vec::with_capacity(HEADER_BYTES + batch.len() / 2);
            packed.resize(HEADER_BYTES, 0);
            self.codec
                .compress(&batch[HEADER_BYTES..], self.level, &mut packed);
            batch = packed;
        }
        let batch_length = i32::try_from(batch.len() - LENGTH_OVERHEAD)
            .unwrap_or_else(|_| panic!("a batch of {} bytes", batch.len()));
        BatchHeader {
            batch_length,
            ..header
        }
        .write(&mut batch);
        seal(&mut batch);
        batch
    }

    /// The header, with length and CRC left open.
    fn header(&self) -> BatchHeader {
        let last = self
            .last_offset_kept
            .or(self.last_offset)
            .unwrap_or(self.base_offset);
        assert!(
            Some(last) >= self.last_offset,
            "{last} before {:?}",
            self.last_offset
        );
        let last_offset_delta = i32::try_from(last.0 - self.base_offset.0)
            .unwrap_or_else(|_| panic!("{last} is too far from {}", self.base_offset));
        let append_time = self.flags & LOG_APPEND_TIME_BIT != 0;
        let max_timestamp = match self.max_timestamp_kept {
            Some(kept) if append_time || self.count == 0 => kept,
            Some(_) | None => self.max_timestamp,
        };
        // An empty batch has neither a base timestamp nor a horizon: nothing is left to delete.
        let (attributes, base_timestamp) = match self.count {
            0 => (self.flags & !DELETE_HORIZON_BIT, -1),
            _ => (
                self.flags | self.codec as i16,
                self.base_timestamp.unwrap_or(-1),
            ),
        };
        BatchHeader {
            base_offset: self.base_offset,
            batch_length: 0,
            leader_epoch: self.leader_epoch,
            magic: 2,
            crc: 0,
            attributes,
            last_offset_delta,
            base_timestamp,
            max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        }
    }
}
