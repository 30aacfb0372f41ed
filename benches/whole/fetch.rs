//! Fetches from memory, from the page cache and from the disk, against the bare loop over the same
//! bytes: the same reader, the same sizes, 4 connections with 2 requests in flight on each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use corelane::bench::fetches::Fetches;
use corelane::protocol::ApiKey;
use corelane::protocol::fetch::FetchResponse;
use corelane::protocol::header::parse_response_header;
use corelane::rt::bare::{self, Bare, Passed, Ranges, read_all};

use super::{Broker, Client, FETCH, batch, fetch_frame, median, pin};
use super::{produce_frame, setting, spread};

const CONNECTIONS: usize = 4;
const IN_FLIGHT: u64 = 2;
/// Batches of about 64 KiB in a reply.
const BATCHES_A_REPLY: [u64; 3] = [1, 4, 16];
/// Batches that each connection reads, a multiple of all replies' sizes: 750 MiB altogether.
pub const STRETCH: u64 = 3_008;

/// `perf record` on a process while it lives, if `CORELANE_BENCH_PERF` names a directory for it.
pub struct Perf(Option<Child>);

impl Perf {
    pub fn on(pid: u32, name: &str) -> Perf {
        let directory = std::env::var("CORELANE_BENCH_PERF").ok();
        let child = directory.and_then(|directory| {
            let file = Path::new(&directory).join(format!("{name}.data"));
            Command::new("perf")
                .args([
                    "record",
                    "-q",
                    "-F",
                    "2999",
                    "-g",
                    "--call-graph",
                    "dwarf,16384",
                    "-o",
                ])
                .arg(file)
                .args(["-p", &pid.to_string()])
                .stderr(Stdio::null())
                .spawn()
                .ok()
        });
        if child.is_some() {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        Perf(child)
    }
}

impl Drop for Perf {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // SAFETY: a signal to a child of ours.
            unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
            let _ = child.wait();
        }
    }
}

/// Results of one way to serve, over the rounds.
#[derive(Default)]
struct Column {
    speed: Vec<f64>,
    cpu: Vec<f64>,
}

impl Column {
    fn note(&mut self, passed: &Passed, cpu_seconds: f64) {
        self.speed.push(passed.megabytes_a_second());
        self.cpu.push(cpu_seconds / (passed.bytes as f64 / 1e9));
    }
}

pub fn drop_page_cache() {
    if bare::drop_page_cache().is_err() {
        println!("  (not root: the page cache was not dropped)");
    }
}

/// Reads a file from its beginning to its end, so that the kernel gathers its pages as well as it can,
/// whoever read it before.
fn bring_in(file: &Path) {
    drop_page_cache();
    let mut file = File::open(file).expect("a segment");
    std::io::copy(&mut file, &mut std::io::sink()).expect("a readable segment");
}

pub fn fill(broker: &Broker, records: &Bytes, batches: u64) {
    broker.create("f", 1);
    let mut client = Client::connect(broker.address);
    let frame = produce_frame("f", 0, records);
    for sent in 0..batches {
        client.send(&frame);
        if sent >= 8 {
            client.receive();
        }
    }
    for _ in 0..8.min(batches) {
        client.receive();
    }
    // What the reader takes for granted about a reply is checked once by the codec.
    client.send(&fetch_frame("f", 0, records.len() as i32));
    let reply = Bytes::copy_from_slice(client.receive());
    let (_, body) = parse_response_header(&reply, ApiKey::Fetch, FETCH).expect("a header");
    let reply = FetchResponse::decode(&body, FETCH).expect("a reply");
    let partition = &reply.topics[0].partitions[0];
    assert!(partition.error.is_none() && partition.records_length == records.len());
}

/// All sources and sizes; `only` names one source (`memory`, `cached`, `disk`).
pub fn fetch_against_sendfile(only: Option<&str>) {
    pin(&[1]);
    let rounds = setting("CORELANE_BENCH_ROUNDS", 3);
    let passes = setting("CORELANE_BENCH_PASSES", 4);
    let records = batch();
    let batch_bytes = records.len() as u64;
    let wants = |name: &str| only.is_none_or(|only| only == name);
    let sizes = match std::env::var("CORELANE_BENCH_BATCHES")
        .ok()
        .and_then(|n| n.parse().ok())
    {
        Some(one) => vec![one],
        None => BATCHES_A_REPLY.to_vec(),
    };
    let hot = Broker::start("fetch", "0-0", &["--memory", "4GiB"]);
    let all = STRETCH * CONNECTIONS as u64;
    fill(&hot, &records, all);
    // The same bytes for a broker that has them on the disk only.
    let cold = {
        let broker = Broker::start("fetch-cold", "0-0", &["--memory", "64MiB"]);
        fill(&broker, &records, all);
        let directory = broker.directory.clone();
        drop(broker);
        Broker::start_in(directory, "0-0", &["--memory", "64MiB"])
    };
    // The bare loop serves the very file that this broker does: what its pages cost to send depends on
    // how they were gathered when they were read.
    let stored: PathBuf = cold.directory.join("f-0/00000000000000000000.log");
    let from = |broker: &Broker, batches: u64, passes: u64, name: &str| {
        let _perf = Perf::on(broker.child.id(), name);
        let script = Fetches {
            topic: "f".to_owned(),
            batch_bytes,
            batches,
            stretch: STRETCH,
            passes,
        };
        let cpu = broker.cpu_seconds();
        let passed = read_all(broker.address, CONNECTIONS, IN_FLIGHT, &script).expect("replies");
        (passed, broker.cpu_seconds() - cpu)
    };
    let bare = |batches: u64, passes: u64| {
        let script = Ranges {
            stretch: STRETCH * batch_bytes,
            chunk: batches * batch_bytes,
            passes,
        };
        let bare = Bare::start(&stored, CONNECTIONS, &[0]).expect("a loop");
        let passed = read_all(bare.address, CONNECTIONS, IN_FLIGHT, &script).expect("replies");
        (passed, bare.end().expect("its end"))
    };
    println!(
        "fetch, {CONNECTIONS} connections x {IN_FLIGHT} in flight, {} MiB, one core; CPU in seconds a GB",
        (all * batch_bytes) >> 20
    );
    for batches in sizes {
        let mut columns: [Column; 5] = Default::default();
        for _ in 0..rounds {
            let mut note = |column: usize, (passed, cpu): (Passed, f64)| {
                columns[column].note(&passed, cpu);
            };
            if wants("disk") {
                drop_page_cache();
                note(3, from(&cold, batches, 1, "fetch-disk"));
                drop_page_cache();
                note(4, bare(batches, 1));
            }
            if wants("cached") {
                bring_in(&stored);
                note(1, from(&cold, batches, passes, "fetch-cached"));
            }
            if wants("memory") {
                note(0, from(&hot, batches, passes, "fetch-memory"));
            }
            note(2, bare(batches, passes));
        }
        println!(" replies of {} KiB", (batches * batch_bytes) >> 10);
        let line = |name: &str, of: usize, against: usize| {
            if columns[of].speed.is_empty() {
                return;
            }
            let ratio = median(columns[of].speed.clone()) / median(columns[against].speed.clone());
            println!(
                "  {name:<24} {:>20} MB/s, CPU {:.2}, {ratio:.2} of the bare loop's {} CPU {:.2}",
                spread(&columns[of].speed),
                median(columns[of].cpu.clone()),
                spread(&columns[against].speed),
                median(columns[against].cpu.clone()),
            );
        };
        line("from memory", 0, 2);
        line("from the page cache", 1, 2);
        line("from the disk", 3, 4);
    }
}
