//! A disk in memory: what is durable, what is only written, and operations in flight that end in
//! any order, tear at sectors, are forgotten, or fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{
    Buf, DirectoryEntry, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, Prng, Space,
};

const SECTOR: usize = 512;

/// A file: its contents as a reader sees them, and what a power cut cannot take.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub now: Vec<u8>,
    pub durable: Vec<u8>,
    /// The name survives a power cut.
    pub named: bool,
}

/// Which operations fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    WriteFails,
    SyncFails,
    RenameFails,
    Full,
    /// Only the reserve is left.
    Short,
    WriteFull,
}

pub(super) struct Disk {
    pub files: BTreeMap<FilePath, File>,
    pub directories: BTreeSet<FilePath>,
    pub pending: Vec<DiskOp>,
    pub trouble: Trouble,
    pub prng: Prng,
    pub writes: usize,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Disk {
        Disk {
            files: BTreeMap::new(),
            directories: BTreeSet::new(),
            pending: Vec::new(),
            trouble: Trouble::None,
            prng: Prng::new(seed),
            writes: 0,
        }
    }

    /// Carries out one of the operations in flight, at random.
    pub(super) fn complete_one(&mut self) -> Option<DiskDone> {
        if self.pending.is_empty() {
            return None;
        }
        let index = self.prng.below(self.pending.len() as u64) as usize;
        let op = self.pending.swap_remove(index);
        let id = op.id();
        Some(DiskDone {
            id,
            result: self.perform(op),
        })
    }

    /// A small file that is there already, durably.
    pub(super) fn put_file(&mut self, file: &FilePath, contents: &[u8]) {
        let contents = contents.to_vec();
        let file_contents = File {
            now: contents.clone(),
            durable: contents,
            named: true,
        };
        self.files.insert(file.clone(), file_contents);
    }

    fn fault(file: &FilePath, op: &'static str, kind: FaultKind) -> DiskFault {
        DiskFault {
            file: file.clone(),
            op,
            kind,
        }
    }

    fn troubled(&self, op: &DiskOp) -> Option<DiskFault> {
        let io = FaultKind::Io(5);
        match (self.trouble, op) {
            (Trouble::WriteFails, DiskOp::Write { file, .. }) => {
                Some(Disk::fault(file, "write", io))
            }
            (Trouble::WriteFull, DiskOp::Write { file, .. }) => {
                Some(Disk::fault(file, "write", FaultKind::NoSpace))
            }
            (Trouble::SyncFails, DiskOp::Sync { file, .. }) => Some(Disk::fault(file, "sync", io)),
            (Trouble::RenameFails, DiskOp::Rename { from, .. }) => {
                Some(Disk::fault(from, "rename", io))
            }
            (Trouble::Full, DiskOp::Allocate { file, .. } | DiskOp::ReplaceFile { file, .. }) => {
                Some(Disk::fault(file, "allocate", FaultKind::NoSpace))
            }
            (
                Trouble::Short,
                DiskOp::Allocate {
                    file,
                    from_reserve: false,
                    ..
                },
            ) => Some(Disk::fault(file, "allocate", FaultKind::NoSpace)),
            _ => None,
        }
    }

    fn perform(&mut self, op: DiskOp) -> Result<DiskOutput, DiskFault> {
        if let Some(fault) = self.troubled(&op) {
            return Err(fault);
        }
        match op {
            DiskOp::Write {
                file,
                at,
                data,
                durable,
                ..
            } => {
                self.writes += 1;
                assert!(at % 4096 == 0 && data.len() % 4096 == 0, "aligned");
                // What compaction writes gets a durable name when it is whole.
                let unfinished = file.name().ends_with(".cleaned");
                let entry = if unfinished {
                    self.files.entry(file).or_default()
                } else {
                    let entry = self.files.get_mut(&file);
                    entry.expect("written after it was allocated")
                };
                assert!(
                    entry.named || unfinished,
                    "no write before the name is durable"
                );
                put(&mut entry.now, at as usize, &data);
                if durable {
                    put(&mut entry.durable, at as usize, &data);
                }
            }
            DiskOp::Read { file, at, len, .. } => {
                let Some(entry) = self.files.get(&file) else {
                    return Err(Disk::fault(&file, "read", FaultKind::NotFound));
                };
                let from = (at as usize).min(entry.now.len());
                let to = (from + len).min(entry.now.len());
                return Ok(DiskOutput::Data(Arc::new(Buf::copy_of(
                    &entry.now[from..to],
                ))));
            }
            DiskOp::Sync { file, .. } => {
                let Some(entry) = self.files.get_mut(&file) else {
                    return Err(Disk::fault(&file, "sync", FaultKind::NotFound));
                };
                entry.durable = entry.now.clone();
            }
            DiskOp::Allocate {
                file,
                size,
                zeros_from,
                ..
            } => {
                assert!(self.directories.contains(&file.parent()), "{file:?}");
                let entry = self.files.entry(file).or_default();
                let size = entry.now.len().max(size as usize);
                entry.now.resize(size, 0);
                entry.now[zeros_from.map_or(size, |from| from as usize)..].fill(0);
            }
            DiskOp::Truncate { file, size, .. } => {
                let entry = self.files.get_mut(&file).expect("a file to cut");
                entry.now.resize(size as usize, 0);
                entry.durable.resize(size as usize, 0);
            }
            DiskOp::ReadFile { file, limit, .. } => match self.files.get(&file) {
                None => return Err(Disk::fault(&file, "read", FaultKind::NotFound)),
                Some(entry) if entry.now.len() > limit => {
                    return Err(Disk::fault(&file, "read", FaultKind::TooLarge));
                }
                Some(entry) => return Ok(DiskOutput::Contents(Bytes::copy_from_slice(&entry.now))),
            },
            DiskOp::ReplaceFile { file, contents, .. } => {
                assert!(self.directories.contains(&file.parent()), "{file:?}");
                let bytes = contents.to_vec();
                self.files.insert(
                    file,
                    File {
                        now: bytes.clone(),
                        durable: bytes,
                        named: true,
                    },
                );
            }
            DiskOp::MakeDirectory { directory, .. } => {
                if !self.directories.insert(directory) {
                    return Ok(DiskOutput::Existed);
                }
            }
            DiskOp::Rename { from, to, .. } => return self.rename(from, to),
            DiskOp::Remove { file, .. } => {
                self.files.remove(&file);
            }
            DiskOp::RemoveDirectory { directory, .. } => {
                self.files.retain(|file, _| file.parent() != directory);
                self.directories.remove(&directory);
            }
            DiskOp::List { directory, .. } => {
                let inside = self
                    .files
                    .iter()
                    .filter(|(file, _)| file.parent() == directory);
                let entries = inside.map(|(file, entry)| DirectoryEntry {
                    name: file.name().to_owned(),
                    is_directory: false,
                    size: entry.now.len() as u64,
                });
                return Ok(DiskOutput::Entries(entries.collect()));
            }
            DiskOp::Space { .. } => return Ok(DiskOutput::Space(Space::default())),
            DiskOp::SyncDirectory { directory, .. } => {
                for (_, entry) in self
                    .files
                    .iter_mut()
                    .filter(|(file, _)| file.parent() == directory)
                {
                    entry.named = true;
                }
            }
        }
        Ok(DiskOutput::Done)
    }

