//! Waiting for a time, on the shard's own table of deadlines.
//!
//! The driver fires what is due each turn and sleeps no longer than to the next deadline.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::executor::{Machine, current};
use crate::base::{Mono, Timers};
use crate::rt::clock;

/// All sleepers of one shard.
#[derive(Default)]
pub(super) struct Sleepers {
    next: Cell<u64>,
    timers: RefCell<Timers<u64>>,
    wakers: RefCell<BTreeMap<u64, Waker>>,
}

impl Sleepers {
    /// Wakes everyone who is due; returns how many.
    pub(super) fn fire(&self, now: Mono) -> usize {
        let mut fired = 0;
        loop {
            let Some(key) = self.timers.borrow_mut().pop_due(now) else {
                return fired;
            };
            let waker = self.wakers.borrow_mut().remove(&key);
            if let Some(waker) = waker {
                waker.wake();
                fired += 1;
            }
        }
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        self.timers.borrow().next()
    }

    /// Sets who is woken; false if the sleeper has been fired.
    fn update(&self, key: u64, waker: &Waker) -> bool {
        match self.wakers.borrow_mut().get_mut(&key) {
            Some(known) => known.clone_from(waker),
            None => return false,
        }
        true
    }

    fn cancel(&self, key: u64) {
        self.timers.borrow_mut().cancel(&key);
        self.wakers.borrow_mut().remove(&key);
    }
}

/// Waits until the monotonic clock shows `at`. Dropping it costs nothing.
pub fn sleep_until(at: Mono) -> Sleep {
    Sleep {
        machine: current(),
        at,
        key: None,
    }
}

/// Waits for `duration` from now.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(clock::mono().after(duration))
}

/// A wait for a time, see [`sleep_until`].
pub struct Sleep {
    machine: Rc<Machine>,
    at: Mono,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if clock::mono() >= self.at {
            return Poll::Ready(());
        }
        let sleepers = &self.machine.sleepers;
        if self
            .key
            .is_some_and(|key| sleepers.update(key, context.waker()))
        {
            return Poll::Pending;
        }
        sleepers.next.set(sleepers.next.get() + 1);
        let key = sleepers.next.get();
        sleepers.timers.borrow_mut().set(key, self.at);
        sleepers
            .wakers
            .borrow_mut()
            .insert(key, context.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.machine.sleepers.cancel(key);
        }
    }
}

/// The time was up before the future was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

/// Runs `future` until `deadline`; it is dropped when the time is up.
pub async fn timeout<F: Future>(deadline: Mono, future: F) -> Result<F::Output, TimedOut> {
    let mut future = pin!(future);
    let mut sleep = sleep_until(deadline);
    poll_fn(move |context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut sleep).poll(context).map(|()| Err(TimedOut))
    })
    .await
}

/// Lets every other runnable task have its turn.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
