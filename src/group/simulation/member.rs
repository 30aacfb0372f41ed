//! A simulated consumer: what a well-behaved client of either protocol does.

use std::collections::BTreeSet;

use super::{GROUP, TOPIC, TOPIC_ID, leader};
use crate::base::Mono;
use crate::group::consumer_protocol::{
    CONSUMER, NamedPartitions, Subscription, decode_assignment, encode_assignment,
};
use crate::group::request::{Body, Reply, Request, Token};
use crate::group::turn::text;
use crate::protocol::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use crate::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest,
    Uuid,
};

/// Which protocol a member speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JoinGroup, SyncGroup, Heartbeat; gives up everything before it rejoins.
    Eager,
    /// The same, but keeps what it owns and says so.
    Cooperative {
        /// As a leader it gives away at once what others have not given up.
        hasty: bool,
    },
    /// ConsumerGroupHeartbeat.
    Consumer,
}

/// What a member wants to send, and in which version.
#[derive(Clone, Debug)]
pub struct Outgoing {
    version: i16,
    body: Body,
}

const SESSION_MS: i32 = 6_000;
const REBALANCE_MS: i32 = 5_000;

/// One simulated consumer.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its member id, as far as it has one.
    pub id: String,
    /// Goes up with every crash.
    pub life: u64,
    /// The partitions that it believes it owns.
    pub owned: BTreeSet<i32>,
    number: u64,
    kind: Kind,
    epoch: i32,
    joined: bool,
    asleep_until: Mono,
    waiting: Option<(Token, Mono)>,
}

/// True for a commit without an error.
pub fn succeeded(reply: &Reply) -> bool {
    match reply {
        Reply::OffsetCommit(response) => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions
                .into_iter()
                .all(|partition| partition.error_code == 0)
        }
        _ => false,
    }
}

impl Member {
    /// A member that has not joined.
    pub fn new(number: u64, kind: Kind) -> Member {
        let mut member = Member {
            id: String::new(),
            life: 0,
            owned: BTreeSet::new(),
            number,
            kind,
            epoch: 0,
            joined: false,
            asleep_until: Mono(0),
            waiting: None,
        };
        member.crash(Mono(0));
        member
    }

    /// Forgets everything; comes back as somebody else.
    pub fn crash(&mut self, until: Mono) {
        self.life += 1;
        self.id = match self.kind {
            Kind::Eager | Kind::Cooperative { .. } => String::new(),
            Kind::Consumer => format!("member-{}-{}", self.number, self.life),
        };
        self.owned.clear();
        self.epoch = 0;
        self.joined = false;
        self.waiting = None;
        self.asleep_until = until;
    }

    /// A request as the coordinator gets it.
    pub fn request(&self, token: Token, outgoing: Outgoing) -> Request {
        Request {
            token,
            version: outgoing.version,
            client_id: format!("client-{}", self.number),
            client_host: "/127.0.0.1".to_owned(),
            body: outgoing.body,
        }
    }

    /// It sent a request and waits for its answer.
    pub fn sent(&mut self, token: Token, now: Mono) {
        let patience_ms = if self.joined { 1_500 } else { 12_000 };
        self.waiting = Some((token, now.after_ms(patience_ms)));
    }

    /// What it does when it has nothing to wait for any more.
    pub fn wake(&mut self, now: Mono) -> Option<Outgoing> {
        if now < self.asleep_until || self.waiting.is_some_and(|(_, until)| now < until) {
            return None;
        }
        self.waiting = None;
        Some(match self.kind {
            Kind::Consumer => self.consumer_heartbeat(),
            Kind::Eager | Kind::Cooperative { .. } if self.joined => self.heartbeat(),
            Kind::Eager | Kind::Cooperative { .. } => self.join(),
        })
    }

