//! Group coordinators: when answers leave, what is back after a crash, what a failed disk means.

use crate::base::{Offset, TopicPartition};
use crate::cluster::ControlRequest;
use crate::cluster::controller::TopicKey;
use crate::group::{self, Body, Reply as Answer};
use crate::protocol::ErrorCode;
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::protocol::messages::{JoinGroupRequest, OffsetCommitRequest, StrBytes, TopicName};
use crate::shard::{Event, Reply, Request};

use super::{World, partition};

const OFFSETS: &str = "__consumer_offsets";

/// A world with `__consumer_offsets` of one partition and a topic of 400.
fn world() -> (World, TopicPartition) {
    let mut world = World::new();
    world.create("t", 400);
    let offsets = world.create(OFFSETS, 1);
    (world, partition(offsets, 0))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

impl World {
    fn group(&mut self, home: TopicPartition, body: Body) -> u64 {
        let request = group::Request {
            token: 0,
            version: 8,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            body,
        };
        let request = Box::new(request);
        let partition = home;
        self.ask(Request::Group { partition, request })
    }

    fn fetch(&mut self, home: TopicPartition, group: &str) -> u64 {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(text(group).into())
            .with_member_id(None)
            .with_member_epoch(-1)
            .with_topics(None);
        self.group(home, Body::OffsetFetch(group))
    }

    /// Asks for a group's offsets and waits: partition and offset.
    fn offsets(&mut self, home: TopicPartition, group: &str) -> Vec<(i32, i64)> {
        let number = self.fetch(home, group);
        self.settle();
        match self.answer(number) {
            Some(Ok(Answer::OffsetFetch(fetched))) => {
                let partitions = fetched.topics.iter().flat_map(|topic| &topic.partitions);
                partitions
                    .map(|partition| (partition.partition_index, partition.committed_offset))
                    .collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, number: u64) -> Option<Result<Answer, ErrorCode>> {
        match self.replies.remove(&number)? {
            Reply::Group(answer) => Some(answer.map(|answer| *answer)),
            other => panic!("{other:?}"),
        }
    }
}

/// A commit of `offset` for some partitions of `t`, by nobody in particular.
fn commit(group: &str, partitions: std::ops::Range<i32>, offset: i64, metadata: &str) -> Body {
    let partitions = partitions.map(|index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text(metadata)))
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    Body::OffsetCommit(request)
}

fn join(group: &str) -> Body {
    join_as(group, "instance")
}

fn join_as(group: &str, instance: &str) -> Body {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    // A static member gets its id in the first round.
    let request = JoinGroupRequest::default()
        .with_group_id(text(group).into())
        .with_group_instance_id(Some(text(instance)))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    Body::JoinGroup(request)
}

#[test]
fn a_commit_is_answered_when_its_write_is_done() {
    let (mut world, home) = world();
    let number = world.group(home, commit("g", 0..1, 5, ""));
    world.turn();
    assert!(world.answer(number).is_none());
    world.settle();
    match world.answer(number) {
        Some(Ok(Answer::OffsetCommit(response))) => {
            assert_eq!(response.topics[0].partitions[0].error_code, 0);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.offsets(home, "g"), [(0, 5)]);
}

#[test]
fn commits_of_one_turn_are_one_batch() {
    let (mut world, home) = world();
    for offset in 0..10 {
        world.group(home, commit("g", 0..1, offset, ""));
    }
    world.settle();
    let log = world.core.partition(home).unwrap();
    assert_eq!(log.high_watermark(), Offset(10));
    let before = log.size_bytes();
    // One header for all: ten more records alone take more.
    for offset in 0..10 {
        world.group(home, commit("g", 0..1, offset, ""));
        world.settle();
    }
    let after = world.core.partition(home).unwrap().size_bytes();
    assert!(after - before > before + 9 * 50, "{before} {after}");
}

#[test]
fn an_answer_that_writes_nothing_waits_for_what_it_may_tell_of() {
    let (mut world, home) = world();
    let written = world.group(home, commit("g", 0..1, 5, ""));
    world.turn();
    let told = world.fetch(home, "g");
    world.turn();
    assert!(world.answer(told).is_none());
    world.settle();
    assert!(world.answer(written).is_some() && world.answer(told).is_some());
    // With nothing on its way, it is answered at once.
    let told = world.fetch(home, "g");
    assert!(world.answer(told).is_some());
}

#[test]
fn what_was_committed_is_back_after_a_crash() {
    let (mut world, home) = world();
    for offset in 1..=3000 {
        let index = (offset % 7) as i32;
        world.group(home, commit("g", index..index + 1, offset, "some text"));
        if offset % 100 == 0 {
            world.settle();
        }
    }
    world.settle();
    let before = world.offsets(home, "g");
    let mut world = world.restart();
    world.settle();
    assert_eq!(before.len(), 7);
    assert_eq!(world.offsets(home, "g"), before);
}

#[test]
fn until_its_log_is_read_a_coordinator_says_that_it_loads() {
    let (mut world, home) = world();
    world.group(home, commit("g", 0..1, 5, ""));
    world.settle();
    let mut world = world.restart();
    let mut errors = Vec::new();
    while world.disk_step() {
        let number = world.fetch(home, "g");
        if let Some(Err(error)) = world.answer(number) {
            errors.push(error);
        }
    }
    world.settle();
    errors.dedup();
    assert_eq!(
        errors,
        [
            ErrorCode::NotCoordinator,
            ErrorCode::CoordinatorLoadInProgress
        ]
    );
    assert_eq!(world.offsets(home, "g"), [(0, 5)]);
}

#[test]
fn a_parked_join_is_answered_when_its_time_comes() {
    let (mut world, home) = world();
    let number = world.group(home, join("g"));
    world.settle();
    assert!(world.answer(number).is_none());
    world.pass_ms(3_000);
    match world.answer(number) {
        Some(Ok(Answer::JoinGroup(response))) => {
            assert_eq!((response.error_code, response.generation_id), (0, 1));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_disk_refuses_those_who_wait_and_those_who_come() {
    let (mut world, home) = world();
    world.group(home, commit("g", 0..1, 5, ""));
    world.settle();
    let parked = world.group(home, join("other"));
    world.settle();
    world.disk.broken = Some(OFFSETS);
    let written = world.group(home, commit("g", 0..1, 6, ""));
    world.settle();
    assert_eq!(world.answer(written), Some(Err(ErrorCode::NotCoordinator)));
    match world.answer(parked) {
        Some(Ok(Answer::JoinGroup(response))) => assert_eq!(response.error_code, 16),
        other => panic!("{other:?}"),
    }
    let late = world.fetch(home, "g");
    assert_eq!(world.answer(late), Some(Err(ErrorCode::NotCoordinator)));
}

#[test]
fn what_is_too_large_to_be_written_is_refused_and_forgotten() {
    let (mut world, home) = world();
    world.group(home, commit("g", 0..1, 5, ""));
    world.settle();
    let large = world.group(home, commit("g", 0..400, 6, &"x".repeat(4096)));
    world.settle();
    assert_eq!(
        world.answer(large),
        Some(Err(ErrorCode::UnknownServerError))
    );
    assert_eq!(world.offsets(home, "g"), [(0, 5)]);
}

#[test]
fn many_large_decisions_of_one_turn_are_several_batches() {
    let (mut world, home) = world();
    let metadata = "x".repeat(4000);
    let numbers: Vec<u64> = (0..4)
        .map(|group| world.group(home, commit(&format!("g{group}"), 0..150, 6, &metadata)))
        .collect();
    world.settle();
    for number in numbers {
        assert!(matches!(world.answer(number), Some(Ok(_))));
    }
    assert_eq!(world.offsets(home, "g3").len(), 150);
}

#[test]
fn offsets_of_a_deleted_topic_are_deleted() {
    let (mut world, home) = world();
    world.group(home, commit("g", 0..2, 5, ""));
    world.settle();
    let name = TopicKey::Name("t".to_owned());
    world.ask(Request::Control(ControlRequest::DeleteTopics(vec![name])));
    world.settle();
    assert_eq!(world.offsets(home, "g"), []);
    let mut world = world.restart();
    world.settle();
    assert_eq!(world.offsets(home, "g"), []);
}

#[test]
fn a_partition_that_is_not_there_cannot_be_committed() {
    let (mut world, home) = world();
    let number = world.group(home, commit("g", 399..401, 5, ""));
    world.settle();
    match world.answer(number) {
        Some(Ok(Answer::OffsetCommit(response))) => {
            let partitions = response.topics[0].partitions.iter();
            let errors: Vec<_> = partitions.map(|partition| partition.error_code).collect();
            assert_eq!(errors, [0, 3]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_core_that_stops_sends_everybody_away() {
    let (mut world, home) = world();
    let parked = world.group(home, join("g"));
    world.settle();
    world.step(Event::Stop);
    match world.answer(parked) {
        Some(Ok(Answer::JoinGroup(response))) => assert_eq!(response.error_code, 16),
        other => panic!("{other:?}"),
    }
    let late = world.fetch(home, "g");
    assert_eq!(world.answer(late), Some(Err(ErrorCode::NotCoordinator)));
    world.settle();
    assert!(world.stopped);
}

#[test]
fn a_deleted_offsets_topic_takes_its_coordinators_along() {
    let (mut world, home) = world();
    let parked = world.group(home, join("g"));
    world.settle();
    let key = TopicKey::Id(home.topic);
    world.ask(Request::Control(ControlRequest::DeleteTopics(vec![key])));
    world.settle();
    assert!(world.answer(parked).is_some());
    let late = world.fetch(home, "g");
    assert_eq!(world.answer(late), Some(Err(ErrorCode::NotCoordinator)));
}

/// A rebalance of 500 held up what else came to the core for as long as 500 frames and sockets take.
#[test]
fn a_turn_hands_out_only_so_many_answers_and_the_next_ones_the_rest() {
    const MEMBERS: usize = 100;
    let (mut world, home) = world();
    let instances = (0..MEMBERS).map(|number| format!("instance-{number}"));
    let asked: Vec<u64> = instances
        .map(|instance| world.group(home, join_as("g", &instance)))
        .collect();
    world.settle();
    assert!(world.replies.is_empty(), "the first rebalance waits");
    while world.replies.is_empty() {
        world.now.mono = world.now.mono.after_ms(1_000);
        world.turn();
    }
    let (mut turns, mut given) = (1, world.replies.len());
    while world.replies.len() < MEMBERS {
        assert!((1..=64).contains(&given), "{given} in turn {turns}");
        let before = world.replies.len();
        world.turn();
        given = world.replies.len() - before;
        turns += 1;
    }
    assert!(turns > 2, "{turns}");
    for number in asked {
        match world.answer(number) {
            Some(Ok(Answer::JoinGroup(joined))) => assert_eq!(joined.error_code, 0),
            other => panic!("{other:?}"),
        }
    }
}
