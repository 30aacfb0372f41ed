//! Registration of brokers, and blocks of producer ids. Truth: apache/kafka
//! `ClusterControlManager.registerBroker`, `ProducerIdControlManager`.

use crate::base::{BrokerId, ProducerId, TopicId};
use crate::cluster::image::Image;
use crate::cluster::records::{BrokerFeature, Endpoint, Record, RegisterBroker};
use crate::protocol::ErrorCode;

use super::features::FEATURES;
use super::{Decision, Refusal, Reply};

/// How many producer ids a broker gets at once (apache/kafka `ProducerIdsBlock`).
pub const PRODUCER_ID_BLOCK: i32 = 1000;

/// A broker as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// `node.id`.
    pub broker: BrokerId,
    /// The UUID of this start of the process.
    pub incarnation: TopicId,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// The UUIDs of its data directories.
    pub log_dirs: Vec<TopicId>,
}

/// Producer ids that are the broker's to give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first.
    pub first: ProducerId,
    /// How many follow each other.
    pub len: i32,
}

/// The next block, which nobody else will get.
pub(super) fn allocate(broker: BrokerId, image: &Image) -> Decision {
    let (records, block) = match block(broker, image) {
        Ok((record, block)) => (vec![record], Ok(block)),
        Err(refusal) => (Vec::new(), Err(refusal)),
    };
    Decision {
        records,
        reply: Reply::AllocateProducerIds(block),
    }
}

fn block(broker: BrokerId, image: &Image) -> Result<(Record, ProducerIdBlock), Refusal> {
    let unknown = || Refusal::plain(ErrorCode::BrokerIdNotRegistered);
    let broker_epoch = image.brokers().get(&broker).ok_or_else(unknown)?.epoch;
    let first = image.next_producer_id();
    let exhausted = || Refusal::new(ErrorCode::UnknownServerError, "Exhausted all producer IDs");
    let next = first
        .0
        .checked_add(PRODUCER_ID_BLOCK.into())
        .ok_or_else(exhausted)?;
    let record = Record::ProducerIds {
        broker,
        broker_epoch,
        next: ProducerId(next),
    };
    Ok((
        record,
        ProducerIdBlock {
            first,
            len: PRODUCER_ID_BLOCK,
        },
    ))
}

/// Registers a broker; at the first start of all, finalises the features before. A broker that
/// comes back just as it was costs no record.
pub(super) fn register(introduction: Introduction, image: &Image) -> Decision {
    let mut records = Vec::new();
    if image.features().is_empty() {
        let level = |name: &str, level| Record::FeatureLevel {
            name: name.to_owned(),
            level,
        };
        let start = FEATURES.iter().filter(|feature| feature.initial > 0);
        records.extend(start.map(|feature| level(feature.name, feature.initial)));
    }
    let next_offset = image.applied().map_or(0, |applied| applied.0 + 1);
    let epoch = next_offset + records.len() as i64;
    let mut new = RegisterBroker {
        broker: introduction.broker,
        is_migrating_zk_broker: false,
        incarnation: introduction.incarnation,
        epoch,
        endpoints: introduction.endpoints,
        features: supported(),
        rack: introduction.rack,
        fenced: false,
        in_controlled_shutdown: false,
        log_dirs: introduction.log_dirs,
    };
    if let Some(old) = image.brokers().get(&new.broker) {
        (new.incarnation, new.epoch) = (old.incarnation, old.epoch);
        if new == *old {
            return Decision {
                records,
                reply: Reply::RegisterBroker(old.epoch),
            };
        }
        (new.incarnation, new.epoch) = (introduction.incarnation, epoch);
    }
    records.push(Record::RegisterBroker(new));
    Decision {
        records,
        reply: Reply::RegisterBroker(epoch),
    }
}

fn supported() -> Vec<BrokerFeature> {
    let feature = |feature: &super::SupportedFeature| BrokerFeature {
        name: feature.name.to_owned(),
        min: feature.min,
        max: feature.max,
    };
    FEATURES.iter().map(feature).collect()
}
