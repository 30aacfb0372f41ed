//! Trying a disk out: durable O_DIRECT writes of one size, several at a time. Plain blocking calls
//! on threads of its own; nothing of it runs while a broker does.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::clock;
use super::device::{block_of, write_at};
use crate::base::Buf;

/// Bytes of the file, at least: larger than what a disk's own buffer hides.
const FILE_BYTES_MIN: u64 = 64 << 20;

/// How a write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `RWF_DSYNC` on the write itself.
    WithTheWrite,
    /// The write, then fdatasync.
    SyncAfterwards,
}

/// What a disk did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Durable writes a second, all threads together.
    pub writes_a_second: f64,
    /// Median of one.
    pub p50: Duration,
    /// 99 % of them.
    pub p99: Duration,
}

/// Writes blocks of `size` bytes (a multiple of 4096) durably, `depth` at a time, for `time`, to a
/// file in `directory` that is removed again. File systems without O_DIRECT are written buffered.
pub fn trial(
    directory: &Path,
    size: usize,
    depth: usize,
    way: Way,
    time: Duration,
) -> io::Result<Tried> {
    let path = directory.join(format!(".trial-{}", std::process::id()));
    let tried = try_out(&path, size, depth.max(1), way, time);
    let _ = fs::remove_file(&path);
    tried
}

fn try_out(path: &Path, size: usize, depth: usize, way: Way, time: Duration) -> io::Result<Tried> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let direct = options.clone().custom_flags(libc::O_DIRECT).open(path);
    let file = match direct {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.open(path)?,
        opened => opened?,
    };
    let share = (FILE_BYTES_MIN / depth as u64).next_multiple_of(size as u64);
    preallocate(&file, share * depth as u64)?;
    file.sync_all()?;
    let began = clock::mono();
    let mut times = Vec::new();
    thread::scope(|scope| -> io::Result<()> {
        let work =
            |number: usize| write_for((&file, share * number as u64, share), size, way, time);
        let threads: Vec<_> = (0..depth)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        for thread in threads {
            let done = thread.join();
            times.extend(done.map_err(|_| io::Error::other("a thread of the trial failed"))??);
        }
        Ok(())
    })?;
    let took = clock::mono().since(began);
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Tried {
        writes_a_second: times.len() as f64 / took.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
    })
}

/// Reserves room, as the broker does for a segment; where that is not possible, writes grow it.
fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes as libc::off_t) };
    let error = io::Error::last_os_error();
    match done {
        0 => Ok(()),
        _ if error.raw_os_error() == Some(libc::EOPNOTSUPP) => file.set_len(bytes),
        _ => Err(error),
    }
}

/// Writes one after the other into a share of the file; how long each took, at least one.
fn write_for(
    (file, begin, share): (&File, u64, u64),
    size: usize,
    way: Way,
    time: Duration,
) -> io::Result<Vec<Duration>> {
    let block: Buf = block_of(size);
    let began = clock::mono();
    let mut times = Vec::new();
    let mut at = 0;
    loop {
        let before = clock::mono();
        match way {
            Way::WithTheWrite => write_at(file, &block, begin + at, libc::RWF_DSYNC)?,
            Way::SyncAfterwards => {
                write_at(file, &block, begin + at, 0)?;
                file.sync_data()?;
            }
        }
        let now = clock::mono();
        times.push(now.since(before));
        at = (at + size as u64) % share;
        if now.since(began) >= time {
            return Ok(times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_tried_both_ways_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        for way in [Way::WithTheWrite, Way::SyncAfterwards] {
            let time = Duration::from_millis(5);
            let tried = trial(directory.path(), 4096, 2, way, time).expect("a trial");
            assert!(tried.writes_a_second > 0.0 && tried.p50 <= tried.p99);
        }
        let left = fs::read_dir(directory.path()).expect("a listing");
        assert_eq!(left.count(), 0);
    }
}
