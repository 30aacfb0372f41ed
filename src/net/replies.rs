//! The queue of replies of one connection: entered when a request begins, left in that order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::budget::Permit;
use super::{FETCHES_IN_FLIGHT_MAX, Outcome, Part, REQUESTS_IN_FLIGHT_MAX, Started};

/// How many bytes of memory are gathered into one send.
const SEND_BYTES: u64 = 256 << 10;

struct Entry<T> {
    started: Started,
    account: Option<T>,
    permit: Option<Permit>,
    is_fetch: bool,
}

struct Inner<T> {
    entries: RefCell<VecDeque<Entry<T>>>,
    sending: Cell<bool>,
    /// Fetches that are entered and not sent.
    fetches: Cell<usize>,
    /// How many of them are being sent.
    sending_fetches: Cell<usize>,
    closed: Cell<bool>,
    /// The writer has ended: nobody waits for it any more.
    abandoned: Cell<bool>,
    writer: RefCell<Option<Waker>>,
    reader: RefCell<Option<Waker>>,
}

/// One connection's replies; shared by its reader and its writer.
pub(super) struct Replies<T>(Rc<Inner<T>>);

impl<T> Clone for Replies<T> {
    fn clone(&self) -> Replies<T> {
        Replies(self.0.clone())
    }
}

impl<T> Default for Replies<T> {
    fn default() -> Replies<T> {
        Replies(Rc::new(Inner {
            entries: RefCell::default(),
            sending: Cell::default(),
            fetches: Cell::default(),
            sending_fetches: Cell::default(),
            closed: Cell::default(),
            abandoned: Cell::default(),
            writer: RefCell::default(),
            reader: RefCell::default(),
        }))
    }
}

/// Replies that go out together.
pub(super) struct Batch<T> {
    /// What to send, in order.
    pub(super) parts: Vec<Part>,
    /// Given back when that is done.
    pub(super) permits: Vec<Permit>,
    /// Accounted for when that is done.
    pub(super) accounts: Vec<T>,
}

/// What the writer has to do next.
pub(super) enum Next<T> {
    /// Send these.
    Send(Batch<T>),
    /// A request asks for the end, or the reader has ended and nothing is left.
    Close,
}

impl<T> Replies<T> {
    /// Enters a request.
    pub(super) fn push(
        &self,
        started: Started,
        account: T,
        permit: Option<Permit>,
        is_fetch: bool,
    ) {
        self.0.entries.borrow_mut().push_back(Entry {
            started,
            account: Some(account),
            permit,
            is_fetch,
        });
        let fetches = self.0.fetches.get() + usize::from(is_fetch);
        self.0.fetches.set(fetches);
        self.wake_writer();
    }

    /// The reader is done: the writer ends once all is sent.
    pub(super) fn finish(&self) {
        self.0.closed.set(true);
        self.wake_writer();
    }

    /// The writer is done: the reader need not wait for it.
    pub(super) fn abandon(&self) {
        self.0.abandoned.set(true);
        self.wake_reader();
    }

    /// True once the writer is done.
    pub(super) fn is_abandoned(&self) -> bool {
        self.0.abandoned.get()
    }

    /// True once the reader is done.
    pub(super) fn is_finished(&self) -> bool {
        self.0.closed.get()
    }

    fn wake_writer(&self) {
        if let Some(waker) = self.0.writer.borrow_mut().take() {
            waker.wake();
        }
    }

    fn wake_reader(&self) {
        if let Some(waker) = self.0.reader.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until fewer than [`REQUESTS_IN_FLIGHT_MAX`] requests are in flight; for a fetch also
    /// until fewer than [`FETCHES_IN_FLIGHT_MAX`] fetches are not sent.
    pub(super) async fn room(&self, for_fetch: bool) {
        self.until(|replies| {
            let fetches_max = if for_fetch {
                FETCHES_IN_FLIGHT_MAX
            } else {
                usize::MAX
            };
            replies.0.entries.borrow().len() < REQUESTS_IN_FLIGHT_MAX
                && replies.0.fetches.get() < fetches_max
        })
        .await;
    }

    /// Waits until everything is answered and sent.
    pub(super) async fn drained(&self) {
        self.until(|replies| replies.0.entries.borrow().is_empty() && !replies.0.sending.get())
            .await;
    }

    async fn until(&self, enough: impl Fn(&Replies<T>) -> bool) {
        poll_fn(|context| {
            if enough(self) || self.is_abandoned() {
                return Poll::Ready(());
            }
            *self.0.reader.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What was taken last has been sent.
    pub(super) fn sent(&self) {
        self.0.sending.set(false);
        let fetches = self.0.fetches.get() - self.0.sending_fetches.take();
        self.0.fetches.set(fetches);
        self.wake_reader();
    }

    /// Waits for the request in front; gathers those behind it that are ready as well.
    pub(super) async fn next(&self) -> Next<T> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Next<T>> {
        let (mut parts, mut permits, mut accounts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut fetches) = (0, 0);
        // A future may enter nothing here: what it does is on other cores and other tasks.
        while bytes < SEND_BYTES {
            let front = self.0.entries.borrow_mut().pop_front();
            let Some(mut entry) = front else { break };
            let outcome = match &mut entry.started {
                Started::Now(outcome) => std::mem::replace(outcome, Outcome::Silent),
                Started::Later(later) => match later.as_mut().poll(context) {
                    Poll::Ready(outcome) => outcome,
                    Poll::Pending => {
                        self.0.entries.borrow_mut().push_front(entry);
                        break;
                    }
                },
            };
            fetches += usize::from(entry.is_fetch);
            match outcome {
                Outcome::Reply(reply) => {
                    bytes += reply.iter().map(Part::size).sum::<u64>();
                    parts.extend(reply);
                    accounts.extend(entry.account);
                }
                Outcome::Silent => self.wake_reader(),
                Outcome::Close if parts.is_empty() => return Poll::Ready(Next::Close),
                Outcome::Close => {
                    let started = Started::Now(Outcome::Close);
                    self.0.entries.borrow_mut().push_front(Entry {
                        started,
                        account: None,
                        permit: None,
                        is_fetch: false,
                    });
                    break;
                }
            }
            permits.extend(entry.permit);
        }
        if !parts.is_empty() {
            self.0.sending.set(true);
            self.0.sending_fetches.set(fetches);
            return Poll::Ready(Next::Send(Batch {
                parts,
                permits,
                accounts,
            }));
        }
        if self.0.closed.get() && self.0.entries.borrow().is_empty() {
            return Poll::Ready(Next::Close);
        }
        *self.0.writer.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}
