//! The group coordinator: classic groups, the consumer groups of KIP-848, and committed offsets,
//! as state machines.
//!
//! One [`Coordinator`] has all groups of one partition of `__consumer_offsets`, and lives on the
//! core that owns that partition. It knows no log, no network, no clock, no other coordinator and
//! not who is allowed what. A request goes in, a [`Decision`] comes out: records for the
//! partition, and replies that may leave when those are durable. Answers that have to wait for
//! other members (JoinGroup, SyncGroup) come out of a later decision, or of [`Coordinator::tick`].
//!
//! # Decide, then apply
//!
//! State that must survive is changed by `apply` alone, from records: when they are loaded
//! ([`Coordinator::replay`]) and at once when they are decided. Memory is therefore ahead of the
//! disk, as in Apache Kafka; nobody sees it, since replies wait until everything that was decided
//! before them is durable. If an append fails, the coordinator is thrown away
//! ([`Coordinator::unload`]) and loaded again from the log.
//!
//! Timers, parked requests, pending member ids and who has joined a classic rebalance so far are
//! soft state: in memory only, lost with the coordinator, made good by the clients' next
//! heartbeats.
//!
//! Sessions run by the monotonic clock; retention by the wall clock, since its beginning stands in
//! records.

pub mod assignor;
pub mod classic;
pub mod consumer;
pub mod consumer_protocol;
mod describe;
mod handle;
mod migrate;
pub mod offsets;
pub mod overview;
pub mod records;
pub mod request;
pub mod simulation;
#[cfg(test)]
mod tests;
mod timers;
mod turn;
pub mod wire;

use std::collections::BTreeMap;

use classic::ClassicGroup;
use consumer::{ConsumerGroup, Surroundings};
use offsets::Offsets;
use records::Record;
pub use request::{
    Body, Decision, MigrationPolicy, Refusal, Reply, Request, Settings, Tally, Token, Topic,
    TopicView,
};
use turn::{Timer, Turn};
pub use wire::Malformed;

use crate::base::{Mono, Now, Offset, Prng, Timers};
use crate::protocol::ErrorCode;

/// A group of either kind.
#[derive(Clone, Debug)]
pub enum Group {
    /// Of the classic protocol; also what commits without members make.
    Classic(ClassicGroup),
    /// Of KIP-848.
    Consumer(ConsumerGroup),
}

impl Group {
    /// True when it has no members.
    pub fn is_empty(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
        }
    }

    /// True when a member subscribes to the topic, or might.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed(topic),
            Group::Consumer(group) => group.is_subscribed(topic),
        }
    }

    /// The state's name on the wire.
    pub fn state_name(&self) -> &'static str {
        match self {
            Group::Classic(group) => group.state().name(),
            Group::Consumer(group) => group.state_name(),
        }
    }

    /// The kind's name on the wire.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Group::Classic(_) => "Classic",
            Group::Consumer(_) => "Consumer",
        }
    }

    /// The protocol type: `consumer`, `connect`, ...; empty if none is known.
    pub fn protocol_type(&self) -> &str {
        match self {
            Group::Classic(group) => group.protocol_type().unwrap_or_default(),
            Group::Consumer(_) => consumer_protocol::CONSUMER,
        }
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        match self {
            Group::Classic(group) => group.members().len(),
            Group::Consumer(group) => group.members().len(),
        }
    }

    /// The records that delete it.
    fn tombstones(&self, id: &str) -> Vec<Record> {
        match self {
            Group::Classic(_) => {
                vec![Record::GroupMetadata {
                    group: id.to_owned(),
                    value: None,
                }]
            }
            Group::Consumer(group) => group.tombstones(),
        }
    }
}

/// What records make, and nothing but records (and, in classic groups, what is parked).
#[derive(Clone, Debug, Default)]
pub struct State {
    groups: BTreeMap<String, Group>,
    offsets: Offsets,
}

impl State {
    /// Logs records and becomes what they say.
    fn decide(&mut self, turn: &mut Turn<'_>, records: Vec<Record>) {
        turn.count(&records);
        for record in records {
            turn.log(&record);
            self.apply(record);
        }
    }

    /// Becomes what a record says.
    fn apply(&mut self, record: Record) {
        match record {
            Record::OffsetCommit {
                group,
                topic,
                partition,
                value,
            } => {
                if value.is_some() && !self.groups.contains_key(&group) {
                    let simple = ClassicGroup::new(&group);
                    self.groups.insert(group.clone(), Group::Classic(simple));
                }
                self.offsets.apply(group, topic, partition, value);
            }
            Record::GroupMetadata {
                group,
                value: Some(value),
            } => {
                self.classic_entry(&group).apply(value);
            }
            Record::GroupMetadata { group, value: None } => {
                if let Some(Group::Classic(_)) = self.groups.get(&group) {
                    self.groups.remove(&group);
                }
            }
            Record::GroupEpoch { group, epoch: None } => {
                if let Some(Group::Consumer(_)) = self.groups.get(&group) {
                    self.groups.remove(&group);
                }
            }
            record => self.apply_to_consumers(record),
        }
    }

    fn apply_to_consumers(&mut self, record: Record) {
        let id = record.group();
        let deletes = match &record {
            Record::OffsetCommit { value, .. } => value.is_none(),
            Record::GroupMetadata { value, .. } => value.is_none(),
            Record::GroupEpoch { epoch, .. } | Record::TargetEpoch { epoch, .. } => epoch.is_none(),
            Record::SubscribedTopics { topics, .. } => topics.is_none(),
            Record::Member { value, .. } => value.is_none(),
            Record::Target { partitions, .. } => partitions.is_none(),
            Record::Current { value, .. } => value.is_none(),
            Record::ResolvedRegex { value, .. } => value.is_none(),
        };
        if let Some(Group::Consumer(group)) = self.groups.get_mut(id) {
            group.apply(record);
        } else if !deletes {
            // The first record of a group that is new, or that was a classic one.
            let mut group = ConsumerGroup::new(id);
            let id = id.to_owned();
            group.apply(record);
            self.groups.insert(id, Group::Consumer(group));
        }
    }

