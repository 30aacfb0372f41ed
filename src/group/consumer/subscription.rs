//! What a consumer group subscribes to: names and regular expressions held against the topics,
//! and the target assignment that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use regex::{Regex, RegexBuilder};

use super::{ConsumerGroup, Surroundings};
use crate::base::TopicId;
use crate::group::assignor::{Assignor, MemberSpec};
use crate::group::records::{MemberValue, Partitions, Record, RegexValue, TopicMetadata};
use crate::group::request::{Refusal, TopicView};
use crate::protocol::ErrorCode;

/// The most memory that one compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// The members as they will be: those of the group, with one changed, added or left out.
#[derive(Clone, Debug, Default)]
pub struct Change<'a> {
    /// What this member says about itself now.
    pub updated: Option<(&'a str, &'a MemberValue)>,
    /// These members are gone.
    pub removed: BTreeSet<&'a str>,
}

/// What a change of members or topics does to a group.
#[derive(Clone, Debug, Default)]
pub struct Refreshed {
    /// The records of it.
    pub records: Vec<Record>,
    /// The topics subscribed to, as they are now.
    pub subscribed: BTreeMap<String, TopicMetadata>,
    /// What each regular expression matches now.
    pub regexes: BTreeMap<String, RegexValue>,
    /// True when the target assignment may be another.
    pub changed: bool,
}

/// Compiles a regular expression that has to match the whole of a topic's name. The syntax is
/// RE2's (the `regex` crate's is the same family, and like it takes linear time).
fn compile(pattern: &str) -> Result<Regex, Refusal> {
    let whole = format!("^(?:{pattern})$");
    // The pattern alone must be valid too, so that `a)(b` does not close the group around it.
    let built = RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .and_then(|_| {
            RegexBuilder::new(&whole)
                .size_limit(REGEX_BYTES_MAX)
                .build()
        });
    built.map_err(|error| {
        let message =
            format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}.");
        Refusal::new(ErrorCode::InvalidRegularExpression, message)
    })
}

/// Refuses a regular expression that cannot be compiled.
pub fn check_regex(pattern: &str) -> Result<(), Refusal> {
    compile(pattern).map(|_| ())
}

fn matching(pattern: &str, topics: &TopicView) -> BTreeSet<String> {
    // One from a record that this version cannot compile matches nothing.
    let Ok(regex) = compile(pattern) else {
        return BTreeSet::new();
    };
    topics
        .names()
        .filter(|name| regex.is_match(name))
        .map(str::to_owned)
        .collect()
}

impl ConsumerGroup {
    /// True when the topics changed since the subscriptions were last held against them.
    pub(super) fn is_outdated(&self, topics: &TopicView) -> bool {
        self.seen_version != Some(topics.version)
    }

