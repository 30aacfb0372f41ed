//! ListConfigResources (key 74), versions 0 to 1.
//!
//! | version | what it added |
//! |---|---|
//! | 0 | the names of client metrics subscriptions (KIP-714): there are none |
//! | 1 | types of resource; none named means all (KIP-1142) |
//!
//! Truth: apache/kafka `KafkaApis.handleListConfigResources`.

use std::collections::BTreeSet;

use crate::base::BrokerId;
use crate::cluster::image::Image;
use crate::host::Node;
use crate::net::Started;
use crate::protocol::messages::list_config_resources_response::ConfigResource;
use crate::protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::ListConfigResources);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
/// All types of resource that can be listed.
const TYPES: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: ListConfigResourcesRequest = incoming.decode()?;
    let types = match incoming.version() {
        0 => vec![CLIENT_METRICS],
        _ => request.resource_types,
    };
    let host = service.host();
    incoming.now(&reply(&types, &host.image(), host.node()))
}

fn reply(types: &[i8], image: &Image, node: &Node) -> ListConfigResourcesResponse {
    let response = ListConfigResourcesResponse::default();
    if types.iter().any(|kind| !TYPES.contains(kind)) {
        return response.with_error_code(ErrorCode::UnsupportedVersion.code());
    }
    let types: BTreeSet<i8> = match types {
        [] => TYPES.into(),
        types => types.iter().copied().collect(),
    };
    let mut resources = Vec::new();
    for kind in types {
        let names: Vec<String> = match kind {
            TOPIC => image.topics().map(|topic| topic.name.to_string()).collect(),
            BROKER | BROKER_LOGGER => brokers(image, node),
            _ => Vec::new(),
        };
        let named = |name: String| ConfigResource::default().with_resource_name(text(name));
        resources.extend(
            names
                .into_iter()
                .map(|name| named(name).with_resource_type(kind)),
        );
    }
    response.with_config_resources(resources)
}

fn brokers(image: &Image, node: &Node) -> Vec<String> {
    let mut brokers: BTreeSet<BrokerId> = image.brokers().keys().copied().collect();
    brokers.remove(&node.broker);
    brokers.extend(node.all_shown());
    brokers.iter().map(BrokerId::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{self, World, encodes_in};

    #[test]
    fn resources_are_listed_by_type_and_no_type_means_all() {
        let mut world = World::new(1);
        world.topic("t", 1, 1);
        let told = |types: &[i8]| -> Vec<(i8, String)> {
            let response = reply(types, &world.image, &tests::node());
            encodes_in(VERSIONS, 1.., &response);
            let resources = response.config_resources.iter();
            resources
                .map(|one| (one.resource_type, one.resource_name.to_string()))
                .collect()
        };
        let all = [
            (2, "t".to_owned()),
            (4, "1".to_owned()),
            (8, "1".to_owned()),
        ];
        assert_eq!(told(&[]), all);
        assert_eq!(told(&[2, 2]), all[..1]);
        assert_eq!(told(&[CLIENT_METRICS]), []);
        assert_eq!(reply(&[1], &world.image, &tests::node()).error_code, 35);
    }
}
