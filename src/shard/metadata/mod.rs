//! The cluster's metadata on core 0: a log of records, the controller that decides what is appended
//! to it, the image that it makes, and the round in which every core takes a new image.
//!
//! A change is answered when its records are durable, applied, and in force on every core: a topic
//! that was created can be written to at once, and the name of a deleted topic is free only when
//! its old directories are out of the way on every core.

mod boot;
#[cfg(test)]
mod fuzz;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::{
    BrokerId, CoreId, DiskDone, DiskFault, DiskOp, FilePath, LeaderEpoch, Now, Offset, OpId, Prng,
    ProducerId, TopicId,
};
use crate::cluster::{ControlReply, ControlRequest, Controller, Decision, Image, Record};
use crate::log::{self, Log};
use crate::record::{BatchBuilder, Codec, Scratch};

use super::core::{Core, Setup, Timer};
use super::journal::Replay;
use super::lifecycle::METADATA_TOPIC;
use super::message::{Effects, PeerMessage, Reply, Ticket};

pub(super) use snapshot::SNAPSHOT_OWNER;
use snapshot::Snapshots;

/// The owner of the metadata log's disk operations.
pub(super) const METADATA_OWNER: u32 = u32::MAX;
/// The owner of what core 0 does on the disks before the first image.
pub(super) const BOOT_OWNER: u32 = u32::MAX - 1;
/// True for what core 0 does on the disks before the first image.
pub fn is_of_boot(id: OpId) -> bool {
    id.owner == BOOT_OWNER
}

/// The directory of the metadata log: KRaft's name, so that Kafka's tools know it.
pub const METADATA_DIRECTORY: &str = "__cluster_metadata-0";
/// The metadata log has one leader for ever: a quorum of one, in its first term.
const EPOCH: LeaderEpoch = LeaderEpoch(1);

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
    /// The snapshots beside the log are looked for.
    Listing,
    /// The first of these is being read: where each ends, and its file.
    Loading(VecDeque<(Offset, FilePath)>),
    /// Records from here on are still to be applied.
    Replaying(Offset),
    /// What journals hold is brought to its files.
    BringingHome,
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
    broker: BrokerId,
    /// Ids of the data directories that are here, by number.
    directory_ids: BTreeMap<u16, TopicId>,
    /// While the boot goes on: where a directory of each partition was found.
    found: BTreeMap<String, Vec<u16>>,
    /// Where each partition is that has files.
    directories: BTreeMap<String, u16>,
    /// Directories that are on their way out once the others are in order.
    removals: Vec<FilePath>,
    replay: Option<Replay>,
    /// Data directories with a journal that could not be replayed: they fail with the first image.
    unreplayed: BTreeMap<u16, DiskFault>,
    /// Names of topics that the replayed log has deleted: their leftovers may be removed.
    deleted_names: BTreeSet<String>,
    /// Topics that the replayed log has deleted.
    deleted: BTreeSet<TopicId>,
    queue: VecDeque<(Asker, ControlRequest)>,
    committing: Option<Commit>,
    version: u64,
    rounds: BTreeMap<u64, Round>,
    log_events: Vec<log::Event>,
    snapshots: Snapshots,
    closed: bool,
    closing: bool,
}

impl Metadata {
    pub(super) fn open(setup: &Setup, effects: &mut Effects) -> Metadata {
        let directory = FilePath::new(0, METADATA_DIRECTORY);
        let settings = setup.broker_settings(&Image::default());
        let every_bytes = settings.metadata_snapshot_bytes;
        let options = log::Options {
            flush_messages: 1,
            segment_ms: i64::MAX,
            // Whole segments go once a snapshot covers them: small ones, so that little stays.
            segment_bytes: (every_bytes / 4).clamp(8 << 10, 1 << 30) as u32,
            file_delete_delay_ms: 0,
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
            broker: setup.broker,
            directory_ids: setup.directories().collect(),
            found: BTreeMap::new(),
            directories: BTreeMap::new(),
            removals: Vec::new(),
            replay: None,
            unreplayed: BTreeMap::new(),
            deleted_names: BTreeSet::new(),
            deleted: BTreeSet::new(),
            queue: VecDeque::new(),
            committing: None,
            version: 0,
            rounds: BTreeMap::new(),
            log_events: Vec::new(),
            snapshots: Snapshots::new(every_bytes),
            closed: false,
            closing: false,
        }
    }

    pub(super) fn flush_turn(&mut self, now: Now, disk: &mut Vec<DiskOp>) {
        self.log.flush_turn(now, disk);
    }

    /// Nothing new is placed in this data directory.
    pub(super) fn directory_failed(&mut self, directory: TopicId) {
        self.controller.directory_failed(directory);
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
                    metadata.look_for_snapshots(&mut effects.disk);
                }
                log::Event::Filled => self.replay_metadata(effects),
                // The metadata log is not compacted by key: nobody begins a round.
                log::Event::CompactionDue => {}
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
                log::Event::Foreign(found) => {
                    metadata.stage = Stage::Failed;
                    effects.fatal = Some(format!(
                        "{METADATA_DIRECTORY} belongs to topic id {found}, not to the metadata"
                    ));
                    metadata.closed = true;
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
                | log::Event::Deleted
                | log::Event::NotDeleted(_) => {}
            }
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
        metadata.snapshot_if_due(now, &mut effects.disk);
        while metadata.stage == Stage::Serving
            && metadata.version > 0
            && metadata.committing.is_none()
            && !metadata.snapshot_is_due()
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
            // The start's own records, perhaps, which a snapshot may have waited for.
            self.decide(now, effects);
            return;
        };
        let removed = metadata.apply_commit(&commit);
        self.next_image(commit, removed, effects);
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
                    found: None,
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
    /// Changes the image as decided; gives the topics that go.
    fn apply_commit(&mut self, commit: &Commit) -> Vec<TopicId> {
        let mut removed = Vec::new();
        for (index, record) in commit.records.iter().enumerate() {
            let offset = commit.base_offset.plus(index as i64);
            if let Err(why) = self.image.apply(offset, record) {
                // The controller decided this on the very image it is applied to.
                unreachable!("a decided record does not apply: {why}");
            }
            if let Record::RemoveTopic { id } = record {
                removed.push(*id);
            }
        }
        removed
    }

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
        let batch = batch.finish();
        match self.log.append(now, &batch, EPOCH) {
            Ok(appended) => {
                self.snapshots.count(batch.len());
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
