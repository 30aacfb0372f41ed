//! What the machine does by itself, for the rows in which ours is held against it: durable writes of the
//! disk, and a bare sendfile loop over the very file that the broker serves.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::super::super::Failed;
use super::super::super::client::{Acks, Client, Producer, ProducerSettings, Settings};
use super::broker::Broker;
use crate::bench::fetches::{Fetches, batch};
use crate::bench::{fio, process};
use crate::protocol::messages::StrBytes;
use crate::record::Codec;
use crate::rt::bare::{Bare, Passed, Ranges, Script, drop_page_cache, read_all};
use crate::rt::limits::pin_to;
use crate::rt::trial::{Way, trial};

/// Size and depth of durable writes: those of the row's own produce requests (8 connections with 5 in
/// flight), and the large writes one after the other that a log makes of them. The better counts.
const WRITES: [(u64, u64); 2] = [(64 << 10, 40), (1 << 20, 1)];

/// The topic of the cold fetches.
const COLD: &str = "cold";
/// How the reader reads: connections, requests in flight on each.
const READERS: (usize, u64) = (4, 2);
/// Batches of about 64 KiB in a reply: what a consumer with Kafka's defaults fetches, 1 MiB.
const BATCHES_A_REPLY: u64 = 16;
/// Batches that each connection reads, a multiple of that: 750 MiB altogether.
const STRETCH: u64 = 3_008;
/// How often everything is read, cold each time. Once more before, which does not count: a virtual
/// machine's host gives memory as it is touched, and who touches it first pays for that (1.8 us a page
/// where this was written: 540 MB/s instead of 2,900).
const PASSES: u32 = 3;

/// Figures by name, and what was done.
pub(super) type Told = (BTreeMap<String, f64>, String);

/// What the disk under `directory` does: by fio where there is one, else by our own trial of a disk.
pub(super) fn durable_writes(directory: &Path, seconds: u32, cpus: &str) -> Result<Told, Failed> {
    let told = |error: io::Error| Failed::operation(format!("{}: {error}", directory.display()));
    let name = if fio::is_there() {
        "fio"
    } else {
        "our own trial"
    };
    let mut figures = BTreeMap::new();
    let mut best: f64 = 0.0;
    for (bytes, depth) in WRITES {
        let speed = match fio::is_there() {
            true => fio::durable_writes(directory, (bytes, depth), u64::from(seconds), cpus),
            false => tried(directory, (bytes, depth), seconds, cpus),
        };
        let speed = speed.map_err(told)?;
        figures.insert(format!("{name} {} KiB x {depth}", bytes >> 10), speed);
        best = best.max(speed);
    }
    figures.insert("MB/s".to_owned(), best);
    let command = match name {
        "fio" => {
            "fio --rw=write --direct=1 --sync=dsync --ioengine=io_uring --size=4g \
                  --fallocate=posix, --bs=64k --iodepth=40 and --bs=1m --iodepth=1: the better"
        }
        _ => {
            "fio is not installed: our own trial of a disk, as in corelane tune --disk, RWF_DSYNC, \
              64 KiB x 40 and 1 MiB x 1: the better"
        }
    };
    Ok((figures, command.to_owned()))
}

/// The same by our own means, MB/s.
fn tried(
    directory: &Path,
    (bytes, depth): (u64, u64),
    seconds: u32,
    cpus: &str,
) -> io::Result<f64> {
    let time = Duration::from_secs(u64::from(seconds));
    let tried = pinned(cpus, || {
        trial(
            directory,
            bytes as usize,
            depth as usize,
            Way::WithTheWrite,
            time,
        )
    })?;
    Ok(tried.writes_a_second * bytes as f64 / 1e6)
}

/// Writes what is to be read, and lets the broker forget it: it is started anew.
pub(super) fn fill(broker: &mut Broker) -> Result<(), Failed> {
    let mut client = Client::new(Settings {
        bootstrap: vec![broker.address.clone()],
        client_id: StrBytes::from_static_str("corelane-bench"),
        timeout: Duration::from_secs(20),
    });
    // Not durably, for the sake of time; it is on the disk before it is read.
    let configs = [format!("flush.messages={}", i64::MAX)];
    super::super::target::create(&mut client, COLD, 1, &configs)?;
    let settings = ProducerSettings {
        acks: Acks::All,
        codec: Codec::None,
        level: None,
        batch_bytes: usize::MAX,
        idempotent: false,
    };
    let mut producer = Producer::new(client, COLD, settings, 0)?;
    let value = [b'x'; 1024];
    for _ in 0..STRETCH * READERS.0 as u64 {
        for _ in 0..crate::bench::fetches::RECORDS_PER_BATCH {
            producer.append(None, 1_700_000_000_000, (None, Some(&value)), &[])?;
        }
        producer.flush()?;
    }
    Ok(())
}

