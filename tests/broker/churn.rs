//! Readers while what they read is deleted, made again, or shortened: they get its bytes, or are told
//! that there are none; never those of another topic, another life of the topic, or another offset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corelane::base::Prng;

use crate::support::client::{Client, batch, records};
use crate::support::{Broker, setting};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC: i16 = 3;
const NOT_LEADER: i16 = 6;
const UNKNOWN_TOPIC_ID: i16 = 100;
const PARTITIONS: i32 = 3;

/// `life/partition/offset/`, and something to make it large.
fn value(life: u64, partition: i32, offset: i64, size: usize) -> Vec<u8> {
    let mut value = format!("{life}/{partition}/{offset}/").into_bytes();
    value.resize(size.max(value.len()), b'.');
    value
}

fn parse(value: &[u8]) -> (u64, i32, i64) {
    let text = String::from_utf8_lossy(&value[..value.len().min(80)]);
    let mut parts = text.split('/');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let parsed = (next().parse(), next().parse(), next().parse());
    match parsed {
        (Ok(life), Ok(partition), Ok(offset)) => (life, partition, offset),
        _ => panic!("not one of ours: {text:?}"),
    }
}

/// Writes until the topic is gone; how many were acknowledged.
fn write(mut client: Client, life: u64, partition: i32) -> thread::JoinHandle<i64> {
    thread::spawn(move || {
        for offset in 0.. {
            let record = value(life, partition, offset, 3000);
            let answer = client.produce("t", partition, batch(&[&record]));
            match answer.error.code() {
                0 => assert_eq!(answer.base_offset.0, offset, "life {life}"),
                UNKNOWN_TOPIC | NOT_LEADER => return offset,
                other => panic!("error {other} in life {life}"),
            }
        }
        unreachable!()
    })
}

struct Seen {
    records: u64,
    gone: u64,
}

/// Reads `t` through all of its lives.
fn read(
    mut client: Client,
    seed: u64,
    (first, last): (Arc<AtomicU64>, Arc<AtomicU64>),
    stop: Arc<AtomicBool>,
) -> thread::JoinHandle<Seen> {
    thread::spawn(move || {
        let mut random = Prng::new(seed);
        let mut seen = Seen {
            records: 0,
            gone: 0,
        };
        let mut from = [0; PARTITIONS as usize];
        while !stop.load(Ordering::SeqCst) {
            let partition = random.below(PARTITIONS as u64) as i32;
            let place = &mut from[partition as usize];
            // No life that had ended before the question may answer, nor one that begins after.
            let oldest = first.load(Ordering::SeqCst);
            let fetched = client.fetch("t", partition, *place);
            let newest = last.load(Ordering::SeqCst);
            match fetched.error.code() {
                0 => {}
                OFFSET_OUT_OF_RANGE => {
                    *place = 0;
                    continue;
                }
                UNKNOWN_TOPIC | NOT_LEADER | UNKNOWN_TOPIC_ID => {
                    seen.gone += 1;
                    continue;
                }
                other => panic!("error {other}"),
            }
            let bytes = fetched.records.first().cloned().unwrap_or_default();
            let mut lives = Vec::new();
            for record in records(&bytes) {
                let (life, of, offset) = parse(record.value.as_deref().unwrap_or_default());
                assert!(
                    (oldest..=newest).contains(&life),
                    "{life} in {oldest}..={newest}"
                );
                assert_eq!((of, offset), (partition, record.offset));
                lives.push(life);
                *place = record.offset + 1;
                seen.records += 1;
            }
            lives.dedup();
            assert!(lives.len() <= 1, "one answer has records of {lives:?}");
            if random.one_in(20) {
                *place = 0;
            }
        }
        seen
    })
}

