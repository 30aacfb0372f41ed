//! What a shard writes to its disks, as far as readers of cold bytes make way for it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::clock;
use super::timer::timeout;
use crate::base::Mono;

/// So long after a write was begun or done the shard still counts as one that writes: reads of cold
/// bytes hold back. From its end too, since one that such reads hold up would else let in more.
const LINGER: Duration = Duration::from_millis(20);

/// Cold reads that began so lately do not know yet whether somebody writes, and hold back as well.
const READING_IS_NEW: Duration = Duration::from_millis(20);
/// Cold reads that are further apart than this belong to different readings.
const READING_ENDS: Duration = Duration::from_millis(100);
/// Longer pauses between durable writes count as so long, nanoseconds.
const PAUSE_MAX: u64 = 4_000_000;
/// The share of each pause in the mean of them all.
const PAUSE_SHARE: u64 = 8;
/// Of the mean pause, so much may be taken by one cold read, or by one slice that is sent: then few
/// writes come while it goes on, and they wait for little.
const PAUSE_PART: u64 = 4;
/// With pauses of this length, nanoseconds, what else the shard has to do need not be let go first.
const PAUSE_LONG: u64 = 500_000;

/// The writes of one shard, over all its disks.
#[derive(Default)]
pub(super) struct Writing {
    until: Cell<Mono>,
    durable_at_device: Cell<usize>,
    /// When the last durable write was over.
    durable_ended: Cell<Mono>,
    /// The mean of the times in which no durable write was at the device, nanoseconds.
    pause: Cell<u64>,
    /// Cold reads that were begun since a durable write was.
    reads_since: Cell<u32>,
    /// When the reading of cold bytes began that is going on, and its last read.
    reading: Cell<(Mono, Mono)>,
    waiting: RefCell<Vec<Waker>>,
}

/// A durable write at the device; it is over when this is dropped.
pub(super) struct AtDevice<'a> {
    writing: &'a Writing,
}

impl Writing {
    /// A write was begun, or is done.
    pub(super) fn note(&self) {
        self.until.set(clock::mono().after(LINGER));
    }

    /// True while the shard writes to a disk.
    pub(super) fn is_recent(&self) -> bool {
        clock::mono() < self.until.get()
    }

    /// A cold read is about to begin; true if it has to hold back, since the shard writes, or since
    /// this reading is so new that nobody knows.
    pub(super) fn begin_cold_read(&self) -> bool {
        let now = clock::mono();
        let (mut began, last) = self.reading.get();
        if now.since(last) > READING_ENDS {
            began = now;
        }
        self.reading.set((began, now));
        now.since(began) < READING_IS_NEW || self.is_recent()
    }

    /// A durable write goes to the device.
    pub(super) fn begin_durable(&self) -> AtDevice<'_> {
        let before = self.durable_at_device.get();
        let pause = match before {
            0 => clock::mono().since(self.durable_ended.get()).as_nanos() as u64,
            _ => 0,
        };
        let others = self.pause.get() * (PAUSE_SHARE - 1);
        self.pause
            .set((others + pause.min(PAUSE_MAX)) / PAUSE_SHARE);
        self.durable_at_device.set(before + 1);
        self.reads_since.set(0);
        AtDevice { writing: self }
    }

    /// How long the shard's disks are without a durable write, in the mean, or by now.
    fn pause(&self) -> u64 {
        if self.durable_at_device.get() > 0 {
            return self.pause.get();
        }
        let now = clock::mono().since(self.durable_ended.get()).as_nanos() as u64;
        self.pause.get().max(now.min(PAUSE_MAX))
    }

    /// True while durable writes follow each other so closely that they have to be let go first
    /// wherever they stand.
    pub(super) fn is_dense(&self) -> bool {
        self.pause() < PAUSE_LONG
    }

    /// How many bytes may be read, or sent, in one piece beside durable writes: as many as take a part
    /// of the pause between them, at a byte a nanosecond; within `bounds`.
    pub(super) fn piece(&self, bounds: RangeInclusive<u64>) -> u64 {
        (self.pause() / PAUSE_PART).clamp(*bounds.start(), *bounds.end())
    }

    /// How many bytes the next cold read may ask for: `first` after a durable write, then twice as
    /// many as the one before, `max` at most. Where writes follow each other, each waits for little.
    pub(super) fn next_read(&self, first: u64, max: u64) -> u64 {
        let before = self.reads_since.get();
        self.reads_since.set(before.saturating_add(1));
        max.min(first << before.min(16))
    }

    /// Waits until no durable write is at the device, but no longer than `max`.
    pub(super) async fn make_way(&self, max: Duration) {
        if self.durable_at_device.get() == 0 {
            return;
        }
        let none = poll_fn(|context| {
            if self.durable_at_device.get() == 0 {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        });
        // If there is always one, it goes on all the same.
        let _ = timeout(clock::mono().after(max), none).await;
    }
}

impl Drop for AtDevice<'_> {
    fn drop(&mut self) {
        let left = self.writing.durable_at_device.get() - 1;
        self.writing.durable_at_device.set(left);
        if left == 0 {
            self.writing.durable_ended.set(clock::mono());
            let waiting = self.writing.waiting.take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}
