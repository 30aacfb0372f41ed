//! Finds what a request names in the image: topics by name or id, partitions with their owners,
//! brokers with their addresses.

use std::sync::Arc;

use crate::base::{BrokerId, CoreId, LeaderEpoch, PartitionIndex, TopicPartition};
use crate::cluster::image::{Image, Topic};
use crate::host::Node;
use crate::protocol::messages::StrBytes;
use crate::protocol::{CurrentLeader, ErrorCode, NodeEndpoint, TopicRef};

use super::connection::Endpoint;

/// What requests are planned against: the image of the moment, and where this node is in it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The cluster.
    pub(crate) image: &'a Image,
    /// This broker.
    pub(crate) node: &'a Node,
    /// Its cores.
    pub(crate) cores: u16,
}

/// A partition that this node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    /// The core that owns it.
    pub(crate) core: CoreId,
    /// The partition.
    pub(crate) partition: TopicPartition,
}

impl<'a> View<'a> {
    /// The topic, or `UnknownTopicOrPartition` (by name) or `UnknownTopicId` (by id).
    pub(crate) fn topic(self, topic: &TopicRef) -> Result<&'a Arc<Topic>, ErrorCode> {
        match topic {
            TopicRef::Name(name) => self
                .image
                .topic(name)
                .ok_or(ErrorCode::UnknownTopicOrPartition),
            TopicRef::Id(id) => self.image.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId),
        }
    }

    /// The partition and the core that owns it, or why it is not served here.
    pub(crate) fn owned(self, topic: &Topic, index: PartitionIndex) -> Result<Owned, ErrorCode> {
        let found = topic
            .partition(index)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if found.leader != Some(self.node.broker) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        Ok(self.place(topic, index))
    }

    /// The partition of a topic by name, and the core that owns it.
    pub(crate) fn named(self, name: &str, index: i32) -> Result<Owned, ErrorCode> {
        let topic = self
            .image
            .topic(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.owned(topic, PartitionIndex(index))
    }

    fn place(self, topic: &Topic, index: PartitionIndex) -> Owned {
        let core = Image::owner(topic.id, index, self.cores);
        Owned {
            core,
            partition: TopicPartition {
                topic: topic.id,
                partition: index,
            },
        }
    }

    /// Who leads the partition instead, for a reply that refuses it (KIP-951).
    pub(crate) fn leader(self, topic: &TopicRef, index: PartitionIndex) -> Option<CurrentLeader> {
        let topic = self.topic(topic).ok()?;
        let partition = topic.partition(index)?;
        let shown = |leader| self.node.shown_as(leader, topic.id, index);
        let leader_id = partition.leader.map_or(BrokerId(-1), shown);
        let leader_epoch: LeaderEpoch = partition.leader_epoch;
        Some(CurrentLeader {
            leader_id,
            leader_epoch,
        })
    }
}

/// The brokers that take requests, with the addresses that clients of `endpoint`'s listener use.
/// This broker is among them, even before its registration is in the image; once for each core if
/// each has its own listener.
pub(crate) fn brokers(image: &Image, node: &Node, endpoint: &Endpoint) -> Vec<NodeEndpoint> {
    let myself = |node_id, host: &str, port: u16| NodeEndpoint {
        node_id,
        host: StrBytes::from_string(host.to_owned()),
        port: i32::from(port),
        rack: node.rack.clone().map(StrBytes::from_string),
    };
    let mut brokers: Vec<NodeEndpoint> = match node.core_doors.is_empty() {
        true => vec![myself(node.broker, &endpoint.host, endpoint.port)],
        false => {
            let doors = node.all_shown().into_iter().zip(&node.core_doors);
            doors
                .map(|(id, door)| myself(id, &door.host, door.port))
                .collect()
        }
    };
    brokers.extend(others(image, node, endpoint, false));
    brokers.sort_by_key(|broker| broker.node_id);
    brokers
}

/// The brokers that are registered but may not serve, where they listen like `endpoint`.
pub(crate) fn fenced(image: &Image, node: &Node, endpoint: &Endpoint) -> Vec<NodeEndpoint> {
    others(image, node, endpoint, true).collect()
}

fn others<'a>(
    image: &'a Image,
    node: &'a Node,
    endpoint: &'a Endpoint,
    fenced: bool,
) -> impl Iterator<Item = NodeEndpoint> + 'a {
    let others = image
        .brokers()
        .values()
        .filter(|other| other.broker != node.broker);
    others
        .filter(move |other| other.fenced == fenced)
        .filter_map(|other| {
            let mut listeners = other.endpoints.iter();
            let found = listeners.find(|found| found.name == endpoint.listener)?;
            Some(NodeEndpoint {
                node_id: other.broker,
                host: StrBytes::from_string(found.host.clone()),
                port: i32::from(found.port),
                rack: other.rack.clone().map(StrBytes::from_string),
            })
        })
}
