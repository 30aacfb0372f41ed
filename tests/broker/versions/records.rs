//! Records in and out, and where offsets are.

use bytes::Bytes;
use corelane::base::{ProducerEpoch, ProducerId as Id, Sequence};
use corelane::record::{BatchBuilder, Codec};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, DescribeProducersRequest, FetchRequest, InitProducerIdRequest,
    ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest, ProducerId,
};
use uuid::Uuid;

use super::topics::TOPIC;
use super::{Sweep, topic};
use crate::support::client::batch;

pub fn sweep(sweep: &mut Sweep, id: Uuid) {
    let producer = producer_ids(sweep);
    produce(sweep, id, producer);
    for version in sweep.versions::<FetchRequest>() {
        fetch(sweep, version, id);
    }
    list_offsets(sweep);
    epochs(sweep);
    delete_records(sweep);
    producers(sweep, producer);
}

fn producer_ids(sweep: &mut Sweep) -> i64 {
    let mut last = -1;
    for version in sweep.versions::<InitProducerIdRequest>() {
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000);
        if version >= 3 {
            request.producer_id = ProducerId(-1);
            request.producer_epoch = -1;
        }
        let response = sweep.ask(version, &request);
        assert_eq!(response.error_code, 0);
        last = response.producer_id.0;
    }
    last
}

fn idempotent(producer: i64, sequence: i32) -> Bytes {
    let mut builder =
        BatchBuilder::new(Codec::None).producer(Id(producer), ProducerEpoch(0), Sequence(sequence));
    builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &[]);
    builder.finish().into()
}

fn produce(sweep: &mut Sweep, id: Uuid, producer: i64) {
    let (_, newest) = sweep.advertised[&0];
    for version in 3..=newest {
        let part = |index, records: Bytes| {
            let part = PartitionProduceData::default().with_index(index);
            part.with_records(Some(records))
        };
        let mut shelf = TopicProduceData::default().with_partition_data(vec![
            part(0, batch(&[b"one", b"two"]).into()),
            part(1, idempotent(producer, i32::from(version) - 3)),
            part(99, batch(&[b"lost"]).into()),
        ]);
        let mut topics = Vec::new();
        if version >= 13 {
            shelf.topic_id = id;
            topics.push(shelf);
        } else {
            shelf.name = topic(TOPIC);
            // A compacted topic takes no record without a key: told record by record from 8 on.
            let refused = TopicProduceData::default()
                .with_name(topic("compacted"))
                .with_partition_data(vec![part(0, batch(&[b"keyless"]).into())]);
            topics.extend([shelf, refused]);
        }
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(topics);
        let response = sweep.ask(version, &request);
        let topics = response.responses.iter();
        let told: Vec<_> = topics
            .flat_map(|topic| &topic.partition_responses)
            .collect();
        let codes: Vec<i16> = told.iter().map(|told| told.error_code).collect();
        let wanted = &[0, 0, 3, 87][..if version >= 13 { 3 } else { 4 }];
        assert_eq!(codes, wanted, "{version}");
        if (8..13).contains(&version) {
            assert_eq!(told[3].record_errors.len(), 1, "{version}");
        }
    }
}