    fn rename(&mut self, from: FilePath, to: FilePath) -> Result<DiskOutput, DiskFault> {
        if let Some(mut entry) = self.files.remove(&from) {
            entry.named = true;
            self.files.insert(to, entry);
            return Ok(DiskOutput::Done);
        }
        if !self.directories.remove(&from) {
            return Err(Disk::fault(&from, "rename", FaultKind::NotFound));
        }
        self.directories.insert(to.clone());
        let inside: Vec<FilePath> = self
            .files
            .keys()
            .filter(|file| file.parent() == from)
            .cloned()
            .collect();
        for file in inside {
            let entry = self.files.remove(&file).expect("just listed");
            self.files.insert(to.join(file.name()), entry);
        }
        Ok(DiskOutput::Done)
    }

    /// The power goes: writes in flight leave some of their sectors, writes that were not synced
    /// leave some of theirs, names that were not synced may be gone.
    pub(super) fn cut_power(&mut self) {
        let prng = &mut self.prng;
        for (_, file) in self.files.iter_mut() {
            file.durable
                .resize(file.durable.len().max(file.now.len()), 0);
            tear(prng, &mut file.durable, 0, &file.now);
        }
        for op in std::mem::take(&mut self.pending) {
            match op {
                DiskOp::Write { file, at, data, .. } => {
                    let entry = self.files.entry(file).or_default();
                    tear(&mut self.prng, &mut entry.durable, at as usize, &data);
                }
                DiskOp::Allocate { file, size, .. } if self.prng.one_in(2) => {
                    let entry = self.files.entry(file).or_default();
                    let size = entry.durable.len().max(size as usize);
                    entry.durable.resize(size, 0);
                }
                other if self.prng.one_in(2) => {
                    let _ = self.perform_atomic(other);
                }
                _ => {}
            }
        }
        let prng = &mut self.prng;
        self.files.retain(|_, file| file.named || prng.one_in(2));
        for file in self.files.values_mut() {
            file.now = file.durable.clone();
            file.named = true;
        }
    }

    fn perform_atomic(&mut self, op: DiskOp) -> Result<DiskOutput, DiskFault> {
        match op {
            DiskOp::ReplaceFile { .. } | DiskOp::Truncate { .. } | DiskOp::Rename { .. } => {
                let before = self.trouble;
                self.trouble = Trouble::None;
                let result = self.perform(op);
                self.trouble = before;
                result
            }
            _ => Ok(DiskOutput::Done),
        }
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    let size = bytes.len().max(at + data.len());
    bytes.resize(size, 0);
    bytes[at..at + data.len()].copy_from_slice(data);
}

/// Some sectors of `data` arrive.
fn tear(prng: &mut Prng, bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    let style = prng.below(4);
    let stop = prng.below(data.len() as u64 / SECTOR as u64 + 1) as usize * SECTOR;
    for (index, sector) in data.chunks(SECTOR).enumerate() {
        let arrives = match style {
            0 => false,
            1 => index * SECTOR < stop,
            2 => index * SECTOR >= stop,
            _ => prng.one_in(2),
        };
        if arrives {
            put(bytes, at + index * SECTOR, sector);
        }
    }
}
