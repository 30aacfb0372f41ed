//! The values that go in and out of a [`super::Log`]: options, events, faults, reads and look-ups.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{BLOCK, DiskFault, FilePath, LeaderEpoch, Offset, TopicId};
use crate::record::BatchHeader;

/// How one partition's log behaves; the names are those of Kafka's topic configs.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// A segment never grows beyond this many bytes (`segment.bytes`), except for one batch that is
    /// larger by itself.
    pub segment_bytes: u32,
    /// A segment is rolled when a batch's timestamp lies this many milliseconds after that of the
    /// segment's first batch (`segment.ms`).
    pub segment_ms: i64,
    /// Taken off `segment_ms`, so that not all logs roll at once (`segment.jitter.ms`); the caller
    /// draws it.
    pub segment_jitter_ms: i64,
    /// A sparse index entry is made each time this many bytes went by (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// 1: every write is on stable storage before it is committed. More: a sync is issued once so
    /// many records were written (`flush.messages`), and commits do not wait for it.
    pub flush_messages: i64,
    /// The longest that a record of a relaxed log waits for its sync, in milliseconds (`flush.ms`).
    pub flush_ms: i64,
    /// Segments whose newest record is older are deleted, -1 for never (`retention.ms`).
    pub retention_ms: i64,
    /// The oldest segments are deleted while the rest is still this large, -1 for never
    /// (`retention.bytes`).
    pub retention_bytes: i64,
    /// How long a deleted segment's file is kept under another name, in milliseconds
    /// (`file.delete.delay.ms`), for readers that still hold a slice of it.
    pub file_delete_delay_ms: i64,
    /// The largest batch that is accepted, in bytes.
    pub batch_bytes_max: u32,
    /// What is appended may take the data directory's reserve: the broker's own records, without
    /// which nothing could be deleted any more.
    pub from_reserve: bool,
    /// Old records of a key are compacted away (`cleanup.policy`): recovery accepts gaps between the
    /// offsets of full segments. Without it a gap is damage, unless the log was compacted before.
    pub compact: bool,
    /// From which dirty share on a log is compacted, 0 to 1 (`min.cleanable.dirty.ratio`).
    pub dirty_ratio_min: f64,
    /// How old a record has to be before it may be compacted away (`min.compaction.lag.ms`).
    pub compaction_lag_min_ms: i64,
    /// How old a record may get in a log that is not compacted for being little dirty
    /// (`max.compaction.lag.ms`).
    pub compaction_lag_max_ms: i64,
    /// How long a tombstone stays once it was seen by a compaction (`delete.retention.ms`).
    pub delete_retention_ms: i64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            flush_messages: 1,
            flush_ms: i64::MAX,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            file_delete_delay_ms: 60_000,
            batch_bytes_max: 100 << 20,
            from_reserve: false,
            compact: false,
            dirty_ratio_min: 0.5,
            compaction_lag_min_ms: 0,
            compaction_lag_max_ms: i64::MAX,
            delete_retention_ms: 24 * 3_600_000,
        }
    }
}

/// What the log tells its partition.
#[derive(Clone, Debug)]
pub enum Event {
    /// While opening: the producer state that was given to the last checkpoint. Comes before any
    /// [`Event::Replayed`].
    Snapshot(Bytes),
    /// While opening: a batch that was written after the snapshot, in order of offset.
    Replayed {
        /// Its header.
        header: BatchHeader,
    },
    /// The log is open for reads and appends.
    Ready {
        /// True when it was closed cleanly and nothing had to be scanned.
        clean: bool,
        /// Bytes of batches that recovery went over.
        bytes_scanned: u64,
        /// How many bytes of a torn, never acknowledged write were cut.
        bytes_cut: u64,
    },
    /// [`super::Log::committed_end`] or [`super::Log::durable_end`] moved.
    Committed,
    /// A range asked for with [`super::Log::fill`] is there, or was given up: look again.
    Filled,
    /// Enough was appended since the last checkpoint: call [`super::Log::checkpoint`].
    CheckpointWanted,
    /// A round of compaction can go on: call [`super::Log::compact`].
    CompactionDue,
    /// A raised start offset survives a crash now.
    StartOffsetDurable(Offset),
    /// Only the data directory's reserve is left: what was taken before is written from it, appends
    /// are refused until [`super::Log::set_short`] says that there is space again.
    SpaceShort,
    /// Not even the reserve has room for what was taken: it stays to be written, which may be long;
    /// whoever waits for it had better be told.
    SpaceGone,
    /// The answer to [`super::Log::close`]: all is on stable storage.
    Closed,
    /// While opening: the directory is another topic's, zero if it cannot be read whose. Nothing of
    /// it was touched. To be answered with [`super::Log::begin_anew`], or with
    /// [`super::Log::give_up_on`] and [`Fault::Foreign`].
    Foreign(TopicId),
    /// The answer to [`super::Log::delete`]: after a crash the log is not there any more.
    Deleted,
    /// The other answer: the disk refused to rename the directory, which may still be there. It is
    /// moved away when its name is wanted again, or at the next start.
    NotDeleted(DiskFault),
    /// The log accepts nothing any more; what lies below `committed_end` can still be read.
    Fenced(Fault),
}

