//! Control records: what the brokers write among the records of a partition, not shown to
//! consumers (apache/kafka `ControlRecordType`, `EndTransactionMarker`).
//!
//! ```text
//! key:   version i16 = 0 | kind i16
//! value: version i16 = 0 | coordinator epoch i32        (of a transaction marker)
//! ```
//!
//! Later versions may only add fields, so that longer keys and values are read too.

use crate::base::{ProducerEpoch, ProducerId, Sequence};

use super::build::BatchBuilder;
use super::codec::Codec;
use super::records::Record;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// The producer's open transaction is aborted.
    Abort,
    /// The producer's open transaction is committed.
    Commit,
    /// KRaft: a leader's first record.
    LeaderChange,
    /// KRaft: begin of a snapshot.
    SnapshotHeader,
    /// KRaft: end of a snapshot.
    SnapshotFooter,
    /// KRaft: the version of the quorum's protocol (KIP-853).
    KraftVersion,
    /// KRaft: the set of voters (KIP-853).
    KraftVoters,
    /// Of a later version, to be ignored.
    Unknown(i16),
}

impl ControlKind {
    /// The kind's number in the key.
    pub fn id(self) -> i16 {
        match self {
            ControlKind::Abort => 0,
            ControlKind::Commit => 1,
            ControlKind::LeaderChange => 2,
            ControlKind::SnapshotHeader => 3,
            ControlKind::SnapshotFooter => 4,
            ControlKind::KraftVersion => 5,
            ControlKind::KraftVoters => 6,
            ControlKind::Unknown(id) => id,
        }
    }

    /// The kind of a number.
    pub fn from_id(id: i16) -> ControlKind {
        match id {
            0 => ControlKind::Abort,
            1 => ControlKind::Commit,
            2 => ControlKind::LeaderChange,
            3 => ControlKind::SnapshotHeader,
            4 => ControlKind::SnapshotFooter,
            5 => ControlKind::KraftVersion,
            6 => ControlKind::KraftVoters,
            id => ControlKind::Unknown(id),
        }
    }

    /// The key of a control record of this kind.
    pub fn encode_key(self) -> [u8; 4] {
        let [high, low] = self.id().to_be_bytes();
        [0, 0, high, low]
    }

    /// Reads a control record's key; none when it is missing, too short or its version negative.
    pub fn decode_key(key: Option<&[u8]>) -> Option<ControlKind> {
        let [high, low, id @ ..] = *key?.first_chunk::<4>()?;
        (i16::from_be_bytes([high, low]) >= 0).then(|| ControlKind::from_id(i16::from_be_bytes(id)))
    }
}

/// The record that ends a transaction in one partition (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Committed, else aborted.
    pub committed: bool,
    /// Epoch of the transaction coordinator that wrote it: fences older ones.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The kind in its key.
    pub fn kind(self) -> ControlKind {
        if self.committed {
            ControlKind::Commit
        } else {
            ControlKind::Abort
        }
    }

    /// The marker's value.
    pub fn encode_value(self) -> [u8; 6] {
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        value
    }

    /// Reads a record of a control batch; none when it is another kind or not readable.
    pub fn decode(record: &Record) -> Option<EndTransactionMarker> {
        let committed = match ControlKind::decode_key(record.key)? {
            ControlKind::Commit => true,
            ControlKind::Abort => false,
            ControlKind::LeaderChange
            | ControlKind::SnapshotHeader
            | ControlKind::SnapshotFooter
            | ControlKind::KraftVersion
            | ControlKind::KraftVoters
            | ControlKind::Unknown(_) => return None,
        };
        let [high, low, epoch @ ..] = *record.value?.first_chunk::<6>()?;
        let coordinator_epoch = i32::from_be_bytes(epoch);
        (i16::from_be_bytes([high, low]) >= 0).then_some(EndTransactionMarker {
            committed,
            coordinator_epoch,
        })
    }

    /// The batch that holds this one marker; `timestamp` in milliseconds since the Unix epoch.
    pub fn batch(self, id: ProducerId, epoch: ProducerEpoch, timestamp: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None)
            .producer(id, epoch, Sequence(-1))
            .transactional(true)
            .control(true);
        let (key, value) = (self.kind().encode_key(), self.encode_value());
        builder.append(timestamp, Some(&key), Some(&value), &[]);
        builder.finish()
    }
}
