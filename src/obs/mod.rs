//! Measurements: plain counters and latency histograms that one core owns, a walk over them, and
//! a snapshot of them that can be sent to another thread and added up.
//!
//! One [`Measurements`] lives on each core and is written by that core alone, so that nothing is
//! locked or atomic. Counting is an addition; recording a latency is a few nanoseconds; neither
//! allocates. Knows no clock (durations are told), no names of APIs and errors (numbers stay
//! numbers), no text format, no network. There is nothing global.

mod cleaner;
mod flow;
mod groups;
mod histogram;
mod journal;
mod machine;
mod requests;
mod sample;
mod snapshot;
mod storage;

pub use cleaner::Cleaner;
pub use flow::{Fetch, FetchStage, Produce, ProduceStage, Route};
pub use groups::{CoordinatorStage, GroupHoldings, Groups};
pub use histogram::{Histogram, HistogramSnapshot};
pub use journal::Journal;
pub use machine::{Memory, Mesh, Network, Turns};
pub use requests::Requests;
pub use sample::{Family, Kind, Label, LabelValue, Sample, Unit, Value};
pub use snapshot::{CoreSnapshot, Figure, Reading, merge};
pub use storage::{Cache, Disk, DiskVerb, Holdings, Logs};

use crate::base::CoreId;

/// All that one core measures. About 700 KiB, nearly all of it histograms; it is made once and
/// does not grow.
#[derive(Debug)]
pub struct Measurements {
    /// Whose measurements they are.
    pub core: CoreId,
    /// Requests by API, refusals by code.
    pub requests: Requests,
    /// Connections and their bytes.
    pub network: Network,
    /// Records in.
    pub produce: Produce,
    /// Records out.
    pub fetch: Fetch,
    /// Disk work.
    pub disk: Disk,
    /// Journals.
    pub journal: Journal,
    /// The batch cache.
    pub cache: Cache,
    /// Segments, recovery and faults.
    pub logs: Logs,
    /// Compaction.
    pub cleaner: Cleaner,
    /// Partitions on the core now.
    pub holdings: Holdings,
    /// Group coordinators.
    pub groups: Groups,
    /// Messages between cores.
    pub mesh: Mesh,
    /// Busy and idle time.
    pub turns: Turns,
    /// Planned memory.
    pub memory: Memory,
}

impl Measurements {
    /// Nothing measured yet.
    pub fn new(core: CoreId) -> Measurements {
        Measurements {
            core,
            requests: Requests::new(),
            network: Network::default(),
            produce: Produce::default(),
            fetch: Fetch::default(),
            disk: Disk::default(),
            journal: Journal::default(),
            cache: Cache::default(),
            logs: Logs::default(),
            cleaner: Cleaner::default(),
            holdings: Holdings::default(),
            groups: Groups::default(),
            mesh: Mesh::default(),
            turns: Turns::default(),
            memory: Memory::default(),
        }
    }

    /// Shows every figure to `visitor`, always in the same order. APIs and error codes that never
    /// occurred are left out; everything else is there from the start.
    pub fn visit(&self, visitor: &mut dyn FnMut(Sample<'_>)) {
        let mut walk = sample::Walk::new(visitor);
        self.requests.visit(&mut walk);
        self.network.visit(&mut walk);
        self.produce.visit(&mut walk);
        self.fetch.visit(&mut walk);
        self.disk.visit(&mut walk);
        self.journal.visit(&mut walk);
        self.cache.visit(&mut walk);
        self.logs.visit(&mut walk);
        self.cleaner.visit(&mut walk);
        self.holdings.visit(&mut walk);
        self.groups.visit(&mut walk);
        self.mesh.visit(&mut walk);
        self.turns.visit(&mut walk);
        self.memory.visit(&mut walk);
    }

    /// A copy of every figure, to be sent away: 290 KiB and 190 µs of this core's time with every
    /// histogram spread over a thousand counters (2 vCPUs, release), much less in common use. So
    /// it is for seconds apart, not for every turn.
    pub fn snapshot(&self) -> CoreSnapshot {
        snapshot::take(self)
    }
}

#[cfg(test)]
mod tests;