    /// Says good-bye, if it is known.
    pub fn leave(&self) -> Option<Outgoing> {
        if !self.joined {
            return None;
        }
        let body = match self.kind {
            Kind::Consumer => {
                let body = ConsumerGroupHeartbeatRequest::default()
                    .with_group_id(text(GROUP).into())
                    .with_member_id(text(&self.id))
                    .with_member_epoch(-1);
                return Some(Outgoing {
                    version: 1,
                    body: Body::ConsumerGroupHeartbeat(body),
                });
            }
            Kind::Eager | Kind::Cooperative { .. } => LeaveGroupRequest::default()
                .with_group_id(text(GROUP).into())
                .with_members(vec![
                    MemberIdentity::default().with_member_id(text(&self.id)),
                ]),
        };
        Some(Outgoing {
            version: 5,
            body: Body::LeaveGroup(body),
        })
    }

    /// A commit of all that it owns. A cooperative member goes on committing while it rejoins.
    pub fn commit(&self, offset: i64) -> Option<(Outgoing, Vec<i32>)> {
        let takes_part = self.joined || matches!(self.kind, Kind::Cooperative { .. });
        if !takes_part || self.owned.is_empty() {
            return None;
        }
        let partitions = self.owned.iter().map(|partition| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(offset)
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(text(TOPIC).into())
            .with_partitions(partitions.collect());
        let body = OffsetCommitRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(&self.id))
            .with_generation_id_or_member_epoch(self.epoch)
            .with_retention_time_ms(-1)
            .with_topics(vec![topic]);
        let outgoing = Outgoing {
            version: 9,
            body: Body::OffsetCommit(body),
        };
        Some((outgoing, self.owned.iter().copied().collect()))
    }

