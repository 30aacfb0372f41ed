//! Reads and look-ups, and how they wait: for bytes that are not there yet (long polling), or for
//! a range that the disk has to bring. A waiting job is run again from its start when one of its
//! partitions moved, so that nothing half-done is ever kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{DiskOp, LeaderEpoch, Mono, Now, Offset};
use crate::log::{Lookup, Read, Slice};
use crate::obs::FetchStage;
use crate::partition::{Partition, Refusal};

use super::core::{Core, Slot, Timer};
use super::message::{
    Effects, FoundOffset, OffsetQuery, OffsetSpec, ReadQuery, ReadRequest, ReadResult, Reply,
    Ticket,
};

#[derive(Debug)]
enum Work {
    Read(ReadRequest),
    ListOffsets(Vec<OffsetQuery>),
}

/// What is to be answered.
#[derive(Debug)]
struct Task {
    ticket: Ticket,
    work: Work,
    /// The asker has cancelled: answer as soon as no disk read is awaited.
    hurried: bool,
    /// Since when it has been parked; none before that.
    parked: Option<Mono>,
}

impl Task {
    fn new(ticket: Ticket, work: Work) -> Task {
        Task {
            ticket,
            work,
            hurried: false,
            parked: None,
        }
    }
}

/// A task that waits, and for which partitions.
#[derive(Debug)]
struct Job {
    task: Task,
    watched: Vec<Slot>,
    /// What it needs at once, if it waits for the disk to bring some of that.
    needed: Vec<Slot>,
}

/// The jobs that wait, and what for.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    jobs: BTreeMap<u64, Job>,
    by_ticket: BTreeMap<Ticket, u64>,
    by_slot: BTreeMap<Slot, BTreeSet<u64>>,
    /// By slot, how many jobs need something of it that the disk has to bring.
    needed: BTreeMap<Slot, usize>,
    next: u64,
}

impl Jobs {
    fn watch(&mut self, number: u64, slot: Slot) {
        self.by_slot.entry(slot).or_default().insert(number);
    }

    fn take(&mut self, number: u64) -> Option<Job> {
        let job = self.jobs.remove(&number)?;
        self.by_ticket.remove(&job.task.ticket);
        for slot in &job.watched {
            if let Some(numbers) = self.by_slot.get_mut(slot) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_slot.remove(slot);
                }
            }
        }
        for slot in &job.needed {
            if let Some(count) = self.needed.get_mut(slot) {
                *count -= 1;
                if *count == 0 {
                    self.needed.remove(slot);
                }
            }
        }
        Some(job)
    }

    /// True while a job waits for the disk and needs what it brought of this partition.
    pub(super) fn need_the_disk(&self, slot: Slot) -> bool {
        self.needed.contains_key(&slot)
    }

    /// The jobs that wait for this partition.
    pub(super) fn waiting_for(&self, slot: Slot) -> Vec<u64> {
        self.by_slot
            .get(&slot)
            .map(|jobs| jobs.iter().copied().collect())
            .unwrap_or_default()
    }
}

/// What one run of a read found.
struct Found {
    results: Vec<ReadResult>,
    bytes: usize,
    /// A refusal or a diverging history: the client has to be told now.
    urgent: bool,
    /// The disk was asked for something.
    filling: bool,
}

impl Core {
    pub(super) fn read(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: ReadRequest,
        effects: &mut Effects,
    ) {
        self.measurements
            .fetch
            .passed(FetchStage::Queue, now.mono.since(request.sent));
        let task = Task::new(ticket, Work::Read(request));
        self.run(now, task, effects);
    }

    pub(super) fn list_offsets(
        &mut self,
        now: Now,
        ticket: Ticket,
        queries: Vec<OffsetQuery>,
        effects: &mut Effects,
    ) {
        let task = Task::new(ticket, Work::ListOffsets(queries));
        self.run(now, task, effects);
    }

    /// Runs a waiting job again: its partition moved, its deadline came, or it is to hurry.
    pub(super) fn run_again(&mut self, now: Now, number: u64, effects: &mut Effects) {
        let Some(job) = self.jobs.take(number) else {
            return;
        };
        self.timers.cancel(&Timer::Job(number));
        self.run(now, job.task, effects);
    }

    pub(super) fn cancel(&mut self, now: Now, ticket: Ticket, effects: &mut Effects) {
        let Some(number) = self.jobs.by_ticket.get(&ticket).copied() else {
            return;
        };
        if let Some(job) = self.jobs.jobs.get_mut(&number) {
            job.task.hurried = true;
        }
        self.run_again(now, number, effects);
    }

