//! One segment: its file, how far it is filled, and its index.

use crate::base::{BLOCK, FilePath, Offset, Wall};
use crate::record::BatchHeader;

use super::face::Hold;
use super::index::{Entry, Index};

/// How far a segment's file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileStage {
    /// There is no file yet.
    Absent,
    /// Its first blocks are being allocated.
    Creating,
    /// Its name is being made durable.
    Naming,
    /// It takes writes.
    Open,
    /// It is full, and being brought to its exact length.
    Sealing,
    /// It never changes again.
    Sealed,
}

/// Where a segment's index is.
#[derive(Clone, Debug)]
pub(super) enum IndexState {
    /// At hand.
    Memory(Index),
    /// In its file, perhaps.
    Cold,
    /// Its file does not fit the segment: it has to be made again.
    Distrusted,
    /// On its way.
    Loading,
    /// Being made again from the segment.
    Rebuilding(Box<Walk>),
}

/// A scan's place in a segment, and what it has gathered.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// The position of the next batch.
    pub position: u64,
    /// The offset that the next batch has at least.
    pub next: Offset,
    pub first_timestamp: Option<i64>,
    pub max_timestamp: i64,
    pub offset_of_max: Offset,
    pub index: Index,
}

impl Walk {
    /// A scan from the beginning of a segment.
    pub(super) fn from_start(base: Offset) -> Walk {
        Walk {
            position: 0,
            next: base,
            first_timestamp: None,
            max_timestamp: -1,
            offset_of_max: base,
            index: Index::default(),
        }
    }

    /// Goes over one batch of the segment `base`.
    pub(super) fn pass(&mut self, base: Offset, header: &BatchHeader, interval: u32) {
        let first = self.first_timestamp.is_none();
        let entry = Entry {
            relative: (header.base_offset.0 - base.0) as u32,
            position: self.position as u32,
            max_timestamp_before: if first { i64::MIN } else { self.max_timestamp },
        };
        self.index.note(entry, interval);
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.offset_of_max = header.base_offset;
        }
        self.first_timestamp.get_or_insert(header.max_timestamp);
        self.position += header.size() as u64;
        self.next = header.last_offset().plus(1);
    }
}

/// One segment of the log.
#[derive(Debug)]
pub(super) struct Segment {
    pub base: Offset,
    pub file: FilePath,
    /// Bytes of whole batches, those still gathering included.
    pub size: u64,
    /// Bytes whose write is done.
    pub written: u64,
    /// Below it what was written is in the file; none: all of it is. Writes that are durable in the
    /// core's journal get there later.
    pub home: Option<u64>,
    /// Length of the file.
    pub allocated: u64,
    /// An allocation is in flight.
    pub allocating: bool,
    pub stage: FileStage,
    /// The offset after its last record; `base` while it is empty.
    pub end: Offset,
    /// The largest timestamp of its first batch.
    pub first_timestamp: Option<i64>,
    /// When it was begun, for records without a timestamp.
    pub created: Wall,
    /// The largest timestamp of all; -1 for none.
    pub max_timestamp: i64,
    /// The base offset of the batch that has it.
    pub offset_of_max: Offset,
    pub index: IndexState,
    /// Who may still open the file by its name.
    pub hold: Hold,
}

impl Segment {
    /// A segment without a file.
    pub(super) fn absent(directory: &FilePath, base: Offset, created: Wall) -> Segment {
        Segment {
            base,
            file: directory.join(&file_name(base)),
            size: 0,
            written: 0,
            home: None,
            allocated: 0,
            allocating: false,
            stage: FileStage::Absent,
            end: base,
            first_timestamp: None,
            created,
            max_timestamp: -1,
            offset_of_max: base,
            index: IndexState::Memory(Index::default()),
            hold: Hold::default(),
        }
    }

    /// Takes over what a scan found.
    pub(super) fn adopt(&mut self, walk: Walk) {
        self.size = walk.position;
        self.written = walk.position;
        self.end = walk.next;
        self.first_timestamp = walk.first_timestamp;
        self.max_timestamp = walk.max_timestamp;
        self.offset_of_max = walk.offset_of_max;
        self.index = IndexState::Memory(walk.index);
    }

    /// Notes a batch that goes to the end, whose header is already stamped.
    pub(super) fn extend(&mut self, header: &BatchHeader, interval: u32) {
        let entry = Entry {
            relative: (header.base_offset.0 - self.base.0) as u32,
            position: self.size as u32,
            max_timestamp_before: if self.size == 0 {
                i64::MIN
            } else {
                self.max_timestamp
            },
        };
        if let IndexState::Memory(index) = &mut self.index {
            index.note(entry, interval);
        }
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.offset_of_max = header.base_offset;
        }
        self.first_timestamp.get_or_insert(header.max_timestamp);
        self.size += header.size() as u64;
        self.end = header.last_offset().plus(1);
    }

    /// Below it the file has all blocks, and none is rewritten any more: what may be read from it.
    pub(super) fn stable(&self) -> u64 {
        match self.stage {
            FileStage::Sealed => self.size,
            FileStage::Absent
            | FileStage::Creating
            | FileStage::Naming
            | FileStage::Open
            | FileStage::Sealing => {
                let home = self.home.unwrap_or(self.written);
                home - home % BLOCK as u64
            }
        }
    }

    /// Memory of its index that could be dropped, in bytes.
    pub(super) fn index_bytes(&self) -> usize {
        match &self.index {
            IndexState::Memory(index) if self.stage == FileStage::Sealed => index.bytes(),
            IndexState::Memory(_)
            | IndexState::Cold
            | IndexState::Distrusted
            | IndexState::Loading
            | IndexState::Rebuilding(_) => 0,
        }
    }

    /// Drops the index of a full segment; says how many bytes that frees.
    pub(super) fn drop_index(&mut self) -> usize {
        let bytes = self.index_bytes();
        if bytes > 0 {
            self.index = IndexState::Cold;
        }
        bytes
    }

    /// The file of its index.
    pub(super) fn index_file(&self) -> FilePath {
        self.file.parent().join(&index_name(self.base))
    }
}

/// The name of a segment's file: its base offset in 20 digits.
pub(super) fn file_name(base: Offset) -> String {
    format!("{:020}.log", base.0)
}

/// The name of its index file.
pub(super) fn index_name(base: Offset) -> String {
    format!("{:020}.index", base.0)
}

/// The base offset that `name` was made from; none for any other file.
pub(super) fn base_of(name: &str) -> Option<Offset> {
    let digits = name
        .strip_suffix(".log")
        .or_else(|| name.strip_suffix(".index"))?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Offset))?
}
