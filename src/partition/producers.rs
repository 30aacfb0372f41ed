//! What a partition remembers of its idempotent producers, so that a retry is answered with the
//! first attempt's offset and a gap is refused (KIP-98; apache/kafka `ProducerStateManager`).
//!
//! Derived from the log: rebuilt by [`Producers::apply`] over the batches after a snapshot, the
//! same call that follows every append.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::base::{Offset, ProducerEpoch, ProducerId, Sequence};
use crate::record::BatchHeader;

/// How many batches of a producer are remembered: as many as a client may have in flight
/// (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub const BATCHES_RETAINED: usize = 5;

/// Bytes of one batch in a snapshot, and of a producer without its batches.
const BATCH_BYTES: usize = 24;
const ENTRY_BYTES: usize = 8 + 2 + 8 + 1;

/// One batch as remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMemory {
    /// The sequence of its first record.
    pub first_sequence: Sequence,
    /// The sequence of its last record.
    pub last_sequence: Sequence,
    /// The offset of its last record.
    pub last_offset: Offset,
    /// The largest timestamp in it, in milliseconds.
    pub timestamp: i64,
}

impl BatchMemory {
    /// The offset of its first record.
    pub fn base_offset(&self) -> Offset {
        let count = if self.last_sequence.0 >= self.first_sequence.0 {
            i64::from(self.last_sequence.0) - i64::from(self.first_sequence.0)
        } else {
            i64::from(i32::MAX) - i64::from(self.first_sequence.0)
                + i64::from(self.last_sequence.0)
                + 1
        };
        Offset(self.last_offset.0 - count)
    }
}

/// One producer's state in this partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// The newest epoch seen.
    pub epoch: ProducerEpoch,
    /// The newest batches of that epoch, oldest first, at most [`BATCHES_RETAINED`].
    pub batches: VecDeque<BatchMemory>,
    /// The wall time of its last append in milliseconds, for expiry.
    pub last_timestamp: i64,
}

/// What to do with a batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    Next,
    /// It is here already: answer with where.
    Duplicate(BatchMemory),
    /// Its sequence does not follow.
    OutOfOrder {
        /// The sequence that would have followed.
        expected: Sequence,
        /// The sequence that came.
        found: Sequence,
    },
    /// A newer incarnation of the producer has written since.
    Fenced {
        /// The newest epoch.
        current: ProducerEpoch,
        /// The epoch that came.
        found: ProducerEpoch,
    },
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<ProducerId, ProducerState>,
}

impl Producers {
    /// Judges a batch before it is appended. Batches without a producer id are always next.
    pub fn check(&self, header: &BatchHeader) -> Verdict {
        let Some(state) = self.by_id.get(&header.producer_id) else {
            return Verdict::Next;
        };
        if header.producer_id.0 < 0 {
            return Verdict::Next;
        }
        if header.producer_epoch < state.epoch {
            return Verdict::Fenced {
                current: state.epoch,
                found: header.producer_epoch,
            };
        }
        let (first, last) = sequences(header);
        if header.producer_epoch > state.epoch {
            // A new incarnation starts over.
            return if first == Sequence(0) {
                Verdict::Next
            } else {
                Verdict::OutOfOrder {
                    expected: Sequence(0),
                    found: first,
                }
            };
        }
        let same =
            |batch: &&BatchMemory| batch.first_sequence == first && batch.last_sequence == last;
        if let Some(batch) = state.batches.iter().find(same) {
            return Verdict::Duplicate(*batch);
        }
        match state.batches.back() {
            Some(newest) if newest.last_sequence.plus(1) != first => Verdict::OutOfOrder {
                expected: newest.last_sequence.plus(1),
                found: first,
            },
            _ => Verdict::Next,
        }
    }

