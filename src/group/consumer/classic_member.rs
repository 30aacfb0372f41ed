//! Members of a consumer group that still speak the classic protocol, while the group migrates:
//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup served from the new protocol's state.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::heartbeat::unknown_member;
use super::{ConsumerGroup, Member, Surroundings};
use crate::group::classic::{KNOWN_ID_FROM, protocols_of};
use crate::group::consumer_protocol::{CONSUMER, NamedPartitions, Subscription, encode_assignment};
use crate::group::records::{ClassicProtocols, MemberState, Partitions, Record};
use crate::group::request::{Refusal, Request, TopicView};
use crate::protocol::ErrorCode;
use crate::protocol::messages::leave_group_request::MemberIdentity;
use crate::protocol::messages::{HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};

/// What a classic member's JoinGroup leads to.
#[derive(Clone, Debug)]
pub struct ClassicJoin {
    /// The records.
    pub records: Vec<Record>,
    /// The member as it is then.
    pub member: Member,
    /// The static member whose place it took.
    pub replaced: Option<String>,
    /// The group after the records, if the last member of the new protocol was replaced, so that
    /// it may become a classic group.
    pub downgrade: Option<ConsumerGroup>,
}

/// Partitions by name, of the topics that exist.
pub fn named(partitions: &Partitions, topics: &TopicView) -> NamedPartitions {
    let known = partitions
        .iter()
        .filter_map(|(id, set)| Some((topics.name(*id)?, set)));
    known
        .map(|(name, set)| (name.to_owned(), set.clone()))
        .collect()
}

/// Partitions by id, of the topics that exist.
pub fn identified(partitions: &NamedPartitions, topics: &TopicView) -> Partitions {
    let known = partitions
        .iter()
        .filter_map(|(name, set)| Some((topics.get(name)?.id, set)));
    known.map(|(id, set)| (id, set.clone())).collect()
}

impl ConsumerGroup {
    /// Handles a classic member's JoinGroup; the answer is known at once. `id` is the member's,
    /// made by the broker if the request has none.
    ///
    /// A member that was put out and does not know it yet may come as if nothing had happened, with
    /// partitions that are another's by now. It is told that it is unknown, so that it gives them
    /// up as lost, as in a classic group. Apache Kafka takes it in as a new member, which then has
    /// an epoch to commit with what it did after it was put out.
    pub fn join_classic(
        &self,
        around: Surroundings<'_>,
        request: &Request,
        body: &JoinGroupRequest,
        id: &str,
    ) -> Result<ClassicJoin, Refusal> {
        self.check_room(around.settings, id)?;
        let instance = body.group_instance_id.as_deref();
        if !self.supports_classic(body) {
            let message = format!("Member {id}'s protocols are not supported.");
            return Err(Refusal::new(ErrorCode::InconsistentGroupProtocol, message));
        }
        let unknown = body.member_id.is_empty();
        if unknown && instance.is_none() && request.version >= KNOWN_ID_FROM {
            return Err(ErrorCode::MemberIdRequired.into());
        }
        let protocols = protocols_of(body);
        let subscription = Subscription::decode(&protocols[0].1)
            .map_err(|_| Refusal::from(ErrorCode::InconsistentGroupProtocol))?;
        if instance.is_none() && !self.members.contains_key(id) && !subscription.owns_nothing() {
            return Err(unknown_member(&self.id, id));
        }
        let holder = instance.and_then(|instance| self.static_member(instance));
        let taken = match (instance, holder) {
            (Some(instance), _) if !unknown => {
                self.check_instance(instance, id)?;
                None
            }
            (Some(_), Some(old)) => Some((self.replaced(old, id), old.to_owned())),
            _ => None,
        };
        let (group, mut records) = match &taken {
            Some(((group, records), _)) => (group, records.clone()),
            None => (self, Vec::new()),
        };
        let before = group.members.get(id);
        let mut about = before
            .map(|member| member.about.clone())
            .unwrap_or_default();
        about.instance_id = instance.map(str::to_owned).or(about.instance_id);
        about.rack_id = subscription.rack_id.or(about.rack_id);
        about.rebalance_timeout_ms = body.rebalance_timeout_ms;
        about.topics = subscription.topics;
        about.regex = None;
        about.client_id.clone_from(&request.client_id);
        about.client_host.clone_from(&request.client_host);
        let session_timeout_ms = body.session_timeout_ms;
        about.classic = Some(ClassicProtocols {
            session_timeout_ms,
            protocols,
        });
        let owned = identified(&subscription.owned, around.topics);
        let step = group.step(around, id, before, about, Some(&owned))?;
        records.extend(step.records);
        let replaced = taken.map(|(_, old)| old);
        let downgrade = replaced
            .as_ref()
            .filter(|old| self.may_downgrade(around, old, 0));
        let downgrade = downgrade.map(|_| {
            let mut after = self.clone();
            records
                .iter()
                .for_each(|record| after.apply(record.clone()));
            after
        });
        Ok(ClassicJoin {
            records,
            member: step.member,
            replaced,
            downgrade,
        })
    }

