//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete, and their end by retention
//! (KIP-211) or with their group. Knows of groups only what decides whether an offset may go.
//!
//! Truth: apache/kafka `coordinator/group/OffsetMetadataManager.java`.

use std::collections::BTreeMap;

use super::classic::{ClassicGroup, State as ClassicState};
use super::records::{OffsetValue, Record};
use super::request::{Request, Settings};
use super::turn::{Turn, text};
use super::{Group, State};
use crate::protocol::ErrorCode;
use crate::protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use crate::protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};

/// A group's offsets by topic and partition.
pub type GroupOffsets = BTreeMap<String, BTreeMap<i32, OffsetValue>>;

/// All offsets of a coordinator's groups.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    groups: BTreeMap<String, GroupOffsets>,
    count: usize,
}

impl Offsets {
    /// Becomes what a record says.
    pub fn apply(
        &mut self,
        group: String,
        topic: String,
        partition: i32,
        value: Option<OffsetValue>,
    ) {
        let Some(value) = value else {
            return self.remove(&group, &topic, partition);
        };
        let topics = self.groups.entry(group).or_default();
        let partitions = topics.entry(topic).or_default();
        self.count += usize::from(partitions.insert(partition, value).is_none());
    }

    fn remove(&mut self, group: &str, topic: &str, partition: i32) {
        let Some(topics) = self.groups.get_mut(group) else {
            return;
        };
        let Some(partitions) = topics.get_mut(topic) else {
            return;
        };
        self.count -= usize::from(partitions.remove(&partition).is_some());
        if partitions.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.groups.remove(group);
        }
    }

    /// How many there are: one for each group and partition.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A group's offsets.
    pub fn of(&self, group: &str) -> Option<&GroupOffsets> {
        self.groups.get(group)
    }

    /// What a group committed for a partition.
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.groups.get(group)?.get(topic)?.get(&partition)
    }

    /// Everything: group, topic, partition, offset.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, i32, &OffsetValue)> {
        self.groups.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                let each = partitions.iter();
                each.map(move |(partition, value)| {
                    (group.as_str(), topic.as_str(), *partition, value)
                })
            })
        })
    }

    /// The records that delete all offsets of a group.
    pub fn tombstones(&self, group: &str) -> Vec<Record> {
        let topics = self.groups.get(group).into_iter().flatten();
        let places = topics.flat_map(|(topic, partitions)| {
            partitions.keys().map(move |partition| (topic, *partition))
        });
        places
            .map(|(topic, partition)| tombstone(group, topic, partition))
            .collect()
    }

    /// The records that delete the offsets of topics that no longer are.
    pub fn topic_tombstones(&self, deleted: &dyn Fn(&str) -> bool) -> Vec<Record> {
        let gone = self.iter().filter(|(_, topic, _, _)| deleted(topic));
        gone.map(|(group, topic, partition, _)| tombstone(group, topic, partition))
            .collect()
    }
}

fn tombstone(group: &str, topic: &str, partition: i32) -> Record {
    let (group, topic) = (group.to_owned(), topic.to_owned());
    Record::OffsetCommit {
        group,
        topic,
        partition,
        value: None,
    }
}

/// Handles OffsetCommit. What is refused for one partition does not hold up the others.
pub fn commit(
    state: &mut State,
    turn: &mut Turn<'_>,
    request: &Request,
    body: &OffsetCommitRequest,
) -> OffsetCommitResponse {
    let valid = validate_commit(state, request, body);
    let group = body.group_id.to_string();
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let known = turn.topics.get(&topic.name);
        let exists = 0..known.map_or(0, |topic| topic.partitions);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let error = match valid {
                Err(error) => error,
                Ok(()) if !exists.contains(&partition.partition_index) => {
                    ErrorCode::UnknownTopicOrPartition
                }
                Ok(()) => commit_error(turn.settings, partition),
            };
            if error == ErrorCode::None {
                records.push(Record::OffsetCommit {
                    group: group.clone(),
                    topic: topic.name.to_string(),
                    partition: partition.partition_index,
                    value: Some(committed(turn, body, partition)),
                });
            }
            answers.push(
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(error.code()),
            );
        }
        topics.push(
            OffsetCommitResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(answers),
        );
    }
    if valid.is_ok()
        && let Some(Group::Classic(classic)) = state.groups.get(&group)
        && matches!(
            classic.state(),
            ClassicState::Stable | ClassicState::PreparingRebalance
        )
    {
        // Who commits is alive.
        classic.keep_alive(turn, &body.member_id);
    }
    state.decide(turn, records);
    OffsetCommitResponse::default().with_topics(topics)
}

