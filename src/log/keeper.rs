//! Keeps the checkpoint file: when it is replaced, and what it may vouch for.
//!
//! A checkpoint describes the log as it was appended at one moment (the producers' state belongs to
//! that offset), and is written only once everything below is on stable storage. One replacement is
//! in flight at a time.

use bytes::Bytes;

use crate::base::{DiskOp, Offset};

use super::checkpoint::{self, Checkpoint, Sealed};
use super::face::Event;
use super::ops::Job;
use super::segment::{FileStage, IndexState};
use super::{Log, Stage};

/// The log at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    pub active: Offset,
    pub position: u64,
    pub end: Offset,
    pub first_timestamp: i64,
    pub max_timestamp: i64,
    pub offset_of_max: Offset,
    pub producers: Bytes,
}

/// What a replacement says, to be believed when it is done.
#[derive(Clone, Copy, Debug)]
struct Saved {
    start: Offset,
    clean: bool,
    relaxed: bool,
    /// How many swaps of compacted segments it counts.
    swaps: u64,
}

/// The checkpoint's state.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// What the file vouches for, or the next one will.
    pub mark: Mark,
    /// Vouched for as soon as it is durable.
    pending: Option<Mark>,
    writing: Option<Saved>,
    wanted: bool,
    /// The next replacement says that the log is closed.
    clean_wanted: bool,
    pub clean_on_disk: bool,
    pub relaxed_on_disk: bool,
    pub start_on_disk: Offset,
    /// Where the log began when it was opened: of what lies below, nobody knows any more.
    pub start_found: Offset,
}

impl Keeper {
    /// True when the file does not say that the log is closed, and admits relaxed writes if they
    /// are `relaxed`. Otherwise a replacement is wanted.
    pub(super) fn may_write(&mut self, relaxed: bool) -> bool {
        let stays = self.writing.is_none_or(|saved| saved.relaxed);
        let fine = !self.clean_on_disk && (!relaxed || (self.relaxed_on_disk && stays));
        self.wanted |= !fine && self.writing.is_none();
        fine
    }

    /// How far the start may move on disk. The producers' state speaks for what lies below the
    /// mark; batches behind it are only remembered by the log, which must be there to be replayed.
    fn start_max(&self) -> Offset {
        self.mark.end.max(self.start_found)
    }

    /// True when a start offset has to wait for a mark that is not even pending.
    fn start_lacks_a_mark(&self, start: Offset) -> bool {
        let pending = self.pending.as_ref().map_or(Offset(0), |mark| mark.end);
        start > self.start_max().max(pending)
    }

    /// True when a checkpoint waits for more to become durable.
    pub(super) fn waits_for(&self, durable: Offset) -> bool {
        self.pending.as_ref().is_some_and(|mark| mark.end > durable)
    }

    /// What recovery read from the file.
    pub(super) fn found(checkpoint: &Checkpoint) -> Keeper {
        let mark = Mark {
            active: Offset(checkpoint.active),
            position: checkpoint.position,
            end: Offset(checkpoint.end),
            first_timestamp: checkpoint.first_timestamp,
            max_timestamp: checkpoint.max_timestamp,
            offset_of_max: Offset(checkpoint.offset_of_max),
            producers: checkpoint.producers.clone().into(),
        };
        Keeper {
            mark,
            clean_on_disk: checkpoint.clean,
            relaxed_on_disk: checkpoint.relaxed,
            start_on_disk: Offset(checkpoint.start),
            ..Keeper::default()
        }
    }

    /// True when a replacement is wanted or in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.writing.is_some() || self.wanted
    }
}

impl Log {
    /// The answer to [`Event::CheckpointWanted`]: `producers` is the producer state that belongs to
    /// [`Log::end_offset`] as it is now. Written once everything appended so far is durable.
    pub fn checkpoint(&mut self, producers: Bytes, out: &mut Vec<DiskOp>) {
        if self.stage != Stage::Ready || self.fault.is_some() {
            return;
        }
        self.keeper.pending = Some(self.mark_now(producers));
        self.keep(out);
        if self.keeper.waits_for(self.durable) {
            // A relaxed log has to sync first, and nothing else may make it.
            self.sync_written(out);
        }
    }

