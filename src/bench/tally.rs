//! What one thread counts, and what it tells each second.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;

use super::latency::histogram;
use super::shared::Window;

/// Records, their bytes, and the requests they came with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    pub(super) records: u64,
    /// Of batches as on the wire.
    pub(super) bytes: u64,
    pub(super) requests: u64,
}

impl Flow {
    fn add(&mut self, other: Flow) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.requests += other.requests;
    }
}

/// One second of one thread.
#[derive(Clone, Debug)]
pub(super) struct Second {
    /// Seconds since the run began.
    pub(super) index: u64,
    pub(super) written: Flow,
    pub(super) read: Flow,
    pub(super) caught_up: Flow,
    /// Of what was acknowledged in this second.
    pub(super) acknowledged: Histogram<u64>,
    /// Of what arrived at a reader in this second.
    pub(super) arrived: Histogram<u64>,
}

impl Second {
    pub(super) fn new(index: u64) -> Second {
        Second {
            index,
            written: Flow::default(),
            read: Flow::default(),
            caught_up: Flow::default(),
            acknowledged: histogram(2),
            arrived: histogram(2),
        }
    }

    pub(super) fn add(&mut self, other: &Second) {
        self.written.add(other.written);
        self.read.add(other.read);
        self.caught_up.add(other.caught_up);
        let bounds = "all have the same bounds";
        self.acknowledged.add(&other.acknowledged).expect(bounds);
        self.arrived.add(&other.arrived).expect(bounds);
    }
}

/// What one thread counts.
#[derive(Debug)]
pub(super) struct Tally {
    window: Window,
    /// None once the last second was told: a count that is over must not keep the channel open.
    seconds: Option<Sender<Second>>,
    second: Second,
    /// Within the window.
    pub(super) written: Flow,
    pub(super) read: Flow,
    pub(super) caught_up: Flow,
    pub(super) acknowledged: Histogram<u64>,
    pub(super) arrived: Histogram<u64>,
    /// Of the whole run, warm-up and drain included.
    pub(super) acked_in_all: u64,
    pub(super) sent_in_all: u64,
    pub(super) arrived_in_all: u64,
    pub(super) failed: u64,
    pub(super) unsent: u64,
    pub(super) retries: u64,
    pub(super) missing: u64,
    pub(super) repeated: u64,
    pub(super) damaged: u64,
    /// By what went wrong: how often.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new(window: Window, seconds: Sender<Second>) -> Tally {
        Tally {
            window,
            seconds: Some(seconds),
            second: Second::new(0),
            written: Flow::default(),
            read: Flow::default(),
            caught_up: Flow::default(),
            acknowledged: histogram(3),
            arrived: histogram(3),
            acked_in_all: 0,
            sent_in_all: 0,
            arrived_in_all: 0,
            failed: 0,
            unsent: 0,
            retries: 0,
            missing: 0,
            repeated: 0,
            damaged: 0,
            errors: BTreeMap::new(),
        }
    }

    /// A batch whose records were due from `intended` on, one each `step`, was acknowledged.
    pub(super) fn acknowledge(&mut self, now: u64, flow: Flow, intended: u64, step: f64) {
        self.acked_in_all += flow.records;
        self.second.written.add(flow);
        if self.window.holds(now) {
            self.written.add(flow);
        }
        if step == 0.0 {
            self.latency_written(now, intended, flow.records);
        } else {
            for index in 0..flow.records {
                self.latency_written(now, intended + (index as f64 * step) as u64, 1);
            }
        }
    }

    /// Records that were due at `intended` and are done, or were given up, at `now`.
    pub(super) fn latency_written(&mut self, now: u64, intended: u64, count: u64) {
        let took = now.saturating_sub(intended).max(1);
        self.second.acknowledged.saturating_record_n(took, count);
        if self.window.holds(intended) {
            self.acknowledged.saturating_record_n(took, count);
        }
    }

    /// A record of this run that was due at `intended` arrived at a reader of the tail.
    pub(super) fn arrive(&mut self, now: u64, intended: u64) {
        let took = now.saturating_sub(intended).max(1);
        self.second.arrived.saturating_record(took);
        if self.window.holds(intended) {
            self.arrived.saturating_record(took);
        }
    }

    /// A reader of the tail got so much.
    pub(super) fn read(&mut self, now: u64, flow: Flow) {
        self.arrived_in_all += flow.records;
        self.second.read.add(flow);
        if self.window.holds(now) {
            self.read.add(flow);
        }
    }

    /// A reader of what was there before got so much.
    pub(super) fn catch_up(&mut self, now: u64, flow: Flow) {
        self.arrived_in_all += flow.records;
        self.second.caught_up.add(flow);
        if self.window.holds(now) {
            self.caught_up.add(flow);
        }
    }

    pub(super) fn error(&mut self, what: impl Into<String>) {
        *self.errors.entry(what.into()).or_default() += 1;
    }

    /// Tells the second that is over, if one is.
    pub(super) fn turn(&mut self, now: u64) {
        let index = now.saturating_sub(self.window.began) / 1_000_000_000;
        if index > self.second.index {
            let told = std::mem::replace(&mut self.second, Second::new(index));
            if let Some(seconds) = &self.seconds {
                // Nobody listens any more only when the run was given up.
                let _ = seconds.send(told);
            }
        }
    }

    /// Tells the last second.
    pub(super) fn finish(&mut self) {
        let next = Second::new(self.second.index + 1);
        let told = std::mem::replace(&mut self.second, next);
        if let Some(seconds) = self.seconds.take() {
            let _ = seconds.send(told);
        }
    }

    /// Adds what another thread counted.
    pub(super) fn merge(&mut self, other: &Tally) {
        self.written.add(other.written);
        self.read.add(other.read);
        self.caught_up.add(other.caught_up);
        let bounds = "all have the same bounds";
        self.acknowledged.add(&other.acknowledged).expect(bounds);
        self.arrived.add(&other.arrived).expect(bounds);
        self.acked_in_all += other.acked_in_all;
        self.sent_in_all += other.sent_in_all;
        self.arrived_in_all += other.arrived_in_all;
        self.failed += other.failed;
        self.unsent += other.unsent;
        self.retries += other.retries;
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.damaged += other.damaged;
        for (what, count) in &other.errors {
            *self.errors.entry(what.clone()).or_default() += count;
        }
    }
}
