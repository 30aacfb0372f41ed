//! The invariants, as the simulation's door lists them. Reads only.

use std::collections::{BTreeMap, BTreeSet};

use super::{GROUP, PARTITIONS, World};
use crate::group::Group;
use crate::group::consumer::places;
use crate::group::request::Reply;

impl World {
    pub(super) fn check_member_epoch(
        &mut self,
        succession: u64,
        id: &str,
        reply: &Reply,
    ) -> Result<(), String> {
        let Reply::ConsumerGroupHeartbeat(response) = reply else {
            return Ok(());
        };
        // Who is refused or has left has no epoch.
        if response.error_code != 0 || response.member_epoch < 0 {
            return Ok(());
        }
        let epoch = response.member_epoch;
        let member = (succession, id.to_owned());
        let before = self.member_epochs.insert(member, epoch);
        match before.filter(|before| epoch < *before) {
            Some(before) => Err(format!("{id} was at epoch {before} and is at {epoch}")),
            None => Ok(()),
        }
    }

    /// Members that the group does not know any more may not have heard of it yet.
    pub(super) fn check_beliefs(&self) -> Result<(), String> {
        let Some(group) = self
            .coordinator
            .groups()
            .get(GROUP)
            .filter(|_| self.orderly)
        else {
            return Ok(());
        };
        let known = |id: &str| match group {
            Group::Classic(group) => group.members().contains_key(id),
            Group::Consumer(group) => group.members().contains_key(id),
        };
        let mut believers: BTreeMap<i32, &str> = BTreeMap::new();
        for member in self.members.iter().filter(|member| known(&member.id)) {
            for partition in &member.owned {
                if let Some(other) = believers.insert(*partition, &member.id) {
                    return Err(format!(
                        "{other} and {} believe that they own {partition}",
                        member.id
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_owners(&self) -> Result<(), String> {
        let Some(Group::Consumer(group)) = self.coordinator.groups().get(GROUP) else {
            return Ok(());
        };
        let mut owners = BTreeMap::new();
        for (id, member) in group.members() {
            let current = &member.current;
            let mine = places(&current.assigned).chain(places(&current.pending_revocation));
            for place in mine {
                if let Some(other) = owners.insert(place, id) {
                    return Err(format!("{place:?} is owned by {other} and {id} at once"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_offsets(&mut self) -> Result<(), String> {
        let mut offsets = BTreeMap::new();
        for (_, _, partition, value) in self.coordinator.offsets().iter() {
            offsets.insert(partition, value.offset);
        }
        for (partition, offset) in self.acknowledged.iter().chain(&self.offsets) {
            let found = offsets.get(partition).copied().unwrap_or(-1);
            if found < *offset {
                return Err(format!("{partition}: committed {offset}, found {found}"));
            }
        }
        self.offsets = offsets;
        Ok(())
    }

    pub(super) fn check_settled(&self) -> Result<(), String> {
        let group = self
            .coordinator
            .groups()
            .get(GROUP)
            .ok_or("no group is left")?;
        if group.state_name() != "Stable" || group.member_count() != self.members.len() {
            let (state, count) = (group.state_name(), group.member_count());
            return Err(format!(
                "{state} with {count} of {} members",
                self.members.len()
            ));
        }
        let mut owned = BTreeSet::new();
        for member in &self.members {
            for partition in &member.owned {
                if !owned.insert(*partition) {
                    return Err(format!("{partition} has two owners in the end"));
                }
            }
        }
        match owned.len() == PARTITIONS as usize {
            true => Ok(()),
            false => Err(format!("only {owned:?} are owned in the end")),
        }
    }
}
