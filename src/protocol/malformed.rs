//! What can be wrong with bytes from the wire. Always the sender's fault, never ours.

use std::fmt;

/// Why bytes could not be read as what they claim to be. Kafka closes the connection for it
/// (apache/kafka `SocketServer.processException` on `InvalidRequestException`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A field goes on for `wanted` bytes, `left` remain.
    Truncated {
        /// Bytes that the field needs.
        wanted: usize,
        /// Bytes that remain.
        left: usize,
    },
    /// An array claims more elements than the bytes that remain can hold.
    Count {
        /// Elements claimed.
        count: usize,
        /// Bytes that remain.
        left: usize,
    },
    /// A length below -1, which stands for null.
    NegativeLength(i32),
    /// A string of more than 32,767 bytes.
    LongText(usize),
    /// A variable-length integer with more than 32 (or 64) bits.
    LongVarint,
    /// Null where a value must be.
    Null,
    /// A string that is not UTF-8.
    NotText,
    /// A tagged field whose length is not that of its contents.
    TaggedFieldLength {
        /// The length that the sender gave.
        claimed: usize,
        /// The bytes that its contents take.
        read: usize,
    },
    /// Reading it would take more than `limit` bytes of memory: far more than any client's message
    /// of that size, so it was made to.
    TooManyElements {
        /// The most that a body of this size may take.
        limit: usize,
    },
    /// There is no decoder for this version of this API.
    UnknownVersion {
        /// The API's number.
        key: i16,
        /// The version asked for.
        version: i16,
    },
    /// There is no API with this number.
    UnknownApi(i16),
    /// The decoder refused for a reason that the walk before it does not look at.
    Refused,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Malformed::Truncated { wanted, left } => {
                write!(f, "a field of {wanted} bytes where {left} remain")
            }
            Malformed::Count { count, left } => {
                write!(f, "an array of {count} elements where {left} bytes remain")
            }
            Malformed::NegativeLength(length) => write!(f, "a length of {length}"),
            Malformed::LongText(length) => write!(f, "a string of {length} bytes"),
            Malformed::LongVarint => f.write_str("a variable-length integer with too many bits"),
            Malformed::Null => f.write_str("null where a value must be"),
            Malformed::NotText => f.write_str("a string that is not UTF-8"),
            Malformed::TaggedFieldLength { claimed, read } => {
                write!(
                    f,
                    "a tagged field of {claimed} bytes whose contents take {read}"
                )
            }
            Malformed::TooManyElements { limit } => {
                write!(
                    f,
                    "elements that would take more than {limit} bytes of memory"
                )
            }
            Malformed::UnknownVersion { key, version } => {
                write!(
                    f,
                    "version {version} of API {key}, which has no decoder here"
                )
            }
            Malformed::UnknownApi(key) => write!(f, "API {key}, which does not exist"),
            Malformed::Refused => f.write_str("a body that its decoder refused"),
        }
    }
}

impl std::error::Error for Malformed {}
