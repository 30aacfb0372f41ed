//! Compaction on this core: one log at a time, the dirtiest first, in slices between everything else.
//!
//! Decides when and how much; knows nothing of keys and segments. Each slice gives one disk operation
//! or a bounded piece of work; the next one comes a turn later at the earliest, and later still while
//! the core has appends to make durable, or when `log.cleaner.io.max.bytes.per.second` says so (each
//! core has an equal share of it).

use std::time::Duration;

use crate::base::{Mono, Now, Prng};
use crate::log::{Abandoned, Compacted, Dirtiness, Progress};
use crate::partition::{CompactionLimits, Partition};

use super::core::{Core, Slot, Timer};
use super::message::Effects;

/// How long a round that has to wait for readers or the checkpoint is left alone, in milliseconds.
const BLOCKED_MS: i64 = 10;
/// How long until a round that waits for the disk is looked at all the same: its partition may be gone.
const WATCH_MS: i64 = 1000;
/// The least memory for keys, in bytes: Kafka's least for a thread.
const KEY_BYTES_MIN: usize = 1 << 20;
/// What is read and written a second, in bytes, while the core has appends to make durable: at this
/// rate their p99 stays below twice what it is without a cleaner (`cargo bench --bench whole -- cleaner`:
/// one writer 1.7 times, eight writers 1.2 times). The arrears raise it, so that they stay bounded: by
/// as much again for each [`ARREARS_BYTES`].
const BUSY_BYTES_PER_SECOND: f64 = 50e6;
/// See [`BUSY_BYTES_PER_SECOND`].
const ARREARS_BYTES: f64 = 4e9;
/// How long after an append the core counts as busy.
const BUSY: Duration = Duration::from_millis(100);

/// What this core cleans, and when.
#[derive(Debug)]
pub(super) struct Cleaning {
    current: Option<Slot>,
    /// Before that nothing is read or written, for the rate that was asked for.
    not_before: Mono,
    secret: (u64, u64),
    /// When something was appended last.
    appended: Option<Mono>,
    /// Dirty bytes of the log under compaction.
    arrears: u64,
    /// When the last round began, or the core did.
    pub(super) last_run: Mono,
    /// The dirtiest log's dirty share when it was last looked, in percent.
    pub(super) dirty_percent_max: u64,
    /// For how long the most overdue log has been waiting for longer than it should.
    pub(super) overdue_max: Duration,
}

impl Cleaning {
    pub(super) fn new(seed: u64, now: Now) -> Cleaning {
        let mut prng = Prng::new(seed ^ 0x636c_6561_6e65_7221);
        Cleaning {
            current: None,
            not_before: now.mono,
            secret: (prng.next_u64(), prng.next_u64()),
            appended: None,
            arrears: 0,
            last_run: now.mono,
            dirty_percent_max: 0,
            overdue_max: Duration::ZERO,
        }
    }

    /// Something was appended: the disk is wanted for it.
    pub(super) fn appended(&mut self, now: Now) {
        self.appended = Some(now.mono);
    }

    /// What may be read and written a second now, if nothing else was configured.
    fn polite_rate(&self, now: Now) -> f64 {
        let since = self.appended.map(|at| now.mono.since(at));
        match since.is_some_and(|since| since < BUSY) {
            true => BUSY_BYTES_PER_SECOND * (1.0 + self.arrears as f64 / ARREARS_BYTES),
            false => f64::MAX,
        }
    }
}

impl Core {
    /// The cleaner's timer: the next slice, or a look around for something to do.
    pub(super) fn clean(&mut self, now: Now, effects: &mut Effects) {
        if self.stopping() {
            return;
        }
        match self.cleaning.current {
            Some(slot) => self.clean_slice(now, slot, effects),
            None => self.look_for_dirt(now),
        }
    }

    /// The disk has done what a round waited for.
    pub(super) fn cleaning_due(&mut self, now: Now, slot: Slot) {
        if self.cleaning.current == Some(slot) {
            let at = self.cleaning.not_before.max(Mono(now.mono.0 + 1));
            self.timers.set(Timer::Cleaning, at);
        }
    }

    pub(super) fn clean_later(&mut self, now: Now) {
        let backoff = self.settings.cleaner.backoff_ms.max(1);
        self.timers.set(Timer::Cleaning, now.mono.after_ms(backoff));
    }