/// Why a log is fenced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk failed an operation. It is not tried again.
    Disk(DiskFault),
    /// Bytes that were acknowledged are damaged or missing. Nothing was cut.
    Corrupt {
        /// The segment file.
        file: FilePath,
        /// The position of the first byte that cannot be vouched for.
        position: u64,
    },
    /// The directory belongs to another incarnation of the topic.
    Foreign {
        /// The directory.
        directory: FilePath,
        /// The topic that it says it belongs to; zero if it cannot be read.
        found: TopicId,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Disk(fault) => fault.fmt(f),
            Fault::Corrupt { file, position } => {
                write!(f, "{file} is damaged at byte {position}; nothing was cut")
            }
            Fault::Foreign { directory, found } => {
                write!(f, "{directory} belongs to topic id {found}")
            }
        }
    }
}

impl std::error::Error for Fault {}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record.
    pub last_offset: Offset,
}

/// Why a batch was not taken. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendRefused {
    /// The log is fenced, closed or deleted.
    Fenced,
    /// The log is still opening.
    NotReady,
    /// Only the data directory's reserve is left, or not even that. Tried again by itself.
    NoSpace,
    /// The batch is larger than the log takes.
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It is not exactly one batch of magic 2.
    Malformed,
}

/// A stretch of one segment file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileRange {
    /// The file.
    pub file: FilePath,
    /// Where it begins, a multiple of [`BLOCK`].
    pub at: u64,
    /// Its length in bytes, a multiple of [`BLOCK`].
    pub len: usize,
}

impl FileRange {
    /// The whole blocks that cover `from..to` of `file`.
    pub fn covering(file: FilePath, from: u64, to: u64) -> FileRange {
        let at = from - from % BLOCK as u64;
        FileRange {
            file,
            at,
            len: (to - at).next_multiple_of(BLOCK as u64) as usize,
        }
    }
}

/// The answer to [`super::Log::read`].
#[derive(Clone, Debug)]
pub enum Read {
    /// There is nothing (yet) at or above the offset, or the next batch does not fit.
    Nothing,
    /// Whole consecutive batches.
    Slices(Vec<Slice>),
    /// Call [`super::Log::fill`] with this, and read again at [`Event::Filled`].
    Fill(FileRange),
    /// The offset is below [`super::Log::start_offset`].
    BelowStart,
    /// The offset is above [`super::Log::end_offset`].
    AboveEnd,
    /// The offset is not below what a fenced log can vouch for.
    Fenced,
}

/// A stretch of whole batches.
#[derive(Clone, Debug)]
pub enum Slice {
    /// In memory.
    Memory(Bytes),
    /// In a file, in blocks that are not rewritten any more.
    File {
        /// The segment file.
        file: FilePath,
        /// The position of the first byte; any, not block-aligned.
        at: u64,
        /// Its length in bytes.
        len: usize,
        /// The file keeps its name while this is there.
        hold: Hold,
    },
}

/// A claim on the name of a segment's file: until the last clone of it is dropped, the name is not
/// given to other contents. Whoever has opened the file needs it no more.
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<()>);

impl Hold {
    /// True when nobody but the segment itself has it.
    pub(super) fn is_free(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Slice {
    /// Its length in bytes.
    pub fn size(&self) -> usize {
        match self {
            Slice::Memory(bytes) => bytes.len(),
            Slice::File { len, .. } => *len,
        }
    }
}

/// The answer to a look-up by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The first record that answers.
    Found {
        /// Its offset.
        offset: Offset,
        /// Its timestamp, in milliseconds since the Unix epoch.
        timestamp: i64,
        /// The leader epoch of its batch.
        leader_epoch: LeaderEpoch,
    },
    /// No record answers.
    None,
    /// Call [`super::Log::fill`] with this, and look up again at [`Event::Filled`].
    Fill(FileRange),
}