    /// Bytes behind what the checkpoint vouches for, about: what recovery would scan now.
    pub fn unvouched_bytes(&self) -> u64 {
        let mark = &self.keeper.mark;
        let from = self
            .segments
            .partition_point(|segment| segment.base < mark.active);
        let behind: u64 = self.segments[from..]
            .iter()
            .map(|segment| segment.size)
            .sum();
        let first = self.segments.get(from).map(|segment| segment.base);
        let vouched = if first == Some(mark.active) {
            mark.position
        } else {
            0
        };
        behind.saturating_sub(vouched)
    }

    /// True while a checkpoint waits or is being written.
    pub fn is_checkpointing(&self) -> bool {
        self.keeper.pending.is_some() || self.keeper.is_busy()
    }

    fn mark_now(&self, producers: Bytes) -> Mark {
        let active = self
            .segments
            .last()
            .expect("a ready log has an active segment");
        Mark {
            active: active.base,
            position: active.size,
            end: self.end,
            first_timestamp: active.first_timestamp.unwrap_or(-1),
            max_timestamp: active.max_timestamp,
            offset_of_max: active.offset_of_max,
            producers,
        }
    }

    /// Replaces the file if that is wanted and possible.
    pub(super) fn keep(&mut self, out: &mut Vec<DiskOp>) {
        let able = self.setup.is_made() && self.fault.is_none() && self.stage != Stage::Deleted;
        if !able || self.keeper.writing.is_some() || self.tail.space_retry.is_some() {
            return;
        }
        let closing = self.stage == Stage::Closing && !self.keeper.clean_wanted;
        let due = !closing && !self.keeper.waits_for(self.durable);
        if due && let Some(mark) = self.keeper.pending.take() {
            self.keeper.mark = mark;
            self.keeper.wanted = true;
        }
        if !std::mem::take(&mut self.keeper.wanted) {
            return;
        }
        let relaxed = self.options.flush_messages > 1 || !self.tail.is_synced();
        let saved = Saved {
            start: self.start.min(self.keeper.start_max()),
            clean: self.keeper.clean_wanted,
            relaxed,
            swaps: self.compaction.replaced,
        };
        self.keeper.writing = Some(saved);
        let contents = self.describe(saved).to_file();
        let file = self.directory.join(checkpoint::NAME);
        out.push(DiskOp::ReplaceFile {
            id: self.ops.start(Job::Checkpoint),
            file,
            contents,
        });
    }

    fn describe(&self, saved: Saved) -> Checkpoint {
        let mark = &self.keeper.mark;
        let below = self
            .segments
            .iter()
            .filter(|segment| segment.base < mark.active);
        let sealed = below.map(|segment| Sealed {
            base: segment.base.0,
            bytes: segment.size,
            end: segment.end.0,
            max_timestamp: segment.max_timestamp,
            offset_of_max: segment.offset_of_max.0,
        });
        let active = self
            .segments
            .iter()
            .find(|segment| segment.base == mark.active);
        let index = match active.map(|segment| &segment.index) {
            Some(IndexState::Memory(index)) => index.entries(),
            Some(
                IndexState::Cold
                | IndexState::Distrusted
                | IndexState::Loading
                | IndexState::Rebuilding(_),
            )
            | None => &[],
        };
        let below = index.partition_point(|entry| u64::from(entry.position) < mark.position);
        Checkpoint {
            version: 0,
            clean: saved.clean,
            relaxed: saved.relaxed,
            start: saved.start.0,
            sealed: sealed.collect(),
            active: mark.active.0,
            position: mark.position,
            end: mark.end.0,
            first_timestamp: mark.first_timestamp,
            max_timestamp: mark.max_timestamp,
            offset_of_max: mark.offset_of_max.0,
            index: index[..below].to_vec(),
            epochs: self.epochs.pairs_below(mark.end),
            producers: mark.producers.to_vec(),
        }
    }