fn validate_commit(
    state: &State,
    request: &Request,
    body: &OffsetCommitRequest,
) -> Result<(), ErrorCode> {
    /// From this version a group that is not there is told as such.
    const GROUP_NOT_FOUND_FROM: i16 = 9;
    let epoch = body.generation_id_or_member_epoch;
    match state.groups.get(body.group_id.as_str()) {
        Some(Group::Classic(group)) => {
            group.validate_commit(&body.member_id, body.group_instance_id.as_deref(), epoch)
        }
        Some(Group::Consumer(group)) => {
            group.validate_commit(request.version, &body.member_id, epoch)
        }
        // A consumer without a group, or a tool: the first commit makes the group.
        None if epoch < 0 => Ok(()),
        None if request.version >= GROUP_NOT_FOUND_FROM => Err(ErrorCode::GroupIdNotFound),
        None => Err(ErrorCode::IllegalGeneration),
    }
}

fn commit_error(settings: &Settings, partition: &OffsetCommitRequestPartition) -> ErrorCode {
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    // Kafka counts Java's characters, UTF-16 units, though the setting says bytes.
    match metadata.encode_utf16().count() > settings.offset_metadata_bytes_max {
        true => ErrorCode::OffsetMetadataTooLarge,
        false => ErrorCode::None,
    }
}

fn committed(
    turn: &Turn<'_>,
    body: &OffsetCommitRequest,
    partition: &OffsetCommitRequestPartition,
) -> OffsetValue {
    let now = turn.now.wall.0;
    OffsetValue {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition
            .committed_metadata
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
        commit_timestamp_ms: now,
        expire_timestamp_ms: match body.retention_time_ms {
            -1 => -1,
            retention => now.saturating_add(retention),
        },
    }
}

/// Handles OffsetFetch of one group. An unknown offset is -1 without an error.
pub fn fetch(state: &State, body: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(body.group_id.clone());
    let group = body.group_id.as_str();
    if let Some(Group::Consumer(consumers)) = state.groups.get(group)
        && let Err(error) = consumers.validate_fetch(body.member_id.as_deref(), body.member_epoch)
    {
        return response.with_error_code(error.code());
    }
    let known = state.offsets.of(group);
    let Some(topics) = &body.topics else {
        let all = known.into_iter().flatten().map(|(topic, partitions)| {
            let told = partitions
                .iter()
                .map(|(index, value)| fetched(*index, Some(value)));
            OffsetFetchResponseTopics::default()
                .with_name(text(topic).into())
                .with_partitions(told.collect())
        });
        return response.with_topics(all.collect());
    };
    let asked = topics.iter().map(|topic| {
        let partitions = known.and_then(|topics| topics.get(topic.name.as_str()));
        let told = topic.partition_indexes.iter().map(|index| {
            fetched(
                *index,
                partitions.and_then(|partitions| partitions.get(index)),
            )
        });
        OffsetFetchResponseTopics::default()
            .with_name(topic.name.clone())
            .with_partitions(told.collect())
    });
    response.with_topics(asked.collect())
}

