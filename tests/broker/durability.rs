//! `kill -9` under load: nothing acked is lost, doubled or out of order, and no offset is reused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane::base::{Prng, ProducerEpoch, ProducerId, Sequence};
use corelane::protocol::ErrorCode;
use corelane::record::{BatchBuilder, Batches, Codec};

use crate::support::client::{Client, PRODUCE, batch, named, produce_request, records};
use crate::support::{Broker, setting, spread, until};

/// Batches in flight of one producer, as Kafka's own producers have.
const IN_FLIGHT: usize = 5;
const PRODUCERS: usize = 4;
const PARTITIONS: i32 = 3;
/// ListOffsets' times for the first and the next offset.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// A batch that is not acked yet.
struct Pending {
    sequence: i32,
    count: i32,
    bytes: Vec<u8>,
}

/// One idempotent producer of one partition, with what it must find again.
struct Producer {
    name: u64,
    partition: i32,
    id: i64,
    epoch: i16,
    next: i32,
    unacked: VecDeque<Pending>,
    /// First sequence and record count of what was acked, by base offset.
    acked: BTreeMap<i64, (i32, i32)>,
    random: Prng,
}

impl Producer {
    fn new(client: &mut Client, name: u64, partition: i32) -> Producer {
        let (id, epoch) = client.producer_id();
        Producer {
            name,
            partition,
            id,
            epoch,
            next: 0,
            unacked: VecDeque::new(),
            acked: BTreeMap::new(),
            random: Prng::new(name),
        }
    }

    fn make(&mut self) {
        let (sequence, count) = (self.next, 1 + self.random.below(5) as i32);
        let mut builder = BatchBuilder::new(Codec::None).producer(
            ProducerId(self.id),
            ProducerEpoch(self.epoch),
            Sequence(sequence),
        );
        for index in 0..count {
            let mut value = format!("{}:{}", self.name, sequence + index).into_bytes();
            value.resize(value.len() + self.random.below(3000) as usize, b'.');
            builder.append(1, None, Some(&value), &[]);
        }
        self.next += count;
        self.unacked.push_back(Pending {
            sequence,
            count,
            bytes: builder.finish(),
        });
    }

    fn send(&self, client: &mut Client, pending: &Pending) -> bool {
        let bytes = pending.bytes.clone().into();
        let request = produce_request(named("t"), self.partition, Some(bytes), -1);
        client.send_produce(PRODUCE, &request).is_ok()
    }

    /// Produces until the broker is gone; first again what was not acked. Tells `acked` of the
    /// first ack.
    fn run(&mut self, mut client: Client, stop: &AtomicBool, acked: impl Fn()) {
        let again = self
            .unacked
            .iter()
            .all(|pending| self.send(&mut client, pending));
        if !again {
            return;
        }
        loop {
            while self.unacked.len() < IN_FLIGHT && !stop.load(Ordering::Relaxed) {
                self.make();
                let latest = self.unacked.back().expect("just made");
                if !self.send(&mut client, latest) {
                    return;
                }
            }
            if self.unacked.is_empty() {
                return;
            }
            let Some((_, response)) = client.receive_produce(PRODUCE) else {
                return;
            };
            let answer = &response.topics[0].partitions[0];
            assert_eq!(answer.error, ErrorCode::None, "producer {}", self.name);
            let done = self.unacked.pop_front().expect("in flight");
            let before = self
                .acked
                .insert(answer.base_offset.0, (done.sequence, done.count));
            assert_eq!(
                before, None,
                "offset {} was given out twice",
                answer.base_offset
            );
            acked();
        }
    }
}

/// One round: load on all producers, then the end that `end` brings about once `wanted` batches
/// were acked. Gives the time from `started` to the first ack.
fn round(
    broker: &mut Broker,
    producers: &mut [Producer],
    started: Instant,
    wanted: u64,
) -> Duration {
    let (acks, first_us) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let acked = || {
        first_us.fetch_min(started.elapsed().as_micros() as u64, Ordering::Relaxed);
        acks.fetch_add(1, Ordering::Relaxed);
    };
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let running: Vec<_> = producers
            .iter_mut()
            .map(|producer| {
                let client = broker.client();
                scope.spawn(|| producer.run(client, &stop, acked))
            })
            .collect();
        until("acks", || {
            let enough = acks.load(Ordering::Relaxed) >= wanted;
            enough || running.iter().any(|running| running.is_finished())
        });
        broker.kill();
    });
    Duration::from_micros(first_us.load(Ordering::Relaxed))
}

