//! `corelane topic`: create, list, describe, alter and delete.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{Client, ClientError, Topic, error_of};
use super::connect::Broker;
use super::{Failed, table};
use crate::base::PartitionIndex;
use crate::protocol::ErrorCode;
use crate::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use crate::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use crate::protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, StrBytes, TopicName,
};

/// A topic, among the kinds of resources that have configs (apache/kafka `ConfigResource`).
const TOPIC_RESOURCE: i8 = 2;
/// A config that was set for the topic itself (apache/kafka `ConfigSource`).
const SET_FOR_TOPIC: i8 = 1;

/// What to do with topics.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Create a topic
    Create(Create),
    /// List topics
    List(List),
    /// Show a topic's partitions, offsets and configs
    Describe(Describe),
    /// Add partitions to a topic, or change its configs
    Alter(Alter),
    /// Delete topics with everything in them
    Delete(Delete),
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  corelane topic create orders
  corelane topic create orders --partitions 6 --config retention.ms=86400000
  corelane topic create prices --config cleanup.policy=compact --if-not-exists")]
pub struct Create {
    /// The topic: letters, digits, '.', '_' and '-'
    topic: String,
    /// How many partitions [default: the broker's num.partitions]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas [default: the broker's default.replication.factor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication: Option<i16>,
    /// A topic config by Kafka's name; repeat it for more
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Succeed if the topic is there already
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Args, Clone, Debug)]
pub struct List {
    /// Also the cluster's own topics
    #[arg(long)]
    internal: bool,
    /// Names only, a line each
    #[arg(long, conflicts_with = "json")]
    names: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  corelane topic describe orders
  corelane topic describe orders --all-configs
  corelane topic describe orders --json")]
pub struct Describe {
    /// The topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// Also the configs that are not set for the topic itself
    #[arg(long)]
    all_configs: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  corelane topic alter orders --partitions 12
  corelane topic alter orders --config retention.ms=3600000 --delete-config segment.ms

More partitions change where keys go; fewer are not possible.")]
pub struct Alter {
    /// The topic
    topic: String,
    /// Have so many partitions, more than now
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Set a topic config by Kafka's name; repeat it for more
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    /// Back to what the broker says; repeat it for more
    #[arg(long, value_name = "KEY")]
    delete_config: Vec<String>,
    #[command(flatten)]
    broker: Broker,
}

#[derive(Args, Clone, Debug)]
pub struct Delete {
    /// The topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// Succeed if a topic is not there
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    broker: Broker,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "KEY=VALUE is wanted, such as retention.ms=86400000".to_owned())?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Does what was asked for.
pub fn run(command: Command) -> Result<(), Failed> {
    let lines = match command {
        Command::Create(arguments) => arguments.run()?,
        Command::List(arguments) => arguments.run()?,
        Command::Describe(arguments) => arguments.run()?,
        Command::Alter(arguments) => arguments.run()?,
        Command::Delete(arguments) => arguments.run()?,
    };
    let mut out = std::io::stdout().lock();
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .map_err(Failed::output)
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// What a broker said of one topic: an error with its words, or nothing.
fn answer(
    what: String,
    topic: &str,
    code: i16,
    message: Option<&StrBytes>,
) -> Result<(), ClientError> {
    match error_of(code) {
        ErrorCode::None => Ok(()),
        ErrorCode::UnknownTopicOrPartition => Err(ClientError::NoSuchTopic(topic.to_owned())),
        error => Err(ClientError::refused(
            what,
            error,
            message.map(|text| &**text),
        )),
    }
}

/// The topic that was asked for is missing from the answer.
fn silence(what: String) -> ClientError {
    ClientError::refused(
        what,
        ErrorCode::UnknownServerError,
        Some("no answer for this topic"),
    )
}

impl Create {
    fn run(&self) -> Result<Vec<String>, Failed> {
        let configs = self.config.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(name(&self.topic))
            .with_num_partitions(self.partitions.unwrap_or(-1))
            .with_replication_factor(self.replication.unwrap_or(-1))
            .with_configs(configs.collect());
        let mut client = self.broker.client();
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(client.timeout_ms());
        let what = || format!("create topic {}", self.topic);
        let mut tried = false;
        let created = client.retrying(|client| {
            let again = std::mem::replace(&mut tried, true);
            let response = client.controller()?.call(&request, i16::MAX)?;
            let told = response.topics.first().ok_or_else(|| silence(what()))?;
            let error = error_of(told.error_code);
            // A try whose answer was lost may have made it.
            if error == ErrorCode::TopicAlreadyExists && again {
                return Ok(None);
            }
            answer(
                what(),
                &self.topic,
                told.error_code,
                told.error_message.as_ref(),
            )?;
            Ok(Some(told.num_partitions))
        });
        match created {
            Ok(Some(count)) if count > 0 => {
                let s = if count == 1 { "" } else { "s" };
                Ok(vec![format!(
                    "created {} with {count} partition{s}",
                    self.topic
                )])
            }
            Ok(_) => Ok(vec![format!("created {}", self.topic)]),
            Err(error)
                if self.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) =>
            {
                Ok(vec![format!("{} is there already", self.topic)])
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl List {
    fn run(&self) -> Result<Vec<String>, Failed> {
        let topics = self
            .broker
            .client()
            .retrying(|client| client.topics(None))?;
        let topics = topics.into_iter().collect::<Result<Vec<Topic>, _>>()?;
        let topics = topics
            .iter()
            .filter(|topic| self.internal || !topic.is_internal);
        let replicas = |topic: &Topic| topic.partitions.first().map_or(0, |p| p.replicas.len());
        if self.names {
            return Ok(topics.map(|topic| topic.name.clone()).collect());
        }
        if self.json {
            let topics: Vec<_> = topics
                .map(|topic| {
                    json!({"topic": topic.name, "id": topic.id, "internal": topic.is_internal,
                           "partitions": topic.partitions.len(), "replicas": replicas(topic)})
                })
                .collect();
            return Ok(vec![format!("{:#}", json!(topics))]);
        }
        let rows: Vec<_> = topics
            .map(|topic| {
                let partitions = topic.partitions.len().to_string();
                vec![topic.name.clone(), partitions, replicas(topic).to_string()]
            })
            .collect();
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        Ok(table::lines(&["TOPIC", "PARTITIONS", "REPLICAS"], &rows))
    }
}

/// A config in force.
struct Config {
    name: String,
    value: Option<String>,
    is_set: bool,
}

/// All that `describe` shows of a topic.
struct Described {
    topic: Topic,
    configs: Vec<Config>,
    starts: BTreeMap<PartitionIndex, crate::base::Offset>,
    ends: BTreeMap<PartitionIndex, crate::base::Offset>,
}

impl Describe {
    fn run(&self) -> Result<Vec<String>, Failed> {
        let mut client = self.broker.client();
        let mut described = Vec::new();
        for name in &self.topics {
            described.push(client.retrying(|client| self.ask(client, name))?);
        }
        if self.json {
            let topics: Vec<_> = described.iter().map(Described::json).collect();
            return Ok(vec![format!("{:#}", json!(topics))]);
        }
        let lines = described.iter().map(Described::lines).collect::<Vec<_>>();
        Ok(lines.join(&String::new()))
    }

    fn ask(&self, client: &mut Client, topic: &str) -> Result<Described, ClientError> {
        let topic = client.topic(topic)?;
        let led = topic
            .partitions
            .iter()
            .filter(|partition| partition.leader.0 >= 0);
        let led: Vec<_> = led.map(|partition| partition.index).collect();
        let starts = client.offsets(&topic, &led, -2)?;
        let ends = client.offsets(&topic, &led, -1)?;
        let mut configs = configs_of(client, &topic.name)?;
        configs.retain(|config| config.is_set || self.all_configs);
        Ok(Described {
            topic,
            configs,
            starts,
            ends,
        })
    }
}

fn configs_of(client: &mut Client, topic: &str) -> Result<Vec<Config>, ClientError> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(text(topic))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = client.any()?.call(&request, i16::MAX)?;
    let what = format!("configs of topic {topic}");
    let told = response
        .results
        .first()
        .ok_or_else(|| silence(what.clone()))?;
    answer(what, topic, told.error_code, told.error_message.as_ref())?;
    let configs = told.configs.iter().map(|config| Config {
        name: config.name.to_string(),
        value: config.value.as_ref().map(|value| value.to_string()),
        is_set: config.config_source == SET_FOR_TOPIC,
    });
    let mut configs: Vec<_> = configs.collect();
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(configs)
}

impl Described {
    fn lines(&self) -> Vec<String> {
        let topic = &self.topic;
        let mut lines = vec![format!("{}  id {}", topic.name, topic.id)];
        let numbers = |ids: &[i32]| {
            let ids: Vec<String> = ids.iter().map(i32::to_string).collect();
            ids.join(",")
        };
        let rows: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| {
                let (start, end) = (
                    self.starts.get(&partition.index),
                    self.ends.get(&partition.index),
                );
                let number = |number: Option<i64>| number.map_or("-".into(), |n| n.to_string());
                let (start, end) = (start.map(|start| start.0), end.map(|end| end.0));
                vec![
                    partition.index.to_string(),
                    number((partition.leader.0 >= 0).then_some(partition.leader.0.into())),
                    numbers(&partition.replicas),
                    numbers(&partition.in_sync),
                    number(start),
                    number(end),
                    number(start.zip(end).map(|(start, end)| end - start)),
                ]
            })
            .collect();
        let head = [
            "PARTITION",
            "LEADER",
            "REPLICAS",
            "IN SYNC",
            "START",
            "END",
            "OFFSETS",
        ];
        lines.extend(table::lines(&head, &rows));
        if !self.configs.is_empty() {
            let rows: Vec<_> = self
                .configs
                .iter()
                .map(|config| {
                    let value = config.value.clone().unwrap_or_else(|| "-".to_owned());
                    let origin = if config.is_set { "topic" } else { "default" };
                    vec![config.name.clone(), value, origin.to_owned()]
                })
                .collect();
            lines.push(String::new());
            lines.extend(table::lines(&["CONFIG", "VALUE", "SET BY"], &rows));
        }
        lines
    }

    fn json(&self) -> serde_json::Value {
        let offset = |offsets: &BTreeMap<PartitionIndex, crate::base::Offset>, partition| {
            offsets.get(&partition).map(|offset| offset.0)
        };
        let partitions = self.topic.partitions.iter().map(|partition| {
            json!({"partition": partition.index.0, "leader": partition.leader.0,
                   "leader_epoch": partition.leader_epoch, "replicas": partition.replicas,
                   "in_sync": partition.in_sync, "start": offset(&self.starts, partition.index),
                   "end": offset(&self.ends, partition.index)})
        });
        let configs = self.configs.iter();
        let configs = configs.map(|config| (config.name.clone(), json!(config.value)));
        json!({"topic": self.topic.name, "id": self.topic.id,
               "internal": self.topic.is_internal,
               "partitions": partitions.collect::<Vec<_>>(),
               "configs": configs.collect::<serde_json::Map<_, _>>()})
    }
}

impl Alter {
    fn run(&self) -> Result<Vec<String>, Failed> {
        let changes_configs = !self.config.is_empty() || !self.delete_config.is_empty();
        if self.partitions.is_none() && !changes_configs {
            return Err(Failed::usage(
                "nothing to change: give --partitions, --config or --delete-config",
            ));
        }
        let mut client = self.broker.client();
        if changes_configs {
            client.retrying(|client| self.alter_configs(client))?;
        }
        if let Some(count) = self.partitions {
            client.retrying(|client| self.add_partitions(client, count))?;
        }
        Ok(vec![format!("altered {}", self.topic)])
    }

    fn alter_configs(&self, client: &mut Client) -> Result<(), ClientError> {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        let set = self
            .config
            .iter()
            .map(|(key, value)| (key, SET, Some(text(value))));
        let delete = self.delete_config.iter().map(|key| (key, DELETE, None));
        let configs = set.chain(delete).map(|(key, operation, value)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(operation)
                .with_value(value)
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(&self.topic))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = client.controller()?.call(&request, i16::MAX)?;
        let what = format!("alter topic {}", self.topic);
        let told = response
            .responses
            .first()
            .ok_or_else(|| silence(what.clone()))?;
        answer(
            what,
            &self.topic,
            told.error_code,
            told.error_message.as_ref(),
        )
    }

    fn add_partitions(&self, client: &mut Client, count: i32) -> Result<(), ClientError> {
        let topic = CreatePartitionsTopic::default()
            .with_name(name(&self.topic))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(client.timeout_ms());
        let response = client.controller()?.call(&request, i16::MAX)?;
        let what = format!("add partitions to topic {}", self.topic);
        let told = response
            .results
            .first()
            .ok_or_else(|| silence(what.clone()))?;
        answer(
            what,
            &self.topic,
            told.error_code,
            told.error_message.as_ref(),
        )
    }
}

impl Delete {
    fn run(&self) -> Result<Vec<String>, Failed> {
        let mut client = self.broker.client();
        let mut lines = Vec::new();
        for topic in &self.topics {
            let mut tried = false;
            let deleted = client.retrying(|client| {
                let again = std::mem::replace(&mut tried, true);
                match delete(client, topic) {
                    // A try whose answer was lost may have deleted it.
                    Err(ClientError::NoSuchTopic(_)) if again => Ok(()),
                    other => other,
                }
            });
            lines.push(match deleted {
                Err(ClientError::NoSuchTopic(_)) if self.if_exists => {
                    format!("{topic} is not there")
                }
                other => other.map(|()| format!("deleted {topic}"))?,
            });
        }
        Ok(lines)
    }
}

fn delete(client: &mut Client, topic: &str) -> Result<(), ClientError> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![name(topic)])
        .with_timeout_ms(client.timeout_ms());
    // Version 6 names topics in another way, for the sake of ids.
    let response = client.controller()?.call(&request, 5)?;
    let what = format!("delete topic {topic}");
    let told = response
        .responses
        .first()
        .ok_or_else(|| silence(what.clone()))?;
    answer(what, topic, told.error_code, told.error_message.as_ref())
}
