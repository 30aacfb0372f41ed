//! The cluster's metadata on core 0: a log of records, the controller that decides what is appended
//! to it, the image that it makes, and the round in which every core takes a new image.
//!
//! A change is answered when its records are durable, applied, and in force on every core: a topic
//! that was created can be written to at once, and the name of a deleted topic is free only when
//! its old directories are out of the way on every core.

#[cfg(test)]
mod fuzz;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::{
    CoreId, DirectoryEntry, DiskDone, DiskOp, DiskOutput, FilePath, LeaderEpoch, Now, Offset, OpId,
    Prng, ProducerId, TopicId,
};
use crate::cluster::{ControlReply, ControlRequest, Controller, Decision, Image, Record};
use crate::log::{self, Log, Read, Slice};
use crate::record::{BatchBuilder, Batches, Codec, Scratch};

use super::core::{Core, Setup, Timer};
use super::lifecycle::{METADATA_TOPIC, parse_directory_name};
use super::message::{Effects, PeerMessage, Reply, Ticket};

/// The owner of the metadata log's disk operations.
pub(super) const METADATA_OWNER: u32 = u32::MAX;
/// The owner of what core 0 does on the disks before the first image.
pub(super) const BOOT_OWNER: u32 = u32::MAX - 1;
/// The directory of the metadata log: KRaft's name, so that Kafka's tools know it.
pub const METADATA_DIRECTORY: &str = "__cluster_metadata-0";
/// How many bytes of the metadata log are replayed at a time.
const REPLAY_BYTES: usize = 1 << 20;
/// The metadata log has one leader for ever: a quorum of one, in its first term.
const EPOCH: LeaderEpoch = LeaderEpoch(1);
/// What deleted partitions' directories end in until they are gone.
const DELETED_SUFFIX: &str = "-delete";
/// What directories that no topic claims are renamed to; kept for a person to look at.
const STRAY_SUFFIX: &str = "-stray";

/// Who asked for a change.
#[derive(Debug)]
enum Asker {
    /// A request.
    Ticket(Ticket),
    /// A core that wants producer ids.
    Core(CoreId),
    /// Nobody: the broker's own first records.
    Start,
}

#[derive(Debug)]
struct Commit {
    asker: Asker,
    reply: ControlReply,
    records: Vec<Record>,
    base_offset: Offset,
    last_offset: Offset,
}

#[derive(Debug)]
struct Round {
    asker: Asker,
    reply: ControlReply,
    removed: Vec<TopicId>,
    missing: BTreeSet<CoreId>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The log recovers.
    Opening,
    /// Records from here on are still to be applied.
    Replaying(Offset),
    /// So many disk operations of the boot are outstanding.
    SortingOut(usize),
    /// Changes are taken.
    Serving,
    /// The log failed: no changes any more.
    Failed,
}

/// The controller and its log.
pub(super) struct Metadata {
    log: Log,
    stage: Stage,
    image: Image,
    controller: Controller,
    scratch: Scratch,
    cores: u16,
    disks: u16,
    directories: BTreeMap<String, u16>,
    /// Names of topics that the replayed log has deleted: their leftovers may be removed.
    deleted_names: BTreeSet<String>,
    queue: VecDeque<(Asker, ControlRequest)>,
    committing: Option<Commit>,
    version: u64,
    rounds: BTreeMap<u64, Round>,
    log_events: Vec<log::Event>,
    closed: bool,
    closing: bool,
}

impl Metadata {
    pub(super) fn open(setup: &Setup, effects: &mut Effects) -> Metadata {
        let directory = FilePath::new(0, METADATA_DIRECTORY);
        let options = log::Options {
            flush_messages: 1,
            segment_ms: i64::MAX,
            retention_ms: -1,
            from_reserve: true,
            ..log::Options::default()
        };
        let pool = setup.pool.clone();
        let log = Log::open(
            directory,
            METADATA_OWNER,
            METADATA_TOPIC,
            options,
            pool,
            &mut effects.disk,
        );
        Metadata {
            log,
            stage: Stage::Opening,
            image: Image::default(),
            controller: Controller::new(
                setup.broker,
                setup.static_configs.clone(),
                Prng::new(setup.seed),
            ),
            scratch: Scratch::new(),
            cores: setup.cores,
            disks: setup.disks.max(1),
            directories: BTreeMap::new(),
            deleted_names: BTreeSet::new(),
            queue: VecDeque::new(),
            committing: None,
            version: 0,
            rounds: BTreeMap::new(),
            log_events: Vec::new(),
            closed: false,
            closing: false,
        }
    }

    pub(super) fn flush_turn(&mut self, now: Now, disk: &mut Vec<DiskOp>) {
        self.log.flush_turn(now, disk);
    }

