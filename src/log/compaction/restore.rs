//! What a crash left of a compaction, put right before anything else is believed.
//!
//! A swap file whose new segment the checkpoint counts is completed: some of what it replaces may
//! have its other names already. One that the checkpoint does not count is removed: everything that it
//! would replace is still there. Without a checkpoint nobody can tell, and it is completed: it holds
//! all that must stay.
//!
//! ```text
//! list, note, checkpoint -> remove what is replaced or undone -> sync the names -> rename -> list again
//! ```

use crate::base::{DirectoryEntry, DiskFault, DiskOp, DiskOutput, FaultKind, Offset};

use super::super::Log;
use super::super::checkpoint::Checkpoint;
use super::super::face::Fault;
use super::super::ops::{Job, OpenStep};
use super::super::segment::{base_of, file_name, index_name};
use super::swap::swap_range;
use super::{NOTE, note};

/// The largest note that is read.
const NOTE_BYTES_MAX: usize = 4096;

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::log) enum Restore {
    /// Nothing was looked at yet.
    #[default]
    Unseen,
    /// The note is being read.
    Reading,
    /// It was read, or there is none.
    Read,
    /// So many files are being removed; these are to be renamed: from, to.
    Removing(usize, Vec<(String, String)>),
    /// The names are being brought to the disk.
    Syncing(Vec<(String, String)>),
    /// So many files are being renamed.
    Renaming(usize),
    /// The directory is listed again.
    Listing,
    /// Nothing is left to be put right.
    Done,
}

/// A swap file and what becomes of it.
struct Found<'a> {
    entry: &'a DirectoryEntry,
    base: Offset,
    end: Offset,
    completes: bool,
}

fn swaps<'a>(entries: &'a [DirectoryEntry], stored: Option<&Checkpoint>) -> Vec<Found<'a>> {
    let files = entries.iter().filter(|entry| !entry.is_directory);
    let found = files.filter_map(|entry| {
        let (base, end) = swap_range(&entry.name)?;
        let completes = stored.is_none_or(|stored| {
            let counted = stored.sealed.iter().any(|sealed| {
                sealed.base == base.0 && sealed.end == end.0 && sealed.bytes == entry.size
            });
            let inside = |sealed: i64| sealed > base.0 && sealed < end.0;
            counted && !stored.sealed.iter().any(|sealed| inside(sealed.base))
        });
        Some(Found {
            entry,
            base,
            end,
            completes,
        })
    });
    found.collect()
}

impl Log {
    /// True when nothing of a compaction is in the way of recovery. Otherwise something is under way
    /// that ends in [`OpenStep::Compaction`].
    pub(in crate::log) fn is_restored(
        &mut self,
        restore: &mut Restore,
        entries: &[DirectoryEntry],
        stored: Option<&Checkpoint>,
        out: &mut Vec<DiskOp>,
    ) -> bool {
        if *restore == Restore::Unseen {
            if entries.iter().any(|entry| entry.name == NOTE) {
                *restore = Restore::Reading;
                let id = self.ops.start(Job::Open(OpenStep::Compaction));
                out.push(DiskOp::ReadFile {
                    id,
                    file: self.directory.join(NOTE),
                    limit: NOTE_BYTES_MAX,
                });
                return false;
            }
            *restore = Restore::Read;
        }
        if *restore == Restore::Read {
            let found = swaps(entries, stored);
            if found.is_empty() {
                *restore = Restore::Done;
                return true;
            }
            // The log was compacted, whatever became of its note.
            self.compaction.noted = true;
            self.put_right(restore, entries, &found, out);
        }
        *restore == Restore::Done
    }

    fn put_right(
        &mut self,
        restore: &mut Restore,
        entries: &[DirectoryEntry],
        found: &[Found<'_>],
        out: &mut Vec<DiskOp>,
    ) {
        let (mut removed, mut renamed) = (Vec::new(), Vec::new());
        for swap in found {
            if !swap.completes {
                removed.push(swap.entry.name.clone());
                continue;
            }
            let replaced = entries.iter().filter_map(|entry| base_of(&entry.name));
            let inside = replaced.filter(|base| *base > swap.base && *base < swap.end);
            for base in inside {
                removed.extend([file_name(base), index_name(base)]);
            }
            removed.push(index_name(swap.base));
            renamed.push((swap.entry.name.clone(), file_name(swap.base)));
        }
        removed.sort();
        removed.dedup();
        for name in &removed {
            let id = self.ops.start(Job::Open(OpenStep::Compaction));
            let file = self.directory.join(name);
            out.push(DiskOp::Remove { id, file });
        }
        *restore = Restore::Removing(removed.len(), renamed);
    }

    /// One of the operations is done. True when the directory has to be looked at again with these
    /// entries.
    pub(in crate::log) fn restore_further(
        &mut self,
        restore: &mut Restore,
        result: Result<DiskOutput, DiskFault>,
        out: &mut Vec<DiskOp>,
    ) -> Result<Option<Vec<DirectoryEntry>>, Fault> {
        let directory = self.directory.clone();
        match restore {
            Restore::Reading => {
                self.compaction.noted = true;
                self.compaction.cleaned_to = match result {
                    Ok(DiskOutput::Contents(contents)) => note::from_file(&contents),
                    Ok(_) => None,
                    Err(fault)
                        if matches!(fault.kind, FaultKind::NotFound | FaultKind::TooLarge) =>
                    {
                        None
                    }
                    Err(fault) => return Err(Fault::Disk(fault)),
                };
                *restore = Restore::Read;
                return Ok(Some(Vec::new()));
            }
            Restore::Removing(left, renamed) => {
                result.map_err(Fault::Disk)?;
                *left -= 1;
                if *left == 0 {
                    *restore = Restore::Syncing(std::mem::take(renamed));
                    let id = self.ops.start(Job::Open(OpenStep::Compaction));
                    out.push(DiskOp::SyncDirectory { id, directory });
                }
            }
            Restore::Syncing(renamed) => {
                result.map_err(Fault::Disk)?;
                let renamed = std::mem::take(renamed);
                *restore = Restore::Renaming(renamed.len());
                for (from, to) in &renamed {
                    let id = self.ops.start(Job::Open(OpenStep::Compaction));
                    let (from, to) = (directory.join(from), directory.join(to));
                    out.push(DiskOp::Rename { id, from, to });
                }
                if renamed.is_empty() {
                    self.list_again(restore, out);
                }
            }
            Restore::Renaming(left) => {
                result.map_err(Fault::Disk)?;
                *left -= 1;
                if *left == 0 {
                    self.list_again(restore, out);
                }
            }
            Restore::Listing => {
                *restore = Restore::Done;
                return match result.map_err(Fault::Disk)? {
                    DiskOutput::Entries(entries) => Ok(Some(entries)),
                    DiskOutput::Done
                    | DiskOutput::Journaled
                    | DiskOutput::Existed
                    | DiskOutput::Data(_)
                    | DiskOutput::Contents(_)
                    | DiskOutput::Space(_) => Ok(Some(Vec::new())),
                };
            }
            Restore::Unseen | Restore::Read | Restore::Done => {}
        }
        Ok(None)
    }

    fn list_again(&mut self, restore: &mut Restore, out: &mut Vec<DiskOp>) {
        *restore = Restore::Listing;
        let id = self.ops.start(Job::Open(OpenStep::Compaction));
        let directory = self.directory.clone();
        out.push(DiskOp::List { id, directory });
    }
}
