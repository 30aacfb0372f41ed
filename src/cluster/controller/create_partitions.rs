//! CreatePartitions: topics only grow. Truth: apache/kafka
//! `ReplicationControlManager.createPartitions`.

use std::collections::BTreeSet;

use crate::base::BrokerId;
use crate::cluster::image::Image;
use crate::cluster::records::Record;
use crate::protocol::ErrorCode;

use super::create_topics::check_count;
use super::{Decision, PARTITIONS_PER_REQUEST_MAX, Refusal, Reply, placement};

/// How a topic is to grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Its name.
    pub name: String,
    /// How many partitions it is to have in all.
    pub count: i32,
    /// The replicas of each new partition, if the client chose them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

pub(super) fn decide(topics: Vec<Growth>, validate_only: bool, image: &Image) -> Decision {
    let twice = super::duplicates(topics.iter().map(|topic| topic.name.as_str()));
    let mut answered = BTreeSet::new();
    let (mut records, mut results) = (Vec::new(), Vec::with_capacity(topics.len()));
    let mut budget = PARTITIONS_PER_REQUEST_MAX;
    for topic in &topics {
        let result = if twice.contains(topic.name.as_str()) {
            if !answered.insert(topic.name.as_str()) {
                continue;
            }
            Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "Duplicate topic name.",
            ))
        } else {
            grow(topic, budget, image).map(|mut new| {
                budget -= new.len();
                records.append(&mut new);
            })
        };
        results.push((topic.name.clone(), result));
    }
    if validate_only {
        records.clear();
    }
    Decision {
        records,
        reply: Reply::CreatePartitions(results),
    }
}

/// The records of a topic's new partitions.
fn grow(growth: &Growth, budget: usize, image: &Image) -> Result<Vec<Record>, Refusal> {
    let unknown = || Refusal::plain(ErrorCode::UnknownTopicOrPartition);
    let topic = image.topic(&growth.name).ok_or_else(unknown)?;
    let have = topic.partitions.len();
    let want = usize::try_from(growth.count).unwrap_or(0);
    if want <= have {
        let message = match want == have {
            true => format!("Topic already has {have} partition(s)."),
            false => format!(
                "The topic {} currently has {have} partition(s); {} would not be an increase.",
                growth.name, growth.count
            ),
        };
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    let more = check_count(want - have, budget)?;
    let factor = topic
        .partitions
        .first()
        .map_or(1, |partition| partition.replicas.len());
    let replicas = match &growth.assignments {
        None => placement::spread(image, have, more, i16::try_from(factor).unwrap_or(i16::MAX))?,
        Some(assignments) if assignments.len() != more => {
            let message = format!(
                "Attempted to add {more} additional partition(s), but {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        Some(assignments) => {
            for replicas in assignments {
                placement::check_manual(image, replicas, Some(factor))?;
            }
            assignments.clone()
        }
    };
    let numbered = replicas.into_iter().enumerate();
    numbered
        .map(|(index, replicas)| placement::record(image, topic.id, have + index, replicas))
        .collect()
}
