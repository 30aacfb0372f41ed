//! How directories go: a deleted log's own, and another log's that is in the way.
//!
//! Names are given back by renaming, durably; what has the new name is removed after that, and after
//! a crash by whoever finds a directory that ends in `-delete`. A rename that the disk refuses may
//! have happened or not, so that a directory of a topic that is gone may keep its name: until another
//! topic wants it, or until the next start. Whoever begins a log is told whether its directory was
//! new; one that says that it is somebody else's, or does not say whose it is, is moved out of the
//! way, and never begun in.

use crate::base::{DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, Now, TopicId};

use super::face::{Event, Fault};
use super::ops::Job;
use super::setup;
use super::{Log, Stage};

/// What the name of a directory ends in that is to be removed.
pub const DELETED_SUFFIX: &str = "-delete";
/// What the name of a directory ends in that nobody claims, kept for a person to look at.
pub const STRAY_SUFFIX: &str = "-stray";
/// The longest file name that file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// The largest `partition.metadata` that is read.
const METADATA_BYTES_MAX: usize = 4096;

/// `<topic>-<partition>.<mark><suffix>`: the other name of a partition's directory. The front is
/// shortened where the whole would be too long for a file name, at most 255 bytes.
pub fn moved_away_name(directory: &str, mark: &str, suffix: &str) -> String {
    let (topic, partition) = match directory.rsplit_once('-') {
        Some((topic, partition)) => (topic, format!("-{partition}")),
        None => (directory, String::new()),
    };
    let room = NAME_BYTES_MAX.saturating_sub(partition.len() + 1 + mark.len() + suffix.len());
    let topic: String = topic.chars().take(room).collect();
    format!("{topic}{partition}.{mark}{suffix}")
}

impl Log {
    /// Deletes the log: its directory gets another name, durably, so that a topic of the same name
    /// starts afresh; [`Event::Deleted`] then, or [`Event::NotDeleted`]. The contents are removed
    /// after that.
    pub fn delete(&mut self, out: &mut Vec<DiskOp>) {
        if matches!(self.stage, Stage::Deleting | Stage::Deleted) {
            return;
        }
        self.stage = Stage::Deleting;
        self.give_up_round(&mut Vec::new());
        self.tail.abandon();
        self.recovery = None;
        self.delete_when_quiet(out);
    }

    /// Renames the directory once nothing is in flight in it: what came late would meet the files of
    /// the next topic of this name.
    pub(super) fn delete_when_quiet(&mut self, out: &mut Vec<DiskOp>) {
        if self.stage != Stage::Deleting || !self.ops.is_empty() {
            return;
        }
        self.stage = Stage::Deleted;
        // What was found in its place and is another topic's is not this one's to be removed.
        let stray = self.foreign.filter(|found| *found != TopicId::ZERO);
        let renamed = match stray {
            Some(found) => self.moved_away(found, STRAY_SUFFIX),
            // Unique: no two incarnations of a topic share an id.
            None => self.moved_away(self.topic, DELETED_SUFFIX),
        };
        let id = self.ops.start(Job::DeleteRename {
            renamed: renamed.clone(),
            kept: stray.is_some(),
        });
        out.push(DiskOp::Rename {
            id,
            from: self.directory.clone(),
            to: renamed,
        });
    }

    fn moved_away(&self, topic: TopicId, suffix: &str) -> FilePath {
        let mark: String = topic.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = moved_away_name(self.directory.name(), &mark, suffix);
        self.directory.parent().join(&name)
    }

    /// The directory has its other name, or never was there.
    pub(super) fn renamed_away(
        &mut self,
        renamed: FilePath,
        kept: bool,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        events.push(Event::Deleted);
        self.remove_renamed(renamed, kept, out);
    }

    fn remove_renamed(&mut self, directory: FilePath, kept: bool, out: &mut Vec<DiskOp>) {
        if !kept {
            let id = self.ops.start(Job::Removed);
            out.push(DiskOp::RemoveDirectory { id, directory });
        }
    }

    /// The new log's directory was there before it: whose is it?
    pub(super) fn look_whose(&mut self, out: &mut Vec<DiskOp>) {
        let id = self.ops.start(Job::Whose);
        out.push(DiskOp::ReadFile {
            id,
            file: self.directory.join(setup::METADATA),
            limit: METADATA_BYTES_MAX,
        });
    }

