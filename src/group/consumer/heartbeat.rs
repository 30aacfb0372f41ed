//! ConsumerGroupHeartbeat: one message by which a member joins, stays, tells what it owns, is
//! told what to own, and leaves.

use super::progress::Step;
use super::{ConsumerGroup, Member, Surroundings, check_regex};
use crate::base::TopicId;
use crate::group::assignor::Assignor;
use crate::group::records::{CurrentValue, MemberValue, Partitions, Record};
use crate::group::request::{Refusal, Request, Settings};
use crate::group::turn::text;
use crate::protocol::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat_response as response;
use crate::protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, Uuid,
};

/// The member epoch with which a member leaves for good.
pub const LEAVE: i32 = -1;

/// The member epoch with which a static member goes away for a while.
pub const LEAVE_STATIC: i32 = -2;

/// The first version in which the member makes its own id (KIP-1082).
const OWN_ID_FROM: i16 = 1;

/// What a heartbeat leads to.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The records.
    pub records: Vec<Record>,
    /// The member that it was of.
    pub id: String,
    /// The member as it is then.
    pub member: Member,
    /// The static member whose place it took.
    pub replaced: Option<String>,
    /// The answer.
    pub response: ConsumerGroupHeartbeatResponse,
}

/// Refuses a heartbeat that no group could grant.
pub fn validate(
    settings: &Settings,
    version: i16,
    body: &ConsumerGroupHeartbeatRequest,
) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let blank = |text: Option<&str>| text.is_some_and(|text| text.trim().is_empty());
    if blank(Some(&body.group_id)) {
        return invalid("GroupId can't be empty.");
    }
    if blank(body.instance_id.as_deref()) {
        return invalid("InstanceId can't be empty.");
    }
    if blank(body.rack_id.as_deref()) {
        return invalid("RackId can't be empty.");
    }
    if blank(Some(&body.member_id)) && (version >= OWN_ID_FROM || body.member_epoch != 0) {
        return invalid("MemberId can't be empty.");
    }
    match body.member_epoch {
        0 if body.rebalance_timeout_ms == -1 => {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        0 if body
            .topic_partitions
            .as_ref()
            .is_none_or(|owned| !owned.is_empty()) =>
        {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        0 if body.subscribed_topic_names.is_none() && body.subscribed_topic_regex.is_none() => {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                 (re-)joining.",
            );
        }
        LEAVE_STATIC if body.instance_id.is_none() => return invalid("InstanceId can't be null."),
        epoch if epoch < LEAVE_STATIC => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    validate_assignor(settings, body)
}

fn validate_assignor(
    settings: &Settings,
    body: &ConsumerGroupHeartbeatRequest,
) -> Result<(), Refusal> {
    let Some(name) = body.server_assignor.as_deref() else {
        return Ok(());
    };
    let offered = &settings.consumer_assignors;
    if Assignor::named(name).is_some_and(|assignor| offered.contains(&assignor)) {
        return Ok(());
    }
    let names: Vec<&str> = offered.iter().map(|assignor| assignor.name()).collect();
    let message = format!(
        "ServerAssignor {name} is not supported. Supported assignors: {}.",
        names.join(", ")
    );
    Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
}

/// What a member says it owns; none if it does not say.
fn owned(body: &ConsumerGroupHeartbeatRequest) -> Option<Partitions> {
    let mut owned = Partitions::new();
    for topic in body.topic_partitions.as_ref()? {
        let partitions = owned
            .entry(TopicId(*topic.topic_id.as_bytes()))
            .or_default();
        partitions.extend(topic.partitions.iter().copied());
    }
    Some(owned)
}

/// What the member says about itself: what is null is as it was.
fn about(
    before: Option<&MemberValue>,
    request: &Request,
    body: &ConsumerGroupHeartbeatRequest,
) -> MemberValue {
    let mut about = before.cloned().unwrap_or_default();
    let own = |told: &crate::protocol::messages::StrBytes| told.to_string();
    about.instance_id = body.instance_id.as_ref().map(own).or(about.instance_id);
    about.rack_id = body.rack_id.as_ref().map(own).or(about.rack_id);
    about.server_assignor = body
        .server_assignor
        .as_ref()
        .map(own)
        .or(about.server_assignor);
    if body.rebalance_timeout_ms != -1 {
        about.rebalance_timeout_ms = body.rebalance_timeout_ms;
    }
    if let Some(names) = &body.subscribed_topic_names {
        about.topics = names.iter().map(|name| name.to_string()).collect();
    }
    if let Some(regex) = &body.subscribed_topic_regex {
        about.regex = Some(regex.to_string()).filter(|regex| !regex.is_empty());
    }
    about.client_id.clone_from(&request.client_id);
    about.client_host.clone_from(&request.client_host);
    about.classic = None;
    about
}

fn is_subset(owned: Option<&Partitions>, assigned: &Partitions) -> bool {
    owned.is_some_and(|owned| {
        owned.iter().all(|(topic, partitions)| {
            partitions.is_empty()
                || assigned
                    .get(topic)
                    .is_some_and(|assigned| partitions.is_subset(assigned))
        })
    })
}

/// Refuses a member whose epoch is neither the one that we know nor the one before, the reply to
/// which may have been lost.
fn check_epoch(member: &Member, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refusal> {
    let current = &member.current;
    let late = epoch == current.previous_epoch && is_subset(owned, &current.assigned);
    if epoch == current.epoch || (epoch < current.epoch && late) {
        return Ok(());
    }
    let than = if epoch > current.epoch {
        "greater"
    } else {
        "smaller"
    };
    let message = format!(
        "The consumer group member has a {than} member epoch ({epoch}) than the one known by the \
         group coordinator ({}). The member must abandon all its partitions and rejoin.",
        current.epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

impl ConsumerGroup {
    /// Handles a heartbeat that does not leave. `id` is the member's, made by the broker if the
    /// request has none.
    pub fn beat(
        &self,
        around: Surroundings<'_>,
        request: &Request,
        body: &ConsumerGroupHeartbeatRequest,
        id: String,
    ) -> Result<Beat, Refusal> {
        self.check_room(around.settings, &id)?;
        let owned = owned(body);
        let taken = self.take_place(body, &id, owned.as_ref())?;
        let (group, mut records, replaced) = match &taken {
            Some((group, records, old)) => (group, records.clone(), Some(old.clone())),
            None => (self, Vec::new(), None),
        };
        let before = group.members.get(&id);
        if replaced.is_none() {
            match before {
                Some(member) => check_epoch(member, body.member_epoch, owned.as_ref())?,
                None if body.member_epoch == 0 => {}
                None => return Err(unknown_member(&self.id, &id)),
            }
        }
        let about = about(before.map(|member| &member.about), request, body);
        if let Some(regex) = &about.regex
            && before.is_none_or(|before| before.about.regex.as_ref() != Some(regex))
        {
            check_regex(regex)?;
        }
        let step = group.step(around, &id, before, about, owned.as_ref())?;
        let response = respond(around.settings, body, &id, before, &step);
        records.extend(step.records);
        Ok(Beat {
            records,
            id,
            member: step.member,
            replaced,
            response,
        })
    }

    /// Refuses a newcomer to a full group.
    pub(super) fn check_room(&self, settings: &Settings, id: &str) -> Result<(), Refusal> {
        let most = settings.consumer_members_max;
        if self.members.len() < most || self.members.contains_key(id) {
            return Ok(());
        }
        let message =
            format!("The consumer group has reached its maximum capacity of {most} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    /// A static member: checks that it is the one that its instance id names, or lets it take the
    /// place of one that went away.
    #[allow(clippy::type_complexity)]
    fn take_place(
        &self,
        body: &ConsumerGroupHeartbeatRequest,
        id: &str,
        owned: Option<&Partitions>,
    ) -> Result<Option<(ConsumerGroup, Vec<Record>, String)>, Refusal> {
        let Some(instance) = body.instance_id.as_deref() else {
            return Ok(None);
        };
        let holder = self.static_member(instance);
        if body.member_epoch != 0 {
            self.check_instance(instance, id)?;
            return Ok(None);
        }
        let Some(old) = holder else { return Ok(None) };
        let member = &self.members[old];
        if old == id && check_epoch(member, 0, owned).is_ok() {
            // The first join again: its reply was lost.
            return Ok(None);
        }
        if !member.is_classic() && member.current.epoch != LEAVE_STATIC {
            let message = format!(
                "Static member {id} with instance id {instance} cannot join the group because \
                 the instance id is owned by {old} member."
            );
            return Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message));
        }
        let (group, records) = self.replaced(old, id);
        Ok(Some((group, records, old.to_owned())))
    }

    /// Refuses a member that its instance id no longer names.
    pub(super) fn check_instance(&self, instance: &str, id: &str) -> Result<&Member, Refusal> {
        match self.static_member(instance) {
            None => Err(Refusal::new(
                ErrorCode::UnknownMemberId,
                format!("Instance id {instance} is unknown."),
            )),
            Some(holder) if holder != id => Err(Refusal::new(
                ErrorCode::FencedInstanceId,
                format!(
                    "Static member {id} with instance id {instance} was fenced by member {holder}."
                ),
            )),
            Some(holder) => Ok(&self.members[holder]),
        }
    }

    /// The group with a static member under a new id, and the records that make it so.
    pub(super) fn replaced(&self, old: &str, new: &str) -> (ConsumerGroup, Vec<Record>) {
        let (group, member) = (|| self.id.clone(), || new.to_owned());
        let before = &self.members[old];
        let current = CurrentValue {
            epoch: 0,
            previous_epoch: 0,
            ..before.current.clone()
        };
        let partitions = Some(self.target.get(old).cloned().unwrap_or_default());
        let mut records = self.member_tombstones(old);
        let about = Some(before.about.clone());
        records.push(Record::Member {
            group: group(),
            member: member(),
            value: about,
        });
        records.push(Record::Target {
            group: group(),
            member: member(),
            partitions,
        });
        records.push(Record::Current {
            group: group(),
            member: member(),
            value: Some(current),
        });
        let mut next = self.clone();
        for record in &records {
            next.apply(record.clone());
        }
        (next, records)
    }

    /// Handles a heartbeat that leaves: who leaves, and the record of a static member's absence
    /// if it is to come back; no record when the member is to be taken out.
    pub fn leave(
        &self,
        body: &ConsumerGroupHeartbeatRequest,
    ) -> Result<(String, Option<Record>), Refusal> {
        let id = body.member_id.to_string();
        let Some(instance) = body.instance_id.as_deref() else {
            self.members
                .get(&id)
                .ok_or_else(|| unknown_member(&self.id, &id))?;
            return Ok((id, None));
        };
        let member = self.check_instance(instance, &id)?;
        if body.member_epoch != LEAVE_STATIC {
            return Ok((id, None));
        }
        let value = CurrentValue {
            epoch: LEAVE_STATIC,
            pending_revocation: Partitions::new(),
            ..member.current.clone()
        };
        let (group, member) = (self.id.clone(), id.clone());
        Ok((
            id,
            Some(Record::Current {
                group,
                member,
                value: Some(value),
            }),
        ))
    }
}

/// The refusal of a member that is not in the group.
pub(super) fn unknown_member(group: &str, id: &str) -> Refusal {
    let message = format!("Member {id} is not a member of group {group}.");
    Refusal::new(ErrorCode::UnknownMemberId, message)
}

/// The assignment goes along when it changed, and when the member told everything about itself,
/// since then it may have lost what it was told.
fn respond(
    settings: &Settings,
    body: &ConsumerGroupHeartbeatRequest,
    id: &str,
    before: Option<&Member>,
    step: &Step,
) -> ConsumerGroupHeartbeatResponse {
    let subscribes = body.subscribed_topic_names.is_some() || body.subscribed_topic_regex.is_some();
    let full = body.member_epoch == 0
        || (body.rebalance_timeout_ms != -1 && subscribes && body.topic_partitions.is_some());
    let current = &step.member.current;
    let changed = before.is_none_or(|before| before.current.assigned != current.assigned);
    let assignment = (full || changed).then(|| {
        let topics = current.assigned.iter().map(|(topic, partitions)| {
            response::TopicPartitions::default()
                .with_topic_id(Uuid::from_bytes(topic.0))
                .with_partitions(partitions.iter().copied().collect())
        });
        response::Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(text(id)))
        .with_member_epoch(current.epoch)
        .with_heartbeat_interval_ms(settings.consumer_heartbeat_interval_ms)
        .with_assignment(assignment)
}
