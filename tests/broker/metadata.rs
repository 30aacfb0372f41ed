//! Topics over the wire: what is said of them, and their creation, growth, trimming and deletion.

use corelane::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use corelane::protocol::messages::create_topics_request::CreatableTopic;
use corelane::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use corelane::protocol::messages::delete_topics_request::DeleteTopicState;
use corelane::protocol::messages::metadata_request::MetadataRequestTopic;
use corelane::protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    MetadataRequest, TopicName, uuid,
};
use corelane::protocol::{ErrorCode, TopicRef};

use crate::support::client::{Client, PRODUCE, batch, named, produce_request, text};
use crate::support::{Broker, until};

/// Error and low watermark.
pub fn delete_records(client: &mut Client, topic: &str, partition: i32, to: i64) -> (i16, i64) {
    let wish = DeleteRecordsPartition::default()
        .with_partition_index(partition)
        .with_offset(to);
    let topic = DeleteRecordsTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![wish]);
    let request = DeleteRecordsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    let answer = client.call(2, &request).topics[0].partitions[0].clone();
    (answer.error_code, answer.low_watermark)
}

fn create_partitions(client: &mut Client, topic: &str, count: i32) -> i16 {
    let topic = CreatePartitionsTopic::default()
        .with_name(TopicName(text(topic)))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    client.call(3, &request).results[0].error_code
}

#[test]
fn metadata_names_all_topics_none_or_the_named_ones() {
    let broker = Broker::start();
    let mut client = broker.client();
    let a = client.create("a", 3, &[]);
    client.create("b", 1, &[]);
    let all = client.metadata(None, false);
    let names: Vec<&str> = all
        .topics
        .iter()
        .map(|topic| topic.name.as_ref().expect("a name").0.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert!(client.metadata(Some(&[]), false).topics.is_empty());
    let broker_entry = &all.brokers[0];
    assert_eq!(broker_entry.port, i32::from(broker.address().port()));
    assert_eq!(all.controller_id, broker_entry.node_id);
    assert!(all.cluster_id.is_some_and(|id| id.len() == 22));
    let one = client.metadata(Some(&["a"]), false).topics.remove(0);
    assert_eq!(
        (one.error_code, one.topic_id, one.partitions.len()),
        (0, uuid(a), 3)
    );
    for partition in &one.partitions {
        assert_eq!(partition.leader_id, broker_entry.node_id);
        assert_eq!(partition.isr_nodes, [broker_entry.node_id]);
        assert!(partition.leader_epoch >= 0);
    }
    assert_eq!(one.topic_authorized_operations, i32::MIN);
}

#[test]
fn version_0_takes_an_empty_list_for_all() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("a", 1, &[]);
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    assert_eq!(client.call(0, &request).topics.len(), 1);
    assert_eq!(client.call(1, &request).topics.len(), 0);
    let request = MetadataRequest::default().with_topics(None);
    assert_eq!(client.call(1, &request).topics.len(), 1);
}

#[test]
fn unknown_topics_are_made_only_when_the_client_allows_it() {
    let broker = Broker::start();
    let mut client = broker.client();
    let refused = client.metadata(Some(&["made"]), false);
    assert_eq!(refused.topics[0].error_code, 3);
    until("the topic that metadata makes", || {
        client.metadata(Some(&["made"]), true).topics[0].error_code == 0
    });
    assert_eq!(
        client.produce("made", 0, batch(&[b"x"])).error,
        ErrorCode::None
    );
    for name in ["..", ".", "a b", "ä", &"x".repeat(250)] {
        assert_eq!(
            client.metadata(Some(&[name]), true).topics[0].error_code,
            17,
            "{name:?}"
        );
    }
}

