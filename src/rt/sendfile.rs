//! Bytes of a file to a socket by `sendfile(2)`, without ever blocking the shard.
//!
//! A slice is sent only when it is in the page cache. `cachestat(2)` (Linux 6.5) says whether its
//! pages are there; that they are also filled, and not still being read, is sampled by one-byte
//! reads that may not wait (`RWF_NOWAIT`), at the slice's end, and all over it if something was read
//! in of late. A slice that is not there is read once through the ring into a scratch buffer, which
//! costs a copy on the cold path only and, unlike `FADV_WILLNEED` by itself, is known to be over when it
//! is over. Several slices of a range are read ahead of the one that is sent. The socket is non-blocking
//! just around the call: nothing else of this shard runs in between, and the ring defers its work.
//!
//! Readers that catch up make way for what else the shard does. A bounded number of bytes is sent in
//! a turn, over all connections. And while the shard writes to a disk, or nobody knows yet since the
//! reading has just begun, few bytes are asked of the device at a time, since a write waits there behind
//! every read. How few goes by the pauses between durable writes: where there are hardly any, one small
//! read at a time, which begins when no durable write is there, if that comes soon, and when those that
//! are over have been answered; where they are long, a few larger ones. These are not copied: the kernel
//! is told of them (`FADV_WILLNEED`) and asked for their last byte. And it reads what it is told to and no
//! more. Its own read-ahead goes by the device's setting, which is megabytes on some machines: with the
//! 8 MiB of the one that this was measured on, durable writes beside three readers took 8 ms in the
//! median, and 0.5 ms without. It is left on while nothing is written: it gathers pages into large ones,
//! which are cheaper to send (a third of the CPU, on both ends).
//!
//! What is sent this way must never be rewritten: the kernel sends the pages themselves.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;

use super::counters::add;
use super::executor::{Machine, Task, spawn_local};
use super::ring::checked;
use super::stream::Stream;
use super::timer::yield_now;
use super::{clock, gate};
use crate::base::Buf;

/// The most that one `sendfile` carries, so that other connections get their turns.
const SLICE_MAX: u64 = 256 << 10;
/// Once so much was sent from files in a turn of the shard, over all connections, the rest waits for
/// the next turn: what else the shard has to do waits for no more than this and one slice.
const TURN_MAX: u64 = 512 << 10;
/// The same, and the most that one `sendfile` carries, while the shard writes to a disk: the less of
/// it, the shorter the pauses between its durable writes are.
const TURN_BESIDE_WRITES: RangeInclusive<u64> = 64 << 10..=SLICE_MAX;
/// So many rounds of the shard a slice waits, while durable writes follow each other closely, for one
/// in which there is nothing else to do: a write that is done takes four of them to be answered.
const GIVES_WAY_ROUNDS_MAX: usize = 6;
/// How many slices of one range are looked at, and read if need be, before the first is sent.
const SLICES_AHEAD: usize = 4;
/// The most that the first cold read after a durable write asks for; each one after it may ask for
/// twice as much, up to the next. What a write waits for behind a read is in proportion to its size:
/// beside a writer that never pauses, whose p99 is 250 us alone, 16 KiB add a fifth to it and let
/// readers have 100 MB/s, 32 KiB two fifths and 200 MB/s, 64 KiB all of it again and 310 MB/s. Where
/// there are pauses between the writes, reads may take a part of them.
const PIECE_AFTER_WRITE: RangeInclusive<u64> = 24 << 10..=SLICE_MAX;
/// The most that any asks for while durable writes follow each other closely.
const PIECE_BESIDE_WRITES_MAX: u64 = 128 << 10;
/// So long a cold read waits for the durable writes at the device to be over. A lone write is, in this
/// time, mostly; where writes overlap without end, readers still get their pieces.
const MAKES_WAY_MAX: Duration = Duration::from_micros(250);
/// One byte in so many is asked for, to see that the pages are filled, while there were cold reads of
/// late. Read-ahead fills pages in units of at least this size.
const SAMPLE_EVERY: u64 = 64 << 10;
/// The same while the shard writes to a disk: no piece is smaller.
const SAMPLE_BESIDE_WRITES_EVERY: u64 = 16 << 10;
/// So long after a cold read the kernel may still fill pages behind it. Otherwise only the last byte of
/// a slice is asked for: asking for all was an eighth of what a reply out of the page cache cost.
const FILLS_LINGER: Duration = Duration::from_millis(100);
/// The size of a page in the page cache.
const PAGE: u64 = 4096;
/// The system call's number, the same on every architecture.
const CACHESTAT: libc::c_long = 451;

