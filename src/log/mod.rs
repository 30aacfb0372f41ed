//! One partition's log: segments of record batches v2, exactly as on the wire. Lives on one core.
//!
//! A machine: appends, reads and [`DiskDone`]s go in, [`DiskOp`]s and [`Event`]s come out. Knows no
//! network, no clock, no consumer, no high watermark, and of producers only an opaque snapshot.
//!
//! Invariants: `start <= durable <= committed <= end`; a byte below `committed` never changes; at
//! most one write is in flight; nothing is acknowledged after a failed write or sync, and neither
//! is tried again.
//!
//! ```text
//! <topic>-<partition>/partition.metadata          whose files these are (Kafka's format)
//!                     00000000000000000000.log    batches; while active: preallocated, with a trailer
//!                     00000000000000000000.index  derived, of a full segment
//!                     checkpoint                  where recovery begins; derived
//!                     compaction                  up to where the log is clean; derived
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `tail` | gathers appends into writes; makes, grows and seals files |
//! | `trailer` | the mark at the end of a write; tells a torn write from damage |
//! | `recovery`, `scan`, `search` | opens a directory; goes over its batches; looks at what lies behind bad bytes |
//! | `read` | finds batches, by offset and by time |
//! | `keeper`, `checkpoint` | the checkpoint file, and the clean close |
//! | `retention` | the start offset, deletion of segments |
//! | `removal` | deletion of the directory, and of what another topic left in its place |
//! | `compaction` | of each key only the newest value stays |
//! | `segment`, `index`, `epochs`, `cache`, `ops`, `sealed_file` | the parts |
//! | `inspect`, `inspect_derived`, `repair` | look at the files from outside, and save what can be saved |

mod cache;
mod checkpoint;
mod compaction;
mod epochs;
mod face;
mod index;
mod inspect;
mod inspect_derived;
mod keeper;
mod ops;
mod read;
mod recovery;
mod removal;
mod repair;
mod retention;
mod scan;
mod sealed_file;
mod search;
mod segment;
mod setup;
mod tail;
mod trailer;

#[cfg(test)]
mod tests;

pub use compaction::{
    Abandoned, AbortedTransaction, Assignment, Compacted, Dirtiness, LastBatch, Progress,
    settled_name,
};
pub use face::{
    AppendRefused, Appended, Event, Fault, FileRange, Hold, Lookup, Options, Read, Slice,
};
pub use inspect::{Inspected, Problem, Report, inspect};
pub use inspect_derived::{
    CHECKPOINT_NAME, CheckpointReport, IndexReport, inspect_checkpoint, inspect_index,
};
pub use removal::{DELETED_SUFFIX, STRAY_SUFFIX, moved_away_name};
pub use repair::{Lost, Repaired, repair, repaired_checkpoint, start_checkpoint};
pub use setup::{METADATA as METADATA_NAME, topic_of};
pub use tail::SPACE_RETRY_MS;

use crate::base::{
    DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, LeaderEpoch, Mono, Now, Offset,
    Pool, TopicId, Wall,
};

use cache::Cache;
use compaction::Compaction;
use epochs::Epochs;
use keeper::Keeper;
use ops::{Job, Ops};
use recovery::Recovery;
use retention::Trash;
use segment::{FileStage, Segment};
use setup::Setup;
use tail::Tail;

/// What the log is doing as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opening,
    Ready,
    Closing,
    Closed,
    Deleting,
    Deleted,
}

/// One partition's log.
pub struct Log {
    directory: FilePath,
    topic: TopicId,
    options: Options,
    pool: Pool,
    ops: Ops,
    stage: Stage,
    setup: Setup,
    /// In order of base offset; the last one is active. Never empty once the log is ready.
    segments: Vec<Segment>,
    tail: Tail,
    cache: Cache,
    epochs: Epochs,
    keeper: Keeper,
    trash: Trash,
    compaction: Compaction,
    recovery: Option<Box<Recovery>>,
    /// Another topic's directory was found in its place, and is there yet.
    foreign: Option<TopicId>,
    start: Offset,
    durable: Offset,
    committed: Offset,
    /// Below it all writes are done.
    written_end: Offset,
    end: Offset,
    fault: Option<Fault>,
    /// The fault is found, but its event has not been given out yet.
    fault_untold: bool,
    /// What a fenced log cannot be given: asking again would go on for ever.
    hopeless: Vec<FileRange>,
    scratch: crate::record::Scratch,
}

