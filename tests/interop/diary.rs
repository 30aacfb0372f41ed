//! What the members of a group write down, and what must hold of it.
//!
//! A diary is lines on a member's stdout: what it was assigned, what was revoked, each record it processed. The
//! times come from one machine's clock, and a member writes `revoked` before it tells the broker, so sorting by time
//! is sound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the members may take to settle and catch up after each change.
const STAGE_MAX: Duration = Duration::from_secs(60);
/// How far back the story of a violation goes.
const STORY_MICROSECONDS: u64 = 3_000_000;
/// How many violations are shown.
const SHOWN_MAX: usize = 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Started,
    Assigned(Vec<i32>),
    /// Given back, or lost.
    Revoked(Vec<i32>),
    Record(i32, i64),
    Refused(String),
    /// The member ended: by itself, or killed by us.
    Ended,
}

#[derive(Clone, Debug)]
pub struct Entry {
    /// Since the Unix epoch.
    pub microseconds: u64,
    pub member: usize,
    pub event: Event,
}

/// What all members of a group wrote down.
#[derive(Default)]
pub struct Diary {
    pub pages: Mutex<Pages>,
    changed: Condvar,
}

#[derive(Default)]
pub struct Pages {
    pub entries: Vec<Entry>,
    pub processed: BTreeSet<(i32, i64)>,
    pub assigned_once: BTreeSet<usize>,
    pub ended: BTreeSet<usize>,
}

impl Pages {
    /// How many records of each partition were processed, repetitions not included: the commit that this calls for.
    pub fn processed_by_partition(&self) -> BTreeMap<i32, i64> {
        let mut counts = BTreeMap::new();
        for (partition, _) in &self.processed {
            *counts.entry(*partition).or_default() += 1;
        }
        counts
    }

    /// How many records were processed, repetitions included.
    pub fn records(&self) -> usize {
        let records = self.entries.iter();
        let records = records.filter(|entry| matches!(entry.event, Event::Record(..)));
        records.count()
    }
}

impl Diary {
    pub fn write(&self, entry: Entry) {
        let mut pages = self.pages.lock().expect("unpoisoned");
        match &entry.event {
            Event::Record(partition, offset) => {
                pages.processed.insert((*partition, *offset));
            }
            Event::Assigned(_) => {
                pages.assigned_once.insert(entry.member);
            }
            Event::Ended => {
                pages.ended.insert(entry.member);
            }
            _ => {}
        }
        pages.entries.push(entry);
        self.changed.notify_all();
    }

    /// Waits until the pages say so.
    pub fn wait(&self, what: &str, done: impl Fn(&Pages) -> bool) -> Result<(), String> {
        let pages = self.pages.lock().expect("unpoisoned");
        let waited = self
            .changed
            .wait_timeout_while(pages, STAGE_MAX, |pages| !done(pages));
        let (pages, timeout) = waited.expect("unpoisoned");
        if !timeout.timed_out() {
            return Ok(());
        }
        let last = pages
            .entries
            .iter()
            .rev()
            .filter(|entry| !matches!(entry.event, Event::Record(..)));
        let last: Vec<String> = last.take(30).map(|entry| format!("{entry:?}")).collect();
        let processed = pages.processed.len();
        Err(format!(
            "not within {STAGE_MAX:?}: {what}; {processed} processed; latest first:\n{}",
            last.join("\n")
        ))
    }
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_micros() as u64
}

/// `@ <microseconds> <kind> <words>`; other lines are a runtime's chatter.
pub fn parse(member: usize, line: &str) -> Option<Entry> {
    let mut words = line.strip_prefix("@ ")?.split(' ');
    let microseconds = words.next()?.parse().ok()?;
    let kind = words.next()?;
    let rest: Vec<&str> = words.collect();
    let partitions = || {
        rest.get(1)?
            .split(',')
            .map(|word| word.parse().ok())
            .collect::<Option<Vec<i32>>>()
    };
    let event = match kind {
        "started" => Event::Started,
        "assigned" => Event::Assigned(partitions().unwrap_or_default()),
        "revoked" | "lost" => Event::Revoked(partitions().unwrap_or_default()),
        "record" => Event::Record(rest.first()?.parse().ok()?, rest.get(1)?.parse().ok()?),
        "refused" => Event::Refused(rest.join(" ")),
        _ => return None,
    };
    Some(Entry {
        microseconds,
        member,
        event,
    })
}

