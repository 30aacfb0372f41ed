//! DescribeClientQuotas (key 48), versions 0 to 1; 1 is flexible.
//!
//! No quota can be set here, so none is ever found; a filter that Kafka refuses is refused. Truth:
//! apache/kafka `ClientQuotasImage.describe`.

use std::collections::BTreeSet;

use crate::cluster::controller;
use crate::net::Started;
use crate::protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeClientQuotas);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// The entities that quotas are for.
const ENTITIES: [&str; 3] = ["user", "client-id", "ip"];
/// Exactly this name; the default; any.
const MATCHES: [i8; 3] = [0, 1, 2];

fn start(
    _service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: DescribeClientQuotasRequest = incoming.decode()?;
    incoming.now(&reply(&request))
}

fn reply(request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let response = DescribeClientQuotasResponse::default();
    match check(request) {
        Ok(()) => response
            .with_error_message(None)
            .with_entries(Some(Vec::new())),
        Err(refused) => response
            .with_error_code(refused.error.code())
            .with_error_message(Some(text(refused.message)))
            .with_entries(None),
    }
}

fn check(request: &DescribeClientQuotasRequest) -> Result<(), controller::Refused> {
    let mut seen = BTreeSet::new();
    for component in &request.components {
        let kind = component.entity_type.as_str();
        let invalid = |message| Err(controller::Refused::new(ErrorCode::InvalidRequest, message));
        if kind.is_empty() {
            return invalid("An entity type must not be empty.".to_owned());
        }
        if !ENTITIES.contains(&kind) {
            let message = format!("There are no quotas for entities of the type {kind}.");
            return Err(controller::Refused::new(
                ErrorCode::UnsupportedVersion,
                message,
            ));
        }
        if !seen.insert(kind) {
            return invalid(format!("The entity type {kind} comes more than once."));
        }
        if !MATCHES.contains(&component.match_type) {
            return invalid(format!("Unknown match type {}.", component.match_type));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;
    use crate::protocol::messages::describe_client_quotas_request::ComponentData;

    fn answer(entities: &[(&'static str, i8)]) -> DescribeClientQuotasResponse {
        let component = |(entity, kind): &(&'static str, i8)| {
            ComponentData::default()
                .with_entity_type(text(*entity))
                .with_match_type(*kind)
        };
        let components = entities.iter().map(component).collect();
        let response = reply(&DescribeClientQuotasRequest::default().with_components(components));
        encodes_in_every_version(VERSIONS, &response);
        response
    }

    #[test]
    fn no_quota_is_found_and_odd_filters_are_refused() {
        assert_eq!(answer(&[]).entries, Some(Vec::new()));
        assert_eq!(answer(&[("user", 0), ("client-id", 2)]).error_code, 0);
        assert_eq!(answer(&[("user", 3)]).error_code, 42);
        assert_eq!(answer(&[("user", 0), ("user", 1)]).error_code, 42);
        assert_eq!(answer(&[("", 0)]).error_code, 42);
        assert_eq!(answer(&[("planet", 0)]).error_code, 35);
    }
}
