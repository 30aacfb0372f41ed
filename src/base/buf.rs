//! Memory aligned for O_DIRECT, and the pool it comes from.
//!
//! The one file below the water-line with `unsafe`: the allocation of aligned blocks and the views
//! over them. A [`Buf`] is always initialised memory, so reading any of it is sound.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam::queue::{ArrayQueue, SegQueue};

use super::ledger::{CHUNK, Ledger};

/// The unit of O_DIRECT writes: offsets, lengths and addresses are multiples of it.
pub const BLOCK: usize = 4096;

/// A block of memory, aligned to [`BLOCK`], its capacity a multiple of it. Derefs to the `len`
/// bytes that are filled; the rest, up to the capacity, is initialised but stale.
pub struct Buf {
    start: NonNull<u8>,
    len: usize,
    capacity: usize,
    home: Option<Arc<Slab>>,
}

// SAFETY: a Buf owns its memory alone; nothing in it is tied to a thread, and the books of the slab
// it may return to are reached through queues made for many threads.
unsafe impl Send for Buf {}
// SAFETY: a shared Buf only gives out shared views; every change needs `&mut`.
unsafe impl Sync for Buf {}

impl Buf {
    /// A block from the heap with at least `capacity` bytes, of which none are filled.
    pub fn allocate(capacity: usize) -> Buf {
        let capacity = capacity.max(1).next_multiple_of(BLOCK);
        let start = allocate_blocks(capacity, BLOCK);
        Buf {
            start,
            len: 0,
            capacity,
            home: None,
        }
    }

    /// A block from the heap that holds a copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Buf {
        let mut buf = Buf::allocate(bytes.len());
        buf.extend_from_slice(bytes);
        buf
    }

    /// How many bytes it can hold: a multiple of [`BLOCK`].
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many more bytes fit.
    pub fn spare(&self) -> usize {
        self.capacity - self.len
    }

    /// True when it was cut from a pool's stretch and goes back there.
    pub fn is_pooled(&self) -> bool {
        self.home.is_some()
    }

    /// Appends `bytes`, which must fit in [`Buf::spare`].
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        assert!(
            bytes.len() <= self.spare(),
            "{} {}",
            bytes.len(),
            self.spare()
        );
        let at = self.len;
        self.len += bytes.len();
        self[at..].copy_from_slice(bytes);
    }

    /// Fills with zeros up to the next multiple of [`BLOCK`].
    pub fn pad_to_block(&mut self) {
        let at = self.len;
        self.len = self.len.next_multiple_of(BLOCK);
        self[at..].fill(0);
    }

    /// Declares the first `len` bytes filled; what was there before shows through.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity, "{len} {}", self.capacity);
        self.len = len;
    }

    /// All of the capacity, filled or not, for a read to land in.
    pub fn whole_mut(&mut self) -> &mut [u8] {
        // SAFETY: `start` points at `capacity` initialised bytes that this Buf owns alone, and the
        // borrow of self lasts as long as the view.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity) }
    }

    /// The address of the first byte, for the kernel.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// A reference-counted view of `shared[from..to]`; the block lives as long as the view.
    pub fn slice(shared: &Arc<Buf>, from: usize, to: usize) -> Bytes {
        struct Shared(Arc<Buf>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        Bytes::from_owner(Shared(shared.clone())).slice(from..to)
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points at `capacity >= len` initialised bytes owned by this Buf.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the view the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} of {} bytes)", self.len, self.capacity)
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        match self.home.take() {
            Some(slab) => slab.give_back(self.start),
            // SAFETY: without a home the memory came from `allocate_blocks` with this capacity.
            None => unsafe { dealloc(self.start.as_ptr(), layout(self.capacity, BLOCK)) },
        }
    }
}

fn layout(capacity: usize, alignment: usize) -> Layout {
    Layout::from_size_align(capacity, alignment).expect("a capacity below isize::MAX")
}

fn allocate_blocks(capacity: usize, alignment: usize) -> NonNull<u8> {
    let layout = layout(capacity, alignment);
    // SAFETY: the layout is not empty: capacities are at least one block.
    let start = unsafe { alloc_zeroed(layout) };
    NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
}

