//! Finds batches by offset and by time: in memory if they are there, else as file ranges.
//!
//! A file range never reaches into a block that is still rewritten, nor past the last completed
//! write: what lies there is always in memory. What was read back from the disk is verified before
//! it is served from memory; a damaged batch fences the log there.
//!
//! A reader goes from index entry to index entry: a file range ends at one, so the next read begins
//! at one. There the index alone says where to begin and where to end, and nothing is read but what
//! is sent. (Reading the first batch's header as well, past the page cache, made a fetch of 256 KiB
//! out of the page cache 3.2 times slower than a bare sendfile, and one of 64 KiB 4.2 times.) The
//! consumer's own CRC vouches for what goes out of a file, as in Kafka.

use crate::base::{DiskOp, DiskOutput, Offset};
use crate::record::{self, BatchHeader, HEADER_BYTES};

use super::face::{Event, Fault, FileRange, Lookup, Read, Slice};
use super::index::{Entry, Index};
use super::ops::Job;
use super::segment::{FileStage, IndexState, Segment, Walk};
use super::{Log, Stage};

/// Bytes that are read ahead into the cache at once, unless a batch is larger.
const FILL_BYTES: u64 = 1 << 20;
/// Bytes that one step of an index rebuild reads.
const REBUILD_BYTES: usize = 1 << 20;
/// Slices that one read gives at most.
const SLICES_MAX: usize = 16;
/// The largest index file that is read back, in bytes.
const INDEX_BYTES_MAX: usize = 256 << 20;
/// What a batch may unpack to while a timestamp is looked up, in bytes.
const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// Why a look at the log's bytes has to stop.
enum Stop {
    /// These bytes are needed first.
    Need(FileRange),
    /// The bytes are not what they should be; the log is fenced now.
    Fenced,
}

/// A batch and where it is.
#[derive(Clone, Copy)]
struct Place {
    position: u64,
    header: BatchHeader,
}

impl Place {
    fn end(&self) -> u64 {
        self.position + self.header.size() as u64
    }
}

/// What a read is allowed to give.
#[derive(Clone, Copy)]
struct Limits {
    upto: Offset,
    max_bytes: usize,
    at_least_one: bool,
    files: bool,
}

