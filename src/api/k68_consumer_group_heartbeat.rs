//! ConsumerGroupHeartbeat (key 68), versions 0 and 1.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | subscription by regular expression, member id from the client (KIP-1082) |
//!
//! The one request of members of consumer groups (KIP-848). Served while the feature `group.version`
//! is finalised at 1. Truth: apache/kafka `GroupMetadataManager.consumerGroupHeartbeat`.

use crate::group::{Body, Reply};
use crate::net::Started;
use crate::protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::ConsumerGroupHeartbeat);

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
    let request: ConsumerGroupHeartbeatRequest = incoming.decode()?;
    if !groups::have_consumer_protocol(&service.host().image()) {
        return incoming.now(&reply(Err(ErrorCode::UnsupportedVersion)));
    }
    let group = request.group_id.to_string();
    let body = Body::ConsumerGroupHeartbeat(request);
    groups::one(service, connection, incoming, &group, body, reply)
}

fn reply(answer: Result<Reply, ErrorCode>) -> ConsumerGroupHeartbeatResponse {
    match answer {
        Ok(Reply::ConsumerGroupHeartbeat(response)) => response,
        Ok(other) => panic!("a consumer's heartbeat was answered with {other:?}"),
        Err(error) => ConsumerGroupHeartbeatResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text(error.message()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn a_coordinator_that_is_not_here_is_told_in_every_version() {
        let response = reply(Err(ErrorCode::NotCoordinator));
        assert_eq!(response.error_code, 16);
        encodes_in_every_version(VERSIONS, &response);
    }
}
