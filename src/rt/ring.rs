//! One core's `io_uring`, and operations on it as futures.
//!
//! Lives on the thread that made it. Knows neither sockets nor files, only entries and results.
//!
//! Invariant: whatever the kernel may still touch is owned by the operation. While the future
//! lives it owns its buffers; when it is dropped too early they move into the slab until the
//! completion comes, and the kernel is asked to cancel.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

/// Entries of the submission queue; more wait in a backlog.
const SUBMISSIONS: u32 = 256;
/// Entries of the completion queue; beyond it the kernel keeps them, at a cost.
const COMPLETIONS: u32 = 4096;

/// `IORING_ENTER_GETEVENTS`: with deferred task work, nothing completes without it.
const GET_EVENTS: u32 = 1;

/// Marks user data that belongs to no slot. Generations stay below 2^31, so slots never set it.
const SPECIAL: u64 = 1 << 63;
/// A completion that nobody waits for.
const IGNORED: u64 = SPECIAL;
/// What a peer's `MSG_RING` delivers here.
pub(super) const WOKEN: u64 = SPECIAL | 1 << 32;
/// Ours came back: waking the peer in the low bits failed.
pub(super) const WAKE_FAILED: u64 = SPECIAL | 2 << 32;

/// What a slot of the slab is in.
enum State {
    Free,
    /// In flight, its future alive.
    Waiting(Option<Waker>),
    /// Completed, its future has not looked yet.
    Done(i32),
    /// In flight, its future dropped: holds what the kernel may touch.
    Orphan {
        _keep: Box<dyn Any>,
        result_is_descriptor: bool,
    },
}

struct Slot {
    generation: u32,
    state: State,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    in_flight: usize,
}

impl Slots {
    fn take(&mut self, state: State) -> (u32, u64) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                state: State::Free,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        slot.state = state;
        (index, u64::from(slot.generation) << 32 | u64::from(index))
    }

    fn give_back(&mut self, index: u32) {
        self.slots[index as usize].state = State::Free;
        self.free.push(index);
    }
}

/// A ring, made and used on one thread.
pub(super) struct Ring {
    io: RefCell<IoUring>,
    slots: RefCell<Slots>,
    backlog: RefCell<VecDeque<Entry>>,
    reaped: RefCell<Vec<(u64, i32)>>,
    closing: Cell<bool>,
    registered: RefCell<Registered>,
    /// Owns the registered memory.
    keep: RefCell<Vec<Box<dyn Any>>>,
}

/// Builds a ring with the flags that a shard needs. EINVAL means a kernel before 6.1.
pub(super) fn build(submissions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_cqsize(COMPLETIONS)
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(submissions)
}

/// What the kernel is told of at a time: a huge page. Larger operations go unregistered.
const REGISTERED_PART: usize = 2 << 20;
/// The most parts that the kernel takes (`IORING_MAX_REG_BUFFERS`).
const REGISTERED_PARTS_MAX: usize = 1 << 14;

/// The stretch of memory that operations may use as registered buffers. A part of it is made known
/// to the kernel, and thereby locked, when it is first used.
#[derive(Default)]
struct Registered {
    start: usize,
    /// For each part, whether the kernel knows it. Empty when there is nothing to register.
    known: Vec<bool>,
}

impl Ring {
    /// Makes the ring of the calling thread.
    pub(super) fn new() -> io::Result<Ring> {
        Ok(Ring {
            io: RefCell::new(build(SUBMISSIONS)?),
            slots: RefCell::default(),
            backlog: RefCell::default(),
            reaped: RefCell::new(Vec::with_capacity(256)),
            closing: Cell::new(false),
            registered: RefCell::default(),
            keep: RefCell::default(),
        })
    }

    /// The ring's descriptor, for `MSG_RING` from others.
    pub(super) fn descriptor(&self) -> RawFd {
        self.io.borrow().as_raw_fd()
    }

