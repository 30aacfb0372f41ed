//! What Produce and Fetch have in common: a topic by name or by id, and the hints at who leads a
//! partition (KIP-951).

use super::malformed::Malformed;
use super::messages::StrBytes;
use super::reader::Reader;
use super::writer::Writer;
use crate::base::{BrokerId, LeaderEpoch, TopicId};

/// A topic as a request names it: by name, or by id from Produce 13 and Fetch 13 on (KIP-516).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef {
    /// By name, a slice of the frame it came in.
    Name(StrBytes),
    /// By id.
    Id(TopicId),
}

impl TopicRef {
    pub(super) fn read(
        reader: &mut Reader,
        by_id: bool,
        compact: bool,
    ) -> Result<TopicRef, Malformed> {
        if by_id {
            reader.topic_id().map(TopicRef::Id)
        } else {
            reader.text(compact).map(TopicRef::Name)
        }
    }

    /// Panics when the version wants the other form: the caller answers in the version, and so in
    /// the form, in which it was asked.
    pub(super) fn write(&self, writer: &mut Writer, by_id: bool, compact: bool) {
        match self {
            TopicRef::Name(name) if !by_id => writer.text(compact, name),
            TopicRef::Id(id) if by_id => writer.topic_id(*id),
            TopicRef::Name(_) | TopicRef::Id(_) => {
                panic!(
                    "{self:?} in a version that has topics by {}",
                    if by_id { "id" } else { "name" }
                )
            }
        }
    }

    /// Bytes that it takes on the wire, at most.
    pub(super) fn size_max(&self) -> usize {
        match self {
            TopicRef::Name(name) => 3 + name.len(),
            TopicRef::Id(_) => 16,
        }
    }
}

/// The leader that a client should turn to instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    /// The leader, -1 when not known.
    pub leader_id: BrokerId,
    /// Its epoch, -1 when not known.
    pub leader_epoch: LeaderEpoch,
}

impl CurrentLeader {
    pub(super) fn read(reader: &mut Reader) -> Result<CurrentLeader, Malformed> {
        let leader_id = BrokerId(reader.i32()?);
        let leader_epoch = LeaderEpoch(reader.i32()?);
        reader.skip_tagged_fields(true)?;
        Ok(CurrentLeader {
            leader_id,
            leader_epoch,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.i32(self.leader_id.0);
        writer.i32(self.leader_epoch.0);
        writer.no_tagged_fields(true);
    }
}

/// Where a broker that a response names as a leader is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// The broker.
    pub node_id: BrokerId,
    /// Its host on the listener that the client came in on.
    pub host: StrBytes,
    /// Its port on that listener.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<StrBytes>,
}

impl NodeEndpoint {
    pub(super) fn read_all(reader: &mut Reader) -> Result<Vec<NodeEndpoint>, Malformed> {
        let (count, mut endpoints) = reader.array_of(true, 11)?;
        for _ in 0..count {
            let node_id = BrokerId(reader.i32()?);
            let host = reader.text(true)?;
            let port = reader.i32()?;
            let rack = reader.nullable_text(true)?;
            reader.skip_tagged_fields(true)?;
            endpoints.push(NodeEndpoint {
                node_id,
                host,
                port,
                rack,
            });
        }
        Ok(endpoints)
    }

    fn write(&self, writer: &mut Writer) {
        writer.i32(self.node_id.0);
        writer.text(true, &self.host);
        writer.i32(self.port);
        writer.nullable_text(true, self.rack.as_deref());
        writer.no_tagged_fields(true);
    }

    /// The tagged fields that end a response: the endpoints as tag 0, unless there are none.
    pub(super) fn write_as_tag(endpoints: &[NodeEndpoint], writer: &mut Writer) {
        writer.uvarint(u32::from(!endpoints.is_empty()));
        if !endpoints.is_empty() {
            writer.tagged_field(0, |writer| {
                writer.length(true, Some(endpoints.len()));
                endpoints.iter().for_each(|endpoint| endpoint.write(writer));
            });
        }
    }
}
