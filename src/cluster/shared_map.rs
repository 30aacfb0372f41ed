//! A map that is cheap to copy and cheap to change after a copy: the entries are spread over a
//! fixed number of ordered maps, each shared until it is written to.
//!
//! A copy costs one pointer; the first change after it costs the list of shards and one shard, so
//! that making 10,000 topics one by one, each with its own published image, stays far from
//! quadratic (some 40 entries are copied for each). Order of iteration is fixed, but not sorted.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// With 10,000 entries a shard has 40.
const SHARDS: usize = 256;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct SharedMap<K, V> {
    shards: Arc<Vec<Arc<BTreeMap<K, V>>>>,
    len: usize,
}

/// FNV-1a: the same in every run, unlike std's default. Not against an attacker: who floods one
/// shard only makes it an ordinary ordered map.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    key.hash(&mut hasher);
    let hash = hasher.finish();
    ((hash ^ (hash >> 32)) % SHARDS as u64) as usize
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        let empty = Arc::new(BTreeMap::new());
        SharedMap {
            shards: Arc::new(vec![empty; SHARDS]),
            len: 0,
        }
    }
}

impl<K: Ord + Hash + Clone, V: Clone> SharedMap<K, V> {
    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.shards[shard_of(key)].get(key)
    }

    fn shard_mut<Q: Hash + ?Sized>(&mut self, key: &Q) -> &mut BTreeMap<K, V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[shard_of(key)])
    }

    /// The value to change; none if there is none (then nothing is copied).
    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.get(key)?;
        self.shard_mut(key).get_mut(key)
    }

    /// Gives what was there before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = self.shard_mut(&key).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub(super) fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + Hash + ?Sized,
    {
        self.get(key)?;
        let before = self.shard_mut(key).remove(key);
        self.len -= usize::from(before.is_some());
        before
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &SharedMap<K, V>) -> bool {
        self.shards == other.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_later_changes_and_shares_what_did_not_change() {
        let mut map = SharedMap::default();
        for key in 0..1000u32 {
            map.insert(key, key);
        }
        let copy = map.clone();
        map.insert(7, 70);
        map.remove(&8);
        assert_eq!((copy.get(&7), map.get(&7)), (Some(&7), Some(&70)));
        assert_eq!((copy.len(), map.len()), (1000, 999));
        let same = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
        let shared = copy
            .shards
            .iter()
            .zip(map.shards.iter())
            .filter(|pair| same(*pair))
            .count();
        assert!(shared >= SHARDS - 2, "{shared} shards are still shared");
        assert_eq!(map.iter().count(), 999);
    }
}