    /// Names a stretch of memory whose parts are to be registered with the kernel as they come into
    /// use, so that it need not pin pages for each operation. `owner` keeps the memory alive as
    /// long as the ring. Once only.
    pub(super) fn register(
        &self,
        region: (*const u8, usize),
        owner: Box<dyn Any>,
    ) -> io::Result<()> {
        let mut registered = self.registered.borrow_mut();
        if !registered.known.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let parts = (region.1 / REGISTERED_PART).min(REGISTERED_PARTS_MAX);
        self.io
            .borrow()
            .submitter()
            .register_buffers_sparse(parts as u32)?;
        self.keep.borrow_mut().push(owner);
        registered.start = region.0 as usize;
        registered.known = vec![false; parts];
        Ok(())
    }

    /// The number of the registered buffer that holds this stretch, if one does.
    pub(super) fn registered(&self, start: *const u8, len: usize) -> Option<u16> {
        let mut registered = self.registered.borrow_mut();
        let at = (start as usize).checked_sub(registered.start)?;
        let part = at / REGISTERED_PART;
        let known = *registered.known.get(part)?;
        if (at + len.max(1) - 1) / REGISTERED_PART != part {
            return None;
        }
        if !known && !self.make_known(registered.start, part) {
            registered.known.clear();
            return None;
        }
        registered.known[part] = true;
        Some(part as u16)
    }

    /// Registers one part; false if the kernel locks no more memory for us.
    fn make_known(&self, start: usize, part: usize) -> bool {
        let buffer = libc::iovec {
            iov_base: (start + part * REGISTERED_PART) as *mut libc::c_void,
            iov_len: REGISTERED_PART,
        };
        let io = self.io.borrow();
        // SAFETY: the part lies in the stretch, whose owner is kept until the ring is gone.
        let updated = unsafe {
            io.submitter()
                .register_buffers_update(part as u32, &[buffer], None)
        };
        if let Err(error) = &updated {
            tracing::warn!(%error, "no more buffers are registered with the kernel, which costs CPU");
        }
        updated.is_ok()
    }

