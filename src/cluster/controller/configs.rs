//! Changes of configs (apache/kafka `ConfigurationControlManager`, KIP-339).

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::configs::{
    ConfigError, Definition, Update, broker_config, parse_broker, parse_topic, topic_config,
};
use crate::cluster::image::{Configs, Image, Resource};
use crate::cluster::records::Record;
use crate::protocol::ErrorCode;

use super::{ConfigChange, ConfigOperation, ControlReply, Controller, Decision, Refused};

impl Controller {
    pub(super) fn alter_configs(
        &mut self,
        changes: &[ConfigChange],
        validate_only: bool,
        image: &Image,
    ) -> Decision {
        let mut records = Vec::new();
        let mut times: BTreeMap<&Resource, usize> = BTreeMap::new();
        for resource in changes
            .iter()
            .filter_map(|change| change.resource.as_ref().ok())
        {
            *times.entry(resource).or_default() += 1;
        }
        let results = changes.iter().map(|change| {
            let times = change
                .resource
                .as_ref()
                .ok()
                .and_then(|resource| times.get(resource));
            if times.is_some_and(|times| *times > 1) {
                let message = "Each resource must appear at most once.";
                return Err(Refused::new(ErrorCode::InvalidRequest, message));
            }
            let mut made = self.alter_config(change, image)?;
            records.append(&mut made);
            Ok(())
        });
        let results = results.collect();
        if validate_only {
            records.clear();
        }
        Decision {
            records,
            reply: ControlReply::AlterConfigs(results),
        }
    }

    fn alter_config(&self, change: &ConfigChange, image: &Image) -> Result<Vec<Record>, Refused> {
        let invalid = |message: String| Refused::new(ErrorCode::InvalidRequest, message);
        let resource = change
            .resource
            .as_ref()
            .map_err(|why| invalid(why.clone()))?;
        self.check_resource(resource, image)?;
        let empty = Configs::new();
        let before = image.configs(resource).unwrap_or(&empty);
        let mut after = if change.replace {
            Configs::new()
        } else {
            before.clone()
        };
        let mut seen = BTreeSet::new();
        for (name, operation) in &change.operations {
            if !seen.insert(name) {
                return Err(invalid(format!(
                    "Error due to duplicate config keys: {name}"
                )));
            }
            self.operate(resource, name, operation, &mut after, image)?;
        }
        self.check(resource, before, &after, image)?;
        let (resource_type, resource_name) = resource.to_kafka();
        let record = |name: &String, value: Option<&String>| Record::Config {
            resource_type,
            resource_name: resource_name.clone(),
            name: name.clone(),
            value: value.cloned(),
        };
        let set = after
            .iter()
            .filter(|(name, value)| before.get(*name) != Some(value));
        let cleared = before.keys().filter(|name| !after.contains_key(*name));
        let set = set.map(|(name, value)| record(name, Some(value)));
        Ok(set.chain(cleared.map(|name| record(name, None))).collect())
    }