#[repr(C)]
struct CachestatRange {
    offset: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

impl Stream {
    /// Sends `len` bytes of `file` (a buffered descriptor) from byte `at`. The range must lie in
    /// the file (UnexpectedEof otherwise) and must never be rewritten.
    pub async fn send_file(&self, file: Arc<File>, at: u64, len: u64) -> io::Result<()> {
        let (mut at, end) = (at, at.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?);
        let mut ahead = ReadAhead {
            machine: self.machine.clone(),
            file: file.clone(),
            next: at,
            end,
            slices: VecDeque::new(),
        };
        while at < end {
            let slice_end = ahead.next_slice().await?;
            while at < slice_end {
                at += self.send_some(&file, at, slice_end - at).await?;
            }
        }
        Ok(())
    }

    async fn send_some(&self, file: &Arc<File>, at: u64, len: u64) -> io::Result<u64> {
        loop {
            let turn = OneATurn::begin(&self.machine).await;
            let len = len.min(turn.max);
            set_read_ahead(&self.machine, file, !self.machine.writing.is_recent());
            match sendfile(self.socket.as_raw_fd(), file.as_raw_fd(), at, len) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(sent) => {
                    add(&self.machine.counts.sends, 1);
                    add(&self.machine.counts.sendfile_bytes, sent);
                    turn.spent(sent);
                    return Ok(sent);
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        drop(turn);
                        self.writable().await?;
                    }
                    Some(libc::EINTR) => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

/// Leave to send one slice in this turn of the shard: connections take turns, in the order in which
/// they ask, and go on in the next turn when this one's share is spent.
struct OneATurn {
    machine: Rc<Machine>,
    permit: gate::Permit,
    /// What all may send in this turn, bytes.
    max: u64,
}

impl OneATurn {
    async fn begin(machine: &Rc<Machine>) -> OneATurn {
        let permit = machine.file_turns.enter().await;
        let mut max = TURN_MAX;
        if machine.writing.is_recent() {
            max = machine.writing.piece(TURN_BESIDE_WRITES);
            give_way(machine).await;
        }
        while machine.file_sent.get().0 == machine.round.get() && machine.file_sent.get().1 >= max {
            yield_now().await;
        }
        let machine = machine.clone();
        OneATurn {
            machine,
            permit,
            max,
        }
    }

    /// So many bytes went out.
    fn spent(self, bytes: u64) {
        let round = self.machine.round.get();
        let (last, sent) = self.machine.file_sent.get();
        let before = if last == round { sent } else { 0 };
        self.machine.file_sent.set((round, before + bytes));
        drop(self.permit);
    }
}

/// Lets what else the shard has to do go first, if its durable writes follow each other closely.
async fn give_way(machine: &Machine) {
    if machine.writing.is_dense() {
        machine.after_others(GIVES_WAY_ROUNDS_MAX).await;
    }
}

/// The slices of one range, brought into the page cache a few at a time before they are sent.
struct ReadAhead {
    machine: Rc<Machine>,
    file: Arc<File>,
    /// Where the first slice begins that has not been looked at.
    next: u64,
    end: u64,
    /// The ends of those that have been, and the reads of those that were not resident.
    slices: VecDeque<(u64, Option<Task<io::Result<()>>>)>,
}

impl ReadAhead {
    /// Waits until the next slice is resident; returns where it ends.
    async fn next_slice(&mut self) -> io::Result<u64> {
        self.look_ahead();
        match self.slices.pop_front() {
            Some((end, None)) => Ok(end),
            Some((end, Some(reading))) => reading.await.map(|()| end),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn look_ahead(&mut self) {
        while self.slices.len() < SLICES_AHEAD && self.next < self.end {
            let from = self.next;
            self.next = match self.end - from {
                0..=SLICE_MAX => self.end,
                _ => (from + SLICE_MAX) / SLICE_MAX * SLICE_MAX,
            };
            let reading = if is_resident(&self.machine, &self.file, from, self.next) {
                None
            } else {
                add(&self.machine.counts.sendfile_cold_slices, 1);
                let (machine, file) = (self.machine.clone(), self.file.clone());
                Some(spawn_local(bring_in(machine, file, from, self.next)))
            };
            self.slices.push_back((self.next, reading));
        }
    }
}

/// Lets the kernel read ahead of what is read of a file, or not. Where it refuses, it does as it
/// likes, which is only slower.
fn set_read_ahead(machine: &Machine, file: &File, on: bool) {
    let told = Some(file.as_raw_fd()).filter(|_| on);
    // It does so from the start, whatever file had the descriptor before.
    if machine.read_ahead_on.replace(told) == told && on {
        return;
    }
    let advice = if on {
        libc::POSIX_FADV_NORMAL
    } else {
        libc::POSIX_FADV_RANDOM
    };
    advise(file, 0, 0, advice);
}

fn advise(file: &File, at: u64, len: u64, advice: libc::c_int) {
    let (at, len) = (at as libc::off_t, len as libc::off_t);
    // SAFETY: no pointers; the descriptor is open.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), at, len, advice) };
}

/// Has a range read into the page cache, and waits until it is there.
async fn bring_in(machine: Rc<Machine>, file: Arc<File>, from: u64, to: u64) -> io::Result<()> {
    let _permit = machine.cold_reads.enter().await;
    let mut at = from;
    while at < to {
        let holds_back = machine.writing.begin_cold_read();
        let _beside_writes = match (holds_back, machine.writing.is_dense()) {
            (true, true) => Some(machine.cold_reads_beside_writes.enter().await),
            (true, false) => Some(machine.cold_reads_beside_few_writes.enter().await),
            (false, _) => None,
        };
        // Another reader of the same place may have brought it in meanwhile.
        if is_resident(&machine, &file, at, to) {
            break;
        }
        machine.fills_until.set(clock::mono().after(FILLS_LINGER));
        set_read_ahead(&machine, &file, !holds_back);
        if !holds_back {
            read(&machine, &file, at, to - at).await?;
            break;
        }
        let writing = &machine.writing;
        writing.make_way(MAKES_WAY_MAX).await;
        // To begin it takes its time too, and the write that is over is yet to be answered.
        give_way(&machine).await;
        let first = writing.piece(PIECE_AFTER_WRITE);
        let piece = writing.next_read(first, first.max(PIECE_BESIDE_WRITES_MAX));
        let end = to.min(at + piece);
        have_filled(&machine, &file, at, end).await?;
        at = end;
    }
    Ok(())
}

/// Has the kernel read a range, and waits until it is in the page cache. Nothing is copied, unless what
/// the kernel was told is not there when its last byte is.
async fn have_filled(
    machine: &Rc<Machine>,
    file: &Arc<File>,
    from: u64,
    to: u64,
) -> io::Result<()> {
    advise(file, from, to - from, libc::POSIX_FADV_WILLNEED);
    if !is_filled(file.as_raw_fd(), to - 1) {
        read(machine, file, to - 1, 1).await?;
    }
    match is_resident(machine, file, from, to) {
        true => Ok(()),
        false => read(machine, file, from, to - from).await,
    }
}

/// Reads at most a slice through the ring; nobody looks at the bytes.
async fn read(machine: &Rc<Machine>, file: &Arc<File>, mut at: u64, len: u64) -> io::Result<()> {
    let end = at + len;
    let scratch = machine.scratch.borrow_mut().pop();
    let mut scratch = scratch.unwrap_or_else(|| Buf::allocate(SLICE_MAX as usize));
    while at < end {
        let start = scratch.whole_mut().as_mut_ptr();
        let entry = opcode::Read::new(Fd(file.as_raw_fd()), start, (end - at) as u32);
        let keep = (scratch, file.clone());
        // SAFETY: the scratch is on the heap and large enough for a slice; it and the file are kept.
        let reading = unsafe { machine.ring.submit(entry.offset(at).build(), keep) };
        let (result, (kept, _)) = reading.await;
        scratch = kept;
        match checked(result)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => at += count as u64,
        }
    }
    machine.scratch.borrow_mut().push(scratch);
    Ok(())
}

/// True when all pages of the range are in the page cache, as far as can be told without waiting.
fn is_resident(machine: &Machine, file: &File, from: u64, to: u64) -> bool {
    let descriptor = file.as_raw_fd();
    let (first, last) = (from / PAGE, (to - 1) / PAGE);
    let range = CachestatRange {
        offset: first * PAGE,
        len: (last - first + 1) * PAGE,
    };
    let mut found = Cachestat::default();
    // SAFETY: both structures are as the kernel defines them and live through the call.
    let result =
        unsafe { libc::syscall(CACHESTAT, descriptor, &raw const range, &raw mut found, 0) };
    if result == 0 {
        if found.cached < last - first + 1 {
            return false;
        }
        let every = match machine.writing.is_recent() {
            true => SAMPLE_BESIDE_WRITES_EVERY,
            false => SAMPLE_EVERY,
        };
        let mut samples = (from..to).step_by(every as usize);
        let fills = clock::mono() < machine.fills_until.get();
        return is_filled(descriptor, to - 1)
            && (!fills || samples.all(|at| is_filled(descriptor, at)));
    }
    // Without cachestat each page is asked for.
    (first..=last).all(|page| is_filled(descriptor, (page * PAGE).max(from)))
}

/// True when the byte at `at` can be read without waiting.
fn is_filled(descriptor: RawFd, at: u64) -> bool {
    let mut byte = 0u8;
    let vector = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    // SAFETY: one vector that leads to one byte of a local variable.
    unsafe { libc::preadv2(descriptor, &vector, 1, at as libc::off_t, libc::RWF_NOWAIT) == 1 }
}

/// `sendfile(2)` that does not wait for the socket.
fn sendfile(socket: RawFd, file: RawFd, at: u64, len: u64) -> io::Result<u64> {
    let _guard = NonBlocking::new(socket)?;
    let mut offset = at as libc::off_t;
    // SAFETY: both descriptors are open; `offset` is a valid place.
    let sent = unsafe { libc::sendfile(socket, file, &mut offset, len as usize) };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(sent as u64)
    }
}

/// Makes a socket non-blocking for as long as it lives. The ring itself wants it blocking: with
/// `O_NONBLOCK` its operations would come back with EAGAIN instead of waiting. A socket has no other
/// flags that can be set, so they need not be asked for.
struct NonBlocking {
    socket: RawFd,
}

impl NonBlocking {
    fn new(socket: RawFd) -> io::Result<NonBlocking> {
        // SAFETY: the descriptor is open.
        if unsafe { libc::fcntl(socket, libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(NonBlocking { socket })
    }
}

impl Drop for NonBlocking {
    fn drop(&mut self) {
        // SAFETY: the descriptor is still open: it outlives the guard.
        unsafe { libc::fcntl(self.socket, libc::F_SETFL, libc::O_RDWR) };
    }
}
