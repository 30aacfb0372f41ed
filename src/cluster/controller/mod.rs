//! The controller: turns a request and the image into metadata records and a reply. Decides only:
//! the caller makes the records durable and applies them, then the reply is true.

mod configs;
mod placement;
mod request;
mod topics;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::{BrokerId, Now, Prng, ProducerId, TopicId};
use crate::protocol::ErrorCode;

use super::configs::{Layers, StaticConfigs};
use super::image::Image;
use super::records::{BrokerFeature, Record, RegisterBroker};

pub use request::{
    ConfigChange, ConfigOperation, ControlReply, ControlRequest, CreatedTopic, DeletedTopic,
    FeatureUpdate, MorePartitions, NewTopic, Refused, TopicKey, UpgradeType,
};

/// How many producer ids a core is given at a time (apache/kafka `ProducerIdsBlock`).
pub const PRODUCER_ID_BLOCK: u32 = 1000;

/// The most partitions that one request may make: what a mistyped number would ask for is refused
/// before anything is allocated for it.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 100_000;

/// The features this broker can finalise, with their lowest and highest levels; the highest are
/// Kafka 4.1's (metadata.version 27 is 4.1-IV1).
pub const FEATURES: [(&str, i16, i16); 2] = [("metadata.version", 7, 27), ("group.version", 0, 1)];

/// Records and the reply that is true once they are durable and applied.
#[derive(Debug)]
pub struct Decision {
    /// What changes; nothing, if the request changes nothing.
    pub records: Vec<Record>,
    /// The reply.
    pub reply: ControlReply,
}

/// Decides. Its only state is what the image cannot say: names that are not free yet.
pub struct Controller {
    broker: BrokerId,
    statics: Arc<StaticConfigs>,
    random: Prng,
    /// Topics that are gone from the image but not yet from every core.
    deleting: BTreeSet<(TopicId, Arc<str>)>,
    /// Data directories of this broker that failed: nothing new goes there.
    failed_directories: BTreeSet<TopicId>,
}

impl Controller {
    /// The controller on `broker`, which was started with `statics`; `random` makes topic ids.
    pub fn new(broker: BrokerId, statics: Arc<StaticConfigs>, random: Prng) -> Controller {
        Controller {
            broker,
            statics,
            random,
            deleting: BTreeSet::new(),
            failed_directories: BTreeSet::new(),
        }
    }

    /// What a broker that starts has to say: features on its very first start, and itself with the
    /// features that it supports.
    pub fn start(&mut self, registration: RegisterBroker, image: &Image) -> Decision {
        let mut records = Vec::new();
        if image.features().is_empty() {
            for (name, _, highest) in FEATURES {
                records.push(Record::FeatureLevel {
                    name: name.to_owned(),
                    level: highest,
                });
            }
        }
        let features = FEATURES.map(|(name, min, max)| BrokerFeature {
            name: name.into(),
            min,
            max,
        });
        let registration = RegisterBroker {
            features: features.into(),
            ..registration
        };
        records.push(Record::RegisterBroker(registration));
        Decision {
            records,
            reply: ControlReply::Started,
        }
    }

    /// Decides one request.
    pub fn handle(&mut self, _now: Now, request: &ControlRequest, image: &Image) -> Decision {
        match request {
            ControlRequest::CreateTopics {
                topics,
                validate_only,
            } => self.create_topics(topics, *validate_only, image),
            ControlRequest::DeleteTopics(topics) => self.delete_topics(topics, image),
            ControlRequest::CreatePartitions {
                topics,
                validate_only,
            } => self.create_partitions(topics, *validate_only, image),
            ControlRequest::AlterConfigs {
                changes,
                validate_only,
            } => self.alter_configs(changes, *validate_only, image),
            ControlRequest::UpdateFeatures {
                updates,
                validate_only,
            } => update_features(updates, *validate_only, image),
            ControlRequest::AllocateProducerIds => self.allocate_producer_ids(image),
        }
    }

