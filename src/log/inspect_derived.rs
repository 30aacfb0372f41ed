//! Looks at the derived files of a partition from outside: checkpoint and index.

use crate::base::Offset;

use super::checkpoint::Checkpoint;
use super::index::Index;
use super::inspect::Report;
use super::sealed_file;

pub use super::checkpoint::NAME as CHECKPOINT_NAME;

/// What a checkpoint file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointReport {
    /// The log was closed cleanly.
    pub clean: bool,
    /// The first offset that may be read.
    pub start: Offset,
    /// The offset after the last record that it vouches for.
    pub end: Offset,
    /// The base offset of the segment that was active.
    pub active: Offset,
    /// Bytes of that segment that it vouches for.
    pub position: u64,
    /// Segments below the active one.
    pub sealed: usize,
    /// Leader epochs and their first offsets.
    pub epochs: Vec<(i32, i64)>,
    /// Bytes of producer state.
    pub producer_bytes: usize,
}

/// Reads a checkpoint file; none if it is damaged or of another version, and then recovery does
/// without it.
pub fn inspect_checkpoint(contents: &[u8]) -> Option<CheckpointReport> {
    let checkpoint = Checkpoint::from_file(contents)?;
    Some(CheckpointReport {
        clean: checkpoint.clean,
        start: Offset(checkpoint.start),
        end: Offset(checkpoint.end),
        active: Offset(checkpoint.active),
        position: checkpoint.position,
        sealed: checkpoint.sealed.len(),
        epochs: checkpoint.epochs,
        producer_bytes: checkpoint.producers.len(),
    })
}

/// What an index file is worth. Whatever it is, the log is read right: an index that is not sound
/// is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexReport {
    /// Every entry points at its batch.
    Sound {
        /// How many there are.
        entries: usize,
    },
    /// Its checksum does not hold.
    Damaged,
    /// It was made for another segment, or for another length of this one.
    Stale,
    /// An entry does not point at its batch.
    Wrong {
        /// The position that it points at.
        position: u64,
    },
}

/// Holds an index file against its segment of `segment_bytes`, whose name says `base` and which
/// `report` is about.
pub fn inspect_index(
    contents: &[u8],
    base: Offset,
    segment_bytes: u64,
    report: &Report,
) -> IndexReport {
    if sealed_file::open(super::index::MAGIC, contents).is_none() {
        return IndexReport::Damaged;
    }
    let Some(index) = Index::from_file(contents, base, segment_bytes) else {
        return IndexReport::Stale;
    };
    let mut batches = report.batches.iter().peekable();
    let mut before = i64::MIN;
    for entry in index.entries() {
        let position = u64::from(entry.position);
        while let Some(batch) = batches.next_if(|batch| batch.position < position) {
            before = before.max(batch.header.max_timestamp);
        }
        let right = batches.peek().is_some_and(|batch| {
            batch.position == position
                && batch.header.base_offset.0 - base.0 == i64::from(entry.relative)
                && entry.max_timestamp_before == before
        });
        if !right {
            return IndexReport::Wrong { position };
        }
    }
    IndexReport::Sound {
        entries: index.entries().len(),
    }
}
