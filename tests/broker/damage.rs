//! Damaged files, inspected, repaired as a copy, taken from another broker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use corelane::base::{ProducerEpoch, ProducerId, Sequence};
use corelane::record::{BatchBuilder, Codec};

use crate::support::client::batch;
use crate::support::{Broker, directory};

/// Runs the program; its output.
fn corelane(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments).output().expect("the program")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A stopped broker with 200 records in `t-0`, in several segments, and some in two others.
fn written() -> Broker {
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[("internal.segment.bytes", "8192")]);
    client.create("other", 2, &[]);
    for number in 0..200 {
        let value = [b'v', number];
        assert_eq!(
            client
                .produce("t", 0, batch(&[&value, &[7; 200]]))
                .error
                .code(),
            0
        );
    }
    for partition in 0..2 {
        assert_eq!(
            client
                .produce("other", partition, batch(&[b"x"]))
                .error
                .code(),
            0
        );
    }
    broker.stop();
    broker
}

fn files(directory: &Path, ends: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = paths.filter(|path| text(path).ends_with(ends)).collect();
    found.sort();
    found
}

#[test]
fn each_kind_of_derived_file_may_be_missing_or_garbled_and_comes_back() {
    let mut broker = written();
    let data = broker.data();
    for (place, kind) in [
        ("t-0", ".index"),
        ("t-0", "checkpoint"),
        ("__cluster_metadata-0", "checkpoint"),
    ] {
        for damage in ["removed", "garbled", "cut"] {
            let found = files(&data.join(place), kind);
            assert!(!found.is_empty(), "{place} {kind}: {damage}");
            for file in &found {
                let mut bytes = fs::read(file).expect("readable");
                match damage {
                    "removed" => fs::remove_file(file).expect("removed"),
                    "garbled" => {
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 0x55;
                        fs::write(file, bytes).expect("written");
                    }
                    _ => fs::write(file, &bytes[..bytes.len() / 2]).expect("written"),
                }
            }
            broker.run();
            let mut client = broker.client();
            assert_eq!(
                client.read_all("t", 0).len(),
                400,
                "{place} {kind}: {damage}"
            );
            assert_eq!(client.read_all("other", 1).len(), 1);
            assert_eq!(broker.http("/health").0, 200);
            broker.stop();
        }
    }
}

