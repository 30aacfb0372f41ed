//! A partition on a disk where everything succeeds, one completion at a time.

use std::time::Duration;

use crate::base::{
    DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, LeaderEpoch, Mono, Now, Offset,
    PartitionIndex, Pool, TopicId, TopicPartition, Wall,
};
use crate::log::{Log, Options};
use crate::record::{BatchBuilder, Codec, Compression, Origin, Rules, Scratch, TimestampType};

use super::{Event, Partition, Refusal, Settings};

const NOW: Now = Now {
    mono: Mono(1),
    wall: Wall(1_000_000),
};

const TOPIC: TopicId = TopicId([3; 16]);

fn partition() -> Partition {
    let directory = FilePath::new(0, "t-0");
    let log = Log::new(directory, 0, TOPIC, Options::default(), Pool::new(4 << 20));
    leader(log, true)
}

fn leader(log: Log, ready: bool) -> Partition {
    let topic = TOPIC;
    let settings = Settings {
        log: Options::default(),
        rules: Rules {
            max_message_bytes: 1 << 20,
            segment_bytes: 1 << 30,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
            compression: Compression::Producer,
            compacted: false,
            produce_version: 11,
            origin: Origin::Client,
            decompressed_bytes_max: 1 << 20,
        },
        deletable: true,
        producer_expiration: Duration::from_secs(1),
    };
    let id = TopicPartition {
        topic,
        partition: PartitionIndex(0),
    };
    Partition::new(id, log, LeaderEpoch(0), settings, ready)
}

/// Completes everything in `out`, and what follows from it.
fn settle(partition: &mut Partition, out: &mut Vec<DiskOp>) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(op) = out.pop() {
        let done = DiskDone {
            id: op.id(),
            result: Ok(DiskOutput::Done),
        };
        partition.handle_disk(NOW, done, out, &mut events);
    }
    events
}

/// A client that asks for more than was found must not reset by an end that nobody knows.
#[test]
fn a_log_that_cannot_be_opened_has_no_range_to_be_out_of() {
    let mut out = Vec::new();
    let directory = FilePath::new(0, "t-0");
    let pool = Pool::new(4 << 20);
    let log = Log::open(directory, 0, TOPIC, Options::default(), pool, &mut out);
    let mut partition = leader(log, false);
    let mut events = Vec::new();
    for op in std::mem::take(&mut out) {
        let fault = DiskFault {
            file: FilePath::new(0, "t-0"),
            op: "read",
            kind: FaultKind::Io(5),
        };
        let done = DiskDone {
            id: op.id(),
            result: Err(fault),
        };
        partition.handle_disk(NOW, done, &mut out, &mut events);
    }
    assert!(
        matches!(events.last(), Some(Event::Fenced(_))),
        "{events:?}"
    );
    let read = partition.read(Offset(5), 100, true);
    assert!(matches!(read, Err(Refusal::Fenced)), "{read:?}");
}

/// The simulator's seed 61: the second of two requests was answered at once, with a log start that a
/// power cut took back.
#[test]
fn a_repeated_deletion_of_records_waits_until_the_first_one_is_durable() {
    let (mut partition, mut out) = (partition(), Vec::new());
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..5 {
        builder.append(1, None, Some(b"value"), &[]);
    }
    let batch = builder.finish();
    let mut scratch = Scratch::new();
    partition
        .append(NOW, &batch, 11, Origin::Client, &mut scratch)
        .expect("taken");
    partition.flush_turn(NOW, &mut out);
    settle(&mut partition, &mut out);
    assert_eq!(
        partition.delete_records(Offset(5), &mut out),
        Ok(Some(Offset(5)))
    );
    assert_eq!(partition.log_start(), Offset(5));
    assert_eq!(partition.durable_log_start(), Offset(0));
    assert_eq!(
        partition.delete_records(Offset(3), &mut out),
        Ok(Some(Offset(3)))
    );
    let events = settle(&mut partition, &mut out);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::StartOffsetDurable(Offset(5))))
    );
    assert_eq!(partition.durable_log_start(), Offset(5));
    assert_eq!(partition.delete_records(Offset(3), &mut out), Ok(None));
}