    /// The next block of producer ids (apache/kafka `ProducerIdControlManager`).
    fn allocate_producer_ids(&self, image: &Image) -> Decision {
        let first = image.next_producer_id();
        let Some(next) = first
            .0
            .checked_add(PRODUCER_ID_BLOCK.into())
            .map(ProducerId)
        else {
            let error = Refused::new(ErrorCode::UnknownServerError, "Exhausted all producer IDs");
            return Decision {
                records: Vec::new(),
                reply: ControlReply::Unavailable(error),
            };
        };
        let (broker, registration) = (self.broker, image.brokers().get(&self.broker));
        let broker_epoch = registration.map_or(-1, |registration| registration.epoch);
        let record = Record::ProducerIds {
            broker,
            broker_epoch,
            next,
        };
        let reply = ControlReply::ProducerIds {
            first,
            count: PRODUCER_ID_BLOCK,
        };
        Decision {
            records: vec![record],
            reply,
        }
    }

    /// Every core has put the topic's directories out of the way: its name is free.
    pub fn deletion_finished(&mut self, id: TopicId) {
        self.deleting.retain(|(deleting, _)| *deleting != id);
    }

    /// A data directory of this broker is of no use any more.
    pub fn directory_failed(&mut self, directory: TopicId) {
        self.failed_directories.insert(directory);
    }

    fn layers<'a>(&'a self, image: &'a Image) -> Layers<'a> {
        Layers::new(image, self.broker, &self.statics)
    }

    /// A version 4 UUID (RFC 9562) that no topic of the image has and that is not one of Kafka's
    /// reserved ones.
    fn new_topic_id(&mut self, image: &Image) -> TopicId {
        loop {
            let mut bytes = [0; 16];
            self.random.fill(&mut bytes);
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            let id = TopicId(bytes);
            // Kafka's text form must not begin with a dash: tools would take it for an option.
            if image.topic_by_id(id).is_none() && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

/// All of the updates, or none of them, as from version 2 of the request on (KIP-1022).
fn update_features(updates: &[FeatureUpdate], validate_only: bool, image: &Image) -> Decision {
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let results = updates.iter().map(|update| {
        if !seen.insert(&update.name) {
            return Err(Refused::new(
                ErrorCode::InvalidRequest,
                "Duplicate feature name.",
            ));
        }
        check_feature(update, image)?;
        let current = image.features().get(&update.name).copied().unwrap_or(0);
        if update.level != current {
            records.push(Record::FeatureLevel {
                name: update.name.clone(),
                level: update.level,
            });
        }
        Ok(())
    });
    let results: Vec<_> = results.collect();
    if validate_only || results.iter().any(Result::is_err) {
        records.clear();
    }
    let names = updates.iter().map(|update| update.name.clone());
    let results = names.zip(results).collect();
    Decision {
        records,
        reply: ControlReply::UpdateFeatures(results),
    }
}

/// The rules of apache/kafka `FeatureControlManager.updateFeature`.
fn check_feature(update: &FeatureUpdate, image: &Image) -> Result<(), Refused> {
    let FeatureUpdate {
        name,
        level,
        upgrade_type,
    } = update;
    let refused = |why: String| {
        let message = format!("Invalid update version {level} for feature {name}. {why}");
        Err(Refused::new(ErrorCode::InvalidUpdateVersion, message))
    };
    if *level < 0 {
        return refused("A feature version cannot be less than 0.".to_owned());
    }
    let Some((_, lowest, highest)) = FEATURES.iter().find(|(known, ..)| known == name) else {
        return refused("The controller does not support this feature.".to_owned());
    };
    if !(lowest..=highest).contains(&level) {
        return refused(format!(
            "The controller only supports versions {lowest}-{highest}."
        ));
    }
    for broker in image.brokers().values() {
        let range = broker.features.iter().find(|feature| feature.name == *name);
        let (min, max) = range.map_or((0, 0), |range| (range.min, range.max));
        if !(min..=max).contains(level) {
            let id = broker.broker;
            return refused(format!("Broker {id} only supports versions {min}-{max}."));
        }
    }
    let current = image.features().get(name).copied().unwrap_or(0);
    let only_up = *upgrade_type == UpgradeType::Upgrade;
    if *level < current && only_up {
        return refused(
            "Can't downgrade the version of this feature without setting the upgrade type to \
             either safe or unsafe downgrade."
                .to_owned(),
        );
    }
    if *level > current && !only_up {
        return refused("Can't downgrade to a newer version.".to_owned());
    }
    // The log's records are in the newest schemas, which an older version could not read.
    if *level < current && name == "metadata.version" {
        return refused("Downgrading the metadata version is not supported.".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
