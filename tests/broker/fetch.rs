//! Fetch over the wire: limits, long polls, sessions, fences, and bytes that stay the same.

use std::time::{Duration, Instant};

use bytes::Bytes;
use corelane::base::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use corelane::protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};
use corelane::protocol::{ErrorCode, TopicRef};
use corelane::record::{Batches, Codec};

use crate::support::Broker;
use crate::support::client::{FETCH, batch, fetch_request, named, records};

/// A broker with the topic `t` of two partitions, which live on two cores where there are two.
fn scene() -> Broker {
    let broker = Broker::start();
    broker.client().create("t", 2, &[]);
    broker
}

fn only(response: FetchResponse<Bytes>) -> (ErrorCode, Vec<u8>) {
    let partition = &response.topics[0].partitions[0];
    (partition.error, partition.records.concat())
}

fn both(from: [i64; 2]) -> FetchRequest {
    let partition = |index: usize| {
        FetchPartition::new(PartitionIndex(index as i32), Offset(from[index]), 1 << 20)
    };
    FetchRequest {
        topics: vec![FetchTopic {
            topic: named("t"),
            partitions: vec![partition(0), partition(1)],
        }],
        ..FetchRequest::default()
    }
}

#[test]
fn the_first_batch_comes_whole_and_later_ones_only_within_the_limits() {
    let broker = scene();
    let mut client = broker.client();
    let sizes: Vec<usize> = (0..3)
        .map(|_| {
            let batch = batch(&[&[7; 5000]]);
            let size = batch.len();
            assert_eq!(client.produce("t", 0, batch).error, ErrorCode::None);
            size
        })
        .collect();
    for (partition_max, total_max, batches) in [
        (1, 1, 1),
        (0, 0, 1),
        (sizes[0] as i32 + 1, i32::MAX, 1),
        (2 * sizes[0] as i32, i32::MAX, 2),
        (1 << 20, 1 << 20, 3),
    ] {
        let mut request = fetch_request(named("t"), 0, 0, partition_max);
        request.max_bytes = total_max;
        let (error, bytes) = only(client.fetch_with(FETCH, &request));
        assert_eq!(error, ErrorCode::None);
        let whole = Batches::new(&bytes).map_while(Result::ok).count();
        assert_eq!(
            whole, batches,
            "partition {partition_max}, total {total_max}"
        );
    }
}

#[test]
fn a_batch_that_contains_the_offset_comes_whole() {
    let broker = scene();
    let mut client = broker.client();
    client.produce("t", 0, batch(&[b"a", b"b", b"c"]));
    client.produce("t", 0, batch(&[b"d", b"e"]));
    let fetched = client.fetch("t", 0, 1);
    assert_eq!(records(&fetched.records.concat()).len(), 5);
    let fetched = client.fetch("t", 0, 4);
    assert_eq!(records(&fetched.records.concat())[0].offset, 3);
    assert_eq!(
        (fetched.high_watermark.0, fetched.last_stable_offset.0),
        (5, 5)
    );
}

#[test]
fn offsets_out_of_range_are_refused_and_the_end_is_empty() {
    let broker = scene();
    let mut client = broker.client();
    client.produce("t", 0, batch(&[b"a"]));
    for (from, error) in [
        (1, ErrorCode::None),
        (2, ErrorCode::OffsetOutOfRange),
        (-1, ErrorCode::OffsetOutOfRange),
        (i64::MAX, ErrorCode::OffsetOutOfRange),
    ] {
        let fetched = client.fetch("t", 0, from);
        assert_eq!(
            (fetched.error, fetched.records_length),
            (error, 0),
            "from {from}"
        );
    }
    assert_eq!(
        client.fetch("nowhere", 0, 0).error,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        client.fetch("t", 9, 0).error,
        ErrorCode::UnknownTopicOrPartition
    );
}

