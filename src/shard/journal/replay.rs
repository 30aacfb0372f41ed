//! Before any log is opened: what journals hold is brought to its files, and they are removed.
//!
//! All journals that are found count, whichever core wrote them. Done again after a crash, it does
//! the same again: nothing was written to those files meanwhile. A file that is not there, or whose
//! directory belongs to another topic id by now, is left alone.
//!
//! What cannot be read, brought home or removed, or is damaged, fails its data directory: what was
//! acknowledged is in the journal, and no log may be opened without it. The journal stays.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::base::{
    BLOCK, Buf, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, OpId, TopicId,
};
use crate::log;

use super::frame::{Entry, read_file};
use super::{EIO, ENOSPC, FILE_PREFIX};

/// Bytes of a journal that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// Files that are brought up to date at a time.
const FILES_MAX: usize = 16;
/// Linux's number for a message that is damaged.
const EBADMSG: i32 = 74;
/// The largest `partition.metadata` that is read.
const METADATA_BYTES_MAX: usize = 4096;

/// What one file is to get.
#[derive(Debug)]
struct Target {
    file: FilePath,
    topic: TopicId,
    images: Images,
}

/// What an operation was for.
#[derive(Debug)]
enum Job {
    /// The names in a data directory.
    Names { disk: u16 },
    /// A piece of the journal.
    Read,
    /// Whose directory a target is in.
    Owner(Target),
    /// The names in a target's directory.
    Exists(Target),
    /// One image is written.
    Write(Target),
    /// The journal is removed.
    Remove,
    /// Its name is gone for good.
    RemoveName,
}

/// The replay of all journals on all data directories.
#[derive(Debug)]
pub(in crate::shard) struct Replay {
    owner: u32,
    next: u32,
    jobs: BTreeMap<u32, Job>,
    /// Journals still to be replayed, with their lengths in bytes; the first is under way.
    journals: VecDeque<(FilePath, u64)>,
    contents: Vec<u8>,
    targets: VecDeque<Target>,
    /// Images that were written.
    pub(in crate::shard) images: u64,
    /// Data directories whose journals could not be replayed, and why.
    pub(in crate::shard) failed: BTreeMap<u16, DiskFault>,
}

impl Replay {
    /// Begins on these data directories.
    pub(in crate::shard) fn new(owner: u32, disks: &[u16], out: &mut Vec<DiskOp>) -> Replay {
        let mut replay = Replay {
            owner,
            next: 0,
            jobs: BTreeMap::new(),
            journals: VecDeque::new(),
            contents: Vec::new(),
            targets: VecDeque::new(),
            images: 0,
            failed: BTreeMap::new(),
        };
        for disk in disks {
            let id = replay.start(Job::Names { disk: *disk });
            let directory = FilePath::new(*disk, "");
            out.push(DiskOp::List { id, directory });
        }
        replay
    }

    fn start(&mut self, job: Job) -> OpId {
        let sequence = self.next;
        self.next += 1;
        self.jobs.insert(sequence, job);
        OpId {
            owner: self.owner,
            sequence,
        }
    }

    /// Takes the outcome of an operation; true when all is done.
    pub(in crate::shard) fn step(&mut self, done: DiskDone, out: &mut Vec<DiskOp>) -> bool {
        let Some(job) = self.jobs.remove(&done.id.sequence) else {
            return false;
        };
        let disk = match (&job, self.journals.front()) {
            (Job::Names { disk }, _) => *disk,
            (_, Some((journal, _))) => journal.disk,
            (_, None) => return false,
        };
        // Of a directory that has failed, what was on its way is only waited for.
        if !self.failed.contains_key(&disk)
            && let Err(fault) = self.take(job, done.result, out)
        {
            self.targets.clear();
            self.contents.clear();
            self.failed.insert(disk, lasting(fault));
        }
        if self.failed.contains_key(&disk) && self.jobs.is_empty() {
            let failed = &self.failed;
            self.journals
                .retain(|(journal, _)| !failed.contains_key(&journal.disk));
            self.read_on(out);
        }
        self.jobs.is_empty() && self.journals.is_empty()
    }

    fn take(
        &mut self,
        job: Job,
        result: Result<DiskOutput, DiskFault>,
        out: &mut Vec<DiskOp>,
    ) -> Result<(), DiskFault> {
        match job {
            Job::Names { disk } => {
                if let DiskOutput::Entries(entries) = result? {
                    let journals = entries.into_iter().filter(|entry| !entry.is_directory);
                    let journals = journals.filter(|entry| entry.name.starts_with(FILE_PREFIX));
                    let named = |name: &str| FilePath::new(disk, name);
                    self.journals
                        .extend(journals.map(|entry| (named(&entry.name), entry.size)));
                }
                if self.jobs.is_empty() {
                    self.read_on(out);
                }
            }
            Job::Read => {
                let size = self.journals.front().map_or(0, |(_, size)| *size);
                let read = match result? {
                    DiskOutput::Data(bytes) => {
                        self.contents.extend_from_slice(&bytes);
                        bytes.len()
                    }
                    _ => 0,
                };
                if read == READ_BYTES && (self.contents.len() as u64) < size {
                    self.read_on(out);
                } else {
                    self.find_targets()?;
                    self.go_on(out);
                }
            }
            Job::Owner(target) => {
                let owner = match result {
                    Ok(DiskOutput::Contents(contents)) => log::topic_of(&contents),
                    Ok(_) => None,
                    Err(fault) if fault.kind == FaultKind::NotFound => None,
                    Err(fault) => return Err(fault),
                };
                if owner == Some(target.topic) {
                    let directory = target.file.parent();
                    let id = self.start(Job::Exists(target));
                    out.push(DiskOp::List { id, directory });
                }
                self.go_on(out);
            }
            Job::Exists(target) => {
                let DiskOutput::Entries(entries) = result? else {
                    return Ok(());
                };
                if entries.iter().any(|entry| entry.name == target.file.name()) {
                    self.write(target, out);
                }
                self.go_on(out);
            }
            Job::Write(target) => {
                result?;
                self.write(target, out);
                self.go_on(out);
            }
            Job::Remove => {
                result?;
                let directory = FilePath::new(self.journals[0].0.disk, "");
                let id = self.start(Job::RemoveName);
                out.push(DiskOp::SyncDirectory { id, directory });
            }
            Job::RemoveName => {
                result?;
                self.journals.pop_front();
                self.read_on(out);
            }
        }
        Ok(())
    }

