//! What the machine must allow, checked before anything starts, with words on how to mend it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ring;

/// What glommio's rings need on each core, in bytes of locked memory.
pub const MEMLOCK_MIN: u64 = 512 << 10;

/// Open descriptors without which a broker with few connections could not do its work: rings, queues,
/// listeners, and a handful of files on each core.
pub const DESCRIPTORS_MIN: u64 = 128;

/// Why the broker cannot start here. Displayed as one line that says what to do.
#[derive(Debug)]
pub enum StartRefusal {
    /// The kernel is older than Linux 6.1.
    KernelTooOld,
    /// `io_uring_setup` is not permitted.
    RingForbidden,
    /// `io_uring` does not exist here.
    RingMissing,
    /// The ring could not be made for another reason.
    Ring(io::Error),
    /// The hard limit of locked memory is too small.
    LockedMemory {
        /// The hard limit, bytes.
        limit: u64,
    },
    /// The hard limit of open descriptors is too small.
    Descriptors {
        /// The hard limit.
        limit: u64,
    },
    /// Another process holds the data directory.
    DirectoryLocked {
        /// The directory.
        directory: PathBuf,
        /// The holder's process id as text, if it could be read.
        holder: String,
    },
    /// The data directory cannot be used.
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for StartRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartRefusal::KernelTooOld => f.write_str(
                "this kernel's io_uring lacks SINGLE_ISSUER and DEFER_TASKRUN: \
                 run Linux 6.1 or later (see `uname -r`)",
            ),
            StartRefusal::RingForbidden => f.write_str(
                "io_uring is not permitted here: set `sysctl kernel.io_uring_disabled=0`, and in \
                 a container allow io_uring_setup, io_uring_enter and io_uring_register in its \
                 seccomp profile (docker: --security-opt seccomp=unconfined)",
            ),
            StartRefusal::RingMissing => f.write_str(
                "this kernel has no io_uring, or a seccomp profile hides it: run Linux 6.1 or \
                 later built with CONFIG_IO_URING, and allow io_uring_setup",
            ),
            StartRefusal::Ring(source) => write!(f, "io_uring cannot be set up: {source}"),
            StartRefusal::LockedMemory { limit } => write!(
                f,
                "the limit of locked memory is {limit} bytes and {MEMLOCK_MIN} are needed: raise \
                 it with `ulimit -l unlimited`, LimitMEMLOCK=infinity (systemd) or --ulimit \
                 memlock=-1 (docker)",
            ),
            StartRefusal::Descriptors { limit } => write!(
                f,
                "at most {limit} descriptors can be open and {DESCRIPTORS_MIN} are needed, with one \
                 more for each connection and each open segment: raise the limit with `ulimit -n \
                 65536`, LimitNOFILE=65536 (systemd) or --ulimit nofile=65536 (docker)",
            ),
            StartRefusal::DirectoryLocked { directory, holder } => write!(
                f,
                "data directory {} is in use by process {holder}: stop that one, or choose \
                 another directory",
                directory.display()
            ),
            StartRefusal::Directory { directory, source } => {
                write!(
                    f,
                    "data directory {} cannot be used: {source}",
                    directory.display()
                )
            }
        }
    }
}

impl std::error::Error for StartRefusal {}

/// Checks that a ring with the flags that a shard needs can be made.
pub fn check_ring() -> Result<(), StartRefusal> {
    ring::build(8).map(drop).map_err(refusal_of_ring)
}

fn refusal_of_ring(error: io::Error) -> StartRefusal {
    match error.raw_os_error() {
        Some(libc::EINVAL) => StartRefusal::KernelTooOld,
        Some(libc::EPERM | libc::EACCES) => StartRefusal::RingForbidden,
        Some(libc::ENOSYS) => StartRefusal::RingMissing,
        // What a privileged process in a container meets in place of the check of the limit.
        Some(libc::ENOMEM) => StartRefusal::LockedMemory {
            limit: limit_of(libc::RLIMIT_MEMLOCK).rlim_cur,
        },
        _ => StartRefusal::Ring(error),
    }
}

/// Raises the limit of locked memory to its hard limit; refuses if that is too small for a shard.
/// Returns the limit now in force, bytes (`u64::MAX`: none).
pub fn raise_locked_memory() -> Result<u64, StartRefusal> {
    let limit = raise(libc::RLIMIT_MEMLOCK);
    // SAFETY: takes nothing, cannot fail.
    let privileged = unsafe { libc::geteuid() } == 0;
    if limit < MEMLOCK_MIN && !privileged {
        return Err(StartRefusal::LockedMemory { limit });
    }
    Ok(limit)
}

/// Raises the limit of open descriptors to its hard limit; refuses if that is too small for a broker.
/// Returns the limit now in force.
pub fn raise_descriptors() -> Result<u64, StartRefusal> {
    let limit = raise(libc::RLIMIT_NOFILE);
    if limit < DESCRIPTORS_MIN {
        return Err(StartRefusal::Descriptors { limit });
    }
    Ok(limit)
}

/// The limit in force; zeros where it cannot be read.
fn limit_of(resource: libc::__rlimit_resource_t) -> libc::rlimit {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the result.
    unsafe { libc::getrlimit(resource, &mut limit) };
    limit
}

fn raise(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = limit_of(resource);
    let before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is initialised.
    let raised = unsafe { libc::setrlimit(resource, &limit) } == 0;
    if raised { limit.rlim_max } else { before }
}

