//! New topics: asked for (CreateTopics), or missing (auto-creation). Truth: apache/kafka
//! `ReplicationControlManager.createTopics`, `ControllerApis.createTopics`,
//! `AutoTopicCreationManager`.

use std::collections::BTreeSet;

use crate::base::{BrokerId, TopicId};
use crate::cluster::configs::{BrokerSettings, ConfigEntry};
use crate::cluster::image::{Configs, Image, Resource};
use crate::cluster::names;
use crate::cluster::records::Record;
use crate::protocol::ErrorCode;

use super::{Controller, Decision, PARTITIONS_PER_REQUEST_MAX, Refusal, Reply, placement};

/// A topic as a client wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1: the broker's default, or as assigned.
    pub partitions: i32,
    /// How many replicas of each; -1: the broker's default, or as assigned.
    pub replication_factor: i16,
    /// The replicas of each partition, if the client chose them; else empty.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    /// Its configs.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was made, or would have been.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedTopic {
    /// Its UUID.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each of them has.
    pub replication_factor: i16,
    /// What is in force for it, if that was asked for.
    pub configs: Vec<ConfigEntry>,
}

/// What lasts while the topics of one request are looked at, one by one.
struct Batch<'a> {
    image: &'a Image,
    settings: BrokerSettings,
    /// Partitions that the request may still make.
    budget: usize,
    /// What the names of this request's topics look like.
    looks: BTreeSet<String>,
    records: Vec<Record>,
    echo_configs: bool,
}

impl Controller {
    fn batch<'a>(&self, image: &'a Image, echo_configs: bool) -> Batch<'a> {
        Batch {
            image,
            settings: self.layers(image).broker_settings(),
            budget: PARTITIONS_PER_REQUEST_MAX,
            looks: BTreeSet::new(),
            records: Vec::new(),
            echo_configs,
        }
    }

    pub(super) fn create_topics(
        &mut self,
        topics: Vec<NewTopic>,
        validate_only: bool,
        echo_configs: bool,
        image: &Image,
    ) -> Decision {
        let mut batch = self.batch(image, echo_configs);
        let twice = super::duplicates(topics.iter().map(|topic| topic.name.as_str()));
        let mut answered = BTreeSet::new();
        let mut results = Vec::with_capacity(topics.len());
        for topic in &topics {
            let result = if twice.contains(topic.name.as_str()) {
                if !answered.insert(topic.name.as_str()) {
                    continue;
                }
                Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    "Duplicate topic name.",
                ))
            } else {
                self.create_topic(topic, &mut batch)
            };
            results.push((topic.name.clone(), result));
        }
        let records = if validate_only {
            Vec::new()
        } else {
            batch.records
        };
        Decision {
            records,
            reply: Reply::CreateTopics(results),
        }
    }

    pub(super) fn auto_create_topics(&mut self, names: Vec<String>, image: &Image) -> Decision {
        let mut batch = self.batch(image, false);
        let names: BTreeSet<String> = names.into_iter().collect();
        let mut results = Vec::with_capacity(names.len());
        for name in names {
            let wanted = automatic(&name, &batch);
            let made = wanted.and_then(|topic| self.create_topic(&topic, &mut batch));
            results.push((name, made.map(|topic| topic.id)));
        }
        Decision {
            records: batch.records,
            reply: Reply::AutoCreateTopics(results),
        }
    }

    /// Adds the records of one topic to the batch, all of them or none.
    fn create_topic(
        &mut self,
        topic: &NewTopic,
        batch: &mut Batch<'_>,
    ) -> Result<CreatedTopic, Refusal> {
        self.check_name(&topic.name, batch)?;
        let configs = self.check_configs(topic, batch)?;
        let replicas = replicas(topic, batch)?;
        let id = self.new_topic_id(batch.image);
        let partitions = replicas.len();
        let replication_factor = replicas.first().map_or(0, Vec::len) as i16;
        let (resource_type, resource_name) = Resource::Topic(topic.name.clone()).to_kafka();
        let mut records = vec![Record::Topic {
            name: topic.name.clone(),
            id,
        }];
        records.extend(configs.iter().map(|(name, value)| Record::Config {
            resource_type,
            resource_name: resource_name.clone(),
            name: name.clone(),
            value: Some(value.clone()),
        }));
        for (partition, replicas) in replicas.into_iter().enumerate() {
            records.push(placement::record(batch.image, id, partition, replicas)?);
        }
        batch.budget -= partitions;
        batch.looks.extend(names::looks(&topic.name));
        batch.records.append(&mut records);
        let echoed = batch
            .echo_configs
            .then(|| self.layers(batch.image).describe_topic(Some(&configs)));
        Ok(CreatedTopic {
            id,
            partitions: partitions as i32,
            replication_factor,
            configs: echoed.unwrap_or_default(),
        })
    }

    fn check_name(&self, name: &str, batch: &Batch<'_>) -> Result<(), Refusal> {
        if name == names::METADATA {
            let message = format!("Creation of internal topic {name} is prohibited.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        if let Some(why) = names::refusal(name) {
            return Err(Refusal::new(ErrorCode::InvalidTopicException, why));
        }
        if batch.image.topic(name).is_some() {
            let message = format!("Topic '{name}' already exists.");
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
        }
        if self.deleting.values().any(|deleting| deleting == name) {
            let message = format!("Topic '{name}' is marked for deletion.");
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, message));
        }
        if let Some(other) = batch.image.look_alike(name) {
            let message = format!("Topic '{name}' collides with existing topic: {other}");
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        if names::looks(name).is_some_and(|looks| batch.looks.contains(&looks)) {
            let message = format!("Topic '{name}' collides with another topic of this request.");
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        Ok(())
    }

    fn check_configs(&self, topic: &NewTopic, batch: &Batch<'_>) -> Result<Configs, Refusal> {
        let mut configs = Configs::new();
        for (name, value) in &topic.configs {
            let Some(value) = value else {
                let message = format!("Null value not supported for topic configs: {name}");
                return Err(Refusal::new(ErrorCode::InvalidConfig, message));
            };
            super::alter_configs::check_size(name, value)?;
            configs.insert(name.clone(), value.clone());
        }
        let checked = self.layers(batch.image).check_topic(&configs);
        checked.map_err(|refused| Refusal::new(ErrorCode::InvalidConfig, refused.why))?;
        Ok(configs)
    }
}

