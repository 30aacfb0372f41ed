//! Compaction: of each key only the newest value stays (`cleanup.policy=compact`).
//!
//! A round reads the dirty segments and notes where each key was written last, then goes over all
//! full segments up to there and writes what stays into new ones, one for each group of neighbours
//! that fit together. It advances only when it is called ([`Log::compact`]), a slice at a time, has
//! one disk operation in flight, and can be given up between any two of them: until a new segment is
//! swapped in, nothing has happened.
//!
//! What holds: offsets and order stay; the active segment, what is not stable and what the
//! checkpoint does not count as full are not touched; a new segment begins and ends at the offsets of
//! those that it replaces, with an empty batch at its end if need be, so that there are gaps inside
//! segments but none between them.
//!
//! ```text
//! <base>.cleaned             being written; a start removes it
//! <base>-<end>.swap          whole, on stable storage, in place of all segments from base to end
//! <base>.log.deleted         replaced; removed after file.delete.delay.ms
//! compaction                 up to where the log is clean; says that there may be gaps; derived
//! ```
//!
//! The swap, each step durable before the next begins: `.cleaned` becomes `.swap`; the log reads from
//! it; the checkpoint counts it; the replaced files get their other names, once nobody can still
//! open them by the old ones; `.swap` gets the name of the first of them. A start finds a `.swap` that
//! the checkpoint counts, or has no checkpoint, and goes on; or that the checkpoint does not count,
//! when every replaced file is still there, and removes it.
//!
//! | file | what it does |
//! |---|---|
//! | `plan` | how dirty a log is, and how far a round may go |
//! | `round`, `copying` | the round: gathers keys, writes what stays |
//! | `keys`, `filter`, `transactions` | where keys were written last; what stays of a batch |
//! | `output`, `swap` | the new file, and how it takes its place |
//! | `note`, `restore` | the file `compaction`; what a crash left |
//!
//! Knows no clock, no rate limit, no other log, and does not decide when: see `shard`.

mod copying;
mod filter;
mod keys;
mod note;
mod output;
mod plan;
mod restore;
mod round;
mod swap;
mod transactions;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::base::{DiskOp, FilePath, Mono, Now, Offset, ProducerId};

use super::face::Event;
use super::ops::Job;
use super::{Log, Stage};

pub use filter::LastBatch;
pub use plan::Dirtiness;
pub use swap::settled_name;
pub use transactions::AbortedTransaction;

pub(super) use note::NAME as NOTE;
pub(super) use output::UNFINISHED;
pub(super) use restore::Restore;
pub(super) use swap::is_swap;

use round::Round;
use swap::Swap;

/// What a round is started with.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The last stable offset: nothing above is touched.
    pub stable: Offset,
    /// The most memory for the keys, in bytes (`log.cleaner.dedupe.buffer.size`).
    pub key_bytes_max: usize,
    /// How full their table may get, 0 to 1 (`log.cleaner.io.buffer.load.factor`).
    pub load_factor: f64,
    /// A secret of this process, for the hash of keys.
    pub secret: (u64, u64),
    /// The newest batch of each producer that is remembered.
    pub producers: BTreeMap<ProducerId, LastBatch>,
    /// The aborted transactions of the log.
    pub aborted: Vec<AbortedTransaction>,
}

/// How a slice of a round ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// There is more to do at once.
    More,
    /// The disk has something to do first: [`Event::CompactionDue`] follows.
    Waiting,
    /// Readers or the checkpoint have to get out of the way first: look again soon.
    Blocked,
    /// The round is over.
    Done(Box<Compacted>),
    /// The round was given up; nothing is lost.
    GivenUp(Abandoned),
    /// There is no round.
    Idle,
}

