//! Records in and records out: how many, and where their time went.

use std::time::Duration;

use super::Histogram;
use super::sample::{Walk, text};

/// A stretch of a produce request's way, each measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProduceStage {
    /// Header and body were read.
    Parse,
    /// It waited for its core: mesh and inbox.
    Queue,
    /// Checked, offsets assigned, copied into the tail.
    Append,
    /// From the append until the write was done as the topic asks.
    Durable,
    /// From then until the reply was handed to the socket, its turn in the connection included.
    Reply,
    /// From the request read whole to the reply handed to the socket.
    Total,
}

/// The stages in the order of the enum, which is the order of the arrays.
const PRODUCE_STAGES: [&str; 6] = ["parse", "queue", "append", "durable", "reply", "total"];

/// What producers brought to this core's partitions.
#[derive(Debug, Default)]
pub struct Produce {
    /// Records appended.
    pub records: u64,
    /// Batches appended.
    pub batches: u64,
    /// Bytes of batches appended, as they came: compressed ones compressed.
    pub bytes: u64,
    /// Batches that were there already, sent again by an idempotent producer.
    pub duplicates: u64,
    stages: [Histogram; PRODUCE_STAGES.len()],
}

impl Produce {
    /// One request passed `stage` in `took`.
    #[inline]
    pub fn passed(&mut self, stage: ProduceStage, took: Duration) {
        self.stages[stage as usize].record(took);
    }

    /// One batch of `records` records and `bytes` bytes was appended.
    #[inline]
    pub fn appended(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.batches += 1;
        self.bytes += bytes;
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_produced_records_total",
            "Records appended.",
            self.records,
        );
        walk.counter(
            "corelane_produced_batches_total",
            "Record batches appended.",
            self.batches,
        );
        walk.counter(
            "corelane_produced_bytes_total",
            "Bytes of record batches appended, as they came.",
            self.bytes,
        );
        walk.counter(
            "corelane_duplicate_batches_total",
            "Batches that an idempotent producer sent again.",
            self.duplicates,
        );
        for (stage, histogram) in PRODUCE_STAGES.into_iter().zip(&self.stages) {
            let help = "Time of a produce request by stage; total is the whole of it.";
            walk.histogram(
                "corelane_produce_seconds",
                help,
                text("stage", stage),
                histogram,
            );
        }
    }
}

/// A stretch of a fetch request's way, each measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchStage {
    /// Header and body were read.
    Parse,
    /// It waited for its core: mesh and inbox.
    Queue,
    /// The batches were found, in memory or in a file.
    Locate,
    /// It was parked for more bytes or for its time to run out.
    Wait,
    /// Cold bytes were brought in and the reply was handed to the socket.
    Send,
    /// From the request read whole to the reply handed to the socket.
    Total,
}

/// The stages in the order of the enum, which is the order of the arrays.
const FETCH_STAGES: [&str; 6] = ["parse", "queue", "locate", "wait", "send", "total"];

/// What consumers took from this core's partitions.
#[derive(Debug, Default)]
pub struct Fetch {
    /// Records sent.
    pub records: u64,
    /// Bytes of batches sent out of memory.
    pub memory_bytes: u64,
    /// Bytes of batches sent out of files.
    pub file_bytes: u64,
    /// Fetches that were parked.
    pub waits: u64,
    /// Fetches answered without a record.
    pub empty: u64,
    stages: [Histogram; FETCH_STAGES.len()],
}

impl Fetch {
    /// One request passed `stage` in `took`.
    #[inline]
    pub fn passed(&mut self, stage: FetchStage, took: Duration) {
        self.stages[stage as usize].record(took);
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
        walk.counter(
            "corelane_fetched_records_total",
            "Records sent.",
            self.records,
        );
        walk.counter(
            "corelane_fetched_memory_bytes_total",
            "Bytes of record batches sent out of memory.",
            self.memory_bytes,
        );
        walk.counter(
            "corelane_fetched_file_bytes_total",
            "Bytes of record batches sent out of files.",
            self.file_bytes,
        );
        walk.counter(
            "corelane_fetch_waits_total",
            "Fetches that were parked.",
            self.waits,
        );
        walk.counter(
            "corelane_empty_fetches_total",
            "Fetches answered without a record.",
            self.empty,
        );
        for (stage, histogram) in FETCH_STAGES.into_iter().zip(&self.stages) {
            let help = "Time of a fetch request by stage; total is the whole of it.";
            walk.histogram(
                "corelane_fetch_seconds",
                help,
                text("stage", stage),
                histogram,
            );
        }
    }
}
