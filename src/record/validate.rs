//! The rules a batch must pass before it is appended by a leader, and what the topic's
//! configuration changes in it (apache/kafka `ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords`, `LogValidator`), in Kafka's order.
//!
//! The common case, an uncompressed batch for a topic with create times and the producer's codec,
//! is walked once and comes back borrowed; nothing is allocated.
//!
//! Where this is stricter than Kafka (October 2024):
//! * A client batch that claims log append time is always refused; Kafka lets it pass on a
//!   create-time topic when the claimed time is within bounds.
//! * Records are held to their declared size in compressed batches too.
//! * Offset deltas other than 0, 1, 2.. are rewritten in uncompressed batches too.
//! * A section that does not unpack is INVALID_RECORD (Kafka: UNKNOWN_SERVER_ERROR), and one that
//!   unpacks to more than [`Rules::decompressed_bytes_max`] is MESSAGE_TOO_LARGE, on which Java's
//!   producer splits the batch and tries again.

use std::borrow::Cow;

use crate::base::Wall;

use super::build::BatchBuilder;
use super::codec::{Codec, Scratch};
use super::error::BatchError;
use super::header::{
    BatchHeader, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC_AT, TimestampType, set_max_timestamp, verify,
};
use super::invalid::{Invalid, RecordErrors, RecordRefusal};
use super::records::{Record, Records, read_records};

/// The most bytes of records that are ever unpacked or rewritten, whatever the rules say: a
/// rewritten batch then stays below the 2 GiB that its length field can say.
const REWRITTEN_BYTES_MAX: usize = 256 << 20;
/// The least length field of any format (apache/kafka `LegacyRecord.RECORD_OVERHEAD_V0`).
const LEGACY_LENGTH_MIN: i32 = 14;

/// Who writes a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A produce request.
    Client,
    /// The broker itself: group offsets, transaction state and markers. May write control batches
    /// and any base offset.
    Coordinator,
}

/// `compression.type` of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent it.
    Producer,
    /// Stored uncompressed.
    Uncompressed,
    /// Stored with this codec; batches that have it already are not touched, whatever their level.
    Codec {
        /// The codec, not `None`.
        codec: Codec,
        /// Its level (KIP-390): see [`Codec::compress`].
        level: Option<i32>,
    },
}

/// What the topic and the request ask of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `max.message.bytes`, held against the batch as sent and as stored.
    pub max_message_bytes: usize,
    /// `segment.bytes`, held against the batch as stored.
    pub segment_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far before now (KIP-937).
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far after now (KIP-937).
    pub timestamp_after_max_ms: i64,
    /// `compression.type`.
    pub compression: Compression,
    /// `cleanup.policy` contains `compact`: every record needs a key.
    pub compacted: bool,
    /// The produce request's version, for the codecs it may carry and the texts of refusals.
    pub produce_version: i16,
    /// Who writes.
    pub origin: Origin,
    /// The most bytes a compressed section may unpack to, 64 MiB by default; at most 256 MiB.
    pub decompressed_bytes_max: usize,
}

impl Default for Rules {
    /// A topic without configuration of its own, and a recent client.
    fn default() -> Rules {
        Rules {
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: Compression::Producer,
            compacted: false,
            produce_version: 9,
            origin: Origin::Client,
            decompressed_bytes_max: 64 << 20,
        }
    }
}

/// A batch that may be appended once base offset and leader epoch are stamped.
#[derive(Clone, Debug)]
pub struct Valid<'a> {
    /// Borrowed when nothing had to change.
    pub batch: Cow<'a, [u8]>,
    /// Of `batch`.
    pub header: BatchHeader,
    /// For the response, in milliseconds since the Unix epoch; -1 with create times.
    pub log_append_time_ms: i64,
}

/// Checks the records of one partition of a produce request, and makes of them the batch to append.
/// Bytes of a second batch that is cut off are dropped, as Kafka does.
pub fn validate<'a>(
    batch: &'a [u8],
    rules: &Rules,
    now: Wall,
    scratch: &mut Scratch,
) -> Result<Valid<'a>, Invalid> {
    let batch = only_batch(batch, rules)?;
    let header = checked_header(batch, rules)?;
    let codec = header.codec().map_err(Invalid::Batch)?;
    let limit = rules.decompressed_bytes_max.min(REWRITTEN_BYTES_MAX);
    let records = read_records(batch, &header, scratch, limit).map_err(Invalid::Batch)?;
    let walked = walk(records.clone(), &header, rules, now)?;
    let (target, level) = target(rules.compression, codec, &header);
    let valid = if walked.in_order && target == codec {
        in_place(batch, header, walked.timestamp_max, rules, now)
    } else {
        rewritten(records, &header, (target, level), rules, now)?
    };
    scratch.shrink();
    let size = valid.batch.len();
    if size > rules.segment_bytes {
        return Err(Invalid::LargerThanSegment {
            size,
            limit: rules.segment_bytes,
        });
    }
    Ok(valid)
}

