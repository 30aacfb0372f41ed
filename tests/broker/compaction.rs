//! Compaction from outside, held against a model: of each key exactly the newest value is left, at its
//! offset; tombstones go when their time is over; readers meet no regressions; `kill -9` at any moment
//! changes none of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use corelane::base::{Prng, ProducerEpoch, ProducerId, Sequence};
use corelane::protocol::ErrorCode;
use corelane::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use corelane::protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};
use corelane::record::{BatchBuilder, Codec};

use crate::support::client::{Client, Read, text};
use crate::support::{Broker, setting, spread, until};

/// A key that only fills segments up, so that what lies before is not in the active one.
const FILLER: u64 = u64::MAX;
const SEGMENT_BYTES: usize = 20_000;

fn broker() -> Broker {
    Broker::start_with(&[("log.cleaner.backoff.ms", "20")])
}

fn create(client: &mut Client, topic: &str, delete_retention_ms: &str) {
    let configs = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "20000"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", delete_retention_ms),
        ("file.delete.delay.ms", "100"),
    ];
    client.create(topic, 1, &configs);
}

/// One producer of one partition, and what it has written: by offset, key and value.
struct Writer {
    topic: &'static str,
    written: BTreeMap<i64, Read>,
    random: Prng,
    time: i64,
}

impl Writer {
    fn new(topic: &'static str, seed: u64) -> Writer {
        Writer {
            topic,
            written: BTreeMap::new(),
            random: Prng::new(seed),
            time: 1_700_000_000_000,
        }
    }

    /// A batch of up to eight records over `keys` keys: values, tombstones, any codec.
    fn write(&mut self, client: &mut Client, keys: u64) {
        let codec = Codec::ALL[self.random.below(5) as usize];
        let records: Vec<(u64, Option<Vec<u8>>)> = (0..1 + self.random.below(8))
            .map(|_| {
                let key = self.random.below(keys);
                let mut value = vec![0; 8 + self.random.below(500) as usize];
                self.random.fill(&mut value);
                (key, (!self.random.one_in(8)).then_some(value))
            })
            .collect();
        self.send(client, codec, &records);
    }

    fn send(&mut self, client: &mut Client, codec: Codec, records: &[(u64, Option<Vec<u8>>)]) {
        let mut builder = BatchBuilder::new(codec);
        for (key, value) in records {
            builder.append(self.time, Some(&key.to_be_bytes()), value.as_deref(), &[]);
        }
        let answer = client.produce(self.topic, 0, builder.finish());
        assert_eq!(answer.error, ErrorCode::None);
        for (offset, (key, value)) in (answer.base_offset.0..).zip(records) {
            let read = Read {
                offset,
                timestamp: self.time,
                key: Some(key.to_be_bytes().to_vec()),
                value: value.clone(),
            };
            self.written.insert(offset, read);
        }
        self.time += 1;
    }

    /// Fills two segments with a key of its own.
    fn fill_up(&mut self, client: &mut Client) {
        for _ in 0..2 * SEGMENT_BYTES / 5000 + 1 {
            self.send(client, Codec::None, &[(FILLER, Some(vec![7; 5000]))]);
        }
    }

    /// The newest of each key, less the filler's.
    fn newest(&self) -> BTreeMap<Vec<u8>, Read> {
        let mut newest = BTreeMap::new();
        for read in self.written.values() {
            newest.insert(read.key.clone().unwrap_or_default(), read.clone());
        }
        newest.remove(&FILLER.to_be_bytes()[..]);
        newest
    }
}

fn without_filler(reads: Vec<Read>) -> Vec<Read> {
    let filler = FILLER.to_be_bytes();
    let other = |read: &Read| read.key.as_deref() != Some(&filler[..]);
    reads.into_iter().filter(other).collect()
}