impl Log {
    /// The directory that it lives in.
    pub fn directory(&self) -> &FilePath {
        &self.directory
    }

    /// A log without any file: directory and first segment are made by the first append, so that a
    /// created topic costs no I/O. Ready at once. `owner` goes into each [`DiskOp`]'s id.
    pub fn new(
        directory: FilePath,
        owner: u32,
        topic: TopicId,
        options: Options,
        pool: Pool,
    ) -> Log {
        let first = Segment::absent(&directory, Offset(0), Wall(0));
        Log {
            directory,
            topic,
            options,
            pool,
            ops: Ops::new(owner),
            stage: Stage::Ready,
            setup: Setup::default(),
            segments: vec![first],
            tail: Tail::default(),
            cache: Cache::default(),
            epochs: Epochs::default(),
            keeper: Keeper::default(),
            trash: Trash::default(),
            compaction: Compaction::default(),
            recovery: None,
            foreign: None,
            start: Offset(0),
            durable: Offset(0),
            committed: Offset(0),
            written_end: Offset(0),
            end: Offset(0),
            fault: None,
            fault_untold: false,
            hopeless: Vec::new(),
            scratch: crate::record::Scratch::new(),
        }
    }

    /// Opens what is in `directory`, recovering as needed. [`Event::Ready`], [`Event::Foreign`] or
    /// [`Event::Fenced`] comes from [`Log::handle_disk`]; until then appends are refused and reads find
    /// nothing.
    pub fn open(
        directory: FilePath,
        owner: u32,
        topic: TopicId,
        options: Options,
        pool: Pool,
        out: &mut Vec<DiskOp>,
    ) -> Log {
        let mut log = Log::new(directory, owner, topic, options, pool);
        log.stage = Stage::Opening;
        log.begin_recovery(out);
        log
    }

    /// Takes the outcome of one operation, in any order.
    pub fn handle_disk(
        &mut self,
        now: Now,
        done: DiskDone,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let Some(job) = self.ops.finish(done.id) else {
            return;
        };
        match done.result {
            Ok(output) => self.succeeded(now, job, output, out, events),
            Err(fault) => self.failed(now, job, fault, out, events),
        }
        self.go_on(now, out, events);
    }

    fn succeeded(
        &mut self,
        now: Now,
        job: Job,
        output: DiskOutput,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        match job {
            Job::Open(step) => self.recover(step, Ok(output), out, events),
            Job::Directory => match output {
                DiskOutput::Existed => self.look_whose(out),
                _ => self.setup.directory_made(),
            },
            Job::Whose => self.known_whose(now, Ok(output), out, events),
            Job::Inside => self.known_inside(&output, out),
            Job::MoveAway { renamed, kept } => {
                self.moved_out_of_the_way(renamed, kept, out, events);
            }
            Job::Metadata => self.setup.metadata_written(),
            Job::Allocate { segment, size, .. } => self.allocated(segment, size, out),
            Job::Names { segment } => {
                self.segment_mut(segment).stage = FileStage::Open;
                self.retire_below_durable_start(out);
            }
            Job::Write => {
                let journaled = matches!(output, DiskOutput::Journaled);
                self.written(now, journaled, out, events);
            }
            Job::Sync { .. } => self.synced(now, job, out, events),
            Job::SealSync { segment } => self.seal_synced(segment, out, events),
            Job::Trim { segment } => self.trimmed(segment, out),
            Job::CloseTrim { size } => self.close_trimmed(size),
            Job::Checkpoint => self.kept(out, events),
            Job::IndexLoad { segment } => self.index_loaded(segment, &output, out, events),
            Job::IndexScan { segment, at } => self.index_scanned(segment, at, &output, out, events),
            Job::Fill(range) => self.filled(&range, output, events),
            Job::Retire { file } => self.retired(now, file, out),
            Job::DeleteRename { renamed, kept } => self.renamed_away(renamed, kept, out, events),
            Job::Compact(step) => self.compaction_done(now, step, output, out, events),
            Job::IndexSaved | Job::Removed | Job::Nothing => {}
        }
    }

