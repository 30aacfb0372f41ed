//! Whether a log is dirty enough to be cleaned, and how far that may go (apache/kafka
//! `LogCleanerManager.cleanableOffsets`, `LogToClean`).

use crate::base::{Now, Offset};

use super::super::segment::{FileStage, Segment};
use super::super::{Log, Stage};

/// How dirty a log is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dirtiness {
    /// Below it every key has one value.
    pub first_dirty: Offset,
    /// Up to where a round may go: the first offset of a segment that may not be touched yet.
    pub upto: Offset,
    /// Bytes of segments below `first_dirty`.
    pub clean_bytes: u64,
    /// Bytes of segments from there to `upto`.
    pub dirty_bytes: u64,
    /// For how many milliseconds the oldest dirty record has been waiting for longer than
    /// `max.compaction.lag.ms`; 0 if it has not.
    pub overdue_ms: i64,
    /// `min.cleanable.dirty.ratio`.
    pub ratio_min: f64,
}

impl Dirtiness {
    /// The dirty share, 0 to 1.
    pub fn ratio(&self) -> f64 {
        let total = self.clean_bytes + self.dirty_bytes;
        if total == 0 {
            return 0.0;
        }
        self.dirty_bytes as f64 / total as f64
    }

    /// True when it is to be cleaned now.
    pub fn is_due(&self) -> bool {
        (self.overdue_ms > 0 && self.dirty_bytes > 0) || self.ratio() > self.ratio_min
    }
}

impl Log {
    /// How dirty the log is below `stable` (the last stable offset); none for one that is not
    /// compacted, not open, being cleaned already, or that cannot be cleaned.
    pub fn dirtiness(&self, now: Now, stable: Offset) -> Option<Dirtiness> {
        let open = self.stage == Stage::Ready && self.fault.is_none();
        if !open || !self.options.compact || self.compaction.is_busy() {
            return None;
        }
        let first_dirty = self.first_dirty();
        let clean = self
            .segments
            .iter()
            .filter(|segment| segment.end <= first_dirty);
        let clean_bytes = clean.map(|segment| segment.size).sum();
        let (mut dirty_bytes, mut overdue_ms) = (0, 0);
        let mut upto = first_dirty;
        let until = now
            .wall
            .0
            .saturating_sub(self.options.compaction_lag_max_ms);
        for (index, segment) in self.segments.iter().enumerate() {
            if segment.end <= first_dirty {
                continue;
            }
            upto = segment.base.max(first_dirty);
            if !self.may_be_cleaned(now, stable, index) {
                break;
            }
            dirty_bytes += segment.size;
            upto = segment.end;
            let begun = self.begun(index);
            if begun > 0 {
                overdue_ms = overdue_ms.max(until.saturating_sub(begun));
            }
        }
        Some(Dirtiness {
            first_dirty,
            upto,
            clean_bytes,
            dirty_bytes,
            overdue_ms,
            ratio_min: self.options.dirty_ratio_min,
        })
    }

    /// A note that no longer fits the log counts as none.
    pub(super) fn first_dirty(&self) -> Offset {
        let noted = self.compaction.cleaned_to.unwrap_or(self.start);
        let fits = noted >= self.start && noted <= self.end;
        if fits { noted } else { self.start }
    }

    /// Never the active segment, nor one that the checkpoint does not count as full, nor what is not
    /// stable, nor what is younger than `min.compaction.lag.ms`.
    fn may_be_cleaned(&self, now: Now, stable: Offset, index: usize) -> bool {
        let segment = &self.segments[index];
        let lag = self.options.compaction_lag_min_ms;
        let young = lag > 0 && segment.max_timestamp > now.wall.0.saturating_sub(lag);
        // Recovery accepts gaps in every file but the last one: there has to be one behind.
        let active_written = self
            .segments
            .last()
            .is_some_and(|active| active.written > 0);
        index + 1 < self.segments.len()
            && segment.stage == FileStage::Sealed
            && segment.base < self.keeper.mark.active
            && segment.end <= stable.min(self.durable)
            && active_written
            && !young
    }

    /// When a segment's first record was written, as far as that is known: after a start, not before
    /// the newest record of the segment in front of it. 0 or less: not known.
    fn begun(&self, index: usize) -> i64 {
        let segment = &self.segments[index];
        let before = index.checked_sub(1).map(|before| &self.segments[before]);
        let known = segment.first_timestamp.filter(|first| *first > 0);
        let newest = |segment: &Segment| segment.max_timestamp;
        known
            .or(before.map(newest).filter(|newest| *newest > 0))
            .unwrap_or(segment.max_timestamp)
            .min(segment.max_timestamp)
    }
}
