//! A producer that writes to several partitions with one request, one request in flight: each part is
//! answered by itself, in order, and what was not acknowledged is sent again as it was.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::base::{CoreId, Offset, ProducerId, Sequence, TopicPartition};
use crate::log::AppendRefused;
use crate::partition::Refusal;
use crate::shard::{AppendRequest, Reply, Request};

use super::model::RecordNumber;
use super::producer::batch;
use super::world::{Happening, World};

/// The mark of the question for a producer id; requests have their own numbers above it.
const ID_MARK: u64 = 0;
/// Partitions that one request writes to, at most.
const PARTS_MAX: u64 = 5;

/// One partition's batch.
#[derive(Debug)]
struct Part {
    target: TopicPartition,
    first: RecordNumber,
    count: u64,
    bytes: Bytes,
    strict: Option<u64>,
}

/// One such producer, idempotent.
#[derive(Debug)]
pub(super) struct Batcher {
    index: usize,
    home: CoreId,
    id: Option<ProducerId>,
    sequences: BTreeMap<TopicPartition, Sequence>,
    /// What is not acknowledged; the first `in_flight` of it are on their way.
    parts: Vec<Part>,
    in_flight: usize,
    asking: bool,
    marks: u64,
    not_before_ns: u64,
}

impl Batcher {
    pub(super) fn new(index: usize) -> Batcher {
        Batcher {
            index,
            home: CoreId(0),
            id: None,
            sequences: BTreeMap::new(),
            parts: Vec::new(),
            in_flight: 0,
            asking: false,
            marks: ID_MARK,
            not_before_ns: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.parts.is_empty() && !self.asking
    }

    pub(super) fn restarted(&mut self, home: CoreId) {
        self.home = home;
        self.asking = false;
        self.in_flight = 0;
    }

    pub(super) fn wake(&mut self, world: &mut World) {
        let may = world.is_ready() && !self.asking && self.in_flight == 0;
        if may && world.now_ns >= self.not_before_ns {
            self.go_on(world);
        }
        if !(world.calm && self.is_done()) {
            let pause = self.not_before_ns.saturating_sub(world.now_ns);
            let after = pause + 10_000 + world.prng.below(1_000_000);
            world.later(after, Happening::Client(self.index));
        }
    }

    fn go_on(&mut self, world: &mut World) {
        let image = world.image(self.home);
        self.parts
            .retain(|part| image.topic_by_id(part.target.topic).is_some());
        if self.parts.is_empty() {
            if world.calm {
                return;
            }
            if self.id.is_none() {
                self.asking = true;
                let to = CoreId(world.prng.below(u64::from(world.cores())) as u16);
                world.ask((self.index, ID_MARK), self.home, to, Request::ProducerId);
                return;
            }
            self.make(world);
        }
        self.send(world);
    }

    /// A batch for each of some partitions.
    fn make(&mut self, world: &mut World) {
        for _ in 0..1 + world.prng.below(PARTS_MAX) {
            let Some(target) = world.some_partition(self.home) else {
                return;
            };
            if self.parts.iter().any(|part| part.target == target) {
                continue;
            }
            let next = self.sequences.entry(target).or_default();
            let (first, count, bytes) = batch(world, target, self.id, next);
            self.parts.push(Part {
                target,
                first,
                count,
                bytes,
                strict: None,
            });
        }
    }

    /// One request for all parts of one core.
    fn send(&mut self, world: &mut World) {
        let Some(first) = self.parts.first() else {
            return;
        };
        let to = world.owner(first.target);
        self.parts
            .sort_by_key(|part| world.owner(part.target) != to);
        self.in_flight = self
            .parts
            .partition_point(|part| world.owner(part.target) == to);
        let sent = &mut self.parts[..self.in_flight];
        for part in sent.iter_mut() {
            part.strict = world.model.strict(part.target.topic);
        }
        let request = AppendRequest {
            produce_version: 11,
            from_coordinator: false,
            batches: sent
                .iter()
                .map(|part| (part.target, part.bytes.clone()))
                .collect(),
            sent: world.now().mono,
        };
        self.marks += 1;
        world.ask(
            (self.index, self.marks),
            self.home,
            to,
            Request::Append(request),
        );
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
                }
                Ok(())
            }
            Reply::Append(answers) if mark == self.marks && answers.len() == self.in_flight => {
                self.in_flight = 0;
                let mut kept = self.parts.split_off(answers.len());
                for (part, answer) in std::mem::take(&mut self.parts).into_iter().zip(answers) {
                    match answer {
                        Ok(appended) => acked(world, &part, appended.base_offset)?,
                        Err(refused) => {
                            if self.refused(world, &part, refused.refusal)? {
                                kept.push(part);
                            }
                        }
                    }
                }
                self.parts = if self.id.is_some() { kept } else { Vec::new() };
                Ok(())
            }
            other => Err(format!(
                "a request for {} partitions was answered with {other:?}",
                self.in_flight
            )),
        }
    }

    /// True if the part is to be sent again.
    fn refused(&mut self, world: &World, part: &Part, refusal: Refusal) -> Result<bool, String> {
        self.not_before_ns = world.now_ns + 5_000_000;
        match refusal {
            Refusal::NotLeader
            | Refusal::Fenced
            | Refusal::Storage(
                AppendRefused::NoSpace | AppendRefused::Fenced | AppendRefused::NotReady,
            ) => Ok(true),
            Refusal::OutOfOrderSequence { .. } if world.model.losses(part.target) > 0 => {
                // Acknowledged batches went with the power: a new identity, as clients do.
                self.id = None;
                Ok(false)
            }
            other => Err(format!("{:?} refused its part: {other:?}", part.target)),
        }
    }
}

fn acked(world: &mut World, part: &Part, base: Offset) -> Result<(), String> {
    let told = [
        i64::from(part.target.partition.0),
        base.0,
        part.first as i64,
    ];
    world.trace.note(
        world.now_ns,
        0,
        "part acked (partition, offset, record)",
        told,
    );
    let records = (part.first, part.count);
    world.model.acked(part.target, base, records, part.strict)
}