/// A partition from its first offset on. Retention may go on meanwhile: then again.
fn whole(client: &mut Client, partition: i32) -> (i64, Vec<u8>) {
    loop {
        let start = client.list_offset("t", partition, EARLIEST).offset;
        match client.try_read_bytes("t", partition, start) {
            Ok(bytes) => return (start, bytes),
            Err((at, error)) => assert_eq!(error, ErrorCode::OffsetOutOfRange, "at {at}"),
        }
    }
}

/// Everything is read back and held against what each producer knows; what lies below the start
/// of a log is not served. Gives the starts.
fn check(broker: &Broker, producers: &[Producer]) -> Vec<i64> {
    let mut client = broker.client();
    let partitions = producers.iter().map(|producer| producer.partition).max();
    let mut starts = Vec::new();
    for partition in 0..=partitions.unwrap_or(0) {
        let (start, bytes) = whole(&mut client, partition);
        let mut found: BTreeMap<i64, BTreeMap<i64, (i32, i32)>> = BTreeMap::new();
        let mut end = None;
        for batch in Batches::new(&bytes) {
            let header = batch.expect("whole batches").header;
            let base = header.base_offset.0;
            match end {
                Some(end) => assert_eq!(base, end, "offsets without gap or repetition"),
                // A batch is whole, though DeleteRecords may have asked for a part of it.
                None => assert!(base <= start && header.last_offset().0 >= start),
            }
            end = Some(header.last_offset().0 + 1);
            found.entry(header.producer_id.0).or_default().insert(
                header.base_offset.0,
                (header.base_sequence.0, header.record_count),
            );
        }
        for producer in producers
            .iter()
            .filter(|producer| producer.partition == partition)
        {
            let found = found.remove(&producer.id).unwrap_or_default();
            let mut next = match found.first_key_value() {
                Some((_, (sequence, _))) if start > 0 => *sequence,
                _ => 0,
            };
            for (offset, (sequence, count)) in &found {
                assert_eq!(
                    *sequence, next,
                    "producer {} at {offset}: lost, twice or out of order",
                    producer.name
                );
                next += count;
            }
            for (offset, acked) in &producer.acked {
                if offset + i64::from(acked.1) > start {
                    assert_eq!(
                        found.get(offset),
                        Some(acked),
                        "producer {} at {offset}, start {start}",
                        producer.name
                    );
                }
            }
        }
        assert!(found.is_empty(), "producers that nobody started: {found:?}");
        let read = records(&bytes);
        let first = read.first().map_or(0, |record| record.offset);
        for (record, offset) in read.iter().zip(first..) {
            assert_eq!(record.offset, offset);
        }
        if start > 0 {
            let below = client.fetch("t", partition, start - 1);
            assert_eq!(below.error, ErrorCode::OffsetOutOfRange, "{}", start - 1);
        }
        starts.push(start);
    }
    starts
}

/// What is known of the starts of the logs.
#[derive(Default)]
struct Starts {
    /// The largest that a DeleteRecords was answered with.
    promised: [i64; PARTITIONS as usize],
    /// The largest that anybody was told.
    seen: [i64; PARTITIONS as usize],
}

/// Shortens the logs beside retention until the broker is gone.
fn shorten(mut client: Client, starts: &mut Starts, seed: u64) {
    let mut random = Prng::new(seed);
    loop {
        let partition = random.below(PARTITIONS as u64) as usize;
        let index = partition as i32;
        let Some(start) = client.try_list_offset("t", index, EARLIEST) else {
            return;
        };
        starts.seen[partition] = starts.seen[partition].max(start.offset);
        if !random.one_in(8) {
            continue;
        }
        let Some(end) = client.try_list_offset("t", index, LATEST) else {
            return;
        };
        let to = (start.offset + random.below(5) as i64).min(end.offset);
        let Some((error, low)) = client.try_delete_records("t", index, to) else {
            return;
        };
        // Retention was faster.
        if error == ErrorCode::OffsetOutOfRange.code() {
            continue;
        }
        assert_eq!(error, 0);
        assert!(low >= to, "{low} after a deletion up to {to}");
        starts.promised[partition] = starts.promised[partition].max(low);
        starts.seen[partition] = starts.seen[partition].max(low);
    }
}

