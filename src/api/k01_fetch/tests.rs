use super::*;
use crate::api::tests::{World, incoming};
use crate::base::{BrokerId, Mono, TopicId};
use crate::partition::Refusal;
use crate::protocol::messages::StrBytes;
use bytes::Bytes;

const MANNER: Manner = Manner {
    version: 12,
    refused: None,
    committed: false,
};

fn name(name: &'static str) -> TopicRef {
    TopicRef::Name(StrBytes::from_static_str(name))
}

fn wish(topic: &TopicRef, index: i32) -> Wish {
    (
        topic.clone(),
        FetchPartition::new(PartitionIndex(index), Offset(5), 1_000),
    )
}

fn world() -> World {
    let mut world = World::new(2);
    world.topic("t", 1, 4);
    world
}

fn result(size: usize) -> (ReadResult, Vec<&'static str>) {
    let result = ReadResult {
        slices: Ok(Vec::new()),
        size,
        high_watermark: Offset(9),
        last_stable_offset: Offset(9),
        log_start_offset: Offset(1),
        diverging: None,
        leader_epoch: LeaderEpoch(3),
    };
    let records = if size > 0 {
        vec!["records"]
    } else {
        Vec::new()
    };
    (result, records)
}

fn refusal(refusal: Refusal) -> (ReadResult, Vec<&'static str>) {
    let (result, records) = result(0);
    let high_watermark = Offset(-1);
    (
        ReadResult {
            slices: Err(refusal),
            high_watermark,
            ..result
        },
        records,
    )
}

/// The errors of wishes that reach no core.
fn refusals(wishes: Vec<Wish>, manner: Manner, world: &World) -> Vec<i16> {
    let plan = plan(wishes, 0, manner, world.view());
    assert!(plan.reads.lanes().is_empty());
    let fetched = reply::<()>(plan.partitions, Gathered::new([]), manner, world.view());
    fetched
        .iter()
        .map(|(_, partition)| partition.error.code())
        .collect()
}

/// One partition, answered by its core with `result`.
fn answered(
    result: (ReadResult, Vec<&'static str>),
    manner: Manner,
) -> FetchedPartition<&'static str> {
    let world = world();
    let plan = plan(vec![wish(&name("t"), 0)], 0, manner, world.view());
    let gathered = Gathered::new([vec![result]]);
    let mut fetched = reply(plan.partitions, gathered, manner, world.view());
    fetched.remove(0).1
}

fn sized(sizes: &[usize]) -> Vec<(TopicRef, FetchedPartition<&'static str>)> {
    let partition = |(index, size): (usize, &usize)| {
        let (result, records) = result(*size);
        (
            name("t"),
            fetched(PartitionIndex(index as i32), result, records),
        )
    };
    sizes.iter().enumerate().map(partition).collect()
}