    fn failed(
        &mut self,
        now: Now,
        job: Job,
        fault: DiskFault,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        match job {
            Job::Open(step) => self.recover(step, Err(fault), out, events),
            Job::Directory => {
                self.setup.directory_failed();
                self.refused(now, fault, events);
            }
            Job::Metadata => {
                self.setup.metadata_failed();
                self.refused(now, fault, events);
            }
            Job::Allocate {
                segment,
                from_reserve,
                ..
            } => {
                let segment = self.segment_mut(segment);
                segment.allocating = false;
                if segment.stage == FileStage::Creating {
                    segment.stage = FileStage::Absent;
                }
                if fault.kind == FaultKind::NoSpace && !from_reserve {
                    self.take_smaller_steps(events);
                } else {
                    self.refused(now, fault, events);
                }
            }
            Job::Checkpoint => {
                self.keep_again_later();
                self.refused(now, fault, events);
            }
            Job::Write => {
                self.tail.landed_badly();
                self.fence(Fault::Disk(fault), events);
            }
            Job::Names { .. }
            | Job::Sync { .. }
            | Job::SealSync { .. }
            | Job::Trim { .. }
            | Job::CloseTrim { .. } => {
                self.tail.landed_badly();
                self.fence(Fault::Disk(fault), events);
            }
            Job::IndexLoad { segment } => self.rebuild_index(segment, out, events),
            Job::IndexScan { segment, .. } => {
                if self.segments.iter().any(|other| other.base == segment) {
                    self.fence(Fault::Disk(fault), events);
                    self.index_is_hopeless(segment);
                }
                events.push(Event::Filled);
            }
            Job::Fill(range) => {
                // A segment that was deleted meanwhile is not missed: the reader looks again.
                if self
                    .segments
                    .iter()
                    .any(|segment| segment.file == range.file)
                {
                    self.fence(Fault::Disk(fault), events);
                    self.hopeless.push(range);
                }
                events.push(Event::Filled);
            }
            Job::DeleteRename { renamed, kept } if fault.kind == FaultKind::NotFound => {
                self.renamed_away(renamed, kept, out, events);
            }
            Job::DeleteRename { .. } => events.push(Event::NotDeleted(fault)),
            Job::Whose => self.known_whose(now, Err(fault), out, events),
            Job::Inside => self.stays_in_the_way(now, fault, events),
            Job::MoveAway { renamed, kept } if fault.kind == FaultKind::NotFound => {
                self.moved_out_of_the_way(renamed, kept, out, events);
            }
            Job::MoveAway { .. } => self.stays_in_the_way(now, fault, events),
            Job::Compact(step) => self.compaction_failed(step, fault, events),
            Job::Retire { file } if fault.kind == FaultKind::NotFound => {
                self.retired(now, file, out);
            }
            Job::Retire { .. } => self.not_retired(),
            Job::IndexSaved | Job::Removed | Job::Nothing => {}
        }
    }

    /// What may have become possible.
    fn go_on(&mut self, now: Now, out: &mut Vec<DiskOp>, events: &mut Vec<Event>) {
        if std::mem::take(&mut self.fault_untold) {
            events.extend(self.fault.clone().map(Event::Fenced));
        }
        self.pump(now, out);
        self.sync_if_due(now, out);
        self.keep(out);
        self.go_on_compacting(now, out);
        if std::mem::take(&mut self.tail.checkpoint_wanted) && self.stage == Stage::Ready {
            events.push(Event::CheckpointWanted);
        }
        self.close_further(out, events);
        self.delete_when_quiet(out);
    }