    /// The members as they will be.
    fn changed_members<'a>(
        &'a self,
        change: &'a Change<'_>,
    ) -> impl Iterator<Item = (&'a str, &'a MemberValue)> {
        let updated = change.updated;
        let others = self.members.iter().filter(move |(id, _)| {
            updated.is_none_or(|(changed, _)| *id != changed)
                && !change.removed.contains(id.as_str())
        });
        others
            .map(|(id, member)| (id.as_str(), &member.about))
            .chain(updated)
    }

    /// Holds all subscriptions against the topics.
    pub(super) fn refresh(&self, around: Surroundings<'_>, change: &Change<'_>) -> Refreshed {
        let mut refreshed = Refreshed::default();
        self.refresh_regexes(around, change, &mut refreshed);
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (_, about) in self.changed_members(change) {
            names.extend(about.topics.iter().map(String::as_str));
        }
        names.extend(
            refreshed
                .regexes
                .values()
                .flat_map(|r| r.topics.iter().map(String::as_str)),
        );
        let known = names
            .into_iter()
            .filter_map(|name| Some((name, around.topics.get(name)?)));
        let subscribed: BTreeMap<String, TopicMetadata> = known
            .map(|(name, topic)| {
                let racks = topic.racks.clone();
                let (id, partitions) = (topic.id, topic.partitions);
                (
                    name.to_owned(),
                    TopicMetadata {
                        id,
                        partitions,
                        racks,
                    },
                )
            })
            .collect();
        if subscribed != self.subscribed {
            let topics = Some(subscribed.clone());
            refreshed.records.push(Record::SubscribedTopics {
                group: self.id.clone(),
                topics,
            });
            refreshed.changed = true;
        }
        refreshed.subscribed = subscribed;
        refreshed
    }

    /// Resolves the regular expressions that are in use, and drops those that are not.
    fn refresh_regexes(
        &self,
        around: Surroundings<'_>,
        change: &Change<'_>,
        refreshed: &mut Refreshed,
    ) {
        let used: BTreeSet<&str> = self
            .changed_members(change)
            .filter_map(|(_, about)| about.regex.as_deref())
            .collect();
        for unused in self
            .regexes
            .keys()
            .filter(|known| !used.contains(known.as_str()))
        {
            let (group, regex) = (self.id.clone(), unused.clone());
            refreshed.records.push(Record::ResolvedRegex {
                group,
                regex,
                value: None,
            });
        }
        for pattern in used {
            let known = self.regexes.get(pattern);
            if let Some(known) = known.filter(|known| known.version == around.topics.version) {
                refreshed.regexes.insert(pattern.to_owned(), known.clone());
                continue;
            }
            let topics = matching(pattern, around.topics);
            let (version, timestamp_ms) = (around.topics.version, around.now.wall.0);
            let value = RegexValue {
                topics,
                version,
                timestamp_ms,
            };
            if known.is_none_or(|known| known.topics != value.topics) {
                let (group, regex) = (self.id.clone(), pattern.to_owned());
                let value = Some(value.clone());
                refreshed.records.push(Record::ResolvedRegex {
                    group,
                    regex,
                    value,
                });
                refreshed.changed = true;
            }
            refreshed.regexes.insert(pattern.to_owned(), value);
        }
    }

    /// Computes the target assignment anew: the records, and the targets that change.
    pub(super) fn retarget(
        &self,
        around: Surroundings<'_>,
        change: &Change<'_>,
        refreshed: &Refreshed,
        epoch: i32,
    ) -> (Vec<Record>, BTreeMap<String, Partitions>) {
        let topics: BTreeMap<TopicId, &TopicMetadata> = refreshed
            .subscribed
            .values()
            .map(|topic| (topic.id, topic))
            .collect();
        // Most members of a group subscribe alike, and share what that comes to.
        let mut alike: Option<(&MemberValue, Rc<BTreeSet<TopicId>>)> = None;
        let mut members: Vec<MemberSpec<'_>> = Vec::with_capacity(self.members.len() + 1);
        let mut targets = self.target.iter().peekable();
        for (id, about) in self.changed_members(change) {
            let shared = alike
                .take()
                .filter(|(like, _)| like.topics == about.topics && like.regex == about.regex);
            let (_, topics) = alike
                .insert(shared.unwrap_or_else(|| (about, Rc::new(topic_ids(about, refreshed)))));
            // Both are in the order of ids, but for a member that is updated, which comes last.
            while targets.next_if(|(other, _)| other.as_str() < id).is_some() {}
            let target = match targets.peek() {
                Some((other, partitions)) if other.as_str() == id => Some(*partitions),
                _ => self.target.get(id),
            };
            members.push(MemberSpec {
                id,
                instance_id: about.instance_id.as_deref(),
                rack: about.rack_id.as_deref(),
                topics: Rc::clone(topics),
                target,
            });
        }
        members.sort_by_key(|member| member.id);
        let target = self
            .preferred_assignor(around, change)
            .changes(&members, &topics);
        let mut records = Vec::with_capacity(target.len() + 1);
        for (member, partitions) in &target {
            let (group, member) = (self.id.clone(), member.clone());
            let partitions = Some(partitions.clone());
            records.push(Record::Target {
                group,
                member,
                partitions,
            });
        }
        records.push(Record::TargetEpoch {
            group: self.id.clone(),
            epoch: Some(epoch),
        });
        (records, target)
    }

    /// The assignor that most members want; the broker's default if nobody wants any.
    fn preferred_assignor(&self, around: Surroundings<'_>, change: &Change<'_>) -> Assignor {
        let offered = &around.settings.consumer_assignors;
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for (_, about) in self.changed_members(change) {
            let wanted = about.server_assignor.as_deref().and_then(Assignor::named);
            if let Some(wanted) = wanted.filter(|wanted| offered.contains(wanted)) {
                *votes.entry(wanted).or_default() += 1;
            }
        }
        let most = votes.iter().rev().max_by_key(|(_, count)| **count);
        let default = offered.first().copied().unwrap_or(Assignor::Uniform);
        most.map_or(default, |(assignor, _)| *assignor)
    }

    /// The assignor that is in use, for descriptions.
    pub fn assignor(&self, around: Surroundings<'_>) -> Assignor {
        self.preferred_assignor(around, &Change::default())
    }
}

fn topic_ids(about: &MemberValue, refreshed: &Refreshed) -> BTreeSet<TopicId> {
    let matched = about
        .regex
        .as_ref()
        .and_then(|regex| refreshed.regexes.get(regex));
    let matched = matched.into_iter().flat_map(|regex| &regex.topics);
    let names = about.topics.iter().chain(matched);
    names
        .filter_map(|name| refreshed.subscribed.get(name))
        .map(|topic| topic.id)
        .collect()
}