fn kill_under_load(configs: &[(&str, &str)], rounds: u64) {
    let size = (PRODUCERS, PARTITIONS);
    kill_under_load_and(&mut Broker::start(), configs, size, rounds, false);
}

/// Kills the broker again and again, while its logs are written to and, if wished, shortened. Gives
/// how many images of journals the starts brought home.
fn kill_under_load_and(
    broker: &mut Broker,
    configs: &[(&str, &str)],
    (producers, partitions): (usize, i32),
    rounds: u64,
    shortened: bool,
) -> f64 {
    let mut client = broker.client();
    client.create("t", partitions, configs);
    let mut producers: Vec<Producer> = (0..producers)
        .map(|name| Producer::new(&mut client, name as u64, name as i32 % partitions))
        .collect();
    drop(client);
    let mut random = Prng::new(rounds);
    let (mut started, mut first_acks, mut ready) = (Instant::now(), Vec::new(), Vec::new());
    let (mut starts, mut back) = (Starts::default(), 0);
    // Hundreds of producers are amid their load after more acks than a few.
    let acks_max = 400.max(10 * producers.len() as u64);
    let mut replayed = 0.0;
    for number in 0..rounds {
        let wanted = 20 + random.below(acks_max);
        let first = thread::scope(|scope| {
            if shortened {
                let (client, starts) = (broker.client(), &mut starts);
                scope.spawn(move || shorten(client, starts, number));
            }
            round(broker, &mut producers, started, wanted)
        });
        started = Instant::now();
        broker.run();
        replayed += broker.metric("corelane_journal_replayed_total", &[]);
        if number > 0 {
            first_acks.push(first);
        }
        ready.push(broker.ready_after());
        println!(
            "round {number}: first ack {first:?} after the start, ready again in {:?}",
            broker.ready_after()
        );
        if shortened {
            for (partition, start) in check(broker, &producers).into_iter().enumerate() {
                let promised = starts.promised[partition];
                assert!(start >= promised, "{start}, but {promised} was promised");
                back += u64::from(start < starts.seen[partition]);
                starts.seen[partition] = start.max(starts.seen[partition]);
            }
        } else if number % 10 == 9 {
            check(broker, &producers);
        }
    }
    let stop = AtomicBool::new(true);
    let (mut batches, mut unacked) = (0, 0);
    for producer in &mut producers {
        unacked += producer.unacked.len();
        producer.run(broker.client(), &stop, || {});
        assert!(producer.unacked.is_empty());
        batches += producer.acked.len();
    }
    let ends = check(broker, &producers);
    println!("{rounds} kills, {batches} batches acked, {unacked} in flight at the last kill");
    if !shortened {
        // Otherwise all was read before.
        println!("start to first ack: {}", spread(&first_acks));
    }
    println!("start to ready: {}", spread(&ready));
    if shortened {
        println!("logs start at {ends:?}; {back} times below what was seen, never below a promise");
        assert!(ends.iter().all(|start| *start > 0));
    }
    println!("brought home by starts: {replayed} images of journals");
    replayed
}

#[test]
fn no_kill_loses_doubles_or_reorders_what_was_acked() {
    kill_under_load(&[], setting("CORELANE_KILLS", 5));
}

#[test]
fn kills_amid_hundreds_of_partitions_lose_nothing_that_only_the_journal_has() {
    let journal = [
        ("corelane.journal.bytes", "2000000"),
        ("corelane.journal.writes.min", "1"),
    ];
    let mut broker = Broker::start_with(&journal);
    let rounds = setting("CORELANE_KILLS", 3).min(30);
    let replayed = kill_under_load_and(&mut broker, &[], (220, 220), rounds, false);
    assert!(replayed > 0.0, "no start found anything in a journal");
    broker.restart();
    let left = std::fs::read_dir(broker.data()).expect("it is there");
    let left = left.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let left: Vec<String> = left.filter(|name| name.starts_with(".journal")).collect();
    assert_eq!(left, Vec::<String>::new(), "a clean stop leaves no journal");
}

