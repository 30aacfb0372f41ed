//! Groups of both kinds, with members while they are described.

use bytes::Bytes;
use corelane::group::consumer_protocol::{Subscription, encode_assignment};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, SyncGroupRequest,
};
use uuid::Uuid;

use super::topics::{PARTITIONS, TOPIC};
use super::{Sweep, text, topic};
use crate::support::until;

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

pub fn sweep(sweep: &mut Sweep, id: Uuid) {
    coordinators(sweep);
    commits(sweep);
    fetches(sweep, false);
    fetches(sweep, true);
    for version in sweep.versions::<JoinGroupRequest>() {
        classic(sweep, version);
    }
    for version in sweep.versions::<ConsumerGroupHeartbeatRequest>() {
        consumers(sweep, version, id);
    }
    deletions(sweep);
}

fn coordinators(sweep: &mut Sweep) {
    let make = |version| match version {
        4.. => FindCoordinatorRequest::default()
            .with_coordinator_keys(vec![text("simple"), text("other")]),
        _ => FindCoordinatorRequest::default().with_key(text("simple")),
    };
    // The first one makes the topic of groups.
    until("a coordinator", || {
        let response = sweep.ask(4, &make(4));
        let mut told = response.coordinators.iter();
        told.all(|told| told.error_code == 0)
    });
    sweep.each(make, |version, response| match version {
        4.. => assert!(response.coordinators.iter().all(|told| told.port > 0)),
        _ => assert!(response.error_code == 0 && response.port > 0),
    });
    // Transactions are not served.
    let request = FindCoordinatorRequest::default().with_key(text("t"));
    let response = sweep.ask(3, &request.with_key_type(1));
    assert_ne!(response.error_code, 0);
}

fn commits(sweep: &mut Sweep) {
    let make = |version| {
        let part = |index| {
            let part = OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(5)
                .with_committed_metadata(Some(text("a note")));
            part.with_committed_leader_epoch(if version >= 6 { 0 } else { -1 })
        };
        let shelf = OffsetCommitRequestTopic::default()
            .with_name(topic(TOPIC))
            .with_partitions(vec![part(0), part(99)]);
        OffsetCommitRequest::default()
            .with_group_id(group("simple"))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![shelf])
    };
    sweep.each(make, |version, response| {
        let told = response.topics[0].partitions.iter();
        let codes: Vec<i16> = told.map(|told| told.error_code).collect();
        assert_eq!(codes, [0, 3], "{version}");
    });
}

/// Fetches what was committed: by partition, or all of it.
fn fetches(sweep: &mut Sweep, all: bool) {
    let make = |version| {
        if version < 8 {
            let shelf = OffsetFetchRequestTopic::default()
                .with_name(topic(TOPIC))
                .with_partition_indexes(vec![0, 99]);
            // Null, for all, is there from version 2 on.
            let topics = (!all || version < 2).then_some(vec![shelf]);
            return OffsetFetchRequest::default()
                .with_group_id(group("simple"))
                .with_topics(topics);
        }
        let shelf = OffsetFetchRequestTopics::default()
            .with_name(topic(TOPIC))
            .with_partition_indexes(vec![0, 99]);
        let simple = OffsetFetchRequestGroup::default()
            .with_group_id(group("simple"))
            .with_member_epoch(-1)
            .with_topics((!all).then_some(vec![shelf]));
        let nobody = simple.clone().with_group_id(group("nobody"));
        OffsetFetchRequest::default()
            .with_groups(vec![simple, nobody])
            .with_require_stable(true)
    };
    sweep.each(make, |version, response| {
        let (offset, note) = match version {
            8.. => {
                let told = &response.groups[0].topics[0].partitions[0];
                (told.committed_offset, told.metadata.clone())
            }
            _ => {
                let told = &response.topics[0].partitions[0];
                (told.committed_offset, told.metadata.clone())
            }
        };
        assert_eq!((offset, note), (5, Some(text("a note"))), "{version}");
    });
}

fn join(version: i16, member: &str) -> JoinGroupRequest {
    let subscription = Subscription {
        topics: [TOPIC.to_owned()].into(),
        ..Subscription::default()
    };
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(subscription.encode());
    JoinGroupRequest::default()
        .with_group_id(group("classic"))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(if version >= 1 { 30_000 } else { -1 })
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
        .with_reason((version >= 8).then(|| text("a sweep")))
}

fn assignment() -> Bytes {
    encode_assignment(1, &[(TOPIC.to_owned(), [0, 1, 2].into())].into())
}

