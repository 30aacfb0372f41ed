//! Why a produced batch is refused, in Kafka's words but without the name of the partition, which
//! is not known here.

use std::fmt;

use super::error::BatchError;

/// The most refused records that are listed; more are only counted.
pub const RECORD_ERRORS_MAX: usize = 1000;

/// Why a batch may not be appended. Displays as Kafka's `error_message`, less the partition.
///
/// | refusal | Kafka's code |
/// |---|---|
/// | `NoBatch`, `MoreThanOneBatch`, `Magic`, `BaseOffset`, `OffsetRange`, `Count`, `CountMismatch`, `Control`, `Sequence` | INVALID_RECORD 87 |
/// | `ZstdTooEarly`; `Batch` of an unknown codec | UNSUPPORTED_COMPRESSION_TYPE 76 |
/// | `TooLarge`; `Batch` that unpacks to too much | MESSAGE_TOO_LARGE 10 |
/// | `LargerThanSegment` | RECORD_LIST_TOO_LARGE 18 |
/// | `Batch` of wrong length, format or CRC | CORRUPT_MESSAGE 2 |
/// | `Batch` whose records cannot be read | INVALID_RECORD 87 |
/// | `Records` with any timestamp refused | INVALID_TIMESTAMP 32 |
/// | `Records` otherwise | INVALID_RECORD 87 |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Not one whole batch.
    NoBatch {
        /// The request's.
        version: i16,
    },
    /// Something follows the batch.
    MoreThanOneBatch {
        /// The request's.
        version: i16,
    },
    /// Format 0 or 1.
    Magic {
        /// The format.
        magic: i8,
        /// The request's.
        version: i16,
    },
    /// Zstd in a request before version 7 (KIP-110).
    ZstdTooEarly {
        /// The request's.
        version: i16,
    },
    /// The bytes are not a readable batch.
    Batch(BatchError),
    /// A client's batch begins at offset 0.
    BaseOffset {
        /// What it says.
        base_offset: i64,
    },
    /// More than `max.message.bytes`.
    TooLarge {
        /// The batch's size in bytes.
        size: usize,
        /// `max.message.bytes`.
        limit: usize,
        /// As it would be stored, not as it was sent.
        recompressed: bool,
    },
    /// More than `segment.bytes`.
    LargerThanSegment {
        /// The batch's size in bytes.
        size: usize,
        /// `segment.bytes`.
        limit: usize,
    },
    /// The last offset is before the first.
    OffsetRange {
        /// First offset.
        first: i64,
        /// Last offset.
        last: i64,
    },
    /// No records, or fewer.
    Count {
        /// The declared count.
        count: i32,
    },
    /// The range of offsets is not the count of records.
    CountMismatch {
        /// First offset.
        first: i64,
        /// Last offset.
        last: i64,
        /// The declared count.
        count: i32,
    },
    /// Clients may not write control batches.
    Control,
    /// A producer id needs a sequence.
    Sequence {
        /// What the batch says.
        base_sequence: i32,
        /// Its producer id.
        producer_id: i64,
    },
    /// Single records are refused, and the batch with them (KIP-467).
    Records(RecordErrors),
}

/// The Kafka error that a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKind {
    /// CORRUPT_MESSAGE, retriable.
    CorruptMessage = 2,
    /// MESSAGE_TOO_LARGE: Java's producer splits the batch.
    MessageTooLarge = 10,
    /// RECORD_LIST_TOO_LARGE.
    RecordListTooLarge = 18,
    /// INVALID_TIMESTAMP.
    InvalidTimestamp = 32,
    /// UNSUPPORTED_COMPRESSION_TYPE.
    UnsupportedCompressionType = 76,
    /// INVALID_RECORD.
    InvalidRecord = 87,
}

impl InvalidKind {
    /// The code on the wire.
    pub fn code(self) -> i16 {
        self as i16
    }
}

impl Invalid {
    /// Which Kafka error it is: the table above.
    pub fn kind(&self) -> InvalidKind {
        match self {
            Invalid::NoBatch { .. }
            | Invalid::MoreThanOneBatch { .. }
            | Invalid::Magic { .. }
            | Invalid::BaseOffset { .. }
            | Invalid::OffsetRange { .. }
            | Invalid::Count { .. }
            | Invalid::CountMismatch { .. }
            | Invalid::Control
            | Invalid::Sequence { .. } => InvalidKind::InvalidRecord,
            Invalid::ZstdTooEarly { .. } => InvalidKind::UnsupportedCompressionType,
            Invalid::TooLarge { .. } => InvalidKind::MessageTooLarge,
            Invalid::LargerThanSegment { .. } => InvalidKind::RecordListTooLarge,
            Invalid::Records(errors) if errors.timestamps => InvalidKind::InvalidTimestamp,
            Invalid::Records(_) => InvalidKind::InvalidRecord,
            Invalid::Batch(error) => match error {
                BatchError::Incomplete { .. }
                | BatchError::Length { .. }
                | BatchError::Magic(_)
                | BatchError::Crc { .. } => InvalidKind::CorruptMessage,
                BatchError::UnknownCodec(_) => InvalidKind::UnsupportedCompressionType,
                BatchError::DecompressedTooLarge { .. } => InvalidKind::MessageTooLarge,
                BatchError::Undecodable(_) | BatchError::Record { .. } => {
                    InvalidKind::InvalidRecord
                }
            },
        }
    }

