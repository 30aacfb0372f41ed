//! How partitions come and go on a core: opened at start, made and deleted as the image changes,
//! closed at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::base::{
    CoreId, DiskFault, FilePath, LeaderEpoch, Now, Offset, PartitionIndex, TopicId, TopicPartition,
};
use crate::cluster::configs::TopicSettings;
use crate::cluster::{Image, Record, Resource, Topic};
use crate::log::{self, Log};
use crate::partition::{Partition, Refusal, Settings};
use crate::protocol::ErrorCode;

use super::core::{Core, Slot};
use super::message::{Effects, Found, PeerMessage, Progress};
use super::partition_settings::Resolved;

/// How many logs a core opens at a time: enough to keep the disk busy, few enough to bound the
/// memory that recovery reads into.
const OPENING_MAX: usize = 64;

/// The number of a data directory that this broker does not have now.
const ELSEWHERE: u16 = u16::MAX;

/// Where a core stands between start and stop.
#[derive(Debug, Default)]
pub(super) struct Lifecycle {
    /// Partitions whose logs wait to be opened.
    to_open: VecDeque<(TopicPartition, FilePath)>,
    opening: BTreeSet<Slot>,
    /// What was on the disks, until all that is there is open.
    found: Arc<Found>,
    opened: usize,
    of: usize,
    /// Bytes that logs which are open by now have scanned.
    scanned_bytes: u64,
    started: bool,
    /// Images whose deletions are not durable yet, in order of version.
    applying: VecDeque<(u64, BTreeSet<Slot>)>,
    /// Partitions that were opened again, and where the acknowledged records of each ended.
    floors: BTreeMap<Slot, Offset>,
    /// The core is closing: what is not closed yet.
    closing: Option<BTreeSet<Slot>>,
    stopped: bool,
}

impl Lifecycle {
    /// How far the start has come, but for the logs that are being opened.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            opened: self.opened,
            of: self.of,
            scanned_bytes: self.scanned_bytes,
            scan_bytes: self.scanned_bytes,
        }
    }

    /// The logs that are being opened.
    pub(super) fn opening(&self) -> impl Iterator<Item = Slot> {
        self.opening.iter().copied()
    }
}

/// The directory of a partition: Kafka's name for it.
pub fn directory_name(topic: &str, partition: PartitionIndex) -> String {
    format!("{topic}-{partition}")
}

impl Core {
    /// The cluster changed (or is known for the first time).
    pub(super) fn take_image(
        &mut self,
        now: Now,
        (version, image): (u64, Arc<Image>),
        records: &[Record],
        found: Option<Arc<Found>>,
        effects: &mut Effects,
    ) {
        self.image = image;
        self.settings = self.setup.broker_settings(&self.image);
        self.coordinators.set_settings(&self.settings.groups);
        let mut deleting = BTreeSet::new();
        match found {
            Some(found) => self.start(now, found, effects),
            None => {
                let mut resolved = Resolved::default();
                for record in records {
                    self.take_record(now, record, &mut resolved, &mut deleting, effects);
                }
            }
        }
        self.topics_changed(now, records, effects);
        self.load_new(now, effects);
        self.lifecycle.applying.push_back((version, deleting));
        self.acknowledge_images(effects);
    }

