//! What the members of one group were told, and what must hold of it. One thread writes it, and a
//! member lets go here before it tells the broker, so the order of the entries is sound.

use std::collections::BTreeMap;
use std::time::Instant;

/// Violations that are kept; the rest is counted.
const VIOLATIONS_MAX: usize = 10;

/// A member as the ledger knows it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The generation, or the member epoch, of its last assignment or heartbeat.
    epoch: i32,
    /// It has an assignment.
    settled: bool,
}

/// One group's.
#[derive(Debug, Default)]
pub struct Ledger {
    members: BTreeMap<usize, Entry>,
    owners: BTreeMap<i32, usize>,
    claims: BTreeMap<(i32, i32), usize>,
    acknowledged: BTreeMap<i32, i64>,
    sent: BTreeMap<i32, i64>,
    /// Commits that were acknowledged.
    pub commits: u64,
    /// When the last one was.
    pub last_commit: Option<Instant>,
    /// Members that the broker had forgotten, or fenced.
    pub put_out: u64,
    /// Assignments that were handed out.
    pub assignments: u64,
    violations: Vec<String>,
    violations_count: usize,
}

impl Ledger {
    /// A member that is to belong to the group.
    pub fn expect(&mut self, member: usize) {
        self.members.insert(member, Entry::default());
    }

    /// A member is gone for good, with all that it had.
    pub fn gone(&mut self, member: usize) {
        self.release_all(member);
        self.members.remove(&member);
    }

    /// The member owns these too, from this epoch on.
    pub fn assigned(
        &mut self,
        member: usize,
        epoch: i32,
        partitions: impl IntoIterator<Item = i32>,
    ) {
        self.assignments += 1;
        for partition in partitions {
            let claimed = *self.claims.entry((epoch, partition)).or_insert(member);
            if claimed != member {
                self.violation(format!(
                    "{partition} belongs to {claimed} and {member} at epoch {epoch}"
                ));
            }
            let before = self.owners.insert(partition, member);
            if let Some(owner) = before.filter(|owner| *owner != member) {
                self.violation(format!(
                    "{member} got {partition} at epoch {epoch} while {owner} had it"
                ));
            }
        }
        self.reached(member, epoch);
    }

    /// The member is at this epoch, with what it has.
    pub fn reached(&mut self, member: usize, epoch: i32) {
        let entry = self.members.entry(member).or_default();
        let before = std::mem::replace(&mut entry.epoch, epoch);
        entry.settled = true;
        if epoch < before {
            self.violation(format!("{member} went from epoch {before} to {epoch}"));
        }
    }

    /// The member lets go of these.
    pub fn released(&mut self, member: usize, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            if self.owners.get(&partition) == Some(&member) {
                self.owners.remove(&partition);
            }
        }
    }

    /// The member lets go of everything, and waits for another assignment.
    pub fn release_all(&mut self, member: usize) {
        self.owners.retain(|_, owner| *owner != member);
        if let Some(entry) = self.members.get_mut(&member) {
            entry.settled = false;
        }
    }

    /// The broker does not know the member any more: its epochs begin anew.
    pub fn was_put_out(&mut self, member: usize) {
        self.put_out += 1;
        self.release_all(member);
        if let Some(entry) = self.members.get_mut(&member) {
            entry.epoch = 0;
        }
    }

    /// A commit is on its way.
    pub fn sending(&mut self, partition: i32, offset: i64) {
        self.sent.insert(partition, offset);
    }

    /// A commit was acknowledged.
    pub fn committed(&mut self, partition: i32, offset: i64) {
        let known = self.acknowledged.entry(partition).or_default();
        *known = (*known).max(offset);
    }

    /// The broker says that this is committed (-1 for nothing): never less than what it has
    /// acknowledged before the question, never more than what was sent. Gives where to go on.
    pub fn fetched(&mut self, partition: i32, offset: i64, acknowledged: Option<i64>) -> i64 {
        let sent = self.sent.get(&partition).copied().unwrap_or(-1);
        let least = acknowledged.unwrap_or(-1);
        if offset < least || offset > sent {
            self.violation(format!(
                "{partition}: {least} was acknowledged and {sent} sent, committed is {offset}"
            ));
        }
        offset.max(0)
    }

    /// What was acknowledged of a partition so far.
    pub fn acknowledged(&self, partition: i32) -> Option<i64> {
        self.acknowledged.get(&partition).copied()
    }

    /// True when these many members stand at one epoch and share all partitions.
    pub fn is_settled(&self, members: usize, partitions: i32) -> bool {
        let mut epochs = self.members.values().map(|entry| entry.epoch);
        let first = epochs.next();
        self.members.len() == members
            && self.owners.len() == partitions as usize
            && self.members.values().all(|entry| entry.settled)
            && epochs.all(|epoch| Some(epoch) == first)
    }

    /// How far it is, for a person.
    pub fn state(&self) -> String {
        let settled = self.members.values().filter(|entry| entry.settled).count();
        let epochs = || self.members.values().map(|entry| entry.epoch);
        format!(
            "{settled} of {} members settled, epochs {:?} to {:?}, {} partitions owned",
            self.members.len(),
            epochs().min(),
            epochs().max(),
            self.owners.len()
        )
    }

    fn violation(&mut self, what: String) {
        self.violations_count += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    /// Fails the test if anything was wrong.
    pub fn check(&self, group: &str) {
        assert!(
            self.violations.is_empty(),
            "{group}: {} violations:\n{}",
            self.violations_count,
            self.violations.join("\n")
        );
    }
}
