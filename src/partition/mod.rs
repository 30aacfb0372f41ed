//! One partition as its leader sees it: a log, the producers that write to it, the appends that
//! wait for their acknowledgement. Lives on one core.
//!
//! Knows no connection, no request, no topic name, no other partition. Invariants: log start <= high
//! watermark <= log end; the high watermark never falls; an append is answered once, in order of
//! offset, and only when the high watermark has passed it.

mod compaction;
mod producers;
mod refusal;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::{
    DiskDone, DiskFault, DiskOp, FilePath, LeaderEpoch, Mono, Now, Offset, TopicId, TopicPartition,
};
use crate::log::{self, FileRange, Log, Lookup, Read};
use crate::record::{self, Rules, Scratch};

pub use compaction::CompactionLimits;
pub use producers::{BATCHES_RETAINED, BatchMemory, ProducerState, Producers, Verdict};
pub use refusal::Refusal;

/// What the topic's configs mean for one of its partitions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the log.
    pub log: log::Options,
    /// For produced batches; `produce_version` and `origin` are set for each append.
    pub rules: Rules,
    /// `cleanup.policy` contains `delete`: records may be deleted by request.
    pub deletable: bool,
    /// How long a silent producer is remembered (`producer.id.expiration.ms`).
    pub producer_expiration: Duration,
}

/// Where an accepted batch went, and what the answer says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The offset of its last record: the append is answered once the high watermark is above it.
    pub last_offset: Offset,
    /// The broker's time in milliseconds for topics with `LogAppendTime`, else -1.
    pub log_append_time_ms: i64,
    /// True for a producer's retry: nothing was written.
    pub duplicate: bool,
    /// How many records it has.
    pub records: u32,
}

/// The shard's name for something that waits for a commit. The partition gives it back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// What waits.
    pub number: u64,
    /// Which part of it.
    pub part: u32,
}

/// What the partition tells its shard.
#[derive(Clone, Debug)]
pub enum Event {
    /// It is open: reads and appends are served.
    Ready {
        /// Nothing had to be scanned.
        clean: bool,
        /// Bytes of batches that recovery went over.
        bytes_scanned: u64,
        /// Bytes of a torn, never acknowledged write that were cut.
        bytes_cut: u64,
    },
    /// The append that was given this token is committed.
    Acked(Token),
    /// The append that was given this token cannot be committed: the log is fenced, or the disk is
    /// full to the last byte.
    Failed(Token),
    /// The high watermark or the log start moved: waiting reads may look again.
    Moved,
    /// A range asked for with [`Partition::fill`] is in memory.
    Filled,
    /// The round of compaction can go on: call [`Partition::compact`].
    CompactionDue,
    /// The log start offset is durable.
    StartOffsetDurable(Offset),
    /// Its data directory has nothing left but the reserve.
    SpaceShort,
    /// The partition is closed.
    Closed,
    /// Its directory is another topic's, zero if it cannot be read whose: see
    /// [`log::Event::Foreign`].
    Foreign(TopicId),
    /// The partition is gone.
    Deleted,
    /// The partition is gone, but the disk refused to move its directory away.
    NotDeleted(DiskFault),
    /// The log is fenced.
    Fenced(log::Fault),
}

/// The leader of one partition.
pub struct Partition {
    id: TopicPartition,
    log: Log,
    producers: Producers,
    leader_epoch: LeaderEpoch,
    settings: Settings,
    ready: bool,
    /// The log start that is on stable storage, while the log's own is ahead of it.
    start_durable: Option<Offset>,
    /// Appends that wait for the high watermark: last offset and the shard's token, by offset.
    waiting: VecDeque<(Offset, Token)>,
    log_events: Vec<log::Event>,
}

impl Partition {
    /// A leader over `log`, which is new (`ready`) or opening.
    pub fn new(
        id: TopicPartition,
        log: Log,
        leader_epoch: LeaderEpoch,
        settings: Settings,
        ready: bool,
    ) -> Partition {
        Partition {
            id,
            log,
            producers: Producers::default(),
            leader_epoch,
            settings,
            ready,
            start_durable: None,
            waiting: VecDeque::new(),
            log_events: Vec::new(),
        }
    }