#[test]
fn a_journal_that_was_left_is_brought_home_by_a_start_that_keeps_none() {
    let directory = crate::support::directory();
    let data = directory.path().join("data");
    let journal = [
        "corelane.journal.bytes=2000000",
        "corelane.journal.writes.min=0",
    ];
    let [bytes, writes] = journal;
    let mut broker = Broker::start_in(Some(data.clone()), &["--set", bytes, "--set", writes]);
    let mut client = broker.client();
    client.create("t", 8, &[]);
    let mut produced = 0;
    crate::support::until("the journals are in use", || {
        for partition in 0..8 {
            let answer = client.produce("t", partition, batch(&[b"acked"]));
            assert_eq!(answer.error.code(), 0);
        }
        produced += 1;
        broker.metric("corelane_journal_writes_total", &[]) > 40.0
    });
    broker.kill();
    let left = || {
        let entries = std::fs::read_dir(&data).expect("it is there");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let journals = names.filter(|name| name.to_string_lossy().starts_with(".journal-"));
        journals.count()
    };
    assert!(left() > 0, "there is no journal");
    // Its segments do not have all: who reads them is told.
    let inspected = std::process::Command::new(crate::support::program())
        .arg("inspect")
        .arg(data.join("t-0"))
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&inspected.stderr).into_owned();
    assert!(told.contains("start and stop the broker first"), "{told}");
    let shown = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(shown.contains("t-0/00000000000000000000.log: "), "{shown}");

    let mut broker = Broker::start_in(Some(data.clone()), &[]);
    assert_eq!(left(), 0, "the journal is gone");
    assert!(broker.metric("corelane_journal_replayed_total", &[]) > 0.0);
    for round in 0..2 {
        let mut client = broker.client();
        for partition in 0..8 {
            assert_eq!(
                client.read_all("t", partition).len(),
                produced,
                "{partition}"
            );
        }
        if round == 0 {
            broker.crash();
        }
    }
    assert_eq!(broker.metric("corelane_journal_writes_total", &[]), 0.0);
}

#[test]
fn what_one_recovery_has_scanned_the_next_one_need_not() {
    let mut broker = Broker::start();
    broker.client().create("t", 1, &[]);
    let value = vec![b'x'; 500_000];
    for _ in 0..6 {
        let answer = broker.client().produce("t", 0, batch(&[&value]));
        assert_eq!(answer.error, ErrorCode::None);
    }
    let scanned = |broker: &Broker| broker.metric("corelane_log_recovery_scanned_bytes_total", &[]);
    let checkpoint = broker.data().join("t-0").join("checkpoint");
    assert!(!checkpoint.exists(), "too little was written for one");
    broker.crash();
    let first = scanned(&broker);
    until("a checkpoint", || checkpoint.exists());
    broker.crash();
    let second = scanned(&broker);
    assert!(second + 1.5e6 < first, "{first} and then {second}");
    assert_eq!(broker.client().read_all("t", 0).len(), 6);
}

/// What recovery may have to scan on a core, in bytes, however many logs it has: checkpoints are
/// looked for each 32 MiB, eight at a time, and what is written meanwhile comes on top.
const SCANNED_BYTES_MAX: u64 = (256 + 32 + 32) << 20;

#[test]
fn many_logs_written_evenly_and_killed_are_scanned_within_the_bound_of_a_core() {
    let partitions = setting("CORELANE_SCANNED_PARTITIONS", 48) as i32;
    let of_each_mib = setting("CORELANE_SCANNED_MIB", 576) / partitions as u64;
    let mut broker = Broker::start_in(None, &["--cores", "1"]);
    broker.client().create("t", partitions, &[]);
    let value = vec![b'x'; (1 << 20) - 300];
    thread::scope(|scope| {
        for first in 0..4 {
            let mut client = broker.client();
            let value = &value;
            scope.spawn(move || {
                for _ in 0..of_each_mib {
                    for partition in (first..partitions).step_by(4) {
                        let answer = client.produce("t", partition, batch(&[value]));
                        assert_eq!(answer.error, ErrorCode::None);
                    }
                }
            });
        }
    });
    broker.crash();
    let scanned = broker.metric("corelane_log_recovery_scanned_bytes_total", &[]) as u64;
    println!(
        "{} MiB in {partitions} logs: {} MiB scanned after a kill, ready in {:?}",
        of_each_mib * partitions as u64,
        scanned >> 20,
        broker.ready_after()
    );
    assert!(scanned <= SCANNED_BYTES_MAX, "{scanned} bytes scanned");
    // The bound is what made it so, and not that little was written.
    assert!(of_each_mib * partitions as u64 > 2 * (SCANNED_BYTES_MAX >> 20) - 128);
    for partition in [0, partitions - 1] {
        let read = broker.client().read_all("t", partition).len() as u64;
        assert_eq!(read, of_each_mib);
    }
}

