//! What operators are told of a core besides measurements: its groups, what they have committed,
//! where its partitions end. Changes nothing.

use crate::base::{Offset, PartitionIndex, TopicPartition};
use crate::group::overview::{CommittedRow, Detail, GroupRow, Listing, Page};
use crate::group::{Group, partition_for};

use super::coordinators::{Seat, Stage, TOPIC};
use super::core::Core;

/// A core's part of a list of groups.
#[derive(Clone, Debug, Default)]
pub struct GroupPage {
    /// Its groups, in order of id.
    pub rows: Vec<GroupRow>,
    /// Some of its coordinators load or have failed: their groups are missing.
    pub incomplete: bool,
}

/// A group, looked for on a core.
#[derive(Clone, Debug)]
pub enum FoundGroup {
    /// This core has it.
    Here(Box<Detail>),
    /// This core would have it, and does not.
    Unknown,
    /// This core has its coordinator, which loads or has failed.
    NotNow,
    /// Another core has its coordinator.
    Elsewhere,
}

/// A core's part of what groups have committed.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// The first ones by group, topic and partition; not more than the limit.
    pub rows: Vec<CommittedRow>,
    /// How many there are.
    pub count: usize,
    /// `corelane.metrics.lag.series.max`: the most that a core tells, and all cores together.
    pub limit: usize,
}

/// Where a partition begins and ends for consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    /// The first offset.
    pub start: Offset,
    /// The next offset that a consumer will see: the high watermark.
    pub end: Offset,
}

impl Core {
    /// This core's groups of a list.
    pub fn group_page(&self, listing: &Listing) -> GroupPage {
        let seats = || self.coordinators.seats.values();
        let mut found: Vec<(&Seat, &str, &Group)> = Vec::new();
        for seat in seats().filter(|seat| matches!(seat.stage, Stage::Serving)) {
            let listed = seat.coordinator.listed(listing);
            found.extend(listed.map(|(id, group)| (seat, id, group)));
        }
        found.sort_unstable_by_key(|(_, id, _)| *id);
        found.truncate(listing.limit);
        let rows = found.into_iter();
        GroupPage {
            rows: rows
                .map(|(seat, id, group)| seat.coordinator.row(id, group))
                .collect(),
            incomplete: seats().any(|seat| !matches!(seat.stage, Stage::Serving)),
        }
    }

    /// A page of a group, if this core coordinates it.
    pub fn group_detail(&self, id: &str, page: &Page) -> FoundGroup {
        let Some(topic) = self.image().topic(TOPIC) else {
            return FoundGroup::Unknown;
        };
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let partition = TopicPartition {
            topic: topic.id,
            partition: PartitionIndex(partition_for(id, partitions)),
        };
        let seat = self
            .slot(partition)
            .and_then(|slot| self.coordinators.seats.get(&slot));
        let Some(seat) = seat else {
            return FoundGroup::Elsewhere;
        };
        match seat.stage {
            Stage::Loading(_) | Stage::Failed => FoundGroup::NotNow,
            Stage::Serving => {
                let detail = seat.coordinator.detail(&self.coordinators.topics, id, page);
                detail.map_or(FoundGroup::Unknown, |detail| {
                    FoundGroup::Here(Box::new(detail))
                })
            }
        }
    }

    /// What this core's groups have committed.
    pub fn committed(&self) -> Committed {
        let limit = self.settings().groups.lag_series_max as usize;
        let seats = self.coordinators.seats.values();
        let mut committed = Committed {
            limit,
            ..Committed::default()
        };
        for seat in seats.filter(|seat| matches!(seat.stage, Stage::Serving)) {
            committed.count += seat.coordinator.offsets().len();
            committed.rows.extend(seat.coordinator.committed(limit));
        }
        let key = |row: &CommittedRow| (row.group.clone(), row.topic.clone(), row.partition);
        committed.rows.sort_by_cached_key(key);
        committed.rows.truncate(limit);
        committed
    }

    /// Where those of the partitions begin and end that this core has; none for the others.
    pub fn log_ends(&self, partitions: &[(String, i32)]) -> Vec<Option<LogEnds>> {
        let ends = partitions.iter().map(|(topic, index)| {
            let id = TopicPartition {
                topic: self.image().topic(topic)?.id,
                partition: PartitionIndex(*index),
            };
            let partition = self.partition(id)?;
            Some(LogEnds {
                start: partition.log_start(),
                end: partition.high_watermark(),
            })
        });
        ends.collect()
    }
}
