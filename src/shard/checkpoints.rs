//! Which logs of a core get a checkpoint next, so that recovering all of them stays short.
//!
//! Each log asks for a checkpoint by itself after a good deal of bytes. That bounds its own recovery,
//! not that of thousands of logs. So the core looks at all of its logs together whenever enough was
//! appended, and has the ones with the most unvouched bytes write one, a few at a time, while the
//! sum is too large. After an unclean start, what was scanned is vouched for in the same way, once
//! the core serves.
//!
//! The bound is soft where very many logs are written to evenly: then a checkpoint vouches for
//! little, and costs more than the scan that it saves. So up to [`UNVOUCHED_BYTES_MOST`] only logs
//! with [`WORTH_BYTES`] or more get one, and no more than [`AT_ONCE`] are written in each [`PAUSE_MS`].

use std::collections::BTreeSet;

use crate::base::Now;

use super::core::{Core, Slot, Timer};
use super::message::Effects;

/// What recovery may have to scan on one core, in bytes: a fraction of a second's reading.
const UNVOUCHED_BYTES_MAX: u64 = 256 << 20;
/// The same where that takes checkpoints that vouch for less than [`WORTH_BYTES`] each.
const UNVOUCHED_BYTES_MOST: u64 = 1 << 30;
/// A checkpoint is a new file, two syncs and a renaming: for less than this it is not worth it, in
/// bytes.
const WORTH_BYTES: u64 = 1 << 20;
/// Appended bytes after which the core looks again.
const LOOK_BYTES: u64 = 32 << 20;
/// A log with less than this is scanned faster than its checkpoint is written, in bytes.
const RECOVERED_BYTES_MIN: u64 = 256 << 10;
/// Checkpoints that are written at a time, beside those that logs want by themselves.
const AT_ONCE: usize = 8;
/// How long it waits before it looks whether the next ones may begin, in milliseconds.
const PAUSE_MS: i64 = 10;

/// What the core remembers of it.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Bytes appended since the last look.
    appended: u64,
    /// Logs that were not closed cleanly the last time.
    recovered: BTreeSet<Slot>,
}

impl Checkpoints {
    /// A log was scanned when it was opened.
    pub(super) fn recovered(&mut self, slot: Slot) {
        self.recovered.insert(slot);
    }

    /// The log is gone.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.recovered.remove(&slot);
    }
}

impl Core {
    /// So many bytes more are in the logs.
    pub(super) fn count_appended(&mut self, now: Now, bytes: usize) {
        self.checkpoints.appended += bytes as u64;
        if self.checkpoints.appended >= LOOK_BYTES {
            self.checkpoints.appended = 0;
            self.look_at_checkpoints(now);
        }
    }

    /// The timer is due at once, unless it runs.
    pub(super) fn look_at_checkpoints(&mut self, now: Now) {
        if self.timers.get(&Timer::Checkpoints).is_none() {
            self.timers.set(Timer::Checkpoints, now.mono);
        }
    }

    /// Has the logs with the most unvouched bytes write a checkpoint, if it is too much in all.
    pub(super) fn write_checkpoints(&mut self, now: Now, effects: &mut Effects) {
        if self.stopping() {
            return;
        }
        let (mut sum, mut busy) = (0, 0);
        let mut rows: Vec<(u64, Slot)> = Vec::new();
        for slot in self.slots() {
            let Some(partition) = self.partitions.get(slot) else {
                continue;
            };
            if !partition.is_ready() || partition.fault().is_some() {
                continue;
            }
            if partition.is_checkpointing() {
                busy += 1;
                continue;
            }
            let bytes = partition.unvouched_bytes();
            sum += bytes;
            if bytes > 0 {
                rows.push((bytes, slot));
            }
        }
        rows.sort_unstable_by(|one, other| other.cmp(one));
        let mut more = false;
        for (bytes, slot) in rows {
            let of_recovery =
                bytes >= RECOVERED_BYTES_MIN && self.checkpoints.recovered.contains(&slot);
            let limit = match bytes >= WORTH_BYTES {
                true => UNVOUCHED_BYTES_MAX,
                false => UNVOUCHED_BYTES_MOST,
            };
            if sum <= limit && !of_recovery {
                continue;
            }
            if busy >= AT_ONCE {
                more = true;
                break;
            }
            self.checkpoints.recovered.remove(&slot);
            busy += 1;
            sum -= bytes;
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.checkpoint(&mut effects.disk);
            }
            // A relaxed log has to sync first, and nothing else may make it.
            self.tick_partition(now, slot, effects);
        }
        if more {
            self.timers
                .set(Timer::Checkpoints, now.mono.after_ms(PAUSE_MS));
        } else {
            self.checkpoints.recovered.clear();
        }
    }
}
