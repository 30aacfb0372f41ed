//! A member's way to its target: what it says changes the group, the group's change moves the
//! target, and the member goes one step towards it.

use std::collections::BTreeSet;

use super::subscription::{Change, Refreshed};
use super::{ConsumerGroup, Member, Surroundings};
use crate::base::TopicId;
use crate::group::records::{CurrentValue, MemberState, MemberValue, Partitions, Record};
use crate::group::request::Refusal;
use crate::protocol::ErrorCode;

/// What a member's message leads to.
#[derive(Clone, Debug)]
pub struct Step {
    /// The records, in order.
    pub records: Vec<Record>,
    /// The member as it is then.
    pub member: Member,
}

impl ConsumerGroup {
    /// Takes in what a member says about itself and moves it one step. `before` is the member so
    /// far, none for a new one; `owned` what it says it owns, none if it does not say.
    pub(super) fn step(
        &self,
        around: Surroundings<'_>,
        id: &str,
        before: Option<&Member>,
        about: MemberValue,
        owned: Option<&Partitions>,
    ) -> Result<Step, Refusal> {
        let mut records = Vec::new();
        if before.is_none_or(|before| before.about != about) {
            let (group, member) = (self.id.clone(), id.to_owned());
            records.push(Record::Member {
                group,
                member,
                value: Some(about.clone()),
            });
        }
        let resubscribed = before.is_none_or(|before| {
            before.about.topics != about.topics || before.about.regex != about.regex
        });
        let change = Change {
            updated: Some((id, &about)),
            removed: BTreeSet::new(),
        };
        let mut epoch = self.epoch;
        let mut refreshed = None;
        if resubscribed || self.is_outdated(around.topics) {
            let mut fresh = self.refresh(around, &change);
            records.append(&mut fresh.records);
            if resubscribed || fresh.changed {
                epoch = epoch.saturating_add(1);
                records.push(Record::GroupEpoch {
                    group: self.id.clone(),
                    epoch: Some(epoch),
                });
            }
            refreshed = Some(fresh);
        }
        let (target_epoch, target) =
            self.target_after(around, id, &change, refreshed, epoch, &mut records);
        let current = before
            .map(|before| before.current.clone())
            .unwrap_or_default();
        let current = self.reconcile(&current, target_epoch, &target, owned)?;
        if before.is_none_or(|before| before.current != current) {
            let (group, member) = (self.id.clone(), id.to_owned());
            records.push(Record::Current {
                group,
                member,
                value: Some(current.clone()),
            });
        }
        Ok(Step {
            records,
            member: Member { about, current },
        })
    }

    /// The member's target once the group has this epoch.
    fn target_after(
        &self,
        around: Surroundings<'_>,
        id: &str,
        change: &Change<'_>,
        refreshed: Option<Refreshed>,
        epoch: i32,
        records: &mut Vec<Record>,
    ) -> (i32, Partitions) {
        let so_far = || self.target.get(id).cloned().unwrap_or_default();
        if epoch <= self.target_epoch {
            return (self.target_epoch, so_far());
        }
        let refreshed = refreshed.unwrap_or_else(|| self.refresh(around, change));
        let (mut more, mut changes) = self.retarget(around, change, &refreshed, epoch);
        records.append(&mut more);
        (epoch, changes.remove(id).unwrap_or_else(so_far))
    }

    /// One step towards the target (apache/kafka `CurrentAssignmentBuilder`).
    fn reconcile(
        &self,
        current: &CurrentValue,
        target_epoch: i32,
        target: &Partitions,
        owned: Option<&Partitions>,
    ) -> Result<CurrentValue, Refusal> {
        match current.state {
            MemberState::Stable if current.epoch == target_epoch => Ok(current.clone()),
            MemberState::Stable | MemberState::UnreleasedPartitions => {
                Ok(self.next(current, current.epoch, target_epoch, target, owned))
            }
            MemberState::UnrevokedPartitions => {
                if still_owns(owned, &current.pending_revocation) {
                    return Ok(current.clone());
                }
                // It has let go of what it had to, so it has earned the next epoch.
                let epoch = current.epoch.saturating_add(1);
                Ok(self.next(current, epoch, target_epoch, target, owned))
            }
            MemberState::Unknown => {
                if owned.is_none_or(|owned| !owned.is_empty()) {
                    let message = "The consumer group member is in a unknown state. The member \
                                   must abandon all its partitions and rejoin.";
                    return Err(Refusal::new(ErrorCode::FencedMemberEpoch, message));
                }
                Ok(self.next(current, target_epoch, target_epoch, target, owned))
            }
        }
    }

