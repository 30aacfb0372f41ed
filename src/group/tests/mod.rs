//! Behaviour through `handle` and `tick`, in virtual time: rows 103 to 127 of the list of Kafka's
//! behaviours, each a test or more.

mod classic;
mod consumer;
mod migration;
mod offsets;
mod records;
mod scale;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::consumer_protocol::{Subscription, decode_assignment};
use super::*;
use crate::base::{TopicId, Wall};
use crate::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use crate::protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use crate::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    OffsetCommitRequest, StrBytes, SyncGroupRequest, SyncGroupResponse, Uuid,
};

const GROUP: &str = "g";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A coordinator, its log, virtual time, and everything that was answered.
struct Bench {
    coordinator: Coordinator,
    settings: Settings,
    now: Now,
    topics: TopicView,
    tokens: Token,
    replies: BTreeMap<Token, Reply>,
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(Settings::default())
    }

    fn with(settings: Settings) -> Bench {
        let mut bench = Bench {
            coordinator: Coordinator::new(settings.clone(), 1),
            settings,
            now: Now {
                mono: Mono(1),
                wall: Wall(1_700_000_000_000),
            },
            topics: TopicView::new(1),
            tokens: 0,
            replies: BTreeMap::new(),
            log: Vec::new(),
        };
        for (number, name, partitions) in [(1, "t", 4), (2, "u", 2)] {
            bench.topic(number, name, partitions);
        }
        bench.restart();
        bench
    }

    /// Without waiting for the first members of a group.
    fn eager() -> Bench {
        Bench::with(Settings {
            initial_rebalance_delay_ms: 0,
            ..Settings::default()
        })
    }

    fn topic(&mut self, number: u8, name: &str, partitions: i32) {
        let topic = Topic {
            id: TopicId([number; 16]),
            partitions,
            racks: BTreeMap::new(),
        };
        self.topics.insert(name, topic);
        self.topics.version += 1;
    }

    /// Crash and load from the log.
    fn restart(&mut self) {
        self.coordinator = Coordinator::new(self.settings.clone(), self.now.mono.0);
        for (key, value) in &self.log {
            let value = value.as_deref();
            self.coordinator
                .replay(key, value, Offset(0))
                .expect("a record of our own");
        }
        let decision = self.coordinator.loaded(self.now);
        self.absorb(decision);
    }

    fn absorb(&mut self, decision: Decision) {
        self.log.extend(decision.records);
        for (token, reply) in decision.replies {
            assert_eq!(
                self.replies.insert(token, reply),
                None,
                "{token} was answered twice"
            );
        }
    }

    fn send(&mut self, version: i16, body: Body) -> Token {
        self.tokens += 1;
        let request = Request {
            token: self.tokens,
            version,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            body,
        };
        let decision = self.coordinator.handle(self.now, &request, &self.topics);
        self.absorb(decision);
        self.tokens
    }

    fn ask(&mut self, version: i16, body: Body) -> Reply {
        let token = self.send(version, body);
        self.replies.remove(&token).expect("an answer at once")
    }

    /// Lets time pass, doing what is due when it is due.
    fn pass_ms(&mut self, millis: u64) {
        let end = self.now.mono.after_ms(millis as i64);
        while let Some(due) = self.coordinator.next_deadline().filter(|due| *due <= end) {
            self.set_time(due.max(self.now.mono));
            let decision = self.coordinator.tick(self.now, &self.topics);
            self.absorb(decision);
        }
        self.set_time(end);
    }

    fn set_time(&mut self, mono: Mono) {
        let passed = (mono.0 - self.now.mono.0) / 1_000_000;
        self.now = Now {
            mono,
            wall: Wall(self.now.wall.0 + passed as i64),
        };
    }

    fn group(&self) -> &Group {
        &self.coordinator.groups()[GROUP]
    }

    fn state(&self) -> &'static str {
        self.group().state_name()
    }

    // The classic protocol.

    fn join(&mut self, join: Join<'_>) -> Token {
        self.send(join.version, Body::JoinGroup(join.body()))
    }

    fn joined(&mut self, token: Token) -> JoinGroupResponse {
        match self.replies.remove(&token) {
            Some(Reply::JoinGroup(response)) => response,
            other => panic!("no join's answer: {other:?}"),
        }
    }

    /// A new dynamic member with its id, whose join is parked or answered.
    fn join_with_id(&mut self, join: Join<'_>) -> (String, Token) {
        let token = self.join(join.clone());
        let told = self.joined(token);
        assert_eq!(told.error_code, ErrorCode::MemberIdRequired.code());
        let id = told.member_id.to_string();
        let token = self.join(Join {
            member: &id,
            ..join
        });
        (id, token)
    }

    fn sync(&mut self, member: &str, generation: i32, given: &[(&str, &[u8])]) -> Token {
        let given = given.iter().map(|(member, bytes)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::copy_from_slice(bytes))
        });
        let body = SyncGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(member))
            .with_generation_id(generation)
            .with_assignments(given.collect());
        self.send(5, Body::SyncGroup(body))
    }

    fn synced(&mut self, token: Token) -> SyncGroupResponse {
        match self.replies.remove(&token) {
            Some(Reply::SyncGroup(response)) => response,
            other => panic!("no sync's answer: {other:?}"),
        }
    }

    fn beat(&mut self, member: &str, generation: i32) -> ErrorCode {
        let body = HeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(member))
            .with_generation_id(generation);
        match self.ask(4, Body::Heartbeat(body)) {
            Reply::Heartbeat(response) => code(response.error_code),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, members: &[(&str, Option<&str>)]) -> LeaveGroupResponse {
        use crate::protocol::messages::leave_group_request::MemberIdentity;
        let members = members.iter().map(|(member, instance)| {
            MemberIdentity::default()
                .with_member_id(text(member))
                .with_group_instance_id(instance.map(text))
        });
        let body = LeaveGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_members(members.collect());
        match self.ask(5, Body::LeaveGroup(body)) {
            Reply::LeaveGroup(response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// A stable classic group of one.
    fn stable_one(&mut self) -> String {
        let (id, token) = self.join_with_id(Join::default());
        self.pass_ms(3_000);
        assert_eq!(self.joined(token).generation_id, 1);
        let token = self.sync(&id, 1, &[(&id, b"all")]);
        assert_eq!(&self.synced(token).assignment[..], b"all");
        id
    }

    /// A stable classic group of two: leader, follower, generation.
    fn stable_two(&mut self) -> (String, String, i32) {
        let (a, first) = self.join_with_id(Join::default());
        let (b, second) = self.join_with_id(Join::default());
        self.pass_ms(10_000);
        let leader = self.joined(first);
        assert_eq!(leader.leader, leader.member_id);
        self.joined(second);
        let generation = leader.generation_id;
        let follower = self.sync(&b, generation, &[]);
        let leading = self.sync(&a, generation, &[(&a, b"A"), (&b, b"B")]);
        assert_eq!(&self.synced(leading).assignment[..], b"A");
        assert_eq!(&self.synced(follower).assignment[..], b"B");
        assert_eq!(self.state(), "Stable");
        (a, b, generation)
    }

    // Offsets.

    fn commit(&mut self, version: i16, member: &str, epoch: i32, offset: i64) -> ErrorCode {
        self.commit_of("t", version, member, epoch, offset, "note")
    }

    fn commit_of(
        &mut self,
        topic: &str,
        version: i16,
        member: &str,
        epoch: i32,
        offset: i64,
        note: &str,
    ) -> ErrorCode {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(7)
            .with_committed_metadata(Some(text(note)));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(text(topic).into())
            .with_partitions(vec![partition]);
        let body = OffsetCommitRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch)
            .with_retention_time_ms(-1)
            .with_topics(vec![topic]);
        match self.ask(version, Body::OffsetCommit(body)) {
            Reply::OffsetCommit(response) => code(response.topics[0].partitions[0].error_code),
            other => panic!("{other:?}"),
        }
    }

    fn fetch(&mut self, topics: Option<&[(&str, i32)]>) -> OffsetFetchResponseGroup {
        let topics = topics.map(|topics| {
            let each = topics.iter().map(|(name, partition)| {
                OffsetFetchRequestTopics::default()
                    .with_name(text(name).into())
                    .with_partition_indexes(vec![*partition])
            });
            each.collect()
        });
        self.fetch_as(None, -1, topics)
    }

    fn fetch_as(
        &mut self,
        member: Option<&str>,
        epoch: i32,
        topics: Option<Vec<OffsetFetchRequestTopics>>,
    ) -> OffsetFetchResponseGroup {
        let body = OffsetFetchRequestGroup::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(member.map(text))
            .with_member_epoch(epoch)
            .with_topics(topics);
        match self.ask(9, Body::OffsetFetch(body)) {
            Reply::OffsetFetch(response) => response,
            other => panic!("{other:?}"),
        }
    }

    // The new protocol.

    fn consumer(&mut self, beat: Beat<'_>) -> ConsumerGroupHeartbeatResponse {
        match self.ask(1, Body::ConsumerGroupHeartbeat(beat.body())) {
            Reply::ConsumerGroupHeartbeat(response) => response,
            other => panic!("{other:?}"),
        }
    }
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a known error")
}

/// A consumer's metadata.
fn subscription(topics: &[&str]) -> Bytes {
    let topics = topics.iter().map(|&topic| topic.to_owned()).collect();
    Subscription {
        version: 1,
        topics,
        ..Subscription::default()
    }
    .encode()
}

/// A JoinGroup in the making.
#[derive(Clone)]
struct Join<'a> {
    version: i16,
    group: &'a str,
    member: &'a str,
    instance: Option<&'a str>,
    session_ms: i32,
    rebalance_ms: i32,
    kind: &'a str,
    protocols: Vec<(&'a str, Bytes)>,
}

impl Default for Join<'_> {
    fn default() -> Self {
        Join {
            version: 9,
            group: GROUP,
            member: "",
            instance: None,
            session_ms: 10_000,
            rebalance_ms: 60_000,
            kind: "consumer",
            protocols: vec![("range", subscription(&["t"]))],
        }
    }
}

