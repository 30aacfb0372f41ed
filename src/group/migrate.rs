//! A group changes its kind, and members are put out: what of it concerns more than one group's
//! own state.

use std::collections::BTreeSet;

use super::classic::ClassicGroup;
use super::consumer::{ConsumerGroup, Surroundings};
use super::records::Record;
use super::request::Refusal;
use super::turn::{Timer, Turn};
use super::{Group, State, surroundings, timers};
use crate::protocol::ErrorCode;

/// What a classic group becomes when a member of the new protocol joins it: the records so far,
/// and the consumer group after them.
pub fn upgrade(
    around: Surroundings<'_>,
    classic: &ClassicGroup,
    id: &str,
) -> Result<(ConsumerGroup, Vec<Record>), Refusal> {
    let mut records = vec![Record::GroupMetadata {
        group: id.to_owned(),
        value: None,
    }];
    if classic.is_empty() {
        return Ok((ConsumerGroup::new(id), records));
    }
    let allowed = around.settings.migration_policy.allows_upgrade()
        && classic.uses_consumer_protocol()
        && classic.members().len() <= around.settings.consumer_members_max;
    if !allowed {
        let message = format!("Group {id} is not a consumer group.");
        return Err(Refusal::new(ErrorCode::GroupIdNotFound, message));
    }
    let (group, more) = ConsumerGroup::upgraded(classic, id, around.topics)?;
    records.extend(more);
    Ok((group, records))
}

/// Frees what a classic group has parked, before its records end it.
pub fn end_classic(state: &mut State, turn: &mut Turn<'_>, id: &str) {
    if let Some(Group::Classic(classic)) = state.groups.get_mut(id) {
        classic.give_up(turn, ErrorCode::RebalanceInProgress);
    }
}

/// Starts the sessions of the classic members that a consumer group took over.
pub fn start_upgraded(state: &State, turn: &mut Turn<'_>, id: &str) {
    let Some(group) = state.consumers(id) else {
        return;
    };
    for member in group.member_ids() {
        timers::keep_alive(turn, group, member);
    }
}

/// Puts a member out: it left, was silent, or did not do what it had to in time.
pub fn fence(state: &mut State, turn: &mut Turn<'_>, id: &str, member: &str) {
    let Some(group) = state.consumers(id) else {
        return;
    };
    if !group.members().contains_key(member) {
        return;
    }
    let around = surroundings(turn);
    if group.may_downgrade(around, member, 1) {
        let group = group.clone();
        return downgrade(state, turn, group, Some(member));
    }
    let records = group.remove_members(around, BTreeSet::from([member]));
    state.decide(turn, records);
    timers::forget_member(turn, id, member);
}

/// Makes the consumer group the classic one that it is without the member `leaving`. If somebody
/// leaves, the others have to rebalance; if somebody was replaced, they go on, unless they were
/// still on their way to their target, which nobody would lead them to any more.
pub fn downgrade(
    state: &mut State,
    turn: &mut Turn<'_>,
    group: ConsumerGroup,
    leaving: Option<&str>,
) {
    let id = group.id().to_owned();
    let classic = group.downgraded(surroundings(turn), leaving);
    for member in group.member_ids() {
        timers::forget_member(turn, &id, member);
    }
    let rebalances = leaving.is_some() || !group.is_settled();
    let tombstones = group.tombstones();
    state.decide(turn, tombstones);
    // Its members' other protocols are not in its record, so it is put there before.
    let mut value = classic.value();
    if rebalances {
        // So that a coordinator that loads it before the rebalance is through begins it again.
        value.leader = None;
    }
    state.groups.insert(id.clone(), Group::Classic(classic));
    state.decide(
        turn,
        vec![Record::GroupMetadata {
            group: id.clone(),
            value: Some(value),
        }],
    );
    let classic = state.classic_entry(&id);
    let members: Vec<String> = classic.members().keys().cloned().collect();
    for member in &members {
        classic.keep_alive(turn, member);
    }
    if rebalances {
        classic.prepare_rebalance(turn);
    }
    turn.timers.cancel(&Timer::Sync(id));
}