    fn take_record(
        &mut self,
        now: Now,
        record: &Record,
        resolved: &mut Resolved,
        deleting: &mut BTreeSet<Slot>,
        effects: &mut Effects,
    ) {
        match record {
            Record::Partition(partition) => {
                let id = TopicPartition {
                    topic: partition.topic,
                    partition: partition.partition,
                };
                self.create(now, id, resolved, effects);
            }
            Record::RemoveTopic { id } => {
                self.open_all_of(*id, effects);
                for slot in self.slots_of(*id) {
                    if self.delete(now, slot, effects) {
                        deleting.insert(slot);
                    }
                }
            }
            Record::Config {
                resource_type,
                resource_name,
                ..
            } => match Resource::from_kafka(*resource_type, resource_name) {
                Some(Resource::Topic(name)) => {
                    if let Some(id) = self.image.topic(&name).map(|topic| topic.id) {
                        self.reconfigure(self.slots_of(id));
                    }
                }
                Some(Resource::Broker(_) | Resource::BrokerDefault) => {
                    self.reconfigure(self.slots());
                }
                None => {}
            },
            Record::PartitionChange(change) => self.reconfigure(self.slots_of(change.topic)),
            Record::RegisterBroker(_)
            | Record::UnregisterBroker { .. }
            | Record::Topic { .. }
            | Record::FeatureLevel { .. }
            | Record::ProducerIds { .. }
            | Record::BrokerChange { .. }
            | Record::NoOp => {}
        }
    }

    /// The first image: what this core owns is opened where it has a directory, and made where it
    /// has none (a partition gets its directory with its first record).
    fn start(&mut self, now: Now, found: Arc<Found>, effects: &mut Effects) {
        let image = self.image.clone();
        for topic in image.topics() {
            let settings = self.topic_settings(Some(topic));
            for index in 0..topic.partitions.len() as i32 {
                let id = TopicPartition {
                    topic: topic.id,
                    partition: PartitionIndex(index),
                };
                if !self.owns(id) {
                    continue;
                }
                self.lifecycle.of += 1;
                let name = directory_name(&topic.name, id.partition);
                let directory = found.directories.get(&name);
                match directory.map(|disk| FilePath::new(*disk, &name)) {
                    Some(directory) => self.lifecycle.to_open.push_back((id, directory)),
                    None => {
                        self.insert_new(now, topic, id, &settings, effects);
                        self.lifecycle.opened += 1;
                    }
                }
            }
        }
        self.lifecycle.found = found;
        self.open_more(effects);
        self.report_progress(now, effects);
    }

    fn owns(&self, id: TopicPartition) -> bool {
        Image::owner(id.topic, id.partition, self.setup.cores) == self.setup.core
    }

    fn create(
        &mut self,
        now: Now,
        id: TopicPartition,
        resolved: &mut Resolved,
        effects: &mut Effects,
    ) {
        if !self.owns(id) || self.slot(id).is_some() {
            return;
        }
        let image = self.image.clone();
        if let Some(topic) = image.topic_by_id(id.topic) {
            let settings = resolved.of(self, topic);
            self.insert_new(now, topic, id, settings, effects);
        }
    }

    /// The data directory that the partition belongs in, by its record.
    fn disk_of(&self, topic: &Topic, id: TopicPartition) -> u16 {
        let partition = topic.partition(id.partition);
        match partition.and_then(|partition| partition.directory_on(self.setup.broker)) {
            Some(directory) => {
                let mut ours = self.setup.directories();
                let ours = ours.find(|(_, ours)| *ours == directory);
                ours.map_or(ELSEWHERE, |(disk, _)| disk)
            }
            // It may be in the one that is missing.
            None if !self.setup.failed_disks.is_empty() => ELSEWHERE,
            None => 0,
        }
    }

    /// A partition without files yet; offline at once when its data directory is. What it may have
    /// there is not known then: it is not open, and shows nothing of a log.
    fn insert_new(
        &mut self,
        now: Now,
        topic: &Topic,
        id: TopicPartition,
        settings: &TopicSettings,
        effects: &mut Effects,
    ) {
        let disk = self.disk_of(topic, id);
        let directory = FilePath::new(disk, &directory_name(&topic.name, id.partition));
        let fault = self.volumes.fault(&directory);
        let settings = self.partition_settings(id, settings);
        let slot = self.partitions.next_slot();
        let log = Log::new(
            directory,
            slot.0,
            id.topic,
            settings.log.clone(),
            self.setup.pool.clone(),
        );
        self.insert(Partition::new(
            id,
            log,
            leader_epoch(topic, id),
            settings,
            fault.is_none(),
        ));
        if let (Some(fault), Some(partition)) = (fault, self.partitions.get_mut(slot)) {
            let mut events = Vec::new();
            partition.give_up(log::Fault::Disk(fault), &mut events);
            self.partition_events(now, slot, &mut events, effects);
        }
    }

