//! Groups: who they are, what they committed, and changing that. Each group is asked of its
//! coordinator, the list of every broker.

use std::collections::{BTreeMap, BTreeSet};

use super::{Client, ClientError, Connection, error_of};
use crate::base::BrokerId;
use crate::group::consumer_protocol::{CONSUMER, decode_assignment};
use crate::protocol::messages::consumer_group_describe_response::Assignment;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, StrBytes, TopicName,
};
use crate::protocol::{ApiKey, ErrorCode};

/// Groups, among the kinds of keys that have coordinators.
const GROUP_KEY: i8 = 0;
/// The last version of FindCoordinator and of OffsetFetch that is about one group.
const FIND_ONE: i16 = 3;
const FETCH_ONE: i16 = 7;
/// The last version of OffsetCommit without a member epoch in it.
const COMMIT: i16 = 8;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub id: String,
    /// `Classic`, `Consumer`, ...; empty from brokers that do not tell.
    pub kind: String,
    /// Its state by Kafka's name; empty from brokers that do not tell.
    pub state: String,
    /// `consumer`, `connect`, ...; empty if none is known.
    pub protocol_type: String,
}

/// A group, described.
#[derive(Clone, Debug)]
pub struct DescribedGroup {
    /// Its id.
    pub id: String,
    /// `Classic` or `Consumer`.
    pub kind: &'static str,
    /// Its state by Kafka's name; `Dead` if it is not there.
    pub state: String,
    /// The assignment strategy: a classic group's protocol, or the broker's assignor.
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: BrokerId,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member of a group.
#[derive(Clone, Debug)]
pub struct DescribedMember {
    /// Its id.
    pub id: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// What its client calls itself.
    pub client: String,
    /// Where it connected from.
    pub host: String,
    /// Its partitions by topic.
    pub assignment: BTreeMap<String, BTreeSet<i32>>,
}

/// Offsets by topic and partition.
pub type GroupOffsets = BTreeMap<(String, i32), i64>;

impl DescribedGroup {
    /// True if there is no such group.
    pub fn is_missing(&self) -> bool {
        self.state == "Dead"
    }

    /// True if it has members, or is about to.
    pub fn is_active(&self) -> bool {
        !matches!(self.state.as_str(), "Empty" | "Dead")
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

fn checked(what: String, code: i16) -> Result<(), ClientError> {
    match error_of(code) {
        ErrorCode::None => Ok(()),
        error => Err(ClientError::refused(what, error, None)),
    }
}

impl Client {
    /// The groups of all brokers, by id.
    pub fn groups(&mut self) -> Result<Vec<ListedGroup>, ClientError> {
        let mut groups = Vec::new();
        for broker in self.broker_ids()? {
            let request = ListGroupsRequest::default();
            let response = self.broker(broker)?.call(&request, i16::MAX)?;
            checked(format!("groups of broker {broker}"), response.error_code)?;
            groups.extend(response.groups.iter().map(|told| ListedGroup {
                id: told.group_id.to_string(),
                kind: told.group_type.to_string(),
                state: told.group_state.to_string(),
                protocol_type: told.protocol_type.to_string(),
            }));
        }
        groups.sort_by(|one, other| one.id.cmp(&other.id));
        groups.dedup_by(|one, other| one.id == other.id);
        Ok(groups)
    }

    /// The broker that coordinates a group.
    pub fn coordinator(&mut self, group: &str) -> Result<BrokerId, ClientError> {
        let request = FindCoordinatorRequest::default()
            .with_key(text(group))
            .with_key_type(GROUP_KEY);
        let response = self.any()?.call(&request, FIND_ONE)?;
        let what = format!("the coordinator of group {group}");
        let message = response.error_message.as_deref();
        match error_of(response.error_code) {
            ErrorCode::None => {
                let id = BrokerId(response.node_id.0);
                self.learn(id, &response.host, response.port);
                Ok(id)
            }
            error => Err(ClientError::refused(what, error, message)),
        }
    }

    /// A connection to the broker that coordinates a group.
    fn at_coordinator(&mut self, group: &str) -> Result<&mut Connection, ClientError> {
        let id = self.coordinator(group)?;
        self.broker(id)
    }

    /// A group with its members. One that is not there is `Dead`.
    pub fn describe_group(&mut self, group: &str) -> Result<DescribedGroup, ClientError> {
        let coordinator = self.coordinator(group)?;
        let connection = self.broker(coordinator)?;
        // A broker without the new protocol has no groups of it.
        let described = match connection.version(ApiKey::ConsumerGroupDescribe, 0, i16::MAX) {
            Ok(_) => consumer_group(connection, group)?,
            Err(_) => None,
        };
        let described = match described {
            Some(described) => described,
            None => classic_group(connection, group)?,
        };
        Ok(DescribedGroup {
            coordinator,
            ..described
        })
    }

    /// All that a group has committed.
    pub fn committed(&mut self, group: &str) -> Result<GroupOffsets, ClientError> {
        let request = OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(None);
        let response = self.at_coordinator(group)?.call(&request, FETCH_ONE)?;
        checked(format!("offsets of group {group}"), response.error_code)?;
        let mut offsets = GroupOffsets::new();
        for topic in &response.topics {
            for told in &topic.partitions {
                let place = (topic.name.to_string(), told.partition_index);
                let what = format!("offset of group {group} for {}-{}", place.0, place.1);
                checked(what, told.error_code)?;
                if told.committed_offset >= 0 {
                    offsets.insert(place, told.committed_offset);
                }
            }
        }
        Ok(offsets)
    }

    /// Commits offsets for a group without members.
    pub fn commit(&mut self, group: &str, offsets: &GroupOffsets) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(StrBytes::default()));
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(partitions)
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        let response = self.at_coordinator(group)?.call(&request, COMMIT)?;
        for topic in &response.topics {
            for told in &topic.partitions {
                let place = format!("{}-{}", topic.name.as_str(), told.partition_index);
                let what = format!("commit of group {group} for {place}");
                checked(what, told.error_code)?;
            }
        }
        Ok(())
    }

