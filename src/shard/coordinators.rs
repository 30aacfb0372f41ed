//! The group coordinators of this core: one for each partition of `__consumer_offsets` that it
//! owns. Gathers what they decide in a turn into one batch of their partition, and holds every
//! answer until all that was decided before it is committed.
//!
//! Knows no group's rules. A coordinator whose records cannot be appended is ahead of its log: it
//! is thrown away, its askers are refused, and a new one is loaded.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::{CoreId, Mono, Now, Offset, Prng, TopicPartition};
use crate::cluster::configs::GroupSettings;
use crate::group::assignor::Assignor;
use crate::group::{
    Coordinator, Decision, MigrationPolicy, Reply as Answer, Request, Settings, Token, TopicView,
};
use crate::obs::{CoordinatorStage, GroupHoldings};
use crate::partition::{self, Partition, Refusal};
use crate::protocol::ErrorCode;
use crate::record::{BatchBuilder, Codec, Origin, Scratch};

use super::answers::Answers;
use super::coordinator_load::Loading;
use super::core::{Core, Slot, Timer};
use super::message::{Effects, Reply, Ticket};

/// In [`partition::Token::part`]: a coordinator waits, not a batch of an append request.
pub(super) const PART: u32 = u32::MAX;

/// The topic whose partitions the groups live in.
pub(super) const TOPIC: &str = "__consumer_offsets";

/// The records are in the newest format.
const PRODUCE_VERSION: i16 = 13;

/// What a record adds to a batch besides key and value, at most: lengths, deltas, attributes.
const RECORD_OVERHEAD: usize = 32;

/// What has been decided since the last append.
#[derive(Default)]
struct Gathered {
    batches: Vec<BatchBuilder>,
    replies: Vec<(Token, Answer)>,
}

/// An append that is not committed yet, and who is answered when it is.
struct Round {
    number: u64,
    replies: Vec<(Token, Answer)>,
}

/// What a coordinator is doing.
pub(super) enum Stage {
    /// Takes in its partition.
    Loading(Loading),
    /// Serves.
    Serving,
    /// Its log is fenced.
    Failed,
}

/// One coordinator at its partition.
pub(super) struct Seat {
    pub(super) coordinator: Coordinator,
    pub(super) stage: Stage,
    /// Topics that were deleted while it was loading.
    pub(super) deleted: Vec<String>,
    asked: BTreeMap<Token, Ticket>,
    gathered: Gathered,
    rounds: VecDeque<Round>,
}

/// All coordinators of a core.
pub(super) struct Coordinators {
    pub(super) seats: BTreeMap<Slot, Seat>,
    pub(super) topics: TopicView,
    /// Those that can go on loading now.
    pub(super) queue: VecDeque<Slot>,
    pub(super) answers: Answers,
    settings: Settings,
    seeds: Prng,
    /// Those that have decided something this turn.
    changed: BTreeSet<Slot>,
    next_token: Token,
    next_round: u64,
}

impl Coordinators {
    pub(super) fn new(settings: &GroupSettings, seed: u64, core: CoreId) -> Coordinators {
        let mut seeds = Prng::new(seed ^ u64::from(core.0).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // The controller's ids begin at the same seed.
        seeds.next_u64();
        Coordinators {
            seats: BTreeMap::new(),
            topics: TopicView::default(),
            queue: VecDeque::new(),
            answers: Answers::default(),
            settings: group_settings(settings),
            seeds,
            changed: BTreeSet::new(),
            next_token: 0,
            next_round: 0,
        }
    }

    /// Takes the settings in force.
    pub(super) fn set_settings(&mut self, settings: &GroupSettings) {
        let settings = group_settings(settings);
        if settings == self.settings {
            return;
        }
        for seat in self.seats.values_mut() {
            seat.coordinator.set_settings(settings.clone());
        }
        self.settings = settings;
    }

    /// What they hold, counted.
    pub(super) fn holdings(&self) -> GroupHoldings {
        let mut holdings = GroupHoldings::default();
        for seat in self.seats.values() {
            holdings.coordinator(match seat.stage {
                Stage::Loading(_) => CoordinatorStage::Loading,
                Stage::Serving => CoordinatorStage::Active,
                Stage::Failed => CoordinatorStage::Failed,
            });
            holdings.offsets += seat.coordinator.offsets().len() as u64;
            for group in seat.coordinator.groups().values() {
                let members = group.member_count() as u64;
                holdings.group(group.state_name(), group.kind_name(), members);
            }
        }
        holdings
    }

    pub(super) fn new_coordinator(&mut self) -> Coordinator {
        Coordinator::new(self.settings.clone(), self.seeds.next_u64())
    }
}

impl Core {
    /// Gives the partition a coordinator if it is one of `__consumer_offsets`.
    pub(super) fn seat(&mut self, id: TopicPartition, slot: Slot) {
        let topic = self.image.topic_by_id(id.topic);
        if topic.is_none_or(|topic| &*topic.name != TOPIC) {
            return;
        }
        let seat = Seat {
            coordinator: self.coordinators.new_coordinator(),
            stage: Stage::Loading(Loading::default()),
            deleted: Vec::new(),
            asked: BTreeMap::new(),
            gathered: Gathered::default(),
            rounds: VecDeque::new(),
        };
        self.coordinators.seats.insert(slot, seat);
    }