    /// The file is replaced.
    pub(super) fn kept(&mut self, out: &mut Vec<DiskOp>, events: &mut Vec<Event>) {
        let Some(saved) = self.keeper.writing.take() else {
            return;
        };
        self.keeper.clean_on_disk = saved.clean;
        self.keeper.relaxed_on_disk = saved.relaxed;
        self.compaction.kept = saved.swaps;
        if saved.start > self.keeper.start_on_disk {
            self.keeper.start_on_disk = saved.start;
            events.push(Event::StartOffsetDurable(saved.start));
            self.retire_below_durable_start(out);
        }
        if saved.clean {
            self.closed(events);
        }
    }

    /// The file could not be replaced for lack of space: what it said before still holds.
    pub(super) fn keep_again_later(&mut self) {
        self.keeper.writing = None;
        self.keeper.wanted = true;
    }

    /// The start offset moved: the file must say so, together with the state of the producers whose
    /// batches go.
    pub(super) fn keep_start(&mut self, out: &mut Vec<DiskOp>) {
        if self.keeper.start_lacks_a_mark(self.start) {
            self.tail.checkpoint_wanted = true;
            self.answer_emptily(out);
        }
        if self.start.min(self.keeper.start_max()) > self.keeper.start_on_disk {
            self.keeper.wanted = true;
            self.keep(out);
        }
    }

    /// Compaction put other segments in place: the file must say so.
    pub(super) fn keep_segments(&mut self, out: &mut Vec<DiskOp>) {
        self.keeper.wanted = true;
        self.keep(out);
    }

    /// Flushes what was appended, gives back preallocated space and says in the checkpoint that
    /// nothing needs to be scanned. [`Event::Closed`] when that is done, or as far as it goes on a
    /// fenced log or a full disk.
    pub fn close(&mut self, producers: Bytes, out: &mut Vec<DiskOp>) {
        self.give_up_round(&mut Vec::new());
        if self.stage != Stage::Ready || self.fault.is_some() {
            self.stage = if self.stage == Stage::Deleted {
                self.stage
            } else {
                Stage::Closing
            };
            self.answer_emptily(out);
            return;
        }
        self.stage = Stage::Closing;
        self.tail.request_flush();
        let unchanged = self.keeper.clean_on_disk || !self.setup.is_made();
        if !(unchanged && self.tail.is_idle()) {
            self.keeper.pending = Some(self.mark_now(producers));
        }
        self.answer_emptily(out);
    }

    /// An operation that changes nothing, so that there is a completion to go on from.
    fn answer_emptily(&mut self, out: &mut Vec<DiskOp>) {
        let directory = self.directory.clone();
        out.push(DiskOp::List {
            id: self.ops.start(Job::Nothing),
            directory,
        });
    }

    /// The next step of a close, once nothing waits and nothing flies.
    pub(super) fn close_further(&mut self, out: &mut Vec<DiskOp>, events: &mut Vec<Event>) {
        if self.stage != Stage::Closing {
            return;
        }
        if self.compaction.is_flying() {
            return;
        }
        if self.fault.is_some() || self.tail.space_retry.is_some() {
            return self.closed(events);
        }
        if !self.tail.is_idle() || !self.tail.is_synced() || self.keeper.writing.is_some() {
            return;
        }
        let Some(active) = self.segments.last() else {
            return self.closed(events);
        };
        let named = active.stage == FileStage::Open;
        let unsettled = matches!(active.stage, FileStage::Creating | FileStage::Naming);
        if active.allocating || unsettled {
            return;
        }
        if named && active.allocated > active.size && self.setup.is_made() {
            let (file, size) = (active.file.clone(), active.size);
            out.push(DiskOp::Truncate {
                id: self.ops.start(Job::CloseTrim { size }),
                file,
                size,
            });
            self.segments.last_mut().expect("it is there").allocating = true;
            return;
        }
        if self.keeper.pending.is_some() || self.keeper.is_busy() {
            self.keeper.clean_wanted = true;
            self.keep(out);
            return;
        }
        self.closed(events);
    }

    fn closed(&mut self, events: &mut Vec<Event>) {
        if self.stage == Stage::Closing {
            self.stage = Stage::Closed;
            events.push(Event::Closed);
        }
    }
}
