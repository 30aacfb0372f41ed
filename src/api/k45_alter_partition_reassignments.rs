//! AlterPartitionReassignments (key 45), versions 0 to 1; 1 says whether the number of replicas may
//! change (KIP-860).
//!
//! With one broker a partition can only be where it is: the assignment that it has is accepted,
//! another is refused [39], and there is nothing to cancel [85]. Truth: apache/kafka
//! `ReplicationControlManager.alterPartitionReassignments`.

use crate::base::{BrokerId, PartitionIndex};
use crate::cluster::controller;
use crate::cluster::image::Image;
use crate::host::Node;
use crate::net::Started;
use crate::protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use crate::protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;
use super::{Api, control};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::AlterPartitionReassignments);

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
    let request: AlterPartitionReassignmentsRequest = incoming.decode()?;
    incoming.now(&reply(
        &request,
        incoming.version(),
        &service.host().image(),
        service.host().node(),
    ))
}

fn reply(
    request: &AlterPartitionReassignmentsRequest,
    version: i16,
    image: &Image,
    node: &Node,
) -> AlterPartitionReassignmentsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let answer = ReassignablePartitionResponse::default()
                .with_partition_index(partition.partition_index);
            match check(&topic.name, partition, image, node) {
                Ok(()) => answer.with_error_message(None),
                Err(refused) => answer
                    .with_error_code(refused.error.code())
                    .with_error_message(Some(text(refused.message))),
            }
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions)
    });
    let response = AlterPartitionReassignmentsResponse::default()
        .with_error_message(None)
        .with_responses(topics.collect());
    match version {
        0 => response,
        _ => response.with_allow_replication_factor_change(request.allow_replication_factor_change),
    }
}

fn check(
    topic: &str,
    wanted: &ReassignablePartition,
    image: &Image,
    node: &Node,
) -> Result<(), controller::Refused> {
    let index = PartitionIndex(wanted.partition_index);
    let found = image.topic(topic);
    let found = found.and_then(|topic| Some((topic, topic.partition(index)?)));
    let (topic, partition) =
        found.ok_or_else(|| control::plain(ErrorCode::UnknownTopicOrPartition))?;
    let Some(replicas) = &wanted.replicas else {
        return Err(control::plain(ErrorCode::NoReassignmentInProgress));
    };
    let replicas: Vec<BrokerId> = replicas.iter().map(|broker| BrokerId(broker.0)).collect();
    let shown = |broker: &BrokerId| node.shown_as(*broker, topic.id, index);
    let now = partition.replicas.iter().map(shown);
    if replicas.iter().copied().eq(now) {
        return Ok(());
    }
    Err(controller::Refused::new(
        ErrorCode::InvalidReplicaAssignment,
        "The cluster has one broker: a partition can only be where it is.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in_every_version, node, topic_name};
    use crate::protocol::messages;
    use crate::protocol::messages::alter_partition_reassignments_request::ReassignableTopic;

    #[test]
    fn a_partition_may_stay_and_nothing_else() {
        let mut world = World::new(1);
        world.topic("t", 1, 1);
        let wanted = |index, brokers: Option<&[i32]>| {
            let ids = |brokers: &[i32]| brokers.iter().map(|id| messages::BrokerId(*id)).collect();
            let partition = ReassignablePartition::default().with_partition_index(index);
            partition.with_replicas(brokers.map(ids))
        };
        let partitions = vec![
            wanted(0, Some(&[1])),
            wanted(0, Some(&[2])),
            wanted(0, Some(&[])),
            wanted(0, None),
            wanted(9, Some(&[1])),
        ];
        let topic = ReassignableTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(partitions);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        let response = reply(&request, 0, &world.image, &node());
        let partitions = response.responses[0].partitions.iter();
        let codes: Vec<i16> = partitions.map(|one| one.error_code).collect();
        assert_eq!(codes, [0, 39, 39, 85, 3]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