/// What is there, when no key is there twice any more.
fn wait_until_clean(client: &mut Client, topic: &str) -> Vec<Read> {
    let mut left = Vec::new();
    until("every key once", || {
        left = without_filler(client.read_all(topic, 0));
        let mut keys: Vec<_> = left.iter().map(|read| read.key.clone()).collect();
        keys.sort();
        keys.windows(2).all(|pair| pair[0] != pair[1])
    });
    left
}

/// Every record in the log is as it was written, and the newest of each key is there, a tombstone
/// excepted where they `may_be_gone`.
fn check(writer: &Writer, found: &[Read], tombstones_may_be_gone: bool) {
    let by_offset: BTreeMap<i64, &Read> = found.iter().map(|read| (read.offset, read)).collect();
    assert_eq!(by_offset.len(), found.len(), "an offset twice");
    assert!(found.is_sorted_by_key(|read| read.offset), "in order");
    for read in found {
        assert_eq!(Some(read), writer.written.get(&read.offset), "changed");
    }
    for read in writer.newest().values() {
        let there = by_offset.contains_key(&read.offset);
        let may_be_gone = tombstones_may_be_gone && read.value.is_none();
        assert!(there || may_be_gone, "gone: {read:?}");
    }
}

#[test]
fn after_cleaning_exactly_the_newest_value_of_each_key_is_left_at_its_offset() {
    let mut broker = broker();
    let mut client = broker.client();
    create(&mut client, "k", "86400000");
    let mut writer = Writer::new("k", 1);
    for round in 0..3 {
        for _ in 0..150 {
            writer.write(&mut client, 40);
        }
        writer.fill_up(&mut client);
        let left = wait_until_clean(&mut client, "k");
        let newest: Vec<Read> = {
            let mut all: Vec<Read> = writer.newest().into_values().collect();
            all.sort_by_key(|read| read.offset);
            all
        };
        assert_eq!(left, newest, "round {round}");
    }
    let runs = broker.metric("corelane_log_cleaner_runs_total", &[]);
    let read = broker.metric("corelane_log_cleaner_read_bytes_total", &[]);
    let written = broker.metric("corelane_log_cleaner_written_bytes_total", &[]);
    assert!(runs >= 3.0 && written < read, "{runs} {read} {written}");
    assert!(broker.log_text().contains("compacted"), "one line a round");
    let end = client.list_offset("k", 0, -1).offset;
    assert_eq!(client.list_offset("k", 0, -2).offset, 0, "the start stays");
    let before = client.read_all("k", 0);
    drop(client);
    broker.restart();
    let mut client = broker.client();
    assert_eq!(client.list_offset("k", 0, -1).offset, end);
    assert_eq!(
        without_filler(client.read_all("k", 0)),
        without_filler(before)
    );
}

#[test]
fn tombstones_are_gone_once_delete_retention_is_over() {
    let broker = broker();
    let mut client = broker.client();
    create(&mut client, "d", "300");
    let mut writer = Writer::new("d", 2);
    for _ in 0..150 {
        writer.write(&mut client, 40);
    }
    let last = *writer.written.last_key_value().expect("written").0;
    until("no tombstone is left", || {
        // A log is only cleaned when something is dirty.
        writer.fill_up(&mut client);
        let left = without_filler(client.read_all("d", 0));
        check(&writer, &left, true);
        left.iter()
            .filter(|read| read.offset <= last)
            .all(|read| read.value.is_some())
    });
    let left = wait_until_clean(&mut client, "d");
    let values = writer
        .newest()
        .into_values()
        .filter(|read| read.value.is_some());
    assert_eq!(left.len(), values.count());
}

