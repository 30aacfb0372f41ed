//! ListOffsets (key 2), versions 1 to 10.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | one offset with its timestamp |
//! | 2 | isolation level |
//! | 4 | current leader epoch, leader epoch of the answer (KIP-320) |
//! | 6 | flexible |
//! | 7 | timestamp -3: the largest timestamp (KIP-734) |
//! | 8 | timestamp -4: the earliest local offset (KIP-405), here the same as -2 |
//! | 9 | timestamp -5: the last tiered offset (KIP-1005): nothing is tiered |
//! | 10 | a timeout for remote lookups (KIP-1075): there are none |
//!
//! Nothing found is offset -1 without an error. The latest offset is the last stable one, which is
//! the high watermark as long as there are no transactions: both isolation levels agree. A partition
//! that is named twice is refused each time. Truth: apache/kafka `ReplicaManager.fetchOffset`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::LeaderEpoch;
use crate::net::{Outcome, Started};
use crate::partition::Refusal;
use crate::protocol::messages::list_offsets_request::ListOffsetsPartition;
use crate::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};
use crate::shard::{FoundOffset, OffsetQuery, OffsetSpec, Reply, Request};

use super::Api;
use super::connection::Connection;
use super::find::View;
use super::incoming::{Incoming, Refused};
use super::scatter::{Gathered, Scatter, Slot, all};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::ListOffsets);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on the answer has a leader epoch.
const WITH_EPOCH: i16 = 4;

/// The partitions of the request, by topic, with the place of each answer.
type Topics = Vec<(TopicName, Vec<(i32, Slot<ErrorCode>)>)>;

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: ListOffsetsRequest = incoming.decode()?;
    let host = service.host();
    let image = host.image();
    let (topics, queries) = plan(&request, incoming.version(), service.view(&image));
    let calls = queries.send(host, Request::ListOffsets);
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = all(calls).await else {
            return Outcome::Close;
        };
        let lanes = answers.into_iter().map(|answer| match answer.reply {
            Reply::ListOffsets(results) => results,
            other => panic!("a lookup of offsets was answered with {other:?}"),
        });
        incoming.reply(&reply(topics, Gathered::new(lanes), incoming.version()))
    })))
}

/// Asks the owner of each partition, and fills the slots of what is refused.
fn plan(
    request: &ListOffsetsRequest,
    version: i16,
    view: View<'_>,
) -> (Topics, Scatter<OffsetQuery>) {
    let twice = named_twice(request);
    let mut queries = Scatter::default();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let slot = if twice.contains(&(&topic.name, index)) {
                Slot::Filled(ErrorCode::InvalidRequest)
            } else {
                match query(&topic.name, partition, version, view) {
                    Ok((core, query)) => Slot::Asked(queries.ask(core, query)),
                    Err(error) => Slot::Filled(error),
                }
            };
            (index, slot)
        });
        (topic.name.clone(), partitions.collect())
    });
    (topics.collect(), queries)
}

fn query(
    topic: &str,
    partition: &ListOffsetsPartition,
    version: i16,
    view: View<'_>,
) -> Result<(crate::base::CoreId, OffsetQuery), ErrorCode> {
    let spec = spec(partition.timestamp, version).ok_or(ErrorCode::UnsupportedVersion)?;
    let owned = view.named(topic, partition.partition_index)?;
    let current_leader_epoch = LeaderEpoch(partition.current_leader_epoch);
    Ok((
        owned.core,
        OffsetQuery {
            partition: owned.partition,
            current_leader_epoch,
            spec,
        },
    ))
}

/// What a timestamp asks for; none for a special one that the version does not have.
fn spec(timestamp: i64, version: i16) -> Option<OffsetSpec> {
    match timestamp {
        0.. => Some(OffsetSpec::AtOrAfter(timestamp)),
        -1 => Some(OffsetSpec::Latest),
        -2 => Some(OffsetSpec::Earliest),
        -3 if version >= 7 => Some(OffsetSpec::MaxTimestamp),
        -4 if version >= 8 => Some(OffsetSpec::Earliest),
        -5 if version >= 9 => Some(OffsetSpec::LatestTiered),
        _ => None,
    }
}

fn named_twice(request: &ListOffsetsRequest) -> BTreeSet<(&TopicName, i32)> {
    let mut counts = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *counts
                .entry((&topic.name, partition.partition_index))
                .or_insert(0) += 1;
        }
    }
    counts.retain(|_, count| *count > 1);
    counts.into_keys().collect()
}

