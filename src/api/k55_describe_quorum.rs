//! DescribeQuorum (key 55), versions 0 to 2.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | when a replica last fetched and had caught up (KIP-836) |
//! | 2 | directory ids, nodes with their listeners, error messages (KIP-853) |
//!
//! The quorum of the metadata log: one voter, which leads it for ever in its first term. What the
//! image holds is durable, so the end of the log is the high watermark. Truth: apache/kafka
//! `KafkaRaftClient.handleDescribeQuorumRequest`.

use crate::base::{BrokerId, Wall};
use crate::cluster::image::Image;
use crate::net::Started;
use crate::protocol::messages::describe_quorum_response::{PartitionData, ReplicaState, TopicData};
use crate::protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused, broker_id, text};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeQuorum);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on replicas have times.
const WITH_TIMES: i16 = 1;
/// From here on errors have messages.
const WITH_MESSAGES: i16 = 2;
/// The term of the metadata log's leader.
const EPOCH: i32 = 1;

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: DescribeQuorumRequest = incoming.decode()?;
    let host = service.host();
    let (image, now) = (host.image(), host.now().wall);
    incoming.now(&reply(
        &request,
        incoming.version(),
        &image,
        host.node().broker,
        now,
    ))
}

fn reply(
    request: &DescribeQuorumRequest,
    version: i16,
    image: &Image,
    broker: BrokerId,
    now: Wall,
) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| {
        let is_metadata = topic.topic_name.as_str() == crate::cluster::names::METADATA;
        let partitions = topic.partitions.iter().map(|partition| {
            let data = PartitionData::default().with_partition_index(partition.partition_index);
            let data = data.with_error_message(None);
            if is_metadata && partition.partition_index == 0 {
                quorum(data, version, image, broker, now)
            } else {
                unknown(data, version)
            }
        });
        let partitions = partitions.collect();
        TopicData::default()
            .with_topic_name(topic.topic_name.clone())
            .with_partitions(partitions)
    });
    DescribeQuorumResponse::default()
        .with_error_message(None)
        .with_topics(topics.collect())
}

fn quorum(
    data: PartitionData,
    version: i16,
    image: &Image,
    broker: BrokerId,
    now: Wall,
) -> PartitionData {
    let end = image.applied().map_or(0, |applied| applied.plus(1).0);
    let voter = ReplicaState::default()
        .with_replica_id(broker_id(broker))
        .with_log_end_offset(end);
    let voter = match version >= WITH_TIMES {
        true => voter
            .with_last_fetch_timestamp(now.0)
            .with_last_caught_up_timestamp(now.0),
        false => voter,
    };
    data.with_leader_id(broker_id(broker))
        .with_leader_epoch(EPOCH)
        .with_high_watermark(end)
        .with_current_voters(vec![voter])
}

fn unknown(data: PartitionData, version: i16) -> PartitionData {
    let error = ErrorCode::UnknownTopicOrPartition;
    let message = (version >= WITH_MESSAGES).then(|| text(error.message()));
    data.with_error_code(error.code())
        .with_error_message(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{BROKER, World, encodes_in, topic_name};
    use crate::protocol::messages::describe_quorum_request as asked;

    #[test]
    fn the_metadata_log_has_one_voter_and_other_logs_no_quorum() {
        let world = World::new(1);
        let topic = |name| {
            let partition = asked::PartitionData::default().with_partition_index(0);
            let topic = asked::TopicData::default().with_topic_name(topic_name(name));
            topic.with_partitions(vec![partition])
        };
        let topics = vec![topic("__cluster_metadata"), topic("t")];
        let request = DescribeQuorumRequest::default().with_topics(topics);
        for version in VERSIONS.min..=VERSIONS.max {
            let response = reply(&request, version, &world.image, BROKER, Wall(5));
            let quorum = &response.topics[0].partitions[0];
            assert_eq!((quorum.leader_id.0, quorum.high_watermark), (1, 1));
            assert_eq!(quorum.current_voters.len(), 1);
            assert_eq!(response.topics[1].partitions[0].error_code, 3);
            encodes_in(VERSIONS, version..=version, &response);
        }
    }
}
