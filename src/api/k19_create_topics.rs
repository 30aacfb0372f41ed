//! CreateTopics (key 19), versions 2 to 7.
//!
//! | version | what it added |
//! |---|---|
//! | 4 | -1 for the broker's number of partitions and replicas (KIP-464) |
//! | 5 | the reply tells partitions, replicas and configs (KIP-525); flexible |
//! | 6 | `THROTTLING_QUOTA_EXCEEDED` may be answered |
//! | 7 | topic id |
//!
//! Answered when the topics are durable and every core serves them; the timeout has nothing to
//! bound. A name that comes twice is refused. More replicas than brokers are refused, never clamped.
//! Truth: apache/kafka `ReplicationControlManager.createTopics`.

use crate::base::{BrokerId, PartitionIndex};
use crate::cluster::configs::ConfigEntry;
use crate::cluster::controller::{self, CreatedTopic, NewTopic};
use crate::cluster::{ControlReply, ControlRequest};
use crate::host::Node;
use crate::net::{Outcome, Started};
use crate::protocol::messages::create_topics_request::CreatableTopic;
use crate::protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use crate::protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName, uuid};
use crate::protocol::{ApiKey, ApiVersions};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;
use super::{Api, control};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::CreateTopics);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// What became of each topic.
type Results = Vec<(String, Result<CreatedTopic, controller::Refused>)>;

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: CreateTopicsRequest = incoming.decode()?;
    let names: Vec<String> = request
        .topics
        .iter()
        .map(|topic| topic.name.to_string())
        .collect();
    let call = control::ask(service.host(), plan(request, service.host().node()));
    Ok(Started::Later(Box::pin(async move {
        let results = match control::answer(call).await {
            Ok(ControlReply::CreateTopics(results)) => results,
            Ok(other) => panic!("a creation of topics was answered with {other:?}"),
            Err(control::Failed::Unavailable(refused)) => control::same_for_all(names, &refused),
            Err(control::Failed::Stopping) => return Outcome::Close,
        };
        incoming.reply(&reply(results))
    })))
}

/// The request as the controller has it.
fn plan(request: CreateTopicsRequest, node: &Node) -> ControlRequest {
    let topics = request
        .topics
        .iter()
        .map(|topic| new_topic(topic, node))
        .collect();
    ControlRequest::CreateTopics {
        topics,
        validate_only: request.validate_only,
    }
}

fn new_topic(topic: &CreatableTopic, node: &Node) -> NewTopic {
    let assignments = topic.assignments.iter().map(|assignment| {
        let brokers = assignment
            .broker_ids
            .iter()
            .map(|broker| node.behind(BrokerId(broker.0)))
            .collect();
        (PartitionIndex(assignment.partition_index), brokers)
    });
    let configs = topic.configs.iter().map(|config| {
        (
            config.name.to_string(),
            config.value.as_ref().map(|value| value.to_string()),
        )
    });
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
        internal: false,
    }
}

fn reply(results: Results) -> CreateTopicsResponse {
    let topics = results.into_iter().map(|(name, result)| {
        let topic = CreatableTopicResult::default().with_name(TopicName(text(name)));
        match result {
            Ok(created) => topic
                .with_topic_id(uuid(created.id))
                .with_num_partitions(created.partitions)
                .with_replication_factor(created.replication_factor)
                .with_configs(Some(created.configs.iter().map(config).collect())),
            Err(refused) => topic
                .with_error_code(refused.error.code())
                .with_error_message(Some(text(refused.message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(None),
        }
    });
    CreateTopicsResponse::default().with_topics(topics.collect())
}

fn config(entry: &ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(text(entry.name()))
        .with_value(entry.value.clone().map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.definition.is_sensitive())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{encodes_in_every_version, node, topic_name};
    use crate::base::TopicId;
    use crate::protocol::ErrorCode;
    use crate::protocol::messages;
    use crate::protocol::messages::create_topics_request::{
        CreatableReplicaAssignment, CreatableTopicConfig,
    };

    #[test]
    fn topics_reach_the_controller_as_they_were_asked_for() {
        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(0)
            .with_broker_ids(vec![messages::BrokerId(1)]);
        let config = CreatableTopicConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("1000")));
        let topic = CreatableTopic::default()
            .with_name(topic_name("t"))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment])
            .with_configs(vec![config]);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let ControlRequest::CreateTopics {
            topics,
            validate_only,
        } = plan(request.with_validate_only(true), &node())
        else {
            panic!("topics")
        };
        assert!(validate_only && !topics[0].internal);
        assert_eq!(
            (topics[0].partitions, topics[0].replication_factor),
            (-1, -1)
        );
        assert_eq!(
            topics[0].assignments,
            [(PartitionIndex(0), vec![BrokerId(1)])]
        );
        assert_eq!(
            topics[0].configs,
            [("retention.ms".to_owned(), Some("1000".to_owned()))]
        );
    }

    #[test]
    fn what_was_made_and_what_was_refused_is_told_in_every_version() {
        let created = CreatedTopic {
            name: "t".into(),
            id: TopicId([1; 16]),
            partitions: 3,
            replication_factor: 1,
            configs: Vec::new(),
        };
        let refused = controller::Refused::new(ErrorCode::TopicAlreadyExists, "it is there");
        let response = reply(vec![
            ("t".to_owned(), Ok(created)),
            ("u".to_owned(), Err(refused)),
        ]);
        let told: Vec<_> = response
            .topics
            .iter()
            .map(|topic| (topic.error_code, topic.num_partitions))
            .collect();
        assert_eq!(told, [(0, 3), (36, -1)]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
