//! The image of the cluster: what the metadata log says, as of one offset.
//!
//! An [`Image`] is a projection of records and changes only by [`Image::apply`]. A clone costs a
//! few pointers and shares everything; the owner (core 0) applies to its own and hands clones in an
//! `Arc` to the other cores. Knows no disk, no clients and no rules: whether a change is allowed is
//! the controller's business. Invariants: a topic's partitions are numbered from 0 without a gap;
//! the index of names and that of ids hold the same topics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::base::{
    BrokerId, CoreId, LeaderEpoch, Offset, PartitionIndex, Prng, ProducerId, TopicId,
};

use super::records::{NewPartition, PartitionChange, Record, RegisterBroker, UNASSIGNED_DIRECTORY};
use super::shared_map::SharedMap;

/// What a config belongs to. Numbers are Kafka's (`ConfigResource.Type`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A topic (2), by name.
    Topic(String),
    /// One broker (4).
    Broker(BrokerId),
    /// The dynamic default of all brokers (4 with an empty name).
    BrokerDefault,
}

/// Kafka's number of the topic resource.
const TOPIC: i8 = 2;
/// Kafka's number of the broker resource.
const BROKER: i8 = 4;

impl Resource {
    /// The resource that Kafka's type number and name mean; none if it is of another type, or a
    /// broker's name is not a number from 0.
    pub fn from_kafka(resource_type: i8, name: &str) -> Option<Resource> {
        match resource_type {
            TOPIC => Some(Resource::Topic(name.to_owned())),
            BROKER if name.is_empty() => Some(Resource::BrokerDefault),
            BROKER => {
                let id = name.parse().ok().filter(|id| *id >= 0)?;
                Some(Resource::Broker(BrokerId(id)))
            }
            _ => None,
        }
    }

    /// Kafka's type number and name.
    pub fn to_kafka(&self) -> (i8, String) {
        match self {
            Resource::Topic(name) => (TOPIC, name.clone()),
            Resource::Broker(id) => (BROKER, id.to_string()),
            Resource::BrokerDefault => (BROKER, String::new()),
        }
    }
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its UUID.
    pub id: TopicId,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
}

