//! A core's journal on one data directory: small durable writes to many logs become one write.
//!
//! It stands between the logs and the disk, and is told every operation of theirs. While several
//! small durable writes are on their way, the next ones are gathered into a frame, one durable write
//! to the journal's file; each is done when its frame is, and all frames before it
//! ([`DiskOutput::Journaled`]): a replay ends at the first frame that is not whole. A few frames are
//! on their way at a time. What logs wrote is brought to their files later, many writes of one file
//! at once, and made durable there with one sync for all that one extent holds of the file.
//!
//! The file has two extents, used in turn. One is used again when all that it holds has been brought
//! home, durably, and its first block has been wiped. Until then the file of each of its entries is
//! *tracked*: every durable write to it goes through the journal, whatever its size, and everything
//! else that touches the file waits until it is *settled*, that is until its images are home and a
//! frame says that what the journal held of it is void. Only so many files are tracked at a time; the
//! others are written as if there were no journal. So replaying all frames in their order never
//! puts something old over something new, however often it is done, and a file that was sealed,
//! renamed or removed is left alone.
//!
//! When the journal's own write fails, the logs in it are fenced, and the journal is given up: what
//! it holds is brought home, it is removed, and writes go to their files as they did. An image that
//! cannot be brought home fences its log, and the journal is given up as well; but its file stays
//! for the next start, and whatever log has something in it writes no more until then. Only a full
//! disk is tried again.
//!
//! `route` decides what goes into it, `write` writes it, `bring_home` empties it, `replay` is the
//! next start's; `frame` is the format, `report` what a person is told of a file.
//!
//! Knows no log: only operations, files and who asked.

mod bring_home;
#[cfg(test)]
mod crash_tests;
mod frame;
mod replay;
mod report;
mod route;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::{
    BLOCK, Buf, DiskDone, DiskFault, DiskOp, DiskOutput, FilePath, OpId, Pool, TopicId,
};
use crate::obs::Journal as Measured;

use frame::{Place, entry_bytes};

pub(super) use self::replay::Replay;
pub use self::report::{JournalReport, JournaledFile, inspect_journal};

/// Larger writes are not gathered, in bytes, unless their file is tracked: to write them twice costs
/// more than a write for each.
const SMALL_BYTES_MAX: usize = 32 << 10;
/// Bytes of entries in one frame at most, a single larger write excepted.
const FRAME_BYTES_MAX: usize = 512 << 10;
/// Frames on their way at a time, at most. The device takes three side by side in little more time
/// than one: `fio` makes 7,500 durable writes a second of 28 KiB one by one, 12,000 with two in
/// flight, 22,600 with three.
pub(super) const FRAMES_MAX: u32 = 3;
/// What is kept free at the end of each extent, so that files can be settled when it is full.
const SETTLING_BYTES: u64 = 64 << 10;
/// The smallest extent, in bytes.
pub(super) const EXTENT_BYTES_MIN: u64 = 192 << 10;
/// Bytes of an extent for each file that may be tracked. Before an extent is used again each file in
/// it is synced, one by one and at a cost of its own: unless a file has gathered several small writes
/// by then, the frames only wait for that. In 64 MiB these are 2,048 files, which are synced while the
/// other extent takes what comes meanwhile; of 10,000 they were not.
const BYTES_A_FILE: u64 = 32 << 10;
/// A journal is made if there is so many times its size on the disk, the reserve left out: what it
/// saves is not worth the room for records.
const SPACE_TIMES: u64 = 16;
/// What the names of journals begin with; the number of the core follows.
pub const FILE_PREFIX: &str = ".journal-";

/// What became of operations.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// For the disk.
    pub ops: Vec<DiskOp>,
    /// For the logs that asked.
    pub done: Vec<DiskDone>,
    /// The file of a log holds what was journaled, below a position or all.
    pub home: Vec<(u32, FilePath, Option<u64>)>,
    /// What a log had acknowledged cannot be brought home.
    pub failed: Vec<(u32, DiskFault)>,
}

/// How far the journal's file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none yet.
    Absent,
    /// The disk is asked for its space, then its blocks are written, synced, and its name made durable.
    Making,
    Ready,
    /// What it holds is brought home; then it is emptied and not used again.
    Leaving,
    /// It holds nothing and takes nothing.
    Gone,
}

/// A half of the file.
#[derive(Debug, Default)]
struct Extent {
    /// 0: it holds nothing.
    generation: u64,
    /// Images of it that are not durably home yet.
    images: usize,
    wiping: bool,
}

/// What was written to the journal and is not in its file yet.
#[derive(Clone, Debug)]
struct Image {
    at: u64,
    data: Arc<Buf>,
    extent: usize,
}

impl Image {
    fn end(&self) -> u64 {
        self.at + self.data.len() as u64
    }
}

