//! The coordinators' view of the topics, kept in step with the image: worked out once from the
//! first image, then from the records that made each next one.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Now, TopicId};
use crate::cluster::{Image, Record, Topic};
use crate::group::{self, TopicView};

use super::core::Core;
use super::message::Effects;

impl Core {
    /// The image is new; `records` made it of the one before (none for the first image). Groups of
    /// deleted topics lose their offsets.
    pub(super) fn topics_changed(&mut self, now: Now, records: &[Record], effects: &mut Effects) {
        let image = self.image.clone();
        let version = image.applied().map_or(-1, |offset| offset.0);
        let view = &mut self.coordinators.topics;
        let whole = |record: &Record| matches!(record, Record::RegisterBroker(_));
        if records.is_empty() || records.iter().any(whole) {
            // The first image, or a broker's rack may have changed.
            let mut all = TopicView::new(version);
            for topic in image.topics() {
                all.insert(&topic.name, described(&image, topic));
            }
            *view = all;
            return;
        }
        let changed: BTreeSet<TopicId> = records.iter().filter_map(topic_of).collect();
        if changed.is_empty() {
            return;
        }
        let mut deleted = Vec::new();
        for id in changed {
            match image.topic_by_id(id) {
                Some(topic) => view.insert(&topic.name, described(&image, topic)),
                None => deleted.extend(view.name(id).map(str::to_owned)),
            }
        }
        for name in &deleted {
            view.remove(name);
        }
        view.version = version;
        if !deleted.is_empty() {
            self.topics_deleted(now, &deleted, effects);
        }
    }
}

/// The topic that a record makes, changes or deletes.
fn topic_of(record: &Record) -> Option<TopicId> {
    match record {
        Record::Topic { id, .. } | Record::RemoveTopic { id } => Some(*id),
        Record::Partition(partition) => Some(partition.topic),
        Record::PartitionChange(change) => Some(change.topic),
        _ => None,
    }
}

fn described(image: &Image, topic: &Topic) -> group::Topic {
    let rack = |broker| image.brokers().get(broker)?.rack.clone();
    let mut racks: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
    for (index, partition) in (0..).zip(&topic.partitions) {
        let found: BTreeSet<String> = partition.replicas.iter().filter_map(rack).collect();
        if !found.is_empty() {
            racks.insert(index, found);
        }
    }
    group::Topic {
        id: topic.id,
        partitions: topic.partitions.len() as i32,
        racks,
    }
}
