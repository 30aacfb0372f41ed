//! Transactions as a round meets them: which batches belong to aborted ones, and which markers have
//! nothing left that they are needed for (apache/kafka `CleanedTransactionMetadata`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::{Offset, ProducerId};
use crate::record::{BatchHeader, ControlKind};

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
}

/// What is known at one place of the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Transactions {
    /// Those that begin further on, in order.
    ahead: VecDeque<AbortedTransaction>,
    /// Aborted ones whose marker was not met yet; whether one of their batches was.
    aborted: BTreeMap<ProducerId, bool>,
    /// Producers with a batch whose marker was not met yet.
    committed: BTreeSet<ProducerId>,
}

impl Transactions {
    /// At the beginning of the log.
    pub(super) fn new(mut aborted: Vec<AbortedTransaction>) -> Transactions {
        aborted.sort_by_key(|transaction| transaction.first_offset);
        Transactions {
            ahead: aborted.into(),
            ..Transactions::default()
        }
    }

    fn come_to(&mut self, offset: Offset) {
        while let Some(next) = self.ahead.front().copied()
            && next.first_offset <= offset
        {
            self.ahead.pop_front();
            self.aborted.entry(next.producer).or_insert(false);
        }
    }

    /// A batch of data; true when it belongs to an aborted transaction.
    pub(super) fn pass_data(&mut self, header: &BatchHeader) -> bool {
        self.come_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        if let Some(seen) = self.aborted.get_mut(&header.producer_id) {
            *seen = true;
            return true;
        }
        self.committed.insert(header.producer_id);
        false
    }

    /// A control batch and what its record says (none: it is empty already); true when nothing of
    /// its transaction is left.
    pub(super) fn pass_marker(&mut self, header: &BatchHeader, kind: Option<ControlKind>) -> bool {
        self.come_to(header.last_offset());
        match kind {
            None => true,
            Some(ControlKind::Abort) => self.aborted.remove(&header.producer_id) != Some(true),
            Some(ControlKind::Commit) => !self.committed.remove(&header.producer_id),
            Some(
                ControlKind::LeaderChange
                | ControlKind::SnapshotHeader
                | ControlKind::SnapshotFooter
                | ControlKind::KraftVersion
                | ControlKind::KraftVoters
                | ControlKind::Unknown(_),
            ) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ProducerEpoch, Sequence};
    use crate::record::{BatchBuilder, Codec, EndTransactionMarker, stamp};

    fn data(offset: i64, producer: i64) -> BatchHeader {
        let mut batch = BatchBuilder::new(Codec::None)
            .producer(ProducerId(producer), ProducerEpoch(0), Sequence(0))
            .transactional(true);
        batch.append(0, Some(b"k"), Some(b"v"), &[]);
        at(batch.finish(), offset)
    }

    fn marker(offset: i64, producer: i64) -> BatchHeader {
        let marker = EndTransactionMarker {
            committed: true,
            coordinator_epoch: 0,
        };
        at(
            marker.batch(ProducerId(producer), ProducerEpoch(0), 0),
            offset,
        )
    }

    fn at(mut batch: Vec<u8>, offset: i64) -> BatchHeader {
        stamp(&mut batch, Offset(offset), crate::base::LeaderEpoch(0));
        BatchHeader::parse(&batch).expect("a batch")
    }

    #[test]
    fn a_marker_may_go_once_no_batch_of_its_transaction_is_met_any_more() {
        let mut transactions = Transactions::default();
        assert!(!transactions.pass_data(&data(0, 7)));
        assert!(!transactions.pass_marker(&marker(1, 7), Some(ControlKind::Commit)));
        assert!(transactions.pass_marker(&marker(2, 7), Some(ControlKind::Commit)));
        assert!(
            transactions.pass_marker(&marker(3, 7), None),
            "emptied before"
        );
        assert!(!transactions.pass_marker(&marker(4, 7), Some(ControlKind::LeaderChange)));
    }

    #[test]
    fn batches_of_an_aborted_transaction_are_told_apart_by_producer_and_place() {
        let aborted = AbortedTransaction {
            producer: ProducerId(7),
            first_offset: Offset(10),
        };
        let mut transactions = Transactions::new(vec![aborted]);
        assert!(!transactions.pass_data(&data(5, 7)), "of the one before");
        assert!(!transactions.pass_marker(&marker(6, 7), Some(ControlKind::Commit)));
        assert!(transactions.pass_data(&data(10, 7)));
        assert!(!transactions.pass_data(&data(11, 8)), "another producer");
        assert!(!transactions.pass_marker(&marker(12, 7), Some(ControlKind::Abort)));
        assert!(!transactions.pass_data(&data(13, 7)), "of the one after");
        let mut gone = Transactions::new(vec![aborted]);
        assert!(gone.pass_marker(&marker(12, 7), Some(ControlKind::Abort)));
    }
}
