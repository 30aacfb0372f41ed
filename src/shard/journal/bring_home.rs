//! How what is in the journal gets to its files, and how the journal is emptied.

use std::sync::Arc;

use crate::base::{BLOCK, Buf, DiskFault, DiskOp, FaultKind, FilePath};

use super::route::refused;
use super::{Job, Journal, Outcome, Stage, Tracked, durable_write};

/// Writes to files, and syncs of them, on their way at a time.
const FILLING_MAX: usize = 8;
/// The same while nothing waits for them: they take the disk and the CPU from the frames.
const FILLING_AT_LEISURE: usize = 2;
/// What is brought home at a time when images take too much memory: this part of what they may take.
const DRAINED_PART: usize = 8;
/// Bytes that are brought home in one write, at most, a single larger image excepted.
const FILL_BYTES_MAX: usize = 512 << 10;

impl Journal {
    /// Puts a file into the queue of those to be brought home.
    pub(super) fn enqueue(&mut self, file: &FilePath) {
        if let Some(tracked) = self.tracked.get_mut(file)
            && !tracked.queued
            && tracked.filling == 0
            && tracked.syncing.is_none()
            && !tracked.failed
            && !(tracked.images.is_empty() && tracked.is_synced())
        {
            tracked.queued = true;
            self.queue.push_back(file.clone());
        }
    }

    /// All that the inactive extent holds is to be brought home, durably.
    pub(super) fn drain(&mut self) {
        let old = 1 - self.active;
        for (file, tracked) in &mut self.tracked {
            let images = tracked.images.iter().any(|image| image.extent == old);
            tracked.sync_due |= !images && tracked.unsynced[old] > 0;
            if images || tracked.sync_due {
                self.wanted.push(file.clone());
            }
        }
        self.enqueue_wanted();
    }

    /// All is to be brought home, durably.
    pub(super) fn drain_all(&mut self) {
        let all = self.tracked.iter_mut();
        let held = all.filter(|(_, tracked)| !tracked.is_home());
        self.wanted.extend(held.map(|(file, _)| file.clone()));
        self.enqueue_wanted();
    }

    /// Images are to leave the memory. They need not be durable in their files for that. The files
    /// with the most of them go first, and no more than is needed for a while: a write costs about
    /// the same whatever its size, so the others had better gather more.
    pub(super) fn drain_memory(&mut self) {
        let mut held: Vec<(usize, &FilePath)> = Vec::new();
        for (file, tracked) in &self.tracked {
            if tracked.filling == 0 && !tracked.images.is_empty() && !tracked.failed {
                held.push((tracked.bytes, file));
            }
        }
        held.sort_unstable_by(|one, other| other.cmp(one));
        let mut bytes = 0;
        for (more, file) in held {
            if bytes > self.options.memory_bytes / DRAINED_PART {
                break;
            }
            bytes += more;
            self.wanted.push(file.clone());
        }
        self.enqueue_wanted();
    }

    fn enqueue_wanted(&mut self) {
        let mut wanted = std::mem::take(&mut self.wanted);
        for file in wanted.drain(..) {
            self.enqueue(&file);
        }
        self.wanted = wanted;
    }

    /// How many writes and syncs of files may be on their way.
    fn filling_max(&self) -> usize {
        let late = self.position > self.extent_bytes() / 2;
        let much = self.memory > self.options.memory_bytes;
        match self.stage == Stage::Ready && self.wanting.is_empty() && !late && !much {
            true => FILLING_AT_LEISURE,
            false => FILLING_MAX,
        }
    }

