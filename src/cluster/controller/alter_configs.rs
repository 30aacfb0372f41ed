//! AlterConfigs and IncrementalAlterConfigs, of topics, of this broker and of the default of all
//! brokers. Truth: apache/kafka `ConfigurationControlManager`, `ConfigAdminManager`,
//! `DynamicBrokerConfig`.

use std::collections::BTreeMap;

use crate::cluster::configs::{Definition, Update, broker_config, parse_broker, topic_config};
use crate::cluster::image::{Configs, Image, Resource};
use crate::cluster::names;
use crate::cluster::records::Record;
use crate::protocol::ErrorCode;

use super::{Controller, Decision, Refusal, Reply};

/// The longest value of a config, in bytes.
const VALUE_BYTES_MAX: usize = 32_767;

/// What to do with a config. The numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Give it this value.
    Set = 0,
    /// Take its value away.
    Delete = 1,
    /// Add these items to its list, those that are not in it.
    Append = 2,
    /// Take these items out of its list.
    Subtract = 3,
}

impl ConfigOperation {
    /// The operation with this number.
    pub fn from_code(code: i8) -> Option<ConfigOperation> {
        Some(match code {
            0 => ConfigOperation::Set,
            1 => ConfigOperation::Delete,
            2 => ConfigOperation::Append,
            3 => ConfigOperation::Subtract,
            _ => return None,
        })
    }
}

/// One change of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The config.
    pub name: String,
    /// Kafka's number of the operation.
    pub operation: i8,
    /// Its operand.
    pub value: Option<String>,
}

/// A resource with what is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceChanges {
    /// Kafka's number of the type.
    pub resource_type: i8,
    /// The resource's name; empty for the default of all brokers.
    pub resource_name: String,
    /// The changes.
    pub changes: Vec<ConfigChange>,
}

/// A resource with all the configs that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceConfigs {
    /// Kafka's number of the type.
    pub resource_type: i8,
    /// The resource's name; empty for the default of all brokers.
    pub resource_name: String,
    /// The configs.
    pub configs: Vec<(String, Option<String>)>,
}

/// What became of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigReply {
    /// Kafka's number of the type.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: String,
    /// Changed as a whole, or why not at all.
    pub result: Result<(), Refusal>,
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

/// Refuses a value that is too long to keep.
pub(super) fn check_size(name: &str, value: &str) -> Result<(), Refusal> {
    let size = value.len();
    if size <= VALUE_BYTES_MAX && name.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let message = format!("A config has {size} bytes, at most {VALUE_BYTES_MAX} are allowed.");
    Err(Refusal::new(ErrorCode::InvalidConfig, message))
}

impl Controller {
    pub(super) fn change_configs(
        &self,
        resources: Vec<ResourceChanges>,
        validate_only: bool,
        image: &Image,
    ) -> Decision {
        let key = |of: &ResourceChanges| (of.resource_type, of.resource_name.clone());
        let (records, replies) = self.each(&resources, key, image, |before, of, resource| {
            let names = of.changes.iter().map(|change| change.name.as_str());
            if !super::duplicates(names).is_empty() {
                return Err(invalid("Error due to duplicate config keys"));
            }
            changed(before, &of.changes, resource)
        });
        let records = if validate_only { Vec::new() } else { records };
        Decision {
            records,
            reply: Reply::IncrementalAlterConfigs(replies),
        }
    }

    pub(super) fn replace_configs(
        &self,
        resources: Vec<ResourceConfigs>,
        validate_only: bool,
        image: &Image,
    ) -> Decision {
        let key = |of: &ResourceConfigs| (of.resource_type, of.resource_name.clone());
        let (records, replies) = self.each(&resources, key, image, |_, of, _| {
            let names = of.configs.iter().map(|(name, _)| name.as_str());
            if !super::duplicates(names).is_empty() {
                return Err(invalid("Error due to duplicate config keys"));
            }
            let not_null = of.configs.iter().map(|(name, value)| {
                let null = || invalid(format!("Null value not supported for : {name}"));
                Ok((name.clone(), value.clone().ok_or_else(null)?))
            });
            not_null.collect()
        });
        let records = if validate_only { Vec::new() } else { records };
        Decision {
            records,
            reply: Reply::AlterConfigs(replies),
        }
    }

    /// Goes through the resources: `wanted` gives all configs that one is to have, which are
    /// checked together; the records are the difference to what it has.
    fn each<T>(
        &self,
        items: &[T],
        key: impl Fn(&T) -> (i8, String),
        image: &Image,
        wanted: impl Fn(&Configs, &T, &Resource) -> Result<Configs, Refusal>,
    ) -> (Vec<Record>, Vec<ConfigReply>) {
        let mut times: BTreeMap<(i8, String), usize> = BTreeMap::new();
        for item in items {
            *times.entry(key(item)).or_default() += 1;
        }
        let (mut records, mut replies) = (Vec::new(), Vec::with_capacity(items.len()));
        for item in items {
            let (resource_type, resource_name) = key(item);
            let once = times.get(&(resource_type, resource_name.clone())) == Some(&1);
            let decide = || {
                if !once {
                    return Err(invalid("Each resource must appear at most once."));
                }
                let resource = self.resource(resource_type, &resource_name)?;
                let before = image.configs(&resource).cloned().unwrap_or_default();
                let after = wanted(&before, item, &resource)?;
                self.check(&resource, &before, &after, image)?;
                Ok(difference(&resource, &before, &after))
            };
            let result = decide().map(|mut new| records.append(&mut new));
            replies.push(ConfigReply {
                resource_type,
                resource_name,
                result,
            });
        }
        (records, replies)
    }

