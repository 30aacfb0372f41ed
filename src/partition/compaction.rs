//! The leader's part in its log's compaction: what must stay is known here.

use crate::base::{DiskOp, Now};
use crate::log::{Assignment, Dirtiness, LastBatch, Progress};

use super::{Event, Partition};

/// What a round may use.
#[derive(Clone, Copy, Debug)]
pub struct CompactionLimits {
    /// Memory for keys, in bytes.
    pub key_bytes_max: usize,
    /// How full their table may get, 0 to 1.
    pub load_factor: f64,
    /// A secret of this process, for the hash of keys.
    pub secret: (u64, u64),
}

impl Partition {
    /// How dirty the log is below the last stable offset; none if it is not to be compacted, or
    /// cannot be now.
    pub fn dirtiness(&self, now: Now) -> Option<Dirtiness> {
        let stable = self.last_stable_offset();
        self.ready.then(|| self.log.dirtiness(now, stable))?
    }

    /// Begins a round; false when there is nothing to do.
    pub fn begin_compaction(&mut self, now: Now, limits: CompactionLimits) -> bool {
        let newest = self.producers.iter().map(|(id, state)| {
            let last = LastBatch {
                last_offset: state.batches.back().map(|batch| batch.last_offset),
                epoch: state.epoch,
            };
            (id, last)
        });
        let producers = newest.collect();
        let assignment = Assignment {
            stable: self.last_stable_offset(),
            key_bytes_max: limits.key_bytes_max,
            load_factor: limits.load_factor,
            secret: limits.secret,
            producers,
            // Transactional producers are refused: there is none to be aborted.
            aborted: Vec::new(),
        };
        self.log.begin_compaction(now, assignment)
    }

    /// One slice of the round in progress; how it ended, and how many bytes it gave to the disk.
    pub fn compact(
        &mut self,
        now: Now,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> (Progress, u64) {
        let mut log_events = std::mem::take(&mut self.log_events);
        let went = self.log.compact(now, out, &mut log_events);
        self.take_log_events(&mut log_events, out, events);
        self.log_events = log_events;
        went
    }

    /// Bytes of memory that the round in progress holds for its keys.
    pub fn compaction_bytes(&self) -> usize {
        self.log.compaction_bytes()
    }

    /// A batch that cannot be read keeps the log from being compacted.
    pub fn is_uncleanable(&self) -> bool {
        self.log.is_uncleanable()
    }
}
