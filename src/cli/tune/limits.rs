//! What is no file with a number: the kernel's version, io_uring itself, the limits of a process.

use std::fs;

use super::setting::{Found, State};
use crate::rt::limits;

/// The oldest kernel that the broker runs on.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// Descriptors that a broker with many clients may need.
const DESCRIPTORS_MIN: u64 = 65_536;

/// Checks all of them.
pub(super) fn look() -> Vec<Found> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let ring = limits::check_ring();
    let memory = limits::raise_locked_memory();
    let descriptors = limits::raise_descriptors();
    vec![
        found(
            "limit.kernel",
            version(&release).is_some_and(|version| version >= KERNEL_MIN),
            (release.trim().to_owned(), "6.1 or later".to_owned()),
            "The shards' rings need SINGLE_ISSUER and DEFER_TASKRUN, which came with Linux 6.1; \
             without them a request costs twice the CPU.",
            "run a newer kernel",
        ),
        found(
            "limit.io-uring",
            ring.is_ok(),
            (
                if ring.is_ok() { "works" } else { "refused" }.to_owned(),
                "works".to_owned(),
            ),
            "The broker does all its work through io_uring.",
            &ring
                .err()
                .map_or_else(String::new, |refusal| refusal.to_string()),
        ),
        found(
            "limit.locked-memory",
            memory.is_ok(),
            (
                memory.as_ref().map_or_else(
                    |_| "too little".to_owned(),
                    |limit| match *limit {
                        u64::MAX => "unlimited".to_owned(),
                        limit => format!("{} KiB", limit >> 10),
                    },
                ),
                format!("{} KiB a core, or more", limits::MEMLOCK_MIN >> 10),
            ),
            "Rings and registered buffers count as locked memory.",
            &memory
                .err()
                .map_or_else(String::new, |refusal| refusal.to_string()),
        ),
        found(
            "limit.descriptors",
            descriptors
                .as_ref()
                .is_ok_and(|limit| *limit >= DESCRIPTORS_MIN),
            (
                descriptors.map_or_else(|_| "too few".to_owned(), |limit| limit.to_string()),
                format!("{DESCRIPTORS_MIN} or more"),
            ),
            "Each connection and each open segment takes a descriptor; when there are no more, new \
             clients are not let in.",
            "raise the hard limit: `ulimit -Hn`, LimitNOFILE=1048576 (systemd), --ulimit nofile \
             (docker)",
        ),
    ]
}

fn found(
    name: &str,
    good: bool,
    (value, wanted): (String, String),
    why: &str,
    mend: &str,
) -> Found {
    Found {
        name: name.to_owned(),
        state: if good { State::Good } else { State::Bad },
        value,
        wanted,
        costs: "safety".to_owned(),
        why: why.to_owned(),
        measured: None,
        mend: mend.to_owned(),
        is_safe: false,
        writes: Vec::new(),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_release_begins_with_two_numbers() {
        assert_eq!(version("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(version("5.4.0"), Some((5, 4)));
        assert_eq!(version("unknown"), None);
    }
}