/// A member joins, syncs, beats and leaves: the other three requests in the version of JoinGroup,
/// or in their last.
fn classic(sweep: &mut Sweep, version: i16) {
    let mut joined = sweep.ask(version, &join(version, ""));
    if version >= 4 {
        assert_eq!(joined.error_code, 79, "an id first");
        let id = joined.member_id.to_string();
        joined = sweep.ask(version, &join(version, &id));
    }
    assert_eq!(
        (joined.error_code, joined.members.len()),
        (0, 1),
        "{version}"
    );
    let member = joined.member_id.clone();
    let own = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(assignment());
    let sync_version = version.min(5);
    let sync = SyncGroupRequest::default()
        .with_group_id(group("classic"))
        .with_generation_id(joined.generation_id)
        .with_member_id(member.clone())
        .with_protocol_type((sync_version >= 5).then(|| text("consumer")))
        .with_protocol_name((sync_version >= 5).then(|| text("range")))
        .with_assignments(vec![own]);
    let synced = sweep.ask(sync_version, &sync);
    assert_eq!((synced.error_code, synced.assignment), (0, assignment()));
    let beat = HeartbeatRequest::default()
        .with_group_id(group("classic"))
        .with_generation_id(joined.generation_id)
        .with_member_id(member.clone());
    assert_eq!(sweep.ask(version.min(4), &beat).error_code, 0);
    if version == 9 {
        describe(sweep, &member);
        list(sweep);
    }
    let leave_version = version.min(5);
    let leave = LeaveGroupRequest::default().with_group_id(group("classic"));
    let leave = match leave_version {
        3.. => {
            let reason = (leave_version >= 5).then(|| text("the end"));
            let identity = MemberIdentity::default().with_reason(reason);
            let stranger = identity.clone().with_member_id(text("stranger"));
            leave.with_members(vec![identity.with_member_id(member), stranger])
        }
        _ => leave.with_member_id(member),
    };
    let left = sweep.ask(leave_version, &leave);
    assert_eq!(left.error_code, 0);
    let codes: Vec<i16> = left.members.iter().map(|told| told.error_code).collect();
    assert_eq!(codes, [0, 25][..if leave_version >= 3 { 2 } else { 0 }]);
}

fn describe(sweep: &mut Sweep, member: &str) {
    let make = |version| {
        let groups = vec![group("classic"), group("nobody")];
        DescribeGroupsRequest::default()
            .with_groups(groups)
            .with_include_authorized_operations(version >= 3)
    };
    sweep.each(make, |version, response| {
        let told = &response.groups[0];
        assert_eq!((told.error_code, &*told.group_state), (0, "Stable"));
        assert_eq!(&*told.members[0].member_id, member);
        assert!(!told.members[0].member_metadata.is_empty());
        assert_eq!(told.authorized_operations > 0, version >= 3);
        assert_eq!(&*response.groups[1].group_state, "Dead");
    });
}

fn list(sweep: &mut Sweep) {
    let make = |version| {
        let mut request = ListGroupsRequest::default();
        if version >= 4 {
            request.states_filter = vec![text("stable"), text("empty")];
        }
        if version >= 5 {
            request.types_filter = vec![text("classic")];
        }
        request
    };
    sweep.each(make, |version, response| {
        let listed = response.groups.iter();
        let names: Vec<&str> = listed.map(|group| group.group_id.as_str()).collect();
        assert_eq!(
            (response.error_code, names.len()),
            (0, 2),
            "{version}: {names:?}"
        );
    });
}

/// A static member of a consumer group joins, is described, is refused once, and leaves.
fn consumers(sweep: &mut Sweep, version: i16, id: Uuid) {
    let name = format!("consumers-{version}");
    let (member, topics, regex) = match version {
        0 => ("", vec![topic(TOPIC)], None),
        _ => ("0123456789abcdef", Vec::new(), Some(text("she.*"))),
    };
    let beat = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(&name))
        .with_member_id(text(member))
        .with_member_epoch(0)
        .with_instance_id(Some(text("instance")))
        .with_rack_id(Some(text("rack")))
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(topics))
        .with_subscribed_topic_regex(regex)
        .with_server_assignor(Some(text("uniform")))
        .with_topic_partitions(Some(Vec::new()));
    let joined = sweep.ask(version, &beat);
    assert_eq!(joined.error_code, 0, "{:?}", joined.error_message);
    let given = joined.assignment.expect("an assignment").topic_partitions;
    assert_eq!(
        (given[0].topic_id, given[0].partitions.len()),
        (id, PARTITIONS)
    );
    let make = |_| {
        ConsumerGroupDescribeRequest::default()
            .with_group_ids(vec![group(&name), group("nobody")])
            .with_include_authorized_operations(true)
    };
    sweep.each(make, |_, response| {
        let member = &response.groups[0].members[0];
        let target = &member.target_assignment.topic_partitions[0];
        assert_eq!(target.partitions.len(), PARTITIONS);
        assert_eq!(response.groups[1].error_code, 69);
    });
    let refused = beat.with_group_id(group(""));
    assert_eq!(sweep.ask(version, &refused).error_code, 42);
    let leave = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(&name))
        .with_member_id(joined.member_id.expect("an id"))
        .with_member_epoch(-1);
    assert_eq!(sweep.ask(version, &leave).error_code, 0);
}

fn deletions(sweep: &mut Sweep) {
    let part = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
    let shelf = OffsetDeleteRequestTopic::default()
        .with_name(topic(TOPIC))
        .with_partitions(vec![part(0), part(1)]);
    let request = OffsetDeleteRequest::default()
        .with_group_id(group("simple"))
        .with_topics(vec![shelf]);
    let response = sweep.ask(0, &request);
    assert_eq!((response.error_code, response.topics.len()), (0, 1));
    let nobody = request.with_group_id(group("nobody"));
    assert_eq!(sweep.ask(0, &nobody).error_code, 69);
    let groups = ["simple", "consumers-0", "consumers-1"];
    let make = |version| {
        let names = vec![group(groups[version as usize]), group("nobody")];
        DeleteGroupsRequest::default().with_groups_names(names)
    };
    sweep.each(make, |version, response| {
        let told = response.results.iter();
        let codes: Vec<i16> = told.map(|told| told.error_code).collect();
        assert_eq!(codes, [0, 69], "{version}");
    });
}