    /// Closes the log; true once it is closed.
    pub(super) fn close(&mut self, disk: &mut Vec<DiskOp>) -> bool {
        if !self.closing {
            self.closing = true;
            if self.stage == Stage::Opening || self.log.fault().is_some() {
                self.closed = true;
            } else {
                self.log.close(bytes::Bytes::new(), disk);
            }
        }
        self.closed
    }

    /// Applies what the log holds, from where the last call stopped; false while the disk is busy
    /// for it. An error is a log that cannot be believed.
    fn replay(&mut self, disk: &mut Vec<DiskOp>) -> Result<bool, String> {
        loop {
            let Stage::Replaying(from) = self.stage else {
                return Ok(true);
            };
            let end = self.log.committed_end();
            if from >= end {
                return Ok(true);
            }
            match self.log.read_memory(from, end, REPLAY_BYTES) {
                Read::Slices(slices) => {
                    let mut next = from;
                    for slice in &slices {
                        let Slice::Memory(bytes) = slice else {
                            continue;
                        };
                        next = self.replay_batches(bytes, next)?;
                    }
                    if next <= from {
                        return Err(format!("no record can be read at offset {from}"));
                    }
                    self.stage = Stage::Replaying(next);
                }
                Read::Fill(range) => {
                    self.log.fill(range, disk);
                    return Ok(false);
                }
                Read::Nothing | Read::BelowStart | Read::AboveEnd | Read::Fenced => {
                    return Err(format!("no record can be read at offset {from}"));
                }
            }
        }
    }

    fn replay_batches(&mut self, bytes: &[u8], from: Offset) -> Result<Offset, String> {
        let mut next = from;
        for batch in Batches::new(bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            batch.verify().map_err(|error| error.to_string())?;
            let mut scratch = std::mem::take(&mut self.scratch);
            let records = batch.records(&mut scratch, REPLAY_BYTES * 64);
            for record in records.map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                if record.offset < from {
                    continue;
                }
                let value = record.value.unwrap_or_default();
                let decoded = Record::decode(value)
                    .map_err(|error| format!("record at offset {}: {error}", record.offset))?;
                self.apply(record.offset, &decoded)?;
            }
            next = batch.header.last_offset().plus(1);
            self.scratch = scratch;
        }
        Ok(next)
    }

    fn apply(&mut self, offset: Offset, record: &Record) -> Result<(), String> {
        if let Record::RemoveTopic { id } = record
            && let Some(topic) = self.image.topic_by_id(*id)
        {
            self.deleted_names.insert(topic.name.to_string());
        }
        if let Record::Topic { name, .. } = record {
            self.deleted_names.remove(name);
        }
        self.image
            .apply(offset, record)
            .map_err(|error| format!("record at offset {offset}: {error}"))
    }

    /// What is on the data directories goes where it belongs: partitions are noted, deleted ones
    /// removed, strays renamed. Returns how many operations that takes.
    fn sort_out(&mut self, disk: u16, entries: &[DirectoryEntry], out: &mut Vec<DiskOp>) -> usize {
        let mut operations = 0;
        let id = OpId {
            owner: BOOT_OWNER,
            sequence: u32::from(self.disks),
        };
        for entry in entries.iter().filter(|entry| entry.is_directory) {
            let path = FilePath::new(disk, &entry.name);
            if entry.name == METADATA_DIRECTORY || entry.name.ends_with(STRAY_SUFFIX) {
                continue;
            }
            if entry.name.ends_with(DELETED_SUFFIX) {
                out.push(DiskOp::RemoveDirectory {
                    id,
                    directory: path,
                });
                operations += 1;
                continue;
            }
            let Some((topic, partition)) = parse_directory_name(&entry.name) else {
                continue;
            };
            let live = self
                .image
                .topic(topic)
                .and_then(|topic| topic.partition(partition));
            if live.is_some() {
                self.directories.insert(entry.name.clone(), disk);
            } else if self.deleted_names.contains(topic) {
                out.push(DiskOp::RemoveDirectory {
                    id,
                    directory: path,
                });
                operations += 1;
            } else {
                let to = FilePath::new(disk, &format!("{}{STRAY_SUFFIX}", entry.name));
                out.push(DiskOp::Rename { id, from: path, to });
                operations += 1;
            }
        }
        operations
    }
}

impl Core {
    /// The outcome of one of the metadata log's operations.
    pub(super) fn metadata_disk(&mut self, now: Now, done: DiskDone, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        let mut events = std::mem::take(&mut metadata.log_events);
        metadata
            .log
            .handle_disk(now, done, &mut effects.disk, &mut events);
        self.metadata_events(now, &mut events, effects);
        self.schedule_metadata();
    }