    /// Time went by: the sync of `flush.ms`, the removal of deleted files, a full disk tried again.
    pub fn tick(&mut self, now: Now, out: &mut Vec<DiskOp>, events: &mut Vec<Event>) {
        if self.tail.space_retry.is_some_and(|at| at <= now.mono) {
            self.tail.space_retry = None;
            self.probe_space(out);
        }
        self.empty_trash(now, out);
        self.go_on(now, out, events);
    }

    /// When [`Log::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Mono> {
        // While the segment is being sealed its own sync is in flight: a deadline in the past would
        // make the core's timers go round for ever.
        let written = self.segments.get(self.segment_of_written());
        let can_sync = written.is_some_and(|segment| segment.stage == FileStage::Open);
        let flush_ms = if can_sync {
            self.options.flush_ms
        } else {
            i64::MAX
        };
        let tail = self
            .tail
            .deadline(flush_ms)
            .filter(|_| self.fault.is_none());
        let compaction = self.compaction.deadline();
        tail.into_iter()
            .chain(self.trash.deadline())
            .chain(compaction)
            .min()
    }

    /// Nothing is accepted any more. Only the first fault counts.
    fn fence(&mut self, fault: Fault, events: &mut Vec<Event>) {
        if self.fault.is_some() {
            return;
        }
        self.tail.abandon();
        events.push(Event::Fenced(fault.clone()));
        self.fault = Some(fault);
    }

    /// Its data directory is of no use any more: the log is fenced without having failed itself.
    pub fn give_up_on(&mut self, fault: Fault, events: &mut Vec<Event>) {
        if matches!(self.stage, Stage::Opening | Stage::Ready | Stage::Closing) {
            self.fence(fault, events);
        }
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> Offset {
        self.start
    }

    /// The offset that the next record gets: Kafka's log end offset.
    pub fn end_offset(&self) -> Offset {
        self.end
    }

    /// Below it, all may be acknowledged by the flush policy: it is on stable storage
    /// (`flush.messages` of 1), or written.
    pub fn committed_end(&self) -> Offset {
        self.committed
    }

    /// Below it, all is on stable storage.
    pub fn durable_end(&self) -> Offset {
        self.durable
    }

    /// The largest leader epoch not above `epoch`, and the offset where it ends: the answer of
    /// OffsetForLeaderEpoch (KIP-320). None for an epoch above all known ones.
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_of(epoch, self.end)
    }

    /// New options, from now on.
    pub fn set_options(&mut self, options: Options) {
        // A round of a log that is compacted no longer notices at its next slice.
        self.options = options;
    }

    /// Whether the data directory has nothing left but its reserve. Then appends are refused.
    pub fn set_short(&mut self, short: bool) {
        self.tail.short = short && !self.options.from_reserve;
        self.tail.smaller = 0;
        if !short && self.tail.space_retry.is_some() {
            self.tail.space_retry = Some(Mono(0));
        }
    }

    /// The journal has brought what it holds of `file` home, below `upto`; `None`: all of it.
    pub fn brought_home(&mut self, file: &FilePath, upto: Option<u64>) {
        let segment = self.segments.iter_mut().rev();
        if let Some(segment) = segment.into_iter().find(|segment| segment.file == *file) {
            segment.home = match (segment.home, upto) {
                (Some(before), Some(upto)) => Some(before.max(upto)),
                (None, _) | (_, None) => None,
            };
        }
    }

    /// True when none of its disk operations is in flight.
    pub fn is_quiet(&self) -> bool {
        self.ops.is_empty()
    }

    /// Why the log is fenced.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    fn segment_index(&self, base: Offset) -> usize {
        self.segments.partition_point(|segment| segment.base < base)
    }

    fn segment(&self, base: Offset) -> &Segment {
        &self.segments[self.segment_index(base)]
    }

    fn segment_mut(&mut self, base: Offset) -> &mut Segment {
        let index = self.segment_index(base);
        &mut self.segments[index]
    }
}
