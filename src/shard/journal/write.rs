//! What was gathered becomes frames in the journal's file.

use crate::base::{BLOCK, DiskDone, DiskFault, DiskOutput, FaultKind, FilePath, TopicId};

use super::frame::{Builder, HEADER_BYTES, Place, TRAILER_BYTES, entry_bytes};
use super::route::refused;
use super::{
    ENOSPC, FRAME_BYTES_MAX, FRAMES_MAX, Flight, Gathered, Image, Job, Journal, Outcome,
    SETTLING_BYTES, Stage, Tracked, durable_write,
};

impl Journal {
    /// Gathers a settled entry for each file that waits for it and is home.
    pub(super) fn settle_what_is_home(&mut self) {
        if self.stage != Stage::Ready {
            return;
        }
        for file in std::mem::take(&mut self.wanting) {
            let Some(tracked) = self.tracked.get_mut(&file) else {
                continue;
            };
            if !tracked.is_home() {
                self.wanting.insert(file);
            } else if !tracked.settling {
                tracked.settling = true;
                self.settled.push_back(file);
            }
        }
    }

    /// True when there is a frame to write: any at all while none is on its way, beside others one of
    /// as many writes as would have been gathered.
    fn is_worth_a_frame(&self) -> bool {
        match self.flights.len() as u32 {
            0 => !(self.gathered.is_empty() && self.settled.is_empty()),
            1..FRAMES_MAX => self.gathered.len() >= self.options.writes_min.max(1),
            FRAMES_MAX.. => false,
        }
    }

    pub(super) fn write_frame(&mut self, out: &mut Outcome) {
        if self.stage != Stage::Ready || !self.is_worth_a_frame() {
            return;
        }
        let (settled, writes) = self.next_frame();
        if settled + writes == 0 {
            return;
        }
        let settled: Vec<FilePath> = self.settled.drain(..settled).collect();
        let writes: Vec<Gathered> = self.gathered.drain(..writes).collect();
        let bytes: usize = settled.iter().map(settled_bytes).sum();
        let bytes = bytes + writes.iter().map(Gathered::bytes).sum::<usize>();
        let mut builder = Builder::new(&self.pool, bytes);
        for file in &settled {
            let tracked = self.tracked.get(file);
            let topic = tracked.map_or(TopicId::ZERO, |tracked| tracked.topic);
            builder.settled(topic, &file.path);
        }
        for write in &writes {
            let tracked = self.tracked.get(&write.file);
            let known = tracked.map_or(0, |tracked| self.known_bytes(tracked, write));
            let topic = tracked.map_or(TopicId::ZERO, |tracked| tracked.topic);
            let (at, news) = (write.at + known as u64, &write.data[known..]);
            builder.image(topic, &write.file.path, at, news);
        }
        let number = self.place.number;
        let (data, crc) = builder.finish(self.place);
        let at = self.active as u64 * self.extent_bytes() + self.position;
        self.position += data.len() as u64;
        self.place.number += 1;
        self.place.before = crc;
        self.counts.writes += 1;
        self.counts.bytes += data.len() as u64;
        self.counts.entries += (settled.len() + writes.len()) as u64;
        self.busy = true;
        self.flights.push_back(Flight {
            number,
            settled,
            writes,
            written: false,
        });
        let (id, file) = (self.start(Job::Frame(number)), self.file.clone());
        out.ops.push(durable_write(id, file, at, data));
    }

    /// How many bytes at the front of a write the extent holds already: a log's next write begins
    /// with the block that the one before left unfinished. Only what the same extent says counts,
    /// since the other one is wiped first.
    fn known_bytes(&self, tracked: &Tracked, write: &Gathered) -> usize {
        let Some(last) = tracked.images.back() else {
            return 0;
        };
        if last.extent != self.active || write.at < last.at || write.at >= last.end() {
            return 0;
        }
        let before = &last.data[(write.at - last.at) as usize..];
        let news = &write.data[..write.data.len() - TRAILER_BYTES];
        equal_bytes(before, news)
    }

    /// How many files the next frame says are settled, and how many gathered writes it takes; begins
    /// the other extent when this one is full. What settles a file needs less room and comes first:
    /// none of the writes is to one of those files.
    fn next_frame(&mut self) -> (usize, usize) {
        let limit = self.extent_bytes();
        if self.extents[self.active].wiping {
            return (0, 0);
        }
        let fresh = self.extents[self.active].generation == 0;
        let first = self.gathered.front().map_or(0, Gathered::bytes);
        let full = self.position + frame_bytes(first) + SETTLING_BYTES > limit;
        let mut room = limit.saturating_sub(self.position + SETTLING_BYTES) as usize;
        if (fresh || full) && !self.flights.is_empty() {
            // A replay would go on with the next extent behind a frame that is missing in this one.
            room = 0;
        } else if fresh || full {
            let other = if fresh { self.active } else { 1 - self.active };
            let free = self.extents[other].generation == 0 && !self.extents[other].wiping;
            if free {
                self.change_to(other);
                room = (limit - SETTLING_BYTES) as usize;
            } else {
                room = 0;
            }
        }
        if self.is_too_much() {
            room = 0;
        }
        let (mut bytes, mut settled, mut writes) = (HEADER_BYTES, 0, 0);
        for file in &self.settled {
            let more = bytes + settled_bytes(file);
            if self.position + more.next_multiple_of(BLOCK) as u64 > limit || more > FRAME_BYTES_MAX
            {
                break;
            }
            (bytes, settled) = (more, settled + 1);
        }
        for entry in &self.gathered {
            let more = bytes + entry.bytes();
            let alone = settled + writes == 0;
            if more.next_multiple_of(BLOCK) > room || (more > FRAME_BYTES_MAX && !alone) {
                break;
            }
            (bytes, writes) = (more, writes + 1);
        }
        (settled, writes)
    }

