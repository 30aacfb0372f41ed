//! OffsetCommit (key 8), versions 2 to 9.
//!
//! | version | what it added |
//! |---|---|
//! | 3 | throttle time |
//! | 5 | no retention time (KIP-211) |
//! | 6 | leader epoch (KIP-320) |
//! | 7 | group instance id (KIP-345) |
//! | 8 | flexible |
//! | 9 | members of consumer groups (KIP-848) |
//!
//! Answered when the offsets are durable. A partition that does not exist is refused alone. Truth:
//! apache/kafka `OffsetMetadataManager.commitOffset`.

use crate::group::{Body, Reply};
use crate::net::Started;
use crate::protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use crate::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::OffsetCommit);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: OffsetCommitRequest = incoming.decode()?;
    let group = request.group_id.to_string();
    let named = request.topics.iter().map(blank).collect();
    let body = Body::OffsetCommit(request);
    let reply = move |answer| reply(answer, named);
    groups::one(service, connection, incoming, &group, body, reply)
}

/// The topic's place in the reply, should all of it be refused.
fn blank(topic: &OffsetCommitRequestTopic) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index)
    });
    OffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}

fn reply(
    answer: Result<Reply, ErrorCode>,
    mut named: Vec<OffsetCommitResponseTopic>,
) -> OffsetCommitResponse {
    let error = match answer {
        Ok(Reply::OffsetCommit(response)) => return response,
        Ok(other) => panic!("a commit of offsets was answered with {other:?}"),
        Err(error) => error,
    };
    for partition in named.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = error.code();
    }
    OffsetCommitResponse::default().with_topics(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;
    use crate::api::tests::topic_name;
    use crate::protocol::messages::offset_commit_request::OffsetCommitRequestPartition;

    #[test]
    fn without_a_coordinator_every_partition_is_refused() {
        let partitions =
            [0, 7].map(|index| OffsetCommitRequestPartition::default().with_partition_index(index));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(partitions.to_vec());
        let response = reply(Err(ErrorCode::NotCoordinator), vec![blank(&topic)]);
        let told: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| (partition.partition_index, partition.error_code))
            .collect();
        assert_eq!(told, [(0, 16), (7, 16)]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