#[test]
fn a_long_poll_waits_for_its_bytes_or_its_time() {
    let broker = scene();
    let (mut reader, mut writer) = (broker.client(), broker.client());
    let mut request = fetch_request(named("t"), 0, 0, 1 << 20);
    (request.min_bytes, request.max_wait_ms) = (1, 300);
    let began = Instant::now();
    assert!(only(reader.fetch_with(FETCH, &request)).1.is_empty());
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_millis(290) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
    // An error does not wait.
    request.max_wait_ms = 50_000;
    request.topics[0].partitions[0].fetch_offset = Offset(99);
    let began = Instant::now();
    assert_eq!(
        only(reader.fetch_with(FETCH, &request)).0,
        ErrorCode::OffsetOutOfRange
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    // Neither does a wish for nothing.
    request.topics[0].partitions[0].fetch_offset = Offset(0);
    request.min_bytes = 0;
    let began = Instant::now();
    assert!(only(reader.fetch_with(FETCH, &request)).1.is_empty());
    assert!(began.elapsed() < Duration::from_secs(10));
    // One batch is not enough, the second is.
    let one = batch(&[&[7; 1000]]);
    request.min_bytes = one.len() as i32 + 1;
    let number = reader.send_fetch(FETCH, &request);
    writer.produce("t", 0, one.clone());
    assert!(
        reader.wire.is_silent(Duration::from_millis(100)),
        "answered too early"
    );
    writer.produce("t", 0, one);
    let (error, bytes) = only(reader.receive_fetch(FETCH, number));
    assert_eq!((error, records(&bytes).len()), (ErrorCode::None, 2));
}

#[test]
fn min_bytes_are_gathered_from_partitions_on_two_cores() {
    let broker = scene();
    let (mut reader, mut writer) = (broker.client(), broker.client());
    let one = batch(&[&[7; 1000]]);
    for round in 0..5 {
        let mut request = both([round, round]);
        (request.min_bytes, request.max_wait_ms) = (2 * one.len() as i32, 50_000);
        let number = reader.send_fetch(FETCH, &request);
        writer.produce("t", 0, one.clone());
        assert!(
            reader.wire.is_silent(Duration::from_millis(20)),
            "half was enough"
        );
        writer.produce("t", 1, one.clone());
        let response = reader.receive_fetch(FETCH, number);
        let lengths: Vec<usize> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| partition.records_length)
            .collect();
        assert_eq!(lengths, [one.len(), one.len()], "round {round}");
    }
}

