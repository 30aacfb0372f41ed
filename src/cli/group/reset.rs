//! `corelane group reset`: other committed offsets for a group without members.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};

use super::super::client::{Client, ClientError, GroupOffsets};
use super::super::connect::Broker;
use super::super::{Failed, table};
use super::target::{Scope, Target};
use super::{Offsets, Output, explained, has_members, offsets_at};

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  corelane group reset billing --to earliest                          what would be done
  corelane group reset billing --to earliest --execute                do it
  corelane group reset billing --to 2026-01-31T09:00:00Z --execute    records not older than that
  corelane group reset billing --to -100 --topic orders:0,1 --execute the last hundred once more
  corelane group reset billing --to 4711 --topic orders:2 --execute

Without --execute nothing is changed: what would be committed is shown. Offsets before the first or
behind the last record become that. A group that does not exist yet is made, if --topic names what
it is to read. Stop the group's consumers first: only a group without members can be reset.")]
pub struct Reset {
    /// The group
    group: String,
    /// Where to: earliest, latest, an offset, +N or -N from what is committed, or a time (UTC)
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    to: Target,
    /// A topic, or some of its partitions [default: all that the group has committed]
    #[arg(long, value_name = "TOPIC[:PARTITION,...]")]
    topic: Vec<Scope>,
    /// Commit the offsets
    #[arg(long, conflicts_with = "dry_run")]
    execute: bool,
    /// Only show what would be committed, which is the default
    #[arg(long)]
    dry_run: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    broker: Broker,
}

/// What is to be committed, and what was before.
struct Plan {
    before: GroupOffsets,
    after: GroupOffsets,
}

impl Reset {
    pub(super) fn run(&self) -> Result<Vec<String>, Failed> {
        let mut client = self.broker.client();
        let group = client.retrying(|client| client.describe_group(&self.group))?;
        if group.is_missing() && self.topic.is_empty() {
            return Err(ClientError::NoSuchGroup(self.group.clone()).into());
        }
        if group.is_active() {
            return Err(Failed::operation(has_members(&self.group, "reset")));
        }
        let before = client.retrying(|client| client.committed(&self.group))?;
        let places = match self.topic.is_empty() {
            true => before.keys().cloned().collect(),
            false => client.retrying(|client| self.places(client))?,
        };
        if places.is_empty() {
            return Err(Failed::operation(format!(
                "group {} has committed nothing: say which topics it is to read with --topic",
                self.group
            )));
        }
        let plan = self.plan(&mut client, before, &places)?;
        if self.execute {
            let committed = client.retrying(|client| client.commit(&self.group, &plan.after));
            committed.map_err(|error| explained(error, &self.group, "reset"))?;
        }
        match self.output {
            Output::Json => Ok(vec![format!("{:#}", self.json(&plan))]),
            Output::Text => Ok(self.lines(&plan)),
        }
    }

    /// The partitions that `--topic` names.
    fn places(&self, client: &mut Client) -> Result<BTreeSet<(String, i32)>, ClientError> {
        let mut places = BTreeSet::new();
        for scope in &self.topic {
            let topic = client.topic(&scope.topic)?;
            let known = topic.partitions.iter().map(|partition| partition.index.0);
            let known: BTreeSet<i32> = known.collect();
            if let Some(unknown) = scope.partitions.iter().find(|index| !known.contains(index)) {
                let what = format!("--topic {}:{unknown}", scope.topic);
                let range = format!("the topic has {} partitions, counted from 0", known.len());
                let error = crate::protocol::ErrorCode::InvalidPartitions;
                return Err(ClientError::refused(what, error, Some(&range)));
            }
            let wanted = match scope.partitions.is_empty() {
                true => known,
                false => scope.partitions.iter().copied().collect(),
            };
            places.extend(wanted.into_iter().map(|index| (scope.topic.clone(), index)));
        }
        Ok(places)
    }

    fn plan(
        &self,
        client: &mut Client,
        before: GroupOffsets,
        places: &BTreeSet<(String, i32)>,
    ) -> Result<Plan, Failed> {
        let mut at =
            |timestamp| client.retrying(|client| offsets_at(client, places.iter(), timestamp));
        let (starts, ends) = (at(-2)?, at(-1)?);
        let by_time = match self.to {
            Target::Time(time) => at(time)?,
            _ => Offsets::new(),
        };
        let mut after = GroupOffsets::new();
        for place in places {
            let (topic, partition) = place;
            let (Some(start), Some(end)) = (starts.get(place), ends.get(place)) else {
                return Err(Failed::operation(format!(
                    "{topic}-{partition} is gone or has no leader: leave it out with --topic, or \
                     delete its offset with `corelane group delete {} --topic {topic}`",
                    self.group
                )));
            };
            let wanted = match self.to {
                Target::Earliest => *start,
                Target::Latest => *end,
                Target::Offset(offset) => offset,
                // Nothing is that late: what comes is.
                Target::Time(_) => match by_time.get(place) {
                    Some(offset) if *offset >= 0 => *offset,
                    _ => *end,
                },
                Target::Shift(by) => match before.get(place) {
                    Some(committed) => committed.saturating_add(by),
                    None => {
                        return Err(Failed::operation(format!(
                            "group {} has committed nothing for {topic}-{partition}, so there is \
                             nothing to shift: use --to earliest, latest, an offset or a time",
                            self.group
                        )));
                    }
                },
            };
            after.insert(place.clone(), wanted.clamp(*start, *end));
        }
        Ok(Plan { before, after })
    }

    fn lines(&self, plan: &Plan) -> Vec<String> {
        let rows: Vec<Vec<String>> = plan
            .after
            .iter()
            .map(|(place, after)| {
                let before = plan.before.get(place);
                let before = before.map_or("-".to_owned(), i64::to_string);
                vec![
                    place.0.clone(),
                    place.1.to_string(),
                    before,
                    after.to_string(),
                ]
            })
            .collect();
        let mut lines = table::lines(&["TOPIC", "PARTITION", "BEFORE", "AFTER"], &rows);
        lines.push(match self.execute {
            true => format!("reset group {}", self.group),
            false => "nothing was changed: add --execute to commit these offsets".to_owned(),
        });
        lines
    }

    fn json(&self, plan: &Plan) -> Value {
        let partitions = plan.after.iter().map(|(place, after)| {
            json!({"topic": place.0, "partition": place.1, "before": plan.before.get(place),
                   "after": after})
        });
        json!({"group": self.group, "executed": self.execute,
               "partitions": partitions.collect::<Vec<_>>()})
    }
}