    pub(super) fn tick_metadata(&mut self, now: Now, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        let mut events = std::mem::take(&mut metadata.log_events);
        metadata.log.tick(now, &mut effects.disk, &mut events);
        self.metadata_events(now, &mut events, effects);
        self.schedule_metadata();
    }

    fn schedule_metadata(&mut self) {
        match self
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.log.next_deadline())
        {
            Some(at) => self.timers.set(Timer::Metadata, at),
            None => self.timers.cancel(&Timer::Metadata),
        }
    }

    fn metadata_events(&mut self, now: Now, events: &mut Vec<log::Event>, effects: &mut Effects) {
        for event in events.drain(..) {
            let Some(metadata) = &mut self.metadata else {
                return;
            };
            match event {
                log::Event::Ready { .. } => {
                    metadata.stage = Stage::Replaying(metadata.log.start_offset());
                    self.replay_metadata(effects);
                }
                log::Event::Filled => self.replay_metadata(effects),
                log::Event::Committed => self.metadata_committed(now, effects),
                log::Event::CheckpointWanted => {
                    metadata
                        .log
                        .checkpoint(bytes::Bytes::new(), &mut effects.disk);
                }
                log::Event::Closed => {
                    metadata.closed = true;
                    self.finish_stop(effects);
                }
                log::Event::Fenced(fault) => {
                    metadata.stage = Stage::Failed;
                    effects.fatal = Some(format!("the metadata log: {fault}"));
                    effects.faults.push((None, fault));
                    metadata.closed = true;
                }
                log::Event::Snapshot(_)
                | log::Event::Replayed { .. }
                | log::Event::SpaceShort
                | log::Event::SpaceGone
                | log::Event::StartOffsetDurable(_)
                | log::Event::Deleted => {}
            }
        }
    }

    fn replay_metadata(&mut self, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        match metadata.replay(&mut effects.disk) {
            Ok(false) => {}
            Ok(true) => {
                metadata.stage = Stage::SortingOut(usize::from(metadata.disks));
                for disk in 0..metadata.disks {
                    let id = OpId {
                        owner: BOOT_OWNER,
                        sequence: u32::from(disk),
                    };
                    effects.disk.push(DiskOp::List {
                        id,
                        directory: FilePath::new(disk, ""),
                    });
                }
            }
            Err(why) => {
                metadata.stage = Stage::Failed;
                effects.fatal = Some(format!("the metadata log cannot be replayed: {why}"));
            }
        }
    }

    /// The outcome of something core 0 did before its first image.
    pub(super) fn boot_disk(&mut self, now: Now, done: DiskDone, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        let Stage::SortingOut(outstanding) = metadata.stage else {
            return;
        };
        let mut outstanding = outstanding - 1;
        match done.result {
            Ok(DiskOutput::Entries(entries)) => {
                let disk = done.id.sequence as u16;
                outstanding += metadata.sort_out(disk, &entries, &mut effects.disk);
            }
            Ok(_) => {}
            Err(fault) => {
                metadata.stage = Stage::Failed;
                effects.fatal = Some(fault.to_string());
                return;
            }
        }
        metadata.stage = Stage::SortingOut(outstanding);
        if outstanding == 0 {
            metadata.stage = Stage::Serving;
            self.begin_serving(now, effects);
        }
    }

    /// The log is replayed and the disks are in order: what this broker has to say of itself goes
    /// into the log, and the first image goes out.
    fn begin_serving(&mut self, now: Now, effects: &mut Effects) {
        let registration = self.setup.registration.clone();
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        if metadata.closing {
            // Told to stop before it could serve: its log takes no records any more.
            return;
        }
        let decision = metadata.controller.start(registration, &metadata.image);
        if metadata.commit(now, Asker::Start, decision).is_err() {
            metadata.stage = Stage::Failed;
            effects.fatal = Some("the metadata log takes no records".to_owned());
        }
    }

    fn first_image(&mut self, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        metadata.version = 1;
        let directories = Arc::new(std::mem::take(&mut metadata.directories));
        let image = Arc::new(metadata.image.clone());
        for core in 0..metadata.cores {
            effects.peers.push((
                CoreId(core),
                PeerMessage::Image {
                    version: 1,
                    image: image.clone(),
                    records: Arc::default(),
                    directories: Some(directories.clone()),
                },
            ));
        }
    }

    /// A change of the metadata: queued, decided one after the other.
    pub(super) fn control(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: ControlRequest,
        effects: &mut Effects,
    ) {
        self.enqueue_control(now, Asker::Ticket(ticket), request, effects);
    }

    pub(super) fn want_producer_ids(&mut self, now: Now, core: CoreId, effects: &mut Effects) {
        self.enqueue_control(
            now,
            Asker::Core(core),
            ControlRequest::AllocateProducerIds,
            effects,
        );
    }

    fn enqueue_control(
        &mut self,
        now: Now,
        asker: Asker,
        request: ControlRequest,
        effects: &mut Effects,
    ) {
        let stopping = self.stopping();
        match &mut self.metadata {
            Some(metadata) if metadata.stage != Stage::Failed && !stopping => {
                metadata.queue.push_back((asker, request));
                self.decide(now, effects);
            }
            _ => answer(asker, request.unavailable(), effects),
        }
    }

    /// Takes requests from the queue until one has records that must become durable first.
    fn decide(&mut self, now: Now, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        while metadata.stage == Stage::Serving
            && metadata.version > 0
            && metadata.committing.is_none()
            && let Some((asker, request)) = metadata.queue.pop_front()
        {
            let decision = metadata.controller.handle(now, &request, &metadata.image);
            if decision.records.is_empty() {
                answer(asker, decision.reply, effects);
            } else if let Err(asker) = metadata.commit(now, asker, decision) {
                answer(asker, request.unavailable(), effects);
            }
        }
    }

    /// The metadata log's committed end moved.
    fn metadata_committed(&mut self, now: Now, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        let committed = metadata.log.committed_end();
        let Some(commit) = metadata
            .committing
            .take_if(|commit| commit.last_offset < committed)
        else {
            return;
        };
        let mut removed = Vec::new();
        for (index, record) in commit.records.iter().enumerate() {
            let offset = commit.base_offset.plus(index as i64);
            if let Err(why) = metadata.image.apply(offset, record) {
                // The controller decided this on the very image it is applied to.
                unreachable!("a decided record does not apply: {why}");
            }
            if let Record::RemoveTopic { id } = record {
                removed.push(*id);
            }
        }
        if let Asker::Start = commit.asker {
            self.first_image(effects);
        } else {
            self.next_image(commit, removed, effects);
        }
        self.decide(now, effects);
    }

    fn next_image(&mut self, commit: Commit, removed: Vec<TopicId>, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        metadata.version += 1;
        let version = metadata.version;
        let image = Arc::new(metadata.image.clone());
        let records = Arc::new(commit.records);
        for core in 0..metadata.cores {
            effects.peers.push((
                CoreId(core),
                PeerMessage::Image {
                    version,
                    image: image.clone(),
                    records: records.clone(),
                    directories: None,
                },
            ));
        }
        let missing = (0..metadata.cores).map(CoreId).collect();
        let (asker, reply) = (commit.asker, commit.reply);
        metadata.rounds.insert(
            version,
            Round {
                asker,
                reply,
                removed,
                missing,
            },
        );
    }

    /// A core has taken an image.
    pub(super) fn applied(&mut self, now: Now, core: CoreId, version: u64, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        let Some(round) = metadata.rounds.get_mut(&version) else {
            // The first image has no round: changes may be decided once it is out.
            self.decide(now, effects);
            return;
        };
        round.missing.remove(&core);
        if !round.missing.is_empty() {
            return;
        }
        if let Some(round) = metadata.rounds.remove(&version) {
            for id in &round.removed {
                metadata.controller.deletion_finished(*id);
            }
            answer(round.asker, round.reply, effects);
            self.decide(now, effects);
        }
    }
}

