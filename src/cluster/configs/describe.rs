//! What is in force, and where it comes from: topic overrides, then dynamic broker configs, then
//! the dynamic default of all brokers, then what the broker was started with, then Kafka's default
//! (apache/kafka `ConfigHelper`, `KafkaConfigSchema`).

use std::collections::BTreeMap;

use crate::base::BrokerId;
use crate::cluster::image::{Configs, Image, Resource};

use super::{Definition, Kind, Twin, Update, broker_config, broker_configs, topic_configs};

/// The configs that a broker was started with: file and flags, by Kafka's names.
pub type StaticConfigs = BTreeMap<String, String>;

/// Where a value comes from; the numbers are DescribeConfigs'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Set on the topic.
    Topic = 1,
    /// Set on this broker while it ran.
    DynamicBroker = 2,
    /// Set on all brokers while they ran.
    DynamicDefaultBroker = 3,
    /// Set when the broker was started.
    StaticBroker = 4,
    /// Not set.
    Default = 5,
}

/// One config that could give, or gives, an entry's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// Its name: the topic's, or a broker config behind it.
    pub name: String,
    /// Its value in its own unit; none if it is secret.
    pub value: Option<String>,
    /// Where it is set.
    pub source: Source,
}

/// One config of a resource as DescribeConfigs tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigEntry {
    /// Its row: name, type, documentation.
    pub definition: &'static Definition,
    /// The value in force; none if it is null or secret.
    pub value: Option<String>,
    /// Where that value comes from.
    pub source: Source,
    /// Every place where it is set, the strongest first.
    pub synonyms: Vec<Synonym>,
    /// True if it cannot be changed while the broker runs.
    pub read_only: bool,
}

impl ConfigEntry {
    /// Kafka's name.
    pub fn name(&self) -> &'static str {
        self.definition.name
    }

    /// True if nothing sets it.
    pub fn is_default(&self) -> bool {
        self.source == Source::Default
    }
}

/// The layers below a topic's own configs, as one broker sees them.
#[derive(Clone, Copy)]
pub struct Layers<'a> {
    image: &'a Image,
    broker: BrokerId,
    statics: &'a StaticConfigs,
}