impl Log {
    /// Whole batches from the one that contains `from`, below `upto`, at most `max_bytes`; the first
    /// one even if it is larger when `at_least_one`. All from one segment: read on for more.
    pub fn read(
        &mut self,
        from: Offset,
        upto: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Read {
        self.read_within(
            from,
            Limits {
                upto,
                max_bytes,
                at_least_one,
                files: true,
            },
        )
    }

    /// As [`Log::read`] with at least one batch, but only from memory: [`Read::Fill`] brings in what
    /// is missing. For look-ups and coordinators.
    pub fn read_memory(&mut self, from: Offset, upto: Offset, max_bytes: usize) -> Read {
        self.read_within(
            from,
            Limits {
                upto,
                max_bytes,
                at_least_one: true,
                files: false,
            },
        )
    }

    fn read_within(&mut self, from: Offset, mut limits: Limits) -> Read {
        if matches!(
            self.stage,
            Stage::Opening | Stage::Deleting | Stage::Deleted
        ) {
            return Read::Nothing;
        }
        if from < self.start {
            return Read::BelowStart;
        }
        if from > self.end {
            return Read::AboveEnd;
        }
        let readable = if self.fault.is_some() {
            self.committed
        } else {
            self.tail.issued_end
        };
        if self.fault.is_some() && from >= readable {
            return Read::Fenced;
        }
        limits.upto = limits.upto.min(readable);
        if from >= limits.upto {
            return Read::Nothing;
        }
        match self.collect(from, limits) {
            Ok(slices) if slices.is_empty() => Read::Nothing,
            Ok(slices) => Read::Slices(slices),
            Err(Stop::Need(range)) if !self.can_fill(&range) => Read::Fenced,
            Err(Stop::Need(range)) => Read::Fill(range),
            Err(Stop::Fenced) => Read::Fenced,
        }
    }

    /// The disk could not give this range: there is no use in asking again.
    fn can_fill(&self, range: &FileRange) -> bool {
        !self.hopeless.contains(range)
    }

    /// The index of a segment cannot be made, so that nothing is found in it.
    pub(super) fn index_is_hopeless(&mut self, base: Offset) {
        let index = self.segment(base).index_file();
        self.hopeless.push(FileRange::covering(index, 0, 1));
    }

    fn collect(&mut self, from: Offset, limits: Limits) -> Result<Vec<Slice>, Stop> {
        let index = self.segment_holding(from);
        let (mut slices, mut total) = (Vec::new(), 0);
        let mut place = match self.entry_slice(index, from, limits) {
            None => self.locate(index, from)?,
            Some((slice, end)) => {
                total = slice.size();
                slices.push(slice);
                match self.more(index, end, total, limits) {
                    Some(place) => place,
                    None => return Ok(slices),
                }
            }
        };
        while slices.len() < SLICES_MAX {
            let slice = match self.memory_slice(index, place, total, limits)? {
                Some(slice) => slice,
                None if limits.files => match self.file_slice(index, place, total, limits) {
                    Some(slice) => slice,
                    None => break,
                },
                None if total > 0 || !self.fits(place, total, limits) => break,
                None => return Err(self.need(index, place.position, place.header.size() as u64)),
            };
            total += slice.size();
            let next = place.position + slice.size() as u64;
            if !slice_is_empty(&slice) {
                slices.push(slice);
            } else {
                break;
            }
            match self.more(index, next, total, limits) {
                Some(more) => place = more,
                None => break,
            }
        }
        Ok(slices)
    }

    /// The batch at `position` if there may be room for it beside `total` bytes. What cannot be seen
    /// now is left to the next read.
    fn more(&self, index: usize, position: u64, total: usize, limits: Limits) -> Option<Place> {
        let more = position < self.segments[index].size && total < limits.max_bytes;
        let header = more.then(|| self.peek(index, position).ok().flatten())??;
        Some(Place { position, header })
    }

    /// True when a batch may be added to `total` bytes.
    fn fits(&self, place: Place, total: usize, limits: Limits) -> bool {
        let below = place.header.last_offset() < limits.upto;
        let room = total + place.header.size() <= limits.max_bytes;
        below && (room || (total == 0 && limits.at_least_one))
    }

    /// Batches from `place` on that lie in one stretch of the cache. None if the first one is not
    /// there as a whole; empty if it is but may not be given.
    fn memory_slice(
        &mut self,
        index: usize,
        place: Place,
        total: usize,
        limits: Limits,
    ) -> Result<Option<Slice>, Stop> {
        let segment = &self.segments[index];
        let Some(stretch) = self.cache.find(segment.base, place.position, place.end()) else {
            return Ok(None);
        };
        let gaps = self.options.compact || self.compaction.noted;
        let mut expected = place.header.base_offset;
        let (mut at, mut next) = (place.position, Some(place.header));
        while let Some(header) = next {
            let end = at + header.size() as u64;
            let taken = total + (at - place.position) as usize;
            if end > stretch.to
                || !self.fits(
                    Place {
                        position: at,
                        header,
                    },
                    taken,
                    limits,
                )
            {
                break;
            }
            // The CRC covers neither base offset nor length: they are held against the chain.
            let chained = match gaps {
                true => header.base_offset >= expected,
                false => header.base_offset == expected,
            };
            let sound = || record::verify(stretch.bytes(at, end)).is_ok();
            if stretch.read_back && !(chained && sound()) {
                return Err(self.damaged_at(index, at));
            }
            expected = header.last_offset().plus(1);
            at = end;
            let visible = (at + HEADER_BYTES as u64).min(stretch.to).max(at);
            next = BatchHeader::parse(stretch.bytes(at, visible)).ok();
        }
        Ok(Some(Slice::Memory(stretch.view(place.position, at))))
    }

    /// A file range from `place` on: up to an index entry, or one batch. None if it may not be
    /// given, or lies in blocks that are still rewritten.
    fn file_slice(
        &self,
        index: usize,
        place: Place,
        total: usize,
        limits: Limits,
    ) -> Option<Slice> {
        let segment = &self.segments[index];
        if !self.fits(place, total, limits) || place.end() > segment.stable() {
            return None;
        }
        let budget = (limits.max_bytes - total.min(limits.max_bytes)) as u64;
        let end = segment.boundary_within(place.position + budget, limits.upto);
        let len = (end.max(place.end()) - place.position) as usize;
        Some(Slice::File {
            file: segment.file.clone(),
            at: place.position,
            len,
            hold: segment.hold.clone(),
        })
    }

    /// A file range that begins at the batch with the base offset `from` and ends at a batch's end,
    /// by the index alone, and where that is. None if the index does not say so, if the batch is in memory, or if it
    /// is larger than what may be given.
    fn entry_slice(&self, index: usize, from: Offset, limits: Limits) -> Option<(Slice, u64)> {
        let segment = &self.segments[index];
        let entries = segment
            .entries()
            .filter(|index| index.is_trusted() && limits.files)?;
        let relative = u32::try_from(from.0 - segment.base.0).ok()?;
        let entry = entries.by_offset(relative)?;
        let position = u64::from(entry.position);
        let header_end = position + HEADER_BYTES as u64;
        let in_memory = self.cache.find(segment.base, position, header_end);
        if entry.relative != relative || in_memory.is_some() {
            return None;
        }
        let end = segment.boundary_within(position + limits.max_bytes as u64, limits.upto);
        let len = end.checked_sub(position).filter(|len| *len > 0)?;
        let slice = Slice::File {
            file: segment.file.clone(),
            at: position,
            len: len as usize,
            hold: segment.hold.clone(),
        };
        Some((slice, end))
    }

    /// The segment that holds `offset`, or the first batch behind it.
    fn segment_holding(&self, offset: Offset) -> usize {
        let after = self
            .segments
            .partition_point(|segment| segment.base <= offset);
        let index = after.saturating_sub(1);
        let gap = self.segments[index].end <= offset && index + 1 < self.segments.len();
        if gap { index + 1 } else { index }
    }

    /// The batch of a segment that contains `offset`, or the first one behind it.
    fn locate(&mut self, index: usize, offset: Offset) -> Result<Place, Stop> {
        let base = self.segments[index].base;
        let relative = (offset.0 - base.0).clamp(0, i64::from(u32::MAX)) as u32;
        let entry = self.index_of(index)?.by_offset(relative);
        self.walk_from(index, entry, |header| header.last_offset() >= offset)
    }

    /// Goes from an index entry to the first batch that is `wanted`.
    fn walk_from(
        &mut self,
        index: usize,
        entry: Option<Entry>,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Place, Stop> {
        let mut position = entry.map_or(0, |entry| u64::from(entry.position));
        let mut first = entry;
        loop {
            if position >= self.segments[index].size {
                return Err(self.damaged_at(index, position));
            }
            let header = self.peek(index, position)?;
            if let Some(entry) = first.take() {
                let expected = self.segments[index].base.plus(i64::from(entry.relative));
                let agrees = header.is_some_and(|header| header.base_offset == expected);
                if agrees {
                    self.segments[index].index_agreed();
                } else if self.segments[index].distrust_index() {
                    return Err(self.need_index(index));
                }
            }
            let header = header.ok_or_else(|| self.damaged_at(index, position))?;
            if wanted(&header) {
                return Ok(Place { position, header });
            }
            position += header.size() as u64;
        }
    }

    /// The header of the batch at `position`; none if there is no batch of this segment.
    fn peek(&self, index: usize, position: u64) -> Result<Option<BatchHeader>, Stop> {
        let segment = &self.segments[index];
        let to = position + HEADER_BYTES as u64;
        let Some(stretch) = self.cache.find(segment.base, position, to) else {
            return Err(self.need(index, position, 0));
        };
        let parsed = BatchHeader::parse(stretch.bytes(position, to)).ok();
        Ok(parsed.filter(|header| {
            header.base_offset >= segment.base
                && header.last_offset() < segment.end
                && position + header.size() as u64 <= segment.size
        }))
    }

    /// The range to read so that `bytes` at `position` (at least a header) are there, and some more:
    /// up to the next index entry.
    fn need(&self, index: usize, position: u64, bytes: u64) -> Stop {
        let segment = &self.segments[index];
        let entry = segment.entries().and_then(|index| index.after(position));
        let next = entry.map_or(segment.size, |entry| u64::from(entry.position));
        let ahead = next.min(position + FILL_BYTES).max(position + bytes);
        let to = (ahead + HEADER_BYTES as u64).min(segment.size);
        Stop::Need(FileRange::covering(segment.file.clone(), position, to))
    }

    fn need_index(&self, index: usize) -> Stop {
        Stop::Need(FileRange::covering(self.segments[index].index_file(), 0, 1))
    }

    fn index_of(&self, index: usize) -> Result<&Index, Stop> {
        self.segments[index]
            .entries()
            .ok_or_else(|| self.need_index(index))
    }

    /// A batch that was acknowledged is not what it was: nothing from there on is served.
    fn damaged_at(&mut self, index: usize, position: u64) -> Stop {
        let file = self.segments[index].file.clone();
        if self.fault.is_none() {
            self.tail.abandon();
            self.fault = Some(Fault::Corrupt { file, position });
            self.fault_untold = true;
        }
        Stop::Fenced
    }

    /// Reads a range into the cache; [`Event::Filled`] when it is there, or cannot be had. The same
    /// range asked for twice is read once. A range of an index file brings the index in, from its
    /// file or by a scan of the segment.
    pub fn fill(&mut self, range: FileRange, out: &mut Vec<DiskOp>) {
        if range.file.name().ends_with(".index") {
            return self.load_index(range, out);
        }
        if self.ops.filling(&range) || self.is_naming_file(&range) {
            return;
        }
        let (file, at, len) = (range.file.clone(), range.at, range.len);
        out.push(DiskOp::Read {
            id: self.ops.start(Job::Fill(range)),
            file,
            at,
            len,
        });
    }

    /// True while a file is getting another name: [`Event::Filled`] follows then.
    fn is_naming_file(&self, range: &FileRange) -> bool {
        let mut segments = self.segments.iter();
        segments.any(|segment| segment.file == range.file && self.is_naming(segment.base))
    }

    pub(super) fn filled(
        &mut self,
        range: &FileRange,
        output: DiskOutput,
        events: &mut Vec<Event>,
    ) {
        events.push(Event::Filled);
        let DiskOutput::Data(data) = output else {
            return;
        };
        let Some(segment) = self
            .segments
            .iter()
            .find(|segment| segment.file == range.file)
        else {
            return;
        };
        let wanted = (range.at + range.len as u64).min(segment.stable());
        let to = wanted.min(range.at + data.len() as u64);
        if to < wanted {
            self.hopeless.push(range.clone());
        }
        if to < wanted && self.fault.is_none() {
            // The file is shorter than what was acknowledged.
            let fault = Fault::Corrupt {
                file: range.file.clone(),
                position: to,
            };
            self.fence(fault, events);
        } else if to > range.at {
            self.cache.insert(segment.base, range.at, to, data, true);
        }
    }

    fn load_index(&mut self, range: FileRange, out: &mut Vec<DiskOp>) {
        let found = self
            .segments
            .iter_mut()
            .find(|segment| segment.index_file() == range.file);
        let Some(segment) = found else { return };
        let base = segment.base;
        if self.is_naming(base) {
            return;
        }
        let Some(segment) = self
            .segments
            .iter_mut()
            .find(|segment| segment.base == base)
        else {
            return;
        };
        match segment.index {
            IndexState::Cold => {}
            IndexState::Distrusted => return self.rebuild_index(base, out, &mut Vec::new()),
            IndexState::Memory(_) | IndexState::Loading | IndexState::Rebuilding(_) => return,
        }
        segment.index = IndexState::Loading;
        let id = self.ops.start(Job::IndexLoad {
            segment: segment.base,
        });
        out.push(DiskOp::ReadFile {
            id,
            file: range.file,
            limit: INDEX_BYTES_MAX,
        });
    }

    /// The contents of an index file are there: they are used if they fit the segment.
    pub(super) fn index_loaded(
        &mut self,
        base: Offset,
        output: &DiskOutput,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let Some(segment) = self
            .segments
            .iter_mut()
            .find(|segment| segment.base == base)
        else {
            return events.push(Event::Filled);
        };
        let index = match output {
            DiskOutput::Contents(contents) => Index::from_file(contents, base, segment.size),
            DiskOutput::Done
            | DiskOutput::Journaled
            | DiskOutput::Existed
            | DiskOutput::Data(_)
            | DiskOutput::Entries(_)
            | DiskOutput::Space(_) => None,
        };
        match index.filter(|index| !index.entries().is_empty()) {
            Some(index) => {
                segment.index = IndexState::Memory(index);
                events.push(Event::Filled);
            }
            None => self.rebuild_index(base, out, events),
        }
    }

    /// Makes an index again by a scan of its segment.
    pub(super) fn rebuild_index(
        &mut self,
        base: Offset,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let Some(segment) = self
            .segments
            .iter_mut()
            .find(|segment| segment.base == base)
        else {
            return events.push(Event::Filled);
        };
        segment.index = IndexState::Rebuilding(Box::new(Walk::from_start(base)));
        let file = segment.file.clone();
        let id = self.ops.start(Job::IndexScan {
            segment: base,
            at: 0,
        });
        out.push(DiskOp::Read {
            id,
            file,
            at: 0,
            len: REBUILD_BYTES,
        });
    }

    /// One chunk of a segment whose index is being made again.
    pub(super) fn index_scanned(
        &mut self,
        base: Offset,
        at: u64,
        output: &DiskOutput,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        let found = self
            .segments
            .iter()
            .position(|segment| segment.base == base);
        let (Some(index), DiskOutput::Data(bytes)) = (found, output) else {
            return events.push(Event::Filled);
        };
        let interval = self.options.index_interval_bytes;
        let segment = &mut self.segments[index];
        let IndexState::Rebuilding(walk) = &mut segment.index else {
            return;
        };
        let need = loop {
            if walk.position >= segment.size {
                break 0;
            }
            let rest = bytes.get((walk.position - at) as usize..).unwrap_or(&[]);
            match record::verify(rest) {
                Ok(header) if header.base_offset >= walk.next => walk.pass(base, &header, interval),
                Err(record::BatchError::Incomplete { need, .. })
                    if need > rest.len() && walk.position + need as u64 <= segment.size =>
                {
                    break need;
                }
                Ok(_) | Err(_) => break usize::MAX,
            }
        };
        let (position, no_progress) = (walk.position, walk.position == at && need <= bytes.len());
        match need {
            0 => {
                segment.index = IndexState::Memory(std::mem::take(&mut walk.index));
                self.save_index(base, out);
                events.push(Event::Filled);
            }
            need if need == usize::MAX || no_progress => {
                segment.index = IndexState::Cold;
                let fault = Fault::Corrupt {
                    file: segment.file.clone(),
                    position,
                };
                self.fence(fault, events);
                self.index_is_hopeless(base);
                events.push(Event::Filled);
            }
            need => {
                let range = FileRange::covering(
                    segment.file.clone(),
                    position,
                    position + need.max(REBUILD_BYTES) as u64,
                );
                let id = self.ops.start(Job::IndexScan {
                    segment: base,
                    at: range.at,
                });
                out.push(DiskOp::Read {
                    id,
                    file: range.file,
                    at: range.at,
                    len: range.len,
                });
            }
        }
    }

    /// The first record at or after `timestamp`, below `upto` (ListOffsets by time).
    pub fn offset_for_timestamp(&mut self, timestamp: i64, upto: Offset) -> Lookup {
        let upto = upto.min(self.committed);
        let from = self.segment_holding(self.start);
        for index in from..self.segments.len() {
            let segment = &self.segments[index];
            if segment.base >= upto {
                break;
            }
            if segment.max_timestamp < timestamp || segment.size == 0 {
                continue;
            }
            match self.search_time(index, timestamp, upto) {
                Ok(Lookup::None) => {}
                Ok(found) => return found,
                Err(Stop::Need(range)) => return Lookup::Fill(range),
                Err(Stop::Fenced) => return Lookup::None,
            }
        }
        Lookup::None
    }

    fn search_time(&mut self, index: usize, timestamp: i64, upto: Offset) -> Result<Lookup, Stop> {
        let start = self.start;
        let mut entry = self.index_of(index)?.by_timestamp(timestamp);
        loop {
            // What lies behind `upto` may be neither in memory nor on the disk yet: stop before it.
            let is_last = |header: &BatchHeader| header.last_offset().plus(1) >= upto;
            let wanted = |header: &BatchHeader| {
                (header.max_timestamp >= timestamp && header.last_offset() >= start)
                    || is_last(header)
            };
            let place = self.walk_from(index, entry, wanted)?;
            if place.header.base_offset >= upto || place.header.max_timestamp < timestamp {
                return Ok(Lookup::None);
            }
            let find = |batch: &[u8], scratch: &mut record::Scratch| {
                record::find_timestamp(batch, timestamp, start, scratch, UNPACKED_BYTES_MAX)
            };
            if let Some((offset, timestamp)) = self.in_batch(index, place, find)? {
                let leader_epoch = place.header.leader_epoch;
                let found = Lookup::Found {
                    offset,
                    timestamp,
                    leader_epoch,
                };
                return Ok(if offset < upto { found } else { Lookup::None });
            }
            if is_last(&place.header) || place.end() >= self.segments[index].size {
                return Ok(Lookup::None);
            }
            // A header that promises more than its records hold: go on behind it.
            entry = Some(Entry {
                relative: (place.header.last_offset().0 + 1 - self.segments[index].base.0) as u32,
                position: place.end() as u32,
                max_timestamp_before: timestamp,
            });
        }
    }

    /// The first record that has the largest timestamp of the log (KIP-734). None while that record
    /// is not committed (apache/kafka `Partition.fetchOffsetForTimestamp`): it may be nowhere yet but
    /// in a gather.
    pub fn max_timestamp(&mut self) -> Lookup {
        let first = self.segment_holding(self.start);
        let segments = self.segments[first..]
            .iter()
            .enumerate()
            .filter(|(_, segment)| segment.size > 0);
        // The first of those with the largest timestamp.
        let Some((index, largest)) = segments
            .rev()
            .max_by_key(|(_, segment)| segment.max_timestamp)
        else {
            return Lookup::None;
        };
        if largest.max_timestamp < 0 || largest.offset_of_max >= self.committed {
            return Lookup::None;
        }
        let (index, offset) = (first + index, largest.offset_of_max);
        let found = self.locate(index, offset).and_then(|place| {
            let find = |batch: &[u8], scratch: &mut record::Scratch| {
                record::offset_of_timestamp_max(batch, scratch, UNPACKED_BYTES_MAX)
            };
            Ok((
                place.header.leader_epoch,
                self.in_batch(index, place, find)?,
            ))
        });
        match found {
            Ok((leader_epoch, Some((offset, timestamp)))) => Lookup::Found {
                offset,
                timestamp,
                leader_epoch,
            },
            Ok((_, None)) | Err(Stop::Fenced) => Lookup::None,
            Err(Stop::Need(range)) => Lookup::Fill(range),
        }
    }

    /// Looks into the records of a batch.
    fn in_batch(
        &mut self,
        index: usize,
        place: Place,
        find: impl Fn(&[u8], &mut record::Scratch) -> Result<Option<(Offset, i64)>, record::BatchError>,
    ) -> Result<Option<(Offset, i64)>, Stop> {
        let base = self.segments[index].base;
        let Some(stretch) = self.cache.find(base, place.position, place.end()) else {
            return Err(self.need(index, place.position, place.header.size() as u64));
        };
        let batch = stretch.bytes(place.position, place.end());
        if stretch.read_back && record::verify(batch).is_err() {
            return Err(self.damaged_at(index, place.position));
        }
        // Records that cannot be unpacked have no timestamps.
        Ok(find(batch, &mut self.scratch).unwrap_or(None))
    }
}

fn slice_is_empty(slice: &Slice) -> bool {
    slice.size() == 0
}

impl Segment {
    /// Its index, if it is at hand.
    fn entries(&self) -> Option<&Index> {
        match &self.index {
            IndexState::Memory(index) => Some(index),
            IndexState::Cold
            | IndexState::Distrusted
            | IndexState::Loading
            | IndexState::Rebuilding(_) => None,
        }
    }

    /// The last known end of a batch at or before `farthest`, in blocks that are not rewritten, of a
    /// batch below `upto`; 0 if none is known.
    fn boundary_within(&self, farthest: u64, upto: Offset) -> u64 {
        let farthest = farthest.min(self.stable());
        if farthest >= self.size && self.end <= upto {
            return self.size;
        }
        let upto = upto.0 - self.base.0;
        let boundary = self
            .entries()
            .and_then(|index| index.boundary(farthest, upto));
        boundary.map_or(0, |entry| u64::from(entry.position))
    }

    /// An entry of its index points at the batch that it names.
    fn index_agreed(&mut self) {
        if let IndexState::Memory(index) = &mut self.index {
            index.agreed = true;
        }
    }

    /// Its index points at something else than a batch: it is made again, once.
    fn distrust_index(&mut self) -> bool {
        let from_file = self.entries().is_some_and(|index| index.from_file);
        let again = from_file && self.stage == FileStage::Sealed;
        if again {
            self.index = IndexState::Distrusted;
        }
        again
    }
}
