//! What goes into a coordinator and what comes out of it: requests, decisions, replies, settings
//! and its view of the topics. Knows no rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::TopicId;
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    ListGroupsRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest,
    OffsetDeleteResponse, SyncGroupRequest, SyncGroupResponse,
    consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup,
    delete_groups_response::DeletableGroupResult, describe_groups_response::DescribedGroup,
    list_groups_response::ListedGroup, offset_fetch_request::OffsetFetchRequestGroup,
    offset_fetch_response::OffsetFetchResponseGroup,
};

/// The asker's name for a request; it comes back with the reply. Unique among the requests that a
/// coordinator has not answered yet.
pub type Token = u64;

/// One request to one coordinator.
#[derive(Clone, Debug)]
pub struct Request {
    /// Comes back with the reply.
    pub token: Token,
    /// The version of the API that the client speaks.
    pub version: i16,
    /// The client id of the request's header.
    pub client_id: String,
    /// Where the client is connected from, in Kafka's form: `/127.0.0.1`.
    pub client_host: String,
    /// What it asks.
    pub body: Body,
}

/// What a request asks. Requests for several groups (OffsetFetch, DescribeGroups, ...) come one a
/// group, since the groups of one request may live on several cores.
#[derive(Clone, Debug)]
pub enum Body {
    /// JoinGroup (11).
    JoinGroup(JoinGroupRequest),
    /// SyncGroup (14).
    SyncGroup(SyncGroupRequest),
    /// Heartbeat (12).
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup (13); version 0 to 2 name their one member in `member_id`.
    LeaveGroup(LeaveGroupRequest),
    /// OffsetCommit (8).
    OffsetCommit(OffsetCommitRequest),
    /// OffsetFetch (9) of one group; no topics means all. `require_stable` needs nothing more
    /// here: replies wait until what they tell is durable, and there are no transactions yet.
    OffsetFetch(OffsetFetchRequestGroup),
    /// OffsetDelete (47).
    OffsetDelete(OffsetDeleteRequest),
    /// DeleteGroups (42) of one group.
    DeleteGroup(String),
    /// DescribeGroups (15) of one group.
    DescribeGroup(String),
    /// ListGroups (16).
    ListGroups(ListGroupsRequest),
    /// ConsumerGroupHeartbeat (68).
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatRequest),
    /// ConsumerGroupDescribe (69) of one group.
    ConsumerGroupDescribe(String),
}

/// The answer to a request, of the request's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To JoinGroup.
    JoinGroup(JoinGroupResponse),
    /// To SyncGroup.
    SyncGroup(SyncGroupResponse),
    /// To Heartbeat.
    Heartbeat(HeartbeatResponse),
    /// To LeaveGroup.
    LeaveGroup(LeaveGroupResponse),
    /// To OffsetCommit.
    OffsetCommit(OffsetCommitResponse),
    /// To OffsetFetch, for its group.
    OffsetFetch(OffsetFetchResponseGroup),
    /// To OffsetDelete.
    OffsetDelete(OffsetDeleteResponse),
    /// To DeleteGroups, for its group.
    DeleteGroup(DeletableGroupResult),
    /// To DescribeGroups, for its group.
    DescribeGroup(DescribedGroup),
    /// To ListGroups, from this coordinator's groups.
    ListGroups(Vec<ListedGroup>),
    /// To ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse),
    /// To ConsumerGroupDescribe, for its group.
    ConsumerGroupDescribe(DescribedConsumerGroup),
}

/// What the coordinator decided.
///
/// The records are to be appended to the coordinator's partition of `__consumer_offsets`, in this
/// order and as one batch. They are already part of the state in memory. **No reply may leave
/// before everything that was decided up to and including this decision is durable**, also when
/// this decision has no records of its own: the reply may tell of an earlier one's. When an append
/// fails, the state in memory is wrong: call `Coordinator::unload`, answer what it returns, and
/// load again from the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Key and value; no value is a tombstone.
    pub records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Who is answered now: this request, or parked ones, or nobody.
    pub replies: Vec<(Token, Reply)>,
    /// What it was about, counted for whoever measures.
    pub tally: Tally,
}

