//! All that one core knows: its partitions, the reads that wait, and on core 0 the cluster's
//! metadata. One verb: an event goes in, effects come out.
//!
//! Knows no connection, no frame, no socket, no clock. Never waits.

mod message;

pub use message::{
    AppendRefusal, AppendRequest, AppendedBatch, Effects, EpochQuery, Event, FoundOffset,
    OffsetQuery, OffsetSpec, PartitionDescription, PeerMessage, ProducerDescription, ReadQuery,
    ReadRequest, ReadResult, Reply, Request, Ticket,
};
