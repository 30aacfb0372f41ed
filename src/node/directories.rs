//! The data directories at the start: whose they are, which of them are well.
//!
//! One of several that cannot be used is left out, as Kafka does (`LogManager`, JBOD): its partitions
//! are offline, all others are served. The first one has the metadata: without it there is no start.
//! A directory that can be read and belongs to somebody else is a mistake, not a fault: no start.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::base::{BrokerId, DiskFault, FaultKind, FilePath};
use crate::config::Options;
use crate::rt::{self, DataDirectory, limits};
use crate::shard::METADATA_DIRECTORY;

use super::Failure;
use super::identity::{self, Identity, Unfit};

/// Linux's number for an input or output error, where the error has none.
const EIO: i32 = 5;

/// What became of the data directories.
pub(super) struct Directories {
    pub(super) _locks: Vec<limits::DirectoryLock>,
    /// Of those that are well, in order.
    pub(super) identities: Vec<Identity>,
    /// One for each, also for those that nothing is asked of.
    pub(super) disks: Vec<DataDirectory>,
    /// Those that cannot be used, by number, and why.
    pub(super) failed: BTreeMap<u16, (DiskFault, String)>,
}

/// Locks the directories, and makes them ours where they are empty.
pub(super) fn take(options: &Options, broker: BrokerId) -> Result<Directories, Failure> {
    let mut taken = Directories {
        _locks: Vec::new(),
        identities: Vec::new(),
        disks: Vec::new(),
        failed: BTreeMap::new(),
    };
    for (number, path) in options.data_directories.iter().enumerate() {
        match take_one(path, options, broker, &taken.identities) {
            Ok((lock, identity, disk)) => {
                taken._locks.push(lock);
                taken.identities.push(identity);
                taken.disks.push(disk);
            }
            Err(Unfit::Broken(error)) if number > 0 => {
                tracing::error!(directory = %path.display(), %error, "a data directory cannot be used: its partitions are offline, all others are served; mend it and start again");
                let fault = DiskFault {
                    file: FilePath::new(number as u16, "."),
                    op: "start",
                    kind: FaultKind::Io(error.raw_os_error().unwrap_or(EIO)),
                };
                taken
                    .failed
                    .insert(number as u16, (fault, error.to_string()));
                taken.disks.push(DataDirectory::unusable(path));
            }
            Err(Unfit::Broken(error)) => {
                return Err(Failure(format!("{}: {error}", path.display())));
            }
            Err(Unfit::Mistaken(why)) => return Err(Failure(why)),
        }
    }
    check_metadata_is_in_the_first(options)?;
    Ok(taken)
}

fn take_one(
    path: &Path,
    options: &Options,
    broker: BrokerId,
    before: &[Identity],
) -> Result<(limits::DirectoryLock, Identity, DataDirectory), Unfit> {
    let lock = limits::lock_directory(path).map_err(|refusal| match refusal {
        limits::StartRefusal::Directory { source, .. } => Unfit::Broken(source),
        other => Unfit::Mistaken(other.to_string()),
    })?;
    let cluster = before.first().map(|first| first.cluster_id.as_str());
    let identity = identity::establish(path, broker, cluster)?;
    let twin = before
        .iter()
        .find(|other| other.directory == identity.directory);
    if let Some(twin) = twin {
        return Err(Unfit::Mistaken(format!(
            "data directory {} has the id {} of another one: it is a copy; give each its own",
            path.display(),
            twin.directory
        )));
    }
    let examined = rt::self_test::examine(path, options.reserve_bytes);
    let (disk, facts) = examined.map_err(Unfit::Broken)?;
    tracing::info!(directory = %path.display(), %facts, "data directory");
    Ok((lock, identity, disk))
}

/// Directories in another order, or a first one that lost its contents, would begin a new cluster
/// in which nothing of what is on the others is known.
fn check_metadata_is_in_the_first(options: &Options) -> Result<(), Failure> {
    let has_it = |path: &&std::path::PathBuf| {
        let place = path.join(METADATA_DIRECTORY);
        let names = rt::properties::list_names(&place);
        names.is_ok_and(|names| !names.is_empty())
    };
    let [first, others @ ..] = options.data_directories.as_slice() else {
        return Ok(());
    };
    match others.iter().find(has_it) {
        Some(other) if !has_it(&first) => Err(Failure(format!(
            "the metadata is in data directory {}, not in the first one, {}: name it first",
            other.display(),
            first.display()
        ))),
        _ => Ok(()),
    }
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Unfit {
        Unfit::Broken(error)
    }
}
