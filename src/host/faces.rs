//! As whom clients know this node: as one broker, or as one broker for each core.
//!
//! With a listener for each core (`--listen-per-core`) a client that asks who leads a partition is
//! told of the core that owns it: a broker of its own, on its own port. The ids are made here and
//! meant for clients only. Inside, and in the metadata log, the node has one id, so that they need
//! no storing, are the same after each start, and may be given up again.

use crate::base::{BrokerId, CoreId, PartitionIndex, TopicId};
use crate::cluster::image::Image;

use super::Node;

/// A core's id is its node's times this, plus its number: core 1 of node 1 is 1001. Nodes that
/// listen like this have ids from 1 to 999, so that no id of a node is one of a core.
pub const CORE_ID_STRIDE: i32 = 1000;

/// Where clients find one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreDoor {
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
}

impl Node {
    /// The id that clients know a core by.
    pub fn shown(&self, core: CoreId) -> BrokerId {
        match self.core_doors.is_empty() {
            true => self.broker,
            false => BrokerId(self.broker.0 * CORE_ID_STRIDE + i32::from(core.0)),
        }
    }

    /// All ids that clients know this node by, in order.
    pub fn all_shown(&self) -> Vec<BrokerId> {
        let cores = 0..self.core_doors.len().max(1) as u16;
        cores.map(|core| self.shown(CoreId(core))).collect()
    }

    /// The id that clients are told for `broker`, a leader or replica of this partition: for this
    /// node that of the core which owns the partition; others keep theirs.
    pub fn shown_as(
        &self,
        broker: BrokerId,
        topic: TopicId,
        partition: PartitionIndex,
    ) -> BrokerId {
        if broker != self.broker || self.core_doors.is_empty() {
            return broker;
        }
        let cores = self.core_doors.len() as u16;
        self.shown(Image::owner(topic, partition, cores))
    }

    /// The node behind an id that a client uses: this one for each of its cores', any other as it
    /// is.
    pub fn behind(&self, shown: BrokerId) -> BrokerId {
        match self.all_shown().contains(&shown) {
            true => self.broker,
            false => shown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn node(cores: usize) -> Node {
        let door = CoreDoor {
            host: "h".to_owned(),
            port: 1,
        };
        Node {
            broker: BrokerId(7),
            cluster_id: String::new(),
            rack: None,
            data_dirs: Vec::new(),
            static_configs: Arc::default(),
            core_doors: vec![door; cores],
        }
    }

    #[test]
    fn a_node_with_one_listener_is_one_broker() {
        let node = node(0);
        assert_eq!(node.all_shown(), [BrokerId(7)]);
        let shown = node.shown_as(BrokerId(7), TopicId([3; 16]), PartitionIndex(1));
        assert_eq!(shown, BrokerId(7));
        assert_eq!(node.behind(BrokerId(7000)), BrokerId(7000));
    }

    #[test]
    fn with_a_listener_for_each_core_the_owner_of_a_partition_is_its_broker() {
        let node = node(2);
        assert_eq!(node.all_shown(), [BrokerId(7000), BrokerId(7001)]);
        let topic = TopicId([3; 16]);
        for index in (0..8).map(PartitionIndex) {
            let owner = Image::owner(topic, index, 2);
            let shown = node.shown_as(BrokerId(7), topic, index);
            assert_eq!(shown, BrokerId(7000 + i32::from(owner.0)));
            assert_eq!(node.behind(shown), BrokerId(7));
            let other = node.shown_as(BrokerId(8), topic, index);
            assert_eq!(other, BrokerId(8), "another node");
        }
        assert_eq!(node.behind(BrokerId(7002)), BrokerId(7002));
        // The node's own id is nobody's for clients.
        assert_eq!(node.behind(BrokerId(7)), BrokerId(7));
    }
}
