//! One classic group: members that join, elect a leader who assigns, and sync (KIP-62, KIP-345,
//! KIP-394, KIP-814). Knows no offsets, no other groups, no clock.
//!
//! Truth: apache/kafka `coordinator/group/classic/ClassicGroup.java` and the `classicGroup*`
//! methods of `GroupMetadataManager.java`.
//!
//! # What is durable and what is not
//!
//! The record of a classic group is its last completed rebalance: generation, leader, members and
//! assignments. [`ClassicGroup::apply`] is the one way in which a record becomes state, when
//! loading and when the record was just decided. What happens between two rebalances lives in
//! memory only, as in Kafka: who has joined so far, parked requests, pending ids, timers. After a
//! restart the group is as of its record; members find out by their next heartbeat. One thing is
//! logged beyond Kafka: who leaves is taken out of the record at once.
//!
//! Invariants: `joins_parked` counts the members with a parked join; `votes` counts the members
//! that support each protocol; every member of a non-empty group shares its protocol type.

mod join;
mod sync;

pub use join::{KNOWN_ID_FROM, protocols_of};
pub use sync::left;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::consumer_protocol::{self, Subscription};
use super::records::{ClassicMemberValue, ClassicValue, Record};
use super::request::{Reply, Token};
use super::turn::{ParkedJoin, Timer, Turn, heartbeat, refused_sync, text};
use crate::base::Now;
use crate::protocol::ErrorCode;
use crate::protocol::messages::join_group_response::JoinGroupResponseMember;
use crate::protocol::messages::{JoinGroupResponse, SyncGroupResponse};

/// Where a group stands (apache/kafka `ClassicGroupState`; a dead group is simply not there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Members are to (re)join.
    PreparingRebalance,
    /// All have joined; the leader's assignment is awaited.
    CompletingRebalance,
    /// All have their assignments.
    Stable,
}

impl State {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A member of a classic group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client id of its requests.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// How long it may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// The protocols that it supports and its metadata for each, in its order of preference.
    pub protocols: Vec<(String, Bytes)>,
    /// Its assignment; no bytes at all when the leader gave it none.
    pub assignment: Bytes,
    /// Its parked JoinGroup.
    pub join: Option<ParkedJoin>,
    /// Its parked SyncGroup.
    pub sync: Option<Token>,
    /// In its first join: then it expires even while it is parked, since its client may never
    /// have learnt its id.
    pub is_new: bool,
}

impl Member {
    /// Its metadata for a protocol; empty if it does not support it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let mut named = self.protocols.iter().filter(|(name, _)| name == protocol);
        named
            .next()
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}

/// The rest of a group's initial rebalance delay.
#[derive(Clone, Copy, Debug)]
struct InitialDelay {
    delay_ms: i32,
    remaining_ms: i32,
}

/// One classic group.
#[derive(Clone, Debug)]
pub struct ClassicGroup {
    id: String,
    state: State,
    state_timestamp_ms: i64,
    protocol_type: Option<String>,
    protocol: Option<String>,
    generation: i32,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    static_members: BTreeMap<String, String>,
    pending_joins: BTreeSet<String>,
    pending_syncs: BTreeSet<String>,
    joins_parked: usize,
    votes: BTreeMap<String, usize>,
    subscribed_topics: Option<BTreeSet<String>>,
    new_member_added: bool,
    initial_delay: Option<InitialDelay>,
}

impl ClassicGroup {
    /// A group without members and protocol: also what committed offsets alone make.
    pub fn new(id: &str) -> ClassicGroup {
        ClassicGroup {
            id: id.to_owned(),
            state: State::Empty,
            state_timestamp_ms: -1,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            joins_parked: 0,
            votes: BTreeMap::new(),
            subscribed_topics: None,
            new_member_added: false,
            initial_delay: None,
        }
    }

    /// A stable group of consumers, as a consumer group becomes when its last member of the new
    /// protocol leaves.
    pub fn of_consumers(
        id: &str,
        generation: i32,
        now: Now,
        members: BTreeMap<String, Member>,
    ) -> ClassicGroup {
        let mut group = ClassicGroup::new(id);
        for (id, member) in members {
            group.add(&id, member, consumer_protocol::CONSUMER);
        }
        group.state = State::Stable;
        group.generation = generation;
        group.state_timestamp_ms = now.wall.0;
        group.protocol = group.select_protocol();
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// True when it has no members.
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// `consumer`, `connect`, ...; none before the first member.
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The protocol of this generation.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Its members by id.
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// Since when it stands there: milliseconds since the Unix epoch; -1 if unknown.
    pub fn state_timestamp_ms(&self) -> i64 {
        self.state_timestamp_ms
    }

    /// True when its members speak the consumer's embedded protocol.
    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(consumer_protocol::CONSUMER)
    }