    fn change_to(&mut self, extent: usize) {
        self.counts.recycles += 1;
        let before = self.active;
        self.active = extent;
        self.position = 0;
        self.place = Place {
            generation: self.place.generation + 1,
            ..Place::default()
        };
        self.extents[extent].generation = self.place.generation;
        if before != extent {
            self.drain();
        }
    }

    pub(super) fn frame_written(&mut self, number: u32, out: &mut Outcome) {
        let mut flights = self.flights.iter_mut();
        if let Some(flight) = flights.find(|flight| flight.number == number) {
            flight.written = true;
        }
        while let Some(flight) = self.flights.pop_front_if(|first| first.written) {
            self.frame_counts(flight, out);
        }
        if self.stage == Stage::Leaving {
            self.drain_all();
        }
    }

    /// The frame is on the disk, and so are all before it.
    fn frame_counts(&mut self, flight: Flight, out: &mut Outcome) {
        let extent = self.active;
        for Gathered { id, file, at, data } in flight.writes {
            let Some(tracked) = self.tracked.get_mut(&file) else {
                continue;
            };
            tracked.coming -= 1;
            tracked.extents |= 1 << extent;
            tracked.bytes += data.capacity();
            self.memory += if tracked.failed { 0 } else { data.capacity() };
            tracked.images.push_back(Image { at, data, extent });
            self.extents[extent].images += 1;
            if !tracked.waiting.is_empty() {
                self.enqueue(&file);
            }
            let result = Ok(DiskOutput::Journaled);
            out.done.push(DiskDone { id, result });
        }
        for file in flight.settled {
            // Dropped meanwhile, it may be another topic's by now.
            let said = |tracked: &Tracked| tracked.settling && tracked.is_home();
            if self.tracked.get(&file).is_some_and(said)
                && let Some(tracked) = self.tracked.remove(&file)
            {
                self.wanting.remove(&file);
                self.go_on_with(tracked.waiting, out);
            }
        }
    }

    /// Whether the frame is on the disk is not known, and those behind it count only if it is. What
    /// is in them is never acknowledged, nothing is written behind them, and what the journal holds
    /// goes home. Frames before it still count, when they are written.
    pub(super) fn frame_failed(&mut self, number: u32, fault: &DiskFault, out: &mut Outcome) {
        let before = self
            .flights
            .partition_point(|flight| flight.number < number);
        for flight in self.flights.split_off(before) {
            for Gathered { id, file, .. } in flight.writes {
                if let Some(tracked) = self.tracked.get_mut(&file) {
                    tracked.coming -= 1;
                }
                let result = Err(fault_of(file, fault));
                out.done.push(DiskDone { id, result });
            }
            self.settled.extend(flight.settled);
        }
        self.give_up(out);
    }

    /// Nothing more is taken. What the journal holds goes home; what was gathered waits for its
    /// file, as everything does now.
    pub(super) fn give_up(&mut self, out: &mut Outcome) {
        self.stage = Stage::Leaving;
        for Gathered { id, file, at, data } in std::mem::take(&mut self.gathered) {
            let Some(tracked) = self.tracked.get_mut(&file) else {
                continue;
            };
            tracked.coming -= 1;
            let op = durable_write(id, file.clone(), at, data);
            if tracked.failed {
                out.done.push(refused(&op, &file));
            } else {
                tracked.waiting.push_front(op);
                self.wanting.insert(file);
            }
        }
        for file in std::mem::take(&mut self.settled) {
            if let Some(tracked) = self.tracked.get_mut(&file) {
                tracked.settling = false;
                self.wanting.insert(file);
            }
        }
        self.drain_all();
    }
}

/// How many bytes two slices have in common at the front.
fn equal_bytes(one: &[u8], other: &[u8]) -> usize {
    const STEP: usize = 64;
    let steps = one.chunks_exact(STEP).zip(other.chunks_exact(STEP));
    let whole = STEP * steps.take_while(|(one, other)| one == other).count();
    let rest = one[whole..].iter().zip(&other[whole..]);
    whole + rest.take_while(|(one, other)| one == other).count()
}

fn settled_bytes(file: &FilePath) -> usize {
    entry_bytes(&file.path, 0)
}

fn frame_bytes(entries: usize) -> u64 {
    (HEADER_BYTES + entries).next_multiple_of(BLOCK) as u64
}

/// For a log whose write was in a frame that failed, in words of its own file. Never for lack of
/// space: a log that is opened again for that would write behind what the frame may have left.
fn fault_of(file: FilePath, fault: &DiskFault) -> DiskFault {
    let kind = match fault.kind {
        FaultKind::NoSpace => FaultKind::Io(ENOSPC),
        other => other,
    };
    DiskFault {
        file,
        op: "write",
        kind,
    }
}
