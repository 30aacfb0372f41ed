//! The end of the log: batches gather in one aligned buffer, which becomes one write.
//!
//! At most one write is in flight; while it flies the next one gathers. A write begins with a copy
//! of the block that the one before left unfinished, and ends with a [`Trailer`]. It waits until its
//! segment's file is there, named, large enough, and the segment before is complete and trimmed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{BLOCK, Buf, DiskFault, DiskOp, FaultKind, LeaderEpoch, Mono, Now, Offset, Pool};
use crate::record::{self, BatchHeader};

use super::face::{AppendRefused, Appended, Event, Fault};
use super::ops::Job;
use super::segment::{FileStage, IndexState, Segment};
use super::trailer::{self, Trailer};
use super::{Log, Stage};

/// New bytes that one write gathers at most, a single larger batch excepted: with the unfinished
/// block before and the trailer behind they fill a buffer of 1 MiB.
pub(super) const WRITE_BYTES_MAX: usize = (1 << 20) - 2 * BLOCK;
/// Bytes of a relaxed log that may be unsynced before a sync is issued regardless of its policy.
pub(super) const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
/// Bytes after which a checkpoint is asked for: what recovery scans at most, about.
pub(super) const CHECKPOINT_BYTES: u64 = 64 << 20;
/// The steps in which a file grows, in bytes.
pub(super) const STEP_MIN: u64 = 32 << 10;
const STEP_MAX: u64 = 64 << 20;
/// How long a full disk is left alone before it is asked again, in milliseconds.
pub const SPACE_RETRY_MS: i64 = 1000;
/// A log whose writes are at most this large, in bytes, has zeros written ahead of it. A durable
/// write into blocks that were never written has the file system change its maps first: measured
/// with `fio` at 4 / 64 / 512 KiB, 83 / 111 / 362 us against 39 / 64 / 289 us into written ones.
/// Larger writes wait for the device rather than for the file system, and zeros take half of it.
const ZEROED_WRITE_BYTES_MAX: usize = 64 << 10;
/// The step in which such a log grows at most, in bytes.
const ZEROED_STEP_MAX: u64 = 4 << 20;

/// Batches on their way to one write.
#[derive(Debug)]
pub(super) struct Gather {
    segment: Offset,
    /// Where the write begins: a block boundary.
    at: u64,
    buf: Buf,
    /// Bytes at the front that were written before.
    copied: usize,
    /// The offset after its last record.
    end: Offset,
    records: i64,
}

/// The write in flight.
#[derive(Debug)]
struct Flight {
    segment: Offset,
    to: u64,
    bytes: u64,
    end: Offset,
    records: i64,
    durable: bool,
}

/// Everything between an append and stable storage.
#[derive(Debug, Default)]
pub(super) struct Tail {
    filling: Option<Gather>,
    flush_wanted: bool,
    queue: VecDeque<Gather>,
    flight: Option<Flight>,
    /// The unfinished last block of the active segment, as far as it is filled.
    pub(super) block: Vec<u8>,
    /// New bytes of a write, learnt from the recent ones.
    usual: usize,
    /// Below it everything has been handed to the disk, and may be read from memory.
    pub(super) issued_end: Offset,
    unsynced_records: i64,
    unsynced_bytes: u64,
    unsynced_since: Option<Mono>,
    syncing: bool,
    /// The last write is durable in the core's journal, and gets to its file later, with others.
    journaled: bool,
    /// A segment, and the position below which it is on stable storage: what trailers say.
    durable_mark: (Offset, u64),
    /// Only the reserve is left: nothing new is taken, files grow no further than needed.
    pub(super) short: bool,
    /// How often the steps in which a file grows were halved, because a whole one did not fit.
    pub(super) smaller: u32,
    /// Not even the reserve is left; when the disk is asked again.
    pub(super) space_retry: Option<Mono>,
    pub(super) since_checkpoint: u64,
    pub(super) checkpoint_wanted: bool,
}

impl Gather {
    fn begin(pool: &Pool, segment: Offset, size: u64, block: &[u8], room: usize) -> Gather {
        let mut buf = pool.take(block.len() + room + trailer::BYTES);
        buf.extend_from_slice(block);
        Gather {
            segment,
            at: size - block.len() as u64,
            copied: block.len(),
            buf,
            end: Offset(0),
            records: 0,
        }
    }

    fn fresh_bytes(&self) -> usize {
        self.buf.len() - self.copied
    }

