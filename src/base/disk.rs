//! Disk work as values: a machine below the water-line emits [`DiskOp`]s and is handed a
//! [`DiskDone`] for each, in any order.
//!
//! Nothing orders two operations but waiting: who needs B after A emits B when A is done.
//! Contents are on stable storage only after a durable write or a [`DiskOp::Sync`]; names only
//! after [`DiskOp::SyncDirectory`] of their directory (operations that include it say so).

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Buf;

/// A file or directory, relative to the data directory it lives in, `/` between parts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath {
    /// Which of the data directories (`log.dirs`), 0 for the first.
    pub disk: u16,
    /// `topic-0/00000000000000000000.log`, or the empty text for the data directory itself.
    pub path: Arc<str>,
}

impl FilePath {
    /// Names `path` on data directory `disk`.
    pub fn new(disk: u16, path: &str) -> FilePath {
        FilePath {
            disk,
            path: Arc::from(path),
        }
    }

    /// The file `name` inside this directory.
    pub fn join(&self, name: &str) -> FilePath {
        if self.path.is_empty() {
            return FilePath::new(self.disk, name);
        }
        FilePath {
            disk: self.disk,
            path: Arc::from(format!("{}/{name}", self.path)),
        }
    }

    /// The directory this file is in; the data directory is its own parent.
    pub fn parent(&self) -> FilePath {
        FilePath::new(
            self.disk,
            self.path.rsplit_once('/').map_or("", |(parent, _)| parent),
        )
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path
            .rsplit_once('/')
            .map_or(&self.path, |(_, name)| name)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.disk, self.path)
    }
}

/// Ties a [`DiskDone`] to its [`DiskOp`]. `owner` is whoever the completion goes to (a slot of the
/// core's table), `sequence` is the owner's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// The slot of the machine that asked.
    pub owner: u32,
    /// That machine's number for it.
    pub sequence: u32,
}

/// One piece of disk work.
#[derive(Clone, Debug)]
pub enum DiskOp {
    /// Writes `data[..]` at byte `at`; both multiples of [`super::BLOCK`]. Creates the file if it
    /// is missing (its directory must exist). `durable`: on stable storage, contents and size,
    /// before it is done; otherwise done once the kernel has it, so that it survives the death of
    /// this process but not of the machine.
    Write {
        id: OpId,
        file: FilePath,
        at: u64,
        data: Arc<Buf>,
        durable: bool,
    },
    /// Reads up to `len` bytes at `at`, both multiples of [`super::BLOCK`], past the page cache.
    /// Gives [`DiskOutput::Data`], shorter at the end of the file.
    Read {
        id: OpId,
        file: FilePath,
        at: u64,
        len: usize,
    },
    /// The contents of the file, as they are now, onto stable storage (fdatasync).
    Sync { id: OpId, file: FilePath },
    /// Makes the file at least `size` bytes long with its blocks allocated, reading as zeros.
    /// Creates the file if it is missing. Not durable by itself. Fails with [`FaultKind::NoSpace`]
    /// when the data directory's reserve would have to give for it, unless `from_reserve` says that
    /// it may. `zeros_from`, a multiple of [`super::BLOCK`]: from there to `size` zeros are written
    /// as well, so that later writes find blocks that were written before; nobody may write there
    /// until this is done.
    Allocate {
        id: OpId,
        file: FilePath,
        size: u64,
        zeros_from: Option<u64>,
        from_reserve: bool,
    },
    /// Asks for the space of the file system that `directory` is on. Gives [`DiskOutput::Space`].
    Space { id: OpId, directory: FilePath },
    /// Cuts the file to `size` bytes, durably.
    Truncate { id: OpId, file: FilePath, size: u64 },
    /// Reads a whole small file. Gives [`DiskOutput::Contents`]; [`FaultKind::NotFound`] if there
    /// is none, [`FaultKind::TooLarge`] above `limit` bytes.
    ReadFile {
        id: OpId,
        file: FilePath,
        limit: usize,
    },
    /// Replaces a small file as a whole, durably: afterwards either the old or the new contents
    /// are there, never a mixture (temporary file, sync, rename, sync of the directory).
    ReplaceFile {
        id: OpId,
        file: FilePath,
        contents: Bytes,
    },
    /// Makes a directory, parents included, durably. No error if it is there already: gives
    /// [`DiskOutput::Existed`] then.
    MakeDirectory { id: OpId, directory: FilePath },
    /// Gives a file or directory another name on the same data directory, durably (both parents
    /// are synced). Replaces a file of the new name.
    Rename {
        id: OpId,
        from: FilePath,
        to: FilePath,
    },
    /// Removes a file. No error if it is missing. Not durable by itself.
    Remove { id: OpId, file: FilePath },
    /// Removes a directory with all that is in it. No error if it is missing.
    RemoveDirectory { id: OpId, directory: FilePath },
    /// Lists a directory, in order of name. Gives [`DiskOutput::Entries`], empty if it is missing.
    List { id: OpId, directory: FilePath },
    /// The names in a directory onto stable storage.
    SyncDirectory { id: OpId, directory: FilePath },
}