#[test]
fn no_reader_sees_another_life_of_a_topic_that_is_deleted_and_made_again_under_load() {
    let lives = setting("CORELANE_LIVES", 12);
    let broker = Broker::start();
    let mut client = broker.client();
    let (first, last) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|seed| {
            read(
                broker.client(),
                seed,
                (first.clone(), last.clone()),
                stop.clone(),
            )
        })
        .collect();
    let (mut written, began) = (0, Instant::now());
    for life in 0..lives {
        last.store(life, Ordering::SeqCst);
        client.create("t", PARTITIONS, &[("segment.bytes", "1048576")]);
        let writers: Vec<_> = (0..PARTITIONS)
            .map(|partition| write(broker.client(), life, partition))
            .collect();
        thread::park_timeout(Duration::from_millis(150));
        assert_eq!(client.delete("t"), 0);
        // The deletion is answered: what is asked from here on must not know this life.
        first.store(life + 1, Ordering::SeqCst);
        for writer in writers {
            written += writer.join().expect("a writer");
        }
    }
    stop.store(true, Ordering::SeqCst);
    let (mut seen, mut gone) = (0, 0);
    for reader in readers {
        let reader = reader.join().expect("a reader");
        seen += reader.records;
        gone += reader.gone;
    }
    println!(
        "{lives} lives in {:?}: {written} records written, {seen} read, {gone} times no topic, 0 stale",
        began.elapsed()
    );
    assert!(seen > 0 && written > 0);
}

#[test]
fn readers_of_a_log_that_is_shortened_under_them_get_its_bytes_or_out_of_range() {
    let seconds = setting("CORELANE_CHURN_SECONDS", 3);
    let broker = Broker::start_with(&[
        ("log.retention.check.interval.ms", "50"),
        ("log.segment.delete.delay.ms", "100"),
    ]);
    let mut client = broker.client();
    let configs = [("segment.bytes", "1048576"), ("retention.bytes", "3145728")];
    client.create("t", 1, &configs);
    let (end, stop) = (
        Arc::new(AtomicI64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut writer = broker.client();
    let (written, stopped) = (end.clone(), stop.clone());
    let writer = thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            let offset = written.load(Ordering::SeqCst);
            let answer = writer.produce("t", 0, batch(&[&value(0, 0, offset, 20_000)]));
            assert_eq!((answer.error.code(), answer.base_offset.0), (0, offset));
            written.store(offset + 1, Ordering::SeqCst);
        }
    });
    let readers: Vec<_> = (0..3)
        .map(|seed| {
            let (end, stop, mut client) = (end.clone(), stop.clone(), broker.client());
            thread::spawn(move || {
                let (mut random, mut found, mut out) = (Prng::new(seed), 0_u64, 0_u64);
                while !stop.load(Ordering::SeqCst) {
                    let end = end.load(Ordering::SeqCst);
                    if end == 0 {
                        continue;
                    }
                    let from = (end - 1 - random.below(end.min(400) as u64) as i64).max(0);
                    let fetched = client.fetch("t", 0, from);
                    match fetched.error.code() {
                        0 => {}
                        OFFSET_OUT_OF_RANGE => {
                            out += 1;
                            continue;
                        }
                        other => panic!("error {other} at {from}"),
                    }
                    let bytes = fetched.records.first().cloned().unwrap_or_default();
                    let read = records(&bytes);
                    assert_eq!(read.first().map(|record| record.offset), Some(from));
                    for record in read {
                        let (_, _, offset) = parse(record.value.as_deref().unwrap_or_default());
                        assert_eq!(offset, record.offset);
                        found += 1;
                    }
                }
                (found, out)
            })
        })
        .collect();
    let (mut random, began, mut deletions) = (Prng::new(9), Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        thread::park_timeout(Duration::from_millis(100));
        let known = end.load(Ordering::SeqCst);
        let to = known - random.below(60) as i64;
        if to > 0 {
            // Below the start already, if retention was faster: then it stays where it is.
            assert!(client.delete_records("t", 0, to) >= to);
            deletions += 1;
        }
    }
    stop.store(true, Ordering::SeqCst);
    writer.join().expect("the writer");
    let (mut found, mut out) = (0, 0);
    for reader in readers {
        let reader = reader.join().expect("a reader");
        found += reader.0;
        out += reader.1;
    }
    let written = end.load(Ordering::SeqCst);
    println!(
        "{written} written, {deletions} deletions: {found} records read, {out} times out of range, 0 stale"
    );
    assert!(found > 0 && out > 0);
}
