//! One core: its partitions and what waits on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::{
    BrokerId, CoreId, DiskDone, DiskFault, Mono, Now, PartitionIndex, Pool, Timers, TopicId,
    TopicPartition,
};
use crate::cluster::Image;
use crate::cluster::configs::{BrokerSettings, StaticConfigs};
use crate::obs::Measurements;
use crate::partition::{Event as PartitionEvent, Partition, Token};
use crate::record::Scratch;

use super::appends::Appends;
use super::checkpoints::Checkpoints;
use super::cleaning::Cleaning;
use super::coordinators::{self, Coordinators};
use super::journals::{Journals, is_of_journal};
use super::lifecycle::Lifecycle;
use super::message::{
    Effects, Event, PartitionDescription, PeerMessage, Progress, Reply, Request, Ticket,
};
use super::metadata::{BOOT_OWNER, METADATA_OWNER, Metadata, SNAPSHOT_OWNER};
use super::producer_ids::ProducerIds;
use super::reads::Jobs;
use super::records_deletion::Deletions;
use super::volumes::{VOLUME_OWNER, Volumes};

/// Partitions that are asked in vain for cache to drop in one turn. With 10,000 that each hold nothing
/// but the block that they write again, to ask all of them in every turn takes all of a core's time.
pub(super) const TRIMMED_IN_VAIN_MAX: u32 = 64;

/// Where a partition stands in the core's table; also the `owner` of its disk operations. A slot is
/// never used twice, so that a late completion cannot reach another partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(pub(super) u32);

/// What a core has deadlines for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A partition's own: flush, roll, delayed deletes.
    Partition(Slot),
    /// The metadata log's own.
    Metadata,
    /// A group coordinator's own: sessions, rebalances, expiry.
    Coordinator(Slot),
    /// Coordinators have more to load.
    Loading,
    /// Coordinators' answers wait for their turn.
    Answers,
    /// A job that waits for bytes.
    Job(u64),
    /// Retention is due.
    Retention,
    /// The cleaner has something to do, or looks for it.
    Cleaning,
    /// The expiry of silent producers is due.
    ProducerExpiry,
    /// Logs may have to write a checkpoint.
    Checkpoints,
    /// The data directories are to be asked for their space.
    Volumes,
    /// Journals may have nothing to do.
    Journals,
}

/// What a core is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which core it is.
    pub core: CoreId,
    /// Of how many.
    pub cores: u16,
    /// The broker it belongs to.
    pub broker: BrokerId,
    /// How many data directories there are.
    pub disks: u16,
    /// Those that could not be used at the start, and why.
    pub failed_disks: BTreeMap<u16, DiskFault>,
    /// Where its buffers come from.
    pub pool: Pool,
    /// How many bytes of batches it may keep in memory for readers.
    pub cache_bytes_max: usize,
    /// The configs the broker was started with.
    pub static_configs: Arc<StaticConfigs>,
    /// What the broker tells of itself in the metadata log (core 0).
    pub registration: crate::cluster::records::RegisterBroker,
    /// Where random ids begin; differs from start to start.
    pub seed: u64,
}

/// All that one core knows.
pub struct Core {
    pub(super) setup: Setup,
    pub(super) image: Arc<Image>,
    pub(super) settings: BrokerSettings,
    pub(super) partitions: Table,
    by_id: BTreeMap<TopicPartition, Slot>,
    dirty: BTreeSet<Slot>,
    pub(super) appends: Appends,
    pub(super) jobs: Jobs,
    pub(super) coordinators: Coordinators,
    pub(super) deletions: Deletions,
    pub(super) producer_ids: ProducerIds,
    pub(super) lifecycle: Lifecycle,
    pub(super) checkpoints: Checkpoints,
    pub(super) metadata: Option<Metadata>,
    pub(super) volumes: Volumes,
    pub(super) journals: Journals,
    pub(super) timers: Timers<Timer>,
    pub(super) scratch: Scratch,
    pub(super) measurements: Measurements,
    pub(super) cleaning: Cleaning,
    /// Memory that the keys of a log under compaction take: less is left for the cache.
    pub(super) key_bytes: usize,
    cache_bytes: usize,
    pub(super) cache_hand: u32,
    partition_events: Vec<PartitionEvent>,
}

