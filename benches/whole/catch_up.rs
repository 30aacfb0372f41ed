//! A tail writer, alone and beside three readers that catch up over a log larger than the cache: its
//! p99 with and without them. The readers go as fast as they are let, each over its own stretch again
//! and again; what one of them has read is put out of the page cache behind it, so that it stays cold.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corelane::rt::bare::{Script, read_all};
use hdrhistogram::Histogram;

use super::fetch::{STRETCH, drop_page_cache, fill};
use super::routing::show;
use super::{Broker, RECORDS_PER_BATCH, batch, fetch_frame, median, pin, print_latency, produce};
use super::{setting, small_batch};

const READERS: usize = 3;
/// Batches of about 64 KiB in a reply: what a consumer with Kafka's defaults fetches, 1 MiB.
const BATCHES: u64 = 16;
/// So many requests later a range is put out of the page cache.
const BEHIND: u64 = 8;

/// Goes over and over its stretch until it is told to stop.
struct CatchUp {
    batch_bytes: u64,
    segment: File,
    stop: Arc<AtomicBool>,
}

impl CatchUp {
    fn batch(connection: usize, n: u64) -> u64 {
        connection as u64 * STRETCH + n % (STRETCH / BATCHES) * BATCHES
    }

    /// Puts what request `n` read out of the page cache.
    fn forget(&self, connection: usize, n: u64) {
        // More than that one range: a page that lies across its ends goes with the next one.
        let end = (CatchUp::batch(connection, n) + BATCHES) * self.batch_bytes;
        let start =
            (connection as u64 * STRETCH * self.batch_bytes).max(end.saturating_sub(64 << 20));
        let (at, bytes) = (start as libc::off_t, (end - start) as libc::off_t);
        // SAFETY: no pointers; the descriptor is open.
        unsafe {
            libc::posix_fadvise(
                self.segment.as_raw_fd(),
                at,
                bytes,
                libc::POSIX_FADV_DONTNEED,
            );
        }
    }
}

impl Script for CatchUp {
    fn request(&self, connection: usize, n: u64) -> Option<Vec<u8>> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        if n >= BEHIND {
            self.forget(connection, n - BEHIND);
        }
        let offset = (CatchUp::batch(connection, n) * RECORDS_PER_BATCH as u64) as i64;
        let bytes = (BATCHES * self.batch_bytes) as i32;
        Some(fetch_frame("f", offset, bytes).to_vec())
    }

    fn records(&self, head: &[u8], size: usize) -> std::io::Result<u64> {
        assert_eq!(&head[27..29], [0, 0], "an error in the reply");
        Ok(size as u64)
    }
}

/// Lets this thread go before others on its CPU: what the readers' side of this process takes is
/// not the broker's doing.
fn go_first(first: bool) {
    let policy = if first {
        libc::SCHED_FIFO
    } else {
        libc::SCHED_OTHER
    };
    let parameters = libc::sched_param {
        sched_priority: libc::c_int::from(first),
    };
    // SAFETY: the structure lives through the call; a refusal changes nothing.
    if unsafe { libc::sched_setscheduler(0, policy, &parameters) } != 0 && first {
        println!("  (not root: the writer's thread waits for the readers' on its CPU)");
    }
}

pub fn catch_up() {
    pin(&[1]);
    let rounds = setting("CORELANE_BENCH_ROUNDS", 3);
    let records = batch();
    let directory = {
        let broker = Broker::start("catch-up", "0-0", &["--memory", "64MiB"]);
        fill(&broker, &records, STRETCH * READERS as u64);
        broker.create("w", 1);
        broker.directory.clone()
    };
    // A fresh one for each measurement, so that its histograms tell of nothing else.
    let start = || Broker::start_in(directory.clone(), "0-0", &["--memory", "64MiB"]);
    println!(
        "a writer of one 1 KiB record a request, durable, 1 in flight; {READERS} readers of 1 MiB a \
         request over {} MiB, the cache is 32 MiB",
        (STRETCH * READERS as u64 * records.len() as u64) >> 20
    );
    let segment = directory.join("f-0/00000000000000000000.log");
    let measure = |broker: &Broker| {
        go_first(true);
        let produced = produce(broker, "w", 1, &small_batch(), 1, 1);
        go_first(false);
        produced.latency
    };
    let mut alone = Histogram::new(3).expect("a histogram");
    let mut beside = Histogram::new(3).expect("a histogram");
    let (mut own_alone, mut own_beside) = (Vec::new(), Vec::new());
    let (mut ratios, mut own_ratios, mut speeds) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let broker = start();
        let without = measure(&broker);
        own_alone = broker.latencies();
        drop(broker);
        let broker = start();
        drop_page_cache();
        let stop = Arc::new(AtomicBool::new(false));
        let (script, address) = (
            CatchUp {
                batch_bytes: records.len() as u64,
                segment: File::open(&segment).expect("a segment"),
                stop: stop.clone(),
            },
            broker.address,
        );
        let readers =
            std::thread::spawn(move || read_all(address, READERS, 1, &script).expect("replies"));
        let with = measure(&broker);
        stop.store(true, Ordering::Relaxed);
        speeds.push(readers.join().expect("the readers").megabytes_a_second());
        own_beside = broker.latencies();
        let total = |rows: &[serde_json::Value]| {
            let mut rows = rows.iter();
            let row =
                rows.find(|row| row["name"] == "corelane_produce_seconds" && row["of"] == "total");
            row.expect("the total")["p99"].as_f64().expect("a number")
        };
        own_ratios.push(total(&own_beside) / total(&own_alone));
        let p99 = |latency: &Histogram<u64>| latency.value_at_quantile(0.99) as f64;
        ratios.push(p99(&with) / p99(&without));
        alone.add(without).expect("the same bounds");
        beside.add(with).expect("the same bounds");
    }
    for (name, rows) in [("alone", &own_alone), ("beside readers", &own_beside)] {
        println!("  the broker's own histograms, {name}:");
        show(
            rows,
            &[
                "corelane_produce_seconds",
                "corelane_disk_seconds",
                "corelane_turn_seconds",
            ],
        );
    }
    print_latency("  alone            ", &alone);
    print_latency("  beside readers   ", &beside);
    println!(
        "  p99 beside against alone: {:.2} (by round {ratios:.2?}); readers {:.0} MB/s",
        median(ratios.clone()),
        median(speeds)
    );
    println!(
        "  the same by the broker's own histogram, from the request read to the reply sent: {:.2} \
         (by round {own_ratios:.2?})",
        median(own_ratios.clone()),
    );
}