#[test]
fn a_topic_deleted_under_a_long_poll_ends_it() {
    let broker = scene();
    let mut reader = broker.client();
    let mut request = fetch_request(named("t"), 0, 0, 1 << 20);
    (request.min_bytes, request.max_wait_ms) = (1, 50_000);
    let number = reader.send_fetch(FETCH, &request);
    assert!(reader.wire.is_silent(Duration::from_millis(50)));
    let began = Instant::now();
    assert_eq!(broker.client().delete("t"), 0);
    let (error, _) = only(reader.receive_fetch(FETCH, number));
    assert!(
        matches!(
            error,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::NotLeaderOrFollower
        ),
        "{error}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn no_partition_starves_under_a_small_limit() {
    let broker = scene();
    let mut client = broker.client();
    for partition in 0..2 {
        for _ in 0..5 {
            client.produce("t", partition, batch(&[&[7; 5000]]));
        }
    }
    let mut from = [0, 0];
    for _ in 0..10 {
        let mut request = both(from);
        request.max_bytes = 1;
        let response = client.fetch_with(FETCH, &request);
        for partition in &response.topics[0].partitions {
            from[partition.index.0 as usize] += records(&partition.records.concat()).len() as i64;
        }
        assert!(from[0].abs_diff(from[1]) <= 3, "{from:?}");
    }
    assert_eq!(from, [5, 5]);
}

#[test]
fn a_session_tells_what_changed_and_refuses_wrong_numbers() {
    let broker = scene();
    let (mut client, mut writer) = (broker.client(), broker.client());
    let mut begin = both([0, 0]);
    begin.session_epoch = 0;
    let begun = client.fetch_with(FETCH, &begin);
    assert_eq!(begun.error, ErrorCode::None);
    assert_eq!(begun.topics[0].partitions.len(), 2);
    if begun.session_id == 0 {
        panic!("no session was given");
    }
    let next = |epoch: i32, topics: Vec<FetchTopic>| FetchRequest {
        session_id: begun.session_id,
        session_epoch: epoch,
        topics,
        ..FetchRequest::default()
    };
    let quiet = client.fetch_with(FETCH, &next(1, Vec::new()));
    assert_eq!(
        (quiet.error, quiet.session_id, quiet.topics.len()),
        (ErrorCode::None, begun.session_id, 0)
    );
    writer.produce("t", 1, batch(&[b"a"]));
    let changed = client.fetch_with(FETCH, &next(2, Vec::new()));
    assert_eq!(changed.topics.len(), 1);
    assert_eq!(changed.topics[0].partitions.len(), 1);
    assert_eq!(changed.topics[0].partitions[0].index.0, 1);
    // It moves on in partition 1 and forgets partition 0.
    let on = vec![FetchTopic {
        topic: named("t"),
        partitions: vec![FetchPartition::new(PartitionIndex(1), Offset(1), 1 << 20)],
    }];
    let mut forgets = next(3, on);
    forgets.forgotten = vec![ForgottenTopic {
        topic: named("t"),
        partitions: vec![PartitionIndex(0)],
    }];
    assert!(client.fetch_with(FETCH, &forgets).topics.is_empty());
    writer.produce("t", 0, batch(&[b"b"]));
    assert!(
        client
            .fetch_with(FETCH, &next(4, Vec::new()))
            .topics
            .is_empty(),
        "partition 0 is forgotten"
    );
    // Wrong numbers.
    let wrong = client.fetch_with(FETCH, &next(9, Vec::new()));
    assert_eq!(wrong.error, ErrorCode::InvalidFetchSessionEpoch);
    let mut unknown = next(5, Vec::new());
    unknown.session_id = begun.session_id.wrapping_add(1).max(1);
    assert_eq!(
        client.fetch_with(FETCH, &unknown).error,
        ErrorCode::FetchSessionIdNotFound
    );
    // The end of the session is a full fetch; afterwards nobody knows it.
    let mut end = both([0, 0]);
    (end.session_id, end.session_epoch) = (begun.session_id, -1);
    let ended = client.fetch_with(FETCH, &end);
    assert_eq!((ended.error, ended.session_id), (ErrorCode::None, 0));
    assert_eq!(ended.topics[0].partitions.len(), 2);
    let gone = client.fetch_with(FETCH, &next(5, Vec::new()));
    assert_eq!(gone.error, ErrorCode::FetchSessionIdNotFound);
}

#[test]
fn leader_epochs_are_fenced_and_a_diverging_one_is_told() {
    let broker = scene();
    let mut client = broker.client();
    client.produce("t", 0, batch(&[b"a"]));
    let epoch = client.metadata(Some(&["t"]), false).topics[0].partitions[0].leader_epoch;
    let mut codes = Vec::new();
    for known in [-1, epoch, epoch + 1, epoch - 1] {
        let mut request = fetch_request(named("t"), 0, 0, 1 << 20);
        request.topics[0].partitions[0].current_leader_epoch = LeaderEpoch(known);
        codes.push(only(client.fetch_with(FETCH, &request)).0);
    }
    assert_eq!(
        codes[..3],
        [
            ErrorCode::None,
            ErrorCode::None,
            ErrorCode::UnknownLeaderEpoch
        ]
    );
    if epoch > 0 {
        assert_eq!(codes[3], ErrorCode::FencedLeaderEpoch);
    }
    let mut request = fetch_request(named("t"), 0, 1, 1 << 20);
    request.topics[0].partitions[0].last_fetched_epoch = LeaderEpoch(epoch + 5);
    let response = client.fetch_with(FETCH, &request);
    let partition = &response.topics[0].partitions[0];
    assert!(
        partition.diverging_epoch.is_some() || partition.error != ErrorCode::None,
        "{partition:?}"
    );
    assert_eq!(partition.records_length, 0);
}

#[test]
fn topics_by_id_from_version_13_on() {
    let broker = Broker::start();
    let mut client = broker.client();
    let id = client.create("t", 1, &[]);
    client.produce("t", 0, batch(&[b"a"]));
    for version in 13..=17 {
        let request = fetch_request(TopicRef::Id(id), 0, 0, 1 << 20);
        let (error, bytes) = only(client.fetch_with(version, &request));
        assert_eq!(
            (error, records(&bytes).len()),
            (ErrorCode::None, 1),
            "version {version}"
        );
        let request = fetch_request(TopicRef::Id(TopicId([9; 16])), 0, 0, 1 << 20);
        let (error, bytes) = only(client.fetch_with(version, &request));
        assert_eq!(
            (error, bytes.len()),
            (ErrorCode::UnknownTopicId, 0),
            "version {version}"
        );
    }
    for version in 4..=12 {
        let (error, bytes) =
            only(client.fetch_with(version, &fetch_request(named("t"), 0, 0, 1 << 20)));
        assert_eq!(
            (error, records(&bytes).len()),
            (ErrorCode::None, 1),
            "version {version}"
        );
    }
}

#[test]
fn a_topic_that_the_broker_compresses_with_zstd_is_not_for_old_clients() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[("compression.type", "zstd")]);
    assert_eq!(
        client.produce("t", 0, batch(&[&[7; 5000]])).error,
        ErrorCode::None
    );
    let old = client.fetch_with(9, &fetch_request(named("t"), 0, 0, 1 << 20));
    assert_eq!(only(old).0, ErrorCode::UnsupportedCompressionType);
    let bytes = client.read_bytes("t", 0, 0);
    let header = Batches::new(&bytes)
        .next()
        .expect("a batch")
        .expect("whole")
        .header;
    assert_eq!(header.codec(), Ok(Codec::Zstd));
    assert_eq!(records(&bytes)[0].value.as_deref(), Some(&[7; 5000][..]));
}