impl<'a> Layers<'a> {
    /// The layers of `broker`, which was started with `statics`.
    pub fn new(image: &'a Image, broker: BrokerId, statics: &'a StaticConfigs) -> Layers<'a> {
        Layers {
            image,
            broker,
            statics,
        }
    }

    /// Every place where a broker config is set, the strongest first; its default last.
    fn places(&self, name: &str) -> Vec<(Source, &'a str)> {
        let dynamic = |resource| self.image.configs(&resource)?.get(name);
        let set = [
            (
                Source::DynamicBroker,
                dynamic(Resource::Broker(self.broker)),
            ),
            (
                Source::DynamicDefaultBroker,
                dynamic(Resource::BrokerDefault),
            ),
            (Source::StaticBroker, self.statics.get(name)),
        ];
        let set = set
            .into_iter()
            .filter_map(|(source, value)| Some((source, value?.as_str())));
        let default = broker_config(name).and_then(|row| row.default);
        set.chain(default.map(|default| (Source::Default, default)))
            .collect()
    }

    /// The value of a broker config in force, as text.
    pub fn broker_value(&self, name: &str) -> Option<&'a str> {
        self.places(name).first().map(|(_, value)| *value)
    }

    /// The value of a topic config in force, as text, in the topic config's unit.
    pub fn topic_value(&self, row: &Definition, overrides: Option<&Configs>) -> Option<String> {
        let set = overrides.and_then(|configs| configs.get(row.name)).cloned();
        set.or_else(|| self.behind(row).0)
    }

    /// The value and the source of a topic config that the topic does not set: the first broker
    /// config behind it that is set at all, whatever the layer (ms before minutes before hours).
    fn behind(&self, row: &Definition) -> (Option<String>, Source) {
        let set = row.twins.iter().find_map(|twin| {
            let (source, value) = self.places(twin.name).first().copied()?;
            (source != Source::Default).then(|| (converted(twin, value), source))
        });
        set.unwrap_or_else(|| (row.default.map(str::to_owned), Source::Default))
    }

    /// The configs of a topic that sets `overrides`: all that are known, in order of name.
    pub fn describe_topic(&self, overrides: Option<&Configs>) -> Vec<ConfigEntry> {
        let shown = topic_configs().filter(|row| !row.internal);
        shown.map(|row| self.topic_entry(row, overrides)).collect()
    }

    fn topic_entry(&self, row: &'static Definition, overrides: Option<&Configs>) -> ConfigEntry {
        let set = overrides.and_then(|configs| configs.get(row.name));
        let own = set.map(|value| synonym(row.name, value, Source::Topic, row));
        let mut synonyms: Vec<Synonym> = own.into_iter().collect();
        for (rank, twin) in row.twins.iter().enumerate() {
            // As in Kafka, only the strongest broker config behind it shows its default: those in
            // other units, and topic configs without one, show none (`ConfigHelper`).
            let shown = |place: &(Source, &str)| rank == 0 || place.0 != Source::Default;
            let places = self.places(twin.name).into_iter().filter(shown);
            synonyms.extend(places.map(|(source, value)| synonym(twin.name, value, source, row)));
        }
        let (value, source) = match set {
            Some(value) => (Some(value.clone()), Source::Topic),
            None => self.behind(row),
        };
        ConfigEntry {
            definition: row,
            value,
            source,
            synonyms,
            read_only: false,
        }
    }

    /// The configs of this broker: all that are known, in order of name.
    pub fn describe_broker(&self) -> Vec<ConfigEntry> {
        let shown = broker_configs().filter(|row| !row.internal);
        shown.map(|row| self.broker_entry(row)).collect()
    }

    fn broker_entry(&self, row: &'static Definition) -> ConfigEntry {
        let mut synonyms = Vec::new();
        for name in family(row.name) {
            let places = self.places(name).into_iter();
            synonyms.extend(places.map(|(source, value)| synonym(name, value, source, row)));
        }
        let source = synonyms
            .first()
            .map_or(Source::Default, |first| first.source);
        let value = self.broker_value(row.name).map(str::to_owned);
        let value = value.filter(|_| !row.is_sensitive());
        let read_only = row.update == Update::ReadOnly;
        ConfigEntry {
            definition: row,
            value,
            source,
            synonyms,
            read_only,
        }
    }

    /// The dynamic default of all brokers: only what is set.
    pub fn describe_broker_default(&self) -> Vec<ConfigEntry> {
        let set = self
            .image
            .configs(&Resource::BrokerDefault)
            .into_iter()
            .flatten();
        let known = set.filter_map(|(name, value)| Some((broker_config(name)?, value)));
        known
            .map(|(row, value)| {
                let source = Source::DynamicDefaultBroker;
                let synonym = synonym(row.name, value, source, row);
                let value = synonym.value.clone();
                ConfigEntry {
                    definition: row,
                    value,
                    source,
                    synonyms: vec![synonym],
                    read_only: false,
                }
            })
            .collect()
    }
}

/// The configs of a resource as DescribeConfigs tells them; none for a topic that is not there, or
/// a broker that is not the one of `layers`.
pub fn describe(resource: &Resource, layers: &Layers<'_>) -> Option<Vec<ConfigEntry>> {
    match resource {
        Resource::Topic(name) => {
            layers.image.topic(name)?;
            Some(layers.describe_topic(layers.image.configs(resource)))
        }
        Resource::Broker(id) => (*id == layers.broker).then(|| layers.describe_broker()),
        Resource::BrokerDefault => Some(layers.describe_broker_default()),
    }
}

fn synonym(name: &str, value: &str, source: Source, row: &Definition) -> Synonym {
    let value = (!row.is_sensitive()).then(|| value.to_owned());
    Synonym {
        name: name.to_owned(),
        value,
        source,
    }
}

/// The broker configs that mean the same in other units, the strongest first, with `name` itself.
fn family(name: &'static str) -> Vec<&'static str> {
    let has = |row: &&Definition| row.twins.iter().any(|twin| twin.name == name);
    match topic_configs().find(has) {
        Some(row) => row.twins.iter().map(|twin| twin.name).collect(),
        None => vec![name],
    }
}

/// A broker config's value in the unit of the topic config. Negative hours are -1 milliseconds:
/// no limit (apache/kafka `KafkaConfig.logRetentionTimeMillis`).
fn converted(twin: &Twin, value: &str) -> Option<String> {
    if twin.times == 1 {
        return Some(value.to_owned());
    }
    let number: i64 = value.trim().parse().ok()?;
    Some(
        if number < 0 {
            -1
        } else {
            number.saturating_mul(twin.times)
        }
        .to_string(),
    )
}

impl Definition {
    /// True if append and subtract make sense for it.
    pub fn is_list(&self) -> bool {
        self.kind == Kind::List
    }
}
