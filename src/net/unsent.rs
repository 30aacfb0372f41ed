//! What replies of one core hold in memory until the kernel has taken them. A consumer that does not
//! read its socket holds bytes that the cache would let go long since; beyond a bound, those that have
//! been waiting longest are given up.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

#[derive(Debug)]
struct Inner {
    max: usize,
    next: Cell<u64>,
    /// Bytes by order of entry.
    held: RefCell<BTreeMap<u64, usize>>,
}

/// A bound in bytes. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Unsent(Rc<Inner>);

/// Bytes that wait to be sent; dropping it lets go of them.
#[derive(Debug)]
pub(super) struct Held {
    inner: Rc<Inner>,
    number: u64,
}

impl Unsent {
    /// At most `max` bytes are held for long.
    pub fn new(max: usize) -> Unsent {
        Unsent(Rc::new(Inner {
            max,
            next: Cell::new(0),
            held: RefCell::default(),
        }))
    }

    /// Enters a reply that holds `bytes`.
    pub(super) fn hold(&self, bytes: usize) -> Held {
        let number = self.0.next.get();
        self.0.next.set(number + 1);
        self.0.held.borrow_mut().insert(number, bytes);
        Held {
            inner: self.0.clone(),
            number,
        }
    }
}

impl Held {
    /// True when this and all that came later hold more than the bound: it has to go.
    pub(super) fn is_too_much(&self) -> bool {
        let held = self.inner.held.borrow();
        let from_here = held.range(self.number..).map(|(_, bytes)| bytes);
        from_here.sum::<usize>() > self.inner.max
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.inner.held.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_the_oldest_have_to_go_and_no_more_than_needed() {
        let unsent = Unsent::new(100);
        let mut held: Vec<Held> = (0..4).map(|_| unsent.hold(40)).collect();
        let too_much = |held: &[Held]| held.iter().map(Held::is_too_much).collect::<Vec<_>>();
        assert_eq!(too_much(&held), [true, true, false, false]);
        drop(held.remove(3));
        assert_eq!(too_much(&held), [true, false, false]);
        drop(held.remove(0));
        assert_eq!(too_much(&held), [false, false]);
    }
}
