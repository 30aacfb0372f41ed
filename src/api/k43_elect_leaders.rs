//! ElectLeaders (key 43), versions 0 to 2.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | unclean elections (KIP-460), an error of the whole request |
//! | 2 | flexible |
//!
//! With one replica a partition that has its leader needs no election [84], and one that has none
//! has nobody to elect [80, 83]. Asked for all partitions, those that need none are left out. Truth:
//! apache/kafka `ReplicationControlManager.electLeaders`.

use crate::base::PartitionIndex;
use crate::cluster::image::{Image, Partition, Topic};
use crate::net::Started;
use crate::protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use crate::protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::partitions::numbered;
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::ElectLeaders);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// From here on there is an error of the whole request.
const WITH_ERROR: i16 = 1;

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: ElectLeadersRequest = incoming.decode()?;
    let kind = match incoming.version() {
        0 => PREFERRED,
        _ => request.election_type,
    };
    incoming.now(&reply(
        &request,
        kind,
        incoming.version(),
        &service.host().image(),
    ))
}

fn reply(
    request: &ElectLeadersRequest,
    kind: i8,
    version: i16,
    image: &Image,
) -> ElectLeadersResponse {
    let response = ElectLeadersResponse::default();
    if !matches!(kind, PREFERRED | UNCLEAN) {
        let error = ErrorCode::InvalidRequest.code();
        return if version >= WITH_ERROR {
            response.with_error_code(error)
        } else {
            response
        };
    }
    let results: Vec<ReplicaElectionResult> = match &request.topic_partitions {
        Some(topics) => {
            let named = topics.iter().map(|topic| {
                let found = image.topic(&topic.topic);
                let partitions = topic.partitions.iter().map(|index| {
                    let partition = found.and_then(|found| found.partition(PartitionIndex(*index)));
                    result(
                        *index,
                        partition.map_or(ErrorCode::UnknownTopicOrPartition, |found| {
                            election(found, kind)
                        }),
                    )
                });
                results_of(topic.topic.clone(), partitions.collect())
            });
            named.collect()
        }
        None => image
            .topics()
            .filter_map(|topic| needed(topic, kind))
            .collect(),
    };
    response.with_replica_election_results(results)
}

/// The partitions of a topic that an election is needed for; none if there are none.
fn needed(topic: &Topic, kind: i8) -> Option<ReplicaElectionResult> {
    let elections = numbered(topic, 0).map(|(index, partition)| (index, election(partition, kind)));
    let needed = elections.filter(|(_, error)| *error != ErrorCode::ElectionNotNeeded);
    let results: Vec<_> = needed
        .map(|(index, error)| result(index.0, error))
        .collect();
    (!results.is_empty()).then(|| results_of(TopicName(text(&*topic.name)), results))
}

fn results_of(topic: TopicName, results: Vec<PartitionResult>) -> ReplicaElectionResult {
    ReplicaElectionResult::default()
        .with_topic(topic)
        .with_partition_result(results)
}

fn election(partition: &Partition, kind: i8) -> ErrorCode {
    match partition.leader {
        Some(leader) if kind == UNCLEAN || partition.replicas.first() == Some(&leader) => {
            ErrorCode::ElectionNotNeeded
        }
        Some(_) => ErrorCode::PreferredLeaderNotAvailable,
        None if kind == UNCLEAN => ErrorCode::EligibleLeadersNotAvailable,
        None => ErrorCode::PreferredLeaderNotAvailable,
    }
}

fn result(index: i32, error: ErrorCode) -> PartitionResult {
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(error.code())
        .with_error_message(Some(text(error.message())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in_every_version, topic_name};
    use crate::protocol::messages::elect_leaders_request::TopicPartitions;

    #[test]
    fn a_partition_with_its_leader_needs_no_election_and_one_without_has_nobody() {
        let mut world = World::new(1);
        let id = world.topic("t", 1, 1);
        world.partition(id, 1, None);
        let topic = TopicPartitions::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![0, 1, 2]);
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
        let codes = |request: &ElectLeadersRequest, kind| -> Vec<i16> {
            let response = reply(request, kind, 2, &world.image);
            encodes_in_every_version(VERSIONS, &response);
            let results = response.replica_election_results.iter();
            results
                .flat_map(|topic| &topic.partition_result)
                .map(|one| one.error_code)
                .collect()
        };
        assert_eq!(codes(&request, PREFERRED), [84, 80, 3]);
        assert_eq!(codes(&request, UNCLEAN), [84, 83, 3]);
        assert_eq!(codes(&request.with_topic_partitions(None), PREFERRED), [80]);
        assert_eq!(
            reply(&ElectLeadersRequest::default(), 9, 2, &world.image).error_code,
            42
        );
    }
}
