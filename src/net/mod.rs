//! Connections: bytes in, frames out; replies in the order of the requests, whatever the order in
//! which they are ready.
//!
//! Knows no request, no partition, no core but its own: whoever serves gives a function that
//! begins a frame, and is told when a connection wants to move. Invariants: a frame's memory is
//! granted by the [`Budget`] before it is allocated; at most [`REQUESTS_IN_FLIGHT_MAX`] requests
//! of a connection are begun and not answered, [`FETCHES_IN_FLIGHT_MAX`] of them fetches, then it is
//! not read from; what replies hold in memory that nobody takes is bounded by [`Unsent`].

mod budget;
mod connection;
mod replies;
mod unsent;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

pub use crate::rt::{Descriptor, File};
pub use budget::{Budget, Permit};
pub use connection::{Ended, Limits, Served, serve};
pub use unsent::Unsent;

/// The most requests of one connection that are begun and not answered.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// The most fetches of one connection that are begun and not sent: each may hold the memory of its
/// reply. Kafka begins the next request of a connection only when the reply to the last one is sent.
pub const FETCHES_IN_FLIGHT_MAX: usize = 2;

/// A piece of a reply frame, to be sent in order.
#[derive(Clone, Debug)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file that are never rewritten.
    File {
        /// The file, open for reading.
        file: Arc<File>,
        /// Where they begin.
        at: u64,
        /// How many they are.
        len: u64,
    },
}

impl Part {
    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File { len, .. } => *len,
        }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// This frame is sent.
    Reply(Vec<Part>),
    /// Nothing is sent (produce with acks 0).
    Silent,
    /// The connection is closed.
    Close,
}

/// A request that has begun.
pub enum Started {
    /// It is over already.
    Now(Outcome),
    /// It will be.
    Later(Pin<Box<dyn Future<Output = Outcome>>>),
}
