//! How a sleeping shard is woken from outside.
//!
//! A shard that goes to sleep sets its flag, fences, and looks at its queues once more. Whoever
//! put something into a queue fences, and rings if the flag was set: through its own ring if it is
//! a shard, through the eventfd if it is any other thread. No wake is lost, and none is sent to a
//! shard that is awake. A shard's ring leaves with everything else at the end of its turn.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering, fence};

use super::counters::add;
use super::executor::try_current;

struct Doorbell {
    parked: AtomicBool,
    ring: AtomicI32,
    event: OwnedFd,
}

/// The bells of all shards of a process, made before they start.
#[derive(Clone)]
pub struct Doorbells {
    bells: Arc<[Doorbell]>,
}

impl Doorbells {
    /// One bell for each of `cores` shards. Fails if descriptors have run out.
    pub fn new(cores: usize) -> io::Result<Doorbells> {
        let bells = (0..cores).map(|_| {
            let (parked, ring) = (AtomicBool::new(false), AtomicI32::new(-1));
            Ok(Doorbell {
                parked,
                ring,
                event: event_descriptor()?,
            })
        });
        Ok(Doorbells {
            bells: bells.collect::<io::Result<Vec<Doorbell>>>()?.into(),
        })
    }

    /// How many shards there are.
    pub fn cores(&self) -> usize {
        self.bells.len()
    }

    /// Wakes shard `core` if it sleeps. To be called after what it shall find is in place.
    pub fn ring(&self, core: usize) {
        let bell = &self.bells[core];
        fence(Ordering::SeqCst);
        if !bell.parked.load(Ordering::Relaxed) || !bell.parked.swap(false, Ordering::SeqCst) {
            return;
        }
        let ring = bell.ring.load(Ordering::Acquire);
        match try_current() {
            Some(machine) if ring >= 0 => {
                add(&machine.counts.wakes_sent, 1);
                machine.ring.message(ring, core);
            }
            _ => self.ring_event(core),
        }
    }

    /// Wakes through the eventfd, whoever is asking.
    pub(super) fn ring_event(&self, core: usize) {
        let one = 1u64;
        // SAFETY: the descriptor is open, and eight bytes are read from a local variable. A full
        // counter (EAGAIN) is as good as a write: the reader has something to read.
        unsafe {
            libc::write(self.event(core), (&raw const one).cast(), size_of::<u64>());
        }
    }

    /// The eventfd of shard `core`, which reads it through its ring.
    pub(super) fn event(&self, core: usize) -> RawFd {
        self.bells[core].event.as_raw_fd()
    }

    /// Says which ring stands behind the bell; -1 for none any more.
    pub(super) fn attach(&self, core: usize, ring: RawFd) {
        self.bells[core].ring.store(ring, Ordering::Release);
    }

    /// The shard is about to sleep: it must look at its queues once more after this.
    pub(super) fn lie_down(&self, core: usize) {
        self.bells[core].parked.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake.
    pub(super) fn get_up(&self, core: usize) {
        self.bells[core].parked.store(false, Ordering::SeqCst);
    }
}

/// A new eventfd. Blocking, so that a read of it through a ring waits.
pub(super) fn event_descriptor() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