impl Topic {
    /// The partition with this number, if there is one.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// True for Kafka's own topics (apache/kafka `Topic.isInternal`).
    pub fn is_internal(&self) -> bool {
        super::names::is_internal(&self.name)
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are in sync.
    pub isr: Vec<BrokerId>,
    /// Replicas on their way out.
    pub removing: Vec<BrokerId>,
    /// Replicas on their way in.
    pub adding: Vec<BrokerId>,
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// The term of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes.
    pub partition_epoch: i32,
    /// True while it recovers from an unclean election.
    pub recovering: bool,
    /// The data directory on each replica.
    pub directories: Vec<TopicId>,
    /// Replicas that may lead although they are not in sync.
    pub eligible_leaders: Vec<BrokerId>,
    /// The last of those that were known.
    pub last_known_eligible: Vec<BrokerId>,
}

/// Config names and values of one resource.
pub type Configs = BTreeMap<String, String>;

/// Why a record does not fit the image: the log is damaged, or not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// A record about a topic that is not there.
    UnknownTopic(TopicId),
    /// A topic's name or id is taken.
    TopicExists(String),
    /// A partition that neither is there nor is the next one.
    PartitionOutOfOrder {
        /// Its topic.
        topic: TopicId,
        /// Its number.
        partition: PartitionIndex,
        /// How many there are.
        count: usize,
    },
    /// A record about a broker that is not registered.
    UnknownBroker(BrokerId),
    /// A config of a type of resource that is not known here.
    UnknownResource {
        /// Kafka's number of the type.
        resource_type: i8,
        /// The name.
        name: String,
    },
    /// The next producer id would go backwards.
    ProducerIdBackwards {
        /// The next one so far.
        from: ProducerId,
        /// The record's.
        to: ProducerId,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::UnknownTopic(id) => write!(f, "no topic has the id {id}"),
            ApplyError::TopicExists(name) => write!(f, "topic {name} is there already"),
            ApplyError::PartitionOutOfOrder {
                topic,
                partition,
                count,
            } => {
                write!(
                    f,
                    "topic {topic} has {count} partitions: {partition} does not follow"
                )
            }
            ApplyError::UnknownBroker(id) => write!(f, "broker {id} is not registered"),
            ApplyError::UnknownResource {
                resource_type,
                name,
            } => {
                write!(
                    f,
                    "configs of an unknown resource: type {resource_type}, name {name:?}"
                )
            }
            ApplyError::ProducerIdBackwards { from, to } => {
                write!(f, "the next producer id went back from {from} to {to}")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

/// The cluster as of one offset of the metadata log.
#[derive(Clone, Debug, Default)]
pub struct Image {
    topics: SharedMap<TopicId, Arc<Topic>>,
    names: SharedMap<Arc<str>, TopicId>,
    /// Names that contain `.` or `_`, by what they look like when those are the same.
    look_alikes: SharedMap<String, Vec<Arc<str>>>,
    configs: SharedMap<Resource, Arc<Configs>>,
    brokers: Arc<BTreeMap<BrokerId, RegisterBroker>>,
    features: Arc<BTreeMap<String, i16>>,
    partition_count: usize,
    /// How many partitions each data directory holds.
    directories: Arc<BTreeMap<TopicId, usize>>,
    next_producer_id: ProducerId,
    applied: Option<Offset>,
}

/// Where partition 0 of a topic goes, and so its others: see [`Image::owner`].
fn start(topic: TopicId) -> u64 {
    let bits = u128::from_be_bytes(topic.0);
    Prng::new((bits >> 64) as u64 ^ bits as u64).next_u64()
}

impl Image {
    /// The core that owns a partition when there are `cores` (1 or more): the topic's id picks a
    /// start, partitions follow round the cores. Nothing on disk depends on it.
    pub fn owner(topic: TopicId, partition: PartitionIndex, cores: u16) -> CoreId {
        assert!(cores > 0, "a node has at least one core");
        let place = start(topic).wrapping_add(u64::from(partition.0.unsigned_abs()));
        CoreId((place % u64::from(cores)) as u16)
    }

    /// The offset of the last record applied; none before the first.
    pub fn applied(&self) -> Option<Offset> {
        self.applied
    }

    /// The topic with this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// All topics, in an order that is fixed but not sorted.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter().map(|(_, topic)| topic)
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions all topics have together.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// How many partitions the data directory with this id holds.
    pub fn partitions_in(&self, directory: TopicId) -> usize {
        self.directories.get(&directory).copied().unwrap_or(0)
    }

    fn count_directories(&mut self, partition: &Partition, there: bool) {
        let counts = Arc::make_mut(&mut self.directories);
        for directory in &partition.directories {
            let count = counts.entry(*directory).or_default();
            *count = if there {
                *count + 1
            } else {
                count.saturating_sub(1)
            };
            if *count == 0 {
                counts.remove(directory);
            }
        }
    }

    /// An existing topic that `name` cannot be told from where `.` and `_` are the same
    /// (apache/kafka `Topic.hasCollision`); `name` itself may be the one.
    pub fn look_alike(&self, name: &str) -> Option<&str> {
        let looks = super::names::looks(name)?;
        self.look_alikes.get(&looks)?.first().map(|name| &**name)
    }

    /// The configs set on a resource; none if none is set.
    pub fn configs(&self, resource: &Resource) -> Option<&Configs> {
        self.configs.get(resource).map(|configs| &**configs)
    }

    /// All resources on which configs are set, in a fixed order.
    pub fn configured(&self) -> impl Iterator<Item = (&Resource, &Configs)> {
        self.configs
            .iter()
            .map(|(resource, configs)| (resource, &**configs))
    }

    /// The brokers, by id.
    pub fn brokers(&self) -> &BTreeMap<BrokerId, RegisterBroker> {
        &self.brokers
    }

    /// The brokers that may lead: neither fenced nor shutting down.
    pub fn active_brokers(&self) -> impl Iterator<Item = BrokerId> {
        let active = |broker: &&RegisterBroker| !broker.fenced && !broker.in_controlled_shutdown;
        self.brokers
            .values()
            .filter(active)
            .map(|broker| broker.broker)
    }

    /// The finalised features with their levels.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The first producer id that has not been given away.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Applies the record at `offset` of the metadata log. On an error nothing has changed.
    pub fn apply(&mut self, offset: Offset, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::Topic { name, id } => self.add_topic(name, *id)?,
            Record::Partition(partition) => self.add_partition(partition)?,
            Record::PartitionChange(change) => self.change_partition(change)?,
            Record::RemoveTopic { id } => self.remove_topic(*id)?,
            Record::Config {
                resource_type,
                resource_name,
                name,
                value,
            } => {
                self.set_config(*resource_type, resource_name, name, value.as_deref())?;
            }
            Record::FeatureLevel { name, level } => {
                let features = Arc::make_mut(&mut self.features);
                match level {
                    0 => features.remove(name),
                    level => features.insert(name.clone(), *level),
                };
            }
            Record::ProducerIds { next, .. } => {
                let from = self.next_producer_id;
                if *next < from {
                    return Err(ApplyError::ProducerIdBackwards { from, to: *next });
                }
                self.next_producer_id = *next;
            }
            Record::RegisterBroker(broker) => {
                Arc::make_mut(&mut self.brokers).insert(broker.broker, broker.clone());
            }
            Record::UnregisterBroker { broker, .. } => {
                self.broker(*broker)?;
                Arc::make_mut(&mut self.brokers).remove(broker);
            }
            Record::BrokerChange {
                broker,
                fenced,
                in_controlled_shutdown,
                ..
            } => {
                let broker = self.broker(*broker)?;
                broker.fenced = fenced.unwrap_or(broker.fenced);
                broker.in_controlled_shutdown |= in_controlled_shutdown;
            }
            Record::NoOp => {}
        }
        self.applied = Some(offset);
        Ok(())
    }

    fn broker(&mut self, id: BrokerId) -> Result<&mut RegisterBroker, ApplyError> {
        let unknown = ApplyError::UnknownBroker(id);
        Arc::make_mut(&mut self.brokers).get_mut(&id).ok_or(unknown)
    }

    fn add_topic(&mut self, name: &str, id: TopicId) -> Result<(), ApplyError> {
        if self.names.get(name).is_some() || self.topics.get(&id).is_some() {
            return Err(ApplyError::TopicExists(name.to_owned()));
        }
        let name: Arc<str> = Arc::from(name);
        self.names.insert(name.clone(), id);
        if let Some(looks) = super::names::looks(&name) {
            let mut alike = self.look_alikes.get(&looks).cloned().unwrap_or_default();
            alike.push(name.clone());
            self.look_alikes.insert(looks, alike);
        }
        self.topics.insert(
            id,
            Arc::new(Topic {
                name,
                id,
                partitions: Vec::new(),
            }),
        );
        Ok(())
    }

    fn remove_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self
            .topics
            .remove(&id)
            .ok_or(ApplyError::UnknownTopic(id))?;
        self.names.remove(&*topic.name);
        self.configs
            .remove(&Resource::Topic(topic.name.to_string()));
        self.partition_count -= topic.partitions.len();
        for partition in &topic.partitions {
            self.count_directories(partition, false);
        }
        if let Some(looks) = super::names::looks(&topic.name) {
            let mut alike = self.look_alikes.remove(&looks).unwrap_or_default();
            alike.retain(|name| *name != topic.name);
            if !alike.is_empty() {
                self.look_alikes.insert(looks, alike);
            }
        }
        Ok(())
    }

    fn add_partition(&mut self, new: &NewPartition) -> Result<(), ApplyError> {
        let shared = self.topics.get_mut(&new.topic);
        let shared = shared.ok_or(ApplyError::UnknownTopic(new.topic))?;
        let count = shared.partitions.len();
        let index = usize::try_from(new.partition.0)
            .ok()
            .filter(|index| *index <= count);
        let Some(index) = index else {
            let (topic, partition) = (new.topic, new.partition);
            return Err(ApplyError::PartitionOutOfOrder {
                topic,
                partition,
                count,
            });
        };
        let partition = Partition {
            replicas: new.replicas.clone(),
            isr: new.isr.clone(),
            removing: new.removing.clone(),
            adding: new.adding.clone(),
            leader: new.leader,
            leader_epoch: new.leader_epoch,
            partition_epoch: new.partition_epoch,
            recovering: new.recovering,
            directories: new.directories.clone(),
            eligible_leaders: new.eligible_leaders.clone().unwrap_or_default(),
            last_known_eligible: new.last_known_eligible.clone().unwrap_or_default(),
        };
        let topic = Arc::make_mut(shared);
        if index < count {
            let before = std::mem::replace(&mut topic.partitions[index], partition.clone());
            self.count_directories(&before, false);
        } else {
            topic.partitions.push(partition.clone());
            self.partition_count += 1;
        }
        self.count_directories(&partition, true);
        Ok(())
    }

    fn change_partition(&mut self, change: &PartitionChange) -> Result<(), ApplyError> {
        let shared = self.topics.get_mut(&change.topic);
        let shared = shared.ok_or(ApplyError::UnknownTopic(change.topic))?;
        if shared.partition(change.partition).is_none() {
            let (topic, partition) = (change.topic, change.partition);
            let count = shared.partitions.len();
            return Err(ApplyError::PartitionOutOfOrder {
                topic,
                partition,
                count,
            });
        }
        let topic = Arc::make_mut(shared);
        let partition = &mut topic.partitions[change.partition.0 as usize];
        let before = partition.clone();
        merge(partition, change);
        let after = partition.clone();
        if after.directories != before.directories {
            self.count_directories(&before, false);
            self.count_directories(&after, true);
        }
        Ok(())
    }

    fn set_config(
        &mut self,
        resource_type: i8,
        resource_name: &str,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), ApplyError> {
        let Some(resource) = Resource::from_kafka(resource_type, resource_name) else {
            let name = resource_name.to_owned();
            return Err(ApplyError::UnknownResource {
                resource_type,
                name,
            });
        };
        let mut configs = self.configs.remove(&resource).unwrap_or_default();
        match value {
            Some(value) => Arc::make_mut(&mut configs).insert(name.to_owned(), value.to_owned()),
            None => Arc::make_mut(&mut configs).remove(name),
        };
        if !configs.is_empty() {
            self.configs.insert(resource, configs);
        }
        Ok(())
    }

    /// The records from which an empty image becomes this one: a snapshot. The metadata version
    /// comes first, as Kafka wants it.
    pub fn to_records(&self) -> Vec<Record> {
        let level = |(name, level): (&String, &i16)| Record::FeatureLevel {
            name: name.clone(),
            level: *level,
        };
        let (first, others): (Vec<_>, Vec<_>) = self
            .features
            .iter()
            .partition(|(name, _)| *name == "metadata.version");
        let mut records: Vec<Record> = first.into_iter().chain(others).map(level).collect();
        records.extend(self.brokers.values().cloned().map(Record::RegisterBroker));
        for topic in self.topics() {
            records.push(Record::Topic {
                name: topic.name.to_string(),
                id: topic.id,
            });
            let indexed = topic.partitions.iter().enumerate();
            records.extend(indexed.map(|(index, partition)| {
                Record::Partition(partition.to_record(topic.id, PartitionIndex(index as i32)))
            }));
        }
        for (resource, configs) in self.configured() {
            let (resource_type, resource_name) = resource.to_kafka();
            records.extend(configs.iter().map(|(name, value)| Record::Config {
                resource_type,
                resource_name: resource_name.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            }));
        }
        if self.next_producer_id > ProducerId(0) {
            let (broker, next) = (BrokerId(-1), self.next_producer_id);
            records.push(Record::ProducerIds {
                broker,
                broker_epoch: -1,
                next,
            });
        }
        records
    }
}

impl Partition {
    /// The id of the data directory that holds it on `broker`; none if that is not known yet.
    pub fn directory_on(&self, broker: BrokerId) -> Option<TopicId> {
        let place = self
            .replicas
            .iter()
            .position(|replica| *replica == broker)?;
        let directory = self.directories.get(place).copied()?;
        (directory != UNASSIGNED_DIRECTORY).then_some(directory)
    }

