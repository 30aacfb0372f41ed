//! Disks that are full, and disks that fail: on file systems of the tests' own, on loop devices.
//! Skipped, with a line that says so, where there are none.

use std::time::{Duration, Instant};

use corelane::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane::protocol::messages::{
    DescribeLogDirsRequest, FindCoordinatorRequest, GroupId, OffsetCommitRequest, TopicName,
};

use crate::support::client::{Client, batch, records, text};
use crate::support::volume::Volume;
use crate::support::{Broker, until};

/// KAFKA_STORAGE_ERROR.
const STORAGE_ERROR: i16 = 56;

/// Produces 64 KiB batches until one is refused; says how many were acknowledged.
fn produce_until_refused(client: &mut Client, topic: &str) -> usize {
    let value = vec![b'v'; 64 << 10];
    for acked in 0.. {
        let answer = client.produce(topic, 0, batch(&[&value]));
        match answer.error.code() {
            0 => {}
            STORAGE_ERROR => return acked,
            other => panic!("error {other}"),
        }
        assert!(acked < 1 << 20, "the disk does not fill up");
    }
    unreachable!()
}

fn commit_offset(client: &mut Client, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("readers")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    client.call(8, &request).topics[0].partitions[0].error_code
}

/// Has the topic of the committed offsets made, and its coordinator found.
fn find_coordinator(client: &mut Client) {
    until("a coordinator", || {
        let request = FindCoordinatorRequest::default()
            .with_key_type(0)
            .with_coordinator_keys(vec![text("readers")]);
        client.call(4, &request).coordinators[0].error_code == 0 && commit_offset(client, 1) == 0
    });
}

/// Error codes of the data directories, in order.
fn directory_errors(client: &mut Client) -> Vec<i16> {
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let answer = client.call(4, &request);
    answer.results.iter().map(|one| one.error_code).collect()
}

#[test]
fn a_full_disk_refuses_records_early_serves_all_else_and_takes_them_again_by_itself() {
    let Some(volume) = Volume::new(256) else {
        return;
    };
    let data = volume.path().join("data");
    let mut broker = Broker::start_in(Some(data), &["--set", "log.segment.bytes=8388608"]);
    let mut client = broker.client();
    for name in ["t", "victim", "other"] {
        client.create(name, 1, &[("file.delete.delay.ms", "100")]);
        let answer = client.produce(name, 0, batch(&[b"first"]));
        assert_eq!(answer.error.code(), 0);
    }
    find_coordinator(&mut client);

    // The broker's own records fill it.
    let mut acked = 1 + produce_until_refused(&mut client, "t");
    let left = volume.free();
    println!(
        "refused after {} batches with {} KiB left",
        acked,
        left >> 10
    );
    assert!(left > 8 << 20, "the reserve is untouched: {left}");
    let (status, health) = broker.http("/health");
    assert_eq!(status, 503, "{health}");
    assert!(health.contains("short of space"), "{health}");
    assert!(broker.metric("corelane_data_directories_short", &[]) > 0.0);

    // Everything else goes on.
    let refused = client.produce("other", 0, batch(&[b"x"]));
    assert_eq!(refused.error.code(), STORAGE_ERROR);
    assert_eq!(client.read_all("t", 0).len(), acked);
    for offset in 0..100 {
        assert_eq!(commit_offset(&mut client, offset), 0);
    }
    assert_eq!(client.try_create("new", 3), Some(0));
    assert_eq!(client.delete("victim"), 0);

    // It also resumes when somebody else's file goes.
    assert_eq!(client.delete("new"), 0);
    client.create("late", 1, &[]);
    volume.fill(4 << 20);
    assert_eq!(
        client.produce("late", 0, batch(&[b"x"])).error.code(),
        STORAGE_ERROR
    );
    volume.release();
    // What the topic itself holds has to go for the margin to be there.
    assert_eq!(client.delete("other"), 0);
    drop_half(&mut client, &mut acked);
    let released = Instant::now();
    until("records are taken again", || {
        client.produce("t", 0, batch(&[b"again"])).error.code() == 0
    });
    acked += 1;
    println!(
        "resumed {} ms after space came back",
        released.elapsed().as_millis()
    );
    assert!(released.elapsed() < Duration::from_secs(5));
    until("health is well", || broker.http("/health").0 == 200);

    // To the very last byte, by somebody else.
    volume.fill_up();
    let more = produce_until_refused(&mut client, "t");
    // The last one was taken before anybody knew; it is told as refused, and written later.
    acked += more + 1;
    println!("{more} batches more, {} bytes left", volume.free());
    let read = client.read_all_from_start("t", 0).len();
    assert!(read + 1 >= acked, "{read} of {acked}");
    assert_eq!(
        client.delete("late"),
        0,
        "a topic is deleted from the reserve"
    );
    volume.release();
    let released = Instant::now();
    until("records are taken again", || {
        client.produce("t", 0, batch(&[b"again"])).error.code() == 0
    });
    acked += 1;
    println!(
        "resumed {} ms after the disk was not full any more",
        released.elapsed().as_millis()
    );
    assert_eq!(broker.metric("corelane_log_fences_total", &[]), 0.0);
    assert_eq!(client.read_all_from_start("t", 0).len(), acked);
    broker.crash();
    assert_eq!(broker.client().read_all_from_start("t", 0).len(), acked);
}

