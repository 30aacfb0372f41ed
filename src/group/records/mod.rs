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

mod codec;
mod values;

use std::collections::BTreeMap;

use super::wire::{Malformed, Reader, Writer};
use codec::{
    read_classic, read_current, read_member, read_offset, read_partitions, read_regex, read_topics,
    write_classic, write_current, write_epoch, write_member, write_offset, write_regex,
    write_target, write_topics,
};
pub use values::{
    ClassicMemberValue, ClassicProtocols, ClassicValue, CurrentValue, MemberState, MemberValue,
    OffsetValue, Partitions, RegexValue, TopicMetadata,
};

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
