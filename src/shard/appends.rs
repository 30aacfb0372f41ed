//! Appends in flight: a request's batches go to several partitions, its reply leaves when the last
//! of them is committed or refused.

use std::collections::BTreeMap;

use crate::base::{LeaderEpoch, Mono, Now, Offset, TopicPartition};
use crate::obs::ProduceStage;
use crate::partition::{Accepted, Refusal, Token};
use crate::record::Origin;

use super::core::{Core, Slot};
use super::message::{AppendRefusal, AppendRequest, AppendedBatch, Effects, Reply, Ticket};

/// One batch of a pending request.
#[derive(Debug)]
enum Batch {
    Waiting { slot: Slot, accepted: Accepted },
    Answered(Result<AppendedBatch, AppendRefusal>),
}

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    batches: Vec<Batch>,
    waiting: usize,
    appended: Mono,
}

/// The requests whose batches are not all committed yet.
#[derive(Debug, Default)]
pub(super) struct Appends {
    pending: BTreeMap<u64, Pending>,
    next: u64,
}

impl Core {
    /// Appends every batch of the request in its order. The reply leaves at once if nothing has to
    /// be waited for.
    pub(super) fn append(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: AppendRequest,
        effects: &mut Effects,
    ) {
        let number = self.appends.next;
        self.appends.next += 1;
        self.measurements
            .produce
            .passed(ProduceStage::Queue, now.mono.since(request.sent));
        let origin = if request.from_coordinator {
            Origin::Coordinator
        } else {
            Origin::Client
        };
        let mut pending = Pending {
            ticket,
            batches: Vec::with_capacity(request.batches.len()),
            waiting: 0,
            appended: now.mono,
        };
        for (index, (id, records)) in request.batches.iter().enumerate() {
            let token = Token {
                number,
                part: index as u32,
            };
            let batch = self.append_one(now, *id, records, request.produce_version, origin, token);
            pending.waiting += usize::from(matches!(batch, Batch::Waiting { .. }));
            pending.batches.push(batch);
        }
        if pending.waiting == 0 {
            finish(pending, effects);
        } else {
            self.appends.pending.insert(number, pending);
        }
    }

    fn append_one(
        &mut self,
        now: Now,
        id: TopicPartition,
        records: &[u8],
        produce_version: i16,
        origin: Origin,
        token: Token,
    ) -> Batch {
        let Some(slot) = self.slot(id).filter(|_| !self.stopping()) else {
            return Batch::Answered(Err(AppendRefusal {
                refusal: Refusal::NotLeader,
                log_start_offset: Offset(-1),
                leader_epoch: LeaderEpoch(-1),
            }));
        };
        let Some(partition) = self.partitions.get_mut(slot) else {
            unreachable!("slot {slot:?} is in the table of ids, so it holds a partition");
        };
        match partition.append(now, records, produce_version, origin, &mut self.scratch) {
            Err(refusal) => Batch::Answered(Err(AppendRefusal {
                refusal,
                log_start_offset: partition.log_start(),
                leader_epoch: partition.leader_epoch(),
            })),
            Ok(accepted) => {
                let waits = partition.wait_for_commit(accepted.last_offset, token);
                let log_start_offset = partition.log_start();
                if accepted.duplicate {
                    self.measurements.produce.duplicates += 1;
                } else {
                    let produce = &mut self.measurements.produce;
                    produce.appended(u64::from(accepted.records), records.len() as u64);
                    self.count_appended(now, records.len());
                    self.cleaning.appended(now);
                    self.dirty(slot);
                }
                if waits {
                    Batch::Waiting { slot, accepted }
                } else {
                    Batch::Answered(Ok(AppendedBatch {
                        base_offset: accepted.base_offset,
                        log_append_time_ms: accepted.log_append_time_ms,
                        log_start_offset,
                    }))
                }
            }
        }
    }

    /// One batch is committed (`ok`), or never will be.
    pub(super) fn append_done(&mut self, now: Now, token: Token, ok: bool, effects: &mut Effects) {
        let Token { number, part } = token;
        let index = part as usize;
        let Some(pending) = self.appends.pending.get_mut(&number) else {
            return;
        };
        let Batch::Waiting { slot, accepted } = &pending.batches[index] else {
            return;
        };
        let partition = self.partitions.get(*slot);
        let log_start_offset = partition.map_or(Offset(-1), |partition| partition.log_start());
        let answer = if ok {
            Ok(AppendedBatch {
                base_offset: accepted.base_offset,
                log_append_time_ms: accepted.log_append_time_ms,
                log_start_offset,
            })
        } else {
            let refusal = match partition {
                Some(partition) if partition.fault().is_some() => Refusal::Fenced,
                Some(partition) if partition.is_ready() => {
                    Refusal::Storage(crate::log::AppendRefused::NoSpace)
                }
                // Deleted under the producer.
                Some(_) | None => Refusal::NotLeader,
            };
            Err(AppendRefusal {
                refusal,
                log_start_offset,
                leader_epoch: LeaderEpoch(-1),
            })
        };
        pending.batches[index] = Batch::Answered(answer);
        pending.waiting -= 1;
        if pending.waiting == 0
            && let Some(pending) = self.appends.pending.remove(&number)
        {
            self.measurements
                .produce
                .passed(ProduceStage::Durable, now.mono.since(pending.appended));
            finish(pending, effects);
        }
    }
}

fn finish(pending: Pending, effects: &mut Effects) {
    let answers = pending.batches.into_iter().map(|batch| match batch {
        Batch::Answered(answer) => answer,
        Batch::Waiting { slot, .. } => unreachable!("a batch still waits in {slot:?}"),
    });
    effects
        .replies
        .push((pending.ticket, Reply::Append(answers.collect())));
}
