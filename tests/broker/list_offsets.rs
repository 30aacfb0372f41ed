//! ListOffsets over the wire: the special timestamps, and lookups inside batches of every codec.

use corelane::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use corelane::protocol::messages::{ListOffsetsRequest, TopicName};
use corelane::record::{BatchBuilder, Codec};

use crate::support::Broker;
use crate::support::client::{Client, batch, text};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;

fn at(codec: Codec, timestamps: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for timestamp in timestamps {
        builder.append(*timestamp, None, Some(b"value value value value"), &[]);
    }
    builder.finish()
}

/// Error, timestamp and offset.
fn ask(client: &mut Client, timestamp: i64) -> (i16, i64, i64) {
    let answer = client.list_offset("t", 0, timestamp);
    (answer.error_code, answer.timestamp, answer.offset)
}

#[test]
fn an_empty_partition_answers_zero_and_nothing() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    for special in [LATEST, EARLIEST, EARLIEST_LOCAL] {
        assert_eq!(ask(&mut client, special), (0, -1, 0), "{special}");
    }
    assert_eq!(ask(&mut client, MAX_TIMESTAMP), (0, -1, -1));
    assert_eq!(ask(&mut client, 5), (0, -1, -1));
}

#[test]
fn lookups_find_the_first_record_in_offset_order_inside_batches_of_every_codec() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    let base = 1_700_000_000_000;
    for (number, codec) in Codec::ALL.into_iter().enumerate() {
        let from = base + 100 * number as i64;
        // Time goes back inside the batch: only the running maximum counts.
        let answer = client.produce("t", 0, at(codec, &[from, from + 50, from + 20, from + 60]));
        assert_eq!(answer.error.code(), 0);
    }
    for crashed in [false, true] {
        for number in 0..5_i64 {
            let (from, offset) = (base + 100 * number, 4 * number);
            for (wanted, found, delta) in [
                (0, 0, 0),
                (1, 50, 1),
                (20, 50, 1),
                (50, 50, 1),
                (51, 60, 3),
                (60, 60, 3),
            ] {
                let answer = ask(&mut client, from + wanted);
                assert_eq!(
                    answer,
                    (0, from + found, offset + delta),
                    "{wanted} in batch {number}, crashed: {crashed}"
                );
            }
        }
        assert_eq!(ask(&mut client, 0), (0, base, 0));
        assert_eq!(
            ask(&mut client, base + 461),
            (0, -1, -1),
            "nothing is that late"
        );
        assert_eq!(ask(&mut client, LATEST), (0, -1, 20));
        assert_eq!(ask(&mut client, EARLIEST), (0, -1, 0));
        assert_eq!(ask(&mut client, MAX_TIMESTAMP), (0, base + 460, 19));
        broker.crash();
        client = broker.client();
    }
}

#[test]
fn nothing_below_the_log_start_is_found() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    let base = 1_700_000_000_000;
    client.produce(
        "t",
        0,
        at(Codec::None, &[base, base + 1, base + 2, base + 3]),
    );
    assert_eq!(
        super::metadata::delete_records(&mut client, "t", 0, 2),
        (0, 2)
    );
    assert_eq!(ask(&mut client, EARLIEST), (0, -1, 2));
    assert_eq!(ask(&mut client, EARLIEST_LOCAL), (0, -1, 2));
    assert_eq!(ask(&mut client, base), (0, base + 2, 2));
}

#[test]
fn unknown_and_doubled_partitions_get_their_codes() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    client.produce("t", 0, batch(&[b"x"]));
    assert_eq!(client.list_offset("nowhere", 0, LATEST).error_code, 3);
    assert_eq!(client.list_offset("t", 1, LATEST).error_code, 3);
    let wish = ListOffsetsPartition::default()
        .with_current_leader_epoch(-1)
        .with_timestamp(LATEST);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![wish.clone(), wish.clone()]);
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![topic]);
    for partition in &client.call(9, &request).topics[0].partitions {
        assert_eq!(partition.error_code, 42);
    }
    for (epoch, code) in [(0, 0), (1000, 75)] {
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(text("t")))
            .with_partitions(vec![wish.clone().with_current_leader_epoch(epoch)]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![topic]);
        assert_eq!(
            client.call(9, &request).topics[0].partitions[0].error_code,
            code,
            "epoch {epoch}"
        );
    }
}

#[test]
fn log_append_time_gives_the_newest_record_a_defined_offset() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let answer = client.produce("t", 0, at(Codec::Lz4, &[5, 6, 7]));
    assert_eq!(answer.error.code(), 0);
    assert!(answer.log_append_time_ms > 1_600_000_000_000);
    let (error, timestamp, offset) = ask(&mut client, MAX_TIMESTAMP);
    assert_eq!((error, timestamp), (0, answer.log_append_time_ms));
    assert!((0..3).contains(&offset), "{offset}");
    assert_eq!(
        ask(&mut client, answer.log_append_time_ms),
        (0, timestamp, 0)
    );
}