    /// Deletes a group with its offsets.
    pub fn delete_group(&mut self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(group)]);
        let response = self.at_coordinator(group)?.call(&request, i16::MAX)?;
        let told = response.results.first().map(|told| told.error_code);
        match told {
            Some(code) if error_of(code) == ErrorCode::GroupIdNotFound => {
                Err(ClientError::NoSuchGroup(group.to_owned()))
            }
            told => checked(format!("delete group {group}"), told.unwrap_or(-1)),
        }
    }

    /// Deletes a group's offsets of these partitions.
    pub fn delete_offsets(
        &mut self,
        group: &str,
        partitions: &BTreeSet<(String, i32)>,
    ) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for (topic, partition) in partitions {
            let partition =
                OffsetDeleteRequestPartition::default().with_partition_index(*partition);
            topics.entry(topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(partitions)
        });
        let request = OffsetDeleteRequest::default()
            .with_group_id(group_id(group))
            .with_topics(topics.collect());
        let response = self.at_coordinator(group)?.call(&request, i16::MAX)?;
        if error_of(response.error_code) == ErrorCode::GroupIdNotFound {
            return Err(ClientError::NoSuchGroup(group.to_owned()));
        }
        checked(
            format!("delete offsets of group {group}"),
            response.error_code,
        )?;
        for topic in &response.topics {
            for told in &topic.partitions {
                let place = format!("{}-{}", topic.name.as_str(), told.partition_index);
                let what = format!("delete offset of group {group} for {place}");
                checked(what, told.error_code)?;
            }
        }
        Ok(())
    }
}

/// A group of the new protocol; none if it is not one.
fn consumer_group(
    connection: &mut Connection,
    group: &str,
) -> Result<Option<DescribedGroup>, ClientError> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id(group)]);
    let response = connection.call(&request, i16::MAX)?;
    let Some(told) = response.groups.first() else {
        return Ok(None);
    };
    match error_of(told.error_code) {
        ErrorCode::None => {}
        ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion => return Ok(None),
        error => {
            let message = told.error_message.as_deref();
            let what = format!("describe group {group}");
            return Err(ClientError::refused(what, error, message));
        }
    }
    let members = told.members.iter().map(|member| DescribedMember {
        id: member.member_id.to_string(),
        instance: member.instance_id.as_ref().map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assignment: assigned(&member.assignment),
    });
    Ok(Some(DescribedGroup {
        id: group.to_owned(),
        kind: "Consumer",
        state: told.group_state.to_string(),
        assignor: told.assignor_name.to_string(),
        coordinator: BrokerId(-1),
        members: members.collect(),
    }))
}

fn assigned(assignment: &Assignment) -> BTreeMap<String, BTreeSet<i32>> {
    let topics = assignment.topic_partitions.iter();
    topics
        .map(|topic| {
            let partitions = topic.partitions.iter().copied().collect();
            (topic.topic_name.to_string(), partitions)
        })
        .collect()
}

fn classic_group(connection: &mut Connection, group: &str) -> Result<DescribedGroup, ClientError> {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let response = connection.call(&request, i16::MAX)?;
    let what = format!("describe group {group}");
    let Some(told) = response.groups.first() else {
        let error = ErrorCode::UnknownServerError;
        return Err(ClientError::refused(what, error, Some("no answer for it")));
    };
    let missing = error_of(told.error_code) == ErrorCode::GroupIdNotFound;
    if !missing {
        checked(what, told.error_code)?;
    }
    let readable = told.protocol_type.as_str() == CONSUMER;
    let members = told.members.iter().map(|member| DescribedMember {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        // Other types of groups (Connect) put bytes there that only they understand.
        assignment: match readable {
            true => decode_assignment(&member.member_assignment).unwrap_or_default(),
            false => BTreeMap::new(),
        },
    });
    Ok(DescribedGroup {
        id: group.to_owned(),
        kind: "Classic",
        state: match missing {
            true => "Dead".to_owned(),
            false => told.group_state.to_string(),
        },
        assignor: told.protocol_data.to_string(),
        coordinator: BrokerId(-1),
        members: members.collect(),
    })
}
