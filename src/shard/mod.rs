//! All that one core knows: its partitions, the reads that wait, and on core 0 the cluster's
//! metadata. One verb: an event goes in, effects come out.
//!
//! Knows no connection, no frame, no socket, no clock. Never waits.

mod answers;
mod appends;
mod checkpoints;
mod cleaning;
mod coordinator_load;
mod coordinators;
mod core;
mod journal;
mod journals;
mod lifecycle;
mod message;
mod metadata;
mod overview;
mod partition_settings;
mod producer_ids;
mod reads;
mod records_deletion;
mod topic_view;
mod volumes;

#[cfg(test)]
mod tests;

pub use self::core::{Core, Setup};
pub use journal::{FILE_PREFIX as JOURNAL_PREFIX, JournalReport, JournaledFile, inspect_journal};
pub use journals::is_of_journal;
pub use lifecycle::{METADATA_TOPIC, directory_name, parse_directory_name};
pub use message::{
    AppendRefusal, AppendRequest, AppendedBatch, Effects, EpochQuery, Event, Found, FoundOffset,
    OffsetQuery, OffsetSpec, PartitionDescription, PeerMessage, ProducerDescription, Progress,
    ReadQuery, ReadRequest, ReadResult, Reply, Request, Ticket, VolumeDescription, VolumeState,
};
pub use metadata::{METADATA_DIRECTORY, is_of_boot};
pub use overview::{Committed, FoundGroup, GroupPage, LogEnds};
