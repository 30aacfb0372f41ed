//! One consumer group of the new protocol (KIP-848): the broker assigns, members are told by
//! heartbeats, and a partition goes to its new owner only after the old one confirmed that it has
//! let go. Knows no offsets, no other groups, no clock and no timers: it decides from its state
//! which records there are to be, and [`ConsumerGroup::apply`] alone changes the state.
//!
//! Truth: apache/kafka `coordinator/group/modern/**` and the `consumerGroup*` methods of
//! `GroupMetadataManager.java`.
//!
//! Three epochs: the group's goes up with every change of members, subscriptions or topics; the
//! target's is the group's for which the target assignment was computed; a member's is the
//! target's that it has reached.
//!
//! Invariant: a partition is in the `assigned` or `pending_revocation` of at most one member; the
//! epoch at which it is owned stands in `owned_at`.

mod classic_member;
mod heartbeat;
mod migrate;
mod progress;
mod subscription;

pub use classic_member::named;

use std::collections::BTreeMap;

pub use heartbeat::{Beat, LEAVE, LEAVE_STATIC, validate};
pub use subscription::check_regex;

use super::records::TopicMetadata;
use super::records::{CurrentValue, MemberState, MemberValue, Partitions, Record, RegexValue};
use super::request::{Settings, TopicView};
use crate::base::{Now, TopicId};
use crate::protocol::ErrorCode;

/// A member of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it said about itself.
    pub about: MemberValue,
    /// What it owns.
    pub current: CurrentValue,
}

impl Member {
    /// True when it speaks the classic protocol.
    pub fn is_classic(&self) -> bool {
        self.about.classic.is_some()
    }

    /// True when it owns what the target of this epoch gives it.
    pub fn has_reached(&self, target_epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == target_epoch
    }

    /// How long it may be silent.
    pub fn session_timeout_ms(&self, settings: &Settings) -> i32 {
        let classic = self.about.classic.as_ref();
        classic.map_or(settings.consumer_session_timeout_ms, |classic| {
            classic.session_timeout_ms
        })
    }
}

/// What a decision depends on besides the group.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// When.
    pub now: Now,
    /// The coordinator's settings.
    pub settings: &'a Settings,
    /// The topics.
    pub topics: &'a TopicView,
}

/// One consumer group.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    id: String,
    epoch: i32,
    target_epoch: i32,
    members: BTreeMap<String, Member>,
    static_members: BTreeMap<String, String>,
    subscribed: BTreeMap<String, TopicMetadata>,
    regexes: BTreeMap<String, RegexValue>,
    target: BTreeMap<String, Partitions>,
    owned_at: BTreeMap<(TopicId, i32), i32>,
    /// The version of the topics that `subscribed` was last held against; only memory knows it.
    seen_version: Option<i64>,
}

impl ConsumerGroup {
    /// A group without members.
    pub fn new(id: &str) -> ConsumerGroup {
        ConsumerGroup {
            id: id.to_owned(),
            epoch: 0,
            target_epoch: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            regexes: BTreeMap::new(),
            target: BTreeMap::new(),
            owned_at: BTreeMap::new(),
            seen_version: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The group's epoch.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The epoch of the target assignment.
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    /// Its members by id.
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// What a member is to own in the end.
    pub fn target(&self, member: &str) -> Option<&Partitions> {
        self.target.get(member)
    }

    /// True when it has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Its state's name on the wire (apache/kafka `ConsumerGroup.ConsumerGroupState`).
    pub fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.is_settled() {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// True when every member has what it is to have.
    pub fn is_settled(&self) -> bool {
        let mut members = self.members.values();
        self.epoch <= self.target_epoch
            && members.all(|member| member.has_reached(self.target_epoch))
    }

    /// True when a member subscribes to the topic, by name or by regular expression.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.contains_key(topic)
            || self
                .members
                .values()
                .any(|member| member.about.topics.contains(topic))
            || self
                .regexes
                .values()
                .any(|regex| regex.topics.contains(topic))
    }

    /// The member with this id.
    pub fn member(&self, id: &str) -> Result<&Member, ErrorCode> {
        self.members.get(id).ok_or(ErrorCode::UnknownMemberId)
    }

    /// The id of the member that has this instance id now.
    pub fn static_member(&self, instance: &str) -> Option<&str> {
        self.static_members.get(instance).map(String::as_str)
    }

    /// Notes that the subscriptions are up to date with this version of the topics.
    pub fn saw(&mut self, version: i64) {
        self.seen_version = Some(version);
    }

    /// The epoch at which somebody owns the partition.
    fn owned_at(&self, topic: TopicId, partition: i32) -> Option<i32> {
        self.owned_at.get(&(topic, partition)).copied()
    }

    /// Becomes what one of its own records says. Records that were compacted may lack what a
    /// later one builds on, so nothing here insists on an order.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::GroupEpoch { epoch, .. } => self.epoch = epoch.unwrap_or(0),
            Record::SubscribedTopics { topics, .. } => self.subscribed = topics.unwrap_or_default(),
            Record::Member {
                member,
                value: Some(about),
                ..
            } => self.apply_member(member, about),
            Record::Member {
                member,
                value: None,
                ..
            } => self.forget(&member),
            Record::TargetEpoch { epoch, .. } => self.target_epoch = epoch.unwrap_or(-1),
            Record::Target {
                member,
                partitions: Some(partitions),
                ..
            } => {
                self.target.insert(member, partitions);
            }
            Record::Target {
                member,
                partitions: None,
                ..
            } => {
                self.target.remove(&member);
            }
            Record::Current { member, value, .. } => self.apply_current(member, value),
            Record::ResolvedRegex {
                regex,
                value: Some(value),
                ..
            } => {
                self.regexes.insert(regex, value);
            }
            Record::ResolvedRegex {
                regex, value: None, ..
            } => {
                self.regexes.remove(&regex);
            }
            // Not of a consumer group: the coordinator keeps them elsewhere.
            Record::OffsetCommit { .. } | Record::GroupMetadata { .. } => {}
        }
    }

