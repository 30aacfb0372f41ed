//! Carries out [`DiskOp`]s on this shard's ring; what concerns names goes to blocking threads.
//!
//! Knows no log: only files, ranges and bytes. Operations run side by side; nothing orders two of
//! them but their callers' waiting. Writes and reads in flight are bounded, the rest wait in
//! order. A failed write or sync is reported once and never tried again.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use io_uring::opcode;
use io_uring::types::{Fd, FsyncFlags};

use super::blocking::BlockingPort;
use super::counters::add;
use super::descriptors::{Access, Descriptors};
use super::device::DurableWrite;
use super::executor::{Machine, current, spawn_local};
use super::gate::Gate;
use super::metadata;
use super::ring::checked;
use super::space::{space_in, space_of};
use crate::base::{BLOCK, Buf, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, Pool};

/// One data directory and how to write there.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    /// Where it is; it must exist.
    pub path: PathBuf,
    /// Whether to open files with O_DIRECT.
    pub direct: bool,
    /// How durable writes are made.
    pub durable_write: DurableWrite,
    /// Bytes of the file system that are kept for the broker's own needs.
    pub reserve_bytes: u64,
}

impl DataDirectory {
    /// A place in the order of the directories for one that cannot be used: nothing is asked of it.
    pub fn unusable(path: &std::path::Path) -> DataDirectory {
        DataDirectory {
            path: path.to_owned(),
            direct: true,
            durable_write: DurableWrite::WithTheWrite,
            reserve_bytes: 0,
        }
    }
}

/// How long an open, or work on names, waits for a descriptor before it fails.
pub(super) const DESCRIPTORS_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it looks.
pub(super) const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(5);

/// How many zeros are written at a time, in bytes.
const ZEROS_BYTES: usize = 256 << 10;

/// Bounds of one shard's disk work.
#[derive(Clone, Copy, Debug)]
pub struct DiskOptions {
    /// Open files kept, at most.
    pub open_files_max: usize,
    /// Writes at the device at a time. The sum over shards should stay well below the device's
    /// queue, or submitting itself blocks.
    pub writes_in_flight_max: usize,
    /// Reads at the device at a time.
    pub reads_in_flight_max: usize,
}

impl Default for DiskOptions {
    fn default() -> DiskOptions {
        DiskOptions {
            open_files_max: 1024,
            writes_in_flight_max: 16,
            reads_in_flight_max: 16,
        }
    }
}

struct Inside {
    machine: Rc<Machine>,
    directories: Vec<DataDirectory>,
    direct: Vec<Cell<bool>>,
    pool: Pool,
    blocking: BlockingPort,
    open: RefCell<Descriptors>,
    writes: Gate,
    reads: Gate,
    /// A block of zeros, while anybody writes them.
    zeros: RefCell<Weak<Buf>>,
}

/// This shard's disks.
#[derive(Clone)]
pub struct Disk {
    inside: Rc<Inside>,
}

