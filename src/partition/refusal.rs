//! Why a partition says no, and the one place where that becomes a Kafka error code.

use crate::base::{LeaderEpoch, Offset, ProducerEpoch, Sequence};
use crate::log;
use crate::protocol::ErrorCode;
use crate::record::{self, InvalidKind};

/// A refusal is an answer to the client; the partition goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The records are not what Kafka accepts; says which and why.
    Invalid(record::Invalid),
    /// The producer's sequence does not follow its last one.
    OutOfOrderSequence { expected: Sequence, found: Sequence },
    /// A newer incarnation of the producer has written.
    StaleProducerEpoch {
        current: ProducerEpoch,
        found: ProducerEpoch,
    },
    /// The request's leader epoch is older than the partition's.
    FencedLeaderEpoch {
        current: LeaderEpoch,
        found: LeaderEpoch,
    },
    /// The request's leader epoch is newer than the partition's.
    UnknownLeaderEpoch {
        current: LeaderEpoch,
        found: LeaderEpoch,
    },
    /// The offset is outside of what the partition holds.
    OffsetOutOfRange {
        start: Offset,
        end: Offset,
        found: Offset,
    },
    /// The log cannot take part: its disk failed, is full, or its bytes are not what was written.
    Storage(log::AppendRefused),
    /// The log is fenced: reads that it cannot vouch for are refused.
    Fenced,
    /// This core does not own the partition (any more).
    NotLeader,
    /// The topic does not allow its records to be deleted (`cleanup.policy` without `delete`).
    DeletionNotAllowed,
}

impl Refusal {
    /// The error code that Kafka gives for it.
    pub fn code(&self) -> ErrorCode {
        match self {
            Refusal::Invalid(invalid) => match invalid.kind() {
                InvalidKind::CorruptMessage => ErrorCode::CorruptMessage,
                InvalidKind::MessageTooLarge => ErrorCode::MessageTooLarge,
                InvalidKind::RecordListTooLarge => ErrorCode::RecordListTooLarge,
                InvalidKind::InvalidTimestamp => ErrorCode::InvalidTimestamp,
                InvalidKind::UnsupportedCompressionType => ErrorCode::UnsupportedCompressionType,
                InvalidKind::InvalidRecord => ErrorCode::InvalidRecord,
            },
            Refusal::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Refusal::StaleProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Refusal::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Refusal::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Refusal::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Refusal::Storage(log::AppendRefused::TooLarge { .. }) => ErrorCode::RecordListTooLarge,
            Refusal::Storage(log::AppendRefused::Malformed) => ErrorCode::CorruptMessage,
            Refusal::Storage(log::AppendRefused::NotReady) => ErrorCode::NotLeaderOrFollower,
            Refusal::Storage(_) | Refusal::Fenced => ErrorCode::KafkaStorageError,
            Refusal::NotLeader => ErrorCode::NotLeaderOrFollower,
            Refusal::DeletionNotAllowed => ErrorCode::PolicyViolation,
        }
    }
}