/// Everything that is wrong in the pages, and what led to the first of it.
pub fn judge(pages: &Pages, may_repeat: bool) -> Result<(), String> {
    let mut entries = pages.entries.clone();
    entries.sort_by_key(|entry| entry.microseconds);
    let wrong = violations(&entries, may_repeat);
    let Some((first, _)) = wrong.first() else {
        return Ok(());
    };
    let count = wrong.len();
    let shown = wrong.iter().take(SHOWN_MAX).map(|(_, what)| what.as_str());
    let shown: Vec<&str> = shown.collect();
    Err(format!(
        "{count} violations:\n{}\nbefore the first:\n{}",
        shown.join("\n"),
        story(&entries, *first)
    ))
}

/// What members wrote shortly before an entry; of records, only each member's last of a partition.
fn story(entries: &[Entry], at: usize) -> String {
    let since = entries[at].microseconds.saturating_sub(STORY_MICROSECONDS);
    let told = entries[..=at]
        .iter()
        .filter(|entry| entry.microseconds >= since);
    let mut last: BTreeMap<(usize, i32), usize> = BTreeMap::new();
    let told: Vec<&Entry> = told.collect();
    for (place, entry) in told.iter().enumerate() {
        if let Event::Record(partition, _) = entry.event {
            last.insert((entry.member, partition), place);
        }
    }
    let told = told
        .iter()
        .enumerate()
        .filter(|(place, entry)| match entry.event {
            Event::Record(partition, _) => last.get(&(entry.member, partition)) == Some(place),
            _ => true,
        });
    let lines: Vec<String> = told
        .map(|(_, entry)| {
            format!(
                "{} member {} {:?}",
                entry.microseconds, entry.member, entry.event
            )
        })
        .collect();
    lines.join("\n")
}

/// One owner at a time; in order, without gaps, for each owner; nothing processed that another one owns.
fn violations(entries: &[Entry], may_repeat: bool) -> Vec<(usize, String)> {
    let mut owners: BTreeMap<i32, usize> = BTreeMap::new();
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut is_wrong = |place: usize, what: String| wrong.push((place, what));
    for (place, entry) in entries.iter().enumerate() {
        let Entry {
            microseconds,
            member,
            event,
        } = entry;
        match event {
            Event::Started | Event::Refused(_) => {}
            Event::Assigned(partitions) => {
                for partition in partitions {
                    let before = owners.insert(*partition, *member);
                    if let Some(owner) = before.filter(|owner| owner != member) {
                        is_wrong(
                            place,
                            format!(
                                "{microseconds}: {member} got {partition} while {owner} owned it"
                            ),
                        );
                    }
                    next.remove(partition);
                }
            }
            Event::Revoked(partitions) => {
                owners
                    .retain(|partition, owner| owner != member || !partitions.contains(partition));
            }
            Event::Ended => owners.retain(|_, owner| owner != member),
            Event::Record(partition, offset) => {
                if owners.get(partition) != Some(member) {
                    let owner = owners.get(partition);
                    is_wrong(
                        place,
                        format!(
                            "{microseconds}: {member} processed {partition}@{offset}, owned by {owner:?}"
                        ),
                    );
                    continue;
                }
                let wanted = next.insert(*partition, offset + 1).unwrap_or(*offset);
                if *offset > wanted || (*offset < wanted && !may_repeat) {
                    is_wrong(
                        place,
                        format!(
                            "{microseconds}: {member} processed {partition}@{offset}, not {wanted}"
                        ),
                    );
                }
            }
        }
    }
    wrong
}

fn diary(events: &[(usize, Event)]) -> Vec<Entry> {
    let numbered = events.iter().zip(1..);
    numbered
        .map(|((member, event), microseconds)| Entry {
            microseconds,
            member: *member,
            event: event.clone(),
        })
        .collect()
}

#[test]
fn interop_groups_a_partition_that_is_handed_over_has_no_violation() {
    let handed_over = diary(&[
        (1, Event::Assigned(vec![0, 1])),
        (1, Event::Record(0, 0)),
        (1, Event::Revoked(vec![0])),
        (2, Event::Assigned(vec![0])),
        (2, Event::Record(0, 0)),
        (1, Event::Record(1, 0)),
        (1, Event::Ended),
        (2, Event::Assigned(vec![1])),
    ]);
    assert_eq!(violations(&handed_over, false), []);
}

#[test]
fn interop_groups_two_owners_a_gap_and_a_stranger_are_violations() {
    let owned = (1, Event::Assigned(vec![0]));
    let two_owners = diary(&[owned.clone(), (2, Event::Assigned(vec![0]))]);
    assert_eq!(violations(&two_owners, false).len(), 1);
    let gap = diary(&[
        owned.clone(),
        (1, Event::Record(0, 4)),
        (1, Event::Record(0, 6)),
    ]);
    assert_eq!(violations(&gap, true).len(), 1);
    let stranger = diary(&[owned, (2, Event::Record(0, 0))]);
    assert_eq!(violations(&stranger, false).len(), 1);
}
