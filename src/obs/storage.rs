//! The disk, the cache, and the logs, partitions and groups that live on a core.

use std::time::Duration;

use super::Histogram;
use super::sample::{Kind, Walk, family, text};

/// The sorts of disk work that are measured apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskVerb {
    /// A write that the kernel has.
    Write,
    /// A write that is on stable storage when it is done.
    DurableWrite,
    /// A sync of what was written before.
    Sync,
    /// A read.
    Read,
}

/// The verbs in the order of the enum, which is the order of the array.
const DISK_VERBS: [&str; 4] = ["write", "durable_write", "sync", "read"];

/// Disk work that came back to this core. How often a verb was done is the count of its histogram.
#[derive(Debug, Default)]
pub struct Disk {
    /// Operations given to the ring and not back yet.
    pub in_flight: u64,
    verbs: [Verb; DISK_VERBS.len()],
}

#[derive(Debug, Default)]
struct Verb {
    took: Histogram,
    bytes: u64,
    faults: u64,
}

impl Disk {
    /// An operation over `bytes` bytes (0 for a sync) was done in `took`.
    #[inline]
    pub fn done(&mut self, verb: DiskVerb, bytes: u64, took: Duration) {
        let verb = &mut self.verbs[verb as usize];
        verb.took.record(took);
        verb.bytes += bytes;
    }

    /// An operation failed.
    pub fn failed(&mut self, verb: DiskVerb) {
        self.verbs[verb as usize].faults += 1;
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.gauge(
            "corelane_disk_operations_in_flight",
            "Disk operations not back yet.",
            self.in_flight,
        );
        for (name, verb) in DISK_VERBS.into_iter().zip(&self.verbs) {
            let label = text("operation", name);
            let help = "Time of a disk operation.";
            walk.histogram("corelane_disk_seconds", help, label, &verb.took);
            let bytes = family("corelane_disk_bytes_total", "Bytes moved.", Kind::Counter);
            walk.number(bytes, label, verb.bytes);
            let help = "Disk operations that failed; none is ever tried again.";
            let faults = family("corelane_disk_faults_total", help, Kind::Counter);
            walk.number(faults, label, verb.faults);
        }
    }
}

/// Batches kept in memory for readers.
#[derive(Debug, Default)]
pub struct Cache {
    /// Reads answered out of memory.
    pub hits: u64,
    /// Reads that had to go to a file.
    pub misses: u64,
    /// Bytes read out of memory.
    pub hit_bytes: u64,
    /// Bytes that had to come from a file.
    pub miss_bytes: u64,
    /// Bytes put out to make room.
    pub evicted_bytes: u64,
    /// Bytes held now.
    pub bytes: u64,
}

impl Cache {
    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_cache_hits_total",
            "Reads answered out of memory.",
            self.hits,
        );
        walk.counter(
            "corelane_cache_misses_total",
            "Reads that went to a file.",
            self.misses,
        );
        walk.counter(
            "corelane_cache_hit_bytes_total",
            "Bytes read out of memory.",
            self.hit_bytes,
        );
        walk.counter(
            "corelane_cache_miss_bytes_total",
            "Bytes that had to come from a file.",
            self.miss_bytes,
        );
        walk.counter(
            "corelane_cache_evicted_bytes_total",
            "Bytes put out of the cache to make room.",
            self.evicted_bytes,
        );
        walk.gauge(
            "corelane_cache_bytes",
            "Bytes held in the cache.",
            self.bytes,
        );
    }
}

/// The logs of this core.
#[derive(Debug, Default)]
pub struct Logs {
    /// Logs shut after a failed write or sync, since the start.
    pub fences: u64,
    /// Segments begun.
    pub segments_rolled: u64,
    /// Segments removed by retention, compaction or DeleteRecords.
    pub segments_deleted: u64,
    /// Bytes read by recovery.
    pub recovery_scanned_bytes: u64,
    /// Bytes of torn tails cut by recovery.
    pub recovery_cut_bytes: u64,
    /// Logs found with a bad batch before good ones.
    pub corrupt: u64,
}

impl Logs {
    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_log_fences_total",
            "Logs shut after a failed write or sync.",
            self.fences,
        );
        walk.counter(
            "corelane_log_segments_rolled_total",
            "Segments begun.",
            self.segments_rolled,
        );
        walk.counter(
            "corelane_log_segments_deleted_total",
            "Segments removed.",
            self.segments_deleted,
        );
        walk.counter(
            "corelane_log_recovery_scanned_bytes_total",
            "Bytes read by recovery.",
            self.recovery_scanned_bytes,
        );
        walk.counter(
            "corelane_log_recovery_cut_bytes_total",
            "Bytes of torn tails cut by recovery.",
            self.recovery_cut_bytes,
        );
        walk.counter(
            "corelane_log_corruptions_total",
            "Logs found with a bad batch before good ones.",
            self.corrupt,
        );
    }
}

/// The partitions and groups that live on this core now.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Partitions on this core.
    pub partitions: u64,
    /// Partitions that it leads.
    pub leaders: u64,
    /// Partitions that nobody can write to: fenced, corrupt or without a leader.
    pub offline: u64,
    /// Led partitions with fewer replicas in sync than assigned.
    pub under_replicated: u64,
    /// Led partitions with fewer replicas in sync than `min.insync.replicas`.
    pub under_min_in_sync: u64,
    /// Data directories with nothing left but their reserve, as this core sees it.
    pub short_directories: u64,
    /// Data directories that failed, as this core sees it.
    pub failed_directories: u64,
    /// Bytes in all logs.
    pub log_bytes: u64,
    /// Consumer groups coordinated here.
    pub groups: u64,
    /// Their members.
    pub group_members: u64,
    /// Rebalances of those groups, since the start.
    pub group_rebalances: u64,
}

impl Holdings {
    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.gauge(
            "corelane_partitions",
            "Partitions on the core.",
            self.partitions,
        );
        walk.gauge(
            "corelane_leader_partitions",
            "Partitions led.",
            self.leaders,
        );
        walk.gauge(
            "corelane_offline_partitions",
            "Partitions that nobody can write to.",
            self.offline,
        );
        walk.gauge(
            "corelane_under_replicated_partitions",
            "Led partitions with fewer replicas in sync than assigned.",
            self.under_replicated,
        );
        walk.gauge(
            "corelane_under_min_in_sync_partitions",
            "Led partitions with fewer replicas in sync than min.insync.replicas.",
            self.under_min_in_sync,
        );
        walk.gauge(
            "corelane_data_directories_short",
            "Data directories with nothing left but their reserve.",
            self.short_directories,
        );
        walk.gauge(
            "corelane_data_directories_failed",
            "Data directories that failed.",
            self.failed_directories,
        );
        walk.gauge(
            "corelane_log_size_bytes",
            "Bytes in all logs.",
            self.log_bytes,
        );
        walk.gauge(
            "corelane_groups",
            "Consumer groups coordinated.",
            self.groups,
        );
        walk.gauge(
            "corelane_group_members",
            "Members of those groups.",
            self.group_members,
        );
        walk.counter(
            "corelane_group_rebalances_total",
            "Rebalances of consumer groups.",
            self.group_rebalances,
        );
    }
}