    fn next(
        &self,
        current: &CurrentValue,
        epoch: i32,
        target_epoch: i32,
        target: &Partitions,
        owned: Option<&Partitions>,
    ) -> CurrentValue {
        let Split {
            mut kept,
            revoked,
            free,
            unreleased,
        } = self.split(&current.assigned, target);
        if !revoked.is_empty() && still_owns(owned, &revoked) {
            return CurrentValue {
                epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned: kept,
                pending_revocation: revoked,
            };
        }
        for (topic, partitions) in free {
            kept.entry(topic).or_default().extend(partitions);
        }
        let state = match unreleased {
            true => MemberState::UnreleasedPartitions,
            false => MemberState::Stable,
        };
        let previous_epoch = match (state, current.epoch == target_epoch) {
            // Waiting on at the same epoch is not a step: the record would say nothing new.
            (MemberState::UnreleasedPartitions, true)
                if current.state == state && kept == current.assigned =>
            {
                current.previous_epoch
            }
            _ => current.epoch,
        };
        CurrentValue {
            epoch: target_epoch,
            previous_epoch,
            state,
            assigned: kept,
            pending_revocation: Partitions::new(),
        }
    }

    fn split(&self, assigned: &Partitions, target: &Partitions) -> Split {
        let mut split = Split::default();
        let nothing = BTreeSet::new();
        let topics: BTreeSet<TopicId> = assigned.keys().chain(target.keys()).copied().collect();
        for topic in topics {
            let assigned = assigned.get(&topic).unwrap_or(&nothing);
            let target = target.get(&topic).unwrap_or(&nothing);
            put(
                &mut split.kept,
                topic,
                assigned.intersection(target).copied().collect(),
            );
            put(
                &mut split.revoked,
                topic,
                assigned.difference(target).copied().collect(),
            );
            let wanted = target.difference(assigned).copied();
            let (free, taken): (BTreeSet<i32>, BTreeSet<i32>) =
                wanted.partition(|partition| self.owned_at(topic, *partition).is_none());
            split.unreleased |= !taken.is_empty();
            put(&mut split.free, topic, free);
        }
        split
    }

    /// True when the member waits for a partition that somebody still owns.
    pub(super) fn waits_for_others(&self, id: &str, member: &Member) -> bool {
        member.current.state == MemberState::UnreleasedPartitions
            && self
                .target
                .get(id)
                .is_some_and(|target| self.split(&member.current.assigned, target).unreleased)
    }

    /// The records that take members out: the group goes to the next epoch, and the first
    /// heartbeat of another member computes the new target.
    pub fn remove_members(&self, around: Surroundings<'_>, members: BTreeSet<&str>) -> Vec<Record> {
        let mut records = Vec::new();
        for member in &members {
            records.append(&mut self.member_tombstones(member));
        }
        let change = Change {
            updated: None,
            removed: members,
        };
        records.append(&mut self.refresh(around, &change).records);
        let epoch = Some(self.epoch.saturating_add(1));
        records.push(Record::GroupEpoch {
            group: self.id.clone(),
            epoch,
        });
        records
    }
}

/// What becomes of a member's partitions.
#[derive(Default)]
struct Split {
    /// Owned, and to stay so.
    kept: Partitions,
    /// Owned, and to be given up.
    revoked: Partitions,
    /// To be owned, and nobody does.
    free: Partitions,
    /// True when some are to be owned but somebody does.
    unreleased: bool,
}

fn put(into: &mut Partitions, topic: TopicId, partitions: BTreeSet<i32>) {
    if !partitions.is_empty() {
        into.insert(topic, partitions);
    }
}

/// Whether the member has any of `revoked` left; who does not say is taken to have them all.
fn still_owns(owned: Option<&Partitions>, revoked: &Partitions) -> bool {
    let Some(owned) = owned else { return true };
    owned.iter().any(|(topic, partitions)| {
        revoked
            .get(topic)
            .is_some_and(|revoked| !revoked.is_disjoint(partitions))
    })
}
