//! LeaveGroup (key 13), versions 0 to 5.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | throttle time |
//! | 3 | many members at once, by their group instance ids too (KIP-345) |
//! | 4 | flexible |
//! | 5 | reason (KIP-800) |
//!
//! Truth: apache/kafka `GroupMetadataManager.classicGroupLeave`.

use crate::group::{Body, Reply};
use crate::net::Started;
use crate::protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::LeaveGroup);

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
    let request: LeaveGroupRequest = incoming.decode()?;
    let group = request.group_id.to_string();
    let body = Body::LeaveGroup(request);
    groups::one(service, connection, incoming, &group, body, reply)
}

fn reply(answer: Result<Reply, ErrorCode>) -> LeaveGroupResponse {
    match answer {
        Ok(Reply::LeaveGroup(response)) => response,
        Ok(other) => panic!("a leave was answered with {other:?}"),
        Err(error) => LeaveGroupResponse::default().with_error_code(error.code()),
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
