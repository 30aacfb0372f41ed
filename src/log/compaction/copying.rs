//! The second half of a round: what stays is written, group by group, and put in place.

use crate::base::{BLOCK, DiskOp};
use crate::record::BatchHeader;

use super::super::Log;
use super::super::face::Event;
use super::filter::{Kept, Standing, filter};
use super::output::Output;
use super::round::{Phase, Round, Stop};
use super::swap::swap_name;
use super::{Abandoned, Progress, Step};

/// How many new segments may wait for their names before the round waits for them.
const SWAPS_MAX: usize = 8;

impl Log {
    /// Copies what stays of one batch, or ends a source or a group.
    pub(super) fn copy(
        &mut self,
        round: &mut Round,
        cost: &mut usize,
        out: &mut Vec<DiskOp>,
    ) -> Result<(), Stop> {
        if round.at == round.sources.len() {
            round.phase = Phase::Settling;
            return Ok(());
        }
        if round.output.is_none() {
            if self.compaction.swaps.len() >= SWAPS_MAX {
                return Err(Stop::For(Progress::Blocked));
            }
            let base = round.sources[round.at].base;
            let output = Output::new(&self.directory, base, round.at);
            round.output_file = Some(output.file.clone());
            round.output = Some(output);
        }
        if round.output.as_ref().is_some_and(Output::is_full) {
            return Err(self
                .write_some(round, false, out)
                .unwrap_or(Stop::For(Progress::More)));
        }
        match self.next_batch(round, out)? {
            Some((header, window, range)) => {
                *cost += self.copy_batch(round, &header, &window[range])?;
                round.reader.pass(&header);
            }
            None => {
                if self.group_ends(round) {
                    round.phase = Phase::Finishing;
                }
                round.at += 1;
                round.reader.next_source();
            }
        }
        Ok(())
    }

    fn copy_batch(
        &mut self,
        round: &mut Round,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<usize, Stop> {
        let needless = match header.is_control() {
            true => {
                let kind = self.marker(header, batch)?;
                round.transactions.pass_marker(header, kind)
            }
            false => round.transactions.pass_data(header),
        };
        let last = round.reader.ends_with(header, &round.sources[round.at]);
        let standing = Standing {
            needless,
            // A new segment ends where the last of its sources ended.
            keep_place: last && self.group_ends(round),
        };
        let judged = filter(batch, header, standing, &round.rules, &mut self.scratch);
        let (kept, before, after) = judged.map_err(|_| Stop::GiveUp(Abandoned::Unreadable))?;
        let stats = &mut round.stats;
        stats.bytes_before += batch.len() as u64;
        stats.records_before += before;
        stats.records_after += after;
        let Some(output) = &mut round.output else {
            return Ok(0);
        };
        let interval = self.options.index_interval_bytes;
        let written = match &kept {
            Kept::Whole => {
                output.push(batch, header, interval);
                batch.len()
            }
            Kept::Rewritten(bytes) => {
                let header =
                    BatchHeader::parse(bytes).map_err(|_| Stop::GiveUp(Abandoned::Unreadable))?;
                output.push(bytes, &header, interval);
                bytes.len()
            }
            Kept::Nothing => 0,
        };
        output.changed |= kept != Kept::Whole;
        stats.bytes_after += written as u64;
        let packed = header.attributes & 7 != 0;
        let work = if packed {
            4 * batch.len() + 8 * written
        } else {
            batch.len() + written
        };
        Ok(work + 64 * before as usize)
    }

    /// True when the source that is looked at is the last one of its group: none follows, or the next
    /// one might not fit behind what is there (apache/kafka `groupSegmentsBySize`, by what the
    /// group has come to rather than by what it was).
    fn group_ends(&self, round: &Round) -> bool {
        let Some(next) = round.sources.get(round.at + 1) else {
            return true;
        };
        let Some(output) = &round.output else {
            return true;
        };
        let too_far = next.end.0 - output.base.0 > i64::from(i32::MAX);
        let size = output.size();
        let too_large = size > 0 && size + next.size > u64::from(self.options.segment_bytes);
        too_far || too_large
    }

    /// Gives the next blocks of the new file to the disk; none when there are none.
    fn write_some(&mut self, round: &mut Round, all: bool, out: &mut Vec<DiskOp>) -> Option<Stop> {
        let output = round.output.as_mut()?;
        let file = output.file.clone();
        let (at, data) = output.take_write(&self.pool, all)?;
        let bytes = data.len();
        let id = self.start_step(Step::Work {
            round: round.number,
        });
        out.push(DiskOp::Write {
            id,
            file,
            at,
            data,
            durable: false,
        });
        Some(round.wait(bytes))
    }

    /// The next step of a group's file to its place: see the documentation of `compaction`.
    pub(super) fn put_in_place(
        &mut self,
        round: &mut Round,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<(), Stop> {
        let Some(output) = &round.output else {
            round.phase = Phase::Copying;
            return Ok(());
        };
        let (size, end) = (output.size(), round.sources[round.at - 1].end);
        let unchanged = !output.changed && round.at == output.first + 1;
        let named = self.directory.join(&swap_name(output.base, end));
        let work = Step::Work {
            round: round.number,
        };
        match round.phase {
            Phase::Finishing => {
                if output.walk.next != end || size == 0 {
                    return Err(Stop::GiveUp(Abandoned::Unreadable));
                }
                if unchanged {
                    // The segment stays as it is.
                    self.discard_output(round, out);
                    return Ok(());
                }
                if let Some(stop) = self.write_some(round, true, out) {
                    return Err(stop);
                }
                round.phase = Phase::Syncing;
                return Ok(());
            }
            Phase::Syncing => {
                round.phase = Phase::Trimming;
                let file = output.file.clone();
                let id = self.start_step(work);
                out.push(DiskOp::Sync { id, file });
            }
            Phase::Trimming => {
                round.phase = Phase::Noting;
                if size % BLOCK as u64 == 0 {
                    return Ok(());
                }
                let file = output.file.clone();
                let id = self.start_step(work);
                out.push(DiskOp::Truncate { id, file, size });
            }
            Phase::Noting => {
                round.phase = Phase::Renaming;
                if self.compaction.noted {
                    return Ok(());
                }
                let cleaned_to = self.compaction.cleaned_to;
                self.write_note(cleaned_to, out);
            }
            Phase::Renaming => {
                round.phase = Phase::Replacing;
                let from = output.file.clone();
                round.output_file = Some(named.clone());
                let id = self.start_step(work);
                out.push(DiskOp::Rename {
                    id,
                    from,
                    to: named,
                });
            }
            Phase::Replacing => {
                let mut sources = round.sources[output.first..round.at].iter();
                if sources.any(|source| self.ops.scanning(source.base)) {
                    // An index is being made of what is to be replaced.
                    return Err(Stop::For(Progress::Blocked));
                }
                round.phase = Phase::Copying;
                round.output_file = None;
                round.stats.segments_after += 1;
                if let Some(output) = round.output.take() {
                    self.swap_in(output, end, named, out, events);
                }
                return Ok(());
            }
            Phase::Mapping | Phase::Copying | Phase::Settling | Phase::Ending => return Ok(()),
        }
        Err(round.wait(0))
    }

    /// Nothing of the group has changed: its new file, as far as it is written, goes.
    fn discard_output(&mut self, round: &mut Round, out: &mut Vec<DiskOp>) {
        round.phase = Phase::Copying;
        round.stats.segments_after += 1;
        round.output = None;
        if let Some(file) = round.output_file.take() {
            let id = self.start_step(Step::Leftover);
            out.push(DiskOp::Remove { id, file });
        }
    }
}
