//! What is in a journal's file: frames, each one durable write.
//!
//! ```text
//! extent   frame, frame, ...                    a half of the file; the first frame begins it
//! frame    magic (8) | generation (8) | number (4) | entries (4) | bytes of entries (4)
//!          | crc32c of the frame before (4) | crc32c of all of this frame but itself (4)
//!          | entries | zeros to the next block
//! entry    kind (1) | topic id (16) | length of the path (2) | path
//!          | position in the file (8) | length of the image (4) | stored bytes (4) | stored bytes
//! ```
//!
//! Little-endian. An image is what a log wrote: whole blocks, or the end of them, where the image of
//! the file before it in the same extent has the same bytes at the front. The zeros between its last
//! batch and its trailer are not stored. A *settled* entry has no image: all that the journal said of the file
//! before is void.
//!
//! A frame counts if its checksum holds and it follows the one before: the same generation, the next
//! number, the checksum of that frame. So what an older use of the extent left behind never counts,
//! whether it verifies or not. A frame is acknowledged when all before it are on the disk, and at most
//! [`FRAMES_MAX`] are on their way at a time: one that does not verify may have been torn, whatever the
//! next ones are; but where one lies so far behind it that it was begun later than it was done, it was
//! whole, and has been damaged since. What is *not* protected: damage to the last [`FRAMES_MAX`]
//! frames, which nothing tells from torn ones, and to the first, which nothing tells from a half that
//! is empty.

use std::sync::Arc;

use crate::base::{BLOCK, Buf, Pool, TopicId, crc32c_of};

use super::FRAMES_MAX;

const MAGIC: [u8; 8] = *b"corejrnl";
/// Bytes of a frame before its entries.
pub(super) const HEADER_BYTES: usize = 36;
/// Where in it the checksum of the frame is.
const CRC_AT: usize = 32;
/// Bytes at the end of an image that are stored apart from what comes before the zeros.
pub(super) const TRAILER_BYTES: usize = 32;
const KIND_IMAGE: u8 = 1;
const KIND_SETTLED: u8 = 2;

/// One entry, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whose file it is.
    pub topic: TopicId,
    /// The file, from the data directory on.
    pub path: String,
    /// Where the image belongs, and its bytes; none for a settled entry.
    pub image: Option<(u64, Vec<u8>)>,
}

/// Where a frame belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub generation: u64,
    pub number: u32,
    /// The checksum of the frame before; 0 for the first.
    pub before: u32,
}

/// A frame on its way.
#[derive(Debug)]
pub(super) struct Builder {
    buf: Buf,
    entries: u32,
}

impl Builder {
    /// A frame with room for about `bytes` of entries.
    pub(super) fn new(pool: &Pool, bytes: usize) -> Builder {
        let mut buf = pool.take((HEADER_BYTES + bytes).next_multiple_of(BLOCK) + BLOCK);
        buf.extend_from_slice(&[0; HEADER_BYTES]);
        Builder { buf, entries: 0 }
    }

    /// Adds what a log wrote: up to the end of a block, with the trailer.
    pub(super) fn image(&mut self, topic: TopicId, path: &str, at: u64, image: &[u8]) {
        let (front, trailer) = image.split_at(image.len() - TRAILER_BYTES);
        let front = &front[..filled_bytes(front)];
        self.head(KIND_IMAGE, topic, path);
        let stored = (front.len() + trailer.len()) as u32;
        self.put(&at.to_le_bytes());
        self.put(&(image.len() as u32).to_le_bytes());
        self.put(&stored.to_le_bytes());
        self.put(front);
        self.put(trailer);
    }

    /// Adds that a file is settled.
    pub(super) fn settled(&mut self, topic: TopicId, path: &str) {
        self.head(KIND_SETTLED, topic, path);
        self.put(&[0; 16]);
    }

