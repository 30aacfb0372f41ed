//! The leader-epoch cache: where each leader's term began (KIP-101, KIP-279).

use crate::base::{LeaderEpoch, Offset};

/// Epochs and their first offsets, both strictly ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    /// From stored pairs; those out of order are dropped.
    pub(super) fn from_pairs(pairs: impl Iterator<Item = (i32, i64)>) -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, start) in pairs {
            epochs.assign(LeaderEpoch(epoch), Offset(start));
        }
        epochs
    }

    /// Epochs that began below `end`, as pairs.
    pub(super) fn pairs_below(&self, end: Offset) -> Vec<(i32, i64)> {
        let known = self.starts.iter().filter(|(_, start)| *start < end);
        known.map(|(epoch, start)| (epoch.0, start.0)).collect()
    }

    pub(super) fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// `epoch` begins at `start`; nothing happens unless it is newer than all known ones. An
    /// epoch that began at the same offset, and so never wrote anything, gives way.
    pub(super) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if epoch.0 < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        while self.starts.last().is_some_and(|(_, other)| *other >= start) {
            self.starts.pop();
        }
        self.starts.push((epoch, start));
    }

    /// Offsets below `start` are gone: the epoch that holds it begins there now.
    pub(super) fn raise_start(&mut self, start: Offset) {
        let below = self.starts.partition_point(|(_, first)| *first <= start);
        if below > 0 {
            self.starts.drain(..below - 1);
            self.starts[0].1 = self.starts[0].1.max(start);
        }
    }

    /// The largest epoch not above `epoch`, and the offset at which it ends. None when `epoch` is
    /// newer than all known ones (apache/kafka `LeaderEpochFileCache.endOffsetFor`).
    pub(super) fn end_of(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let above = self.starts.partition_point(|(other, _)| *other <= epoch);
        if above == self.starts.len() {
            let latest = self.latest()?;
            return (latest == epoch).then_some((epoch, log_end));
        }
        let end = self.starts[above].1;
        let floor = above
            .checked_sub(1)
            .map_or(epoch, |index| self.starts[index].0);
        Some((floor, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        Epochs::from_pairs([(1, 0), (3, 10), (4, 20)].into_iter())
    }

    #[test]
    fn an_epoch_ends_where_the_next_larger_one_begins() {
        let end_of = |epoch| epochs().end_of(LeaderEpoch(epoch), Offset(25));
        assert_eq!(end_of(1), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(
            end_of(2),
            Some((LeaderEpoch(1), Offset(10))),
            "the floor of a gap"
        );
        assert_eq!(end_of(3), Some((LeaderEpoch(3), Offset(20))));
        assert_eq!(
            end_of(4),
            Some((LeaderEpoch(4), Offset(25))),
            "the current one: the log end"
        );
        assert_eq!(end_of(5), None, "unknown");
        assert_eq!(
            end_of(0),
            Some((LeaderEpoch(0), Offset(0))),
            "before all known ones"
        );
    }

    #[test]
    fn an_epoch_that_wrote_nothing_gives_way_and_an_old_one_changes_nothing() {
        let mut epochs = epochs();
        epochs.assign(LeaderEpoch(6), Offset(20));
        epochs.assign(LeaderEpoch(5), Offset(30));
        assert_eq!(epochs.pairs_below(Offset(99)), [(1, 0), (3, 10), (6, 20)]);
    }

    #[test]
    fn a_raised_start_moves_the_epoch_that_holds_it() {
        let mut epochs = epochs();
        epochs.raise_start(Offset(12));
        assert_eq!(epochs.pairs_below(Offset(99)), [(3, 12), (4, 20)]);
    }
}
