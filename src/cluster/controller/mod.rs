//! The controller: decides what a request for a change of the metadata does.
//!
//! [`Controller::handle`] reads the image and answers with the records that make the change and the
//! reply to give once they are durable. It changes nothing: [`Controller::apply`] does, record by
//! record. The caller applies the records of one decision before it asks for the next one, as
//! Kafka's controller does, and publishes the image (and the reply) when they are durable.
//!
//! Lives on core 0. Knows no protocol version (the api room translates), no authorisation, no disk.
//! Invariant: applying the records of a decision to the image that it was made on cannot fail.

mod alter_configs;
mod brokers;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod features;
mod placement;

use std::collections::BTreeMap;

use crate::base::{BrokerId, Offset, Prng, TopicId};
use crate::protocol::ErrorCode;

use super::configs::{Layers, StaticConfigs};
use super::image::{ApplyError, Image};
use super::records::Record;

pub use alter_configs::{
    ConfigChange, ConfigOperation, ConfigReply, ResourceChanges, ResourceConfigs,
};
pub use brokers::{Introduction, PRODUCER_ID_BLOCK, ProducerIdBlock};
pub use create_partitions::Growth;
pub use create_topics::{CreatedTopic, NewTopic};
pub use delete_topics::{DeleteReply, TopicChoice};
pub use features::{FEATURES, FeatureUpdate, SupportedFeature, UpgradeType};

/// The most partitions that one request may make, over all its topics.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 100_000;

/// Why something was refused, for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub code: ErrorCode,
    /// What is wrong, as a sentence.
    pub message: String,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }

    /// The code with its usual message.
    fn plain(code: ErrorCode) -> Refusal {
        Refusal::new(code, code.message())
    }
}

/// A request to change the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// CreateTopics (19).
    CreateTopics {
        /// The topics.
        topics: Vec<NewTopic>,
        /// Only say what would happen.
        validate_only: bool,
        /// Tell the configs of each new topic (v5 and up).
        echo_configs: bool,
    },
    /// Topics that a client asked for in Metadata (3), or a coordinator needs.
    AutoCreateTopics {
        /// Their names.
        names: Vec<String>,
    },
    /// DeleteTopics (20).
    DeleteTopics {
        /// By name or by id.
        topics: Vec<TopicChoice>,
    },
    /// CreatePartitions (37).
    CreatePartitions {
        /// The topics to grow.
        topics: Vec<Growth>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// AlterConfigs (33): replaces all configs of each resource.
    AlterConfigs {
        /// The resources with all that they are to have.
        resources: Vec<ResourceConfigs>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// IncrementalAlterConfigs (44).
    IncrementalAlterConfigs {
        /// The resources with what is to change.
        resources: Vec<ResourceChanges>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// AllocateProducerIds (67): the next block of producer ids.
    AllocateProducerIds {
        /// Who asks.
        broker: BrokerId,
    },
    /// BrokerRegistration (62): a broker is there.
    RegisterBroker(Introduction),
    /// UpdateFeatures (57): all of them or none.
    UpdateFeatures {
        /// The new levels.
        updates: Vec<FeatureUpdate>,
        /// Only say what would happen.
        validate_only: bool,
    },
}

/// The answer to a [`Request`], of the same name. Lists are in the request's order.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Each topic with what became of it.
    CreateTopics(Vec<(String, Result<CreatedTopic, Refusal>)>),
    /// Each topic with its id; one that was there already is a refusal `TOPIC_ALREADY_EXISTS`.
    AutoCreateTopics(Vec<(String, Result<TopicId, Refusal>)>),
    /// Each topic that was named.
    DeleteTopics(Vec<DeleteReply>),
    /// Each topic that was named.
    CreatePartitions(Vec<(String, Result<(), Refusal>)>),
    /// Each resource that was named.
    AlterConfigs(Vec<ConfigReply>),
    /// Each resource that was named.
    IncrementalAlterConfigs(Vec<ConfigReply>),
    /// The block.
    AllocateProducerIds(Result<ProducerIdBlock, Refusal>),
    /// The broker's epoch.
    RegisterBroker(i64),
    /// All were updated, or the first that cannot be.
    UpdateFeatures(Result<(), Refusal>),
}

/// What a request does: records to append, and the reply once they are durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// In this order, as one batch; empty if nothing changes.
    pub records: Vec<Record>,
    /// To be given when the records are durable.
    pub reply: Reply,
}

