//! JoinGroup (key 11), versions 0 to 9.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | rebalance timeout |
//! | 2 | throttle time |
//! | 4 | new members have to join again with the id they are given (KIP-394) |
//! | 5 | group instance id (KIP-345) |
//! | 6 | flexible |
//! | 7 | protocol type in the reply; the protocol's name may be null |
//! | 8 | reason (KIP-800) |
//! | 9 | the leader may be told not to assign (KIP-814) |
//!
//! The answer may take as long as the rebalance. Truth: apache/kafka
//! `GroupMetadataManager.classicGroupJoin`.

use crate::group::{Body, Reply};
use crate::net::Started;
use crate::protocol::messages::{JoinGroupRequest, JoinGroupResponse, StrBytes};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::JoinGroup);

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
    let request: JoinGroupRequest = incoming.decode_owned()?;
    let group = request.group_id.to_string();
    let body = Body::JoinGroup(request);
    let version = incoming.version();
    let reply = move |answer| reply(answer, version);
    groups::one(service, connection, incoming, &group, body, reply)
}

/// From here on the protocol's name may be null.
const NULL_NAME: i16 = 7;

fn reply(answer: Result<Reply, ErrorCode>, version: i16) -> JoinGroupResponse {
    let error = match answer {
        Ok(Reply::JoinGroup(response)) => return response,
        Ok(other) => panic!("a join was answered with {other:?}"),
        Err(error) => error,
    };
    let name = (version < NULL_NAME).then(StrBytes::default);
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in;

    #[test]
    fn a_coordinator_that_is_not_here_is_told_in_every_version() {
        for version in VERSIONS.min..=VERSIONS.max {
            let response = reply(Err(ErrorCode::CoordinatorLoadInProgress), version);
            assert_eq!((response.error_code, response.generation_id), (14, -1));
            encodes_in(VERSIONS, version..=version, &response);
        }
    }
}
