//! `corelane group`: list, describe, reset and delete consumer groups of any Kafka broker.

mod delete;
mod describe;
mod list;
mod reset;
mod target;

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Subcommand, ValueEnum};

use super::Failed;
use super::client::{Client, ClientError};
use crate::base::PartitionIndex;
use crate::protocol::ErrorCode;

/// What to do with consumer groups.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// List the groups
    List(list::List),
    /// Show what groups have committed, how far they lag behind, and who their members are
    Describe(describe::Describe),
    /// Set the committed offsets of a group without members
    Reset(reset::Reset),
    /// Delete groups without members, or a group's offsets of some topics
    Delete(delete::Delete),
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Columns for people
    #[default]
    Text,
    /// JSON
    Json,
}

/// Does what was asked for.
pub(super) fn run(command: Command) -> Result<(), Failed> {
    let lines = match command {
        Command::List(arguments) => arguments.run()?,
        Command::Describe(arguments) => arguments.run()?,
        Command::Reset(arguments) => arguments.run()?,
        Command::Delete(arguments) => arguments.run()?,
    };
    let mut out = std::io::stdout().lock();
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .map_err(Failed::output)
}

/// Partitions by topic and number, each with an offset.
type Offsets = BTreeMap<(String, i32), i64>;

/// The offset for a timestamp (-2 for the first, -1 for the end) of each of these partitions; topics
/// and partitions that are gone are missing.
fn offsets_at<'a>(
    client: &mut Client,
    partitions: impl Iterator<Item = &'a (String, i32)>,
    timestamp: i64,
) -> Result<Offsets, ClientError> {
    let mut topics: BTreeMap<&str, Vec<PartitionIndex>> = BTreeMap::new();
    for (topic, partition) in partitions {
        topics
            .entry(topic)
            .or_default()
            .push(PartitionIndex(*partition));
    }
    let names: Vec<String> = topics.keys().map(|name| (*name).to_owned()).collect();
    if names.is_empty() {
        return Ok(Offsets::new());
    }
    let mut found = Offsets::new();
    for topic in client.topics(Some(&names))? {
        let topic = match topic {
            Ok(topic) => topic,
            Err(ClientError::NoSuchTopic(_)) => continue,
            Err(error) => return Err(error),
        };
        let wanted = topics.get(topic.name.as_str()).into_iter().flatten();
        let there = |index: &&PartitionIndex| {
            let mut known = topic.partitions.iter();
            known.any(|partition| partition.index == **index && partition.leader.0 >= 0)
        };
        let wanted: Vec<PartitionIndex> = wanted.filter(there).copied().collect();
        for (partition, offset) in client.offsets(&topic, &wanted, timestamp)? {
            found.insert((topic.name.clone(), partition.0), offset.0);
        }
    }
    Ok(found)
}

/// What somebody has to do before a group with members can be changed.
fn has_members(group: &str, verb: &str) -> String {
    format!(
        "group {group} has members, and only a group without members can be {verb}: stop its \
         consumers (`corelane group describe {group} --members` names them), wait for their \
         sessions to end, and try again"
    )
}

/// A refusal because of members, in words that say what to do.
fn explained(error: ClientError, group: &str, verb: &str) -> Failed {
    match error.code() {
        Some(
            ErrorCode::NonEmptyGroup
            | ErrorCode::UnknownMemberId
            | ErrorCode::IllegalGeneration
            | ErrorCode::RebalanceInProgress,
        ) => Failed::operation(has_members(group, verb)),
        Some(ErrorCode::GroupSubscribedToTopic) => Failed::operation(format!(
            "{error}: a member of group {group} subscribes to the topic; stop the consumers that \
             read it (`corelane group describe {group} --members` names them) and try again"
        )),
        _ => error.into(),
    }
}