fn fetch(sweep: &mut Sweep, version: i16, id: Uuid) {
    let part = |partition, offset| {
        FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_current_leader_epoch(-1)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(1 << 20)
    };
    let parts = vec![part(0, 0), part(1, 1_000_000), part(2, 0), part(99, 0)];
    let mut shelf = FetchTopic::default().with_partitions(parts);
    match version {
        13.. => shelf.topic_id = id,
        _ => shelf.topic = topic(TOPIC),
    }
    let mut request = FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![shelf]);
    // A session that begins, where there are sessions.
    request.session_epoch = if version >= 7 { 0 } else { -1 };
    let response = sweep.ask(version, &request);
    let told = &response.responses[0].partitions;
    let codes: Vec<i16> = told.iter().map(|told| told.error_code).collect();
    assert_eq!(codes, [0, 1, 0, 3], "{version}");
    let records = told[0].records.as_ref().map_or(0, Bytes::len);
    assert!(records > 100, "{version}");
    if version < 7 {
        return;
    }
    assert_ne!(response.session_id, 0, "{version}");
    let mut gone = ForgottenTopic::default().with_partitions(vec![1, 99]);
    match version {
        13.. => gone.topic_id = id,
        _ => gone.topic = topic(TOPIC),
    }
    let mut next = request.with_topics(Vec::new());
    next.session_id = response.session_id;
    next.session_epoch = 1;
    next.forgotten_topics_data = vec![gone];
    assert_eq!(sweep.ask(version, &next).error_code, 0, "{version}");
    next.session_id = next.session_id.wrapping_add(1);
    let stranger = sweep.ask(version, &next);
    assert_eq!(
        stranger.error_code, 70,
        "{version}: there is no such session"
    );
}

fn list_offsets(sweep: &mut Sweep) {
    for version in sweep.versions::<ListOffsetsRequest>() {
        let mut times = vec![-1, -2, 1_600_000_000_000, i64::MAX];
        times.extend((version >= 7).then_some(-3));
        times.extend((version >= 8).then_some(-4));
        times.extend((version >= 9).then_some(-5));
        for timestamp in times {
            let part = |index| {
                ListOffsetsPartition::default()
                    .with_partition_index(index)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(timestamp)
            };
            let shelf = ListOffsetsTopic::default()
                .with_name(topic(TOPIC))
                .with_partitions(vec![part(0), part(2), part(99)]);
            let mut request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(vec![shelf]);
            request.timeout_ms = if version >= 10 { 1_000 } else { 0 };
            let response = sweep.ask(version, &request);
            let told = response.topics[0].partitions.iter();
            let codes: Vec<i16> = told.map(|told| told.error_code).collect();
            assert_eq!(codes, [0, 0, 3], "{version} {timestamp}");
        }
    }
}

fn epochs(sweep: &mut Sweep) {
    let make = |version| {
        let part = |index| {
            OffsetForLeaderPartition::default()
                .with_partition(index)
                .with_current_leader_epoch(-1)
                .with_leader_epoch(0)
        };
        let shelf = OffsetForLeaderTopic::default()
            .with_topic(topic(TOPIC))
            .with_partitions(vec![part(0), part(99)]);
        let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![shelf]);
        request.replica_id = BrokerId(if version >= 3 { -1 } else { -2 });
        request
    };
    sweep.each(make, |version, response| {
        let told = &response.topics[0].partitions;
        assert!(
            told[0].end_offset > 10 && told[1].error_code == 3,
            "{version}"
        );
    });
}

fn delete_records(sweep: &mut Sweep) {
    let make = |version| {
        let part = |index, offset| {
            let part = DeleteRecordsPartition::default().with_partition_index(index);
            part.with_offset(offset)
        };
        let shelf = DeleteRecordsTopic::default()
            .with_name(topic(TOPIC))
            .with_partitions(vec![part(0, 1 + i64::from(version)), part(99, 0)]);
        DeleteRecordsRequest::default()
            .with_timeout_ms(30_000)
            .with_topics(vec![shelf])
    };
    sweep.each(make, |version, response| {
        let mut told = response.topics[0].partitions.clone();
        told.sort_by_key(|told| told.partition_index);
        assert_eq!(told[0].low_watermark, 1 + i64::from(version));
        assert_eq!(told[1].error_code, 3);
    });
}

fn producers(sweep: &mut Sweep, producer: i64) {
    let shelf = TopicRequest::default()
        .with_name(topic(TOPIC))
        .with_partition_indexes(vec![0, 1, 99]);
    let request = DescribeProducersRequest::default().with_topics(vec![shelf]);
    let response = sweep.ask(0, &request);
    let told = &response.topics[0].partitions;
    assert_eq!(told[1].active_producers[0].producer_id.0, producer);
    assert_eq!(told[2].error_code, 3);
}