/// Deletes the first half of the records of `t`.
fn drop_half(client: &mut Client, acked: &mut usize) {
    let half = *acked / 2;
    assert_eq!(client.delete_records("t", 0, half as i64), half as i64);
    *acked -= half;
}

/// A broker with a topic of two partitions, the first of them on a volume of its own.
fn with_a_partition_on(volume: &mut Volume) -> Broker {
    let broker = Broker::start_in(None, &["--reserve", "0"]);
    let mut client = broker.client();
    client.create("t", 2, &[]);
    let place = broker.data().join("t-0");
    std::fs::create_dir(&place).expect("a directory");
    volume.mount_at(&place).expect("mounted");
    for partition in 0..2 {
        let answer = client.produce("t", partition, batch(&[b"first"]));
        assert_eq!(answer.error.code(), 0);
    }
    assert_eq!(broker.http("/health").0, 200);
    broker
}

/// Produces to the failing partition until it is refused, then on; how many were acknowledged
/// until then. The other partition takes everything.
fn produce_into_the_failure(broker: &Broker) -> usize {
    let mut client = broker.client();
    let value = vec![b'v'; 200 << 10];
    let mut acked = 1;
    until("the device fails", || {
        let answer = client.produce("t", 0, batch(&[&value]));
        acked += usize::from(answer.error.code() == 0);
        assert!(matches!(answer.error.code(), 0 | STORAGE_ERROR));
        answer.error.code() == STORAGE_ERROR
    });
    let mut acked_after = 0;
    for _ in 0..50 {
        acked_after += usize::from(client.produce("t", 0, batch(&[b"x"])).error.code() == 0);
        assert_eq!(client.produce("t", 1, batch(&[b"x"])).error.code(), 0);
    }
    println!("{acked} acknowledged before, {acked_after} after the failed write");
    assert_eq!(acked_after, 0);
    let mut read = 0;
    while read < acked {
        let fetched = client.fetch("t", 0, read as i64);
        assert_eq!(fetched.error.code(), 0, "what it vouches for, at {read}");
        let bytes = fetched.records.iter();
        read += bytes.map(|bytes| records(bytes).len()).sum::<usize>();
    }
    assert_eq!(read, acked);
    acked
}

#[test]
fn a_log_whose_device_fails_is_fenced_alone_and_never_acknowledges_again() {
    let Some(mut volume) = Volume::new(64) else {
        return;
    };
    let broker = with_a_partition_on(&mut volume);
    volume.fail_behind(1);
    produce_into_the_failure(&broker);
    let mut client = broker.client();
    assert_eq!(directory_errors(&mut client), [STORAGE_ERROR]);
    assert_eq!(broker.metric("corelane_offline_partitions", &[]), 1.0);
    assert_eq!(broker.metric("corelane_data_directories_failed", &[]), 0.0);
    let (status, health) = broker.http("/health");
    assert_eq!(status, 503);
    assert!(
        health.contains("\"t-0\"") && health.contains("Input/output error"),
        "{health}"
    );
    assert!(
        !health.contains("\"t-1\"") && health.contains("\"state\":\"ok\""),
        "{health}"
    );
}