    fn position(&self) -> u64 {
        self.at + self.buf.len() as u64
    }

    /// Where the write's last block will end.
    fn write_end(&self) -> u64 {
        self.at + (self.buf.len() + trailer::BYTES).next_multiple_of(BLOCK) as u64
    }

    /// Copies a batch to the end; its header as stamped.
    fn push(&mut self, pool: &Pool, batch: &[u8], base: Offset, epoch: LeaderEpoch, end: Offset) {
        // Capacities are whole blocks: what holds the trailer holds the padding before it.
        if self.buf.spare() < batch.len() + trailer::BYTES {
            let wanted = self.buf.len() + batch.len() + trailer::BYTES;
            let mut larger = pool.take(wanted.max(2 * self.buf.capacity()));
            larger.extend_from_slice(&self.buf);
            self.buf = larger;
        }
        let at = self.buf.len();
        self.buf.extend_from_slice(batch);
        record::stamp(&mut self.buf[at..], base, epoch);
        self.records += end.0 - base.0;
        self.end = end;
    }

    /// Pads to whole blocks and ends with the trailer.
    fn finish(mut self, durable: u64) -> Arc<Buf> {
        let end = self.position();
        let length = (self.write_end() - self.at) as usize;
        let filled = self.buf.len();
        self.buf.set_len(length);
        self.buf[filled..].fill(0);
        let mark = Trailer { durable, end }.to_bytes(self.segment);
        self.buf[length - trailer::BYTES..].copy_from_slice(&mark);
        Arc::new(self.buf)
    }
}

impl Tail {
    /// Forgets all that was not written: the log is fenced.
    pub(super) fn abandon(&mut self) {
        self.filling = None;
        self.queue.clear();
    }

    /// The write or sync in flight failed: it is over.
    pub(super) fn landed_badly(&mut self) {
        self.flight = None;
        self.syncing = false;
    }

    /// True while a sync is in flight.
    pub(super) fn is_syncing(&self) -> bool {
        self.syncing
    }

    /// What is gathered goes out with the next chance.
    pub(super) fn request_flush(&mut self) {
        self.flush_wanted = self.filling.is_some();
    }

    /// True when nothing waits or flies.
    pub(super) fn is_idle(&self) -> bool {
        self.filling.is_none() && self.queue.is_empty() && self.flight.is_none()
    }

    /// True when all that was written is synced.
    pub(super) fn is_synced(&self) -> bool {
        self.unsynced_records == 0 && !self.syncing
    }

    /// Bytes taken and not yet written, in memory.
    pub(super) fn waiting_bytes(&self) -> usize {
        let queued: usize = self.queue.iter().map(|gather| gather.buf.capacity()).sum();
        queued
            + self
                .filling
                .as_ref()
                .map_or(0, |gather| gather.buf.capacity())
    }

    /// When the next sync is due by `flush.ms`, or the full disk is asked again.
    pub(super) fn deadline(&self, flush_ms: i64) -> Option<Mono> {
        let flush = self.unsynced_since.filter(|_| !self.syncing);
        let flush = flush
            .map(|since| since.after_ms(flush_ms))
            .filter(|at| *at != Mono(u64::MAX));
        flush.into_iter().chain(self.space_retry).min()
    }

    /// Starts again behind what recovery found.
    pub(super) fn resume(&mut self, end: Offset, mark: (Offset, u64), block: Vec<u8>) {
        self.block = block;
        self.issued_end = end;
        self.durable_mark = mark;
    }

    fn close_gather(&mut self) {
        let Some(gather) = self.filling.take() else {
            return;
        };
        let whole_blocks = gather.buf.len() - gather.buf.len() % BLOCK;
        self.block.clear();
        self.block.extend_from_slice(&gather.buf[whole_blocks..]);
        self.queue.push_back(gather);
    }
}

