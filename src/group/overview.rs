//! Groups as an operator looks at them, in pages: which there are, who is in them, how far they
//! have committed. Changes nothing.
//!
//! Tells what is decided, which may be a moment ahead of the disk: a committed offset that is seen
//! here and in no reply yet is lost with the power. Knows no log: where partitions end is for
//! whoever asks.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::Serialize;

use super::classic::ClassicGroup;
use super::consumer::{ConsumerGroup, named};
use super::consumer_protocol::{CONSUMER, NamedPartitions, decode_assignment};
use super::records::OffsetValue;
use super::request::TopicView;
use super::{Coordinator, Group};

/// Which groups are listed.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Those after this id.
    pub after: Option<String>,
    /// The most of them.
    pub limit: usize,
    /// Those in this state, in any case; all without one.
    pub state: Option<String>,
    /// Those of this kind, in any case; all without one.
    pub kind: Option<String>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupRow {
    /// Its id.
    pub group: String,
    /// `Classic` or `Consumer`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its state by Kafka's name.
    pub state: &'static str,
    /// `consumer`, `connect`, ...; empty if none is known.
    pub protocol_type: String,
    /// How many members it has.
    pub members: usize,
    /// How many partitions it has committed offsets for.
    pub offsets: usize,
}

/// What a group committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedRow {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Which part of a group is described.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Members after this id.
    pub members_after: Option<String>,
    /// Partitions after this one.
    pub partitions_after: Option<(String, i32)>,
    /// The most members, and the most partitions.
    pub limit: usize,
}

/// A group, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// As in a list.
    #[serde(flatten)]
    pub row: GroupRow,
    /// A classic group's generation, or a consumer group's epoch.
    pub epoch: i32,
    /// A consumer group's epoch of the target assignment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_epoch: Option<i32>,
    /// A classic group's assignment strategy, chosen by its members' votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Its members, a page of them, by id.
    #[serde(rename = "member_list")]
    pub members: Vec<MemberRow>,
    /// Partitions committed or assigned, a page of them, by topic and number.
    pub partitions: Vec<PartitionRow>,
    /// There are members after these.
    pub more_members: bool,
    /// There are partitions after these.
    pub more_partitions: bool,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberRow {
    /// Its id.
    pub member: String,
    /// `group.instance.id` of a static member.
    pub instance: Option<String>,
    /// What its client calls itself.
    pub client: String,
    /// Where it connected from.
    pub host: String,
    /// The epoch that it has reached, in a consumer group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i32>,
    /// Its partitions by topic; none if it owns what only its client can read.
    pub assignment: BTreeMap<String, Vec<i32>>,
}

/// A partition that the group committed, or that a member has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionRow {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What was committed; none if nothing was.
    pub committed_offset: Option<i64>,
    /// The leader epoch that was committed with it, -1 if none was.
    pub leader_epoch: i32,
    /// The text that was committed with it.
    pub metadata: String,
    /// When it was committed, in milliseconds since the Unix epoch; none if nothing was.
    pub committed_at_ms: Option<i64>,
    /// The member that has the partition.
    pub member: Option<String>,
}