/// The bytes of the one batch of format 2 that a request must hold.
fn only_batch<'a>(bytes: &'a [u8], rules: &Rules) -> Result<&'a [u8], Invalid> {
    let version = rules.produce_version;
    let Some((batch, magic)) = first_batch(bytes)? else {
        return Err(Invalid::NoBatch { version });
    };
    if magic != 2 {
        return Err(Invalid::Magic { magic, version });
    }
    if batch.len() < HEADER_BYTES {
        let batch_length = (batch.len() - LENGTH_OVERHEAD) as i32;
        return Err(Invalid::Batch(BatchError::Length { batch_length }));
    }
    let header = BatchHeader::parse(batch).map_err(Invalid::Batch)?;
    let client = rules.origin == Origin::Client;
    if client && version < 7 && header.codec() == Ok(Codec::Zstd) {
        return Err(Invalid::ZstdTooEarly { version });
    }
    match first_batch(&bytes[batch.len()..])? {
        None => Ok(batch),
        Some(_) => Err(Invalid::MoreThanOneBatch { version }),
    }
}

/// The first whole batch of any format, and its format; none when the bytes are cut off
/// (apache/kafka `ByteBufferLogInputStream`).
fn first_batch(bytes: &[u8]) -> Result<Option<(&[u8], i8)>, Invalid> {
    let Some(front) = bytes.get(..=MAGIC_AT) else {
        return Ok(None);
    };
    let batch_length = i32::from_be_bytes([front[8], front[9], front[10], front[11]]);
    let magic = front[MAGIC_AT] as i8;
    if batch_length < LEGACY_LENGTH_MIN {
        return Err(Invalid::Batch(BatchError::Length { batch_length }));
    }
    if !(0..=2).contains(&magic) {
        return Err(Invalid::Batch(BatchError::Magic(magic)));
    }
    Ok(bytes
        .get(..LENGTH_OVERHEAD + batch_length as usize)
        .map(|batch| (batch, magic)))
}

/// What can be said of a batch without its records; its CRC too.
fn checked_header(batch: &[u8], rules: &Rules) -> Result<BatchHeader, Invalid> {
    let header = BatchHeader::parse(batch).map_err(Invalid::Batch)?;
    let client = rules.origin == Origin::Client;
    if client && header.base_offset.0 != 0 {
        return Err(Invalid::BaseOffset {
            base_offset: header.base_offset.0,
        });
    }
    if batch.len() > rules.max_message_bytes {
        let limit = rules.max_message_bytes;
        return Err(Invalid::TooLarge {
            size: batch.len(),
            limit,
            recompressed: false,
        });
    }
    let header = verify(batch).map_err(Invalid::Batch)?;
    let (last_offset_delta, count) = (header.last_offset_delta, header.record_count);
    if last_offset_delta < 0 {
        let (first, last) = (header.base_offset.0, header.last_offset().0);
        return Err(Invalid::OffsetRange { first, last });
    }
    if count <= 0 {
        return Err(Invalid::Count { count });
    }
    if i64::from(last_offset_delta) + 1 != i64::from(count) {
        let (first, last) = (header.base_offset.0, header.last_offset().0);
        return Err(Invalid::CountMismatch { first, last, count });
    }
    if client && header.is_control() {
        return Err(Invalid::Control);
    }
    if client && header.has_producer_id() && header.base_sequence.0 < 0 {
        let producer_id = header.producer_id.0;
        return Err(Invalid::Sequence {
            base_sequence: header.base_sequence.0,
            producer_id,
        });
    }
    Ok(header)
}

/// What one walk over the records has found.
struct Walked {
    /// The largest timestamp, -1 for none.
    timestamp_max: i64,
    /// Offset deltas are 0, 1, 2 and so on.
    in_order: bool,
}