    /// The next piece of the first journal.
    fn read_on(&mut self, out: &mut Vec<DiskOp>) {
        let Some((file, _)) = self.journals.front().cloned() else {
            return;
        };
        let at = self.contents.len() as u64;
        let id = self.start(Job::Read);
        let len = READ_BYTES;
        out.push(DiskOp::Read { id, file, at, len });
    }

    /// What the journal says, file by file: the older extent first.
    fn find_targets(&mut self) -> Result<(), DiskFault> {
        let contents = std::mem::take(&mut self.contents);
        let Some((journal, _)) = self.journals.front() else {
            return Ok(());
        };
        let disk = journal.disk;
        let damaged = || DiskFault {
            file: journal.clone(),
            op: "replay",
            kind: FaultKind::Io(EBADMSG),
        };
        let (_, entries) = read_file(&contents).map_err(|_| damaged())?;
        let targets = lay_over(entries).ok_or_else(damaged)?;
        let targets = targets.into_iter().map(|((path, topic), images)| Target {
            file: FilePath::new(disk, &path),
            topic,
            images,
        });
        self.targets = targets.collect();
        Ok(())
    }

    /// Looks at the next files; when none is left, the journal goes.
    fn go_on(&mut self, out: &mut Vec<DiskOp>) {
        while self.jobs.len() < FILES_MAX
            && let Some(target) = self.targets.pop_front()
        {
            let file = target.file.parent().join(log::METADATA_NAME);
            let id = self.start(Job::Owner(target));
            out.push(DiskOp::ReadFile {
                id,
                file,
                limit: METADATA_BYTES_MAX,
            });
        }
        if self.jobs.is_empty()
            && let Some((file, _)) = self.journals.front().cloned()
        {
            let id = self.start(Job::Remove);
            out.push(DiskOp::Remove { id, file });
        }
    }

    /// Writes the target's next image, if it has one.
    fn write(&mut self, mut target: Target, out: &mut Vec<DiskOp>) {
        let Some((at, bytes)) = target.images.pop_front() else {
            return;
        };
        self.images += 1;
        let file = target.file.clone();
        let id = self.start(Job::Write(target));
        out.push(DiskOp::Write {
            id,
            file,
            at,
            data: Arc::new(Buf::copy_of(&bytes)),
            durable: true,
        });
    }
}

/// The directory takes no part until the next start, for whatever reason.
fn lasting(fault: DiskFault) -> DiskFault {
    let kind = match fault.kind {
        FaultKind::NoSpace => FaultKind::Io(ENOSPC),
        FaultKind::NotFound | FaultKind::TooLarge => FaultKind::Io(EIO),
        FaultKind::Io(errno) => FaultKind::Io(errno),
    };
    DiskFault { kind, ..fault }
}

/// Images of a file: where they belong, and their bytes.
pub(super) type Images = VecDeque<(u64, Vec<u8>)>;

/// What entries, in the order in which they were written, say of each file. None if the front of an
/// image is missing.
pub(super) fn lay_over(entries: Vec<Entry>) -> Option<BTreeMap<(String, TopicId), Images>> {
    let mut files: BTreeMap<(String, TopicId), Images> = BTreeMap::new();
    for Entry { topic, path, image } in entries {
        match image {
            Some((at, bytes)) => {
                let images = files.entry((path, topic)).or_default();
                add(images, at, bytes).then_some(())?;
            }
            None => drop(files.remove(&(path, topic))),
        }
    }
    Some(files)
}

/// Lays an image over those before: one that goes on where the last one is becomes part of it. False
/// if its front is missing: that should be in the last one.
fn add(images: &mut Images, at: u64, bytes: Vec<u8>) -> bool {
    if let Some((before, whole)) = images.back_mut()
        && at >= *before
        && at <= *before + whole.len() as u64
    {
        let from = (at - *before) as usize;
        let covered = bytes.len().min(whole.len() - from);
        whole[from..from + covered].copy_from_slice(&bytes[..covered]);
        whole.extend_from_slice(&bytes[covered..]);
        return true;
    }
    let whole = at.is_multiple_of(BLOCK as u64);
    images.push_back((at, bytes));
    whole
}
