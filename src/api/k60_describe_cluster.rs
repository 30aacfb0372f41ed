//! DescribeCluster (key 60), versions 0 to 2.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | endpoint type (KIP-919): this is a broker's endpoint, controllers have none |
//! | 2 | fenced brokers on request (KIP-1073) |
//!
//! The controller that is told is this broker: admin requests are served by any broker. Truth:
//! apache/kafka `AuthHelper.computeDescribeClusterResponse`.

use crate::base::CoreId;
use crate::net::Started;
use crate::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use crate::protocol::messages::{self, DescribeClusterRequest, DescribeClusterResponse, StrBytes};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode, NodeEndpoint};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, find, operations};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeCluster);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: DescribeClusterRequest = incoming.decode()?;
    if let Some(refusal) = refusal(request.endpoint_type, incoming.version()) {
        return incoming.now(&refusal);
    }
    let host = service.host();
    let (image, node) = (host.image(), host.node());
    let mut brokers: Vec<DescribeClusterBroker> = find::brokers(&image, node, &connection.endpoint)
        .into_iter()
        .map(|broker| described(broker, false))
        .collect();
    if request.include_fenced_brokers {
        let fenced = find::fenced(&image, node, &connection.endpoint);
        brokers.extend(fenced.into_iter().map(|broker| described(broker, true)));
    }
    let operations = match request.include_cluster_authorized_operations {
        true => operations::CLUSTER,
        false => operations::NOT_ASKED,
    };
    let response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(node.cluster_id.clone()))
        .with_controller_id(messages::BrokerId(node.shown(CoreId(0)).0))
        .with_endpoint_type(BROKERS)
        .with_brokers(brokers)
        .with_cluster_authorized_operations(operations);
    incoming.now(&response)
}

fn described(broker: NodeEndpoint, is_fenced: bool) -> DescribeClusterBroker {
    DescribeClusterBroker::default()
        .with_broker_id(messages::BrokerId(broker.node_id.0))
        .with_host(broker.host)
        .with_port(broker.port)
        .with_rack(broker.rack)
        .with_is_fenced(is_fenced)
}

/// The answer to a request for other endpoints than brokers'.
fn refusal(endpoint_type: i8, version: i16) -> Option<DescribeClusterResponse> {
    let error = match endpoint_type {
        BROKERS => return None,
        _ if version == 0 => ErrorCode::InvalidRequest,
        CONTROLLERS => ErrorCode::MismatchedEndpointType,
        _ => ErrorCode::UnsupportedEndpointType,
    };
    let message = format!("this is an endpoint of brokers (1), not of type {endpoint_type}");
    let response = DescribeClusterResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(StrBytes::from_string(message)));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn controllers_and_unknown_endpoint_types_are_refused() {
        let error = |endpoint_type| refusal(endpoint_type, 1).map(|refusal| refusal.error_code);
        assert_eq!((error(1), error(2), error(3)), (None, Some(114), Some(115)));
        assert_eq!(refusal(2, 0).map(|refusal| refusal.error_code), Some(42));
        encodes_in_every_version(VERSIONS, &refusal(2, 1).unwrap());
    }
}
