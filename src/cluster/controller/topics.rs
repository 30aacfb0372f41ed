//! Topics and partitions: made, grown, deleted (apache/kafka `ReplicationControlManager`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use crate::cluster::image::{Configs, Image, Topic};
use crate::cluster::names;
use crate::cluster::records::{NewPartition, Record};
use crate::protocol::ErrorCode;

use super::configs::check_size;
use super::placement::Placement;
use super::{
    ControlReply, Controller, CreatedTopic, Decision, MorePartitions, NewTopic,
    PARTITIONS_PER_REQUEST_MAX, Refused, TopicKey,
};

/// Kafka's number of the topic resource.
const TOPIC_RESOURCE: i8 = 2;

/// Brokers of each partition, by its number.
type Assignment = Vec<Vec<BrokerId>>;

impl Controller {
    pub(super) fn create_topics(
        &mut self,
        topics: &[NewTopic],
        validate_only: bool,
        image: &Image,
    ) -> Decision {
        let mut records = Vec::new();
        let mut budget = PARTITIONS_PER_REQUEST_MAX;
        // Names that this very request makes, so that look-alikes among them are found too.
        let mut making: BTreeMap<String, String> = BTreeMap::new();
        let mut results = Vec::new();
        let mut placement = self.placement(image);
        for (topic, times) in each_once(topics, |topic| &topic.name) {
            let result = if times > 1 {
                let message = "Duplicate topic name.";
                Err(Refused::new(ErrorCode::InvalidRequest, message))
            } else {
                self.create_topic(topic, &mut placement, image, &mut making, &mut budget)
            };
            let result = result.map(|(mut created, mut made)| {
                if validate_only {
                    created.id = TopicId::ZERO;
                } else {
                    records.append(&mut made);
                }
                created
            });
            results.push((topic.name.clone(), result));
        }
        Decision {
            records,
            reply: ControlReply::CreateTopics(results),
        }
    }

    fn create_topic(
        &mut self,
        topic: &NewTopic,
        placement: &mut Placement<'_>,
        image: &Image,
        making: &mut BTreeMap<String, String>,
        budget: &mut usize,
    ) -> Result<(CreatedTopic, Vec<Record>), Refused> {
        self.check_name(topic, image, making)?;
        let configs = self.check_configs(topic, image)?;
        let assignment = self.assignment(topic, image, *budget)?;
        *budget -= assignment.len();
        if let Some(looks) = names::looks(&topic.name) {
            making.insert(looks, topic.name.clone());
        }
        let id = self.new_topic_id(image);
        let mut records = vec![Record::Topic {
            name: topic.name.clone(),
            id,
        }];
        records.extend(configs.iter().map(|(name, value)| Record::Config {
            resource_type: TOPIC_RESOURCE,
            resource_name: topic.name.clone(),
            name: name.clone(),
            value: Some(value.clone()),
        }));
        let created = CreatedTopic {
            name: topic.name.as_str().into(),
            id,
            partitions: assignment.len() as i32,
            replication_factor: assignment.first().map_or(0, |brokers| brokers.len() as i16),
            configs: self.layers(image).describe_topic(Some(&configs)),
        };
        let numbered = assignment.into_iter().enumerate();
        for (index, brokers) in numbered {
            let index = PartitionIndex(index as i32);
            records.push(new_partition(image, placement, (id, index), brokers)?);
        }
        Ok((created, records))
    }

