//! A small Kafka client for a person's commands. Works with any Kafka broker: it asks each for its
//! versions and takes the highest that both know.
//!
//! It uses blocking `std::net` sockets and not the rings of [`crate::rt`]: one command has one
//! request in flight, and has to run where a broker could not, such as on a laptop whose kernel
//! allows no io_uring, against a broker elsewhere. Knows no terminal and no record format beyond
//! whole batches.

mod cluster;
mod connection;
mod consumer;
mod error;
mod groups;
mod producer;

pub use cluster::{Client, Partition, Settings, Topic, error_of};
pub use connection::Connection;
pub use consumer::{Fetched, Position};
pub use error::ClientError;
pub use groups::{DescribedGroup, DescribedMember, GroupOffsets, ListedGroup};
pub use producer::{Acks, Producer, ProducerSettings, partition_of_key, take_identity};
