//! A producer as Kafka's clients are: up to five batches in flight, in order; what was not answered
//! is sent again with the same sequences.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::base::{CoreId, ProducerEpoch, ProducerId, Sequence, TopicPartition};
use crate::log::AppendRefused;
use crate::partition::Refusal;
use crate::record::{BatchBuilder, Codec};
use crate::shard::{AppendRequest, Reply, Request};

use super::compacted;
use super::model::RecordNumber;
use super::world::{Happening, World};

/// Batches in flight at once, as with `max.in.flight.requests.per.connection`.
const IN_FLIGHT_MAX: usize = 5;
/// The mark of the question for a producer id; batches have their own numbers above it.
const ID_MARK: u64 = 0;

#[derive(Debug)]
struct Outgoing {
    mark: u64,
    first: RecordNumber,
    count: u64,
    bytes: Bytes,
    in_flight: bool,
    /// Everything before it was answered when it was sent: its sequence cannot be out of order.
    sure: bool,
    /// What the model said of the topic when it was last sent.
    strict: Option<u64>,
}

/// One producer. Writes to one partition at a time.
#[derive(Debug)]
pub(super) struct Producer {
    index: usize,
    home: CoreId,
    idempotent: bool,
    id: Option<ProducerId>,
    asking: bool,
    target: Option<TopicPartition>,
    /// The next sequence, by partition.
    sequences: BTreeMap<TopicPartition, Sequence>,
    batches: VecDeque<Outgoing>,
    /// Something was refused: nothing new until the rest is answered, then all again in order.
    failing: bool,
    /// A refusal is answered with a pause.
    not_before_ns: u64,
    marks: u64,
    /// Batches up to this mark were given up: their answers are of no interest.
    given_up: u64,
    /// The newest batch that was acknowledged, and its base offset: later batches lie behind.
    newest: Option<(u64, i64)>,
    /// The last acknowledged record of this identity, by partition: it is known there since.
    known: BTreeMap<TopicPartition, RecordNumber>,
    /// A later batch was taken before an earlier one where the producer may not have been known:
    /// of a stranger any sequence is taken, as by Kafka, and then the earlier one comes too late.
    overtaken: bool,
}

impl Producer {
    pub(super) fn new(index: usize, idempotent: bool) -> Producer {
        Producer {
            index,
            home: CoreId(0),
            idempotent,
            id: None,
            asking: false,
            target: None,
            sequences: BTreeMap::new(),
            batches: VecDeque::new(),
            failing: false,
            not_before_ns: 0,
            marks: ID_MARK,
            given_up: ID_MARK,
            newest: None,
            known: BTreeMap::new(),
            overtaken: false,
        }
    }

    /// Nothing is left to be sent or answered.
    pub(super) fn is_done(&self) -> bool {
        self.batches.is_empty() && !self.asking
    }

