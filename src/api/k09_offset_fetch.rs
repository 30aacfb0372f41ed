//! OffsetFetch (key 9), versions 1 to 9.
//!
//! | version | what it added |
//! |---|---|
//! | 2 | null for all topics; an error of the whole group |
//! | 3 | throttle time |
//! | 5 | leader epoch (KIP-320) |
//! | 6 | flexible |
//! | 7 | only offsets that no transaction may change (KIP-447): there are none that may |
//! | 8 | many groups at once (KIP-709) |
//! | 9 | members of consumer groups (KIP-848) |
//!
//! An offset that was not committed is -1 without an error. Before version 2 an error of the group
//! is told for each partition. Truth: apache/kafka `OffsetMetadataManager.fetchOffsets`.

use crate::group::{Body, Reply};
use crate::net::{Outcome, Started};
use crate::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use crate::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, StrBytes};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::OffsetFetch);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on the group as a whole may have an error.
const WITH_GROUP_ERROR: i16 = 2;
/// From here on a request names many groups.
const MANY: i16 = 8;

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: OffsetFetchRequest = incoming.decode()?;
    let mut asked = Vec::new();
    for group in plan(request, incoming.version()) {
        let body = Body::OffsetFetch(group.clone());
        let call = groups::ask(service, connection, &incoming, &group.group_id, body);
        asked.push((group, call));
    }
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = groups::all(asked).await else {
            return Outcome::Close;
        };
        let version = incoming.version();
        let told = answers
            .into_iter()
            .map(|(group, answer)| fetched(group, answer, version));
        incoming.reply(&reply(told.collect(), version))
    })))
}

/// What is asked of each group.
fn plan(request: OffsetFetchRequest, version: i16) -> Vec<OffsetFetchRequestGroup> {
    if version >= MANY {
        return request.groups;
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name)
                .with_partition_indexes(topic.partition_indexes)
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(request.group_id)
        .with_member_id(None)
        .with_member_epoch(-1)
        .with_topics(topics);
    vec![group]
}

/// One group's offsets, or its error in the version's way.
fn fetched(
    asked: OffsetFetchRequestGroup,
    answer: Result<Reply, ErrorCode>,
    version: i16,
) -> OffsetFetchResponseGroup {
    let fetched = match answer {
        Ok(Reply::OffsetFetch(fetched)) => fetched,
        Ok(other) => panic!("a fetch of offsets was answered with {other:?}"),
        Err(error) => OffsetFetchResponseGroup::default()
            .with_group_id(asked.group_id)
            .with_error_code(error.code()),
    };
    if fetched.error_code == 0 || version >= WITH_GROUP_ERROR {
        return fetched;
    }
    let topics = asked.topics.unwrap_or_default().into_iter().map(|topic| {
        let partitions = topic.partition_indexes.into_iter().map(|index| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(StrBytes::default()))
                .with_error_code(fetched.error_code)
        });
        OffsetFetchResponseTopics::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    OffsetFetchResponseGroup::default().with_topics(topics.collect())
}

fn reply(groups: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    if version >= MANY {
        return response.with_groups(groups);
    }
    let Some(group) = groups.into_iter().next() else {
        return response;
    };
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    response
        .with_error_code(group.error_code)
        .with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::incoming::text;
    use crate::api::tests::{encodes_in, topic_name};
    use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;

    fn one() -> OffsetFetchRequest {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![3]);
        OffsetFetchRequest::default()
            .with_group_id(text("g").into())
            .with_topics(Some(vec![topic]))
    }

    #[test]
    fn an_old_request_is_one_group_without_a_member() {
        let groups = plan(one(), 7);
        assert_eq!(groups.len(), 1);
        assert_eq!((&groups[0].member_id, groups[0].member_epoch), (&None, -1));
        let topics = groups[0].topics.as_ref().unwrap();
        assert_eq!(topics[0].partition_indexes, [3]);
        assert_eq!(plan(one().with_topics(None), 2)[0].topics, None);
        assert_eq!(plan(one(), 8), []);
    }

    #[test]
    fn an_error_of_the_group_is_told_where_the_version_has_a_place_for_it() {
        for version in VERSIONS.min..=VERSIONS.max {
            let asked = plan(one(), 1).remove(0);
            let group = fetched(asked, Err(ErrorCode::NotCoordinator), version);
            let response = reply(vec![group], version);
            match version {
                1 => assert_eq!(response.topics[0].partitions[0].error_code, 16),
                2..8 => assert_eq!((response.error_code, response.topics.len()), (16, 0)),
                _ => assert_eq!(response.groups[0].error_code, 16),
            }
            encodes_in(VERSIONS, version..=version, &response);
        }
    }

    #[test]
    fn offsets_are_told_in_every_version() {
        let partition = OffsetFetchResponsePartitions::default()
            .with_partition_index(3)
            .with_committed_offset(42)
            .with_committed_leader_epoch(-1)
            .with_metadata(Some(text("m")));
        let topic = OffsetFetchResponseTopics::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let known = OffsetFetchResponseGroup::default()
            .with_group_id(text("g").into())
            .with_topics(vec![topic]);
        for version in VERSIONS.min..=VERSIONS.max {
            let asked = plan(one(), 1).remove(0);
            let group = fetched(asked, Ok(Reply::OffsetFetch(known.clone())), version);
            let response = reply(vec![group], version);
            let told = match version {
                ..8 => response.topics[0].partitions[0].committed_offset,
                _ => response.groups[0].topics[0].partitions[0].committed_offset,
            };
            assert_eq!(told, 42);
            encodes_in(VERSIONS, version..=version, &response);
        }
    }
}
