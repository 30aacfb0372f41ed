//! JoinGroup in a classic group, and the rebalance that it leads to.

use bytes::Bytes;

use super::{ClassicGroup, InitialDelay, Member, ParkedJoin, State};
use crate::group::records::ClassicValue;
use crate::group::request::{Request, Token};
use crate::group::turn::{Timer, Turn, refused_join, refused_sync};
use crate::protocol::ErrorCode;
use crate::protocol::messages::JoinGroupRequest;

/// The first version of JoinGroup in which a new dynamic member must come again with the id that
/// it was given (KIP-394).
pub const KNOWN_ID_FROM: i16 = 4;

/// The first version in which a static leader may be told to skip assigning (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// One member's JoinGroup, as the group needs it.
struct Join<'a> {
    request: &'a Request,
    body: &'a JoinGroupRequest,
    protocols: Vec<(String, Bytes)>,
    instance: Option<String>,
    parked: ParkedJoin,
}

impl Join<'_> {
    fn rebalance_timeout_ms(&self) -> i32 {
        // Version 0 has the session timeout for both.
        match self.request.version {
            0 => self.body.session_timeout_ms,
            _ => self.body.rebalance_timeout_ms,
        }
    }
}

/// The protocols of a request, in the member's order of preference.
pub fn protocols_of(body: &JoinGroupRequest) -> Vec<(String, Bytes)> {
    body.protocols
        .iter()
        .map(|known| (known.name.to_string(), known.metadata.clone()))
        .collect()
}

impl ClassicGroup {
    /// Handles a JoinGroup whose group id and session timeout are valid.
    pub fn join(&mut self, turn: &mut Turn<'_>, request: &Request, body: &JoinGroupRequest) {
        let join = Join {
            request,
            body,
            protocols: protocols_of(body),
            instance: body.group_instance_id.as_ref().map(ToString::to_string),
            parked: ParkedJoin {
                token: request.token,
                version: request.version,
            },
        };
        let refusal = if !self.accepts(turn, &body.member_id) {
            let removed = self.remove(&body.member_id);
            self.answer_removed(turn, removed);
            Some(("", ErrorCode::GroupMaxSizeReached))
        } else if !self.supports(
            &body.protocol_type,
            body.protocols.iter().map(|protocol| protocol.name.as_str()),
        ) {
            Some((
                body.member_id.as_str(),
                ErrorCode::InconsistentGroupProtocol,
            ))
        } else {
            None
        };
        match refusal {
            Some((member, error)) => turn
                .decision
                .replies
                .push(join.parked.refuse(member, error)),
            None if body.member_id.is_empty() => self.join_new(turn, join),
            None => self.join_known(turn, join),
        }
    }