    /// The broker is another process: no answer will come any more.
    pub(super) fn restarted(&mut self, home: CoreId) {
        self.home = home;
        self.asking = false;
        self.failing = true;
        self.newest = None;
        for batch in &mut self.batches {
            batch.in_flight = false;
        }
        if !self.idempotent {
            // Whether they were written nobody will know.
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.given_up = self.marks;
        self.batches.clear();
        self.overtaken = false;
    }

    pub(super) fn wake(&mut self, world: &mut World) {
        self.go_on(world);
        if !(world.calm && self.is_done()) {
            let pause = self.not_before_ns.saturating_sub(world.now_ns);
            let after = pause + 10_000 + world.prng.below(500_000);
            world.later(after, Happening::Client(self.index));
        }
    }

    fn go_on(&mut self, world: &mut World) {
        if !world.is_ready() || self.asking || world.now_ns < self.not_before_ns {
            return;
        }
        let in_flight = self.batches.iter().filter(|batch| batch.in_flight).count();
        if in_flight == 0 && !self.choose_target(world) {
            return;
        }
        if self.idempotent && self.id.is_none() {
            if !world.calm {
                self.asking = true;
                let to = CoreId(world.prng.below(u64::from(world.cores())) as u16);
                world.ask((self.index, ID_MARK), self.home, to, Request::ProducerId);
            }
            return;
        }
        if self.failing {
            if in_flight == 0 {
                self.failing = false;
                self.send_all_again(world);
            }
            return;
        }
        while !world.calm && self.batches.len() < IN_FLIGHT_MAX && !world.prng.one_in(3) {
            self.make_batch(world);
        }
    }

    /// Sees to it that there is a partition to write to.
    fn choose_target(&mut self, world: &mut World) -> bool {
        let image = world.image(self.home);
        let there = |id: TopicPartition| image.topic_by_id(id.topic).is_some();
        let lost = self.target.is_some_and(|id| !there(id));
        if lost {
            self.give_up();
        }
        if lost || self.target.is_none() || (self.batches.is_empty() && world.prng.one_in(20)) {
            self.target = world.some_partition(self.home);
            self.newest = None;
        }
        self.target.is_some()
    }

    fn make_batch(&mut self, world: &mut World) {
        let Some(target) = self.target else { return };
        let next = self.sequences.entry(target).or_default();
        let (first, count, bytes) = batch(world, target, self.id, next);
        self.marks += 1;
        let sure = self.batches.is_empty();
        self.overtaken &= !sure;
        let batch = Outgoing {
            mark: self.marks,
            first,
            count,
            bytes,
            in_flight: false,
            sure,
            strict: None,
        };
        self.batches.push_back(batch);
        self.send(self.batches.len() - 1, world);
    }

    fn send_all_again(&mut self, world: &mut World) {
        for place in 0..self.batches.len() {
            self.batches[place].sure = place == 0;
            self.send(place, world);
        }
    }

    fn send(&mut self, place: usize, world: &mut World) {
        let Some(target) = self.target else { return };
        let batch = &mut self.batches[place];
        batch.in_flight = true;
        batch.strict = world.model.strict(target.topic);
        let request = AppendRequest {
            produce_version: 11,
            from_coordinator: false,
            batches: vec![(target, batch.bytes.clone())],
            sent: world.now().mono,
        };
        let to = world.owner(target);
        let mark = batch.mark;
        world.ask((self.index, mark), self.home, to, Request::Append(request));
    }

    pub(super) fn answered(
        &mut self,
        world: &mut World,
        mark: u64,
        reply: Reply,
    ) -> Result<(), String> {
        match reply {
            Reply::ProducerId(given) if mark == ID_MARK => {
                self.asking = false;
                if let Ok(id) = given {
                    world.model.producer_id(id)?;
                    self.id = Some(id);
                    self.sequences.clear();
                    self.known.clear();
                }
                Ok(())
            }
            Reply::Append(_) if mark <= self.given_up => Ok(()),
            Reply::Append(mut answers) if answers.len() == 1 => match answers.remove(0) {
                Ok(appended) => self.acked(world, mark, appended.base_offset.0),
                Err(refused) => self.refused(world, mark, refused.refusal),
            },
            other => Err(format!("a producer was answered with {other:?}")),
        }
    }

    fn acked(&mut self, world: &mut World, mark: u64, base: i64) -> Result<(), String> {
        let place = self.batches.iter().position(|batch| batch.mark == mark);
        let (Some(place), Some(target)) = (place, self.target) else {
            return Err(format!("batch {mark} was answered twice"));
        };
        let Some(batch) = self.batches.remove(place) else {
            return Ok(());
        };
        let known = self.known.insert(target, batch.first);
        if place > 0 && known.is_none_or(|record| world.model.may_be_forgotten(record)) {
            self.overtaken = true;
        }
        let told = [i64::from(target.partition.0), base, batch.first as i64];
        world
            .trace
            .note(world.now_ns, 0, "acked (partition, offset, record)", told);
        if self.idempotent
            && let Some((newest, at)) = self.newest
            && (newest < mark) != (at < base)
        {
            return Err(format!(
                "{target:?}: batch {mark} is at {base}, batch {newest} at {at}: out of order"
            ));
        }
        if self.newest.is_none_or(|(newest, _)| newest < mark) {
            self.newest = Some((mark, base));
        }
        let (records, base) = ((batch.first, batch.count), crate::base::Offset(base));
        world.model.acked(target, base, records, batch.strict)
    }

    fn refused(&mut self, world: &mut World, mark: u64, refusal: Refusal) -> Result<(), String> {
        let Some(place) = self.batches.iter().position(|batch| batch.mark == mark) else {
            return Err(format!("batch {mark} was answered twice"));
        };
        self.batches[place].in_flight = false;
        let told = [mark as i64, i64::from(refusal.code() as i16), 0];
        world
            .trace
            .note(world.now_ns, 0, "append refused (batch, code)", told);
        match refusal {
            Refusal::NotLeader
            | Refusal::Fenced
            | Refusal::Storage(
                AppendRefused::NoSpace | AppendRefused::Fenced | AppendRefused::NotReady,
            ) => {}
            Refusal::OutOfOrderSequence { .. } if !self.batches[place].sure => {}
            Refusal::OutOfOrderSequence { expected, found } => {
                let Some(target) = self.target else {
                    return Ok(());
                };
                if world.model.losses(target) == 0 && !self.overtaken {
                    return Err(format!(
                        "{target:?}: sequence {found} was refused, {expected} expected, though all \
                         before was acknowledged"
                    ));
                }
                // Acknowledged batches went with the power, or came first: a new identity, as clients
                // do.
                self.id = None;
                self.give_up();
                self.target = None;
                return Ok(());
            }
            other => return Err(format!("a producer was refused: {other:?}")),
        }
        self.not_before_ns = world.now_ns + 5_000_000 + world.prng.below(20_000_000);
        if self.idempotent {
            self.failing = true;
        } else {
            self.batches.remove(place);
        }
        Ok(())
    }
}

/// Some records for `target`, and the batch of them; `next` is the producer's sequence there.
pub(super) fn batch(
    world: &mut World,
    target: TopicPartition,
    id: Option<ProducerId>,
    next: &mut Sequence,
) -> (RecordNumber, u64, Bytes) {
    let count = 1 + world.prng.below(3);
    let first = world.model.new_records(target, count);
    let codec = if world.prng.one_in(6) {
        Codec::Lz4
    } else {
        Codec::None
    };
    let mut builder = BatchBuilder::new(codec);
    if let Some(id) = id {
        builder = builder.producer(id, ProducerEpoch(0), *next);
        *next = next.plus(count as i32);
    }
    for record in first..first + count {
        let padding = if world.prng.one_in(10) { 1300 } else { 120 };
        let mut value = record.to_be_bytes().to_vec();
        value.resize(8 + world.prng.below(padding) as usize, record as u8);
        let now_ms = world.now().wall.0;
        if world.model.compacted.retention(target).is_none() {
            builder.append(now_ms, None, Some(&value), &[]);
            continue;
        }
        value.truncate(300);
        let chosen = compacted::choose(&mut world.prng, now_ms);
        world.model.compacted.sent(record, chosen);
        let (key, number) = (chosen.key.to_be_bytes(), record.to_be_bytes());
        let value = (!chosen.tombstone).then_some(&value[..]);
        builder.append(now_ms, Some(&key), value, &[(b"n", Some(&number))]);
    }
    (first, count, Bytes::from(builder.finish()))
}