/// The partitions by slot.
#[derive(Default)]
pub(super) struct Table {
    slots: Vec<Option<Box<Partition>>>,
    /// By slot, how much of the core's cache is put down to it.
    cached: Vec<usize>,
}

impl Table {
    pub(super) fn get(&self, slot: Slot) -> Option<&Partition> {
        self.slots.get(slot.0 as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Partition> {
        self.slots.get_mut(slot.0 as usize)?.as_deref_mut()
    }

    pub(super) fn next_slot(&self) -> Slot {
        Slot(self.slots.len() as u32)
    }

    fn push(&mut self, partition: Partition) {
        self.slots.push(Some(Box::new(partition)));
        self.cached.push(0);
    }

    fn remove(&mut self, slot: Slot) {
        if let Some(place) = self.slots.get_mut(slot.0 as usize) {
            *place = None;
        }
    }
}

impl Core {
    /// A core before its first image. On core 0 the metadata log is opened at once.
    pub fn new(setup: Setup, now: Now, effects: &mut Effects) -> Core {
        let image = Arc::new(Image::default());
        let settings = setup.broker_settings(&image);
        let coordinators = Coordinators::new(&settings.groups, setup.seed, setup.core);
        let metadata = (setup.core == CoreId(0)).then(|| Metadata::open(&setup, effects));
        let mut core = Core {
            measurements: Measurements::new(setup.core),
            image,
            partitions: Table::default(),
            by_id: BTreeMap::new(),
            dirty: BTreeSet::new(),
            appends: Appends::default(),
            jobs: Jobs::default(),
            coordinators,
            deletions: Deletions::default(),
            producer_ids: ProducerIds::default(),
            lifecycle: Lifecycle::default(),
            checkpoints: Checkpoints::default(),
            metadata,
            volumes: Volumes::new(setup.disks, &setup.failed_disks),
            journals: Journals::new(&setup, &settings),
            timers: Timers::default(),
            settings,
            scratch: Scratch::new(),
            cleaning: Cleaning::new(setup.seed, now),
            key_bytes: 0,
            cache_bytes: 0,
            cache_hand: 0,
            partition_events: Vec::new(),
            setup,
        };
        core.schedule_housekeeping(now);
        core.ask_volumes(now, effects);
        core
    }

    /// The one verb: takes an event, leaves what follows from it in `effects`. What was appended is
    /// written at [`Core::end_turn`].
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        let before = effects.disk.len();
        match event {
            Event::Request { ticket, request } => self.request(now, ticket, request, effects),
            Event::Cancel(ticket) => self.cancel(now, ticket, effects),
            Event::Disk(done) => self.disk(now, done, effects),
            Event::Peer { from, message } => self.peer(now, from, message, effects),
            Event::Tick => self.tick(now, effects),
            Event::Stop => self.stop(now, effects),
        }
        self.pass_journals(now, before, false, effects);
    }

    /// The turn is over: what it appended becomes one write for each log.
    pub fn end_turn(&mut self, now: Now, effects: &mut Effects) {
        let before = effects.disk.len();
        self.commit_groups(now, effects);
        self.hand_out_answers(now, effects);
        while let Some(slot) = self.dirty.pop_first() {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.flush_turn(now, &mut effects.disk);
                self.count_cache(slot);
                self.schedule(slot);
            }
        }
        if let Some(metadata) = &mut self.metadata {
            metadata.flush_turn(now, &mut effects.disk);
        }
        self.pass_journals(now, before, true, effects);
        self.trim_cache();
    }

