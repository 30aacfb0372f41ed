//! The topic that is measured: made, asked about, deleted; and what a plan must know of the cluster.

use std::collections::BTreeMap;

use super::super::Failed;
use super::super::client::{Client, ClientError, Topic, error_of, take_identity};
use super::arguments::Load;
use crate::base::{BrokerId, Offset, PartitionIndex, ProducerEpoch, ProducerId};
use crate::bench::{ConsumerPlan, Pace, ProducerPlan, Role};
use crate::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use crate::protocol::messages::delete_topics_request::DeleteTopicState;
use crate::protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, StrBytes, TopicName};
use crate::protocol::{ApiKey, ErrorCode, fetch, produce};

/// Versions below this have bodies whose lengths can be patched, and topics by name.
const PRODUCE_VERSION_MAX: i16 = 8;
const FETCH_VERSION_MAX: i16 = 12;
const ANSWER_BYTES_MAX: i32 = 50 << 20;

/// Offsets by partition.
pub(super) type Offsets = BTreeMap<PartitionIndex, Offset>;

/// The topic of a run.
pub(super) struct Target {
    client: Client,
    topic: Topic,
    /// True if it was made for this run and goes with it.
    is_own: bool,
}

impl Target {
    /// Finds the topic, or makes it.
    pub(super) fn find(load: &Load, partitions: i32) -> Result<Target, Failed> {
        let mut client = load.broker.client();
        let own = || format!("corelane-bench-{:08x}", super::random());
        let name = load.topic.clone().unwrap_or_else(own);
        let known = client.retrying(|client| match client.topic(&name) {
            Ok(topic) => Ok(Some(topic)),
            Err(ClientError::NoSuchTopic(_)) => Ok(None),
            Err(error) => Err(error),
        })?;
        let topic = match known {
            Some(topic) => topic,
            None => {
                create(&mut client, &name, partitions, &load.configs)?;
                client.retrying(|client| settled(client, &name))?
            }
        };
        Ok(Target {
            client,
            topic,
            is_own: load.topic.is_none(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.topic.name
    }

    pub(super) fn partitions(&self) -> usize {
        self.topic.partitions.len()
    }

    /// `HOST:PORT` of a broker of the cluster.
    pub(super) fn any_address(&self) -> Result<String, Failed> {
        let (address, _) = self.led().into_iter().next().unwrap_or_default();
        match address.is_empty() {
            true => Err(Failed::operation("the topic has no leader")),
            false => Ok(address),
        }
    }

    /// Partitions by the address of who leads them.
    fn led(&self) -> BTreeMap<String, Vec<PartitionIndex>> {
        let mut led: BTreeMap<String, Vec<PartitionIndex>> = BTreeMap::new();
        for partition in &self.topic.partitions {
            let address = self.client.address(partition.leader).unwrap_or_default();
            led.entry(address.to_owned())
                .or_default()
                .push(partition.index);
        }
        led
    }

    fn leader(&self) -> BrokerId {
        let first = self.topic.partitions.first();
        first.map_or(BrokerId(-1), |partition| partition.leader)
    }

    /// First offset (`false`) or end (`true`) of every partition.
    pub(super) fn offsets(&mut self, end: bool) -> Result<Offsets, Failed> {
        let all: Vec<_> = self.topic.partitions.iter().map(|p| p.index).collect();
        let topic = &self.topic;
        let when = if end { -1 } else { -2 };
        let offsets = self
            .client
            .retrying(|client| client.offsets(topic, &all, when))?;
        Ok(offsets)
    }

    fn version(&mut self, key: ApiKey, least: i16, most: i16) -> Result<i16, Failed> {
        let leader = self.leader();
        let version = self
            .client
            .retrying(|client| client.broker(leader)?.version(key, least, most))?;
        Ok(version)
    }

    /// `count` connections that write, spread over the leaders.
    pub(super) fn producers(
        &mut self,
        load: &Load,
        count: usize,
        pace: impl Fn(usize) -> Pace,
    ) -> Result<Vec<ProducerPlan>, Failed> {
        let version = self
            .version(ApiKey::Produce, produce::VERSION_MIN, PRODUCE_VERSION_MAX)
            .or_else(|_| self.version(ApiKey::Produce, produce::VERSION_MIN, 12))?;
        let led: Vec<_> = self.led().into_iter().collect();
        let mut plans = Vec::new();
        for index in 0..count {
            let (address, partitions) = &led[index % led.len()];
            let mut partitions = partitions.clone();
            // Each begins elsewhere, so that they do not all write to one partition at a time.
            let places = partitions.len();
            partitions.rotate_left(index * places / count.max(1) % places);
            plans.push(ProducerPlan {
                address: address.clone(),
                id: index as u32,
                partitions,
                version,
                acks: load.acks(),
                identity: self.identity(load)?,
                pace: pace(index),
                in_flight: load.in_flight.max(1),
                partitions_per_request: load.partitions_per_request.clamp(1, places),
                records_max: None,
            });
        }
        Ok(plans)
    }

    fn identity(&mut self, load: &Load) -> Result<Option<(ProducerId, ProducerEpoch)>, Failed> {
        // As in Kafka's clients, an idempotent producer has five requests in flight at most.
        if load.no_idempotence || load.acks() != -1 || load.in_flight > 5 {
            return Ok(None);
        }
        Ok(Some(self.client.retrying(take_identity)?))
    }

    /// One reader of everything from `from` to `until`, on up to `connections` connections for each
    /// leader.
    pub(super) fn reader(
        &mut self,
        load: &Load,
        connections: usize,
        role: Role,
        (from, until): (&Offsets, &Offsets),
        from_first: bool,
    ) -> Result<Vec<ConsumerPlan>, Failed> {
        let version = self.version(ApiKey::Fetch, fetch::VERSION_MIN, FETCH_VERSION_MAX)?;
        let mut plans = Vec::new();
        for (address, partitions) in self.led() {
            let size = partitions.len().div_ceil(connections.max(1));
            for share in partitions.chunks(size) {
                let at = |offsets: &Offsets, index| offsets.get(&index).copied();
                let position = |index: &PartitionIndex| {
                    let from = at(from, *index).unwrap_or_default();
                    (*index, from, at(until, *index).unwrap_or_default())
                };
                plans.push(ConsumerPlan {
                    address: address.clone(),
                    version,
                    positions: share.iter().map(position).collect(),
                    role,
                    partition_bytes_max: load.fetch_bytes,
                    answer_bytes_max: ANSWER_BYTES_MAX,
                    bytes_min: load.fetch_min_bytes,
                    wait: std::time::Duration::from_millis(load.fetch_wait),
                    from_first,
                });
            }
        }
        Ok(plans)
    }

    /// Deletes the topic if it was made for this run.
    pub(super) fn leave(mut self) -> Result<(), Failed> {
        if !self.is_own {
            return Ok(());
        }
        let name = TopicName(StrBytes::from_string(self.topic.name.clone()));
        let state = DeleteTopicState::default().with_name(Some(name.clone()));
        let request = DeleteTopicsRequest::default()
            .with_topic_names(vec![name])
            .with_timeout_ms(self.client.timeout_ms());
        let by_state = DeleteTopicsRequest::default()
            .with_topics(vec![state])
            .with_timeout_ms(self.client.timeout_ms());
        // From version 6 on topics are named in another field.
        let response = self.client.retrying(|client| {
            let connection = client.controller()?;
            match connection.version(ApiKey::DeleteTopics, 6, i16::MAX) {
                Ok(_) => connection.call(&by_state, i16::MAX),
                Err(_) => connection.call(&request, 5),
            }
        })?;
        let code = response.responses.first().map_or(0, |told| told.error_code);
        match error_of(code) {
            ErrorCode::None => Ok(()),
            error => Err(Failed::operation(format!(
                "the topic {} stays: {error}",
                self.topic.name
            ))),
        }
    }
}

fn create(
    client: &mut Client,
    name: &str,
    partitions: i32,
    configs: &[String],
) -> Result<(), Failed> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let mut settings = Vec::new();
    for config in configs {
        let (key, value) = config
            .split_once('=')
            .ok_or_else(|| Failed::usage(format!("--config {config}: KEY=VALUE is wanted")))?;
        settings.push(
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value))),
        );
    }
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(settings);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(client.timeout_ms());
    client.retrying(|client| {
        let response = client.controller()?.call(&request, i16::MAX)?;
        let told = response.topics.first();
        let code = told.map_or(ErrorCode::UnknownServerError, |told| {
            error_of(told.error_code)
        });
        match code {
            ErrorCode::None | ErrorCode::TopicAlreadyExists => Ok(()),
            error => {
                let words = told.and_then(|told| told.error_message.as_deref());
                Err(ClientError::refused(
                    format!("create topic {name}"),
                    error,
                    words,
                ))
            }
        }
    })?;
    Ok(())
}

/// The topic once all its partitions have leaders that serve it.
fn settled(client: &mut Client, name: &str) -> Result<Topic, ClientError> {
    let again = |error| ClientError::refused(format!("topic {name}"), error, None);
    let topic = match client.topic(name) {
        Err(ClientError::NoSuchTopic(_)) => {
            return Err(again(ErrorCode::LeaderNotAvailable));
        }
        told => told?,
    };
    if topic
        .partitions
        .iter()
        .any(|partition| partition.leader.0 < 0)
    {
        return Err(again(ErrorCode::LeaderNotAvailable));
    }
    let all: Vec<_> = topic.partitions.iter().map(|p| p.index).collect();
    client.offsets(&topic, &all, -1)?;
    Ok(topic)
}
