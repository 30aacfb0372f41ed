//! DeleteRecords (key 21), versions 0 to 2; 2 is flexible.
//!
//! Records below the offset are gone; -1 stands for the high watermark. The answer is the log start,
//! durable. The timeout is for other replicas: there are none. Internal topics keep their records,
//! and so do topics whose `cleanup.policy` has no `delete` [44]. Truth: apache/kafka
//! `ReplicaManager.deleteRecordsOnLocalLog`, `Partition.deleteRecordsOnLeader`.

use crate::base::{Offset, TopicPartition};
use crate::net::{Outcome, Started};
use crate::partition::Refusal;
use crate::protocol::messages::delete_records_request::DeleteRecordsPartition;
use crate::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use crate::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};
use crate::shard::{Reply, Request};

use super::Api;
use super::connection::Connection;
use super::find::{Owned, View};
use super::incoming::{Incoming, Refused};
use super::scatter::{self, Gathered, Scatter, Topics, all};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DeleteRecords);

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
    let request: DeleteRecordsRequest = incoming.decode()?;
    let host = service.host();
    let image = host.image();
    let (topics, deletions) = plan(&request, service.view(&image));
    let calls = deletions.send(host, Request::DeleteRecords);
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = all(calls).await else {
            return Outcome::Close;
        };
        let lanes = answers.into_iter().map(|answer| match answer.reply {
            Reply::DeleteRecords(results) => results,
            other => panic!("a deletion of records was answered with {other:?}"),
        });
        incoming.reply(&reply(topics, Gathered::new(lanes)))
    })))
}

/// Asks the owner of each partition, and fills the slots of what is refused.
fn plan(
    request: &DeleteRecordsRequest,
    view: View<'_>,
) -> (Topics, Scatter<(TopicPartition, Offset)>) {
    let topics = request.topics.iter();
    let topics = topics.map(|topic| (&topic.name, &topic.partitions[..]));
    scatter::plan(topics, |name, partition: &DeleteRecordsPartition| {
        let index = partition.partition_index;
        let owned = check(name, index, partition.offset, view);
        let question = owned.map(|owned| (owned.core, (owned.partition, Offset(partition.offset))));
        (index, question)
    })
}

fn check(topic: &str, index: i32, offset: i64, view: View<'_>) -> Result<Owned, ErrorCode> {
    let owned = view.named(topic, index)?;
    if crate::cluster::names::is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    if offset < -1 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    Ok(owned)
}

fn reply(topics: Topics, gathered: Gathered<Result<Offset, Refusal>>) -> DeleteRecordsResponse {
    let partition = |index, start: Result<Offset, ErrorCode>| {
        let answer = DeleteRecordsPartitionResult::default().with_partition_index(index);
        match start {
            Ok(start) => answer.with_low_watermark(start.0),
            Err(error) => answer.with_error_code(error.code()).with_low_watermark(-1),
        }
    };
    let topics = gathered.fill(topics, partition, |name, partitions| {
        DeleteRecordsTopicResult::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in_every_version, topic_name};
    use crate::protocol::messages::delete_records_request::DeleteRecordsTopic;

    #[test]
    fn partitions_are_asked_and_internal_or_odd_ones_refused() {
        let mut world = World::new(1);
        world.topic("t", 1, 2);
        world.topic("__consumer_offsets", 2, 1);
        let topic = |name, partitions: &[(i32, i64)]| {
            let partition = |(index, offset): &(i32, i64)| {
                let partition = DeleteRecordsPartition::default().with_partition_index(*index);
                partition.with_offset(*offset)
            };
            let partitions = partitions.iter().map(partition).collect();
            DeleteRecordsTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions)
        };
        let topics = vec![
            topic("t", &[(0, -1), (1, -2), (5, 0)]),
            topic("__consumer_offsets", &[(0, -1)]),
        ];
        let request = DeleteRecordsRequest::default().with_topics(topics);
        let (topics, deletions) = plan(&request, world.view());
        assert_eq!(deletions.lanes()[0].1.len(), 1);
        let response = reply(topics, Gathered::new([vec![Ok(Offset(12))]]));
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let told: Vec<_> = partitions
            .map(|answer| (answer.error_code, answer.low_watermark))
            .collect();
        assert_eq!(told, [(0, 12), (1, -1), (3, -1), (17, -1)]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
