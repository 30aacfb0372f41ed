//! `corelane group describe`: offsets, lag, members.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value, json};

use super::super::client::{Client, ClientError, DescribedGroup, DescribedMember, GroupOffsets};
use super::super::connect::Broker;
use super::super::{Failed, table};
use super::{Offsets, Output, offsets_at};

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  corelane group describe billing
  corelane group describe billing --members
  corelane group describe --all --output json

COMMITTED is the offset that the group reads on from, END the next one that a producer gets, LAG
what lies between them. '-' stands where nothing was committed, or nobody has the partition.")]
pub struct Describe {
    /// The groups
    #[arg(required_unless_present = "all")]
    groups: Vec<String>,
    /// All groups
    #[arg(long, conflicts_with = "groups")]
    all: bool,
    /// The members and their partitions instead of the offsets
    #[arg(long)]
    members: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    broker: Broker,
}

/// A group with its offsets.
struct Described {
    group: DescribedGroup,
    committed: GroupOffsets,
    ends: Offsets,
}

impl Describe {
    pub(super) fn run(&self) -> Result<Vec<String>, Failed> {
        let mut client = self.broker.client();
        let ids: Vec<String> = match self.all {
            true => {
                let groups = client.retrying(Client::groups)?;
                groups.into_iter().map(|group| group.id).collect()
            }
            false => self.groups.clone(),
        };
        let mut described = Vec::new();
        for id in &ids {
            match client.retrying(|client| described_group(client, id)) {
                Ok(group) => described.push(group),
                // Deleted since it was listed.
                Err(ClientError::NoSuchGroup(_)) if self.all => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.output == Output::Json {
            let groups: Vec<Value> = described.iter().map(Described::json).collect();
            return Ok(vec![format!("{:#}", json!(groups))]);
        }
        let lines = described.iter().map(|group| match self.members {
            true => group.member_lines(),
            false => group.offset_lines(),
        });
        Ok(lines.collect::<Vec<_>>().join(&String::new()))
    }
}

fn described_group(client: &mut Client, id: &str) -> Result<Described, ClientError> {
    let group = client.describe_group(id)?;
    if group.is_missing() {
        return Err(ClientError::NoSuchGroup(id.to_owned()));
    }
    let committed = client.committed(id)?;
    let places = places(&group, &committed);
    let ends = offsets_at(client, places.keys(), -1)?;
    Ok(Described {
        group,
        committed,
        ends,
    })
}

/// What was committed or is assigned, with the member that has it.
fn places<'a>(
    group: &'a DescribedGroup,
    committed: &GroupOffsets,
) -> BTreeMap<(String, i32), Option<&'a DescribedMember>> {
    let mut places: BTreeMap<_, _> = committed
        .keys()
        .map(|place| (place.clone(), None))
        .collect();
    for member in &group.members {
        for (topic, partitions) in &member.assignment {
            for partition in partitions {
                places.insert((topic.clone(), *partition), Some(member));
            }
        }
    }
    places
}

fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

fn or_dash(value: Option<i64>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

impl Described {
    fn head(&self) -> String {
        let group = &self.group;
        let mut words = vec![group.kind.to_lowercase(), group.state.clone()];
        if !group.assignor.is_empty() {
            words.push(group.assignor.clone());
        }
        words.push(counted(group.members.len(), "member"));
        words.push(format!("coordinator {}", group.coordinator));
        format!("{}  {}", group.id, words.join(", "))
    }

    fn lag(&self, place: &(String, i32)) -> Option<i64> {
        let (end, committed) = (self.ends.get(place)?, self.committed.get(place)?);
        Some((end - committed).max(0))
    }

    fn offset_lines(&self) -> Vec<String> {
        let mut lines = vec![self.head()];
        let places = places(&self.group, &self.committed);
        if places.is_empty() {
            lines.push("nothing committed, nothing assigned".to_owned());
            return lines;
        }
        let rows: Vec<Vec<String>> = places
            .iter()
            .map(|(place, member)| {
                let text = |field: Option<&String>| field.map_or("-".to_owned(), Clone::clone);
                vec![
                    place.0.clone(),
                    place.1.to_string(),
                    or_dash(self.committed.get(place).copied()),
                    or_dash(self.ends.get(place).copied()),
                    or_dash(self.lag(place)),
                    text(member.map(|member| &member.id)),
                    text(member.map(|member| &member.host)),
                    text(member.map(|member| &member.client)),
                ]
            })
            .collect();
        let head = [
            "TOPIC",
            "PARTITION",
            "COMMITTED",
            "END",
            "LAG",
            "MEMBER",
            "HOST",
            "CLIENT",
        ];
        lines.extend(table::lines(&head, &rows));
        lines
    }

    fn member_lines(&self) -> Vec<String> {
        let mut lines = vec![self.head()];
        if self.group.members.is_empty() {
            return lines;
        }
        let rows: Vec<Vec<String>> = self
            .group
            .members
            .iter()
            .map(|member| {
                let instance = member.instance.clone();
                vec![
                    member.id.clone(),
                    instance.unwrap_or_else(|| "-".to_owned()),
                    member.host.clone(),
                    member.client.clone(),
                    assignment_text(&member.assignment),
                ]
            })
            .collect();
        let head = ["MEMBER", "INSTANCE", "HOST", "CLIENT", "PARTITIONS"];
        lines.extend(table::lines(&head, &rows));
        lines
    }

    fn json(&self) -> Value {
        let group = &self.group;
        let members = group.members.iter().map(|member| {
            json!({"member": member.id, "instance": member.instance, "client": member.client,
                   "host": member.host, "assignment": member.assignment})
        });
        let partitions = places(group, &self.committed)
            .into_iter()
            .map(|(place, member)| {
                json!({"topic": place.0, "partition": place.1,
                       "committed_offset": self.committed.get(&place),
                       "log_end_offset": self.ends.get(&place), "lag": self.lag(&place),
                       "member": member.map(|member| &member.id)})
            });
        json!({"group": group.id, "type": group.kind, "state": group.state,
               "assignor": group.assignor, "coordinator": group.coordinator.0,
               "members": members.collect::<Vec<_>>(),
               "partitions": partitions.collect::<Vec<_>>()})
    }
}

/// `orders:0,1,2 prices:4`
fn assignment_text(assignment: &BTreeMap<String, BTreeSet<i32>>) -> String {
    let topics = assignment.iter().map(|(topic, partitions)| {
        let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
        format!("{topic}:{}", numbers.join(","))
    });
    let topics: Vec<String> = topics.collect();
    if topics.is_empty() {
        return "-".to_owned();
    }
    topics.join(" ")
}
