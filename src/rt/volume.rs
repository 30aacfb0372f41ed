//! The volume that a directory lies on.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How large a volume is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// All of it.
    pub total_bytes: u64,
    /// What may still be written by who is not root.
    pub usable_bytes: u64,
}

impl Volume {
    /// The volume of a directory, by statvfs(3); none if the kernel does not tell. The kernel knows
    /// it without a look at the disk.
    pub fn of(directory: &Path) -> Option<Volume> {
        let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
        let mut told = MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: the path ends in a zero byte, the kernel writes into memory of its own type.
        let result = unsafe { libc::statvfs(path.as_ptr(), told.as_mut_ptr()) };
        if result != 0 {
            return None;
        }
        // SAFETY: all zeros are a valid value, and the call has succeeded.
        let told = unsafe { told.assume_init() };
        let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
        Some(Volume {
            total_bytes: bytes(told.f_blocks),
            usable_bytes: bytes(told.f_bavail),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_lies_on_a_volume_and_a_missing_one_on_none() {
        let volume = Volume::of(Path::new("/")).expect("a volume");
        assert!(volume.total_bytes >= volume.usable_bytes && volume.total_bytes > 0);
        assert_eq!(Volume::of(Path::new("/no/such/directory")), None);
    }
}