#[test]
fn damage_in_the_middle_is_named_and_a_copy_without_it_can_be_served() {
    let broker = written();
    let segments = files(&broker.data().join("t-0"), ".log");
    assert!(segments.len() > 3);
    let file = &segments[1];
    let mut bytes = fs::read(file).expect("readable");
    let position = bytes.len() / 2;
    bytes[position] ^= 1;
    fs::write(file, &bytes).expect("written");

    let verified = corelane(&["inspect", text(&broker.data()), "--verify"]);
    assert_eq!(verified.status.code(), Some(1));
    let told = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(
        told.contains("PROBLEM") && told.contains(text(file)),
        "{told}"
    );

    let scratch = directory();
    let copy = scratch.path().join("copy");
    let inside = broker.data().join("inside");
    let refused = corelane(&[
        "inspect",
        text(&broker.data()),
        "--repair",
        "--output",
        text(&inside),
    ]);
    assert_eq!(
        refused.status.code(),
        Some(2),
        "never into the damaged directory"
    );
    let repaired = corelane(&[
        "inspect",
        text(&broker.data()),
        "--repair",
        "--output",
        text(&copy),
    ]);
    assert!(
        repaired.status.success(),
        "{}",
        String::from_utf8_lossy(&repaired.stderr)
    );
    let told = String::from_utf8_lossy(&repaired.stdout).into_owned();
    assert!(
        told.contains(text(file)) && told.contains("1 stretches"),
        "{told}"
    );
    assert_eq!(
        fs::read(file).expect("readable"),
        bytes,
        "the original is as it was"
    );
    assert!(
        corelane(&["inspect", text(&copy), "--verify"])
            .status
            .success()
    );

    let served = Broker::start_in(Some(copy), &[]);
    let read = served.client().read_all("t", 0);
    assert_eq!(read.len(), 398, "one batch of two records is lost");
    assert!(read.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert_eq!(read.last().map(|one| one.offset), Some(399));
    let next = served.client().produce("t", 0, batch(&[b"on"]));
    assert_eq!((next.error.code(), next.base_offset.0), (0, 400));
}

/// What Kafka leaves has the same segments, and other files around them.
fn as_kafka_leaves_it(data: &Path, places: &[&str], log_start: i64) {
    let meta = data.join("meta.properties");
    let lines = fs::read_to_string(&meta).expect("readable");
    let kept: Vec<&str> = lines
        .lines()
        .filter(|line| !line.starts_with("corelane."))
        .collect();
    fs::write(&meta, kept.join("\n")).expect("written");
    for place in places {
        for file in files(&data.join(place), ".index") {
            fs::write(file, [0; 80]).expect("written");
        }
        let _ = fs::remove_file(data.join(place).join("checkpoint"));
        fs::write(
            data.join(place).join("leader-epoch-checkpoint"),
            "0\n1\n3 0\n",
        )
        .expect("written");
    }
    let starts = format!("0\n1\nt 0 {log_start}\n");
    fs::write(data.join("log-start-offset-checkpoint"), starts).expect("written");
}

const CLEAN: (&str, &str) = (".kafka_cleanshutdown", "{\"version\":0}");

#[test]
fn kafkas_directory_is_imported_and_served_and_one_that_is_not_in_order_is_refused() {
    let broker = written();
    let kafka = broker.data();
    as_kafka_leaves_it(&kafka, &["t-0", "other-0", "other-1"], 100);
    let before: Vec<u8> = files(&kafka.join("t-0"), ".log")
        .iter()
        .flat_map(|file| fs::read(file).expect("readable"))
        .collect();
    let scratch = directory();
    let data = scratch.path().join("data");
    let arguments = ["import", "--from", text(&kafka), "--data-dir", text(&data)];
    let refused = corelane(&arguments);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("clean shutdown"));
    fs::write(kafka.join(CLEAN.0), CLEAN.1).expect("written");
    let imported = corelane(&arguments);
    let told = String::from_utf8_lossy(&imported.stderr).into_owned();
    assert!(imported.status.success(), "{told}");

    let served = Broker::start_in(Some(data), &[]);
    let mut client = served.client();
    let read = client.read_all_from_start("t", 0);
    assert_eq!(
        (read.len(), read[0].offset),
        (300, 100),
        "the log start is Kafka's"
    );
    assert_eq!(client.read_all("other", 1).len(), 1);
    let next = client.produce("t", 0, batch(&[b"on"]));
    assert_eq!((next.error.code(), next.base_offset.0), (0, 400));
    let after: Vec<u8> = files(&kafka.join("t-0"), ".log")
        .iter()
        .flat_map(|file| fs::read(file).expect("readable"))
        .collect();
    assert_eq!(before, after, "Kafka's files are as they were");
}

/// A new producer that got an id of Kafka's was taken for that one, and its first batches for
/// repetitions: they were answered, and lost.
#[test]
fn producer_ids_go_on_behind_kafkas_after_an_import() {
    let from = |producer: i64, sequence: i32| {
        let id = (ProducerId(producer), ProducerEpoch(0));
        let mut builder = BatchBuilder::new(Codec::None).producer(id.0, id.1, Sequence(sequence));
        builder.append(1, None, Some(b"once"), &[]);
        builder.finish()
    };
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    for producer in [0, 5000] {
        let answer = client.produce("t", 0, from(producer, 0));
        assert_eq!(answer.error.code(), 0);
    }
    broker.stop();
    let kafka = broker.data();
    as_kafka_leaves_it(&kafka, &["t-0"], 0);
    fs::write(kafka.join(CLEAN.0), CLEAN.1).expect("written");
    for more in [&[][..], &["--copy"]] {
        let scratch = directory();
        let data = scratch.path().join("data");
        let arguments = ["import", "--from", text(&kafka), "--data-dir", text(&data)];
        let imported = corelane(&[&arguments[..], more].concat());
        assert!(imported.status.success(), "{imported:?}");
        let served = Broker::start_in(Some(data), &[]);
        let mut client = served.client();
        let (id, epoch) = client.producer_id();
        assert!(id > 5000 && epoch == 0, "{id} with {epoch}");
        let mut placed = |producer, sequence| {
            let answer = client.produce("t", 0, from(producer, sequence));
            (answer.error.code(), answer.base_offset.0)
        };
        assert_eq!(placed(id, 0), (0, 2), "not a repetition");
        assert_eq!(placed(5000, 0), (0, 1), "a repetition of what Kafka took");
        assert_eq!(placed(5000, 1), (0, 3), "Kafka's producers go on");
        assert_eq!(client.read_all("t", 0).len(), 4);
    }
}
