//! Which data directory a partition goes to: the one of its broker that holds the fewest, as Kafka
//! counts (apache/kafka `LogManager.nextLogDirs`). The choice is part of the partition's record
//! (KIP-858), so that a directory that is missing at a start is not mistaken for one that never held
//! the partition.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{BrokerId, PartitionIndex, TopicId};
use crate::cluster::image::Image;
use crate::cluster::records::{PartitionChange, Record, UNASSIGNED_DIRECTORY};

use super::Controller;

/// Chooses directories for the partitions of one decision.
pub(super) struct Placement<'a> {
    image: &'a Image,
    failed: BTreeSet<TopicId>,
    /// What this decision has placed already.
    placed: BTreeMap<TopicId, usize>,
}

impl<'a> Placement<'a> {
    fn new(image: &'a Image, failed: &BTreeSet<TopicId>) -> Placement<'a> {
        Placement {
            image,
            failed: failed.clone(),
            placed: BTreeMap::new(),
        }
    }

    /// The directory of the next partition on `broker`, one of its `directories`; unassigned when
    /// none of them is well.
    fn among(&mut self, directories: &[TopicId]) -> TopicId {
        let well = directories.iter().filter(|id| !self.failed.contains(*id));
        let held = |id: &TopicId| {
            self.image.partitions_in(*id) + self.placed.get(id).copied().unwrap_or(0)
        };
        // The first of those that hold as few: their order is the operator's.
        let Some(chosen) = well.min_by_key(|id| held(id)).copied() else {
            return UNASSIGNED_DIRECTORY;
        };
        *self.placed.entry(chosen).or_default() += 1;
        chosen
    }

    /// The directory of the next partition on `broker`.
    pub(super) fn on(&mut self, broker: BrokerId) -> TopicId {
        let image = self.image;
        let directories = image.brokers().get(&broker).map(|broker| &broker.log_dirs);
        directories.map_or(UNASSIGNED_DIRECTORY, |directories| self.among(directories))
    }
}

impl Controller {
    pub(super) fn placement<'a>(&self, image: &'a Image) -> Placement<'a> {
        Placement::new(image, &self.failed_directories)
    }

    /// Gives each partition the directory in which `found` saw it; to one that has none, and was not
    /// seen, that with the fewest, when all directories are here. `directories`: this broker's that are well.
    pub fn assign_directories(
        &self,
        image: &Image,
        directories: &[TopicId],
        all_here: bool,
        found: impl Fn(&str, PartitionIndex) -> Option<TopicId>,
    ) -> Vec<Record> {
        let mut placement = self.placement(image);
        let mut records = Vec::new();
        let mut missing = Vec::new();
        let mut assign = |topic, partition, directory| {
            records.push(Record::PartitionChange(PartitionChange {
                partition,
                topic,
                directories: Some(vec![directory]),
                ..PartitionChange::default()
            }));
        };
        for topic in image.topics() {
            for (index, partition) in topic.partitions.iter().enumerate() {
                let alone = partition.replicas == [self.broker];
                if !alone {
                    continue;
                }
                let index = PartitionIndex(index as i32);
                match (
                    found(&topic.name, index),
                    partition.directory_on(self.broker),
                ) {
                    (Some(found), known) if known != Some(found) => {
                        *placement.placed.entry(found).or_default() += 1;
                        assign(topic.id, index, found);
                    }
                    (None, None) => missing.push((topic.id, index)),
                    (Some(_) | None, _) => {}
                }
            }
        }
        // After those that were found, so that they count.
        for (topic, index) in missing.into_iter().filter(|_| all_here) {
            match placement.among(directories) {
                UNASSIGNED_DIRECTORY => {}
                directory => assign(topic, index, directory),
            }
        }
        records
    }
}