    /// The largest batch that it takes, in bytes (`max.message.bytes`).
    pub fn max_batch_bytes(&self) -> usize {
        self.settings.rules.max_message_bytes
    }

    /// Which partition it is.
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// True once the log is open.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Why it is offline, if it is.
    pub fn fault(&self) -> Option<&log::Fault> {
        self.log.fault()
    }

    /// The term of this leader.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The first offset that can be read.
    pub fn log_start(&self) -> Offset {
        self.log.start_offset()
    }

    /// The first offset that can be read after a crash: what a DeleteRecords may be answered with.
    pub fn durable_log_start(&self) -> Offset {
        self.start_durable.unwrap_or_else(|| self.log_start())
    }

    /// Below it, records are committed: acknowledged, and visible to consumers.
    pub fn high_watermark(&self) -> Offset {
        self.log.committed_end()
    }

    /// Below it, records are on stable storage; for the simulator's invariants.
    pub fn durable_end(&self) -> Offset {
        self.log.durable_end()
    }

    /// Below it, no transaction is open. Without transactions: the high watermark.
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    /// The offset that the next record gets.
    pub fn log_end(&self) -> Offset {
        self.log.end_offset()
    }

    /// The directory of its files.
    pub fn directory(&self) -> &FilePath {
        self.log.directory()
    }

    /// The data directory that it lives in.
    pub fn disk(&self) -> u16 {
        self.log.directory().disk
    }

    /// Bytes of record batches on the disk.
    pub fn size_bytes(&self) -> u64 {
        self.log.size_bytes()
    }

    /// How many segments its log has.
    pub fn segment_count(&self) -> usize {
        self.log.segment_count()
    }

    /// Bytes that the next recovery would scan if the process died now, about.
    pub fn unvouched_bytes(&self) -> u64 {
        self.log.unvouched_bytes()
    }

    /// While it opens: bytes that recovery has scanned, and that are to be scanned.
    pub fn recovery_progress(&self) -> (u64, u64) {
        self.log.recovery_progress()
    }

    /// True while a checkpoint waits or is being written.
    pub fn is_checkpointing(&self) -> bool {
        self.log.is_checkpointing()
    }

    /// Has the log vouch for all that it holds by now, once that is durable.
    pub fn checkpoint(&mut self, out: &mut Vec<DiskOp>) {
        self.log.checkpoint(self.producers.snapshot(), out);
    }

    /// Bytes of cache that can be dropped.
    pub fn cached_bytes(&self) -> usize {
        self.log.cached_bytes()
    }

    /// Drops about `bytes` of cache; says how many it was. `awaited`: a reader waits for the disk,
    /// and what was fetched for it stays.
    pub fn evict(&mut self, bytes: usize, awaited: bool) -> usize {
        self.log.evict(bytes, awaited)
    }

    /// The producers that are remembered.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// Takes new settings; they hold from the next append.
    pub fn set_settings(&mut self, settings: Settings) {
        self.log.set_options(settings.log.clone());
        self.settings = settings;
    }

    /// Checks a client's leader epoch against the partition's (KIP-320): -1 is not checked.
    pub fn check_epoch(&self, found: LeaderEpoch) -> Result<(), Refusal> {
        let current = self.leader_epoch;
        if found.0 < 0 || found == current {
            Ok(())
        } else if found < current {
            Err(Refusal::FencedLeaderEpoch { current, found })
        } else {
            Err(Refusal::UnknownLeaderEpoch { current, found })
        }
    }

    /// As [`Partition::check_epoch`], and refuses while it is being opened. False if it could not be
    /// opened: nothing can be told of its log then.
    pub fn check_opened(&self, found: LeaderEpoch) -> Result<bool, Refusal> {
        if !self.is_ready() && self.fault().is_none() {
            return Err(Refusal::NotLeader);
        }
        self.check_epoch(found)?;
        Ok(self.is_ready())
    }

