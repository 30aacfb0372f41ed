//! Disk work on names, directories and small files: plain blocking calls, run on the blocking
//! threads. Knows nothing of shards.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::disk::{DESCRIPTORS_PAUSE, DESCRIPTORS_WAIT_MAX};
use super::shared_sync::SharedSyncs;
use crate::base::{DirectoryEntry, DiskOutput};

/// The place of `relative` below `root`. Refuses (EINVAL) what would lead out of it.
pub(super) fn resolve(root: &Path, relative: &str) -> io::Result<PathBuf> {
    let relative = Path::new(relative);
    let inside = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(if relative.as_os_str().is_empty() {
        root.to_owned()
    } else {
        root.join(relative)
    })
}

/// Does what needs a descriptor; a lack of them is waited out, as the shard's own opens do. For
/// what may be begun anew: nothing has happened when a descriptor is missing.
fn with_descriptor<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = super::clock::mono().after(DESCRIPTORS_WAIT_MAX);
    loop {
        match attempt() {
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
                    && super::clock::mono() < deadline => {}
            other => return other,
        }
        std::thread::sleep(DESCRIPTORS_PAUSE);
    }
}

/// The names in a directory onto stable storage.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    with_descriptor(|| File::open(path))?.sync_all()
}

/// The data directories: many partitions get a name in them at once.
static ROOTS: SharedSyncs = SharedSyncs::new();

/// Syncs the directory that `path` is in. The data directory itself has none of ours.
fn sync_parent(root: &Path, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent == root => ROOTS.sync(root, sync_directory),
        Some(parent) if path != root => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Cuts a file, durably.
pub(super) fn truncate(path: &Path, size: u64) -> io::Result<()> {
    let file = with_descriptor(|| OpenOptions::new().write(true).open(path))?;
    file.set_len(size)?;
    file.sync_all()
}

/// Grows a file to `size` bytes without allocating, where the file system cannot allocate.
pub(super) fn grow(file: &File, size: u64) -> io::Result<()> {
    if file.metadata()?.len() < size {
        file.set_len(size)
    } else {
        Ok(())
    }
}

/// Reads a whole file of at most `limit` bytes; none if it is larger.
pub(super) fn read_file(path: &Path, limit: usize) -> io::Result<Option<Bytes>> {
    let file = with_descriptor(|| File::open(path))?;
    let size = file.metadata()?.len();
    if size > limit as u64 {
        return Ok(None);
    }
    let mut contents = Vec::with_capacity(size as usize);
    file.take(limit as u64 + 1).read_to_end(&mut contents)?;
    Ok((contents.len() <= limit).then(|| contents.into()))
}

/// Replaces a file by way of a temporary one beside it.
pub(super) fn replace_file(root: &Path, path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = with_descriptor(|| File::create(&temporary))?;
    file.write_all(contents)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)?;
    sync_parent(root, path)
}

/// Makes a directory and its parents, syncing each directory that got a new name. True if it was
/// not there before.
pub(super) fn make_directory(root: &Path, path: &Path) -> io::Result<bool> {
    if path == root && !path.is_dir() {
        // A data directory that is gone is not made up again: it is on a disk that is gone.
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    if let (Some(parent), false) = (path.parent(), path == root)
        && !parent.is_dir()
    {
        make_directory(root, parent)?;
    }
    let new = match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => false,
        other => other.map(|()| true)?,
    };
    // Also when it was there: who made it may have died before syncing.
    sync_parent(root, path)?;
    Ok(new)
}

/// Renames, and syncs both parents.
pub(super) fn rename(root: &Path, from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(root, to)?;
    if from.parent() == to.parent() {
        Ok(())
    } else {
        sync_parent(root, from)
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    missing_is_fine(fs::remove_file(path))
}

/// Removes a directory and all that is in it, if it is there.
pub(super) fn remove_directory(root: &Path, path: &Path) -> io::Result<()> {
    if path == root {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    missing_is_fine(with_descriptor(|| fs::remove_dir_all(path)))
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lists a directory in order of name. Names that are not UTF-8 are none of ours: passed over.
pub(super) fn list(path: &Path) -> io::Result<DiskOutput> {
    let listing = match with_descriptor(|| fs::read_dir(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(DiskOutput::Entries(Vec::new()));
        }
        other => other?,
    };
    let mut entries = Vec::new();
    for entry in listing {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let metadata = match entry.metadata() {
            // Removed while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        let is_directory = metadata.is_dir();
        let size = if is_directory { 0 } else { metadata.len() };
        entries.push(DirectoryEntry {
            name,
            is_directory,
            size,
        });
    }
    entries.sort();
    Ok(DiskOutput::Entries(entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_data_directory() {
        let root = Path::new("/data");
        assert_eq!(
            resolve(root, "t-0/0.log").expect("inside"),
            Path::new("/data/t-0/0.log")
        );
        assert_eq!(resolve(root, "").expect("the root"), root);
        for outside in ["../x", "a/../../x", "/etc/passwd"] {
            assert!(resolve(root, outside).is_err(), "{outside}");
        }
    }

    #[test]
    fn directories_are_made_with_their_parents_and_a_second_time_is_no_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let (root, path) = (directory.path(), directory.path().join("a/b/c"));
        assert!(make_directory(root, &path).expect("made"));
        assert!(!make_directory(root, &path).expect("made again"));
        assert!(path.is_dir());
        remove_directory(root, &root.join("a")).expect("removed");
        remove_directory(root, &root.join("a")).expect("removed again");
        assert!(remove_directory(root, root).is_err());
    }

    #[test]
    fn a_replaced_file_has_the_new_contents_and_no_temporary_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("checkpoint");
        replace_file(directory.path(), &path, b"old").expect("written");
        replace_file(directory.path(), &path, b"new").expect("replaced");
        assert_eq!(
            read_file(&path, 3).expect("read").as_deref(),
            Some(&b"new"[..])
        );
        assert_eq!(read_file(&path, 2).expect("read"), None);
        let DiskOutput::Entries(entries) = list(directory.path()).expect("listed") else {
            panic!("no entries");
        };
        assert_eq!(entries.len(), 1, "{entries:?}");
    }
}