    /// When [`Event::Tick`] is due next.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.next()
    }

    /// The cluster as this core sees it.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The broker configs in force.
    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    /// What has been measured here; the host adds its own.
    pub fn measurements(&mut self) -> &mut Measurements {
        &mut self.measurements
    }

    /// Bytes of batches in memory as they are put down, for tests that count them again.
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// How far the start has come.
    pub fn progress(&self) -> Progress {
        let mut progress = self.lifecycle.progress();
        for slot in self.lifecycle.opening() {
            if let Some(partition) = self.partitions.get(slot) {
                let (scanned, of) = partition.recovery_progress();
                progress.scanned_bytes += scanned;
                progress.scan_bytes += of;
            }
        }
        progress
    }

    fn request(&mut self, now: Now, ticket: Ticket, request: Request, effects: &mut Effects) {
        match request {
            Request::Append(request) => self.append(now, ticket, request, effects),
            Request::Read(request) => self.read(now, ticket, request, effects),
            Request::ListOffsets(queries) => self.list_offsets(now, ticket, queries, effects),
            Request::EpochEnds(queries) => {
                let ends = queries.iter().map(|query| self.epoch_end(query)).collect();
                effects.replies.push((ticket, Reply::EpochEnds(ends)));
            }
            Request::DeleteRecords(queries) => self.delete_records(ticket, queries, effects),
            Request::Describe(which) => {
                effects
                    .replies
                    .push((ticket, Reply::Describe(self.describe(which))));
            }
            Request::Producers(which) => {
                let answers = which
                    .into_iter()
                    .map(|id| self.describe_producers(id))
                    .collect();
                effects.replies.push((ticket, Reply::Producers(answers)));
            }
            Request::ProducerId => self.producer_id(ticket, effects),
            Request::Control(request) => self.control(now, ticket, request, effects),
            Request::Group { partition, request } => {
                self.group(now, ticket, partition, request, effects);
            }
            Request::Volumes => {
                let volumes = self.volumes.describe();
                effects.replies.push((ticket, Reply::Volumes(volumes)));
            }
            Request::Measurements => {
                let snapshot = Box::new(self.measure(now));
                effects
                    .replies
                    .push((ticket, Reply::Measurements(snapshot)));
            }
        }
    }

    fn peer(&mut self, now: Now, from: CoreId, message: PeerMessage, effects: &mut Effects) {
        match message {
            PeerMessage::Image {
                version,
                image,
                records,
                found,
            } => {
                self.take_image(now, (version, image), &records, found, effects);
            }
            PeerMessage::Applied(version) => self.applied(now, from, version, effects),
            PeerMessage::WantProducerIds => self.want_producer_ids(now, from, effects),
            PeerMessage::ProducerIds { first, count } => {
                self.producer_ids_given(first, count, effects);
            }
            PeerMessage::VolumeShort { disk } => self.volume_short(now, disk, effects),
            PeerMessage::VolumeFailed { disk, fault } => {
                self.volume_failed(now, disk, &fault, effects);
            }
        }
    }

    fn disk(&mut self, now: Now, done: DiskDone, effects: &mut Effects) {
        if done.id.owner == BOOT_OWNER {
            self.boot_disk(now, done, effects);
            return;
        }
        if done.id.owner == METADATA_OWNER {
            self.metadata_disk(now, done, effects);
            return;
        }
        if done.id.owner == SNAPSHOT_OWNER {
            self.snapshot_disk(now, done, effects);
            return;
        }
        if done.id.owner == VOLUME_OWNER {
            self.volume_disk(now, done, effects);
            return;
        }
        if is_of_journal(done.id) {
            self.journal_disk(now, done, effects);
            return;
        }
        self.journals.direct_done(done.id);
        self.log_disk(now, done, effects);
    }

    /// The outcome of an operation of a partition's log.
    pub(super) fn log_disk(&mut self, now: Now, done: DiskDone, effects: &mut Effects) {
        let slot = Slot(done.id.owner);
        let Some(partition) = self.partitions.get_mut(slot) else {
            return;
        };
        let mut events = std::mem::take(&mut self.partition_events);
        partition.handle_disk(now, done, &mut effects.disk, &mut events);
        self.count_cache(slot);
        self.partition_events(now, slot, &mut events, effects);
        self.partition_events = events;
        // A completed write makes room for what was gathered meanwhile.
        self.dirty.insert(slot);
    }

    fn tick(&mut self, now: Now, effects: &mut Effects) {
        while let Some(timer) = self.timers.pop_due(now.mono) {
            match timer {
                Timer::Partition(slot) => self.tick_partition(now, slot, effects),
                Timer::Metadata => self.tick_metadata(now, effects),
                Timer::Coordinator(slot) => self.tick_coordinator(now, slot, effects),
                Timer::Loading => self.load_more(now, effects),
                // The end of the turn hands them out; this is only so that there is one.
                Timer::Answers => {}
                Timer::Job(number) => self.run_again(now, number, effects),
                Timer::Retention => self.retain(now, effects),
                Timer::Cleaning => self.clean(now, effects),
                Timer::ProducerExpiry => self.expire_producers(now),
                Timer::Checkpoints => self.write_checkpoints(now, effects),
                Timer::Volumes => self.ask_volumes(now, effects),
                Timer::Journals => self.rest_journals(now, effects),
            }
        }
    }

    pub(super) fn tick_partition(&mut self, now: Now, slot: Slot, effects: &mut Effects) {
        let Some(partition) = self.partitions.get_mut(slot) else {
            return;
        };
        let mut events = std::mem::take(&mut self.partition_events);
        partition.tick(now, &mut effects.disk, &mut events);
        self.partition_events(now, slot, &mut events, effects);
        self.partition_events = events;
        self.dirty.insert(slot);
    }

    fn schedule_housekeeping(&mut self, now: Now) {
        let retention = self.settings.retention_check_interval_ms;
        self.timers
            .set(Timer::Retention, now.mono.after_ms(retention));
        let expiry = self.settings.producer_id_expiration_check_interval_ms;
        self.timers
            .set(Timer::ProducerExpiry, now.mono.after_ms(expiry));
        self.clean_later(now);
    }

    fn retain(&mut self, now: Now, effects: &mut Effects) {
        let mut events = std::mem::take(&mut self.partition_events);
        for slot in self.slots() {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.enforce_retention(now, &mut effects.disk, &mut events);
                self.partition_events(now, slot, &mut events, effects);
                self.schedule(slot);
            }
        }
        self.partition_events = events;
        let interval = self.settings.retention_check_interval_ms;
        self.timers
            .set(Timer::Retention, now.mono.after_ms(interval));
    }

    fn expire_producers(&mut self, now: Now) {
        for slot in self.slots() {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.expire_producers(now);
            }
        }
        let interval = self.settings.producer_id_expiration_check_interval_ms;
        self.timers
            .set(Timer::ProducerExpiry, now.mono.after_ms(interval));
    }

    /// What waited for this token is committed (`ok`), or never will be.
    fn settled(&mut self, now: Now, slot: Slot, token: Token, ok: bool, effects: &mut Effects) {
        if token.part == coordinators::PART {
            self.round_done(now, slot, token.number, ok, effects);
        } else {
            self.append_done(now, token, ok, effects);
        }
    }

    /// What a partition told us.
    pub(super) fn partition_events(
        &mut self,
        now: Now,
        slot: Slot,
        events: &mut Vec<PartitionEvent>,
        effects: &mut Effects,
    ) {
        let mut moved = false;
        for event in events.drain(..) {
            match event {
                PartitionEvent::Ready {
                    clean,
                    bytes_scanned,
                    bytes_cut,
                } => {
                    self.measurements.logs.recovery_scanned_bytes += bytes_scanned;
                    self.measurements.logs.recovery_cut_bytes += bytes_cut;
                    if !clean {
                        self.checkpoints.recovered(slot);
                    }
                    self.opened(now, slot, bytes_scanned, effects);
                    self.came_back(now, slot, effects);
                    self.load(now, slot);
                }
                PartitionEvent::Acked(token) => self.settled(now, slot, token, true, effects),
                PartitionEvent::Failed(token) => self.settled(now, slot, token, false, effects),
                PartitionEvent::Moved | PartitionEvent::Filled => moved = true,
                PartitionEvent::CompactionDue => self.cleaning_due(now, slot),
                PartitionEvent::StartOffsetDurable(offset) => {
                    self.start_offset_durable(slot, offset, effects);
                }
                PartitionEvent::SpaceShort => {
                    if let Some(disk) = self.partitions.get(slot).map(Partition::disk) {
                        self.volume_found_short(now, disk, effects);
                    }
                }
                PartitionEvent::Closed => self.closed(slot, effects),
                PartitionEvent::Foreign(found) => self.foreign(now, slot, found, effects),
                PartitionEvent::Deleted => self.deleted(slot, effects),
                PartitionEvent::NotDeleted(fault) => self.not_deleted(now, slot, fault, effects),
                PartitionEvent::Fenced(fault) => {
                    self.measurements.logs.fences += 1;
                    if matches!(fault, crate::log::Fault::Corrupt { .. }) {
                        self.measurements.logs.corrupt += 1;
                    }
                    moved = true;
                    self.volume_suspected(now, slot, &fault, effects);
                    self.fenced(now, slot, fault, effects);
                }
            }
        }
        if moved {
            for number in self.jobs.waiting_for(slot) {
                self.run_again(now, number, effects);
            }
            self.load(now, slot);
        }
        self.schedule(slot);
    }

    /// The slot of a partition that this core owns.
    pub(super) fn slot(&self, id: TopicPartition) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    /// The slots of all partitions, or of one topic's.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.by_id.values().copied().collect()
    }

    /// The slots of one topic's partitions.
    pub(super) fn slots_of(&self, topic: TopicId) -> Vec<Slot> {
        let at = |partition| TopicPartition {
            topic,
            partition: PartitionIndex(partition),
        };
        self.by_id
            .range(at(0)..=at(i32::MAX))
            .map(|(_, slot)| *slot)
            .collect()
    }

    pub(super) fn insert(&mut self, mut partition: Partition) {
        partition.set_short(self.volumes.is_short(partition.disk()));
        let slot = self.partitions.next_slot();
        self.by_id.insert(partition.id(), slot);
        let id = partition.id();
        self.partitions.push(partition);
        self.count_cache(slot);
        self.seat(id, slot);
        self.schedule(slot);
    }

    /// The partition is no longer served; its log may still be busy with its end.
    pub(super) fn withdraw(&mut self, slot: Slot) {
        if let Some(partition) = self.partitions.get(slot) {
            self.by_id.remove(&partition.id());
        }
    }

    /// The partition is gone for good.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.timers.cancel(&Timer::Partition(slot));
        self.checkpoints.forget(slot);
        self.dirty.remove(&slot);
        self.partitions.remove(slot);
        self.count_cache(slot);
    }

    /// The partition has something to write at the end of the turn.
    pub(super) fn dirty(&mut self, slot: Slot) {
        self.dirty.insert(slot);
    }

    /// Keeps the partition's deadline in the table.
    pub(super) fn schedule(&mut self, slot: Slot) {
        let timer = Timer::Partition(slot);
        let wanted = self.partitions.get(slot).and_then(Partition::next_deadline);
        if self.timers.get(&timer) != wanted {
            match wanted {
                Some(at) => self.timers.set(timer, at),
                None => self.timers.cancel(&timer),
            }
        }
    }

    /// Puts down what the partition holds now. Against what was put down the last time, and not
    /// against what it held a moment ago: what an append takes was missed that way, for ever.
    pub(super) fn count_cache(&mut self, slot: Slot) {
        let now = self.partitions.get(slot).map_or(0, Partition::cached_bytes);
        let Some(counted) = self.partitions.cached.get_mut(slot.0 as usize) else {
            return;
        };
        let before = std::mem::replace(counted, now);
        self.cache_bytes = self.cache_bytes + now - before;
    }

    /// Drops cache until the budget holds: round the partitions, so that none is drained alone. Where
    /// most have nothing that may go, it is gone on from there in the next turn.
    fn trim_cache(&mut self) {
        let slots = self.partitions.slots.len() as u32;
        let (mut visited, mut in_vain) = (0, 0);
        let limit = self.setup.cache_bytes_max.saturating_sub(self.key_bytes);
        while self.cache_bytes > limit && visited < slots && in_vain < TRIMMED_IN_VAIN_MAX {
            let slot = Slot(self.cache_hand % slots.max(1));
            self.cache_hand = self.cache_hand.wrapping_add(1);
            visited += 1;
            let excess = self.cache_bytes - limit;
            let awaited = self.jobs.need_the_disk(slot) || self.is_loading(slot);
            if let Some(partition) = self.partitions.get_mut(slot) {
                let evicted = partition.evict(excess, awaited);
                in_vain += u32::from(evicted == 0);
                self.measurements.cache.evicted_bytes += evicted as u64;
                self.count_cache(slot);
            }
        }
    }

    fn describe(&self, which: Option<Vec<TopicPartition>>) -> Vec<PartitionDescription> {
        let ids = which.unwrap_or_else(|| self.by_id.keys().copied().collect());
        let described = ids.into_iter().filter_map(|id| {
            let partition = self.partitions.get(self.slot(id)?)?;
            Some(PartitionDescription {
                partition: id,
                disk: partition.disk(),
                size_bytes: partition.size_bytes(),
                log_start: partition.log_start(),
                high_watermark: partition.high_watermark(),
                log_end: partition.log_end(),
                fault: partition.fault().cloned(),
            })
        });
        described.collect()
    }

    fn measure(&mut self, now: Now) -> crate::obs::CoreSnapshot {
        let holdings = &mut self.measurements.holdings;
        let all = || {
            self.by_id
                .values()
                .filter_map(|slot| self.partitions.get(*slot))
        };
        holdings.partitions = self.by_id.len() as u64;
        holdings.leaders = all().filter(|partition| partition.is_ready()).count() as u64;
        holdings.offline = all()
            .filter(|partition| partition.fault().is_some())
            .count() as u64;
        holdings.log_bytes = all().map(Partition::size_bytes).sum();
        let uncleanable = all().filter(|partition| partition.is_uncleanable()).count() as u64;
        holdings.log_segments = all()
            .map(|partition| partition.segment_count() as u64)
            .sum();
        self.measurements.groups.now = self.coordinators.holdings();
        (holdings.short_directories, holdings.failed_directories) = self.volumes.count();
        self.measurements.journal = self.journals.measure();
        self.measurements.cache.bytes = self.cache_bytes as u64;
        self.measurements.cache.budget_bytes = self.setup.cache_bytes_max as u64;
        let cleaner = &mut self.measurements.cleaner;
        cleaner.dirty_percent_max = self.cleaning.dirty_percent_max;
        cleaner.overdue_max = self.cleaning.overdue_max;
        cleaner.since_last_run = now.mono.since(self.cleaning.last_run);
        cleaner.uncleanable = uncleanable;
        self.measurements.snapshot()
    }

    /// The partition, for the simulator's invariants.
    pub fn partition(&self, id: TopicPartition) -> Option<&Partition> {
        self.partitions.get(self.slot(id)?)
    }

    /// All partitions that are served, for the simulator's invariants.
    pub fn partitions(&self) -> impl Iterator<Item = &Partition> {
        self.by_id
            .values()
            .filter_map(|slot| self.partitions.get(*slot))
    }
}

impl Setup {
    /// The data directories that did not fail before the start.
    pub(super) fn disks_here(&self) -> Vec<u16> {
        let disks = 0..self.disks.max(1);
        disks
            .filter(|disk| !self.failed_disks.contains_key(disk))
            .collect()
    }

    /// The ids of the data directories, by number, of those that were well at the start: what the
    /// broker registers are exactly those, in order.
    pub(super) fn directories(&self) -> impl Iterator<Item = (u16, TopicId)> {
        let well = (0..self.disks).filter(|disk| !self.failed_disks.contains_key(disk));
        well.zip(self.registration.log_dirs.iter().copied())
    }

    pub(super) fn broker_settings(&self, image: &Image) -> BrokerSettings {
        crate::cluster::configs::Layers::new(image, self.broker, &self.static_configs)
            .broker_settings()
    }
}
