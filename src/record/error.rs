//! What can be wrong with the bytes of a batch.

use std::fmt;

use super::codec::{Codec, Unpack};

/// Why bytes are not a readable batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end before the header or the batch does: a torn tail, or a cut read.
    Incomplete {
        /// Bytes that are there.
        have: usize,
        /// Bytes that the header or the whole batch needs.
        need: usize,
    },
    /// The length field cannot be: less than the rest of a header.
    Length {
        /// The field's value.
        batch_length: i32,
    },
    /// Not format 2.
    Magic(i8),
    /// The checksum over attributes to end does not hold.
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Codec ids 5 to 7 mean nothing.
    UnknownCodec(u8),
    /// The compressed section is not what its codec writes.
    Undecodable(Codec),
    /// The compressed section holds more than the caller allows.
    DecompressedTooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// A record, or the section as a whole, has the wrong structure.
    Record {
        /// The record's index in its batch, counted from 0.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// The section ends before the declared number of records does.
    Missing,
    /// Bytes are left after the declared number of records.
    Remaining {
        /// How many.
        bytes: usize,
    },
    /// A length reaches over the end of the record or of the section.
    Overrun,
    /// The record's fields take fewer bytes than it declares.
    Size {
        /// Bytes declared.
        declared: i64,
        /// Bytes read.
        read: usize,
    },
    /// A varint does not end after its 5 (or 10) bytes.
    Varint,
    /// A negative header count, or more headers than bytes.
    HeaderCount(i32),
    /// A header without a key.
    HeaderKey(i32),
}

impl BatchError {
    /// The error for a compressed section that `codec` could not unpack.
    pub(super) fn unpack(codec: Codec, fault: Unpack) -> BatchError {
        match fault {
            Unpack::Malformed => BatchError::Undecodable(codec),
            Unpack::TooLarge { limit } => BatchError::DecompressedTooLarge { limit },
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Incomplete { have, need } => {
                write!(f, "the batch is cut off: {have} of {need} bytes")
            }
            BatchError::Length { batch_length } => {
                write!(f, "a batch length of {batch_length} is less than a header")
            }
            BatchError::Magic(magic) => write!(f, "record format {magic} is not 2"),
            BatchError::Crc { stored, computed } => {
                write!(
                    f,
                    "Record is corrupt (stored crc = {stored}, computed crc = {computed})"
                )
            }
            BatchError::UnknownCodec(id) => write!(f, "Unknown compression type id: {id}"),
            BatchError::Undecodable(codec) => {
                write!(f, "Failed to decompress record stream ({})", codec.name())
            }
            BatchError::DecompressedTooLarge { limit } => {
                write!(
                    f,
                    "the records take more than {limit} bytes when decompressed"
                )
            }
            BatchError::Record { index, fault } => write!(f, "record {index}: {fault}"),
        }
    }
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordFault::Missing => f.write_str("premature end of the batch"),
            RecordFault::Remaining { bytes } => {
                write!(
                    f,
                    "{bytes} bytes remain after the declared number of records"
                )
            }
            RecordFault::Overrun => f.write_str("a length reaches over the end"),
            RecordFault::Size { declared, read } => {
                write!(f, "declared {declared} bytes, but has {read}")
            }
            RecordFault::Varint => f.write_str("a variable-length number does not end"),
            RecordFault::HeaderCount(count) => write!(f, "invalid number of headers {count}"),
            RecordFault::HeaderKey(size) => write!(f, "invalid header key size {size}"),
        }
    }
}

impl std::error::Error for BatchError {}