/// A file of which the journal holds something.
#[derive(Debug)]
struct Tracked {
    owner: u32,
    topic: TopicId,
    /// In order; those of the frames that are on their way are not among them.
    images: VecDeque<Image>,
    /// Memory of those, in bytes.
    bytes: usize,
    /// How many of the first images are on their way home.
    filling: usize,
    /// Images that are home, but not durably: how many of each extent.
    unsynced: [usize; 2],
    /// Those that the sync on its way makes durable.
    syncing: Option<[usize; 2]>,
    /// A sync is its next step, whatever came meanwhile.
    sync_due: bool,
    /// Entries gathered or on their way to the journal.
    coming: usize,
    /// Extents with entries of it, a bit each.
    extents: u8,
    /// What waits until it is settled, in order.
    waiting: VecDeque<DiskOp>,
    /// It is to be settled as soon as all is home; a frame says so already.
    settling: bool,
    /// It stands in the queue of those to be brought home.
    queued: bool,
    /// It cannot be brought home.
    failed: bool,
}

/// A write for the next frame.
#[derive(Debug)]
struct Gathered {
    id: OpId,
    file: FilePath,
    at: u64,
    data: Arc<Buf>,
}

/// A frame on its way.
#[derive(Debug)]
struct Flight {
    number: u32,
    settled: Vec<FilePath>,
    writes: Vec<Gathered>,
    /// It is on the disk; others before it may not be.
    written: bool,
}

/// What an operation of the journal itself was for.
#[derive(Debug)]
enum Job {
    Space,
    Allocate,
    Sync,
    Name,
    Frame(u32),
    Home(FilePath),
    HomeSync(FilePath),
    Wipe(usize),
    Remove,
    RemoveName,
}

/// How a journal is set up.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Of both extents together; 0: none is kept.
    pub bytes: u64,
    /// So many small durable writes on their way have the next ones gathered.
    pub writes_min: usize,
    /// Images in memory, at most, about.
    pub memory_bytes: usize,
}

/// A core's journal on one data directory.
#[derive(Debug)]
pub(super) struct Journal {
    owner: u32,
    file: FilePath,
    pool: Pool,
    options: Options,
    stage: Stage,
    /// The process is stopping: nothing more comes, the file goes.
    closing: bool,
    extents: [Extent; 2],
    active: usize,
    /// Of the next frame.
    place: Place,
    /// The same, in the active extent.
    position: u64,
    gathered: VecDeque<Gathered>,
    /// Files of which the next frame says that they are settled.
    settled: VecDeque<FilePath>,
    /// In the order of their numbers, all in the active extent.
    flights: VecDeque<Flight>,
    /// Small durable writes on their way to their own files.
    direct: BTreeSet<OpId>,
    tracked: BTreeMap<FilePath, Tracked>,
    /// Files to be brought home, in order.
    queue: VecDeque<FilePath>,
    /// Names of files on their way into the queue; kept for its memory.
    wanted: Vec<FilePath>,
    /// Files for which something waits.
    wanting: BTreeSet<FilePath>,
    filling: usize,
    /// Of images that can be brought home.
    memory: usize,
    /// Of those among them that are on their way.
    memory_going: usize,
    /// What waits until files under a directory are on their way no more.
    directories: Vec<DiskOp>,
    jobs: BTreeMap<u32, Job>,
    next_job: u32,
    /// Frames written since the last look at whether it rests.
    busy: bool,
    counts: Measured,
}

impl Journal {
    pub(super) fn new(owner: u32, disk: u16, core: u16, pool: Pool, options: Options) -> Journal {
        Journal {
            owner,
            file: FilePath::new(disk, &format!("{FILE_PREFIX}{core}")),
            pool,
            stage: if options.bytes == 0 {
                Stage::Gone
            } else {
                Stage::Absent
            },
            options,
            closing: false,
            extents: Default::default(),
            active: 0,
            place: Place::default(),
            position: 0,
            gathered: VecDeque::new(),
            settled: VecDeque::new(),
            flights: VecDeque::new(),
            direct: BTreeSet::new(),
            tracked: BTreeMap::new(),
            queue: VecDeque::new(),
            wanted: Vec::new(),
            wanting: BTreeSet::new(),
            filling: 0,
            memory: 0,
            memory_going: 0,
            directories: Vec::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            busy: false,
            counts: Measured::default(),
        }
    }

    fn extent_bytes(&self) -> u64 {
        let half = (self.options.bytes / 2).max(EXTENT_BYTES_MIN);
        half - half % BLOCK as u64
    }

    fn start(&mut self, job: Job) -> OpId {
        let sequence = self.next_job;
        self.next_job = self.next_job.wrapping_add(1);
        self.jobs.insert(sequence, job);
        OpId {
            owner: self.owner,
            sequence,
        }
    }