    /// Picks the dirtiest log that is dirty enough (apache/kafka
    /// `LogCleanerManager.grabFilthiestCompactedLog`).
    fn look_for_dirt(&mut self, now: Now) {
        self.clean_later(now);
        if !self.settings.cleaner.enabled {
            return;
        }
        let partitions = &self.partitions;
        let slots = self.slots();
        let dirty = slots.into_iter().filter_map(|slot| {
            let dirtiness = partitions.get(slot)?.dirtiness(now)?;
            Some((slot, dirtiness))
        });
        let dirty: Vec<(Slot, Dirtiness)> = dirty.collect();
        let ratios = dirty.iter().map(|(_, dirtiness)| dirtiness.ratio());
        let most = ratios.fold(0.0, f64::max);
        let overdue = dirty.iter().map(|(_, dirtiness)| dirtiness.overdue_ms);
        self.cleaning.dirty_percent_max = (most * 100.0) as u64;
        self.cleaning.overdue_max = Duration::from_millis(overdue.max().unwrap_or(0).max(0) as u64);
        let due = dirty
            .into_iter()
            .filter(|(_, dirtiness)| dirtiness.is_due());
        let dirtiest = due.max_by(|(_, a), (_, b)| a.ratio().total_cmp(&b.ratio()));
        let limits = self.compaction_limits();
        let Some((slot, dirtiness)) = dirtiest else {
            return;
        };
        self.cleaning.arrears = dirtiness.dirty_bytes;
        let Some(partition) = self.partitions.get_mut(slot) else {
            return;
        };
        if partition.begin_compaction(now, limits) {
            self.cleaning.current = Some(slot);
            self.cleaning.last_run = now.mono;
            self.key_bytes = self
                .partitions
                .get(slot)
                .map_or(0, Partition::compaction_bytes);
            self.cleaning_due(now, slot);
        }
    }

    /// The keys' memory is this core's share of what was configured, and no more than half of what
    /// the core may keep for readers, whose share it is taken from.
    fn compaction_limits(&self) -> CompactionLimits {
        let cleaner = &self.settings.cleaner;
        let share = cleaner.dedupe_bytes / usize::from(self.setup.cores.max(1));
        let spare = self.setup.cache_bytes_max / 2;
        CompactionLimits {
            key_bytes_max: share.min(spare).max(KEY_BYTES_MIN),
            load_factor: cleaner.load_factor,
            secret: self.cleaning.secret,
        }
    }

    fn clean_slice(&mut self, now: Now, slot: Slot, effects: &mut Effects) {
        let Some(partition) = self.partitions.get_mut(slot) else {
            return self.cleaned(now, slot, None, effects);
        };
        let mut events = Vec::new();
        let (progress, moved) = partition.compact(now, &mut effects.disk, &mut events);
        self.count_cache(slot);
        self.partition_events(now, slot, &mut events, effects);
        self.dirty(slot);
        self.pace(now, moved);
        let soon = self.cleaning.not_before.max(Mono(now.mono.0 + 1));
        match progress {
            Progress::More => self.timers.set(Timer::Cleaning, soon),
            Progress::Blocked => {
                let at = now.mono.after_ms(BLOCKED_MS);
                self.timers.set(Timer::Cleaning, at);
            }
            Progress::Waiting => {
                let at = now.mono.after_ms(WATCH_MS).max(soon);
                self.timers.set(Timer::Cleaning, at);
            }
            Progress::Done(done) => self.cleaned(now, slot, Some(Ok(*done)), effects),
            Progress::GivenUp(why) => self.cleaned(now, slot, Some(Err(why)), effects),
            Progress::Idle => self.cleaned(now, slot, None, effects),
        }
    }

    /// So many bytes were given to the disk: the next ones have to wait for the rate.
    fn pace(&mut self, now: Now, moved: u64) {
        let cores = f64::from(self.setup.cores.max(1));
        let configured = (self.settings.cleaner.io_bytes_per_second / cores).max(1.0);
        let rate = configured.min(self.cleaning.polite_rate(now));
        let seconds = moved as f64 / rate;
        let pause = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        self.cleaning.not_before = self.cleaning.not_before.max(now.mono).after(pause);
    }

    /// The round is over, one way or another.
    fn cleaned(
        &mut self,
        now: Now,
        slot: Slot,
        outcome: Option<Result<Compacted, Abandoned>>,
        effects: &mut Effects,
    ) {
        self.cleaning.current = None;
        self.key_bytes = 0;
        let figures = &mut self.measurements.cleaner;
        match &outcome {
            Some(Ok(done)) => {
                figures.runs += 1;
                figures.mapped_bytes += done.mapped_bytes;
                figures.read_bytes += done.bytes_before;
                figures.written_bytes += done.bytes_after;
                figures.records_read += done.records_before;
                figures.records_kept += done.records_after;
                figures.key_table_percent = u64::from(done.keys_percent);
                let after = 100 * done.bytes_after;
                figures.recopy_percent = after / done.bytes_before.max(1);
                figures.last_took = done.took;
                // There may be another one that is as dirty.
                self.timers.set(Timer::Cleaning, Mono(now.mono.0 + 1));
            }
            Some(Err(_)) => {
                figures.given_up += 1;
                self.clean_later(now);
            }
            None => self.clean_later(now),
        }
        let id = self.partitions.get(slot).map(Partition::id);
        if let (Some(id), Some(outcome)) = (id, outcome) {
            effects.compactions.push((id, outcome));
        }
    }
}
