//! Produce (key 0), versions 3 to 13; shows 0 as its lowest.
//!
//! | version | what it added |
//! |---|---|
//! | 3 | record batches v2 only; transactional id |
//! | 5 | log start offset in the reply |
//! | 7 | zstd |
//! | 8 | record errors and error message (KIP-467) |
//! | 9 | flexible |
//! | 10 | current leader and node endpoints (KIP-951) |
//! | 13 | topics by id (KIP-516) |
//!
//! Versions 0 to 2 are advertised but close the connection: older librdkafka silently sends
//! uncompressed when it does not see version 0 (KAFKA-18659).
//!
//! A reply is sent when the batch is as durable as its topic asks, for acks 1 and -1 alike: there is
//! one replica, and it acknowledges nothing that it may lose. For the same reason `timeout_ms`, how
//! long to wait for other replicas, has nothing to bound. With acks 0 nothing is sent, and an error
//! closes the connection so that the client asks for metadata (apache/kafka
//! `KafkaApis.handleProduceRequest`). Topics are never created by a produce. A partition that is
//! named twice is served once: its other entries are refused, never silently dropped.
//! Transactions are not served: a transactional id refuses the whole request.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::base::{Offset, PartitionIndex, TopicPartition};
use crate::net::{Outcome, Part, Started};
use crate::partition::Refusal;
use crate::protocol::messages::StrBytes;
use crate::protocol::produce::{
    PartitionData, PartitionResponse, ProduceRequest, ProduceResponse, RecordError, TopicResponse,
};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode, TopicRef};
use crate::shard::{AppendRefusal, AppendRequest, AppendedBatch, Reply, Request};

use super::Api;
use super::connection::Connection;
use super::find::{self, View};
use super::incoming::{Incoming, Refused};
use super::scatter::{Gathered, Scatter, Slot, all};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::Produce);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// Kafka's own admin client may write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

/// A produce, split.
#[derive(Debug)]
struct Plan {
    topics: Vec<(TopicRef, Vec<(PartitionIndex, Slot<PartitionResponse>)>)>,
    appends: Scatter<(TopicPartition, Bytes)>,
}

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let version = incoming.version();
    let request = ProduceRequest::decode(&incoming.body, version)?;
    let silent = request.acks == 0;
    let host = service.host().clone();
    let image = host.image();
    let Plan { topics, appends } = plan(request, service.view(&image), &incoming.header.client_id);
    connection.went_to(appends.cores());
    let account = incoming.account.clone();
    let sent = account.parsed(&host, appends.cores(), connection.handed_over);
    let calls = appends.send(&host, |batches| {
        Request::Append(AppendRequest {
            produce_version: version,
            from_coordinator: false,
            batches,
            sent,
        })
    });
    let endpoint = connection.endpoint.clone();
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = all(calls).await else {
            return Outcome::Close;
        };
        account.answered(&answers);
        let lanes = answers.into_iter().map(|answer| match answer.reply {
            Reply::Append(results) => results,
            other => panic!("an append was answered with {other:?}"),
        });
        let image = host.image();
        let view = View {
            image: &image,
            node: host.node(),
            cores: host.cores(),
        };
        let mut response = reply(topics, Gathered::new(lanes), view);
        let refused = count_errors(&response, &mut |error| {
            host.measurements()
                .requests
                .refused(ApiKey::Produce.code(), error.code());
        });
        match (silent, refused) {
            (true, true) => return Outcome::Close,
            (true, false) => return Outcome::Silent,
            (false, _) => {}
        }
        if names_leaders(&response) {
            response.node_endpoints = find::brokers(&image, host.node(), &endpoint);
        }
        let frame = response.frame(version, incoming.header.correlation_id);
        Outcome::Reply(vec![Part::Bytes(frame)])
    })))
}

