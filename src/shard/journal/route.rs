//! What logs ask of the disk: into the journal, past it, or after it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{
    BLOCK, Buf, DiskDone, DiskFault, DiskOp, FaultKind, FilePath, OpId, Space, TopicId,
};

use super::{
    BYTES_A_FILE, EIO, Gathered, Job, Journal, Outcome, SETTLING_BYTES, SMALL_BYTES_MAX,
    SPACE_TIMES, Stage, Tracked, durable_write,
};

impl Journal {
    /// Takes an operation of a log of `topic`.
    pub(in crate::shard) fn route(&mut self, topic: TopicId, op: DiskOp, out: &mut Outcome) {
        match op {
            DiskOp::Write {
                id,
                file,
                at,
                data,
                durable: true,
            } => self.route_write((id, topic), file, at, data, out),
            DiskOp::Write { ref file, .. }
            | DiskOp::Sync { ref file, .. }
            | DiskOp::Truncate { ref file, .. }
            | DiskOp::Remove { ref file, .. } => {
                let file = file.clone();
                self.after_settling(&[&file], op, out);
            }
            DiskOp::Read {
                ref file, at, len, ..
            } => {
                let file = file.clone();
                let in_place = self.tracked.get(&file).is_none_or(|tracked| {
                    let first = tracked.images.front().map_or(u64::MAX, |image| image.at);
                    tracked.waiting.is_empty() && tracked.coming == 0 && at + len as u64 <= first
                });
                match in_place {
                    true => out.ops.push(op),
                    false => self.after_settling(&[&file], op, out),
                }
            }
            DiskOp::Rename {
                ref from, ref to, ..
            } => {
                let (from, to) = (from.clone(), to.clone());
                match self.under(&from).is_empty() {
                    true => self.after_settling(&[&from, &to], op, out),
                    false => self.after_dropping(op, out),
                }
            }
            DiskOp::RemoveDirectory { .. } => self.after_dropping(op, out),
            DiskOp::Allocate { .. }
            | DiskOp::Space { .. }
            | DiskOp::ReadFile { .. }
            | DiskOp::ReplaceFile { .. }
            | DiskOp::MakeDirectory { .. }
            | DiskOp::List { .. }
            | DiskOp::SyncDirectory { .. } => out.ops.push(op),
        }
    }

    fn route_write(
        &mut self,
        (id, topic): (OpId, TopicId),
        file: FilePath,
        at: u64,
        data: Arc<Buf>,
        out: &mut Outcome,
    ) {
        let small = data.len() <= SMALL_BYTES_MAX.min(self.extent_bytes() as usize / 4);
        let crowd = self.direct.len() + self.gathered.len() >= self.options.writes_min;
        let ready = self.stage == Stage::Ready;
        let limit = self.extent_bytes();
        if let Some(tracked) = self.tracked.get_mut(&file) {
            // Alone it would not fit into what may be left of an extent.
            let huge = data.len() as u64 > limit / 4;
            if huge || !ready || !tracked.waiting.is_empty() || tracked.failed {
                let op = durable_write(id, file.clone(), at, data);
                return self.after_settling(&[&file], op, out);
            }
            tracked.owner = id.owner;
            tracked.coming += 1;
            return self.gather(id, file, at, data);
        }
        if ready && small && (crowd || !self.flights.is_empty()) {
            let full = self.tracks_enough() || (crowd && self.waits_for_room());
            if !full {
                let tracked = Tracked::new(id.owner, topic);
                self.tracked.insert(file.clone(), tracked);
                return self.gather(id, file, at, data);
            }
            self.counts.bypasses += 1;
        }
        if self.stage == Stage::Absent && small && crowd {
            self.make(out);
        }
        if small {
            self.direct.insert(id);
        }
        out.ops.push(durable_write(id, file, at, data));
    }

    fn gather(&mut self, id: OpId, file: FilePath, at: u64, data: Arc<Buf>) {
        self.gathered.push_back(Gathered { id, file, at, data });
    }

    /// Makes the journal, if the disk has the space.
    fn make(&mut self, out: &mut Outcome) {
        self.stage = Stage::Making;
        let directory = self.file.parent();
        let id = self.start(Job::Space);
        out.ops.push(DiskOp::Space { id, directory });
    }

