//! What the threads of a run share: when things count, where logs end, who is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use crate::base::{Offset, PartitionIndex};

/// When things count. Times are nanoseconds of the monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// When the run began, its warm-up first.
    pub(super) began: u64,
    /// When the warm-up ended.
    pub(super) from: u64,
    /// When measuring ends; may be brought forward.
    until: Arc<AtomicU64>,
    /// True if it is brought forward to when all have caught up.
    pub(super) ends_with_catch_up: bool,
}

impl Window {
    pub(super) fn new(began: u64, from: u64, until: u64, ends_with_catch_up: bool) -> Window {
        Window {
            began,
            from,
            until: Arc::new(AtomicU64::new(until)),
            ends_with_catch_up,
        }
    }

    /// When measuring ends.
    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    /// Measuring ends now, if it has not ended.
    pub(super) fn end(&self, now: u64) {
        self.until
            .fetch_min(now.max(self.from + 1), Ordering::Relaxed);
    }

    pub(super) fn holds(&self, time: u64) -> bool {
        (self.from..self.until()).contains(&time)
    }
}

/// How far everybody is.
#[derive(Debug)]
pub(super) struct Progress {
    /// By partition, the offset after the last record acknowledged to us.
    ends: Vec<AtomicI64>,
    /// Producers that have replies to come or records to send.
    pub(super) producers: AtomicUsize,
    /// Readers that catch up and are not there yet.
    pub(super) catching_up: AtomicUsize,
}

impl Progress {
    pub(super) fn new(partitions: usize, producers: usize, catching_up: usize) -> Progress {
        Progress {
            ends: (0..partitions).map(|_| AtomicI64::new(0)).collect(),
            producers: AtomicUsize::new(producers),
            catching_up: AtomicUsize::new(catching_up),
        }
    }

    /// Records up to `end` are acknowledged.
    pub(super) fn acknowledged(&self, partition: PartitionIndex, end: Offset) {
        if let Some(known) = self.ends.get(partition.0.max(0) as usize) {
            known.fetch_max(end.0, Ordering::Relaxed);
        }
    }

    /// The offset after the last record known to be acknowledged.
    pub(super) fn end(&self, partition: PartitionIndex) -> Offset {
        let known = self.ends.get(partition.0.max(0) as usize);
        Offset(known.map_or(0, |end| end.load(Ordering::Relaxed)))
    }
}
