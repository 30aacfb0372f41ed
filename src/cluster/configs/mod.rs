//! Every config of Kafka 4.1 that is known here, in one table: its name, type, default, rule, who
//! may change it when, and whether it has an effect.
//!
//! Names, types, defaults and rules are Kafka's (apache/kafka `LogConfig`, `ServerLogConfigs`,
//! `ServerConfigs`, `SocketServerConfigs`, `GroupCoordinatorConfig`, `ReplicationConfigs`,
//! `TransactionLogConfig`, `KRaftConfigs`, `QuorumConfig`, `BrokerSecurityConfigs` and their like).
//! The one difference on purpose: `flush.messages` and `log.flush.interval.messages` default to 1,
//! since what is acked is on stable storage. A config that has no effect here is accepted all the
//! same, and its documentation says so.
//!
//! `corelane.metrics.lag.series.max`, `corelane.journal.bytes` and `corelane.journal.writes.min` are
//! our own.
//!
//! `topic` and `broker`, `security`, `coordinators` hold the rows; `describe` and `settings` say
//! what is in force. Knows no request and no file.

mod broker;
mod coordinators;
mod describe;
mod security;
mod settings;
mod topic;
mod value;

use std::sync::LazyLock;

use std::collections::BTreeMap;

pub use describe::{ConfigEntry, Layers, Source, StaticConfigs, Synonym, describe};
pub use settings::{
    BrokerSettings, CleanupPolicy, Compression, GroupSettings, TimestampType, TopicSettings,
};
pub use value::{ConfigError, Value, parse_value};

/// The type of a config's value; the numbers are DescribeConfigs' (`ConfigType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean = 1,
    /// Any text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// A floating-point number.
    Double = 6,
    /// Texts between commas.
    List = 7,
    /// The name of a Java class.
    Class = 8,
    /// A secret.
    Password = 9,
}

/// What a value must fulfil beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Nothing.
    Any,
    /// A number not below this.
    AtLeast(i64),
    /// A number in this range, both ends included.
    Between(i64, i64),
    /// A floating-point number in this range, both ends included.
    BetweenDouble(f64, f64),
    /// A number in this range, or -1.
    BetweenOrDefault(i64, i64),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// One of these texts, in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// Every item of the list is one of these.
    EachOf(&'static [&'static str]),
}

/// When a broker's config may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// Only by a restart.
    ReadOnly,
    /// While it runs, for this broker only.
    PerBroker,
    /// While it runs, for one broker or for all.
    ClusterWide,
}

/// A broker config that stands in for a topic config that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// The broker config's name.
    pub name: &'static str,
    /// What its value is multiplied with: hours and minutes become milliseconds.
    pub times: i64,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Definition {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The default as text; none for null.
    pub default: Option<&'static str>,
    /// What values are allowed.
    pub rule: Rule,
    /// When it may change; meaningless for topics, whose configs may always change.
    pub update: Update,
    /// True if it does something here.
    pub effective: bool,
    /// True if Kafka hides it from DescribeConfigs (`defineInternal`).
    pub internal: bool,
    /// For a topic config: the broker configs behind it, the strongest first.
    pub twins: &'static [Twin],
    /// What it is, in a sentence or two.
    pub documentation: &'static str,
}

impl Definition {
    /// True if its value must not be shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// The documentation as a person sees it, which says so if there is no effect.
    pub fn documentation(&self) -> String {
        let inert = if self.effective {
            ""
        } else {
            " Accepted for compatibility: it has no effect in corelane."
        };
        format!("{}{inert}", self.documentation)
    }

    const fn new(
        name: &'static str,
        kind: Kind,
        default: Option<&'static str>,
        rule: Rule,
        documentation: &'static str,
    ) -> Definition {
        Definition {
            name,
            kind,
            default,
            rule,
            update: Update::ReadOnly,
            effective: true,
            internal: false,
            twins: &[],
            documentation,
        }
    }

    const fn inert(mut self) -> Definition {
        self.effective = false;
        self
    }

    const fn internal(mut self) -> Definition {
        self.internal = true;
        self
    }

    const fn per_broker(mut self) -> Definition {
        self.update = Update::PerBroker;
        self
    }

    const fn cluster_wide(mut self) -> Definition {
        self.update = Update::ClusterWide;
        self
    }

    const fn twins(mut self, twins: &'static [Twin]) -> Definition {
        self.twins = twins;
        self
    }
}

