//! IncrementalAlterConfigs (key 44), versions 0 to 1; 1 is flexible (KIP-339).
//!
//! Operations: 0 set, 1 delete, 2 append to a list, 3 subtract from a list. Another number refuses
//! its resource. Truth: apache/kafka `ConfigurationControlManager.incrementalAlterConfigs`.

use crate::cluster::controller::{ConfigChange, ConfigOperation};
use crate::cluster::{ControlRequest, controller};
use crate::host::Node;
use crate::net::{Outcome, Started};
use crate::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use crate::protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use crate::protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use crate::protocol::{ApiKey, ApiVersions};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::k33_alter_configs::resource;
use super::service::Service;
use super::{Api, control};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::IncrementalAlterConfigs);

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
    let request: IncrementalAlterConfigsRequest = incoming.decode()?;
    let call = control::ask(service.host(), plan(&request, service.host().node()));
    Ok(Started::Later(Box::pin(async move {
        let Some(results) = control::altered(call, request.resources.len()).await else {
            return Outcome::Close;
        };
        incoming.reply(&reply(&request, results))
    })))
}

/// The request as the controller has it.
fn plan(request: &IncrementalAlterConfigsRequest, node: &Node) -> ControlRequest {
    ControlRequest::AlterConfigs {
        changes: request
            .resources
            .iter()
            .map(|changed| change(changed, node))
            .collect(),
        validate_only: request.validate_only,
    }
}

fn change(changed: &AlterConfigsResource, node: &Node) -> ConfigChange {
    let operations: Result<Vec<_>, String> = changed.configs.iter().map(operation).collect();
    let target = resource(changed.resource_type, &changed.resource_name, node);
    let (resource, operations) = match operations {
        Ok(operations) => (target, operations),
        Err(why) => (Err(why), Vec::new()),
    };
    ConfigChange {
        resource,
        replace: false,
        operations,
    }
}

fn operation(config: &AlterableConfig) -> Result<(String, ConfigOperation), String> {
    let value = config.value.as_ref().map(|value| value.to_string());
    let operation = match config.config_operation {
        0 => ConfigOperation::Set(value),
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append(value),
        3 => ConfigOperation::Subtract(value),
        other => return Err(format!("Unknown operation {other} on a config.")),
    };
    Ok((config.name.to_string(), operation))
}

fn reply(
    request: &IncrementalAlterConfigsRequest,
    results: Vec<Result<(), controller::Refused>>,
) -> IncrementalAlterConfigsResponse {
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
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{encodes_in_every_version, node};

    fn changed(operation: i8) -> ConfigChange {
        let config = AlterableConfig::default()
            .with_name(text("cleanup.policy"))
            .with_config_operation(operation)
            .with_value(Some(text("compact")));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        change(&resource, &node())
    }

    #[test]
    fn operations_are_kafkas_numbers_and_others_refuse_the_resource() {
        let value = || Some("compact".to_owned());
        let wanted = [
            ConfigOperation::Set(value()),
            ConfigOperation::Delete,
            ConfigOperation::Append(value()),
            ConfigOperation::Subtract(value()),
        ];
        for (number, wanted) in (0..).zip(wanted) {
            assert_eq!(changed(number).operations[0].1, wanted);
        }
        assert!(changed(4).resource.is_err());
        assert!(!changed(0).replace);
    }

    #[test]
    fn each_resource_has_its_answer() {
        let resource = AlterConfigsResource::default().with_resource_type(2);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = reply(&request, vec![Ok(())]);
        assert_eq!(
            (
                response.responses[0].resource_type,
                response.responses[0].error_code
            ),
            (2, 0)
        );
        encodes_in_every_version(VERSIONS, &response);
    }
}
