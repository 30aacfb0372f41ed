//! SyncGroup, Heartbeat and LeaveGroup in a classic group, and what happens when members are
//! late.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ClassicGroup, State, heartbeat, refused_sync};
use crate::group::records::Record;
use crate::group::request::{Request, Token};
use crate::group::turn::{Timer, Turn};
use crate::protocol::ErrorCode;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::leave_group_response::MemberResponse;
use crate::protocol::messages::{HeartbeatRequest, SyncGroupRequest};

/// The answer about one member of a LeaveGroup.
pub fn left(identity: &MemberIdentity, error: ErrorCode) -> MemberResponse {
    MemberResponse::default()
        .with_member_id(identity.member_id.clone())
        .with_group_instance_id(identity.group_instance_id.clone())
        .with_error_code(error.code())
}

impl ClassicGroup {
    /// Handles a SyncGroup: the leader's ends the rebalance, the others' wait for it.
    pub fn sync(&mut self, turn: &mut Turn<'_>, request: &Request, body: &SyncGroupRequest) {
        if let Err(error) = self.validate_sync(body) {
            return turn.reply(request.token, refused_sync(error));
        }
        let id = body.member_id.to_string();
        match self.state {
            State::Empty => {
                turn.reply(request.token, refused_sync(ErrorCode::UnknownMemberId));
            }
            State::PreparingRebalance => {
                turn.reply(request.token, refused_sync(ErrorCode::RebalanceInProgress));
            }
            State::CompletingRebalance => {
                self.park_sync(turn, &id, request.token);
                if self.is_leader(&id) {
                    self.take_assignment(turn, body);
                }
            }
            State::Stable => {
                self.synced(turn, &id);
                let assignment = self.members[&id].assignment.clone();
                turn.reply(request.token, self.sync_response(assignment));
            }
        }
    }

    fn validate_sync(&self, body: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.validate_member(&body.member_id, body.group_instance_id.as_deref())?;
        if body.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |told: Option<&str>, known: Option<&str>| {
            told.zip(known).is_some_and(|(told, known)| told != known)
        };
        if differs(body.protocol_type.as_deref(), self.protocol_type.as_deref())
            || differs(body.protocol_name.as_deref(), self.protocol.as_deref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn park_sync(&mut self, turn: &mut Turn<'_>, id: &str, token: Token) {
        if let Some(member) = self.members.get_mut(id)
            && let Some(old) = member.sync.replace(token)
        {
            turn.reply(old, refused_sync(ErrorCode::RebalanceInProgress));
        }
        self.synced(turn, id);
    }

    fn synced(&mut self, turn: &mut Turn<'_>, id: &str) {
        self.pending_syncs.remove(id);
        if self.pending_syncs.is_empty() {
            turn.timers.cancel(&Timer::Sync(self.id.clone()));
        }
    }

    /// The leader has spoken: its assignment is logged, and everybody who waits for it is
    /// answered (once it is durable). Members that it forgot get no bytes at all.
    fn take_assignment(&mut self, turn: &mut Turn<'_>, body: &SyncGroupRequest) {
        let mut assigned: BTreeMap<&str, &Bytes> = BTreeMap::new();
        for assignment in &body.assignments {
            assigned.insert(&assignment.member_id, &assignment.assignment);
        }
        let mut value = self.value();
        value.state_timestamp_ms = turn.now.wall.0;
        for member in &mut value.members {
            let mine = assigned.get(member.id.as_str());
            member.assignment = mine.map(|bytes| (*bytes).clone()).unwrap_or_default();
        }
        self.checkpoint(turn, value);
        turn.decision.tally.rebalances += 1;
        self.answer_syncs(turn, ErrorCode::None);
    }

    /// Answers everybody who waits for an assignment.
    pub(super) fn answer_syncs(&mut self, turn: &mut Turn<'_>, error: ErrorCode) {
        let waiting = self.members.iter_mut().filter_map(|(id, member)| {
            member
                .sync
                .take()
                .map(|token| (id.clone(), token, member.assignment.clone()))
        });
        for (id, token, assignment) in waiting.collect::<Vec<_>>() {
            let reply = match error {
                ErrorCode::None => self.sync_response(assignment),
                error => refused_sync(error),
            };
            turn.reply(token, reply);
            self.keep_alive(turn, &id);
        }
    }

    /// Handles a Heartbeat.
    pub fn heartbeat(&mut self, turn: &mut Turn<'_>, request: &Request, body: &HeartbeatRequest) {
        let valid = self.validate_member(&body.member_id, body.group_instance_id.as_deref());
        let error = match valid {
            Err(error) => error,
            Ok(()) if body.generation_id != self.generation => ErrorCode::IllegalGeneration,
            Ok(()) => {
                self.keep_alive(turn, &body.member_id);
                match self.state {
                    State::Empty => ErrorCode::UnknownMemberId,
                    State::PreparingRebalance => ErrorCode::RebalanceInProgress,
                    State::CompletingRebalance | State::Stable => ErrorCode::None,
                }
            }
        };
        turn.reply(request.token, heartbeat(error));
    }

    /// Handles a LeaveGroup: one answer a member, then at most one rebalance.
    pub fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        identities: &[MemberIdentity],
    ) -> Vec<MemberResponse> {
        let answers: Vec<MemberResponse> = identities
            .iter()
            .map(|identity| self.leave_one(turn, identity))
            .collect();
        if answers.iter().any(|answer| answer.error_code == 0) {
            self.log_departure(turn);
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
                State::PreparingRebalance => self.complete_if_all_joined(turn),
                State::Empty => {}
            }
        }
        answers
    }

