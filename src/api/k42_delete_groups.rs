//! DeleteGroups (key 42), versions 0 to 2.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | throttle time |
//! | 2 | flexible |
//!
//! Deletes groups without members, and their offsets. A group that is named twice is deleted once.
//! Truth: apache/kafka `GroupMetadataManager.groupIdsDelete`.

use crate::group::{Body, Reply};
use crate::net::{Outcome, Started};
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, GroupId};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DeleteGroups);

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
    let request: DeleteGroupsRequest = incoming.decode()?;
    let mut asked: Vec<(GroupId, groups::Asked)> = Vec::new();
    for group in request.groups_names {
        if asked.iter().all(|(other, _)| *other != group) {
            let body = Body::DeleteGroup(group.to_string());
            let call = groups::ask(service, connection, &incoming, &group, body);
            asked.push((group, call));
        }
    }
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = groups::all(asked).await else {
            return Outcome::Close;
        };
        let results = answers
            .into_iter()
            .map(|(group, answer)| reply(group, answer));
        incoming.reply(&DeleteGroupsResponse::default().with_results(results.collect()))
    })))
}

fn reply(group: GroupId, answer: Result<Reply, ErrorCode>) -> DeletableGroupResult {
    match answer {
        Ok(Reply::DeleteGroup(result)) => result,
        Ok(other) => panic!("a deletion of a group was answered with {other:?}"),
        Err(error) => DeletableGroupResult::default()
            .with_group_id(group)
            .with_error_code(error.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::incoming::text;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn a_group_whose_coordinator_is_not_here_says_so_in_every_version() {
        let result = reply(GroupId(text("g")), Err(ErrorCode::NotCoordinator));
        assert_eq!((result.group_id.as_str(), result.error_code), ("g", 16));
        let response = DeleteGroupsResponse::default().with_results(vec![result]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
