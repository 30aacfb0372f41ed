//! The scan of an opening log: goes over batches in chunks, and looks at what lies behind bad bytes.
//!
//! Knows neither what the checkpoint believes nor what happens to the files afterwards: that is
//! [`super::recovery`]'s.

use crate::base::{BLOCK, DiskOp, Offset, Wall};
use crate::record::{self, BatchHeader};

use super::Log;
use super::face::{Event, Fault};
use super::ops::{Job, OpenStep};
use super::recovery::{Recovery, damaged};
use super::search::Search;
use super::segment::{Segment, Walk};
use super::tail::{UNSYNCED_BYTES_MAX, WRITE_BYTES_MAX};
use super::trailer::{self, Verdict};

/// Bytes that one step of the scan reads, unless a batch is larger.
const CHUNK: usize = 1 << 20;
/// The largest batch that is believed in, whatever the options say now.
const BATCH_BYTES_MAX: usize = 100 << 20;

impl Log {
    /// Begins with the next segment, or ends the scan.
    pub(super) fn next_scan(
        &mut self,
        recovery: &mut Recovery,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Fault> {
        let Some(found) = recovery.scans.front() else {
            return self.trim_all(recovery, out);
        };
        let (base, size) = (found.base, found.size);
        let walk = recovery.walk.get_or_insert_with(|| Walk::from_start(base));
        let at = walk.position;
        if at >= size {
            return self.scanned(recovery, out, events, false);
        }
        self.read_chunk(base, at, CHUNK, false, out);
        Ok(false)
    }

    fn read_chunk(
        &mut self,
        base: Offset,
        from: u64,
        bytes: usize,
        search: bool,
        out: &mut Vec<DiskOp>,
    ) {
        let at = from - from % BLOCK as u64;
        let len = ((from - at) as usize + bytes).next_multiple_of(BLOCK);
        let step = if search {
            OpenStep::Search { at }
        } else {
            OpenStep::Scan { at }
        };
        let file = Segment::absent(&self.directory, base, Wall(0)).file;
        out.push(DiskOp::Read {
            id: self.ops.start(Job::Open(step)),
            file,
            at,
            len,
        });
    }

    /// Goes over the batches of one chunk that begins at `at`.
    pub(super) fn scan(
        &mut self,
        recovery: &mut Recovery,
        at: u64,
        bytes: &[u8],
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Fault> {
        let found = recovery.scans.front().expect("a segment is being scanned");
        let (base, size) = (found.base, found.size);
        let gaps = (self.options.compact || self.compaction.noted) && recovery.scans.len() > 1;
        let largest = (self.options.batch_bytes_max as usize).max(BATCH_BYTES_MAX);
        loop {
            let walk = recovery.walk.as_mut().expect("a scan has its walk");
            let rest = bytes.get((walk.position - at) as usize..).unwrap_or(&[]);
            if walk.position >= size {
                return self.scanned(recovery, out, events, false);
            }
            match record::verify(rest) {
                Ok(header) if follows(walk, base, recovery.epoch, gaps, &header) => {
                    recovery.epoch = header.leader_epoch.0;
                    self.epochs.assign(header.leader_epoch, header.base_offset);
                    walk.pass(base, &header, self.options.index_interval_bytes);
                    if header.base_offset >= recovery.replay_from {
                        events.push(Event::Replayed { header });
                    }
                }
                Err(record::BatchError::Incomplete { need, .. })
                    if walk.position + need as u64 <= size
                        && need <= largest
                        && at + (bytes.len() as u64) < size
                        && !rest.is_empty() | (walk.position > at) =>
                {
                    let from = walk.position;
                    self.read_chunk(base, from, need.max(CHUNK), false, out);
                    return Ok(false);
                }
                Ok(_) | Err(_) => {
                    let search = Search::begin(walk, rest, size, recovery.vouched);
                    let from = walk.position;
                    recovery.search = Some(search);
                    if at + bytes.len() as u64 >= size {
                        // The chunk holds all that follows.
                        let block = from - from % BLOCK as u64;
                        let rest = bytes.get((block - at) as usize..).unwrap_or(&[]);
                        return self.search(recovery, block, rest, out, events);
                    }
                    self.read_chunk(base, from, CHUNK, true, out);
                    return Ok(false);
                }
            }
        }
    }

    /// The current segment is scanned; with `cut`, what lies behind its batches goes.
    fn scanned(
        &mut self,
        recovery: &mut Recovery,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
        cut: bool,
    ) -> Result<bool, Fault> {
        let found = recovery
            .scans
            .pop_front()
            .expect("a segment is being scanned");
        let walk = recovery.walk.take().expect("a scan has its walk");
        let segment = Segment::absent(&self.directory, found.base, Wall(0));
        let before = self
            .segments
            .last()
            .map_or(self.start.min(found.base), |last| last.end);
        let gap = before != found.base && !self.segments.is_empty() && !self.options.compact;
        if walk.position > 0 && (found.base < before || gap) {
            recovery.walk = None;
            return Err(damaged(&segment, 0));
        }
        recovery.scanned += walk.position.saturating_sub(recovery.vouched);
        recovery.vouched = 0;
        if cut || (!recovery.scans.is_empty() && found.size > walk.position) {
            recovery.trims.push((found.base, walk.position));
        }
        self.adopt(segment, walk, found.size);
        self.next_scan(recovery, out, events)
    }

    /// Collects evidence from one chunk, in the segment of the bad bytes or a later one.
    pub(super) fn search(
        &mut self,
        recovery: &mut Recovery,
        at: u64,
        bytes: &[u8],
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Fault> {
        let unsynced = if self.keeper.relaxed_on_disk {
            UNSYNCED_BYTES_MAX
        } else {
            0
        };
        let reach = unsynced + (WRITE_BYTES_MAX + BLOCK) as u64;
        let found = recovery.scans.front().expect("a segment is being scanned");
        let (base, size) = (found.base, found.size);
        let search = recovery.search.as_mut().expect("a search is under way");
        if search.later > 0 {
            search.seen.later_segment |= bytes.iter().any(|byte| *byte != 0);
        } else {
            let limit = (self.options.batch_bytes_max as usize).max(BATCH_BYTES_MAX);
            let wanted = search.look(base, at, bytes, size, reach, limit);
            let end = at + bytes.len() as u64;
            if let Some((from, need)) = wanted.filter(|_| end < size && !bytes.is_empty()) {
                self.read_chunk(base, from, need.max(CHUNK), true, out);
                return Ok(false);
            }
        }
        search.later += 1;
        let next = recovery
            .scans
            .iter()
            .skip(search.later)
            .find(|later| later.size > 0);
        if let Some(later) = next.filter(|_| !search.seen.later_segment) {
            let base = later.base;
            search.later = recovery
                .scans
                .iter()
                .position(|found| found.base == base)
                .unwrap_or(0);
            self.read_chunk(base, 0, 2 * CHUNK, true, out);
            return Ok(false);
        }
        self.conclude(recovery, out, events)
    }

    /// Everything was seen: cuts, or refuses.
    fn conclude(
        &mut self,
        recovery: &mut Recovery,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Result<bool, Fault> {
        let mut search = recovery.search.take().expect("a search is under way");
        search.close();
        let found = recovery.scans.front().expect("a segment is being scanned");
        match trailer::judge(&search.seen) {
            Verdict::Damaged => {
                let segment = Segment::absent(&self.directory, found.base, Wall(0));
                Err(damaged(&segment, search.seen.bad_at))
            }
            Verdict::End => self.scanned(recovery, out, events, false),
            Verdict::Torn => {
                recovery.cut += search.last_data - search.seen.bad_at;
                self.scanned(recovery, out, events, true)
            }
        }
    }
}

/// True when a batch continues the chain of offsets and epochs.
fn follows(walk: &Walk, base: Offset, epoch: i32, gaps: bool, header: &BatchHeader) -> bool {
    let offset = header.base_offset;
    let chained = if gaps {
        offset >= walk.next
    } else {
        offset == walk.next
    };
    let fits = header.last_offset().0 - base.0 <= i64::from(i32::MAX);
    chained && header.last_offset_delta >= 0 && fits && header.leader_epoch.0 >= epoch
}
