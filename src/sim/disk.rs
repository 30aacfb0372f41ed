//! The simulated disk: operations in flight, done in any order; errors on purpose; power cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{
    BLOCK, Buf, CoreId, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, Prng, Space,
};

use crate::shard::{JOURNAL_PREFIX, METADATA_DIRECTORY, is_of_boot, is_of_journal};

use super::files::{Content, Files, Inode};
use super::plan::Canary;

/// Linux's number for an input or output error.
const EIO: i32 = 5;
/// Bytes of an empty data directory.
const SPACE: u64 = 1 << 40;

/// What the disk is made to do wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// One operation in so many fails; 0 for none.
    pub(super) error_one_in: u64,
    /// Also what changes names, lengths and whole small files fails, not only writes, reads, syncs.
    pub(super) names_fail: bool,
    /// Nothing new can be allocated.
    pub(super) full: bool,
    /// The bug that is planted.
    pub(super) canary: Option<Canary>,
}

/// Operations by number, and the file tree.
#[derive(Debug)]
pub(super) struct Disk {
    files: Files,
    in_flight: BTreeMap<u64, (CoreId, DiskOp)>,
    next: u64,
    prng: Prng,
    pub(super) trouble: Trouble,
    /// Directories with an operation that failed on purpose since the last start.
    pub(super) harmed: BTreeSet<String>,
    pub(super) errors: u32,
    /// Of these, of operations that change names, lengths or whole small files.
    pub(super) name_errors: u32,
}

impl Disk {
    pub(super) fn new(disks: u16, prng: Prng) -> Disk {
        Disk {
            files: Files::new(disks),
            in_flight: BTreeMap::new(),
            next: 0,
            prng,
            trouble: Trouble::default(),
            harmed: BTreeSet::new(),
            errors: 0,
            name_errors: 0,
        }
    }

    /// Takes an operation; the number is for [`Disk::finish`]. An error names a broken rule: two
    /// writes of one file in flight at the same place have no order.
    pub(super) fn submit(&mut self, core: CoreId, op: DiskOp) -> Result<u64, String> {
        if let Some((file, range)) = written(&op) {
            let mut others = self
                .in_flight
                .values()
                .filter_map(|(_, other)| written(other));
            if others.any(|(other, taken)| {
                other == file && taken.start < range.end && range.start < taken.end
            }) {
                return Err(format!(
                    "two writes to {file} at {range:?} are in flight at once"
                ));
            }
        }
        let number = self.next;
        self.next += 1;
        self.in_flight.insert(number, (core, op));
        Ok(number)
    }

    /// How many operations are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The operation is done now; none if a crash came first.
    pub(super) fn finish(&mut self, number: u64) -> Option<(CoreId, DiskDone)> {
        let (core, op) = self.in_flight.remove(&number)?;
        let id = op.id();
        let result = match self.fails(&op) {
            Some(fault) => Err(fault),
            None => self.perform(op),
        };
        Some((core, DiskDone { id, result }))
    }

    fn fails(&mut self, op: &DiskOp) -> Option<DiskFault> {
        let (file, verb) = subject(op);
        if self.trouble.full && self.has_no_room(op) {
            if let DiskOp::Write {
                file, at, data, id, ..
            } = op
            {
                // A journal does not try again, nor does the replay of one, nor the metadata log.
                if is_journal(file) || is_of_boot(*id) || is_of_metadata(file) {
                    self.harmed.insert(file.path.to_string());
                }
                self.write_partly(file, *at, data, false);
            }
            return Some(fault(file, verb, FaultKind::NoSpace));
        }
        let odds = self.trouble.error_one_in;
        if odds == 0 || !self.may_fail(op) || !self.prng.one_in(odds) {
            return None;
        }
        self.errors += 1;
        let directory = file.path.split('/').next().unwrap_or("").to_owned();
        self.harmed.insert(directory);
        let fault = fault(file, verb, FaultKind::Io(EIO));
        match op {
            DiskOp::Read { .. } | DiskOp::Sync { .. } => {}
            DiskOp::Write { .. } => self.perform_partly(op.clone(), false),
            _ => {
                self.name_errors += 1;
                self.perform_partly(op.clone(), false);
            }
        }
        Some(fault)
    }

    fn may_fail(&self, op: &DiskOp) -> bool {
        match op {
            DiskOp::Write { .. } | DiskOp::Sync { .. } | DiskOp::Read { .. } => true,
            DiskOp::Allocate { .. }
            | DiskOp::Truncate { .. }
            | DiskOp::ReplaceFile { .. }
            | DiskOp::MakeDirectory { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. }
            | DiskOp::RemoveDirectory { .. }
            | DiskOp::SyncDirectory { .. } => self.trouble.names_fail,
            DiskOp::ReadFile { .. } | DiskOp::List { .. } | DiskOp::Space { .. } => false,
        }
    }

