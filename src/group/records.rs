//! The records of `__consumer_offsets` in Kafka's own schemas, so that Kafka's dump tool and
//! others (Burrow) read them. Knows no group's rules.
//!
//! Truth: apache/kafka `group-coordinator/src/main/resources/common/message/*.json`. A key begins
//! with two bytes that tell its kind; a value with two bytes that tell its schema's version; no
//! value is a tombstone.
//!
//! | key | what | value versions read | written |
//! |---|---|---|---|
//! | 0, 1 | offset commit | 0 to 4 | 1 with an expiry (OffsetCommit v2 to v4), else 3 |
//! | 2 | classic group | 0 to 4 | 3 |
//! | 3 | consumer group: epoch | 0 | 0 |
//! | 4 | consumer group: topics subscribed to | 0 | 0 |
//! | 5 | consumer group: member | 0 | 0 |
//! | 6 | consumer group: epoch of the target assignment | 0 | 0 |
//! | 7 | consumer group: target assignment of a member | 0 | 0 |
//! | 8 | consumer group: current assignment of a member | 0 | 0 |
//! | 16 | consumer group: topics that a regular expression matches (KIP-848) | 0 | 0 |

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::wire::{Malformed, Reader, Writer};
use crate::base::TopicId;

/// Partitions by topic id.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// One change of a coordinator's state: a key and its new value, or none when it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// What a group committed for a partition.
    OffsetCommit {
        group: String,
        topic: String,
        partition: i32,
        value: Option<OffsetValue>,
    },
    /// A classic group as of its last completed rebalance.
    GroupMetadata {
        group: String,
        value: Option<ClassicValue>,
    },
    /// The epoch of a consumer group.
    GroupEpoch { group: String, epoch: Option<i32> },
    /// The topics that a consumer group subscribes to, as they were last seen, by name.
    SubscribedTopics {
        group: String,
        topics: Option<BTreeMap<String, TopicMetadata>>,
    },
    /// What a member of a consumer group said about itself.
    Member {
        group: String,
        member: String,
        value: Option<MemberValue>,
    },
    /// The group epoch that the target assignment was computed for.
    TargetEpoch { group: String, epoch: Option<i32> },
    /// What a member is to own in the end.
    Target {
        group: String,
        member: String,
        partitions: Option<Partitions>,
    },
    /// What a member owns now.
    Current {
        group: String,
        member: String,
        value: Option<CurrentValue>,
    },
    /// The topics that a regular expression of a consumer group matches.
    ResolvedRegex {
        group: String,
        regex: String,
        value: Option<RegexValue>,
    },
}

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

const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;
const GROUP_EPOCH: i16 = 3;
const SUBSCRIBED_TOPICS: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const RESOLVED_REGEX: i16 = 16;

/// The first version of the values of key kinds 1 and 2 that is flexible.
const FIRST_FLEXIBLE: i16 = 4;

impl Record {
    /// The group that the record belongs to.
    pub fn group(&self) -> &str {
        match self {
            Record::OffsetCommit { group, .. }
            | Record::GroupMetadata { group, .. }
            | Record::GroupEpoch { group, .. }
            | Record::SubscribedTopics { group, .. }
            | Record::Member { group, .. }
            | Record::TargetEpoch { group, .. }
            | Record::Target { group, .. }
            | Record::Current { group, .. }
            | Record::ResolvedRegex { group, .. } => group,
        }
    }

