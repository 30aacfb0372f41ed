//! DeleteTopics (key 20), versions 1 to 6.
//!
//! | version | what it added |
//! |---|---|
//! | 4 | flexible |
//! | 5 | error message |
//! | 6 | topics by id |
//!
//! Answered when the deletion is durable and out of force on every core: the name is free. A topic
//! is named or has an id, not both and not neither; one that is named twice is refused the second
//! time. Truth: apache/kafka `ControllerApis.deleteTopics`.

use std::sync::Arc;

use crate::base::TopicId;
use crate::cluster::controller::{self, TopicKey};
use crate::cluster::{ControlReply, ControlRequest};
use crate::net::{Outcome, Started};
use crate::protocol::messages::delete_topics_request::DeleteTopicState;
use crate::protocol::messages::delete_topics_response::DeletableTopicResult;
use crate::protocol::messages::{
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName, topic_id, uuid,
};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;
use super::{Api, control};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DeleteTopics);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// From here on topics come as names or ids.
const BY_ID: i16 = 6;

/// What became of a topic: its name and id, or why it is still there.
type Deleted = Result<(Arc<str>, TopicId), controller::Refused>;

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: DeleteTopicsRequest = incoming.decode()?;
    let (keys, mut responses) = plan(&request, incoming.version());
    if keys.is_empty() {
        return incoming.now(&DeleteTopicsResponse::default().with_responses(responses));
    }
    let call = control::ask(service.host(), ControlRequest::DeleteTopics(keys.clone()));
    Ok(Started::Later(Box::pin(async move {
        let results = match control::answer(call).await {
            Ok(ControlReply::DeleteTopics(results)) => results,
            Ok(other) => panic!("a deletion of topics was answered with {other:?}"),
            Err(control::Failed::Unavailable(refused)) => control::same_for_all(keys, &refused),
            Err(control::Failed::Stopping) => return Outcome::Close,
        };
        responses.extend(results.into_iter().map(reply));
        incoming.reply(&DeleteTopicsResponse::default().with_responses(responses))
    })))
}

/// The topics as the controller has them, and the answers to what it need not see.
fn plan(request: &DeleteTopicsRequest, version: i16) -> (Vec<TopicKey>, Vec<DeletableTopicResult>) {
    if version < BY_ID {
        let keys = request
            .topic_names
            .iter()
            .map(|name| TopicKey::Name(name.to_string()));
        return (keys.collect(), Vec::new());
    }
    let (mut keys, mut refused) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        match key(topic) {
            Some(key) => keys.push(key),
            None => refused.push(odd(topic)),
        }
    }
    (keys, refused)
}

fn key(topic: &DeleteTopicState) -> Option<TopicKey> {
    match (&topic.name, topic_id(topic.topic_id)) {
        (Some(name), id) if id.is_zero() => Some(TopicKey::Name(name.to_string())),
        (None, id) if !id.is_zero() => Some(TopicKey::Id(id)),
        (Some(_) | None, _) => None,
    }
}

fn odd(topic: &DeleteTopicState) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(topic.name.clone())
        .with_topic_id(topic.topic_id)
        .with_error_code(ErrorCode::InvalidRequest.code())
        .with_error_message(Some(text("A topic is given by its name or by its id.")))
}

fn reply((key, result): (TopicKey, Deleted)) -> DeletableTopicResult {
    let answer = DeletableTopicResult::default();
    match (result, key) {
        (Ok((name, id)), _) => answer
            .with_name(Some(TopicName(text(&*name))))
            .with_topic_id(uuid(id)),
        (Err(refused), key) => {
            let (name, id) = match key {
                TopicKey::Name(name) => (Some(TopicName(text(name))), TopicId::ZERO),
                TopicKey::Id(id) => (None, id),
            };
            answer
                .with_name(name)
                .with_topic_id(uuid(id))
                .with_error_code(refused.error.code())
                .with_error_message(Some(text(refused.message)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{encodes_in, encodes_in_every_version, topic_name};

    fn state(name: Option<&'static str>, id: u8) -> DeleteTopicState {
        let name = name.map(topic_name);
        DeleteTopicState::default()
            .with_name(name)
            .with_topic_id(uuid(TopicId([id; 16])))
    }

    #[test]
    fn topics_come_by_name_and_from_version_6_by_id() {
        let names = vec![topic_name("a")];
        let old = DeleteTopicsRequest::default().with_topic_names(names);
        assert_eq!(plan(&old, 5).0, [TopicKey::Name("a".to_owned())]);
        let topics = vec![state(Some("a"), 0), state(None, 3)];
        let new = DeleteTopicsRequest::default().with_topics(topics);
        let ids = [
            TopicKey::Name("a".to_owned()),
            TopicKey::Id(TopicId([3; 16])),
        ];
        assert_eq!(plan(&new, 6).0, ids);
    }

    #[test]
    fn both_a_name_and_an_id_or_neither_is_an_invalid_request() {
        let topics = vec![state(Some("a"), 1), state(None, 0)];
        let (keys, refused) = plan(&DeleteTopicsRequest::default().with_topics(topics), 6);
        assert_eq!(keys, []);
        assert!(refused.iter().all(|answer| answer.error_code == 42));
    }

    #[test]
    fn answers_name_what_was_deleted_and_repeat_what_was_not_there() {
        let deleted = reply((
            TopicKey::Id(TopicId([3; 16])),
            Ok(("t".into(), TopicId([3; 16]))),
        ));
        assert_eq!(deleted.name.as_ref().map(|name| name.as_str()), Some("t"));
        let unknown = control::plain(ErrorCode::UnknownTopicId);
        let unknown = reply((TopicKey::Id(TopicId([4; 16])), Err(unknown)));
        assert_eq!((&unknown.name, unknown.error_code), (&None, 100));
        let response = |answer| DeleteTopicsResponse::default().with_responses(vec![answer]);
        encodes_in_every_version(VERSIONS, &response(deleted));
        encodes_in(VERSIONS, 6.., &response(unknown));
    }
}
