//! What a group needs from its surroundings while it handles one event: the time, the settings,
//! the topics, the timers, and where its decision goes.

use super::records::Record;
use super::request::{Decision, Refusal, Reply, Settings, Token, TopicView};
use crate::base::{Now, Prng, Timers};
use crate::protocol::ErrorCode;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatResponse, HeartbeatResponse, JoinGroupResponse, StrBytes,
    SyncGroupResponse,
};

/// What may come due. At most one of each is set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The member was silent for its session timeout, or its pending id was never used.
    Session(String, String),
    /// The classic group's members had their time to join.
    Join(String),
    /// The classic group's members had their time to sync.
    Sync(String),
    /// The member had its time to give partitions up.
    Revocation(String, String),
    /// The classic member of a consumer group was told to rejoin and had its time.
    Rejoin(String, String),
    /// The classic member of a consumer group joined and had its time to sync.
    Resync(String, String),
    /// Look for expired offsets.
    Retention,
}

/// One event's surroundings.
pub struct Turn<'a> {
    /// When it happens.
    pub now: Now,
    /// The coordinator's settings.
    pub settings: &'a Settings,
    /// The topics.
    pub topics: &'a TopicView,
    /// All of the coordinator's timers.
    pub timers: &'a mut Timers<Timer>,
    /// For member ids.
    pub random: &'a mut Prng,
    /// What is decided.
    pub decision: &'a mut Decision,
}

impl Turn<'_> {
    /// Puts a record into the decision. The caller applies it as well.
    pub fn log(&mut self, record: &Record) {
        self.decision.records.push(record.encode());
    }

    /// Counts what is decided together. A group that changes its kind rises twice, but rebalances
    /// once.
    pub fn count(&mut self, records: &[Record]) {
        let tally = &mut self.decision.tally;
        let mut rises = false;
        for record in records {
            match record {
                Record::OffsetCommit { value: Some(_), .. } => tally.offsets_committed += 1,
                Record::OffsetCommit { value: None, .. } => tally.offsets_deleted += 1,
                Record::GroupEpoch { epoch: Some(_), .. } => rises = true,
                Record::GroupEpoch { epoch: None, .. }
                | Record::GroupMetadata { .. }
                | Record::SubscribedTopics { .. }
                | Record::Member { .. }
                | Record::TargetEpoch { .. }
                | Record::Target { .. }
                | Record::Current { .. }
                | Record::ResolvedRegex { .. } => {}
            }
        }
        tally.rebalances += u64::from(rises);
    }

    /// Answers a request.
    pub fn reply(&mut self, token: Token, reply: Reply) {
        self.decision.replies.push((token, reply));
    }

    /// Sets a timer to `millis` milliseconds from now.
    pub fn set_timer(&mut self, timer: Timer, millis: i32) {
        let at = self.now.mono.after_ms(i64::from(millis));
        self.timers.set(timer, at);
    }

    /// A random UUID (version 4) as text, as Kafka's broker puts it into member ids.
    pub fn uuid(&mut self) -> String {
        let mut bytes = [0u8; 16];
        self.random.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string()
    }
}

/// A parked JoinGroup: it is answered when the rebalance is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedJoin {
    /// Whom to answer.
    pub token: Token,
    /// The version to answer in.
    pub version: i16,
}

impl ParkedJoin {
    /// The reply as it goes out: before version 7 the protocol's name must not be null
    /// (apache/kafka `JoinGroupResponse`).
    pub fn reply(self, mut response: JoinGroupResponse) -> (Token, Reply) {
        if self.version < 7 && response.protocol_name.is_none() {
            response.protocol_name = Some(StrBytes::default());
        }
        (self.token, Reply::JoinGroup(response))
    }

    /// A refusal.
    pub fn refuse(self, member: &str, error: ErrorCode) -> (Token, Reply) {
        self.reply(refused_join(member, error))
    }
}

/// Text for a message.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A JoinGroup's refusal.
pub fn refused_join(member: &str, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(error.code())
        .with_generation_id(-1)
        .with_protocol_name(None)
        .with_member_id(text(member))
}

/// A SyncGroup's refusal.
pub fn refused_sync(error: ErrorCode) -> Reply {
    Reply::SyncGroup(SyncGroupResponse::default().with_error_code(error.code()))
}

/// A Heartbeat's answer.
pub fn heartbeat(error: ErrorCode) -> Reply {
    Reply::Heartbeat(HeartbeatResponse::default().with_error_code(error.code()))
}

/// A ConsumerGroupHeartbeat's refusal.
pub fn refused_heartbeat(refusal: &Refusal) -> Reply {
    Reply::ConsumerGroupHeartbeat(
        ConsumerGroupHeartbeatResponse::default()
            .with_error_code(refusal.error.code())
            .with_error_message(Some(text(&refusal.message)))
            .with_member_id(None),
    )
}