fn fetched(index: i32, value: Option<&OffsetValue>) -> OffsetFetchResponsePartitions {
    let told = OffsetFetchResponsePartitions::default().with_partition_index(index);
    match value {
        None => told
            .with_committed_offset(-1)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(text(""))),
        Some(value) => told
            .with_committed_offset(value.offset)
            .with_committed_leader_epoch(value.leader_epoch)
            .with_metadata(Some(text(&value.metadata))),
    }
}

/// Handles OffsetDelete: not while somebody subscribes to the topic.
pub fn delete(
    state: &mut State,
    turn: &mut Turn<'_>,
    body: &OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let response = OffsetDeleteResponse::default();
    let group = body.group_id.as_str();
    let known = match state.groups.get(group) {
        None => return response.with_error_code(ErrorCode::GroupIdNotFound.code()),
        Some(Group::Classic(classic))
            if !classic.is_empty() && !classic.uses_consumer_protocol() =>
        {
            return response.with_error_code(ErrorCode::NonEmptyGroup.code());
        }
        Some(known) => known,
    };
    let mut records = Vec::new();
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let error = if turn.topics.get(&topic.name).is_none() {
            ErrorCode::UnknownTopicOrPartition
        } else if known.is_subscribed(&topic.name) {
            ErrorCode::GroupSubscribedToTopic
        } else {
            ErrorCode::None
        };
        let indexes = topic
            .partitions
            .iter()
            .map(|partition| partition.partition_index);
        for index in indexes.clone().filter(|_| error == ErrorCode::None) {
            if state.offsets.get(group, &topic.name, index).is_some() {
                records.push(tombstone(group, &topic.name, index));
            }
        }
        let answers = indexes.map(|index| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(error.code())
        });
        topics.push(
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions(answers.collect()),
        );
    }
    state.decide(turn, records);
    response.with_topics(topics)
}

/// From when on an offset's retention counts.
enum Base {
    /// From its commit.
    Commit,
    /// From this time: when the group's last member left (KIP-211).
    Since(i64),
}

/// None while the group's members keep all of its offsets.
fn expiry_base(group: &Group) -> Option<Base> {
    match group {
        Group::Consumer(_) => Some(Base::Commit),
        Group::Classic(classic) => classic_expiry_base(classic),
    }
}

fn classic_expiry_base(group: &ClassicGroup) -> Option<Base> {
    if group.protocol_type().is_none() {
        return Some(Base::Commit);
    }
    match group.state() {
        ClassicState::Empty if group.state_timestamp_ms() >= 0 => {
            Some(Base::Since(group.state_timestamp_ms()))
        }
        ClassicState::Empty => Some(Base::Commit),
        // What no member subscribes to any more goes even while the group lives.
        ClassicState::Stable if group.uses_consumer_protocol() && group.knows_subscriptions() => {
            Some(Base::Commit)
        }
        ClassicState::Stable
        | ClassicState::PreparingRebalance
        | ClassicState::CompletingRebalance => None,
    }
}

/// The records that delete a group's expired offsets, and whether none is left.
pub fn expired(state: &State, turn: &Turn<'_>, id: &str, group: &Group) -> (Vec<Record>, bool) {
    let Some(topics) = state.offsets.of(id) else {
        return (Vec::new(), true);
    };
    let Some(base) = expiry_base(group) else {
        return (Vec::new(), false);
    };
    let now = turn.now.wall.0;
    let retention_ms = turn
        .settings
        .offsets_retention_minutes
        .saturating_mul(60_000);
    let mut records = Vec::new();
    let mut left = false;
    for (topic, partitions) in topics {
        let subscribed = group.is_subscribed(topic);
        for (partition, value) in partitions {
            let since = match base {
                Base::Commit => value.commit_timestamp_ms,
                Base::Since(since) => since,
            };
            let expired = match value.expire_timestamp_ms {
                -1 => now.saturating_sub(since) >= retention_ms,
                told => now >= told,
            };
            if expired && !subscribed {
                records.push(tombstone(id, topic, *partition));
            } else {
                left = true;
            }
        }
    }
    (records, !left)
}
