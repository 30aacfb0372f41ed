//! Metadata (key 3), versions 0 to 13.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | null for all topics, an empty list for none; controller, rack, internal flag |
//! | 2 | cluster id |
//! | 4 | the client says whether topics may be made (before: yes) |
//! | 5 | offline replicas |
//! | 6 | `LISTENER_NOT_FOUND` may be answered |
//! | 7 | leader epoch |
//! | 8 | authorised operations; those of the cluster went again with 11 |
//! | 9 | flexible |
//! | 10 | topic ids in the reply |
//! | 12 | topics by id |
//! | 13 | an error of the whole request (KIP-1102) |
//!
//! In version 0 an empty list means all topics. A topic that is not there is made if client and
//! `auto.create.topics.enable` allow it; unlike Kafka, which answers once with an error, the reply
//! waits until the topic is there and describes it. Topics that are named more than once are
//! described once. The controller that is told is this broker: any broker takes admin requests.
//! Truth: apache/kafka `KafkaApis.handleTopicMetadataRequest`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{CoreId, TopicId};
use crate::cluster::controller::NewTopic;
use crate::cluster::image::{Image, Topic};
use crate::cluster::{ControlReply, ControlRequest, names};
use crate::host::{Call, Node};
use crate::net::{Outcome, Started};
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::{MetadataRequest, MetadataResponse, TopicName, topic_id, uuid};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode, NodeEndpoint};

use super::connection::{Connection, Endpoint};
use super::incoming::{Incoming, Refused, broker_id, text};
use super::partitions::{Reachable, numbered, unknown};
use super::service::Service;
use super::{Api, control, find, operations};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::Metadata);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on an empty list means no topic.
const EMPTY_IS_NONE: i16 = 1;
/// From here on clients know `LISTENER_NOT_FOUND`.
const WITH_LISTENER_NOT_FOUND: i16 = 6;
/// From here on, and up to version 10, the cluster's operations are told.
const WITH_OPERATIONS: i16 = 8;
/// The last version with the cluster's operations.
const WITH_CLUSTER_OPERATIONS: i16 = 10;
/// From here on topics have ids.
const WITH_IDS: i16 = 10;
/// From here on topics may be named by id.
const BY_ID: i16 = 12;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// All topics.
    All,
    /// These, by name.
    Named(BTreeSet<String>),
    /// These, by id.
    Ids(BTreeSet<TopicId>),
}

/// A request, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Plan {
    version: i16,
    wanted: Wanted,
    may_create: bool,
    topic_operations: bool,
    cluster_operations: bool,
}

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: MetadataRequest = incoming.decode()?;
    let host = service.host().clone();
    let plan = match plan(&request, incoming.version()) {
        Ok(plan) => plan,
        Err(error) => {
            let (image, node) = (host.image(), host.node());
            let mut response = cluster(&image, node, &connection.endpoint).0;
            response.topics = refused(&request, error);
            return incoming.now(&response);
        }
    };
    let missing = missing(&plan, service.settings().auto_create_topics, &host.image());
    if missing.is_empty() {
        let response = reply(
            &plan,
            &host.image(),
            host.node(),
            &connection.endpoint,
            &BTreeMap::new(),
        );
        return incoming.now(&response);
    }
    let call = control::ask(&host, creation(missing));
    let endpoint = connection.endpoint.clone();
    Ok(Started::Later(Box::pin(async move {
        let Some(refused) = created(call).await else {
            return Outcome::Close;
        };
        let response = reply(&plan, &host.image(), host.node(), &endpoint, &refused);
        incoming.reply(&response)
    })))
}

/// Understands a request; an error refuses all that it names.
fn plan(request: &MetadataRequest, version: i16) -> Result<Plan, ErrorCode> {
    let wanted = match &request.topics {
        None => Wanted::All,
        Some(topics) if topics.is_empty() && version < EMPTY_IS_NONE => Wanted::All,
        Some(topics) => {
            let odd =
                |topic: &crate::protocol::messages::metadata_request::MetadataRequestTopic| {
                    topic.name.is_none() || !topic.topic_id.is_nil()
                };
            if version < BY_ID && topics.iter().any(odd) {
                return Err(ErrorCode::InvalidRequest);
            }
            let ids = topics.iter().map(|topic| topic_id(topic.topic_id));
            let ids: BTreeSet<TopicId> = ids.filter(|id| !id.is_zero()).collect();
            let named = topics.iter().filter_map(|topic| topic.name.as_ref());
            // Any id makes it a request by id, as in Kafka.
            if ids.is_empty() {
                Wanted::Named(named.map(|name| name.to_string()).collect())
            } else {
                Wanted::Ids(ids)
            }
        }
    };
    let operations = WITH_OPERATIONS..=WITH_CLUSTER_OPERATIONS;
    Ok(Plan {
        version,
        wanted,
        may_create: request.allow_auto_topic_creation,
        topic_operations: request.include_topic_authorized_operations,
        cluster_operations: request.include_cluster_authorized_operations
            && operations.contains(&version),
    })
}

