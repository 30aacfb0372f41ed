//! What a journal's file holds, for `corelane inspect`.

use std::collections::BTreeMap;

use super::frame::read_file;

/// What the next start would bring to files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct JournalReport {
    /// Writes to the journal that count.
    pub frames: usize,
    /// By file, from the data directory on.
    pub files: BTreeMap<String, JournaledFile>,
}

/// What a journal holds of one file. It may be in the file as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournaledFile {
    /// Writes of the log.
    pub images: usize,
    /// Where the first of them begins, in bytes.
    pub from: u64,
    /// Where the farthest of them ends, in bytes.
    pub to: u64,
}

/// Reads a journal's whole file. An error is the byte at which it is damaged: the broker does not
/// open the data directory then.
pub fn inspect_journal(contents: &[u8]) -> Result<JournalReport, usize> {
    let (frames, entries) = read_file(contents)?;
    let mut files: BTreeMap<String, JournaledFile> = BTreeMap::new();
    for entry in entries {
        let Some((at, image)) = entry.image else {
            files.remove(&entry.path);
            continue;
        };
        let end = at + image.len() as u64;
        let file = files.entry(entry.path).or_default();
        let first = file.images == 0;
        file.from = if first { at } else { file.from.min(at) };
        file.to = file.to.max(end);
        file.images += 1;
    }
    Ok(JournalReport { frames, files })
}
