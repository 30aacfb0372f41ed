//! How a new segment takes the place of those that it was made of: see the module's documentation.

use crate::base::{DiskOp, FilePath, Now, Offset};

use super::super::face::{Event, Hold};
use super::super::segment::{FileStage, Segment, base_of, file_name, index_name};
use super::super::{Log, ops::Job};
use super::Step;
use super::output::Output;

/// How long until the holders of old names are looked at again, in milliseconds.
const LOOK_AGAIN_MS: i64 = 20;
const SUFFIX: &str = ".swap";

/// The name of a whole new segment that replaces all from `base` to `end`.
pub(super) fn swap_name(base: Offset, end: Offset) -> String {
    format!("{:020}-{:020}{SUFFIX}", base.0, end.0)
}

/// What the name of a swap file says; none for any other name.
pub(super) fn swap_range(name: &str) -> Option<(Offset, Offset)> {
    let (base, end) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok().map(Offset))?
    };
    Some((number(base)?, number(end)?))
}

/// The name that a swap file gets in the end: the contents are the same.
pub fn settled_name(file: &FilePath) -> Option<FilePath> {
    let (base, _) = swap_range(file.name())?;
    Some(file.parent().join(&file_name(base)))
}

/// True for the name of a swap file.
pub(in crate::log) fn is_swap(name: &str) -> bool {
    swap_range(name).is_some()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The checkpoint does not count it yet.
    Uncounted,
    /// Somebody may still open a replaced file by its name.
    Held,
    /// So many replaced files are on their way to their other names.
    Retiring(usize),
    /// It is on its way to its name.
    Naming,
}

/// A new segment that is in the log already, but does not have its name yet.
#[derive(Debug)]
pub(super) struct Swap {
    number: u64,
    pub base: Offset,
    replaced: Vec<(FilePath, Hold)>,
    stage: Stage,
}

impl Log {
    /// Puts the new segment, which lies in `file`, in the place of its sources.
    pub(super) fn swap_in(
        &mut self,
        output: Output,
        end: Offset,
        file: FilePath,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let first = self.segment_index(output.base);
        let last = self.segment_index(end);
        let created = self.segments[first].created;
        let mut segment = Segment::absent(&self.directory, output.base, created);
        segment.adopt(output.walk);
        assert!(segment.end == end, "{} {end}", segment.end);
        segment.file = file;
        segment.stage = FileStage::Sealed;
        segment.allocated = segment.size;
        let base = segment.base;
        let replaced: Vec<Segment> = self.segments.splice(first..last, [segment]).collect();
        for old in &replaced {
            self.cache.forget(old.base);
        }
        self.compaction.replaced += 1;
        self.compaction.swaps.push_back(Swap {
            number: self.compaction.replaced,
            base,
            replaced: replaced
                .into_iter()
                .map(|old| (old.file, old.hold))
                .collect(),
            stage: Stage::Uncounted,
        });
        self.keep_segments(out);
        // Who waits for bytes or an index of a segment that is gone looks again.
        events.push(Event::Filled);
    }

    /// True while the segment's file is about to change its name.
    pub(in crate::log) fn is_swapping(&self, base: Offset) -> bool {
        self.compaction.swaps.iter().any(|swap| swap.base == base)
    }

    /// True while a read by the segment's present name could miss it.
    pub(in crate::log) fn is_naming(&self, base: Offset) -> bool {
        let mut swaps = self.compaction.swaps.iter();
        swaps.any(|swap| swap.base == base && swap.stage == Stage::Naming)
    }

    /// Brings every swap as far as it can be brought now.
    pub(super) fn advance_swaps(&mut self, now: Now, out: &mut Vec<DiskOp>) {
        self.compaction.look_again = None;
        for index in 0..self.compaction.swaps.len() {
            let swap = &self.compaction.swaps[index];
            match swap.stage {
                Stage::Uncounted if swap.number <= self.compaction.kept => {
                    self.compaction.swaps[index].stage = Stage::Held;
                }
                Stage::Uncounted | Stage::Held | Stage::Retiring(_) | Stage::Naming => {}
            }
            let swap = &self.compaction.swaps[index];
            match swap.stage {
                Stage::Held if self.is_held(swap) => {
                    self.compaction.look_again = Some(now.mono.after_ms(LOOK_AGAIN_MS));
                }
                Stage::Held => self.retire_replaced(index, out),
                Stage::Retiring(0) if self.is_read_from_disk(swap.base) => {
                    self.compaction.look_again = Some(now.mono.after_ms(LOOK_AGAIN_MS));
                }
                Stage::Retiring(0) => self.name(index, out),
                Stage::Uncounted | Stage::Retiring(_) | Stage::Naming => {}
            }
        }
    }