#[test]
fn who_reads_during_it_always_finds_the_newest_of_each_key() {
    let broker = broker();
    let mut client = broker.client();
    create(&mut client, "r", "86400000");
    let mut writer = Writer::new("r", 3);
    let stop = AtomicBool::new(false);
    let (address, stopped) = (broker.address(), &stop);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    let mut newest: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
                    let mut passes = 0;
                    while !stopped.load(Ordering::Relaxed) || passes < 2 {
                        let mut now: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
                        for read in without_filler(client.read_all("r", 0)) {
                            let key = read.key.expect("a key");
                            let before = now.insert(key, read.offset);
                            assert!(before < Some(read.offset), "in order");
                        }
                        for (key, offset) in &newest {
                            let found = now.get(key);
                            assert!(found >= Some(offset), "{key:?}: {found:?} after {offset}");
                        }
                        newest = now;
                        passes += 1;
                    }
                    newest
                })
            })
            .collect();
        for _ in 0..12 {
            for _ in 0..40 {
                writer.write(&mut client, 30);
            }
            writer.fill_up(&mut client);
        }
        wait_until_clean(&mut client, "r");
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            let newest = reader.join().expect("a reader");
            assert_eq!(newest.len(), writer.newest().len());
        }
    });
    let runs = broker.metric("corelane_log_cleaner_runs_total", &[]);
    assert!(runs >= 3.0, "{runs}");
}

#[test]
fn a_kill_at_any_moment_of_a_compaction_takes_nothing() {
    let mut broker = broker();
    let mut client = broker.client();
    create(&mut client, "x", "86400000");
    let mut writer = Writer::new("x", 4);
    let mut random = Prng::new(99);
    let (kills, mut first_acks) = (setting("CORELANE_KILLS", 5), Vec::new());
    for round in 0..kills {
        for _ in 0..60 {
            writer.write(&mut client, 30);
        }
        writer.fill_up(&mut client);
        // At some step of some round: files come and go meanwhile.
        let steps = random.below(60);
        let directory = broker.data().join("x-0");
        let (mut seen, mut changes) = (Vec::new(), 0);
        until("a moment to kill at", || {
            let entries = std::fs::read_dir(&directory).expect("a directory");
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            changes += u64::from(names != seen);
            seen = names;
            let runs = broker.metric("corelane_log_cleaner_runs_total", &[]);
            changes >= 2 + steps / 8 || runs > 0.0
        });
        drop(client);
        broker.kill();
        let started = Instant::now();
        broker.run();
        client = broker.client();
        writer.write(&mut client, 30);
        first_acks.push(started.elapsed());
        let found = without_filler(client.read_all("x", 0));
        check(&writer, &found, false);
        let end = *writer.written.last_key_value().expect("written").0 + 1;
        assert_eq!(client.list_offset("x", 0, -1).offset, end, "round {round}");
    }
    writer.fill_up(&mut client);
    let left = wait_until_clean(&mut client, "x");
    check(&writer, &left, false);
    assert_eq!(left.len(), writer.newest().len());
    println!(
        "{kills} kills, {} records written, {} left",
        writer.written.len(),
        left.len()
    );
    println!("start to first ack: {}", spread(&first_acks));
}

#[test]
fn a_producers_sequence_survives_the_compaction_of_all_its_records() {
    let mut broker = broker();
    let mut client = broker.client();
    create(&mut client, "s", "86400000");
    let (id, epoch) = client.producer_id();
    let batch = |sequence| {
        let mut builder = BatchBuilder::new(Codec::Lz4).producer(
            ProducerId(id),
            ProducerEpoch(epoch),
            Sequence(sequence),
        );
        builder.append(1, Some(b"once"), Some(b"value"), &[]);
        builder.finish()
    };
    let first = client.produce("s", 0, batch(0));
    assert_eq!(first.error, ErrorCode::None);
    let mut writer = Writer::new("s", 5);
    writer.send(&mut client, Codec::None, &[(3, Some(vec![1]))]);
    let mut last = BatchBuilder::new(Codec::None);
    last.append(2, Some(b"once"), Some(b"newer"), &[]);
    assert_eq!(client.produce("s", 0, last.finish()).error, ErrorCode::None);
    writer.fill_up(&mut client);
    until("the record is gone", || {
        let reads = client.read_all("s", 0);
        reads.iter().all(|read| read.offset != first.base_offset.0)
    });
    drop(client);
    broker.kill();
    std::fs::remove_file(broker.data().join("s-0/checkpoint")).expect("a checkpoint");
    broker.run();
    let mut client = broker.client();
    let again = client.produce("s", 0, batch(0));
    assert_eq!(
        (again.error, again.base_offset),
        (ErrorCode::None, first.base_offset),
        "a duplicate"
    );
    assert_eq!(
        client.produce("s", 0, batch(2)).error,
        ErrorCode::OutOfOrderSequenceNumber
    );
    assert_eq!(client.produce("s", 0, batch(1)).error, ErrorCode::None);
}

