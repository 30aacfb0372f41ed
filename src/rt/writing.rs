//! What a shard writes to its disks, as far as readers of cold bytes make way for it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::clock;
use super::timer::timeout;
use crate::base::Mono;

/// So long after a write was begun or done the shard still counts as one that writes: reads of cold
/// bytes hold back. From its end too, since one that such reads hold up would else let in more.
const LINGER: Duration = Duration::from_millis(20);

/// The writes of one shard, over all its disks.
#[derive(Default)]
pub(super) struct Writing {
    until: Cell<Mono>,
    durable_at_device: Cell<usize>,
    /// Cold reads that were begun since a durable write was.
    reads_since: Cell<u32>,
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

    /// A durable write goes to the device.
    pub(super) fn begin_durable(&self) -> AtDevice<'_> {
        self.durable_at_device.set(self.durable_at_device.get() + 1);
        self.reads_since.set(0);
        AtDevice { writing: self }
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
            let waiting = self.writing.waiting.take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}
