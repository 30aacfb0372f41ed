//! The search behind bad bytes: collects the [`Evidence`] that tells a torn write from damage.

use crate::base::{BLOCK, Offset};
use crate::record::{self, BatchHeader, HEADER_BYTES};

use super::segment::Walk;
use super::tail::STEP_MIN;
use super::trailer::{self, Evidence, Trailer};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: u64 = 512;

/// A search from the first bad byte to the end of the file, chunk by chunk.
#[derive(Debug)]
pub(super) struct Search {
    pub seen: Evidence,
    /// After the last byte that is neither zero nor of a trailer; `bad_at` if there is none.
    pub last_data: u64,
    /// Which of the segments still to be scanned is looked at: 0 is the one with the bad bytes.
    pub later: usize,
    /// The offset that the bad batch should have had.
    next: Offset,
    /// Where the bad batch ends, or its header if that cannot be believed.
    bad_end: u64,
    believed: bool,
    /// The bad batch reaches past the end of the file, which was as long as growing leaves it: what
    /// the file had grown by for this write may have been lost.
    past_end: bool,
    /// A trailer says that a write ended behind the bad bytes.
    trailer_behind: bool,
    /// An empty sector was passed; data behind it means that it was skipped.
    empty_passed: bool,
    /// Sectors below are done.
    sectors_to: u64,
    /// Candidates for a batch below are done.
    tried_to: u64,
}

impl Search {
    /// Begins at the walk's position; `rest` are the bytes there, of a file of `size` bytes.
    pub(super) fn begin(walk: &Walk, rest: &[u8], size: u64, vouched: u64) -> Search {
        let bad_at = walk.position;
        let header = BatchHeader::parse(rest).ok();
        let believed = header.filter(|header| {
            header.base_offset == walk.next && bad_at + header.size() as u64 <= size
        });
        let follows = header
            .as_ref()
            .filter(|header| header.base_offset == walk.next);
        let wanted = match (&header, follows) {
            (Some(_), Some(header)) => header.size(),
            (Some(_), None) => 0,
            (None, _) => HEADER_BYTES,
        };
        let past_end = bad_at + wanted as u64 > size && grows_from(size, bad_at);
        let length = believed.as_ref().map_or(HEADER_BYTES, BatchHeader::size);
        Search {
            seen: Evidence {
                bad_at,
                vouched,
                ..Evidence::default()
            },
            last_data: bad_at,
            later: 0,
            next: walk.next,
            bad_end: (bad_at + length as u64).min(size),
            believed: believed.is_some(),
            past_end,
            trailer_behind: false,
            empty_passed: false,
            sectors_to: bad_at,
            tried_to: 0,
        }
    }

    /// Looks at one chunk at position `at`, a block boundary. Says from where and how many bytes it
    /// needs next; none when it has seen enough.
    pub(super) fn look(
        &mut self,
        base: Offset,
        at: u64,
        bytes: &[u8],
        size: u64,
        reach: u64,
        batch_bytes_max: usize,
    ) -> Option<(u64, usize)> {
        if is_zero(bytes) {
            // Most of what lies behind a log's end is preallocated.
            return self.pass_zeros(at, bytes.len());
        }
        let mut plain = bytes.to_vec();
        self.take_trailers(base, at, &mut plain);
        self.pass_sectors(at, &plain);
        let end = at + bytes.len() as u64;
        let from = self
            .tried_to
            .max(at)
            .max(self.seen.bad_at - self.seen.bad_at % BLOCK as u64 + reach);
        for position in from..(end + 1).saturating_sub(HEADER_BYTES as u64) {
            let rest = &plain[(position - at) as usize..];
            if rest[16] != 2 {
                continue;
            }
            let Some(header) = self.candidate(rest, position, size, batch_bytes_max) else {
                continue;
            };
            if header.size() > rest.len() && end < size {
                self.tried_to = position;
                return Some((position, header.size()));
            }
            // The bytes as they are: a trailer's place may belong to the batch.
            if record::verify(&bytes[(position - at) as usize..]).is_ok() {
                self.seen.batch_out_of_reach = true;
                return None;
            }
            self.tried_to = position + 1;
        }
        self.tried_to = self
            .tried_to
            .max((end + 1).saturating_sub(HEADER_BYTES as u64));
        Some((end.saturating_sub(HEADER_BYTES as u64).max(at + 1), 0))
    }

