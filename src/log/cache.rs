//! Batches in memory: the buffers that were written, and what was read back.
//!
//! Knows segments by their base offset and positions only. A buffer holds one stretch of a segment;
//! stretches may overlap, since each write begins with a copy of the block that the one before it
//! left unfinished.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{Buf, Offset};

/// How many stretches that begin before a position are looked at for one that reaches over it.
const LOOK_BACK: usize = 4;

/// How many of the stretches read back last stay while a reader waits: more than one needs at once.
const READ_BACK_KEPT: usize = 8;

/// One stretch of a segment.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    data: Arc<Buf>,
    /// The position of the first byte of `data`.
    pub from: u64,
    /// The position after the last byte that counts.
    pub to: u64,
    /// It was read from the disk: a batch is verified before it is served.
    pub read_back: bool,
    stamp: u64,
}

impl Stretch {
    /// The bytes from `from` to `to`, positions in the segment.
    pub(super) fn bytes(&self, from: u64, to: u64) -> &[u8] {
        &self.data[(from - self.from) as usize..(to - self.from) as usize]
    }

    /// The same as a counted view.
    pub(super) fn view(&self, from: u64, to: u64) -> Bytes {
        Buf::slice(
            &self.data,
            (from - self.from) as usize,
            (to - self.from) as usize,
        )
    }
}

/// All stretches of one log.
#[derive(Debug, Default)]
pub(super) struct Cache {
    stretches: BTreeMap<(Offset, u64), Stretch>,
    /// Insertion order, the oldest first.
    order: BTreeMap<u64, (Offset, u64)>,
    /// The stamps of what was read back last.
    read_back: VecDeque<u64>,
    next_stamp: u64,
    bytes: usize,
}

impl Cache {
    /// Adds a stretch of `segment`. One that begins at the same place and is shorter is replaced,
    /// one that is longer stays and the new one is dropped.
    pub(super) fn insert(
        &mut self,
        segment: Offset,
        from: u64,
        to: u64,
        data: Arc<Buf>,
        read_back: bool,
    ) {
        let key = (segment, from);
        if self
            .stretches
            .get(&key)
            .is_some_and(|old| old.to > to || (old.to == to && read_back))
        {
            return;
        }
        self.remove(key);
        self.bytes += data.capacity();
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        if read_back {
            self.read_back.push_back(stamp);
            if self.read_back.len() > READ_BACK_KEPT {
                self.read_back.pop_front();
            }
        }
        self.order.insert(stamp, key);
        self.stretches.insert(
            key,
            Stretch {
                data,
                from,
                to,
                read_back,
                stamp,
            },
        );
    }

    fn remove(&mut self, key: (Offset, u64)) -> usize {
        let Some(old) = self.stretches.remove(&key) else {
            return 0;
        };
        self.order.remove(&old.stamp);
        self.bytes -= old.data.capacity();
        old.data.capacity()
    }

    /// A stretch of `segment` that holds `from..to`.
    pub(super) fn find(&self, segment: Offset, from: u64, to: u64) -> Option<&Stretch> {
        let before = self
            .stretches
            .range((segment, 0)..=(segment, from))
            .rev()
            .take(LOOK_BACK);
        before
            .map(|(_, stretch)| stretch)
            .find(|stretch| stretch.to >= to && stretch.to > from)
    }

    /// Forgets a whole segment.
    pub(super) fn forget(&mut self, segment: Offset) {
        let keys = self.stretches.range((segment, 0)..=(segment, u64::MAX));
        for key in keys.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.remove(key);
        }
    }

    /// Memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the oldest stretches that `may_go` (segment, end of the stretch) until `wanted` bytes
    /// are free; says how many are. With `awaited` what was read back last stays.
    pub(super) fn evict(
        &mut self,
        wanted: usize,
        awaited: bool,
        may_go: impl Fn(Offset, u64) -> bool,
    ) -> usize {
        let (mut freed, mut after) = (0, 0);
        while freed < wanted
            && let Some((stamp, key)) = self.order.range(after..).next()
        {
            let (stamp, key) = (*stamp, *key);
            after = stamp + 1;
            let stays = awaited && self.read_back.contains(&stamp);
            if !stays && may_go(key.0, self.stretches[&key].to) {
                freed += self.remove(key);
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(byte: u8) -> Arc<Buf> {
        Arc::new(Buf::copy_of(&[byte; 4096]))
    }

    #[test]
    fn the_oldest_go_first_and_those_that_must_stay_stay() {
        let mut cache = Cache::default();
        for n in 0..4u64 {
            cache.insert(
                Offset(0),
                n * 4096,
                n * 4096 + 4096,
                stretch(n as u8),
                false,
            );
        }
        assert_eq!(cache.bytes(), 4 * 4096);
        assert_eq!(cache.evict(5000, false, |_, to| to != 4096), 8192);
        assert!(cache.find(Offset(0), 0, 10).is_some(), "it must stay");
        assert!(cache.find(Offset(0), 4096, 4106).is_none());
        assert!(cache.find(Offset(0), 8192, 8200).is_none());
        assert!(cache.find(Offset(0), 12288, 12298).is_some());
        assert!(cache.find(Offset(1), 0, 10).is_none(), "another segment");
    }

    #[test]
    fn what_a_waiting_reader_has_fetched_stays_but_not_without_bound() {
        let mut cache = Cache::default();
        for n in 0..20u64 {
            cache.insert(Offset(0), n * 4096, n * 4096 + 4096, stretch(1), true);
        }
        cache.evict(usize::MAX, true, |_, _| true);
        assert_eq!(cache.bytes(), READ_BACK_KEPT * 4096);
        assert!(cache.find(Offset(0), 19 * 4096, 19 * 4096 + 10).is_some());
        cache.evict(usize::MAX, false, |_, _| true);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn a_longer_stretch_from_the_same_place_replaces_a_shorter_one() {
        let mut cache = Cache::default();
        cache.insert(Offset(0), 0, 100, stretch(1), false);
        cache.insert(Offset(0), 0, 200, stretch(2), false);
        cache.insert(Offset(0), 0, 150, stretch(3), true);
        let found = cache.find(Offset(0), 0, 200).expect("the longest");
        assert_eq!(found.bytes(0, 1), [2]);
        assert_eq!(cache.bytes(), 4096);
    }
}
