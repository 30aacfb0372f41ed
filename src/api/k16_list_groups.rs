//! ListGroups (key 16), versions 0 to 5.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | throttle time |
//! | 3 | flexible |
//! | 4 | states, and a filter by them (KIP-518) |
//! | 5 | types, and a filter by them (KIP-848) |
//!
//! Asks every coordinator of this broker. One that is loading refuses the whole list, one that is
//! not here any more is passed over. Truth: apache/kafka `GroupCoordinatorService.listGroups`.

use crate::group::{Body, Reply};
use crate::net::{Outcome, Started};
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::protocol::messages::{ListGroupsRequest, ListGroupsResponse, StrBytes};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::ListGroups);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on groups have states.
const WITH_STATES: i16 = 4;
/// From here on groups have types.
const WITH_TYPES: i16 = 5;

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: ListGroupsRequest = incoming.decode()?;
    let image = service.host().image();
    // A core that is a broker of its own tells of the groups that it coordinates: clients ask all.
    let only = connection.endpoint.core;
    let homes = groups::homes(service.view(&image)).into_iter();
    let homes = homes.filter(|home| only.is_none_or(|only| only == home.core));
    let asked = homes.map(|home| {
        let body = Body::ListGroups(request.clone());
        let call = groups::ask_at(service, connection, &incoming, home, body);
        ((), call)
    });
    let asked: Vec<_> = asked.collect();
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = groups::all(asked).await else {
            return Outcome::Close;
        };
        let answers = answers.into_iter().map(|((), answer)| answer);
        incoming.reply(&reply(answers, incoming.version()))
    })))
}

fn reply(
    answers: impl Iterator<Item = Result<Reply, ErrorCode>>,
    version: i16,
) -> ListGroupsResponse {
    let mut groups = Vec::new();
    for answer in answers {
        match answer {
            Ok(Reply::ListGroups(listed)) => groups.extend(listed),
            Ok(other) => panic!("a list of groups was answered with {other:?}"),
            Err(ErrorCode::NotCoordinator) => {}
            Err(error) => return ListGroupsResponse::default().with_error_code(error.code()),
        }
    }
    let groups = groups.into_iter().map(|group| in_version(group, version));
    ListGroupsResponse::default().with_groups(groups.collect())
}

/// The group without what the version does not have.
fn in_version(mut group: ListedGroup, version: i16) -> ListedGroup {
    if version < WITH_STATES {
        group.group_state = StrBytes::default();
    }
    if version < WITH_TYPES {
        group.group_type = StrBytes::default();
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::incoming::text;
    use crate::api::tests::encodes_in;

    fn listed(id: &str) -> Result<Reply, ErrorCode> {
        let group = ListedGroup::default()
            .with_group_id(text(id).into())
            .with_group_state(text("Stable"))
            .with_group_type(text("Classic"));
        Ok(Reply::ListGroups(vec![group]))
    }

    #[test]
    fn the_groups_of_all_coordinators_are_one_list_in_every_version() {
        for version in VERSIONS.min..=VERSIONS.max {
            let answers = [listed("a"), Err(ErrorCode::NotCoordinator), listed("b")];
            let response = reply(answers.into_iter(), version);
            let ids = response.groups.iter().map(|group| group.group_id.as_str());
            assert_eq!(ids.collect::<Vec<_>>(), ["a", "b"]);
            encodes_in(VERSIONS, version..=version, &response);
        }
    }

    #[test]
    fn a_coordinator_that_is_loading_refuses_the_list() {
        let answers = [listed("a"), Err(ErrorCode::CoordinatorLoadInProgress)];
        let response = reply(answers.into_iter(), 5);
        assert_eq!((response.error_code, response.groups.len()), (14, 0));
    }
}