/// Fetches by the broker out of what is on the disk only.
pub(super) fn cold_fetches(broker: &Broker, cpus: &str) -> Result<Told, Failed> {
    let address: SocketAddr = broker.address.parse().map_err(Failed::operation)?;
    let fetches = Fetches {
        topic: COLD.to_owned(),
        batch_bytes: batch().len() as u64,
        batches: BATCHES_A_REPLY,
        stretch: STRETCH,
        passes: 1,
    };
    let counts = || broker.pid().and_then(process::read).unwrap_or_default();
    let mut sum = Sum::default();
    read_cold(address, &fetches, cpus).map_err(of_fetches)?;
    let before = counts();
    for _ in 0..PASSES {
        sum.add(&read_cold(address, &fetches, cpus).map_err(of_fetches)?);
    }
    let after = counts();
    let read = after.read - before.read;
    if read < sum.bytes / 10 * 9 {
        let (read, bytes) = (read >> 20, sum.bytes >> 20);
        return Err(Failed::operation(format!(
            "only {read} of {bytes} MiB came from the disk: it was not cold"
        )));
    }
    let figures = sum.figures(after.cpu_seconds - before.cpu_seconds);
    let command =
        "63 KiB batches in fetches of 1 MiB, 4 connections x 2 in flight, page cache dropped";
    Ok((figures, command.to_owned()))
}

/// The bare loop, on the broker's CPUs, over the same file, read by the same reader.
pub(super) fn bare_loop(broker: &Broker, broker_cpus: &str, cpus: &str) -> Result<Told, Failed> {
    let file = broker.log_file(COLD);
    let batch_bytes = batch().len() as u64;
    let ranges = Ranges {
        stretch: STRETCH * batch_bytes,
        chunk: BATCHES_A_REPLY * batch_bytes,
        passes: 1,
    };
    let (mut sum, mut cpu_seconds) = (Sum::default(), 0.0);
    let read = || {
        let bare = Bare::start(&file, READERS.0, &listed(broker_cpus));
        let bare =
            bare.map_err(|error| Failed::operation(format!("{}: {error}", file.display())))?;
        let passed = read_cold(bare.address, &ranges, cpus).map_err(of_fetches)?;
        let seconds = bare.end().map_err(of_fetches)?;
        Ok::<_, Failed>((passed, seconds))
    };
    read()?;
    for _ in 0..PASSES {
        let (passed, seconds) = read()?;
        sum.add(&passed);
        cpu_seconds += seconds;
    }
    let command = "poll and sendfile in a loop over the same file, with the same reader";
    Ok((sum.figures(cpu_seconds), command.to_owned()))
}

fn of_fetches(error: io::Error) -> Failed {
    Failed::operation(format!("cold fetches (they need root): {error}"))
}

/// Reads everything once, on `cpus`, out of a page cache that was just emptied.
fn read_cold(address: SocketAddr, script: &(dyn Script + Sync), cpus: &str) -> io::Result<Passed> {
    drop_page_cache()?;
    let (connections, in_flight) = READERS;
    pinned(cpus, || read_all(address, connections, in_flight, script))
}

/// Does it on a thread that runs on `cpus`, and leaves this one where it is.
fn pinned<T: Send>(cpus: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let cpus = listed(cpus);
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            pin_to(&cpus)?;
            work()
        });
        let done = worker.join();
        done.map_err(|_| io::Error::other("the thread that measures failed"))?
    })
}

/// The CPUs that taskset understands by `0,2-3`; what it would not understand is left out.
fn listed(cpus: &str) -> Vec<usize> {
    let mut all = Vec::new();
    for item in cpus.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            all.extend((first..=last).map(usize::from));
        }
    }
    all
}

/// What all passes read.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: u64,
    took: Duration,
}

impl Sum {
    fn add(&mut self, passed: &Passed) {
        self.bytes += passed.bytes;
        self.took += passed.took;
    }

    fn figures(&self, cpu_seconds: f64) -> BTreeMap<String, f64> {
        let speed = self.bytes as f64 / self.took.as_secs_f64() / 1e6;
        let cost = cpu_seconds / (self.bytes as f64 / 1e9);
        let figures = [("read MB/s", speed), ("CPU s/GB", cost)];
        let figures = figures.map(|(name, value)| (name.to_owned(), value));
        figures
            .into_iter()
            .filter(|(_, value)| value.is_finite())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_listed_as_taskset_does() {
        assert_eq!(listed("0"), [0]);
        assert_eq!(listed("0,2-4"), [0, 2, 3, 4]);
        assert!(listed("all").is_empty());
    }

    #[test]
    fn passes_add_up() {
        let mut sum = Sum::default();
        for millis in [500, 1500] {
            sum.add(&Passed {
                bytes: 1_000_000_000,
                took: Duration::from_millis(millis),
            });
        }
        let figures = sum.figures(0.5);
        assert_eq!(figures["read MB/s"], 1000.0);
        assert_eq!(figures["CPU s/GB"], 0.25);
    }
}
