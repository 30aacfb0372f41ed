//! A core's journals, all data directories together.

use super::sample::Walk;

/// What they did, and what they hold now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Journal {
    /// Durable writes to journals.
    pub writes: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Writes of logs that were in them, and settled files.
    pub entries: u64,
    /// How often an extent was begun.
    pub recycles: u64,
    /// Small writes of logs that would have been gathered, had there been room, or fewer files in it.
    pub bypasses: u64,
    /// Writes that brought what a journal held to its file.
    pub brought_home: u64,
    /// Writes with which the start brought to files what journals held.
    pub replayed: u64,
    /// Files of which a journal holds something.
    pub files: u64,
    /// Bytes in memory that are not in their files yet.
    pub memory_bytes: u64,
}

impl Journal {
    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_journal_writes_total",
            "Durable writes to journals.",
            self.writes,
        );
        walk.counter(
            "corelane_journal_bytes_total",
            "Bytes written to journals.",
            self.bytes,
        );
        walk.counter(
            "corelane_journal_entries_total",
            "Writes of logs in journals, and files that were settled.",
            self.entries,
        );
        walk.counter(
            "corelane_journal_recycles_total",
            "Halves of journals that were begun.",
            self.recycles,
        );
        walk.counter(
            "corelane_journal_bypasses_total",
            "Small writes that went past a full journal, or one with enough files.",
            self.bypasses,
        );
        walk.counter(
            "corelane_journal_brought_home_total",
            "Writes that brought what a journal held to its file.",
            self.brought_home,
        );
        walk.counter(
            "corelane_journal_replayed_total",
            "Writes with which the start brought to files what journals held.",
            self.replayed,
        );
        walk.gauge(
            "corelane_journal_files",
            "Files of which journals hold something.",
            self.files,
        );
        walk.gauge(
            "corelane_journal_memory_bytes",
            "Bytes in journals that are not in their files yet.",
            self.memory_bytes,
        );
    }
}
