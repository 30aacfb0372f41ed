//! A file tree that remembers two things of everything: what the kernel shows, and what would be
//! there after a power cut. Follows the rules of [`crate::base::disk`].

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::base::{BLOCK, DirectoryEntry, FilePath, Prng};

/// What a disk writes as one.
const SECTOR: usize = 512;

/// One block of a file.
type Block = Rc<[u8; BLOCK]>;

/// The bytes of a file; blocks that were never written read as zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    size: u64,
    blocks: BTreeMap<u64, Block>,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Up to `len` bytes at `at`; fewer at the end of the file.
    pub(super) fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let to = (at + len as u64).min(self.size);
        let mut bytes = vec![0; to.saturating_sub(at) as usize];
        let mut from = at;
        while from < to {
            let (number, skip) = (from / BLOCK as u64, (from % BLOCK as u64) as usize);
            let part = (BLOCK - skip).min((to - from) as usize);
            if let Some(block) = self.blocks.get(&number) {
                let place = (from - at) as usize;
                bytes[place..place + part].copy_from_slice(&block[skip..skip + part]);
            }
            from += part as u64;
        }
        bytes
    }

    fn put(&mut self, number: u64, block: Block) {
        self.size = self.size.max((number + 1) * BLOCK as u64);
        self.blocks.insert(number, block);
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            let whole = size / BLOCK as u64;
            let rest = (size % BLOCK as u64) as usize;
            drop(self.blocks.split_off(&(whole + u64::from(rest > 0))));
            if rest > 0
                && let Some(block) = self.blocks.get_mut(&whole)
            {
                Rc::make_mut(block)[rest..].fill(0);
            }
        }
        self.size = size;
    }

    fn of(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        for (number, chunk) in bytes.chunks(BLOCK).enumerate() {
            let mut block = [0; BLOCK];
            block[..chunk.len()].copy_from_slice(chunk);
            content.blocks.insert(number as u64, Rc::new(block));
        }
        content.size = bytes.len() as u64;
        content
    }
}

#[derive(Clone, Debug, Default)]
struct File {
    now: Content,
    stable: Content,
    /// Blocks that were written and not synced, in order.
    unsynced: Vec<(u64, Block)>,
}

impl File {
    fn sync(&mut self) {
        self.stable = self.now.clone();
        self.unsynced.clear();
    }

    /// Sectors of what was not synced arrive or not, in any order.
    fn cut_power(&mut self, prng: &mut Prng) {
        let size = if prng.one_in(2) {
            self.now.size
        } else {
            self.stable.size
        };
        let size = size.max(self.stable.size);
        let style = prng.below(4);
        let stop = prng.below(self.unsynced.len() as u64 + 1) as usize;
        for (index, (number, block)) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            let mut kept = self
                .stable
                .blocks
                .get(&number)
                .map_or([0; BLOCK], |block| **block);
            for sector in 0..BLOCK / SECTOR {
                let arrives = match style {
                    0 => false,
                    1 => index < stop || (index == stop && prng.one_in(2)),
                    2 => index >= stop,
                    _ => prng.one_in(2),
                };
                if arrives {
                    let range = sector * SECTOR..(sector + 1) * SECTOR;
                    kept[range.clone()].copy_from_slice(&block[range]);
                }
            }
            if number * (BLOCK as u64) < size {
                self.stable.blocks.insert(number, Rc::new(kept));
            }
        }
        self.stable.size = self.stable.size.max(size);
        self.now = self.stable.clone();
    }
}

/// A file's identity: it keeps it through renames, and after its last name is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(Inode),
    Directory(Inode),
}

#[derive(Clone, Debug, Default)]
struct Directory {
    now: BTreeMap<String, Node>,
    stable: BTreeMap<String, Node>,
}

/// The data directories and all that is in them.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    files: BTreeMap<Inode, File>,
    directories: BTreeMap<Inode, Directory>,
    disks: u16,
    next: u64,
}