    fn to_record(&self, topic: TopicId, partition: PartitionIndex) -> NewPartition {
        let unless_empty = |brokers: &Vec<BrokerId>| (!brokers.is_empty()).then(|| brokers.clone());
        NewPartition {
            partition,
            topic,
            replicas: self.replicas.clone(),
            isr: self.isr.clone(),
            removing: self.removing.clone(),
            adding: self.adding.clone(),
            leader: self.leader,
            recovering: self.recovering,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
            directories: self.directories.clone(),
            eligible_leaders: unless_empty(&self.eligible_leaders),
            last_known_eligible: unless_empty(&self.last_known_eligible),
        }
    }
}

/// A change of the leader, even to itself, begins a new term; any change counts up the partition
/// epoch (apache/kafka `PartitionRegistration.merge`).
fn merge(partition: &mut Partition, change: &PartitionChange) {
    if let Some(leader) = change.leader {
        partition.leader = leader;
        partition.leader_epoch = LeaderEpoch(partition.leader_epoch.0.saturating_add(1));
    }
    let replace = |field: &mut Vec<BrokerId>, value: &Option<Vec<BrokerId>>| {
        if let Some(value) = value {
            field.clone_from(value);
        }
    };
    replace(&mut partition.isr, &change.isr);
    replace(&mut partition.replicas, &change.replicas);
    replace(&mut partition.removing, &change.removing);
    replace(&mut partition.adding, &change.adding);
    replace(&mut partition.eligible_leaders, &change.eligible_leaders);
    replace(
        &mut partition.last_known_eligible,
        &change.last_known_eligible,
    );
    if let Some(directories) = &change.directories {
        partition.directories.clone_from(directories);
    }
    partition.recovering = change.recovering.unwrap_or(partition.recovering);
    partition.partition_epoch = partition.partition_epoch.saturating_add(1);
}

impl PartialEq for Image {
    /// The same cluster; the offsets may differ.
    fn eq(&self, other: &Image) -> bool {
        self.topics == other.topics
            && self.configs == other.configs
            && self.brokers == other.brokers
            && self.features == other.features
            && self.next_producer_id == other.next_producer_id
    }
}

#[cfg(test)]
mod tests;
