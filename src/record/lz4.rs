//! The LZ4 frame format (lz4_Frame_format.md), read as apache/kafka's `Lz4BlockInputStream` reads
//! it: one frame, independent blocks only (Java consumers could not read others), header and block
//! checksums checked, the content checksum not.
//!
//! Our own reader, since `lz4_flex`'s allocates whole blocks (up to 4 MiB, twice) for a frame of
//! a few bytes when the frame's header says so.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::codec::Unpack;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const UNCOMPRESSED_BIT: u32 = 1 << 31;
/// One byte of a block can become at most 255.
const EXPANSION_MAX: usize = 255;

/// Appends `bytes` to `out` as one frame of 64 KiB blocks, as Java's producer writes it.
pub(super) fn compress(bytes: &[u8], out: &mut Vec<u8>) {
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder
        .write_all(bytes)
        .expect("writing to memory does not fail");
    encoder.finish().expect("writing to memory does not fail");
}

/// Appends what the frame in `bytes` holds to `out`, which ends at most at `limit` bytes. What
/// follows the frame's end mark is not looked at.
pub(super) fn decompress(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Unpack> {
    let (frame, mut rest) = Frame::read(bytes)?;
    loop {
        let size = u32::from_le_bytes(take(&mut rest)?);
        let length = (size & !UNCOMPRESSED_BIT) as usize;
        if length == 0 {
            return Ok(());
        }
        if length > frame.block_bytes_max {
            return Err(Unpack::Malformed);
        }
        let (block, after) = rest.split_at_checked(length).ok_or(Unpack::Malformed)?;
        rest = after;
        if frame.block_checksums && u32::from_le_bytes(take(&mut rest)?) != xxh32(block) {
            return Err(Unpack::Malformed);
        }
        let room = limit.saturating_sub(out.len());
        if size & UNCOMPRESSED_BIT == 0 {
            unpack_block(block, frame.block_bytes_max, limit, out)?;
        } else if length > room {
            return Err(Unpack::TooLarge { limit });
        } else {
            out.extend_from_slice(block);
        }
    }
}

fn unpack_block(
    block: &[u8],
    block_bytes_max: usize,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), Unpack> {
    let begin = out.len();
    let possible = block_bytes_max.min(block.len().saturating_mul(EXPANSION_MAX));
    let room = possible.min(limit.saturating_sub(begin));
    out.resize(begin + room, 0);
    match lz4_flex::block::decompress_into(block, &mut out[begin..]) {
        Ok(written) => {
            out.truncate(begin + written);
            Ok(())
        }
        Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room < possible => {
            Err(Unpack::TooLarge { limit })
        }
        Err(_) => Err(Unpack::Malformed),
    }
}

/// What a frame's header says.
struct Frame {
    block_bytes_max: usize,
    block_checksums: bool,
}

impl Frame {
    /// Reads magic, descriptor and its checksum; returns the rest of the bytes too.
    fn read(bytes: &[u8]) -> Result<(Frame, &[u8]), Unpack> {
        let descriptor = bytes.strip_prefix(&MAGIC).ok_or(Unpack::Malformed)?;
        let [flags, block_descriptor] = *descriptor.first_chunk().ok_or(Unpack::Malformed)?;
        // Version 01, independent blocks; the reserved bit and the dictionary bit are zero.
        if flags & 0b1110_0011 != 0b0110_0000 || block_descriptor & 0b1000_1111 != 0 {
            return Err(Unpack::Malformed);
        }
        let block_bytes_max = match block_descriptor >> 4 {
            code @ 4..=7 => 1usize << (8 + 2 * code),
            _ => return Err(Unpack::Malformed),
        };
        let length = if flags & 0b1000 != 0 { 10 } else { 2 };
        let (descriptor, rest) = descriptor
            .split_at_checked(length)
            .ok_or(Unpack::Malformed)?;
        let (&checksum, rest) = rest.split_first().ok_or(Unpack::Malformed)?;
        if checksum != (xxh32(descriptor) >> 8) as u8 {
            return Err(Unpack::Malformed);
        }
        Ok((
            Frame {
                block_bytes_max,
                block_checksums: flags & 0b1_0000 != 0,
            },
            rest,
        ))
    }
}

fn take(rest: &mut &[u8]) -> Result<[u8; 4], Unpack> {
    let (taken, after) = rest.split_first_chunk().ok_or(Unpack::Malformed)?;
    *rest = after;
    Ok(*taken)
}

const PRIMES: [u32; 5] = [
    0x9e37_79b1,
    0x85eb_ca77,
    0xc2b2_ae3d,
    0x27d4_eb2f,
    0x1656_67b1,
];

/// xxHash, 32 bits, seed 0 (xxhash_spec.md); the frame format's checksum.
fn xxh32(bytes: &[u8]) -> u32 {
    let mut lanes = [
        PRIMES[0].wrapping_add(PRIMES[1]),
        PRIMES[1],
        0,
        0u32.wrapping_sub(PRIMES[0]),
    ];
    let (stripes, tail) = bytes.as_chunks::<16>();
    for stripe in stripes {
        for (lane, word) in lanes.iter_mut().zip(stripe.as_chunks::<4>().0) {
            let mixed = lane.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIMES[1]));
            *lane = mixed.rotate_left(13).wrapping_mul(PRIMES[0]);
        }
    }
    let mut hash = if stripes.is_empty() {
        PRIMES[4]
    } else {
        let turned = lanes
            .iter()
            .zip([1, 7, 12, 18])
            .map(|(lane, by)| lane.rotate_left(by));
        turned.fold(0, u32::wrapping_add)
    };
    hash = hash.wrapping_add(bytes.len() as u32);
    let (words, last) = tail.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIMES[2]));
        hash = hash.rotate_left(17).wrapping_mul(PRIMES[3]);
    }
    for byte in last {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(PRIMES[4]));
        hash = hash.rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIMES[1]);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIMES[2]);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_agrees_with_the_known_values_of_xxhash() {
        assert_eq!(xxh32(b""), 0x02cc_5d05);
        assert_eq!(xxh32(b"a"), 0x550d_7456);
        assert_eq!(xxh32(b"abc"), 0x32d1_53ff);
        assert_eq!(
            xxh32(b"Nobody inspects the spammish repetition"),
            0xe229_3b2f
        );
    }

    #[test]
    fn block_checksums_are_checked_and_linked_blocks_refused() {
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n / 7) as u8).collect();
        let frame = |info: FrameInfo| {
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&bytes).expect("memory");
            encoder.finish().expect("memory")
        };
        let info = FrameInfo::new()
            .block_checksums(true)
            .content_checksum(true);
        let mut packed = frame(
            info.block_size(BlockSize::Max256KB)
                .content_size(Some(200_000)),
        );
        let mut out = Vec::new();
        assert_eq!(decompress(&packed, 200_000, &mut out), Ok(()));
        assert_eq!(out, bytes);
        packed[30] ^= 1;
        assert_eq!(
            decompress(&packed, 200_000, &mut Vec::new()),
            Err(Unpack::Malformed)
        );
        let linked = frame(FrameInfo::new().block_mode(BlockMode::Linked));
        assert_eq!(
            decompress(&linked, 200_000, &mut Vec::new()),
            Err(Unpack::Malformed)
        );
    }
}
