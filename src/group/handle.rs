//! Each request to the group that it names.

use super::classic::left;
use super::consumer::{Beat, ConsumerGroup, LEAVE, LEAVE_STATIC};
use super::consumer_protocol::CONSUMER;
use super::records::{ClassicValue, MemberState, Record};
use super::request::{Body, Refusal, Reply, Request};
use super::turn::{ParkedJoin, Timer, Turn, heartbeat, refused_heartbeat, refused_sync, text};
use super::{Group, State, describe, migrate, offsets, surroundings, timers};
use crate::protocol::ErrorCode;
use crate::protocol::messages::delete_groups_response::DeletableGroupResult;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::leave_group_response::MemberResponse;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
    SyncGroupResponse,
};

/// Handles a request.
pub fn handle(state: &mut State, turn: &mut Turn<'_>, request: &Request) {
    let token = request.token;
    let reply = match &request.body {
        Body::JoinGroup(body) => return join(state, turn, request, body),
        Body::SyncGroup(body) => return sync(state, turn, request, body),
        Body::Heartbeat(body) => return beat(state, turn, request, body),
        Body::LeaveGroup(body) => Reply::LeaveGroup(leave(state, turn, request, body)),
        Body::OffsetCommit(body) => {
            Reply::OffsetCommit(offsets::commit(state, turn, request, body))
        }
        Body::OffsetFetch(body) => Reply::OffsetFetch(offsets::fetch(state, body)),
        Body::OffsetDelete(body) => Reply::OffsetDelete(offsets::delete(state, turn, body)),
        Body::DeleteGroup(id) => Reply::DeleteGroup(delete(state, turn, id)),
        Body::DescribeGroup(id) => {
            Reply::DescribeGroup(describe::describe_classic(state, request, id))
        }
        Body::ListGroups(body) => Reply::ListGroups(describe::list(state, body)),
        Body::ConsumerGroupHeartbeat(body) => consumer_heartbeat(state, turn, request, body)
            .map_or_else(
                |refusal| refused_heartbeat(&refusal),
                Reply::ConsumerGroupHeartbeat,
            ),
        Body::ConsumerGroupDescribe(id) => {
            Reply::ConsumerGroupDescribe(describe::describe_consumer(state, surroundings(turn), id))
        }
    };
    turn.reply(token, reply);
}

fn join(state: &mut State, turn: &mut Turn<'_>, request: &Request, body: &JoinGroupRequest) {
    let parked = ParkedJoin {
        token: request.token,
        version: request.version,
    };
    let id = body.group_id.as_str();
    let settings = turn.settings;
    let sessions = settings.session_timeout_ms_min..=settings.session_timeout_ms_max;
    let refusal = if id.is_empty() {
        Some(ErrorCode::InvalidGroupId)
    } else if !sessions.contains(&body.session_timeout_ms) {
        Some(ErrorCode::InvalidSessionTimeout)
    } else {
        None
    };
    if let Some(error) = refusal {
        return turn
            .decision
            .replies
            .push(parked.refuse(&body.member_id, error));
    }
    match state.groups.get(id) {
        Some(Group::Consumer(group)) if !group.is_empty() => {
            join_consumers(state, turn, request, body);
        }
        Some(Group::Consumer(group)) => {
            // Nobody is left in it: it may begin anew as a classic group.
            let tombstones = group.tombstones();
            state.decide(turn, tombstones);
            join_classic(state, turn, request, body);
        }
        Some(Group::Classic(_)) | None => join_classic(state, turn, request, body),
    }
}

fn join_classic(
    state: &mut State,
    turn: &mut Turn<'_>,
    request: &Request,
    body: &JoinGroupRequest,
) {
    let parked = ParkedJoin {
        token: request.token,
        version: request.version,
    };
    let id = body.group_id.to_string();
    if !state.groups.contains_key(&id) {
        let refusal = if !body.member_id.is_empty() {
            Some(ErrorCode::UnknownMemberId)
        } else if body.protocol_type.is_empty() || body.protocols.is_empty() {
            Some(ErrorCode::InconsistentGroupProtocol)
        } else {
            None
        };
        if let Some(error) = refusal {
            return turn
                .decision
                .replies
                .push(parked.refuse(&body.member_id, error));
        }
        let state_timestamp_ms = turn.now.wall.0;
        let value = Some(ClassicValue {
            state_timestamp_ms,
            ..ClassicValue::default()
        });
        state.decide(
            turn,
            vec![Record::GroupMetadata {
                group: id.clone(),
                value,
            }],
        );
    }
    state.classic_entry(&id).join(turn, request, body);
}

