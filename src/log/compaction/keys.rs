//! Where each key was last written: a table of bounded size from a key's hash to an offset.
//!
//! Keys are known by 128 bits of SipHash under a secret of this process (crate `siphasher`), so that
//! nobody who may write records can make two keys meet. An entry takes 24 bytes; a table that is full
//! takes no new keys, and the round that it belongs to ends there (apache/kafka `SkimpyOffsetMap`).

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::base::Offset;

/// Bytes that one entry takes.
pub(super) const ENTRY_BYTES: usize = 24;

/// Hash, hash, and the offset plus one; 0 there for an empty slot.
type Entry = [u64; 3];

/// Offsets by key.
#[derive(Debug)]
pub(super) struct KeyMap {
    entries: Vec<Entry>,
    len: usize,
    len_max: usize,
    secret: (u64, u64),
}

impl KeyMap {
    /// A table of `slots` slots (at least one), of which `load_factor` (0 to 1) may be used.
    pub(super) fn new(slots: usize, load_factor: f64, secret: (u64, u64)) -> KeyMap {
        let slots = slots.max(2);
        let used = (slots as f64 * load_factor) as usize;
        KeyMap {
            entries: vec![[0; 3]; slots],
            len: 0,
            // One slot stays empty: a search ends there.
            len_max: used.clamp(1, slots - 1),
            secret,
        }
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(key);
        let hash = hasher.finish128();
        (hash.h1, hash.h2)
    }

    /// The slot that has the key, or the empty one where it would go.
    fn place(&self, (first, second): (u64, u64)) -> usize {
        let slots = self.entries.len();
        // A multiplication instead of a division: the high half of hash times slots.
        let mut place = ((u128::from(first) * slots as u128) >> 64) as usize;
        loop {
            let entry = &self.entries[place];
            if entry[2] == 0 || (entry[0] == first && entry[1] == second) {
                return place;
            }
            place = if place + 1 == slots { 0 } else { place + 1 };
        }
    }

    /// Notes that `key` was written at `offset`, which is greater than before. False when there is no
    /// room for another key: nothing changed then.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = self.hash(key);
        let place = self.place(hash);
        if self.entries[place][2] == 0 {
            if self.len == self.len_max {
                return false;
            }
            self.len += 1;
        }
        self.entries[place] = [hash.0, hash.1, offset.0 as u64 + 1];
        true
    }

    /// Where `key` was last written, if it was.
    pub(super) fn last(&self, key: &[u8]) -> Option<Offset> {
        let stored = self.entries[self.place(self.hash(key))][2];
        stored.checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// How full it is, in percent of what may be used.
    pub(super) fn percent_full(&self) -> u32 {
        (self.len * 100 / self.len_max) as u32
    }

    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.entries.len() * ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_found_and_a_full_table_takes_no_new_key() {
        let mut keys = KeyMap::new(1000, 0.9, (1, 2));
        let mut taken = 0;
        for n in 0..2000i64 {
            let fits = keys.put(&n.to_be_bytes(), Offset(n));
            assert_eq!(fits, n < 900, "{n}");
            taken += i64::from(fits);
        }
        assert_eq!((taken, keys.percent_full()), (900, 100));
        for n in 0..900i64 {
            assert!(
                keys.put(&n.to_be_bytes(), Offset(5000 + n)),
                "known keys move"
            );
        }
        for n in 0..2000i64 {
            let expected = (n < 900).then_some(Offset(5000 + n));
            assert_eq!(keys.last(&n.to_be_bytes()), expected);
        }
    }

    #[test]
    fn the_smallest_table_holds_one_key_and_offset_zero_is_an_offset() {
        let mut keys = KeyMap::new(0, 0.9, (7, 7));
        assert_eq!(keys.last(b"a"), None);
        assert!(keys.put(b"a", Offset(0)));
        assert!(!keys.put(b"", Offset(1)));
        assert_eq!(keys.last(b"a"), Some(Offset(0)));
        assert_eq!(keys.bytes(), 48);
    }
}