    /// Takes the coordinator away for good; who waits for it gets `error`.
    pub(super) fn unseat(&mut self, slot: Slot, error: ErrorCode, effects: &mut Effects) {
        self.refuse_all(slot, error, effects);
        self.coordinators.seats.remove(&slot);
        self.coordinators.changed.remove(&slot);
        self.timers.cancel(&Timer::Coordinator(slot));
    }

    /// The core stops: clients look for their coordinators again.
    pub(super) fn unseat_all(&mut self, effects: &mut Effects) {
        let slots: Vec<Slot> = self.coordinators.seats.keys().copied().collect();
        for slot in slots {
            self.unseat(slot, ErrorCode::NotCoordinator, effects);
        }
        self.coordinators.answers.give_all(effects);
    }

    /// Asks a coordinator.
    pub(super) fn group(
        &mut self,
        now: Now,
        ticket: Ticket,
        id: TopicPartition,
        mut request: Box<Request>,
        effects: &mut Effects,
    ) {
        let slot = self.slot(id).unwrap_or(NOWHERE);
        let refusal = match self.coordinators.seats.get(&slot) {
            _ if self.stopping() => Some(ErrorCode::NotCoordinator),
            None => Some(ErrorCode::NotCoordinator),
            Some(seat) => match seat.stage {
                Stage::Loading(_) => Some(ErrorCode::CoordinatorLoadInProgress),
                Stage::Failed => Some(ErrorCode::NotCoordinator),
                Stage::Serving => None,
            },
        };
        if let Some(error) = refusal {
            effects.replies.push((ticket, Reply::Group(Err(error))));
            return;
        }
        let token = self.coordinators.next_token;
        self.coordinators.next_token += 1;
        request.token = token;
        self.coordinate(now, slot, effects, |seat, topics| {
            seat.asked.insert(token, ticket);
            seat.coordinator.handle(now, &request, topics)
        });
    }

    /// A coordinator's deadline is there.
    pub(super) fn tick_coordinator(&mut self, now: Now, slot: Slot, effects: &mut Effects) {
        self.coordinate(now, slot, effects, |seat, topics| {
            seat.coordinator.tick(now, topics)
        });
        // What is due at once again gets its turn after the others.
        let later = Mono(now.mono.0 + 1);
        let timer = Timer::Coordinator(slot);
        if self.timers.get(&timer).is_some_and(|at| at < later) {
            self.timers.set(timer, later);
        }
    }

    /// These topics are gone.
    pub(super) fn topics_deleted(&mut self, now: Now, names: &[String], effects: &mut Effects) {
        let slots: Vec<Slot> = self.coordinators.seats.keys().copied().collect();
        for slot in slots {
            self.coordinate(now, slot, effects, |seat, topics| match seat.stage {
                Stage::Serving => seat.coordinator.topics_deleted(now, topics, names),
                Stage::Loading(_) | Stage::Failed => {
                    seat.deleted.extend_from_slice(names);
                    Decision::default()
                }
            });
        }
    }

