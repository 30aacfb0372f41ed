//! The HTTP door: metrics for Prometheus, health for orchestrators, figures as JSON for people.
//!
//! Lives on one thread of its own outside the shards. What it knows of the broker it is told
//! through [`Handle`]: it asks each core for a snapshot by message, waits at most
//! [`CORE_ANSWER_WAIT_MAX`] for all of them together, asks no core again that still owes an
//! answer, and asks nobody more often than every [`SNAPSHOT_AGE_MAX`]. So no number of scrapers
//! can hold a core up, and a core that is stuck is shown as down instead of hiding the others.
//!
//! Groups and their lag are asked for in the same way, in pages of bounded size; the series of lag
//! in `/metrics` are at most `corelane.metrics.lag.series.max`.
//!
//! Connections are bounded in number and in idle time. Knows no Kafka (names of APIs and errors
//! come with the handle), no files (who reads `/proc` is the handle's affair), no TLS and no
//! passwords: it listens on the loopback unless told otherwise.

mod asker;
mod exposition;
mod gather;
mod groups;
mod lag;
mod latency;
mod listener;
mod process;
mod routes;
mod server;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::CoreId;
use crate::group::overview::{Listing, Page};
use crate::obs::CoreSnapshot;
use crate::shard::{Committed, FoundGroup, GroupPage, LogEnds};

pub use process::{Machine, Process};
pub use server::{Running, serve};

/// How long one gathering waits for the slowest core before it is shown as down.
pub const CORE_ANSWER_WAIT_MAX: Duration = Duration::from_secs(1);

/// Figures younger than this are shown again instead of asking the cores again.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_millis(250);

/// Where this room gets to know what it shows.
pub struct Handle {
    /// How many cores there are; they are asked as 0 to `cores - 1`.
    pub cores: u16,
    /// Asks one core for its figures. Must not wait: whoever carries the question gives the
    /// answer later, from any thread. Dropping the [`Answer`] says that there will be none.
    pub ask: Box<dyn Fn(CoreId, Answer<CoreSnapshot>) + Send + Sync>,
    /// How far the broker is. Must not wait.
    pub readiness: Box<dyn Fn() -> Readiness + Send + Sync>,
    /// What is wrong. Must not wait.
    pub health: Box<dyn Fn() -> Health + Send + Sync>,
    /// The process as the kernel sees it; none if that cannot be read. Reading `/proc` is fine.
    pub process: Box<dyn Fn() -> Option<Process> + Send + Sync>,
    /// Words for the numbers of the protocol.
    pub names: Names,
}

/// A question to one core, with something that it is about. Must not wait, as [`Handle::ask`].
pub type Ask<About, A> = Box<dyn Fn(CoreId, Arc<About>, Answer<A>) + Send + Sync>;

/// A question to one core about a page of a group. Must not wait, as [`Handle::ask`].
pub type AskDetail = Box<dyn Fn(CoreId, Arc<String>, Arc<Page>, Answer<FoundGroup>) + Send + Sync>;

/// Questions about groups, each to one core. They must not wait, as [`Handle::ask`].
pub struct Groups {
    /// Its groups of a list.
    pub page: Ask<Listing, GroupPage>,
    /// A group, if it is there.
    pub detail: AskDetail,
    /// What its groups have committed, as much as is shown in metrics.
    pub committed: Box<dyn Fn(CoreId, Answer<Committed>) + Send + Sync>,
    /// Where partitions begin and end.
    pub log_ends: Ask<Vec<(String, i32)>, Vec<Option<LogEnds>>>,
}

/// Words for numbers of the protocol; a number without a word is shown as itself.
#[derive(Clone, Copy)]
pub struct Names {
    /// Of an API key, as `Produce`.
    pub api: fn(i16) -> Option<&'static str>,
    /// Of an error code, as `NOT_LEADER_OR_FOLLOWER`.
    pub error: fn(i16) -> Option<&'static str>,
}

/// How far the broker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Readiness {
    /// True once every listener is open and every partition was recovered or found offline.
    pub ready: bool,
    /// Partitions recovered, or found offline, until now.
    pub partitions_opened: u64,
    /// Partitions there are.
    pub partitions: u64,
    /// Bytes of batches that recovery has gone over until now.
    pub scanned_bytes: u64,
    /// The most that it may have to go over, as far as that is known: a log adds its own when it is
    /// begun, with its preallocated end, and takes that off again when it is open.
    pub scan_bytes: u64,
}

/// What is wrong with the broker, if anything.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// `ok`, or `degraded`: something below is not as it should be, all else is served.
    pub status: &'static str,
    /// Every data directory.
    pub data_directories: Vec<DirectoryHealth>,
    /// The partitions that refuse writes until the next start, or until there is space.
    pub offline_partitions: Vec<OfflinePartition>,
}

/// One data directory.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DirectoryHealth {
    /// Where it is.
    pub path: String,
    /// `ok`, `short of space` or `failed`.
    pub state: &'static str,
    /// Why, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// One partition that is offline.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OfflinePartition {
    /// `topic-partition`.
    pub partition: String,
    /// Why, in words: with the file, and the position where bytes are damaged.
    pub why: String,
}

/// Where the answer to a question goes. Giving it neither waits nor fails: if the asker has gone,
/// the answer is dropped.
pub struct Answer<T>(oneshot::Sender<T>);

impl<T> Answer<T> {
    /// Gives the answer.
    pub fn give(self, value: T) {
        // The asker's thread has ended: nobody is left to tell.
        let _ = self.0.send(value);
    }
}

#[cfg(test)]
mod tests;
