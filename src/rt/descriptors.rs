//! The open files of one shard: a bounded cache, the least recently used closed first.
//!
//! Who holds a file keeps it open beyond its place in the cache. Knows no ring.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use crate::base::FilePath;

/// The two ways a file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Reading and writing past the page cache.
    Direct,
    /// Reading through the page cache.
    Buffered,
}

struct Place {
    file: Arc<File>,
    used: u64,
}

/// Files by name and access.
pub(super) struct Descriptors {
    limit: usize,
    places: BTreeMap<(FilePath, Access), Place>,
    by_use: BTreeMap<u64, (FilePath, Access)>,
    uses: u64,
    /// Grows whenever names change: a file opened before is not put in after.
    generation: u64,
}

impl Descriptors {
    /// A cache of at most `limit` (at least one) open files.
    pub(super) fn new(limit: usize) -> Descriptors {
        let (places, by_use) = (BTreeMap::new(), BTreeMap::new());
        Descriptors {
            limit: limit.max(1),
            places,
            by_use,
            uses: 0,
            generation: 0,
        }
    }

    /// The open file, now the most recently used.
    pub(super) fn get(&mut self, path: &FilePath, access: Access) -> Option<Arc<File>> {
        let key = (path.clone(), access);
        let place = self.places.get_mut(&key)?;
        self.uses += 1;
        self.by_use.remove(&place.used);
        place.used = self.uses;
        self.by_use.insert(self.uses, key);
        Some(place.file.clone())
    }

    /// To be taken before a file is opened, and given to [`Descriptors::insert`].
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Keeps an open file, closing the least recently used if there are too many. Does nothing if
    /// names have changed since `generation`: it might be open under a name that it lost.
    pub(super) fn insert(
        &mut self,
        path: FilePath,
        access: Access,
        file: Arc<File>,
        generation: u64,
    ) {
        if generation != self.generation {
            return;
        }
        let key = (path, access);
        self.remove(&key);
        while self.places.len() >= self.limit {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.places.remove(&oldest);
        }
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        self.places.insert(
            key,
            Place {
                file,
                used: self.uses,
            },
        );
    }

    fn remove(&mut self, key: &(FilePath, Access)) {
        if let Some(place) = self.places.remove(key) {
            self.by_use.remove(&place.used);
        }
    }

    /// Forgets a file, or a directory and all below it.
    pub(super) fn forget(&mut self, path: &FilePath) {
        self.generation += 1;
        self.remove(&(path.clone(), Access::Direct));
        self.remove(&(path.clone(), Access::Buffered));
        let prefix = if path.path.is_empty() {
            String::new()
        } else {
            format!("{}/", path.path)
        };
        let first = (FilePath::new(path.disk, &prefix), Access::Direct);
        let below = self.places.range(first..).map(|(key, _)| key);
        let is_below = |key: &&(FilePath, Access)| {
            key.0.disk == path.disk && key.0.path.starts_with(prefix.as_str())
        };
        let below: Vec<_> = below.take_while(is_below).cloned().collect();
        below.iter().for_each(|key| self.remove(key));
    }

    /// How many files the cache holds open.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> Arc<File> {
        Arc::new(File::open("/dev/null").expect("/dev/null"))
    }

    #[test]
    fn the_least_recently_used_file_is_closed_first() {
        let mut open = Descriptors::new(2);
        let path = |name| FilePath::new(0, name);
        for name in ["a", "b"] {
            open.insert(path(name), Access::Direct, null(), 0);
        }
        assert!(open.get(&path("a"), Access::Direct).is_some());
        open.insert(path("c"), Access::Direct, null(), 0);
        assert_eq!(open.len(), 2);
        assert!(open.get(&path("b"), Access::Direct).is_none());
        assert!(open.get(&path("a"), Access::Direct).is_some());
    }

    #[test]
    fn forgetting_a_directory_forgets_what_is_below_it_and_nothing_beside_it() {
        let mut open = Descriptors::new(9);
        for name in [
            "t-1/0.log",
            "t-1/5.log",
            "t-10/0.log",
            "t-1.x",
            "t-1-delete",
        ] {
            open.insert(FilePath::new(0, name), Access::Buffered, null(), 0);
        }
        open.insert(FilePath::new(1, "t-1/0.log"), Access::Buffered, null(), 0);
        open.forget(&FilePath::new(0, "t-1"));
        assert_eq!(open.len(), 4);
        assert!(
            open.get(&FilePath::new(0, "t-1/0.log"), Access::Buffered)
                .is_none()
        );
        assert!(
            open.get(&FilePath::new(0, "t-10/0.log"), Access::Buffered)
                .is_some()
        );
    }

    #[test]
    fn a_file_opened_before_a_rename_is_not_kept_after_it() {
        let mut open = Descriptors::new(9);
        let before = open.generation();
        open.forget(&FilePath::new(0, "a"));
        open.insert(FilePath::new(0, "a"), Access::Direct, null(), before);
        assert_eq!(open.len(), 0);
    }
}
