//! A small cluster for the tests of the handlers' pure halves.

use std::ops::RangeBounds;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{BrokerId, LeaderEpoch, Mono, Offset, PartitionIndex, TopicId};
use crate::cluster::image::Image;
use crate::cluster::records::{
    BrokerFeature, Endpoint as BrokerEndpoint, NewPartition, Record, RegisterBroker,
};
use crate::host::Node;
use crate::net::{Outcome, Part};
use crate::protocol::messages::{self, Encodable, StrBytes, TopicName};
use crate::protocol::{ApiKey, ApiVersions, RequestHeader};

use super::connection::Endpoint;
use super::find::View;
use super::incoming::Incoming;

/// The broker that is tested.
pub(crate) const BROKER: BrokerId = BrokerId(1);

/// An image under construction.
pub(crate) struct World {
    pub(crate) image: Image,
    cores: u16,
    broker: RegisterBroker,
    offset: i64,
    node: Node,
}

impl World {
    /// One broker with `cores` cores and no topic.
    pub(crate) fn new(cores: u16) -> World {
        let broker = registration(BROKER);
        let mut world = World {
            image: Image::default(),
            cores,
            broker: broker.clone(),
            offset: 0,
            node: node(),
        };
        world.apply(Record::RegisterBroker(broker));
        world
    }

    pub(crate) fn apply(&mut self, record: Record) {
        self.image
            .apply(Offset(self.offset), &record)
            .expect("a record that fits");
        self.offset += 1;
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            image: &self.image,
            node: &self.node,
            cores: self.cores,
        }
    }

    /// Adds a topic whose id is made of `number`, led by the broker.
    pub(crate) fn topic(&mut self, name: &str, number: u8, partitions: i32) -> TopicId {
        let id = TopicId([number; 16]);
        self.apply(Record::Topic {
            name: name.to_owned(),
            id,
        });
        for index in 0..partitions {
            self.partition(id, index, Some(BROKER));
        }
        id
    }

    /// Adds a partition with this leader.
    pub(crate) fn partition(&mut self, topic: TopicId, index: i32, leader: Option<BrokerId>) {
        self.apply(Record::Partition(NewPartition {
            leader,
            leader_epoch: LeaderEpoch(3),
            ..NewPartition::on(leader.unwrap_or(BROKER), topic, PartitionIndex(index))
        }));
    }

    /// Sets a topic's config.
    pub(crate) fn config(&mut self, topic: &str, name: &str, value: &str) {
        self.apply(Record::Config {
            resource_type: 2,
            resource_name: topic.to_owned(),
            name: name.to_owned(),
            value: Some(value.to_owned()),
        });
    }

    /// Lets the broker support a feature and finalises it at `level`.
    pub(crate) fn feature(&mut self, name: &str, min: i16, max: i16, level: i16) {
        self.broker.features.push(BrokerFeature {
            name: name.to_owned(),
            min,
            max,
        });
        self.apply(Record::RegisterBroker(self.broker.clone()));
        self.apply(Record::FeatureLevel {
            name: name.to_owned(),
            level,
        });
    }
}

fn registration(broker: BrokerId) -> RegisterBroker {
    let endpoint = BrokerEndpoint {
        name: "PLAINTEXT".to_owned(),
        host: "other".to_owned(),
        port: 1,
        security_protocol: 0,
    };
    RegisterBroker {
        broker,
        is_migrating_zk_broker: false,
        incarnation: TopicId([9; 16]),
        epoch: 0,
        endpoints: vec![endpoint],
        features: Vec::new(),
        rack: None,
        fenced: false,
        in_controlled_shutdown: false,
        log_dirs: Vec::new(),
    }
}

/// The listener of the tests.
pub(crate) fn endpoint() -> Endpoint {
    let listener = "PLAINTEXT".to_owned();
    Endpoint {
        listener,
        host: "advertised".to_owned(),
        port: 9092,
        core: None,
    }
}

/// A request with correlation id 7.
pub(crate) fn incoming(key: ApiKey, version: i16, body: Bytes) -> Incoming {
    let client_id = StrBytes::from_static_str("test");
    let header = RequestHeader {
        key,
        version,
        correlation_id: 7,
        client_id,
    };
    Incoming {
        header,
        body,
        received: Mono(0),
        account: std::rc::Rc::new(super::account::Account::new(Mono(0))),
    }
}

/// The bytes of a reply that is all in memory.
pub(crate) fn frame(outcome: Outcome) -> Vec<u8> {
    let Outcome::Reply(parts) = outcome else {
        panic!("no reply: {outcome:?}")
    };
    let bytes = parts.iter().map(|part| match part {
        Part::Bytes(bytes) => &bytes[..],
        Part::File { .. } => panic!("a file"),
    });
    bytes.flatten().copied().collect()
}

/// A topic's name as messages have it.
pub(crate) fn topic_name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

/// Holds that a reply can be written in every version that is served.
pub(crate) fn encodes_in_every_version<M: Encodable>(versions: ApiVersions, message: &M) {
    encodes_in(versions, .., message);
}

/// Holds that a reply can be written in every version that is served and within `range`.
pub(crate) fn encodes_in<M: Encodable>(
    versions: ApiVersions,
    range: impl RangeBounds<i16>,
    message: &M,
) {
    for version in (versions.min..=versions.max).filter(|version| range.contains(version)) {
        let written = messages::encode(versions.key, message, version);
        assert!(written.is_ok(), "{}", written.unwrap_err());
    }
}

/// The node of the tests.
pub(crate) fn node() -> Node {
    Node {
        broker: BROKER,
        cluster_id: "cluster".to_owned(),
        rack: None,
        data_dirs: vec!["/data".to_owned()],
        static_configs: Arc::default(),
        core_doors: Vec::new(),
    }
}
