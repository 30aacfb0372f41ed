//! ConsumerGroupDescribe (key 69), versions 0 and 1.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | the member's type (KIP-1099) |
//!
//! Describes consumer groups (KIP-848). Served while the feature `group.version` is finalised at 1.
//! Truth: apache/kafka `GroupMetadataManager.consumerGroupDescribe`.

use crate::group::{Body, Reply};
use crate::net::{Outcome, Started};
use crate::protocol::messages::consumer_group_describe_response::DescribedGroup;
use crate::protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId,
};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;
use super::{Api, groups, operations};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::ConsumerGroupDescribe);

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
    let request: ConsumerGroupDescribeRequest = incoming.decode()?;
    let operations = request.include_authorized_operations;
    let served = groups::have_consumer_protocol(&service.host().image());
    let mut asked = Vec::with_capacity(request.group_ids.len());
    for group in request.group_ids {
        let call = match served {
            false => groups::Asked::Refused(ErrorCode::UnsupportedVersion),
            true => {
                let body = Body::ConsumerGroupDescribe(group.to_string());
                groups::ask(service, connection, &incoming, &group, body)
            }
        };
        asked.push((group, call));
    }
    Ok(Started::Later(Box::pin(async move {
        let Ok(answers) = groups::all(asked).await else {
            return Outcome::Close;
        };
        let described = answers
            .into_iter()
            .map(|(group, answer)| reply(group, answer, operations));
        let response = ConsumerGroupDescribeResponse::default();
        incoming.reply(&response.with_groups(described.collect()))
    })))
}

fn reply(
    group: GroupId,
    answer: Result<Reply, ErrorCode>,
    with_operations: bool,
) -> DescribedGroup {
    let described = match answer {
        Ok(Reply::ConsumerGroupDescribe(described)) => described,
        Ok(other) => panic!("a description of a group was answered with {other:?}"),
        Err(error) => DescribedGroup::default()
            .with_group_id(group)
            .with_error_code(error.code()),
    };
    let told = with_operations && described.error_code == ErrorCode::None.code();
    described.with_authorized_operations(match told {
        true => operations::GROUP,
        false => operations::NOT_ASKED,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::incoming::text;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn refusals_and_descriptions_are_told_in_every_version() {
        let group = || GroupId(text("g"));
        let refused = reply(group(), Err(ErrorCode::NotCoordinator), true);
        assert_eq!(
            (refused.error_code, refused.authorized_operations),
            (16, i32::MIN)
        );
        let found = DescribedGroup::default().with_group_id(group());
        let found = reply(group(), Ok(Reply::ConsumerGroupDescribe(found)), true);
        assert_eq!(found.authorized_operations, operations::GROUP);
        let response = ConsumerGroupDescribeResponse::default();
        encodes_in_every_version(VERSIONS, &response.with_groups(vec![refused, found]));
    }
}