    /// True when it holds nothing and none of its operations is in flight.
    pub(super) fn is_closed(&self) -> bool {
        self.stage == Stage::Gone && self.jobs.is_empty()
    }

    /// True when it would be of use to look later whether it rests.
    pub(super) fn is_in_use(&self) -> bool {
        matches!(self.stage, Stage::Ready | Stage::Leaving) && !self.tracked.is_empty()
    }

    /// What it did and holds.
    pub(super) fn measure(&self) -> Measured {
        Measured {
            files: self.tracked.len() as u64,
            memory_bytes: self.memory as u64,
            ..self.counts
        }
    }

    /// What is not in flight goes on, as far as it can.
    pub(super) fn pump(&mut self, out: &mut Outcome) {
        for op in std::mem::take(&mut self.directories) {
            self.after_dropping(op, out);
        }
        // Not with the frames: with too much in memory none is written.
        let staying = self.memory.saturating_sub(self.memory_going);
        if staying > self.options.memory_bytes && self.queue.is_empty() {
            self.drain_memory();
        }
        self.bring_home(out);
        self.settle_what_is_home();
        self.wipe(out);
        self.leave_further(out);
    }

    /// The turn is over: what was gathered becomes one write, unless it had better gather more.
    pub(super) fn end_turn(&mut self, out: &mut Outcome) {
        self.write_frame(out);
    }

    /// The outcome of one of the journal's own operations.
    pub(super) fn own_done(&mut self, done: DiskDone, out: &mut Outcome) {
        let Some(job) = self.jobs.remove(&done.id.sequence) else {
            return;
        };
        let (space, failed) = match done.result {
            Ok(DiskOutput::Space(space)) => (Some(space), None),
            Ok(_) => (None, None),
            Err(fault) => (None, Some(fault)),
        };
        match job {
            Job::Space => self.make_within(space.unwrap_or_default(), out),
            Job::Allocate | Job::Sync | Job::Name if failed.is_some() => {
                // Nothing depends on it yet. The name goes with the next start.
                self.stage = Stage::Gone;
            }
            Job::Allocate => {
                let file = self.file.clone();
                let id = self.start(Job::Sync);
                out.ops.push(DiskOp::Sync { id, file });
            }
            Job::Sync => {
                let directory = self.file.parent();
                let id = self.start(Job::Name);
                out.ops.push(DiskOp::SyncDirectory { id, directory });
            }
            Job::Name => {
                self.stage = if self.closing {
                    Stage::Leaving
                } else {
                    Stage::Ready
                }
            }
            Job::Frame(number) => match failed {
                None => self.frame_written(number, out),
                Some(fault) => self.frame_failed(number, &fault, out),
            },
            Job::Home(file) => self.came_home(&file, failed, out),
            Job::HomeSync(file) => self.home_synced(&file, failed, out),
            Job::Wipe(extent) => self.wiped(extent, failed.is_some(), out),
            Job::Remove if failed.is_some() => self.leave_it_behind(out),
            Job::Remove => {
                let directory = self.file.parent();
                let id = self.start(Job::RemoveName);
                out.ops.push(DiskOp::SyncDirectory { id, directory });
            }
            Job::RemoveName => self.removed(failed.map_or(Ok(()), Err), out),
        }
        self.pump(out);
    }

    /// The outcome of a log's operation, which the log is told as well.
    pub(super) fn direct_done(&mut self, id: OpId) {
        self.direct.remove(&id);
    }
}

impl Tracked {
    fn new(owner: u32, topic: TopicId) -> Tracked {
        Tracked {
            owner,
            topic,
            images: VecDeque::new(),
            bytes: 0,
            filling: 0,
            unsynced: [0; 2],
            syncing: None,
            sync_due: false,
            coming: 1,
            extents: 0,
            waiting: VecDeque::new(),
            settling: false,
            queued: false,
            failed: false,
        }
    }

    /// Memory of the images that are on their way home.
    fn filling_bytes(&self) -> usize {
        let filling = self.images.iter().take(self.filling);
        filling.map(|image| image.data.capacity()).sum()
    }

    /// True when nothing of it is to be brought home, or to be made durable there.
    fn is_home(&self) -> bool {
        self.images.is_empty() && self.coming == 0 && self.is_synced()
    }

    fn is_synced(&self) -> bool {
        self.unsynced == [0; 2] && self.syncing.is_none()
    }
}

impl Gathered {
    fn bytes(&self) -> usize {
        entry_bytes(&self.file.path, self.data.len())
    }
}

fn durable_write(id: OpId, file: FilePath, at: u64, data: Arc<Buf>) -> DiskOp {
    DiskOp::Write {
        id,
        file,
        at,
        data,
        durable: true,
    }
}

/// Linux's number for a full disk.
const ENOSPC: i32 = 28;
/// Linux's number for an input or output error.
const EIO: i32 = 5;