fn join_consumers(
    state: &mut State,
    turn: &mut Turn<'_>,
    request: &Request,
    body: &JoinGroupRequest,
) {
    let parked = ParkedJoin {
        token: request.token,
        version: request.version,
    };
    let id = match body.member_id.as_str() {
        "" => turn.uuid(),
        known => known.to_owned(),
    };
    let group = body.group_id.to_string();
    let Some(known) = state.consumers(&group) else {
        return;
    };
    let join = match known.join_classic(surroundings(turn), request, body, &id) {
        Ok(join) => join,
        Err(refusal) => {
            let told = match refusal.error {
                ErrorCode::MemberIdRequired => id.as_str(),
                _ => body.member_id.as_str(),
            };
            return turn
                .decision
                .replies
                .push(parked.refuse(told, refusal.error));
        }
    };
    state.decide(turn, join.records);
    timers::saw(state, turn, &group);
    if let Some(old) = &join.replaced {
        timers::forget_member(turn, &group, old);
    }
    let mut generation = join.member.current.epoch;
    if let Some(after) = join.downgrade {
        generation = after.epoch();
        migrate::downgrade(state, turn, after, None);
    } else {
        turn.timers
            .cancel(&Timer::Rejoin(group.clone(), id.clone()));
        turn.set_timer(
            Timer::Session(group.clone(), id.clone()),
            body.session_timeout_ms,
        );
        turn.set_timer(Timer::Resync(group, id.clone()), body.rebalance_timeout_ms);
    }
    let first = body.protocols.first().map(|protocol| protocol.name.clone());
    let response = JoinGroupResponse::default()
        .with_member_id(text(&id))
        .with_generation_id(generation)
        .with_protocol_type(Some(text(CONSUMER)))
        .with_protocol_name(first);
    turn.decision.replies.push(parked.reply(response));
}

fn sync(state: &mut State, turn: &mut Turn<'_>, request: &Request, body: &SyncGroupRequest) {
    let id = body.group_id.to_string();
    let error = match state.groups.get_mut(&id) {
        _ if id.is_empty() => ErrorCode::InvalidGroupId,
        Some(Group::Classic(group)) if !group.is_empty() => {
            return group.sync(turn, request, body);
        }
        Some(Group::Consumer(group)) if !group.is_empty() => {
            match group.sync_classic(turn.topics, body) {
                Ok((assignment, session_ms)) => {
                    let member = body.member_id.to_string();
                    turn.timers
                        .cancel(&Timer::Resync(id.clone(), member.clone()));
                    turn.set_timer(Timer::Session(id, member), session_ms);
                    let response = SyncGroupResponse::default()
                        .with_protocol_type(body.protocol_type.clone())
                        .with_protocol_name(body.protocol_name.clone())
                        .with_assignment(assignment);
                    return turn.reply(request.token, Reply::SyncGroup(response));
                }
                Err(refusal) => {
                    if refusal.error == ErrorCode::RebalanceInProgress {
                        timers::expect_rejoin(turn, group, &body.member_id);
                    }
                    refusal.error
                }
            }
        }
        Some(_) | None => ErrorCode::UnknownMemberId,
    };
    turn.reply(request.token, refused_sync(error));
}

fn beat(state: &mut State, turn: &mut Turn<'_>, request: &Request, body: &HeartbeatRequest) {
    let id = body.group_id.to_string();
    let error = match state.groups.get_mut(&id) {
        _ if id.is_empty() => ErrorCode::InvalidGroupId,
        Some(Group::Classic(group)) => return group.heartbeat(turn, request, body),
        Some(Group::Consumer(group)) => match group.heartbeat_classic(body) {
            Ok(rejoin) => {
                timers::keep_alive(turn, group, &body.member_id);
                if rejoin {
                    timers::expect_rejoin(turn, group, &body.member_id);
                    ErrorCode::RebalanceInProgress
                } else {
                    ErrorCode::None
                }
            }
            Err(refusal) => refusal.error,
        },
        None => ErrorCode::UnknownMemberId,
    };
    turn.reply(request.token, heartbeat(error));
}

fn leave(
    state: &mut State,
    turn: &mut Turn<'_>,
    request: &Request,
    body: &LeaveGroupRequest,
) -> LeaveGroupResponse {
    /// The first version that names several members.
    const BATCH_FROM: i16 = 3;
    let response = LeaveGroupResponse::default();
    let id = body.group_id.as_str();
    if id.is_empty() {
        return response.with_error_code(ErrorCode::InvalidGroupId.code());
    }
    let single = [MemberIdentity::default().with_member_id(body.member_id.clone())];
    let identities = match request.version < BATCH_FROM {
        true => &single[..],
        false => &body.members[..],
    };
    let answers = match state.groups.get_mut(id) {
        Some(Group::Classic(group)) => group.leave(turn, identities),
        Some(Group::Consumer(_)) => leave_consumers(state, turn, id, identities),
        None => {
            let unknown = identities
                .iter()
                .map(|who| left(who, ErrorCode::UnknownMemberId));
            unknown.collect()
        }
    };
    match request.version < BATCH_FROM {
        true => response.with_error_code(answers.first().map_or(0, |answer| answer.error_code)),
        false => response.with_members(answers),
    }
}

