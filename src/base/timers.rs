//! All deadlines of one owner as data: a table from key to time, with the earliest at hand.

use std::collections::{BTreeMap, BTreeSet};

use super::Mono;

/// At most one deadline for each key.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    by_key: BTreeMap<K, Mono>,
    by_time: BTreeSet<(Mono, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Timers<K> {
        Timers {
            by_key: BTreeMap::new(),
            by_time: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets or moves the deadline of `key`.
    pub fn set(&mut self, key: K, at: Mono) {
        if let Some(before) = self.by_key.insert(key.clone(), at) {
            self.by_time.remove(&(before, key.clone()));
        }
        self.by_time.insert((at, key));
    }

    /// Removes the deadline of `key`, if it has one.
    pub fn cancel(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    /// The deadline of `key`.
    pub fn get(&self, key: &K) -> Option<Mono> {
        self.by_key.get(key).copied()
    }

    /// The earliest deadline of all.
    pub fn next(&self) -> Option<Mono> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Removes and returns one key whose deadline is `now` or earlier, the earliest first.
    pub fn pop_due(&mut self, now: Mono) -> Option<K> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// How many deadlines are set.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// True when no deadline is set.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_deadline_fires_once_at_its_new_time() {
        let mut timers = Timers::default();
        timers.set("a", Mono(5));
        timers.set("b", Mono(7));
        timers.set("a", Mono(9));
        assert_eq!(timers.next(), Some(Mono(7)));
        assert_eq!(timers.pop_due(Mono(6)), None);
        assert_eq!(timers.pop_due(Mono(9)), Some("b"));
        assert_eq!(timers.pop_due(Mono(9)), Some("a"));
        assert!(timers.is_empty());
    }
}