    /// Only a directory that names this log's topic is taken; any other is moved out of the way.
    pub(super) fn known_whose(
        &mut self,
        now: Now,
        result: Result<DiskOutput, DiskFault>,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let found = match result {
            Ok(DiskOutput::Contents(contents)) => setup::topic_of(&contents),
            Ok(_) => None,
            Err(fault) if fault.kind == FaultKind::NotFound => {
                let (id, directory) = (self.ops.start(Job::Inside), self.directory.clone());
                return out.push(DiskOp::List { id, directory });
            }
            Err(fault) if fault.kind == FaultKind::TooLarge => None,
            Err(fault) => {
                self.setup.directory_failed();
                return self.refused(now, fault, events);
            }
        };
        if found == Some(self.topic) {
            self.setup.directory_made();
            self.setup.metadata_written();
        } else {
            self.move_leftover_away(found.unwrap_or(TopicId::ZERO), out);
        }
    }

    /// It does not say. One without files is nobody's: a creation that a crash cut short, or a disk
    /// that somebody mounted there for the partition.
    pub(super) fn known_inside(&mut self, output: &DiskOutput, out: &mut Vec<DiskOp>) {
        let empty = match output {
            DiskOutput::Entries(entries) => entries.iter().all(|entry| entry.is_directory),
            _ => false,
        };
        if empty {
            self.setup.directory_made();
        } else {
            self.move_leftover_away(TopicId::ZERO, out);
        }
    }

    /// All that was there at the start has been sorted out: only a deletion that the disk refused since
    /// can have left it.
    fn move_leftover_away(&mut self, topic: TopicId, out: &mut Vec<DiskOp>) {
        self.move_away(self.moved_away(topic, DELETED_SUFFIX), false, out);
    }

    /// The answer to [`Event::Foreign`]: what is in the log's place is moved out of it, to be
    /// removed, or `kept` for a person; the log begins anew then, with [`Event::Ready`].
    pub fn begin_anew(&mut self, kept: bool, out: &mut Vec<DiskOp>) {
        let Some(found) = self.foreign else {
            return;
        };
        if self.stage == Stage::Opening && self.fault.is_none() {
            let suffix = if kept { STRAY_SUFFIX } else { DELETED_SUFFIX };
            self.move_away(self.moved_away(found, suffix), kept, out);
        }
    }

    fn move_away(&mut self, renamed: FilePath, kept: bool, out: &mut Vec<DiskOp>) {
        let id = self.ops.start(Job::MoveAway {
            renamed: renamed.clone(),
            kept,
        });
        out.push(DiskOp::Rename {
            id,
            from: self.directory.clone(),
            to: renamed,
        });
    }

    /// What was in the way has another name, or was not there any more.
    pub(super) fn moved_out_of_the_way(
        &mut self,
        renamed: FilePath,
        kept: bool,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        self.foreign = None;
        self.setup.directory_failed();
        self.remove_renamed(renamed, kept, out);
        if self.stage == Stage::Opening && self.fault.is_none() {
            self.stage = Stage::Ready;
            events.push(Event::Ready {
                clean: true,
                bytes_scanned: 0,
                bytes_cut: 0,
            });
        }
    }

    /// It could not be moved: the log cannot be begun. It is looked at again at the next start.
    pub(super) fn stays_in_the_way(&mut self, now: Now, fault: DiskFault, events: &mut Vec<Event>) {
        self.setup.directory_failed();
        match self.stage {
            Stage::Opening => self.fence(Fault::Disk(fault), events),
            Stage::Ready | Stage::Closing | Stage::Closed | Stage::Deleting | Stage::Deleted => {
                self.refused(now, fault, events)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_name_of_a_directory_fits_into_a_file_name() {
        let name = moved_away_name("orders-3", "ab", DELETED_SUFFIX);
        assert_eq!(name, "orders-3.ab-delete");
        let long = format!("{}-12", "x".repeat(249));
        let name = moved_away_name(&long, &"0".repeat(32), STRAY_SUFFIX);
        assert_eq!(name.len(), NAME_BYTES_MAX);
        assert!(name.ends_with(&format!("-12.{}-stray", "0".repeat(32))));
    }
}