impl Log {
    /// Takes one whole valid batch v2; the caller has verified it. Base offset and leader epoch are
    /// stamped into the copy: both lie before the part that the CRC covers.
    pub fn append(
        &mut self,
        now: Now,
        batch: &[u8],
        leader_epoch: LeaderEpoch,
    ) -> Result<Appended, AppendRefused> {
        let header = self.admit(batch)?;
        let base_offset = self.end;
        let stamped = BatchHeader {
            base_offset,
            leader_epoch,
            ..header
        };
        let last_offset = stamped.last_offset();
        if self.must_roll(now, &stamped) {
            self.roll(now);
        }
        let active = self
            .segments
            .last_mut()
            .expect("a ready log has an active segment");
        if active.size == 0 {
            active.created = now.wall;
        }
        let full = |gather: &Gather| gather.fresh_bytes() + batch.len() > WRITE_BYTES_MAX;
        if self.tail.filling.as_ref().is_some_and(full) {
            self.tail.close_gather();
        }
        let room = self.tail.usual.max(batch.len());
        let tail = &mut self.tail;
        let gather = tail.filling.get_or_insert_with(|| {
            Gather::begin(&self.pool, active.base, active.size, &tail.block, room)
        });
        gather.push(
            &self.pool,
            batch,
            base_offset,
            leader_epoch,
            last_offset.plus(1),
        );
        active.extend(&stamped, self.options.index_interval_bytes);
        self.epochs.assign(leader_epoch, base_offset);
        self.end = last_offset.plus(1);
        Ok(Appended {
            base_offset,
            last_offset,
        })
    }

    fn admit(&self, batch: &[u8]) -> Result<BatchHeader, AppendRefused> {
        match self.stage {
            Stage::Opening => return Err(AppendRefused::NotReady),
            Stage::Ready => {}
            Stage::Closing | Stage::Closed | Stage::Deleting | Stage::Deleted => {
                return Err(AppendRefused::Fenced);
            }
        }
        if self.fault.is_some() {
            return Err(AppendRefused::Fenced);
        }
        if self.tail.space_retry.is_some() || self.tail.short {
            return Err(AppendRefused::NoSpace);
        }
        let limit = self.options.batch_bytes_max as usize;
        if batch.len() > limit {
            return Err(AppendRefused::TooLarge {
                size: batch.len(),
                limit,
            });
        }
        let header = BatchHeader::parse(batch).map_err(|_| AppendRefused::Malformed)?;
        if header.size() != batch.len() || header.last_offset_delta < 0 {
            return Err(AppendRefused::Malformed);
        }
        Ok(header)
    }

    /// apache/kafka `LogSegment.shouldRoll`: by size, by the time between the first batch and this
    /// one (record time if both have one), or because the offset does not fit the index.
    fn must_roll(&self, now: Now, batch: &BatchHeader) -> bool {
        let Some(active) = self.segments.last().filter(|active| active.size > 0) else {
            return false;
        };
        let waited = match active.first_timestamp {
            Some(first) if first >= 0 && batch.max_timestamp >= 0 => batch.max_timestamp - first,
            Some(_) | None => now.wall.0 - active.created.0,
        };
        active.size + batch.size() as u64 > u64::from(self.options.segment_bytes)
            || waited > self.options.segment_ms - self.options.segment_jitter_ms
            || batch.last_offset().0 - active.base.0 > i64::from(i32::MAX)
    }

    /// Begins a new, still absent segment at the end of the log.
    pub(super) fn roll(&mut self, now: Now) {
        self.tail.close_gather();
        self.tail.block.clear();
        self.segments
            .push(Segment::absent(&self.directory, self.end, now.wall));
        self.tail.checkpoint_wanted = true;
    }

    /// End of a turn: everything gathered becomes one write, unless one is in flight.
    pub fn flush_turn(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        self.tail.flush_wanted |= self.tail.filling.is_some();
        self.pump(now, out);
    }

    /// A full disk is asked again: the active segment grows, or whatever failed is tried.
    pub(super) fn probe_space(&mut self, out: &mut Vec<DiskOp>) {
        let index = self.segments.len() - 1;
        let waiting = !self.tail.queue.is_empty();
        if self.stage == Stage::Ready && !waiting && self.segments[index].stage == FileStage::Open {
            let used = self.segments[index].written;
            self.grow_ahead(self.segments[index].base, used, out);
        }
    }

    /// The preallocated end of the active segment is gone.
    pub(super) fn close_trimmed(&mut self, size: u64) {
        let active = self
            .segments
            .last_mut()
            .expect("a closing log has an active segment");
        active.allocating = false;
        active.allocated = size;
    }

    /// Issues the next write if nothing is in its way, or what it takes to clear the way.
    pub(super) fn pump(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        let writing = matches!(self.stage, Stage::Ready | Stage::Closing) && self.fault.is_none();
        if !writing || self.tail.flight.is_some() {
            return;
        }
        if self.tail.queue.is_empty() && self.tail.flush_wanted {
            self.tail.close_gather();
            self.tail.flush_wanted = false;
        }
        let Some(next) = self.tail.queue.front() else {
            return;
        };
        let (segment, needed) = (next.segment, next.write_end());
        if self.tail.space_retry.is_some() || !self.clear_the_way(segment, needed, out) {
            return;
        }
        self.issue(out);
        self.grow_ahead(segment, needed, out);
        self.sync_if_due(now, out);
    }

