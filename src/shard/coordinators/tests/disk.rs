//! A disk in memory that does what it is told, in order, when it is told to; and that may be made
//! to fail its writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{
    Buf, DirectoryEntry, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, Space,
};

#[derive(Default)]
pub(super) struct Disk {
    files: BTreeMap<FilePath, Vec<u8>>,
    directories: BTreeSet<FilePath>,
    /// Writes to files whose path begins like this fail.
    pub(super) broken: Option<&'static str>,
}

impl Disk {
    pub(super) fn perform(&mut self, op: DiskOp) -> DiskDone {
        DiskDone {
            id: op.id(),
            result: self.outcome(op),
        }
    }

    fn outcome(&mut self, op: DiskOp) -> Result<DiskOutput, DiskFault> {
        match op {
            DiskOp::Write { file, at, data, .. } => {
                if self.broken.is_some_and(|path| file.path.starts_with(path)) {
                    return Err(fault(&file, FaultKind::Io(5)));
                }
                let at = at as usize;
                let contents = self.files.entry(file).or_default();
                contents.resize(contents.len().max(at + data.len()), 0);
                contents[at..at + data.len()].copy_from_slice(&data);
            }
            DiskOp::Read { file, at, len, .. } => {
                let contents = self.found(&file)?;
                let from = (at as usize).min(contents.len());
                let to = (from + len).min(contents.len());
                let data = Arc::new(Buf::copy_of(&contents[from..to]));
                return Ok(DiskOutput::Data(data));
            }
            DiskOp::Sync { .. } | DiskOp::SyncDirectory { .. } => {}
            DiskOp::Allocate { file, size, .. } => {
                let contents = self.files.entry(file).or_default();
                contents.resize(contents.len().max(size as usize), 0);
            }
            DiskOp::Truncate { file, size, .. } => {
                self.files.entry(file).or_default().resize(size as usize, 0);
            }
            DiskOp::ReadFile { file, .. } => {
                let contents = Bytes::copy_from_slice(self.found(&file)?);
                return Ok(DiskOutput::Contents(contents));
            }
            DiskOp::ReplaceFile { file, contents, .. } => {
                self.files.insert(file, contents.to_vec());
            }
            DiskOp::MakeDirectory { directory, .. } => {
                if !self.directories.insert(directory) {
                    return Ok(DiskOutput::Existed);
                }
            }
            DiskOp::Rename { from, to, .. } => self.rename(&from, &to),
            DiskOp::Remove { file, .. } => {
                self.files.remove(&file);
            }
            DiskOp::RemoveDirectory { directory, .. } => {
                self.files.retain(|file, _| file.parent() != directory);
                self.directories.remove(&directory);
            }
            DiskOp::Space { .. } => {
                return Ok(DiskOutput::Space(Space {
                    total: 1 << 40,
                    usable: 1 << 40,
                    reserve: 0,
                }));
            }
            DiskOp::List { directory, .. } => {
                return Ok(DiskOutput::Entries(self.list(&directory)));
            }
        }
        Ok(DiskOutput::Done)
    }

    fn found(&self, file: &FilePath) -> Result<&Vec<u8>, DiskFault> {
        let found = self.files.get(file);
        found.ok_or_else(|| fault(file, FaultKind::NotFound))
    }

    fn list(&self, directory: &FilePath) -> Vec<DirectoryEntry> {
        let entry = |path: &FilePath, is_directory, size| DirectoryEntry {
            name: path.name().to_owned(),
            is_directory,
            size,
        };
        let directories = self.directories.iter();
        let inside = directories.filter(|path| path.parent() == *directory && *path != directory);
        let files = self
            .files
            .iter()
            .filter(|(path, _)| path.parent() == *directory);
        let mut entries: Vec<_> = inside.map(|path| entry(path, true, 0)).collect();
        entries.extend(files.map(|(path, contents)| entry(path, false, contents.len() as u64)));
        entries
    }

    fn rename(&mut self, from: &FilePath, to: &FilePath) {
        if let Some(contents) = self.files.remove(from) {
            self.files.insert(to.clone(), contents);
        }
        if self.directories.remove(from) {
            self.directories.insert(to.clone());
            let inside: Vec<_> = self
                .files
                .keys()
                .filter(|file| file.parent() == *from)
                .cloned()
                .collect();
            for file in inside {
                if let Some(contents) = self.files.remove(&file) {
                    self.files.insert(to.join(file.name()), contents);
                }
            }
        }
    }
}

fn fault(file: &FilePath, kind: FaultKind) -> DiskFault {
    DiskFault {
        file: file.clone(),
        op: "disk",
        kind,
    }
}