    /// Remembers a batch that is in the log. `wall_ms`: the time of the append, or the batch's own
    /// largest timestamp when the log is replayed.
    pub fn apply(&mut self, header: &BatchHeader, base_offset: Offset, wall_ms: i64) {
        if header.producer_id.0 < 0 {
            return;
        }
        let state = self
            .by_id
            .entry(header.producer_id)
            .or_insert_with(|| ProducerState {
                epoch: header.producer_epoch,
                batches: VecDeque::with_capacity(1),
                last_timestamp: wall_ms,
            });
        if state.epoch != header.producer_epoch {
            state.epoch = header.producer_epoch;
            state.batches.clear();
        }
        state.last_timestamp = wall_ms;
        if header.is_control() || header.base_sequence.0 < 0 {
            return;
        }
        let (first_sequence, last_sequence) = sequences(header);
        if state.batches.len() == BATCHES_RETAINED {
            state.batches.pop_front();
        }
        state.batches.push_back(BatchMemory {
            first_sequence,
            last_sequence,
            last_offset: base_offset.plus(i64::from(header.last_offset_delta)),
            timestamp: header.max_timestamp,
        });
    }

    /// Forgets producers that have not written for `expiration`
    /// (`producer.id.expiration.ms`, default one day). Returns how many.
    pub fn expire(&mut self, wall_ms: i64, expiration: Duration) -> usize {
        let before = self.by_id.len();
        let limit = i64::try_from(expiration.as_millis()).unwrap_or(i64::MAX);
        self.by_id
            .retain(|_, state| wall_ms.saturating_sub(state.last_timestamp) < limit);
        before - self.by_id.len()
    }

    /// Forgets everything; before a replay from the start of the log.
    pub fn clear(&mut self) {
        self.by_id.clear();
    }

    /// Every producer, in order of id.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &ProducerState)> {
        self.by_id.iter().map(|(id, state)| (*id, state))
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True when no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The snapshot that the log's checkpoint carries, big-endian:
    /// `id i64, epoch i16, last_timestamp i64, batches u8, (first i32, last i32, offset i64,
    /// timestamp i64) each`, one producer after the other. Its integrity is the checkpoint's.
    pub fn snapshot(&self) -> Bytes {
        let mut out =
            Vec::with_capacity(self.by_id.len() * (ENTRY_BYTES + BATCHES_RETAINED * BATCH_BYTES));
        for (id, state) in &self.by_id {
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&state.epoch.0.to_be_bytes());
            out.extend_from_slice(&state.last_timestamp.to_be_bytes());
            out.push(state.batches.len() as u8);
            for batch in &state.batches {
                out.extend_from_slice(&batch.first_sequence.0.to_be_bytes());
                out.extend_from_slice(&batch.last_sequence.0.to_be_bytes());
                out.extend_from_slice(&batch.last_offset.0.to_be_bytes());
                out.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
        Bytes::from(out)
    }

    /// Reads a snapshot back; `None` if it is not one.
    pub fn restore(snapshot: &[u8]) -> Option<Producers> {
        let mut rest = snapshot;
        let mut by_id = BTreeMap::new();
        while !rest.is_empty() {
            let id = ProducerId(i64::from_be_bytes(take(&mut rest)?));
            let epoch = ProducerEpoch(i16::from_be_bytes(take(&mut rest)?));
            let last_timestamp = i64::from_be_bytes(take(&mut rest)?);
            let [count] = take(&mut rest)?;
            if usize::from(count) > BATCHES_RETAINED {
                return None;
            }
            let mut batches = VecDeque::with_capacity(usize::from(count));
            for _ in 0..count {
                batches.push_back(BatchMemory {
                    first_sequence: Sequence(i32::from_be_bytes(take(&mut rest)?)),
                    last_sequence: Sequence(i32::from_be_bytes(take(&mut rest)?)),
                    last_offset: Offset(i64::from_be_bytes(take(&mut rest)?)),
                    timestamp: i64::from_be_bytes(take(&mut rest)?),
                });
            }
            by_id.insert(
                id,
                ProducerState {
                    epoch,
                    batches,
                    last_timestamp,
                },
            );
        }
        Some(Producers { by_id })
    }
}

fn sequences(header: &BatchHeader) -> (Sequence, Sequence) {
    (
        header.base_sequence,
        header.base_sequence.plus(header.last_offset_delta),
    )
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