    fn apply_member(&mut self, id: String, about: MemberValue) {
        let before = self
            .members
            .get(&id)
            .and_then(|member| member.about.instance_id.clone());
        if before != about.instance_id {
            self.release_instance(before, &id);
        }
        if let Some(instance) = &about.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.members.entry(id).or_default().about = about;
    }

    fn release_instance(&mut self, instance: Option<String>, member: &str) {
        let Some(instance) = instance else { return };
        if self
            .static_members
            .get(&instance)
            .is_some_and(|holder| holder == member)
        {
            self.static_members.remove(&instance);
        }
    }

    fn forget(&mut self, id: &str) {
        self.apply_current(id.to_owned(), None);
        if let Some(member) = self.members.remove(id) {
            self.release_instance(member.about.instance_id, id);
        }
    }

    fn apply_current(&mut self, id: String, value: Option<CurrentValue>) {
        let Some(value) = value else {
            if let Some(member) = self.members.get_mut(&id) {
                let before = std::mem::take(&mut member.current);
                member.current.epoch = LEAVE;
                self.release(&before);
            }
            return;
        };
        let member = self.members.entry(id).or_default();
        let before = std::mem::replace(&mut member.current, value.clone());
        self.release(&before);
        for (topic, partition) in places(&value.assigned).chain(places(&value.pending_revocation)) {
            // The later epoch owns it: the other is an old record that compaction left over.
            let epoch = self
                .owned_at
                .entry((topic, partition))
                .or_insert(value.epoch);
            *epoch = (*epoch).max(value.epoch);
        }
    }

    fn release(&mut self, before: &CurrentValue) {
        for place in places(&before.assigned).chain(places(&before.pending_revocation)) {
            if self.owned_at.get(&place) == Some(&before.epoch) {
                self.owned_at.remove(&place);
            }
        }
    }

    /// The records that delete the group, in the order that Kafka wants.
    pub fn tombstones(&self) -> Vec<Record> {
        let group = || self.id.clone();
        let mut records = Vec::new();
        let members = || self.members.keys().cloned();
        records.extend(members().map(|member| Record::Current {
            group: group(),
            member,
            value: None,
        }));
        let targets = self.target.keys().cloned();
        records.extend(targets.map(|member| Record::Target {
            group: group(),
            member,
            partitions: None,
        }));
        records.push(Record::TargetEpoch {
            group: group(),
            epoch: None,
        });
        records.extend(members().map(|member| Record::Member {
            group: group(),
            member,
            value: None,
        }));
        let regexes = self.regexes.keys().cloned();
        records.extend(regexes.map(|regex| Record::ResolvedRegex {
            group: group(),
            regex,
            value: None,
        }));
        records.push(Record::SubscribedTopics {
            group: group(),
            topics: None,
        });
        records.push(Record::GroupEpoch {
            group: group(),
            epoch: None,
        });
        records
    }

    /// The records that delete a member.
    fn member_tombstones(&self, member: &str) -> Vec<Record> {
        let (group, member) = (|| self.id.clone(), || member.to_owned());
        vec![
            Record::Current {
                group: group(),
                member: member(),
                value: None,
            },
            Record::Target {
                group: group(),
                member: member(),
                partitions: None,
            },
            Record::Member {
                group: group(),
                member: member(),
                value: None,
            },
        ]
    }

    /// May this member commit offsets now? (apache/kafka `ConsumerGroup.validateOffsetCommit`)
    pub fn validate_commit(&self, version: i16, member: &str, epoch: i32) -> Result<(), ErrorCode> {
        /// The first version of OffsetCommit that the new protocol's members may use.
        const MEMBER_EPOCH_FROM: i16 = 9;
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.member(member)?;
        if !member.is_classic() && version < MEMBER_EPOCH_FROM {
            return Err(ErrorCode::UnsupportedVersion);
        }
        check_epoch(member, epoch)
    }

    /// May this member fetch offsets now? Who names no member may always.
    pub fn validate_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        match member {
            None if epoch < 0 => Ok(()),
            None => Err(ErrorCode::UnknownMemberId),
            Some(member) => check_epoch(self.member(member)?, epoch),
        }
    }
}

fn check_epoch(member: &Member, epoch: i32) -> Result<(), ErrorCode> {
    if epoch == member.current.epoch {
        Ok(())
    } else if member.is_classic() {
        Err(ErrorCode::IllegalGeneration)
    } else {
        Err(ErrorCode::StaleMemberEpoch)
    }
}

/// Each partition of a set of them.
pub fn places(partitions: &Partitions) -> impl Iterator<Item = (TopicId, i32)> {
    partitions
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(|p| (*topic, *p)))
}
