//! A cluster: who its brokers are, who leads a partition, and trying again.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::{ClientError, Connection};
use crate::base::{BrokerId, PartitionIndex};
use crate::protocol::ErrorCode;
use crate::protocol::messages::metadata_request::MetadataRequestTopic;
use crate::protocol::messages::metadata_response::MetadataResponseTopic;
use crate::protocol::messages::{MetadataRequest, MetadataResponse, StrBytes, TopicName};

/// The first pause before another try; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to begin: `HOST:PORT`s, tried in order.
    pub bootstrap: Vec<String>,
    /// What the client calls itself.
    pub client_id: StrBytes,
    /// How long a request, all its tries together, may take.
    pub timeout: Duration,
}

/// A topic as the cluster describes it.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id as text; all zeros from brokers that know no ids.
    pub id: String,
    /// True for the cluster's own topics.
    pub is_internal: bool,
    /// Its partitions, in order.
    pub partitions: Vec<Partition>,
}

/// A partition as the cluster describes it.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its number.
    pub index: PartitionIndex,
    /// Who leads it; none at the moment if negative.
    pub leader: BrokerId,
    /// The leader's epoch, -1 if not told.
    pub leader_epoch: i32,
    /// Who has it.
    pub replicas: Vec<i32>,
    /// Who has all of it.
    pub in_sync: Vec<i32>,
}

/// A connection to each broker that was needed so far.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    brokers: BTreeMap<BrokerId, String>,
    controller: Option<BrokerId>,
    connections: BTreeMap<BrokerId, Connection>,
    bootstrap: Option<Connection>,
}

/// The enum for a code on the wire.
pub fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

impl Client {
    /// A client without a connection.
    pub fn new(settings: Settings) -> Client {
        Client {
            settings,
            brokers: BTreeMap::new(),
            controller: None,
            connections: BTreeMap::new(),
            bootstrap: None,
        }
    }