impl Files {
    /// Empty data directories.
    pub(super) fn new(disks: u16) -> Files {
        let mut files = Files {
            next: u64::from(disks),
            disks,
            ..Files::default()
        };
        for disk in 0..disks {
            files
                .directories
                .insert(Inode(u64::from(disk)), Directory::default());
        }
        files
    }

    fn node(&self, path: &FilePath) -> Option<Node> {
        let mut node = Node::Directory(Inode(u64::from(path.disk)));
        for part in path.path.split('/').filter(|part| !part.is_empty()) {
            let Node::Directory(inode) = node else {
                return None;
            };
            node = *self.directories.get(&inode)?.now.get(part)?;
        }
        Some(node)
    }

    fn directory(&self, path: &FilePath) -> Option<Inode> {
        match self.node(path)? {
            Node::Directory(inode) => Some(inode),
            Node::File(_) => None,
        }
    }

    /// True when a directory of this name is there.
    pub(super) fn is_directory(&self, path: &FilePath) -> bool {
        self.directory(path).is_some()
    }

    /// The file of this name.
    pub(super) fn file(&self, path: &FilePath) -> Option<Inode> {
        match self.node(path)? {
            Node::File(inode) => Some(inode),
            Node::Directory(_) => None,
        }
    }

    /// What the kernel shows of a file.
    pub(super) fn content(&self, inode: Inode) -> &Content {
        &self.files[&inode].now
    }

    fn new_inode(&mut self) -> Inode {
        self.next += 1;
        Inode(self.next)
    }

    /// The file of this name, made if it is missing; none if its directory is.
    pub(super) fn create(&mut self, path: &FilePath) -> Option<Inode> {
        if let Some(node) = self.node(path) {
            return match node {
                Node::File(inode) => Some(inode),
                Node::Directory(_) => None,
            };
        }
        let parent = self.directory(&path.parent())?;
        let inode = self.new_inode();
        self.files.insert(inode, File::default());
        self.enter(parent, path.name(), Some(Node::File(inode)));
        Some(inode)
    }

    fn enter(&mut self, directory: Inode, name: &str, node: Option<Node>) {
        let Some(directory) = self.directories.get_mut(&directory) else {
            return;
        };
        match node {
            Some(node) => directory.now.insert(name.to_owned(), node),
            None => directory.now.remove(name),
        };
    }

    fn sync_names(&mut self, directory: Inode) {
        if let Some(directory) = self.directories.get_mut(&directory) {
            directory.stable = directory.now.clone();
        }
    }

    /// Writes whole blocks.
    pub(super) fn write(&mut self, inode: Inode, at: u64, data: &[u8], durable: bool) {
        let Some(file) = self.files.get_mut(&inode) else {
            return;
        };
        for (index, chunk) in data.chunks_exact(BLOCK).enumerate() {
            let number = at / BLOCK as u64 + index as u64;
            let mut block = [0; BLOCK];
            block.copy_from_slice(chunk);
            let block = Rc::new(block);
            file.now.put(number, block.clone());
            if durable {
                file.unsynced.retain(|(other, _)| *other != number);
                file.stable.put(number, block);
            } else {
                file.unsynced.push((number, block));
            }
        }
        if durable {
            // The size goes with it as it is now: also what was allocated before.
            file.stable.size = file.now.size;
        }
    }

