//! How a log becomes shorter at its beginning.
//!
//! Order: the start offset moves in memory at once, is made durable in the checkpoint, and only then
//! files get another name, and are removed when no reader can hold a slice of them any more.

use crate::base::{DiskOp, FilePath, Mono, Now, Offset};

use super::ops::Job;
use super::segment::{FileStage, Segment, index_name};
use super::{Log, Stage};

/// Files on their way out.
#[derive(Debug, Default)]
pub(super) struct Trash {
    /// Segments below the start offset, that have their names yet.
    retiring: Vec<Segment>,
    /// The one of them that gets another name now. In order, one after the other: what is left when a
    /// crash comes follows without a gap, and says even without a checkpoint where the log goes on.
    renaming: Option<Offset>,
    /// Files to be removed, and when.
    due: Vec<(Mono, FilePath)>,
}

impl Trash {
    /// A segment that lies below the start offset.
    pub(super) fn retire(&mut self, segment: Segment) {
        self.retiring.push(segment);
    }

    /// When the next file is to be removed.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.due.iter().map(|(at, _)| *at).min()
    }
}

impl Log {
    /// Forgets what lies below `to` (clamped to the end of the log): at once for readers, durably
    /// before [`Event::StartOffsetDurable`]. Segments that lie below it as a whole are deleted.
    pub fn raise_start_offset(&mut self, to: Offset, out: &mut Vec<DiskOp>) {
        let to = to.min(self.committed);
        if to <= self.start || self.stage != Stage::Ready || self.fault.is_some() {
            return;
        }
        self.start = to;
        self.epochs.raise_start(to);
        self.drop_segments_below_start(out);
        self.keep_start(out);
    }

    /// Segments wholly below the start offset are not part of the log any more. One that is still
    /// being sealed goes when that is done.
    pub(super) fn drop_segments_below_start(&mut self, out: &mut Vec<DiskOp>) {
        // A sync in flight may be of one of these files, and would not find it by its old name.
        if self.tail.is_syncing() {
            return;
        }
        let whole = self
            .segments
            .windows(2)
            .take_while(|pair| pair[1].base <= self.start);
        let gone = whole
            .take_while(|pair| {
                pair[0].stage == FileStage::Sealed && !self.is_swapping(pair[0].base)
            })
            .count();
        for segment in self.segments.drain(..gone) {
            self.cache.forget(segment.base);
            self.trash.retire(segment);
        }
        self.retire_below_durable_start(out);
    }

    /// Deletes whole segments from the beginning: those whose newest record is older than
    /// `retention.ms`, and those without which the log is still larger than `retention.bytes`. An
    /// active segment that has expired is rolled first, as Kafka does.
    pub fn enforce_retention(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        if self.stage != Stage::Ready || self.fault.is_some() {
            return;
        }
        self.retire_below_durable_start(out);
        let expired = |log: &Log| {
            let segments = log.segments.iter();
            segments
                .take_while(|segment| log.has_expired(now, segment))
                .count()
        };
        // Only what is done to the end of the log has to wait until nothing is on its way there.
        if self.tail.is_idle() {
            self.seal_full(out);
            let active = self.segments.last().is_some_and(|segment| segment.size > 0);
            if expired(self) == self.segments.len() && active {
                self.roll(now);
                let last = self.segments.len() - 2;
                self.is_sealed(last, out);
            }
        }
        let expired = expired(self);
        let gone = expired.max(self.beyond_size());
        let kept = self.segments.get(gone.min(self.segments.len() - 1));
        let to = kept.map_or(self.start, |segment| segment.base);
        self.raise_start_offset(to, out);
    }

    fn has_expired(&self, now: Now, segment: &Segment) -> bool {
        let newest = segment.max_timestamp;
        let limit = self.options.retention_ms;
        limit >= 0 && newest >= 0 && segment.size > 0 && now.wall.0.saturating_sub(newest) > limit
    }

    /// How many segments at the beginning the log could lose and still be `retention.bytes` large.
    fn beyond_size(&self) -> usize {
        let Ok(limit) = u64::try_from(self.options.retention_bytes) else {
            return 0;
        };
        let mut excess = self.size_bytes().saturating_sub(limit);
        let mut count = 0;
        for segment in &self.segments[..self.segments.len() - 1] {
            if segment.size > excess {
                break;
            }
            excess -= segment.size;
            count += 1;
        }
        count
    }

