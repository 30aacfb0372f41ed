//! DescribeConfigs (key 32), versions 1 to 4.
//!
//! | version | what it added |
//! |---|---|
//! | 1 | synonyms, and where each value comes from (KIP-226) |
//! | 3 | type and documentation (KIP-569) |
//! | 4 | flexible |
//!
//! Every config that is known is told, with its default where it is not set; values of secrets never
//! are. Configs that are accepted without effect say so in their documentation. A list of names, if
//! it is not empty, picks from them. A broker answers for itself (4, by its id) and for the default
//! of all brokers (4, without a name). Loggers (8) have no configs here. Truth: apache/kafka
//! `ConfigHelper.describeConfigs`.

use crate::base::BrokerId;
use crate::cluster::configs::{ConfigEntry, Layers, Synonym, describe};
use crate::cluster::controller;
use crate::cluster::image::Resource;
use crate::host::Node;
use crate::net::Started;
use crate::protocol::messages::describe_configs_request::DescribeConfigsResource;
use crate::protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::k33_alter_configs::behind;
use super::partitions::unknown;
use super::service::Service;
use super::{Api, control};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeConfigs);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on entries have a type, and documentation on request.
const WITH_TYPE: i16 = 3;
/// Kafka's number for the loggers of a broker.
const BROKER_LOGGER: i8 = 8;

/// What is told of each entry.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
    types: bool,
}

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: DescribeConfigsRequest = incoming.decode()?;
    let (image, node) = (service.host().image(), service.host().node());
    let layers = Layers::new(&image, node.broker, &node.static_configs);
    incoming.now(&reply(&request, incoming.version(), node, &layers))
}

