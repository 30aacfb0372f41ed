//! The mark at the end of every write, and the rule that tells a torn write from damage.
//!
//! # The mark
//!
//! A write covers whole blocks; behind its last batch it is padded with zeros, and the last 32
//! bytes of its last block are a trailer (big-endian):
//!
//! ```text
//! magic (8) | durable: position (8) | end: position (8) | segment base offset, low half (4) | crc32c (4)
//! ```
//!
//! `durable` is the position below which the segment was on stable storage when the write was
//! issued; `end` is where the write's last batch ends. The next write covers the trailer again, and
//! a full or cleanly closed segment is cut to its exact length, so that finished files are Kafka's
//! files. Bytes behind the last batch stop Kafka's reader as preallocated zeros do (a size below the
//! smallest batch).
//!
//! # The rule
//!
//! One write is in flight at a time and preallocated blocks read as zeros, so a write that power
//! loss tore left some of its sectors as they were: zeros, or an older trailer. Damage to what was
//! acknowledged looks different, or lies where no write was in flight. With the first bad byte at
//! `p` ([`judge`]):
//!
//! 1. The checkpoint vouches for `p`, or a trailer anywhere behind says that it was durable, or a
//!    later segment has anything in it (a segment is synced and trimmed before the next one is
//!    written): damage.
//! 2. Nothing but zeros from `p` on: the end of the log.
//! 3. `p`'s block still has the trailer that ends at `p`: the next write never finished. Cut.
//! 4. A batch that verifies begins further behind `p` than one write can reach: damage.
//! 5. A sector of the bad batch was never written: torn, cut. None: damage, even at the very end.
//!    What lies past the end of a file was never written either, if the file's length is one that
//!    growing leaves and no trailer says that a write ended behind `p`: the growth was for that
//!    write, and was lost. Growing leaves multiples of the smallest step; or, on a full disk, the
//!    end of an earlier write, which is at most a block and a trailer behind `p`.
//!
//! What is *not* told apart: zeroed sectors inside the last write, if it was complete but its bytes
//! were not covered by a checkpoint yet. There the log is cut as if the write had been torn.
//! Relaxed logs have many writes between two syncs; `reach` is then all that may be unsynced.

use crate::base::{BLOCK, Offset, crc32c};

/// Bytes of a trailer.
pub(super) const BYTES: usize = 32;
/// Byte 8 to 11 of a batch is its length; `durable` keeps it below any batch's for 2^46 bytes.
const MAGIC: [u8; 8] = *b"\xffcoretrl";

/// The mark at the end of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    /// Below it the segment was on stable storage when the write was issued.
    pub durable: u64,
    /// Where the write's last batch ends.
    pub end: u64,
}

impl Trailer {
    /// The bytes for the segment `base`.
    pub(super) fn to_bytes(self, base: Offset) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.durable.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.end.to_be_bytes());
        bytes[24..28].copy_from_slice(&(base.0 as u32).to_be_bytes());
        let crc = crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// The trailer at the end of `block`, which lies at position `at` of the segment `base`.
    pub(super) fn of_block(block: &[u8], at: u64, base: Offset) -> Option<Trailer> {
        let bytes = block.get(BLOCK - BYTES..BLOCK)?;
        if bytes[..8] != MAGIC {
            return None;
        }
        let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        let trailer = Trailer {
            durable: number(8)?,
            end: number(16)?,
        };
        // It ends in its own block, or in the one before when its own had no room for both.
        let near = trailer.end <= at + BLOCK as u64 && trailer.end + BLOCK as u64 > at;
        (near && trailer.durable <= trailer.end && bytes == trailer.to_bytes(base))
            .then_some(trailer)
    }
}

/// What was seen from the first bad byte on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// The position of the first bad byte.
    pub bad_at: u64,
    /// The checkpoint vouches for all below.
    pub vouched: u64,
    /// The largest `durable` of all trailers seen.
    pub durable: u64,
    /// A trailer that ends at `bad_at` is in place.
    pub ended_there: bool,
    /// Something else than zeros and that trailer lies at or behind `bad_at`.
    pub data_behind: bool,
    /// A later segment has anything in it.
    pub later_segment: bool,
    /// A batch that verifies begins out of the last write's reach.
    pub batch_out_of_reach: bool,
    /// A sector of the bad bytes was never written.
    pub unwritten_sector: bool,
}

/// What the bad bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The end of the log, with nothing behind it.
    End,
    /// A write that was never acknowledged: cut it.
    Torn,
    /// Bytes that were acknowledged are damaged: keep everything, serve nothing from there on.
    Damaged,
}

/// The rule of the module's documentation.
pub(super) fn judge(seen: &Evidence) -> Verdict {
    let acknowledged = seen.bad_at < seen.vouched || seen.bad_at < seen.durable;
    if acknowledged || seen.later_segment {
        return Verdict::Damaged;
    }
    if !seen.data_behind {
        return Verdict::End;
    }
    if seen.ended_there {
        return Verdict::Torn;
    }
    if seen.batch_out_of_reach || !seen.unwritten_sector {
        return Verdict::Damaged;
    }
    Verdict::Torn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn torn() -> Evidence {
        Evidence {
            bad_at: 5000,
            data_behind: true,
            unwritten_sector: true,
            ..Evidence::default()
        }
    }

    #[test]
    fn a_trailer_reads_back_only_where_it_was_written() {
        let trailer = Trailer {
            durable: 10,
            end: 5000,
        };
        let mut block = vec![0; BLOCK];
        block[BLOCK - BYTES..].copy_from_slice(&trailer.to_bytes(Offset(7)));
        assert_eq!(Trailer::of_block(&block, 4096, Offset(7)), Some(trailer));
        assert_eq!(
            Trailer::of_block(&block, 4096, Offset(8)),
            None,
            "another segment's"
        );
        assert_eq!(
            Trailer::of_block(&block, 65536, Offset(7)),
            None,
            "another place's"
        );
        block[BLOCK - 20] ^= 1;
        assert_eq!(Trailer::of_block(&block, 4096, Offset(7)), None, "damaged");
    }

    #[test]
    fn only_what_one_unfinished_write_explains_is_cut() {
        assert_eq!(judge(&torn()), Verdict::Torn);
        assert_eq!(
            judge(&Evidence {
                data_behind: false,
                ..torn()
            }),
            Verdict::End
        );
        assert_eq!(
            judge(&Evidence {
                vouched: 5001,
                ..torn()
            }),
            Verdict::Damaged
        );
        assert_eq!(
            judge(&Evidence {
                durable: 5001,
                ..torn()
            }),
            Verdict::Damaged
        );
        assert_eq!(
            judge(&Evidence {
                later_segment: true,
                ..torn()
            }),
            Verdict::Damaged
        );
        assert_eq!(
            judge(&Evidence {
                batch_out_of_reach: true,
                ..torn()
            }),
            Verdict::Damaged
        );
        assert_eq!(
            judge(&Evidence {
                unwritten_sector: false,
                ..torn()
            }),
            Verdict::Damaged
        );
        let ended = Evidence {
            ended_there: true,
            unwritten_sector: false,
            ..torn()
        };
        assert_eq!(judge(&ended), Verdict::Torn);
    }
}