impl Metadata {
    /// Appends a decision's records as one batch. Gives the asker back if the log refuses.
    fn commit(&mut self, now: Now, asker: Asker, decision: Decision) -> Result<(), Asker> {
        let Decision { records, reply } = decision;
        if records.is_empty() {
            return Ok(());
        }
        let mut batch = BatchBuilder::new(Codec::None);
        for record in &records {
            batch.append(now.wall.0, None, Some(&record.encode()), &[]);
        }
        match self.log.append(now, &batch.finish(), EPOCH) {
            Ok(appended) => {
                self.committing = Some(Commit {
                    asker,
                    reply,
                    records,
                    base_offset: appended.base_offset,
                    last_offset: appended.last_offset,
                });
                Ok(())
            }
            Err(_) => Err(asker),
        }
    }
}

fn answer(asker: Asker, reply: ControlReply, effects: &mut Effects) {
    match asker {
        Asker::Ticket(ticket) => effects.replies.push((ticket, Reply::Control(reply))),
        Asker::Core(core) => {
            let (first, count) = match reply {
                ControlReply::ProducerIds { first, count } => (first, count),
                _ => (ProducerId(-1), 0),
            };
            effects
                .peers
                .push((core, PeerMessage::ProducerIds { first, count }));
        }
        Asker::Start => {}
    }
}