    pub(super) fn bring_home(&mut self, out: &mut Outcome) {
        while self.filling < self.filling_max()
            && let Some(file) = self.queue.pop_front()
        {
            let Some(tracked) = self.tracked.get_mut(&file) else {
                continue;
            };
            tracked.queued = false;
            let due = std::mem::take(&mut tracked.sync_due);
            let first = match tracked.images.front() {
                Some(first) if !due => first,
                Some(_) | None => {
                    if tracked.unsynced != [0; 2] {
                        tracked.syncing = Some(std::mem::take(&mut tracked.unsynced));
                        self.filling += 1;
                        let id = self.start(Job::HomeSync(file.clone()));
                        out.ops.push(DiskOp::Sync { id, file });
                    }
                    continue;
                }
            };
            let (at, mut end, mut count) = (first.at, first.end(), 1);
            for image in tracked.images.iter().skip(1) {
                let follows = image.at >= at && image.at <= end;
                if !follows || (image.end().max(end) - at) as usize > FILL_BYTES_MAX {
                    break;
                }
                end = end.max(image.end());
                count += 1;
            }
            tracked.filling = count;
            self.memory_going += tracked.filling_bytes();
            let data = match count {
                1 => first.data.clone(),
                _ => {
                    let mut merged = self.pool.take((end - at) as usize);
                    merged.set_len((end - at) as usize);
                    let mut images = tracked.images.iter().take(count).peekable();
                    while let Some(image) = images.next() {
                        // What the next one writes again is copied once.
                        let next = images.peek().filter(|next| next.end() >= image.end());
                        let news =
                            next.map_or(image.end(), |next| next.at.clamp(image.at, image.end()));
                        let news = &image.data[..(news - image.at) as usize];
                        let from = (image.at - at) as usize;
                        merged.whole_mut()[from..from + news.len()].copy_from_slice(news);
                    }
                    Arc::new(merged)
                }
            };
            self.filling += 1;
            self.counts.brought_home += 1;
            let id = self.start(Job::Home(file.clone()));
            out.ops.push(DiskOp::Write {
                id,
                file,
                at,
                data,
                durable: false,
            });
        }
    }

    pub(super) fn came_home(
        &mut self,
        file: &FilePath,
        failed: Option<DiskFault>,
        out: &mut Outcome,
    ) {
        self.filling -= 1;
        let closing = self.closing;
        let Some(tracked) = self.tracked.get_mut(file) else {
            return;
        };
        self.memory_going -= tracked.filling_bytes();
        let count = std::mem::take(&mut tracked.filling);
        if let Some(fault) = failed {
            if fault.kind == FaultKind::NoSpace && !closing {
                // What was refused went past the page cache: it is tried again when it is looked
                // whether the journal rests.
                return;
            }
            return self.cannot_come_home(file, fault, out);
        }
        let mut end = 0;
        for image in tracked.images.drain(..count) {
            end = image.end();
            self.memory -= image.data.capacity();
            tracked.bytes -= image.data.capacity();
            tracked.unsynced[image.extent] += 1;
        }
        // The last image's batches end in its last block, or in the one before.
        let upto = end.saturating_sub(2 * BLOCK as u64);
        let all = tracked.images.is_empty();
        out.home
            .push((tracked.owner, file.clone(), (!all).then_some(upto)));
        self.go_on_with_file(file);
    }

    /// The file's next step, once what was on its way to it is there.
    fn go_on_with_file(&mut self, file: &FilePath) {
        let old = 1 - self.active;
        let Some(tracked) = self.tracked.get_mut(file) else {
            return;
        };
        let wanted = !tracked.waiting.is_empty() || self.stage == Stage::Leaving;
        let images = tracked.images.iter().any(|image| image.extent == old);
        if !images && tracked.unsynced[old] > 0 && self.extents[old].generation > 0 {
            tracked.sync_due = true;
        }
        if images || wanted || tracked.sync_due {
            self.enqueue(file);
        }
    }

    pub(super) fn home_synced(
        &mut self,
        file: &FilePath,
        failed: Option<DiskFault>,
        out: &mut Outcome,
    ) {
        self.filling -= 1;
        if let Some(fault) = failed {
            return self.cannot_come_home(file, fault, out);
        }
        let Some(tracked) = self.tracked.get_mut(file) else {
            return;
        };
        let synced = tracked.syncing.take().unwrap_or_default();
        for (extent, images) in synced.into_iter().enumerate() {
            self.extents[extent].images -= images;
        }
        self.go_on_with_file(file);
    }

    /// What a log had acknowledged is in the journal only: it is for the next start.
    fn cannot_come_home(&mut self, file: &FilePath, fault: DiskFault, out: &mut Outcome) {
        let Some(tracked) = self.tracked.get_mut(file) else {
            return;
        };
        tracked.failed = true;
        tracked.syncing = None;
        self.memory -= tracked.bytes;
        let waiting = std::mem::take(&mut tracked.waiting);
        out.done.extend(waiting.iter().map(|op| refused(op, file)));
        self.wanting.remove(file);
        let kind = FaultKind::Io(match fault.kind {
            FaultKind::Io(errno) => errno,
            FaultKind::NoSpace => super::ENOSPC,
            FaultKind::NotFound | FaultKind::TooLarge => super::EIO,
        });
        out.failed
            .push((tracked.owner, DiskFault { kind, ..fault }));
        self.give_up(out);
    }