    /// Is there room for (another) one? While members rejoin, those who did are counted, so that
    /// a group that became too large keeps the fastest.
    fn accepts(&self, turn: &Turn<'_>, member: &str) -> bool {
        let most = turn.settings.classic_members_max;
        let known = self.members.get(member);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                known.is_some_and(|member| member.join.is_some()) || self.joins_parked < most
            }
            State::CompletingRebalance | State::Stable => {
                known.is_some() || self.members.len() < most
            }
        }
    }

    fn join_new(&mut self, turn: &mut Turn<'_>, join: Join<'_>) {
        let uuid = turn.uuid();
        let Some(instance) = &join.instance else {
            let id = format!("{}-{uuid}", join.request.client_id);
            if join.request.version < KNOWN_ID_FROM {
                return self.add_and_rebalance(turn, &id, join);
            }
            turn.set_timer(
                Timer::Session(self.id.clone(), id.clone()),
                join.body.session_timeout_ms,
            );
            let refusal = refused_join(&id, ErrorCode::MemberIdRequired);
            turn.decision.replies.push(join.parked.reply(refusal));
            self.pending_joins.insert(id);
            return;
        };
        let id = format!("{instance}-{uuid}");
        match self.static_members.get(instance).cloned() {
            Some(old) => self.replace_static(turn, &old, &id, join),
            None => self.add_and_rebalance(turn, &id, join),
        }
    }

    fn join_known(&mut self, turn: &mut Turn<'_>, join: Join<'_>) {
        let id = join.body.member_id.to_string();
        if self.pending_joins.contains(&id) && join.instance.is_none() {
            return self.add_and_rebalance(turn, &id, join);
        }
        if let Err(error) = self.validate_member(&id, join.instance.as_deref()) {
            return turn.decision.replies.push(join.parked.refuse(&id, error));
        }
        let unchanged = self.members[&id].protocols == join.protocols;
        let rebalance = match self.state {
            State::PreparingRebalance => true,
            State::CompletingRebalance => !unchanged,
            State::Stable => self.is_leader(&id) || !unchanged,
            State::Empty => {
                let unknown = join.parked.refuse(&id, ErrorCode::UnknownMemberId);
                return turn.decision.replies.push(unknown);
            }
        };
        if rebalance {
            self.update(turn, &id, &join);
            self.rebalance_or_complete(turn);
        } else {
            turn.decision
                .replies
                .push(join.parked.reply(self.join_response(&id)));
        }
    }

    fn add_and_rebalance(&mut self, turn: &mut Turn<'_>, id: &str, join: Join<'_>) {
        let member = Member {
            instance_id: join.instance.clone(),
            client_id: join.request.client_id.clone(),
            client_host: join.request.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms(),
            session_timeout_ms: join.body.session_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            join: Some(join.parked),
            sync: None,
            is_new: true,
        };
        self.new_member_added |= self.initial_delay.is_some();
        self.add(id, member, &join.body.protocol_type);
        let timer = Timer::Session(self.id.clone(), id.to_owned());
        turn.set_timer(timer, turn.settings.new_member_join_timeout_ms);
        self.rebalance_or_complete(turn);
    }

    /// Takes over what a member says anew, and parks its join. A join that was parked before is
    /// answered: its client has moved on, but whoever holds its token must be freed.
    fn update(&mut self, turn: &mut Turn<'_>, id: &str, join: &Join<'_>) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        self.uncount_votes(&member);
        member.protocols.clone_from(&join.protocols);
        member.rebalance_timeout_ms = join.rebalance_timeout_ms();
        member.session_timeout_ms = join.body.session_timeout_ms;
        for (name, _) in &member.protocols {
            *self.votes.entry(name.clone()).or_default() += 1;
        }
        match member.join.replace(join.parked) {
            Some(old) => {
                turn.decision
                    .replies
                    .push(old.refuse(id, ErrorCode::RebalanceInProgress));
            }
            None => self.joins_parked += 1,
        }
        self.members.insert(id.to_owned(), member);
    }

    /// A static member came back without its id: the new one takes the old one's place.
    fn replace_static(&mut self, turn: &mut Turn<'_>, old: &str, new: &str, join: Join<'_>) {
        let leader_before = self.leader.clone();
        self.fence_and_rename(turn, old, new);
        self.update(turn, new, &join);
        self.keep_alive(turn, new);
        match self.state {
            State::Stable if self.protocol == self.select_protocol() => {
                self.checkpoint(turn, self.value());
                self.answer_replacement(turn, new, leader_before, join.request.token);
            }
            State::Stable => self.rebalance_or_complete(turn),
            State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance | State::Empty => self.complete_if_all_joined(turn),
        }
    }

    fn fence_and_rename(&mut self, turn: &mut Turn<'_>, old: &str, new: &str) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        turn.timers
            .cancel(&Timer::Session(self.id.clone(), old.to_owned()));
        let fenced = ErrorCode::FencedInstanceId;
        if let Some(join) = member.join.take() {
            self.joins_parked -= 1;
            turn.decision.replies.push(join.refuse(old, fenced));
        }
        turn.decision
            .replies
            .extend(member.sync.take().map(|sync| (sync, refused_sync(fenced))));
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), new.to_owned());
        }
        if self.is_leader(old) {
            self.leader = Some(new.to_owned());
        }
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new.to_owned());
        }
        member.is_new = false;
        self.members.insert(new.to_owned(), member);
    }

    /// The protocol stays, so nobody else need know: the newcomer keeps the assignment.
    fn answer_replacement(
        &mut self,
        turn: &mut Turn<'_>,
        id: &str,
        leader_before: Option<String>,
        token: Token,
    ) {
        let mut response = self.join_response(id);
        let Some(join) = self
            .members
            .get_mut(id)
            .and_then(|member| member.join.take())
        else {
            return;
        };
        self.joins_parked -= 1;
        if join.version >= SKIP_ASSIGNMENT_FROM {
            response.skip_assignment = self.is_leader(id);
        } else {
            // An older leader would assign anew: so it is told that the leader is still the one
            // that it replaces.
            response.leader = crate::group::turn::text(leader_before.as_deref().unwrap_or(""));
            response.members.clear();
        }
        debug_assert_eq!(join.token, token);
        turn.decision.replies.push(join.reply(response));
    }

    /// A member's change calls for a rebalance, or is part of one already.
    pub(super) fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::PreparingRebalance => self.complete_if_all_joined(turn),
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(turn);
            }
        }
    }

    /// Asks all members to rejoin. The first members of an empty group wait a little for others
    /// (`group.initial.rebalance.delay.ms`), so that starting ten consumers is not ten rebalances.
    pub(in crate::group) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::CompletingRebalance {
            // The assignments of the last generation stay, as they do in its record: members that
            // are cooperative go by them, and an upgrade has to know.
            self.answer_syncs(turn, ErrorCode::RebalanceInProgress);
        }
        self.pending_syncs.clear();
        turn.timers.cancel(&Timer::Sync(self.id.clone()));
        let initial = self.state == State::Empty;
        self.transition(turn, State::PreparingRebalance);
        if initial {
            let delay_ms = turn.settings.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.new_member_added = false;
            self.initial_delay = Some(InitialDelay {
                delay_ms,
                remaining_ms,
            });
            turn.set_timer(Timer::Join(self.id.clone()), delay_ms);
        } else if self.all_joined() {
            self.complete_join(turn);
        } else {
            turn.set_timer(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
        }
    }

    /// Goes on if everybody is there; in an initial rebalance only the delay decides.
    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let preparing = self.state == State::PreparingRebalance;
        if preparing && self.initial_delay.is_none() && self.all_joined() {
            self.complete_join(turn);
        }
    }

    /// The time to join is over.
    pub fn join_due(&mut self, turn: &mut Turn<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        match self.initial_delay {
            Some(InitialDelay {
                delay_ms,
                remaining_ms,
            }) if self.new_member_added && remaining_ms != 0 => {
                self.new_member_added = false;
                let next = turn.settings.initial_rebalance_delay_ms.min(remaining_ms);
                let remaining_ms = (remaining_ms - delay_ms).max(0);
                self.initial_delay = Some(InitialDelay {
                    delay_ms: next,
                    remaining_ms,
                });
                turn.set_timer(Timer::Join(self.id.clone()), next);
            }
            _ => self.complete_join(turn),
        }
    }

    /// Everybody who is going to join has: the next generation begins.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        turn.timers.cancel(&Timer::Join(self.id.clone()));
        self.initial_delay = None;
        self.drop_absent_members(turn);
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left, and none of them is back yet.
            return turn.set_timer(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
        }
        let generation = self.generation.saturating_add(1);
        self.pending_syncs.clear();
        if self.members.is_empty() {
            let mut value = ClassicValue {
                generation,
                ..self.value()
            };
            value.state_timestamp_ms = turn.now.wall.0;
            (value.protocol, value.leader) = (None, None);
            return self.checkpoint(turn, value);
        }
        self.generation = generation;
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.transition(turn, State::CompletingRebalance);
        self.answer_joins(turn);
        turn.set_timer(Timer::Sync(self.id.clone()), self.rebalance_timeout_ms());
    }

    /// Dynamic members that did not rejoin in time are out; static ones keep their place until
    /// their session ends.
    fn drop_absent_members(&mut self, turn: &mut Turn<'_>) {
        let absent = self
            .members
            .iter()
            .filter(|(_, m)| m.join.is_none() && m.instance_id.is_none());
        let absent: Vec<String> = absent.map(|(id, _)| id.clone()).collect();
        for id in absent {
            turn.timers
                .cancel(&Timer::Session(self.id.clone(), id.clone()));
            let removed = self.remove(&id);
            self.answer_removed(turn, removed);
        }
    }

    /// Makes sure that the leader is one who has joined. False if nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &str| {
            self.members
                .get(id)
                .is_some_and(|member| member.join.is_some())
        };
        if self.leader.as_deref().is_some_and(joined) {
            return true;
        }
        let next = self
            .members
            .iter()
            .find(|(_, member)| member.join.is_some());
        let Some((id, _)) = next else { return false };
        self.leader = Some(id.clone());
        true
    }

    fn answer_joins(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.members[&id]
                .join
                .map(|join| join.reply(self.join_response(&id)));
            if let Some(member) = self.members.get_mut(&id) {
                self.joins_parked -= usize::from(member.join.take().is_some());
                member.is_new = false;
            }
            turn.decision.replies.extend(response);
            self.keep_alive(turn, &id);
            self.pending_syncs.insert(id);
        }
    }

    /// Answers what a removed member had parked.
    pub(super) fn answer_removed(&self, turn: &mut Turn<'_>, removed: Option<Member>) {
        let unknown = ErrorCode::UnknownMemberId;
        if let Some(member) = removed {
            turn.decision
                .replies
                .extend(member.join.map(|join| join.refuse("", unknown)));
            turn.decision
                .replies
                .extend(member.sync.map(|sync| (sync, refused_sync(unknown))));
        }
    }
}
