//! The metadata log over a long life: many changes and many starts, with snapshots between them, and
//! `kill -9` at any moment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Instant;

use corelane::base::Prng;

use crate::support::client::batch;
use crate::support::{Broker, setting, spread};

/// The config that says how often a snapshot is taken.
const EVERY: &str = "metadata.log.max.record.bytes.between.snapshots";

/// Bytes that the metadata takes on the disk, and its snapshots by name.
fn metadata(broker: &Broker) -> (u64, Vec<String>) {
    let directory = broker.data().join("__cluster_metadata-0");
    let entries = fs::read_dir(directory).expect("the metadata").flatten();
    let (mut bytes, mut snapshots) = (0, Vec::new());
    for entry in entries {
        // A file may go while it is looked at.
        bytes += entry.metadata().map_or(0, |file| file.blocks() * 512);
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".checkpoint") {
            snapshots.push(name);
        }
    }
    snapshots.sort();
    (bytes, snapshots)
}

/// What may be there: records up to the next snapshot, and about as many while that is written; the
/// segment that the last one ends in, and the one before it; two snapshots.
fn bytes_max(every: u64, snapshot: u64) -> u64 {
    3 * every + 2 * snapshot + (1 << 20)
}

#[test]
fn many_changes_and_many_starts_do_not_let_the_metadata_grow() {
    let changes = setting("CORELANE_METADATA_CHANGES", 2000);
    let starts = setting("CORELANE_METADATA_STARTS", 12);
    let every = setting("CORELANE_METADATA_BYTES", 60_000);
    let mut broker = Broker::start_with(&[(EVERY, &every.to_string())]);
    let mut client = broker.client();
    client.create("stays", 3, &[("retention.ms", "12345678")]);
    assert_eq!(client.produce("stays", 1, batch(&[b"x"])).error.code(), 0);
    let (began, mut largest, mut seen) = (Instant::now(), 0, Vec::new());
    for round in 0..changes.div_ceil(50) {
        let names: Vec<String> = (0..25).map(|one| format!("t-{round}-{one}")).collect();
        let made = client.create_all(&names, 1, &[]);
        assert!(made.iter().all(|(error, _)| *error == 0));
        for name in &names {
            assert_eq!(client.delete(name), 0);
        }
        let (bytes, snapshots) = metadata(&broker);
        largest = bytes.max(largest);
        seen.extend(snapshots);
        seen.dedup();
    }
    println!(
        "{changes} changes in {:?}: at most {} KiB of metadata, {} snapshots",
        began.elapsed(),
        largest >> 10,
        seen.len()
    );
    assert!(largest <= bytes_max(every, every), "{largest} bytes");
    assert!(seen.len() >= 2 || changes * 100 < every, "{seen:?}");

    let (began, mut slowest) = (Instant::now(), 0);
    for start in 0..starts {
        match start % 2 {
            0 => broker.crash(),
            _ => broker.restart(),
        }
        slowest = broker.ready_after().as_millis().max(slowest);
        largest = metadata(&broker).0.max(largest);
    }
    let (bytes, snapshots) = metadata(&broker);
    println!(
        "{starts} starts in {:?}, the slowest {slowest} ms: {} KiB of metadata now, at most {} KiB, {snapshots:?}",
        began.elapsed(),
        bytes >> 10,
        largest >> 10
    );
    assert!(largest <= bytes_max(every, every), "{largest} bytes");
    assert!(snapshots.len() <= 2, "{snapshots:?}");
    let mut client = broker.client();
    let topics = client.metadata(None, false).topics;
    let names: Vec<String> = topics
        .iter()
        .filter_map(|topic| topic.name.as_ref().map(|name| name.0.to_string()))
        .collect();
    assert_eq!(names, ["stays"]);
    assert_eq!(client.read_all("stays", 1).len(), 1);
}

#[test]
fn no_kill_amid_snapshots_loses_a_topic_or_brings_one_back() {
    let kills = setting("CORELANE_KILLS", 5);
    let every = [(EVERY, "3000")];
    let mut broker = Broker::start_with(&every);
    let mut random = Prng::new(41);
    let mut there: Vec<String> = Vec::new();
    let (mut snapshots, mut first_answers) = (Vec::new(), Vec::new());
    for round in 0..kills {
        let address = broker.address();
        let known = there.clone();
        // Changes go on until the broker is gone; the last one may have happened or not.
        let changing = thread::spawn(move || {
            let mut client = crate::support::client::Client::connect(address);
            let (mut there, mut number) = (known, 0);
            loop {
                let old = if number % 3 == 2 {
                    there.first().cloned()
                } else {
                    None
                };
                let (name, answer) = match old {
                    Some(name) => (name.clone(), client.try_delete(&name)),
                    None => {
                        let name = format!("t-{round}-{number}");
                        (name.clone(), client.try_create(&name, 2))
                    }
                };
                number += 1;
                match answer {
                    None => return (there, name),
                    Some(error) => assert_eq!(error, 0, "{name}"),
                }
                match there.iter().position(|one| *one == name) {
                    Some(place) => drop(there.remove(place)),
                    None => there.push(name),
                }
            }
        });
        thread::park_timeout(std::time::Duration::from_millis(50 + random.below(300)));
        broker.kill();
        let (mut known, unsure) = changing.join().expect("the changes");
        let started = Instant::now();
        broker.run();
        let (first, mut client) = (format!("first-{round}"), broker.client());
        client.create(&first, 2, &[]);
        first_answers.push(started.elapsed());
        known.push(first);
        let topics = broker.client().metadata(None, false).topics;
        let mut found: Vec<String> = topics
            .iter()
            .filter_map(|topic| topic.name.as_ref().map(|name| name.0.to_string()))
            .collect();
        for topic in &topics {
            assert_eq!(topic.partitions.len(), 2);
        }
        found.sort();
        known.retain(|name| *name != unsure);
        known.sort();
        there = found.clone();
        found.retain(|name| *name != unsure);
        assert_eq!(found, known, "round {round}");
        snapshots.extend(metadata(&broker).1);
        snapshots.dedup();
    }
    println!("{kills} kills, {} snapshots seen", snapshots.len());
    println!("start to first creation: {}", spread(&first_answers));
    assert!(!snapshots.is_empty());
}

#[test]
fn a_damaged_snapshot_is_never_believed_and_the_start_says_so() {
    let mut broker = Broker::start_with(&[(EVERY, "2000")]);
    let mut client = broker.client();
    for number in 0..40 {
        client.create(&format!("t-{number}"), 1, &[]);
    }
    broker.stop();
    let (_, snapshots) = metadata(&broker);
    assert!(!snapshots.is_empty());
    // All of them: an older one would do, as long as the log has what follows it.
    let directory = broker.data().join("__cluster_metadata-0");
    let paths: Vec<_> = snapshots.iter().map(|name| directory.join(name)).collect();
    let whole = paths.iter().map(|path| fs::read(path).expect("a snapshot"));
    let whole: Vec<Vec<u8>> = whole.collect();
    for (path, whole) in paths.iter().zip(&whole) {
        let mut garbled = whole.clone();
        garbled[whole.len() / 2] ^= 0x10;
        fs::write(path, garbled).expect("written");
    }
    let refusal = crate::support::refused(&broker.data(), "127.0.0.1:0");
    assert!(
        refusal.stderr.contains("the metadata cannot be read"),
        "{}",
        refusal.stderr
    );
    for (path, whole) in paths.iter().zip(whole) {
        fs::write(path, whole).expect("written");
    }
    broker.run();
    assert_eq!(broker.client().metadata(None, false).topics.len(), 40);
}
