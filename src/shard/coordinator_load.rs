//! How a coordinator takes in its partition: in slices, one a turn for the whole core, so that
//! nobody else has to wait for long.

use crate::base::{DiskOp, Mono, Now, Offset};
use crate::group::{Coordinator, Decision};
use crate::log::{Read, Slice};
use crate::partition::Partition;
use crate::record::{BatchError, Batches, Scratch};

use super::coordinators::Stage;
use super::core::{Core, Slot, Timer};
use super::message::Effects;

/// How many bytes of a partition are taken in at a time.
const SLICE_BYTES: usize = 256 << 10;

/// The most that a batch of our own may unpack to.
const UNPACKED_BYTES_MAX: usize = 64 << 20;

/// How far the loading is.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// The next offset; none before the first slice.
    next: Option<Offset>,
    /// It stands in the queue.
    queued: bool,
    /// When its first slice came.
    since: Option<Mono>,
    /// Records read until now.
    records: u64,
}

/// What a slice came to.
enum Progress {
    /// There is more, from here on.
    More(Offset),
    /// The disk or a commit has to come first.
    Waiting(Offset),
    /// All is in.
    Loaded,
    /// The log cannot be read.
    Failed,
}

impl Core {
    /// The partition may have something to load for its coordinator: it is open, or brought what
    /// was missing, or committed it.
    pub(super) fn load(&mut self, now: Now, slot: Slot) {
        let Some(seat) = self.coordinators.seats.get_mut(&slot) else {
            return;
        };
        if let Stage::Loading(loading) = &mut seat.stage
            && !loading.queued
        {
            loading.queued = true;
            self.coordinators.queue.push_back(slot);
            self.timers.set(Timer::Loading, Mono(now.mono.0 + 1));
        }
    }

    /// Coordinators of new partitions have nothing to load: they serve at once.
    pub(super) fn load_new(&mut self, now: Now, effects: &mut Effects) {
        let seats = &self.coordinators.seats;
        let new = seats.iter().filter(|(slot, seat)| {
            let partition = self.partitions.get(**slot);
            matches!(seat.stage, Stage::Loading(_))
                && partition.is_some_and(|of| of.is_ready() && of.log_end() == of.log_start())
        });
        let new: Vec<Slot> = new.map(|(slot, _)| *slot).collect();
        for slot in new {
            self.load_slice(now, slot, effects);
        }
    }

    /// True while a coordinator is read in from this partition: what the disk brought for it is
    /// looked at in a later turn.
    pub(super) fn is_loading(&self, slot: Slot) -> bool {
        let seat = self.coordinators.seats.get(&slot);
        seat.is_some_and(|seat| matches!(seat.stage, Stage::Loading(_)))
    }

    /// Loads one slice of the coordinator whose turn it is.
    pub(super) fn load_more(&mut self, now: Now, effects: &mut Effects) {
        if let Some(slot) = self.coordinators.queue.pop_front() {
            self.load_slice(now, slot, effects);
        }
        if !self.coordinators.queue.is_empty() {
            self.timers.set(Timer::Loading, Mono(now.mono.0 + 1));
        }
    }

    fn load_slice(&mut self, now: Now, slot: Slot, effects: &mut Effects) {
        let Some(seat) = self.coordinators.seats.get_mut(&slot) else {
            return;
        };
        let Stage::Loading(loading) = &mut seat.stage else {
            return;
        };
        loading.queued = false;
        let Some(partition) = self.partitions.get_mut(slot) else {
            return;
        };
        if !partition.is_ready() {
            if partition.fault().is_some() {
                seat.stage = Stage::Failed;
            }
            return;
        }
        let from = loading.next.unwrap_or(partition.log_start());
        let since = *loading.since.get_or_insert(now.mono);
        let mut replay = Replay {
            coordinator: &mut seat.coordinator,
            scratch: &mut self.scratch,
            records: &mut loading.records,
        };
        match slice(&mut replay, partition, from, &mut effects.disk) {
            Progress::More(next) => {
                loading.next = Some(next);
                self.load(now, slot);
            }
            Progress::Waiting(next) => loading.next = Some(next),
            Progress::Failed => seat.stage = Stage::Failed,
            Progress::Loaded => {
                self.measurements.groups.records_loaded += loading.records;
                self.measurements.groups.loaded(now.mono.since(since));
                seat.stage = Stage::Serving;
                self.loaded(now, slot, effects);
            }
        }
    }

    /// The coordinator serves from now on. Offsets of topics that are gone since are deleted: the
    /// broker may have ended between a deletion and its last consequence.
    fn loaded(&mut self, now: Now, slot: Slot, effects: &mut Effects) {
        self.coordinate(now, slot, effects, |seat, _| seat.coordinator.loaded(now));
        self.coordinate(now, slot, effects, |seat, topics| {
            let mut gone = std::mem::take(&mut seat.deleted);
            let mut last = "";
            for (_, topic, _, _) in seat.coordinator.offsets().iter() {
                if topic != last && topics.get(topic).is_none() {
                    gone.push(topic.to_owned());
                }
                last = topic;
            }
            gone.sort();
            gone.dedup();
            match gone.is_empty() {
                true => Decision::default(),
                false => seat.coordinator.topics_deleted(now, topics, &gone),
            }
        });
    }
}

/// Where the records go.
struct Replay<'a> {
    coordinator: &'a mut Coordinator,
    scratch: &'a mut Scratch,
    /// How many there were.
    records: &'a mut u64,
}

fn slice(
    replay: &mut Replay<'_>,
    partition: &mut Partition,
    from: Offset,
    disk: &mut Vec<DiskOp>,
) -> Progress {
    if from >= partition.log_end() {
        return Progress::Loaded;
    }
    if from >= partition.high_watermark() {
        // What a coordinator before this one has appended is not committed yet.
        return Progress::Waiting(from);
    }
    match partition.read_memory(from, SLICE_BYTES) {
        Read::Slices(slices) => {
            let mut next = from;
            for slice in &slices {
                if let Slice::Memory(bytes) = slice {
                    match replay.take(bytes, from) {
                        Ok(Some(after)) => next = after,
                        Ok(None) => {}
                        Err(_) => return Progress::Failed,
                    }
                }
            }
            match next > from {
                true => Progress::More(next),
                false => Progress::Failed,
            }
        }
        Read::Fill(range) => {
            partition.fill(range, disk);
            Progress::Waiting(from)
        }
        Read::BelowStart => Progress::More(partition.log_start()),
        Read::Nothing | Read::AboveEnd | Read::Fenced => Progress::Failed,
    }
}

impl Replay<'_> {
    /// Takes in the records from `from` on; the offset after the last batch, none without one.
    fn take(&mut self, bytes: &[u8], from: Offset) -> Result<Option<Offset>, BatchError> {
        let mut next = None;
        for batch in Batches::new(bytes) {
            let batch = batch?;
            batch.verify()?;
            next = Some(batch.header.last_offset().plus(1));
            if batch.header.is_control() {
                continue;
            }
            for record in batch.records(self.scratch, UNPACKED_BYTES_MAX)? {
                let record = record?;
                if record.offset >= from
                    && let Some(key) = record.key
                {
                    *self.records += 1;
                    // A record that is not understood says nothing: an admin client may have put
                    // it there, or a newer broker.
                    let _ = self.coordinator.replay(key, record.value, record.offset);
                }
            }
        }
        Ok(next)
    }
}