/// The topics that are to be made first. Kafka's own topics are made by those who need them.
fn missing(plan: &Plan, auto_create: bool, image: &Image) -> Vec<String> {
    let Wanted::Named(wanted) = &plan.wanted else {
        return Vec::new();
    };
    if !plan.may_create || !auto_create {
        return Vec::new();
    }
    let missing = wanted.iter().filter(|name| image.topic(name).is_none());
    let legal = missing.filter(|name| names::refusal(name).is_none() && !names::is_internal(name));
    legal.cloned().collect()
}

/// Topics with the broker's defaults.
fn creation(names: Vec<String>) -> ControlRequest {
    let topic = |name| NewTopic {
        name,
        partitions: -1,
        replication_factor: -1,
        ..NewTopic::default()
    };
    let topics = names.into_iter().map(topic).collect();
    ControlRequest::CreateTopics {
        topics,
        validate_only: false,
    }
}

/// The errors of topics that could not be made; none when the node is stopping.
async fn created(call: Call) -> Option<BTreeMap<String, ErrorCode>> {
    let results = match control::answer(call).await {
        Ok(ControlReply::CreateTopics(results)) => results,
        Ok(other) => panic!("a creation of topics was answered with {other:?}"),
        // What is not there is told as unknown; clients come back.
        Err(control::Failed::Unavailable(_)) => return Some(BTreeMap::new()),
        Err(control::Failed::Stopping) => return None,
    };
    let refused = results
        .into_iter()
        .filter_map(|(name, result)| Some((name, result.err()?.error)));
    Some(refused.collect())
}

/// The reply without topics, and the brokers in it.
fn cluster(
    image: &Image,
    node: &Node,
    endpoint: &Endpoint,
) -> (MetadataResponse, Vec<NodeEndpoint>) {
    let brokers = find::brokers(image, node, endpoint);
    let told = brokers.iter().map(|broker| {
        MetadataResponseBroker::default()
            .with_node_id(broker_id(broker.node_id))
            .with_host(broker.host.clone())
            .with_port(broker.port)
            .with_rack(broker.rack.clone())
    });
    let response = MetadataResponse::default()
        .with_brokers(told.collect())
        .with_cluster_id(Some(text(node.cluster_id.clone())))
        .with_controller_id(broker_id(node.shown(CoreId(0))));
    (response, brokers)
}

/// The whole reply. `failed`: topics that could not be made.
fn reply(
    plan: &Plan,
    image: &Image,
    node: &Node,
    endpoint: &Endpoint,
    failed: &BTreeMap<String, ErrorCode>,
) -> MetadataResponse {
    let (mut response, brokers) = cluster(image, node, endpoint);
    response.topics = topics(plan, image, &Reachable::of(&brokers, node), failed);
    if plan.cluster_operations {
        response.cluster_authorized_operations = operations::CLUSTER;
    }
    response
}

fn topics(
    plan: &Plan,
    image: &Image,
    reachable: &Reachable<'_>,
    failed: &BTreeMap<String, ErrorCode>,
) -> Vec<MetadataResponseTopic> {
    let described = |topic: &Topic| described(topic, plan, image, reachable);
    match &plan.wanted {
        Wanted::All => image.topics().map(|topic| described(topic)).collect(),
        Wanted::Named(names) => {
            let topics = names.iter().map(|name| match image.topic(name) {
                Some(topic) => described(topic),
                None => {
                    let error = failed.get(name).copied().filter(|error| is_final(*error));
                    let error = error.unwrap_or_else(|| unknown(name));
                    let internal = names::is_internal(name);
                    unknown_topic(Some(name), TopicId::ZERO, error).with_is_internal(internal)
                }
            });
            topics.collect()
        }
        Wanted::Ids(ids) => {
            let topics = ids.iter().map(|id| match image.topic_by_id(*id) {
                Some(topic) => described(topic),
                None => unknown_topic(None, *id, ErrorCode::UnknownTopicId),
            });
            topics.collect()
        }
    }
}