fn leave_consumers(
    state: &mut State,
    turn: &mut Turn<'_>,
    id: &str,
    identities: &[MemberIdentity],
) -> Vec<MemberResponse> {
    let Some(group) = state.consumers(id) else {
        return Vec::new();
    };
    let mut leaving = std::collections::BTreeSet::new();
    let answers: Vec<MemberResponse> = identities
        .iter()
        .map(|identity| match group.leave_classic(identity) {
            // The same member twice: the second finds nobody.
            Ok(member) if !leaving.insert(member.clone()) => {
                left(identity, ErrorCode::UnknownMemberId)
            }
            Ok(member) => left(identity, ErrorCode::None).with_member_id(text(&member)),
            Err(error) => left(identity, error),
        })
        .collect();
    if !leaving.is_empty() {
        let members = leaving.iter().map(String::as_str).collect();
        let records = group.remove_members(surroundings(turn), members);
        state.decide(turn, records);
        for member in &leaving {
            timers::forget_member(turn, id, member);
        }
    }
    answers
}

fn delete(state: &mut State, turn: &mut Turn<'_>, id: &str) -> DeletableGroupResult {
    let result = DeletableGroupResult::default().with_group_id(text(id).into());
    let Some(group) = state.groups.get(id) else {
        return result.with_error_code(ErrorCode::GroupIdNotFound.code());
    };
    if !group.is_empty() {
        return result.with_error_code(ErrorCode::NonEmptyGroup.code());
    }
    let mut records = state.offsets.tombstones(id);
    records.extend(group.tombstones(id));
    if let Some(Group::Classic(group)) = state.groups.get_mut(id) {
        group.give_up(turn, ErrorCode::UnknownMemberId);
    }
    state.decide(turn, records);
    result
}

fn consumer_heartbeat(
    state: &mut State,
    turn: &mut Turn<'_>,
    request: &Request,
    body: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    super::consumer::validate(turn.settings, request.version, body)?;
    if matches!(body.member_epoch, LEAVE | LEAVE_STATIC) {
        return consumer_leave(state, turn, body);
    }
    let id = match body.member_id.as_str() {
        "" => turn.uuid(),
        own => own.to_owned(),
    };
    let group = body.group_id.to_string();
    let around = surroundings(turn);
    // The group as it is to be when the heartbeat is taken in; nothing is logged before that.
    let (made, mut records): (Option<ConsumerGroup>, Vec<Record>) = match state.groups.get(&group) {
        Some(Group::Consumer(_)) => (None, Vec::new()),
        None if body.member_epoch == 0 => (Some(ConsumerGroup::new(&group)), Vec::new()),
        Some(Group::Classic(classic)) if body.member_epoch == 0 => {
            let (made, records) = migrate::upgrade(around, classic, &group)?;
            (Some(made), records)
        }
        None => return Err(not_found(format!("Group {group} not found."))),
        Some(Group::Classic(_)) => {
            return Err(not_found(format!("Group {group} is not a consumer group.")));
        }
    };
    let known = match (&made, state.groups.get(&group)) {
        (Some(made), _) => made,
        (None, Some(Group::Consumer(known))) => known,
        (None, _) => return Err(not_found(format!("Group {group} not found."))),
    };
    let beat = known.beat(around, request, body, id)?;
    records.extend(beat.records.iter().cloned());
    if made.is_some() {
        migrate::end_classic(state, turn, &group);
    }
    state.decide(turn, records);
    if made.is_some() {
        migrate::start_upgraded(state, turn, &group);
    }
    after_beat(state, turn, &group, &beat);
    Ok(beat.response)
}

/// Sets the member's timers as its new state wants them.
fn after_beat(state: &mut State, turn: &mut Turn<'_>, group: &str, beat: &Beat) {
    timers::saw(state, turn, group);
    if let Some(old) = &beat.replaced {
        timers::forget_member(turn, group, old);
    }
    let key = || (group.to_owned(), beat.id.clone());
    let (name, id) = key();
    turn.set_timer(
        Timer::Session(name, id),
        turn.settings.consumer_session_timeout_ms,
    );
    let (name, id) = key();
    let revocation = Timer::Revocation(name, id);
    if beat.member.current.state != MemberState::UnrevokedPartitions {
        turn.timers.cancel(&revocation);
    } else if beat
        .records
        .iter()
        .any(|record| matches!(record, Record::Current { .. }))
    {
        turn.set_timer(revocation, beat.member.about.rebalance_timeout_ms);
    }
    let (name, id) = key();
    turn.timers.cancel(&Timer::Rejoin(name, id));
    let (name, id) = key();
    turn.timers.cancel(&Timer::Resync(name, id));
}

fn consumer_leave(
    state: &mut State,
    turn: &mut Turn<'_>,
    body: &ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
    let group = body.group_id.as_str();
    let known = match state.groups.get(group) {
        Some(Group::Consumer(known)) => known,
        Some(Group::Classic(_)) => {
            return Err(not_found(format!("Group {group} is not a consumer group.")));
        }
        None => return Err(not_found(format!("Group {group} not found."))),
    };
    let (id, absence) = known.leave(body)?;
    match absence {
        Some(record) => {
            state.decide(turn, vec![record]);
            turn.timers.cancel(&Timer::Revocation(group.to_owned(), id));
        }
        None => migrate::fence(state, turn, group, &id),
    }
    Ok(ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(body.member_id.clone()))
        .with_member_epoch(body.member_epoch))
}

fn not_found(message: String) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, message)
}
