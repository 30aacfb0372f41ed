//! The simulated world: one broker with several cores, its disk, its clocks, its clients and what
//! befalls them, on one thread and from one seed. The same seed gives the same run, event by event.
//!
//! Drives the very [`crate::shard::Core`] that serves: events go in, effects come out, and the disk
//! and the mesh between the cores are played here. Knows no thread, no file, no clock; nothing that
//! serves knows of it.
//!
//! | file | what it does |
//! |---|---|
//! | `plan` | what a seed means: how long, which crashes, which faults, which topics |
//! | `files`, `disk` | a file tree that forgets and tears; operations in flight, faults |
//! | `world`, `broker` | the heap of events, crashes, the end; the cores and the mesh between them |
//! | `producer`, `batcher`, `consumer`, `admin` | the workload |
//! | `model` | what clients were promised and what they have seen |
//! | `invariants` | what must hold after every step |
//! | `trace` | the last events, and the hash over all of them |

mod admin;
mod batcher;
mod broker;
mod compacted;
mod consumer;
mod disk;
mod files;
mod invariants;
mod model;
mod plan;
mod producer;
mod trace;
mod world;

use std::fmt;

pub use plan::{Canary, Crash, Plan};
pub use world::{run, run_plan};

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How many events before the faults end; the seed's own choice when none.
    pub steps: Option<u32>,
    /// Plants a bug that must be found: see [`Canary`]. Which one is the seed's choice.
    pub canary: bool,
}

/// What a run that kept its promises did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Events that were handed to cores.
    pub events: u64,
    /// Times the power was cut.
    pub power_cuts: u32,
    /// Times the process was killed.
    pub kills: u32,
    /// Times it was stopped cleanly.
    pub stops: u32,
    /// Disk operations that were made to fail.
    pub disk_errors: u32,
    /// Of these, operations that change names, lengths or whole small files.
    pub name_errors: u32,
    /// Logs that found no space for a write, and came back with all that was acknowledged.
    pub reopened: u64,
    /// Records that were acknowledged.
    pub acked_records: u64,
    /// Records that consumers have checked.
    pub read_records: u64,
    /// Acknowledged records of relaxed topics that power cuts took.
    pub relaxed_records_lost: u64,
    /// Times that retention moved the start of a log.
    pub retained: u64,
    /// Changes of topic configs that were answered.
    pub config_changes: u64,
    /// Rounds of compaction that came to their end.
    pub compactions: u64,
    /// Snapshots of the metadata that were begun.
    pub snapshots: u64,
    /// A hash over every event: the same seed gives the same.
    pub hash: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} events, {} power cuts, {} kills, {} clean stops, \
             {} disk errors ({} of names), {} records acked, {} read, {} lost by relaxed topics, {} starts moved by retention, \
             {} config changes, {} compactions, {} snapshots, hash {:016x}",
            self.seed,
            self.events,
            self.power_cuts,
            self.kills,
            self.stops,
            self.disk_errors,
            self.name_errors,
            self.acked_records,
            self.read_records,
            self.relaxed_records_lost,
            self.retained,
            self.config_changes,
            self.compactions,
            self.snapshots,
            self.hash
        )
    }
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// The event at which it showed.
    pub step: u64,
    /// Which invariant broke, and how.
    pub broken: String,
    /// The last events, oldest first.
    pub events: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {} broke at step {}: {}",
            self.seed, self.step, self.broken
        )?;
        writeln!(f, "the last events:")?;
        for event in &self.events {
            writeln!(f, "  {event}")?;
        }
        write!(f, "again: corelane sim --seed {}", self.seed)
    }
}

impl std::error::Error for Failure {}
