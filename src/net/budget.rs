//! The memory that frames of one core may take together. Who finds it used up waits, and does not
//! read its socket meanwhile: that is the back-pressure a producer feels.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

#[derive(Debug)]
struct Inner {
    used: Cell<usize>,
    max: usize,
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    next: Cell<u64>,
    waits: Cell<u64>,
    connections: Cell<usize>,
}

/// A budget in bytes. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Budget(Rc<Inner>);

/// A connection's claim to room for what it may receive next, until it is dropped.
#[derive(Debug)]
pub struct Share(Rc<Inner>);

impl Share {
    /// How many bytes the connection may hold while it waits for a frame: all connections together
    /// about an eighth of the budget, beside it.
    pub fn bytes(&self) -> usize {
        self.0.max / 8 / self.0.connections.get().max(1)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    inner: Rc<Inner>,
    bytes: usize,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Budget {
        let inner = Inner {
            used: Cell::new(0),
            max,
            waiting: RefCell::default(),
            next: Cell::new(0),
            waits: Cell::new(0),
            connections: Cell::new(0),
        };
        Budget(Rc::new(inner))
    }

    /// A connection begins: it shares what may be held for connections that say nothing.
    pub fn share(&self) -> Share {
        self.0.connections.set(self.0.connections.get() + 1);
        Share(self.0.clone())
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    /// The most that may be in use.
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// How often somebody had to wait.
    pub fn waits(&self) -> u64 {
        self.0.waits.get()
    }

    /// Waits, in turn, until `bytes` fit. More than the whole budget is granted when nothing else
    /// is in use, so that one large frame is not shut out for ever.
    pub async fn take(&self, bytes: usize) -> Permit {
        let inner = &self.0;
        let number = inner.next.get();
        inner.next.set(number + 1);
        poll_fn(|context| {
            let first = inner
                .waiting
                .borrow()
                .front()
                .is_none_or(|(front, _)| *front >= number);
            let used = inner.used.get();
            if first && (used == 0 || used.saturating_add(bytes) <= inner.max) {
                inner
                    .waiting
                    .borrow_mut()
                    .retain(|(waiting, _)| *waiting != number);
                return Poll::Ready(());
            }
            let mut waiting = inner.waiting.borrow_mut();
            match waiting.iter_mut().find(|(waiting, _)| *waiting == number) {
                Some((_, waker)) => waker.clone_from(context.waker()),
                None => {
                    inner.waits.set(inner.waits.get() + 1);
                    waiting.push_back((number, context.waker().clone()));
                }
            }
            Poll::Pending
        })
        .await;
        inner.used.set(inner.used.get() + bytes);
        // The next in line may fit as well.
        inner.wake_first();
        Permit {
            inner: inner.clone(),
            bytes,
        }
    }
}

impl Inner {
    fn wake_first(&self) {
        if let Some((_, waker)) = self.waiting.borrow().front() {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.used.set(self.inner.used.get() - self.bytes);
        self.inner.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Context;

    #[test]
    fn who_does_not_fit_waits_until_something_is_given_back() {
        let budget = Budget::new(100);
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(large) = pin!(budget.take(500)).poll(&mut context) else {
            panic!("an empty budget grants one frame of any size");
        };
        let mut small = pin!(budget.take(10));
        assert!(small.as_mut().poll(&mut context).is_pending());
        drop(large);
        let Poll::Ready(permit) = small.as_mut().poll(&mut context) else {
            panic!("there is room now");
        };
        assert_eq!(budget.used(), 10);
        drop(permit);
        assert_eq!(budget.used(), 0);
    }

    use std::future::Future;
}
