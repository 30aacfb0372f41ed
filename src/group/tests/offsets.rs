//! Rows 114 to 116, 119, 120, 127: offsets, their end, and groups as seen from outside.

use super::*;
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::{ListGroupsRequest, OffsetDeleteRequest};

const MINUTES: u64 = 60_000;
const RETENTION: u64 = 10_080 * MINUTES;

#[test]
fn row_114_who_may_commit_when() {
    let mut bench = Bench::new();
    let (a, b, generation) = bench.stable_two();
    assert_eq!(bench.commit(8, &a, generation, 1), ErrorCode::None);
    assert_eq!(
        bench.commit(8, &a, generation + 1, 1),
        ErrorCode::IllegalGeneration
    );
    assert_eq!(
        bench.commit(8, "nobody", generation, 1),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(
        bench.commit(8, "", -1, 1),
        ErrorCode::UnknownMemberId,
        "a tool, in a live group"
    );
    let first = bench.join(Join {
        member: &a,
        ..Join::default()
    });
    assert_eq!(
        bench.commit(8, &b, generation, 2),
        ErrorCode::None,
        "a last commit before rejoining"
    );
    bench.join(Join {
        member: &b,
        ..Join::default()
    });
    assert_eq!(bench.joined(first).generation_id, generation + 1);
    let soon = bench.commit(8, &b, generation + 1, 3);
    assert_eq!(soon, ErrorCode::RebalanceInProgress);
}

#[test]
fn row_114_a_consumer_without_a_group_commits_with_generation_minus_one() {
    let mut bench = Bench::new();
    assert_eq!(bench.commit(8, "", -1, 9), ErrorCode::None);
    assert_eq!(bench.commit(8, "m", 3, 9), ErrorCode::UnknownMemberId);
    assert_eq!(bench.state(), "Empty");
    let mut other = Bench::new();
    assert_eq!(
        other.commit(8, "m", 3, 9),
        ErrorCode::IllegalGeneration,
        "no such group"
    );
    assert_eq!(other.commit(9, "m", 3, 9), ErrorCode::GroupIdNotFound);
    assert_eq!(
        other.commit_of("none", 8, "", -1, 1, ""),
        ErrorCode::UnknownTopicOrPartition
    );
}

#[test]
fn row_115_metadata_and_leader_epoch_come_back_and_long_metadata_is_refused() {
    let mut bench = Bench::new();
    let note = "ü".repeat(4_096);
    assert_eq!(bench.commit_of("t", 8, "", -1, 11, &note), ErrorCode::None);
    let long = format!("{note}x");
    let refused = bench.commit_of("t", 8, "", -1, 12, &long);
    assert_eq!(refused, ErrorCode::OffsetMetadataTooLarge);
    bench.restart();
    let fetched = bench.fetch(Some(&[("t", 0)]));
    let partition = &fetched.topics[0].partitions[0];
    assert_eq!(
        (partition.committed_offset, partition.committed_leader_epoch),
        (11, 7)
    );
    assert_eq!(partition.metadata, Some(text(&note)));
}

#[test]
fn row_116_no_topics_means_all_and_an_unknown_offset_is_no_error() {
    let mut bench = Bench::new();
    bench.commit(8, "", -1, 5);
    bench.commit_of("u", 8, "", -1, 6, "");
    let all = bench.fetch(None);
    let names: Vec<_> = all
        .topics
        .iter()
        .map(|topic| topic.name.to_string())
        .collect();
    assert_eq!(names, ["t", "u"]);
    let unknown = bench.fetch(Some(&[("t", 3)]));
    let partition = &unknown.topics[0].partitions[0];
    assert_eq!(
        (partition.committed_offset, partition.committed_leader_epoch),
        (-1, -1)
    );
    assert_eq!(
        (partition.metadata.clone(), partition.error_code),
        (Some(text("")), 0)
    );
    assert_eq!(
        Bench::new().fetch(None).error_code,
        0,
        "a group that is not there"
    );
}

#[test]
fn members_of_the_new_protocol_commit_and_fetch_with_their_epoch() {
    let mut bench = Bench::new();
    bench.consumer(Beat::first("a", &["t"]));
    assert_eq!(bench.commit(9, "a", 1, 5), ErrorCode::None);
    assert_eq!(bench.commit(9, "a", 0, 5), ErrorCode::StaleMemberEpoch);
    assert_eq!(bench.commit(9, "b", 1, 5), ErrorCode::UnknownMemberId);
    assert_eq!(bench.commit(8, "a", 1, 5), ErrorCode::UnsupportedVersion);
    assert_eq!(bench.fetch_as(Some("a"), 1, None).topics.len(), 1);
    assert_eq!(
        code(bench.fetch_as(Some("a"), 3, None).error_code),
        ErrorCode::StaleMemberEpoch
    );
    assert_eq!(
        code(bench.fetch_as(Some("b"), 1, None).error_code),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(bench.fetch(None).topics.len(), 1, "a tool names no member");
}

#[test]
fn row_119_retention_counts_from_when_the_group_became_empty() {
    let mut bench = Bench::new();
    let id = bench.stable_one();
    bench.commit(8, &id, 1, 5);
    for _ in 0..3 {
        // Three times the retention, alive.
        bench
            .coordinator
            .timers
            .cancel(&Timer::Session(GROUP.to_owned(), id.clone()));
        bench.pass_ms(RETENTION);
        assert_eq!(bench.beat(&id, 1), ErrorCode::None);
    }
    assert_eq!(
        bench.fetch(None).topics.len(),
        1,
        "a live group's offsets never expire"
    );
    bench.leave(&[(&id, None)]);
    bench.pass_ms(RETENTION - 11 * MINUTES);
    bench.restart();
    bench.pass_ms(10 * MINUTES);
    assert_eq!(bench.fetch(None).topics.len(), 1);
    bench.pass_ms(20 * MINUTES);
    assert_eq!(bench.fetch(None).topics.len(), 0);
    assert!(
        bench.coordinator.groups().is_empty(),
        "and the group with them"
    );
    bench.restart();
    assert!(bench.coordinator.groups().is_empty());
}

#[test]
fn row_119_without_a_group_retention_counts_from_the_commit() {
    let mut bench = Bench::new();
    bench.commit(8, "", -1, 5);
    bench.pass_ms(RETENTION / 2);
    bench.commit_of("u", 8, "", -1, 6, "");
    bench.pass_ms(RETENTION / 2 + 11 * MINUTES);
    let left = bench.fetch(None);
    assert_eq!(
        (left.topics.len(), left.topics[0].name.to_string()),
        (1, "u".to_owned())
    );
}

#[test]
fn row_119_what_a_live_consumer_group_no_longer_subscribes_to_expires() {
    let mut bench = Bench::new();
    bench.consumer(Beat::first("a", &["t"]));
    bench.commit(9, "a", 1, 5);
    bench.commit_of("u", 9, "a", 1, 5, "");
    bench
        .coordinator
        .timers
        .cancel(&Timer::Session(GROUP.to_owned(), "a".to_owned()));
    bench.pass_ms(RETENTION + 11 * MINUTES);
    let left = bench.fetch(None);
    assert_eq!(
        (left.topics.len(), left.topics[0].name.to_string()),
        (1, "t".to_owned())
    );
}

#[test]
fn offsets_of_deleted_topics_go() {
    let mut bench = Bench::new();
    bench.commit(8, "", -1, 5);
    bench.commit_of("u", 8, "", -1, 6, "");
    bench.topics.remove("t");
    let gone = ["t".to_owned()];
    let decision = bench
        .coordinator
        .topics_deleted(bench.now, &bench.topics, &gone);
    bench.absorb(decision);
    bench.restart();
    assert_eq!(bench.fetch(None).topics.len(), 1);
}

fn describe(bench: &mut Bench, version: i16, id: &str) -> (i16, String) {
    match bench.ask(version, Body::DescribeGroup(id.to_owned())) {
        Reply::DescribeGroup(told) => (told.error_code, told.group_state.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn row_120_an_unknown_group_is_dead_and_from_version_6_on_an_error() {
    let mut bench = Bench::new();
    assert_eq!(describe(&mut bench, 5, "none"), (0, "Dead".to_owned()));
    let not_found = ErrorCode::GroupIdNotFound.code();
    assert_eq!(
        describe(&mut bench, 6, "none"),
        (not_found, "Dead".to_owned())
    );
    bench.consumer(Beat::first("a", &["t"]));
    assert_eq!(
        describe(&mut bench, 6, GROUP),
        (not_found, "Dead".to_owned())
    );
}

#[test]
fn row_120_a_stable_group_is_described_with_metadata_and_assignments() {
    let mut bench = Bench::new();
    bench.stable_two();
    let reply = bench.ask(5, Body::DescribeGroup(GROUP.to_owned()));
    let Reply::DescribeGroup(told) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(
        (told.group_state, told.protocol_data),
        (text("Stable"), text("range"))
    );
    assert_eq!(told.members.len(), 2);
    assert!(
        told.members
            .iter()
            .all(|member| member.member_metadata == subscription(&["t"]))
    );
    assert!(
        told.members
            .iter()
            .all(|member| member.member_assignment.len() == 1)
    );
    assert_eq!(told.members[0].client_host, text("/127.0.0.1"));
}

fn delete_group(bench: &mut Bench, id: &str) -> ErrorCode {
    match bench.ask(2, Body::DeleteGroup(id.to_owned())) {
        Reply::DeleteGroup(result) => code(result.error_code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn row_120_only_a_group_without_members_is_deleted_and_its_offsets_with_it() {
    let mut bench = Bench::new();
    let id = bench.stable_one();
    bench.commit(8, &id, 1, 5);
    assert_eq!(delete_group(&mut bench, GROUP), ErrorCode::NonEmptyGroup);
    bench.leave(&[(&id, None)]);
    assert_eq!(delete_group(&mut bench, GROUP), ErrorCode::None);
    assert_eq!(delete_group(&mut bench, GROUP), ErrorCode::GroupIdNotFound);
    bench.restart();
    assert!(bench.coordinator.groups().is_empty());
    assert!(bench.coordinator.offsets().iter().next().is_none());
}

#[test]
fn row_120_offsets_of_topics_that_somebody_subscribes_to_are_not_deleted() {
    let mut bench = Bench::new();
    let id = bench.stable_one();
    bench.commit(8, &id, 1, 5);
    bench.commit_of("u", 8, &id, 1, 5, "");
    let topic = |name: &str| {
        OffsetDeleteRequestTopic::default()
            .with_name(text(name).into())
            .with_partitions(vec![OffsetDeleteRequestPartition::default()])
    };
    let body = |group: &str| {
        OffsetDeleteRequest::default()
            .with_group_id(text(group).into())
            .with_topics(vec![topic("t"), topic("u"), topic("none")])
    };
    let reply = bench.ask(0, Body::OffsetDelete(body(GROUP)));
    let Reply::OffsetDelete(response) = reply else {
        panic!("{reply:?}")
    };
    let errors: Vec<ErrorCode> = response
        .topics
        .iter()
        .map(|topic| code(topic.partitions[0].error_code))
        .collect();
    let unknown = ErrorCode::UnknownTopicOrPartition;
    assert_eq!(
        errors,
        [ErrorCode::GroupSubscribedToTopic, ErrorCode::None, unknown]
    );
    assert_eq!(bench.fetch(None).topics.len(), 1);
    let reply = bench.ask(0, Body::OffsetDelete(body("none")));
    let Reply::OffsetDelete(response) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(code(response.error_code), ErrorCode::GroupIdNotFound);
}

#[test]
fn row_127_groups_of_both_kinds_are_listed_by_state_and_type() {
    let mut bench = Bench::new();
    bench.consumer(Beat::first("a", &["t"]));
    let token = bench.join(Join {
        version: 3,
        group: "classic",
        ..Join::default()
    });
    let mut list = |states: &[&str], types: &[&str]| -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| text(word)).collect();
        let body = ListGroupsRequest::default()
            .with_states_filter(words(states))
            .with_types_filter(words(types));
        match bench.ask(5, Body::ListGroups(body)) {
            Reply::ListGroups(groups) => groups.iter().map(|g| g.group_id.to_string()).collect(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[], &[]), ["classic", GROUP]);
    assert_eq!(list(&["stable"], &[]), [GROUP]);
    assert_eq!(list(&["PreparingRebalance", "Dead"], &[]), ["classic"]);
    assert_eq!(list(&[], &["CONSUMER"]), [GROUP]);
    assert_eq!(list(&[], &["share"]), [""; 0]);
    assert!(!bench.replies.contains_key(&token));
}
