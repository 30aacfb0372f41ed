//! The memory that frames of one core may take together. Who finds it used up waits, and does not
//! read its socket meanwhile: that is the back-pressure a producer feels.
//!
//! A permit is for a whole frame, so that no two half-received frames wait for each other. Who has
//! one and hears nothing more from its peer lends what it has not received yet ([`Permit::lend`]):
//! otherwise a few peers that fell silent in the middle of a frame, or whose packets were lost while
//! the kernel was short of memory, would shut out everybody else for minutes.

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
    /// Who lent and wants it back: before all that are new.
    returning: RefCell<VecDeque<(u64, Waker)>>,
    /// Permits of which nothing is lent.
    whole: Cell<usize>,
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
    lent: usize,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Budget {
        let inner = Inner {
            used: Cell::new(0),
            max,
            waiting: RefCell::default(),
            returning: RefCell::default(),
            whole: Cell::new(0),
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

    /// Waits, in turn, until `bytes` fit, behind those who lent. When no frame is on its way, one may
    /// go over the budget: neither a frame larger than the budget is shut out for ever, nor everyone
    /// by peers that fell silent when their frames were nearly whole. So all frames together take
    /// the budget and one frame at most.
    pub async fn take(&self, bytes: usize) -> Permit {
        let inner = &self.0;
        let number = inner.next.get();
        inner.next.set(number + 1);
        poll_fn(|context| {
            let first = inner.returning.borrow().is_empty()
                && inner
                    .waiting
                    .borrow()
                    .front()
                    .is_none_or(|(front, _)| *front >= number);
            if first && inner.fits(bytes) {
                inner
                    .waiting
                    .borrow_mut()
                    .retain(|(waiting, _)| *waiting != number);
                return Poll::Ready(());
            }
            if enter(&inner.waiting, number, context.waker()) {
                inner.waits.set(inner.waits.get() + 1);
            }
            Poll::Pending
        })
        .await;
        inner.used.set(inner.used.get() + bytes);
        inner.whole.set(inner.whole.get() + 1);
        // The next in line may fit as well.
        inner.wake_first();
        Permit {
            inner: inner.clone(),
            bytes,
            lent: 0,
        }
    }
}

impl Permit {
    /// Gives back `bytes` of it for now, of those that are not received yet.
    pub fn lend(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        if bytes == 0 {
            return;
        }
        if self.lent == 0 {
            self.inner.whole.set(self.inner.whole.get() - 1);
        }
        self.bytes -= bytes;
        self.lent += bytes;
        self.inner.used.set(self.inner.used.get() - bytes);
        self.inner.wake_first();
    }

    /// Waits until it has again what it lent, before all that have no permit yet. When all that is
    /// in use belongs to half frames, one of them may go over the budget, and the next only when it
    /// is kept again.
    pub async fn take_back(&mut self) {
        if self.lent == 0 {
            return;
        }
        let (inner, bytes) = (self.inner.clone(), self.lent);
        let number = inner.next.get();
        inner.next.set(number + 1);
        poll_fn(|context| {
            let first = inner
                .returning
                .borrow()
                .front()
                .is_none_or(|(front, _)| *front >= number);
            if first && inner.fits(bytes) {
                inner
                    .returning
                    .borrow_mut()
                    .retain(|(returning, _)| *returning != number);
                return Poll::Ready(());
            }
            enter(&inner.returning, number, context.waker());
            Poll::Pending
        })
        .await;
        inner.used.set(inner.used.get() + bytes);
        inner.whole.set(inner.whole.get() + 1);
        self.bytes += bytes;
        self.lent = 0;
        inner.wake_first();
    }
}

/// Enters a line, or renews the waker there; true if it is new.
fn enter(line: &RefCell<VecDeque<(u64, Waker)>>, number: u64, waker: &Waker) -> bool {
    let mut line = line.borrow_mut();
    match line.iter_mut().find(|(waiting, _)| *waiting == number) {
        Some((_, entered)) => {
            entered.clone_from(waker);
            false
        }
        None => {
            line.push_back((number, waker.clone()));
            true
        }
    }
}

impl Inner {
    /// So many bytes more are within the budget, or what is in use belongs to half frames alone,
    /// whose peers say nothing: they would never give it back.
    fn fits(&self, bytes: usize) -> bool {
        let used = self.used.get();
        used.saturating_add(bytes) <= self.max || (self.whole.get() == 0 && used <= self.max)
    }

    fn wake_first(&self) {
        let returning = self.returning.borrow();
        let waiting = self.waiting.borrow();
        if let Some((_, waker)) = returning.front().or(waiting.front()) {
            waker.wake_by_ref();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inner.used.set(self.inner.used.get() - self.bytes);
        if self.lent == 0 {
            self.inner.whole.set(self.inner.whole.get() - 1);
        }
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

    fn taken(budget: &Budget, bytes: usize) -> Permit {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(budget.take(bytes)).poll(&mut context) {
            Poll::Ready(permit) => permit,
            Poll::Pending => panic!("{bytes} do not fit beside {}", budget.used()),
        }
    }

    #[test]
    fn who_lent_gets_it_back_before_those_that_are_new() {
        let budget = Budget::new(100);
        let mut context = Context::from_waker(Waker::noop());
        let mut silent = taken(&budget, 100);
        silent.lend(90);
        let other = taken(&budget, 60);
        let mut new = pin!(budget.take(50));
        assert!(new.as_mut().poll(&mut context).is_pending());
        let mut back = Box::pin(silent.take_back());
        assert!(back.as_mut().poll(&mut context).is_pending());
        drop(other);
        assert!(new.as_mut().poll(&mut context).is_pending());
        assert!(back.as_mut().poll(&mut context).is_ready());
        drop(back);
        assert_eq!(budget.used(), 100);
        drop(silent);
        assert!(new.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn when_only_half_frames_are_left_one_of_them_may_go_over_the_budget() {
        let budget = Budget::new(100);
        let mut context = Context::from_waker(Waker::noop());
        let mut halves: Vec<Permit> = Vec::new();
        for _ in 0..2 {
            let mut half = taken(&budget, 50);
            half.lend(5);
            halves.push(half);
        }
        let mut third = taken(&budget, 10);
        third.lend(1);
        assert_eq!(budget.used(), 99);
        let mut first = Box::pin(third.take_back());
        assert!(first.as_mut().poll(&mut context).is_ready());
        drop(first);
        let [one, other] = &mut halves[..] else {
            panic!("two halves");
        };
        let mut one_back = Box::pin(one.take_back());
        let mut other_back = Box::pin(other.take_back());
        assert!(one_back.as_mut().poll(&mut context).is_pending());
        assert!(other_back.as_mut().poll(&mut context).is_pending());
        third.lend(1);
        assert!(one_back.as_mut().poll(&mut context).is_ready());
        assert!(other_back.as_mut().poll(&mut context).is_pending());
        assert_eq!(budget.used(), 104);
        drop((one_back, other_back, third));
        drop(halves.remove(0));
        assert_eq!(budget.used(), 45);
    }

    #[test]
    fn frames_that_are_nearly_whole_and_silent_do_not_shut_out_the_others() {
        let budget = Budget::new(100);
        let mut context = Context::from_waker(Waker::noop());
        let mut silent = taken(&budget, 100);
        silent.lend(2);
        let one = taken(&budget, 50);
        assert_eq!(budget.used(), 148);
        let mut next = pin!(budget.take(50));
        assert!(
            next.as_mut().poll(&mut context).is_pending(),
            "one at a time"
        );
        drop(one);
        assert!(next.as_mut().poll(&mut context).is_ready());
    }

    use std::future::Future;
}
