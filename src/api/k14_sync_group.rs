//! SyncGroup (key 14), versions 0 to 5.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | throttle time |
//! | 3 | group instance id (KIP-345) |
//! | 4 | flexible |
//! | 5 | protocol type and name (KIP-559) |
//!
//! The answer waits for the leader's assignment. Truth: apache/kafka
//! `GroupMetadataManager.classicGroupSync`.

use crate::group::{Body, Reply};
use crate::net::Started;
use crate::protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::SyncGroup);

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
    let request: SyncGroupRequest = incoming.decode_owned()?;
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if incoming.version() >= WITH_PROTOCOL && !named {
        return incoming.now(&reply(Err(ErrorCode::InconsistentGroupProtocol)));
    }
    let group = request.group_id.to_string();
    let body = Body::SyncGroup(request);
    groups::one(service, connection, incoming, &group, body, reply)
}

/// From here on the group's protocol type and name have to be given.
const WITH_PROTOCOL: i16 = 5;

fn reply(answer: Result<Reply, ErrorCode>) -> SyncGroupResponse {
    match answer {
        Ok(Reply::SyncGroup(response)) => response,
        Ok(other) => panic!("a sync was answered with {other:?}"),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
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