    fn resource(&self, resource_type: i8, name: &str) -> Result<Resource, Refusal> {
        match Resource::from_kafka(resource_type, name) {
            Some(Resource::Topic(name)) if name.is_empty() => {
                Err(invalid("Default topic resources are not allowed."))
            }
            Some(Resource::Broker(id)) if id != self.broker => Err(invalid(format!(
                "Unexpected broker id, expected {}, but received {id}",
                self.broker
            ))),
            Some(resource) => Ok(resource),
            None if resource_type == 4 => Err(invalid(
                "Node id must be an integer from 0, or empty for all brokers",
            )),
            None => Err(invalid(format!("Unknown resource type {resource_type}"))),
        }
    }

    /// Checks all configs that a resource would have.
    fn check(
        &self,
        resource: &Resource,
        before: &Configs,
        after: &Configs,
        image: &Image,
    ) -> Result<(), Refusal> {
        for (name, value) in after {
            check_size(name, value)?;
        }
        let config = |why: String| Refusal::new(ErrorCode::InvalidConfig, why);
        if let Resource::Topic(name) = resource {
            if let Some(why) = names::refusal(name) {
                return Err(Refusal::new(ErrorCode::InvalidTopicException, why));
            }
            let checked = self.layers(image).check_topic(after);
            checked.map_err(|refused| config(refused.why))?;
            let unknown = || Refusal::plain(ErrorCode::UnknownTopicOrPartition);
            return image.topic(name).map(|_| ()).ok_or_else(unknown);
        }
        for (name, value) in after {
            parse_broker(name, value).map_err(|refused| config(refused.why))?;
        }
        let touched = after.keys().chain(before.keys());
        let changed = touched.filter(|name| before.get(*name) != after.get(*name));
        changed
            .filter_map(|name| broker_config(name))
            .try_for_each(|row| dynamic(row, resource))
    }
}

/// Refuses a config that cannot change while the broker runs, or not for all brokers at once.
fn dynamic(row: &Definition, resource: &Resource) -> Result<(), Refusal> {
    let name = row.name;
    match (row.update, resource) {
        (Update::ReadOnly, _) => Err(invalid(format!(
            "Cannot update these configs dynamically: {name}"
        ))),
        (Update::PerBroker, Resource::BrokerDefault) => Err(invalid(format!(
            "Cannot update security configs at default cluster level, broker id must be specified: {name}"
        ))),
        (Update::PerBroker | Update::ClusterWide, _) => Ok(()),
    }
}

/// The configs after the changes.
fn changed(
    before: &Configs,
    changes: &[ConfigChange],
    resource: &Resource,
) -> Result<Configs, Refusal> {
    let mut after = before.clone();
    for change in changes {
        let name = &change.name;
        let Some(operation) = ConfigOperation::from_code(change.operation) else {
            return Err(invalid(format!(
                "Unknown operations type {}",
                change.operation
            )));
        };
        if operation == ConfigOperation::Delete {
            after.remove(name);
            continue;
        }
        let null = || invalid(format!("Null value not supported for : {name}"));
        let value = change.value.as_ref().ok_or_else(null)?;
        let value = match operation {
            ConfigOperation::Set | ConfigOperation::Delete => value.clone(),
            ConfigOperation::Append => edited(name, value, before, resource, true)?,
            ConfigOperation::Subtract => edited(name, value, before, resource, false)?,
        };
        after.insert(name.clone(), value);
    }
    Ok(after)
}

/// A list with items appended or taken out; it starts from Kafka's default if it is not set.
fn edited(
    name: &str,
    operand: &str,
    before: &Configs,
    resource: &Resource,
    append: bool,
) -> Result<String, Refusal> {
    let row = match resource {
        Resource::Topic(_) => topic_config(name),
        Resource::Broker(_) | Resource::BrokerDefault => broker_config(name),
    };
    let Some(row) = row.filter(|row| row.is_list()) else {
        let operation = if append { "APPEND" } else { "SUBTRACT" };
        let message = format!("Can't {operation} to key {name} because its type is not LIST.");
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    };
    check_size(name, operand)?;
    let current = before
        .get(name)
        .map(String::as_str)
        .or(row.default)
        .unwrap_or("");
    let parts = |text: &'_ str| -> Vec<String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut items = parts(current);
    for item in parts(operand) {
        let at = items.iter().position(|other| *other == item);
        match (append, at) {
            (true, None) => items.push(item),
            (false, Some(at)) => drop(items.remove(at)),
            (true, Some(_)) | (false, None) => {}
        }
    }
    Ok(items.join(","))
}

/// The records that turn `before` into `after`.
fn difference(resource: &Resource, before: &Configs, after: &Configs) -> Vec<Record> {
    let (resource_type, resource_name) = resource.to_kafka();
    let record = |name: &str, value: Option<&String>| Record::Config {
        resource_type,
        resource_name: resource_name.clone(),
        name: name.to_owned(),
        value: value.cloned(),
    };
    let set = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(*value));
    let deleted = before.keys().filter(|name| !after.contains_key(*name));
    let set = set.map(|(name, value)| record(name, Some(value)));
    set.chain(deleted.map(|name| record(name, None))).collect()
}
