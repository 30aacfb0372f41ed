//! What a core is asked and what it answers. Everything here crosses from core to core by value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{
    CoreId, DiskDone, DiskFault, DiskOp, LeaderEpoch, Mono, Offset, ProducerEpoch, ProducerId,
    Sequence, Space, TopicId, TopicPartition,
};
use crate::cluster::{Image, Record};
use crate::group;
use crate::log::{Abandoned, Compacted, Fault, Slice};
use crate::obs::CoreSnapshot;
use crate::partition::Refusal;
use crate::protocol::ErrorCode;

/// Who waits for a reply: a number that the asking core has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The core that asks.
    pub core: CoreId,
    /// Its own number for the question.
    pub number: u64,
}

/// How far a core's start has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Partitions that are open, or were found offline.
    pub opened: usize,
    /// Of how many.
    pub of: usize,
    /// Bytes of batches that recovery has gone over.
    pub scanned_bytes: u64,
    /// The most that it may have to go over, as far as that is known: a log adds its own when it is
    /// begun, with its preallocated end, and takes that off again when it is open.
    pub scan_bytes: u64,
}

/// Something that happens to a core.
#[derive(Debug)]
pub enum Event {
    /// A request from a connection of this or of another core.
    Request {
        /// Where the reply goes.
        ticket: Ticket,
        /// The question.
        request: Request,
    },
    /// The asker no longer wants to wait: a parked read answers now with what there is; anything
    /// else goes on as it was.
    Cancel(Ticket),
    /// A disk operation is done.
    Disk(DiskDone),
    /// From core to core.
    Peer {
        /// The core that sends.
        from: CoreId,
        /// What it says.
        message: PeerMessage,
    },
    /// Time went by; [`super::Core::next_deadline`] says when this is due.
    Tick,
    /// Close everything cleanly; ends in [`Effects::stopped`].
    Stop,
}

/// What cores tell each other.
#[derive(Clone, Debug)]
pub enum PeerMessage {
    /// Core 0: this is the cluster now.
    Image {
        /// Counts the images; acknowledged with [`PeerMessage::Applied`].
        version: u64,
        /// The image.
        image: Arc<Image>,
        /// What made it of the image before. The first image comes without.
        records: Arc<Vec<Record>>,
        /// With the first image: what is on the disks.
        found: Option<Arc<Found>>,
    },
    /// To core 0: the image of this version is in force here, deletions are durable.
    Applied(u64),
    /// To core 0: a block of producer ids, please.
    WantProducerIds,
    /// From core 0: a block of producer ids.
    ProducerIds {
        /// The first of them.
        first: ProducerId,
        /// How many; 0 when none can be given now.
        count: u32,
    },
    /// A data directory has nothing left but its reserve.
    VolumeShort {
        /// Which.
        disk: u16,
    },
    /// A data directory is of no use any more.
    VolumeFailed {
        /// Which.
        disk: u16,
        /// How that was found.
        fault: DiskFault,
    },
}

/// What core 0 found on the disks before its first image.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// By the name of a partition's directory, the data directory that it is in.
    pub directories: BTreeMap<String, u16>,
    /// Topics that are known to have been deleted: what is left of them may be removed. Older
    /// deletions, which only a snapshot of the metadata knows, are not among them.
    pub deleted: BTreeSet<TopicId>,
}

/// How a data directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeState {
    /// Nothing is amiss.
    Well,
    /// Nothing is left but its reserve: records of clients are refused until there is space again.
    Short(Space),
    /// It failed as a whole: all partitions in it are offline until the next start.
    Failed(DiskFault),
}

/// One data directory, described.
#[derive(Clone, Debug)]
pub struct VolumeDescription {
    /// Which.
    pub disk: u16,
    /// Its space, when it was last asked; zeros before.
    pub space: Space,
    /// How it is.
    pub state: VolumeState,
}