fn walk(
    records: Records,
    header: &BatchHeader,
    rules: &Rules,
    now: Wall,
) -> Result<Walked, Invalid> {
    let mut walked = Walked {
        timestamp_max: -1,
        in_order: true,
    };
    let mut errors = RecordErrors::default();
    let mut expected = header.base_offset;
    for (index, record) in (0i32..).zip(records) {
        let record = record.map_err(Invalid::Batch)?;
        if let Some(refusal) = refusal(&record, header, rules, now) {
            errors.push(index, refusal);
        }
        walked.in_order &= record.offset == expected;
        expected.0 = expected.0.wrapping_add(1);
        walked.timestamp_max = walked.timestamp_max.max(record.timestamp);
    }
    if errors.total() > 0 {
        Err(Invalid::Records(errors))
    } else {
        Ok(walked)
    }
}

#[inline]
fn refusal(
    record: &Record,
    header: &BatchHeader,
    rules: &Rules,
    now: Wall,
) -> Option<RecordRefusal> {
    if rules.compacted && record.key.is_none() {
        return Some(RecordRefusal::NullKey);
    }
    if header.timestamp_type() == TimestampType::LogAppendTime {
        return Some(RecordRefusal::ClaimsLogAppendTime);
    }
    if rules.timestamp_type == TimestampType::LogAppendTime || record.timestamp == -1 {
        return None;
    }
    let earliest = now.0.saturating_sub(rules.timestamp_before_max_ms);
    let latest = now.0.saturating_add(rules.timestamp_after_max_ms);
    // Without a bound, so that no timestamp is too early even if `now` is before the epoch.
    let early = record.timestamp < earliest && rules.timestamp_before_max_ms != i64::MAX;
    (early || record.timestamp > latest).then_some(RecordRefusal::Timestamp {
        timestamp: record.timestamp,
        offset: record.offset.0,
        earliest,
        latest,
    })
}

/// The codec and level a batch is stored with.
fn target(compression: Compression, codec: Codec, header: &BatchHeader) -> (Codec, Option<i32>) {
    match compression {
        // Control records are small, and read by every consumer: Kafka leaves them alone too.
        _ if codec == Codec::None && header.is_control() => (codec, None),
        Compression::Producer => (codec, None),
        Compression::Uncompressed => (Codec::None, None),
        Compression::Codec { codec, level } => (codec, level),
    }
}

/// The same bytes; copied only when the header's timestamps must change.
fn in_place<'a>(
    batch: &'a [u8],
    header: BatchHeader,
    timestamp_max: i64,
    rules: &Rules,
    now: Wall,
) -> Valid<'a> {
    let (max_timestamp, log_append_time_ms) = match rules.timestamp_type {
        TimestampType::CreateTime => (timestamp_max, -1),
        TimestampType::LogAppendTime => (now.0, now.0),
    };
    let same = header.timestamp_type() == rules.timestamp_type;
    if same && header.max_timestamp == max_timestamp {
        return Valid {
            batch: Cow::Borrowed(batch),
            header,
            log_append_time_ms,
        };
    }
    let mut copy = batch.to_vec();
    set_max_timestamp(&mut copy, rules.timestamp_type, max_timestamp);
    owned(copy, log_append_time_ms)
}

fn owned(batch: Vec<u8>, log_append_time_ms: i64) -> Valid<'static> {
    let header = BatchHeader::parse(&batch).expect("a batch that was just made");
    Valid {
        batch: Cow::Owned(batch),
        header,
        log_append_time_ms,
    }
}

/// The records in a new batch: another codec, or offsets that an old client got wrong.
fn rewritten(
    records: Records,
    header: &BatchHeader,
    (codec, level): (Codec, Option<i32>),
    rules: &Rules,
    now: Wall,
) -> Result<Valid<'static>, Invalid> {
    let limit = REWRITTEN_BYTES_MAX;
    if records.remaining() > limit {
        return Err(Invalid::Batch(BatchError::DecompressedTooLarge { limit }));
    }
    let mut builder = BatchBuilder::new(codec)
        .base_offset(header.base_offset)
        .leader_epoch(header.leader_epoch)
        .producer(
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
        )
        .transactional(header.is_transactional())
        .control(header.is_control());
    if let Some(level) = level {
        builder = builder.level(level);
    }
    let mut log_append_time_ms = -1;
    if rules.timestamp_type == TimestampType::LogAppendTime {
        builder = builder.log_append_time(now.0);
        log_append_time_ms = now.0;
    }
    for record in records {
        builder.append_renumbered(&record.map_err(Invalid::Batch)?);
    }
    let batch = builder.finish();
    if batch.len() > rules.max_message_bytes {
        let (size, limit) = (batch.len(), rules.max_message_bytes);
        return Err(Invalid::TooLarge {
            size,
            limit,
            recompressed: true,
        });
    }
    Ok(owned(batch, log_append_time_ms))
}
