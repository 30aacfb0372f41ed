//! What must hold after every step of a core.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Offset, TopicPartition};
use crate::cluster::{Image, Resource};
use crate::partition::Partition;
use crate::shard::Core;

use super::model::Model;

/// Operations that a core may have in flight, and batches that it may keep, with this workload.
pub(super) const DISK_OPERATIONS_MAX: usize = 2_000;

/// The largest segments and batches of the workload, in bytes.
pub(super) const SEGMENT_BYTES_MAX: i64 = 64_000;
const BATCH_BYTES_MAX: i64 = 16_000;

/// What was seen of each open partition since the last start.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    high_watermarks: BTreeMap<TopicPartition, (Offset, Offset)>,
    /// Logs that a disk's error fenced, and that are opened again.
    reopening: BTreeSet<TopicPartition>,
}

impl Watch {
    /// Looks at every partition of a core that has just made a step.
    pub(super) fn look(&mut self, core: &Core, model: &mut Model) -> Result<(), String> {
        for partition in core.partitions() {
            let id = partition.id();
            // One that is offline from the start on is not ready: it shows nothing of its log.
            if !partition.is_ready() {
                self.reopening.insert(id);
                continue;
            }
            bounds(partition).map_err(|why| format!("{id:?}: {why}"))?;
            let now = (partition.log_start(), partition.high_watermark());
            let reopened = self.reopening.remove(&id);
            match self.high_watermarks.insert(id, now) {
                Some(mut before) => {
                    if reopened {
                        // As after a crash: a start that was not durable yet may be an older one.
                        before.0 = before.0.min(now.0);
                        model.check_start_promised(id, now.0)?;
                    }
                    never_backwards(before, now).map_err(|why| format!("{id:?}: {why}"))?;
                    if now.0 > before.0 {
                        let retention = retention(core.image(), id);
                        let size = partition.size_bytes();
                        model.start_moved(id, (before.0, now.0), retention, size)?;
                    }
                }
                None => {
                    let ends = (partition.log_start(), partition.log_end());
                    model.opened(id, is_relaxed(core.image(), id), ends)?;
                }
            }
        }
        Ok(())
    }
}

/// Log start <= last stable offset <= high watermark <= log end.
fn bounds(partition: &Partition) -> Result<(), String> {
    let row = [
        partition.log_start(),
        partition.last_stable_offset(),
        partition.high_watermark(),
        partition.log_end(),
    ];
    match row.is_sorted() {
        true => Ok(()),
        false => Err(format!(
            "start, last stable, high watermark, end out of order: {row:?}"
        )),
    }
}

/// Neither the log start nor the high watermark ever falls while the broker runs.
fn never_backwards(before: (Offset, Offset), now: (Offset, Offset)) -> Result<(), String> {
    match now.0 >= before.0 && now.1 >= before.1 {
        true => Ok(()),
        false => Err(format!(
            "start and high watermark fell from {before:?} to {now:?}"
        )),
    }
}

/// A topic's config, if it is set.
fn config(image: &Image, id: TopicPartition, name: &str) -> Option<i64> {
    let topic = image.topic_by_id(id.topic)?.name.to_string();
    let value = image.configs(&Resource::Topic(topic))?.get(name)?;
    value.parse().ok()
}

fn is_relaxed(image: &Image, id: TopicPartition) -> bool {
    config(image, id, "flush.messages").is_some_and(|value| value != 1)
}

/// `retention.ms` and `retention.bytes`, both endless unless set (no run lasts for seven days), and
/// where nothing is deleted.
fn retention(image: &Image, id: TopicPartition) -> (i64, i64) {
    let topic = image
        .topic_by_id(id.topic)
        .map(|topic| topic.name.to_string());
    let configs = topic.and_then(|name| image.configs(&Resource::Topic(name)));
    let policy = configs.and_then(|configs| configs.get("cleanup.policy"));
    if policy.is_some_and(|policy| policy == "compact") {
        return (-1, -1);
    }
    let set = |name| config(image, id, name).unwrap_or(-1);
    (set("retention.ms"), set("retention.bytes"))
}

/// What is looked after now and then has been: expired records and producers are gone, logs are
/// as small as they should be. `housekept_ms`: for how long nothing else has happened.
pub(super) fn housekept(core: &Core, model: &Model, housekept_ms: i64) -> Result<(), String> {
    for partition in core.partitions() {
        let id = partition.id();
        let (retention_ms, retention_bytes) = retention(core.image(), id);
        let silent_ms = model.newest_made(id).map(|made| model.now_ms - made);
        let kept = partition.high_watermark().0 - partition.log_start().0;
        let limit = retention_ms.saturating_add(housekept_ms);
        if retention_ms >= 0 && kept > 0 && silent_ms.is_some_and(|silent| silent > limit) {
            return Err(format!(
                "{id:?} keeps {kept} records, the newest {silent_ms:?} ms old, of {retention_ms} ms"
            ));
        }
        let segment = config(core.image(), id, "internal.segment.bytes");
        let size = partition.size_bytes() as i64;
        if let Some(segment) = segment
            && retention_bytes >= 0
            && size > retention_bytes + segment.max(SEGMENT_BYTES_MAX) + BATCH_BYTES_MAX
        {
            return Err(format!(
                "{id:?} is {size} bytes large: {retention_bytes} wanted, segments of {segment}"
            ));
        }
        let remembered = partition.producers().len();
        let limit = model.producer_expiration_ms.saturating_add(housekept_ms);
        if remembered > 0 && silent_ms.is_some_and(|silent| silent > limit) {
            return Err(format!("{id:?} still remembers {remembered} producers"));
        }
    }
    Ok(())
}
