//! Metadata records in KRaft's schemas, as the values of ordinary records (key null) in the
//! metadata log. Truth: apache/kafka `metadata/src/main/resources/common/metadata/*.json` and
//! `AbstractApiMessageSerde`.
//!
//! ```text
//! value = frame version (unsigned varint, 1)
//!         api key       (unsigned varint)
//!         api version   (unsigned varint)
//!         message       (flexible encoding of that version)
//! ```
//!
//! Nothing here is protected by itself: the CRC is the record batch's. Decoding is strict: what is
//! not known, not whole or followed by other bytes is an error.

mod broker;
mod partition;

use std::fmt;

use crate::base::{BrokerId, ProducerId, TopicId};

use super::wire::{Read, Reader, Writer};

pub use broker::{BrokerFeature, Endpoint, RegisterBroker};
pub use partition::{NewPartition, PartitionChange, UNASSIGNED_DIRECTORY};

/// The only frame version there is (`AbstractApiMessageSerde.DEFAULT_FRAME_VERSION`).
const FRAME_VERSION: u32 = 1;

/// One change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// RegisterBrokerRecord (0): a broker with its end points and what it supports.
    RegisterBroker(RegisterBroker),
    /// UnregisterBrokerRecord (1): the broker is gone for good.
    UnregisterBroker {
        /// The broker.
        broker: BrokerId,
        /// The epoch of the registration that ends.
        epoch: i64,
    },
    /// TopicRecord (2): a topic without partitions yet.
    Topic {
        /// Its name.
        name: String,
        /// Its UUID.
        id: TopicId,
    },
    /// PartitionRecord (3): a new partition.
    Partition(NewPartition),
    /// ConfigRecord (4): a config of a resource set, or deleted.
    Config {
        /// The resource's type, by Kafka's number (2 topic, 4 broker).
        resource_type: i8,
        /// The resource's name; empty for the default of all brokers.
        resource_name: String,
        /// The config's name.
        name: String,
        /// Its value; none deletes it.
        value: Option<String>,
    },
    /// PartitionChangeRecord (5): some fields of a partition changed.
    PartitionChange(PartitionChange),
    /// RemoveTopicRecord (9): a topic with its partitions and configs is gone.
    RemoveTopic {
        /// Its UUID.
        id: TopicId,
    },
    /// FeatureLevelRecord (12): a feature's finalised level; 0 takes it away.
    FeatureLevel {
        /// The feature: `metadata.version`, `group.version`.
        name: String,
        /// The level.
        level: i16,
    },
    /// ProducerIdsRecord (15): the ids below `next` are given away.
    ProducerIds {
        /// The broker that asked for a block.
        broker: BrokerId,
        /// The epoch of that broker's registration.
        broker_epoch: i64,
        /// The first id of the next block.
        next: ProducerId,
    },
    /// BrokerRegistrationChangeRecord (17): a broker fenced, unfenced or shutting down.
    BrokerChange {
        /// The broker.
        broker: BrokerId,
        /// The epoch of its registration.
        epoch: i64,
        /// Fenced (true) or unfenced (false) by this record; none if unchanged.
        fenced: Option<bool>,
        /// True once it is in controlled shutdown.
        in_controlled_shutdown: bool,
    },
    /// NoOpRecord (20): nothing; moves the end of the log.
    NoOp,
}