    /// Lets a coordinator decide something and takes its decision in: an answer leaves at once when
    /// nothing that was decided before is on its way to the disk.
    pub(super) fn coordinate(
        &mut self,
        now: Now,
        slot: Slot,
        effects: &mut Effects,
        work: impl FnOnce(&mut Seat, &TopicView) -> Decision,
    ) {
        let coordinators = &mut self.coordinators;
        let Some(seat) = coordinators.seats.get_mut(&slot) else {
            return;
        };
        let decision = work(seat, &coordinators.topics);
        let (groups, tally) = (&mut self.measurements.groups, decision.tally);
        groups.rebalances += tally.rebalances;
        groups.offset_commits += tally.offsets_committed;
        groups.offsets_deleted += tally.offsets_deleted;
        groups.offsets_expired += tally.offsets_expired;
        if !decision.records.is_empty() {
            let room = self
                .partitions
                .get(slot)
                .map_or(usize::MAX, Partition::max_batch_bytes);
            seat.gathered.add(&decision.records, now.wall.0, room);
        }
        if seat.gathered.batches.is_empty() && seat.rounds.is_empty() {
            seat.answer(decision.replies, &mut coordinators.answers, effects);
        } else {
            seat.gathered.replies.extend(decision.replies);
            coordinators.changed.insert(slot);
        }
        let deadline = match seat.stage {
            Stage::Serving => seat.coordinator.next_deadline(),
            Stage::Loading(_) | Stage::Failed => None,
        };
        let timer = Timer::Coordinator(slot);
        match deadline {
            Some(at) => self.timers.set(timer, at),
            None => self.timers.cancel(&timer),
        }
    }

    /// The turn is over: what each coordinator has decided is appended.
    pub(super) fn commit_groups(&mut self, now: Now, effects: &mut Effects) {
        while let Some(slot) = self.coordinators.changed.pop_first() {
            let number = self.coordinators.next_round;
            self.coordinators.next_round += 1;
            let Some(seat) = self.coordinators.seats.get_mut(&slot) else {
                continue;
            };
            let Some(partition) = self.partitions.get_mut(slot) else {
                continue;
            };
            let gathered = std::mem::take(&mut seat.gathered);
            let last = match append(now, partition, gathered.batches, &mut self.scratch) {
                Ok(last) => last,
                Err(refusal) => {
                    seat.refuse(&gathered.replies, error_of(&refusal), effects);
                    self.dirty(slot);
                    self.reload(now, slot, ErrorCode::CoordinatorNotAvailable, effects);
                    continue;
                }
            };
            let token = partition::Token { number, part: PART };
            let waits = last.is_some_and(|last| partition.wait_for_commit(last, token));
            let coordinators = &mut self.coordinators;
            let Some(seat) = coordinators.seats.get_mut(&slot) else {
                continue;
            };
            if waits {
                seat.rounds.push_back(Round {
                    number,
                    replies: gathered.replies,
                });
                self.dirty(slot);
            } else if let Some(round) = seat.rounds.back_mut() {
                // Nothing new to write: the answers wait for what was decided before.
                round.replies.extend(gathered.replies);
            } else {
                seat.answer(gathered.replies, &mut coordinators.answers, effects);
            }
        }
    }

    /// A round is committed (`ok`), or never will be.
    pub(super) fn round_done(
        &mut self,
        now: Now,
        slot: Slot,
        number: u64,
        ok: bool,
        effects: &mut Effects,
    ) {
        if !ok {
            return self.reload(now, slot, ErrorCode::NotCoordinator, effects);
        }
        let coordinators = &mut self.coordinators;
        let Some(seat) = coordinators.seats.get_mut(&slot) else {
            return;
        };
        // Rounds of a coordinator that was thrown away are not there any more.
        while seat
            .rounds
            .front()
            .is_some_and(|round| round.number <= number)
        {
            if let Some(round) = seat.rounds.pop_front() {
                seat.answer(round.replies, &mut coordinators.answers, effects);
            }
        }
    }

    /// Throws a coordinator away that is ahead of its log, and loads another.
    fn reload(&mut self, now: Now, slot: Slot, error: ErrorCode, effects: &mut Effects) {
        self.refuse_all(slot, error, effects);
        self.timers.cancel(&Timer::Coordinator(slot));
        let fenced = self
            .partitions
            .get(slot)
            .is_none_or(|of| of.fault().is_some());
        if let Some(seat) = self.coordinators.seats.get_mut(&slot) {
            seat.stage = match fenced {
                true => Stage::Failed,
                false => Stage::Loading(Loading::default()),
            };
            self.load(now, slot);
        }
    }