    fn supports_classic(&self, body: &JoinGroupRequest) -> bool {
        let classic = || {
            self.members
                .values()
                .filter_map(|member| member.about.classic.as_ref())
        };
        let supported_by_all = |name: &str| {
            classic().all(|known| known.protocols.iter().any(|(other, _)| other == name))
        };
        body.protocol_type.as_str() == CONSUMER
            && body
                .protocols
                .iter()
                .any(|protocol| supported_by_all(&protocol.name))
    }

    /// True when all members but this one are classic and the group may therefore become a
    /// classic one; `gone` is 1 if the member leaves without another in its place.
    pub fn may_downgrade(&self, around: Surroundings<'_>, member: &str, gone: usize) -> bool {
        let others = self.members.iter().filter(|(id, _)| *id != member);
        self.members
            .get(member)
            .is_some_and(|member| !member.is_classic())
            && others.clone().all(|(_, member)| member.is_classic())
            && self.members.len() > gone
            && around.settings.migration_policy.allows_downgrade()
            && self.members.len() - gone <= around.settings.classic_members_max
    }

    /// The classic member that a request names.
    fn classic_member(&self, id: &str, instance: Option<&str>) -> Result<&Member, Refusal> {
        let member = match instance {
            Some(instance) => self.check_instance(instance, id)?,
            None => self
                .members
                .get(id)
                .ok_or_else(|| unknown_member(&self.id, id))?,
        };
        match member.is_classic() {
            true => Ok(member),
            false => Err(Refusal::new(
                ErrorCode::UnknownMemberId,
                format!("Member {id} does not use the classic protocol."),
            )),
        }
    }

    /// Handles a classic member's SyncGroup: its assignment, and its session timeout. A refusal
    /// with REBALANCE_IN_PROGRESS starts its time to rejoin.
    pub fn sync_classic(
        &self,
        topics: &TopicView,
        body: &SyncGroupRequest,
    ) -> Result<(Bytes, i32), Refusal> {
        let member = self.classic_member(&body.member_id, body.group_instance_id.as_deref())?;
        let Some(classic) = &member.about.classic else {
            return Err(unknown_member(&self.id, &body.member_id));
        };
        if member.current.epoch != body.generation_id {
            return Err(ErrorCode::IllegalGeneration.into());
        }
        let first = classic.protocols.first();
        let name = first.map(|(name, _)| name.as_str());
        let another = |told: Option<&str>, known| told.is_some_and(|told| Some(told) != known);
        if another(body.protocol_type.as_deref(), Some(CONSUMER))
            || another(body.protocol_name.as_deref(), name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol.into());
        }
        let revoking = member.current.state == MemberState::UnrevokedPartitions;
        if self.epoch > member.current.epoch && !revoking {
            return Err(ErrorCode::RebalanceInProgress.into());
        }
        let version = first.and_then(|(_, bytes)| Subscription::decode(bytes).ok());
        let version = version.map_or(0, |subscription| subscription.version);
        let assignment = encode_assignment(version, &named(&member.current.assigned, topics));
        Ok((assignment, classic.session_timeout_ms))
    }

    /// Handles a classic member's Heartbeat: true when it is to rejoin.
    pub fn heartbeat_classic(&self, body: &HeartbeatRequest) -> Result<bool, Refusal> {
        let id = body.member_id.as_str();
        let member = self.classic_member(id, body.group_instance_id.as_deref())?;
        if member.current.epoch != body.generation_id {
            return Err(ErrorCode::IllegalGeneration.into());
        }
        Ok(member.current.epoch < self.epoch
            || match member.current.state {
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(id, member),
                MemberState::Stable | MemberState::Unknown => false,
            })
    }

    /// Handles a LeaveGroup: who of the named is to be taken out.
    pub fn leave_classic(&self, identity: &MemberIdentity) -> Result<String, ErrorCode> {
        let instance = identity.group_instance_id.as_deref();
        let id = match (identity.member_id.as_str(), instance) {
            ("", Some(instance)) => self
                .static_member(instance)
                .ok_or(ErrorCode::UnknownMemberId)?,
            (id, _) => id,
        };
        self.classic_member(id, instance)
            .map_err(|refusal| refusal.error)?;
        Ok(id.to_owned())
    }

    /// The instance ids and ids of members, for what iterates over them.
    pub fn member_ids(&self) -> BTreeSet<&str> {
        self.members.keys().map(String::as_str).collect()
    }
}