    fn consumer_heartbeat(&self) -> Outgoing {
        let mut owned = Vec::new();
        if !self.owned.is_empty() {
            owned.push(
                TopicPartitions::default()
                    .with_topic_id(Uuid::from_bytes(TOPIC_ID.0))
                    .with_partitions(self.owned.iter().copied().collect()),
            );
        }
        let body = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(&self.id))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(REBALANCE_MS)
            .with_subscribed_topic_names(Some(vec![text(TOPIC).into()]))
            .with_topic_partitions(Some(owned));
        Outgoing {
            version: 1,
            body: Body::ConsumerGroupHeartbeat(body),
        }
    }

    fn join(&mut self) -> Outgoing {
        let name = match self.kind {
            Kind::Cooperative { .. } => "cooperative-sticky",
            Kind::Eager | Kind::Consumer => {
                // What it had is given up before it rejoins.
                self.owned.clear();
                "range"
            }
        };
        let topics = [TOPIC.to_owned()].into();
        let metadata = Subscription {
            version: 1,
            topics,
            owned: NamedPartitions::from([(TOPIC.to_owned(), self.owned.clone())]),
            ..Subscription::default()
        }
        .encode();
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(metadata);
        let body = JoinGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(&self.id))
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(REBALANCE_MS)
            .with_protocol_type(text(CONSUMER))
            .with_protocols(vec![protocol]);
        Outgoing {
            version: 9,
            body: Body::JoinGroup(body),
        }
    }

    fn heartbeat(&self) -> Outgoing {
        let body = HeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(&self.id))
            .with_generation_id(self.epoch);
        Outgoing {
            version: 4,
            body: Body::Heartbeat(body),
        }
    }

    /// SyncGroup, with everybody's assignment if this is the leader.
    fn sync(&self, joined: &JoinGroupResponse) -> Outgoing {
        let shares = match self.kind {
            Kind::Cooperative { hasty } => leader::cooperative(&joined.members, hasty),
            Kind::Eager | Kind::Consumer => leader::eager(&joined.members),
        };
        let shares = joined.members.iter().zip(shares);
        let assignments = shares.map(|(member, mine)| {
            let mine = NamedPartitions::from([(TOPIC.to_owned(), mine)]);
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(encode_assignment(1, &mine))
        });
        let body = SyncGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(&self.id))
            .with_generation_id(self.epoch)
            .with_assignments(assignments.collect());
        Outgoing {
            version: 5,
            body: Body::SyncGroup(body),
        }
    }

    /// Takes in an answer; what it sends at once in return.
    pub fn answered(&mut self, token: Token, reply: Reply) -> Option<Outgoing> {
        if self.waiting.is_none_or(|(awaited, _)| awaited != token) {
            return None;
        }
        self.waiting = None;
        match reply {
            Reply::ConsumerGroupHeartbeat(response) => {
                self.consumer_answered(&response);
                None
            }
            Reply::JoinGroup(response) => self.join_answered(&response),
            Reply::SyncGroup(response) => {
                match response.error_code {
                    0 => self.assigned(owned_of(&response.assignment)),
                    error => self.rejoin(error),
                }
                None
            }
            Reply::Heartbeat(response) => {
                if response.error_code != 0 {
                    self.rejoin(response.error_code);
                }
                None
            }
            _ => None,
        }
    }

    fn consumer_answered(&mut self, response: &ConsumerGroupHeartbeatResponse) {
        if response.error_code != 0 {
            // Fenced, or unknown: it gives everything up and joins anew. The coordinator keeps who
            // rejoins under its old id at epoch 0 out until its session ends, so take another.
            return self.crash(Mono(0));
        }
        self.epoch = response.member_epoch;
        self.joined = true;
        if let Some(assignment) = &response.assignment {
            let topics = assignment.topic_partitions.iter();
            self.owned = topics
                .flat_map(|topic| topic.partitions.iter().copied())
                .collect();
        }
    }

    fn join_answered(&mut self, response: &JoinGroupResponse) -> Option<Outgoing> {
        if response.error_code == ErrorCode::MemberIdRequired.code() {
            self.id = response.member_id.to_string();
            return Some(self.join());
        }
        if response.error_code != 0 {
            self.rejoin(response.error_code);
            return None;
        }
        self.id = response.member_id.to_string();
        self.epoch = response.generation_id;
        Some(self.sync(response))
    }

    /// Owns what it was assigned. A cooperative member that had to give something up for it
    /// rejoins, so that somebody else gets it.
    fn assigned(&mut self, assigned: BTreeSet<i32>) {
        let revoked = !self.owned.is_subset(&assigned);
        self.owned = assigned;
        self.joined = !revoked;
    }

    /// Is to join again. Who is out of its generation has lost what it owned; a cooperative member
    /// keeps it otherwise.
    fn rejoin(&mut self, error: i16) {
        self.joined = false;
        let unknown = error == ErrorCode::UnknownMemberId.code();
        let lost = unknown || error == ErrorCode::IllegalGeneration.code();
        match self.kind {
            Kind::Cooperative { .. } if !lost => {}
            Kind::Cooperative { .. } | Kind::Eager | Kind::Consumer => self.owned.clear(),
        }
        if unknown {
            self.id.clear();
        }
    }

    /// What a reply to this life told it to own, and at which epoch.
    pub fn told(&self, life: u64, reply: &Reply) -> Option<(i32, BTreeSet<i32>)> {
        if life != self.life {
            return None;
        }
        match reply {
            Reply::ConsumerGroupHeartbeat(response) if response.error_code == 0 => {
                let topics = &response.assignment.as_ref()?.topic_partitions;
                let owned = topics
                    .iter()
                    .flat_map(|topic| topic.partitions.iter().copied());
                Some((response.member_epoch, owned.collect()))
            }
            Reply::SyncGroup(response) if response.error_code == 0 => {
                Some((self.epoch, owned_of(&response.assignment)))
            }
            _ => None,
        }
    }
}

fn owned_of(assignment: &[u8]) -> BTreeSet<i32> {
    let named = decode_assignment(assignment).unwrap_or_default();
    named.into_values().flatten().collect()
}