/// Why bytes are not a metadata record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The frame version is not 1.
    FrameVersion(u32),
    /// No record that we know has this api key.
    UnknownType {
        /// The key.
        api_key: u32,
    },
    /// The record is known, but not in this version.
    UnknownVersion {
        /// The record's name.
        record: &'static str,
        /// The version it claims.
        version: u32,
    },
    /// The bytes end too early.
    Truncated {
        /// Bytes needed.
        wanted: usize,
        /// Bytes there.
        left: usize,
    },
    /// Bytes are left over behind the record or a tagged field.
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A variable-length number is longer than 32 bits.
    Varint,
    /// A text is not UTF-8.
    Utf8,
    /// Null where the schema does not allow it.
    Null,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::FrameVersion(version) => write!(f, "unknown frame version {version}"),
            DecodeError::UnknownType { api_key } => {
                write!(f, "unknown metadata record type {api_key}")
            }
            DecodeError::UnknownVersion { record, version } => {
                write!(f, "{record} has no version {version} that is known here")
            }
            DecodeError::Truncated { wanted, left } => {
                write!(f, "truncated: {wanted} bytes wanted, {left} left")
            }
            DecodeError::TrailingBytes { count } => write!(f, "{count} bytes too many"),
            DecodeError::Varint => f.write_str("a variable-length number above 32 bits"),
            DecodeError::Utf8 => f.write_str("a text that is not UTF-8"),
            DecodeError::Null => f.write_str("null where it is not allowed"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Kafka's name of a record type and the newest version known here.
fn schema(api_key: u32) -> Option<(&'static str, u32)> {
    Some(match api_key {
        0 => ("RegisterBrokerRecord", 3),
        1 => ("UnregisterBrokerRecord", 0),
        2 => ("TopicRecord", 0),
        3 => ("PartitionRecord", 2),
        4 => ("ConfigRecord", 0),
        5 => ("PartitionChangeRecord", 2),
        9 => ("RemoveTopicRecord", 0),
        12 => ("FeatureLevelRecord", 0),
        15 => ("ProducerIdsRecord", 0),
        17 => ("BrokerRegistrationChangeRecord", 2),
        20 => ("NoOpRecord", 0),
        _ => return None,
    })
}

impl Record {
    /// The api key and the version it is written in.
    fn key(&self) -> (u32, u32) {
        match self {
            Record::RegisterBroker(_) => (0, 3),
            Record::UnregisterBroker { .. } => (1, 0),
            Record::Topic { .. } => (2, 0),
            Record::Partition(_) => (3, 2),
            Record::Config { .. } => (4, 0),
            Record::PartitionChange(_) => (5, 2),
            Record::RemoveTopic { .. } => (9, 0),
            Record::FeatureLevel { .. } => (12, 0),
            Record::ProducerIds { .. } => (15, 0),
            Record::BrokerChange { .. } => (17, 1),
            Record::NoOp => (20, 0),
        }
    }

    /// The value of the record in the metadata log.
    pub fn encode(&self) -> Vec<u8> {
        let (api_key, version) = self.key();
        let mut out = Writer::default();
        out.varint(FRAME_VERSION);
        out.varint(api_key);
        out.varint(version);
        self.write(&mut out);
        out.finish()
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Record::RegisterBroker(record) => return record.write(out),
            Record::Partition(record) => return record.write(out),
            Record::PartitionChange(record) => return record.write(out),
            Record::BrokerChange {
                broker,
                epoch,
                fenced,
                in_controlled_shutdown,
            } => {
                return broker::write_change(
                    out,
                    *broker,
                    *epoch,
                    *fenced,
                    *in_controlled_shutdown,
                );
            }
            Record::UnregisterBroker { broker, epoch } => {
                out.i32(broker.0);
                out.i64(*epoch);
            }
            Record::Topic { name, id } => {
                out.string(name);
                out.uuid(*id);
            }
            Record::Config {
                resource_type,
                resource_name,
                name,
                value,
            } => {
                out.i8(*resource_type);
                out.string(resource_name);
                out.string(name);
                out.nullable_string(value.as_deref());
            }
            Record::RemoveTopic { id } => out.uuid(*id),
            Record::FeatureLevel { name, level } => {
                out.string(name);
                out.i16(*level);
            }
            Record::ProducerIds {
                broker,
                broker_epoch,
                next,
            } => {
                out.i32(broker.0);
                out.i64(*broker_epoch);
                out.i64(next.0);
            }
            Record::NoOp => {}
        }
        out.tags(&[]);
    }

    /// Reads the value of a record of the metadata log, all of it.
    pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        let mut from = Reader::new(bytes);
        let frame = from.varint()?;
        if frame != FRAME_VERSION {
            return Err(DecodeError::FrameVersion(frame));
        }
        let (api_key, version) = (from.varint()?, from.varint()?);
        let (record, newest) = schema(api_key).ok_or(DecodeError::UnknownType { api_key })?;
        if version > newest {
            return Err(DecodeError::UnknownVersion { record, version });
        }
        let record = Record::read(api_key, version, &mut from)?;
        match from.left() {
            0 => Ok(record),
            count => Err(DecodeError::TrailingBytes { count }),
        }
    }

    fn read(api_key: u32, version: u32, from: &mut Reader<'_>) -> Read<Record> {
        let record = match api_key {
            0 => return RegisterBroker::read(version, from).map(Record::RegisterBroker),
            3 => return NewPartition::read(version, from).map(Record::Partition),
            5 => return PartitionChange::read(version, from).map(Record::PartitionChange),
            17 => return broker::read_change(version, from),
            1 => Record::UnregisterBroker {
                broker: BrokerId(from.i32()?),
                epoch: from.i64()?,
            },
            2 => Record::Topic {
                name: from.string()?,
                id: from.uuid()?,
            },
            4 => Record::Config {
                resource_type: from.i8()?,
                resource_name: from.string()?,
                name: from.string()?,
                value: from.nullable_string()?,
            },
            9 => Record::RemoveTopic { id: from.uuid()? },
            12 => Record::FeatureLevel {
                name: from.string()?,
                level: from.i16()?,
            },
            15 => Record::ProducerIds {
                broker: BrokerId(from.i32()?),
                broker_epoch: from.i64()?,
                next: ProducerId(from.i64()?),
            },
            20 => Record::NoOp,
            _ => return Err(DecodeError::UnknownType { api_key }),
        };
        from.no_tags()?;
        Ok(record)
    }
}

#[cfg(test)]
pub(crate) mod tests;