fn reply(
    request: &DescribeConfigsRequest,
    version: i16,
    node: &Node,
    layers: &Layers<'_>,
) -> DescribeConfigsResponse {
    let detail = Detail {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation && version >= WITH_TYPE,
        types: version >= WITH_TYPE,
    };
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match entries(resource, node, layers) {
            Ok(entries) => {
                let wanted = entries.iter().filter(|entry| is_wanted(resource, entry));
                let configs = wanted.map(|entry| told(entry, detail)).collect();
                result.with_error_message(None).with_configs(configs)
            }
            Err(refused) => result
                .with_error_code(refused.error.code())
                .with_error_message(Some(text(refused.message))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn entries(
    resource: &DescribeConfigsResource,
    node: &Node,
    layers: &Layers<'_>,
) -> Result<Vec<ConfigEntry>, controller::Refused> {
    let (kind, name) = (resource.resource_type, resource.resource_name.as_str());
    let invalid = |message: String| controller::Refused::new(ErrorCode::InvalidRequest, message);
    if kind == BROKER_LOGGER {
        let ids = node.all_shown();
        return match ids.iter().any(|id| name == id.to_string()) {
            true => Ok(Vec::new()),
            false => Err(invalid(wrong_broker(node, name))),
        };
    }
    let resource = Resource::from_kafka(kind, name)
        .ok_or_else(|| invalid(format!("Unsupported resource: type {kind}, name {name:?}.")))?;
    let resource = behind(resource, node);
    describe(&resource, layers).ok_or_else(|| match &resource {
        // Kafka leaves the words to the client here (`ConfigHelper`).
        Resource::Topic(name) => match unknown(name) {
            ErrorCode::UnknownTopicOrPartition => {
                controller::Refused::new(ErrorCode::UnknownTopicOrPartition, "")
            }
            error => control::plain(error),
        },
        Resource::Broker(_) | Resource::BrokerDefault => invalid(wrong_broker(node, name)),
    })
}

fn wrong_broker(node: &Node, name: &str) -> String {
    let ids: Vec<_> = node.all_shown().iter().map(BrokerId::to_string).collect();
    let ids = ids.join(" or ");
    format!("Unexpected broker id, expected {ids} or an empty string, but received {name}.")
}

/// No names, or none at all: everything.
fn is_wanted(resource: &DescribeConfigsResource, entry: &ConfigEntry) -> bool {
    match &resource.configuration_keys {
        Some(names) if !names.is_empty() => names.iter().any(|name| **name == *entry.name()),
        Some(_) | None => true,
    }
}

fn told(entry: &ConfigEntry, detail: Detail) -> DescribeConfigsResourceResult {
    let mut result = DescribeConfigsResourceResult::default()
        .with_name(text(entry.name()))
        .with_value(entry.value.clone().map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.definition.is_sensitive())
        .with_documentation(None);
    if detail.synonyms {
        result.synonyms = entry.synonyms.iter().map(synonym).collect();
    }
    if detail.types {
        result.config_type = entry.definition.kind as i8;
    }
    if detail.documentation {
        result.documentation = Some(text(entry.definition.documentation()));
    }
    result
}

fn synonym(synonym: &Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default()
        .with_name(text(synonym.name.as_str()))
        .with_value(synonym.value.clone().map(text))
        .with_source(synonym.source as i8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{BROKER, World, encodes_in, node};
    use crate::cluster::configs::StaticConfigs;

    fn world() -> World {
        let mut world = World::new(1);
        world.topic("t", 1, 1);
        world.config("t", "retention.ms", "1000");
        world
    }

    fn request(kind: i8, name: &str, keys: Option<&[&'static str]>) -> DescribeConfigsRequest {
        let keys = keys.map(|keys| keys.iter().map(|key| text(*key)).collect());
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(keys);
        DescribeConfigsRequest::default().with_resources(vec![resource])
    }

    fn answer(request: &DescribeConfigsRequest, version: i16) -> DescribeConfigsResult {
        let (world, statics) = (world(), StaticConfigs::new());
        let layers = Layers::new(&world.image, BROKER, &statics);
        let mut response = reply(request, version, &node(), &layers);
        encodes_in(VERSIONS, version.., &response);
        response.results.remove(0)
    }

    #[test]
    fn all_configs_of_a_topic_are_told_and_those_that_are_set_say_so() {
        for keys in [None, Some(&[][..])] {
            let all = answer(&request(2, "t", keys), 4);
            assert!(all.configs.len() > 20, "{}", all.configs.len());
            let of = |name: &str| all.configs.iter().find(|one| &*one.name == name).unwrap();
            let retention = of("retention.ms");
            assert_eq!(retention.value.as_deref(), Some("1000"));
            assert_eq!((retention.config_source, retention.config_type), (1, 5));
            assert_eq!(of("cleanup.policy").config_source, 5);
            assert!(retention.synonyms.is_empty() && retention.documentation.is_none());
        }
    }

    #[test]
    fn names_pick_and_synonyms_and_documentation_come_on_request() {
        let request = request(2, "t", Some(&["retention.ms", "no.such.config"]))
            .with_include_synonyms(true)
            .with_include_documentation(true);
        let result = answer(&request, 4);
        assert_eq!(result.configs.len(), 1);
        assert_eq!(result.configs[0].synonyms[0].source, 1);
        assert!(result.configs[0].documentation.is_some());
        let old = answer(&request, 1);
        assert_eq!(
            (old.configs[0].config_type, &old.configs[0].documentation),
            (0, &None)
        );
    }

    #[test]
    fn a_broker_answers_for_itself_and_for_the_default() {
        assert!(answer(&request(4, "1", None), 4).configs.len() > 20);
        assert_eq!(answer(&request(4, "", None), 4).error_code, 0);
        assert_eq!(answer(&request(4, "2", None), 4).error_code, 42);
        assert_eq!(answer(&request(4, "x", None), 4).error_code, 42);
        assert_eq!(answer(&request(8, "1", None), 4).error_code, 0);
        assert_eq!(answer(&request(8, "2", None), 4).error_code, 42);
    }

    #[test]
    fn unknown_topics_and_resources_are_refused() {
        let error = |kind, name| answer(&request(kind, name, None), 4).error_code;
        assert_eq!(
            [error(2, "x"), error(2, "a b"), error(99, "x")],
            [3, 17, 42]
        );
    }
}
