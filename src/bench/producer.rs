//! One connection that writes: what to send next, and what a reply means.

use std::collections::VecDeque;

use bytes::Bytes;

use super::content::Maker;
use super::plan::{Pace, ProducerPlan};
use super::schedule::Schedule;
use super::shared::{Progress, Window};
use super::tally::{Flow, Tally};
use crate::base::{PartitionIndex, Sequence};
use crate::protocol::header::parse_response_header;
use crate::protocol::messages::StrBytes;
use crate::protocol::produce::{PartitionData, ProduceRequest, ProduceResponse, TopicData};
use crate::protocol::{ApiKey, ErrorCode, TopicRef};
use crate::rt::clock;

/// How often a batch is sent before it counts as failed.
const TRIES_MAX: u32 = 10;
/// From this version on a body has lengths of varying size, and cannot be patched.
const FLEXIBLE_FROM: i16 = 9;
/// How long the broker may wait for replicas.
const REQUEST_TIMEOUT_MS: i32 = 30_000;

/// A batch: which records, and when they were due. It can be made again from this.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// The place of its partition in the plan.
    slot: usize,
    /// The first record's number among this producer's in the partition.
    sequence: u64,
    count: u64,
    intended: u64,
    step: f64,
    bytes: u64,
    tries: u32,
}

/// A request that waits for its reply.
#[derive(Debug)]
struct Request {
    correlation_id: i32,
    parts: Vec<Part>,
}

/// A connection that writes.
#[derive(Debug)]
pub(super) struct Producer {
    plan: ProducerPlan,
    topic: StrBytes,
    client_id: StrBytes,
    /// A whole request for each partition up to where its records begin.
    heads: Vec<Vec<u8>>,
    /// Records so far, by place in the plan.
    sequences: Vec<u64>,
    /// Records that a closed loop may still send.
    left: u64,
    next_slot: usize,
    /// None in a closed loop.
    schedule: Option<Schedule>,
    in_flight: VecDeque<Request>,
    again: VecDeque<Part>,
    correlation_id: i32,
    is_done: bool,
}

/// What the connection shall send.
pub(super) trait Out {
    /// Sends these bytes, one after the other.
    fn send(&mut self, head: &[u8], body: &[u8]) -> Result<(), String>;
}

impl Producer {
    pub(super) fn new(plan: ProducerPlan, topic: &StrBytes) -> Producer {
        let mut producer = Producer {
            sequences: vec![0; plan.partitions.len()],
            left: plan.records_max.unwrap_or(u64::MAX),
            next_slot: 0,
            schedule: None,
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
            correlation_id: 0,
            is_done: false,
            topic: topic.clone(),
            client_id: StrBytes::from_static_str("corelane-bench"),
            heads: Vec::new(),
            plan,
        };
        if producer.plan.version < FLEXIBLE_FROM && producer.plan.partitions_per_request == 1 {
            let heads = producer.plan.partitions.iter();
            let heads = heads.map(|index| producer.frame(&[(*index, Bytes::new())], 0).to_vec());
            producer.heads = heads.collect();
        }
        producer
    }

    /// The run begins: now it is known when records are due.
    pub(super) fn begin(&mut self, window: &Window) {
        let Pace::Open {
            rate,
            linger,
            phase,
        } = self.plan.pace
        else {
            return;
        };
        let first = window.began + (phase * 1e9 / rate) as u64;
        let linger = linger.as_nanos() as u64;
        self.schedule = Some(Schedule::new(first, window.until(), rate, linger));
    }

    fn frame(&self, batches: &[(PartitionIndex, Bytes)], correlation_id: i32) -> Bytes {
        let partitions = batches.iter().map(|(index, records)| PartitionData {
            index: *index,
            records: Some(records.clone()),
        });
        let request = ProduceRequest {
            transactional_id: None,
            acks: self.plan.acks,
            timeout_ms: REQUEST_TIMEOUT_MS,
            topics: vec![TopicData {
                topic: TopicRef::Name(self.topic.clone()),
                partitions: partitions.collect(),
            }],
        };
        request.frame(self.plan.version, correlation_id, &self.client_id)
    }

