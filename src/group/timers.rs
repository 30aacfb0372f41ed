//! What happens when nothing happens: sessions that end, members that are late, offsets that
//! expire.

use std::ops::Bound;

use super::consumer::ConsumerGroup;
use super::records::MemberState;
use super::turn::{Timer, Turn};
use super::{Group, State, migrate, offsets};

/// About how many records one slice of retention may make.
const RETENTION_RECORDS_MAX: usize = 1_000;

/// How many groups one slice of retention looks at.
const RETENTION_GROUPS_MAX: usize = 1_000;

/// Does what is due. `cursor` is where retention stands.
pub fn tick(state: &mut State, turn: &mut Turn<'_>, cursor: &mut Option<String>) {
    // One by one, since what fires may cancel what is due next; and only so many, since what fires
    // may set a timer that is due at once.
    for _ in 0..turn.timers.len() {
        let Some(timer) = turn.timers.pop_due(turn.now.mono) else {
            return;
        };
        fire(state, turn, timer, cursor);
    }
}

fn fire(state: &mut State, turn: &mut Turn<'_>, timer: Timer, cursor: &mut Option<String>) {
    match timer {
        Timer::Session(group, member) => match state.groups.get_mut(&group) {
            Some(Group::Classic(classic)) => classic.session_due(turn, &member),
            Some(Group::Consumer(_)) => migrate::fence(state, turn, &group, &member),
            None => {}
        },
        Timer::Join(group) => {
            if let Some(Group::Classic(classic)) = state.groups.get_mut(&group) {
                classic.join_due(turn);
            }
        }
        Timer::Sync(group) => {
            if let Some(Group::Classic(classic)) = state.groups.get_mut(&group) {
                classic.sync_due(turn);
            }
        }
        Timer::Revocation(group, member) => {
            let known = state
                .consumers(&group)
                .and_then(|group| group.members().get(&member));
            let late = |state| state == MemberState::UnrevokedPartitions;
            if known.is_some_and(|member| late(member.current.state)) {
                migrate::fence(state, turn, &group, &member);
            }
        }
        Timer::Rejoin(group, member) | Timer::Resync(group, member) => {
            migrate::fence(state, turn, &group, &member);
        }
        Timer::Retention => retention(state, turn, cursor),
    }
}

/// Looks at some groups for expired offsets, and deletes groups that have neither members nor
/// offsets any more.
fn retention(state: &mut State, turn: &mut Turn<'_>, cursor: &mut Option<String>) {
    let from = match cursor.take() {
        Some(id) => Bound::Excluded(id),
        None => Bound::Unbounded,
    };
    let (mut records, mut count) = (Vec::new(), 0);
    for (seen, (id, group)) in state.groups.range((from, Bound::Unbounded)).enumerate() {
        let (mut expired, all) = offsets::expired(state, turn, id, group);
        count += expired.len() as u64;
        records.append(&mut expired);
        if all && group.is_empty() && !is_starting(group) {
            records.extend(group.tombstones(id));
        }
        if records.len() >= RETENTION_RECORDS_MAX || seen + 1 >= RETENTION_GROUPS_MAX {
            *cursor = Some(id.clone());
            break;
        }
    }
    state.decide(turn, records);
    // They were counted as deleted.
    turn.decision.tally.offsets_deleted -= count;
    turn.decision.tally.offsets_expired += count;
    let wait_ms = match cursor {
        Some(_) => 1,
        None => turn.settings.offsets_retention_check_interval_ms,
    };
    let at = turn.now.mono.after_ms(wait_ms);
    turn.timers.set(Timer::Retention, at);
}

/// True while somebody holds an id for a group and is about to join with it.
fn is_starting(group: &Group) -> bool {
    match group {
        Group::Classic(classic) => classic.has_pending_joins(),
        Group::Consumer(_) => false,
    }
}

/// Starts the timers of a consumer group that was just loaded.
pub fn consumer_loaded(turn: &mut Turn<'_>, group: &ConsumerGroup) {
    for (id, member) in group.members() {
        keep_alive(turn, group, id);
        if member.current.state == MemberState::UnrevokedPartitions {
            let timer = Timer::Revocation(group.id().to_owned(), id.clone());
            turn.set_timer(timer, member.about.rebalance_timeout_ms);
        }
    }
}

/// Starts the session of a consumer group's member anew.
pub fn keep_alive(turn: &mut Turn<'_>, group: &ConsumerGroup, member: &str) {
    if let Some(known) = group.members().get(member) {
        let timer = Timer::Session(group.id().to_owned(), member.to_owned());
        turn.set_timer(timer, known.session_timeout_ms(turn.settings));
    }
}

/// A classic member of a consumer group was told to rejoin: its time runs from the first telling.
pub fn expect_rejoin(turn: &mut Turn<'_>, group: &ConsumerGroup, member: &str) {
    let timer = Timer::Rejoin(group.id().to_owned(), member.to_owned());
    if let Some(known) = group.members().get(member)
        && turn.timers.get(&timer).is_none()
    {
        turn.set_timer(timer, known.about.rebalance_timeout_ms);
    }
}

/// Cancels all timers of a consumer group's member.
pub fn forget_member(turn: &mut Turn<'_>, group: &str, member: &str) {
    for kind in [
        Timer::Session,
        Timer::Revocation,
        Timer::Rejoin,
        Timer::Resync,
    ] {
        turn.timers
            .cancel(&kind(group.to_owned(), member.to_owned()));
    }
}

/// Notes that a consumer group's subscriptions are up to date with the topics.
pub fn saw(state: &mut State, turn: &Turn<'_>, group: &str) {
    if let Some(Group::Consumer(group)) = state.groups.get_mut(group) {
        group.saw(turn.topics.version);
    }
}
