//! DeleteRecords requests whose new log start is not durable yet, and the small look-ups that
//! answer at once.

use std::collections::BTreeMap;

use crate::base::{LeaderEpoch, Offset, TopicPartition};
use crate::partition::Refusal;

use super::core::{Core, Slot};
use super::message::{Effects, EpochQuery, ProducerDescription, Reply, Ticket};

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    answers: Vec<Option<Result<Offset, Refusal>>>,
}

/// The requests in flight, and which offsets they wait for.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    pending: BTreeMap<u64, Pending>,
    /// By partition: the offset, the request, the place in it.
    waiting: BTreeMap<Slot, Vec<(Offset, u64, usize)>>,
    next: u64,
}

impl Core {
    pub(super) fn delete_records(
        &mut self,
        ticket: Ticket,
        queries: Vec<(TopicPartition, Offset)>,
        effects: &mut Effects,
    ) {
        let number = self.deletions.next;
        self.deletions.next += 1;
        let mut answers = Vec::with_capacity(queries.len());
        for (index, (id, offset)) in queries.into_iter().enumerate() {
            let Some(slot) = self.slot(id).filter(|_| !self.stopping()) else {
                answers.push(Some(Err(Refusal::NotLeader)));
                continue;
            };
            let Some(partition) = self.partitions.get_mut(slot) else {
                continue;
            };
            answers.push(match partition.delete_records(offset, &mut effects.disk) {
                Err(refusal) => Some(Err(refusal)),
                Ok(None) => Some(Ok(partition.durable_log_start())),
                Ok(Some(wanted)) => {
                    let waiting = self.deletions.waiting.entry(slot).or_default();
                    waiting.push((wanted, number, index));
                    None
                }
            });
        }
        self.deletions
            .pending
            .insert(number, Pending { ticket, answers });
        self.answer_deletion(number, effects);
    }

    /// The partition's log start survives a crash now.
    pub(super) fn start_offset_durable(
        &mut self,
        slot: Slot,
        offset: Offset,
        effects: &mut Effects,
    ) {
        self.settle_deletions(slot, Some(offset), Ok(offset), effects);
    }

    /// Nothing that waits for this partition will come true.
    pub(super) fn fail_deletions(&mut self, slot: Slot, refusal: Refusal, effects: &mut Effects) {
        self.settle_deletions(slot, None, Err(refusal), effects);
    }

    fn settle_deletions(
        &mut self,
        slot: Slot,
        upto: Option<Offset>,
        answer: Result<Offset, Refusal>,
        effects: &mut Effects,
    ) {
        let Some(waiting) = self.deletions.waiting.get_mut(&slot) else {
            return;
        };
        let settled: Vec<_> = waiting
            .extract_if(.., |(wanted, ..)| upto.is_none_or(|upto| *wanted <= upto))
            .collect();
        if waiting.is_empty() {
            self.deletions.waiting.remove(&slot);
        }
        for (_, number, index) in settled {
            if let Some(pending) = self.deletions.pending.get_mut(&number) {
                pending.answers[index] = Some(answer.clone());
            }
            self.answer_deletion(number, effects);
        }
    }

    fn answer_deletion(&mut self, number: u64, effects: &mut Effects) {
        let done = |pending: &Pending| pending.answers.iter().all(Option::is_some);
        if !self.deletions.pending.get(&number).is_some_and(done) {
            return;
        }
        if let Some(pending) = self.deletions.pending.remove(&number) {
            let answers = pending.answers.into_iter().flatten().collect();
            effects
                .replies
                .push((pending.ticket, Reply::DeleteRecords(answers)));
        }
    }

    pub(super) fn epoch_end(&self, query: &EpochQuery) -> Result<(LeaderEpoch, Offset), Refusal> {
        let slot = self.slot(query.partition).ok_or(Refusal::NotLeader)?;
        let partition = self.partitions.get(slot).ok_or(Refusal::NotLeader)?;
        if !partition.check_opened(query.current_leader_epoch)? {
            // Whoever believed in an end of it would go back to that.
            return Err(Refusal::Fenced);
        }
        Ok(partition
            .epoch_end(query.epoch)
            .unwrap_or((LeaderEpoch(-1), Offset(-1))))
    }

    pub(super) fn describe_producers(
        &self,
        id: TopicPartition,
    ) -> Result<Vec<ProducerDescription>, Refusal> {
        let slot = self.slot(id).ok_or(Refusal::NotLeader)?;
        let partition = self.partitions.get(slot).ok_or(Refusal::NotLeader)?;
        let described = partition
            .producers()
            .iter()
            .map(|(id, state)| ProducerDescription {
                id,
                epoch: state.epoch,
                last_sequence: state
                    .batches
                    .back()
                    .map_or(crate::base::Sequence(-1), |batch| batch.last_sequence),
                last_timestamp: state.last_timestamp,
            });
        Ok(described.collect())
    }
}
