//! The 61 bytes before the records (apache/kafka `DefaultRecordBatch`), all big-endian:
//!
//! ```text
//!  0 base offset i64         } not covered by the CRC: the broker stamps
//!  8 batch length i32        } offset and leader epoch without computing
//! 12 leader epoch i32        } it again
//! 16 magic i8 = 2            }
//! 17 CRC-32C u32 over 21..end
//! 21 attributes i16          bits 0-2 codec, 3 timestamp type, 4 transactional,
//!                            5 control, 6 delete horizon (KIP-534), 7-15 unused
//! 23 last offset delta i32
//! 27 base timestamp i64      or the delete horizon
//! 35 max timestamp i64
//! 43 producer id i64
//! 51 producer epoch i16
//! 53 base sequence i32
//! 57 record count i32
//! 61 records, compressed as one when there is a codec
//! ```

use crate::base::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, crc32c};

use super::codec::Codec;
use super::error::BatchError;

/// Bytes of a header, from base offset to record count.
pub const HEADER_BYTES: usize = 61;
/// Bytes before those that the length field counts.
pub(super) const LENGTH_OVERHEAD: usize = 12;
/// Where the CRC'd part begins.
pub(super) const ATTRIBUTES_AT: usize = 21;
/// Where the magic byte is, in every format.
pub(super) const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const MAX_TIMESTAMP_AT: usize = 35;

pub(super) const LOG_APPEND_TIME_BIT: i16 = 0x08;
pub(super) const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;
pub(super) const DELETE_HORIZON_BIT: i16 = 0x40;

/// Whose clock a batch's timestamps are from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, at append; every record then counts as having the batch's max timestamp.
    LogAppendTime,
}

/// A batch's header, decoded. Times are milliseconds since the Unix epoch, -1 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record the batch was made with.
    pub base_offset: Offset,
    /// Bytes after the length field: the size less 12.
    pub batch_length: i32,
    /// The leader's epoch at append, -1 from clients.
    pub leader_epoch: LeaderEpoch,
    /// Always 2.
    pub magic: i8,
    /// CRC-32C over the attributes and all that follows.
    pub crc: u32,
    /// See the drawing above.
    pub attributes: i16,
    /// The last offset less the base offset; kept by compaction.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from, or the delete horizon.
    pub base_timestamp: i64,
    /// The largest record timestamp, or the append time.
    pub max_timestamp: i64,
    /// -1 for none.
    pub producer_id: ProducerId,
    /// -1 for none.
    pub producer_epoch: ProducerEpoch,
    /// -1 for none, as in control batches.
    pub base_sequence: Sequence,
    /// Records in the batch; 0 in what compaction leaves of a producer's last batch.
    pub record_count: i32,
}

/// `N` bytes at `at`; the caller has checked that they are there.
fn at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

impl BatchHeader {
    /// Reads the header at the beginning of `bytes`. Checks magic and that the length leaves room
    /// for a header; neither the CRC nor that the whole batch is there.
    ///
    /// Errors: `Incomplete`, `Magic`, `Length`.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Incomplete {
                have: bytes.len(),
                need: HEADER_BYTES,
            });
        }
        let header = BatchHeader {
            base_offset: Offset(i64::from_be_bytes(at(bytes, 0))),
            batch_length: i32::from_be_bytes(at(bytes, 8)),
            leader_epoch: LeaderEpoch(i32::from_be_bytes(at(bytes, 12))),
            magic: bytes[MAGIC_AT] as i8,
            crc: u32::from_be_bytes(at(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(at(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(at(bytes, 23)),
            base_timestamp: i64::from_be_bytes(at(bytes, 27)),
            max_timestamp: i64::from_be_bytes(at(bytes, MAX_TIMESTAMP_AT)),
            producer_id: ProducerId(i64::from_be_bytes(at(bytes, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(at(bytes, 51))),
            base_sequence: Sequence(i32::from_be_bytes(at(bytes, 53))),
            record_count: i32::from_be_bytes(at(bytes, 57)),
        };
        if header.magic != 2 {
            return Err(BatchError::Magic(header.magic));
        }
        if header.batch_length < (HEADER_BYTES - LENGTH_OVERHEAD) as i32 {
            return Err(BatchError::Length {
                batch_length: header.batch_length,
            });
        }
        Ok(header)
    }

    /// Writes the header's 61 bytes to the beginning of `bytes`, the CRC as the field says.
    /// Panics when they do not fit.
    pub(super) fn write(&self, bytes: &mut [u8]) {
        bytes[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        bytes[MAGIC_AT] = self.magic as u8;
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.0.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Bytes of the whole batch: 61 to `i32::MAX` + 12.
    pub fn size(&self) -> usize {
        LENGTH_OVERHEAD + self.batch_length.max(0) as usize
    }

    /// Offset of the last record the batch was made with, gone by compaction or not.
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .wrapping_add(i64::from(self.last_offset_delta)),
        )
    }

    /// Sequence of the last record, -1 when the batch has none.
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence.0 < 0 || self.last_offset_delta < 0 {
            return Sequence(-1);
        }
        self.base_sequence.plus(self.last_offset_delta)
    }

    /// What the records are compressed with. Errors: `UnknownCodec`.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let id = (self.attributes & 7) as u8;
        Codec::from_id(id).ok_or(BatchError::UnknownCodec(id))
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Holds control records, which consumers do not see.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// From an idempotent or transactional producer.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// Whose clock the timestamps are from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_BIT != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// When tombstones and abort markers in the batch may go (KIP-534), in milliseconds since the
    /// Unix epoch; compaction sets it.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }
}

/// Reads the header at the beginning of `bytes` and checks that the whole batch is there and its
/// CRC holds. Bytes after the batch are ignored.
///
/// Errors: those of [`BatchHeader::parse`], and `Incomplete` and `Crc` for the whole batch.
pub fn verify(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let Some(batch) = bytes.get(..header.size()) else {
        return Err(BatchError::Incomplete {
            have: bytes.len(),
            need: header.size(),
        });
    };
    let computed = crc32c(&batch[ATTRIBUTES_AT..]);
    if computed != header.crc {
        return Err(BatchError::Crc {
            stored: header.crc,
            computed,
        });
    }
    Ok(header)
}

/// Writes the broker's base offset and leader epoch into a batch. Both lie before the CRC'd part.
/// Panics when `bytes` is shorter than a header.
pub fn stamp(bytes: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    assert!(
        bytes.len() >= HEADER_BYTES,
        "{} bytes are no batch",
        bytes.len()
    );
    bytes[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
}

/// Sets timestamp type and max timestamp of a whole batch and computes its CRC again.
pub(super) fn set_max_timestamp(batch: &mut [u8], kind: TimestampType, max_timestamp: i64) {
    let mut attributes = i16::from_be_bytes(at(batch, ATTRIBUTES_AT));
    match kind {
        TimestampType::CreateTime => attributes &= !LOG_APPEND_TIME_BIT,
        TimestampType::LogAppendTime => attributes |= LOG_APPEND_TIME_BIT,
    }
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
    seal(batch);
}

/// Computes the CRC of a whole batch and writes it; returns it.
pub(super) fn seal(batch: &mut [u8]) -> u32 {
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    crc
}
