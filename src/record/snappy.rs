//! Snappy, raw and in the framing of snappy-java ("Xerial"):
//!
//! ```text
//! 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version i32 = 1 | compatible i32 = 1 | { length i32 | raw block }*
//! ```
//!
//! A header may come again in the middle, where streams were joined. Neither form has a checksum.

use super::codec::Unpack;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
/// snappy-java's block size.
const BLOCK_BYTES: usize = 32 << 10;
/// The most that one byte of raw snappy can become: a 3-byte copy of 64 bytes.
const EXPANSION_MAX: usize = 22;

/// Appends `bytes` to `out`, compressed and framed.
pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in bytes.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        out.resize(length_at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut out[length_at + 4..]);
        let written = written.expect("a block of 32 KiB fits the length snappy gave");
        out[length_at..length_at + 4].copy_from_slice(&(written as u32).to_be_bytes());
        out.truncate(length_at + 4 + written);
    }
}

/// Appends what `bytes` hold, framed or raw, to `out`, which ends at most at `limit` bytes.
pub(super) fn decompress(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Unpack> {
    if !bytes.starts_with(&MAGIC) {
        return block(bytes, limit, out);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER_BYTES..).ok_or(Unpack::Malformed)?;
            continue;
        }
        let (length, after) = rest.split_first_chunk::<4>().ok_or(Unpack::Malformed)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (packed, after) = after.split_at_checked(length).ok_or(Unpack::Malformed)?;
        block(packed, limit, out)?;
        rest = after;
    }
    Ok(())
}

fn block(packed: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Unpack> {
    let length = snap::raw::decompress_len(packed).map_err(|_| Unpack::Malformed)?;
    if length > packed.len().saturating_mul(EXPANSION_MAX) {
        return Err(Unpack::Malformed);
    }
    if length > limit.saturating_sub(out.len()) {
        return Err(Unpack::TooLarge { limit });
    }
    let begin = out.len();
    out.resize(begin + length, 0);
    let written = snap::raw::Decoder::new().decompress(packed, &mut out[begin..]);
    match written {
        Ok(written) if written == length => Ok(()),
        Ok(_) | Err(_) => Err(Unpack::Malformed),
    }
}
