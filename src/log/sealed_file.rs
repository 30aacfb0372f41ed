//! The envelope of our small derived files: `magic (8) | crc32c (4) | length (4) | contents`, the
//! numbers little-endian. The checksum covers magic, length and contents.

use crate::base::crc32c_of;

const HEADER: usize = 16;

/// Wraps `contents`, which must be shorter than 4 GiB.
pub(super) fn seal(magic: [u8; 8], contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len())
        .expect("a small file")
        .to_le_bytes();
    let mut file = Vec::with_capacity(HEADER + contents.len());
    file.extend_from_slice(&magic);
    file.extend_from_slice(&checksum(magic, length, contents).to_le_bytes());
    file.extend_from_slice(&length);
    file.extend_from_slice(contents);
    file
}

/// The contents of a wrapped file; none if anything about it is wrong.
pub(super) fn open(magic: [u8; 8], file: &[u8]) -> Option<&[u8]> {
    let (header, contents) = file.split_at_checked(HEADER)?;
    let stored = u32::from_le_bytes(header[8..12].try_into().ok()?);
    let length: [u8; 4] = header[12..16].try_into().ok()?;
    let whole = header[..8] == magic && u32::from_le_bytes(length) as usize == contents.len();
    (whole && checksum(magic, length, contents) == stored).then_some(contents)
}

fn checksum(magic: [u8; 8], length: [u8; 4], contents: &[u8]) -> u32 {
    crc32c_of(&[&magic, &length, contents])
}