    fn issue(&mut self, out: &mut Vec<DiskOp>) {
        let Some(gather) = self.tail.queue.pop_front() else {
            return;
        };
        let (segment, at, end) = (gather.segment, gather.at, gather.end);
        let (to, bytes, records) = (
            gather.position(),
            gather.fresh_bytes() as u64,
            gather.records,
        );
        let (marked, position) = self.tail.durable_mark;
        let data = gather.finish(if marked == segment { position } else { 0 });
        self.tail.usual = (bytes as usize)
            .max(self.tail.usual - self.tail.usual / 8)
            .min(WRITE_BYTES_MAX);
        self.cache.insert(segment, at, to, data.clone(), false);
        let durable = self.options.flush_messages <= 1;
        self.tail.flight = Some(Flight {
            segment,
            to,
            bytes,
            end,
            records,
            durable,
        });
        self.tail.issued_end = end;
        let file = self.segment(segment).file.clone();
        let id = self.ops.start(Job::Write);
        out.push(DiskOp::Write {
            id,
            file,
            at,
            data,
            durable,
        });
    }

    /// True when the write may be issued. Otherwise what is missing is under way.
    fn clear_the_way(&mut self, base: Offset, needed: u64, out: &mut Vec<DiskOp>) -> bool {
        if !self.directory_is_made(out) {
            return false;
        }
        let metadata_done = self.metadata_is_written(out);
        let marked = self.keeper.may_write(self.options.flush_messages > 1);
        self.keep(out);
        let index = self.segment_index(base);
        let sealed = index == 0 || self.is_sealed(index - 1, out);
        let segment = &mut self.segments[index];
        match segment.stage {
            FileStage::Absent => {
                segment.stage = FileStage::Creating;
                self.allocate(index, needed, out);
                return false;
            }
            FileStage::Creating | FileStage::Naming => return false,
            FileStage::Open | FileStage::Sealing | FileStage::Sealed => {}
        }
        if segment.allocated < needed {
            self.allocate(index, needed, out);
            return false;
        }
        metadata_done && marked && sealed
    }

    /// Goes on with the full segments that could not be sealed before.
    pub(super) fn seal_full(&mut self, out: &mut Vec<DiskOp>) {
        let full = self.segments.len().saturating_sub(1);
        for index in 0..full {
            let segment = &self.segments[index];
            let written = segment.stage == FileStage::Open && segment.written == segment.size;
            if written && self.fault.is_none() {
                self.is_sealed(index, out);
            }
        }
    }

    /// Sees to it that a full segment becomes durable and exact.
    pub(super) fn is_sealed(&mut self, index: usize, out: &mut Vec<DiskOp>) -> bool {
        let segment = &mut self.segments[index];
        match segment.stage {
            FileStage::Sealed => return true,
            FileStage::Sealing => return false,
            FileStage::Absent | FileStage::Creating | FileStage::Naming | FileStage::Open => {}
        }
        if segment.allocating {
            // It would be done behind the trim, and leave the full segment longer than it is.
            return false;
        }
        segment.stage = FileStage::Sealing;
        let (base, file) = (segment.base, segment.file.clone());
        if self.durable >= segment.end {
            self.trim(base, out);
        } else {
            out.push(DiskOp::Sync {
                id: self.ops.start(Job::SealSync { segment: base }),
                file,
            });
        }
        false
    }

    /// A full segment was synced.
    pub(super) fn seal_synced(
        &mut self,
        base: Offset,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let end = self.segment(base).end;
        if self.durable < end {
            self.durable = end;
            self.commit_what_is_durable();
            events.push(Event::Committed);
        }
        if !self.tail.syncing {
            self.tail.unsynced_records = 0;
            self.tail.unsynced_bytes = 0;
            self.tail.unsynced_since = None;
        }
        self.trim(base, out);
    }

    fn trim(&mut self, base: Offset, out: &mut Vec<DiskOp>) {
        let (file, size) = (self.segment(base).file.clone(), self.segment(base).size);
        out.push(DiskOp::Truncate {
            id: self.ops.start(Job::Trim { segment: base }),
            file,
            size,
        });
    }

