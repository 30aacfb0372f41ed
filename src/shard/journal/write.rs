//! What was gathered becomes frames in the journal's file.

use crate::base::{BLOCK, DiskDone, DiskFault, DiskOutput, FaultKind, FilePath, TopicId};

use super::frame::{Builder, HEADER_BYTES, Place, entry_bytes};
use super::route::refused;
use super::{
    ENOSPC, FRAME_BYTES_MAX, Flight, Gathered, Image, Job, Journal, Outcome, SETTLING_BYTES, Stage,
    Tracked, durable_write,
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

    pub(super) fn write_frame(&mut self, out: &mut Outcome) {
        let empty = self.gathered.is_empty() && self.settled.is_empty();
        if self.stage != Stage::Ready || self.flight.is_some() || empty {
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
        let topic = |file| {
            self.tracked
                .get(file)
                .map_or(TopicId::ZERO, |file| file.topic)
        };
        for file in &settled {
            builder.settled(topic(file), &file.path);
        }
        for Gathered { file, at, data, .. } in &writes {
            builder.image(topic(file), &file.path, *at, data);
        }
        let (data, crc) = builder.finish(self.place);
        let at = self.active as u64 * self.extent_bytes() + self.position;
        let bytes = data.len() as u64;
        self.counts.writes += 1;
        self.counts.bytes += bytes;
        self.counts.entries += (settled.len() + writes.len()) as u64;
        self.busy = true;
        self.flight = Some(Flight {
            settled,
            writes,
            bytes,
            crc,
        });
        let (id, file) = (self.start(Job::Frame), self.file.clone());
        out.ops.push(durable_write(id, file, at, data));
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
        if fresh || full {
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

    pub(super) fn frame_written(&mut self, out: &mut Outcome) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        self.position += flight.bytes;
        self.place.number += 1;
        self.place.before = flight.crc;
        let extent = self.active;
        for Gathered { id, file, at, data } in flight.writes {
            let Some(tracked) = self.tracked.get_mut(&file) else {
                continue;
            };
            tracked.coming -= 1;
            tracked.extents |= 1 << extent;
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
        if self.stage == Stage::Leaving {
            self.drain_all();
        }
    }

    /// Whether the frame is on the disk is not known. Those in it are never acknowledged, nothing is
    /// written behind it, and what the journal holds goes home.
    pub(super) fn frame_failed(&mut self, fault: &DiskFault, out: &mut Outcome) {
        if let Some(flight) = self.flight.take() {
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
