//! The configs that do something here, typed and resolved through the layers.
//!
//! Values were checked when they were set; one that does not follow its rule all the same (an older
//! log, a newer rule) is passed over for the default, never a reason to stop.

use super::describe::Layers;
use super::value::{ConfigError, Value, parse_value};
use super::{Definition, broker_config, parse_topic, topic_config};
use crate::cluster::image::Configs;

/// What happens to old segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted.
    pub delete: bool,
    /// Only the last record of each key is kept.
    pub compact: bool,
}

/// In which codec batches are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent them.
    Producer,
    /// Uncompressed.
    None,
    /// Gzip of this level; -1: the library's default.
    Gzip(i32),
    /// Snappy.
    Snappy,
    /// LZ4 (the level has no effect).
    Lz4,
    /// Zstandard of this level.
    Zstd(i32),
}

/// Whose time a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, when it appended it.
    LogAppendTime,
}

/// What is in force for a topic. Times in milliseconds, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicSettings {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type` with its level.
    pub compression: Compression,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `flush.messages`; 1: acked means on stable storage.
    pub flush_messages: i64,
    /// `flush.ms`.
    pub flush_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`.
    pub max_message_bytes: u32,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `retention.bytes`; -1: no limit.
    pub retention_bytes: i64,
    /// `retention.ms`; -1: no limit.
    pub retention_ms: i64,
    /// `segment.bytes`, or `internal.segment.bytes` where that is set.
    pub segment_bytes: u32,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
}

/// What is in force for a broker. Times in milliseconds, sizes in bytes unless named otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerSettings {
    /// `corelane.journal.bytes`.
    pub journal_bytes: u64,
    /// `corelane.journal.writes.min`.
    pub journal_writes_min: u32,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// `message.max.bytes`.
    pub message_max_bytes: u32,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: u32,
    /// `connections.max.idle.ms`; negative: for ever.
    pub connections_max_idle_ms: i64,
    /// `max.connections`.
    pub max_connections: u32,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: u32,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: u32,
    /// `max.request.partition.size.limit`.
    pub max_request_partitions: u32,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// `producer.id.expiration.check.interval.ms`.
    pub producer_id_expiration_check_interval_ms: i64,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub metadata_snapshot_bytes: u64,
    /// Compaction.
    pub cleaner: CleanerSettings,
    /// Groups and their offsets.
    pub groups: GroupSettings,
}

/// What is in force for compaction.
#[derive(Clone, Debug, PartialEq)]
pub struct CleanerSettings {
    /// `log.cleaner.enable`.
    pub enabled: bool,
    /// `log.cleaner.dedupe.buffer.size`, of all cores together.
    pub dedupe_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`, 0 to 1.
    pub load_factor: f64,
    /// `log.cleaner.io.max.bytes.per.second`, of all cores together.
    pub io_bytes_per_second: f64,
    /// `log.cleaner.backoff.ms`.
    pub backoff_ms: i64,
}

/// What is in force for groups and committed offsets.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`.
    pub max_size: u32,
    /// `group.consumer.session.timeout.ms`.
    pub consumer_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`.
    pub consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`.
    pub consumer_max_size: u32,
    /// `group.consumer.assignors`.
    pub consumer_assignors: Vec<String>,
    /// `group.consumer.migration.policy`, in any case.
    pub consumer_migration_policy: String,
    /// `corelane.metrics.lag.series.max`.
    pub lag_series_max: u32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: u32,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: i64,
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: i32,
    /// `offsets.topic.segment.bytes`.
    pub offsets_segment_bytes: u32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication_factor: i16,
}

/// The value of a row: of `text` if it follows the rule, else the default.
fn value(row: &Definition, text: Option<&str>) -> Value {
    let set = text.and_then(|text| parse_value(row, text).ok());
    let default = || parse_value(row, row.default.unwrap_or("")).ok();
    set.or_else(default).unwrap_or(Value::Text(String::new()))
}

/// Typed access by name; a name or a type that the table does not have is a bug, found by the
/// first test that resolves anything.
struct Getter<F: Fn(&str) -> Value>(F);