    fn run(&mut self, now: Now, task: Task, effects: &mut Effects) {
        match &task.work {
            Work::Read(request) => {
                let found = self.try_read(request, &mut effects.disk);
                let enough = found.bytes as i64 >= request.min_bytes
                    || found.urgent
                    || task.hurried
                    || now.mono >= request.deadline;
                // Without any bytes a read that the disk is busy for would be answered empty, again
                // and again: it waits, for a disk read is short.
                let starving = found.filling && found.bytes == 0 && !found.urgent;
                if (enough && !starving) || self.stopping() {
                    self.count_read(now, task.parked, &found.results);
                    let reply = Reply::Read(found.results);
                    effects.replies.push((task.ticket, reply));
                    return;
                }
                let deadline = (!starving).then_some(request.deadline);
                let ids = request.partitions.iter().map(|query| query.partition);
                let watched: Vec<Slot> = ids.filter_map(|id| self.slot(id)).collect();
                if task.parked.is_none() {
                    self.measurements.fetch.waits += 1;
                }
                let needed = if found.filling {
                    watched.clone()
                } else {
                    Vec::new()
                };
                let number = self.park(now, task, watched, needed);
                if let Some(deadline) = deadline {
                    self.timers.set(Timer::Job(number), deadline);
                }
            }
            Work::ListOffsets(queries) => match self.try_list_offsets(queries, &mut effects.disk) {
                Ok(found) => {
                    let reply = Reply::ListOffsets(found);
                    effects.replies.push((task.ticket, reply));
                }
                Err(watched) => {
                    // Those that were found are looked for again with the others.
                    let ids = queries.iter().map(|query| query.partition);
                    let needed = ids.filter_map(|id| self.slot(id)).collect();
                    self.park(now, task, watched, needed);
                }
            },
        }
    }

    /// Notes a read that is answered now, and has been parked since then.
    fn count_read(&mut self, now: Now, parked: Option<Mono>, results: &[ReadResult]) {
        if let Some(since) = parked {
            let waited = now.mono.since(since);
            self.measurements.fetch.passed(FetchStage::Wait, waited);
        }
        let cache = &mut self.measurements.cache;
        for slices in results
            .iter()
            .filter_map(|result| result.slices.as_ref().ok())
        {
            let mut from_file = false;
            for slice in slices {
                match slice {
                    Slice::Memory(bytes) => cache.hit_bytes += bytes.len() as u64,
                    Slice::File { len, .. } => {
                        cache.miss_bytes += *len as u64;
                        from_file = true;
                    }
                }
            }
            cache.misses += u64::from(from_file);
            cache.hits += u64::from(!from_file && !slices.is_empty());
        }
    }

    fn park(&mut self, now: Now, mut task: Task, watched: Vec<Slot>, needed: Vec<Slot>) -> u64 {
        let number = self.jobs.next;
        self.jobs.next += 1;
        for slot in &watched {
            self.jobs.watch(number, *slot);
        }
        for slot in &needed {
            *self.jobs.needed.entry(*slot).or_default() += 1;
        }
        task.parked.get_or_insert(now.mono);
        self.jobs.by_ticket.insert(task.ticket, number);
        let job = Job {
            task,
            watched,
            needed,
        };
        self.jobs.jobs.insert(number, job);
        number
    }

    fn try_read(&mut self, request: &ReadRequest, disk: &mut Vec<DiskOp>) -> Found {
        let mut found = Found {
            results: Vec::with_capacity(request.partitions.len()),
            bytes: 0,
            urgent: false,
            filling: false,
        };
        for query in &request.partitions {
            let slot = self.slot(query.partition);
            let Some(partition) = slot.and_then(|slot| self.partitions.get_mut(slot)) else {
                found.urgent = true;
                found
                    .results
                    .push(refused(Refusal::NotLeader, LeaderEpoch(-1)));
                continue;
            };
            let left = request.max_bytes.saturating_sub(found.bytes);
            let result = read_one(partition, query, left, &mut found, disk);
            found.results.push(result);
        }
        found
    }

    /// The answers, or the partitions whose disk has to bring something first.
    fn try_list_offsets(
        &mut self,
        queries: &[OffsetQuery],
        disk: &mut Vec<DiskOp>,
    ) -> Result<Vec<Result<FoundOffset, Refusal>>, Vec<Slot>> {
        let mut answers = Vec::with_capacity(queries.len());
        let mut filling = Vec::new();
        for query in queries {
            let slot = self.slot(query.partition);
            let Some((slot, partition)) =
                slot.and_then(|slot| Some((slot, self.partitions.get_mut(slot)?)))
            else {
                answers.push(Err(Refusal::NotLeader));
                continue;
            };
            match look_up(partition, query) {
                Ok(Ok(offset)) => answers.push(Ok(offset)),
                Ok(Err(range)) => {
                    partition.fill(range, disk);
                    filling.push(slot);
                }
                Err(refusal) => answers.push(Err(refusal)),
            }
        }
        if filling.is_empty() {
            Ok(answers)
        } else {
            Err(filling)
        }
    }
}