#[test]
fn a_relaxed_topic_survives_kills_of_the_process_too() {
    kill_under_load(
        &[("flush.messages", "9223372036854775807")],
        setting("CORELANE_KILLS", 5).min(20),
    );
}

#[test]
fn kills_amid_segment_rolls_lose_nothing_either() {
    let rounds = setting("CORELANE_KILLS", 5).min(20);
    kill_under_load(&[("internal.segment.bytes", "50000")], rounds);
}

/// Segments go by size all the time, and DeleteRecords moves the starts as well.
#[test]
fn kills_amid_retention_take_nothing_above_the_start_and_bring_nothing_back_below_it() {
    let mut broker = Broker::start_with(&[
        ("log.retention.check.interval.ms", "20"),
        ("log.segment.delete.delay.ms", "50"),
    ]);
    let configs = [
        ("internal.segment.bytes", "50000"),
        ("retention.bytes", "200000"),
    ];
    let rounds = setting("CORELANE_KILLS", 5).min(20);
    let size = (PRODUCERS, PARTITIONS);
    kill_under_load_and(&mut broker, &configs, size, rounds, true);
}

#[test]
fn kills_amid_creations_and_deletions_keep_what_was_answered() {
    let mut broker = Broker::start();
    let mut random = Prng::new(77);
    let mut there: BTreeSet<String> = BTreeSet::new();
    let (rounds, mut first_answers) = (setting("CORELANE_KILLS", 5).min(30), Vec::new());
    for round in 0..rounds {
        let (address, answered) = (broker.address(), AtomicU64::new(0));
        let unsure = thread::scope(|scope| {
            let running = scope.spawn(|| {
                let mut client = Client::connect(address);
                for number in 0.. {
                    let name = format!("amid-{round}-{number}");
                    match client.try_create(&name, 3) {
                        None => return name,
                        Some(code) => assert_eq!(code, 0, "{name}"),
                    }
                    there.insert(name.clone());
                    if number % 3 == 2 {
                        match client.try_delete(&name) {
                            None => {
                                there.remove(&name);
                                return name;
                            }
                            Some(code) => assert_eq!(code, 0, "{name}"),
                        }
                        there.remove(&name);
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                unreachable!("numbers do not end")
            });
            let wanted = 1 + random.below(20);
            until("creations", || answered.load(Ordering::Relaxed) >= wanted);
            broker.kill();
            running.join().expect("a client that saw the end")
        });
        let started = Instant::now();
        broker.run();
        let mut client = broker.client();
        client.create(&format!("first-{round}"), 3, &[]);
        first_answers.push(started.elapsed());
        there.insert(format!("first-{round}"));
        let mut names: BTreeSet<String> = BTreeSet::new();
        for topic in client.metadata(None, false).topics {
            assert_eq!(topic.partitions.len(), 3, "a topic is whole or absent");
            names.insert(topic.name.expect("a name").0.to_string());
        }
        if names.remove(&unsure) {
            assert_eq!(client.delete(&unsure), 0);
        }
        assert_eq!(names, there, "round {round}");
        for name in &there {
            assert_eq!(
                client.produce(name, 2, batch(&[b"x"])).error,
                ErrorCode::None,
                "{name}"
            );
        }
    }
    println!("{rounds} kills, {} topics in the end", there.len());
    println!("start to first creation: {}", spread(&first_answers));
}

#[test]
fn kills_between_creations_leave_each_topic_whole_or_absent() {
    let mut broker = Broker::start();
    for number in 0..setting("CORELANE_KILLS", 5).min(30) {
        let name = format!("created-{number}");
        broker.client().create(&name, 2, &[]);
        broker.crash();
        let answer = broker.client().produce(&name, 1, batch(&[b"x"]));
        assert_eq!(
            (answer.error, answer.base_offset.0),
            (ErrorCode::None, 0),
            "{name}"
        );
        if number % 2 == 1 {
            assert_eq!(broker.client().delete(&name), 0);
            broker.crash();
            let answer = broker.client().produce(&name, 1, batch(&[b"x"]));
            assert_eq!(
                answer.error,
                ErrorCode::UnknownTopicOrPartition,
                "{name} is back"
            );
        }
    }
}
