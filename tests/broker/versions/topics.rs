//! Topics: made, told, changed, deleted.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeTopicPartitionsRequest, MetadataRequest,
};
use uuid::Uuid;

use super::{Sweep, text, topic};

/// The topic that the other parts use; it gets a partition more in each version of
/// CreatePartitions, and has [`PARTITIONS`] then.
pub const TOPIC: &str = "shelf";
pub const PARTITIONS: usize = 7;

fn creatable(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.collect())
}

/// Makes the topic and gives its id.
pub fn sweep(sweep: &mut Sweep) -> Uuid {
    creations(sweep);
    let shelf = creatable(TOPIC, 3, &[("cleanup.policy", "delete")]);
    let compacted = creatable("compacted", 1, &[("cleanup.policy", "compact")]);
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![shelf, compacted]);
    let response = sweep.ask(7, &request);
    let id = response.topics[0].topic_id;
    assert!(!id.is_nil());
    more_partitions(sweep);
    metadata(sweep, id);
    cluster(sweep);
    pages(sweep);
    id
}

fn creations(sweep: &mut Sweep) {
    let make = |version| {
        let made = creatable(
            &format!("made-{version}"),
            2,
            &[("retention.ms", "7200000")],
        );
        let nameless = creatable("no name", 1, &[]);
        let odd = creatable("odd", 1, &[("no.such.config", "1")]);
        let mut many = creatable("many", 1, &[]);
        many.replication_factor = 2;
        CreateTopicsRequest::default()
            .with_timeout_ms(30_000)
            .with_topics(vec![made, nameless, odd, many])
    };
    sweep.each(make, |version, response| {
        let codes: Vec<i16> = response.topics.iter().map(|told| told.error_code).collect();
        assert_eq!(codes, [0, 17, 40, 38], "{version}");
        if version >= 5 {
            let configs = response.topics[0].configs.as_ref();
            assert!(configs.is_some_and(|configs| configs.len() > 20));
        }
    });
}

fn more_partitions(sweep: &mut Sweep) {
    let make = |version| {
        let have = |name: &str, count| {
            CreatePartitionsTopic::default()
                .with_name(topic(name))
                .with_count(count)
                .with_assignments(None)
        };
        let topics = vec![have(TOPIC, 4 + i32::from(version)), have("nowhere", 2)];
        CreatePartitionsRequest::default()
            .with_timeout_ms(30_000)
            .with_topics(topics)
    };
    sweep.each(make, |version, response| {
        let codes: Vec<i16> = response
            .results
            .iter()
            .map(|told| told.error_code)
            .collect();
        assert_eq!(codes, [0, 3], "{version}");
    });
}

fn metadata(sweep: &mut Sweep, id: Uuid) {
    for version in sweep.versions::<MetadataRequest>() {
        // Version 0 has no null: no topics are all topics.
        let mut all = MetadataRequest::default().with_topics((version == 0).then(Vec::new));
        all.include_cluster_authorized_operations = (8..=10).contains(&version);
        all.include_topic_authorized_operations = version >= 8;
        let response = sweep.ask(version, &all);
        let mut topics = response.topics.iter();
        let found = topics.find(|told| told.name.as_ref() == Some(&topic(TOPIC)));
        assert_eq!(found.expect("the topic").partitions.len(), PARTITIONS);
        assert_eq!(response.brokers.len(), 1);
        let named = |name| MetadataRequestTopic::default().with_name(Some(topic(name)));
        let by_id = |id| {
            let told = MetadataRequestTopic::default().with_topic_id(id);
            told.with_name(None)
        };
        let topics = match version {
            12.. => vec![by_id(id), by_id(Uuid::from_bytes([9; 16]))],
            _ => vec![named(TOPIC), named("no name")],
        };
        let some = MetadataRequest::default()
            .with_topics(Some(topics))
            .with_allow_auto_topic_creation(version < 4);
        let response = sweep.ask(version, &some);
        let codes: Vec<i16> = response.topics.iter().map(|told| told.error_code).collect();
        assert!(
            codes.len() == 2 && codes.contains(&0),
            "{version}: {codes:?}"
        );
    }
}

fn cluster(sweep: &mut Sweep) {
    let make = |version| {
        let mut request = DescribeClusterRequest::default();
        request.include_cluster_authorized_operations = true;
        request.endpoint_type = 1;
        request.include_fenced_brokers = version >= 2;
        request
    };
    sweep.each(make, |_, response| {
        assert_eq!((response.error_code, response.brokers.len()), (0, 1));
    });
}

fn pages(sweep: &mut Sweep) {
    let named = |name: &str| TopicRequest::default().with_name(topic(name));
    let page = |limit, cursor| {
        DescribeTopicPartitionsRequest::default()
            .with_topics(vec![named("nowhere"), named(TOPIC)])
            .with_response_partition_limit(limit)
            .with_cursor(cursor)
    };
    let response = sweep.ask(0, &page(2, None));
    let next = response.next_cursor.expect("a cursor");
    let cursor = Cursor::default()
        .with_topic_name(next.topic_name)
        .with_partition_index(next.partition_index);
    let response = sweep.ask(0, &page(100, Some(cursor)));
    let last = response.topics.last().expect("the topic");
    assert_eq!(last.partitions.len(), PARTITIONS - 2);
}

/// Deletes what [`sweep`] has made.
pub fn sweep_deletions(sweep: &mut Sweep) {
    for version in sweep.versions::<DeleteTopicsRequest>() {
        let names = [format!("made-{}", version + 1), "nowhere".to_owned()];
        let mut request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        let state = DeleteTopicState::default;
        if version >= 6 {
            let by_name = |name: &String| state().with_name(Some(topic(name)));
            let by_id = state()
                .with_name(None)
                .with_topic_id(Uuid::from_bytes([9; 16]));
            request.topics = names.iter().map(by_name).chain([by_id]).collect();
        } else {
            request.topic_names = names.iter().map(|name| topic(name)).collect();
        }
        let response = sweep.ask(version, &request);
        let told = response.responses.iter();
        let mut codes: Vec<i16> = told.map(|told| told.error_code).collect();
        codes.sort_unstable();
        let wanted = &[0, 3, 100][..if version >= 6 { 3 } else { 2 }];
        assert_eq!(codes, wanted, "{version}");
    }
}
