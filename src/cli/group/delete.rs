//! `corelane group delete`: whole groups, or a group's offsets of some topics.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use super::super::Failed;
use super::super::client::{Client, ClientError};
use super::super::connect::Broker;
use super::target::Scope;
use super::{Output, explained};

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  corelane group delete billing
  corelane group delete billing reports --if-exists
  corelane group delete billing --topic orders          only its offsets of one topic
  corelane group delete billing --topic orders:0,1

A group is deleted with all of its offsets, and only while it has no members. Offsets of a topic can
be deleted while the group has members, if none of them subscribes to the topic.")]
pub struct Delete {
    /// The groups
    #[arg(required = true)]
    groups: Vec<String>,
    /// Delete only the offsets of this topic, or of some of its partitions; repeat it for more
    #[arg(long, value_name = "TOPIC[:PARTITION,...]")]
    topic: Vec<Scope>,
    /// Succeed if a group is not there
    #[arg(long)]
    if_exists: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    broker: Broker,
}

impl Delete {
    pub(super) fn run(&self) -> Result<Vec<String>, Failed> {
        let mut client = self.broker.client();
        let mut done = Vec::new();
        for group in &self.groups {
            let what = match self.topic.is_empty() {
                true => self.delete_group(&mut client, group)?,
                false => self.delete_offsets(&mut client, group)?,
            };
            done.push((group, what));
        }
        if self.output == Output::Json {
            let done = done.iter().map(|(group, what)| match what {
                Done::Group => json!({"group": group, "deleted": true}),
                Done::Missing => json!({"group": group, "deleted": false}),
                Done::Offsets(count) => json!({"group": group, "offsets_deleted": count}),
            });
            return Ok(vec![format!("{:#}", json!(done.collect::<Vec<_>>()))]);
        }
        let lines = done.iter().map(|(group, what)| match what {
            Done::Group => format!("deleted {group}"),
            Done::Missing => format!("{group} is not there"),
            Done::Offsets(1) => format!("deleted 1 offset of {group}"),
            Done::Offsets(count) => format!("deleted {count} offsets of {group}"),
        });
        Ok(lines.collect())
    }

    fn delete_group(&self, client: &mut Client, group: &str) -> Result<Done, Failed> {
        let mut tried = false;
        let deleted = client.retrying(|client| {
            let again = std::mem::replace(&mut tried, true);
            match client.delete_group(group) {
                // A try whose answer was lost may have deleted it.
                Err(ClientError::NoSuchGroup(_)) if again => Ok(()),
                other => other,
            }
        });
        match deleted {
            Ok(()) => Ok(Done::Group),
            Err(ClientError::NoSuchGroup(_)) if self.if_exists => Ok(Done::Missing),
            Err(error) => Err(explained(error, group, "deleted")),
        }
    }

    fn delete_offsets(&self, client: &mut Client, group: &str) -> Result<Done, Failed> {
        let committed = client.retrying(|client| client.committed(group))?;
        let named = |place: &(String, i32)| {
            self.topic.iter().any(|scope| {
                let partitions = &scope.partitions;
                scope.topic == place.0 && (partitions.is_empty() || partitions.contains(&place.1))
            })
        };
        let places: BTreeSet<_> = committed.into_keys().filter(named).collect();
        if places.is_empty() {
            let group = client.retrying(|client| client.describe_group(group))?;
            return match group.is_missing() && !self.if_exists {
                true => Err(ClientError::NoSuchGroup(group.id).into()),
                false => Ok(Done::Offsets(0)),
            };
        }
        match client.retrying(|client| client.delete_offsets(group, &places)) {
            Ok(()) => Ok(Done::Offsets(places.len())),
            Err(error) => Err(explained(error, group, "changed")),
        }
    }
}

/// What became of a group.
enum Done {
    Group,
    Missing,
    Offsets(usize),
}