    /// Starts an operation; the kernel sees it at the next [`Ring::turn`] or [`Ring::wait`].
    /// When the ring is closing it completes with `-ECANCELED`.
    ///
    /// # Safety
    ///
    /// Every pointer in `entry` must lead into memory that is owned by `keep`, does not move when
    /// `keep` is moved (it is on the heap), and is not touched until `keep` is given back. The
    /// descriptor must be open as long as `keep` lives.
    pub(super) unsafe fn submit<K: 'static>(self: &Rc<Ring>, entry: Entry, keep: K) -> Op<K> {
        let state = if self.closing.get() {
            State::Done(-libc::ECANCELED)
        } else {
            State::Waiting(None)
        };
        let alive = matches!(state, State::Waiting(_));
        let (index, user_data) = self.slots.borrow_mut().take(state);
        if alive {
            self.slots.borrow_mut().in_flight += 1;
            self.push(entry.user_data(user_data));
        }
        let ring = self.clone();
        Op {
            ring,
            index,
            user_data,
            keep: Some(keep),
            result_is_descriptor: false,
        }
    }

    /// Wakes the ring behind `descriptor`, with no completion here unless it fails.
    pub(super) fn message(&self, descriptor: RawFd, peer: usize) {
        let entry = opcode::MsgRingData::new(Fd(descriptor), 0, WOKEN, None)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(WAKE_FAILED | peer as u64);
        self.push(entry);
    }

    fn cancel(&self, user_data: u64) {
        let entry = opcode::AsyncCancel::new(user_data).build();
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(IGNORED));
    }

    fn push(&self, entry: Entry) {
        let mut backlog = self.backlog.borrow_mut();
        if backlog.is_empty() {
            let mut io = self.io.borrow_mut();
            // SAFETY: whoever made the entry vouches for its pointers, see `submit`; the other
            // entries that come here carry none.
            if unsafe { io.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        backlog.push_back(entry);
    }

    /// Moves what waits in the backlog into the submission queue; false if some had to stay.
    fn refill(&self) -> bool {
        let mut backlog = self.backlog.borrow_mut();
        if backlog.is_empty() {
            return true;
        }
        let mut io = self.io.borrow_mut();
        let mut submission = io.submission();
        while let Some(entry) = backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { submission.push(entry) }.is_err() {
                return false;
            }
            backlog.pop_front();
        }
        true
    }

    /// True when a turn would find nothing to do. Costs no system call.
    pub(super) fn is_quiet(&self) -> bool {
        let mut io = self.io.borrow_mut();
        if !self.backlog.borrow().is_empty() || !io.completion().is_empty() {
            return false;
        }
        let submission = io.submission();
        submission.is_empty() && !submission.taskrun() && !submission.cq_overflow()
    }

    /// Submits what is queued and reaps what is done, without waiting. Wakes the futures; gives
    /// every completion that belongs to none to `special`. Returns how many completions came.
    pub(super) fn turn(&self, special: impl FnMut(u64, i32)) -> usize {
        while !self.is_quiet_for_submission() {
            self.refill();
            self.enter();
            if self.backlog.borrow().is_empty() {
                break;
            }
            // The completion queue may be what stands in the way: empty it first.
            self.collect();
        }
        self.reap(special)
    }

    /// One system call that submits and has the kernel deliver what is done, without waiting.
    fn enter(&self) {
        let mut io = self.io.borrow_mut();
        let queued = io.submission().len() as u32;
        let none = None::<&libc::sigset_t>;
        // SAFETY: no argument is passed, and `queued` entries are in the queue.
        let result = unsafe { io.submitter().enter(queued, 0, GET_EVENTS, none) };
        self.accept_enter(result.map(|_| ()));
    }

    /// Submits what is queued, then sleeps until something completes or `limit` has passed.
    pub(super) fn wait(&self, limit: Duration) {
        self.refill();
        let limit = Timespec::new()
            .sec(limit.as_secs())
            .nsec(limit.subsec_nanos());
        let arguments = SubmitArgs::new().timespec(&limit);
        let result = self.io.borrow().submitter().submit_with_args(1, &arguments);
        self.accept_enter(result.map(|_| ()));
    }

    fn is_quiet_for_submission(&self) -> bool {
        let mut io = self.io.borrow_mut();
        let backlog = self.backlog.borrow().is_empty();
        let submission = io.submission();
        backlog && submission.is_empty() && !submission.taskrun() && !submission.cq_overflow()
    }

    /// A signal, a timeout, a full completion queue or short memory only mean "again later".
    fn accept_enter(&self, result: io::Result<()>) {
        let Err(error) = result else { return };
        let passing = [
            libc::EINTR,
            libc::ETIME,
            libc::EBUSY,
            libc::EAGAIN,
            libc::ENOMEM,
        ];
        let errno = error.raw_os_error().unwrap_or(0);
        assert!(passing.contains(&errno), "io_uring_enter failed: {error}");
    }

    fn collect(&self) {
        let mut io = self.io.borrow_mut();
        let mut reaped = self.reaped.borrow_mut();
        reaped.extend(
            io.completion()
                .map(|entry| (entry.user_data(), entry.result())),
        );
    }

    fn reap(&self, mut special: impl FnMut(u64, i32)) -> usize {
        self.collect();
        let mut reaped = std::mem::take(&mut *self.reaped.borrow_mut());
        let count = reaped.len();
        for (user_data, result) in reaped.drain(..) {
            if user_data & SPECIAL == 0 {
                self.complete(user_data, result);
            } else if user_data != IGNORED {
                special(user_data, result);
            }
        }
        *self.reaped.borrow_mut() = reaped;
        count
    }

    fn complete(&self, user_data: u64, result: i32) {
        let (index, generation) = (user_data as u32, (user_data >> 32) as u32);
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots.slots[index as usize];
        assert!(
            slot.generation == generation,
            "completion of slot {index} came twice"
        );
        match std::mem::replace(&mut slot.state, State::Done(result)) {
            State::Waiting(waker) => {
                slots.in_flight -= 1;
                drop(slots);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Orphan {
                _keep: keep,
                result_is_descriptor,
            } => {
                slots.give_back(index);
                slots.in_flight -= 1;
                drop(slots);
                if result_is_descriptor && result >= 0 {
                    // SAFETY: the kernel just gave us this descriptor and nobody else has it.
                    drop(unsafe { OwnedFd::from_raw_fd(result) });
                }
                drop(keep);
            }
            State::Free | State::Done(_) => panic!("completion of idle slot {index}"),
        }
    }

    /// Takes no more operations and asks the kernel to cancel those in flight.
    pub(super) fn close(&self) {
        self.closing.set(true);
        let running: Vec<u64> = {
            let slots = self.slots.borrow();
            let all = slots.slots.iter().enumerate();
            all.filter(|(_, slot)| !matches!(slot.state, State::Free | State::Done(_)))
                .map(|(index, slot)| u64::from(slot.generation) << 32 | index as u64)
                .collect()
        };
        running
            .into_iter()
            .for_each(|user_data| self.cancel(user_data));
    }

    /// How many operations the kernel has not answered yet.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.borrow().in_flight
    }
}