/// What a decision was about, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Classic groups whose leader gave the partitions out, and consumer groups whose epoch rose.
    pub rebalances: u64,
    /// Offsets committed.
    pub offsets_committed: u64,
    /// Offsets deleted: on request, with their group, with their topic.
    pub offsets_deleted: u64,
    /// Offsets whose retention was over.
    pub offsets_expired: u64,
}

impl Decision {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.replies.is_empty()
    }
}

/// Why a request is not granted: what stands in its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub error: ErrorCode,
    /// What a person may read; only some replies carry it.
    pub message: String,
}

impl Refusal {
    /// A refusal with a message.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            error,
            message: message.into(),
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(error: ErrorCode) -> Refusal {
        Refusal {
            error,
            message: error.message().to_owned(),
        }
    }
}

/// Which way a group with members may change its kind (`group.consumer.migration.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Both ways.
    #[default]
    Bidirectional,
    /// From classic to consumer only.
    Upgrade,
    /// From consumer to classic only.
    Downgrade,
    /// Neither way.
    Disabled,
}

impl MigrationPolicy {
    /// The policy of this name, in any case. What no policy is called means none, as in Kafka
    /// (apache/kafka `ConsumerGroupMigrationPolicy.parse`).
    pub fn named(name: &str) -> MigrationPolicy {
        match name.to_lowercase().as_str() {
            "bidirectional" => MigrationPolicy::Bidirectional,
            "upgrade" => MigrationPolicy::Upgrade,
            "downgrade" => MigrationPolicy::Downgrade,
            _ => MigrationPolicy::Disabled,
        }
    }

    /// True when a classic group may become a consumer group.
    pub fn allows_upgrade(self) -> bool {
        matches!(
            self,
            MigrationPolicy::Bidirectional | MigrationPolicy::Upgrade
        )
    }

    /// True when a consumer group may become a classic group.
    pub fn allows_downgrade(self) -> bool {
        matches!(
            self,
            MigrationPolicy::Bidirectional | MigrationPolicy::Downgrade
        )
    }
}

/// The coordinator's part of the broker's configuration, with Kafka's names and defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of a classic group.
    pub classic_members_max: usize,
    /// How long a new member may wait in its first join, when its client went away meanwhile
    /// (apache/kafka `GroupCoordinatorConfig.CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`).
    pub new_member_join_timeout_ms: i32,
    /// `group.consumer.session.timeout.ms`
    pub consumer_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`
    pub consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: members of a consumer group.
    pub consumer_members_max: usize,
    /// `group.consumer.assignors`: the first is the default.
    pub consumer_assignors: Vec<super::assignor::Assignor>,
    /// `group.consumer.migration.policy`
    pub migration_policy: MigrationPolicy,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention_minutes: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            classic_members_max: i32::MAX as usize,
            new_member_join_timeout_ms: 300_000,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_members_max: i32::MAX as usize,
            consumer_assignors: vec![
                super::assignor::Assignor::Uniform,
                super::assignor::Assignor::Range,
            ],
            migration_policy: MigrationPolicy::default(),
            offset_metadata_bytes_max: 4_096,
            offsets_retention_minutes: 10_080,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}

/// The topics as the shard knows them from the metadata image. Changes only together with its
/// version, so that a group looks at it again only when there is something new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicView {
    /// The version of the metadata image: its offset.
    pub version: i64,
    topics: BTreeMap<String, Topic>,
    names: BTreeMap<TopicId, String>,
}

/// A topic in a [`TopicView`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// The racks with a replica, by partition; only partitions that have any.
    pub racks: BTreeMap<i32, BTreeSet<String>>,
}

impl TopicView {
    /// A view of no topics.
    pub fn new(version: i64) -> TopicView {
        TopicView {
            version,
            ..TopicView::default()
        }
    }

    /// Adds a topic, or replaces the one with its name.
    pub fn insert(&mut self, name: &str, topic: Topic) {
        self.remove(name);
        self.names.insert(topic.id, name.to_owned());
        self.topics.insert(name.to_owned(), topic);
    }

    /// Removes a topic.
    pub fn remove(&mut self, name: &str) {
        if let Some(before) = self.topics.remove(name) {
            self.names.remove(&before.id);
        }
    }

    /// The topic with this name.
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The name of the topic with this id.
    pub fn name(&self, id: TopicId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }
}
