//! Stand-in for the net room: only the face that the api room is written against.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

/// A file that parts of replies are sent from; the lead's is `rt`'s.
#[derive(Debug)]
pub struct File;

/// A piece of a reply frame, to be sent in order.
#[derive(Clone, Debug)]
pub enum Part {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file.
    File {
        /// The file.
        file: Arc<File>,
        /// Where they begin.
        at: u64,
        /// How many they are.
        len: u64,
    },
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
