//! Which blocks of a stretch of memory are free: numbers only, the memory is [`super::Pool`]'s.
//!
//! The stretch is cut into chunks of one huge page. A chunk is cut into blocks of one size when it
//! is first needed for that size, and belongs to all sizes again once its last block is back, so
//! that no share of the memory is bound to a size that nobody asks for. What was used last is used
//! next, which keeps the pages that were never touched untouched.

use super::buf::BLOCK;

/// What a size takes from the stretch at a time: a huge page of x86-64 and of most others.
pub(super) const CHUNK: usize = 2 << 20;
/// Block sizes are powers of two from [`BLOCK`] to [`CHUNK`].
const CLASSES: usize = (CHUNK / BLOCK).ilog2() as usize + 1;
const WORDS: usize = (CHUNK / BLOCK).div_ceil(64);

/// Which size blocks of at least `capacity` bytes have; none above [`CHUNK`].
fn class_of(capacity: usize) -> Option<usize> {
    let blocks = capacity.max(1).div_ceil(BLOCK).next_power_of_two();
    Some(blocks.ilog2() as usize).filter(|class| *class < CLASSES)
}

/// Bytes of a block of this class.
const fn block_bytes(class: usize) -> usize {
    BLOCK << class
}

struct Chunk {
    class: usize,
    used: usize,
    /// A bit for each block, set while it is free.
    free: [u64; WORDS],
    /// Where the chunk stands in the list of its class, while it has a free block.
    place: usize,
}

/// The books of one stretch.
pub(super) struct Ledger {
    chunks: Vec<Chunk>,
    /// Chunks without a block in use.
    whole: Vec<usize>,
    /// Chunks with blocks in use and blocks free, by class.
    open: [Vec<usize>; CLASSES],
}

impl Ledger {
    /// All of `chunks` chunks are free.
    pub(super) fn new(chunks: usize) -> Ledger {
        let chunk = |_| Chunk {
            class: 0,
            used: 0,
            free: [0; WORDS],
            place: 0,
        };
        Ledger {
            chunks: (0..chunks).map(chunk).collect(),
            whole: (0..chunks).rev().collect(),
            open: Default::default(),
        }
    }

    /// A block of at least `capacity` bytes: where it begins and its size; none if there is none.
    pub(super) fn take(&mut self, capacity: usize) -> Option<(usize, usize)> {
        let class = class_of(capacity)?;
        let index = match self.open[class].last() {
            Some(index) => *index,
            None => self.cut(class)?,
        };
        let chunk = &mut self.chunks[index];
        let word = chunk.free.iter().position(|word| *word != 0)?;
        let bit = chunk.free[word].trailing_zeros() as usize;
        chunk.free[word] &= !(1 << bit);
        chunk.used += 1;
        if chunk.used == CHUNK / block_bytes(class) {
            self.close(index);
        }
        let size = block_bytes(class);
        Some((index * CHUNK + (word * 64 + bit) * size, size))
    }

    /// The block that begins at `at` is free again.
    pub(super) fn give_back(&mut self, at: usize) {
        let index = at / CHUNK;
        let chunk = &mut self.chunks[index];
        let block = at % CHUNK / block_bytes(chunk.class);
        let (word, bit) = (block / 64, 1 << (block % 64));
        assert!(chunk.free[word] & bit == 0, "block {at} was free already");
        let was_full = chunk.used == CHUNK / block_bytes(chunk.class);
        chunk.free[word] |= bit;
        chunk.used -= 1;
        let is_whole = chunk.used == 0;
        match (was_full, is_whole) {
            (true, false) => self.reopen(index),
            (false, true) => self.close(index),
            (true, true) | (false, false) => {}
        }
        if is_whole {
            self.whole.push(index);
        }
    }

    fn cut(&mut self, class: usize) -> Option<usize> {
        let index = self.whole.pop()?;
        let blocks = CHUNK / block_bytes(class);
        let chunk = &mut self.chunks[index];
        chunk.class = class;
        for (word, bits) in chunk.free.iter_mut().enumerate() {
            let here = blocks.saturating_sub(word * 64).min(64);
            *bits = if here == 64 {
                u64::MAX
            } else {
                (1 << here) - 1
            };
        }
        self.reopen(index);
        Some(index)
    }

    fn reopen(&mut self, index: usize) {
        let open = &mut self.open[self.chunks[index].class];
        self.chunks[index].place = open.len();
        open.push(index);
    }

    fn close(&mut self, index: usize) {
        let Chunk { class, place, .. } = self.chunks[index];
        self.open[class].swap_remove(place);
        if let Some(moved) = self.open[class].get(place) {
            self.chunks[*moved].place = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::Prng;

    #[test]
    fn blocks_never_overlap_and_all_of_the_memory_comes_back() {
        let (mut ledger, mut prng) = (Ledger::new(4), Prng::new(1));
        let mut held: BTreeMap<usize, usize> = BTreeMap::new();
        for _ in 0..200_000 {
            if prng.one_in(2) {
                let wanted = 1 << prng.below(22);
                let Some((at, size)) = ledger.take(wanted) else {
                    continue;
                };
                assert!(size >= wanted && at + size <= 4 * CHUNK);
                let before = held.range(..=at).next_back();
                assert!(before.is_none_or(|(other, len)| other + len <= at));
                let after = held.range(at..).next();
                assert!(after.is_none_or(|(other, _)| at + size <= *other));
                held.insert(at, size);
            } else if !held.is_empty() {
                let index = prng.below(held.len() as u64) as usize;
                let at = *held.keys().nth(index).expect("one of them");
                held.remove(&at);
                ledger.give_back(at);
            }
        }
        held.keys().for_each(|at| ledger.give_back(*at));
        let all: Vec<_> = (0..5).map(|_| ledger.take(CHUNK)).collect();
        assert_eq!(all.iter().flatten().count(), 4);
    }

    #[test]
    fn what_is_larger_than_a_chunk_is_not_served() {
        assert_eq!(Ledger::new(4).take(CHUNK + 1), None);
        assert_eq!(Ledger::new(4).take(0), Some((0, BLOCK)));
    }
}
