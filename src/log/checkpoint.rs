//! The file `checkpoint`: what recovery may take for granted.
//!
//! It vouches for every byte below (`active`, `position`): those were on stable storage when it was
//! written, so recovery scans from there, and never cuts below it. It is replaced as a whole, so a
//! crash leaves the older one, which vouches for less but for nothing wrong. Without it everything
//! is scanned.

use bytes::Bytes;
use rkyv::rancor;
use rkyv::util::AlignedVec;

use super::index::Entry;
use super::sealed_file;

const MAGIC: [u8; 8] = *b"corelchk";
/// The name of the file in the partition's directory.
pub const NAME: &str = "checkpoint";
/// The largest checkpoint that is read back, in bytes.
pub(super) const BYTES_MAX: usize = 1 << 30;
/// The format that is written.
const VERSION: u32 = 1;

/// A full segment that was on stable storage.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Sealed {
    pub base: i64,
    pub bytes: u64,
    pub end: i64,
    pub max_timestamp: i64,
    pub offset_of_max: i64,
}

/// The contents of the file.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub(super) struct Checkpoint {
    pub version: u32,
    /// The log was closed cleanly, and the active segment is exactly `position` bytes long.
    pub clean: bool,
    /// Writes since then may have been relaxed (`flush.messages` above 1).
    pub relaxed: bool,
    /// The first offset that may be read.
    pub start: i64,
    /// The segments below `active`.
    pub sealed: Vec<Sealed>,
    /// Base offset of the segment that was active.
    pub active: i64,
    /// Bytes of it that were on stable storage.
    pub position: u64,
    /// The offset after the last record below `position`.
    pub end: i64,
    /// Of the first batch of the active segment; -1 for none.
    pub first_timestamp: i64,
    /// Of all batches below `position` in the active segment; -1 for none.
    pub max_timestamp: i64,
    /// Base offset of the batch with it.
    pub offset_of_max: i64,
    /// The active segment's index below `position`.
    pub index: Vec<Entry>,
    /// Leader epochs and their first offsets.
    pub epochs: Vec<(i32, i64)>,
    /// The partition's producer state at `end`, not ours to read.
    pub producers: Vec<u8>,
}

impl Checkpoint {
    /// The contents of the file.
    pub(super) fn to_file(&self) -> Bytes {
        let stored = Checkpoint {
            version: VERSION,
            ..self.clone()
        };
        let archive = rkyv::to_bytes::<rancor::Error>(&stored).unwrap_or_default();
        Bytes::from(sealed_file::seal(MAGIC, &archive))
    }

    /// Reads the file; none unless it is whole and of a version that we know.
    pub(super) fn from_file(contents: &[u8]) -> Option<Checkpoint> {
        let mut aligned = AlignedVec::<16>::new();
        aligned.extend_from_slice(sealed_file::open(MAGIC, contents)?);
        let checkpoint = rkyv::from_bytes::<Checkpoint, rancor::Error>(&aligned).ok()?;
        (checkpoint.version == VERSION).then_some(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_and_a_damaged_one_is_as_good_as_none() {
        let checkpoint = Checkpoint {
            version: VERSION,
            clean: true,
            start: 3,
            sealed: vec![Sealed {
                base: 0,
                bytes: 9,
                end: 5,
                max_timestamp: 1,
                offset_of_max: 2,
            }],
            active: 5,
            position: 77,
            epochs: vec![(1, 0), (2, 4)],
            producers: vec![1, 2, 3],
            ..Checkpoint::default()
        };
        let file = checkpoint.to_file();
        assert_eq!(Checkpoint::from_file(&file), Some(checkpoint));
        for at in 0..file.len() {
            let mut damaged = file.to_vec();
            damaged[at] ^= 1;
            assert_eq!(Checkpoint::from_file(&damaged), None, "byte {at}");
        }
    }
}
