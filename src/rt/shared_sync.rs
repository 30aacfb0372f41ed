//! One sync for many: directories that several threads want synced at once.
//!
//! Whoever asks while a sync of the same directory is under way waits for the next one, which begins
//! after the question and so covers it; one of those who wait carries it out for all of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// The syncs of one directory, counted.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    begun: u64,
    ended: u64,
    /// The errno of the newest sync that failed, and its number. Never tried again for those who
    /// waited for it.
    failed: (u64, i32),
}

/// Directories by path.
#[derive(Debug, Default)]
pub(super) struct SharedSyncs {
    directories: Mutex<BTreeMap<PathBuf, Progress>>,
    ended: Condvar,
}

impl SharedSyncs {
    pub(super) const fn new() -> SharedSyncs {
        SharedSyncs {
            directories: Mutex::new(BTreeMap::new()),
            ended: Condvar::new(),
        }
    }

    /// Returns when a sync of `path` that began after this call is over, and how it went.
    pub(super) fn sync(
        &self,
        path: &Path,
        sync: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut directories = self
            .directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let wanted = directories.entry(path.to_owned()).or_default().begun + 1;
        loop {
            let progress = directories.entry(path.to_owned()).or_default();
            if progress.ended >= wanted {
                // A later one may have begun since; only a failure of ours or after it counts.
                return match progress.failed {
                    (number, errno) if number >= wanted => Err(io::Error::from_raw_os_error(errno)),
                    _ => Ok(()),
                };
            }
            if progress.begun == progress.ended {
                progress.begun += 1;
                break;
            }
            directories = self
                .ended
                .wait(directories)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(directories);
        let result = sync(path);
        let mut directories = self
            .directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let progress = directories.entry(path.to_owned()).or_default();
        progress.ended += 1;
        if let Err(error) = &result {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            progress.failed = (progress.ended, errno);
        }
        self.ended.notify_all();
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn a_sync_that_began_before_the_question_does_not_answer_it_and_the_next_answers_all() {
        let syncs = Arc::new(SharedSyncs::default());
        let (first_runs, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let count = Arc::new(AtomicUsize::new(0));
        let path = Path::new("/data");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                syncs.sync(path, |_| {
                    first_runs.wait();
                    go_on.wait();
                    Ok(())
                })
            });
            first_runs.wait();
            let waiting: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        syncs.sync(path, |_| {
                            count.fetch_add(1, Ordering::SeqCst);
                            Err(io::Error::from_raw_os_error(libc::EIO))
                        })
                    })
                })
                .collect();
            assert_eq!(count.load(Ordering::SeqCst), 0, "the first is under way");
            go_on.wait();
            for waiting in waiting {
                assert!(waiting.join().expect("no panic").is_err());
            }
        });
        assert!((1..=8).contains(&count.load(Ordering::SeqCst)));
    }
}