    fn open_more(&mut self, effects: &mut Effects) {
        let mut resolved = Resolved::default();
        while self.lifecycle.opening.len() < OPENING_MAX
            && let Some((id, directory)) = self.lifecycle.to_open.pop_front()
        {
            self.open_found(id, directory, &mut resolved, effects);
        }
    }

    /// A topic is deleted, and logs of it wait to be opened yet: their turn has come, so that they are
    /// deleted like the others.
    fn open_all_of(&mut self, topic: TopicId, effects: &mut Effects) {
        let waiting = std::mem::take(&mut self.lifecycle.to_open).into_iter();
        let (gone, kept): (Vec<_>, Vec<_>) = waiting.partition(|(id, _)| id.topic == topic);
        self.lifecycle.to_open = kept.into();
        let mut resolved = Resolved::default();
        for (id, directory) in gone {
            self.open_found(id, directory, &mut resolved, effects);
        }
    }

    /// Opens what was found at the start. A topic that is gone from the image is about to be deleted
    /// here: its logs have the broker's settings until then.
    fn open_found(
        &mut self,
        id: TopicPartition,
        directory: FilePath,
        resolved: &mut Resolved,
        effects: &mut Effects,
    ) {
        let image = self.image.clone();
        let (epoch, settings) = match image.topic_by_id(id.topic) {
            Some(topic) => (
                leader_epoch(topic, id),
                self.partition_settings(id, resolved.of(self, topic)),
            ),
            None => (
                LeaderEpoch(0),
                self.partition_settings(id, &self.topic_settings(None)),
            ),
        };
        self.open_partition(epoch, id, directory, settings, effects);
    }

    fn open_partition(
        &mut self,
        leader_epoch: LeaderEpoch,
        id: TopicPartition,
        directory: FilePath,
        settings: Settings,
        effects: &mut Effects,
    ) {
        let slot = self.partitions.next_slot();
        let log = Log::open(
            directory,
            slot.0,
            id.topic,
            settings.log.clone(),
            self.setup.pool.clone(),
            &mut effects.disk,
        );
        self.lifecycle.opening.insert(slot);
        self.insert(Partition::new(id, log, leader_epoch, settings, false));
    }

    /// A log is open, or will never be.
    pub(super) fn opened(&mut self, now: Now, slot: Slot, scanned: u64, effects: &mut Effects) {
        if self.lifecycle.opening.remove(&slot) {
            self.lifecycle.opened += 1;
            self.lifecycle.scanned_bytes += scanned;
            self.open_more(effects);
            self.report_progress(now, effects);
        }
    }

    fn report_progress(&mut self, now: Now, effects: &mut Effects) {
        let lifecycle = &mut self.lifecycle;
        if lifecycle.opened == lifecycle.of && !lifecycle.started {
            lifecycle.started = true;
            lifecycle.found = Arc::default();
            effects.ready = true;
            self.look_at_checkpoints(now);
        }
    }