/// A question to the core that owns what it names.
#[derive(Debug)]
pub enum Request {
    /// Append batches.
    Append(AppendRequest),
    /// Read batches.
    Read(ReadRequest),
    /// Look up offsets by time.
    ListOffsets(Vec<OffsetQuery>),
    /// Look up where leader epochs end.
    EpochEnds(Vec<EpochQuery>),
    /// Delete records below an offset.
    DeleteRecords(Vec<(TopicPartition, Offset)>),
    /// Describe partitions; all that the core owns when the list is `None`.
    Describe(Option<Vec<TopicPartition>>),
    /// The producers of partitions.
    Producers(Vec<TopicPartition>),
    /// A new producer id. Any core can be asked.
    ProducerId,
    /// A change of the cluster's metadata. Core 0.
    Control(crate::cluster::ControlRequest),
    /// Ask the coordinator whose groups live in this partition of `__consumer_offsets`.
    Group {
        /// The partition.
        partition: TopicPartition,
        /// The question; its token is the core's to give.
        request: Box<group::Request>,
    },
    /// How the data directories are. Any core can be asked.
    Volumes,
    /// The core's measurements so far.
    Measurements,
}

/// The answer to the [`Request`] of the same name.
#[derive(Debug)]
pub enum Reply {
    /// In the order of the request.
    Append(Vec<Result<AppendedBatch, AppendRefusal>>),
    /// In the order of the request.
    Read(Vec<ReadResult>),
    /// In the order of the request.
    ListOffsets(Vec<Result<FoundOffset, Refusal>>),
    /// In the order of the request: the epoch and its end, -1 and -1 if it is not known.
    EpochEnds(Vec<Result<(LeaderEpoch, Offset), Refusal>>),
    /// In the order of the request: the log start offset now.
    DeleteRecords(Vec<Result<Offset, Refusal>>),
    /// Those that the core owns, of those asked for.
    Describe(Vec<PartitionDescription>),
    /// In the order of the request.
    Producers(Vec<Result<Vec<ProducerDescription>, Refusal>>),
    /// A producer id that nobody had before, or why there is none now.
    ProducerId(Result<ProducerId, ErrorCode>),
    /// What became of the change.
    Control(crate::cluster::ControlReply),
    /// The coordinator's answer, durable; or why there is none.
    Group(Result<Box<group::Reply>, ErrorCode>),
    /// One for each data directory, in order.
    Volumes(Vec<VolumeDescription>),
    /// The figures.
    Measurements(Box<CoreSnapshot>),
}

/// Batches for partitions of one core.
#[derive(Debug)]
pub struct AppendRequest {
    /// The produce request's version: what it may carry.
    pub produce_version: i16,
    /// The broker itself writes (group offsets), not a client.
    pub from_coordinator: bool,
    /// One batch for each partition, as sent.
    pub batches: Vec<(TopicPartition, Bytes)>,
    /// When it was sent to this core, for the measurements.
    pub sent: Mono,
}

/// A batch that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedBatch {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The broker's time in milliseconds for `LogAppendTime`, else -1.
    pub log_append_time_ms: i64,
    /// The first offset of the partition.
    pub log_start_offset: Offset,
}

/// A batch that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRefusal {
    /// Why.
    pub refusal: Refusal,
    /// The first offset of the partition, -1 if it is not here.
    pub log_start_offset: Offset,
    /// The leader epoch of the partition, -1 if it is not here.
    pub leader_epoch: LeaderEpoch,
}

/// Reads of partitions of one core.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// What to read, in order of preference.
    pub partitions: Vec<ReadQuery>,
    /// The most bytes of all together; the first batch comes whole even if it is larger.
    pub max_bytes: usize,
    /// Wait until there are so many bytes, or an error; 0 or less answers at once.
    pub min_bytes: i64,
    /// Wait no longer than this.
    pub deadline: Mono,
    /// When it was sent to this core, for the measurements.
    pub sent: Mono,
}

/// One partition to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadQuery {
    /// The partition.
    pub partition: TopicPartition,
    /// From which offset.
    pub offset: Offset,
    /// The most bytes of this partition.
    pub max_bytes: usize,
    /// The leader epoch the client knows, -1 to skip the check (KIP-320).
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record the client has, -1 to skip the check (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
}

