//! The metadata of the cluster: topics, partitions, configs, brokers, features.
//!
//! Decide, then apply: the [`controller`] turns a request and an [`image::Image`] into metadata
//! [`records`] and a reply; the caller makes the records durable in the metadata log and applies
//! them. The image is a projection of that log and of nothing else. Lives on core 0; other cores
//! read clones of the image.
//!
//! Knows no disk, no clock, no connection and no authorisation. One node is a quorum of one.

pub mod configs;
pub mod controller;
pub mod image;
pub mod names;
pub mod records;
mod shared_map;
mod wire;

pub use controller::{ControlReply, ControlRequest, Controller, Decision};
pub use image::{Image, Partition, Resource, Topic};
pub use records::Record;
