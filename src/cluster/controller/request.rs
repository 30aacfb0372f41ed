//! What the controller is asked and answers. The API room translates to and from Kafka's versions.

use std::sync::Arc;

use crate::base::{BrokerId, PartitionIndex, ProducerId, TopicId};
use crate::cluster::configs::ConfigEntry;
use crate::cluster::image::Resource;
use crate::protocol::ErrorCode;

/// A refusal as a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's code.
    pub error: ErrorCode,
    /// Why, as a sentence.
    pub message: String,
}

impl Refused {
    /// A refusal with its reason.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Refused {
        Refused {
            error,
            message: message.into(),
        }
    }
}

/// A change that is asked for.
#[derive(Clone, Debug)]
pub enum ControlRequest {
    /// Make topics; also for those that are made by themselves.
    CreateTopics {
        /// The topics, as asked for: a name that comes twice is refused.
        topics: Vec<NewTopic>,
        /// Only check.
        validate_only: bool,
    },
    /// Delete topics.
    DeleteTopics(Vec<TopicKey>),
    /// Give topics more partitions.
    CreatePartitions {
        /// The topics; one that comes twice is refused.
        topics: Vec<MorePartitions>,
        /// Only check.
        validate_only: bool,
    },
    /// Change configs: AlterConfigs and IncrementalAlterConfigs.
    AlterConfigs {
        /// One entry for each resource; one that comes twice is refused.
        changes: Vec<ConfigChange>,
        /// Only check.
        validate_only: bool,
    },
    /// Finalise feature levels.
    UpdateFeatures {
        /// The levels wanted.
        updates: Vec<FeatureUpdate>,
        /// Only check.
        validate_only: bool,
    },
    /// A block of producer ids (KIP-730).
    AllocateProducerIds,
}

/// A topic by name or by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// A topic to be made.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the broker's default, or with assignments.
    pub partitions: i32,
    /// How many replicas each; -1 for the broker's default, or with assignments.
    pub replication_factor: i16,
    /// Partitions and the brokers that shall hold them; empty to let the broker choose.
    pub assignments: Vec<(PartitionIndex, Vec<BrokerId>)>,
    /// Config names and values.
    pub configs: Vec<(String, Option<String>)>,
    /// The broker makes it for itself: an internal topic's name is allowed.
    pub internal: bool,
}

/// A topic that gets more partitions.
#[derive(Clone, Debug)]
pub struct MorePartitions {
    /// Its name.
    pub name: String,
    /// How many it shall have in all.
    pub count: i32,
    /// The brokers for each new partition; none to let the broker choose.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// New configs of one resource.
#[derive(Clone, Debug)]
pub struct ConfigChange {
    /// The resource; none for a type or name that has no configs here, with Kafka's words for it.
    pub resource: Result<Resource, String>,
    /// True: what is not named goes back to its default (AlterConfigs).
    pub replace: bool,
    /// Operations by config name.
    pub operations: Vec<(String, ConfigOperation)>,
}

/// What to do with one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Set it.
    Set(Option<String>),
    /// Back to its default.
    Delete,
    /// Add to a list.
    Append(Option<String>),
    /// Take from a list.
    Subtract(Option<String>),
}

/// A feature level that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// The feature.
    pub name: String,
    /// The level; 0 takes it away.
    pub level: i16,
    /// Whether it may go down.
    pub upgrade_type: UpgradeType,
}

/// Kafka's `FeatureUpdate.UpgradeType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// Only up.
    Upgrade,
    /// Down if nothing is lost.
    SafeDowngrade,
    /// Down whatever it costs.
    UnsafeDowngrade,
}

/// A topic that was made, or would be.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its UUID; zero when only checked.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas each.
    pub replication_factor: i16,
    /// All its configs, as DescribeConfigs would tell them.
    pub configs: Vec<ConfigEntry>,
}

/// Name and id of a topic that is deleted.
pub type DeletedTopic = (Arc<str>, TopicId);

/// What became of a [`ControlRequest`].
#[derive(Clone, Debug, PartialEq)]
pub enum ControlReply {
    /// By topic, in the order of the request, each name once.
    CreateTopics(Vec<(String, Result<CreatedTopic, Refused>)>),
    /// By topic, in the order of the request: name and id of what was deleted.
    DeleteTopics(Vec<(TopicKey, Result<DeletedTopic, Refused>)>),
    /// By topic, in the order of the request, each name once.
    CreatePartitions(Vec<(String, Result<(), Refused>)>),
    /// In the order of the request.
    AlterConfigs(Vec<Result<(), Refused>>),
    /// By feature, in the order of the request.
    UpdateFeatures(Vec<(String, Result<(), Refused>)>),
    /// A block of ids that nobody had before.
    ProducerIds {
        /// The first of them.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// The broker's own first records are in force.
    Started,
    /// The metadata log takes nothing: the broker is stopping, or its disk failed.
    Unavailable(Refused),
}

impl ControlRequest {
    /// The reply when nothing can be changed: the broker is stopping, or the metadata log failed.
    pub fn unavailable(&self) -> ControlReply {
        ControlReply::Unavailable(Refused::new(
            ErrorCode::CoordinatorNotAvailable,
            "The metadata log takes no changes: the broker is stopping, or its disk failed.",
        ))
    }
}
