//! Makes of a damaged segment file one that can be served: all batches that verify stay, byte for
//! byte; where some are lost, a batch without records keeps their offsets, as compaction does, so
//! that the chain of offsets holds and no offset is given twice. Works on bytes; whoever calls it
//! never writes into the damaged file.
//!
//! What it cannot see: a whole batch that is missing at the very end.

use std::ops::Range;

use bytes::Bytes;

use crate::base::{LeaderEpoch, Offset};
use crate::record::{self, BatchBuilder, BatchHeader, Codec, HEADER_BYTES};

use super::checkpoint::Checkpoint;
use super::inspect;

/// A stretch that could not be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where it was in the damaged file, in bytes.
    pub bytes: Range<u64>,
    /// The offsets that have no records any more; empty when it held none, or the log ends here.
    pub offsets: Range<i64>,
}

/// What became of a segment file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The batches.
    pub bytes: Vec<u8>,
    /// The offset after the last of them; the file's base offset if there is none.
    pub end: Offset,
    /// The leader epoch of the last of them; none if there is none.
    pub epoch: Option<LeaderEpoch>,
    /// What could not be saved, in order.
    pub lost: Vec<Lost>,
}

/// The checkpoint of a log whose files were made elsewhere: it vouches for nothing but where the log
/// starts, `start`, which is at or above the first segment.
pub fn start_checkpoint(start: Offset, first_segment: Offset) -> Bytes {
    let start = start.max(first_segment);
    let kept = Checkpoint {
        start: start.0,
        active: first_segment.0,
        end: start.0,
        first_timestamp: -1,
        max_timestamp: -1,
        ..Checkpoint::default()
    };
    kept.to_file()
}

/// Repairs the segment file of these bytes, whose name says `base`. `epoch`: of the last batch of the
/// segment before it.
pub fn repair(bytes: &[u8], base: Offset, epoch: Option<LeaderEpoch>) -> Repaired {
    let mut repaired = Repaired {
        end: base,
        epoch,
        ..Repaired::default()
    };
    let mut position = 0;
    while let Some((at, header)) = repaired.next_sound(bytes, position, base) {
        if at > position {
            let (from, to) = (repaired.end.0, header.base_offset.0);
            repaired.lose(position as u64..at as u64, from..to);
        }
        // Also where nothing was lost: compaction leaves gaps.
        repaired.keep_offsets(header.base_offset);
        repaired
            .bytes
            .extend_from_slice(&bytes[at..at + header.size()]);
        repaired.end = header.last_offset().plus(1);
        repaired.epoch = Some(header.leader_epoch);
        position = at + header.size();
    }
    let behind = inspect::trailing(bytes, position, base);
    if behind > 0 {
        let end = repaired.end.0;
        repaired.lose(position as u64..position as u64 + behind, end..end);
    }
    repaired
}

/// The checkpoint of a repaired log: it vouches for nothing but the start offset, which is written
/// nowhere else, so that deleted records stay deleted. None if the damaged log had no checkpoint
/// that can be read: it then starts with its first segment.
pub fn repaired_checkpoint(contents: &[u8], first_segment: Offset) -> Option<Bytes> {
    let found = Checkpoint::from_file(contents)?;
    Some(start_checkpoint(Offset(found.start), first_segment))
}

impl Repaired {
    /// Keeps the offsets up to `to` with a batch without records, so that the next segment follows.
    pub fn keep_offsets(&mut self, to: Offset) {
        if to > self.end {
            let epoch = self.epoch.unwrap_or(LeaderEpoch(0));
            let empty = BatchBuilder::new(Codec::None)
                .base_offset(self.end)
                .last_offset(Offset(to.0 - 1))
                .leader_epoch(epoch);
            self.bytes.extend_from_slice(&empty.finish());
            self.end = to;
            self.epoch = Some(epoch);
        }
    }

    fn lose(&mut self, bytes: Range<u64>, offsets: Range<i64>) {
        self.lost.push(Lost { bytes, offsets });
    }

    /// The next batch at or behind `from` that can be vouched for.
    fn next_sound(&self, bytes: &[u8], from: usize, base: Offset) -> Option<(usize, BatchHeader)> {
        let last = bytes.len().checked_sub(HEADER_BYTES)?;
        (from..=last).find_map(|at| Some((at, self.sound(bytes, at, base)?)))
    }