    /// An operation that failed, or that a crash cut short: it has happened, or not, or partly.
    fn perform_partly(&mut self, op: DiskOp, power: bool) {
        match op {
            DiskOp::Write { file, at, data, .. } => self.write_partly(&file, at, &data, power),
            DiskOp::RemoveDirectory { directory, .. } => {
                let whole = self.prng.one_in(2);
                self.files
                    .remove_directory(&directory, whole, &mut self.prng);
            }
            DiskOp::ReplaceFile { file, contents, .. } => self.replace_partly(&file, &contents),
            op => {
                if self.prng.one_in(2) {
                    // Whether it could be done is of no interest to anybody any more.
                    let _ = self.perform(op);
                }
            }
        }
    }

    /// While the disk is full: the reserve is kept from records, the broker's own needs find
    /// nothing now and then, and even a write to allocated blocks may be refused.
    fn has_no_room(&mut self, op: &DiskOp) -> bool {
        match op {
            DiskOp::Allocate { from_reserve, .. } => !from_reserve || self.prng.one_in(3),
            DiskOp::ReplaceFile { .. } => self.prng.one_in(3),
            // The metadata log's failing ends the process: not too often.
            DiskOp::Write { file, .. } if is_of_metadata(file) => {
                self.trouble.names_fail && self.prng.one_in(100)
            }
            DiskOp::Write { .. } => self.prng.one_in(30),
            _ => false,
        }
    }

    /// The first blocks of a write, or all, get as far as the kernel. When the power goes, any of
    /// them may be on the disk.
    fn write_partly(&mut self, file: &FilePath, at: u64, data: &[u8], power: bool) {
        let all = data.len() / BLOCK;
        let some = self.prng.below(all as u64 + 1) as usize;
        let blocks = if power && self.prng.one_in(2) {
            all
        } else {
            some
        };
        if let Some(inode) = self.files.create(file) {
            self.files.write(inode, at, &data[..blocks * BLOCK], false);
        }
    }

    fn perform(&mut self, op: DiskOp) -> Result<DiskOutput, DiskFault> {
        let not_found = {
            let (file, verb) = subject(&op);
            fault(file, verb, FaultKind::NotFound)
        };
        let done = match op {
            DiskOp::Write {
                file,
                at,
                data,
                durable,
                ..
            } => {
                let lie = match self.trouble.canary {
                    Some(Canary::LyingDisk) => durable && self.prng.one_in(4),
                    Some(Canary::HastyJournal) => is_journal(&file),
                    Some(Canary::LooseJournal) => is_journal(&file) && self.writes_beside(&file),
                    Some(Canary::LostJournal | Canary::IdleSync | Canary::StaleReply) | None => {
                        false
                    }
                };
                let inode = self.files.create(&file);
                inode.map(|inode| self.files.write(inode, at, &data, durable && !lie))
            }
            DiskOp::Read { file, at, len, .. } => {
                let inode = self.files.file(&file).ok_or(not_found)?;
                let bytes = self.files.content(inode).read(at, len);
                return Ok(DiskOutput::Data(Arc::new(Buf::copy_of(&bytes))));
            }
            DiskOp::Sync { file, id } => self.files.file(&file).map(|inode| {
                let idle = self.trouble.canary == Some(Canary::IdleSync) && is_of_journal(id);
                if !idle || is_journal(&file) {
                    self.files.sync(inode);
                }
            }),
            DiskOp::Allocate {
                file,
                size,
                zeros_from,
                ..
            } => {
                let inode = self.files.create(&file);
                inode.map(|inode| {
                    self.files.allocate(inode, size);
                    let from = zeros_from.unwrap_or(size);
                    let zeros = vec![0; size.saturating_sub(from) as usize];
                    self.files.write(inode, from, &zeros, false);
                })
            }
            DiskOp::Truncate { file, size, .. } => self
                .files
                .file(&file)
                .map(|inode| self.files.truncate(inode, size)),
            DiskOp::ReadFile { file, limit, .. } => {
                let inode = self.files.file(&file).ok_or(not_found)?;
                let content = self.files.content(inode);
                if content.size() > limit as u64 {
                    return Err(fault(&file, "read", FaultKind::TooLarge));
                }
                let bytes = content.read(0, content.size() as usize);
                return Ok(DiskOutput::Contents(Bytes::from(bytes)));
            }
            DiskOp::ReplaceFile { file, contents, .. } => {
                self.files.replace(&file, &contents).then_some(())
            }
            DiskOp::MakeDirectory { directory, .. } => {
                if self.files.is_directory(&directory) {
                    return Ok(DiskOutput::Existed);
                }
                self.files.make_directory(&directory).then_some(())
            }
            DiskOp::Rename { from, to, .. } => self.files.rename(&from, &to).then_some(()),
            DiskOp::Remove { file, .. } => {
                self.files.remove(&file);
                Some(())
            }
            DiskOp::RemoveDirectory { directory, .. } => {
                self.files
                    .remove_directory(&directory, true, &mut self.prng);
                Some(())
            }
            DiskOp::List { directory, .. } => {
                return Ok(DiskOutput::Entries(self.files.list(&directory)));
            }
            DiskOp::Space { .. } => {
                let usable = if self.trouble.full { 0 } else { SPACE };
                return Ok(DiskOutput::Space(Space {
                    total: SPACE,
                    usable,
                    reserve: SPACE / 20,
                }));
            }
            DiskOp::SyncDirectory { directory, .. } => {
                self.files.sync_directory(&directory).then_some(())
            }
        };
        done.map(|()| DiskOutput::Done).ok_or(not_found)
    }

