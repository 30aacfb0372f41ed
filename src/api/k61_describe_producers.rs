//! DescribeProducers (key 61), version 0 (KIP-664).
//!
//! The idempotent producers that a partition remembers. There are no transactions: coordinator epoch
//! and first offset of a transaction are -1. Truth: apache/kafka
//! `ReplicaManager.activeProducerState`.

use crate::base::TopicPartition;
use crate::net::{Outcome, Started};
use crate::partition::Refusal;
use crate::protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use crate::protocol::messages::{self, DescribeProducersRequest, DescribeProducersResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};
use crate::shard::{ProducerDescription, Reply, Request};

use super::Api;
use super::connection::Connection;
use super::find::View;
use super::incoming::{Incoming, Refused, text};
use super::partitions::unknown;
use super::scatter::{self, Gathered, Scatter, Topics, all};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeProducers);

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
    let request: DescribeProducersRequest = incoming.decode()?;
    let host = service.host();
    let image = host.image();
    let (topics, queries) = plan(&request, service.view(&image));
    let calls = queries.send(host, Request::Producers);
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = all(calls).await else {
            return Outcome::Close;
        };
        let lanes = answers.into_iter().map(|answer| match answer.reply {
            Reply::Producers(results) => results,
            other => panic!("a description of producers was answered with {other:?}"),
        });
        incoming.reply(&reply(topics, Gathered::new(lanes)))
    })))
}

/// Asks the owner of each partition, and fills the slots of what is refused.
fn plan(request: &DescribeProducersRequest, view: View<'_>) -> (Topics, Scatter<TopicPartition>) {
    let topics = request.topics.iter();
    let topics = topics.map(|topic| (&topic.name, &topic.partition_indexes[..]));
    scatter::plan(topics, |name, index: &i32| {
        let owned = match view.image.topic(name) {
            Some(_) => view.named(name, *index),
            None => Err(unknown(name)),
        };
        let question = owned.map(|owned| (owned.core, owned.partition));
        (*index, question)
    })
}

fn reply(
    topics: Topics,
    gathered: Gathered<Result<Vec<ProducerDescription>, Refusal>>,
) -> DescribeProducersResponse {
    let partition = |index, producers: Result<Vec<ProducerDescription>, ErrorCode>| {
        let answer = PartitionResponse::default().with_partition_index(index);
        match producers {
            Ok(producers) => answer
                .with_error_message(None)
                .with_active_producers(producers.into_iter().map(state).collect()),
            Err(error) => answer
                .with_error_code(error.code())
                .with_error_message(Some(text(error.message()))),
        }
    };
    let topics = gathered.fill(topics, partition, |name, partitions| {
        TopicResponse::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics)
}

fn state(producer: ProducerDescription) -> ProducerState {
    ProducerState::default()
        .with_producer_id(messages::ProducerId(producer.id.0))
        .with_producer_epoch(i32::from(producer.epoch.0))
        .with_last_sequence(producer.last_sequence.0)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in_every_version, topic_name};
    use crate::base::{ProducerEpoch, ProducerId, Sequence};
    use crate::protocol::messages::describe_producers_request::TopicRequest;

    #[test]
    fn producers_are_told_by_partition_and_unknown_ones_refused() {
        let mut world = World::new(1);
        world.topic("t", 1, 1);
        let topic = |name, partitions: &[i32]| {
            let topic = TopicRequest::default().with_name(topic_name(name));
            topic.with_partition_indexes(partitions.to_vec())
        };
        let topics = vec![topic("t", &[0, 3]), topic("x", &[0]), topic("a b", &[0])];
        let request = DescribeProducersRequest::default().with_topics(topics);
        let (topics, queries) = plan(&request, world.view());
        assert_eq!(queries.lanes()[0].1.len(), 1);
        let producer = ProducerDescription {
            id: ProducerId(5),
            epoch: ProducerEpoch(2),
            last_sequence: Sequence(9),
            last_timestamp: 77,
        };
        let response = reply(topics, Gathered::new([vec![Ok(vec![producer])]]));
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
        assert_eq!(codes, [0, 3, 3, 17]);
        let told = &response.topics[0].partitions[0].active_producers[0];
        assert_eq!(
            (told.producer_id.0, told.producer_epoch, told.last_sequence),
            (5, 2, 9)
        );
        assert_eq!(
            (told.coordinator_epoch, told.current_txn_start_offset),
            (-1, -1)
        );
        encodes_in_every_version(VERSIONS, &response);
    }
}
