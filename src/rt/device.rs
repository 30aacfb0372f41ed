//! What the device under a data directory is, and which way of durable writing suits it.
//!
//! Runs before the shards start, with plain blocking calls, in less than 50 ms.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock;
use crate::base::{BLOCK, Buf};

/// How a durable write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurableWrite {
    /// `RWF_DSYNC` on the write itself: one operation, fewer context switches.
    WithTheWrite,
    /// The write, then fdatasync.
    SyncAfterwards,
}

/// What is known about the device under a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFacts {
    /// The kernel's name of it, if it is a block device.
    pub device: Option<String>,
    /// True if it has a volatile write cache (`write back`); none if the kernel does not say.
    pub write_cache: Option<bool>,
    /// True if it can write around its cache; none if the kernel does not say.
    pub fua: Option<bool>,
    /// Bytes of a logical block, the unit of O_DIRECT.
    pub logical_block: Option<u32>,
    /// True if the file system takes O_DIRECT writes of [`BLOCK`] bytes.
    pub direct_ok: bool,
    /// Median of a 4 KiB write with `RWF_DSYNC`, if it works.
    pub write_with_sync: Option<Duration>,
    /// Median of a 4 KiB write and an fdatasync.
    pub write_then_sync: Option<Duration>,
    /// The faster way.
    pub durable_write: DurableWrite,
}

impl fmt::Display for DeviceFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |fact: Option<bool>| fact.map_or("unknown", |yes| if yes { "yes" } else { "no" });
        let micros = |time: Option<Duration>| time.map_or(0, |time| time.as_micros());
        let device = self.device.as_deref().unwrap_or("none");
        let direct = if self.direct_ok { "yes" } else { "no" };
        write!(
            f,
            "device {device}, write cache {}, FUA {}",
            yes(self.write_cache),
            yes(self.fua)
        )?;
        write!(
            f,
            ", O_DIRECT {direct}, RWF_DSYNC {} us",
            micros(self.write_with_sync)
        )?;
        write!(f, ", fdatasync {} us", micros(self.write_then_sync))
    }
}

/// Asks the kernel about the device under `directory`, which must exist, and tries both ways of
/// durable writing on a small file in it, which is removed again.
pub fn probe_device(directory: &Path) -> io::Result<DeviceFacts> {
    let queue = queue_directory(fs::metadata(directory)?.dev());
    let attribute = |name: &str| {
        let text = fs::read_to_string(queue.as_ref()?.join(name)).ok()?;
        Some(text.trim().to_owned())
    };
    let path = directory.join(format!(".probe-{}", std::process::id()));
    let tried = try_out(&path);
    let _ = fs::remove_file(&path);
    let (direct_ok, write_with_sync, write_then_sync) = tried?;
    let sync_wins = match (write_with_sync, write_then_sync) {
        // One operation is worth something by itself: the other way must be clearly faster.
        (Some(with), Some(then)) => then * 5 < with * 4,
        (None, _) => true,
        (Some(_), None) => false,
    };
    let device = queue
        .as_ref()
        .and_then(|queue| queue.parent()?.file_name()?.to_str());
    Ok(DeviceFacts {
        device: device.map(str::to_owned),
        write_cache: attribute("write_cache").map(|text| text == "write back"),
        fua: attribute("fua").map(|text| text == "1"),
        logical_block: attribute("logical_block_size").and_then(|text| text.parse().ok()),
        direct_ok,
        write_with_sync,
        write_then_sync,
        durable_write: if sync_wins {
            DurableWrite::SyncAfterwards
        } else {
            DurableWrite::WithTheWrite
        },
    })
}

/// The `queue` directory of a device in /sys; a partition's is its disk's.
fn queue_directory(device: u64) -> Option<PathBuf> {
    let (major, minor) = (libc::major(device), libc::minor(device));
    let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let candidates = [block.join("queue"), block.parent()?.join("queue")];
    candidates.into_iter().find(|queue| queue.is_dir())
}

type Tried = (bool, Option<Duration>, Option<Duration>);

fn try_out(path: &Path) -> io::Result<Tried> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let block = {
        let mut block = Buf::allocate(BLOCK);
        block.pad_to_block();
        block.set_len(BLOCK);
        block
    };
    let direct = options.clone().custom_flags(libc::O_DIRECT).open(path);
    let direct = direct.and_then(|file| write_at(&file, &block, 0, 0).map(|()| file));
    let direct_ok = direct.is_ok();
    let file = match direct {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => options.open(path)?,
        Err(error) => return Err(error),
    };
    let (with, then) = compare(&file, &block);
    Ok((direct_ok, with, then))
}

/// How many blocks the two ways are tried on.
const ROUNDS: u64 = 9;

/// The median time of each way, or none for one that fails. Both overwrite the same blocks, which
/// were written before: whoever came first on new ones would pay for the file's growth as well.
/// In turn, so that a slow moment of the device meets both; stops after 30 ms.
fn compare(file: &File, block: &Buf) -> (Option<Duration>, Option<Duration>) {
    let start = clock::mono();
    let with = |at| write_at(file, block, at, libc::RWF_DSYNC);
    let then = |at| {
        write_at(file, block, at, 0)?;
        file.sync_data()
    };
    for round in 0..ROUNDS {
        let _ = write_at(file, block, round * BLOCK as u64, 0);
    }
    let _ = file.sync_all();
    let (mut with_times, mut then_times) = (Some(Vec::new()), Some(Vec::new()));
    for round in 0..ROUNDS {
        let at = round * BLOCK as u64;
        time(&mut with_times, || with(at));
        time(&mut then_times, || then(at));
        if clock::mono().since(start) > Duration::from_millis(30) {
            break;
        }
    }
    (median(with_times), median(then_times))
}

/// Adds what an attempt took; one that fails ends the series.
fn time(times: &mut Option<Vec<Duration>>, attempt: impl FnOnce() -> io::Result<()>) {
    let before = clock::mono();
    match attempt() {
        Ok(()) => times
            .iter_mut()
            .for_each(|times| times.push(clock::mono().since(before))),
        Err(_) => *times = None,
    }
}

fn median(times: Option<Vec<Duration>>) -> Option<Duration> {
    let mut times = times?;
    times.sort();
    times.get(times.len() / 2).copied()
}

fn write_at(file: &File, block: &Buf, at: u64, flags: libc::c_int) -> io::Result<()> {
    let vector = libc::iovec {
        iov_base: block.as_ptr().cast_mut().cast(),
        iov_len: block.len(),
    };
    // SAFETY: one vector that leads to the block, which lives through the call and is only read.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &vector, 1, at as libc::off_t, flags) };
    match written {
        count if count == block.len() as isize => Ok(()),
        count if count < 0 => Err(io::Error::last_os_error()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_described_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let facts = probe_device(directory.path()).expect("facts");
        assert!(
            facts.write_then_sync.is_some() || facts.write_with_sync.is_some(),
            "{facts}"
        );
        assert_eq!(
            fs::read_dir(directory.path()).expect("a listing").count(),
            0
        );
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error() {
        assert!(probe_device(Path::new("/nonexistent/data")).is_err());
    }
}