/// What one partition gave.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// Batches in memory and in files, or the refusal.
    pub slices: Result<Vec<Slice>, Refusal>,
    /// Of all slices together, in bytes.
    pub size: usize,
    /// The high watermark, -1 when refused.
    pub high_watermark: Offset,
    /// The last stable offset, -1 when refused.
    pub last_stable_offset: Offset,
    /// The first offset, -1 when refused.
    pub log_start_offset: Offset,
    /// The client's history diverges: the epoch and where it ends here (KIP-595).
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// The leader epoch of the partition, -1 if it is not here.
    pub leader_epoch: LeaderEpoch,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug)]
pub struct OffsetQuery {
    /// The partition.
    pub partition: TopicPartition,
    /// The leader epoch the client knows, -1 to skip the check.
    pub current_leader_epoch: LeaderEpoch,
    /// What is looked for.
    pub spec: OffsetSpec,
}

/// The special timestamps of ListOffsets, and the ordinary ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// -2, and -4 (KIP-405: everything is local here).
    Earliest,
    /// -1; the last stable offset, the high watermark without transactions.
    Latest,
    /// -3 (KIP-734).
    MaxTimestamp,
    /// -5 (KIP-1005): nothing is tiered.
    LatestTiered,
    /// The first record at or after these milliseconds since the Unix epoch.
    AtOrAfter(i64),
}

/// An offset that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset, -1 for none.
    pub offset: Offset,
    /// Its record's timestamp; -1 for none and for the special offsets.
    pub timestamp: i64,
    /// The leader epoch at that offset, -1 if unknown.
    pub leader_epoch: LeaderEpoch,
}

/// The end of which epoch is asked for.
#[derive(Clone, Copy, Debug)]
pub struct EpochQuery {
    /// The partition.
    pub partition: TopicPartition,
    /// The leader epoch the client knows, -1 to skip the check.
    pub current_leader_epoch: LeaderEpoch,
    /// The epoch that is looked for.
    pub epoch: LeaderEpoch,
}

/// One partition, described.
#[derive(Clone, Debug)]
pub struct PartitionDescription {
    /// The partition.
    pub partition: TopicPartition,
    /// The data directory it lives in.
    pub disk: u16,
    /// Bytes of batches on the disk.
    pub size_bytes: u64,
    /// The first offset.
    pub log_start: Offset,
    /// Committed below this.
    pub high_watermark: Offset,
    /// The next offset.
    pub log_end: Offset,
    /// Why it is offline.
    pub fault: Option<Fault>,
}

/// One producer of a partition, described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerDescription {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record, -1 if unknown.
    pub last_sequence: Sequence,
    /// The time of its last append in milliseconds.
    pub last_timestamp: i64,
}

/// What a core wants done. Filled by [`super::Core::step`], emptied by whoever drives it.
#[derive(Debug, Default)]
pub struct Effects {
    /// Disk work; each gives an [`Event::Disk`].
    pub disk: Vec<DiskOp>,
    /// Answers to tickets of this core and of others.
    pub replies: Vec<(Ticket, Reply)>,
    /// Messages to other cores, and to itself.
    pub peers: Vec<(CoreId, PeerMessage)>,
    /// Logs that were fenced, for the operator. `None`: the metadata log.
    pub faults: Vec<(Option<TopicPartition>, Fault)>,
    /// Rounds of compaction that are over, for the operator.
    pub compactions: Vec<(TopicPartition, Result<Compacted, Abandoned>)>,
    /// Partitions that were fenced and are not any more, or not there any more.
    pub healed: Vec<TopicPartition>,
    /// Data directories whose state changed, as this core sees it.
    pub volumes: Vec<(u16, VolumeState)>,
    /// This core has opened all its partitions. Set once.
    pub ready: bool,
    /// Everything is closed. Set once, after [`Event::Stop`].
    pub stopped: bool,
    /// The core cannot go on: the metadata log failed. In words for the log.
    pub fatal: Option<String>,
}