    fn check_name(
        &self,
        topic: &NewTopic,
        image: &Image,
        making: &BTreeMap<String, String>,
    ) -> Result<(), Refused> {
        let name = &topic.name;
        if name == names::METADATA {
            let message = format!("Creation of internal topic {name} is prohibited.");
            return Err(Refused::new(ErrorCode::InvalidRequest, message));
        }
        if let Some(why) = names::refusal(name) {
            return Err(Refused::new(ErrorCode::InvalidTopicException, why));
        }
        if image.topic(name).is_some() {
            let message = format!("Topic '{name}' already exists.");
            return Err(Refused::new(ErrorCode::TopicAlreadyExists, message));
        }
        if self
            .deleting
            .iter()
            .any(|(_, deleting)| **deleting == **name)
        {
            let message = format!("Topic '{name}' is marked for deletion.");
            return Err(Refused::new(ErrorCode::TopicAlreadyExists, message));
        }
        let looks = names::looks(name);
        let twin = image.look_alike(name).or_else(|| {
            looks
                .and_then(|looks| making.get(&looks))
                .map(String::as_str)
        });
        match twin {
            None => Ok(()),
            Some(twin) => Err(Refused::new(
                ErrorCode::InvalidTopicException,
                format!("Topic '{name}' collides with existing topic: {twin}"),
            )),
        }
    }

    fn assignment(
        &self,
        topic: &NewTopic,
        image: &Image,
        budget: usize,
    ) -> Result<Assignment, Refused> {
        if !topic.assignments.is_empty() {
            check_count(topic.assignments.len(), budget)?;
            return manual_assignment(topic, image);
        }
        let settings = self.layers(image).broker_settings();
        let (factor, count) = (topic.replication_factor, topic.partitions);
        if factor == 0 || factor < -1 {
            let message =
                "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refused::new(ErrorCode::InvalidReplicationFactor, message));
        }
        if count == 0 || count < -1 {
            let message =
                "Number of partitions was set to an invalid non-positive value.".to_owned();
            return Err(Refused::new(ErrorCode::InvalidPartitions, message));
        }
        let factor = if factor == -1 {
            settings.default_replication_factor
        } else {
            factor
        };
        let count = if count == -1 {
            settings.num_partitions
        } else {
            count
        };
        check_count(count as usize, budget)?;
        let brokers: Vec<BrokerId> = image.active_brokers().collect();
        place(count as usize, 0, factor, &brokers)
    }

    fn check_configs(&self, topic: &NewTopic, image: &Image) -> Result<Configs, Refused> {
        let mut configs = Configs::new();
        for (name, value) in &topic.configs {
            let Some(value) = value else {
                let message = format!("Null value not supported for topic configs: {name}");
                return Err(Refused::new(ErrorCode::InvalidConfig, message));
            };
            check_size(value)?;
            configs.insert(name.clone(), value.clone());
        }
        let checked = self.layers(image).check_topic(&configs);
        checked.map_err(|error| Refused::new(ErrorCode::InvalidConfig, error.why))?;
        Ok(configs)
    }

    pub(super) fn delete_topics(&mut self, topics: &[TopicKey], image: &Image) -> Decision {
        let allowed = self.layers(image).broker_settings().delete_topics;
        let mut times: BTreeMap<&TopicKey, usize> = BTreeMap::new();
        for key in topics {
            *times.entry(key).or_default() += 1;
        }
        let mut records = Vec::new();
        let mut gone = BTreeSet::new();
        let mut results = Vec::new();
        for key in topics {
            // Kafka deletes nothing that is named twice, and answers it once.
            let Some(times) = times.remove(key) else {
                continue;
            };
            let found = find(key, allowed, times, image).and_then(|topic| {
                let again = "The provided topic name maps to an ID that was already supplied.";
                let again = Refused::new(ErrorCode::InvalidRequest, again);
                gone.insert(topic.id).then_some(topic).ok_or(again)
            });
            let result = found.map(|topic| {
                records.push(Record::RemoveTopic { id: topic.id });
                self.deleting.insert((topic.id, topic.name.clone()));
                (topic.name.clone(), topic.id)
            });
            results.push((key.clone(), result));
        }
        Decision {
            records,
            reply: ControlReply::DeleteTopics(results),
        }
    }