/// The process that holds a record lock (fcntl(2)) on the file, as Java programs take them; none if
/// nobody does. Error: the file cannot be opened.
pub fn record_lock_holder(path: &Path) -> io::Result<Option<i32>> {
    let file = File::open(path)?;
    // SAFETY: all zeros are a valid value of this plain structure: the whole file, from its start.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open, and `lock` is what the kernel expects.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((lock.l_type != libc::F_UNLCK as libc::c_short).then_some(lock.l_pid))
}

/// A data directory that only this process uses, as long as this lives.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Makes the data directory if it is missing and takes its lock (`.lock`, flock(2)): the kernel
/// lets go of it when the process dies, however it dies.
pub fn lock_directory(directory: &Path) -> Result<DirectoryLock, StartRefusal> {
    let refuse = |source| StartRefusal::Directory {
        directory: directory.to_owned(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(refuse)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(directory.join(".lock")).map_err(refuse)?;
    // SAFETY: the descriptor is open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EWOULDBLOCK) {
            return Err(refuse(error));
        }
        let mut holder = String::new();
        let _ = Read::take(&mut file, 32).read_to_string(&mut holder);
        let holder = if holder.trim().is_empty() {
            "(unknown)"
        } else {
            holder.trim()
        };
        let (directory, holder) = (directory.to_owned(), holder.to_owned());
        return Err(StartRefusal::DirectoryLocked { directory, holder });
    }
    let written = file.set_len(0).and_then(|()| file.rewind());
    written
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(refuse)?;
    Ok(DirectoryLock { _file: file })
}

/// The CPUs that this process may run on, as the kernel numbers them, in order.
pub fn cpus() -> Vec<usize> {
    // SAFETY: a cpu_set_t of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid place of the size that is told.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if result != 0 {
        return vec![0];
    }
    // SAFETY: the index stays below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) })
        .collect()
}

/// The memory that this process may use, in bytes: the machine's, or its control group's limit where
/// that is smaller. None where neither can be read.
pub fn memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes << 10)
    });
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

/// Lets the calling thread, and those that it starts from now on, run on these CPUs only. Errors: one
/// that there is not, or none that the thread may run on.
pub fn pin_to(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a cpu_set_t of zeros is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in cpus {
        if *cpu >= libc::CPU_SETSIZE as usize {
            return Err(io::Error::other(format!("there is no CPU {cpu}")));
        }
        // SAFETY: `cpu` is below CPU_SETSIZE.
        unsafe { libc::CPU_SET(*cpu, &mut set) };
    }
    // SAFETY: `set` is initialised and of the size that is told.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } != 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(
            error.kind(),
            format!("cannot run on CPU {cpus:?}: {error}"),
        ));
    }
    Ok(())
}

/// The calling thread lets every other one on its CPU go first, from now on (`SCHED_IDLE`, see
/// sched(7)). Anybody may ask for that.
pub fn let_others_go_first() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure lives through the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Timers of the calling thread end when they are due, and not up to 50 us later (see prctl(2),
/// `PR_SET_TIMERSLACK`).
pub fn be_punctual() -> io::Result<()> {
    // SAFETY: no pointers.
    if unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits until `descriptor` (a socket, or an epoll instance) has something to read, or for `time`, to
/// the nanosecond: epoll's own waits are in milliseconds. A signal ends it too.
pub fn wait_readable(descriptor: &impl AsRawFd, time: Duration) {
    let mut polled = libc::pollfd {
        fd: descriptor.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let time = libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(time.subsec_nanos()),
    };
    // SAFETY: one descriptor that is open, and a time; both live through the call.
    unsafe { libc::ppoll(&raw mut polled, 1, &raw const time, std::ptr::null()) };
}

/// Random bytes from the operating system, for identifiers and seeds.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        // SAFETY: the stretch told is inside `bytes`.
        let count = unsafe { libc::getrandom(bytes[filled..].as_mut_ptr().cast(), N - filled, 0) };
        if count < 0 {
            let error = io::Error::last_os_error();
            assert!(
                error.kind() == io::ErrorKind::Interrupted,
                "getrandom failed: {error}"
            );
            continue;
        }
        filled += count as usize;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_locked_once_and_names_its_holder() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let lock = lock_directory(&directory.path().join("data")).expect("the first lock");
        let refused = lock_directory(&directory.path().join("data")).expect_err("a second lock");
        assert!(
            refused
                .to_string()
                .contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(lock);
        lock_directory(&directory.path().join("data")).expect("free again");
    }

    #[test]
    fn each_reason_why_a_ring_is_refused_says_what_to_do() {
        let text = |errno| refusal_of_ring(io::Error::from_raw_os_error(errno)).to_string();
        assert!(text(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(text(libc::EINVAL).contains("6.1"));
        assert!(text(libc::ENOSYS).contains("seccomp"));
        assert!(text(libc::ENOMEM).contains("ulimit -l"));
        assert!(
            [
                libc::EPERM,
                libc::EINVAL,
                libc::ENOSYS,
                libc::ENOMEM,
                libc::EMFILE
            ]
            .iter()
            .all(|errno| !text(*errno).contains('\n'))
        );
    }

    #[test]
    fn limits_of_this_machine_can_be_read_and_random_bytes_differ() {
        check_ring().expect("a ring");
        assert!(raise_descriptors().expect("descriptors") >= DESCRIPTORS_MIN);
        raise_locked_memory().expect("locked memory");
        assert!(!cpus().is_empty());
        assert_ne!(random::<16>(), random::<16>());
    }
}