    fn head(&mut self, kind: u8, topic: TopicId, path: &str) {
        self.entries += 1;
        self.put(&[kind]);
        self.put(&topic.0);
        self.put(&(path.len() as u16).to_le_bytes());
        self.put(path.as_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        assert!(
            self.buf.spare() >= bytes.len(),
            "a frame is larger than was counted"
        );
        self.buf.extend_from_slice(bytes);
    }

    /// The bytes to write, and the frame's checksum.
    pub(super) fn finish(mut self, place: Place) -> (Arc<Buf>, u32) {
        let bytes = (self.buf.len() - HEADER_BYTES) as u32;
        let mut header = [0; CRC_AT];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&place.generation.to_le_bytes());
        header[16..20].copy_from_slice(&place.number.to_le_bytes());
        header[20..24].copy_from_slice(&self.entries.to_le_bytes());
        header[24..28].copy_from_slice(&bytes.to_le_bytes());
        header[28..32].copy_from_slice(&place.before.to_le_bytes());
        let crc = crc32c_of(&[&header, &self.buf[HEADER_BYTES..]]);
        let whole = self.buf.whole_mut();
        whole[..CRC_AT].copy_from_slice(&header);
        whole[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        self.buf.pad_to_block();
        (Arc::new(self.buf), crc)
    }
}

/// Bytes before the zeros at the end. Many at a time: up to a block of them is looked at for each
/// image.
fn filled_bytes(bytes: &[u8]) -> usize {
    const STEP: usize = 64;
    let mut end = bytes.len();
    while let Some(last) = bytes[..end].last_chunk::<STEP>()
        && *last == [0; STEP]
    {
        end -= STEP;
    }
    let filled = bytes[..end].iter().rposition(|byte| *byte != 0);
    filled.map_or(0, |last| last + 1)
}

/// Bytes that an entry takes at most.
pub(super) fn entry_bytes(path: &str, image: usize) -> usize {
    1 + 16 + 2 + path.len() + 16 + image
}

/// A frame that was read, and what follows from it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub place: Place,
    pub entries: Vec<Entry>,
    /// Bytes to the next frame.
    pub bytes: usize,
    /// What the next frame says of the one before it.
    pub crc: u32,
}

/// The frame that `bytes` begins with. None if there is none that verifies.
pub(super) fn read(bytes: &[u8]) -> Option<Frame> {
    let header = bytes.get(..HEADER_BYTES)?;
    if header[..8] != MAGIC {
        return None;
    }
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let generation = u64::from_le_bytes(header[8..16].try_into().unwrap_or_default());
    let (count, length, crc) = (number(20), number(24) as usize, number(CRC_AT));
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(length)?)?;
    if crc32c_of(&[&header[..CRC_AT], body]) != crc {
        return None;
    }
    let (mut entries, mut rest) = (Vec::new(), body);
    for _ in 0..count {
        let (entry, after) = read_entry(rest)?;
        entries.push(entry);
        rest = after;
    }
    Some(Frame {
        place: Place {
            generation,
            number: number(16),
            before: number(28),
        },
        entries,
        bytes: (HEADER_BYTES + length).next_multiple_of(BLOCK),
        crc,
    })
}

fn read_entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (kind, rest) = bytes.split_at_checked(1)?;
    let (topic, rest) = rest.split_at_checked(16)?;
    let (length, rest) = rest.split_at_checked(2)?;
    let length = usize::from(u16::from_le_bytes(length.try_into().ok()?));
    let (path, rest) = rest.split_at_checked(length)?;
    let (at, rest) = rest.split_at_checked(8)?;
    let (size, rest) = rest.split_at_checked(4)?;
    let (stored, rest) = rest.split_at_checked(4)?;
    let size = u32::from_le_bytes(size.try_into().ok()?) as usize;
    let stored = u32::from_le_bytes(stored.try_into().ok()?) as usize;
    let (stored, rest) = rest.split_at_checked(stored)?;
    let image = match kind[0] {
        KIND_SETTLED => None,
        KIND_IMAGE => {
            let front = stored.len().checked_sub(TRAILER_BYTES)?;
            let at = u64::from_le_bytes(at.try_into().ok()?);
            let end = at.checked_add(size as u64)?;
            let whole = end.is_multiple_of(BLOCK as u64) && stored.len() <= size;
            let mut image = vec![0; size.min(1 << 30)];
            if !whole || image.len() != size {
                return None;
            }
            image[..front].copy_from_slice(&stored[..front]);
            image[size - TRAILER_BYTES..].copy_from_slice(&stored[front..]);
            Some((at, image))
        }
        _ => return None,
    };
    let entry = Entry {
        topic: TopicId(topic.try_into().ok()?),
        path: std::str::from_utf8(path).ok()?.to_owned(),
        image,
    };
    Some((entry, rest))
}

/// The frames of an extent that count, in order. An error is the byte at which one was damaged that
/// must have been whole.
pub(super) fn read_extent(bytes: &[u8]) -> Result<Vec<Frame>, usize> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = 0;
    while let Some(frame) = bytes.get(at..).and_then(read) {
        let expected = match frames.last() {
            None => Place {
                generation: frame.place.generation,
                number: 0,
                before: 0,
            },
            Some(before) => Place {
                generation: before.place.generation,
                number: before.place.number + 1,
                before: before.crc,
            },
        };
        if frame.place != expected {
            break;
        }
        at += frame.bytes;
        frames.push(frame);
    }
    let Some(last) = frames.last().map(|frame| frame.place) else {
        return Ok(frames);
    };
    let behind = bytes.get(at..).unwrap_or_default().chunks(BLOCK);
    for block in 0..behind.len() {
        let later = read(&bytes[at + block * BLOCK..]).map(|frame| frame.place);
        if later.is_some_and(|later| {
            later.generation == last.generation && later.number > last.number + FRAMES_MAX
        }) {
            return Err(at);
        }
    }
    Ok(frames)
}

