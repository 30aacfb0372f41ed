//! What a broker's reads are held against: a loop of `poll(2)` and `sendfile(2)` over one file with
//! nothing to look up, and the reader that the broker and the loop are both measured by. For
//! benchmarks; no shard comes by here.

mod reader;
mod serve;

use std::io;

pub use reader::{Passed, Script, nth_place, read_all};
pub use serve::{Bare, Ranges};

/// Writes what is dirty to the disks, and puts everything out of the page cache; needs root. (What is
/// dirty would stay: a broker that leaves writing to the kernel would go on reading from memory.)
pub fn drop_page_cache() -> io::Result<()> {
    // SAFETY: no arguments.
    unsafe { libc::sync() };
    std::fs::write("/proc/sys/vm/drop_caches", "3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_served_its_whole_stretch_as_often_as_it_asks() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![7; 1 << 20]).expect("a file");
        let script = Ranges {
            stretch: 512 << 10,
            chunk: 128 << 10,
            passes: 3,
        };
        let bare = Bare::start(&path, 2, &crate::rt::limits::cpus()).expect("a loop");
        let passed = read_all(bare.address, 2, 2, &script).expect("everything");
        assert_eq!(passed.bytes, 3 << 20);
        assert!(passed.megabytes_a_second() > 0.0);
        assert!(bare.end().expect("an end") >= 0.0);
    }

    #[test]
    fn a_range_behind_the_file_s_end_is_an_error_and_no_endless_wait() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![7; 1000]).expect("a file");
        let script = Ranges {
            stretch: 2000,
            chunk: 2000,
            passes: 1,
        };
        let bare = Bare::start(&path, 1, &crate::rt::limits::cpus()).expect("a loop");
        assert!(read_all(bare.address, 1, 1, &script).is_err());
        assert!(bare.end().is_err());
    }
}