/// A topic as auto-creation makes it: the broker's defaults, or what the internal topic needs.
fn automatic(name: &str, batch: &Batch<'_>) -> Result<NewTopic, Refusal> {
    let name = name.to_owned();
    if name == "__consumer_offsets" {
        let groups = &batch.settings.groups;
        let brokers = i16::try_from(batch.image.active_brokers().count()).unwrap_or(i16::MAX);
        // A segment has at least 1 MiB, which this older config does not say.
        let segment_bytes = groups.offsets_segment_bytes.max(1 << 20).to_string();
        let configs = [
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
            ("segment.bytes", &segment_bytes),
        ];
        return Ok(NewTopic {
            name,
            partitions: groups.offsets_partitions,
            replication_factor: groups.offsets_replication_factor.min(brokers).max(1),
            assignments: Vec::new(),
            configs: configs
                .map(|(name, value)| (name.into(), Some(value.into())))
                .into(),
        });
    }
    if !batch.settings.auto_create_topics || names::is_internal(&name) {
        return Err(Refusal::plain(ErrorCode::UnknownTopicOrPartition));
    }
    let (partitions, replication_factor) = (-1, -1);
    Ok(NewTopic {
        name,
        partitions,
        replication_factor,
        ..NewTopic::default()
    })
}

/// The replicas of each partition of a new topic.
fn replicas(topic: &NewTopic, batch: &Batch<'_>) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    if !topic.assignments.is_empty() {
        return manual(topic, batch);
    }
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
    }
    if topic.partitions < -1 || topic.partitions == 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    let or_default = |value: i32, default: i32| if value == -1 { default } else { value };
    let partitions = or_default(topic.partitions, batch.settings.num_partitions);
    let factor = match topic.replication_factor {
        -1 => batch.settings.default_replication_factor,
        factor => factor,
    };
    let partitions = check_count(partitions as usize, batch.budget)?;
    placement::spread(batch.image, 0, partitions, factor)
}

/// Refuses more partitions than a request may make, before any memory is taken for them.
pub(super) fn check_count(partitions: usize, budget: usize) -> Result<usize, Refusal> {
    let most = PARTITIONS_PER_REQUEST_MAX;
    if partitions > most {
        let message = format!("{partitions} partitions are too many: at most {most} at once.");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    if partitions > budget {
        let message = format!("The request makes more than {most} partitions in all.");
        return Err(Refusal::new(ErrorCode::PolicyViolation, message));
    }
    Ok(partitions)
}

/// The client's own choice: all partitions from 0 on, each once, all with as many replicas.
fn manual(topic: &NewTopic, batch: &Batch<'_>) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    for (what, value) in [
        ("replication factor", i32::from(topic.replication_factor)),
        ("numPartitions", topic.partitions),
    ] {
        if value != -1 {
            let message = format!(
                "A manual partition assignment was specified, but {what} was not set to -1."
            );
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    }
    let count = check_count(topic.assignments.len(), batch.budget)?;
    let mut all: Vec<Option<&Vec<BrokerId>>> = vec![None; count];
    let mut factor = None;
    for (index, replicas) in &topic.assignments {
        let slot = usize::try_from(*index)
            .ok()
            .and_then(|index| all.get_mut(index));
        let Some(slot) = slot else {
            let message = "partitions should be a consecutive 0-based integer sequence";
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        };
        if slot.is_some() {
            let message =
                format!("Found multiple manual partition assignments for partition {index}");
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        placement::check_manual(batch.image, replicas, factor)?;
        factor = Some(replicas.len());
        *slot = Some(replicas);
    }
    Ok(all.into_iter().flatten().cloned().collect())
}
