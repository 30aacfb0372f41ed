//! Messages between cores: one bounded queue for each ordered pair, one inlet for each core that
//! other threads use.
//!
//! A full queue is back-pressure: the message is given back, or its sender waits. Nothing is
//! copied but the value itself. Order holds between two cores; nothing orders three.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::task::{Poll, Waker};

use crossbeam::queue::ArrayQueue;

use super::doorbell::Doorbells;
use super::executor;

/// One direction between two cores.
struct Lane<T> {
    queue: ArrayQueue<T>,
    /// The sender met a full queue and wants to be told when there is room.
    starved: AtomicBool,
}

struct Lanes<T> {
    cores: usize,
    /// From core `f` to core `t` at `f * cores + t`; from outside to `t` at `cores * cores + t`.
    lanes: Vec<Lane<T>>,
    doorbells: Doorbells,
}

impl<T> Lanes<T> {
    fn lane(&self, from: usize, to: usize) -> &Lane<T> {
        &self.lanes[from * self.cores + to]
    }

    fn put(&self, from: usize, to: usize, message: T) -> Result<(), T> {
        self.lane(from, to).queue.push(message)?;
        self.doorbells.ring(to);
        Ok(())
    }
}

/// Makes the mesh: a port for each core, and the way in for threads that are no shard. Each queue
/// holds `capacity` messages.
pub fn mesh<T: Send + 'static>(
    doorbells: &Doorbells,
    capacity: usize,
) -> (Vec<Port<T>>, Outside<T>) {
    let cores = doorbells.cores();
    let lane = |_| Lane {
        queue: ArrayQueue::new(capacity.max(1)),
        starved: AtomicBool::new(false),
    };
    let lanes = (0..(cores + 1) * cores).map(lane).collect();
    let lanes = Arc::new(Lanes {
        cores,
        lanes,
        doorbells: doorbells.clone(),
    });
    let ports = (0..cores).map(|core| {
        let blocked = RefCell::default();
        Port {
            core,
            lanes: lanes.clone(),
            blocked,
        }
    });
    (
        ports.collect(),
        Outside {
            lanes: lanes.clone(),
        },
    )
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A shard, by its number.
    Core(usize),
    /// A thread that is no shard.
    Outside,
}

/// One core's end of the mesh.
pub struct Port<T> {
    core: usize,
    lanes: Arc<Lanes<T>>,
    /// Senders that wait for room, woken whenever some lane has been emptied.
    blocked: RefCell<Vec<(usize, Waker)>>,
}

impl<T: Send + 'static> Port<T> {
    /// Ties the port to the calling shard: from now on its turn hook is called when messages
    /// wait, and must call [`Port::receive`]. Panics on any other thread than core's own.
    pub fn attach(self) -> Rc<Port<T>> {
        assert!(
            usize::from(executor::this_shard().core.0) == self.core,
            "another core's port"
        );
        let port = Rc::new(self);
        let watched = port.clone();
        executor::watch(move || watched.has_work());
        port
    }

    /// Sends a message to core `to`, or gives it back when that queue is full.
    pub fn send(&self, to: usize, message: T) -> Result<(), T> {
        self.lanes.put(self.core, to, message)
    }

    /// Sends a message to core `to`, waiting for room. If two tasks wait, either may go first.
    pub async fn send_wait(&self, to: usize, message: T) {
        let mut message = Some(message);
        poll_fn(|context| {
            for attempt in 0..2 {
                let Some(value) = message.take() else {
                    return Poll::Ready(());
                };
                match self.send(to, value) {
                    Ok(()) => return Poll::Ready(()),
                    Err(value) => message = Some(value),
                }
                if attempt == 0 {
                    // Ask to be told before looking again, or the answer could be missed.
                    self.lanes
                        .lane(self.core, to)
                        .starved
                        .store(true, Ordering::SeqCst);
                    fence(Ordering::SeqCst);
                }
            }
            self.blocked
                .borrow_mut()
                .push((to, context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Takes at most `limit` messages from each queue that leads here, and lets those go on who
    /// waited for room. Returns how many messages were taken.
    pub fn receive(&self, limit: usize, mut handle: impl FnMut(Sender, T)) -> usize {
        let mut taken = 0;
        for from in 0..=self.lanes.cores {
            let lane = self.lanes.lane(from, self.core);
            let sender = if from < self.lanes.cores {
                Sender::Core(from)
            } else {
                Sender::Outside
            };
            let before = taken;
            while taken - before < limit {
                let Some(message) = lane.queue.pop() else {
                    break;
                };
                taken += 1;
                handle(sender, message);
            }
            if taken > before {
                self.tell_starved(from, lane);
            }
        }
        self.wake_blocked();
        taken
    }

    fn tell_starved(&self, from: usize, lane: &Lane<T>) {
        fence(Ordering::SeqCst);
        let told =
            lane.starved.load(Ordering::Relaxed) && lane.starved.swap(false, Ordering::SeqCst);
        if told && from < self.lanes.cores {
            self.lanes.doorbells.ring(from);
        }
    }

    fn wake_blocked(&self) {
        let mut blocked = self.blocked.borrow_mut();
        if blocked.is_empty() {
            return;
        }
        blocked.retain(|(to, waker)| {
            let starved = self
                .lanes
                .lane(self.core, *to)
                .starved
                .load(Ordering::SeqCst);
            if !starved {
                waker.wake_by_ref();
            }
            starved
        });
    }

    fn has_work(&self) -> bool {
        let mail =
            (0..=self.lanes.cores).any(|from| !self.lanes.lane(from, self.core).queue.is_empty());
        mail || self.blocked.borrow().iter().any(|(to, _)| {
            !self
                .lanes
                .lane(self.core, *to)
                .starved
                .load(Ordering::SeqCst)
        })
    }
}

/// The way in for threads that are no shard, such as the HTTP door and the main thread.
pub struct Outside<T> {
    lanes: Arc<Lanes<T>>,
}

impl<T> Clone for Outside<T> {
    fn clone(&self) -> Outside<T> {
        Outside {
            lanes: self.lanes.clone(),
        }
    }
}

impl<T: Send + 'static> Outside<T> {
    /// How many shards there are.
    pub fn cores(&self) -> usize {
        self.lanes.cores
    }

    /// Sends a message to core `to`, waking it; gives it back when the inlet is full.
    pub fn send(&self, to: usize, message: T) -> Result<(), T> {
        self.lanes.put(self.lanes.cores, to, message)
    }
}