    /// The start offset is durable: the oldest file below it gets another name.
    pub(super) fn retire_below_durable_start(&mut self, out: &mut Vec<DiskOp>) {
        let start = self.keeper.start_on_disk;
        let any = self.trash.retiring.iter().any(|old| old.end <= start);
        if !any || self.trash.renaming.is_some() || !self.end_has_a_name(out) {
            return;
        }
        let oldest = self.trash.retiring.iter().min_by_key(|old| old.base);
        let Some(oldest) = oldest.filter(|old| old.end <= start) else {
            return;
        };
        self.trash.renaming = Some(oldest.base);
        let to = self
            .directory
            .join(&format!("{}.deleted", oldest.file.name()));
        let index = self.directory.join(&index_name(oldest.base));
        let from = oldest.file.clone();
        let id = self.ops.start(Job::Retire { file: to.clone() });
        out.push(DiskOp::Rename { id, from, to });
        out.push(DiskOp::Remove {
            id: self.ops.start(Job::Removed),
            file: index,
        });
    }

    /// True when a file says by its name where the log goes on; otherwise it is under way. Without
    /// it, an emptied log whose checkpoint is lost would give its offsets out again.
    fn end_has_a_name(&mut self, out: &mut Vec<DiskOp>) -> bool {
        let first = &mut self.segments[0];
        match first.stage {
            FileStage::Open | FileStage::Sealing | FileStage::Sealed => return true,
            FileStage::Creating | FileStage::Naming => return false,
            FileStage::Absent => {}
        }
        first.stage = FileStage::Creating;
        first.allocating = true;
        let (segment, file) = (first.base, first.file.clone());
        let id = self.ops.start(Job::Allocate {
            segment,
            size: 0,
            from_reserve: true,
        });
        out.push(DiskOp::Allocate {
            id,
            file,
            size: 0,
            zeros_from: None,
            from_reserve: true,
        });
        false
    }

    /// A file has its other name: it is removed after `file.delete.delay.ms`.
    pub(super) fn throw_away(&mut self, now: Now, file: FilePath) {
        self.trash
            .due
            .push((now.mono.after_ms(self.options.file_delete_delay_ms), file));
    }

    /// The oldest file below the start offset has its other name: the next one's turn has come.
    pub(super) fn retired(&mut self, now: Now, file: FilePath, out: &mut Vec<DiskOp>) {
        if let Some(base) = self.trash.renaming.take() {
            self.trash.retiring.retain(|old| old.base != base);
        }
        self.throw_away(now, file);
        self.retire_below_durable_start(out);
    }

    /// A file keeps its name: it is tried again when retention is enforced next.
    pub(super) fn not_retired(&mut self) {
        self.trash.renaming = None;
    }

    /// Removes the files whose time has come.
    pub(super) fn empty_trash(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        let (due, kept) = self
            .trash
            .due
            .drain(..)
            .partition(|(at, _)| *at <= now.mono);
        self.trash.due = kept;
        let due: Vec<(Mono, FilePath)> = due;
        for (_, file) in due {
            out.push(DiskOp::Remove {
                id: self.ops.start(Job::Removed),
                file,
            });
        }
    }

    /// Bytes of record batches in all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// How many segments it has, the active one included.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of memory that [`Log::evict`] works on, and what waits to be written.
    pub fn cached_bytes(&self) -> usize {
        let indexes = self
            .segments
            .iter()
            .map(Segment::index_bytes)
            .sum::<usize>();
        self.cache.bytes() + indexes + self.tail.waiting_bytes()
    }

    /// Drops about `bytes` bytes of cache, the oldest first, then indexes of full segments; says
    /// how many it was. What is not in a file yet, or in a block that is written again, stays.
    ///
    /// `awaited`: a reader waits for the disk. What was read back last and the indexes stay then: a
    /// reader that needs two ranges at once would otherwise fetch them in turn for ever.
    pub fn evict(&mut self, bytes: usize, awaited: bool) -> usize {
        let segments = &self.segments;
        let mut freed = self.cache.evict(bytes, awaited, |base, to| {
            let found = segments.binary_search_by_key(&base, |segment| segment.base);
            found.map_or(true, |index| to <= segments[index].stable())
        });
        for segment in &mut self.segments {
            if freed < bytes && !awaited {
                freed += segment.drop_index();
            }
        }
        freed
    }
}
