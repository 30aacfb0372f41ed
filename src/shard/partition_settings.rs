//! What the configs of topics and of the broker come to for a partition.

use std::time::Duration;

use crate::base::{Prng, TopicId, TopicPartition};
use crate::cluster::configs::{
    Compression as CompressionConfig, Layers, TimestampType as TimestampConfig, TopicSettings,
};
use crate::cluster::{Resource, Topic};
use crate::log;
use crate::partition::{Partition, Settings};
use crate::record::{Codec, Compression, Origin, Rules, TimestampType};

use super::core::{Core, Slot};

/// The most bytes of a segment that a batch may unpack to; see [`Rules::decompressed_bytes_max`].
const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// The settings of the topic that was resolved last, in one image: a topic's partitions come one
/// after the other, and resolving walks every layer of every config.
#[derive(Default)]
pub(super) struct Resolved(Option<(TopicId, TopicSettings)>);

impl Resolved {
    pub(super) fn of(&mut self, core: &Core, topic: &Topic) -> &TopicSettings {
        if self.0.as_ref().is_none_or(|(id, _)| *id != topic.id) {
            self.0 = None;
        }
        let (_, settings) = self
            .0
            .get_or_insert_with(|| (topic.id, core.topic_settings(Some(topic))));
        settings
    }
}

impl Core {
    /// Topics' or the broker's configs have changed.
    pub(super) fn reconfigure(&mut self, slots: Vec<Slot>) {
        let mut resolved = Resolved::default();
        let image = self.image.clone();
        for slot in slots {
            let Some(id) = self.partitions.get(slot).map(Partition::id) else {
                continue;
            };
            let Some(topic) = image.topic_by_id(id.topic) else {
                continue;
            };
            let settings = self.partition_settings(id, resolved.of(self, topic));
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.set_settings(settings);
            }
            self.schedule(slot);
        }
    }

    /// What holds for a topic; none for the broker's own settings.
    pub(super) fn topic_settings(&self, topic: Option<&Topic>) -> TopicSettings {
        let resource = topic.map(|topic| Resource::Topic(topic.name.to_string()));
        let overrides = resource.and_then(|resource| self.image.configs(&resource));
        Layers::new(&self.image, self.setup.broker, &self.setup.static_configs)
            .topic_settings(overrides)
    }

    pub(super) fn partition_settings(&self, id: TopicPartition, topic: &TopicSettings) -> Settings {
        let jitter = match u64::try_from(topic.segment_jitter_ms) {
            Ok(bound) if bound > 0 => {
                let seed = u128::from_be_bytes(id.topic.0) as u64 ^ id.partition.0 as u64;
                Prng::new(seed).below(bound) as i64
            }
            _ => 0,
        };
        // What is never rolled is never compacted (apache/kafka `LogConfig.maxSegmentMs`).
        let segment_ms = match topic.cleanup_policy.compact && topic.max_compaction_lag_ms > 0 {
            true => topic.segment_ms.min(topic.max_compaction_lag_ms),
            false => topic.segment_ms,
        };
        let internal = self
            .image
            .topic_by_id(id.topic)
            .is_some_and(|topic| topic.is_internal());
        Settings {
            log: log::Options {
                segment_bytes: topic.segment_bytes,
                segment_ms,
                segment_jitter_ms: jitter,
                index_interval_bytes: topic.index_interval_bytes,
                flush_messages: topic.flush_messages,
                flush_ms: topic.flush_ms,
                retention_ms: topic.retention_ms,
                retention_bytes: topic.retention_bytes,
                file_delete_delay_ms: topic.file_delete_delay_ms,
                compact: topic.cleanup_policy.compact,
                dirty_ratio_min: topic.min_cleanable_dirty_ratio,
                compaction_lag_min_ms: topic.min_compaction_lag_ms,
                compaction_lag_max_ms: topic.max_compaction_lag_ms,
                delete_retention_ms: topic.delete_retention_ms,
                from_reserve: internal,
                ..log::Options::default()
            },
            rules: Rules {
                max_message_bytes: topic.max_message_bytes as usize,
                segment_bytes: topic.segment_bytes as usize,
                timestamp_type: match topic.timestamp_type {
                    TimestampConfig::CreateTime => TimestampType::CreateTime,
                    TimestampConfig::LogAppendTime => TimestampType::LogAppendTime,
                },
                timestamp_before_max_ms: topic.timestamp_before_max_ms,
                timestamp_after_max_ms: topic.timestamp_after_max_ms,
                compression: compression(topic.compression),
                compacted: topic.cleanup_policy.compact,
                produce_version: 0,
                origin: Origin::Client,
                decompressed_bytes_max: DECOMPRESSED_BYTES_MAX
                    .max(topic.max_message_bytes as usize),
            },
            deletable: topic.cleanup_policy.delete,
            producer_expiration: Duration::from_millis(
                self.settings.producer_id_expiration_ms.max(0) as u64,
            ),
        }
    }
}

fn compression(config: CompressionConfig) -> Compression {
    let codec = |codec, level| Compression::Codec { codec, level };
    match config {
        CompressionConfig::Producer => Compression::Producer,
        CompressionConfig::None => Compression::Uncompressed,
        CompressionConfig::Gzip(level) => codec(Codec::Gzip, Some(level)),
        CompressionConfig::Snappy => codec(Codec::Snappy, None),
        CompressionConfig::Lz4 => codec(Codec::Lz4, None),
        CompressionConfig::Zstd(level) => codec(Codec::Zstd, Some(level)),
    }
}
