//! FindCoordinator (key 10), versions 0 to 5.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | key type, error message |
//! | 3 | flexible |
//! | 4 | many keys at once (KIP-699) |
//! | 5 | another error for transactions (KIP-890) |
//!
//! A group's coordinator is the leader of its partition of `__consumer_offsets`. The topic is made
//! here, when the first client looks for a coordinator; the answer waits for it. Transactions are not
//! served: the answer is `UNSUPPORTED_VERSION` [35], at which clients stop and show the message.
//! Share groups (key type 2) belong to version 6, which is not advertised. Truth: apache/kafka
//! `KafkaApis.getCoordinator`, `DefaultAutoTopicCreationManager`.

use crate::base::BrokerId;
use crate::cluster::configs::GroupSettings;
use crate::cluster::controller::NewTopic;
use crate::cluster::image::Image;
use crate::cluster::{ControlReply, ControlRequest};
use crate::host::Node;
use crate::net::{Outcome, Started};
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::{self, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode, NodeEndpoint};

use super::connection::{Connection, Endpoint};
use super::incoming::{Incoming, Refused, broker_id};
use super::service::Service;
use super::{Api, control, find, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::FindCoordinator);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on a request has many keys.
const MANY: i16 = 4;

/// The key type of groups.
const GROUP: i8 = 0;

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: FindCoordinatorRequest = incoming.decode()?;
    let host = service.host().clone();
    let image = host.image();
    let version = incoming.version();
    if request.key_type != GROUP || image.topic(groups::TOPIC).is_some() {
        let response = reply(request, version, &image, host.node(), &connection.endpoint);
        return incoming.now(&response);
    }
    let call = control::ask(&host, creation(&service.settings().groups));
    let endpoint = connection.endpoint.clone();
    Ok(Started::Later(Box::pin(async move {
        match control::answer(call).await {
            // Made by us or by somebody else meanwhile, it is in the image; if not, the reply
            // says that there is no coordinator, and clients come back.
            Ok(ControlReply::CreateTopics(_)) | Err(control::Failed::Unavailable(_)) => {}
            Ok(other) => panic!("a creation of topics was answered with {other:?}"),
            Err(control::Failed::Stopping) => return Outcome::Close,
        }
        let image = host.image();
        incoming.reply(&reply(request, version, &image, host.node(), &endpoint))
    })))
}

/// The topic of groups, as Kafka makes it.
fn creation(settings: &GroupSettings) -> ControlRequest {
    let config = |name: &str, value: String| (name.to_owned(), Some(value));
    let topic = NewTopic {
        name: groups::TOPIC.to_owned(),
        partitions: settings.offsets_partitions,
        // Kafka's default is 3; here there is one broker.
        replication_factor: 1,
        configs: vec![
            config("cleanup.policy", "compact".to_owned()),
            config("compression.type", "producer".to_owned()),
            config("segment.bytes", settings.offsets_segment_bytes.to_string()),
        ],
        internal: true,
        ..NewTopic::default()
    };
    ControlRequest::CreateTopics {
        topics: vec![topic],
        validate_only: false,
    }
}

fn reply(
    request: FindCoordinatorRequest,
    version: i16,
    image: &Image,
    node: &Node,
    endpoint: &Endpoint,
) -> FindCoordinatorResponse {
    let brokers = find::brokers(image, node, endpoint);
    let of = |key: StrBytes| {
        let found = match request.key_type {
            GROUP => coordinator(&key, image, node, &brokers),
            key_type => Err(refusal(key_type)),
        };
        told(key, found)
    };
    if version >= MANY {
        let coordinators = request.coordinator_keys.into_iter().map(of);
        return FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    }
    let one = of(request.key);
    FindCoordinatorResponse::default()
        .with_error_code(one.error_code)
        .with_error_message(one.error_message.filter(|message| !message.is_empty()))
        .with_node_id(one.node_id)
        .with_host(one.host)
        .with_port(one.port)
}