fn lengths(fetched: &[(TopicRef, FetchedPartition<&'static str>)]) -> Vec<usize> {
    fetched
        .iter()
        .map(|(_, partition)| partition.records_length)
        .collect()
}

#[test]
fn partitions_are_split_by_owner_and_answered_in_the_order_of_the_request() {
    let world = world();
    let topic = name("t");
    let wishes = [0, 1, 7, 2].map(|index| wish(&topic, index)).to_vec();
    for turn in 0..5 {
        let plan = plan(wishes.clone(), turn, MANNER, world.view());
        assert_eq!(plan.first, turn % 4);
        let lanes = plan.reads.lanes().iter();
        let answers: Vec<Vec<_>> = lanes
            .map(|(_, queries)| {
                let answer = |query: &ReadQuery| result(10 + query.partition.partition.0 as usize);
                queries.iter().map(answer).collect()
            })
            .collect();
        let fetched = reply(
            plan.partitions,
            Gathered::new(answers),
            MANNER,
            world.view(),
        );
        let told: Vec<_> = fetched
            .iter()
            .map(|(_, partition)| {
                (
                    partition.index.0,
                    partition.error.code(),
                    partition.records_length,
                )
            })
            .collect();
        assert_eq!(
            told,
            [(0, 0, 10), (1, 0, 11), (7, 3, 0), (2, 0, 12)],
            "turn {turn}"
        );
    }
}

#[test]
fn the_preferred_partition_is_read_first_on_its_core() {
    let mut world = World::new(1);
    world.topic("t", 1, 3);
    let wishes = [0, 1, 2].map(|index| wish(&name("t"), index)).to_vec();
    let plan = plan(wishes, 1, MANNER, world.view());
    let order = plan.reads.lanes()[0]
        .1
        .iter()
        .map(|query| query.partition.partition.0);
    assert_eq!(order.collect::<Vec<_>>(), [1, 2, 0]);
}

#[test]
fn unknown_topics_are_unknown_by_name_and_by_id() {
    let world = world();
    assert_eq!(
        refusals(
            vec![wish(&name("x"), 0), wish(&name("t"), 4)],
            MANNER,
            &world
        ),
        [3, 3]
    );
    let ids = [TopicId([7; 16]), TopicId::ZERO].map(|id| wish(&TopicRef::Id(id), 0));
    assert_eq!(refusals(ids.to_vec(), MANNER, &world), [100, 100]);
}

#[test]
fn nothing_to_fetch_is_planned_without_a_read() {
    assert_eq!(refusals(Vec::new(), MANNER, &world()), [] as [i16; 0]);
}

#[test]
fn followers_and_unknown_isolation_levels_are_refused() {
    let follower = FetchRequest {
        replica_id: BrokerId(2),
        ..FetchRequest::default()
    };
    assert_eq!(
        manner(&follower, 12).refused,
        Some(ErrorCode::NotLeaderOrFollower)
    );
    let odd = FetchRequest {
        isolation_level: 2,
        ..FetchRequest::default()
    };
    assert_eq!(
        refusals(vec![wish(&name("t"), 0)], manner(&odd, 12), &world()),
        [42]
    );
}

#[test]
fn topics_that_the_broker_compresses_with_zstd_are_refused_to_clients_without_it() {
    let mut world = world();
    world.config("t", "compression.type", "zstd");
    let old = Manner {
        version: 9,
        ..MANNER
    };
    assert_eq!(refusals(vec![wish(&name("t"), 0)], old, &world), [76]);
    let plan = plan(
        vec![wish(&name("t"), 0)],
        0,
        Manner {
            version: 10,
            ..MANNER
        },
        world.view(),
    );
    assert_eq!(plan.reads.lanes().len(), 1);
}

#[test]
fn a_storage_error_is_not_leader_to_clients_that_do_not_know_it() {
    let error = |version| answered(refusal(Refusal::Fenced), Manner { version, ..MANNER }).error;
    assert_eq!(error(5), ErrorCode::NotLeaderOrFollower);
    assert_eq!(error(6), ErrorCode::KafkaStorageError);
}

#[test]
fn a_fenced_leader_epoch_names_the_leader() {
    let (current, found) = (LeaderEpoch(3), LeaderEpoch(2));
    let partition = answered(
        refusal(Refusal::FencedLeaderEpoch { current, found }),
        MANNER,
    );
    assert_eq!(partition.error.code(), 74);
    assert_eq!(
        partition.current_leader.map(|leader| leader.leader_epoch),
        Some(current)
    );
}

#[test]
fn aborted_transactions_are_null_for_read_uncommitted_and_empty_for_read_committed() {
    assert_eq!(answered(result(1), MANNER).aborted, None);
    let committed = Manner {
        committed: true,
        ..MANNER
    };
    assert_eq!(answered(result(1), committed).aborted, Some(Vec::new()));
}

#[test]
fn a_diverging_epoch_is_passed_on() {
    let (result, records) = result(0);
    let diverging = Some((LeaderEpoch(2), Offset(4)));
    let partition = answered(
        (
            ReadResult {
                diverging,
                ..result
            },
            records,
        ),
        MANNER,
    );
    let end = EpochEnd {
        epoch: LeaderEpoch(2),
        end_offset: Offset(4),
    };
    assert_eq!(partition.diverging_epoch, Some(end));
}

#[test]
fn records_beyond_the_limit_are_left_for_the_next_fetch() {
    let mut fetched = sized(&[0, 50, 60, 30]);
    trim(&mut fetched, 0, 100);
    assert_eq!(lengths(&fetched), [0, 50, 0, 30]);
    assert!(fetched[2].1.records.is_empty());
}

#[test]
fn the_first_partition_with_records_keeps_them_whatever_the_limit() {
    let mut fetched = sized(&[0, 500, 1]);
    trim(&mut fetched, 0, 10);
    assert_eq!(lengths(&fetched), [0, 500, 0]);
    let mut fetched = sized(&[8, 500, 1]);
    trim(&mut fetched, 1, 10);
    assert_eq!(lengths(&fetched), [0, 500, 0]);
}

#[test]
fn limits_are_capped_by_the_broker_and_min_bytes_by_the_limit() {
    let request = FetchRequest {
        min_bytes: 500,
        max_bytes: i32::MAX,
        ..FetchRequest::default()
    };
    let incoming = incoming(ApiKey::Fetch, 12, Bytes::new());
    let capped = limits(&request, 100, &incoming);
    assert_eq!((capped.max_bytes, capped.min_bytes), (100, 100));
    let negative = FetchRequest {
        min_bytes: -1,
        max_bytes: -5,
        max_wait_ms: -1,
        ..request
    };
    let zero = limits(&negative, 100, &incoming);
    assert_eq!(
        (zero.max_bytes, zero.min_bytes, zero.deadline),
        (0, -1, incoming.received)
    );
}

#[test]
fn an_incremental_reply_leaves_out_what_has_not_changed() {
    let mut sessions = Sessions::new(1);
    let topic = name("t");
    let wish = FetchPartition::new(PartitionIndex(0), Offset(0), 1);
    let topics = vec![crate::protocol::fetch::FetchTopic {
        topic: topic.clone(),
        partitions: vec![wish],
    }];
    let request = FetchRequest {
        session_epoch: 0,
        topics,
        ..FetchRequest::default()
    };
    let id = sessions.begin(&request, false).unwrap().session.unwrap();
    let mut told = |size, error| {
        let mut partition = sized(&[size]).remove(0).1;
        partition.error = error;
        tell(&mut sessions, id, &topic, &partition)
    };
    assert!(told(0, ErrorCode::None));
    assert!(!told(0, ErrorCode::None));
    assert!(told(10, ErrorCode::None));
    assert!(told(0, ErrorCode::KafkaStorageError));
    assert!(told(0, ErrorCode::KafkaStorageError));
    assert!(told(0, ErrorCode::None));
    assert!(!told(0, ErrorCode::None));
}

#[test]
fn neighbours_of_one_topic_are_one_topic_of_the_reply() {
    let mut fetched = sized(&[1, 1]);
    fetched.push((name("u"), fetched[0].1.clone()));
    fetched.push((name("t"), fetched[0].1.clone()));
    let counts: Vec<_> = by_topic(fetched)
        .iter()
        .map(|topic| topic.partitions.len())
        .collect();
    assert_eq!(counts, [2, 1, 1]);
}

#[test]
fn slices_of_memory_pass_through_without_a_copy() {
    let bytes = Bytes::from_static(b"batch");
    let (mut read, _) = result(5);
    read.slices = Ok(vec![Slice::Memory(bytes.clone())]);
    let mut taken = taken(Answer {
        given: Mono(0),
        reply: Reply::Read(vec![read]),
        files: Vec::new(),
    });
    let Part::Bytes(same) = taken.remove(0).1.remove(0) else {
        panic!("bytes")
    };
    assert_eq!(same.as_ptr(), bytes.as_ptr());
}
