//! What a run found: written as JSON, shown as a table, drawn on a page.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::latency::Latency;
use super::process::Cost;

/// Records through one kind of connection, within the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Records.
    pub records: u64,
    /// Bytes of their batches as on the wire.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
    /// Records a second.
    pub records_a_second: f64,
    /// Millions of bytes a second.
    pub megabytes_a_second: f64,
}

/// What one second brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the run began, warm-up included.
    pub at: u64,
    /// True if it lies in the measured time.
    pub measured: bool,
    /// Records acknowledged.
    pub written: u64,
    /// Bytes acknowledged.
    pub written_bytes: u64,
    /// Records read, from the tail or behind it.
    pub read: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Of acknowledgements, or of arrivals where there are readers of the tail: p50, microseconds.
    pub p50: f64,
    /// p99, microseconds.
    pub p99: f64,
    /// The longest, microseconds.
    pub max: f64,
}

/// Whether the result can be believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// Records sent, of the whole run with warm-up and drain.
    pub sent: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records given up: refused for good, or not answered in time.
    pub failed: u64,
    /// Records that were due and never sent: the broker, or this machine, was too slow.
    pub unsent: u64,
    /// Batches sent again.
    pub retries: u64,
    /// Records read, by all readers together.
    pub read: u64,
    /// Records that a reader should have seen and did not.
    pub missing: u64,
    /// Records that a reader saw again.
    pub repeated: u64,
    /// Records whose checksum or stamp is wrong.
    pub damaged: u64,
    /// By how much the logs grew, by their offsets; none if nobody asked.
    pub log_growth: Option<u64>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// True if nothing above speaks against the result.
    pub good: bool,
}

/// One step of a ladder of rates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Records a second that were asked for.
    pub rate: f64,
    /// Records a second that were acknowledged.
    pub achieved: f64,
    /// True if the rate was kept: nothing unsent, 99 % achieved.
    pub kept: bool,
    /// Latencies at that rate.
    pub latency: Latency,
}

/// A run's result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The mode: `produce`.
    pub mode: String,
    /// The command that does it again.
    pub command: String,
    /// What was chosen, in words.
    pub settings: BTreeMap<String, String>,
    /// Seconds that were measured.
    pub seconds: f64,
    /// Records a second that were asked for; none in a closed loop.
    pub rate: Option<f64>,
    /// What was acknowledged.
    pub written: Option<Throughput>,
    /// What readers of the tail got.
    pub read: Option<Throughput>,
    /// What readers behind the tail got.
    pub caught_up: Option<Throughput>,
    /// From when a record was due to its acknowledgement.
    pub acknowledged: Option<Latency>,
    /// From when a record was due to its arrival at a reader of the tail.
    pub end_to_end: Option<Latency>,
    /// As `end_to_end`, before readers began to catch up.
    pub undisturbed: Option<Latency>,
    /// From the call to connect to the answer to a first request.
    pub connected: Option<Latency>,
    /// What the broker cost in the measured time.
    pub broker: Option<Cost>,
    /// What this program cost in the same time.
    pub client: Option<Cost>,
    /// Whether to believe it.
    pub validity: Validity,
    /// Each second.
    pub timeline: Vec<Second>,
    /// The ladder of rates, if there was one.
    pub ladder: Vec<Step>,
    /// The rate that the broker keeps, records a second, if it was looked for.
    pub knee: Option<f64>,
    /// All latencies, for `.hgrm` files.
    #[serde(skip)]
    pub histograms: Vec<(&'static str, Histogram<u64>)>,
}

impl Outcome {
    /// The latency that the mode is about: to the reader where there is one.
    pub fn latency(&self) -> Option<&Latency> {
        let first = self.end_to_end.as_ref().or(self.acknowledged.as_ref());
        first.or(self.connected.as_ref())
    }

    /// The share of the asked rate that was achieved; 1 in a closed loop.
    pub fn achieved(&self) -> f64 {
        match (self.rate, self.written) {
            (Some(rate), Some(written)) if rate > 0.0 => written.records_a_second / rate,
            _ => 1.0,
        }
    }

    /// Decides whether the result can be believed, once all is known.
    pub fn judge(&mut self) {
        let validity = &mut self.validity;
        let grown = validity
            .log_growth
            .is_none_or(|grown| (validity.acknowledged..=validity.sent).contains(&grown));
        validity.good = grown
            && validity.failed == 0
            && validity.missing == 0
            && validity.repeated == 0
            && validity.damaged == 0;
    }
}