/// The leader of the group's partition.
fn coordinator<'a>(
    group: &str,
    image: &Image,
    node: &Node,
    brokers: &'a [NodeEndpoint],
) -> Result<&'a NodeEndpoint, (ErrorCode, &'static str)> {
    let leader = |group| -> Option<BrokerId> {
        let topic = image.topic(groups::TOPIC)?;
        let index = groups::partition_of(topic, group);
        let leader = topic.partition(index)?.leader?;
        Some(node.shown_as(leader, topic.id, index))
    };
    let error = ErrorCode::CoordinatorNotAvailable;
    let leader = leader(group).ok_or((error, error.message()))?;
    let reachable = brokers.iter().find(|broker| broker.node_id == leader);
    reachable.ok_or((error, error.message()))
}

/// Why a key of this type has no coordinator here.
fn refusal(key_type: i8) -> (ErrorCode, &'static str) {
    match key_type {
        1 => (
            ErrorCode::UnsupportedVersion,
            "this broker does not serve transactions",
        ),
        _ => (
            ErrorCode::InvalidRequest,
            "the key type is neither group (0) nor transaction (1)",
        ),
    }
}

fn told(key: StrBytes, found: Result<&NodeEndpoint, (ErrorCode, &'static str)>) -> Coordinator {
    let coordinator = Coordinator::default().with_key(key);
    match found {
        Ok(broker) => coordinator
            .with_node_id(broker_id(broker.node_id))
            .with_host(broker.host.clone())
            .with_port(broker.port),
        Err((error, message)) => coordinator
            .with_node_id(messages::BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(message))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in, endpoint, node};
    use crate::cluster::configs::{Layers, StaticConfigs};

    fn answer(
        request: FindCoordinatorRequest,
        version: i16,
        world: &World,
    ) -> FindCoordinatorResponse {
        let response = reply(request, version, &world.image, &node(), &endpoint());
        encodes_in(VERSIONS, version..=version, &response);
        response
    }

    fn keys(keys: [&'static str; 2]) -> FindCoordinatorRequest {
        let keys = keys.map(StrBytes::from_static_str).to_vec();
        FindCoordinatorRequest::default().with_coordinator_keys(keys)
    }

    #[test]
    fn a_groups_coordinator_is_the_leader_of_its_partition() {
        let mut world = World::new(2);
        world.topic(groups::TOPIC, 1, 50);
        for version in VERSIONS.min..MANY {
            let request = FindCoordinatorRequest::default().with_key("g".into());
            let one = answer(request, version, &world);
            assert_eq!((one.error_code, one.node_id.0, one.port), (0, 1, 9092));
            assert_eq!(one.host.as_str(), "advertised");
        }
        let many = answer(keys(["a", "b"]), 5, &world).coordinators;
        assert!(
            many.iter()
                .all(|one| one.error_code == 0 && one.port == 9092)
        );
        assert_eq!([many[0].key.as_str(), many[1].key.as_str()], ["a", "b"]);
    }

    #[test]
    fn without_the_topic_or_a_leader_there_is_no_coordinator_yet() {
        let mut world = World::new(1);
        let many = answer(keys(["a", "b"]), 4, &world).coordinators;
        assert_eq!([many[0].error_code, many[1].error_code], [15, 15]);
        let topic = world.topic(groups::TOPIC, 1, 0);
        world.partition(topic, 0, None);
        let one = answer(FindCoordinatorRequest::default(), 3, &world);
        assert_eq!((one.error_code, one.node_id.0, one.port), (15, -1, -1));
    }

    #[test]
    fn other_key_types_are_refused() {
        let world = World::new(1);
        let error = |key_type| {
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            answer(request, 3, &world).error_code
        };
        assert_eq!([1, 2, -1].map(error), [35, 42, 42]);
    }

    #[test]
    fn the_topic_is_made_compacted_and_internal() {
        let (image, configs) = (Image::default(), StaticConfigs::default());
        let settings = Layers::new(&image, BrokerId(1), &configs).broker_settings();
        let request = creation(&settings.groups);
        let ControlRequest::CreateTopics { topics, .. } = request else {
            panic!("{request:?}")
        };
        assert_eq!((topics[0].partitions, topics[0].internal), (50, true));
        let policy = ("cleanup.policy".to_owned(), Some("compact".to_owned()));
        assert!(topics[0].configs.contains(&policy));
    }
}