impl Coordinator {
    /// The ids of groups from `listing`, in order, not more than it allows.
    pub fn listed<'a>(
        &'a self,
        listing: &'a Listing,
    ) -> impl Iterator<Item = (&'a str, &'a Group)> + 'a {
        let from = match &listing.after {
            Some(after) => Bound::Excluded(after.clone()),
            None => Bound::Unbounded,
        };
        let is = |wanted: &Option<String>, name: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let groups = self.groups().range::<String, _>((from, Bound::Unbounded));
        let wanted = groups.filter(move |(_, group)| {
            is(&listing.state, group.state_name()) && is(&listing.kind, group.kind_name())
        });
        let listed = wanted.take(listing.limit);
        listed.map(|(id, group)| (id.as_str(), group))
    }

    /// A group as it stands in a list.
    pub fn row(&self, id: &str, group: &Group) -> GroupRow {
        let topics = self.offsets().of(id).into_iter().flatten();
        GroupRow {
            group: id.to_owned(),
            kind: group.kind_name(),
            state: group.state_name(),
            protocol_type: group.protocol_type().to_owned(),
            members: group.member_count(),
            offsets: topics.map(|(_, partitions)| partitions.len()).sum(),
        }
    }

    /// The first committed offsets by group, topic and partition.
    pub fn committed(&self, limit: usize) -> Vec<CommittedRow> {
        let first = self.offsets().iter().take(limit);
        let rows = first.map(|(group, topic, partition, value)| CommittedRow {
            group: group.to_owned(),
            topic: topic.to_owned(),
            partition,
            offset: value.offset,
        });
        rows.collect()
    }

    /// A group, described; none if it is not here.
    pub fn detail(&self, topics: &TopicView, id: &str, page: &Page) -> Option<Detail> {
        let group = self.groups().get(id)?;
        let members = match group {
            Group::Classic(group) => classic_members(group),
            Group::Consumer(group) => consumer_members(group, topics),
        };
        let (epoch, assignment_epoch, protocol) = match group {
            Group::Classic(group) => {
                let protocol = group.protocol().map(str::to_owned);
                (group.generation(), None, protocol)
            }
            Group::Consumer(group) => (group.epoch(), Some(group.target_epoch()), None),
        };
        let (partitions, more_partitions) = self.partitions(id, &members, page);
        let after = |member: &MemberRow| match &page.members_after {
            Some(after) => member.member > *after,
            None => true,
        };
        let mut members: Vec<MemberRow> = members.into_iter().filter(after).collect();
        let more_members = members.len() > page.limit;
        members.truncate(page.limit);
        Some(Detail {
            row: self.row(id, group),
            epoch,
            assignment_epoch,
            protocol,
            members,
            partitions,
            more_members,
            more_partitions,
        })
    }

    /// The partitions that were committed or are assigned, and whether there are more.
    fn partitions(
        &self,
        id: &str,
        members: &[MemberRow],
        page: &Page,
    ) -> (Vec<PartitionRow>, bool) {
        let mut rows: BTreeMap<(&str, i32), (Option<&OffsetValue>, Option<&str>)> = BTreeMap::new();
        for (topic, partitions) in self.offsets().of(id).into_iter().flatten() {
            for (partition, value) in partitions {
                rows.insert((topic, *partition), (Some(value), None));
            }
        }
        for member in members {
            for (topic, partitions) in &member.assignment {
                for partition in partitions {
                    rows.entry((topic, *partition)).or_default().1 = Some(&member.member);
                }
            }
        }
        let after = page.partitions_after.as_ref();
        let from = match after {
            Some((topic, partition)) => Bound::Excluded((topic.as_str(), *partition)),
            None => Bound::Unbounded,
        };
        let mut rest = rows.range((from, Bound::Unbounded));
        let shown = rest.by_ref().take(page.limit);
        let shown = shown.map(|((topic, partition), (value, member))| PartitionRow {
            topic: (*topic).to_owned(),
            partition: *partition,
            committed_offset: value.map(|value| value.offset),
            leader_epoch: value.map_or(-1, |value| value.leader_epoch),
            metadata: value.map_or(String::new(), |value| value.metadata.clone()),
            committed_at_ms: value.map(|value| value.commit_timestamp_ms),
            member: member.map(str::to_owned),
        });
        let shown = shown.collect();
        (shown, rest.next().is_some())
    }
}

fn classic_members(group: &ClassicGroup) -> Vec<MemberRow> {
    let readable = group.protocol_type() == Some(CONSUMER);
    let members = group.members().iter().map(|(id, member)| {
        // Other types of groups (Connect) put bytes there that only they understand.
        let assigned = match readable {
            true => decode_assignment(&member.assignment).unwrap_or_default(),
            false => NamedPartitions::new(),
        };
        MemberRow {
            member: id.clone(),
            instance: member.instance_id.clone(),
            client: member.client_id.clone(),
            host: member.client_host.clone(),
            epoch: None,
            assignment: by_topic(assigned),
        }
    });
    members.collect()
}

fn consumer_members(group: &ConsumerGroup, topics: &TopicView) -> Vec<MemberRow> {
    let members = group.members().iter().map(|(id, member)| MemberRow {
        member: id.clone(),
        instance: member.about.instance_id.clone(),
        client: member.about.client_id.clone(),
        host: member.about.client_host.clone(),
        epoch: Some(member.current.epoch),
        assignment: by_topic(named(&member.current.assigned, topics)),
    });
    members.collect()
}

fn by_topic(partitions: NamedPartitions) -> BTreeMap<String, Vec<i32>> {
    let topics = partitions.into_iter();
    topics
        .map(|(topic, partitions)| (topic, partitions.into_iter().collect()))
        .collect()
}