/// A failure with the verb of what failed.
type Outcome<T> = Result<T, (&'static str, FaultKind)>;

/// Names the verb of a failure.
trait Naming<T> {
    fn named(self, verb: &'static str) -> Outcome<T>;
}

impl<T> Naming<T> for io::Result<T> {
    fn named(self, verb: &'static str) -> Outcome<T> {
        self.map_err(|error| (verb, kind_of(&error)))
    }
}

fn kind_of(error: &io::Error) -> FaultKind {
    match error.raw_os_error() {
        Some(libc::ENOENT) => FaultKind::NotFound,
        Some(libc::ENOSPC | libc::EDQUOT) => FaultKind::NoSpace,
        Some(errno) => FaultKind::Io(errno),
        None => FaultKind::Io(libc::EIO),
    }
}

/// Of a failed sync: whatever the reason, what it was to bring to the disk may be lost, and be
/// read from the page cache all the same.
fn kind_of_sync(error: &io::Error) -> FaultKind {
    FaultKind::Io(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Disk {
    /// This shard's way to the data directories, in the order of [`FilePath::disk`]. The pool's
    /// memory is registered with the ring as it comes into use, if the kernel allows it. Panics on a
    /// thread that is no shard.
    pub fn new(
        directories: Vec<DataDirectory>,
        options: DiskOptions,
        pool: Pool,
        blocking: BlockingPort,
    ) -> Disk {
        let machine = current();
        if let Err(error) = machine.ring.register(pool.region(), Box::new(pool.clone())) {
            tracing::warn!(%error, "buffers are not registered with the kernel, which costs CPU");
        }
        let inside = Inside {
            machine,
            direct: directories
                .iter()
                .map(|directory| Cell::new(directory.direct))
                .collect(),
            directories,
            pool,
            blocking,
            open: RefCell::new(Descriptors::new(options.open_files_max)),
            writes: Gate::new(options.writes_in_flight_max),
            reads: Gate::new(options.reads_in_flight_max),
            zeros: RefCell::default(),
        };
        Disk {
            inside: Rc::new(inside),
        }
    }

    /// Starts an operation; `done` is called on this shard when it is over, before the end of
    /// that turn.
    pub fn submit(&self, op: DiskOp, done: impl FnOnce(DiskDone) + 'static) {
        let disk = self.clone();
        spawn_local(async move { done(disk.perform(op).await) }).detach();
    }

    /// Carries an operation out.
    pub async fn perform(&self, op: DiskOp) -> DiskDone {
        let id = op.id();
        let (file, outcome) = self.inside.perform(op).await;
        let result = outcome.map_err(|(op, kind)| {
            add(&self.inside.machine.counts.disk_faults, 1);
            DiskFault { file, op, kind }
        });
        DiskDone { id, result }
    }

    /// The file, open for reading through the page cache, for
    /// [`send_file`](super::Stream::send_file).
    pub async fn open_file(&self, file: &FilePath) -> Result<Arc<File>, DiskFault> {
        let opened = self.inside.open(file, Access::Buffered, false).await;
        opened.map_err(|error| DiskFault {
            file: file.clone(),
            op: "open",
            kind: kind_of(&error),
        })
    }

    /// The same, if it is open already.
    pub fn opened_file(&self, file: &FilePath) -> Option<Arc<File>> {
        self.inside.open.borrow_mut().get(file, Access::Buffered)
    }

    /// How many files this shard keeps open.
    pub fn open_files(&self) -> usize {
        self.inside.open.borrow().len()
    }
}

impl Inside {
    async fn perform(&self, op: DiskOp) -> (FilePath, Outcome<DiskOutput>) {
        let (file, outcome) = match op {
            DiskOp::Read { file, at, len, .. } => {
                let outcome = self.read(&file, at, len).await;
                return (file, outcome);
            }
            DiskOp::Write {
                file,
                at,
                data,
                durable,
                ..
            } => {
                let outcome = self.write(&file, at, data, durable).await;
                (file, outcome)
            }
            DiskOp::Sync { file, .. } => {
                let outcome = self.sync(&file).await;
                (file, outcome)
            }
            DiskOp::Allocate {
                file,
                size,
                zeros_from,
                from_reserve,
                ..
            } => {
                let mut outcome = self.allocate(&file, size, from_reserve).await;
                if let (Ok(()), Some(from)) = (&outcome, zeros_from) {
                    outcome = self.write_zeros(&file, from, size).await;
                }
                (file, outcome)
            }
            other => return self.perform_on_names(other).await,
        };
        (file, outcome.map(|()| DiskOutput::Done))
    }

    async fn perform_on_names(&self, op: DiskOp) -> (FilePath, Outcome<DiskOutput>) {
        let done = |()| DiskOutput::Done;
        match op {
            DiskOp::ReadFile { file, limit, .. } => {
                let read = self.blocking(&file, move |_, path| metadata::read_file(path, limit));
                let outcome = match read.await.named("read") {
                    Ok(Some(contents)) => Ok(DiskOutput::Contents(contents)),
                    Ok(None) => Err(("read", FaultKind::TooLarge)),
                    Err(fault) => Err(fault),
                };
                (file, outcome)
            }
            DiskOp::List { directory, .. } => {
                let outcome = self
                    .blocking(&directory, |_, path| metadata::list(path))
                    .await;
                (directory, outcome.named("list"))
            }
            DiskOp::Truncate { file, size, .. } => {
                let cut = self.blocking(&file, move |_, path| metadata::truncate(path, size));
                let outcome = cut.await.named("truncate").map(done);
                (file, outcome)
            }
            DiskOp::ReplaceFile { file, contents, .. } => {
                let outcome = self
                    .replace_file(&file, contents)
                    .await
                    .named("replace")
                    .map(done);
                (file, outcome)
            }
            DiskOp::MakeDirectory { directory, .. } => {
                let made = self.blocking(&directory, metadata::make_directory);
                let outcome = made.await.named("make directory").map(|new| match new {
                    true => DiskOutput::Done,
                    false => DiskOutput::Existed,
                });
                (directory, outcome)
            }
            DiskOp::SyncDirectory { directory, .. } => {
                let synced = self.blocking(&directory, |_, path| metadata::sync_directory(path));
                let outcome = synced.await.named("sync directory").map(done);
                (directory, outcome)
            }
            DiskOp::Rename { from, to, .. } => {
                let outcome = self.rename(&from, &to).await.named("rename").map(done);
                (from, outcome)
            }
            DiskOp::Remove { file, .. } => {
                let removed = self.changing(&file, |_, path| metadata::remove(path));
                let outcome = removed.await.named("remove").map(done);
                (file, outcome)
            }
            DiskOp::RemoveDirectory { directory, .. } => {
                let removed = self.changing(&directory, metadata::remove_directory);
                let outcome = removed.await.named("remove directory").map(done);
                (directory, outcome)
            }
            DiskOp::Space { directory, .. } => {
                let reserve = self.reserve(directory.disk);
                let asked = self.blocking(&directory, move |_, path| space_in(path, reserve));
                let outcome = asked
                    .await
                    .named("ask for the space")
                    .map(DiskOutput::Space);
                (directory, outcome)
            }
            DiskOp::Write { .. }
            | DiskOp::Read { .. }
            | DiskOp::Sync { .. }
            | DiskOp::Allocate { .. } => unreachable!("served by perform"),
        }
    }

    /// Runs `work` on a blocking thread with the data directory and the path.
    async fn blocking<T: Send + 'static>(
        &self,
        file: &FilePath,
        work: impl FnOnce(&Path, &Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (root, path) = self.resolve(file)?;
        self.blocking.run(move || work(&root, &path)).await
    }

    /// As [`Inside::blocking`], for what takes a name away: open files of it are forgotten,
    /// before, and after for those opened meanwhile.
    async fn changing<T: Send + 'static>(
        &self,
        file: &FilePath,
        work: impl FnOnce(&Path, &Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.open.borrow_mut().forget(file);
        let result = self.blocking(file, work).await;
        self.open.borrow_mut().forget(file);
        result
    }

    async fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        if from.disk != to.disk {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        let (_, target) = self.resolve(to)?;
        self.open.borrow_mut().forget(to);
        let work = move |root: &Path, path: &Path| metadata::rename(root, path, &target);
        let result = self.changing(from, work).await;
        self.open.borrow_mut().forget(to);
        result
    }

    async fn replace_file(&self, file: &FilePath, contents: Bytes) -> io::Result<()> {
        let work = move |root: &Path, path: &Path| metadata::replace_file(root, path, &contents);
        self.changing(file, work).await
    }

    fn resolve(&self, file: &FilePath) -> io::Result<(PathBuf, PathBuf)> {
        let directory = self.directories.get(usize::from(file.disk));
        let directory = directory.ok_or(io::Error::from_raw_os_error(libc::ENODEV))?;
        let path = metadata::resolve(&directory.path, &file.path)?;
        Ok((directory.path.clone(), path))
    }

    /// The open file, from the cache or opened through the ring.
    async fn open(&self, file: &FilePath, access: Access, create: bool) -> io::Result<Arc<File>> {
        if let Some(open) = self.open.borrow_mut().get(file, access) {
            return Ok(open);
        }
        let generation = self.open.borrow().generation();
        let (_, path) = self.resolve(file)?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let opened = match access {
            Access::Buffered => self.open_at(path, libc::O_RDONLY).await?,
            Access::Direct => {
                let flags = if create {
                    libc::O_RDWR | libc::O_CREAT
                } else {
                    libc::O_RDWR
                };
                self.open_direct(file, path, flags).await?
            }
        };
        add(&self.machine.counts.files_opened, 1);
        let opened = Arc::new(File::from(opened));
        self.open
            .borrow_mut()
            .insert(file.clone(), access, opened.clone(), generation);
        Ok(opened)
    }

    /// Opens with O_DIRECT, or without it where the file system refuses (EINVAL).
    async fn open_direct(
        &self,
        file: &FilePath,
        path: CString,
        flags: libc::c_int,
    ) -> io::Result<OwnedFd> {
        let direct = &self.direct[usize::from(file.disk)];
        if direct.get() {
            match self.open_at(path.clone(), flags | libc::O_DIRECT).await {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                other => return other,
            }
            let directory = self.directories[usize::from(file.disk)].path.display();
            tracing::warn!(%directory, "the file system refuses O_DIRECT: going on buffered");
            direct.set(false);
        }
        self.open_at(path, flags).await
    }

    /// A lack of descriptors is waited out for [`DESCRIPTORS_WAIT_MAX`]: operations in flight give
    /// theirs back, and nothing has been written yet that could be lost.
    async fn open_at(&self, path: CString, flags: libc::c_int) -> io::Result<OwnedFd> {
        let deadline = super::clock::mono().after(DESCRIPTORS_WAIT_MAX);
        loop {
            match self.try_open_at(path.clone(), flags).await {
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
                        && super::clock::mono() < deadline => {}
                other => return other,
            }
            super::timer::sleep(DESCRIPTORS_PAUSE).await;
        }
    }

    async fn try_open_at(&self, path: CString, flags: libc::c_int) -> io::Result<OwnedFd> {
        let open = opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr());
        let entry = open.flags(flags | libc::O_CLOEXEC).mode(0o644).build();
        // SAFETY: the path is on the heap and kept.
        let opening = unsafe { self.machine.ring.submit(entry, path) };
        let descriptor = checked(opening.yielding_descriptor().await.0)?;
        // SAFETY: the kernel just gave us this descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
    }

    async fn write(&self, file: &FilePath, at: u64, data: Arc<Buf>, durable: bool) -> Outcome<()> {
        assert!(
            at.is_multiple_of(BLOCK as u64) && data.len().is_multiple_of(BLOCK),
            "{at} {}",
            data.len()
        );
        let open = self.open(file, Access::Direct, true).await.named("open")?;
        let _permit = self.writes.enter().await;
        let (writing, counts) = (&self.machine.writing, &self.machine.counts);
        writing.note();
        let _at_device = durable.then(|| writing.begin_durable());
        let way = self.directories[usize::from(file.disk)].durable_write;
        let sync_with_write = durable && way == DurableWrite::WithTheWrite;
        let flags = if sync_with_write { libc::RWF_DSYNC } else { 0 };
        add(&counts.durable_writes_submitted, u64::from(durable));
        let mut written = 0;
        while written < data.len() {
            let wrote = self
                .write_some(
                    &open,
                    at + written as u64,
                    &data,
                    written..data.len(),
                    flags,
                )
                .await
                .map_err(|error| ("write", self.kind_of_write(file.disk, &error)))?;
            if wrote == 0 {
                return Err(("write", FaultKind::Io(libc::EIO)));
            }
            written += wrote;
        }
        if durable && !sync_with_write {
            self.sync_open(open)
                .await
                .map_err(|error| ("sync", kind_of_sync(&error)))?;
        }
        writing.note();
        let completed = if durable {
            &counts.durable_writes_completed
        } else {
            &counts.relaxed_writes_completed
        };
        add(completed, 1);
        add(&counts.written_bytes, data.len() as u64);
        Ok(())
    }

    /// In pieces, one after the other, so that other writes are not held up for long.
    async fn write_zeros(&self, file: &FilePath, from: u64, to: u64) -> Outcome<()> {
        let kept = self.zeros.borrow().upgrade();
        let zeros = kept.unwrap_or_else(|| {
            let mut zeros = self.pool.take(ZEROS_BYTES);
            zeros.set_len(ZEROS_BYTES);
            zeros.fill(0);
            let zeros = Arc::new(zeros);
            *self.zeros.borrow_mut() = Arc::downgrade(&zeros);
            zeros
        });
        let open = self.open(file, Access::Direct, true).await.named("open")?;
        let mut at = from;
        while at < to {
            let _permit = self.writes.enter().await;
            let piece = (to - at).min(ZEROS_BYTES as u64) as usize;
            let wrote = self.write_some(&open, at, &zeros, 0..piece, 0).await;
            match wrote.named("write")? {
                0 => return Err(("write", FaultKind::Io(libc::EIO))),
                count => at += count as u64,
            }
        }
        Ok(())
    }

    async fn write_some(
        &self,
        open: &Arc<File>,
        at: u64,
        data: &Arc<Buf>,
        part: Range<usize>,
        flags: libc::c_int,
    ) -> io::Result<usize> {
        let (descriptor, rest) = (Fd(open.as_raw_fd()), &data[part]);
        let (start, len) = (rest.as_ptr(), rest.len().min(1 << 30));
        let entry = match self.machine.ring.registered(start, len) {
            Some(index) => opcode::WriteFixed::new(descriptor, start, len as u32, index)
                .offset(at)
                .rw_flags(flags)
                .build(),
            None => {
                let write = opcode::Write::new(descriptor, start, len as u32);
                write.offset(at).rw_flags(flags).build()
            }
        };
        // SAFETY: the data is on the heap and kept, shared, hence not changed; so is the file.
        let writing = unsafe {
            self.machine
                .ring
                .submit(entry, (data.clone(), open.clone()))
        };
        checked(writing.await.0)
    }

    async fn read(&self, file: &FilePath, at: u64, len: usize) -> Outcome<DiskOutput> {
        assert!(
            at.is_multiple_of(BLOCK as u64) && len.is_multiple_of(BLOCK),
            "{at} {len}"
        );
        let open = self.open(file, Access::Direct, false).await.named("open")?;
        let _permit = self.reads.enter().await;
        let mut buf = self.pool.take(len);
        let mut filled = 0;
        while filled < len {
            let (result, back) = self.read_some(&open, at, buf, filled, len - filled).await;
            buf = back;
            let count = result.named("read")?;
            filled += count;
            // Off a block boundary is the end of the file.
            if count == 0 || filled % BLOCK != 0 {
                break;
            }
        }
        buf.set_len(filled);
        add(&self.machine.counts.reads, 1);
        add(&self.machine.counts.read_bytes, filled as u64);
        Ok(DiskOutput::Data(Arc::new(buf)))
    }

    async fn read_some(
        &self,
        open: &Arc<File>,
        at: u64,
        mut buf: Buf,
        from: usize,
        len: usize,
    ) -> (io::Result<usize>, Buf) {
        let start = buf.whole_mut()[from..].as_mut_ptr();
        let (descriptor, len, at) = (Fd(open.as_raw_fd()), len.min(1 << 30), at + from as u64);
        let entry = match self.machine.ring.registered(start, len) {
            Some(index) => {
                let read = opcode::ReadFixed::new(descriptor, start, len as u32, index);
                read.offset(at).build()
            }
            None => opcode::Read::new(descriptor, start, len as u32)
                .offset(at)
                .build(),
        };
        // SAFETY: the block is on the heap, as large as is told, and kept; so is the file.
        let reading = unsafe { self.machine.ring.submit(entry, (buf, open.clone())) };
        let (result, (buf, _)) = reading.await;
        (checked(result), buf)
    }

    async fn sync(&self, file: &FilePath) -> Outcome<()> {
        let open = self.open(file, Access::Direct, false).await.named("open")?;
        let synced = self.sync_open(open).await;
        synced.map_err(|error| ("sync", kind_of_sync(&error)))
    }

    async fn sync_open(&self, open: Arc<File>) -> io::Result<()> {
        let fsync = opcode::Fsync::new(Fd(open.as_raw_fd())).flags(FsyncFlags::DATASYNC);
        // SAFETY: no pointers; the file is kept.
        let (result, _) = unsafe { self.machine.ring.submit(fsync.build(), open) }.await;
        checked(result)?;
        add(&self.machine.counts.syncs, 1);
        Ok(())
    }

    /// Of a failed write: without O_DIRECT the bytes may linger in the page cache, so that a full
    /// disk is as bad as a broken one.
    fn kind_of_write(&self, disk: u16, error: &io::Error) -> FaultKind {
        match kind_of(error) {
            FaultKind::NoSpace if self.direct[usize::from(disk)].get() => FaultKind::NoSpace,
            _ => kind_of_sync(error),
        }
    }

    fn reserve(&self, disk: u16) -> u64 {
        let directory = self.directories.get(usize::from(disk));
        directory.map_or(0, |directory| directory.reserve_bytes)
    }

    async fn allocate(&self, file: &FilePath, size: u64, from_reserve: bool) -> Outcome<()> {
        let open = self.open(file, Access::Direct, true).await.named("open")?;
        if size == 0 {
            return Ok(());
        }
        if !from_reserve {
            let room = space_of(&open, self.reserve(file.disk)).named("allocate")?;
            let grown = size.saturating_sub(open.metadata().named("allocate")?.len());
            if room.usable < room.reserve.saturating_add(grown) {
                return Err(("allocate", FaultKind::NoSpace));
            }
        }
        let entry = opcode::Fallocate::new(Fd(open.as_raw_fd()), size).build();
        // SAFETY: no pointers; the file is kept.
        let allocating = unsafe { self.machine.ring.submit(entry, open.clone()) };
        match checked(allocating.await.0) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                let grown = self.blocking.run(move || metadata::grow(&open, size)).await;
                grown.named("allocate")
            }
            other => other.named("allocate").map(drop),
        }
    }
}
