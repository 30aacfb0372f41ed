//! DescribeTopicPartitions (key 75), version 0 (KIP-966).
//!
//! Topics in the order of their names, at most `response_partition_limit` partitions (and at most
//! `max.request.partition.size.limit`, 2000) a reply; a cursor says where the next reply goes on. No
//! topics named means all. Truth: apache/kafka `DescribeTopicPartitionsRequestHandler.java`,
//! `KRaftMetadataCache.getTopicMetadataForDescribeTopicResponse`.

use std::collections::BTreeSet;

use crate::base::TopicId;
use crate::cluster::image::{Image, Topic};
use crate::cluster::names;
use crate::net::Started;
use crate::protocol::messages::describe_topic_partitions_request::Cursor;
use crate::protocol::messages::describe_topic_partitions_response::{
    Cursor as NextCursor, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName, uuid,
};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::partitions::{Described, Reachable, numbered, unknown};
use super::service::Service;
use super::{Api, find, operations};

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeTopicPartitions);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

fn start(
    service: &Service,
    connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: DescribeTopicPartitionsRequest = incoming.decode()?;
    let host = service.host();
    let image = host.image();
    let brokers = find::brokers(&image, host.node(), &connection.endpoint);
    let limit = request.response_partition_limit;
    let limit = limit
        .min(service.settings().max_request_partitions as i32)
        .max(1);
    incoming.now(&reply(
        &request,
        limit as usize,
        &image,
        &Reachable::of(&brokers, host.node()),
    ))
}

fn reply(
    request: &DescribeTopicPartitionsRequest,
    limit: usize,
    image: &Image,
    reachable: &Reachable<'_>,
) -> DescribeTopicPartitionsResponse {
    if let Some(error) = refusal(request) {
        let names = request.topics.iter().map(|topic| topic.name.as_str());
        let topics = names.map(|name| not_there(name, error)).collect();
        return DescribeTopicPartitionsResponse::default().with_topics(topics);
    }
    let (mut topics, mut next, mut left) = (Vec::new(), None, limit);
    for name in wanted(request, image) {
        if left == 0 {
            next = Some(cursor_at(name, 0));
            break;
        }
        let Some(topic) = image.topic(name) else {
            topics.push(not_there(name, unknown(name)));
            continue;
        };
        let first = first_partition(request.cursor.as_ref(), name);
        let partitions: Vec<_> = numbered(topic, first)
            .take(left)
            .map(|(index, partition)| described(reachable.describe(image, topic, index, partition)))
            .collect();
        left -= partitions.len();
        let after = first + partitions.len();
        topics.push(described_topic(topic, partitions));
        if after < topic.partitions.len() {
            next = Some(cursor_at(name, after));
            break;
        }
    }
    DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next)
}

/// The cursor must be at a partition, in a topic that is asked for.
fn refusal(request: &DescribeTopicPartitionsRequest) -> Option<ErrorCode> {
    let cursor = request.cursor.as_ref()?;
    let mut names = request.topics.iter().map(|topic| &topic.name);
    let outside = !request.topics.is_empty() && !names.any(|name| *name == cursor.topic_name);
    (outside || cursor.partition_index < 0).then_some(ErrorCode::InvalidRequest)
}

/// The topics that are asked for, from the cursor on, in order, each once.
fn wanted<'a>(request: &'a DescribeTopicPartitionsRequest, image: &'a Image) -> BTreeSet<&'a str> {
    let from = request
        .cursor
        .as_ref()
        .map_or("", |cursor| cursor.topic_name.as_str());
    if request.topics.is_empty() {
        let all = image.topics().map(|topic| &*topic.name);
        all.filter(|name| *name >= from).collect()
    } else {
        let named = request.topics.iter().map(|topic| topic.name.as_str());
        named.filter(|name| *name >= from).collect()
    }
}

fn first_partition(cursor: Option<&Cursor>, name: &str) -> usize {
    let here = cursor.filter(|cursor| cursor.topic_name.as_str() == name);
    here.map_or(0, |cursor| {
        usize::try_from(cursor.partition_index).unwrap_or(0)
    })
}

fn cursor_at(name: &str, partition: usize) -> NextCursor {
    let topic = TopicName(text(name));
    NextCursor::default()
        .with_topic_name(topic)
        .with_partition_index(partition as i32)
}