    /// Sends what may be sent now. Returns when to be called again if nothing else happens.
    pub(super) fn pump(
        &mut self,
        now: u64,
        window: &Window,
        maker: &mut Maker,
        tally: &mut Tally,
        out: &mut impl Out,
    ) -> Result<Option<u64>, String> {
        if let Some(schedule) = &mut self.schedule {
            schedule.end_by(window.until());
        }
        while self.in_flight.len() < self.plan.in_flight {
            let parts = self.next_parts(now, window, maker.template().capacity() as u64);
            if parts.is_empty() {
                break;
            }
            self.send(parts, maker, tally, out)?;
        }
        if self.in_flight.len() >= self.plan.in_flight {
            return Ok(None);
        }
        let most = maker.template().capacity() as u64;
        let schedule = self.schedule.as_ref();
        Ok(schedule.and_then(|schedule| schedule.next_at(most)))
    }

    fn next_parts(&mut self, now: u64, window: &Window, most: u64) -> Vec<Part> {
        let mut parts = Vec::new();
        while parts.len() < self.plan.partitions_per_request {
            if let Some(part) = self.again.pop_front() {
                // Alone, so that the batches behind it stay behind it.
                parts.push(part);
                break;
            }
            let (intended, count, step) = match &mut self.schedule {
                None if now >= window.until() || self.left == 0 => break,
                None => {
                    let count = most.min(self.left);
                    self.left -= count;
                    (now, count, 0.0)
                }
                Some(schedule) => match schedule.take(now, most) {
                    None => break,
                    Some(due) => (due.intended, due.count, schedule.step()),
                },
            };
            let slot = self.next_slot;
            self.next_slot = (slot + 1) % self.plan.partitions.len();
            let sequence = self.sequences[slot];
            self.sequences[slot] += count;
            parts.push(Part {
                slot,
                sequence,
                count,
                intended,
                step,
                bytes: 0,
                tries: 0,
            });
        }
        parts
    }