/// See the module.
pub struct Controller {
    broker: BrokerId,
    statics: StaticConfigs,
    prng: Prng,
    /// Topics that are gone from the image, but not yet from every core's disk.
    deleting: BTreeMap<TopicId, String>,
}

impl Controller {
    /// The controller on `broker`, which was started with `statics`. `entropy` seeds the ids of new
    /// topics: it must differ from one start to the next.
    pub fn new(broker: BrokerId, statics: StaticConfigs, entropy: u64) -> Controller {
        Controller {
            broker,
            statics,
            prng: Prng::new(entropy),
            deleting: BTreeMap::new(),
        }
    }

    /// The layers of configs of this broker, over `image`.
    pub fn layers<'a>(&'a self, image: &'a Image) -> Layers<'a> {
        Layers::new(image, self.broker, &self.statics)
    }

    /// Decides on `request` against `image`, which holds all earlier decisions.
    pub fn handle(&mut self, request: Request, image: &Image) -> Decision {
        match request {
            Request::CreateTopics {
                topics,
                validate_only,
                echo_configs,
            } => self.create_topics(topics, validate_only, echo_configs, image),
            Request::AutoCreateTopics { names } => self.auto_create_topics(names, image),
            Request::DeleteTopics { topics } => self.delete_topics(topics, image),
            Request::CreatePartitions {
                topics,
                validate_only,
            } => create_partitions::decide(topics, validate_only, image),
            Request::AlterConfigs {
                resources,
                validate_only,
            } => self.replace_configs(resources, validate_only, image),
            Request::IncrementalAlterConfigs {
                resources,
                validate_only,
            } => self.change_configs(resources, validate_only, image),
            Request::AllocateProducerIds { broker } => brokers::allocate(broker, image),
            Request::RegisterBroker(introduction) => brokers::register(introduction, image),
            Request::UpdateFeatures {
                updates,
                validate_only,
            } => features::decide(updates, validate_only, image),
        }
    }

    /// Applies a record of a decision, and remembers removed topics until
    /// [`Controller::deletion_finished`]. When a log is replayed at the start, apply to the image
    /// alone: what an earlier run deleted is not waited for.
    pub fn apply(
        &mut self,
        image: &mut Image,
        offset: Offset,
        record: &Record,
    ) -> Result<(), ApplyError> {
        let removed = match record {
            Record::RemoveTopic { id } => image.topic_by_id(*id).cloned(),
            _ => None,
        };
        image.apply(offset, record)?;
        if let Some(topic) = removed {
            self.deleting.insert(topic.id, topic.name.to_string());
        }
        Ok(())
    }

    /// Every core has renamed the topic's directories away: its name may be given again.
    pub fn deletion_finished(&mut self, topic: TopicId) {
        self.deleting.remove(&topic);
    }

    /// The topics that are removed and not yet confirmed by all cores.
    pub fn deleting(&self) -> impl Iterator<Item = (TopicId, &str)> {
        self.deleting.iter().map(|(id, name)| (*id, name.as_str()))
    }

    /// A new topic's id: a random UUID (version 4) that no topic has, and whose text does not begin
    /// with `-`, which command lines would take for an option (apache/kafka `Uuid.randomUuid`).
    fn new_topic_id(&mut self, image: &Image) -> TopicId {
        loop {
            let mut id = TopicId::ZERO;
            self.prng.fill(&mut id.0);
            id.0[6] = (id.0[6] & 0x0f) | 0x40;
            id.0[8] = (id.0[8] & 0x3f) | 0x80;
            let taken = image.topic_by_id(id).is_some() || self.deleting.contains_key(&id);
            if !taken && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

/// The names that occur more than once.
fn duplicates<'a, T: Ord + Copy + 'a>(
    items: impl Iterator<Item = T>,
) -> std::collections::BTreeSet<T> {
    let mut seen = std::collections::BTreeSet::new();
    items.filter(|item| !seen.insert(*item)).collect()
}

#[cfg(test)]
mod tests;