impl Drop for Ring {
    /// If the kernel still holds operations, their memory is leaked rather than freed under it.
    fn drop(&mut self) {
        if self.in_flight() > 0 {
            std::mem::forget(std::mem::take(&mut *self.slots.borrow_mut()));
            std::mem::forget(std::mem::take(&mut *self.keep.borrow_mut()));
        }
    }
}

/// An operation in flight. Gives its result (negative: an errno) and what it kept.
pub(super) struct Op<K: 'static> {
    ring: Rc<Ring>,
    index: u32,
    user_data: u64,
    keep: Option<K>,
    result_is_descriptor: bool,
}

impl<K> Op<K> {
    /// Says that the result is a new descriptor, to be closed if nobody is there to take it.
    pub(super) fn yielding_descriptor(mut self) -> Op<K> {
        self.result_is_descriptor = true;
        self
    }

    /// Asks the kernel to give it up. It is awaited as before, and may have been done after all.
    pub(super) fn cancel(&self) {
        self.ring.cancel(self.user_data);
    }
}

// The kept value is never pinned: it is moved out as a whole.
impl<K> Unpin for Op<K> {}

impl<K> Future for Op<K> {
    type Output = (i32, K);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<(i32, K)> {
        let result = {
            let mut slots = self.ring.slots.borrow_mut();
            match &mut slots.slots[self.index as usize].state {
                State::Done(result) => *result,
                State::Waiting(waker) => {
                    match waker {
                        Some(known) => known.clone_from(context.waker()),
                        None => *waker = Some(context.waker().clone()),
                    }
                    return Poll::Pending;
                }
                State::Free | State::Orphan { .. } => panic!("an operation polled after its end"),
            }
        };
        let keep = self.keep.take().expect("an operation polled after its end");
        self.ring.slots.borrow_mut().give_back(self.index);
        Poll::Ready((result, keep))
    }
}

impl<K: 'static> Drop for Op<K> {
    fn drop(&mut self) {
        let Some(keep) = self.keep.take() else { return };
        let mut slots = self.ring.slots.borrow_mut();
        match slots.slots[self.index as usize].state {
            State::Done(result) => {
                slots.give_back(self.index);
                if self.result_is_descriptor && result >= 0 {
                    // SAFETY: the kernel gave us this descriptor and nobody has taken it.
                    drop(unsafe { OwnedFd::from_raw_fd(result) });
                }
            }
            State::Waiting(_) => {
                let result_is_descriptor = self.result_is_descriptor;
                slots.slots[self.index as usize].state = State::Orphan {
                    _keep: Box::new(keep),
                    result_is_descriptor,
                };
                drop(slots);
                self.ring.cancel(self.user_data);
            }
            State::Free | State::Orphan { .. } => {}
        }
    }
}

/// A result of the kernel as Rust has it.
pub(super) fn checked(result: i32) -> io::Result<usize> {
    if result < 0 {
        Err(io::Error::from_raw_os_error(-result))
    } else {
        Ok(result as usize)
    }
}
