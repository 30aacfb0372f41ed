//! A partition as Metadata and DescribeTopicPartitions tell it.

use std::collections::BTreeSet;

use crate::base::{BrokerId, PartitionIndex};
use crate::cluster::image::{Image, Partition, Topic};
use crate::host::Node;
use crate::protocol::messages;
use crate::protocol::{ErrorCode, NodeEndpoint};

/// The brokers that clients of a listener can reach.
pub(crate) struct Reachable<'a> {
    ids: BTreeSet<BrokerId>,
    node: &'a Node,
}

/// A partition, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// Its number.
    pub(crate) index: i32,
    /// Why clients cannot use it now, or none.
    pub(crate) error: ErrorCode,
    /// Its leader, -1 if there is none that can be reached.
    pub(crate) leader: messages::BrokerId,
    /// The leader's term.
    pub(crate) leader_epoch: i32,
    /// All replicas.
    pub(crate) replicas: Vec<messages::BrokerId>,
    /// Those in sync.
    pub(crate) isr: Vec<messages::BrokerId>,
    /// Those that cannot be reached.
    pub(crate) offline: Vec<messages::BrokerId>,
    /// Those that may lead although they are not in sync.
    pub(crate) eligible: Vec<messages::BrokerId>,
    /// Those that were so last.
    pub(crate) last_known_eligible: Vec<messages::BrokerId>,
}

impl<'a> Reachable<'a> {
    /// The brokers of these endpoints, as this node tells them.
    pub(crate) fn of(brokers: &[NodeEndpoint], node: &'a Node) -> Reachable<'a> {
        Reachable {
            ids: brokers.iter().map(|broker| broker.node_id).collect(),
            node,
        }
    }

    /// Describes partition `index` of `topic`, which is `partition`.
    pub(crate) fn describe(
        &self,
        image: &Image,
        topic: &Topic,
        index: PartitionIndex,
        partition: &Partition,
    ) -> Described {
        let shown = |broker: &BrokerId| self.node.shown_as(*broker, topic.id, index);
        let all_shown = |brokers: &[BrokerId]| ids(brokers.iter().map(shown));
        let leader = partition.leader.as_ref().map(shown);
        let leader = leader.filter(|leader| self.ids.contains(leader));
        let replicas = partition.replicas.iter().map(shown);
        let offline = replicas.filter(|replica| !self.ids.contains(replica));
        Described {
            index: index.0,
            error: if leader.is_some() {
                ErrorCode::None
            } else {
                no_leader(image, partition)
            },
            leader: messages::BrokerId(leader.map_or(-1, |leader| leader.0)),
            leader_epoch: partition.leader_epoch.0,
            replicas: all_shown(&partition.replicas),
            isr: all_shown(&partition.isr),
            offline: ids(offline),
            eligible: all_shown(&partition.eligible_leaders),
            last_known_eligible: all_shown(&partition.last_known_eligible),
        }
    }
}

/// A leader that is there but not on this listener is a mistake in the configuration (from
/// Metadata 6 on told as such); otherwise there is no leader now.
fn no_leader(image: &Image, partition: &Partition) -> ErrorCode {
    let leader = partition
        .leader
        .and_then(|leader| image.brokers().get(&leader));
    match leader {
        Some(leader) if !leader.fenced => ErrorCode::ListenerNotFound,
        Some(_) | None => ErrorCode::LeaderNotAvailable,
    }
}

/// Brokers as messages have them.
pub(crate) fn ids(brokers: impl Iterator<Item = BrokerId>) -> Vec<messages::BrokerId> {
    brokers.map(|broker| messages::BrokerId(broker.0)).collect()
}

/// The partitions of a topic from `first` on, with their numbers.
pub(crate) fn numbered(
    topic: &Topic,
    first: usize,
) -> impl Iterator<Item = (PartitionIndex, &Partition)> {
    let numbered = topic.partitions.iter().enumerate().skip(first);
    numbered.map(|(index, partition)| (PartitionIndex(index as i32), partition))
}

/// Why a topic that is not there is refused: its name cannot be, or nobody has made it.
pub(crate) fn unknown(name: &str) -> ErrorCode {
    match crate::cluster::names::refusal(name) {
        Some(_) => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicOrPartition,
    }
}