    /// Contents and size onto stable storage.
    pub(super) fn sync(&mut self, inode: Inode) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.sync();
        }
    }

    /// Makes the file at least `size` bytes long.
    pub(super) fn allocate(&mut self, inode: Inode, size: u64) {
        if let Some(file) = self.files.get_mut(&inode)
            && file.now.size < size
        {
            file.now.resize(size);
        }
    }

    /// Cuts the file, durably.
    pub(super) fn truncate(&mut self, inode: Inode, size: u64) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.now.resize(size);
            file.stable.resize(size);
            let blocks = size.div_ceil(BLOCK as u64);
            file.unsynced.retain(|(number, _)| *number < blocks);
            let rest = (size % BLOCK as u64) as usize;
            for (number, block) in &mut file.unsynced {
                if *number == size / BLOCK as u64 {
                    Rc::make_mut(block)[rest..].fill(0);
                }
            }
        }
    }

    /// Replaces a small file durably; false if its directory is missing.
    pub(super) fn replace(&mut self, path: &FilePath, contents: &[u8]) -> bool {
        let Some(parent) = self.directory(&path.parent()) else {
            return false;
        };
        let inode = self.new_inode();
        let content = Content::of(contents);
        let file = File {
            now: content.clone(),
            stable: content,
            unsynced: Vec::new(),
        };
        self.files.insert(inode, file);
        self.enter(parent, path.name(), Some(Node::File(inode)));
        self.sync_names(parent);
        true
    }

    /// Makes a directory and its parents, durably.
    pub(super) fn make_directory(&mut self, path: &FilePath) -> bool {
        if let Some(node) = self.node(path) {
            return matches!(node, Node::Directory(_));
        }
        if !self.make_directory(&path.parent()) {
            return false;
        }
        let Some(parent) = self.directory(&path.parent()) else {
            return false;
        };
        let inode = self.new_inode();
        self.directories.insert(inode, Directory::default());
        self.enter(parent, path.name(), Some(Node::Directory(inode)));
        self.sync_names(parent);
        true
    }

    /// Another name, durably; false if there is nothing of the old one.
    pub(super) fn rename(&mut self, from: &FilePath, to: &FilePath) -> bool {
        let parents = (self.directory(&from.parent()), self.directory(&to.parent()));
        let (Some(node), (Some(old), Some(new))) = (self.node(from), parents) else {
            return false;
        };
        self.enter(old, from.name(), None);
        self.enter(new, to.name(), Some(node));
        self.sync_names(old);
        self.sync_names(new);
        true
    }

    /// Takes a file's name away, for now.
    pub(super) fn remove(&mut self, path: &FilePath) {
        if let (Some(Node::File(_)), Some(parent)) =
            (self.node(path), self.directory(&path.parent()))
        {
            self.enter(parent, path.name(), None);
        }
    }

    /// Takes a directory away with what is in it; of a part of it when `whole` is false.
    pub(super) fn remove_directory(&mut self, path: &FilePath, whole: bool, prng: &mut Prng) {
        let (Some(inode), Some(parent)) = (self.directory(path), self.directory(&path.parent()))
        else {
            return;
        };
        let names: Vec<String> = self.directories[&inode].now.keys().cloned().collect();
        for name in names {
            if whole || prng.one_in(2) {
                self.enter(inode, &name, None);
            }
        }
        if whole {
            self.enter(parent, path.name(), None);
        }
    }

    /// The names in a directory; none if it is missing.
    pub(super) fn list(&self, path: &FilePath) -> Vec<DirectoryEntry> {
        let Some(inode) = self.directory(path) else {
            return Vec::new();
        };
        let entries = self.directories[&inode]
            .now
            .iter()
            .map(|(name, node)| DirectoryEntry {
                name: name.clone(),
                is_directory: matches!(node, Node::Directory(_)),
                size: match node {
                    Node::File(inode) => self.files[inode].now.size,
                    Node::Directory(_) => 0,
                },
            });
        entries.collect()
    }

    /// The files one directory below the data directories whose names are `wanted`, in order.
    pub(super) fn paths(&self, wanted: impl Fn(&str) -> bool) -> Vec<FilePath> {
        let mut paths = Vec::new();
        for disk in 0..self.disks {
            let root = FilePath::new(disk, "");
            for entry in self.list(&root).iter().filter(|entry| entry.is_directory) {
                let directory = root.join(&entry.name);
                let files = self.list(&directory);
                let names = files.iter().map(|file| &file.name);
                paths.extend(
                    names
                        .filter(|name| wanted(name))
                        .map(|name| directory.join(name)),
                );
            }
        }
        paths
    }

    /// The files right below the data directories whose names are `wanted`, in order.
    pub(super) fn paths_at_root(&self, wanted: impl Fn(&str) -> bool) -> Vec<FilePath> {
        let roots = (0..self.disks).map(|disk| FilePath::new(disk, ""));
        let paths = roots.flat_map(|root| {
            let files = self.list(&root).into_iter();
            files.map(move |entry| root.join(&entry.name))
        });
        paths.filter(|path| wanted(path.name())).collect()
    }

    /// Takes a file away, cuts it, or changes a byte of it, as a failing disk does.
    pub(super) fn garble(&mut self, path: &FilePath, prng: &mut Prng) {
        let Some(inode) = self.file(path) else {
            return;
        };
        let content = self.content(inode);
        let mut bytes = content.read(0, content.size() as usize);
        match prng.below(3) {
            0 => {
                self.remove(path);
                self.sync_directory(&path.parent());
                return;
            }
            1 => bytes.truncate(prng.below(bytes.len() as u64 + 1) as usize),
            _ => {
                let at = prng.below(bytes.len().max(1) as u64) as usize;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << prng.below(8);
                }
            }
        }
        self.replace(path, &bytes);
    }

    /// The names in a directory onto stable storage.
    pub(super) fn sync_directory(&mut self, path: &FilePath) -> bool {
        let inode = self.directory(path);
        if let Some(inode) = inode {
            self.sync_names(inode);
        }
        inode.is_some()
    }

    /// The power goes: every file keeps some of what was not synced, every directory some of the
    /// changes to its names.
    pub(super) fn cut_power(&mut self, prng: &mut Prng) {
        for directory in self.directories.values_mut() {
            let mut names: Vec<String> = directory.now.keys().cloned().collect();
            names.extend(directory.stable.keys().cloned());
            for name in names {
                let now = directory.now.get(&name).copied();
                if now != directory.stable.get(&name).copied() && prng.one_in(2) {
                    match now {
                        Some(node) => directory.stable.insert(name, node),
                        None => directory.stable.remove(&name),
                    };
                }
            }
            directory.now = directory.stable.clone();
        }
        for file in self.files.values_mut() {
            file.cut_power(prng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FilePath {
        FilePath::new(0, text)
    }

    #[test]
    fn only_durable_blocks_and_synced_names_are_sure_to_survive_a_power_cut() {
        let (mut lost_name, mut torn) = (false, false);
        for seed in 0..40 {
            let mut files = Files::new(1);
            assert!(files.make_directory(&path("t-0")));
            let file = files
                .create(&path("t-0/0.log"))
                .expect("the directory is there");
            files.sync_directory(&path("t-0"));
            files.allocate(file, 4 * BLOCK as u64);
            files.write(file, 0, &[1; BLOCK], true);
            files.write(file, BLOCK as u64, &[2; BLOCK], false);
            files.create(&path("t-0/unsynced"));
            files.cut_power(&mut Prng::new(seed));
            let file = files.file(&path("t-0/0.log")).expect("its name was synced");
            assert_eq!(files.content(file).read(0, BLOCK), [1; BLOCK]);
            let second = files.content(file).read(BLOCK as u64, BLOCK);
            torn |= second.contains(&0) && second.contains(&2);
            lost_name |= files.file(&path("t-0/unsynced")).is_none();
        }
        assert!(lost_name && torn);
    }

    #[test]
    fn a_cut_file_reads_as_zeros_when_it_grows_again() {
        let mut files = Files::new(1);
        let file = files.create(&path("x")).expect("in the data directory");
        files.write(file, 0, &[7; 2 * BLOCK], true);
        files.truncate(file, 100);
        files.allocate(file, BLOCK as u64);
        let bytes = files.content(file).read(0, BLOCK);
        assert!(bytes[..100].iter().all(|byte| *byte == 7));
        assert!(bytes[100..].iter().all(|byte| *byte == 0));
    }
}
