//! A core's journals, one on each data directory, between its logs and the disk.

use std::ops::RangeInclusive;

use crate::base::{DiskDone, DiskOp, Now, OpId};
use crate::cluster::configs::BrokerSettings;
use crate::log::Fault;
use crate::obs::Journal as Measured;

use super::core::{Core, Setup, Slot, Timer};
use super::journal::{Journal, Options, Outcome};
use super::message::Effects;

/// The owners of what journals ask of the disks: the first one's, by data directory.
const JOURNAL_OWNER: u32 = u32::MAX - 1024;
/// All of them.
const JOURNAL_OWNERS: RangeInclusive<u32> = JOURNAL_OWNER..=u32::MAX - 16;
/// How often it is looked whether a journal has nothing to do, in milliseconds.
const LOOKED_AT_EVERY_MS: i64 = 500;

/// True for what journals themselves ask of the disks.
pub fn is_of_journal(id: OpId) -> bool {
    JOURNAL_OWNERS.contains(&id.owner)
}

/// One for each data directory.
#[derive(Debug)]
pub(super) struct Journals {
    journals: Vec<Journal>,
    /// There is any: `corelane.journal.bytes` is not 0.
    kept: bool,
    /// Images that the start brought home, on core 0.
    pub(super) replayed: u64,
    outcome: Outcome,
}

impl Journals {
    pub(super) fn new(setup: &Setup, settings: &BrokerSettings) -> Journals {
        let disks = setup.disks.clamp(1, 1000);
        let options = Options {
            bytes: settings.journal_bytes,
            writes_min: settings.journal_writes_min as usize,
            // What is not home yet is in the cache, the same bytes: the rest of it must be able to go.
            memory_bytes: setup.cache_bytes_max / 8 * 5,
        };
        let journal = |disk| {
            let owner = JOURNAL_OWNER + u32::from(disk);
            let (pool, options) = (setup.pool.clone(), options.clone());
            Journal::new(owner, disk, setup.core.0, pool, options)
        };
        Journals {
            journals: (0..disks).map(journal).collect(),
            kept: settings.journal_bytes > 0,
            replayed: 0,
            outcome: Outcome::default(),
        }
    }

    /// Of all together.
    pub(super) fn measure(&self) -> Measured {
        let mut sum = Measured {
            replayed: self.replayed,
            ..Measured::default()
        };
        for journal in &self.journals {
            let one = journal.measure();
            sum.writes += one.writes;
            sum.bytes += one.bytes;
            sum.entries += one.entries;
            sum.recycles += one.recycles;
            sum.bypasses += one.bypasses;
            sum.brought_home += one.brought_home;
            sum.files += one.files;
            sum.memory_bytes += one.memory_bytes;
        }
        sum
    }

    /// A log's own operation is over.
    pub(super) fn direct_done(&mut self, id: OpId) {
        for journal in &mut self.journals {
            journal.direct_done(id);
        }
    }
}

impl Core {
    /// What logs asked of the disk since `before` goes by the journals. When the turn ends, what they
    /// gathered becomes one write.
    pub(super) fn pass_journals(
        &mut self,
        now: Now,
        before: usize,
        turn_ends: bool,
        effects: &mut Effects,
    ) {
        if !self.journals.kept {
            return;
        }
        let mut from = before;
        loop {
            let asked: Vec<DiskOp> = effects.disk.drain(from..).collect();
            let mut outcome = std::mem::take(&mut self.journals.outcome);
            for op in asked {
                self.route(op, &mut outcome);
            }
            for journal in &mut self.journals.journals {
                journal.pump(&mut outcome);
                if turn_ends {
                    journal.end_turn(&mut outcome);
                }
            }
            effects.disk.append(&mut outcome.ops);
            from = effects.disk.len();
            let done = self.take_outcome(now, &mut outcome, effects);
            self.journals.outcome = outcome;
            if !done {
                break;
            }
        }
        let in_use = self.journals.journals.iter().any(Journal::is_in_use);
        if in_use && self.timers.get(&Timer::Journals).is_none() {
            let at = now.mono.after_ms(LOOKED_AT_EVERY_MS);
            self.timers.set(Timer::Journals, at);
        }
    }

    fn route(&mut self, op: DiskOp, outcome: &mut Outcome) {
        let slot = Slot(op.id().owner);
        let topic = self
            .partitions
            .get(slot)
            .map(|partition| partition.id().topic);
        let disk = usize::from(op.target().disk);
        match (topic, self.journals.journals.get_mut(disk)) {
            (Some(topic), Some(journal)) => journal.route(topic, op, outcome),
            _ => outcome.ops.push(op),
        }
    }

    /// Tells the logs; true if there was anything to tell.
    fn take_outcome(&mut self, now: Now, outcome: &mut Outcome, effects: &mut Effects) -> bool {
        for (owner, file, upto) in outcome.home.drain(..) {
            let slot = Slot(owner);
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.brought_home(&file, upto);
            }
        }
        let failed = std::mem::take(&mut outcome.failed);
        let mut any = !failed.is_empty();
        for (owner, fault) in failed {
            let mut events = Vec::new();
            if let Some(partition) = self.partitions.get_mut(Slot(owner)) {
                partition.give_up(Fault::Disk(fault), &mut events);
            }
            self.partition_events(now, Slot(owner), &mut events, effects);
        }
        let done = std::mem::take(&mut outcome.done);
        any |= !done.is_empty();
        for done in done {
            self.log_disk(now, done, effects);
        }
        any
    }

    /// The outcome of an operation of a journal's own.
    pub(super) fn journal_disk(&mut self, now: Now, done: DiskDone, effects: &mut Effects) {
        let disk = (done.id.owner - JOURNAL_OWNER) as usize;
        let Some(journal) = self.journals.journals.get_mut(disk) else {
            return;
        };
        let mut outcome = std::mem::take(&mut self.journals.outcome);
        journal.own_done(done, &mut outcome);
        effects.disk.append(&mut outcome.ops);
        self.take_outcome(now, &mut outcome, effects);
        self.journals.outcome = outcome;
        if self.stopping() {
            self.finish_stop(effects);
        }
    }

    /// Empties journals that were not written to for a while.
    pub(super) fn rest_journals(&mut self, now: Now, effects: &mut Effects) {
        let mut outcome = std::mem::take(&mut self.journals.outcome);
        for journal in &mut self.journals.journals {
            journal.rest(&mut outcome);
        }
        effects.disk.append(&mut outcome.ops);
        self.take_outcome(now, &mut outcome, effects);
        self.journals.outcome = outcome;
    }

    /// All logs are closed: true when the journals are, too.
    pub(super) fn close_journals(&mut self, effects: &mut Effects) -> bool {
        let mut outcome = std::mem::take(&mut self.journals.outcome);
        for journal in &mut self.journals.journals {
            journal.close(&mut outcome);
        }
        effects.disk.append(&mut outcome.ops);
        self.journals.outcome = outcome;
        self.journals.journals.iter().all(Journal::is_closed)
    }
}
