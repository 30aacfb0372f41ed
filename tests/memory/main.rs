//! What the paths of a produce and of a fetch allocate: a count for each request and batch, none for
//! each record.

#[path = "../support/one_core.rs"]
mod one_core;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use one_core::{CACHE_BYTES_MAX, OneCore, batch};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting the calls of each thread.
struct Counting;

// SAFETY: everything is left to the system's allocator; the counter does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations a produce of one batch costs, from the request to its durable answer. The
/// median of many, since tables grow now and then.
fn allocations(records: usize, bytes: usize) -> u64 {
    let mut core = OneCore::start(1);
    let (partition, batch) = (core.partitions[0], batch(records, bytes));
    let mut counts: Vec<u64> = (0..500)
        .map(|_| {
            let batches = vec![(partition, batch.clone())];
            let before = ALLOCATIONS.get();
            core.produce(batches);
            ALLOCATIONS.get() - before
        })
        .collect();
    counts.sort();
    counts[counts.len() / 2]
}

#[test]
fn a_produce_allocates_the_same_for_one_record_and_for_a_hundred() {
    let (one, hundred) = (allocations(1, 100), allocations(100, 100));
    assert_eq!(one, hundred);
    println!("{one} allocations a request");
}

#[test]
fn a_produce_allocates_little_for_each_request() {
    let count = allocations(10, 1024);
    assert!(count <= ALLOCATIONS_MAX, "{count} allocations");
}

/// The request's list of batches and the write's shared buffer, with some room.
const ALLOCATIONS_MAX: u64 = 6;

/// How many allocations a fetch of one batch from memory costs, from the request to its answer.
fn fetch_allocations(records: usize) -> u64 {
    let mut core = OneCore::start(1);
    let (partition, batch) = (core.partitions[0], batch(records, 100));
    for _ in 0..100 {
        core.produce(vec![(partition, batch.clone())]);
    }
    let mut counts: Vec<u64> = (0..100)
        .map(|index| {
            let before = ALLOCATIONS.get();
            let size = core.read(partition, index * records as i64, batch.len());
            let count = ALLOCATIONS.get() - before;
            assert_eq!(size, batch.len());
            count
        })
        .collect();
    counts.sort();
    counts[counts.len() / 2]
}

#[test]
fn a_fetch_allocates_the_same_for_one_record_and_for_a_hundred() {
    let (one, hundred) = (fetch_allocations(1), fetch_allocations(100));
    assert_eq!(one, hundred);
    assert!(one <= 8, "{one} allocations a request");
    println!("{one} allocations a request");
}

#[test]
fn the_cache_keeps_to_its_budget_however_much_is_produced() {
    let (mut core, batch) = (OneCore::start(3), batch(63, 1024));
    for number in 0..3 * CACHE_BYTES_MAX / batch.len() {
        let partition = core.partitions[number % 3];
        core.produce(vec![(partition, batch.clone())]);
    }
    let (held, counted) = core.cached_bytes();
    assert_eq!(held, counted);
    assert!(held <= CACHE_BYTES_MAX, "{held} bytes");
    assert!(held > CACHE_BYTES_MAX / 2, "{held} bytes");
}
