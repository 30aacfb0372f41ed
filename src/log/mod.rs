//! One partition's log. Lives on one core. Knows no network, no clock, no consumer, no producer
//! state. Invariant: start <= durable <= committed <= end.

mod face;

use bytes::Bytes;

pub use face::{AppendRefused, Appended, Event, Fault, FileRange, Lookup, Options, Read, Slice};

use crate::base::{DiskDone, DiskOp, FilePath, LeaderEpoch, Mono, Now, Offset, Pool, TopicId};

/// One partition's log: eats appends, reads and completions, emits [`DiskOp`]s and [`Event`]s.
pub struct Log {
    directory: FilePath,
    owner: u32,
    topic: TopicId,
    options: Options,
    pool: Pool,
    end: Offset,
    fault: Option<Fault>,
}

impl Log {
    /// A log without any file: directory and first segment are made by the first append.
    pub fn new(
        directory: FilePath,
        owner: u32,
        topic: TopicId,
        options: Options,
        pool: Pool,
    ) -> Log {
        Log {
            directory,
            owner,
            topic,
            options,
            pool,
            end: Offset(0),
            fault: None,
        }
    }
    /// Opens what is in `directory`, recovering as needed. [`Event::Ready`] or [`Event::Fenced`]
    /// comes from [`Log::handle_disk`].
    pub fn open(
        directory: FilePath,
        owner: u32,
        topic: TopicId,
        options: Options,
        pool: Pool,
        _out: &mut Vec<DiskOp>,
    ) -> Log {
        Log::new(directory, owner, topic, options, pool)
    }
    /// Takes the outcome of one operation.
    pub fn handle_disk(
        &mut self,
        _now: Now,
        _done: DiskDone,
        _out: &mut Vec<DiskOp>,
        _events: &mut Vec<Event>,
    ) {
    }
    /// Time went by: `flush.ms`, the roll by time, delayed deletes, a full disk tried again.
    pub fn tick(&mut self, _now: Now, _out: &mut Vec<DiskOp>, _events: &mut Vec<Event>) {}
    /// When [`Log::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Mono> {
        None
    }
    /// Takes one whole valid batch; base offset and leader epoch are stamped into the copy.
    pub fn append(
        &mut self,
        _now: Now,
        _batch: &[u8],
        _leader_epoch: LeaderEpoch,
    ) -> Result<Appended, AppendRefused> {
        Err(AppendRefused::NotReady)
    }
    /// End of a turn: what was gathered becomes one write, unless one is in flight.
    pub fn flush_turn(&mut self, _now: Now, _out: &mut Vec<DiskOp>) {}
    /// The first offset that can be read.
    pub fn start_offset(&self) -> Offset {
        Offset(0)
    }
    /// The offset that the next record gets.
    pub fn end_offset(&self) -> Offset {
        self.end
    }
    /// Below it, all may be acknowledged by the topic's flush policy.
    pub fn committed_end(&self) -> Offset {
        self.end
    }
    /// Below it, all is on stable storage.
    pub fn durable_end(&self) -> Offset {
        self.end
    }
    /// Whole batches from the one that contains `from`, below `upto`.
    pub fn read(
        &mut self,
        _from: Offset,
        _upto: Offset,
        _max_bytes: usize,
        _at_least_one: bool,
    ) -> Read {
        Read::Nothing
    }
    /// As [`Log::read`], but only from memory.
    pub fn read_memory(&mut self, _from: Offset, _upto: Offset, _max_bytes: usize) -> Read {
        Read::Nothing
    }
    /// Brings a range into the cache; [`Event::Filled`] when it is there.
    pub fn fill(&mut self, _range: FileRange, _out: &mut Vec<DiskOp>) {}
    /// The first record at or after `timestamp`, below `upto`.
    pub fn offset_for_timestamp(&mut self, _timestamp: i64, _upto: Offset) -> Lookup {
        Lookup::None
    }
    /// The record with the largest timestamp.
    pub fn max_timestamp(&mut self) -> Lookup {
        Lookup::None
    }
    /// The largest epoch not above `epoch`, and where it ends (OffsetForLeaderEpoch).
    pub fn epoch_end(&self, _epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        None
    }
    /// The newest leader epoch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        None
    }
    /// A new leader epoch begins at `start`.
    pub fn assign_epoch(&mut self, _epoch: LeaderEpoch, _start: Offset) {}
    /// Forgets what lies below `to`; [`Event::StartOffsetDurable`] when that survives a crash.
    pub fn raise_start_offset(&mut self, _to: Offset, _out: &mut Vec<DiskOp>) {}
    /// The answer to [`Event::CheckpointWanted`].
    pub fn checkpoint(&mut self, _producers: Bytes, _out: &mut Vec<DiskOp>) {}
    /// Closes cleanly; [`Event::Closed`].
    pub fn close(&mut self, _producers: Bytes, _out: &mut Vec<DiskOp>) {}
    /// Deletes the log; [`Event::Deleted`].
    pub fn delete(&mut self, _out: &mut Vec<DiskOp>) {}
    /// Drops whole segments by time and size (`retention.ms`, `retention.bytes`).
    pub fn enforce_retention(&mut self, _now: Now, _out: &mut Vec<DiskOp>) {}
    /// New options, from now on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }
    /// Bytes held in memory that [`Log::evict`] could drop.
    pub fn cached_bytes(&self) -> usize {
        0
    }
    /// Drops about `bytes` bytes of cache, the oldest first; says how many it was.
    pub fn evict(&mut self, _bytes: usize) -> usize {
        0
    }
    /// Bytes of record batches in all segments.
    pub fn size_bytes(&self) -> u64 {
        0
    }
    /// Why the log is fenced.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}