    /// A full segment has its exact length: its index is written, which nobody waits for.
    pub(super) fn trimmed(&mut self, base: Offset, out: &mut Vec<DiskOp>) {
        let segment = self.segment_mut(base);
        segment.stage = FileStage::Sealed;
        segment.allocated = segment.size;
        self.save_index(base, out);
        self.drop_segments_below_start(out);
    }

    /// Writes the index file of a full segment.
    pub(super) fn save_index(&mut self, base: Offset, out: &mut Vec<DiskOp>) {
        let segment = self.segment(base);
        let IndexState::Memory(index) = &segment.index else {
            return;
        };
        let contents = index.to_file(base, segment.size).into();
        let file = segment.index_file();
        out.push(DiskOp::ReplaceFile {
            id: self.ops.start(Job::IndexSaved),
            file,
            contents,
        });
    }

    fn allocate(&mut self, index: usize, needed: u64, out: &mut Vec<DiskOp>) {
        // Whole steps: recovery knows by its length whether a file may have been about to grow.
        let limit =
            (u64::from(self.options.segment_bytes) + BLOCK as u64).next_multiple_of(STEP_MIN);
        if self.segments[index].allocating {
            return;
        }
        let step = self.growth(needed);
        // What a journal brings is not made durable write by write.
        let zeroed = self.is_zeroed_ahead() && !self.tail.short && !self.tail.journaled;
        let segment = &mut self.segments[index];
        let ample = needed.next_multiple_of(step).min(limit).max(needed);
        let size = if self.tail.short { needed } else { ample };
        let from_reserve = self.tail.short || self.options.from_reserve;
        segment.allocating = true;
        // The first blocks of a file are waited for, and many logs never need more.
        let grows = segment.stage == FileStage::Open;
        let zeros_from = (zeroed && grows).then_some(segment.allocated);
        let (base, file) = (segment.base, segment.file.clone());
        let id = self.ops.start(Job::Allocate {
            segment: base,
            size,
            from_reserve,
        });
        out.push(DiskOp::Allocate {
            id,
            file,
            size,
            zeros_from: zeros_from.filter(|from| from.is_multiple_of(BLOCK as u64)),
            from_reserve,
        });
    }

    fn is_zeroed_ahead(&self) -> bool {
        self.tail.usual <= ZEROED_WRITE_BYTES_MAX && self.options.flush_messages <= 1
    }

    /// By how much a file grows that has `used` bytes.
    fn growth(&self, used: u64) -> u64 {
        let max = if self.is_zeroed_ahead() {
            ZEROED_STEP_MAX
        } else {
            STEP_MAX
        };
        (used.next_power_of_two().min(max) >> self.tail.smaller).max(STEP_MIN)
    }

    /// What was to be allocated would take from the reserve: half of it is tried, until the
    /// smallest step does not fit. Then only the reserve is left.
    pub(super) fn take_smaller_steps(&mut self, events: &mut Vec<Event>) {
        let used = self.segments.last().map_or(0, |active| active.allocated);
        if self.growth(used + 1) > STEP_MIN {
            self.tail.smaller += 1;
        } else if !std::mem::replace(&mut self.tail.short, true) {
            events.push(Event::SpaceShort);
        }
    }

    /// Grows the file before it has to be waited for: when half a step is left.
    fn grow_ahead(&mut self, base: Offset, used: u64, out: &mut Vec<DiskOp>) {
        let index = self.segment_index(base);
        let segment = &self.segments[index];
        let step = self.growth(used);
        let room = u64::from(self.options.segment_bytes) > segment.allocated && !self.tail.short;
        let active = index + 1 == self.segments.len();
        if active && room && segment.allocated < used + step / 2 {
            self.allocate(index, segment.allocated + 1, out);
        }
    }

    /// The file grew.
    pub(super) fn allocated(&mut self, base: Offset, size: u64, out: &mut Vec<DiskOp>) {
        let directory = self.directory.clone();
        let segment = self.segment_mut(base);
        segment.allocating = false;
        segment.allocated = segment.allocated.max(size);
        if segment.stage == FileStage::Creating {
            segment.stage = FileStage::Naming;
            let id = self.ops.start(Job::Names { segment: base });
            out.push(DiskOp::SyncDirectory { id, directory });
        } else {
            self.seal_full(out);
        }
    }

