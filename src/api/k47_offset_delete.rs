//! OffsetDelete (key 47), versions 0.
//!
//! Deletes committed offsets of topics that no member subscribes to (KIP-496). Truth: apache/kafka
//! `OffsetMetadataManager.deleteOffsets`.

use crate::group::{Body, Reply};
use crate::net::Started;
use crate::protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::OffsetDelete);

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
    let request: OffsetDeleteRequest = incoming.decode()?;
    let group = request.group_id.to_string();
    let body = Body::OffsetDelete(request);
    groups::one(service, connection, incoming, &group, body, reply)
}

fn reply(answer: Result<Reply, ErrorCode>) -> OffsetDeleteResponse {
    match answer {
        Ok(Reply::OffsetDelete(response)) => response,
        Ok(other) => panic!("a deletion of offsets was answered with {other:?}"),
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn a_coordinator_that_is_not_here_is_told() {
        let response = reply(Err(ErrorCode::NotCoordinator));
        assert_eq!(response.error_code, 16);
        encodes_in_every_version(VERSIONS, &response);
    }
}
