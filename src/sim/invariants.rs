//! What must hold after every step of a core.

use std::collections::BTreeMap;

use crate::base::{Offset, TopicPartition};
use crate::cluster::{Image, Resource};
use crate::partition::Partition;
use crate::shard::Core;

use super::model::Model;

/// Operations that a core may have in flight, and batches that it may keep, with this workload.
pub(super) const DISK_OPERATIONS_MAX: usize = 2_000;

/// What was seen of each open partition since the last start.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    high_watermarks: BTreeMap<TopicPartition, (Offset, Offset)>,
}

impl Watch {
    /// Looks at every partition of a core that has just made a step.
    pub(super) fn look(&mut self, core: &Core, model: &mut Model) -> Result<(), String> {
        for partition in core.partitions().filter(|partition| partition.is_ready()) {
            let id = partition.id();
            bounds(partition).map_err(|why| format!("{id:?}: {why}"))?;
            let now = (partition.log_start(), partition.high_watermark());
            match self.high_watermarks.insert(id, now) {
                Some(before) => {
                    never_backwards(before, now).map_err(|why| format!("{id:?}: {why}"))?;
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

fn is_relaxed(image: &Image, id: TopicPartition) -> bool {
    let name = image
        .topic_by_id(id.topic)
        .map(|topic| topic.name.to_string());
    let configs = name.and_then(|name| image.configs(&Resource::Topic(name)));
    configs
        .and_then(|configs| configs.get("flush.messages"))
        .is_some_and(|value| value != "1")
}
