//! ListPartitionReassignments (key 46), version 0.
//!
//! The partitions that are on their way from one broker to another, by what the image says. Truth:
//! apache/kafka `ReplicationControlManager.listPartitionReassignments`.

use crate::base::PartitionIndex;
use crate::cluster::image::{Image, Partition, Topic};
use crate::net::Started;
use crate::protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use crate::protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use crate::protocol::{ApiKey, ApiVersions};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::partitions::{ids, numbered};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::ListPartitionReassignments);

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
    let request: ListPartitionReassignmentsRequest = incoming.decode()?;
    incoming.now(&reply(&request, &service.host().image()))
}

fn reply(
    request: &ListPartitionReassignmentsRequest,
    image: &Image,
) -> ListPartitionReassignmentsResponse {
    let topics: Vec<OngoingTopicReassignment> = match &request.topics {
        None => image
            .topics()
            .filter_map(|topic| ongoing(topic, numbered(topic, 0)))
            .collect(),
        Some(topics) => {
            let named = topics.iter().filter_map(|wanted| {
                let topic = image.topic(&wanted.name)?;
                let indexes = wanted
                    .partition_indexes
                    .iter()
                    .map(|index| PartitionIndex(*index));
                let partitions = indexes.filter_map(|index| Some((index, topic.partition(index)?)));
                ongoing(topic, partitions)
            });
            named.collect()
        }
    };
    ListPartitionReassignmentsResponse::default()
        .with_error_message(None)
        .with_topics(topics)
}

/// Those of the partitions that are on their way; none if none is.
fn ongoing<'a>(
    topic: &Topic,
    partitions: impl Iterator<Item = (PartitionIndex, &'a Partition)>,
) -> Option<OngoingTopicReassignment> {
    let moving = partitions
        .filter(|(_, partition)| !partition.adding.is_empty() || !partition.removing.is_empty());
    let told: Vec<_> = moving
        .map(|(index, partition)| {
            OngoingPartitionReassignment::default()
                .with_partition_index(index.0)
                .with_replicas(ids(partition.replicas.iter().copied()))
                .with_adding_replicas(ids(partition.adding.iter().copied()))
                .with_removing_replicas(ids(partition.removing.iter().copied()))
        })
        .collect();
    let name = TopicName(text(&*topic.name));
    let result = OngoingTopicReassignment::default().with_name(name);
    (!told.is_empty()).then(|| result.with_partitions(told))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in_every_version};

    #[test]
    fn nothing_moves_on_one_broker() {
        let mut world = World::new(1);
        world.topic("t", 1, 3);
        let request = ListPartitionReassignmentsRequest::default().with_topics(None);
        let response = reply(&request, &world.image);
        assert!(response.topics.is_empty() && response.error_code == 0);
        encodes_in_every_version(VERSIONS, &response);
    }
}