impl Join<'_> {
    fn body(&self) -> JoinGroupRequest {
        let protocols = self.protocols.iter().map(|(name, metadata)| {
            JoinGroupRequestProtocol::default()
                .with_name(text(name))
                .with_metadata(metadata.clone())
        });
        JoinGroupRequest::default()
            .with_group_id(text(self.group).into())
            .with_member_id(text(self.member))
            .with_group_instance_id(self.instance.map(text))
            .with_session_timeout_ms(self.session_ms)
            .with_rebalance_timeout_ms(self.rebalance_ms)
            .with_protocol_type(text(self.kind))
            .with_protocols(protocols.collect())
    }
}

type Owned = BTreeMap<u8, BTreeSet<i32>>;

/// A ConsumerGroupHeartbeat in the making.
#[derive(Clone, Default)]
struct Beat<'a> {
    member: &'a str,
    epoch: i32,
    instance: Option<&'a str>,
    rebalance_ms: Option<i32>,
    topics: Option<&'a [&'a str]>,
    regex: Option<&'a str>,
    assignor: Option<&'a str>,
    owned: Option<Owned>,
}

impl<'a> Beat<'a> {
    /// The first heartbeat of a member.
    fn first(member: &'a str, topics: &'a [&'a str]) -> Beat<'a> {
        let (topics, rebalance_ms) = (Some(topics), Some(30_000));
        Beat {
            member,
            topics,
            rebalance_ms,
            owned: Some(Owned::new()),
            ..Beat::default()
        }
    }

    /// A heartbeat that says only where the member stands.
    fn at(member: &'a str, epoch: i32) -> Beat<'a> {
        Beat {
            member,
            epoch,
            ..Beat::default()
        }
    }

    fn body(&self) -> ConsumerGroupHeartbeatRequest {
        let owned = self.owned.as_ref().map(|owned| {
            let topics = owned.iter().map(|(number, partitions)| {
                TopicPartitions::default()
                    .with_topic_id(Uuid::from_bytes([*number; 16]))
                    .with_partitions(partitions.iter().copied().collect())
            });
            topics.collect()
        });
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(self.member))
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.map(text))
            .with_rebalance_timeout_ms(self.rebalance_ms.unwrap_or(-1))
            .with_subscribed_topic_names(
                self.topics
                    .map(|topics| topics.iter().map(|name| text(name).into()).collect()),
            )
            .with_subscribed_topic_regex(self.regex.map(text))
            .with_server_assignor(self.assignor.map(text))
            .with_topic_partitions(owned)
    }
}

/// The assignment that a heartbeat's answer carries; none if it carries none.
fn given(response: &ConsumerGroupHeartbeatResponse) -> Option<Owned> {
    let topics = &response.assignment.as_ref()?.topic_partitions;
    let each = topics.iter().map(|topic| {
        (
            topic.topic_id.as_bytes()[0],
            topic.partitions.iter().copied().collect(),
        )
    });
    Some(each.collect())
}

fn owned<const N: usize>(number: u8, partitions: [i32; N]) -> Owned {
    Owned::from([(number, BTreeSet::from(partitions))])
}

/// What a classic member of a consumer group was given.
fn named(response: &SyncGroupResponse) -> consumer_protocol::NamedPartitions {
    decode_assignment(&response.assignment).expect("an assignment")
}

#[test]
fn row_103_a_group_belongs_to_the_partition_of_javas_hash_of_its_id() {
    // Values of Java: Utils.abs(id.hashCode()) % 50.
    assert_eq!(partition_for("", 50), 0);
    assert_eq!(partition_for("a", 50), 97 % 50);
    assert_eq!(
        partition_for("console-consumer-12345", 50),
        java("console-consumer-12345")
    );
    // hashCode() is Integer.MIN_VALUE, whose absolute value Java cannot have.
    assert_eq!(partition_for("polygenelubricants", 50), 0);
    // Outside the basic plane: two UTF-16 units, 0xD83D and 0xDE00.
    assert_eq!(partition_for("😀", 50), (0xd83d * 31 + 0xde00) % 50);
}

fn java(text: &str) -> i32 {
    let hash = text.bytes().fold(0i64, |hash, byte| {
        i64::from((hash * 31 + i64::from(byte)) as i32)
    });
    (hash.abs() % 50) as i32
}