    /// True if the file has another write on its way.
    fn writes_beside(&self, file: &FilePath) -> bool {
        let others = self.in_flight.values();
        let others = others.filter_map(|(_, other)| written(other));
        others.map(|(other, _)| other).any(|other| other == file)
    }

    /// The process is gone. What was in flight has happened, or not, or partly; when `power` goes
    /// too, what was not synced may be lost.
    pub(super) fn crash(&mut self, power: bool) {
        let mut flying: Vec<DiskOp> = std::mem::take(&mut self.in_flight)
            .into_values()
            .map(|(_, op)| op)
            .collect();
        while !flying.is_empty() {
            let place = self.prng.below(flying.len() as u64) as usize;
            self.perform_partly(flying.swap_remove(place), power);
        }
        if power {
            self.files.cut_power(&mut self.prng);
        }
        if self.trouble.canary == Some(Canary::LostJournal) {
            for journal in self
                .files
                .paths_at_root(|name| name.starts_with(JOURNAL_PREFIX))
            {
                self.files.remove(&journal);
            }
        }
        self.harmed.clear();
    }

    /// Some of the files that are derived from others come to harm. True if any did.
    pub(super) fn damage_derived(&mut self) -> bool {
        let derived = self
            .files
            .paths(|name| name == "checkpoint" || name.ends_with(".index"));
        let mut any = false;
        for file in derived {
            if self.prng.one_in(3) {
                self.files.garble(&file, &mut self.prng);
                any = true;
            }
        }
        any
    }

    /// The old contents, the new ones, or the old ones and half a temporary file.
    fn replace_partly(&mut self, file: &FilePath, contents: &[u8]) {
        match self.prng.below(3) {
            0 => {}
            1 => {
                self.files.replace(file, contents);
            }
            _ => {
                let temporary = file.parent().join(&format!("{}.tmp", file.name()));
                self.files
                    .replace(&temporary, &contents[..contents.len() / 2]);
            }
        }
    }

    /// Opens a file, as `host` does for a reader's slices.
    pub(super) fn open(&self, file: &FilePath) -> Option<Inode> {
        self.files.file(file)
    }

    /// What an open file holds now.
    pub(super) fn content(&self, inode: Inode) -> &Content {
        self.files.content(inode)
    }
}

fn fault(file: &FilePath, op: &'static str, kind: FaultKind) -> DiskFault {
    DiskFault {
        file: file.clone(),
        op,
        kind,
    }
}

fn is_journal(file: &FilePath) -> bool {
    file.path.starts_with(JOURNAL_PREFIX)
}

fn is_of_metadata(file: &FilePath) -> bool {
    file.path.starts_with(METADATA_DIRECTORY)
}

fn written(op: &DiskOp) -> Option<(&FilePath, std::ops::Range<u64>)> {
    match op {
        DiskOp::Write { file, at, data, .. } => Some((file, *at..*at + data.len() as u64)),
        DiskOp::Allocate {
            file,
            size,
            zeros_from: Some(from),
            ..
        } => Some((file, *from..*size)),
        _ => None,
    }
}

/// What it is about, and what it does there.
fn subject(op: &DiskOp) -> (&FilePath, &'static str) {
    let verb = match op {
        DiskOp::Write { .. } => "write",
        DiskOp::Read { .. } | DiskOp::ReadFile { .. } => "read",
        DiskOp::Sync { .. } => "sync",
        DiskOp::Allocate { .. } => "allocate",
        DiskOp::Truncate { .. } => "truncate",
        DiskOp::ReplaceFile { .. } => "replace",
        DiskOp::MakeDirectory { .. } => "make directory",
        DiskOp::Rename { .. } => "rename",
        DiskOp::Remove { .. } => "remove",
        DiskOp::RemoveDirectory { .. } => "remove directory",
        DiskOp::List { .. } => "list",
        DiskOp::SyncDirectory { .. } => "sync directory",
        DiskOp::Space { .. } => "ask for the space",
    };
    (op.target(), verb)
}
