//! How much room a file system has, and how much of it is kept back.
//!
//! Knows no log: `disk` asks before it allocates, so that clients' records never take the last
//! bytes, which metadata, committed offsets and checkpoints need for the broker to get out of the
//! corner by itself (a topic is deleted by writing a record).

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::base::Space;

/// The most that is kept in reserve of a data directory if nothing is said, in bytes.
pub const RESERVE_DEFAULT_MAX: u64 = 1 << 30;
/// The part of a file system that is kept in reserve if nothing is said: one in so many bytes.
const RESERVE_DEFAULT_PART: u64 = 20;

/// The space of the file system that the open file is on. A call into the kernel that touches no
/// device on the usual file systems.
pub(super) fn space_of(file: &File, reserve: u64) -> io::Result<Space> {
    let mut found = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the descriptor is open, and the structure is as large as the kernel expects.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bytes were zeroed, and any bytes are a valid value.
    let found = unsafe { found.assume_init() };
    let unit = found.f_frsize;
    Ok(Space {
        total: found.f_blocks.saturating_mul(unit),
        usable: found.f_bavail.saturating_mul(unit),
        reserve,
    })
}

/// The space of the file system under `directory`.
pub(super) fn space_in(directory: &Path, reserve: u64) -> io::Result<Space> {
    space_of(&File::open(directory)?, reserve)
}

/// What to keep in reserve under `directory`: what was said, or a twentieth of the file system and
/// at most [`RESERVE_DEFAULT_MAX`].
pub fn reserve_in(directory: &Path, said: Option<u64>) -> io::Result<u64> {
    let usual = |space: Space| (space.total / RESERVE_DEFAULT_PART).min(RESERVE_DEFAULT_MAX);
    said.map_or_else(|| space_in(directory, 0).map(usual), Ok)
}