fn refused(refusal: Refusal, leader_epoch: LeaderEpoch) -> ReadResult {
    ReadResult {
        slices: Err(refusal),
        size: 0,
        high_watermark: Offset(-1),
        last_stable_offset: Offset(-1),
        log_start_offset: Offset(-1),
        diverging: None,
        leader_epoch,
    }
}

fn read_one(
    partition: &mut Partition,
    query: &ReadQuery,
    left: usize,
    found: &mut Found,
    disk: &mut Vec<DiskOp>,
) -> ReadResult {
    let leader_epoch = partition.leader_epoch();
    if !partition.is_ready() && partition.fault().is_none() {
        found.urgent = true;
        return refused(Refusal::NotLeader, leader_epoch);
    }
    if let Err(refusal) = partition.check_epoch(query.current_leader_epoch) {
        found.urgent = true;
        return refused(refusal, leader_epoch);
    }
    let mut result = ReadResult {
        slices: Ok(Vec::new()),
        size: 0,
        high_watermark: partition.high_watermark(),
        last_stable_offset: partition.last_stable_offset(),
        log_start_offset: partition.log_start(),
        diverging: diverging(partition, query),
        leader_epoch,
    };
    if result.diverging.is_some() {
        found.urgent = true;
        return result;
    }
    match partition.read(query.offset, query.max_bytes.min(left), found.bytes == 0) {
        Err(refusal) => {
            found.urgent = true;
            let out_of_range = matches!(refusal, Refusal::OffsetOutOfRange { .. });
            let mut answer = refused(refusal, leader_epoch);
            if out_of_range {
                // The client resets by these.
                answer.high_watermark = result.high_watermark;
                answer.last_stable_offset = result.last_stable_offset;
                answer.log_start_offset = result.log_start_offset;
            }
            return answer;
        }
        Ok(Read::Slices(slices)) => {
            result.size = slices.iter().map(Slice::size).sum();
            found.bytes += result.size;
            result.slices = Ok(slices);
        }
        Ok(Read::Fill(range)) => {
            partition.fill(range, disk);
            found.filling = true;
        }
        Ok(Read::Nothing | Read::BelowStart | Read::AboveEnd | Read::Fenced) => {}
    }
    result
}

/// Where the client's history leaves the log's, if its last epoch ends earlier here (KIP-595).
fn diverging(partition: &Partition, query: &ReadQuery) -> Option<(LeaderEpoch, Offset)> {
    // Of what could not be opened, the end is not known: nobody shall go back to it.
    if query.last_fetched_epoch.0 < 0 || !partition.is_ready() {
        return None;
    }
    let unknown = (LeaderEpoch(-1), Offset(-1));
    let (epoch, end) = partition
        .epoch_end(query.last_fetched_epoch)
        .unwrap_or(unknown);
    (epoch < query.last_fetched_epoch || end < query.offset).then_some((epoch, end))
}

type LookedUp = Result<FoundOffset, crate::log::FileRange>;

fn look_up(partition: &mut Partition, query: &OffsetQuery) -> Result<LookedUp, Refusal> {
    let is_open = partition.check_opened(query.current_leader_epoch)?;
    // Where it ends is not known otherwise, and where it begins only if it was damage that was in the
    // way.
    let damaged = matches!(partition.fault(), Some(crate::log::Fault::Corrupt { .. }));
    let begins = damaged && matches!(query.spec, OffsetSpec::Earliest);
    if !is_open && !begins {
        return Err(Refusal::Fenced);
    }
    let at = |offset: Offset, leader_epoch| FoundOffset {
        offset,
        timestamp: -1,
        leader_epoch,
    };
    let epoch = partition.leader_epoch();
    let lookup = match query.spec {
        OffsetSpec::Earliest => return Ok(Ok(at(partition.log_start(), epoch))),
        OffsetSpec::Latest => return Ok(Ok(at(partition.last_stable_offset(), epoch))),
        OffsetSpec::LatestTiered => return Ok(Ok(at(Offset(-1), LeaderEpoch(-1)))),
        OffsetSpec::MaxTimestamp => partition.max_timestamp(),
        OffsetSpec::AtOrAfter(timestamp) => partition.offset_for_timestamp(timestamp),
    };
    Ok(match lookup {
        Lookup::Found {
            offset,
            timestamp,
            leader_epoch,
        } => Ok(FoundOffset {
            offset,
            timestamp,
            leader_epoch,
        }),
        Lookup::None => Ok(at(Offset(-1), LeaderEpoch(-1))),
        Lookup::Fill(range) => Err(range),
    })
}
