//! How long a produce takes while something else goes on: one small batch after the other at a
//! steady rate, from a thread and a connection of its own. A batch that has to wait for the one
//! before it began when it was due, not when it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use corelane::protocol::ErrorCode;

use crate::support::client::{Client, batch};

/// Between two batches.
const INTERVAL: Duration = Duration::from_millis(5);
/// Bytes of each value.
const VALUE: [u8; 100] = [7; 100];

/// What a probe has measured since it was last asked, in microseconds, ascending.
#[derive(Debug)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// The value below which this share of all lies.
    pub fn quantile(&self, share: f64) -> u64 {
        let last = self.0.len().saturating_sub(1);
        self.0
            .get((share * last as f64).round() as usize)
            .copied()
            .unwrap_or(0)
    }
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} produced; p50 {} p99 {} p99.9 {} max {} microseconds",
            self.0.len(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.999),
            self.quantile(1.0)
        )
    }
}

/// What a probe and its owner share.
#[derive(Default)]
struct Measured {
    microseconds: Vec<u64>,
    /// A new stretch has begun: what is late already is not its fault.
    afresh: bool,
}

/// A running probe.
pub struct Probe {
    measured: Arc<Mutex<Measured>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Produces to this partition until it is dropped.
    pub fn start(address: SocketAddr, topic: &str, partition: i32) -> Probe {
        let measured = Arc::<Mutex<Measured>>::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (into, until, topic) = (measured.clone(), stop.clone(), topic.to_owned());
        let thread = std::thread::spawn(move || {
            let mut client = Client::connect(address);
            let mut due = Instant::now();
            while !until.load(Ordering::Relaxed) {
                due += INTERVAL;
                if let Some(wait) = due.checked_duration_since(Instant::now()) {
                    std::thread::sleep(wait);
                }
                let answer = client.produce(&topic, partition, batch(&[&VALUE]));
                assert_eq!(answer.error, ErrorCode::None);
                let took = due.elapsed().as_micros() as u64;
                let mut measured = into.lock().expect("unpoisoned");
                if std::mem::take(&mut measured.afresh) {
                    due = Instant::now();
                } else {
                    measured.microseconds.push(took);
                }
            }
        });
        Probe {
            measured,
            stop,
            thread: Some(thread),
        }
    }

    /// What was measured since the last time.
    pub fn take(&self) -> Latencies {
        let mut measured = self.measured.lock().expect("unpoisoned");
        measured.afresh = true;
        let mut microseconds = std::mem::take(&mut measured.microseconds);
        drop(measured);
        microseconds.sort_unstable();
        Latencies(microseconds)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("one thread").join();
        assert!(
            ended.is_ok() || std::thread::panicking(),
            "the probe failed"
        );
    }
}