fn not_there(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(name))))
        .with_topic_id(uuid(TopicId::ZERO))
        .with_is_internal(names::is_internal(name))
        .with_error_code(error.code())
        .with_topic_authorized_operations(operations::TOPIC)
}

fn described_topic(
    topic: &Topic,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(&*topic.name))))
        .with_topic_id(uuid(topic.id))
        .with_is_internal(topic.is_internal())
        .with_partitions(partitions)
        .with_topic_authorized_operations(operations::TOPIC)
}

fn described(described: Described) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(described.index)
        .with_leader_id(described.leader)
        .with_leader_epoch(described.leader_epoch)
        .with_replica_nodes(described.replicas)
        .with_isr_nodes(described.isr)
        .with_offline_replicas(described.offline)
        .with_eligible_leader_replicas(Some(described.eligible))
        .with_last_known_elr(Some(described.last_known_eligible))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{World, encodes_in_every_version, endpoint, node, topic_name};
    use crate::protocol::messages::describe_topic_partitions_request::TopicRequest;

    fn request(names: &[&'static str]) -> DescribeTopicPartitionsRequest {
        let topic = |name: &&'static str| TopicRequest::default().with_name(topic_name(name));
        DescribeTopicPartitionsRequest::default().with_topics(names.iter().map(topic).collect())
    }

    fn from(name: &'static str, partition: i32) -> Option<Cursor> {
        let cursor = Cursor::default().with_topic_name(topic_name(name));
        Some(cursor.with_partition_index(partition))
    }

    /// Topic, error and partitions of each topic, and the cursor.
    fn told(request: &DescribeTopicPartitionsRequest, limit: usize) -> (String, String) {
        let mut world = World::new(1);
        world.topic("b", 1, 3);
        world.topic("a", 2, 2);
        let brokers = find::brokers(&world.image, &node(), &endpoint());
        let response = reply(
            request,
            limit,
            &world.image,
            &Reachable::of(&brokers, &node()),
        );
        encodes_in_every_version(VERSIONS, &response);
        let topics = response.topics.iter().map(|topic| {
            let name = topic.name.as_ref().unwrap().as_str();
            let partitions = topic
                .partitions
                .iter()
                .map(|one| one.partition_index.to_string());
            format!(
                "{name}:{}:{}",
                topic.error_code,
                partitions.collect::<Vec<_>>().join(",")
            )
        });
        let cursor = response
            .next_cursor
            .map(|cursor| format!("{}:{}", cursor.topic_name.as_str(), cursor.partition_index));
        (
            topics.collect::<Vec<_>>().join(" "),
            cursor.unwrap_or_default(),
        )
    }

    fn is(told: (String, String), topics: &str, cursor: &str) {
        assert_eq!((told.0.as_str(), told.1.as_str()), (topics, cursor));
    }

    #[test]
    fn topics_come_in_order_of_name_and_none_named_means_all() {
        is(told(&request(&[]), 100), "a:0:0,1 b:0:0,1,2", "");
        is(
            told(&request(&["b", "a", "b"]), 100),
            "a:0:0,1 b:0:0,1,2",
            "",
        );
    }

    #[test]
    fn the_limit_cuts_and_the_cursor_goes_on() {
        is(told(&request(&[]), 1), "a:0:0", "a:1");
        is(told(&request(&[]), 2), "a:0:0,1", "b:0");
        is(told(&request(&[]), 4), "a:0:0,1 b:0:0,1", "b:2");
        is(
            told(&request(&[]).with_cursor(from("b", 2)), 4),
            "b:0:2",
            "",
        );
        is(
            told(&request(&[]).with_cursor(from("a", 9)), 4),
            "a:0: b:0:0,1,2",
            "",
        );
    }

    #[test]
    fn unknown_and_impossible_names_are_told_apart() {
        is(told(&request(&["x", "!"]), 9), "!:17: x:3:", "");
    }

    #[test]
    fn a_cursor_outside_of_what_is_asked_for_is_an_invalid_request() {
        is(
            told(&request(&["a"]).with_cursor(from("b", 0)), 9),
            "a:42:",
            "",
        );
        is(
            told(&request(&["a"]).with_cursor(from("a", -1)), 9),
            "a:42:",
            "",
        );
    }
}