/// Errors of a creation that trying again does not mend; others are told as "unknown topic", at
/// which clients come back.
fn is_final(error: ErrorCode) -> bool {
    let fatal = [
        ErrorCode::InvalidReplicationFactor,
        ErrorCode::InvalidTopicException,
    ];
    fatal.contains(&error)
}

fn unknown_topic(name: Option<&str>, id: TopicId, error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_name(name.map(|name| TopicName(text(name))))
        .with_topic_id(uuid(id))
        .with_error_code(error.code())
}

fn described(
    topic: &Topic,
    plan: &Plan,
    image: &Image,
    reachable: &Reachable<'_>,
) -> MetadataResponseTopic {
    let partitions = numbered(topic, 0).map(|(index, partition)| {
        let described = reachable.describe(image, topic, index, partition);
        let error = match described.error {
            ErrorCode::ListenerNotFound if plan.version < WITH_LISTENER_NOT_FOUND => {
                ErrorCode::LeaderNotAvailable
            }
            error => error,
        };
        MetadataResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(described.index)
            .with_leader_id(described.leader)
            .with_leader_epoch(described.leader_epoch)
            .with_replica_nodes(described.replicas)
            .with_isr_nodes(described.isr)
            .with_offline_replicas(described.offline)
    });
    let response = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&*topic.name))))
        .with_is_internal(topic.is_internal())
        .with_partitions(partitions.collect());
    let response = match plan.version >= WITH_IDS {
        true => response.with_topic_id(uuid(topic.id)),
        false => response,
    };
    match plan.topic_operations {
        true => response.with_topic_authorized_operations(operations::TOPIC),
        false => response,
    }
}

