//! AlterConfigs (key 33), versions 0 to 2; 2 is flexible.
//!
//! Replaces all configs of a resource: what is not named goes back to its default. Deprecated in
//! favour of IncrementalAlterConfigs, but old tools use it. Truth: apache/kafka
//! `ConfigurationControlManager.legacyAlterConfigs`.

use crate::cluster::controller::{ConfigChange, ConfigOperation};
use crate::cluster::{ControlRequest, Resource, controller};
use crate::host::Node;
use crate::net::{Outcome, Started};
use crate::protocol::messages::StrBytes;
use crate::protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use crate::protocol::{ApiKey, ApiVersions};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;
use super::{Api, control};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::AlterConfigs);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: AlterConfigsRequest = incoming.decode()?;
    let call = control::ask(service.host(), plan(&request, service.host().node()));
    Ok(Started::Later(Box::pin(async move {
        let Some(results) = control::altered(call, request.resources.len()).await else {
            return Outcome::Close;
        };
        incoming.reply(&reply(&request, results))
    })))
}

/// The resource, or Kafka's words for one that has no configs to change.
pub(crate) fn resource(kind: i8, name: &StrBytes, node: &Node) -> Result<Resource, String> {
    let unknown = || {
        format!(
            "Unsupported resource: type {kind}, name {:?}.",
            name.as_str()
        )
    };
    let resource = Resource::from_kafka(kind, name).ok_or_else(unknown)?;
    Ok(behind(resource, node))
}

/// What clients call a broker of its own may be a core of this node: its configs are the node's.
pub(crate) fn behind(resource: Resource, node: &Node) -> Resource {
    match resource {
        Resource::Broker(id) => Resource::Broker(node.behind(id)),
        other @ (Resource::Topic(_) | Resource::BrokerDefault) => other,
    }
}

/// The request as the controller has it.
fn plan(request: &AlterConfigsRequest, node: &Node) -> ControlRequest {
    let changes = request.resources.iter().map(|changed| {
        let operations = changed.configs.iter().map(|config| {
            let value = config.value.as_ref().map(|value| value.to_string());
            (config.name.to_string(), ConfigOperation::Set(value))
        });
        ConfigChange {
            resource: resource(changed.resource_type, &changed.resource_name, node),
            replace: true,
            operations: operations.collect(),
        }
    });
    ControlRequest::AlterConfigs {
        changes: changes.collect(),
        validate_only: request.validate_only,
    }
}

fn reply(
    request: &AlterConfigsRequest,
    results: Vec<Result<(), controller::Refused>>,
) -> AlterConfigsResponse {
    let responses = request
        .resources
        .iter()
        .zip(results)
        .map(|(resource, result)| {
            let answer = AlterConfigsResourceResponse::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            match result {
                Ok(()) => answer.with_error_message(None),
                Err(refused) => answer
                    .with_error_code(refused.error.code())
                    .with_error_message(Some(text(refused.message))),
            }
        });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{encodes_in_every_version, node};
    use crate::protocol::ErrorCode;
    use crate::protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};

    #[test]
    fn all_configs_of_a_resource_are_replaced() {
        let config = AlterableConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("5")));
        let topic = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        let odd = AlterConfigsResource::default().with_resource_type(99);
        let request = AlterConfigsRequest::default().with_resources(vec![topic, odd]);
        let ControlRequest::AlterConfigs {
            changes,
            validate_only: false,
        } = plan(&request, &node())
        else {
            panic!("configs")
        };
        assert!(changes[0].replace && changes[1].resource.is_err());
        let set = ConfigOperation::Set(Some("5".to_owned()));
        assert_eq!(changes[0].operations, [("retention.ms".to_owned(), set)]);
        let refused = control::plain(ErrorCode::InvalidRequest);
        let response = reply(&request, vec![Ok(()), Err(refused)]);
        let told: Vec<_> = response
            .responses
            .iter()
            .map(|answer| (answer.resource_type, answer.error_code))
            .collect();
        assert_eq!(told, [(2, 0), (99, 42)]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
