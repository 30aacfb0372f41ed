//! A question to a core, and the wait for its answer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::base::Mono;
use crate::rt::File;
use crate::shard::{Reply, Ticket};

use super::driver::Host;

/// The node is shutting down: there will be no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping;

/// A reply, and the files of its slices.
#[derive(Debug)]
pub struct Answer {
    /// The reply.
    pub reply: Reply,
    /// When the core had it.
    pub given: Mono,
    /// One for each `Slice::File` of a `Reply::Read`, in order of appearance.
    pub files: Vec<Arc<File>>,
}

#[derive(Debug, Default)]
struct Slot {
    answer: Option<Result<Answer, Stopping>>,
    waker: Option<Waker>,
}

/// The calls of one core that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: RefCell<BTreeMap<u64, Rc<RefCell<Slot>>>>,
    next: std::cell::Cell<u64>,
    stopped: std::cell::Cell<bool>,
}

impl Calls {
    /// A new number, and where its answer will be.
    pub(super) fn open(&self) -> (u64, CallSlot) {
        let number = self.next.get();
        self.next.set(number + 1);
        let slot = Rc::new(RefCell::new(Slot::default()));
        if self.stopped.get() {
            slot.borrow_mut().answer = Some(Err(Stopping));
        } else {
            self.slots.borrow_mut().insert(number, slot.clone());
        }
        (number, CallSlot(slot))
    }

    /// The answer is there. Nobody may be waiting any more.
    pub(super) fn complete(&self, number: u64, answer: Answer) {
        let slot = self.slots.borrow_mut().remove(&number);
        if let Some(slot) = slot {
            settle(&slot, Ok(answer));
        }
    }

    fn abandon(&self, number: u64) {
        self.slots.borrow_mut().remove(&number);
    }

    /// Nobody will answer any more.
    pub(super) fn stop(&self) {
        self.stopped.set(true);
        let slots = std::mem::take(&mut *self.slots.borrow_mut());
        for slot in slots.values() {
            settle(slot, Err(Stopping));
        }
    }
}

fn settle(slot: &RefCell<Slot>, answer: Result<Answer, Stopping>) {
    let mut slot = slot.borrow_mut();
    slot.answer = Some(answer);
    if let Some(waker) = slot.waker.take() {
        waker.wake();
    }
}

/// Where the answer to a call will be.
#[derive(Debug)]
pub(super) struct CallSlot(Rc<RefCell<Slot>>);

/// A question that has been sent. It is answered whether or not anybody waits.
pub struct Call {
    host: Host,
    ticket: Ticket,
    to: crate::base::CoreId,
    slot: CallSlot,
    answered: bool,
}

impl Call {
    pub(super) fn new(host: Host, ticket: Ticket, to: crate::base::CoreId, slot: CallSlot) -> Call {
        Call {
            host,
            ticket,
            to,
            slot,
            answered: false,
        }
    }

    /// A parked read answers now with what there is; anything else goes on as it was.
    pub fn cancel(&self) {
        if !self.answered {
            self.host.cancel(self.to, self.ticket);
        }
    }
}

impl Future for Call {
    type Output = Result<Answer, Stopping>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = {
            let mut slot = self.slot.0.borrow_mut();
            match slot.answer.take() {
                Some(answer) => answer,
                None => {
                    slot.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        self.answered = true;
        Poll::Ready(answer)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            self.host.calls().abandon(self.ticket.number);
        }
    }
}
