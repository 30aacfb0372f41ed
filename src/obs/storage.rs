//! The disk, the cache, and the logs and partitions that live on a core.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::Mono;

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
    /// Operations given to the ring and not back yet, and when each was given.
    in_flight: BTreeMap<u64, Mono>,
    begun: u64,
    /// How long the oldest of them has been on its way, when that was looked at last.
    oldest: Duration,
    verbs: [Verb; DISK_VERBS.len()],
}

#[derive(Debug, Default)]
struct Verb {
    took: Histogram,
    bytes: u64,
    faults: u64,
}

impl Disk {
    /// An operation is given to the ring; the number is for [`Disk::ended`].
    pub fn began(&mut self, now: Mono) -> u64 {
        self.begun += 1;
        self.in_flight.insert(self.begun, now);
        self.begun
    }

    /// The operation is back.
    pub fn ended(&mut self, number: u64) {
        self.in_flight.remove(&number);
    }

    /// Looks how long the oldest operation has been on its way: a disk that hangs says nothing.
    pub fn look(&mut self, now: Mono) {
        let oldest = self.in_flight.values().next();
        self.oldest = oldest.map_or(Duration::ZERO, |since| now.since(*since));
    }

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
            self.in_flight.len() as u64,
        );
        walk.duration(
            "corelane_disk_oldest_operation_seconds",
            "How long the oldest disk operation has been on its way.",
            self.oldest,
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
    /// Reads of a partition answered out of memory.
    pub hits: u64,
    /// Reads of a partition answered with a part of a file.
    pub misses: u64,
    /// Bytes that the reads found in memory.
    pub hit_bytes: u64,
    /// Bytes that the reads left in a file.
    pub miss_bytes: u64,
    /// Bytes put out to make room.
    pub evicted_bytes: u64,
    /// Bytes held now.
    pub bytes: u64,
    /// Bytes that may be held.
    pub budget_bytes: u64,
}

impl Cache {
    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_cache_hits_total",
            "Reads of a partition answered out of memory.",
            self.hits,
        );
        walk.counter(
            "corelane_cache_misses_total",
            "Reads of a partition answered with a part of a file.",
            self.misses,
        );
        walk.counter(
            "corelane_cache_hit_bytes_total",
            "Bytes that reads found in memory.",
            self.hit_bytes,
        );
        walk.counter(
            "corelane_cache_miss_bytes_total",
            "Bytes that reads left in a file.",
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
        walk.gauge(
            "corelane_cache_budget_bytes",
            "Bytes that the cache may hold.",
            self.budget_bytes,
        );
    }
}

/// The logs of this core.
#[derive(Debug, Default)]
pub struct Logs {
    /// Logs shut after a failed write or sync, since the start.
    pub fences: u64,
    /// Bytes of batches that recovery went over.
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
            "corelane_log_recovery_scanned_bytes_total",
            "Bytes of batches behind the checkpoints that recovery went over.",
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

/// The partitions that live on this core now.
#[derive(Debug, Default)]
pub struct Holdings {
    /// Partitions on this core.
    pub partitions: u64,
    /// Partitions that it leads.
    pub leaders: u64,
    /// Partitions that nobody can write to: fenced, corrupt or without a leader.
    pub offline: u64,
    /// Data directories with nothing left but their reserve, as this core sees it.
    pub short_directories: u64,
    /// Data directories that failed, as this core sees it.
    pub failed_directories: u64,
    /// Bytes in all logs.
    pub log_bytes: u64,
    /// Segments of all logs.
    pub log_segments: u64,
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
            "corelane_log_segments",
            "Segments of all logs.",
            self.log_segments,
        );
    }
}