    /// Checks, numbers and appends one batch. The caller asks to be told with
    /// [`Partition::wait_for_commit`].
    pub fn append(
        &mut self,
        now: Now,
        records: &[u8],
        produce_version: i16,
        origin: record::Origin,
        scratch: &mut Scratch,
    ) -> Result<Accepted, Refusal> {
        if !self.ready {
            return Err(Refusal::Storage(match self.log.fault() {
                Some(_) => log::AppendRefused::Fenced,
                None => log::AppendRefused::NotReady,
            }));
        }
        let rules = Rules {
            produce_version,
            origin,
            ..self.settings.rules
        };
        let valid =
            record::validate(records, &rules, now.wall, scratch).map_err(Refusal::Invalid)?;
        let header = valid.header;
        match self.producers.check(&header) {
            Verdict::Next => {}
            // The original was never committed, and never will be: whoever waited for it here
            // would wait for ever.
            Verdict::Duplicate(batch)
                if self.log.fault().is_some() && batch.last_offset >= self.high_watermark() =>
            {
                return Err(Refusal::Storage(log::AppendRefused::Fenced));
            }
            Verdict::Duplicate(batch) => {
                return Ok(Accepted {
                    base_offset: batch.base_offset(),
                    last_offset: batch.last_offset,
                    log_append_time_ms: valid.log_append_time_ms,
                    duplicate: true,
                    records: 0,
                });
            }
            Verdict::OutOfOrder { expected, found } => {
                return Err(Refusal::OutOfOrderSequence { expected, found });
            }
            Verdict::Fenced { current, found } => {
                return Err(Refusal::StaleProducerEpoch { current, found });
            }
        }
        let appended = self
            .log
            .append(now, &valid.batch, self.leader_epoch)
            .map_err(Refusal::Storage)?;
        self.producers
            .apply(&header, appended.base_offset, now.wall.0);
        Ok(Accepted {
            base_offset: appended.base_offset,
            last_offset: appended.last_offset,
            log_append_time_ms: valid.log_append_time_ms,
            duplicate: false,
            records: header.record_count as u32,
        })
    }

    /// Asks for [`Event::Acked`] with `token` once the high watermark is above `last_offset`.
    /// False if it is already: nothing will be told.
    pub fn wait_for_commit(&mut self, last_offset: Offset, token: Token) -> bool {
        if last_offset < self.high_watermark() {
            return false;
        }
        // A retry may wait for an older batch than the newest: keep the order of offsets.
        let at = self
            .waiting
            .partition_point(|(offset, _)| *offset <= last_offset);
        self.waiting.insert(at, (last_offset, token));
        true
    }

    /// Whether its data directory has nothing left but the reserve: then appends are refused.
    pub fn set_short(&mut self, short: bool) {
        self.log.set_short(short);
    }

    /// See [`Log::brought_home`].
    pub fn brought_home(&mut self, file: &FilePath, upto: Option<u64>) {
        self.log.brought_home(file, upto);
    }

    /// True when none of the log's disk operations is in flight.
    pub fn is_quiet(&self) -> bool {
        self.log.is_quiet()
    }

    /// The data directory failed as a whole.
    pub fn give_up(&mut self, fault: log::Fault, events: &mut Vec<Event>) {
        let mut log_events = std::mem::take(&mut self.log_events);
        self.log.give_up_on(fault, &mut log_events);
        self.take_log_events(&mut log_events, &mut Vec::new(), events);
        self.log_events = log_events;
    }

    /// Writes what the turn has gathered.
    pub fn flush_turn(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        self.log.flush_turn(now, out);
    }

    /// Takes the outcome of one of the log's operations.
    pub fn handle_disk(
        &mut self,
        now: Now,
        done: DiskDone,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let mut log_events = std::mem::take(&mut self.log_events);
        self.log.handle_disk(now, done, out, &mut log_events);
        self.take_log_events(&mut log_events, out, events);
        self.log_events = log_events;
    }

