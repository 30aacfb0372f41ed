//! What stands in the records of `__consumer_offsets`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::base::TopicId;

/// Partitions by topic id.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetValue {
    /// The next offset that the group wants to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 when not told.
    pub leader_epoch: i32,
    /// The client's own words.
    pub metadata: String,
    /// When it was committed: milliseconds since the Unix epoch.
    pub commit_timestamp_ms: i64,
    /// When it expires at its client's wish (OffsetCommit v2 to v4); -1 when not told.
    pub expire_timestamp_ms: i64,
}

/// A classic group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicValue {
    /// `consumer`, `connect`, ...; empty while no member ever joined.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The protocol that the vote chose.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// When the group came into its state: milliseconds since the Unix epoch; -1 if unknown.
    pub state_timestamp_ms: i64,
    /// The members.
    pub members: Vec<ClassicMemberValue>,
}

/// A member of a classic group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicMemberValue {
    /// The id that the broker made for it.
    pub id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// The client id of its requests.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// How long it may take to rejoin.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol, as its client wrote it.
    pub subscription: Bytes,
    /// Its assignment, as the leader wrote it.
    pub assignment: Bytes,
}

/// A topic as a consumer group last saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The topic's id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// The racks with a replica, by partition; only partitions that have any.
    pub racks: BTreeMap<i32, BTreeSet<String>>,
}

/// What a member of a consumer group said about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberValue {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// `client.rack`.
    pub rack_id: Option<String>,
    /// The client id of its requests.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// The topics it names.
    pub topics: BTreeSet<String>,
    /// The regular expression it subscribes by, in RE2's syntax.
    pub regex: Option<String>,
    /// How long it may take to give partitions up.
    pub rebalance_timeout_ms: i32,
    /// The assignor it wants.
    pub server_assignor: Option<String>,
    /// Set while the member speaks the classic protocol.
    pub classic: Option<ClassicProtocols>,
}

/// A classic member of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicProtocols {
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// The protocols it supports and its metadata for each, in its order of preference.
    pub protocols: Vec<(String, Bytes)>,
}

/// How far a member is on its way to its target assignment (apache/kafka `MemberState`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It owns its target at its epoch.
    #[default]
    Stable,
    /// It has to give up partitions before it may go to the next epoch.
    UnrevokedPartitions,
    /// It is at the latest epoch but waits for partitions that others still own.
    UnreleasedPartitions,
    /// A state that a newer coordinator wrote.
    Unknown,
}

impl MemberState {
    /// The number that stands in records.
    pub fn number(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => 127,
        }
    }

    /// The state with this number.
    pub fn from_number(number: i8) -> MemberState {
        match number {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        }
    }
}

/// What a member owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CurrentValue {
    /// Its epoch; -2 while a static member is away.
    pub epoch: i32,
    /// The epoch before, in case the reply that told of the present one was lost.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// What it owns and may keep.
    pub assigned: Partitions,
    /// What it owns and has been told to give up.
    pub pending_revocation: Partitions,
}

impl CurrentValue {
    /// All that the member may still own: what it keeps, and what it has not yet given up.
    pub fn may_own(&self) -> Partitions {
        let mut all = self.assigned.clone();
        for (topic, partitions) in &self.pending_revocation {
            all.entry(*topic).or_default().extend(partitions);
        }
        all
    }
}

/// What a regular expression matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegexValue {
    /// The topics.
    pub topics: BTreeSet<String>,
    /// The version of the metadata image that it was resolved against.
    pub version: i64,
    /// When: milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}