    /// An operation that writes nothing of ours failed: a full disk is asked again later, anything
    /// else fences the log.
    pub(super) fn refused(&mut self, now: Now, fault: DiskFault, events: &mut Vec<Event>) {
        if fault.kind == FaultKind::NoSpace {
            self.tail.space_retry = Some(now.mono.after_ms(SPACE_RETRY_MS));
            events.push(Event::SpaceGone);
        } else {
            self.fence(Fault::Disk(fault), events);
        }
    }

    /// The write in flight is done.
    pub(super) fn written(
        &mut self,
        now: Now,
        journaled: bool,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let Some(flight) = self.tail.flight.take() else {
            return;
        };
        self.tail.journaled = journaled;
        let segment = self.segment_mut(flight.segment);
        segment.home = match (journaled, segment.home) {
            (true, None) => Some(segment.written),
            (true, home) => home,
            // The journal lets a write past it only when all before is home.
            (false, _) => None,
        };
        segment.written = flight.to;
        self.written_end = flight.end;
        if flight.durable && self.tail.is_synced() {
            self.durable = flight.end;
            self.tail.durable_mark = (flight.segment, flight.to);
        } else {
            self.tail.unsynced_records += flight.records;
            self.tail.unsynced_bytes += flight.bytes;
            self.tail.unsynced_since.get_or_insert(now.mono);
        }
        self.commit_what_is_durable();
        self.tail.since_checkpoint += flight.bytes;
        if self.tail.since_checkpoint >= CHECKPOINT_BYTES {
            self.tail.since_checkpoint = 0;
            self.tail.checkpoint_wanted = true;
        }
        events.push(Event::Committed);
        self.sync_if_due(now, out);
    }

    /// What the flush policy lets be acknowledged.
    fn commit_what_is_durable(&mut self) {
        let relaxed = self.options.flush_messages > 1;
        self.committed = self.committed.max(if relaxed {
            self.written_end
        } else {
            self.durable
        });
    }

    /// Issues a sync of a relaxed log's writes once its policy, a checkpoint or the close asks.
    pub(super) fn sync_if_due(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        let tail = &self.tail;
        if tail.syncing || tail.unsynced_records == 0 || self.fault.is_some() {
            return;
        }
        let since = tail.unsynced_since.unwrap_or(now.mono);
        let due = tail.unsynced_records >= self.options.flush_messages
            || tail.unsynced_bytes >= UNSYNCED_BYTES_MAX
            || since.after_ms(self.options.flush_ms) <= now.mono
            || self.keeper.waits_for(self.durable)
            || self.stage == Stage::Closing;
        if due {
            self.sync_written(out);
        }
    }

    /// Issues a sync of all that was written, unless one is in flight or nothing needs it.
    pub(super) fn sync_written(&mut self, out: &mut Vec<DiskOp>) {
        let tail = &self.tail;
        if tail.syncing || tail.unsynced_records == 0 || self.fault.is_some() {
            return;
        }
        let index = self.segment_of_written();
        let segment = &self.segments[index];
        if segment.stage != FileStage::Open {
            return;
        }
        let job = Job::Sync {
            segment: segment.base,
            position: segment.written,
            end: self.written_end,
            records: tail.unsynced_records,
            bytes: tail.unsynced_bytes,
        };
        let file = segment.file.clone();
        self.tail.syncing = true;
        self.tail.unsynced_since = None;
        out.push(DiskOp::Sync {
            id: self.ops.start(job),
            file,
        });
    }

    /// The segment that holds the last written record.
    pub(super) fn segment_of_written(&self) -> usize {
        let after = self
            .segments
            .partition_point(|segment| segment.base < self.written_end);
        after.saturating_sub(1)
    }

    /// A sync is done.
    pub(super) fn synced(
        &mut self,
        now: Now,
        job: Job,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let Job::Sync {
            segment,
            position,
            end,
            records,
            bytes,
        } = job
        else {
            return;
        };
        let tail = &mut self.tail;
        tail.syncing = false;
        tail.unsynced_records -= records;
        tail.unsynced_bytes -= bytes;
        if tail.unsynced_records > 0 {
            tail.unsynced_since.get_or_insert(now.mono);
        } else {
            tail.unsynced_since = None;
        }
        self.durable = self.durable.max(end);
        self.tail.durable_mark = self.tail.durable_mark.max((segment, position));
        self.commit_what_is_durable();
        events.push(Event::Committed);
        self.drop_segments_below_start(out);
        self.sync_if_due(now, out);
    }
}