impl<F: Fn(&str) -> Value> Getter<F> {
    fn long(&self, name: &str) -> i64 {
        match (self.0)(name) {
            Value::Number(number) => number,
            other => panic!("{name} is not a number: {other:?}"),
        }
    }

    fn int(&self, name: &str) -> i32 {
        i32::try_from(self.long(name)).unwrap_or(i32::MAX)
    }

    /// Negative numbers, where a rule lets them through, count as 0.
    fn size(&self, name: &str) -> u32 {
        u32::try_from(self.long(name).max(0)).unwrap_or(u32::MAX)
    }

    fn boolean(&self, name: &str) -> bool {
        match (self.0)(name) {
            Value::Boolean(boolean) => boolean,
            other => panic!("{name} is not a boolean: {other:?}"),
        }
    }

    fn double(&self, name: &str) -> f64 {
        match (self.0)(name) {
            Value::Double(number) => number,
            other => panic!("{name} is not a double: {other:?}"),
        }
    }

    fn text(&self, name: &str) -> String {
        match (self.0)(name) {
            Value::Text(text) => text,
            other => panic!("{name} is not a text: {other:?}"),
        }
    }

    fn list(&self, name: &str) -> Vec<String> {
        match (self.0)(name) {
            Value::List(items) => items,
            other => panic!("{name} is not a list: {other:?}"),
        }
    }

    fn compression(&self) -> Compression {
        match self.text("compression.type").as_str() {
            "uncompressed" => Compression::None,
            "gzip" => Compression::Gzip(self.int("compression.gzip.level")),
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd(self.int("compression.zstd.level")),
            _ => Compression::Producer,
        }
    }
}

