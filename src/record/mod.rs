//! Record batch v2 (KIP-98), the one format on the wire and on the disk: a view over its bytes,
//! record iteration, a builder, the four compression codecs, control records, and the rules a
//! produced batch must pass.
//!
//! Everything is a function over bytes. Knows no log, no partition, no topic name, no request, no
//! clock and no Kafka error code but the ones that [`Invalid::kind`] maps to.
//!
//! Invariants: no input makes it panic; nothing is allocated because a length or a count on the
//! wire says so (decompression grows by what came out, up to a limit that the caller names).
//!
//! What the format itself does *not* protect: base offset, batch length, leader epoch and magic lie
//! before the CRC'd part. Whoever reads batches back must hold them against the chain of offsets.

mod batches;
mod build;
mod codec;
mod control;
mod error;
mod header;
mod invalid;
mod lz4;
mod records;
mod snappy;
mod template;
mod validate;
mod varint;

#[cfg(test)]
mod tests;

pub use batches::{Batch, Batches};
pub use build::BatchBuilder;
pub use codec::{Codec, Scratch, Unpack};
pub use control::{ControlKind, EndTransactionMarker};
pub use error::{BatchError, RecordFault};
pub use header::{BatchHeader, HEADER_BYTES, TimestampType, stamp, verify};
pub use invalid::{Invalid, InvalidKind, RECORD_ERRORS_MAX, RecordErrors, RecordRefusal};
pub use records::{
    Headers, Record, Records, find_timestamp, offset_of_timestamp_max, read_records,
};
pub use template::BatchTemplate;
pub use validate::{Compression, Origin, Rules, Valid, validate};
