//! A bounded number of permits on one shard, given out in the order of asking.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

#[derive(Default)]
struct Inside {
    free: usize,
    next_ticket: u64,
    /// By ticket: thousands may wait when every log is opened or closed at once.
    waiting: BTreeMap<u64, Option<Waker>>,
}

/// Permits for one shard's tasks.
#[derive(Clone)]
pub struct Gate {
    inside: Rc<RefCell<Inside>>,
}

/// Leave to go on; dropping it lets the next one in.
pub struct Permit {
    gate: Gate,
}

/// A place in the queue; leaving early gives it up.
struct Ticket<'a> {
    gate: &'a Gate,
    number: u64,
}

impl Gate {
    /// A gate that lets `permits` (at least one) in at a time.
    pub fn new(permits: usize) -> Gate {
        let inside = Inside {
            free: permits.max(1),
            ..Inside::default()
        };
        Gate {
            inside: Rc::new(RefCell::new(inside)),
        }
    }

    /// Waits for a permit, first come first served.
    pub async fn enter(&self) -> Permit {
        let number = {
            let mut inside = self.inside.borrow_mut();
            inside.next_ticket += 1;
            let number = inside.next_ticket;
            inside.waiting.insert(number, None);
            number
        };
        let ticket = Ticket { gate: self, number };
        poll_fn(|context| {
            let mut inside = self.inside.borrow_mut();
            let first = inside.waiting.first_key_value();
            let is_first = first.is_some_and(|(first, _)| *first == number);
            if is_first && inside.free > 0 {
                inside.free -= 1;
                return Poll::Ready(());
            }
            if let Some(place) = inside.waiting.get_mut(&number) {
                *place = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
        drop(ticket);
        Permit { gate: self.clone() }
    }

    fn wake_first(&self) {
        let waker = {
            let mut inside = self.inside.borrow_mut();
            let free = inside.free > 0;
            let first = inside.waiting.first_entry().filter(|_| free);
            first.and_then(|mut first| first.get_mut().take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.gate.inside.borrow_mut().waiting.remove(&self.number);
        self.gate.wake_first();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.inside.borrow_mut().free += 1;
        self.gate.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn permits_are_given_in_order_and_a_place_given_up_holds_nobody_up() {
        let gate = Gate::new(1);
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(gate.enter());
        let Poll::Ready(permit) = first.as_mut().poll(&mut context) else {
            panic!("first waits")
        };
        let mut second = Box::pin(gate.enter());
        assert!(second.as_mut().poll(&mut context).is_pending());
        let mut third = pin!(gate.enter());
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(permit);
        assert!(
            third.as_mut().poll(&mut context).is_pending(),
            "the second is first now"
        );
        drop(second);
        assert!(third.as_mut().poll(&mut context).is_ready());
    }
}