    /// Key and value as they stand in the log; no value for a tombstone.
    pub fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Record::OffsetCommit {
                group,
                topic,
                partition,
                value,
            } => {
                let mut key = Writer::versioned(OFFSET_COMMIT, false);
                key.string(group);
                key.string(topic);
                key.int32(*partition);
                (key.finish(), value.as_ref().map(write_offset))
            }
            Record::GroupMetadata { group, value } => (
                group_key(GROUP_METADATA, group),
                value.as_ref().map(write_classic),
            ),
            Record::GroupEpoch { group, epoch } => {
                (group_key(GROUP_EPOCH, group), epoch.map(write_epoch))
            }
            Record::SubscribedTopics { group, topics } => (
                group_key(SUBSCRIBED_TOPICS, group),
                topics.as_ref().map(write_topics),
            ),
            Record::Member {
                group,
                member,
                value,
            } => (
                pair_key(MEMBER, group, member),
                value.as_ref().map(write_member),
            ),
            Record::TargetEpoch { group, epoch } => {
                (group_key(TARGET_EPOCH, group), epoch.map(write_epoch))
            }
            Record::Target {
                group,
                member,
                partitions,
            } => (
                pair_key(TARGET, group, member),
                partitions.as_ref().map(write_target),
            ),
            Record::Current {
                group,
                member,
                value,
            } => (
                pair_key(CURRENT, group, member),
                value.as_ref().map(write_current),
            ),
            Record::ResolvedRegex {
                group,
                regex,
                value,
            } => (
                pair_key(RESOLVED_REGEX, group, regex),
                value.as_ref().map(write_regex),
            ),
        }
    }

    /// Reads a record back. None for a kind of key that this version does not know (share groups,
    /// streams groups, a future Kafka): those are left alone.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>, Malformed> {
        let mut reader = Reader::new(key);
        let kind = reader.int16()?;
        let key = &mut reader;
        let record = match kind {
            0 | OFFSET_COMMIT => Record::OffsetCommit {
                group: key.string()?,
                topic: key.string()?,
                partition: key.int32()?,
                value: read(value, FIRST_FLEXIBLE, 4, read_offset)?,
            },
            GROUP_METADATA => Record::GroupMetadata {
                group: key.string()?,
                value: read(value, FIRST_FLEXIBLE, 4, read_classic)?,
            },
            GROUP_EPOCH => Record::GroupEpoch {
                group: key.string()?,
                epoch: read(value, 0, 0, |reader, _| reader.int32())?,
            },
            SUBSCRIBED_TOPICS => Record::SubscribedTopics {
                group: key.string()?,
                topics: read(value, 0, 0, read_topics)?,
            },
            MEMBER => Record::Member {
                group: key.string()?,
                member: key.string()?,
                value: read(value, 0, 0, read_member)?,
            },
            TARGET_EPOCH => Record::TargetEpoch {
                group: key.string()?,
                epoch: read(value, 0, 0, |reader, _| reader.int32())?,
            },
            TARGET => Record::Target {
                group: key.string()?,
                member: key.string()?,
                partitions: read(value, 0, 0, |reader, _| read_partitions(reader))?,
            },
            CURRENT => Record::Current {
                group: key.string()?,
                member: key.string()?,
                value: read(value, 0, 0, read_current)?,
            },
            RESOLVED_REGEX => Record::ResolvedRegex {
                group: key.string()?,
                regex: key.string()?,
                value: read(value, 0, 0, read_regex)?,
            },
            _ => return Ok(None),
        };
        Ok(Some(record))
    }
}

fn group_key(kind: i16, group: &str) -> Vec<u8> {
    let mut key = Writer::versioned(kind, false);
    key.string(group);
    key.finish()
}

fn pair_key(kind: i16, group: &str, second: &str) -> Vec<u8> {
    let mut key = Writer::versioned(kind, false);
    key.string(group);
    key.string(second);
    key.finish()
}

