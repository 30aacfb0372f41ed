//! The sparse index of one segment: from offset or time to a batch's position.
//!
//! Derived from the segment, never the other way round: an index file that is missing, damaged or
//! made for another length of the segment is rebuilt by a scan.

use rkyv::rancor;
use rkyv::util::AlignedVec;

use crate::base::Offset;

use super::sealed_file;

/// What an index file begins with.
pub(super) const MAGIC: [u8; 8] = *b"corelidx";

/// One batch that the index points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Entry {
    /// The batch's base offset less the segment's.
    pub relative: u32,
    /// Where the batch begins.
    pub position: u32,
    /// The largest timestamp of all batches before it in the segment; `i64::MIN` for the first.
    pub max_timestamp_before: i64,
}

/// The index of a segment: entries ascending in offset, position and time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// It came from a file: an entry is compared with the batch that it points at before use, until
    /// one of them agreed. The file is whole and was made for this segment at this length; that one
    /// entry fits as well says that the two belong together.
    pub from_file: bool,
    /// An entry of it agreed with its batch.
    pub agreed: bool,
}

/// What lies in an index file.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Stored {
    base: i64,
    segment_bytes: u64,
    entries: Vec<Entry>,
}

impl Index {
    pub(super) fn from_entries(entries: Vec<Entry>) -> Index {
        Index {
            entries,
            from_file: true,
            agreed: false,
        }
    }

    /// Its entries can be relied on without a look at the batches.
    pub(super) fn is_trusted(&self) -> bool {
        self.agreed || !self.from_file
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Notes a batch if `interval` bytes went by since the last noted one.
    pub(super) fn note(&mut self, entry: Entry, interval: u32) {
        let due = match self.entries.last() {
            None => true,
            Some(last) => entry.position - last.position >= interval.max(1),
        };
        if due {
            self.entries.push(entry);
        }
    }

    /// The last entry at or below `relative`; the first one if all are above (a compacted segment).
    pub(super) fn by_offset(&self, relative: u32) -> Option<Entry> {
        let above = self
            .entries
            .partition_point(|entry| entry.relative <= relative);
        self.entries.get(above.saturating_sub(1)).copied()
    }

    /// The last entry before which all timestamps are below `timestamp`: the first batch that
    /// reaches it lies at or after the entry.
    pub(super) fn by_timestamp(&self, timestamp: i64) -> Option<Entry> {
        let above = self
            .entries
            .partition_point(|entry| entry.max_timestamp_before < timestamp);
        self.entries.get(above.saturating_sub(1)).copied()
    }

    /// The last entry with `position <= at` and `relative <= upto`: a batch boundary to stop at.
    pub(super) fn boundary(&self, at: u64, upto: i64) -> Option<Entry> {
        let above = self.entries.partition_point(|entry| {
            u64::from(entry.position) <= at && i64::from(entry.relative) <= upto
        });
        self.entries.get(above.checked_sub(1)?).copied()
    }

    /// The first entry behind position `at`.
    pub(super) fn after(&self, at: u64) -> Option<Entry> {
        let above = self
            .entries
            .partition_point(|entry| u64::from(entry.position) <= at);
        self.entries.get(above).copied()
    }

    /// Memory that it holds, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// The contents of an index file for the segment `base` of `segment_bytes`.
    pub(super) fn to_file(&self, base: Offset, segment_bytes: u64) -> Vec<u8> {
        let stored = Stored {
            base: base.0,
            segment_bytes,
            entries: self.entries.clone(),
        };
        let archive = rkyv::to_bytes::<rancor::Error>(&stored).unwrap_or_default();
        sealed_file::seal(MAGIC, &archive)
    }

    /// Reads an index file; none unless it is whole and made for this segment at this length.
    pub(super) fn from_file(contents: &[u8], base: Offset, segment_bytes: u64) -> Option<Index> {
        let mut aligned = AlignedVec::<16>::new();
        aligned.extend_from_slice(sealed_file::open(MAGIC, contents)?);
        let stored = rkyv::access::<ArchivedStored, rancor::Error>(&aligned).ok()?;
        if stored.base.to_native() != base.0 || stored.segment_bytes.to_native() != segment_bytes {
            return None;
        }
        let entries = stored.entries.iter().map(|entry| Entry {
            relative: entry.relative.to_native(),
            position: entry.position.to_native(),
            max_timestamp_before: entry.max_timestamp_before.to_native(),
        });
        Some(Index {
            entries: entries.collect(),
            from_file: true,
            agreed: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let mut index = Index::default();
        for n in 0..100u32 {
            let before = if n == 0 { i64::MIN } else { i64::from(n) * 10 };
            index.note(
                Entry {
                    relative: n * 5,
                    position: n * 1000,
                    max_timestamp_before: before,
                },
                4000,
            );
        }
        index
    }

    #[test]
    fn entries_are_sparse_and_found_by_offset_time_and_position() {
        let index = index();
        assert_eq!(index.entries().len(), 25);
        assert_eq!(index.by_offset(0).map(|entry| entry.position), Some(0));
        assert_eq!(index.by_offset(39).map(|entry| entry.position), Some(4000));
        assert_eq!(index.by_offset(40).map(|entry| entry.position), Some(8000));
        assert_eq!(
            index.by_timestamp(41).map(|entry| entry.position),
            Some(4000)
        );
        assert_eq!(index.by_timestamp(40).map(|entry| entry.position), Some(0));
        assert_eq!(
            index.boundary(8500, i64::MAX).map(|entry| entry.position),
            Some(8000)
        );
        assert_eq!(
            index.boundary(8500, 39).map(|entry| entry.position),
            Some(4000)
        );
    }

    #[test]
    fn an_index_file_reads_back_and_any_damage_or_other_segment_is_refused() {
        let index = index();
        let file = index.to_file(Offset(7), 100_000);
        let read = Index::from_file(&file, Offset(7), 100_000).expect("a whole file");
        assert_eq!(read.entries(), index.entries());
        assert_eq!(Index::from_file(&file, Offset(8), 100_000), None);
        assert_eq!(Index::from_file(&file, Offset(7), 99_999), None);
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert_eq!(
                Index::from_file(&damaged, Offset(7), 100_000),
                None,
                "byte {at}"
            );
        }
        assert_eq!(
            Index::from_file(&file[..file.len() - 1], Offset(7), 100_000),
            None
        );
    }
}