    /// Wipes the first block of each extent that may be used again.
    pub(super) fn wipe(&mut self, out: &mut Outcome) {
        let other = 1 - self.active;
        let extent = &self.extents[other];
        let empty = extent.generation > 0 && extent.images == 0 && !extent.wiping;
        if self.stage == Stage::Ready && empty {
            self.wipe_extent(other, out);
        }
    }

    fn wipe_extent(&mut self, extent: usize, out: &mut Outcome) {
        self.extents[extent].wiping = true;
        let mut zeros = Buf::allocate(BLOCK);
        zeros.set_len(BLOCK);
        zeros.whole_mut()[..BLOCK].fill(0);
        let (file, at) = (self.file.clone(), extent as u64 * self.extent_bytes());
        let id = self.start(Job::Wipe(extent));
        out.ops.push(durable_write(id, file, at, Arc::new(zeros)));
    }

    pub(super) fn wiped(&mut self, extent: usize, failed: bool, out: &mut Outcome) {
        self.extents[extent].wiping = false;
        if failed {
            // It may hold what it held: all of it is home, and stays tracked.
            return self.give_up(out);
        }
        self.extents[extent].generation = 0;
        for tracked in self.tracked.values_mut() {
            tracked.extents &= !(1 << extent);
        }
        self.tracked.retain(|_, tracked| {
            let idle = tracked.is_home() && tracked.waiting.is_empty() && !tracked.settling;
            tracked.extents != 0 || !idle
        });
    }

    /// Looked at now and then: what has not been written to for that long is emptied, so that files
    /// are tracked no longer than they have to.
    pub(in crate::shard) fn rest(&mut self, out: &mut Outcome) {
        let busy = std::mem::take(&mut self.busy);
        if self.stage == Stage::Ready && !busy {
            self.drain_all();
            let empty = self
                .extents
                .iter()
                .all(|extent| extent.images == 0 && !extent.wiping);
            let coming = !self.gathered.is_empty() || !self.settled.is_empty();
            let idle = empty && self.flights.is_empty() && !coming;
            let other = self.extents[1 - self.active].generation;
            if idle && other == 0 && self.extents[self.active].generation > 0 {
                self.wipe_extent(self.active, out);
            }
        } else if self.stage == Stage::Leaving {
            self.drain_all();
        }
        self.pump(out);
    }

    /// Nothing more comes: all goes home, and the file goes.
    pub(in crate::shard) fn close(&mut self, out: &mut Outcome) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        match self.stage {
            Stage::Absent => self.stage = Stage::Gone,
            Stage::Making | Stage::Gone | Stage::Leaving => {}
            Stage::Ready => self.give_up(out),
        }
        self.pump(out);
    }

    /// The next step of the journal's end.
    pub(super) fn leave_further(&mut self, out: &mut Outcome) {
        if self.stage != Stage::Leaving || !self.jobs.is_empty() {
            return;
        }
        let stuck = |tracked: &Tracked| tracked.failed || self.closing;
        let left = self.tracked.values().filter(|tracked| {
            // What could not be synced is no image any more.
            tracked.failed || !tracked.images.is_empty() || !tracked.is_synced()
        });
        let (stuck, hoping): (Vec<_>, Vec<_>) = left.partition(|tracked| stuck(tracked));
        if !hoping.is_empty() {
            // There is no room for them; it is tried again later.
            return;
        }
        if !stuck.is_empty() {
            return self.leave_it_behind(out);
        }
        let (id, file) = (self.start(Job::Remove), self.file.clone());
        out.ops.push(DiskOp::Remove { id, file });
    }

    /// What it holds and could not bring home stays in its file, for the next start. Until then
    /// nothing may overtake it.
    pub(super) fn leave_it_behind(&mut self, out: &mut Outcome) {
        self.stage = Stage::Gone;
        for (file, tracked) in &mut self.tracked {
            let waiting = std::mem::take(&mut tracked.waiting);
            out.done.extend(waiting.iter().map(|op| refused(op, file)));
        }
    }

    /// Its file is gone for good, or not.
    pub(super) fn removed(&mut self, done: Result<(), DiskFault>, out: &mut Outcome) {
        if done.is_err() {
            return self.leave_it_behind(out);
        }
        self.stage = Stage::Gone;
        self.wanting.clear();
        for (_, tracked) in std::mem::take(&mut self.tracked) {
            out.ops.extend(tracked.waiting);
        }
    }
}
