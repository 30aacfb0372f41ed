//! Compacted topics in the workload: what was written under which key, and what must be left of it.
//!
//! Of each key the newest committed record is there; a tombstone may go, but not before
//! `delete.retention.ms` has passed since it was made. That nothing ever moves to another offset is
//! the model's own rule.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Offset, Prng, TopicPartition};
use crate::cluster::configs::StaticConfigs;
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
    records: BTreeMap<RecordNumber, Keyed>,
    found: BTreeMap<TopicPartition, BTreeSet<i64>>,
    /// Rounds that came to their end.
    pub(super) rounds: u64,
}

/// The cleaner looks often, so that it gets its turn in a short run.
pub(super) fn broker_configs(prng: &mut Prng) -> StaticConfigs {
    let backoff = 1 + prng.below(8);
    let config = ("log.cleaner.backoff.ms".to_owned(), backoff.to_string());
    StaticConfigs::from([config])
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

/// The `delete.retention.ms` of a partition whose topic is compacted; none for any other.
pub(super) fn retention_of(image: &Image, id: TopicPartition) -> Option<i64> {
    let name = image.topic_by_id(id.topic)?.name.to_string();
    let configs = image.configs(&Resource::Topic(name))?;
    let policy = configs.get("cleanup.policy")?;
    let retention = configs.get("delete.retention.ms")?.parse().ok()?;
    policy.contains("compact").then_some(retention)
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
        (now_ms, retention_ms): (i64, i64),
    ) -> Result<(), String> {
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
            let may_go = keyed.tombstone && now_ms - keyed.made_ms >= retention_ms;
            if !found.contains(&offset) && !may_go {
                return Err(format!(
                    "{id:?}: the newest record of key {key} is gone from offset {offset}: {keyed:?}"
                ));
            }
        }
        Ok(())
    }
}
