//! Compacted topics in the workload: what was written under which key, and what must be left of it.
//!
//! Of each key the newest committed record is there; a tombstone may go, but not before
//! `delete.retention.ms` has passed since it was made. That nothing ever moves to another offset is
//! the model's own rule.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Offset, Prng, TopicId, TopicPartition};
use crate::cluster::{Image, Resource};

use super::model::{Model, RecordNumber};

/// How many keys a partition has.
const KEYS: u64 = 7;

/// What was written of a record, besides its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed {
    pub(super) key: u64,
    pub(super) tombstone: bool,
    pub(super) made_ms: i64,
}

/// All records with a key, and what an auditor has come across.
#[derive(Clone, Debug, Default)]
pub(super) struct Compacted {
    /// The `delete.retention.ms` of the compacted topics.
    topics: BTreeMap<TopicId, i64>,
    records: BTreeMap<RecordNumber, Keyed>,
    found: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// Rounds that came to their end.
    pub(super) rounds: u64,
}

/// The configs of a new compacted topic.
pub(super) fn topic_configs(prng: &mut Prng) -> Vec<(&'static str, String)> {
    let policy = if prng.one_in(3) {
        "compact,delete"
    } else {
        "compact"
    };
    let mut configs = vec![
        ("cleanup.policy", policy.to_owned()),
        ("min.cleanable.dirty.ratio", format!("0.{}", prng.below(7))),
        ("delete.retention.ms", prng.below(60).to_string()),
        (
            "internal.segment.bytes",
            (1500 + prng.below(4000)).to_string(),
        ),
    ];
    if prng.one_in(4) {
        configs.push(("min.compaction.lag.ms", prng.below(20).to_string()));
    }
    if prng.one_in(4) {
        configs.push(("max.compaction.lag.ms", (20 + prng.below(100)).to_string()));
    }
    configs
}

/// A key and whether the record is a tombstone.
pub(super) fn choose(prng: &mut Prng, made_ms: i64) -> Keyed {
    Keyed {
        key: prng.below(KEYS),
        tombstone: prng.one_in(5),
        made_ms,
    }
}

impl Compacted {
    /// Takes note of the compacted topics that a core knows.
    pub(super) fn learn(&mut self, image: &Image) {
        for topic in image.topics() {
            let configs = image.configs(&Resource::Topic(topic.name.to_string()));
            let value = |name: &str| configs.and_then(|configs| configs.get(name));
            let compacted =
                value("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
            let retention = value("delete.retention.ms").and_then(|value| value.parse().ok());
            if let Some(retention) = retention.filter(|_| compacted) {
                self.topics.insert(topic.id, retention);
            }
        }
    }

    /// The `delete.retention.ms` of a partition whose topic is compacted; none for any other.
    pub(super) fn retention(&self, id: TopicPartition) -> Option<i64> {
        self.topics.get(&id.topic).copied()
    }

    /// A record is about to be sent.
    pub(super) fn sent(&mut self, record: RecordNumber, keyed: Keyed) {
        self.records.insert(record, keyed);
    }

    /// An auditor begins with a partition.
    pub(super) fn audit(&mut self, id: TopicPartition) {
        self.found.insert(id, BTreeSet::new());
    }

    /// A record was read.
    pub(super) fn read(&mut self, id: TopicPartition, offset: Offset) {
        if let Some(found) = self.found.get_mut(&id) {
            found.insert(offset.0);
        }
    }
}

impl Model {
    /// An auditor has read all of a compacted partition from `start` to `end`.
    pub(super) fn check_compacted(
        &mut self,
        id: TopicPartition,
        (start, end): (Offset, Offset),
    ) -> Result<(), String> {
        let Some(retention_ms) = self.compacted.retention(id) else {
            return Ok(());
        };
        let Some(found) = self.compacted.found.remove(&id) else {
            return Ok(());
        };
        let records = &self.compacted.records;
        let mut newest: BTreeMap<u64, (i64, Keyed)> = BTreeMap::new();
        for (offset, record) in self.committed(id, start, end) {
            if let Some(keyed) = records.get(&record) {
                newest.insert(keyed.key, (offset, *keyed));
            }
        }
        for (key, (offset, keyed)) in newest {
            let may_go = keyed.tombstone && self.now_ms - keyed.made_ms >= retention_ms;
            if !found.contains(&offset) && !may_go {
                return Err(format!(
                    "{id:?}: the newest record of key {key} is gone from offset {offset}: {keyed:?}"
                ));
            }
        }
        Ok(())
    }
}