impl Layers<'_> {
    /// What is in force for a topic that sets `overrides`. All topics that set none share one
    /// answer: compute it once for them.
    pub fn topic_settings(&self, overrides: Option<&Configs>) -> TopicSettings {
        let get = Getter(|name: &str| {
            let row = topic_config(name).unwrap_or_else(|| panic!("no topic config {name}"));
            let text = self.topic_value(row, overrides);
            value(row, text.as_deref())
        });
        let policy = get.list("cleanup.policy");
        let internal = "internal.segment.bytes";
        let small = overrides.is_some_and(|configs| configs.contains_key(internal));
        let append_time = get.text("message.timestamp.type") == "LogAppendTime";
        TopicSettings {
            cleanup_policy: CleanupPolicy {
                delete: policy.iter().any(|item| item == "delete"),
                compact: policy.iter().any(|item| item == "compact"),
            },
            compression: get.compression(),
            delete_retention_ms: get.long("delete.retention.ms"),
            file_delete_delay_ms: get.long("file.delete.delay.ms"),
            flush_messages: get.long("flush.messages"),
            flush_ms: get.long("flush.ms"),
            index_interval_bytes: get.size("index.interval.bytes"),
            max_compaction_lag_ms: get.long("max.compaction.lag.ms"),
            max_message_bytes: get.size("max.message.bytes"),
            timestamp_after_max_ms: get.long("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: get.long("message.timestamp.before.max.ms"),
            timestamp_type: match append_time {
                true => TimestampType::LogAppendTime,
                false => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: get.double("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: get.long("min.compaction.lag.ms"),
            min_insync_replicas: get.size("min.insync.replicas"),
            retention_bytes: get.long("retention.bytes"),
            retention_ms: get.long("retention.ms"),
            segment_bytes: get.size(if small { internal } else { "segment.bytes" }),
            segment_jitter_ms: get.long("segment.jitter.ms"),
            segment_ms: get.long("segment.ms"),
        }
    }

    /// What is in force for the broker.
    pub fn broker_settings(&self) -> BrokerSettings {
        let get = Getter(|name: &str| {
            let row = broker_config(name).unwrap_or_else(|| panic!("no broker config {name}"));
            value(row, self.broker_value(name))
        });
        BrokerSettings {
            num_partitions: get.int("num.partitions"),
            default_replication_factor: short(get.int("default.replication.factor")),
            journal_bytes: get.long("corelane.journal.bytes").max(0) as u64,
            journal_writes_min: get.size("corelane.journal.writes.min"),
            auto_create_topics: get.boolean("auto.create.topics.enable"),
            delete_topics: get.boolean("delete.topic.enable"),
            message_max_bytes: get.size("message.max.bytes"),
            socket_request_max_bytes: get.size("socket.request.max.bytes"),
            connections_max_idle_ms: get.long("connections.max.idle.ms"),
            max_connections: get.size("max.connections"),
            fetch_max_bytes: get.size("fetch.max.bytes"),
            fetch_session_slots: get.size("max.incremental.fetch.session.cache.slots"),
            max_request_partitions: get.size("max.request.partition.size.limit"),
            retention_check_interval_ms: get.long("log.retention.check.interval.ms"),
            producer_id_expiration_ms: get.long("producer.id.expiration.ms"),
            producer_id_expiration_check_interval_ms: get
                .long("producer.id.expiration.check.interval.ms"),
            metadata_snapshot_bytes: get
                .long("metadata.log.max.record.bytes.between.snapshots")
                .max(1) as u64,
            cleaner: CleanerSettings {
                enabled: get.boolean("log.cleaner.enable"),
                dedupe_bytes: get.long("log.cleaner.dedupe.buffer.size").max(0) as usize,
                load_factor: get.double("log.cleaner.io.buffer.load.factor"),
                io_bytes_per_second: get.double("log.cleaner.io.max.bytes.per.second"),
                backoff_ms: get.long("log.cleaner.backoff.ms"),
            },
            groups: GroupSettings {
                min_session_timeout_ms: get.int("group.min.session.timeout.ms"),
                max_session_timeout_ms: get.int("group.max.session.timeout.ms"),
                initial_rebalance_delay_ms: get.int("group.initial.rebalance.delay.ms"),
                max_size: get.size("group.max.size"),
                consumer_session_timeout_ms: get.int("group.consumer.session.timeout.ms"),
                consumer_heartbeat_interval_ms: get.int("group.consumer.heartbeat.interval.ms"),
                consumer_max_size: get.size("group.consumer.max.size"),
                consumer_assignors: get.list("group.consumer.assignors"),
                consumer_migration_policy: get.text("group.consumer.migration.policy"),
                lag_series_max: get.size("corelane.metrics.lag.series.max"),
                offset_metadata_max_bytes: get.size("offset.metadata.max.bytes"),
                offsets_retention_ms: get.long("offsets.retention.minutes") * 60_000,
                offsets_retention_check_interval_ms: get
                    .long("offsets.retention.check.interval.ms"),
                offsets_partitions: get.int("offsets.topic.num.partitions"),
                offsets_segment_bytes: get.size("offsets.topic.segment.bytes"),
                offsets_replication_factor: short(get.int("offsets.topic.replication.factor")),
            },
        }
    }

    /// Checks all configs that a topic would have: each by its rule, then together (apache/kafka
    /// `LogConfig.validate`).
    pub fn check_topic(&self, overrides: &Configs) -> Result<(), ConfigError> {
        for (name, value) in overrides {
            parse_topic(name, value)?;
        }
        let settings = self.topic_settings(Some(overrides));
        let (min, max) = (
            settings.min_compaction_lag_ms,
            settings.max_compaction_lag_ms,
        );
        let refused = |name: &str, value: String, why: String| {
            Err(ConfigError {
                name: name.to_owned(),
                value,
                why,
            })
        };
        if min > max {
            let why = format!(
                "Conflicting topic configs: min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
            );
            return refused("min.compaction.lag.ms", min.to_string(), why);
        }
        let tiered = overrides.get("remote.storage.enable");
        if let Some(tiered) = tiered.filter(|value| value.trim().eq_ignore_ascii_case("true")) {
            let why = "Tiered storage is not available: remote.storage.enable must be false";
            return refused("remote.storage.enable", tiered.clone(), why.to_owned());
        }
        Ok(())
    }
}

fn short(number: i32) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}