    fn check_resource(&self, resource: &Resource, image: &Image) -> Result<(), Refused> {
        match resource {
            Resource::Topic(name) if name.is_empty() => Err(Refused::new(
                ErrorCode::InvalidRequest,
                "Default topic resources are not allowed.",
            )),
            Resource::Topic(name) if image.topic(name).is_none() => Err(Refused::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("The topic '{name}' does not exist."),
            )),
            Resource::Broker(id) if *id != self.broker => Err(Refused::new(
                ErrorCode::InvalidRequest,
                format!(
                    "Unexpected broker id, expected {}, but received {id}",
                    self.broker
                ),
            )),
            Resource::Topic(_) | Resource::Broker(_) | Resource::BrokerDefault => Ok(()),
        }
    }

    fn operate(
        &self,
        resource: &Resource,
        name: &str,
        operation: &ConfigOperation,
        configs: &mut Configs,
        image: &Image,
    ) -> Result<(), Refused> {
        let row = definition(resource, name);
        let null = || {
            let message = format!("Null value not supported for : {name}");
            Refused::new(ErrorCode::InvalidRequest, message)
        };
        match operation {
            ConfigOperation::Set(value) => {
                let value = value.as_ref().ok_or_else(null)?;
                configs.insert(name.to_owned(), value.clone());
            }
            ConfigOperation::Delete => {
                configs.remove(name);
            }
            ConfigOperation::Append(value) | ConfigOperation::Subtract(value) => {
                let value = value.as_ref().ok_or_else(null)?;
                let Some(row) = row.filter(|row| row.is_list()) else {
                    let message = format!("Can't append or subtract: {name} is not a list.");
                    return Err(Refused::new(ErrorCode::InvalidConfig, message));
                };
                check_size(value)?;
                let current = match configs.get(name) {
                    Some(set) => set.clone(),
                    None => self.in_force(resource, row, image),
                };
                let append = matches!(operation, ConfigOperation::Append(_));
                configs.insert(name.to_owned(), edited(&current, value, append));
            }
        }
        Ok(())
    }

    fn in_force(&self, resource: &Resource, row: &Definition, image: &Image) -> String {
        let layers = self.layers(image);
        match resource {
            Resource::Topic(_) => layers.topic_value(row, None).unwrap_or_default(),
            Resource::Broker(_) | Resource::BrokerDefault => {
                layers.broker_value(row.name).unwrap_or_default().to_owned()
            }
        }
    }

    /// Checks what is new, each by its rule and, for topics, all together.
    fn check(
        &self,
        resource: &Resource,
        before: &Configs,
        after: &Configs,
        image: &Image,
    ) -> Result<(), Refused> {
        let refused = |error: ConfigError| Refused::new(ErrorCode::InvalidConfig, error.why);
        after.values().try_for_each(|value| check_size(value))?;
        match resource {
            Resource::Topic(_) => {
                for (name, value) in after {
                    parse_topic(name, value).map_err(refused)?;
                }
                self.layers(image).check_topic(after).map_err(refused)
            }
            Resource::Broker(_) | Resource::BrokerDefault => {
                for (name, value) in after {
                    parse_broker(name, value).map_err(refused)?;
                    let changed = before.get(name) != Some(value);
                    if changed {
                        check_dynamic(resource, name)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// The longest value of a config, in bytes.
const VALUE_BYTES_MAX: usize = 32_767;

/// Refuses a value that is too long to be kept in the metadata.
pub(super) fn check_size(value: &str) -> Result<(), Refused> {
    let size = value.len();
    if size <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("A config's value has {size} bytes, at most {VALUE_BYTES_MAX} are allowed.");
    Err(Refused::new(ErrorCode::InvalidConfig, message))
}

fn definition(resource: &Resource, name: &str) -> Option<&'static Definition> {
    match resource {
        Resource::Topic(_) => topic_config(name),
        Resource::Broker(_) | Resource::BrokerDefault => broker_config(name),
    }
}

/// Broker configs that only a restart changes are refused, and per-broker ones for the default
/// (apache/kafka `DynamicBrokerConfig`).
fn check_dynamic(resource: &Resource, name: &str) -> Result<(), Refused> {
    let Some(row) = broker_config(name) else {
        return Ok(());
    };
    let message = match (row.update, resource) {
        (Update::ReadOnly, _) => format!("Cannot update these configs dynamically: Set({name})"),
        (Update::PerBroker, Resource::BrokerDefault) => {
            format!("Cannot update these configs at default cluster level: Set({name})")
        }
        (Update::PerBroker | Update::ClusterWide, _) => return Ok(()),
    };
    Err(Refused::new(ErrorCode::InvalidRequest, message))
}

/// A list with the items of `value` added at its end (those it has already are not repeated), or
/// taken out.
fn edited(current: &str, value: &str, append: bool) -> String {
    let items = |text: &str| -> Vec<String> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let mut list = items(current);
    for item in items(value) {
        let there = list.iter().position(|have| *have == item);
        match (there, append) {
            (None, true) => list.push(item),
            (Some(at), false) => drop(list.remove(at)),
            (Some(_), true) | (None, false) => {}
        }
    }
    list.join(",")
}