    /// True while an id that was handed out waits to be used.
    pub fn has_pending_joins(&self) -> bool {
        !self.pending_joins.is_empty()
    }

    /// True when the topics that its members subscribe to are known.
    pub fn knows_subscriptions(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    /// True when a member subscribes to the topic, or might: consumers whose metadata cannot be
    /// read are taken to subscribe to everything.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// Becomes what the record says; parked requests of members that stay are kept.
    pub fn apply(&mut self, value: ClassicValue) {
        let mut before = std::mem::take(&mut self.members);
        self.protocol_type = Some(value.protocol_type).filter(|name| !name.is_empty());
        self.protocol = value.protocol;
        self.generation = value.generation;
        self.leader = value.leader;
        self.state_timestamp_ms = value.state_timestamp_ms;
        self.state = if value.members.is_empty() {
            State::Empty
        } else {
            State::Stable
        };
        for member in value.members {
            let kept = before.remove(&member.id);
            self.members
                .insert(member.id.clone(), self.applied_member(member, kept));
        }
        self.pending_syncs
            .retain(|id| self.members.contains_key(id));
        self.count();
        self.subscribed_topics = self.compute_subscribed_topics();
    }

    /// A member as its record says, with what only memory knows: all protocols that it supports
    /// (the record has the chosen one), and its parked requests.
    fn applied_member(&self, value: ClassicMemberValue, kept: Option<Member>) -> Member {
        let kept = kept.unwrap_or_default();
        let protocols = match &self.protocol {
            Some(name) if kept.protocols.is_empty() => vec![(name.clone(), value.subscription)],
            _ => kept.protocols,
        };
        Member {
            instance_id: value.instance_id,
            client_id: value.client_id,
            client_host: value.client_host,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols,
            assignment: value.assignment,
            join: kept.join,
            sync: kept.sync,
            is_new: kept.is_new,
        }
    }

    /// Counts anew what is derived from the members.
    fn count(&mut self) {
        self.joins_parked = self
            .members
            .values()
            .filter(|member| member.join.is_some())
            .count();
        self.votes.clear();
        self.static_members.clear();
        for (id, member) in &self.members {
            if let Some(instance) = &member.instance_id {
                self.static_members.insert(instance.clone(), id.clone());
            }
            for (name, _) in &member.protocols {
                *self.votes.entry(name.clone()).or_default() += 1;
            }
        }
    }

    /// The group as its record would be now.
    pub fn value(&self) -> ClassicValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| ClassicMemberValue {
            id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        ClassicValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: members.collect(),
        }
    }

    /// Logs and applies a record.
    pub fn checkpoint(&mut self, turn: &mut Turn<'_>, value: ClassicValue) {
        let record = Record::GroupMetadata {
            group: self.id.clone(),
            value: Some(value),
        };
        turn.log(&record);
        // A large group's value is not copied for this.
        if let Record::GroupMetadata {
            value: Some(value), ..
        } = record
        {
            self.apply(value);
        }
    }

    fn transition(&mut self, turn: &Turn<'_>, state: State) {
        self.state = state;
        self.state_timestamp_ms = turn.now.wall.0;
    }

    fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let protocol = match &self.protocol {
            _ if self.members.is_empty() => return Some(BTreeSet::new()),
            Some(protocol) => protocol,
            None => return None,
        };
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.append(&mut Subscription::topics(&member.metadata(protocol)).ok()?);
        }
        Some(topics)
    }

    /// The longest rebalance timeout of any member.
    fn rebalance_timeout_ms(&self) -> i32 {
        self.members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max()
            .unwrap_or(0)
    }

    fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    fn all_joined(&self) -> bool {
        self.joins_parked == self.members.len() && self.pending_joins.is_empty()
    }

    /// True when a member with these protocols could be in the group with the others.
    fn supports<'n>(&self, kind: &str, mut names: impl Iterator<Item = &'n str>) -> bool {
        if self.state == State::Empty {
            return !kind.is_empty() && names.next().is_some();
        }
        let all = self.members.len();
        self.protocol_type.as_deref() == Some(kind)
            && names.any(|name| self.votes.get(name).copied().unwrap_or(0) == all)
    }

    /// Each member votes for the first of its protocols that all support; the one with most votes
    /// wins, the alphabetically first among equals.
    fn select_protocol(&self) -> Option<String> {
        let all = self.members.len();
        let candidate = |name: &str| self.votes.get(name).is_some_and(|count| *count == all);
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|(name, _)| candidate(name));
            if let Some((name, _)) = vote {
                *votes.entry(name).or_default() += 1;
            }
        }
        let best = votes.iter().rev().max_by_key(|(_, count)| **count);
        best.map(|(name, _)| (*name).to_owned())
    }

    fn add(&mut self, id: &str, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        self.leader.get_or_insert_with(|| id.to_owned());
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), id.to_owned());
        }
        for (name, _) in &member.protocols {
            *self.votes.entry(name.clone()).or_default() += 1;
        }
        self.joins_parked += usize::from(member.join.is_some());
        self.members.insert(id.to_owned(), member);
        self.pending_joins.remove(id);
    }

    /// Takes a member or a pending id out. Its parked requests come back with it.
    fn remove(&mut self, id: &str) -> Option<Member> {
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
        let member = self.members.remove(id)?;
        self.uncount_votes(&member);
        self.joins_parked -= usize::from(member.join.is_some());
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    fn uncount_votes(&mut self, member: &Member) {
        for (name, _) in &member.protocols {
            if let Some(count) = self.votes.get_mut(name) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.votes.remove(name);
                }
            }
        }
    }

    /// Is there such a member, and is it still the one that its instance id names?
    pub fn validate_member(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current != member => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// May this member commit offsets now? (apache/kafka `ClassicGroup.validateOffsetCommit`)
    pub fn validate_commit(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !member.is_empty() || instance.is_some() {
            self.validate_member(member, instance)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !self.is_empty() {
            return Err(ErrorCode::UnknownMemberId);
        }
        match self.state {
            State::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::Empty | State::PreparingRebalance | State::Stable => Ok(()),
        }
    }

    /// Starts the member's session anew.
    pub fn keep_alive(&self, turn: &mut Turn<'_>, member: &str) {
        if let Some(known) = self.members.get(member) {
            let timer = Timer::Session(self.id.clone(), member.to_owned());
            turn.set_timer(timer, known.session_timeout_ms);
        }
    }

    /// After loading: every member's session starts now. A group that the settings no longer
    /// allow to be so large rebalances, and one without a leader: a downgrade left it so, whose
    /// rebalance was not through.
    pub fn loaded(&mut self, turn: &mut Turn<'_>) {
        let members: Vec<String> = self.members.keys().cloned().collect();
        for member in &members {
            self.keep_alive(turn, member);
        }
        let leaderless = !members.is_empty() && self.leader.is_none();
        if leaderless || members.len() > turn.settings.classic_members_max {
            self.prepare_rebalance(turn);
        }
    }

    /// Answers everything that is parked, since this group will not.
    pub fn give_up(&mut self, turn: &mut Turn<'_>, error: ErrorCode) {
        turn.timers.cancel(&Timer::Join(self.id.clone()));
        turn.timers.cancel(&Timer::Sync(self.id.clone()));
        for pending in &self.pending_joins {
            turn.timers
                .cancel(&Timer::Session(self.id.clone(), pending.clone()));
        }
        for (id, member) in &mut self.members {
            turn.timers
                .cancel(&Timer::Session(self.id.clone(), id.clone()));
            turn.decision
                .replies
                .extend(member.join.take().map(|join| join.refuse(id, error)));
            turn.decision
                .replies
                .extend(member.sync.take().map(|sync| (sync, refused_sync(error))));
        }
        self.joins_parked = 0;
    }

    /// Everything that is parked, for a coordinator that is being unloaded.
    pub fn parked(&self, error: ErrorCode) -> Vec<(Token, Reply)> {
        let mut replies = Vec::new();
        for (id, member) in &self.members {
            replies.extend(member.join.map(|join| join.refuse(id, error)));
            replies.extend(member.sync.map(|sync| (sync, refused_sync(error))));
        }
        replies
    }

    fn join_response(&self, member: &str) -> JoinGroupResponse {
        let members = if self.is_leader(member) {
            self.members_for_leader()
        } else {
            Vec::new()
        };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_leader(text(self.leader.as_deref().unwrap_or_default()))
            .with_member_id(text(member))
            .with_members(members)
    }

    fn members_for_leader(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(id, member)| {
            JoinGroupResponseMember::default()
                .with_member_id(text(id))
                .with_group_instance_id(member.instance_id.as_deref().map(text))
                .with_metadata(member.metadata(protocol))
        });
        members.collect()
    }

    fn sync_response(&self, assignment: Bytes) -> Reply {
        Reply::SyncGroup(
            SyncGroupResponse::default()
                .with_protocol_type(self.protocol_type.as_deref().map(text))
                .with_protocol_name(self.protocol.as_deref().map(text))
                .with_assignment(assignment),
        )
    }
}