    /// The classic group with this id; one is made if there is none, or one of the other kind.
    fn classic_entry(&mut self, id: &str) -> &mut ClassicGroup {
        if !matches!(self.groups.get(id), Some(Group::Classic(_))) {
            self.groups
                .insert(id.to_owned(), Group::Classic(ClassicGroup::new(id)));
        }
        match self.groups.get_mut(id) {
            Some(Group::Classic(group)) => group,
            Some(Group::Consumer(_)) | None => unreachable!("a classic group was just put there"),
        }
    }

    /// The consumer group with this id.
    fn consumers(&self, id: &str) -> Option<&ConsumerGroup> {
        match self.groups.get(id) {
            Some(Group::Consumer(group)) => Some(group),
            Some(Group::Classic(_)) | None => None,
        }
    }
}

/// All groups of one partition of `__consumer_offsets`.
#[derive(Clone, Debug)]
pub struct Coordinator {
    settings: Settings,
    random: Prng,
    timers: Timers<Timer>,
    state: State,
    retention_cursor: Option<String>,
}

impl Coordinator {
    /// A coordinator before loading: call [`Coordinator::replay`] for every record of its
    /// partition, then [`Coordinator::loaded`], and only then [`Coordinator::handle`]. `seed` is
    /// for member ids, and should be random each time in production.
    pub fn new(settings: Settings, seed: u64) -> Coordinator {
        Coordinator {
            settings,
            random: Prng::new(seed),
            timers: Timers::default(),
            state: State::default(),
            retention_cursor: None,
        }
    }

    /// Takes new settings; timers that are running keep theirs.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Takes in a record of the partition, in the order of offsets. Kinds of keys that are not
    /// known are left alone. After an error the record is skipped: loading may go on.
    pub fn replay(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        _offset: Offset,
    ) -> Result<(), Malformed> {
        if let Some(record) = Record::decode(key, value)? {
            self.state.apply(record);
        }
        Ok(())
    }

    /// All records are in: sessions start now, since members could not reach anybody before.
    pub fn loaded(&mut self, now: Now) -> Decision {
        let topics = TopicView::default();
        self.turn(now, &topics, |state, turn, _| {
            for group in state.groups.values_mut() {
                match group {
                    Group::Classic(group) => group.loaded(turn),
                    Group::Consumer(group) => timers::consumer_loaded(turn, group),
                }
            }
            let every = turn.settings.offsets_retention_check_interval_ms;
            let at = turn.now.mono.after_ms(every);
            turn.timers.set(Timer::Retention, at);
        })
    }

    /// Handles a request.
    pub fn handle(&mut self, now: Now, request: &Request, topics: &TopicView) -> Decision {
        self.turn(now, topics, |state, turn, _| {
            handle::handle(state, turn, request)
        })
    }

    /// Does what is due. What is left for later (retention works in slices) is due at once again:
    /// ask [`Coordinator::next_deadline`].
    pub fn tick(&mut self, now: Now, topics: &TopicView) -> Decision {
        self.turn(now, topics, timers::tick)
    }

    /// When [`Coordinator::tick`] wants to be called next.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.timers.next()
    }

    /// Topics were deleted: their offsets go. `topics` is the view without them.
    pub fn topics_deleted(&mut self, now: Now, topics: &TopicView, names: &[String]) -> Decision {
        self.turn(now, topics, |state, turn, _| {
            let gone = |name: &str| names.iter().any(|deleted| deleted == name);
            let records = state.offsets.topic_tombstones(&gone);
            state.decide(turn, records);
        })
    }

    /// Ends the coordinator: whoever is parked has to be answered with what is returned.
    pub fn unload(self, error: ErrorCode) -> Vec<(Token, Reply)> {
        let groups = self.state.groups.values();
        let parked = groups.flat_map(|group| match group {
            Group::Classic(group) => group.parked(error),
            Group::Consumer(_) => Vec::new(),
        });
        parked.collect()
    }

    /// All groups by id, for metrics and tools.
    pub fn groups(&self) -> &BTreeMap<String, Group> {
        &self.state.groups
    }

    /// All committed offsets, for metrics and tools.
    pub fn offsets(&self) -> &Offsets {
        &self.state.offsets
    }

    fn turn(
        &mut self,
        now: Now,
        topics: &TopicView,
        work: impl FnOnce(&mut State, &mut Turn<'_>, &mut Option<String>),
    ) -> Decision {
        let mut decision = Decision::default();
        let mut turn = Turn {
            now,
            settings: &self.settings,
            topics,
            timers: &mut self.timers,
            random: &mut self.random,
            decision: &mut decision,
        };
        work(&mut self.state, &mut turn, &mut self.retention_cursor);
        decision
    }
}

/// What a consumer group's decision depends on.
fn surroundings<'a>(turn: &Turn<'a>) -> Surroundings<'a> {
    Surroundings {
        now: turn.now,
        settings: turn.settings,
        topics: turn.topics,
    }
}

/// The partition of `__consumer_offsets` that a group belongs to: Java's `String.hashCode` of its
/// id (over UTF-16 units), made positive as `Utils.abs` does, modulo the number of partitions.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % partitions.max(1)
}