#[test]
fn compact_and_delete_together_do_both() {
    let broker = Broker::start_with(&[
        ("log.cleaner.backoff.ms", "20"),
        ("log.retention.check.interval.ms", "50"),
    ]);
    let mut client = broker.client();
    let configs = [
        ("cleanup.policy", "compact,delete"),
        ("internal.segment.bytes", "20000"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("retention.ms", "-1"),
        ("retention.bytes", "150000"),
        ("file.delete.delay.ms", "100"),
    ];
    client.create("both", 1, &configs);
    let mut writer = Writer::new("both", 6);
    for _ in 0..200 {
        writer.write(&mut client, 20);
    }
    writer.fill_up(&mut client);
    wait_until_clean(&mut client, "both");
    assert_eq!(
        client.list_offset("both", 0, -2).offset,
        0,
        "nothing is old or large yet"
    );
    // Keys that occur once cannot be compacted: the log grows until its oldest segments go.
    let mut key = 1_000_000;
    until("the start moves", || {
        for _ in 0..20 {
            key += 1;
            writer.send(&mut client, Codec::None, &[(key, Some(vec![9; 1000]))]);
        }
        client.list_offset("both", 0, -2).offset > 0
    });
    let start = client.list_offset("both", 0, -2).offset;
    let left = client.read_bytes("both", 0, start);
    let found = corelane::record::Batches::new(&left).count();
    assert!(found > 0);
    assert_eq!(broker.metric("corelane_offline_partitions", &[]), 0.0);
}

#[test]
fn committed_offsets_are_compacted_and_load_again() {
    const PARTITIONS: i32 = 300;
    let mut broker = Broker::start_with(&[
        ("log.cleaner.backoff.ms", "20"),
        ("offsets.topic.segment.bytes", "1048576"),
        ("offsets.topic.num.partitions", "1"),
        ("log.cleaner.min.cleanable.ratio", "0.01"),
    ]);
    let mut client = broker.client();
    client.create("t", PARTITIONS, &[]);
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    until("a coordinator", || {
        client.call(4, &find).coordinators[0].error_code == 0
    });
    let commit = |client: &mut Client, offset: i64| {
        let partition = |index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_metadata(Some(text("some words about this offset")))
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text("t")))
            .with_partitions((0..PARTITIONS).map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        client.call(8, &request).topics[0].partitions[0].error_code
    };
    let mut last = 0;
    until("a commit", || commit(&mut client, 0) == 0);
    until("the offsets are compacted", || {
        last += 1;
        assert_eq!(commit(&mut client, last), 0);
        broker.metric("corelane_log_cleaner_runs_total", &[]) >= 2.0
    });
    drop(client);
    broker.crash();
    let mut client = broker.client();
    let topic = OffsetFetchRequestTopics::default()
        .with_name(TopicName(text("t")))
        .with_partition_indexes((0..PARTITIONS).collect());
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    until("the group is loaded", || {
        client.call(8, &request).groups[0].error_code == 0
    });
    let response = client.call(8, &request);
    let partitions = &response.groups[0].topics[0].partitions;
    assert_eq!(partitions.len(), PARTITIONS as usize);
    assert!(
        partitions
            .iter()
            .all(|partition| partition.committed_offset == last),
        "{last}"
    );
    assert_eq!(commit(&mut client, last + 1), 0);
}
