//! FindCoordinator (key 10), versions 0 to 5.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | key type, error message |
//! | 3 | flexible |
//! | 4 | many keys at once (KIP-699) |
//! | 5 | another error for transactions (KIP-890) |
//!
//! There is no group coordinator on this broker yet: for groups the answer is
//! `COORDINATOR_NOT_AVAILABLE` [15], which clients try again. Transactions are not served: the answer
//! is `UNSUPPORTED_VERSION` [35], at which clients stop and show the message. Share groups (key type
//! 2) belong to version 6, which is not advertised. Truth: apache/kafka
//! `KafkaApis.handleFindCoordinatorRequest`.

use crate::net::Started;
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::{self, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::FindCoordinator);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on a request has many keys.
const MANY: i16 = 4;

fn start(
    _service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: FindCoordinatorRequest = incoming.decode()?;
    let response = reply(request, incoming.version());
    incoming.now(&response)
}

fn reply(request: FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
    let (error, message) = refusal(request.key_type);
    let message = Some(StrBytes::from_static_str(message));
    if version < MANY {
        return FindCoordinatorResponse::default()
            .with_error_code(error.code())
            .with_error_message(message)
            .with_node_id(messages::BrokerId(-1))
            .with_port(-1);
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(messages::BrokerId(-1))
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(message.clone())
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

fn refusal(key_type: i8) -> (ErrorCode, &'static str) {
    match key_type {
        0 => (
            ErrorCode::CoordinatorNotAvailable,
            ErrorCode::CoordinatorNotAvailable.message(),
        ),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn key_types_have_their_answers() {
        assert_eq!(
            [0, 1, 2, -1].map(|key_type| refusal(key_type).0.code()),
            [15, 35, 42, 42]
        );
    }

    #[test]
    fn one_key_is_answered_at_the_top_and_many_keys_each() {
        let keys = ["a", "b"].map(StrBytes::from_static_str).to_vec();
        let request = FindCoordinatorRequest::default().with_coordinator_keys(keys);
        let many = reply(request.clone(), 4);
        let told: Vec<_> = many
            .coordinators
            .iter()
            .map(|one| (&*one.key, one.error_code))
            .collect();
        assert_eq!(told, [("a", 15), ("b", 15)]);
        let one = reply(request, 3);
        assert_eq!((one.error_code, one.node_id.0, one.port), (15, -1, -1));
        encodes_in_every_version(VERSIONS.up_to(3), &one);
    }
}
