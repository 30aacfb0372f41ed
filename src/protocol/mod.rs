//! Kafka's wire language: frames, headers, the table of keys and versions, error codes, and the
//! codecs of every message.
//!
//! Produce and Fetch, the two that records pass through, have codecs of our own that leave the
//! records where they are ([`produce`], [`fetch`]); everything else goes through the
//! `kafka-protocol` crate, which [`messages`] alone may name, after a walk that proves the body's
//! counts and lengths true ([`walk`], [`shapes`]).
//!
//! Lives on every core. Knows no socket, no file, no clock, and not what is inside records.
//! Invariant: whatever the bytes, decoding neither panics nor takes more memory than
//! [`reader::memory_limit`] allows for a body of that size.

pub mod api;
pub mod error;
pub mod fetch;
pub mod header;
pub mod malformed;
pub mod messages;
pub mod produce;
pub mod reader;
pub mod shapes;
pub mod topic;
pub mod walk;
pub mod writer;

pub use api::{ApiKey, ApiVersions, request_header_version, response_header_version};
pub use error::ErrorCode;
pub use header::{FrameRefused, RequestHeader, frame_size};
pub use malformed::Malformed;
pub use reader::Reader;
pub use topic::{CurrentLeader, NodeEndpoint, TopicRef};
pub use writer::Writer;