#[test]
fn topics_are_found_by_id_and_unknown_ids_have_no_name() {
    let broker = Broker::start();
    let mut client = broker.client();
    let id = uuid(client.create("a", 1, &[]));
    let by_id = |id| {
        let topic = MetadataRequestTopic::default()
            .with_topic_id(id)
            .with_name(None);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let found = client.call(12, &by_id(id)).topics.remove(0);
    assert_eq!(
        (found.error_code, found.name.expect("a name").0.as_str()),
        (0, "a")
    );
    let unknown = client
        .call(12, &by_id(uuid(corelane::base::TopicId([9; 16]))))
        .topics
        .remove(0);
    assert_eq!((unknown.error_code, unknown.name), (100, None));
}

#[test]
fn metadata_is_the_same_after_a_kill_and_epochs_never_go_back() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    for name in ["a", "b"] {
        client.create(name, 3, &[("retention.ms", "1000000")]);
    }
    let before = client.metadata(None, false);
    for restart in [Broker::crash, Broker::restart] {
        restart(&mut broker);
        let after = broker.client().metadata(None, false);
        assert_eq!(after.cluster_id, before.cluster_id);
        for (was, is) in before.topics.iter().zip(&after.topics) {
            assert_eq!((&was.name, was.topic_id), (&is.name, is.topic_id));
            for (was, is) in was.partitions.iter().zip(&is.partitions) {
                assert!(is.leader_epoch >= was.leader_epoch);
            }
        }
    }
}

#[test]
fn create_topics_refuses_with_kafkas_codes() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("a.b", 1, &[]);
    let cases: [(&str, i32, &[(&str, &str)], i16); 9] = [
        ("a.b", 1, &[], 36),
        ("a_b", 1, &[], 17),
        ("bad name", 1, &[], 17),
        ("", 1, &[], 17),
        ("zero", 0, &[], 37),
        ("negative", -2, &[], 37),
        ("config", 1, &[("retention.ms", "soon")], 40),
        ("unknown-config", 1, &[("no.such.thing", "1")], 40),
        ("defaults", -1, &[], 0),
    ];
    for (name, partitions, configs, code) in cases {
        let answer = client.create_all(&[name.to_owned()], partitions, configs);
        assert_eq!(answer[0].0, code, "{name:?}");
    }
    let topic = |factor| {
        CreatableTopic::default()
            .with_name(TopicName(text("c")))
            .with_num_partitions(1)
            .with_replication_factor(factor)
    };
    for (factor, code) in [(0, 38), (3, 38)] {
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(30_000)
            .with_topics(vec![topic(factor)]);
        assert_eq!(
            client.call(7, &request).topics[0].error_code,
            code,
            "replication factor {factor}"
        );
    }
    let only_validated = CreateTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_validate_only(true)
        .with_topics(vec![topic(1)]);
    assert_eq!(client.call(7, &only_validated).topics[0].error_code, 0);
    assert_eq!(client.metadata(Some(&["c"]), false).topics[0].error_code, 3);
}

#[test]
fn partitions_only_grow_and_new_ones_serve_at_once() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    client.produce("t", 0, batch(&[b"old"]));
    assert_eq!(create_partitions(&mut client, "t", 4), 0);
    for partition in 1..4 {
        assert_eq!(
            client.produce("t", partition, batch(&[b"new"])).error,
            ErrorCode::None
        );
    }
    assert_eq!(create_partitions(&mut client, "t", 4), 37);
    assert_eq!(create_partitions(&mut client, "t", 2), 37);
    assert_eq!(create_partitions(&mut client, "nowhere", 2), 3);
    broker.crash();
    let mut client = broker.client();
    for partition in 0..4 {
        assert_eq!(client.read_all("t", partition).len(), 1);
    }
}

