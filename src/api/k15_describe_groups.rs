//! DescribeGroups (key 15), versions 0 to 6.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | throttle time |
//! | 3 | authorized operations (KIP-430) |
//! | 4 | group instance id (KIP-345) |
//! | 5 | flexible |
//! | 6 | a group that is not there is an error, with a message (KIP-1043) |
//!
//! Describes classic groups. Truth: apache/kafka `GroupMetadataManager.describeGroups`.

use crate::group::{Body, Reply};
use crate::net::{Outcome, Started};
use crate::protocol::messages::describe_groups_response::DescribedGroup;
use crate::protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups, operations};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeGroups);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on members have group instance ids.
const WITH_INSTANCES: i16 = 4;

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: DescribeGroupsRequest = incoming.decode()?;
    let operations = request.include_authorized_operations;
    let mut asked = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let body = Body::DescribeGroup(group.to_string());
        let call = groups::ask(service, connection, &incoming, &group, body);
        asked.push((group, call));
    }
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = groups::all(asked).await else {
            return Outcome::Close;
        };
        let version = incoming.version();
        let described = answers
            .into_iter()
            .map(|(group, answer)| reply(group, answer, operations, version));
        incoming.reply(&DescribeGroupsResponse::default().with_groups(described.collect()))
    })))
}

fn reply(
    group: GroupId,
    answer: Result<Reply, ErrorCode>,
    with_operations: bool,
    version: i16,
) -> DescribedGroup {
    let mut described = match answer {
        Ok(Reply::DescribeGroup(described)) => described,
        Ok(other) => panic!("a description of a group was answered with {other:?}"),
        Err(error) => {
            return DescribedGroup::default()
                .with_group_id(group)
                .with_error_code(error.code())
                .with_authorized_operations(operations::NOT_ASKED);
        }
    };
    let told = with_operations && described.error_code == ErrorCode::None.code();
    described.authorized_operations = match told {
        true => operations::GROUP,
        false => operations::NOT_ASKED,
    };
    if version < WITH_INSTANCES {
        for member in &mut described.members {
            member.group_instance_id = None;
        }
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::incoming::text;
    use crate::api::tests::encodes_in;
    use crate::protocol::messages::describe_groups_response::DescribedGroupMember;

    fn group() -> GroupId {
        GroupId(text("g"))
    }

    #[test]
    fn a_group_whose_coordinator_is_not_here_says_so_in_every_version() {
        for version in VERSIONS.min..=VERSIONS.max {
            let group = reply(group(), Err(ErrorCode::NotCoordinator), true, version);
            assert_eq!(
                (group.error_code, group.authorized_operations),
                (16, i32::MIN)
            );
            let response = DescribeGroupsResponse::default().with_groups(vec![group]);
            encodes_in(VERSIONS, version..=version, &response);
        }
    }

    #[test]
    fn members_and_operations_are_told_where_the_version_has_them() {
        let member = DescribedGroupMember::default()
            .with_member_id(text("m"))
            .with_group_instance_id(Some(text("i")));
        let described = DescribedGroup::default()
            .with_group_id(group())
            .with_members(vec![member]);
        for version in VERSIONS.min..=VERSIONS.max {
            let answer = Ok(Reply::DescribeGroup(described.clone()));
            let group = reply(group(), answer, version >= 3, version);
            assert_eq!(group.members[0].group_instance_id.is_some(), version >= 4);
            assert_eq!(
                group.authorized_operations == operations::GROUP,
                version >= 3
            );
            let response = DescribeGroupsResponse::default().with_groups(vec![group]);
            encodes_in(VERSIONS, version..=version, &response);
        }
    }
}