    /// True while a reader, or a read or sync of our own, may still open a replaced file by its name:
    /// a sync of a relaxed log may take longer than its segment's sealing and compaction.
    fn is_held(&self, swap: &Swap) -> bool {
        let mut replaced = swap.replaced.iter();
        let syncing =
            |file: &FilePath| base_of(file.name()).is_some_and(|base| self.ops.syncing(base));
        replaced.any(|(file, hold)| !hold.is_free() || self.ops.reading(file) || syncing(file))
    }

    /// True while a read of our own goes by the segment's present name.
    fn is_read_from_disk(&self, base: Offset) -> bool {
        self.ops.reading(&self.segment(base).file) || self.ops.scanning(base)
    }

    fn retire_replaced(&mut self, index: usize, out: &mut Vec<DiskOp>) {
        let swap = &mut self.compaction.swaps[index];
        swap.stage = Stage::Retiring(swap.replaced.len());
        let (number, base) = (swap.number, swap.base);
        for (file, _) in std::mem::take(&mut swap.replaced) {
            let to = self.directory.join(&format!("{}.deleted", file.name()));
            let id = self.start_step(Step::Retired {
                swap: number,
                file: to.clone(),
            });
            if let Some(old) = base_of(file.name()).filter(|old| *old != base) {
                let index_file = self.directory.join(&index_name(old));
                out.push(DiskOp::Remove {
                    id: self.ops.start(Job::Removed),
                    file: index_file,
                });
            }
            out.push(DiskOp::Rename { id, from: file, to });
        }
    }

    fn name(&mut self, index: usize, out: &mut Vec<DiskOp>) {
        let swap = &mut self.compaction.swaps[index];
        swap.stage = Stage::Naming;
        let (number, base) = (swap.number, swap.base);
        let from = self.segment(base).file.clone();
        let to = self.directory.join(&file_name(base));
        let id = self.start_step(Step::Named { swap: number });
        out.push(DiskOp::Rename { id, from, to });
    }

    /// A replaced file has its other name: it is removed after `file.delete.delay.ms`.
    pub(super) fn swap_retired(&mut self, now: Now, number: u64, file: FilePath) {
        if let Some(swap) = self.swap_of(number)
            && let Stage::Retiring(left) = &mut swap.stage
        {
            *left -= 1;
        }
        self.throw_away(now, file);
    }

    fn swap_of(&mut self, number: u64) -> Option<&mut Swap> {
        let mut swaps = self.compaction.swaps.iter_mut();
        swaps.find(|swap| swap.number == number)
    }

    /// The new segment has its name.
    pub(super) fn swap_named(
        &mut self,
        number: u64,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let place = self
            .compaction
            .swaps
            .iter()
            .position(|swap| swap.number == number);
        let Some(swap) = place.and_then(|place| self.compaction.swaps.remove(place)) else {
            return;
        };
        let file = self.directory.join(&file_name(swap.base));
        self.segment_mut(swap.base).file = file;
        self.save_index(swap.base, out);
        self.drop_segments_below_start(out);
        // Reads by the name before were held back.
        events.push(Event::Filled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_swap_file_says_what_it_replaces() {
        let name = swap_name(Offset(5), Offset(123));
        assert_eq!(name, "00000000000000000005-00000000000000000123.swap");
        assert_eq!(swap_range(&name), Some((Offset(5), Offset(123))));
        for other in [
            "00000000000000000005.log",
            "5-123.swap",
            "x.swap",
            ".swap",
            "",
        ] {
            assert_eq!(swap_range(other), None, "{other}");
        }
    }
}