    /// Logs the group without those who left, so that a coordinator that loads it before the
    /// rebalance is through does not wait a whole session for somebody who is gone (Kafka's does).
    /// Without a leader: it begins the rebalance again. Who is in its first join is not in it: its
    /// client may not know its id.
    fn log_departure(&self, turn: &mut Turn<'_>) {
        if self.members.is_empty() || self.protocol.is_none() {
            // The group ends as an empty one, or has not had a generation.
            return;
        }
        let mut value = self.value();
        value
            .members
            .retain(|member| !self.members[&member.id].is_new);
        value.leader = None;
        value.state_timestamp_ms = turn.now.wall.0;
        if value.members.is_empty() {
            value.protocol = None;
        }
        turn.log(&Record::GroupMetadata {
            group: self.id.clone(),
            value: Some(value),
        });
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, identity: &MemberIdentity) -> MemberResponse {
        let instance = identity.group_instance_id.as_deref();
        let mut id = identity.member_id.to_string();
        if id.is_empty() {
            // An operator removes a static member by its instance id alone.
            match instance.and_then(|instance| self.static_members.get(instance)) {
                Some(current) => id.clone_from(current),
                None => return left(identity, ErrorCode::UnknownMemberId),
            }
        } else if !self.pending_joins.contains(&id)
            && let Err(error) = self.validate_member(&id, instance)
        {
            return left(identity, error);
        }
        turn.timers
            .cancel(&Timer::Session(self.id.clone(), id.clone()));
        let removed = self.remove(&id);
        self.answer_removed(turn, removed);
        left(identity, ErrorCode::None)
    }

    /// The member was silent for its session timeout. A member whose join or sync is parked is
    /// not silent: its answer is ours to give.
    pub fn session_due(&mut self, turn: &mut Turn<'_>, id: &str) {
        if self.pending_joins.contains(id) {
            self.remove(id);
            return self.complete_if_all_joined(turn);
        }
        let Some(member) = self.members.get(id) else {
            return;
        };
        if !member.is_new && (member.join.is_some() || member.sync.is_some()) {
            return;
        }
        let removed = self.remove(id);
        self.answer_removed(turn, removed);
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance => self.complete_if_all_joined(turn),
            State::Empty => {}
        }
    }

    /// Members that joined but did not sync in time are out.
    pub fn sync_due(&mut self, turn: &mut Turn<'_>) {
        let late = std::mem::take(&mut self.pending_syncs);
        match self.state {
            State::CompletingRebalance | State::Stable if !late.is_empty() => {}
            _ => return,
        }
        for id in &late {
            turn.timers
                .cancel(&Timer::Session(self.id.clone(), id.clone()));
            let removed = self.remove(id);
            self.answer_removed(turn, removed);
        }
        self.prepare_rebalance(turn);
    }
}
