//! DeleteTopics, by name or by id. Truth: apache/kafka `ControllerApis.deleteTopics`.

use std::collections::BTreeSet;

use crate::base::TopicId;
use crate::cluster::image::Image;
use crate::cluster::records::Record;
use crate::protocol::ErrorCode;

use super::{Controller, Decision, Refusal, Reply};

/// A topic as a client names it: by name, or by id (then the name is none).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicChoice {
    /// Its name.
    pub name: Option<String>,
    /// Its UUID; zeros if it is named.
    pub id: TopicId,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteReply {
    /// The name, where it is known.
    pub name: Option<String>,
    /// The UUID, where it is known; else zeros.
    pub id: TopicId,
    /// Deleted, or why not.
    pub result: Result<(), Refusal>,
}

impl Controller {
    pub(super) fn delete_topics(&self, choices: Vec<TopicChoice>, image: &Image) -> Decision {
        let enabled = self.layers(image).broker_settings().delete_topics;
        let twice: BTreeSet<TopicChoice> = super::duplicates(choices.iter())
            .into_iter()
            .cloned()
            .collect();
        let mut answered = BTreeSet::new();
        let mut deleted = BTreeSet::new();
        let mut replies = Vec::with_capacity(choices.len());
        for choice in choices {
            let repeated = twice.contains(&choice);
            if repeated && !answered.insert(choice.clone()) {
                continue;
            }
            let found = match (enabled, repeated) {
                (false, _) => Err(Refusal::plain(ErrorCode::TopicDeletionDisabled)),
                (true, true) => Err(duplicate(&choice)),
                (true, false) => find(&choice, image),
            };
            let reply = match found {
                Ok((name, id)) if deleted.insert(id) => DeleteReply {
                    name: Some(name),
                    id,
                    result: Ok(()),
                },
                Ok((name, id)) => {
                    let message =
                        "The provided topic name maps to an ID that was already supplied.";
                    let refusal = Refusal::new(ErrorCode::InvalidRequest, message);
                    DeleteReply {
                        name: Some(name),
                        id,
                        result: Err(refusal),
                    }
                }
                Err(refusal) => DeleteReply {
                    name: choice.name,
                    id: choice.id,
                    result: Err(refusal),
                },
            };
            replies.push(reply);
        }
        let records = deleted
            .into_iter()
            .map(|id| Record::RemoveTopic { id })
            .collect();
        Decision {
            records,
            reply: Reply::DeleteTopics(replies),
        }
    }
}

fn duplicate(choice: &TopicChoice) -> Refusal {
    let what = if choice.name.is_some() { "name" } else { "id" };
    Refusal::new(
        ErrorCode::InvalidRequest,
        format!("Duplicate topic {what}."),
    )
}

fn find(choice: &TopicChoice, image: &Image) -> Result<(String, TopicId), Refusal> {
    let refused = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let topic = match (&choice.name, choice.id.is_zero()) {
        (None, true) => return refused("Neither topic name nor id were specified."),
        (Some(_), false) => return refused("You may not specify both topic name and topic id."),
        (Some(name), true) => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        (None, false) => image
            .topic_by_id(choice.id)
            .ok_or(ErrorCode::UnknownTopicId),
    };
    topic
        .map(|topic| (topic.name.to_string(), topic.id))
        .map_err(Refusal::plain)
}
