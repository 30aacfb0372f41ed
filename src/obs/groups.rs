//! The group coordinators of a core: what they hold now and what they did.

use std::time::Duration;

use super::Histogram;
use super::sample::{Kind, Walk, family, text};

/// The states of groups by Kafka's names, of both kinds.
const STATES: [&str; 6] = [
    "Empty",
    "PreparingRebalance",
    "CompletingRebalance",
    "Assigning",
    "Reconciling",
    "Stable",
];

/// The kinds of groups by Kafka's names.
const KINDS: [&str; 2] = ["Classic", "Consumer"];

/// What a coordinator does with its partition of `__consumer_offsets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoordinatorStage {
    /// It takes in its partition.
    Loading,
    /// It answers.
    Active,
    /// Its log is fenced: it refuses.
    Failed,
}

/// The stages in the order of the enum, which is the order of the array.
const STAGES: [&str; 3] = ["loading", "active", "failed"];

/// What the coordinators of a core hold now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupHoldings {
    states: [u64; STATES.len()],
    kinds: [u64; KINDS.len()],
    stages: [u64; STAGES.len()],
    /// Members of all groups.
    pub members: u64,
    /// Committed offsets of all groups: one for each partition that a group committed.
    pub offsets: u64,
}

impl GroupHoldings {
    /// One group in the state and of the kind that Kafka calls so.
    pub fn group(&mut self, state: &str, kind: &str, members: u64) {
        let count = |counts: &mut [u64], names: &[&str], name: &str| {
            if let Some(at) = names.iter().position(|known| *known == name) {
                counts[at] += 1;
            }
        };
        count(&mut self.states, &STATES, state);
        count(&mut self.kinds, &KINDS, kind);
        self.members += members;
    }

    /// One coordinator.
    pub fn coordinator(&mut self, stage: CoordinatorStage) {
        self.stages[stage as usize] += 1;
    }
}

/// What the group coordinators of a core hold now and did since the start.
#[derive(Debug, Default)]
pub struct Groups {
    /// What they hold now.
    pub now: GroupHoldings,
    /// Rebalances: of a classic group, when its leader has given the partitions out; of a consumer
    /// group, when its epoch rose.
    pub rebalances: u64,
    /// Offsets committed.
    pub offset_commits: u64,
    /// Committed offsets that were deleted: on request, with their group, with their topic.
    pub offsets_deleted: u64,
    /// Committed offsets that nobody renewed in time.
    pub offsets_expired: u64,
    /// Records that loading has read.
    pub records_loaded: u64,
    load: Histogram,
}

impl Groups {
    /// A coordinator has taken in its partition, in `took`.
    pub fn loaded(&mut self, took: Duration) {
        self.load.record(took);
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        let gauge = |name, help| family(name, help, Kind::Gauge);
        let by_state = gauge("corelane_groups", "Groups coordinated, by state.");
        for (state, count) in STATES.into_iter().zip(self.now.states) {
            walk.number(by_state, text("state", state), count);
        }
        let by_kind = gauge(
            "corelane_groups_by_protocol",
            "Groups coordinated, by protocol.",
        );
        for (kind, count) in ["classic", "consumer"].into_iter().zip(self.now.kinds) {
            walk.number(by_kind, text("protocol", kind), count);
        }
        let by_stage = gauge(
            "corelane_group_coordinators",
            "Partitions of __consumer_offsets here, by what their coordinator does.",
        );
        for (stage, count) in STAGES.into_iter().zip(self.now.stages) {
            walk.number(by_stage, text("stage", stage), count);
        }
        walk.gauge(
            "corelane_group_members",
            "Members of all groups.",
            self.now.members,
        );
        walk.gauge(
            "corelane_group_offsets",
            "Committed offsets held, one for each group and partition.",
            self.now.offsets,
        );
        walk.counter(
            "corelane_group_rebalances_total",
            "Rebalances of groups: assignments given out, or group epochs risen.",
            self.rebalances,
        );
        walk.counter(
            "corelane_group_offset_commits_total",
            "Offsets committed.",
            self.offset_commits,
        );
        let removed = family(
            "corelane_group_offsets_removed_total",
            "Committed offsets that are gone: deleted (also with their group or topic) or expired.",
            Kind::Counter,
        );
        walk.number(removed, text("reason", "deleted"), self.offsets_deleted);
        walk.number(removed, text("reason", "expired"), self.offsets_expired);
        walk.counter(
            "corelane_group_records_loaded_total",
            "Records of __consumer_offsets that coordinators have loaded.",
            self.records_loaded,
        );
        walk.histogram(
            "corelane_group_load_seconds",
            "Time in which a coordinator has loaded its partition of __consumer_offsets.",
            None,
            &self.load,
        );
    }
}