/// Shorthands for rows: name, default, rule, documentation.
mod row {
    use super::{Definition, Kind, Rule};

    type Text = &'static str;

    pub(super) const fn boolean(name: Text, default: Text, documentation: Text) -> Definition {
        Definition::new(name, Kind::Boolean, Some(default), Rule::Any, documentation)
    }

    pub(super) const fn int(name: Text, default: Text, rule: Rule, doc: Text) -> Definition {
        Definition::new(name, Kind::Int, Some(default), rule, doc)
    }

    pub(super) const fn short(name: Text, default: Text, rule: Rule, doc: Text) -> Definition {
        Definition::new(name, Kind::Short, Some(default), rule, doc)
    }

    pub(super) const fn long(name: Text, default: Text, rule: Rule, doc: Text) -> Definition {
        Definition::new(name, Kind::Long, Some(default), rule, doc)
    }

    pub(super) const fn double(name: Text, default: Text, rule: Rule, doc: Text) -> Definition {
        Definition::new(name, Kind::Double, Some(default), rule, doc)
    }

    pub(super) const fn string(name: Text, default: Text, rule: Rule, doc: Text) -> Definition {
        Definition::new(name, Kind::String, Some(default), rule, doc)
    }

    pub(super) const fn list(name: Text, default: Text, rule: Rule, doc: Text) -> Definition {
        Definition::new(name, Kind::List, Some(default), rule, doc)
    }

    /// A config whose default is null.
    pub(super) const fn unset(name: Text, kind: Kind, rule: Rule, doc: Text) -> Definition {
        Definition::new(name, kind, None, rule, doc)
    }
}

/// The configs of a topic, by name.
static TOPIC: LazyLock<BTreeMap<&'static str, &'static Definition>> =
    LazyLock::new(|| topic::TABLE.iter().map(|row| (row.name, row)).collect());

/// The configs of a broker, by name.
static BROKER: LazyLock<BTreeMap<&'static str, &'static Definition>> = LazyLock::new(|| {
    let tables = [broker::TABLE, coordinators::TABLE, security::TABLE];
    tables
        .into_iter()
        .flatten()
        .map(|row| (row.name, row))
        .collect()
});

/// The topic config of this name.
pub fn topic_config(name: &str) -> Option<&'static Definition> {
    TOPIC.get(name).copied()
}

/// The broker config of this name.
pub fn broker_config(name: &str) -> Option<&'static Definition> {
    BROKER.get(name).copied()
}

/// All topic configs, in order of name.
pub fn topic_configs() -> impl Iterator<Item = &'static Definition> {
    TOPIC.values().copied()
}

/// All broker configs, in order of name.
pub fn broker_configs() -> impl Iterator<Item = &'static Definition> {
    BROKER.values().copied()
}

/// Reads a topic config's value; refuses an unknown name with the nearest known one.
pub fn parse_topic(name: &str, value: &str) -> Result<Value, ConfigError> {
    let row = topic_config(name).ok_or_else(|| unknown("topic", name, value, &TOPIC))?;
    parse_value(row, value)
}

/// Reads a broker config's value; refuses an unknown name with the nearest known one.
pub fn parse_broker(name: &str, value: &str) -> Result<Value, ConfigError> {
    let row = broker_config(name).ok_or_else(|| unknown("broker", name, value, &BROKER))?;
    parse_value(row, value)
}

type Rows = BTreeMap<&'static str, &'static Definition>;

fn unknown(what: &str, name: &str, value: &str, rows: &Rows) -> ConfigError {
    let mut why = format!("Unknown {what} config name: {}", value::shortened(name));
    if let Some(near) = nearest(name, rows.keys().copied()) {
        why.push_str(&format!(" (did you mean {near}?)"));
    }
    ConfigError {
        name: name.to_owned(),
        value: value.to_owned(),
        why,
    }
}

/// The known broker config that is spelled most like `name`, for the warning about a config file.
pub fn nearest_broker_config(name: &str) -> Option<&'static str> {
    nearest(name, BROKER.keys().copied())
}

/// The candidate with the fewest edits to `name`, if those are at most a third of it. Names longer
/// than any config are not compared: the cost is bounded.
pub fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    const LENGTH_MAX: usize = 100;
    if name.len() > LENGTH_MAX {
        return None;
    }
    let (edits, best) = candidates
        .map(|other| (value::edits(name, other), other))
        .min()?;
    (edits * 3 <= name.len()).then_some(best)
}

#[cfg(test)]
mod tests;