    fn send(
        &mut self,
        mut parts: Vec<Part>,
        maker: &mut Maker,
        tally: &mut Tally,
        out: &mut impl Out,
    ) -> Result<(), String> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let correlation_id = self.correlation_id;
        if let ([part], false) = (&mut parts[..], self.heads.is_empty()) {
            let batch = make(&self.plan, part, maker);
            part.bytes = batch.len() as u64;
            let head = &mut self.heads[part.slot];
            patch(head, correlation_id, batch.len());
            out.send(head, batch)?;
        } else {
            let mut batches = Vec::with_capacity(parts.len());
            for part in &mut parts {
                let batch = Bytes::copy_from_slice(make(&self.plan, part, maker));
                part.bytes = batch.len() as u64;
                batches.push((self.plan.partitions[part.slot], batch));
            }
            out.send(&self.frame(&batches, correlation_id), &[])?;
        }
        for part in &parts {
            if part.tries == 0 {
                tally.sent_in_all += part.count;
            }
        }
        if self.plan.acks == 0 {
            let now = clock::mono().0;
            for part in &parts {
                tally.acknowledge(now, flow(part, parts.len()), part.intended, part.step);
            }
            return Ok(());
        }
        self.in_flight.push_back(Request {
            correlation_id,
            parts,
        });
        Ok(())
    }

    /// Takes a reply that came at `now`.
    pub(super) fn reply(
        &mut self,
        now: u64,
        frame: &Bytes,
        progress: &Progress,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let version = self.plan.version;
        let (id, body) = parse_response_header(frame, ApiKey::Produce, version)
            .map_err(|malformed| malformed.to_string())?;
        let response =
            ProduceResponse::decode(&body, version).map_err(|malformed| malformed.to_string())?;
        let request = self
            .in_flight
            .pop_front()
            .ok_or("an answer nobody asked for")?;
        if id != request.correlation_id {
            return Err(format!("answer {id} instead of {}", request.correlation_id));
        }
        let told = response.topics.iter().flat_map(|topic| &topic.partitions);
        let mut told: Vec<_> = told.collect();
        for part in &request.parts {
            let index = self.plan.partitions[part.slot];
            let at = told.iter().position(|told| told.index == index);
            let told = at.map(|at| told.swap_remove(at));
            let told = told.ok_or_else(|| format!("no word on partition {index}"))?;
            match told.error {
                ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                    let flow = flow(part, request.parts.len());
                    tally.acknowledge(now, flow, part.intended, part.step);
                    if told.base_offset.0 >= 0 {
                        let end = told.base_offset.plus(part.count as i64);
                        progress.acknowledged(index, end);
                    }
                }
                error => self.failed(now, *part, error, tally),
            }
        }
        Ok(())
    }

    fn failed(&mut self, now: u64, part: Part, error: ErrorCode, tally: &mut Tally) {
        tally.error(format!("produce: {error}"));
        // Behind one that failed, those of an idempotent producer fail, and are sent again in order.
        let follows = error == ErrorCode::OutOfOrderSequenceNumber && self.plan.identity.is_some();
        if (error.is_retriable() || follows) && part.tries + 1 < TRIES_MAX {
            tally.retries += 1;
            let tries = part.tries + 1;
            self.again.push_back(Part { tries, ..part });
        } else {
            tally.failed += part.count;
            tally.latency_written(now, part.intended, part.count);
        }
    }

    /// True once everything that was due is sent and answered; told once, to `progress`.
    pub(super) fn settle(&mut self, now: u64, window: &Window, progress: &Progress) -> bool {
        if self.is_done {
            return true;
        }
        let sent = match &self.schedule {
            None => now >= window.until() || self.left == 0,
            Some(schedule) => schedule.is_over(),
        };
        self.is_done = sent && self.in_flight.is_empty() && self.again.is_empty();
        if self.is_done {
            leave(progress);
        }
        self.is_done
    }

    /// Gives up: what was due and not sent, or not answered, is counted with the time that it took
    /// so far, so that an overload does not look better than it is.
    pub(super) fn give_up(
        &mut self,
        now: u64,
        window: &Window,
        progress: &Progress,
        tally: &mut Tally,
    ) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        leave(progress);
        if let Some(schedule) = &mut self.schedule {
            schedule.end_by(window.until());
            for intended in schedule.left(now) {
                tally.unsent += 1;
                tally.latency_written(now, intended, 1);
            }
        }
        let waiting = self.in_flight.iter().flat_map(|request| &request.parts);
        for part in waiting.chain(&self.again) {
            tally.failed += part.count;
            tally.latency_written(now, part.intended, part.count);
            *tally
                .errors
                .entry("no answer in time".to_owned())
                .or_default() += 1;
        }
        self.in_flight.clear();
        self.again.clear();
    }
}

fn leave(progress: &Progress) {
    let producers = &progress.producers;
    producers.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
}

/// What a part adds; a request counts with its first part only, roughly.
fn flow(part: &Part, parts: usize) -> Flow {
    Flow {
        records: part.count,
        bytes: part.bytes,
        requests: u64::from(parts == 1),
    }
}

fn make<'a>(plan: &ProducerPlan, part: &Part, maker: &'a mut Maker) -> &'a [u8] {
    for index in 0..part.count {
        let intended = part.intended + (index as f64 * part.step) as u64;
        maker.stamp(index as usize, plan.id, part.sequence + index, intended);
    }
    let timestamp = clock::now().wall.0;
    let sequence = Sequence((part.sequence % (1 << 31)) as i32);
    let producer = plan.identity.map(|(id, epoch)| (id, epoch, sequence));
    let template = maker.template();
    template.seal(part.count as usize, timestamp, producer)
}

/// Puts correlation id and sizes into a request that ends where its records begin.
fn patch(head: &mut [u8], correlation_id: i32, records: usize) {
    let size = (head.len() - 4 + records) as u32;
    head[..4].copy_from_slice(&size.to_be_bytes());
    // After size, key and version.
    head[8..12].copy_from_slice(&correlation_id.to_be_bytes());
    let end = head.len();
    head[end - 4..].copy_from_slice(&(records as u32).to_be_bytes());
}
