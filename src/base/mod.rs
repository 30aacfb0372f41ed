//! The words every room speaks: ids, offsets, time values, aligned buffers, disk operations,
//! timers and a seeded random number generator.
//!
//! Knows no Kafka, no file system, no clock. Everything here is a value.

pub mod buf;
pub mod checksum;
pub mod disk;
pub mod ids;
mod ledger;
pub mod prng;
pub mod time;
pub mod timers;

pub use buf::{BLOCK, Buf, Pool};
pub use checksum::{crc32c, crc32c_of};
pub use disk::{
    DirectoryEntry, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, OpId, Space,
};
pub use ids::{
    BrokerId, CoreId, LeaderEpoch, Offset, PartitionIndex, Position, ProducerEpoch, ProducerId,
    Sequence, TopicId, TopicPartition,
};
pub use prng::Prng;
pub use time::{Mono, Now, Wall};
pub use timers::Timers;
