//! A group changes its kind while its members go on: a classic group of consumers becomes a
//! consumer group when the first member of the new protocol joins, and a classic one again when
//! the last of them leaves (`group.consumer.migration.policy`).

use std::collections::BTreeSet;

use super::classic_member::{identified, named};
use super::{ConsumerGroup, Surroundings};
use crate::base::TopicId;
use crate::group::classic::{self, ClassicGroup};
use crate::group::consumer_protocol::{Subscription, decode_assignment, encode_assignment};
use crate::group::records::{
    ClassicProtocols, CurrentValue, MemberState, MemberValue, Partitions, Record,
};
use crate::group::request::{Refusal, TopicView};
use crate::group::wire::Malformed;
use crate::protocol::ErrorCode;

impl ConsumerGroup {
    /// The consumer group that a classic one becomes, and the records that make it so: every
    /// member at the generation, owning what the leader assigned.
    ///
    /// Apache Kafka leaves it at that. A cooperative member (KIP-429) goes on with what it owns
    /// until it has heard of its assignment, so what it said it owned when it joined is taken to be
    /// its own as well, unless it was given to another: what it has let go of since, it will not
    /// name when it rejoins. Without this, another was given the partition while it still had it.
    pub fn upgraded(
        classic: &ClassicGroup,
        id: &str,
        topics: &TopicView,
    ) -> Result<(ConsumerGroup, Vec<Record>), Refusal> {
        let group = || id.to_owned();
        let epoch = classic.generation();
        let (mut members, mut targets, mut currents) = (Vec::new(), Vec::new(), Vec::new());
        for (member, about, assigned) in upgraded_members(classic, id, topics)? {
            let member = || member.clone();
            let partitions = Some(assigned.clone());
            let current = CurrentValue {
                epoch,
                previous_epoch: epoch,
                state: MemberState::Stable,
                assigned,
                pending_revocation: Partitions::new(),
            };
            members.push(Record::Member {
                group: group(),
                member: member(),
                value: Some(about),
            });
            targets.push(Record::Target {
                group: group(),
                member: member(),
                partitions,
            });
            let value = Some(current);
            currents.push(Record::Current {
                group: group(),
                member: member(),
                value,
            });
        }
        let mut records = members;
        records.push(Record::GroupEpoch {
            group: group(),
            epoch: Some(epoch),
        });
        records.extend(targets);
        records.push(Record::TargetEpoch {
            group: group(),
            epoch: Some(epoch),
        });
        records.extend(currents);
        let mut next = ConsumerGroup::new(id);
        records.iter().for_each(|record| next.apply(record.clone()));
        Ok((next, records))
    }

    /// The classic group that this one becomes without the member `leaving`: stable, at the
    /// group's epoch, each with all that it may own as its assignment. Its records are its value
    /// and this group's tombstones, in the caller's hands.
    ///
    /// Apache Kafka gives each member its target. A member that is still on its way there may own
    /// what is another's target: if the group is upgraded again before everybody rejoined, or
    /// loaded anew, the other was given the partition while the first still had it.
    pub fn downgraded(&self, around: Surroundings<'_>, leaving: Option<&str>) -> ClassicGroup {
        let staying = self
            .members
            .iter()
            .filter(|(id, _)| Some(id.as_str()) != leaving);
        let members = staying.filter_map(|(id, member)| {
            let known = member.about.classic.as_ref()?;
            let version = known.protocols.first().and_then(|(_, bytes)| {
                Subscription::decode(bytes)
                    .ok()
                    .map(|subscription| subscription.version)
            });
            let owned = named(&member.current.may_own(), around.topics);
            let member = classic::Member {
                instance_id: member.about.instance_id.clone(),
                client_id: member.about.client_id.clone(),
                client_host: member.about.client_host.clone(),
                rebalance_timeout_ms: member.about.rebalance_timeout_ms,
                session_timeout_ms: known.session_timeout_ms,
                protocols: known.protocols.clone(),
                assignment: encode_assignment(version.unwrap_or(0), &owned),
                ..classic::Member::default()
            };
            Some((id.clone(), member))
        });
        ClassicGroup::of_consumers(&self.id, self.epoch, around.now, members.collect())
    }
}

/// A member as it is after the upgrade, with what it owns.
type Upgraded<'a> = (&'a String, MemberValue, Partitions);

fn upgraded_members<'a>(
    classic: &'a ClassicGroup,
    id: &str,
    topics: &TopicView,
) -> Result<Vec<Upgraded<'a>>, Refusal> {
    let malformed = |_| {
        let message = format!(
            "Cannot upgrade the classic group {id} to consumer group because the embedded consumer \
             protocol is malformed."
        );
        Refusal::new(ErrorCode::GroupIdNotFound, message)
    };
    // A leader that gave a partition to two: the first has it.
    let mut taken: BTreeSet<(TopicId, i32)> = BTreeSet::new();
    let mut upgraded: Vec<Upgraded<'_>> = Vec::new();
    let mut claims = Vec::new();
    for (member, known) in classic.members() {
        let (about, assigned, claimed) =
            upgraded_member(classic, known, topics).map_err(malformed)?;
        let mut owned = Partitions::new();
        take(&mut owned, assigned, &mut taken);
        upgraded.push((member, about, owned));
        claims.push(claimed);
    }
    for ((_, _, owned), claimed) in upgraded.iter_mut().zip(claims) {
        take(owned, claimed, &mut taken);
    }
    Ok(upgraded)
}

/// Adds those partitions that nobody has taken.
fn take(owned: &mut Partitions, wanted: Partitions, taken: &mut BTreeSet<(TopicId, i32)>) {
    for (topic, partitions) in wanted {
        let free = partitions.into_iter();
        let free: BTreeSet<i32> = free
            .filter(|partition| taken.insert((topic, *partition)))
            .collect();
        if !free.is_empty() {
            owned.entry(topic).or_default().extend(free);
        }
    }
}

/// The member, what it is assigned, and what it said it owned when it joined.
fn upgraded_member(
    group: &ClassicGroup,
    member: &classic::Member,
    topics: &TopicView,
) -> Result<(MemberValue, Partitions, Partitions), Malformed> {
    let metadata = match group.protocol() {
        Some(protocol) => member.metadata(protocol),
        // Its first rebalance is not through: nothing is chosen yet.
        None => member
            .protocols
            .first()
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default(),
    };
    let subscription = Subscription::decode(&metadata)?;
    let assigned = identified(&decode_assignment(&member.assignment)?, topics);
    let claimed = identified(&subscription.owned, topics);
    let about = MemberValue {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics,
        regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: None,
        classic: Some(ClassicProtocols {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    };
    Ok((about, assigned, claimed))
}
