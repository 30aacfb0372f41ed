//! The operations in flight: which completion belongs to which piece of work.

use std::collections::BTreeMap;

use crate::base::{FilePath, Offset, OpId};

use super::compaction::Step;
use super::face::FileRange;

/// What a completion means to the log.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// The partition's directory is made.
    Directory,
    /// `partition.metadata` is in place.
    Metadata,
    /// The segment's file has at least `size` bytes.
    Allocate {
        segment: Offset,
        size: u64,
        from_reserve: bool,
    },
    /// The segment's name is durable.
    Names { segment: Offset },
    /// The gather in flight is written.
    Write,
    /// Everything below `end` was written before this sync began.
    Sync {
        segment: Offset,
        position: u64,
        end: Offset,
        records: i64,
        bytes: u64,
    },
    /// The full segment is on stable storage and may be trimmed.
    SealSync { segment: Offset },
    /// The full segment has its exact length.
    Trim { segment: Offset },
    /// The preallocated end of the active segment is gone: the log is closing.
    CloseTrim { size: u64 },
    /// The checkpoint file is replaced.
    Checkpoint,
    /// An index file is in place; a failure only means that it is rebuilt one day.
    IndexSaved,
    /// The contents of an index file.
    IndexLoad { segment: Offset },
    /// A chunk of a segment whose index is being rebuilt.
    IndexScan { segment: Offset, at: u64 },
    /// Bytes for the cache.
    Fill(FileRange),
    /// A deleted segment's file got its other name.
    Retire { file: FilePath },
    /// A file that nobody needs is gone, or not.
    Removed,
    /// The directory got its other name, to be removed unless it is `kept`.
    DeleteRename { renamed: FilePath, kept: bool },
    /// Whose directory is in the place of a new log.
    Whose,
    /// The same, of one that does not say: what it holds.
    Inside,
    /// What was in the log's place got another name, to be removed unless it is `kept`.
    MoveAway { renamed: FilePath, kept: bool },
    /// The answer to an empty close or delete.
    Nothing,
    /// A step of recovery.
    Open(OpenStep),
    /// A step of the log's compaction.
    Compact(Step),
}

/// The steps of recovery that wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenStep {
    /// The names in the directory.
    List,
    /// `partition.metadata`.
    Metadata,
    /// The checkpoint.
    Checkpoint,
    /// A sync, trim or removal that must be over before the next step.
    Settle,
    /// A chunk for the scan, from this position of the current segment.
    Scan { at: u64 },
    /// A chunk for the search behind bad bytes.
    Search { at: u64 },
    /// The tail of the active segment.
    Tail { at: u64 },
    /// What a compaction left is put right.
    Compaction,
    /// A file that a crash left half-made is removed, if it can be.
    Sweep,
}

/// Hands out operation ids and remembers what each is for.
#[derive(Debug)]
pub(super) struct Ops {
    owner: u32,
    next: u32,
    jobs: BTreeMap<u32, Job>,
}

impl Ops {
    pub(super) fn new(owner: u32) -> Ops {
        Ops {
            owner,
            next: 0,
            jobs: BTreeMap::new(),
        }
    }

    /// An id for `job`, which is in flight from now on.
    pub(super) fn start(&mut self, job: Job) -> OpId {
        while self.jobs.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let sequence = self.next;
        self.jobs.insert(sequence, job);
        self.next = self.next.wrapping_add(1);
        OpId {
            owner: self.owner,
            sequence,
        }
    }

    /// True when nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The job that `id` was started for; none for an id that is not ours.
    pub(super) fn finish(&mut self, id: OpId) -> Option<Job> {
        if id.owner != self.owner {
            return None;
        }
        self.jobs.remove(&id.sequence)
    }

    /// True while a fill of exactly this range is in flight.
    pub(super) fn filling(&self, range: &FileRange) -> bool {
        self.jobs
            .values()
            .any(|job| matches!(job, Job::Fill(other) if other == range))
    }

    /// True while bytes of this file are on their way into the cache.
    pub(super) fn reading(&self, file: &FilePath) -> bool {
        self.jobs
            .values()
            .any(|job| matches!(job, Job::Fill(range) if range.file == *file))
    }

    /// True while a sync of the segment of this base offset is in flight.
    pub(super) fn syncing(&self, base: Offset) -> bool {
        self.jobs
            .values()
            .any(|job| matches!(job, Job::Sync { segment, .. } if *segment == base))
    }

    /// True while the index of the segment of this base offset is being made again, or may have to
    /// be: it is loaded, and a load that fails is followed by a scan of the segment.
    pub(super) fn scanning(&self, base: Offset) -> bool {
        self.jobs.values().any(|job| {
            matches!(job, Job::IndexScan { segment, .. } | Job::IndexLoad { segment } if *segment == base)
        })
    }
}
