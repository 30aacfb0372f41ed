//! CreatePartitions (key 37), versions 0 to 3; 2 is flexible, 3 may answer
//! `THROTTLING_QUOTA_EXCEEDED`.
//!
//! The count is what the topic shall have in all; topics only grow. Answered when the partitions are
//! durable and served. Truth: apache/kafka `ReplicationControlManager.createPartitions`.

use crate::base::BrokerId;
use crate::cluster::controller::{self, MorePartitions};
use crate::cluster::{ControlReply, ControlRequest};
use crate::host::Node;
use crate::net::{Outcome, Started};
use crate::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse, TopicName};
use crate::protocol::{ApiKey, ApiVersions};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;
use super::{Api, control};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::CreatePartitions);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: CreatePartitionsRequest = incoming.decode()?;
    let names: Vec<String> = request
        .topics
        .iter()
        .map(|topic| topic.name.to_string())
        .collect();
    let node = service.host().node();
    let call = control::ask(service.host(), plan(&request, node));
    Ok(Started::Later(Box::pin(async move {
        let results = match control::answer(call).await {
            Ok(ControlReply::CreatePartitions(results)) => results,
            Ok(other) => panic!("a creation of partitions was answered with {other:?}"),
            Err(control::Failed::Unavailable(refused)) => control::same_for_all(names, &refused),
            Err(control::Failed::Stopping) => return Outcome::Close,
        };
        incoming.reply(&reply(results))
    })))
}

/// The request as the controller has it.
fn plan(request: &CreatePartitionsRequest, node: &Node) -> ControlRequest {
    let topics = request.topics.iter().map(|topic| {
        let assignments = topic.assignments.as_ref().map(|assignments| {
            let brokers = assignments.iter().map(|assignment| {
                assignment
                    .broker_ids
                    .iter()
                    .map(|broker| node.behind(BrokerId(broker.0)))
                    .collect()
            });
            brokers.collect()
        });
        MorePartitions {
            name: topic.name.to_string(),
            count: topic.count,
            assignments,
        }
    });
    let topics = topics.collect();
    ControlRequest::CreatePartitions {
        topics,
        validate_only: request.validate_only,
    }
}

fn reply(results: Vec<(String, Result<(), controller::Refused>)>) -> CreatePartitionsResponse {
    let results = results.into_iter().map(|(name, result)| {
        let answer = CreatePartitionsTopicResult::default().with_name(TopicName(text(name)));
        match result {
            Ok(()) => answer.with_error_message(None),
            Err(refused) => answer
                .with_error_code(refused.error.code())
                .with_error_message(Some(text(refused.message))),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{encodes_in_every_version, node, topic_name};
    use crate::protocol::ErrorCode;
    use crate::protocol::messages;
    use crate::protocol::messages::create_partitions_request::{
        CreatePartitionsAssignment, CreatePartitionsTopic,
    };

    #[test]
    fn topics_grow_as_they_were_asked_to() {
        let brokers = vec![messages::BrokerId(1)];
        let assignment = CreatePartitionsAssignment::default().with_broker_ids(brokers);
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name("t"))
            .with_count(5)
            .with_assignments(Some(vec![assignment]));
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
        let ControlRequest::CreatePartitions {
            topics,
            validate_only: false,
        } = plan(&request, &node())
        else {
            panic!("partitions")
        };
        assert_eq!((topics[0].name.as_str(), topics[0].count), ("t", 5));
        assert_eq!(topics[0].assignments, Some(vec![vec![BrokerId(1)]]));
    }

    #[test]
    fn each_topic_has_its_answer() {
        let refused = control::plain(ErrorCode::InvalidPartitions);
        let response = reply(vec![
            ("t".to_owned(), Ok(())),
            ("u".to_owned(), Err(refused)),
        ]);
        let codes: Vec<_> = response
            .results
            .iter()
            .map(|result| result.error_code)
            .collect();
        assert_eq!(codes, [0, 37]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