/// Why a round was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// The log is being closed, deleted, shortened, or is compacted no longer.
    Changed,
    /// The disk is full.
    NoSpace,
    /// The disk failed an operation on the new file.
    DiskFault,
    /// A batch holds what should not be there: this log is left alone until the next start.
    Unreadable,
}

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compacted {
    /// The first offset that was dirty.
    pub from: Offset,
    /// The first offset that is dirty now.
    pub to: Offset,
    /// Bytes read while keys were gathered.
    pub mapped_bytes: u64,
    /// Bytes of batches before.
    pub bytes_before: u64,
    /// Bytes of batches after.
    pub bytes_after: u64,
    /// Records before.
    pub records_before: u64,
    /// Records after.
    pub records_after: u64,
    /// Segments before.
    pub segments_before: u64,
    /// Segments after.
    pub segments_after: u64,
    /// How full the table of keys was, in percent.
    pub keys_percent: u32,
    /// From the beginning of the round to its end.
    pub took: Duration,
}

/// A disk operation of a round or a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A chunk of a source.
    Read { round: u32 },
    /// On the way of the new file to its name.
    Work { round: u32 },
    /// The new file of an abandoned round is gone.
    Leftover,
    /// A replaced file of the swap of this number has its other name.
    Retired { swap: u64, file: FilePath },
    /// The new file has its final name.
    Named { swap: u64 },
    /// The note is written; up to where the log is clean.
    Noted { cleaned_to: Option<Offset> },
}

/// A log's compaction.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// Below it the log is clean, as far as known.
    pub cleaned_to: Option<Offset>,
    /// The note is on the disk: recovery knows that there may be gaps.
    pub noted: bool,
    round: Option<Box<Round>>,
    rounds: u32,
    /// Operations of rounds and swaps that are not done yet.
    in_flight: usize,
    /// The file of a round that was given up.
    leftover: Option<FilePath>,
    swaps: VecDeque<Swap>,
    /// How many swaps the log has made in memory, and how many of them the checkpoint counts.
    pub replaced: u64,
    pub kept: u64,
    /// When somebody who may hold a replaced file's name is looked at again.
    look_again: Option<Mono>,
    unreadable: bool,
}

impl Compaction {
    /// True while another round cannot begin.
    fn is_busy(&self) -> bool {
        self.round.is_some() || self.is_moving() || !self.swaps.is_empty() || self.unreadable
    }

    /// True while one of its operations is in flight or has to be.
    pub(super) fn is_moving(&self) -> bool {
        self.in_flight > 0 || self.leftover.is_some()
    }

    /// True while a disk operation of its own is in flight.
    pub(super) fn is_flying(&self) -> bool {
        self.in_flight > 0
    }

    /// The log cannot be cleaned: a batch in it is not readable.
    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// When the log has to be ticked for it.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.look_again
    }
}

impl Log {
    /// True when a batch that cannot be read keeps the log from being cleaned.
    pub fn is_uncleanable(&self) -> bool {
        self.compaction.is_unreadable()
    }

    /// Below it the log is clean, as far as a round has come.
    pub fn cleaned_to(&self) -> Option<Offset> {
        self.compaction.cleaned_to
    }

    /// Bytes of memory that the round in progress holds for its keys.
    pub fn compaction_bytes(&self) -> usize {
        self.compaction
            .round
            .as_ref()
            .map_or(0, |round| round.key_bytes())
    }

    pub(super) fn start_step(&mut self, step: Step) -> crate::base::OpId {
        self.compaction.in_flight += 1;
        self.ops.start(Job::Compact(step))
    }

    /// What the log has to do for its compaction between two events.
    pub(super) fn go_on_compacting(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        let serving = self.stage == Stage::Ready && self.fault.is_none();
        if !serving {
            return;
        }
        if self.compaction.in_flight == 0
            && let Some(file) = self.compaction.leftover.take()
        {
            let id = self.start_step(Step::Leftover);
            out.push(DiskOp::Remove { id, file });
        }
        self.advance_swaps(now, out);
    }

    /// The round in progress comes to nothing: its new file goes as soon as nothing writes to it.
    pub(super) fn give_up_round(&mut self, events: &mut Vec<Event>) {
        if let Some(round) = self.compaction.round.take() {
            self.compaction.leftover = round.unfinished();
            events.push(Event::CompactionDue);
        }
    }
}
