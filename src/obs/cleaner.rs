//! Compaction: the figures that Kafka has as `kafka.log:type=LogCleaner` and `LogCleanerManager`.

use std::time::Duration;

use super::sample::Walk;

/// The cleaner of one core.
#[derive(Debug, Default)]
pub struct Cleaner {
    /// Rounds that came to their end.
    pub runs: u64,
    /// Rounds that were given up.
    pub given_up: u64,
    /// Bytes read while keys were gathered.
    pub mapped_bytes: u64,
    /// Bytes of batches that rounds have read for copying.
    pub read_bytes: u64,
    /// Bytes of batches that rounds have left.
    pub written_bytes: u64,
    /// Records that rounds have read.
    pub records_read: u64,
    /// Records that rounds have left.
    pub records_kept: u64,
    /// The dirty share of the dirtiest log when it was last looked, in percent.
    pub dirty_percent_max: u64,
    /// Since the last round began, or since the start.
    pub since_last_run: Duration,
    /// How long the last round took.
    pub last_took: Duration,
    /// For how long the most overdue log has passed `max.compaction.lag.ms`.
    pub overdue_max: Duration,
    /// How full the table of keys was in the last round, in percent.
    pub key_table_percent: u64,
    /// What the last round left of the bytes that it copied, in percent.
    pub recopy_percent: u64,
    /// Logs that cannot be cleaned because a batch in them is not readable.
    pub uncleanable: u64,
}

impl Cleaner {
    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_log_cleaner_runs_total",
            "Rounds of compaction that came to their end.",
            self.runs,
        );
        walk.counter(
            "corelane_log_cleaner_given_up_total",
            "Rounds of compaction that were given up.",
            self.given_up,
        );
        walk.counter(
            "corelane_log_cleaner_mapped_bytes_total",
            "Bytes read by compaction to gather keys.",
            self.mapped_bytes,
        );
        walk.counter(
            "corelane_log_cleaner_read_bytes_total",
            "Bytes of batches before compaction.",
            self.read_bytes,
        );
        walk.counter(
            "corelane_log_cleaner_written_bytes_total",
            "Bytes of batches after compaction.",
            self.written_bytes,
        );
        walk.counter(
            "corelane_log_cleaner_records_read_total",
            "Records before compaction.",
            self.records_read,
        );
        walk.counter(
            "corelane_log_cleaner_records_kept_total",
            "Records after compaction.",
            self.records_kept,
        );
        walk.gauge(
            "corelane_log_cleaner_max_dirty_percent",
            "Dirty share of the dirtiest log of the core, in percent.",
            self.dirty_percent_max,
        );
        walk.duration(
            "corelane_log_cleaner_time_since_last_run_seconds",
            "Time since the last round began, or since the start.",
            self.since_last_run,
        );
        walk.duration(
            "corelane_log_cleaner_last_run_seconds",
            "How long the last round took.",
            self.last_took,
        );
        walk.duration(
            "corelane_log_cleaner_max_compaction_delay_seconds",
            "For how long the most overdue log has passed max.compaction.lag.ms.",
            self.overdue_max,
        );
        walk.gauge(
            "corelane_log_cleaner_buffer_utilization_percent",
            "How full the table of keys was in the last round, in percent.",
            self.key_table_percent,
        );
        walk.gauge(
            "corelane_log_cleaner_recopy_percent",
            "What the last round left of the bytes that it copied, in percent.",
            self.recopy_percent,
        );
        walk.gauge(
            "corelane_log_cleaner_uncleanable_partitions",
            "Logs that cannot be compacted because a batch in them is not readable.",
            self.uncleanable,
        );
    }
}
