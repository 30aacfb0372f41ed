//! Several data directories: where partitions go, and what happens when one directory is lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corelane::protocol::messages::DescribeLogDirsRequest;

use crate::support::client::{Client, batch};
use crate::support::volume::Volume;
use crate::support::{Broker, directory, poll, refused_with, until};

/// KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;

/// A place for data directories beside the broker's first one.
struct Places {
    directory: tempfile::TempDir,
}

impl Places {
    fn new() -> Places {
        Places {
            directory: directory(),
        }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn start(data: &Path, others: &[PathBuf], more: &[&str]) -> Broker {
    let others: Vec<String> = others
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let mut arguments: Vec<&str> = others
        .iter()
        .flat_map(|path| ["--data-dir", path.as_str()])
        .collect();
    arguments.extend_from_slice(more);
    Broker::start_in(Some(data.to_owned()), &arguments)
}

/// Partitions by data directory, and each directory's error.
fn directories(client: &mut Client) -> BTreeMap<String, (i16, Vec<(String, i32)>)> {
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let answer = client.call(4, &request);
    let results = answer.results.into_iter().map(|result| {
        let partitions = result.topics.iter().flat_map(|topic| {
            let indexes = topic.partitions.iter();
            indexes.map(|one| (topic.name.to_string(), one.partition_index))
        });
        let mut partitions: Vec<(String, i32)> = partitions.collect();
        partitions.sort();
        let error = result.error_code;
        (result.log_dir.to_string(), (error, partitions))
    });
    results.collect()
}

fn counts(client: &mut Client) -> Vec<usize> {
    let held = directories(client).into_values();
    held.map(|(_, partitions)| partitions.len()).collect()
}

fn produce_to_all(client: &mut Client, topic: &str, partitions: i32) {
    for partition in 0..partitions {
        let value = format!("{topic}-{partition}");
        let answer = client.produce(topic, partition, batch(&[value.as_bytes()]));
        assert_eq!(answer.error.code(), 0, "{topic}-{partition}");
    }
}

/// One record: taken where the directory is, refused where it is gone. Returns the error expected.
fn produce_where_it_is(
    client: &mut Client,
    gone: &[(String, i32)],
    topic: &str,
    index: i32,
) -> i16 {
    let here = !gone.contains(&(topic.to_owned(), index));
    let wanted = if here { 0 } else { STORAGE_ERROR };
    let value = format!("{topic}-{index}");
    let answer = client.produce(topic, index, batch(&[value.as_bytes()]));
    assert_eq!(answer.error.code(), wanted, "{value}");
    wanted
}

fn check_all(client: &mut Client, topic: &str, partitions: i32, times: usize) {
    for partition in 0..partitions {
        let wanted = format!("{topic}-{partition}");
        let read = client.read_all(topic, partition);
        assert_eq!(read.len(), times, "{wanted}");
        let mut values = read.iter().map(|record| record.value.as_deref());
        assert!(values.all(|value| value == Some(wanted.as_bytes())));
    }
}

#[test]
fn partitions_go_to_the_directory_that_holds_the_fewest_and_stay_there() {
    let places = Places::new();
    let others = [places.place("b"), places.place("c")];
    let mut broker = start(&places.place("a"), &others, &[]);
    let mut client = broker.client();
    client.create("seven", 7, &[]);
    assert_eq!(counts(&mut client), [3, 2, 2]);
    client.create("two", 2, &[]);
    assert_eq!(counts(&mut client), [3, 3, 3]);
    client.create("one", 1, &[]);
    client.create("eleven", 11, &[]);
    assert_eq!(counts(&mut client), [7, 7, 7]);
    // What is deleted counts no more.
    assert_eq!(client.delete("seven"), 0);
    client.create("again", 7, &[]);
    assert_eq!(counts(&mut client), [7, 7, 7]);
    // Half of them get files; the others are known by the metadata alone.
    produce_to_all(&mut client, "eleven", 11);
    let before = directories(&mut client);
    for round in 0..2 {
        match round {
            0 => broker.crash(),
            _ => broker.restart(),
        }
        client = broker.client();
        assert_eq!(directories(&mut client), before);
        check_all(&mut client, "eleven", 11, 1);
    }
    for (path, (error, partitions)) in before {
        assert_eq!(error, 0);
        for (topic, index) in partitions.iter().filter(|(topic, _)| topic == "eleven") {
            assert!(Path::new(&path).join(format!("{topic}-{index}")).is_dir());
        }
    }
}

#[test]
fn a_directory_that_is_missing_at_the_start_takes_only_its_own_partitions_offline() {
    let places = Places::new();
    let lost = places.place("b");
    let others = [lost.clone(), places.place("c")];
    let mut broker = start(&places.place("a"), &others, &[]);
    let mut client = broker.client();
    client.create("t", 6, &[]);
    client.create("silent", 6, &[]);
    client.create("doomed", 3, &[]);
    produce_to_all(&mut client, "t", 6);
    produce_to_all(&mut client, "doomed", 3);
    let before = directories(&mut client);
    let gone = before[&lost.display().to_string()].1.clone();
    assert_eq!(gone.len(), 5);
    broker.stop();

    // A file where the directory was: it can be neither read nor made.
    let aside = places.place("aside");
    fs::rename(&lost, &aside).expect("moved away");
    fs::write(&lost, "not a directory").expect("written");
    broker.run();
    assert!(
        broker
            .log_text()
            .contains("a data directory cannot be used"),
        "{}",
        broker.log_text()
    );
    let mut client = broker.client();
    for topic in ["t", "silent"] {
        for index in 0..6 {
            let wanted = produce_where_it_is(&mut client, &gone, topic, index);
            let fetched = client.fetch(topic, index, 0);
            assert_eq!(fetched.error.code(), wanted, "{topic}-{index}");
        }
    }
    let now = directories(&mut client);
    let (error, partitions) = &now[&lost.display().to_string()];
    assert_eq!((*error, partitions.len()), (STORAGE_ERROR, 0));
    let well = now.values().filter(|(error, _)| *error == 0);
    assert_eq!(well.count(), 2);
    assert_eq!(broker.metric("corelane_offline_partitions", &[]), 5.0);
    assert!(broker.metric("corelane_data_directories_failed", &[]) >= 1.0);
    let (status, health) = broker.http("/health");
    assert_eq!(status, 503);
    assert!(health.contains("\"state\":\"failed\""), "{health}");
    assert!(health.contains(&lost.display().to_string()), "{health}");
    // What is new goes where it can, and a topic that is partly lost can be deleted.
    client.create("new", 4, &[]);
    produce_to_all(&mut client, "new", 4);
    assert_eq!(client.delete("doomed"), 0);
    client.create("doomed", 3, &[]);
    produce_to_all(&mut client, "doomed", 3);
    broker.crash();
    let mut client = broker.client();
    check_all(&mut client, "new", 4, 1);
    check_all(&mut client, "doomed", 3, 1);
    broker.stop();

    // It comes back, with all that was acknowledged.
    fs::remove_file(&lost).expect("removed");
    fs::rename(&aside, &lost).expect("moved back");
    broker.run();
    let mut client = broker.client();
    assert_eq!(broker.http("/health").0, 200);
    for index in 0..6 {
        let here = !gone.contains(&("t".to_owned(), index));
        let read = client.read_all("t", index);
        assert_eq!(read.len(), if here { 2 } else { 1 }, "t-{index}");
    }
    check_all(&mut client, "new", 4, 1);
    check_all(&mut client, "doomed", 3, 1);
    // What it had of the deleted topic is kept for a person, and never served.
    produce_to_all(&mut client, "silent", 6);
}

/// Changes a byte of each journal's second frame, which others follow; again: changes it back.
fn damage_journals(data: &Path) -> usize {
    let mut damaged = 0;
    for entry in fs::read_dir(data).expect("it is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(".journal-") {
            continue;
        }
        let mut bytes = fs::read(&path).expect("a journal");
        let blocks = bytes.chunks(4096).enumerate();
        let frames = blocks.filter(|(_, block)| block.starts_with(b"corejrnl"));
        let frames: Vec<usize> = frames.map(|(block, _)| block * 4096).collect();
        if frames.len() > 2 {
            bytes[frames[1] + 60] ^= 1;
            fs::write(&path, bytes).expect("written");
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn a_journal_that_cannot_be_replayed_takes_only_its_own_directory_offline() {
    let places = Places::new();
    let harmed = places.place("b");
    let journal = [
        "corelane.journal.bytes=2000000",
        "corelane.journal.writes.min=0",
    ];
    let more = ["--set", journal[0], "--set", journal[1]];
    let others = [harmed.clone()];
    let mut broker = start(&places.place("a"), &others, &more);
    let mut client = broker.client();
    client.create("t", 4, &[]);
    let mut times = 0;
    until("the journals are in use", || {
        produce_to_all(&mut client, "t", 4);
        times += 1;
        broker.metric("corelane_journal_writes_total", &[]) > 40.0
    });
    let before = directories(&mut client);
    let gone = before[&harmed.display().to_string()].1.clone();
    assert_eq!(gone.len(), 2);
    broker.kill();

    assert!(damage_journals(&harmed) > 0, "no journal was in use there");
    broker.run();
    let mut client = broker.client();
    for index in 0..4 {
        let here = !gone.contains(&("t".to_owned(), index));
        let fetched = client.fetch("t", index, 0);
        let wanted = if here { 0 } else { STORAGE_ERROR };
        assert_eq!(fetched.error.code(), wanted, "t-{index}");
        if here {
            assert_eq!(client.read_all("t", index).len(), times, "t-{index}");
        }
    }
    assert!(broker.metric("corelane_data_directories_failed", &[]) >= 1.0);
    assert_eq!(broker.http("/health").0, 503);
    broker.stop();

    // Nothing has touched it: once it is whole again, all that was acknowledged is there.
    assert!(damage_journals(&harmed) > 0, "it was kept");
    broker.run();
    let mut client = broker.client();
    check_all(&mut client, "t", 4, times);
    assert_eq!(broker.http("/health").0, 200);
}

#[test]
fn a_directory_that_goes_away_while_the_broker_runs_is_offline_alone() {
    let places = Places::new();
    let lost = places.place("b");
    let mut broker = start(&places.place("a"), std::slice::from_ref(&lost), &[]);
    let mut client = broker.client();
    client.create("t", 4, &[]);
    client.create("silent", 4, &[]);
    produce_to_all(&mut client, "t", 4);
    let gone = directories(&mut client)[&lost.display().to_string()]
        .1
        .clone();
    assert_eq!(gone.len(), 4);

    let aside = places.place("aside");
    fs::rename(&lost, &aside).expect("moved away");
    // Nothing but a question for its space touches it: it is asked every ten seconds.
    assert!(
        poll(Duration::from_secs(20), || {
            broker.metric("corelane_data_directories_failed", &[]) >= 1.0
        }),
        "{}",
        broker.log_text()
    );
    until("all of it is offline", || {
        broker.metric("corelane_offline_partitions", &[]) == 4.0
    });
    for topic in ["t", "silent"] {
        for index in 0..4 {
            produce_where_it_is(&mut client, &gone, topic, index);
        }
    }
    assert!(!lost.exists(), "it was made up again");
    client.create("new", 4, &[]);
    produce_to_all(&mut client, "new", 4);
    assert_eq!(broker.http("/health").0, 503);
    broker.stop();

    fs::rename(&aside, &lost).expect("moved back");
    broker.run();
    let mut client = broker.client();
    assert_eq!(broker.http("/health").0, 200);
    for index in 0..4 {
        let here = !gone.contains(&("t".to_owned(), index));
        assert_eq!(client.read_all("t", index).len(), if here { 2 } else { 1 });
    }
    check_all(&mut client, "new", 4, 1);
}

#[test]
fn a_directory_whose_device_fails_is_offline_alone() {
    let Some(volume) = Volume::new(64) else {
        return;
    };
    let places = Places::new();
    let lost = volume.path().join("data");
    let broker = start(
        &places.place("a"),
        std::slice::from_ref(&lost),
        &["--reserve", "0"],
    );
    let mut client = broker.client();
    client.create("t", 2, &[]);
    produce_to_all(&mut client, "t", 2);
    let gone = directories(&mut client)[&lost.display().to_string()]
        .1
        .clone();
    let [(_, index)] = gone.as_slice() else {
        panic!("{gone:?}");
    };
    // All of it: the journal of the file system as well, so that nothing can be written any more.
    volume.fail_behind(0);
    let value = vec![b'v'; 200 << 10];
    until("the device fails", || {
        client.produce("t", *index, batch(&[&value])).error.code() == STORAGE_ERROR
    });
    until("the directory is known to have failed", || {
        broker.metric("corelane_data_directories_failed", &[]) >= 1.0
    });
    for _ in 0..20 {
        let other = 1 - *index;
        assert_eq!(client.produce("t", other, batch(&[b"x"])).error.code(), 0);
        let refused = client.produce("t", *index, batch(&[b"x"]));
        assert_eq!(refused.error.code(), STORAGE_ERROR);
    }
    let now = directories(&mut client);
    assert_eq!(now[&lost.display().to_string()].0, STORAGE_ERROR);
    assert_eq!(now[&places.place("a").display().to_string()].0, 0);
    client.create("new", 3, &[]);
    produce_to_all(&mut client, "new", 3);
    let held = &directories(&mut client)[&places.place("a").display().to_string()].1;
    assert_eq!(held.len(), 4);
}

#[test]
fn partitions_that_somebody_moved_between_directories_are_found_where_they_are() {
    let places = Places::new();
    let (first, second) = (places.place("a"), places.place("b"));
    let mut broker = start(&first, std::slice::from_ref(&second), &[]);
    let mut client = broker.client();
    client.create("t", 2, &[]);
    produce_to_all(&mut client, "t", 2);
    broker.stop();
    for index in 0..2 {
        let (from, to) = match first.join(format!("t-{index}")).is_dir() {
            true => (&first, &second),
            false => (&second, &first),
        };
        let name = format!("t-{index}");
        fs::rename(from.join(&name), to.join(&name)).expect("moved");
    }
    for _ in 0..2 {
        broker.run();
        let mut client = broker.client();
        check_all(&mut client, "t", 2, 1);
        assert_eq!(counts(&mut client), [1, 1]);
        broker.stop();
    }
}

#[test]
fn directories_in_another_order_are_refused_before_anything_is_taken_for_lost() {
    let places = Places::new();
    let (first, second) = (places.place("a"), places.place("b"));
    let mut broker = start(&first, std::slice::from_ref(&second), &[]);
    broker.client().create("t", 2, &[]);
    broker.stop();
    let first_text = first.display().to_string();
    let refusal = refused_with(&second, "127.0.0.1:0", &["--data-dir", &first_text]);
    assert_eq!(refusal.status.code(), Some(2), "{}", refusal.stderr);
    assert!(
        refusal.stderr.contains("name it first"),
        "{}",
        refusal.stderr
    );
    broker.run();
    assert_eq!(counts(&mut broker.client()), [1, 1]);
}