    /// Makes the journal's file: written with zeros, its size and name durable. On a disk with less
    /// space there is no journal before the next start.
    pub(super) fn make_within(&mut self, space: Space, out: &mut Outcome) {
        let room = space.usable.saturating_sub(space.reserve) / SPACE_TIMES;
        if self.closing || room < 2 * self.extent_bytes() {
            self.stage = Stage::Gone;
            return;
        }
        let (file, size) = (self.file.clone(), 2 * self.extent_bytes());
        out.ops.push(DiskOp::Allocate {
            id: self.start(Job::Allocate),
            file,
            size,
            zeros_from: Some(0),
            from_reserve: false,
        });
    }

    /// A file of which nothing is held had better be written for itself: see [`BYTES_A_FILE`].
    fn tracks_enough(&self) -> bool {
        self.tracked.len() as u64 >= self.extent_bytes() / BYTES_A_FILE
    }

    /// One of the journal's files can take no frame before the other extent is free.
    fn waits_for_room(&self) -> bool {
        let full =
            self.position + SETTLING_BYTES + (SMALL_BYTES_MAX + BLOCK) as u64 > self.extent_bytes();
        self.is_too_much() || full && self.extents[1 - self.active].generation > 0
    }

    /// Nothing more is taken into memory before something has come home.
    pub(super) fn is_too_much(&self) -> bool {
        self.memory / 4 > self.options.memory_bytes / 3
    }

    /// The operation goes on once the files of these names are settled; at once if nothing of them
    /// is held.
    pub(super) fn after_settling(&mut self, files: &[&FilePath], op: DiskOp, out: &mut Outcome) {
        let held = files.iter().find(|file| self.tracked.contains_key(**file));
        let Some(file) = held else {
            return out.ops.push(op);
        };
        let file = (*file).clone();
        let Some(tracked) = self.tracked.get_mut(&file) else {
            return;
        };
        if tracked.failed || self.stage == Stage::Gone {
            return out.done.push(refused(&op, &file));
        }
        tracked.waiting.push_back(op);
        self.enqueue(&file);
        self.wanting.insert(file);
    }

    /// The files in a directory.
    fn under(&self, directory: &FilePath) -> Vec<FilePath> {
        let prefix = format!("{}/", directory.path);
        let from = FilePath::new(directory.disk, &prefix);
        let files = self.tracked.range(from..).map(|(file, _)| file);
        files
            .take_while(|file| file.disk == directory.disk && file.path.starts_with(&prefix))
            .cloned()
            .collect()
    }

    /// A directory goes with all that is in it: what is held of it is dropped. On its way to the
    /// disk, it is waited for.
    pub(super) fn after_dropping(&mut self, op: DiskOp, out: &mut Outcome) {
        let (DiskOp::RemoveDirectory { ref directory, .. }
        | DiskOp::Rename {
            from: ref directory,
            ..
        }) = op
        else {
            return out.ops.push(op);
        };
        for file in self.under(directory) {
            let Some(tracked) = self.tracked.get_mut(&file) else {
                continue;
            };
            if tracked.filling > 0 || tracked.coming > 0 || tracked.syncing.is_some() {
                // It is looked at again with each answer.
                return self.directories.push(op);
            }
            let waiting = std::mem::take(&mut tracked.waiting);
            self.wanting.remove(&file);
            self.settled.retain(|other| *other != file);
            if let Some(old) = self.tracked.remove(&file) {
                for image in old.images {
                    self.memory -= if old.failed { 0 } else { image.data.capacity() };
                    self.extents[image.extent].images -= 1;
                }
                for (extent, images) in old.unsynced.into_iter().enumerate() {
                    self.extents[extent].images -= images;
                }
            }
            out.ops.extend(waiting);
        }
        out.ops.push(op);
    }

    /// What waited for a file to be settled. A second file that it touches may still be held.
    pub(super) fn go_on_with(&mut self, waiting: VecDeque<DiskOp>, out: &mut Outcome) {
        for op in waiting {
            match &op {
                DiskOp::Rename { from, to, .. } => {
                    let (from, to) = (from.clone(), to.clone());
                    self.after_settling(&[&from, &to], op, out);
                }
                _ => out.ops.push(op),
            }
        }
    }
}

/// The answer to what cannot be done since its file cannot be settled.
pub(super) fn refused(op: &DiskOp, file: &FilePath) -> DiskDone {
    DiskDone {
        id: op.id(),
        result: Err(DiskFault {
            file: file.clone(),
            op: "settle",
            kind: FaultKind::Io(EIO),
        }),
    }
}