impl DiskOp {
    /// The id its completion will carry.
    pub fn id(&self) -> OpId {
        match self {
            DiskOp::Write { id, .. }
            | DiskOp::Read { id, .. }
            | DiskOp::Sync { id, .. }
            | DiskOp::Allocate { id, .. }
            | DiskOp::Truncate { id, .. }
            | DiskOp::ReadFile { id, .. }
            | DiskOp::ReplaceFile { id, .. }
            | DiskOp::MakeDirectory { id, .. }
            | DiskOp::Rename { id, .. }
            | DiskOp::Remove { id, .. }
            | DiskOp::RemoveDirectory { id, .. }
            | DiskOp::List { id, .. }
            | DiskOp::SyncDirectory { id, .. }
            | DiskOp::Space { id, .. } => *id,
        }
    }

    /// The file or directory it is about; of a renaming, the old name.
    pub fn target(&self) -> &FilePath {
        match self {
            DiskOp::Write { file, .. }
            | DiskOp::Read { file, .. }
            | DiskOp::Sync { file, .. }
            | DiskOp::Allocate { file, .. }
            | DiskOp::Truncate { file, .. }
            | DiskOp::ReadFile { file, .. }
            | DiskOp::ReplaceFile { file, .. }
            | DiskOp::Rename { from: file, .. }
            | DiskOp::Remove { file, .. } => file,
            DiskOp::MakeDirectory { directory, .. }
            | DiskOp::RemoveDirectory { directory, .. }
            | DiskOp::List { directory, .. }
            | DiskOp::SyncDirectory { directory, .. }
            | DiskOp::Space { directory, .. } => directory,
        }
    }
}

/// What became of a [`DiskOp`].
#[derive(Clone, Debug)]
pub struct DiskDone {
    /// The id of the operation.
    pub id: OpId,
    /// Its output, or why it failed. A failed write or sync is never tried again.
    pub result: Result<DiskOutput, DiskFault>,
}

/// What a successful operation gives.
#[derive(Clone, Debug)]
pub enum DiskOutput {
    /// It is done.
    Done,
    /// A durable write is on stable storage, but not in its file yet: what reads the file may not
    /// see it. Only a core's journal answers so.
    Journaled,
    /// The directory of a [`DiskOp::MakeDirectory`] was there before, with whatever is in it.
    Existed,
    /// The bytes of a [`DiskOp::Read`].
    Data(Arc<Buf>),
    /// The bytes of a [`DiskOp::ReadFile`].
    Contents(Bytes),
    /// The entries of a [`DiskOp::List`].
    Entries(Vec<DirectoryEntry>),
    /// The figures of a [`DiskOp::Space`].
    Space(Space),
}

/// The space of one data directory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Of its file system, in all.
    pub total: u64,
    /// What this process may still write there, the reserve included.
    pub usable: u64,
    /// What is kept for the broker's own needs: below it, clients' records are refused.
    pub reserve: u64,
}

impl Space {
    /// True when nothing is left but the reserve.
    pub fn is_short(&self) -> bool {
        self.usable < self.reserve
    }

    /// True when there is enough beyond the reserve to take records again without refusing the next.
    pub fn is_ample(&self) -> bool {
        self.usable >= self.reserve.saturating_add(self.reserve / 4)
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    /// The name alone, without its directory.
    pub name: String,
    /// True for a directory.
    pub is_directory: bool,
    /// Bytes in the file; 0 for a directory.
    pub size: u64,
}

/// A failed disk operation: which file, which operation, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFault {
    /// The file or directory.
    pub file: FilePath,
    /// The operation, as a verb: `write`, `sync`, `read`.
    pub op: &'static str,
    /// What sort of failure.
    pub kind: FaultKind,
}

/// Sorts of failure that the log treats apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no such file.
    NotFound,
    /// The disk or the quota is full (ENOSPC, EDQUOT), and nothing of the operation lingers in the
    /// page cache: whoever reads the file reads what is on the disk.
    NoSpace,
    /// The file is larger than the reader allows.
    TooLarge,
    /// Anything else, by its errno (EIO: 5).
    Io(i32),
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed: ", self.op, self.file)?;
        match self.kind {
            FaultKind::NotFound => f.write_str("no such file"),
            FaultKind::NoSpace => f.write_str("no space left on the device"),
            FaultKind::TooLarge => f.write_str("the file is too large"),
            FaultKind::Io(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(errno)),
        }
    }
}

impl std::error::Error for DiskFault {}
