//! SIGTERM and SIGINT as something that the main thread waits for.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use super::doorbell::event_descriptor;

/// Why the main thread stopped waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// [`Interrupter::interrupt`] was called in this process.
    Asked,
}

/// Takes SIGTERM and SIGINT for the whole process.
pub struct Signals {
    signals: OwnedFd,
    asked: Arc<OwnedFd>,
}

/// Ends [`Signals::wait`] from another thread of this process.
#[derive(Clone)]
pub struct Interrupter {
    asked: Arc<OwnedFd>,
}

impl Interrupter {
    /// Lets the waiting thread go on with [`Stop::Asked`].
    pub fn interrupt(&self) {
        let one = 1u64;
        // SAFETY: eight bytes of a local variable, to an eventfd that is open.
        unsafe {
            libc::write(
                self.asked.as_raw_fd(),
                (&raw const one).cast(),
                size_of::<u64>(),
            );
        }
    }
}

impl Signals {
    /// Blocks both signals, in this thread and those that it starts from now on: call this first
    /// of all in main, before any thread.
    pub fn take() -> io::Result<Signals> {
        // SAFETY: a signal set may be all zeros before it is emptied.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid place; the signal numbers exist.
        unsafe {
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGTERM);
            libc::sigaddset(&mut set, libc::SIGINT);
        }
        // SAFETY: `set` is initialised; no old set is asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::from_raw_os_error(result));
        }
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let descriptor = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor.
        let signals = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Signals {
            signals,
            asked: Arc::new(event_descriptor()?),
        })
    }

    /// Waits on a thread of its own and tells each reason to stop; ends when `tell` says false.
    pub fn forward(self, mut tell: impl FnMut(Stop) -> bool + Send + 'static) -> io::Result<()> {
        let run = move || while self.wait().is_ok_and(&mut tell) {};
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(run)
            .map(drop)
    }

    /// A handle that ends [`Signals::wait`], for instance when a shard has failed.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter {
            asked: self.asked.clone(),
        }
    }

    /// Sleeps until there is a reason to stop. May be called again: a second signal while
    /// stopping is a person who has lost patience.
    pub fn wait(&self) -> io::Result<Stop> {
        let entry = |descriptor: &OwnedFd| libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        loop {
            let mut polled = [entry(&self.signals), entry(&self.asked)];
            // SAFETY: two initialised entries.
            if unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) } < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
                continue;
            }
            if polled[0].revents != 0 {
                return self.read_signal();
            }
            let mut count = 0u64;
            // SAFETY: eight bytes of a local variable.
            unsafe {
                libc::read(
                    self.asked.as_raw_fd(),
                    (&raw mut count).cast(),
                    size_of::<u64>(),
                );
            }
            return Ok(Stop::Asked);
        }
    }

    fn read_signal(&self) -> io::Result<Stop> {
        // SAFETY: the structure is plain numbers; zeros are valid.
        let mut signal: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the place is valid and of the size that is told.
        let read = unsafe { libc::read(self.signals.as_raw_fd(), (&raw mut signal).cast(), size) };
        if read != size as isize {
            return Err(io::Error::last_os_error());
        }
        let interrupt = signal.ssi_signo == libc::SIGINT as u32;
        Ok(if interrupt {
            Stop::Interrupt
        } else {
            Stop::Terminate
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_and_a_request_both_end_the_wait() {
        let signals = Signals::take().expect("signals");
        signals.interrupter().interrupt();
        assert_eq!(signals.wait().expect("a reason"), Stop::Asked);
        // SAFETY: the signal is blocked in this thread, so it only becomes readable.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) };
        assert_eq!(signals.wait().expect("a reason"), Stop::Terminate);
    }
}