    /// How long a request may take.
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The same in milliseconds, for requests that carry it.
    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(self.settings.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Tries `attempt` until it succeeds, fails for good, or the time is up. After a failure, all
    /// connections are made anew and leaders are asked for again.
    pub fn retrying<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + self.settings.timeout;
        let mut pause = PAUSE_MIN;
        loop {
            let error = match attempt(self) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !error.is_retriable() {
                return Err(error);
            }
            if Instant::now() + pause >= deadline {
                let after = self.settings.timeout;
                let last = Box::new(error);
                return Err(ClientError::TimedOut { after, last });
            }
            tracing::debug!(%error, "trying again");
            self.forget();
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Drops all connections.
    fn forget(&mut self) {
        self.connections.clear();
        self.bootstrap = None;
        self.controller = None;
    }

    /// A connection to any broker.
    pub fn any(&mut self) -> Result<&mut Connection, ClientError> {
        if self.bootstrap.is_none() {
            let mut found = Err(ClientError::Unreachable {
                address: "nothing".to_owned(),
                source: std::io::Error::other("no broker was named"),
            });
            for address in &self.settings.bootstrap {
                found = self.settings.open(address);
                if found.is_ok() {
                    break;
                }
            }
            self.bootstrap = Some(found?);
        }
        Ok(self.bootstrap.as_mut().expect("it was just made"))
    }

    /// A connection to the broker `id`, which some metadata named.
    pub fn broker(&mut self, id: BrokerId) -> Result<&mut Connection, ClientError> {
        if !self.connections.contains_key(&id) {
            let Some(address) = self.brokers.get(&id) else {
                let error = ErrorCode::BrokerNotAvailable;
                return Err(ClientError::refused(format!("broker {id}"), error, None));
            };
            let connection = self.settings.open(address)?;
            self.connections.insert(id, connection);
        }
        Ok(self.connections.get_mut(&id).expect("it is there"))
    }

    /// The brokers that there are now.
    pub fn broker_ids(&mut self) -> Result<Vec<BrokerId>, ClientError> {
        self.describe(Some(&[]))?;
        Ok(self.brokers.keys().copied().collect())
    }

    /// A broker listens here, as another one said.
    pub(super) fn learn(&mut self, id: BrokerId, host: &str, port: i32) {
        self.brokers.insert(id, place(host, port));
    }

    /// Where the broker `id`, which some metadata named, is to be reached.
    pub fn address(&self, id: BrokerId) -> Option<&str> {
        self.brokers.get(&id).map(String::as_str)
    }

    /// A connection to the broker that changes topics.
    pub fn controller(&mut self) -> Result<&mut Connection, ClientError> {
        if self.controller.is_none() {
            self.describe(Some(&[]))?;
        }
        match self.controller {
            Some(id) => self.broker(id),
            None => self.any(),
        }
    }

    /// The topics of these names, or all; each with its own error.
    pub fn topics(
        &mut self,
        names: Option<&[String]>,
    ) -> Result<Vec<Result<Topic, ClientError>>, ClientError> {
        let response = self.describe(names)?;
        let topics = response.topics.iter();
        let mut topics: Vec<_> = topics.filter_map(topic).collect();
        topics.sort_by(|a, b| name_in(a).cmp(name_in(b)));
        Ok(topics)
    }

    /// The topic of this name.
    pub fn topic(&mut self, name: &str) -> Result<Topic, ClientError> {
        let mut topics = self.topics(Some(&[name.to_owned()]))?;
        let missing = || Err(ClientError::NoSuchTopic(name.to_owned()));
        topics.pop().unwrap_or_else(missing)
    }

    fn describe(&mut self, names: Option<&[String]>) -> Result<MetadataResponse, ClientError> {
        let topic = |name: &String| {
            let name = TopicName(StrBytes::from_string(name.clone()));
            MetadataRequestTopic::default().with_name(Some(name))
        };
        let topics = names.map(|names| names.iter().map(topic).collect());
        let request = MetadataRequest::default()
            .with_topics(topics)
            .with_allow_auto_topic_creation(false);
        let connection = self.any()?;
        let response = connection.call(&request, i16::MAX)?;
        let brokers = response.brokers.iter();
        self.brokers = brokers
            .map(|broker| (BrokerId(broker.node_id.0), place(&broker.host, broker.port)))
            .collect();
        let controller = BrokerId(response.controller_id.0);
        self.controller = self.brokers.contains_key(&controller).then_some(controller);
        Ok(response)
    }
}

impl Settings {
    fn open(&self, address: &str) -> Result<Connection, ClientError> {
        Connection::open(address, &self.client_id, self.timeout)
    }
}

fn place(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn name_in(topic: &Result<Topic, ClientError>) -> &str {
    match topic {
        Ok(topic) => &topic.name,
        Err(_) => "",
    }
}

fn topic(told: &MetadataResponseTopic) -> Option<Result<Topic, ClientError>> {
    let name = told.name.as_ref()?.0.to_string();
    if told.error_code != 0 {
        return Some(Err(match error_of(told.error_code) {
            ErrorCode::UnknownTopicOrPartition => ClientError::NoSuchTopic(name),
            error => ClientError::refused(format!("topic {name}"), error, None),
        }));
    }
    let ids = |nodes: &[crate::protocol::messages::BrokerId]| {
        let ids = nodes.iter().map(|node| node.0);
        ids.collect::<Vec<i32>>()
    };
    let mut partitions: Vec<_> = told
        .partitions
        .iter()
        .map(|partition| Partition {
            index: PartitionIndex(partition.partition_index),
            leader: BrokerId(partition.leader_id.0),
            leader_epoch: partition.leader_epoch,
            replicas: ids(&partition.replica_nodes),
            in_sync: ids(&partition.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    Some(Ok(Topic {
        name,
        id: told.topic_id.to_string(),
        is_internal: told.is_internal,
        partitions,
    }))
}
