//! The consumer's embedded protocol: what a classic consumer writes into the metadata of its
//! JoinGroup and what its leader writes into assignments. The broker relays these bytes; it reads
//! them only for offset deletion and expiry (topics subscribed to) and for the migration between
//! the two kinds of groups.
//!
//! Truth: apache/kafka `ConsumerProtocolSubscription.json`, `ConsumerProtocolAssignment.json` and
//! `ConsumerProtocol.java` (a version above the highest known is read as the highest known).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::wire::{Malformed, Reader, Writer};

/// The protocol type of consumers in JoinGroup.
pub const CONSUMER: &str = "consumer";

/// The highest version of either structure.
const HIGHEST: i16 = 3;

/// Partitions by topic name.
pub type NamedPartitions = BTreeMap<String, BTreeSet<i32>>;

/// What a consumer subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The version it is written in.
    pub version: i16,
    /// The topics.
    pub topics: BTreeSet<String>,
    /// What the consumer owned when it sent this (version 1 and above).
    pub owned: NamedPartitions,
    /// `client.rack` (version 3 and above).
    pub rack_id: Option<String>,
}

fn version(reader: &mut Reader<'_>) -> Result<i16, Malformed> {
    match reader.int16()? {
        version if version < 0 => Err(Malformed {
            what: "consumer protocol version",
        }),
        version => Ok(version.min(HIGHEST)),
    }
}

fn named_partitions(reader: &mut Reader<'_>) -> Result<NamedPartitions, Malformed> {
    let topics = reader.vec(|reader| {
        let topic = reader.string()?;
        Ok((
            topic,
            reader
                .vec(|reader| reader.int32())?
                .into_iter()
                .collect::<BTreeSet<i32>>(),
        ))
    })?;
    let mut all = NamedPartitions::new();
    for (topic, partitions) in topics {
        all.entry(topic).or_default().extend(partitions);
    }
    Ok(all)
}

impl Subscription {
    /// Reads a subscription.
    pub fn decode(bytes: &[u8]) -> Result<Subscription, Malformed> {
        let mut reader = Reader::new(bytes);
        let version = version(&mut reader)?;
        let topics = reader.vec(|reader| reader.string())?.into_iter().collect();
        reader.bytes()?;
        let owned = if version >= 1 {
            named_partitions(&mut reader)?
        } else {
            NamedPartitions::new()
        };
        if version >= 2 {
            reader.int32()?;
        }
        let rack_id = if version >= 3 {
            reader.nullable_string()?
        } else {
            None
        };
        Ok(Subscription {
            version,
            topics,
            owned,
            rack_id,
        })
    }

    /// True when the consumer owned nothing.
    pub fn owns_nothing(&self) -> bool {
        self.owned.values().all(BTreeSet::is_empty)
    }

    /// The topics alone, which stand first in every version
    /// (apache/kafka `ClassicGroup.computeSubscribedTopics`).
    pub fn topics(bytes: &[u8]) -> Result<BTreeSet<String>, Malformed> {
        let mut reader = Reader::new(bytes);
        version(&mut reader)?;
        Ok(reader.vec(|reader| reader.string())?.into_iter().collect())
    }

    /// Writes a subscription in its version.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::versioned(self.version, false);
        writer.array(self.topics.iter(), |writer, topic| writer.string(topic));
        writer.null_bytes();
        if self.version >= 1 {
            write_named(&mut writer, &self.owned);
        }
        if self.version >= 2 {
            writer.int32(-1);
        }
        if self.version >= 3 {
            writer.nullable_string(self.rack_id.as_deref());
        }
        writer.finish().into()
    }
}

fn write_named(writer: &mut Writer, partitions: &NamedPartitions) {
    writer.array(partitions.iter(), |writer, (topic, partitions)| {
        writer.string(topic);
        writer.array(partitions.iter(), |writer, partition| {
            writer.int32(*partition)
        });
    });
}

/// Reads an assignment. No bytes at all mean no partitions.
pub fn decode_assignment(bytes: &[u8]) -> Result<NamedPartitions, Malformed> {
    if bytes.is_empty() {
        return Ok(NamedPartitions::new());
    }
    let mut reader = Reader::new(bytes);
    version(&mut reader)?;
    named_partitions(&mut reader)
}

/// Writes an assignment in the version that the member's subscription is in.
pub fn encode_assignment(version: i16, partitions: &NamedPartitions) -> Bytes {
    let mut writer = Writer::versioned(version.clamp(0, HIGHEST), false);
    write_named(&mut writer, partitions);
    writer.null_bytes();
    writer.finish().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_of_every_version_read_back_and_a_newer_one_reads_as_the_newest() {
        let owned = NamedPartitions::from([("a".to_owned(), BTreeSet::from([0, 3]))]);
        let topics = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        for version in 0..=3 {
            let subscription = Subscription {
                version,
                topics: topics.clone(),
                owned: if version >= 1 {
                    owned.clone()
                } else {
                    NamedPartitions::new()
                },
                rack_id: (version >= 3).then(|| "r1".to_owned()),
            };
            assert_eq!(
                Subscription::decode(&subscription.encode()),
                Ok(subscription.clone())
            );
            assert_eq!(
                Subscription::topics(&subscription.encode()),
                Ok(topics.clone())
            );
        }
        let mut newer = Subscription {
            version: 3,
            topics,
            ..Default::default()
        }
        .encode()
        .to_vec();
        newer[1] = 9;
        newer.extend_from_slice(b"something new");
        assert_eq!(Subscription::decode(&newer).map(|read| read.version), Ok(3));
    }

    #[test]
    fn a_cut_subscription_is_malformed_and_an_empty_assignment_is_no_partitions() {
        let whole = Subscription {
            version: 1,
            topics: ["t".to_owned()].into(),
            ..Default::default()
        };
        let whole = whole.encode();
        for cut in 0..whole.len() {
            assert!(Subscription::decode(&whole[..cut]).is_err(), "{cut}");
        }
        assert_eq!(decode_assignment(b""), Ok(NamedPartitions::new()));
    }
}