/// Everything is the same byte for byte whether it comes from memory, or cold from files after a
/// clean stop or a kill, in one segment or in many, read from its beginning or from anywhere.
fn check_bytes(config: (&str, &str), batches: usize, size: usize) {
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 2, &[config]);
    let mut random = corelane::base::Prng::new(size as u64);
    for number in 0..batches {
        let mut value = vec![0; 1 + random.below(size as u64) as usize];
        random.fill(&mut value);
        let answer = client.produce("t", 0, batch(&[&value, &number.to_be_bytes()]));
        assert_eq!(
            (answer.error, answer.base_offset.0),
            (ErrorCode::None, 2 * number as i64)
        );
    }
    let bytes = client.read_bytes("t", 0, 0);
    assert_eq!(records(&bytes).len(), 2 * batches);
    for restart in [Broker::restart, Broker::crash, Broker::restart] {
        restart(&mut broker);
        let mut client = broker.client();
        assert_eq!(client.list_offset("t", 0, -1).offset, 2 * batches as i64);
        assert!(client.read_bytes("t", 0, 0) == bytes, "the bytes differ");
        for _ in 0..20 {
            let from = random.below(2 * batches as u64) as i64;
            let tail = client.read_bytes("t", 0, from);
            assert!(bytes.ends_with(&tail), "the bytes from {from} differ");
            assert!(records(&tail)[0].offset <= from);
        }
    }
}

#[test]
fn reads_across_many_small_segments_are_the_same_after_every_restart() {
    check_bytes(("internal.segment.bytes", "20000"), 200, 3000);
}

#[test]
fn reads_across_segments_of_one_mebibyte_are_the_same_after_every_restart() {
    check_bytes(("segment.bytes", "1048576"), 60, 150_000);
}
