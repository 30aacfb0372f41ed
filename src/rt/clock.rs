//! Reads the clocks. Everyone else is told the time.

use crate::base::{Mono, Now, Wall};

/// Both clocks, now.
pub fn now() -> Now {
    let wall = read(libc::CLOCK_REALTIME);
    Now {
        mono: mono(),
        wall: Wall(wall.tv_sec * 1000 + wall.tv_nsec / 1_000_000),
    }
}

/// The monotonic clock, now.
pub fn mono() -> Mono {
    let mono = read(libc::CLOCK_MONOTONIC);
    Mono(mono.tv_sec as u64 * 1_000_000_000 + mono.tv_nsec as u64)
}

/// CPU time that the calling thread has used, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let used = read(libc::CLOCK_THREAD_CPUTIME_ID);
    used.tv_sec as u64 * 1_000_000_000 + used.tv_nsec as u64
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result; these clocks exist on every Linux.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert!(result == 0, "clock {clock} cannot be read");
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_goes_back_and_wall_time_is_of_this_century() {
        let (first, second) = (now(), now());
        assert!(second.mono >= first.mono);
        assert!(first.wall.0 > 1_700_000_000_000);
        assert!(thread_cpu_ns() > 0);
    }
}