#[test]
fn deleted_records_stay_deleted_after_kill_and_restart() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    for _ in 0..5 {
        client.produce("t", 0, batch(&[b"a", b"b"]));
    }
    assert_eq!(delete_records(&mut client, "t", 0, 3), (0, 3));
    assert_eq!(
        delete_records(&mut client, "t", 0, 1),
        (0, 3),
        "the start never goes back"
    );
    assert_eq!(delete_records(&mut client, "t", 0, 11).0, 1);
    assert_eq!(delete_records(&mut client, "t", 0, -2).0, 1);
    assert_eq!(delete_records(&mut client, "t", 1, 0).0, 3);
    for restart in [Broker::crash, Broker::restart] {
        let fetched = client.fetch("t", 0, 2);
        assert_eq!(
            (fetched.error, fetched.log_start_offset.0),
            (ErrorCode::OffsetOutOfRange, 3)
        );
        assert_eq!(client.fetch("t", 0, 3).log_start_offset.0, 3);
        restart(&mut broker);
        client = broker.client();
    }
    assert_eq!(delete_records(&mut client, "t", 0, -1), (0, 10));
    assert!(client.read_bytes("t", 0, 10).is_empty());
    assert_eq!(client.produce("t", 0, batch(&[b"x"])).base_offset.0, 10);
}

#[test]
fn a_topic_that_was_made_again_never_shows_old_records() {
    let mut broker = Broker::start();
    let mut ids = Vec::new();
    for round in 0..6_i64 {
        let mut client = broker.client();
        let id = client.create("t", 2, &[]);
        assert!(!ids.contains(&id));
        ids.push(id);
        assert!(client.read_all("t", 0).is_empty(), "round {round}");
        let value = round.to_be_bytes();
        for _ in 0..3 {
            assert_eq!(
                client.produce("t", 0, batch(&[&value])).error,
                ErrorCode::None
            );
        }
        match round % 3 {
            0 => broker.crash(),
            1 => broker.restart(),
            _ => {}
        }
        let mut client = broker.client();
        let read = client.read_all("t", 0);
        assert_eq!(read.len(), 3, "round {round}");
        assert!(
            read.iter()
                .all(|record| record.value.as_deref() == Some(&value[..]))
        );
        assert_eq!(client.delete("t"), 0);
        assert_eq!(client.delete("t"), 3);
        if round % 2 == 0 {
            broker.crash();
        }
    }
    let old = produce_request(TopicRef::Id(ids[0]), 0, Some(batch(&[b"x"]).into()), -1);
    let answer = broker.client().produce_with(13, &old);
    assert_eq!(
        answer.topics[0].partitions[0].error,
        ErrorCode::UnknownTopicId
    );
}

#[test]
fn a_topic_is_deleted_by_its_id() {
    let broker = Broker::start();
    let mut client = broker.client();
    let id = uuid(client.create("t", 1, &[]));
    let request = |id| {
        let topic = DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(id);
        DeleteTopicsRequest::default()
            .with_timeout_ms(30_000)
            .with_topics(vec![topic])
    };
    assert_eq!(client.call(6, &request(id)).responses[0].error_code, 0);
    assert_eq!(client.call(6, &request(id)).responses[0].error_code, 100);
}

#[test]
fn deletion_while_producing_answers_everything_and_frees_the_name() {
    let broker = Broker::start();
    let mut admin = broker.client();
    for round in 0..5 {
        admin.create("t", 2, &[]);
        let mut client = broker.client();
        for number in 0..40 {
            let records = batch(&[&[number; 2000]]).into();
            let request = produce_request(named("t"), i32::from(number % 2), Some(records), -1);
            client.send_produce(PRODUCE, &request).expect("sent");
            if number == 20 {
                assert_eq!(admin.delete("t"), 0, "round {round}");
            }
        }
        // Each partition's core learns of it at its own time.
        let mut refused = [0; 2];
        for number in 0..40 {
            let (_, response) = client
                .receive_produce(PRODUCE)
                .unwrap_or_else(|| panic!("no answer to {number}"));
            let refused = &mut refused[number % 2];
            match response.topics[0].partitions[0].error {
                ErrorCode::None => assert_eq!(*refused, 0, "an ack after a refusal"),
                ErrorCode::UnknownTopicOrPartition | ErrorCode::NotLeaderOrFollower => {
                    *refused += 1
                }
                other => panic!("{other}"),
            }
        }
        assert!(refused[0] + refused[1] > 0);
    }
}