    /// What [`Search::look`] does with a chunk of zeros: no trailer, no data, no batch.
    fn pass_zeros(&mut self, at: u64, length: usize) -> Option<(u64, usize)> {
        let end = at + length as u64;
        let from = self.sectors_to.max(at);
        if from < end {
            self.empty_passed = true;
            self.seen.unwritten_sector |= from < self.bad_end;
        }
        self.sectors_to = self.sectors_to.max(end);
        let searched = (end + 1).saturating_sub(HEADER_BYTES as u64);
        self.tried_to = self.tried_to.max(searched);
        Some((end.saturating_sub(HEADER_BYTES as u64).max(at + 1), 0))
    }

    /// All that there is was looked at.
    pub(super) fn close(&mut self) {
        self.seen.unwritten_sector |= self.past_end && !self.trailer_behind;
    }

    /// A header that could be that of a batch of this log behind the bad one.
    fn candidate(
        &self,
        rest: &[u8],
        position: u64,
        size: u64,
        largest: usize,
    ) -> Option<BatchHeader> {
        let header = BatchHeader::parse(rest).ok()?;
        let ahead = header.base_offset.0.checked_sub(self.next.0)?;
        let plausible = (1..=i64::from(i32::MAX)).contains(&ahead)
            && header.size() <= largest
            && position + header.size() as u64 <= size;
        plausible.then_some(header)
    }

    /// Notes the chunk's trailers, and blanks them.
    fn take_trailers(&mut self, base: Offset, at: u64, plain: &mut [u8]) {
        for (index, block) in plain.chunks_exact_mut(BLOCK).enumerate() {
            let block_at = at + (index * BLOCK) as u64;
            let Some(trailer) = Trailer::of_block(block, block_at, base) else {
                continue;
            };
            self.seen.durable = self.seen.durable.max(trailer.durable);
            self.seen.ended_there |= trailer.end == self.seen.bad_at;
            self.trailer_behind |= trailer.end > self.seen.bad_at;
            self.seen.data_behind |= trailer.end > self.seen.bad_at;
            block[BLOCK - trailer::BYTES..].fill(0);
        }
    }

    /// Goes over the sectors of a chunk: is there data, and was one of them left out?
    fn pass_sectors(&mut self, at: u64, plain: &[u8]) {
        let end = at + plain.len() as u64;
        let mut from = self.sectors_to.max(at);
        while from < end {
            let to = (from - from % SECTOR + SECTOR).min(end);
            let sector = &plain[(from - at) as usize..(to - at) as usize];
            match sector.iter().rposition(|byte| *byte != 0) {
                Some(last) => {
                    self.seen.data_behind = true;
                    self.last_data = from + last as u64 + 1;
                    self.seen.unwritten_sector |= self.empty_passed && !self.believed;
                }
                None => self.empty_passed = true,
            }
            if from < self.bad_end {
                let of_batch = (self.bad_end.min(to) - from) as usize;
                self.seen.unwritten_sector |= sector[..of_batch].iter().all(|byte| *byte == 0);
            }
            from = to;
        }
        self.sectors_to = self.sectors_to.max(end);
    }
}

/// True for a length that a file may have had before it grew for a batch at `bad_at`: a multiple of
/// the smallest step, or just enough for an earlier write, as a file grows on a full disk. That write
/// ended less than a trailer and a block before the file's end, and the bad batch begins behind it.
fn grows_from(size: u64, bad_at: u64) -> bool {
    let just_enough = size - bad_at < (trailer::BYTES + BLOCK) as u64;
    size.is_multiple_of(STEP_MIN) || (size.is_multiple_of(BLOCK as u64) && just_enough)
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    bytes
        .chunks(BLOCK)
        .all(|chunk| *chunk == ZEROS[..chunk.len()])
}
