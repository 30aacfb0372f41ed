//! The configs of a topic (apache/kafka `TopicConfig`, `LogConfig`), with the broker configs that
//! stand behind them (`ServerTopicConfigSynonyms`).

use super::row::{boolean, double, int, list, long, string};
use super::{Definition, Rule, Twin};

/// A twin of the same unit.
const fn same(name: &'static str) -> Twin {
    Twin { name, times: 1 }
}

/// A twin in minutes.
const fn minutes(name: &'static str) -> Twin {
    Twin {
        name,
        times: 60_000,
    }
}

/// A twin in hours.
const fn hours(name: &'static str) -> Twin {
    Twin {
        name,
        times: 3_600_000,
    }
}

const ANY: Rule = Rule::Any;
const FROM_0: Rule = Rule::AtLeast(0);
const FROM_1: Rule = Rule::AtLeast(1);
/// Since KIP-1030 (4.0) a segment has at least 1 MiB.
pub(super) const SEGMENT_BYTES: Rule = Rule::AtLeast(1_048_576);
pub(super) const COMPRESSIONS: Rule =
    Rule::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);
pub(super) const POLICIES: Rule = Rule::EachOf(&["compact", "delete"]);
pub(super) const TIMESTAMPS: Rule = Rule::OneOf(&["CreateTime", "LogAppendTime"]);

pub(super) static TABLE: &[Definition] = &[
    list("cleanup.policy", "delete", POLICIES, "What happens to old segments: delete them by age and size, compact them to the last record of each key, both, or (empty) neither.")
        .twins(&[same("log.cleanup.policy")]),
    int("compression.gzip.level", "-1", Rule::BetweenOrDefault(1, 9), "The gzip level, if the topic compresses with gzip.")
        .twins(&[same("compression.gzip.level")]),
    int("compression.lz4.level", "9", Rule::Between(1, 17), "The lz4 level, if the topic compresses with lz4.")
        .twins(&[same("compression.lz4.level")]).inert(),
    string("compression.type", "producer", COMPRESSIONS, "The codec in which batches are stored; 'producer' keeps what the producer chose.")
        .twins(&[same("compression.type")]),
    int("compression.zstd.level", "3", Rule::Between(-131_072, 22), "The zstd level, if the topic compresses with zstd.")
        .twins(&[same("compression.zstd.level")]),
    long("delete.retention.ms", "86400000", FROM_0, "How long tombstones of a compacted topic are kept, in milliseconds.")
        .twins(&[same("log.cleaner.delete.retention.ms")]),
    long("file.delete.delay.ms", "60000", FROM_0, "How long a removed segment's file stays before it is deleted, in milliseconds.")
        .twins(&[same("log.segment.delete.delay.ms")]),
    long("flush.messages", "1", FROM_1, "1: a record is acked when it is on stable storage. Larger: it is acked when the kernel has it, and flushed by flush.ms at the latest. (Kafka's default is not to flush.)")
        .twins(&[same("log.flush.interval.messages")]),
    long("flush.ms", "9223372036854775807", FROM_0, "The longest time between a write and its flush to stable storage, in milliseconds, where flush.messages is above 1.")
        .twins(&[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")]),
    list("follower.replication.throttled.replicas", "", ANY, "The replicas whose followers are throttled.").inert(),
    int("index.interval.bytes", "4096", FROM_0, "How many bytes of the log lie between two entries of the offset index.")
        .twins(&[same("log.index.interval.bytes")]),
    int("internal.segment.bytes", "1073741824", Rule::AtLeast(14), "The size of a segment below segment.bytes' lower bound, for tests only.").internal(),
    list("leader.replication.throttled.replicas", "", ANY, "The replicas whose leaders are throttled.").inert(),
    long("local.retention.bytes", "-2", Rule::AtLeast(-2), "Bytes kept locally of a tiered topic.")
        .twins(&[same("log.local.retention.bytes")]).inert(),
    long("local.retention.ms", "-2", Rule::AtLeast(-2), "Milliseconds kept locally of a tiered topic.")
        .twins(&[same("log.local.retention.ms")]).inert(),
    long("max.compaction.lag.ms", "9223372036854775807", FROM_1, "The longest a record may stay uncompacted, in milliseconds.")
        .twins(&[same("log.cleaner.max.compaction.lag.ms")]),
    int("max.message.bytes", "1048588", FROM_0, "The largest record batch, in bytes, after compression.")
        .twins(&[same("message.max.bytes")]),
    long("message.timestamp.after.max.ms", "3600000", FROM_0, "How far a record's CreateTime may lie in the future of the broker's clock, in milliseconds.")
        .twins(&[same("log.message.timestamp.after.max.ms")]),
    long("message.timestamp.before.max.ms", "9223372036854775807", FROM_0, "How far a record's CreateTime may lie in the past of the broker's clock, in milliseconds.")
        .twins(&[same("log.message.timestamp.before.max.ms")]),
    string("message.timestamp.type", "CreateTime", TIMESTAMPS, "Whether a record carries the producer's time or the broker's.")
        .twins(&[same("log.message.timestamp.type")]),
    double("min.cleanable.dirty.ratio", "0.5", Rule::BetweenDouble(0.0, 1.0), "The share of not yet compacted bytes from which a log is compacted.")
        .twins(&[same("log.cleaner.min.cleanable.ratio")]),
    long("min.compaction.lag.ms", "0", FROM_0, "How long a record stays uncompacted at least, in milliseconds.")
        .twins(&[same("log.cleaner.min.compaction.lag.ms")]),
    int("min.insync.replicas", "1", FROM_1, "How many replicas must be in sync for a write with acks=all.")
        .twins(&[same("min.insync.replicas")]),
    boolean("preallocate", "false", "Allocate a segment's file at once. corelane always does.")
        .twins(&[same("log.preallocate")]).inert(),
    boolean("remote.log.copy.disable", "false", "Stop copying a tiered topic to remote storage.").inert(),
    boolean("remote.log.delete.on.disable", "false", "Delete a tiered topic's remote data when tiering is switched off.").inert(),
    boolean("remote.storage.enable", "false", "Tier the topic to remote storage.").inert(),
    long("retention.bytes", "-1", ANY, "How many bytes of a partition are kept; -1: no limit.")
        .twins(&[same("log.retention.bytes")]),
    long("retention.ms", "604800000", Rule::AtLeast(-1), "How long records are kept, in milliseconds; -1: for ever.")
        .twins(&[same("log.retention.ms"), minutes("log.retention.minutes"), hours("log.retention.hours")]),
    int("segment.bytes", "1073741824", SEGMENT_BYTES, "The size at which a segment is closed and the next one begun, in bytes.")
        .twins(&[same("log.segment.bytes")]),
    int("segment.index.bytes", "10485760", Rule::AtLeast(4), "The largest index of a segment, in bytes.")
        .twins(&[same("log.index.size.max.bytes")]).inert(),
    long("segment.jitter.ms", "0", FROM_0, "The most that segment.ms is shortened by at random, so that not all segments are closed together.")
        .twins(&[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")]),
    long("segment.ms", "604800000", FROM_1, "The age at which a segment is closed even if it is not full, in milliseconds.")
        .twins(&[same("log.roll.ms"), hours("log.roll.hours")]),
    boolean("unclean.leader.election.enable", "false", "Whether a replica that is not in sync may become leader, which loses data.")
        .twins(&[same("unclean.leader.election.enable")]).inert(),
];