    /// A fenced partition is opened again: in a new slot, so that nothing of the old one reaches it.
    pub(super) fn open_again(&mut self, now: Now, slot: Slot, effects: &mut Effects) {
        let Some(old) = self.partitions.get(slot) else {
            return;
        };
        let (id, directory) = (old.id(), old.directory().clone());
        let image = self.image.clone();
        let Some(topic) = image.topic_by_id(id.topic) else {
            return;
        };
        if self.slot(id) != Some(slot) || self.stopping() {
            return;
        }
        if !old.is_quiet() {
            // What is in flight must not meet what recovery does: with the next answer, then.
            self.starve(now, slot);
            return;
        }
        let floor = old.high_watermark();
        self.unseat(slot, ErrorCode::NotCoordinator, effects);
        self.forget(slot);
        self.lifecycle.of += 1;
        let settings = self.partition_settings(id, &self.topic_settings(Some(topic)));
        self.open_partition(leader_epoch(topic, id), id, directory, settings, effects);
        if let Some(new) = self.slot(id) {
            self.lifecycle.floors.insert(new, floor);
        }
        for number in self.jobs.waiting_for(slot) {
            self.run_again(now, number, effects);
        }
    }

    /// A partition is open. If it was opened again, it must still hold all that was acknowledged.
    pub(super) fn came_back(&mut self, now: Now, slot: Slot, effects: &mut Effects) {
        let Some(floor) = self.lifecycle.floors.remove(&slot) else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(slot) else {
            return;
        };
        if partition.log_end() >= floor {
            effects.healed.push(partition.id());
            return;
        }
        let fault = log::Fault::Corrupt {
            file: partition.directory().clone(),
            position: partition.size_bytes(),
        };
        let mut events = Vec::new();
        partition.give_up(fault, &mut events);
        self.partition_events(now, slot, &mut events, effects);
    }

    pub(super) fn fenced(
        &mut self,
        now: Now,
        slot: Slot,
        fault: log::Fault,
        effects: &mut Effects,
    ) {
        self.lifecycle.floors.remove(&slot);
        self.fail_deletions(slot, Refusal::Fenced, effects);
        effects
            .faults
            .push((self.partitions.get(slot).map(Partition::id), fault));
        self.opened(now, slot, 0, effects);
        self.closed(slot, effects);
    }

    /// What is in the place of a log that was to be opened says that it is another topic's. If that
    /// topic is gone, its deletion did not get as far as the name, or somebody has put a stray there:
    /// it goes, or is kept under another name, and the log begins anew. If it lives, or if nothing
    /// can be said of it, a person has to look.
    pub(super) fn foreign(&mut self, now: Now, slot: Slot, found: TopicId, effects: &mut Effects) {
        let lives = self.image.topic_by_id(found).is_some();
        let kept = !self.lifecycle.found.deleted.contains(&found);
        let Some(partition) = self.partitions.get_mut(slot) else {
            return;
        };
        if found != TopicId::ZERO && !lives {
            return partition.begin_anew(kept, &mut effects.disk);
        }
        let directory = partition.directory().clone();
        let mut events = Vec::new();
        partition.give_up(log::Fault::Foreign { directory, found }, &mut events);
        self.partition_events(now, slot, &mut events, effects);
    }

    /// False when there is nothing to wait for.
    fn delete(&mut self, now: Now, slot: Slot, effects: &mut Effects) -> bool {
        let mut events = Vec::new();
        // What a failed directory holds is found by the start that has it again.
        let place = self.partitions.get(slot).map(Partition::directory);
        let lost = place.is_some_and(|directory| self.volumes.fault(directory).is_some());
        if let Some(partition) = self.partitions.get_mut(slot)
            && !lost
        {
            partition.delete(&mut effects.disk, &mut events);
        }
        self.withdraw(slot);
        self.unseat(slot, ErrorCode::NotCoordinator, effects);
        self.fail_deletions(slot, Refusal::NotLeader, effects);
        self.partition_events(now, slot, &mut events, effects);
        self.opened(now, slot, 0, effects);
        if lost {
            self.deleted(slot, effects);
        }
        !lost
    }

