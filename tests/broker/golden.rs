//! Data directories that earlier versions wrote, kept in `tests/golden`: each must be served as it
//! was written. `CORELANE_GOLDEN_WRITE=1` writes the directory of the present format, once, when the
//! format is new.

use std::fs;
use std::path::{Path, PathBuf};

use corelane::record::{BatchBuilder, Codec};

use crate::support::{Broker, directory};

const CODECS: [Codec; 5] = [
    Codec::None,
    Codec::Gzip,
    Codec::Snappy,
    Codec::Lz4,
    Codec::Zstd,
];
/// Batches of each partition.
const BATCHES: usize = 20;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format-1")
}

/// The value of record `record` in batch `number`.
fn value(number: usize, record: usize) -> Vec<u8> {
    format!("batch {number} record {record} ")
        .repeat(5)
        .into_bytes()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if name != ".lock" {
            fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

/// Writes what the test reads.
fn write_golden() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("codecs", 1, &[("internal.segment.bytes", "1024")]);
    client.create("cut", 1, &[("retention.ms", "-1")]);
    for topic in ["codecs", "cut"] {
        for number in 0..BATCHES {
            let mut batch = BatchBuilder::new(CODECS[number % CODECS.len()]);
            for record in 0..3 {
                let timestamp = 1_700_000_000_000 + number as i64;
                batch.append(timestamp, Some(b"key"), Some(&value(number, record)), &[]);
            }
            assert_eq!(client.produce(topic, 0, batch.finish()).error.code(), 0);
        }
    }
    assert_eq!(client.delete_records("cut", 0, 30), 30);
    broker.stop();
    copy(&broker.data(), &golden());
}

#[test]
fn the_golden_directory_is_served_record_by_record_and_byte_by_byte() {
    if std::env::var("CORELANE_GOLDEN_WRITE").is_ok() {
        write_golden();
    }
    let scratch = directory();
    let data = scratch.path().join("data");
    copy(&golden(), &data);
    let mut files: Vec<PathBuf> = fs::read_dir(golden().join("codecs-0"))
        .expect("a partition")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    assert!(files.len() > 1, "several segments");
    let bytes: Vec<u8> = files
        .iter()
        .flat_map(|file| fs::read(file).expect("read"))
        .collect();
    let broker = Broker::start_in(Some(data), &[]);
    let mut client = broker.client();
    assert_eq!(client.read_bytes("codecs", 0, 0), bytes);
    for (topic, start) in [("codecs", 0), ("cut", 30)] {
        let read = client.read_all_from_start(topic, 0);
        assert_eq!(read.len(), 3 * BATCHES - start);
        for (index, record) in read.iter().enumerate() {
            let number = index + start;
            assert_eq!(record.offset, number as i64);
            assert_eq!(record.key.as_deref(), Some(b"key".as_slice()));
            assert_eq!(
                record.value,
                Some(value(number / 3, number % 3)),
                "{topic} {number}"
            );
        }
        let next = client.produce(topic, 0, crate::support::client::batch(&[b"on"]));
        assert_eq!(
            (next.error.code(), next.base_offset.0),
            (0, 3 * BATCHES as i64)
        );
    }
}
