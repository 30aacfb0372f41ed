//! Records in and records out: how many, and where their time went.
//!
//! Records out are counted in bytes only: what goes from a file to a socket is not looked at on its
//! way, so nobody knows how many records it holds.

use std::time::Duration;

use super::Histogram;
use super::sample::{Walk, text};

/// The way a request took to the cores that own its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Its connection was accepted by the core that owns all of it.
    Local,
    /// The same, but another core had accepted the connection and handed it over.
    HandedOver,
    /// At least a part of it was sent to another core, and the answer came back from there.
    Forwarded,
}

/// The routes in the order of the enum, which is the order of the arrays.
const ROUTES: [&str; 3] = ["local", "handed_over", "forwarded"];

/// A stretch of a produce request's way, each measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProduceStage {
    /// Header and body were read, and split by the cores that own the partitions.
    Parse,
    /// Each part waited for its core: mesh and inbox. Next to nothing on the connection's own core.
    Queue,
    /// Each part was checked, got its offsets and was copied into the tail.
    Append,
    /// From the beginning of the append until the write was done as the topic asks.
    Durable,
    /// From the last core's answer until the kernel had the reply: the way back between cores and
    /// the reply's turn in the connection included.
    Reply,
    /// From the request read whole until the kernel had the reply. None for acks 0.
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
    routes: [Histogram; ROUTES.len()],
}

impl Produce {
    /// One request passed `stage` in `took`.
    #[inline]
    pub fn passed(&mut self, stage: ProduceStage, took: Duration) {
        self.stages[stage as usize].record(took);
    }

    /// The kernel had the reply `took` after the request was read whole, and `reply` after the last
    /// core had answered (none if no core was asked).
    #[inline]
    pub fn sent(&mut self, route: Route, took: Duration, reply: Option<Duration>) {
        if let Some(reply) = reply {
            self.passed(ProduceStage::Reply, reply);
        }
        self.passed(ProduceStage::Total, took);
        self.routes[route as usize].record(took);
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
        for (route, histogram) in ROUTES.into_iter().zip(&self.routes) {
            let help = "Total time of a produce request by its route to the partitions' cores.";
            walk.histogram(
                "corelane_produce_route_seconds",
                help,
                text("route", route),
                histogram,
            );
        }
    }
}

/// A stretch of a fetch request's way, each measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchStage {
    /// Header and body were read, and split by the cores that own the partitions.
    Parse,
    /// Each part waited for its core: mesh and inbox. Next to nothing on the connection's own core.
    Queue,
    /// The batches of each part were looked for, in memory and in the index.
    Locate,
    /// It was parked for more bytes, for its time to run out, or for a block of the index or the
    /// log. Counts only those that were parked.
    Wait,
    /// From the last core's answer until the kernel had the whole reply: cold bytes were brought in,
    /// and the client took what its socket could not hold.
    Send,
    /// From the request read whole until the kernel had the whole reply.
    Total,
}

/// The stages in the order of the enum, which is the order of the arrays.
const FETCH_STAGES: [&str; 6] = ["parse", "queue", "locate", "wait", "send", "total"];

/// What consumers took from this core's partitions.
#[derive(Debug, Default)]
pub struct Fetch {
    /// Bytes of batches sent out of memory.
    pub memory_bytes: u64,
    /// Bytes of batches sent out of files.
    pub file_bytes: u64,
    /// Fetches that were parked.
    pub waits: u64,
    /// Fetches answered without a record.
    pub empty: u64,
    stages: [Histogram; FETCH_STAGES.len()],
    routes: [Histogram; ROUTES.len()],
}

impl Fetch {
    /// One request passed `stage` in `took`.
    #[inline]
    pub fn passed(&mut self, stage: FetchStage, took: Duration) {
        self.stages[stage as usize].record(took);
    }

    /// The kernel had the whole reply `took` after the request was read whole, and `send` after the
    /// last core had answered (none if no core was asked).
    #[inline]
    pub fn sent(&mut self, route: Route, took: Duration, send: Option<Duration>) {
        if let Some(send) = send {
            self.passed(FetchStage::Send, send);
        }
        self.passed(FetchStage::Total, took);
        self.routes[route as usize].record(took);
    }

    pub(super) fn visit(&self, walk: &mut Walk<'_>) {
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
        for (route, histogram) in ROUTES.into_iter().zip(&self.routes) {
            let help = "Total time of a fetch request by its route to the partitions' cores.";
            walk.histogram(
                "corelane_fetch_route_seconds",
                help,
                text("route", route),
                histogram,
            );
        }
    }
}
