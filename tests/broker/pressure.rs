//! More than the broker has memory for: it stops reading, and goes on.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelane::protocol::ApiKey;
use corelane::protocol::header::parse_response_header;
use corelane::protocol::produce::ProduceResponse;
use corelane::rt::limits;

use crate::support::client::{Client, PRODUCE, batch, named, produce_request, text};
use crate::support::volume::Volume;
use crate::support::{Broker, directory, setting, until};

/// What a broker may take beside its budget: its program, the stacks of its threads, rings.
const BESIDE_THE_BUDGET_KIB: u64 = 96 << 10;
/// What an open connection may take beside the frames, in KiB.
const CONNECTION_KIB: u64 = 24;

/// One produce on its way, without blocking.
struct Sending {
    socket: TcpStream,
    sent: usize,
    received: Vec<u8>,
}

enum Step {
    Moved,
    Nothing,
    Answered,
}

impl Sending {
    fn connect(address: SocketAddr) -> Sending {
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_nonblocking(true).expect("non-blocking");
        Sending {
            socket,
            sent: 0,
            received: Vec::new(),
        }
    }

    fn step(&mut self, frame: &[u8]) -> Step {
        if self.sent < frame.len() {
            return match self.socket.write(&frame[self.sent..]) {
                Ok(sent) => {
                    self.sent += sent;
                    Step::Moved
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Nothing,
                Err(error) => panic!("after {} bytes: {error}", self.sent),
            };
        }
        let mut bytes = [0; 4096];
        match self.socket.read(&mut bytes) {
            Ok(0) => panic!("closed before the answer"),
            Ok(size) => self.received.extend_from_slice(&bytes[..size]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Nothing,
            Err(error) => panic!("{error}"),
        }
        let size = self
            .received
            .first_chunk::<4>()
            .map(|size| u32::from_be_bytes(*size));
        match size {
            Some(size) if self.received.len() >= 4 + size as usize => Step::Answered,
            _ => Step::Moved,
        }
    }
}

/// The error in a produce's answer, with its size before it.
fn error_of(frame: &[u8]) -> i16 {
    let frame = Bytes::copy_from_slice(&frame[4..]);
    let header = parse_response_header(&frame, ApiKey::Produce, PRODUCE);
    let (_, body) = header.expect("a header");
    let response = ProduceResponse::decode(&body, PRODUCE).expect("a response");
    response.topics[0].partitions[0].error.code()
}

/// Watches the resident memory of a process until told to stop; gives the most.
fn watch(broker: &Broker, stop: &Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    let (pid, stop) = (broker.pid(), stop.clone());
    thread::spawn(move || {
        let mut most = 0;
        while !stop.load(Ordering::Relaxed) {
            let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let words = line.and_then(|line| line.split_whitespace().next());
            most = words
                .and_then(|word| word.parse().ok())
                .unwrap_or(0)
                .max(most);
            thread::park_timeout(Duration::from_millis(20));
        }
        most
    })
}

#[test]
fn producers_of_a_mebibyte_each_all_at_once_are_taken_within_the_budget() {
    let producers = setting("CORELANE_PRODUCERS", 400) as usize;
    let budget_mib = setting("CORELANE_PRODUCERS_MEMORY_MIB", 128);
    limits::raise_descriptors().expect("descriptors for all of them");
    let memory = format!("{budget_mib}MiB");
    let arguments = ["--memory", &memory, "--set", "log.retention.bytes=67108864"];
    let more = [
        "--set",
        "log.segment.bytes=16777216",
        "--set",
        "log.retention.check.interval.ms=200",
    ];
    let more = [&more[..], &["--set", "log.segment.delete.delay.ms=0"]].concat();
    let mut broker = Broker::start_in(None, &[&arguments[..], &more[..]].concat());
    let mut client = broker.client();
    let topics = 4;
    for topic in 0..topics {
        client.create(&format!("t{topic}"), 4, &[]);
    }
    let idle_kib = broker.resident_kib();
    // 1 MiB of records, as large as a batch may be; one frame for each partition.
    let value = vec![b'v'; (1 << 20) - 300];
    let mut frames = Vec::new();
    for topic in 0..topics {
        for partition in 0..4 {
            let topic = named(&format!("t{topic}"));
            let records = Some(batch(&[&value]).into());
            let request = produce_request(topic, partition, records, -1);
            frames.push(request.frame(PRODUCE, 1, &text("one of many")));
        }
    }
    let began = Instant::now();
    let mut sending: Vec<Option<Sending>> = (0..producers)
        .map(|_| Some(Sending::connect(broker.address())))
        .collect();
    let connected = began.elapsed();
    let stop = Arc::new(AtomicBool::new(false));
    let watched = watch(&broker, &stop);
    let (mut left, began) = (producers, Instant::now());
    let mut errors: BTreeMap<i16, usize> = BTreeMap::new();
    let mut moved_at = Instant::now();
    let mut done = Vec::new();
    while left > 0 {
        let mut moved = false;
        for (number, place) in sending.iter_mut().enumerate() {
            let Some(one) = place else { continue };
            match one.step(&frames[number % frames.len()]) {
                Step::Nothing => {}
                Step::Moved => moved = true,
                Step::Answered => {
                    moved = true;
                    left -= 1;
                    *errors.entry(error_of(&one.received)).or_default() += 1;
                    // They stay connected: ten thousand idle ones are part of it.
                    done.extend(place.take());
                }
            }
        }
        if moved {
            moved_at = Instant::now();
        } else {
            assert!(
                moved_at.elapsed() < Duration::from_secs(30),
                "{left} are stuck"
            );
            thread::park_timeout(Duration::from_millis(1));
        }
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let most_kib = watched.join().expect("the watcher");
    let bound_kib = (budget_mib << 10) + BESIDE_THE_BUDGET_KIB + CONNECTION_KIB * producers as u64;
    println!(
        "{producers} producers connected in {connected:?}, 1 MiB each acked in {took:?}: at most \
         {most_kib} KiB resident ({idle_kib} idle), budget {} KiB, bound {bound_kib} KiB; errors {errors:?}",
        budget_mib << 10
    );
    assert_eq!(errors, BTreeMap::from([(0, producers)]));
    assert!(most_kib <= bound_kib, "{most_kib} KiB, at most {bound_kib}");
    let waits: f64 = broker.metric("corelane_frame_memory_waits_total", &[]);
    println!("{waits} frames waited for memory");
    assert!(producers as u64 <= budget_mib || waits > 0.0);
    drop(done);
    drop(client);
    broker.stop();
}

#[test]
fn frames_whose_senders_fall_silent_or_trickle_do_not_keep_the_memory_from_the_others() {
    let broker = Broker::start_in(None, &["--memory", "128MiB", "--cores", "1"]);
    broker.client().create("t", 1, &[]);
    let records = Some(batch(&[&vec![b's'; 1_000_000]]).into());
    let request = produce_request(named("t"), 0, records, -1);
    let frame = request.frame(PRODUCE, 1, &text("silent"));
    // Twice as much as frames of one core may take, begun and not ended.
    let begun: usize = 50_000;
    let budget = broker.metric("corelane_frame_memory_budget_bytes", &[]) as usize;
    let mut silent: Vec<Sending> = (0..2 * budget / frame.len())
        .map(|_| Sending::connect(broker.address()))
        .collect();
    for one in &mut silent {
        while one.sent < begun {
            one.step(&frame[..begun]);
        }
    }
    until("they have taken what there is", || {
        broker.metric("corelane_frame_memory_waits_total", &[]) > 0.0
    });
    let mut client = broker.client();
    // A byte now and then, from each of some of them, buys nothing.
    let trickles = silent.len() / 2;
    let others = thread::spawn(move || {
        let began = Instant::now();
        for _ in 0..3 {
            let answer = client.produce("t", 0, batch(&[&vec![b'o'; 900_000]]));
            assert_eq!(answer.error.code(), 0);
        }
        began.elapsed()
    });
    while !others.is_finished() {
        for one in &mut silent[..trickles] {
            let next = (one.sent + 1).min(frame.len() - 1);
            one.step(&frame[..next]);
        }
        thread::park_timeout(Duration::from_millis(100));
    }
    let took = others.join().expect("the others");
    let resident = broker.resident_kib();
    println!(
        "{} silent or trickling producers: three others took {took:?}, {resident} KiB resident",
        silent.len()
    );
    // The idle time-out, after which they would be gone anyway, is ten minutes.
    assert!(took < Duration::from_secs(60), "{took:?}");
    // And then they speak again, all at once.
    let began = Instant::now();
    let mut left = silent.len();
    while left > 0 {
        silent.retain_mut(|one| match one.step(&frame) {
            Step::Answered => {
                assert_eq!(error_of(&one.received), 0);
                false
            }
            Step::Moved | Step::Nothing => true,
        });
        left = silent.len();
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{left} are stuck"
        );
    }
    let most_kib = broker.resident_kib();
    assert!(
        most_kib <= (128 << 10) + BESIDE_THE_BUDGET_KIB,
        "{most_kib} KiB"
    );
}

/// Produces one small batch again and again; the latencies in microseconds, sorted.
fn latencies(client: &mut Client, topic: &str, partition: i32, count: usize) -> Vec<u128> {
    let mut taken: Vec<u128> = (0..count)
        .map(|_| {
            let began = Instant::now();
            let answer = client.produce(topic, partition, batch(&[b"neighbour"]));
            assert_eq!(answer.error.code(), 0);
            began.elapsed().as_micros()
        })
        .collect();
    taken.sort_unstable();
    taken
}

/// A file system that takes nothing any more, and does not say so, until it is dropped.
struct Frozen(String);

impl Frozen {
    fn freeze(volume: &Volume) -> Option<Frozen> {
        let place = volume.path().display().to_string();
        let frozen = std::process::Command::new("fsfreeze")
            .args(["-f", &place])
            .status();
        match frozen {
            Ok(status) if status.success() => Some(Frozen(place)),
            other => {
                println!("SKIPPED: no file system can be frozen here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let thawed = std::process::Command::new("fsfreeze")
            .args(["-u", &self.0])
            .status();
        assert!(
            thawed.is_ok_and(|status| status.success()),
            "{} stays frozen",
            self.0
        );
    }
}

#[test]
fn a_disk_that_hangs_holds_up_nobody_else_and_takes_no_memory() {
    let seconds = setting("CORELANE_HANG_SECONDS", 4);
    let Some(volume) = Volume::new(256) else {
        return;
    };
    let first = directory();
    let second = volume.path().join("data").display().to_string();
    let broker = Broker::start_in(
        Some(first.path().join("data")),
        &[
            "--data-dir",
            &second,
            "--memory",
            "128MiB",
            "--reserve",
            "0",
        ],
    );
    let mut client = broker.client();
    // The first partition is on the first directory, the second on the one that hangs.
    client.create("t", 2, &[]);
    for partition in 0..2 {
        assert_eq!(
            client
                .produce("t", partition, batch(&[b"first"]))
                .error
                .code(),
            0
        );
    }
    assert!(first.path().join("data/t-0").is_dir());
    let before = latencies(&mut client, "t", 0, 400);
    let idle_kib = broker.resident_kib();
    let frozen = Frozen::freeze(&volume);
    if frozen.is_none() {
        return;
    }
    // As much as clients like goes to the disk that hangs, and nobody is answered.
    let stop = Arc::new(AtomicBool::new(false));
    let acked = Arc::new(Mutex::new(0));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (address, stop, acked) = (broker.address(), stop.clone(), acked.clone());
            thread::spawn(move || {
                let value = vec![b'h'; 512 << 10];
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.produce("t", 1, batch(&[&value]));
                    assert_eq!(answer.error.code(), 0);
                    *acked.lock().expect("unpoisoned") += 1;
                }
            })
        })
        .collect();
    let hung = Instant::now();
    let mut during = Vec::new();
    let mut most_kib = 0;
    let mut names = 0;
    let mut reported = false;
    while hung.elapsed() < Duration::from_secs(seconds) {
        during.extend(latencies(&mut client, "t", 0, 100));
        most_kib = broker.resident_kib().max(most_kib);
        // New files on the other directory are made meanwhile.
        let topic = format!("new-{names}");
        client.create(&topic, 1, &[]);
        names += 1;
        reported |= broker.metric("corelane_disk_oldest_operation_seconds", &[]) >= 1.0;
    }
    during.sort_unstable();
    let p99 = |sorted: &[u128]| sorted[sorted.len() * 99 / 100];
    println!(
        "hung for {:?}: a neighbour's p99 {} us before, {} us meanwhile ({} batches); at most \
         {most_kib} KiB resident ({idle_kib} before); {names} topics made; acked meanwhile {}",
        hung.elapsed(),
        p99(&before),
        p99(&during),
        during.len(),
        acked.lock().expect("unpoisoned"),
    );
    assert_eq!(
        *acked.lock().expect("unpoisoned"),
        0,
        "acked by a disk that hangs"
    );
    assert!(reported, "nothing tells of it");
    assert!(
        most_kib <= (128 << 10) + BESIDE_THE_BUDGET_KIB,
        "{most_kib} KiB"
    );
    // Generous: the machine of a test is shared. What it must not be is the length of the hang.
    assert!(p99(&during) < 1_000_000, "{} us", p99(&during));
    drop(frozen);
    until("what hung is answered", || {
        *acked.lock().expect("unpoisoned") >= 8
    });
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("a writer");
    }
    let acked = *acked.lock().expect("unpoisoned");
    assert_eq!(client.read_all("t", 1).len(), 1 + acked);
}