    /// Everybody who waits for this coordinator is told `error`; what it knew is forgotten.
    fn refuse_all(&mut self, slot: Slot, error: ErrorCode, effects: &mut Effects) {
        let fresh = self.coordinators.new_coordinator();
        let coordinators = &mut self.coordinators;
        let Some(seat) = coordinators.seats.get_mut(&slot) else {
            return;
        };
        let coordinator = std::mem::replace(&mut seat.coordinator, fresh);
        seat.gathered = Gathered::default();
        seat.rounds.clear();
        let parked = coordinator.unload(error);
        seat.answer(parked, &mut coordinators.answers, effects);
        for ticket in std::mem::take(&mut seat.asked).into_values() {
            effects.replies.push((ticket, Reply::Group(Err(error))));
        }
    }
}

/// No partition is here.
const NOWHERE: Slot = Slot(u32::MAX);

impl Seat {
    fn answer(
        &mut self,
        replies: Vec<(Token, Answer)>,
        answers: &mut Answers,
        effects: &mut Effects,
    ) {
        for (token, reply) in replies {
            if let Some(ticket) = self.asked.remove(&token) {
                answers.give(ticket, Reply::Group(Ok(Box::new(reply))), effects);
            }
        }
    }
}

impl Seat {
    fn refuse(&mut self, replies: &[(Token, Answer)], error: ErrorCode, effects: &mut Effects) {
        for (token, _) in replies {
            if let Some(ticket) = self.asked.remove(token) {
                effects.replies.push((ticket, Reply::Group(Err(error))));
            }
        }
    }
}

impl Gathered {
    /// Adds a decision's records: all into one batch, the open one if they fit into `room` bytes.
    fn add(&mut self, records: &[(Vec<u8>, Option<Vec<u8>>)], timestamp: i64, room: usize) {
        let size = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            key.len() + value.as_ref().map_or(0, Vec::len) + RECORD_OVERHEAD
        };
        let needed: usize = records.iter().map(size).sum();
        if self
            .batches
            .last()
            .is_none_or(|batch| batch.size() + needed > room)
        {
            self.batches.push(BatchBuilder::new(Codec::None));
        }
        if let Some(batch) = self.batches.last_mut() {
            for (key, value) in records {
                batch.append(timestamp, Some(key), value.as_deref(), &[]);
            }
        }
    }
}

/// Appends the batches in order; the offset of the last record, none without any.
fn append(
    now: Now,
    partition: &mut Partition,
    batches: Vec<BatchBuilder>,
    scratch: &mut Scratch,
) -> Result<Option<Offset>, Refusal> {
    let mut last = None;
    for batch in batches {
        let bytes = batch.finish();
        let origin = Origin::Coordinator;
        let accepted = partition.append(now, &bytes, PRODUCE_VERSION, origin, scratch)?;
        last = Some(accepted.last_offset);
    }
    Ok(last)
}

/// What clients are told when an append is refused (apache/kafka
/// `CoordinatorOperationExceptionHelper.handleOperationException`).
fn error_of(refusal: &Refusal) -> ErrorCode {
    match refusal.code() {
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        _ => ErrorCode::CoordinatorNotAvailable,
    }
}

/// The configs as coordinators have them; an assignor that is not known is passed over.
fn group_settings(settings: &GroupSettings) -> Settings {
    let defaults = Settings::default();
    let known = settings.consumer_assignors.iter();
    let assignors: Vec<Assignor> = known.filter_map(|name| Assignor::named(name)).collect();
    Settings {
        session_timeout_ms_min: settings.min_session_timeout_ms,
        session_timeout_ms_max: settings.max_session_timeout_ms,
        initial_rebalance_delay_ms: settings.initial_rebalance_delay_ms,
        classic_members_max: settings.max_size as usize,
        consumer_session_timeout_ms: settings.consumer_session_timeout_ms,
        consumer_heartbeat_interval_ms: settings.consumer_heartbeat_interval_ms,
        consumer_members_max: settings.consumer_max_size as usize,
        consumer_assignors: match assignors.is_empty() {
            true => defaults.consumer_assignors,
            false => assignors,
        },
        offset_metadata_bytes_max: settings.offset_metadata_max_bytes as usize,
        offsets_retention_minutes: settings.offsets_retention_ms / 60_000,
        offsets_retention_check_interval_ms: settings.offsets_retention_check_interval_ms,
        new_member_join_timeout_ms: defaults.new_member_join_timeout_ms,
        migration_policy: MigrationPolicy::named(&settings.consumer_migration_policy),
    }
}
