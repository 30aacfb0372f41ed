//! The device self-test, bounded: a start does not wait for a busy disk.
//!
//! The test itself ([`probe_device`]) writes durably, which takes as long as the disk makes it take.
//! It runs on a thread of its own. What it found the last time lies in the data directory, with what
//! it was found on; while device and kernel are the same, that is believed at once, and the test
//! refreshes it for the next start. Without it the test has [`WAIT_MAX`]; then the start goes on
//! with what suits most devices.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::device::{DeviceFacts, DurableWrite, probe_device};
use super::disk::DataDirectory;
use super::properties::{list_names, read_properties};
use super::space::reserve_in;

/// How long a start waits for the test.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// The file with what was found.
const FILE: &str = ".self-test";
/// What the files begin with that the test is made on; one is left behind by who is killed.
const PROBE: &str = ".probe-";

/// How to write to a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    direct: bool,
    durable_write: DurableWrite,
}

/// Suits nearly every device; a file system without O_DIRECT is noticed by the first open.
const UNTESTED: Choice = Choice {
    direct: true,
    durable_write: DurableWrite::WithTheWrite,
};

/// Finds out how to write to the data directory `path`, which must exist, before the shards start;
/// and what to tell of it.
pub fn examine(path: &Path, reserve_bytes: Option<u64>) -> io::Result<(DataDirectory, String)> {
    let identity = identity(path)?;
    let known = recall(&path.join(FILE), &identity);
    let tested = test(path.to_owned(), identity)?;
    let (choice, told) = match known {
        Some(known) => (known, "as tested before".to_owned()),
        None => match tested.recv_timeout(WAIT_MAX) {
            Ok(Ok(facts)) => (Choice::of(&facts), facts.to_string()),
            Ok(Err(error)) => return Err(error),
            Err(RecvTimeoutError::Timeout) => (UNTESTED, "busy, hence not tested yet".to_owned()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the self-test of the device failed"));
            }
        },
    };
    if !choice.direct {
        tracing::warn!(directory = %path.display(), "no O_DIRECT here: going on buffered");
    }
    let directory = DataDirectory {
        path: path.to_owned(),
        direct: choice.direct,
        durable_write: choice.durable_write,
        reserve_bytes: reserve_in(path, reserve_bytes)?,
    };
    let way = match choice.durable_write {
        DurableWrite::WithTheWrite => "RWF_DSYNC",
        DurableWrite::SyncAfterwards => "fdatasync",
    };
    Ok((directory, format!("{told}; durable writes by {way}")))
}

/// Runs the test on its own thread and keeps what it finds.
fn test(path: PathBuf, identity: String) -> io::Result<mpsc::Receiver<io::Result<DeviceFacts>>> {
    let (found, result) = mpsc::channel();
    let work = move || {
        remove_left_over(&path);
        let facts = probe_device(&path);
        if let Ok(facts) = &facts {
            let kept = keep(&path, &identity, Choice::of(facts));
            let error = kept.err().map(|error| error.to_string());
            tracing::debug!(%facts, error, "device self-test");
        }
        // Not sent: the start did not wait for it.
        let _ = found.send(facts);
    };
    thread::Builder::new()
        .name("self-test".to_owned())
        .spawn(work)?;
    Ok(result)
}

impl Choice {
    fn of(facts: &DeviceFacts) -> Choice {
        Choice {
            direct: facts.direct_ok,
            durable_write: facts.durable_write,
        }
    }
}

/// What a finding holds for: the device, as far as it can be told, and the kernel.
fn identity(path: &Path) -> io::Result<String> {
    let device = fs::metadata(path)?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let attribute = |name: &str| fs::read_to_string(block.join(name)).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let facts = [
        format!("{major}:{minor}"),
        attribute("size"),
        attribute("queue/write_cache"),
        kernel,
    ];
    Ok(facts.map(|fact| fact.trim().to_owned()).join(" "))
}

/// What was found on this very device the last time.
fn recall(file: &Path, identity: &str) -> Option<Choice> {
    let found = read_properties(file).ok()??;
    let get = |key: &str| found.get(key).map(String::as_str);
    if get("device") != Some(identity) {
        return None;
    }
    Some(Choice {
        direct: get("direct")?.parse().ok()?,
        durable_write: match get("durable-write")? {
            "dsync" => DurableWrite::WithTheWrite,
            "fdatasync" => DurableWrite::SyncAfterwards,
            _ => return None,
        },
    })
}

/// Not durable: the next start can do without it.
fn keep(directory: &Path, identity: &str, choice: Choice) -> io::Result<()> {
    let durable_write = match choice.durable_write {
        DurableWrite::WithTheWrite => "dsync",
        DurableWrite::SyncAfterwards => "fdatasync",
    };
    let lines = BTreeMap::from([
        ("device", identity.to_owned()),
        ("direct", choice.direct.to_string()),
        ("durable-write", durable_write.to_owned()),
    ]);
    let text: String = lines
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    let temporary = directory.join(format!("{FILE}.tmp"));
    fs::write(&temporary, text)?;
    fs::rename(&temporary, directory.join(FILE))
}

fn remove_left_over(directory: &Path) {
    let names = list_names(directory).unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with(PROBE)) {
        // Somebody else's problem if it does not go: it is empty or nearly so.
        let _ = fs::remove_file(directory.join(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_believed_on_the_same_device_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let choice = Choice {
            direct: false,
            durable_write: DurableWrite::SyncAfterwards,
        };
        keep(directory.path(), "this one", choice).expect("kept");
        let file = directory.path().join(FILE);
        assert_eq!(recall(&file, "this one"), Some(choice));
        assert_eq!(recall(&file, "another"), None);
        fs::write(&file, "device=this one\ndirect=perhaps\n").expect("written");
        assert_eq!(recall(&file, "this one"), None);
    }

    #[test]
    fn an_examined_directory_is_known_the_next_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let identity = identity(path).expect("an identity");
        let tested = test(path.to_owned(), identity.clone()).expect("a thread");
        let facts = tested.recv().expect("an end").expect("facts");
        assert_eq!(
            recall(&path.join(FILE), &identity),
            Some(Choice::of(&facts))
        );
        let (examined, told) = examine(path, None).expect("examined");
        assert_eq!(examined.direct, facts.direct_ok);
        assert!(told.starts_with("as tested before"), "{told}");
        assert!(examine(&path.join("missing"), None).is_err());
    }
}