    /// The refused records with their indexes in the batch, for the response's `record_errors`
    /// (version 8 and later); empty when the batch as a whole is refused.
    pub fn record_errors(&self) -> &[(i32, RecordRefusal)] {
        match self {
            Invalid::Records(errors) => errors.list(),
            _ => &[],
        }
    }
}

/// Why one record is refused. Displays as Kafka's `batch_index_error_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordRefusal {
    /// A compacted topic needs keys.
    NullKey,
    /// Out of the bounds around now; all in milliseconds since the Unix epoch.
    Timestamp {
        /// The record's.
        timestamp: i64,
        /// The record's offset as sent.
        offset: i64,
        /// The least that is allowed.
        earliest: i64,
        /// The most that is allowed.
        latest: i64,
    },
    /// The batch claims log append time, which is the broker's to set.
    ClaimsLogAppendTime,
}

/// The refused records of a batch: at least one, the first [`RECORD_ERRORS_MAX`] in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordErrors {
    list: Vec<(i32, RecordRefusal)>,
    total: i32,
    timestamps: bool,
}

impl RecordErrors {
    pub(super) fn push(&mut self, index: i32, refusal: RecordRefusal) {
        if self.list.len() < RECORD_ERRORS_MAX {
            self.list.push((index, refusal));
        }
        self.total += 1;
        self.timestamps |= refusal != RecordRefusal::NullKey;
    }

    /// Index in the batch and reason, by index.
    pub fn list(&self) -> &[(i32, RecordRefusal)] {
        &self.list
    }

    /// How many records are refused, listed or not.
    pub fn total(&self) -> i32 {
        self.total
    }
}

impl fmt::Display for RecordRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordRefusal::NullKey => {
                f.write_str("Compacted topic cannot accept message without key")
            }
            RecordRefusal::Timestamp {
                timestamp,
                offset,
                earliest,
                latest,
            } => write!(
                f,
                "Timestamp {timestamp} of message with offset {offset} is out of range. \
                 The timestamp should be within [{earliest}, {latest}]"
            ),
            RecordRefusal::ClaimsLogAppendTime => f.write_str(
                "Invalid timestamp type in message. \
                 Producer should not set timestamp type to LogAppendTime.",
            ),
        }
    }
}

impl fmt::Display for RecordErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.timestamps {
            return f.write_str("One or more records have been rejected due to invalid timestamp");
        }
        write!(
            f,
            "One or more records have been rejected due to {} record errors in total, \
             and only showing the first three errors at most: [",
            self.total
        )?;
        for (place, (index, refusal)) in self.list.iter().take(3).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(
                f,
                "{comma}RecordError(batchIndex={index}, message='{refusal}')"
            )?;
        }
        f.write_str("]")
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::NoBatch { version } => write!(
                f,
                "Produce requests with version {version} must have at least one record batch per \
                 partition"
            ),
            Invalid::MoreThanOneBatch { version } => write!(
                f,
                "Produce requests with version {version} are only allowed to contain exactly one \
                 record batch per partition"
            ),
            Invalid::Magic { version, .. } => write!(
                f,
                "Produce requests with version {version} are only allowed to contain record \
                 batches with magic version 2"
            ),
            Invalid::ZstdTooEarly { version } => write!(
                f,
                "Produce requests with version {version} are not allowed to use ZStandard \
                 compression"
            ),
            Invalid::Batch(error) => error.fmt(f),
            Invalid::BaseOffset { base_offset } => write!(
                f,
                "The baseOffset of the record batch in the append should be 0, but it is \
                 {base_offset}"
            ),
            Invalid::TooLarge {
                size,
                limit,
                recompressed: false,
            } => write!(
                f,
                "The record batch size in the append is {size} bytes which exceeds the maximum \
                 configured value of {limit}."
            ),
            Invalid::TooLarge {
                size,
                limit,
                recompressed: true,
            } => write!(
                f,
                "Message batch size is {size} bytes in append which exceeds the maximum \
                 configured size of {limit}."
            ),
            Invalid::LargerThanSegment { size, limit } => write!(
                f,
                "Message batch size is {size} bytes in append, which exceeds the maximum \
                 configured segment size of {limit}."
            ),
            Invalid::OffsetRange { first, last } => {
                write!(f, "Batch has an invalid offset range: [{first}, {last}]")
            }
            Invalid::Count { count } => {
                write!(f, "Invalid reported count for record batch: {count}")
            }
            Invalid::CountMismatch { first, last, count } => write!(
                f,
                "Inconsistent batch offset range [{first}, {last}] and count of records {count}"
            ),
            Invalid::Control => f.write_str("Clients are not allowed to write control records"),
            Invalid::Sequence {
                base_sequence,
                producer_id,
            } => write!(
                f,
                "Invalid sequence number {base_sequence} in record batch with producerId \
                 {producer_id}"
            ),
            Invalid::Records(errors) => errors.fmt(f),
        }
    }
}

impl std::error::Error for Invalid {}
