//! Opens a directory: decides what is there, what is torn and what is damaged.
//!
//! ```text
//! list, partition.metadata, checkpoint -> sync -> scan (-> search behind bad bytes) -> trim -> tail
//! ```
//!
//! The scan goes over everything that the checkpoint does not vouch for, in chunks, and accepts
//! batches while length, CRC, magic and the chain of offsets and epochs hold. Kafka's CRC covers
//! neither offset nor epoch nor length, so the chain is what protects those; a leader epoch that was
//! damaged upwards is only noticed at the batch behind it. At the first bad byte
//! the search looks for evidence in all that follows, and [`super::trailer::judge`] decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::{
    BLOCK, Buf, DirectoryEntry, DiskFault, DiskOp, DiskOutput, FaultKind, Offset, TopicId, Wall,
};

use super::checkpoint::{self, Checkpoint, Sealed};
use super::compaction::{self, Restore};
use super::epochs::Epochs;
use super::face::{Event, Fault};
use super::index::Index;
use super::keeper::Keeper;
use super::ops::{Job, OpenStep};
use super::search::Search;
use super::segment::{FileStage, IndexState, Segment, Walk, base_of, file_name};
use super::setup::{self, Setup};
use super::tail::CHECKPOINT_BYTES;
use super::{Log, Stage};

/// The largest `partition.metadata` that is read.
const METADATA_BYTES_MAX: usize = 4096;

/// What happens with the file of a segment that is not scanned yet.
#[derive(Debug)]
pub(super) struct Found {
    pub base: Offset,
    pub size: u64,
}

/// The state of an opening log.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    entries: Option<Vec<DirectoryEntry>>,
    topic: Option<Option<TopicId>>,
    checkpoint: Option<Option<Checkpoint>>,
    restore: Restore,
    /// Removals of what a crash left half-made; none before they are begun.
    sweeping: Option<usize>,
    /// Operations to wait for before the next step.
    settling: usize,
    phase: Phase,
    /// Segments that are still to be scanned, the current one first.
    pub scans: VecDeque<Found>,
    pub walk: Option<Walk>,
    /// Below it the current segment is vouched for by the checkpoint.
    pub vouched: u64,
    /// The snapshot speaks for what lies below.
    pub replay_from: Offset,
    /// Of the last batch, or of the checkpoint.
    pub epoch: i32,
    /// Segments to be cut to a length.
    pub trims: Vec<(Offset, u64)>,
    pub search: Option<Search>,
    clean: bool,
    /// Bytes of files behind what the checkpoint vouches for, preallocated ends and all.
    to_scan: u64,
    /// Bytes of batches behind it, in the segments that are done.
    pub scanned: u64,
    pub cut: u64,
}

/// What the operations being waited for lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Looking,
    Syncing,
    Trimming,
    Naming,
}

impl Log {
    pub(super) fn begin_recovery(&mut self, out: &mut Vec<DiskOp>) {
        self.recovery = Some(Box::default());
        let directory = self.directory.clone();
        let metadata = directory.join(setup::METADATA);
        let file = directory.join(checkpoint::NAME);
        let id = self.ops.start(Job::Open(OpenStep::List));
        out.push(DiskOp::List { id, directory });
        let id = self.ops.start(Job::Open(OpenStep::Metadata));
        out.push(DiskOp::ReadFile {
            id,
            file: metadata,
            limit: METADATA_BYTES_MAX,
        });
        let id = self.ops.start(Job::Open(OpenStep::Checkpoint));
        out.push(DiskOp::ReadFile {
            id,
            file,
            limit: checkpoint::BYTES_MAX,
        });
    }

    /// Takes the outcome of one step.
    pub(super) fn recover(
        &mut self,
        step: OpenStep,
        result: Result<DiskOutput, DiskFault>,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let Some(mut recovery) = self.recovery.take() else {
            return;
        };
        let went = self.step(&mut recovery, step, result, out, events);
        match went {
            Ok(true) => self.opened(&recovery, events),
            Ok(false) => self.recovery = Some(recovery),
            Err(Fault::Foreign { found, .. }) => {
                self.foreign = Some(found);
                events.push(Event::Foreign(found));
            }
            Err(fault) => self.give_up(*recovery, fault, events),
        }
    }

