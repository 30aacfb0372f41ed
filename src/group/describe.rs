//! What groups look like from outside: ListGroups, DescribeGroups, ConsumerGroupDescribe. Changes
//! nothing.

use std::collections::BTreeSet;

use super::classic::{ClassicGroup, State as ClassicState};
use super::consumer::{ConsumerGroup, Member, Surroundings};
use super::records::Partitions;
use super::request::{Request, TopicView};
use super::turn::text;
use super::{Group, State};
use crate::protocol::ErrorCode;
use crate::protocol::messages::consumer_group_describe_response as described;
use crate::protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use crate::protocol::messages::list_groups_response::ListedGroup;
use crate::protocol::messages::{ListGroupsRequest, Uuid};

/// Handles ListGroups: all groups, or those in one of the states and of one of the types named.
/// Neither filter minds capitals.
pub fn list(state: &State, body: &ListGroupsRequest) -> Vec<ListedGroup> {
    let words = |filter: &[crate::protocol::messages::StrBytes]| -> BTreeSet<String> {
        filter
            .iter()
            .map(|word| word.trim().to_lowercase())
            .collect()
    };
    let (states, types) = (words(&body.states_filter), words(&body.types_filter));
    let listed = state.groups.iter().map(|(id, group)| {
        ListedGroup::default()
            .with_group_id(text(id).into())
            .with_protocol_type(text(group.protocol_type()))
            .with_group_state(text(group.state_name()))
            .with_group_type(text(group.kind_name()))
    });
    let wanted = listed.filter(|group| {
        (states.is_empty() || states.contains(&group.group_state.to_lowercase()))
            && (types.is_empty() || types.contains(&group.group_type.to_lowercase()))
    });
    wanted.collect()
}

/// Handles DescribeGroups of one group. A group that is not there is "Dead"; from version 6 on
/// that is an error too (KIP-1043).
pub fn describe_classic(state: &State, request: &Request, id: &str) -> DescribedGroup {
    /// The first version that tells a group that is not there by an error.
    const NOT_FOUND_FROM: i16 = 6;
    let about = DescribedGroup::default().with_group_id(text(id).into());
    let missing = match state.groups.get(id) {
        Some(Group::Classic(group)) => return classic(about, group),
        Some(Group::Consumer(_)) => format!("Group {id} is not a classic group."),
        None => format!("Group {id} not found."),
    };
    let about = about.with_group_state(text("Dead"));
    if request.version < NOT_FOUND_FROM {
        return about;
    }
    about
        .with_error_code(ErrorCode::GroupIdNotFound.code())
        .with_error_message(Some(text(&missing)))
}

fn classic(about: DescribedGroup, group: &ClassicGroup) -> DescribedGroup {
    // Only a stable group's members have what they are said to have.
    let stable = group.state() == ClassicState::Stable;
    let protocol = group.protocol().filter(|_| stable);
    let members = group.members().iter().map(|(id, member)| {
        DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(
                protocol
                    .map(|name| member.metadata(name))
                    .unwrap_or_default(),
            )
            .with_member_assignment(member.assignment.clone())
    });
    about
        .with_group_state(text(group.state().name()))
        .with_protocol_type(text(group.protocol_type().unwrap_or_default()))
        .with_protocol_data(text(protocol.unwrap_or_default()))
        .with_members(members.collect())
}

/// Handles ConsumerGroupDescribe of one group.
pub fn describe_consumer(
    state: &State,
    around: Surroundings<'_>,
    id: &str,
) -> described::DescribedGroup {
    let about = described::DescribedGroup::default().with_group_id(text(id).into());
    let missing = match state.groups.get(id) {
        Some(Group::Consumer(group)) => return consumer(about, around, group),
        Some(Group::Classic(_)) => format!("Group {id} is not a consumer group."),
        None => format!("Group {id} not found."),
    };
    about
        .with_error_code(ErrorCode::GroupIdNotFound.code())
        .with_error_message(Some(text(&missing)))
}

fn consumer(
    about: described::DescribedGroup,
    around: Surroundings<'_>,
    group: &ConsumerGroup,
) -> described::DescribedGroup {
    let members = group.members().iter().map(|(id, known)| {
        let target = group.target(id).cloned().unwrap_or_default();
        member(id, known, &target, around.topics)
    });
    about
        .with_group_state(text(group.state_name()))
        .with_group_epoch(group.epoch())
        .with_assignment_epoch(group.target_epoch())
        .with_assignor_name(text(group.assignor(around).name()))
        .with_members(members.collect())
}

fn member(id: &str, member: &Member, target: &Partitions, topics: &TopicView) -> described::Member {
    let about = &member.about;
    described::Member::default()
        .with_member_id(text(id))
        .with_instance_id(about.instance_id.as_deref().map(text))
        .with_rack_id(about.rack_id.as_deref().map(text))
        .with_member_epoch(member.current.epoch)
        .with_client_id(text(&about.client_id))
        .with_client_host(text(&about.client_host))
        .with_subscribed_topic_names(about.topics.iter().map(|name| text(name).into()).collect())
        .with_subscribed_topic_regex(about.regex.as_deref().map(text))
        .with_assignment(assignment(&member.current.assigned, topics))
        .with_target_assignment(assignment(target, topics))
        .with_member_type(if member.is_classic() { 0 } else { 1 })
}

fn assignment(partitions: &Partitions, topics: &TopicView) -> described::Assignment {
    let known = partitions
        .iter()
        .filter_map(|(id, set)| Some((id, topics.name(*id)?, set)));
    let told = known.map(|(id, name, set)| {
        described::TopicPartitions::default()
            .with_topic_id(Uuid::from_bytes(id.0))
            .with_topic_name(text(name).into())
            .with_partitions(set.iter().copied().collect())
    });
    described::Assignment::default().with_topic_partitions(told.collect())
}