    fn sound(&self, bytes: &[u8], at: usize, base: Offset) -> Option<BatchHeader> {
        let header = self.plausible(&bytes[at..], base, self.end, self.epoch)?;
        let end = header.last_offset().plus(1);
        // Offset and epoch lie outside of the CRC: what follows must not contradict them.
        let behind = bytes.get(at + header.size()..).unwrap_or_default();
        let contradicted = record::verify(behind).is_ok_and(|next| {
            let chained = self.plausible(behind, base, self.end, self.epoch).is_some();
            chained && (next.base_offset < end || next.leader_epoch < header.leader_epoch)
        });
        (!contradicted).then_some(header)
    }

    /// The header of a batch that verifies, and that may follow what ends at `end`.
    fn plausible(
        &self,
        bytes: &[u8],
        base: Offset,
        end: Offset,
        epoch: Option<LeaderEpoch>,
    ) -> Option<BatchHeader> {
        // The magic byte first: this is asked for every byte of a damaged stretch.
        if bytes.get(16) != Some(&2) {
            return None;
        }
        let header = BatchHeader::parse(bytes).ok()?;
        let near = header.base_offset >= end
            && header.last_offset_delta >= 0
            && header.last_offset().0 - base.0 <= i64::from(i32::MAX);
        let follows = near && header.leader_epoch >= epoch.unwrap_or(LeaderEpoch(0));
        (follows && header.size() <= bytes.len() && record::verify(bytes).is_ok()).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Prng;

    /// Three batches of two records each.
    fn segment() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for number in 0..3 {
            let mut batch = BatchBuilder::new(Codec::None);
            for record in 0..2 {
                batch.append(number, None, Some(&[record; 50]), &[]);
            }
            let mut batch = batch.finish();
            record::stamp(&mut batch, Offset(2 * number), LeaderEpoch(0));
            bytes.extend_from_slice(&batch);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn a_sound_segment_stays_as_it_is() {
        let (bytes, _) = segment();
        let repaired = repair(&bytes, Offset(0), None);
        assert_eq!(repaired.bytes, bytes);
        assert_eq!((repaired.end, repaired.lost.len()), (Offset(6), 0));
    }

    #[test]
    fn a_damaged_batch_leaves_its_offsets_and_all_others() {
        let (sound, ends) = segment();
        // Length, CRC, a record, the base offset upwards and downwards, the epoch upwards.
        for at in [8, 20, 80, 7, 3, 15] {
            let mut bytes = sound.clone();
            bytes[ends[0] + at] ^= 0x41;
            let repaired = repair(&bytes, Offset(0), None);
            let lost = Lost {
                bytes: ends[0] as u64..ends[1] as u64,
                offsets: 2..4,
            };
            assert_eq!(repaired.lost, [lost], "byte {at}");
            let report = inspect::inspect(&repaired.bytes, Offset(0));
            assert!(report.is_sound());
            let counts: Vec<_> = report
                .batches
                .iter()
                .map(|batch| (batch.header.base_offset.0, batch.header.record_count))
                .collect();
            assert_eq!(counts, [(0, 2), (2, 0), (4, 2)], "byte {at}");
        }
    }

    #[test]
    fn whatever_is_garbled_the_result_is_sound_and_holds_only_what_was_written() {
        let (sound, ends) = segment();
        let mut prng = Prng::new(7);
        for _ in 0..2000 {
            let mut bytes = sound.clone();
            for _ in 0..1 + prng.below(4) {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = prng.below(256) as u8;
            }
            let repaired = repair(&bytes, Offset(0), None);
            let report = inspect::inspect(&repaired.bytes, Offset(0));
            assert!(report.is_sound(), "{report:?} {repaired:?}");
            for batch in report
                .batches
                .iter()
                .filter(|one| one.header.record_count > 0)
            {
                let from = batch.position as usize;
                // Behind base offset, length and epoch: what the CRC covers.
                let found = &repaired.bytes[from + 16..from + batch.size];
                let starts = [0, ends[0], ends[1]];
                assert!(
                    starts
                        .iter()
                        .zip(&ends)
                        .any(|(from, to)| &sound[from + 16..*to] == found)
                );
            }
        }
    }
}