    /// One step; true when the log is open.
    fn step(
        &mut self,
        recovery: &mut Recovery,
        step: OpenStep,
        result: Result<DiskOutput, DiskFault>,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Fault> {
        match step {
            OpenStep::List | OpenStep::Metadata | OpenStep::Checkpoint => {
                recovery.look(step, result)?;
                if recovery.checkpoint.is_some()
                    && recovery.topic.is_some()
                    && recovery.entries.is_some()
                {
                    return self.survey(recovery, out, events);
                }
            }
            OpenStep::Compaction => {
                if let Some(entries) = self.restore_further(&mut recovery.restore, result, out)? {
                    if recovery.restore == Restore::Done {
                        recovery.entries = Some(entries);
                    }
                    return self.survey(recovery, out, events);
                }
            }
            OpenStep::Sweep => {
                // One that stays is in nobody's way: its name is written over when it is wanted.
                let left = recovery.sweeping.map_or(0, |left| left.saturating_sub(1));
                recovery.sweeping = Some(left);
                if left == 0 {
                    return self.survey(recovery, out, events);
                }
            }
            OpenStep::Settle => {
                result.map_err(Fault::Disk)?;
                recovery.settling -= 1;
                if recovery.settling == 0 {
                    return self.settled(recovery, out, events);
                }
            }
            OpenStep::Scan { at } => {
                let bytes = data(result)?;
                return self.scan(recovery, at, &bytes, out, events);
            }
            OpenStep::Search { at } => {
                let bytes = data(result)?;
                return self.search(recovery, at, &bytes, out, events);
            }
            OpenStep::Tail { at } => {
                let DiskOutput::Data(read) = result.map_err(Fault::Disk)? else {
                    return Ok(true);
                };
                let active = self.segments.last().expect("the tail belongs to a segment");
                if at + (read.len() as u64) < active.size {
                    return Err(damaged(active, at + read.len() as u64));
                }
                let tail_at = active.size - active.size % BLOCK as u64;
                let block = read[(tail_at - at) as usize..(active.size - at) as usize].to_vec();
                let (base, size) = (active.base, active.size);
                self.cache.insert(base, at, size, read, true);
                self.tail.resume(self.end, (base, size), block);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Everything small was read: decides what to believe and what to scan.
    fn survey(
        &mut self,
        recovery: &mut Recovery,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Fault> {
        let entries = recovery.entries.take().unwrap_or_default();
        match recovery.topic.flatten() {
            Some(found) if found != self.topic => {
                return Err(Fault::Foreign {
                    directory: self.directory.clone(),
                    found,
                });
            }
            topic => {
                self.setup = if entries.is_empty() {
                    Setup::default()
                } else {
                    Setup::found(topic.is_some())
                }
            }
        }
        let stored = recovery.checkpoint.take().flatten();
        if !self.is_restored(&mut recovery.restore, &entries, stored.as_ref(), out) {
            recovery.entries = Some(entries);
            recovery.checkpoint = Some(stored);
            return Ok(false);
        }
        let left = *recovery
            .sweeping
            .get_or_insert_with(|| self.sweep(&entries, out));
        if left > 0 {
            recovery.entries = Some(entries);
            recovery.checkpoint = Some(stored);
            return Ok(false);
        }
        let mut files: BTreeMap<Offset, u64> = entries
            .iter()
            .filter(|entry| !entry.is_directory && entry.name.ends_with(".log"))
            .filter_map(|entry| Some((base_of(&entry.name)?, entry.size)))
            .collect();
        self.segments.clear();
        match stored {
            Some(stored) => self.believe(recovery, &stored, &mut files, out, events)?,
            None => self.start = files.keys().next().copied().unwrap_or_default(),
        }
        recovery
            .scans
            .extend(files.into_iter().map(|(base, size)| Found { base, size }));
        if recovery.scans.is_empty() {
            return self.trim_all(recovery, out);
        }
        let sizes: u64 = recovery.scans.iter().map(|found| found.size).sum();
        recovery.to_scan = sizes.saturating_sub(recovery.vouched);
        recovery.phase = Phase::Syncing;
        for found in &recovery.scans {
            let file = Segment::absent(&self.directory, found.base, Wall(0)).file;
            recovery.settling += 1;
            let id = self.ops.start(Job::Open(OpenStep::Settle));
            out.push(DiskOp::Sync { id, file });
        }
        recovery.settling += 1;
        let id = self.ops.start(Job::Open(OpenStep::Settle));
        out.push(DiskOp::SyncDirectory {
            id,
            directory: self.directory.clone(),
        });
        Ok(false)
    }

    /// Removes what a crash left half-made or half-deleted; says how many files that is. All are gone
    /// before the log opens: one that is removed later might be the next of the same name.
    fn sweep(&mut self, entries: &[DirectoryEntry], out: &mut Vec<DiskOp>) -> usize {
        let names: BTreeSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let orphan = |name: &str| {
            let base = base_of(name).filter(|_| name.ends_with(".index"));
            base.is_some_and(|base| !names.contains(file_name(base).as_str()))
        };
        let unfinished =
            |name: &str| name.ends_with(compaction::UNFINISHED) || compaction::is_swap(name);
        let left_over = |name: &str| {
            name.ends_with(".tmp") || name.ends_with(".deleted") || unfinished(name) || orphan(name)
        };
        let begun = out.len();
        for entry in entries
            .iter()
            .filter(|entry| !entry.is_directory && left_over(&entry.name))
        {
            let file = self.directory.join(&entry.name);
            out.push(DiskOp::Remove {
                id: self.ops.start(Job::Open(OpenStep::Sweep)),
                file,
            });
        }
        out.len() - begun
    }

    /// Takes over what the checkpoint vouches for; what it does not stays in `files`.
    fn believe(
        &mut self,
        recovery: &mut Recovery,
        stored: &Checkpoint,
        files: &mut BTreeMap<Offset, u64>,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<(), Fault> {
        self.keeper = Keeper::found(stored);
        self.start = Offset(stored.start);
        self.end = Offset(stored.end).max(self.start);
        self.epochs = Epochs::from_pairs(stored.epochs.iter().copied());
        recovery.epoch = stored.epochs.last().map_or(0, |(epoch, _)| *epoch);
        events.push(Event::Snapshot(stored.producers.clone().into()));
        // Deletion goes by names in any order: what is left below the start offset may have gaps.
        let bases: Vec<Offset> = files.keys().copied().collect();
        let start = self.start;
        for pair in bases.windows(2).filter(|pair| pair[1] <= start) {
            files.remove(&pair[0]);
            self.discard(&Segment::absent(&self.directory, pair[0], Wall(0)), out);
        }
        for sealed in &stored.sealed {
            let segment = self.vouched_segment(sealed);
            match files.remove(&segment.base) {
                // Goes when another file says where the log goes on.
                Some(_) if segment.end <= self.start => self.trash.retire(segment),
                None if segment.end <= self.start => {}
                Some(size) if size == sealed.bytes => self.segments.push(segment),
                Some(size) => return Err(damaged(&segment, size.min(sealed.bytes))),
                None => return Err(damaged(&segment, 0)),
            }
        }
        let active = Segment::absent(&self.directory, Offset(stored.active), Wall(0));
        recovery.replay_from = Offset(stored.end);
        let Some(size) = files.get(&active.base).copied() else {
            recovery.clean = stored.clean && files.is_empty();
            let needed = stored.position > 0 && stored.end > stored.start;
            return if needed {
                Err(damaged(&active, 0))
            } else {
                Ok(())
            };
        };
        if size < stored.position {
            return Err(damaged(&active, size));
        }
        let walk = Walk {
            position: stored.position,
            next: if stored.position == 0 {
                active.base
            } else {
                Offset(stored.end)
            },
            first_timestamp: (stored.position > 0).then_some(stored.first_timestamp),
            max_timestamp: stored.max_timestamp,
            offset_of_max: Offset(stored.offset_of_max),
            index: Index::from_entries(stored.index.clone()),
        };
        let indexed = stored.position == 0 || !stored.index.is_empty();
        recovery.clean = stored.clean && indexed && size == stored.position && files.len() == 1;
        if recovery.clean {
            files.clear();
            self.adopt(active, walk, size);
        } else {
            recovery.vouched = stored.position;
            // Without its index the vouched part is gone over again.
            recovery.walk = (!stored.index.is_empty()).then_some(walk);
            if recovery.walk.is_none() {
                recovery.epoch = i32::MIN;
            }
        }
        Ok(())
    }

    fn vouched_segment(&self, sealed: &Sealed) -> Segment {
        let mut segment = Segment::absent(&self.directory, Offset(sealed.base), Wall(0));
        segment.size = sealed.bytes;
        segment.written = sealed.bytes;
        segment.allocated = sealed.bytes;
        segment.stage = FileStage::Sealed;
        segment.end = Offset(sealed.end);
        segment.first_timestamp = Some(-1);
        segment.max_timestamp = sealed.max_timestamp;
        segment.offset_of_max = Offset(sealed.offset_of_max);
        segment.index = IndexState::Cold;
        segment
    }

    /// Removes a segment below the start offset, whose removal a crash interrupted.
    fn discard(&mut self, segment: &Segment, out: &mut Vec<DiskOp>) {
        for file in [segment.file.clone(), segment.index_file()] {
            out.push(DiskOp::Remove {
                id: self.ops.start(Job::Removed),
                file,
            });
        }
    }

    pub(super) fn adopt(&mut self, mut segment: Segment, walk: Walk, file_size: u64) {
        segment.adopt(walk);
        segment.stage = FileStage::Open;
        segment.allocated = file_size;
        // An empty segment says nothing about where the log ends: what was rolled may be torn.
        if segment.size > 0 || self.segments.is_empty() {
            self.end = self.end.max(segment.end);
        }
        self.segments.push(segment);
    }

    /// What was waited for is done.
    fn settled(
        &mut self,
        recovery: &mut Recovery,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Fault> {
        match recovery.phase {
            Phase::Looking => Ok(false),
            Phase::Syncing => self.next_scan(recovery, out, events),
            Phase::Trimming => {
                recovery.phase = Phase::Naming;
                recovery.settling = 1;
                let id = self.ops.start(Job::Open(OpenStep::Settle));
                out.push(DiskOp::SyncDirectory {
                    id,
                    directory: self.directory.clone(),
                });
                Ok(false)
            }
            Phase::Naming => Ok(self.load_tail(out)),
        }
    }

    /// Brings files to the length of their batches, and removes empty segments that do not follow.
    pub(super) fn trim_all(
        &mut self,
        recovery: &mut Recovery,
        out: &mut Vec<DiskOp>,
    ) -> Result<bool, Fault> {
        recovery.phase = Phase::Trimming;
        let end = self.end;
        let (kept, empty): (Vec<Segment>, Vec<Segment>) = self
            .segments
            .drain(..)
            .partition(|segment| segment.size > 0 || segment.base == end);
        self.segments = kept;
        for segment in empty {
            recovery.settling += 1;
            let id = self.ops.start(Job::Open(OpenStep::Settle));
            out.push(DiskOp::Remove {
                id,
                file: segment.file,
            });
        }
        let last = self
            .segments
            .last()
            .map(|last| (last.base, last.end, last.size));
        if let Some((base, _, size)) = last.filter(|(_, data_end, _)| *data_end < end) {
            // A relaxed log lost unsynced records that the start offset had already passed: no
            // offset is given twice, so what follows goes to a segment of its own.
            let full = recovery.trims.iter().any(|(other, _)| *other == base);
            if !full {
                recovery.trims.push((base, size));
            }
            self.segments
                .push(Segment::absent(&self.directory, end, Wall(0)));
        }
        for (base, size) in std::mem::take(&mut recovery.trims) {
            // An empty one that does not follow is removed below instead.
            let Some(segment) = self
                .segments
                .iter_mut()
                .find(|segment| segment.base == base)
            else {
                continue;
            };
            segment.allocated = size;
            let file = segment.file.clone();
            recovery.settling += 1;
            let id = self.ops.start(Job::Open(OpenStep::Settle));
            out.push(DiskOp::Truncate { id, file, size });
        }
        let full = self.segments.len().saturating_sub(1);
        for index in 0..full {
            if self.segments[index].stage == FileStage::Open {
                self.segments[index].stage = FileStage::Sealed;
                self.save_index(self.segments[index].base, out);
            }
        }
        if recovery.settling == 0 {
            Ok(self.load_tail(out))
        } else {
            Ok(false)
        }
    }

    /// Reads the blocks at the end that will be written again; true when there are none.
    fn load_tail(&mut self, out: &mut Vec<DiskOp>) -> bool {
        if self.segments.is_empty() {
            self.segments
                .push(Segment::absent(&self.directory, self.end, Wall(0)));
        }
        let active = self.segments.last().expect("it was just made sure of");
        if active.size == 0 {
            self.tail.resume(self.end, (active.base, 0), Vec::new());
            return true;
        }
        let IndexState::Memory(index) = &active.index else {
            return true;
        };
        let boundary = index.boundary(active.size - active.size % BLOCK as u64, i64::MAX);
        let from = boundary.map_or(0, |entry| u64::from(entry.position));
        let at = from - from % BLOCK as u64;
        let len = ((active.size - at) as usize).next_multiple_of(BLOCK);
        let file = active.file.clone();
        let id = self.ops.start(Job::Open(OpenStep::Tail { at }));
        out.push(DiskOp::Read { id, file, at, len });
        false
    }

    /// While it opens: bytes of batches that were scanned, and the most that there can be: only the
    /// scan tells where a file's preallocated end begins.
    pub fn recovery_progress(&self) -> (u64, u64) {
        self.recovery.as_ref().map_or((0, 0), |recovery| {
            (recovery.scanned_until_now(), recovery.to_scan)
        })
    }

    fn opened(&mut self, recovery: &Recovery, events: &mut Vec<Event>) {
        self.stage = Stage::Ready;
        self.keeper.start_found = self.start;
        self.epochs.raise_start(self.start);
        self.durable = self.end;
        self.committed = self.end;
        self.written_end = self.end;
        let active = self.segments.last().map(|active| active.base);
        // What the checkpoint does not count as full is not compacted.
        let uncounted =
            self.options.compact && active.is_some_and(|base| base > self.keeper.mark.active);
        // What was scanned counts towards the next checkpoint: otherwise kill after kill adds to it.
        self.tail.since_checkpoint = self.unvouched_bytes();
        self.tail.checkpoint_wanted = uncounted || self.tail.since_checkpoint >= CHECKPOINT_BYTES;
        let (clean, bytes_scanned) = (recovery.clean, recovery.scanned);
        events.push(Event::Ready {
            clean,
            bytes_scanned,
            bytes_cut: recovery.cut,
        });
    }

    /// The log cannot be opened for appends; what was found sound can be read.
    fn give_up(&mut self, mut recovery: Recovery, fault: Fault, events: &mut Vec<Event>) {
        if let (Some(found), Some(walk)) = (recovery.scans.pop_front(), recovery.walk.take()) {
            let segment = Segment::absent(&self.directory, found.base, Wall(0));
            self.adopt(segment, walk, found.size);
        }
        self.end = self
            .segments
            .last()
            .map_or(self.start, |last| last.end)
            .max(self.start);
        for segment in &mut self.segments {
            segment.stage = FileStage::Sealed;
        }
        if self.segments.is_empty() {
            self.segments
                .push(Segment::absent(&self.directory, self.end, Wall(0)));
        }
        self.stage = Stage::Ready;
        self.durable = self.end;
        self.committed = self.end;
        self.written_end = self.end;
        self.tail.issued_end = self.end;
        self.fence(fault, events);
    }
}

pub(super) fn damaged(segment: &Segment, position: u64) -> Fault {
    Fault::Corrupt {
        file: segment.file.clone(),
        position,
    }
}

fn data(result: Result<DiskOutput, DiskFault>) -> Result<Arc<Buf>, Fault> {
    match result.map_err(Fault::Disk)? {
        DiskOutput::Data(bytes) => Ok(bytes),
        DiskOutput::Done
        | DiskOutput::Journaled
        | DiskOutput::Existed
        | DiskOutput::Contents(_)
        | DiskOutput::Entries(_)
        | DiskOutput::Space(_) => Ok(Arc::new(Buf::allocate(0))),
    }
}

impl Recovery {
    fn scanned_until_now(&self) -> u64 {
        let position = self.walk.as_ref().map_or(0, |walk| walk.position);
        self.scanned + position.saturating_sub(self.vouched)
    }

    /// Keeps what one of the three first operations gave.
    fn look(&mut self, step: OpenStep, result: Result<DiskOutput, DiskFault>) -> Result<(), Fault> {
        let output = match result {
            Ok(output) => Some(output),
            Err(fault) if matches!(fault.kind, FaultKind::NotFound | FaultKind::TooLarge) => None,
            Err(fault) => return Err(Fault::Disk(fault)),
        };
        match (step, output) {
            (OpenStep::List, Some(DiskOutput::Entries(entries))) => self.entries = Some(entries),
            (OpenStep::List, _) => self.entries = Some(Vec::new()),
            (OpenStep::Metadata, Some(DiskOutput::Contents(contents))) => {
                self.topic = Some(Some(setup::topic_of(&contents).unwrap_or(TopicId::ZERO)));
            }
            (OpenStep::Metadata, _) => self.topic = Some(None),
            (OpenStep::Checkpoint, Some(DiskOutput::Contents(contents))) => {
                self.checkpoint = Some(Checkpoint::from_file(&contents));
            }
            (OpenStep::Checkpoint, _) => self.checkpoint = Some(None),
            (
                OpenStep::Settle
                | OpenStep::Scan { .. }
                | OpenStep::Search { .. }
                | OpenStep::Tail { .. }
                | OpenStep::Compaction
                | OpenStep::Sweep,
                _,
            ) => {}
        }
        Ok(())
    }
}