/// One stretch of memory that blocks are cut from. Lives until its pool and the last of its blocks
/// are gone; blocks may be dropped on any thread.
struct Slab {
    start: NonNull<u8>,
    size: usize,
    /// The books, or nothing while somebody writes in them. Nobody waits for them.
    books: ArrayQueue<Box<Ledger>>,
    /// Blocks that came back while the books were out.
    returned: SegQueue<usize>,
}

// SAFETY: the memory is only reached through the blocks cut from it, each owned by one Buf.
unsafe impl Send for Slab {}
// SAFETY: as above; the queues are made for many threads.
unsafe impl Sync for Slab {}

impl Slab {
    /// None if another thread has the books.
    fn with_books<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
        let mut books = self.books.pop()?;
        while let Some(at) = self.returned.pop() {
            books.give_back(at);
        }
        let result = work(&mut books);
        let _ = self.books.push(books);
        Some(result)
    }

    fn give_back(&self, start: NonNull<u8>) {
        let at = start.as_ptr() as usize - self.start.as_ptr() as usize;
        if self.with_books(|books| books.give_back(at)).is_none() {
            self.returned.push(at);
        }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: `start` came from `allocate_blocks` with this size and alignment; no block is
        // left, each holds an Arc.
        unsafe { dealloc(self.start.as_ptr(), layout(self.size, CHUNK)) }
    }
}

/// Where a core takes its blocks from: a stretch of fixed size first, the heap when that is used
/// up. What comes back is used again as it is: no page of it is ever cleared or faulted in twice,
/// which costs more than all that is done to a batch (a quarter of the produce path's time when
/// each write had fresh memory). Memory is taken from the system only when it is first used.
#[derive(Clone)]
pub struct Pool {
    slab: Arc<Slab>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool of {} bytes", self.slab.size)
    }
}

impl Pool {
    /// A pool over a stretch of `size` bytes, rounded up to whole huge pages.
    pub fn new(size: usize) -> Pool {
        let chunks = size.div_ceil(CHUNK).max(1);
        let size = chunks * CHUNK;
        let books = ArrayQueue::new(1);
        let _ = books.push(Box::new(Ledger::new(chunks)));
        Pool {
            slab: Arc::new(Slab {
                start: allocate_blocks(size, CHUNK),
                size,
                books,
                returned: SegQueue::new(),
            }),
        }
    }

    /// A block of at least `capacity` bytes, none filled: from the stretch if a fitting one is
    /// free, else from the heap.
    pub fn take(&self, capacity: usize) -> Buf {
        let taken = self.slab.with_books(|books| books.take(capacity));
        let Some((at, capacity)) = taken.flatten() else {
            return Buf::allocate(capacity);
        };
        // SAFETY: `at` is an offset inside the stretch, and `capacity` bytes from there are nobody
        // else's until they are given back.
        let start = unsafe { self.slab.start.add(at) };
        Buf {
            start,
            len: 0,
            capacity,
            home: Some(self.slab.clone()),
        }
    }

    /// The whole stretch: its address and size in bytes.
    pub fn region(&self) -> (*const u8, usize) {
        (self.slab.start.as_ptr(), self.slab.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_come_back_to_their_pool() {
        let pool = Pool::new(4 << 20);
        let first = pool.take(200 << 10);
        assert!(first.is_pooled());
        assert_eq!(
            (first.as_ptr() as usize % BLOCK, first.capacity()),
            (0, 256 << 10)
        );
        let held: Vec<Buf> = (0..4).map(|_| pool.take(1 << 20)).collect();
        assert_eq!(held.iter().filter(|buf| buf.is_pooled()).count(), 2);
        drop(held);
        assert!(pool.take(1 << 20).is_pooled());
    }

    #[test]
    fn a_view_keeps_its_block_alive_and_padding_is_zero() {
        let mut buf = Buf::copy_of(&[7; 5000]);
        buf.pad_to_block();
        assert_eq!(buf.len(), 8192);
        assert!(buf[5000..].iter().all(|byte| *byte == 0));
        let shared = Arc::new(buf);
        let view = Buf::slice(&shared, 10, 20);
        drop(shared);
        assert_eq!(&view[..], &[7; 10]);
    }
}
