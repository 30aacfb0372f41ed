//! The file `compaction`: up to where the log is clean. Without it everything counts as dirty, and a
//! log that is not compacted any more, but was, could not be told from a damaged one if its checkpoint
//! were lost as well.
//!
//! ```text
//! sealed file: version u32 = 1 | cleaned_to i64, -1: nothing yet        (little-endian)
//! ```

use bytes::Bytes;

use crate::base::{DiskOp, Offset};

use super::super::{Log, sealed_file};
use super::Step;

/// The name of the file in the partition's directory.
pub(in crate::log) const NAME: &str = "compaction";
const MAGIC: [u8; 8] = *b"corelcmp";
const VERSION: u32 = 1;

fn to_file(cleaned_to: Option<Offset>) -> Bytes {
    let mut contents = VERSION.to_le_bytes().to_vec();
    let offset = cleaned_to.map_or(-1, |offset| offset.0);
    contents.extend_from_slice(&offset.to_le_bytes());
    Bytes::from(sealed_file::seal(MAGIC, &contents))
}

/// Reads the file; an empty answer for anything but a whole one of a version that we know.
pub(super) fn from_file(file: &[u8]) -> Option<Offset> {
    let contents = sealed_file::open(MAGIC, file)?;
    let (version, offset) = contents.split_first_chunk::<4>()?;
    let offset = i64::from_le_bytes(offset.try_into().ok()?);
    (u32::from_le_bytes(*version) == VERSION && offset >= 0).then_some(Offset(offset))
}

impl Log {
    /// Writes the note.
    pub(super) fn write_note(&mut self, cleaned_to: Option<Offset>, out: &mut Vec<DiskOp>) {
        let id = self.start_step(Step::Noted { cleaned_to });
        out.push(DiskOp::ReplaceFile {
            id,
            file: self.directory.join(NAME),
            contents: to_file(cleaned_to),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_a_damaged_one_says_nothing() {
        let file = to_file(Some(Offset(77)));
        assert_eq!(from_file(&file), Some(Offset(77)));
        assert_eq!(from_file(&to_file(None)), None);
        for at in 0..file.len() {
            let mut damaged = file.to_vec();
            damaged[at] ^= 4;
            assert_eq!(from_file(&damaged), None, "byte {at}");
        }
    }
}
