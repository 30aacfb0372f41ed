//! What a run is to do: connections, and times.

use std::time::Duration;

use super::content::Shape;
use crate::base::{Offset, PartitionIndex, ProducerEpoch, ProducerId};
use crate::protocol::messages::StrBytes;

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which run this is, in every record.
    pub run: u32,
    /// The topic.
    pub topic: StrBytes,
    /// Partitions of the topic: one more than the highest index.
    pub partitions: usize,
    /// Threads that share the connections, at least one.
    pub threads: usize,
    /// Connections that write.
    pub producers: Vec<ProducerPlan>,
    /// Connections that read.
    pub consumers: Vec<ConsumerPlan>,
    /// What records look like.
    pub shape: Shape,
    /// How long before anything counts.
    pub warm_up: Duration,
    /// How long things count.
    pub measured: Duration,
    /// How long after that replies and readers are waited for.
    pub drain: Duration,
    /// End when every reader of [`Role::CatchUp`] is done, if that is sooner.
    pub ends_with_catch_up: bool,
}

/// When a producer sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as fewer than the allowed number of requests are in flight.
    Closed,
    /// At a fixed rate.
    Open {
        /// Records a second of this connection.
        rate: f64,
        /// How long the first record of a batch waits for others.
        linger: Duration,
        /// Which part of the time between two records this connection's first one comes later,
        /// 0 to 1, so that connections do not send all at once.
        phase: f64,
    },
}

/// One connection that writes.
#[derive(Clone, Debug)]
pub struct ProducerPlan {
    /// `HOST:PORT` of the leader.
    pub address: String,
    /// Which producer it is in every record.
    pub id: u32,
    /// Where it writes, in turn.
    pub partitions: Vec<PartitionIndex>,
    /// The version of its requests.
    pub version: i16,
    /// What to wait for: 0 nothing, 1 the leader, -1 all.
    pub acks: i16,
    /// An idempotent producer's identity.
    pub identity: Option<(ProducerId, ProducerEpoch)>,
    /// When it sends.
    pub pace: Pace,
    /// Requests in flight, at least one.
    pub in_flight: usize,
    /// Partitions in one request, at least one, each with a batch of its own.
    pub partitions_per_request: usize,
    /// Ends after so many records, of a closed loop.
    pub records_max: Option<u64>,
}

/// What a reader is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads what is written now; its latency counts from when a record was due to its arrival.
    Tail,
    /// Reads what is there already, from the beginning to where the end was, once.
    CatchUp,
    /// As `CatchUp`, over and over until time is up.
    Repeat,
}

/// One connection that reads.
#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    /// `HOST:PORT` of the leader.
    pub address: String,
    /// The version of its requests.
    pub version: i16,
    /// Where it begins and, unless it reads the tail, where it ends.
    pub positions: Vec<(PartitionIndex, Offset, Offset)>,
    /// What it is there for.
    pub role: Role,
    /// Bytes of one partition in one answer.
    pub partition_bytes_max: i32,
    /// Bytes of one answer.
    pub answer_bytes_max: i32,
    /// Bytes that the broker waits for.
    pub bytes_min: i32,
    /// How long it waits for them.
    pub wait: Duration,
    /// True if each producer's records are read from its first on.
    pub from_first: bool,
}

impl ConsumerPlan {
    /// True for a reader that is done once it has read what was there.
    pub(super) fn catches_up(&self) -> bool {
        self.role == Role::CatchUp
    }
}