/// Sends each batch to its owner, and fills the slots of what is refused.
fn plan(request: ProduceRequest, view: View<'_>, client_id: &str) -> Plan {
    let whole = refusal_of_all(&request);
    let mut appends = Scatter::default();
    let mut seen = BTreeSet::new();
    let topics = request.topics.into_iter().map(|data| {
        let partitions = data.partitions.into_iter().map(|partition| {
            let index = partition.index;
            let checked = match whole {
                Some(error) => Err(error),
                None => check(&data.topic, partition, view, client_id, &mut seen),
            };
            let slot = match checked {
                Ok((owned, batch)) => {
                    Slot::Asked(appends.ask(owned.core, (owned.partition, batch)))
                }
                Err(error) => Slot::Filled(refused(&data.topic, index, error, view)),
            };
            (index, slot)
        });
        let partitions = partitions.collect();
        (detached(data.topic), partitions)
    });
    Plan {
        topics: topics.collect(),
        appends,
    }
}

/// The topic without a hold on the request's frame, which is then free for the next request as soon
/// as its batches are in the tail, and still in the CPU's cache.
fn detached(topic: TopicRef) -> TopicRef {
    match topic {
        TopicRef::Name(name) => TopicRef::Name(StrBytes::from_string(name.to_string())),
        TopicRef::Id(id) => TopicRef::Id(id),
    }
}

/// Why nothing of the request can be served.
fn refusal_of_all(request: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    // InitProducerId gives nobody a transactional producer, so nobody can be one.
    let transactional = request.transactional_id.is_some();
    transactional.then_some(ErrorCode::TransactionalIdAuthorizationFailed)
}

fn check(
    topic: &TopicRef,
    partition: PartitionData,
    view: View<'_>,
    client_id: &str,
    seen: &mut BTreeSet<TopicPartition>,
) -> Result<(find::Owned, Bytes), ErrorCode> {
    let found = view.topic(topic)?;
    let owned = view.owned(found, partition.index)?;
    if found.is_internal() && client_id != ADMIN_CLIENT {
        return Err(ErrorCode::InvalidTopicException);
    }
    let batch = partition.records.filter(|records| !records.is_empty());
    let batch = batch.ok_or(ErrorCode::InvalidRecord)?;
    if !seen.insert(owned.partition) {
        return Err(ErrorCode::InvalidRequest);
    }
    Ok((owned, batch))
}

/// Puts the cores' answers into their slots.
fn reply(
    topics: Vec<(TopicRef, Vec<(PartitionIndex, Slot<PartitionResponse>)>)>,
    mut gathered: Gathered<Result<AppendedBatch, AppendRefusal>>,
    view: View<'_>,
) -> ProduceResponse {
    let topics = topics.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(index, slot)| match slot {
            Slot::Filled(response) => response,
            Slot::Asked(place) => match gathered.take(place) {
                Some(Ok(batch)) => appended(index, batch),
                Some(Err(refusal)) => refused_by_core(&topic, index, &refusal, view),
                None => refused(&topic, index, ErrorCode::UnknownServerError, view),
            },
        });
        let partitions = partitions.collect();
        TopicResponse { topic, partitions }
    });
    ProduceResponse {
        topics: topics.collect(),
        ..ProduceResponse::default()
    }
}

fn appended(index: PartitionIndex, batch: AppendedBatch) -> PartitionResponse {
    PartitionResponse {
        log_append_time_ms: batch.log_append_time_ms,
        log_start_offset: batch.log_start_offset,
        ..PartitionResponse::appended(index, batch.base_offset)
    }
}

fn refused(
    topic: &TopicRef,
    index: PartitionIndex,
    error: ErrorCode,
    view: View<'_>,
) -> PartitionResponse {
    let wrong_leader = error == ErrorCode::NotLeaderOrFollower;
    PartitionResponse {
        current_leader: wrong_leader.then(|| view.leader(topic, index)).flatten(),
        ..PartitionResponse::refused(index, error)
    }
}