/// The entries of a journal's whole file that count, in the order in which they were written, and of
/// how many frames they are. An error is the byte at which a frame was damaged.
pub(super) fn read_file(bytes: &[u8]) -> Result<(usize, Vec<Entry>), usize> {
    let half = bytes.len() / 2;
    let (first, second) = bytes.split_at(half);
    let mut extents = [
        read_extent(first)?,
        read_extent(second).map_err(|at| half + at)?,
    ];
    extents.sort_by_key(|frames| frames.first().map_or(0, |frame| frame.place.generation));
    let frames = extents.iter().map(Vec::len).sum();
    let entries = extents.into_iter().flatten();
    Ok((frames, entries.flat_map(|frame| frame.entries).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(place: Place, byte: u8) -> (Arc<Buf>, u32) {
        let mut image = vec![0; 2 * BLOCK];
        image[..5000].fill(byte);
        image[2 * BLOCK - 32..].fill(byte);
        let mut builder =
            Builder::new(&Pool::new(1 << 20), 2 * entry_bytes("t-0/0.log", 2 * BLOCK));
        builder.image(TopicId([1; 16]), "t-0/0.log", 4096, &image);
        builder.settled(TopicId([2; 16]), "u-0/0.log");
        builder.finish(place)
    }

    #[test]
    fn a_frame_reads_back_and_a_damaged_one_is_none() {
        let place = Place {
            generation: 7,
            number: 3,
            before: 9,
        };
        let (bytes, crc) = frame(place, 5);
        assert_eq!(
            bytes.len(),
            2 * BLOCK,
            "the zeros of the image are not stored"
        );
        let found = read(&bytes).expect("it is whole");
        assert_eq!(
            (found.place, found.crc, found.bytes),
            (place, crc, bytes.len())
        );
        let (at, image) = found.entries[0].image.clone().expect("an image");
        assert_eq!(
            (at, image.len(), image[4999], image[5000]),
            (4096, 2 * BLOCK, 5, 0)
        );
        assert_eq!(image[2 * BLOCK - 32..], [5; 32]);
        assert_eq!(found.entries[1].image, None);
        assert_eq!(found.entries[1].path, "u-0/0.log");
        let used = HEADER_BYTES + 2 * entry_bytes("t-0/0.log", 0) + 5000 + 32;
        for at in (0..used).step_by(37) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged), None, "byte {at}");
        }
    }

    #[test]
    fn frames_of_another_generation_or_out_of_order_do_not_count() {
        let first = Place {
            generation: 2,
            ..Place::default()
        };
        let (one, crc) = frame(first, 1);
        let second = Place {
            number: 1,
            before: crc,
            ..first
        };
        let (two, _) = frame(second, 2);
        let older = Place {
            generation: 1,
            ..second
        };
        let (stale, _) = frame(older, 3);
        let read = |frames: &[&[u8]]| read_extent(&frames.concat());
        let count = |frames: &[&[u8]]| read(frames).map(|frames| frames.len()).unwrap_or(99);
        assert_eq!(count(&[&one, &two]), 2);
        assert_eq!(count(&[&one, &stale]), 1);
        assert_eq!(count(&[&one, &one]), 1);
        assert_eq!(count(&[&two]), 0);
        assert_eq!(count(&[&[0; BLOCK], &one]), 0);
    }

    #[test]
    fn a_frame_that_is_damaged_so_far_before_the_last_one_that_it_was_done_is_no_torn_one() {
        let first = Place {
            generation: 2,
            ..Place::default()
        };
        let mut frames = Vec::new();
        let mut place = first;
        for byte in 0..FRAMES_MAX + 2 {
            let (bytes, crc) = frame(place, byte as u8 + 1);
            frames.push(bytes.to_vec());
            place = Place {
                number: place.number + 1,
                before: crc,
                ..place
            };
        }
        let read = |frames: &[Vec<u8>]| read_extent(&frames.concat()).map(|frames| frames.len());
        let count = frames.len();
        assert_eq!(read(&frames), Ok(count));
        // As many as may be on their way at a time: the first of them is torn.
        for torn in count - FRAMES_MAX as usize..count {
            let mut frames = frames.clone();
            frames[torn][100] ^= 1;
            assert_eq!(read(&frames), Ok(torn));
        }
        let mut damaged = frames.clone();
        damaged[1][100] ^= 1;
        assert_eq!(read(&damaged), Err(frames[0].len()));
    }
}