/// All that the request names, with the same error.
fn refused(request: &MetadataRequest, error: ErrorCode) -> Vec<MetadataResponseTopic> {
    let topics = request.topics.iter().flatten();
    let refused = topics.map(|topic| {
        let name = topic.name.as_ref().map_or("", |name| name.as_str());
        unknown_topic(Some(name), topic_id(topic.topic_id), error)
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in, endpoint, node, topic_name};
    use crate::base::BrokerId;
    use crate::protocol::messages::metadata_request::MetadataRequestTopic;

    fn named(names: &[&'static str]) -> MetadataRequest {
        let topic =
            |name: &&'static str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default().with_topics(Some(names.iter().map(topic).collect()))
    }

    fn by_id(id: TopicId) -> MetadataRequest {
        let topic = MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(uuid(id));
        MetadataRequest::default().with_topics(Some(vec![topic]))
    }

    fn answer(request: &MetadataRequest, version: i16, world: &World) -> MetadataResponse {
        let plan = plan(request, version).unwrap();
        reply(&plan, &world.image, &node(), &endpoint(), &BTreeMap::new())
    }

    fn world() -> World {
        let mut world = World::new(2);
        world.topic("t", 1, 2);
        world.topic("__consumer_offsets", 2, 1);
        world
    }

    #[test]
    fn null_is_all_and_an_empty_list_is_none_except_in_version_0() {
        let all = MetadataRequest::default().with_topics(None);
        let none = MetadataRequest::default().with_topics(Some(Vec::new()));
        let world = world();
        assert_eq!(answer(&all, 1, &world).topics.len(), 2);
        assert_eq!(answer(&none, 1, &world).topics.len(), 0);
        assert_eq!(answer(&none, 0, &world).topics.len(), 2);
    }

    #[test]
    fn brokers_are_told_as_the_clients_listener_reaches_them() {
        let response = answer(&named(&[]), 12, &world());
        let told: Vec<_> = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id.0, broker.host.to_string(), broker.port))
            .collect();
        assert_eq!(told, [(1, "advertised".to_owned(), 9092)]);
        assert_eq!(response.controller_id.0, 1);
        assert_eq!(response.cluster_id.as_deref(), Some("cluster"));
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
    }

    #[test]
    fn topics_are_described_with_ids_epochs_and_the_internal_flag() {
        let response = answer(&named(&["t", "__consumer_offsets", "t"]), 12, &world());
        assert_eq!(response.topics.len(), 2);
        let (internal, topic) = (&response.topics[0], &response.topics[1]);
        assert!(internal.is_internal && !topic.is_internal);
        assert_eq!(topic_id(topic.topic_id), TopicId([1; 16]));
        let partition = &topic.partitions[1];
        assert_eq!((partition.partition_index, partition.leader_id.0), (1, 1));
        assert_eq!((partition.leader_epoch, partition.error_code), (3, 0));
        assert_eq!(topic.topic_authorized_operations, i32::MIN);
        encodes_in(VERSIONS, 10.., &response);
        encodes_in(VERSIONS, 7..10, &answer(&named(&["t"]), 7, &world()));
    }

    #[test]
    fn what_is_not_there_is_unknown_and_what_cannot_be_is_invalid() {
        let response = answer(&named(&["x", "a b", ""]), 12, &world());
        let errors: Vec<_> = response
            .topics
            .iter()
            .map(|topic| (topic.name.as_ref().unwrap().to_string(), topic.error_code))
            .collect();
        assert_eq!(
            errors,
            [
                (String::new(), 17),
                ("a b".to_owned(), 17),
                ("x".to_owned(), 3)
            ]
        );
        let unknown = answer(&by_id(TopicId([7; 16])), 12, &world())
            .topics
            .remove(0);
        assert_eq!((unknown.name, unknown.error_code), (None, 100));
        let known = answer(&by_id(TopicId([1; 16])), 12, &world())
            .topics
            .remove(0);
        assert_eq!(known.name.as_ref().map(|name| name.as_str()), Some("t"));
    }

    #[test]
    fn ids_and_missing_names_are_refused_before_version_12() {
        let by_id = by_id(TopicId([1; 16]));
        assert_eq!(plan(&by_id, 11), Err(ErrorCode::InvalidRequest));
        let refused = refused(&by_id, ErrorCode::InvalidRequest);
        assert_eq!(refused[0].error_code, 42);
        assert_eq!(refused[0].name.as_ref().map(|name| name.as_str()), Some(""));
    }

    #[test]
    fn only_legal_names_are_made_and_only_if_client_and_broker_allow_it() {
        let world = world();
        let request = named(&["t", "new", "a b", "__transaction_state"]);
        let allowed = plan(&request, 12).unwrap();
        assert_eq!(missing(&allowed, true, &world.image), ["new"]);
        assert_eq!(missing(&allowed, false, &world.image), [] as [&str; 0]);
        let forbidden = plan(&request.with_allow_auto_topic_creation(false), 12).unwrap();
        assert_eq!(missing(&forbidden, true, &world.image), [] as [&str; 0]);
    }

    #[test]
    fn a_topic_that_cannot_be_made_says_why_only_if_that_is_final() {
        let plan = plan(&named(&["a", "b"]), 12).unwrap();
        let failed = [
            ("a".to_owned(), ErrorCode::InvalidReplicationFactor),
            ("b".to_owned(), ErrorCode::PolicyViolation),
        ];
        let world = world();
        let response = reply(&plan, &world.image, &node(), &endpoint(), &failed.into());
        let errors: Vec<_> = response
            .topics
            .iter()
            .map(|topic| topic.error_code)
            .collect();
        assert_eq!(errors, [38, 3]);
    }

    #[test]
    fn partitions_without_a_reachable_leader_say_so() {
        let mut world = World::new(1);
        let id = world.topic("t", 1, 0);
        world.partition(id, 0, None);
        world.partition(id, 1, Some(BrokerId(8)));
        let response = answer(&named(&["t"]), 12, &world);
        let told: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| {
                let offline = partition.offline_replicas.len();
                (partition.error_code, partition.leader_id.0, offline)
            })
            .collect();
        assert_eq!(told, [(5, -1, 0), (5, -1, 1)]);
    }

    #[test]
    fn operations_are_told_where_they_are_asked_for() {
        let request = named(&["t"])
            .with_include_cluster_authorized_operations(true)
            .with_include_topic_authorized_operations(true);
        let world = world();
        let response = answer(&request, 10, &world);
        assert_eq!(response.cluster_authorized_operations, operations::CLUSTER);
        assert_eq!(
            response.topics[0].topic_authorized_operations,
            operations::TOPIC
        );
        assert_eq!(
            answer(&request, 11, &world).cluster_authorized_operations,
            i32::MIN
        );
    }
}