    pub(super) fn create_partitions(
        &mut self,
        topics: &[MorePartitions],
        validate_only: bool,
        image: &Image,
    ) -> Decision {
        let mut records = Vec::new();
        let mut results = Vec::new();
        let mut budget = PARTITIONS_PER_REQUEST_MAX;
        let mut placement = self.placement(image);
        for (topic, times) in each_once(topics, |topic| &topic.name) {
            let result = if times > 1 {
                let message = "Duplicate topic name.";
                Err(Refused::new(ErrorCode::InvalidRequest, message))
            } else {
                more_partitions(topic, &mut placement, image, budget)
            };
            let result = result.map(|mut made| {
                budget -= made.len();
                records.append(&mut made);
            });
            results.push((topic.name.clone(), result));
        }
        if validate_only {
            records.clear();
        }
        Decision {
            records,
            reply: ControlReply::CreatePartitions(results),
        }
    }
}

/// The topic that a deletion means; `times`: how often it is named.
fn find<'a>(
    key: &TopicKey,
    allowed: bool,
    times: usize,
    image: &'a Image,
) -> Result<&'a Arc<Topic>, Refused> {
    let plain = |error: ErrorCode| Refused::new(error, error.message());
    if !allowed {
        return Err(plain(ErrorCode::TopicDeletionDisabled));
    }
    if times > 1 {
        return Err(Refused::new(
            ErrorCode::InvalidRequest,
            "Duplicate topic name or id.",
        ));
    }
    match key {
        TopicKey::Name(name) => image
            .topic(name)
            .ok_or_else(|| plain(ErrorCode::UnknownTopicOrPartition)),
        TopicKey::Id(id) => image
            .topic_by_id(*id)
            .ok_or_else(|| plain(ErrorCode::UnknownTopicId)),
    }
}

/// Each item with how often its name comes, at its first place.
fn each_once<T>(items: &[T], name: impl Fn(&T) -> &String) -> Vec<(&T, usize)> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for item in items {
        *times.entry(name(item)).or_default() += 1;
    }
    let mut found = Vec::with_capacity(times.len());
    for item in items {
        found.extend(times.remove(name(item).as_str()).map(|times| (item, times)));
    }
    found
}

/// Refuses more partitions than the request may still make, before memory is taken for them.
fn check_count(count: usize, budget: usize) -> Result<(), Refused> {
    let most = PARTITIONS_PER_REQUEST_MAX;
    if count > most {
        let message = format!("{count} partitions in one request; at most {most} are allowed");
        return Err(Refused::new(ErrorCode::InvalidPartitions, message));
    }
    if count > budget {
        let message = format!("The request makes more than {most} partitions in all");
        return Err(Refused::new(ErrorCode::PolicyViolation, message));
    }
    Ok(())
}

/// A new partition, led by the first of its brokers that is active.
fn new_partition(
    image: &Image,
    placement: &mut Placement<'_>,
    (topic, partition): (TopicId, PartitionIndex),
    replicas: Vec<BrokerId>,
) -> Result<Record, Refused> {
    let broker = |id: &BrokerId| image.brokers().get(id);
    let is_active = |id: &&BrokerId| {
        broker(id).is_some_and(|broker| !broker.fenced && !broker.in_controlled_shutdown)
    };
    let isr: Vec<BrokerId> = replicas.iter().filter(is_active).copied().collect();
    if isr.is_empty() {
        let message = format!(
            "All brokers specified in the manual partition assignment for partition {partition} \
             are fenced or in controlled shutdown."
        );
        return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(Record::Partition(NewPartition {
        partition,
        topic,
        leader: isr.first().copied(),
        isr,
        removing: Vec::new(),
        adding: Vec::new(),
        recovering: false,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: 0,
        directories: replicas.iter().map(|id| placement.on(*id)).collect(),
        eligible_leaders: None,
        last_known_eligible: None,
        replicas,
    }))
}

/// Spreads replicas round the brokers, beginning one further for each partition.
fn place(
    count: usize,
    first: usize,
    factor: i16,
    brokers: &[BrokerId],
) -> Result<Assignment, Refused> {
    let factor = usize::try_from(factor).unwrap_or(0);
    if factor > brokers.len() || factor == 0 {
        let message = format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be reached because only {} broker(s) are registered.",
            brokers.len()
        );
        return Err(Refused::new(ErrorCode::InvalidReplicationFactor, message));
    }
    let replicas = |partition: usize| {
        (0..factor)
            .map(|replica| brokers[(partition + replica) % brokers.len()])
            .collect()
    };
    Ok((first..first + count).map(replicas).collect())
}