    /// A deleted partition's directory could not be moved away: whoever wants its name does that, or
    /// the next start.
    pub(super) fn not_deleted(
        &mut self,
        now: Now,
        slot: Slot,
        fault: DiskFault,
        effects: &mut Effects,
    ) {
        let Some(id) = self.partitions.get(slot).map(Partition::id) else {
            return;
        };
        let fault = log::Fault::Disk(fault);
        self.volume_suspected(now, slot, &fault, effects);
        effects.faults.push((Some(id), fault));
        effects.healed.push(id);
        self.deleted(slot, effects);
    }

    /// A deleted partition's files are out of the way for good.
    pub(super) fn deleted(&mut self, slot: Slot, effects: &mut Effects) {
        if let Some(partition) = self.partitions.get(slot)
            && partition.fault().is_some()
        {
            effects.healed.push(partition.id());
        }
        self.settle_deletion(slot, effects);
        self.forget(slot);
        // A topic that is deleted while the broker stops: there is nothing left to close.
        self.closed(slot, effects);
    }

    fn settle_deletion(&mut self, slot: Slot, effects: &mut Effects) {
        for (_, deleting) in &mut self.lifecycle.applying {
            deleting.remove(&slot);
        }
        self.acknowledge_images(effects);
    }

    fn acknowledge_images(&mut self, effects: &mut Effects) {
        while let Some((version, deleting)) = self.lifecycle.applying.front()
            && deleting.is_empty()
        {
            effects
                .peers
                .push((CoreId(0), PeerMessage::Applied(*version)));
            self.lifecycle.applying.pop_front();
        }
    }

    /// True from [`super::Event::Stop`] on: nothing new is taken.
    pub(super) fn stopping(&self) -> bool {
        self.lifecycle.closing.is_some()
    }

    /// Closes everything; the metadata log last.
    pub(super) fn stop(&mut self, now: Now, effects: &mut Effects) {
        if self.stopping() {
            return;
        }
        let open: BTreeSet<Slot> = self.slots().into_iter().collect();
        self.lifecycle.closing = Some(open.clone());
        self.lifecycle.to_open.clear();
        self.unseat_all(effects);
        for slot in open {
            for number in self.jobs.waiting_for(slot) {
                self.run_again(now, number, effects);
            }
            match self.partitions.get_mut(slot) {
                Some(partition) if partition.is_ready() && partition.fault().is_none() => {
                    partition.close(&mut effects.disk);
                }
                // Never opened, or fenced: there is nothing of ours to bring to the disk.
                _ => self.closed(slot, effects),
            }
            self.dirty(slot);
        }
        self.finish_stop(effects);
    }

    pub(super) fn closed(&mut self, slot: Slot, effects: &mut Effects) {
        if let Some(closing) = &mut self.lifecycle.closing {
            closing.remove(&slot);
            self.finish_stop(effects);
        }
    }

    /// Reports the end once all logs are closed.
    pub(super) fn finish_stop(&mut self, effects: &mut Effects) {
        let done = self
            .lifecycle
            .closing
            .as_ref()
            .is_some_and(BTreeSet::is_empty);
        if !done || self.lifecycle.stopped {
            return;
        }
        if !self.close_journals(effects) {
            return;
        }
        if let Some(metadata) = &mut self.metadata
            && !metadata.close(&mut effects.disk)
        {
            return;
        }
        self.lifecycle.stopped = true;
        effects.stopped = true;
    }
}

fn leader_epoch(topic: &Topic, id: TopicPartition) -> LeaderEpoch {
    topic
        .partition(id.partition)
        .map_or(LeaderEpoch(0), |partition| partition.leader_epoch)
}

/// The topic that a partition directory of this name belongs to, and the partition.
pub fn parse_directory_name(name: &str) -> Option<(&str, PartitionIndex)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let index: i32 = partition.parse().ok()?;
    (index >= 0 && !topic.is_empty() && partition == index.to_string())
        .then_some((topic, PartitionIndex(index)))
}

/// The id of the metadata log's topic, as in KRaft (apache/kafka `Uuid.METADATA_TOPIC_ID`).
pub const METADATA_TOPIC: TopicId = TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