/// Puts the cores' answers into their slots.
fn reply(
    topics: Topics,
    mut gathered: Gathered<Result<FoundOffset, Refusal>>,
    version: i16,
) -> ListOffsetsResponse {
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, slot)| {
            let found = match slot {
                Slot::Filled(error) => Err(error),
                Slot::Asked(place) => match gathered.take(place) {
                    Some(found) => found.map_err(|refusal| refusal.code()),
                    None => Err(ErrorCode::UnknownServerError),
                },
            };
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
            match found {
                Ok(found) => answer
                    .with_offset(found.offset.0)
                    .with_timestamp(found.timestamp)
                    .with_leader_epoch(if version >= WITH_EPOCH {
                        found.leader_epoch.0
                    } else {
                        -1
                    }),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default()
            .with_name(name)
            .with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in, topic_name};
    use crate::base::Offset;
    use crate::protocol::messages::list_offsets_request::ListOffsetsTopic;

    fn request(topic: &'static str, partitions: &[(i32, i64)]) -> ListOffsetsRequest {
        let partition = |(index, timestamp): &(i32, i64)| {
            ListOffsetsPartition::default()
                .with_partition_index(*index)
                .with_timestamp(*timestamp)
                .with_current_leader_epoch(2)
        };
        let partitions = partitions.iter().map(partition).collect();
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions);
        ListOffsetsRequest::default().with_topics(vec![topic])
    }

    fn world() -> World {
        let mut world = World::new(2);
        world.topic("t", 1, 3);
        world
    }

    fn refusals(request: &ListOffsetsRequest, version: i16) -> Vec<i16> {
        let world = world();
        let (topics, queries) = plan(request, version, world.view());
        assert!(queries.lanes().is_empty());
        let response = reply(topics, Gathered::new([]), version);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let errors = partitions.map(|partition| {
            assert_eq!((partition.offset, partition.timestamp), (-1, -1));
            partition.error_code
        });
        errors.collect()
    }

    #[test]
    fn every_special_timestamp_is_known_from_its_version_on() {
        use OffsetSpec::{AtOrAfter, Earliest, Latest, LatestTiered, MaxTimestamp};
        assert_eq!(spec(7, 1), Some(AtOrAfter(7)));
        assert_eq!((spec(-1, 1), spec(-2, 1)), (Some(Latest), Some(Earliest)));
        assert_eq!((spec(-3, 6), spec(-3, 7)), (None, Some(MaxTimestamp)));
        assert_eq!((spec(-4, 7), spec(-4, 8)), (None, Some(Earliest)));
        assert_eq!((spec(-5, 8), spec(-5, 9)), (None, Some(LatestTiered)));
        assert_eq!((spec(-6, 10), spec(i64::MIN, 10)), (None, None));
        assert_eq!(refusals(&request("t", &[(0, -6)]), 10), [35]);
    }

    #[test]
    fn unknown_partitions_and_partitions_named_twice_are_refused() {
        assert_eq!(refusals(&request("x", &[(0, -1)]), 10), [3]);
        assert_eq!(refusals(&request("t", &[(3, -1), (-1, -1)]), 10), [3, 3]);
        assert_eq!(refusals(&request("t", &[(1, -1), (1, -2)]), 10), [42, 42]);
    }

    #[test]
    fn each_core_is_asked_for_its_own_with_the_clients_epoch() {
        let world = world();
        let (topics, queries) = plan(&request("t", &[(0, -1), (1, 5), (2, -2)]), 4, world.view());
        assert_eq!(queries.lanes().len(), 2);
        let found = |query: &OffsetQuery| {
            assert_eq!(query.current_leader_epoch, LeaderEpoch(2));
            let offset = Offset(i64::from(query.partition.partition.0));
            Ok(FoundOffset {
                offset,
                timestamp: -1,
                leader_epoch: LeaderEpoch(3),
            })
        };
        let lanes = queries.lanes().iter();
        let answers: Vec<Vec<_>> = lanes
            .map(|(_, queries)| queries.iter().map(found).collect())
            .collect();
        let response = reply(topics, Gathered::new(answers), 4);
        let offsets: Vec<i64> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| partition.offset)
            .collect();
        assert_eq!(offsets, [0, 1, 2]);
        encodes_in(VERSIONS, WITH_EPOCH.., &response);
    }
}