/// Reads the version in front of a value, then the value. `flexible_from` is the first flexible
/// version, `highest` the highest that is known.
fn read<T>(
    value: Option<&[u8]>,
    flexible_from: i16,
    highest: i16,
    read: impl FnOnce(&mut Reader<'_>, i16) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    let Some(bytes) = value else { return Ok(None) };
    let mut reader = Reader::new(bytes);
    let version = reader.int16()?;
    if !(0..=highest).contains(&version) {
        return Err(Malformed {
            what: "version of a value",
        });
    }
    reader.set_flexible(version >= flexible_from);
    read(&mut reader, version).map(Some)
}

fn write_offset(value: &OffsetValue) -> Vec<u8> {
    let expires = value.expire_timestamp_ms != -1;
    let mut writer = Writer::versioned(if expires { 1 } else { 3 }, false);
    writer.int64(value.offset);
    if !expires {
        writer.int32(value.leader_epoch);
    }
    writer.string(&value.metadata);
    writer.int64(value.commit_timestamp_ms);
    if expires {
        writer.int64(value.expire_timestamp_ms);
    }
    writer.finish()
}

fn read_offset(reader: &mut Reader<'_>, version: i16) -> Result<OffsetValue, Malformed> {
    Ok(OffsetValue {
        offset: reader.int64()?,
        leader_epoch: if version >= 3 { reader.int32()? } else { -1 },
        metadata: reader.string()?,
        commit_timestamp_ms: reader.int64()?,
        expire_timestamp_ms: if version == 1 { reader.int64()? } else { -1 },
    })
}

fn write_classic(value: &ClassicValue) -> Vec<u8> {
    let mut writer = Writer::versioned(3, false);
    writer.string(&value.protocol_type);
    writer.int32(value.generation);
    writer.nullable_string(value.protocol.as_deref());
    writer.nullable_string(value.leader.as_deref());
    writer.int64(value.state_timestamp_ms);
    writer.array(value.members.iter(), |writer, member| {
        writer.string(&member.id);
        writer.nullable_string(member.instance_id.as_deref());
        writer.string(&member.client_id);
        writer.string(&member.client_host);
        writer.int32(member.rebalance_timeout_ms);
        writer.int32(member.session_timeout_ms);
        writer.bytes(&member.subscription);
        writer.bytes(&member.assignment);
    });
    writer.finish()
}

fn read_classic(reader: &mut Reader<'_>, version: i16) -> Result<ClassicValue, Malformed> {
    let value = ClassicValue {
        protocol_type: reader.string()?,
        generation: reader.int32()?,
        protocol: reader.nullable_string()?,
        leader: reader.nullable_string()?,
        state_timestamp_ms: if version >= 2 { reader.int64()? } else { -1 },
        members: reader.vec(|reader| read_classic_member(reader, version))?,
    };
    reader.skip_tagged()?;
    Ok(value)
}

fn read_classic_member(
    reader: &mut Reader<'_>,
    version: i16,
) -> Result<ClassicMemberValue, Malformed> {
    let id = reader.string()?;
    let instance_id = if version >= 3 {
        reader.nullable_string()?
    } else {
        None
    };
    let client_id = reader.string()?;
    let client_host = reader.string()?;
    let rebalance_timeout_ms = if version >= 1 { reader.int32()? } else { -1 };
    let session_timeout_ms = reader.int32()?;
    let member = ClassicMemberValue {
        id,
        instance_id,
        client_id,
        client_host,
        // As Kafka does: a record without the one timeout takes the other.
        rebalance_timeout_ms: match rebalance_timeout_ms {
            -1 => session_timeout_ms,
            told => told,
        },
        session_timeout_ms,
        subscription: reader.bytes()?,
        assignment: reader.bytes()?,
    };
    reader.skip_tagged()?;
    Ok(member)
}

fn write_epoch(epoch: i32) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.int32(epoch);
    writer.no_tagged();
    writer.finish()
}

fn write_topics(topics: &BTreeMap<String, TopicMetadata>) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.array(topics.iter(), |writer, (name, topic)| {
        writer.uuid(topic.id);
        writer.string(name);
        writer.int32(topic.partitions);
        writer.array(topic.racks.iter(), |writer, (partition, racks)| {
            writer.int32(*partition);
            writer.array(racks.iter(), |writer, rack| writer.string(rack));
            writer.no_tagged();
        });
        writer.no_tagged();
    });
    writer.no_tagged();
    writer.finish()
}

fn read_topics(
    reader: &mut Reader<'_>,
    _version: i16,
) -> Result<BTreeMap<String, TopicMetadata>, Malformed> {
    let topics = reader.vec(|reader| {
        let id = reader.uuid()?;
        let name = reader.string()?;
        let partitions = reader.int32()?;
        let racks = reader.vec(|reader| {
            let partition = reader.int32()?;
            let racks = reader.vec(|reader| reader.string())?;
            reader.skip_tagged()?;
            Ok((partition, racks.into_iter().collect()))
        })?;
        reader.skip_tagged()?;
        Ok((
            name,
            TopicMetadata {
                id,
                partitions,
                racks: racks.into_iter().collect(),
            },
        ))
    })?;
    Ok(topics.into_iter().collect())
}