    /// Time went by.
    pub fn tick(&mut self, now: Now, out: &mut Vec<DiskOp>, events: &mut Vec<Event>) {
        let mut log_events = std::mem::take(&mut self.log_events);
        self.log.tick(now, out, &mut log_events);
        self.take_log_events(&mut log_events, out, events);
        self.log_events = log_events;
    }

    /// When [`Partition::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.log.next_deadline()
    }

    /// Forgets producers that have been silent for too long. Returns how many.
    pub fn expire_producers(&mut self, now: Now) -> usize {
        self.producers
            .expire(now.wall.0, self.settings.producer_expiration)
    }

    /// Drops segments that the topic no longer wants to keep.
    pub fn enforce_retention(&mut self, now: Now, out: &mut Vec<DiskOp>, events: &mut Vec<Event>) {
        if self.ready && self.settings.deletable {
            let before = self.log.start_offset();
            self.log.enforce_retention(now, out);
            if self.log.start_offset() != before {
                self.start_durable.get_or_insert(before);
                events.push(Event::Moved);
            }
        }
    }

    fn take_log_events(
        &mut self,
        log_events: &mut Vec<log::Event>,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        for event in log_events.drain(..) {
            match event {
                log::Event::Snapshot(bytes) => {
                    // The checkpoint that carries it is checksummed; what cannot be read is
                    // treated as absent, and the producers start anew: any sequence is accepted.
                    self.producers = Producers::restore(&bytes).unwrap_or_default();
                }
                log::Event::Replayed { header } => {
                    self.producers
                        .apply(&header, header.base_offset, header.max_timestamp);
                }
                log::Event::Ready {
                    clean,
                    bytes_scanned,
                    bytes_cut,
                } => {
                    self.ready = true;
                    events.push(Event::Ready {
                        clean,
                        bytes_scanned,
                        bytes_cut,
                    });
                }
                log::Event::Committed => self.commit(events),
                log::Event::Filled => events.push(Event::Filled),
                log::Event::CompactionDue => events.push(Event::CompactionDue),
                log::Event::CheckpointWanted => self.checkpoint(out),
                log::Event::StartOffsetDurable(offset) => {
                    self.start_durable = (offset < self.log_start()).then_some(offset);
                    events.push(Event::StartOffsetDurable(offset));
                    events.push(Event::Moved);
                }
                log::Event::SpaceShort => events.push(Event::SpaceShort),
                log::Event::SpaceGone => self.space_gone(events),
                log::Event::Closed => events.push(Event::Closed),
                log::Event::Foreign(found) => events.push(Event::Foreign(found)),
                log::Event::Deleted => events.push(Event::Deleted),
                log::Event::NotDeleted(fault) => events.push(Event::NotDeleted(fault)),
                log::Event::Fenced(fault) => {
                    self.commit(events);
                    let tokens = self
                        .waiting
                        .drain(..)
                        .map(|(_, token)| Event::Failed(token));
                    events.extend(tokens);
                    events.push(Event::Fenced(fault));
                }
            }
        }
    }

    /// Clients that wait are told: an idempotent one that tries again waits for the same batch, and
    /// is answered when that is stored. The broker's own coordinators wait on, for what they hold in
    /// memory must be what the log says.
    fn space_gone(&mut self, events: &mut Vec<Event>) {
        if !self.settings.log.from_reserve {
            let tokens = self.waiting.drain(..).map(|(_, token)| token);
            events.extend(tokens.map(Event::Failed));
        }
    }

    /// Tells the appends that the high watermark has passed.
    fn commit(&mut self, events: &mut Vec<Event>) {
        let high_watermark = self.high_watermark();
        while let Some((last_offset, token)) = self.waiting.front().copied()
            && last_offset < high_watermark
        {
            self.waiting.pop_front();
            events.push(Event::Acked(token));
        }
        events.push(Event::Moved);
    }

    /// Whole batches from the one that contains `from`, below the high watermark.
    pub fn read(
        &mut self,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Read, Refusal> {
        let (start, end) = (self.log_start(), self.log_end());
        let damaged = matches!(self.log.fault(), Some(log::Fault::Corrupt { .. }));
        let sound = damaged && (start..=end).contains(&from);
        if !self.ready && !sound {
            // It could not be opened: where it ends is not known, and nobody shall reset by it.
            // Only what lies before damage is vouched for.
            return Err(Refusal::Fenced);
        }
        if from < start || from > end {
            return Err(Refusal::OffsetOutOfRange {
                start,
                end,
                found: from,
            });
        }
        match self
            .log
            .read(from, self.high_watermark(), max_bytes, at_least_one)
        {
            Read::BelowStart | Read::AboveEnd => Err(Refusal::OffsetOutOfRange {
                start,
                end,
                found: from,
            }),
            Read::Fenced => Err(Refusal::Fenced),
            read => Ok(read),
        }
    }

    /// As [`Partition::read`], only from memory: for coordinators.
    pub fn read_memory(&mut self, from: Offset, max_bytes: usize) -> Read {
        self.log.read_memory(from, self.high_watermark(), max_bytes)
    }

    /// Brings a range into memory; [`Event::Filled`] follows.
    pub fn fill(&mut self, range: FileRange, out: &mut Vec<DiskOp>) {
        self.log.fill(range, out);
    }

    /// The first record at or after `timestamp` (milliseconds), below the high watermark.
    pub fn offset_for_timestamp(&mut self, timestamp: i64) -> Lookup {
        self.log
            .offset_for_timestamp(timestamp, self.high_watermark())
    }

    /// The record with the largest timestamp (KIP-734).
    pub fn max_timestamp(&mut self) -> Lookup {
        self.log.max_timestamp()
    }

    /// The largest epoch not above `epoch` and the offset where it ends, as OffsetForLeaderEpoch
    /// tells it; none if the epoch is not known (kafka.apache.org, KIP-101 and KIP-279).
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        if epoch == self.leader_epoch {
            return Some((epoch, self.log_end()));
        }
        self.log.epoch_end(epoch)
    }

    /// Starts to delete records below `to` (-1: the high watermark). The answer is the offset that
    /// will be durable ([`Event::StartOffsetDurable`]), or `None` when nothing has to change.
    pub fn delete_records(
        &mut self,
        to: Offset,
        out: &mut Vec<DiskOp>,
    ) -> Result<Option<Offset>, Refusal> {
        if !self.settings.deletable {
            return Err(Refusal::DeletionNotAllowed);
        }
        if !self.ready || self.fault().is_some() {
            return Err(Refusal::Fenced);
        }
        let to = if to.0 == -1 {
            self.high_watermark()
        } else {
            to
        };
        let (start, end) = (self.log_start(), self.high_watermark());
        if to.0 < 0 || to > end {
            return Err(Refusal::OffsetOutOfRange {
                start,
                end,
                found: to,
            });
        }
        if to <= self.durable_log_start() {
            return Ok(None);
        }
        if to > start {
            self.start_durable.get_or_insert(start);
            self.log.raise_start_offset(to, out);
        }
        Ok(Some(to))
    }

    /// Closes the log; [`Event::Closed`] follows.
    pub fn close(&mut self, out: &mut Vec<DiskOp>) {
        self.log.close(self.producers.snapshot(), out);
    }

    /// The answer to [`Event::Foreign`]: see [`Log::begin_anew`].
    pub fn begin_anew(&mut self, kept: bool, out: &mut Vec<DiskOp>) {
        self.log.begin_anew(kept, out);
    }

    /// Deletes the log; [`Event::Deleted`] or [`Event::NotDeleted`] follows. Appends that wait fail.
    pub fn delete(&mut self, out: &mut Vec<DiskOp>, events: &mut Vec<Event>) {
        events.extend(
            self.waiting
                .drain(..)
                .map(|(_, token)| Event::Failed(token)),
        );
        events.push(Event::Moved);
        self.ready = false;
        self.log.delete(out);
    }
}