fn manual_assignment(topic: &NewTopic, image: &Image) -> Result<Assignment, Refused> {
    let refused = |error, message: String| Err(Refused::new(error, message));
    if topic.replication_factor != -1 {
        let message = "A manual partition assignment was specified, but replication factor was not set to -1.";
        return refused(ErrorCode::InvalidRequest, message.to_owned());
    }
    if topic.partitions != -1 {
        let message =
            "A manual partition assignment was specified, but numPartitions was not set to -1.";
        return refused(ErrorCode::InvalidRequest, message.to_owned());
    }
    let mut by_index = BTreeMap::new();
    for (index, brokers) in &topic.assignments {
        if by_index.insert(index.0, brokers.clone()).is_some() {
            let message =
                format!("Found multiple manual partition assignments for partition {index}");
            return refused(ErrorCode::InvalidReplicaAssignment, message);
        }
    }
    let consecutive = by_index.keys().copied().eq(0..by_index.len() as i32);
    if !consecutive {
        let message = "partitions should be a consecutive 0-based integer sequence".to_owned();
        return refused(ErrorCode::InvalidReplicaAssignment, message);
    }
    let assignment: Assignment = by_index.into_values().collect();
    let factor = assignment[0].len();
    for brokers in &assignment {
        check_brokers(brokers, factor, image)?;
    }
    Ok(assignment)
}

fn check_brokers(brokers: &[BrokerId], factor: usize, image: &Image) -> Result<(), Refused> {
    let refused = |message: String| Err(Refused::new(ErrorCode::InvalidReplicaAssignment, message));
    if brokers.is_empty() {
        return refused("The manual partition assignment includes an empty replica list.".into());
    }
    if brokers.len() != factor {
        return refused(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with previous partitions, which have {factor} replica(s).",
            brokers.len()
        ));
    }
    let mut seen = BTreeSet::new();
    for broker in brokers {
        if !image.brokers().contains_key(broker) {
            return refused(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
        if !seen.insert(*broker) {
            return refused(format!(
                "The manual partition assignment includes the broker {broker} more than once."
            ));
        }
    }
    Ok(())
}

fn more_partitions(
    wanted: &MorePartitions,
    placement: &mut Placement<'_>,
    image: &Image,
    budget: usize,
) -> Result<Vec<Record>, Refused> {
    let Some(topic) = image.topic(&wanted.name) else {
        let error = ErrorCode::UnknownTopicOrPartition;
        return Err(Refused::new(error, error.message()));
    };
    let current = topic.partitions.len();
    let invalid = |message: String| Err(Refused::new(ErrorCode::InvalidPartitions, message));
    let count = match usize::try_from(wanted.count) {
        Ok(count) if count == current => {
            return invalid(format!("Topic already has {current} partition(s)."));
        }
        Ok(count) if count > current => count,
        _ => {
            return invalid(format!(
                "The topic {} currently has {current} partition(s); {} would not be an increase.",
                wanted.name, wanted.count
            ));
        }
    };
    let added = count - current;
    check_count(added, budget)?;
    let factor = topic
        .partitions
        .first()
        .map_or(1, |partition| partition.replicas.len());
    let assignment = match &wanted.assignments {
        None => {
            let brokers: Vec<BrokerId> = image.active_brokers().collect();
            place(added, current, factor as i16, &brokers)?
        }
        Some(manual) if manual.len() != added => {
            return Err(Refused::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                    manual.len()
                ),
            ));
        }
        Some(manual) => {
            for brokers in manual {
                check_brokers(brokers, factor, image)?;
            }
            manual.clone()
        }
    };
    let numbered = assignment.into_iter().zip(current..);
    numbered
        .map(|(brokers, index)| {
            let index = PartitionIndex(index as i32);
            new_partition(image, placement, (topic.id, index), brokers)
        })
        .collect()
}