fn write_member(value: &MemberValue) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.nullable_string(value.instance_id.as_deref());
    writer.nullable_string(value.rack_id.as_deref());
    writer.string(&value.client_id);
    writer.string(&value.client_host);
    writer.array(value.topics.iter(), |writer, topic| writer.string(topic));
    writer.nullable_string(value.regex.as_deref());
    writer.int32(value.rebalance_timeout_ms);
    writer.nullable_string(value.server_assignor.as_deref());
    match &value.classic {
        None => writer.no_tagged(),
        // A nullable structure is led by a byte: 1, since it is there.
        Some(classic) => writer.one_tagged(0, |writer| {
            writer.int8(1);
            writer.int32(classic.session_timeout_ms);
            writer.array(classic.protocols.iter(), |writer, (name, metadata)| {
                writer.string(name);
                writer.bytes(metadata);
                writer.no_tagged();
            });
            writer.no_tagged();
        }),
    }
    writer.finish()
}

fn read_member(reader: &mut Reader<'_>, _version: i16) -> Result<MemberValue, Malformed> {
    let mut value = MemberValue {
        instance_id: reader.nullable_string()?,
        rack_id: reader.nullable_string()?,
        client_id: reader.string()?,
        client_host: reader.string()?,
        topics: reader.vec(|reader| reader.string())?.into_iter().collect(),
        regex: reader.nullable_string()?.filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: reader.int32()?,
        server_assignor: reader.nullable_string()?,
        classic: None,
    };
    reader.tagged(|tag, mut field| {
        if tag == 0 && field.int8()? == 1 {
            let session_timeout_ms = field.int32()?;
            let protocols = field.vec(|reader| {
                let protocol = (reader.string()?, reader.bytes()?);
                reader.skip_tagged()?;
                Ok(protocol)
            })?;
            value.classic = Some(ClassicProtocols {
                session_timeout_ms,
                protocols,
            });
        }
        Ok(())
    })?;
    Ok(value)
}

fn write_target(partitions: &Partitions) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    write_partitions(&mut writer, partitions);
    writer.no_tagged();
    writer.finish()
}

fn write_partitions(writer: &mut Writer, partitions: &Partitions) {
    writer.array(partitions.iter(), |writer, (topic, partitions)| {
        writer.uuid(*topic);
        writer.array(partitions.iter(), |writer, partition| {
            writer.int32(*partition)
        });
        writer.no_tagged();
    });
}

fn read_partitions(reader: &mut Reader<'_>) -> Result<Partitions, Malformed> {
    let partitions = reader.vec(|reader| {
        let topic = reader.uuid()?;
        let partitions = reader.vec(|reader| reader.int32())?;
        reader.skip_tagged()?;
        Ok((topic, partitions.into_iter().collect()))
    })?;
    Ok(partitions.into_iter().collect())
}

fn write_current(value: &CurrentValue) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.int32(value.epoch);
    writer.int32(value.previous_epoch);
    writer.int8(value.state.number());
    write_partitions(&mut writer, &value.assigned);
    write_partitions(&mut writer, &value.pending_revocation);
    writer.no_tagged();
    writer.finish()
}

fn read_current(reader: &mut Reader<'_>, _version: i16) -> Result<CurrentValue, Malformed> {
    Ok(CurrentValue {
        epoch: reader.int32()?,
        previous_epoch: reader.int32()?,
        state: MemberState::from_number(reader.int8()?),
        assigned: read_partitions(reader)?,
        pending_revocation: read_partitions(reader)?,
    })
}

fn write_regex(value: &RegexValue) -> Vec<u8> {
    let mut writer = Writer::versioned(0, true);
    writer.array(value.topics.iter(), |writer, topic| writer.string(topic));
    writer.int64(value.version);
    writer.int64(value.timestamp_ms);
    writer.no_tagged();
    writer.finish()
}

fn read_regex(reader: &mut Reader<'_>, _version: i16) -> Result<RegexValue, Malformed> {
    Ok(RegexValue {
        topics: reader.vec(|reader| reader.string())?.into_iter().collect(),
        version: reader.int64()?,
        timestamp_ms: reader.int64()?,
    })
}