fn refused_by_core(
    topic: &TopicRef,
    index: PartitionIndex,
    refusal: &AppendRefusal,
    view: View<'_>,
) -> PartitionResponse {
    let mut response = refused(topic, index, refusal.refusal.code(), view);
    response.log_start_offset = Offset(refusal.log_start_offset.0.max(-1));
    if let Refusal::Invalid(invalid) = &refusal.refusal {
        response.error_message = Some(StrBytes::from_string(invalid.to_string()));
        let errors = invalid
            .record_errors()
            .iter()
            .map(|(batch_index, why)| RecordError {
                batch_index: *batch_index,
                message: Some(StrBytes::from_string(why.to_string())),
            });
        response.record_errors = errors.collect();
    }
    response
}

/// True if anything was refused; tells `count` of each error.
fn count_errors(response: &ProduceResponse, count: &mut dyn FnMut(ErrorCode)) -> bool {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let mut refused = partitions
        .filter(|partition| partition.error != ErrorCode::None)
        .peekable();
    let any = refused.peek().is_some();
    refused.for_each(|partition| count(partition.error));
    any
}

fn names_leaders(response: &ProduceResponse) -> bool {
    let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.any(|partition| partition.current_leader.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::World;
    use crate::base::{BrokerId, LeaderEpoch, TopicId};
    use crate::protocol::produce::TopicData;

    fn name(name: &'static str) -> TopicRef {
        TopicRef::Name(StrBytes::from_static_str(name))
    }

    fn request(topic: TopicRef, partitions: &[i32]) -> ProduceRequest {
        let partitions = partitions.iter().map(|index| PartitionData {
            index: PartitionIndex(*index),
            records: Some(Bytes::from_static(b"batch")),
        });
        let topics = vec![TopicData {
            topic,
            partitions: partitions.collect(),
        }];
        ProduceRequest {
            acks: -1,
            topics,
            ..ProduceRequest::default()
        }
    }

    /// The errors of a request that reaches no core.
    fn refusals(request: ProduceRequest, world: &World) -> Vec<i16> {
        let plan = plan(request, world.view(), "test");
        assert!(plan.appends.lanes().is_empty());
        let response = reply(plan.topics, Gathered::new([]), world.view());
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| partition.error.code()).collect()
    }

    fn world() -> World {
        let mut world = World::new(2);
        world.topic("t", 1, 4);
        world
    }

    #[test]
    fn version_0_is_shown_and_not_served() {
        assert_eq!((VERSIONS.advertised_min, VERSIONS.min), (0, 3));
    }

    #[test]
    fn batches_are_split_by_owner_and_answered_in_the_order_of_the_request() {
        let world = world();
        let plan = plan(request(name("t"), &[0, 1, 2, 9, 3]), world.view(), "test");
        let lanes = plan.appends.lanes();
        assert_eq!(lanes.len(), 2);
        assert!(lanes.iter().all(|(_, batches)| batches.len() == 2));
        let answers: Vec<Vec<_>> = lanes
            .iter()
            .map(|(_, batches)| {
                let answer = |(partition, _): &(TopicPartition, Bytes)| {
                    Ok(AppendedBatch {
                        base_offset: Offset(i64::from(partition.partition.0) * 10),
                        log_append_time_ms: -1,
                        log_start_offset: Offset(0),
                    })
                };
                batches.iter().map(answer).collect()
            })
            .collect();
        let response = reply(plan.topics, Gathered::new(answers), world.view());
        let told: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| {
                (
                    partition.index.0,
                    partition.error.code(),
                    partition.base_offset.0,
                )
            })
            .collect();
        assert_eq!(
            told,
            [(0, 0, 0), (1, 0, 10), (2, 0, 20), (9, 3, -1), (3, 0, 30)]
        );
    }

    #[test]
    fn other_acks_than_0_1_and_minus_1_are_refused_for_every_partition() {
        for acks in [2, -2, i16::MAX] {
            let request = ProduceRequest {
                acks,
                ..request(name("t"), &[0, 1])
            };
            assert_eq!(refusals(request, &world()), [21, 21]);
        }
    }

    #[test]
    fn topics_that_are_not_there_are_unknown_by_name_and_by_id() {
        assert_eq!(refusals(request(name("x"), &[0]), &world()), [3]);
        assert_eq!(refusals(request(name("t"), &[4, -1]), &world()), [3, 3]);
        let id = TopicRef::Id(TopicId([5; 16]));
        assert_eq!(refusals(request(id, &[0]), &world()), [100]);
        let zero = TopicRef::Id(TopicId::ZERO);
        assert_eq!(refusals(request(zero, &[0]), &world()), [100]);
        let known = request(TopicRef::Id(TopicId([1; 16])), &[0]);
        assert_eq!(plan(known, world().view(), "test").appends.lanes().len(), 1);
    }

    #[test]
    fn no_records_are_an_invalid_record() {
        for records in [None, Some(Bytes::new())] {
            let mut request = request(name("t"), &[0]);
            request.topics[0].partitions[0].records = records;
            assert_eq!(refusals(request, &world()), [87]);
        }
    }

    #[test]
    fn a_partition_that_is_named_twice_is_served_once_and_refused_once() {
        let mut twice = request(name("t"), &[0, 0]);
        twice.topics.push(twice.topics[0].clone());
        let world = world();
        let plan = plan(twice, world.view(), "test");
        assert_eq!(plan.appends.lanes()[0].1.len(), 1);
        let slots: Vec<_> = plan.topics.iter().flat_map(|(_, slots)| slots).collect();
        let refused = |slot: &&&(PartitionIndex, Slot<PartitionResponse>)| matches!(&slot.1, Slot::Filled(answer) if answer.error == ErrorCode::InvalidRequest);
        assert_eq!(slots.iter().filter(refused).count(), 3);
    }

    #[test]
    fn internal_topics_are_for_the_admin_client_only() {
        let mut world = world();
        world.topic("__consumer_offsets", 2, 1);
        let request = request(name("__consumer_offsets"), &[0]);
        assert_eq!(refusals(request.clone(), &world), [17]);
        assert_eq!(
            plan(request, world.view(), ADMIN_CLIENT)
                .appends
                .lanes()
                .len(),
            1
        );
    }

    #[test]
    fn a_partition_of_another_leader_names_that_leader() {
        let mut world = World::new(1);
        let id = world.topic("t", 1, 0);
        world.partition(id, 0, Some(BrokerId(8)));
        let plan = plan(request(name("t"), &[0]), world.view(), "test");
        let response = reply(plan.topics, Gathered::new([]), world.view());
        let answer = &response.topics[0].partitions[0];
        assert_eq!(answer.error, ErrorCode::NotLeaderOrFollower);
        let leader = answer.current_leader.expect("a leader");
        assert_eq!(
            (leader.leader_id, leader.leader_epoch),
            (BrokerId(8), LeaderEpoch(3))
        );
        assert!(names_leaders(&response));
    }

    #[test]
    fn a_transactional_id_is_refused() {
        let transactional_id = Some(StrBytes::from_static_str("t1"));
        let request = ProduceRequest {
            transactional_id,
            ..request(name("t"), &[0])
        };
        assert_eq!(refusals(request, &world()), [53]);
    }

    #[test]
    fn any_refusal_is_seen_and_counted() {
        let world = world();
        let plan = plan(request(name("x"), &[0, 1]), world.view(), "test");
        let response = reply(plan.topics, Gathered::new([]), world.view());
        let mut counted = Vec::new();
        assert!(count_errors(&response, &mut |error| counted.push(error.code())));
        assert_eq!(counted, [3, 3]);
        assert!(!count_errors(&ProduceResponse::default(), &mut |_| {}));
    }
}
