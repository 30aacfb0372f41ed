//! Our Produce and Fetch codecs against the crate's: the same values, field by field, must be the
//! same bytes, in every version and both directions.

use bytes::{Bytes, BytesMut};
use corelane::base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Prng, ProducerId, TopicId};
use corelane::protocol::fetch::{self, Piece};
use corelane::protocol::header::parse_response_header;
use corelane::protocol::messages::{self as crates, Decodable, Encodable, StrBytes, TopicName};
use corelane::protocol::produce;
use corelane::protocol::{ApiKey, CurrentLeader, ErrorCode, NodeEndpoint, RequestHeader, TopicRef};

/// Random values of the kinds that messages are made of.
struct Values(Prng);

impl Values {
    fn i64(&mut self) -> i64 {
        self.0.next_u64() as i64
    }
    fn i32(&mut self) -> i32 {
        self.0.next_u64() as i32
    }
    fn text(&mut self) -> StrBytes {
        let length = self.0.below(200);
        StrBytes::from_string(
            (0..length)
                .map(|_| ['a', 'ü', '-'][self.0.below(3) as usize])
                .collect(),
        )
    }
    fn option<T>(&mut self, make: impl FnOnce(&mut Values) -> T) -> Option<T> {
        (!self.0.one_in(3)).then(|| make(self))
    }
    fn several<T>(&mut self, mut make: impl FnMut(&mut Values) -> T) -> Vec<T> {
        let count = if self.0.one_in(20) {
            200
        } else {
            self.0.below(4)
        };
        (0..count).map(|_| make(self)).collect()
    }
    fn bytes(&mut self) -> Bytes {
        let mut bytes = vec![0; self.0.below(300) as usize];
        self.0.fill(&mut bytes);
        Bytes::from(bytes)
    }
    fn id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        self.0.fill(&mut id);
        id
    }
    fn topic(&mut self, by_id: bool) -> TopicRef {
        if by_id {
            TopicRef::Id(TopicId(self.id()))
        } else {
            TopicRef::Name(self.text())
        }
    }
    fn error(&mut self) -> ErrorCode {
        ErrorCode::ALL[self.0.below(ErrorCode::ALL.len() as u64) as usize]
    }
    fn index(&mut self) -> PartitionIndex {
        PartitionIndex(self.i32())
    }
    fn offset(&mut self) -> Offset {
        Offset(self.i64())
    }
    fn epoch(&mut self) -> LeaderEpoch {
        LeaderEpoch(self.i32())
    }
    fn leader(&mut self) -> CurrentLeader {
        CurrentLeader {
            leader_id: BrokerId(self.i32()),
            leader_epoch: self.epoch(),
        }
    }
    fn endpoints(&mut self) -> Vec<NodeEndpoint> {
        self.several(|values| NodeEndpoint {
            node_id: BrokerId(values.i32()),
            host: values.text(),
            port: values.i32(),
            rack: values.option(Values::text),
        })
    }
}

fn name(topic: &TopicRef) -> TopicName {
    match topic {
        TopicRef::Name(name) => TopicName(name.clone()),
        TopicRef::Id(_) => TopicName::default(),
    }
}

fn uuid(topic: &TopicRef) -> crates::Uuid {
    match topic {
        TopicRef::Name(_) => crates::Uuid::nil(),
        TopicRef::Id(id) => crates::uuid(*id),
    }
}

fn encoded<M: Encodable>(message: &M, version: i16) -> Bytes {
    crates::encode(ApiKey::Produce, message, version).unwrap()
}

fn client() -> StrBytes {
    StrBytes::from_static_str("crosscheck")
}

/// The body of a request frame, after its size and header were checked.
fn request_body(frame: &Bytes, key: ApiKey, version: i16) -> Bytes {
    assert_eq!(
        i32::from_be_bytes(frame[..4].try_into().unwrap()) as usize,
        frame.len() - 4
    );
    let (header, body) = RequestHeader::parse(&frame.slice(4..)).unwrap();
    let expected = RequestHeader {
        key,
        version,
        correlation_id: 77,
        client_id: client(),
    };
    assert_eq!(header, expected);
    body
}

/// The body of a response frame, after its size and header were checked.
fn response_body(frame: &Bytes, key: ApiKey, version: i16) -> Bytes {
    assert_eq!(
        i32::from_be_bytes(frame[..4].try_into().unwrap()) as usize,
        frame.len() - 4
    );
    let (correlation_id, body) = parse_response_header(&frame.slice(4..), key, version).unwrap();
    assert_eq!(correlation_id, 77);
    body
}

#[test]
fn a_produce_request_is_the_same_bytes_in_every_version() {
    let mut values = Values(Prng::new(11));
    for version in produce::VERSION_MIN..=produce::VERSION_MAX {
        for _ in 0..40 {
            let ours = produce::ProduceRequest {
                transactional_id: values.option(Values::text),
                acks: values.i32() as i16,
                timeout_ms: values.i32(),
                topics: values.several(|values| produce::TopicData {
                    topic: values.topic(version >= 13),
                    partitions: values.several(|values| produce::PartitionData {
                        index: values.index(),
                        records: values.option(Values::bytes),
                    }),
                }),
            };
            let theirs = encoded(&crate_produce_request(&ours), version);
            let frame = ours.frame(version, 77, &client());
            assert_eq!(
                request_body(&frame, ApiKey::Produce, version),
                theirs,
                "{version}"
            );
            assert_eq!(produce::ProduceRequest::decode(&theirs, version), Ok(ours));
        }
    }
}

fn crate_produce_request(ours: &produce::ProduceRequest) -> crates::ProduceRequest {
    use crates::produce_request::{PartitionProduceData, TopicProduceData};
    let partition = |data: &produce::PartitionData| {
        PartitionProduceData::default()
            .with_index(data.index.0)
            .with_records(data.records.clone())
    };
    let topic = |data: &produce::TopicData| {
        TopicProduceData::default()
            .with_name(name(&data.topic))
            .with_topic_id(uuid(&data.topic))
            .with_partition_data(data.partitions.iter().map(partition).collect())
    };
    crates::ProduceRequest::default()
        .with_transactional_id(ours.transactional_id.clone().map(crates::TransactionalId))
        .with_acks(ours.acks)
        .with_timeout_ms(ours.timeout_ms)
        .with_topic_data(ours.topics.iter().map(topic).collect())
}

#[test]
fn a_produce_response_is_the_same_bytes_in_every_version() {
    let mut values = Values(Prng::new(12));
    for version in produce::VERSION_MIN..=produce::VERSION_MAX {
        for _ in 0..40 {
            let ours = produce_response(&mut values, version);
            let theirs = encoded(&crate_produce_response(&ours), version);
            let frame = ours.frame(version, 77);
            assert_eq!(
                response_body(&frame, ApiKey::Produce, version),
                theirs,
                "{version}"
            );
            assert_eq!(produce::ProduceResponse::decode(&theirs, version), Ok(ours));
        }
    }
}

/// With nothing in it that the version does not have.
fn produce_response(values: &mut Values, version: i16) -> produce::ProduceResponse {
    let partition = |values: &mut Values| {
        let mut partition = produce::PartitionResponse::refused(values.index(), values.error());
        partition.base_offset = values.offset();
        partition.log_append_time_ms = values.i64();
        if version >= 5 {
            partition.log_start_offset = values.offset();
        }
        if version >= 8 {
            partition.error_message = values.option(Values::text);
            partition.record_errors = values.several(|values| produce::RecordError {
                batch_index: values.i32(),
                message: values.option(Values::text),
            });
        }
        if version >= 10 {
            partition.current_leader = values.option(Values::leader);
        }
        partition
    };
    produce::ProduceResponse {
        throttle_time_ms: values.i32(),
        topics: values.several(|values| produce::TopicResponse {
            topic: values.topic(version >= 13),
            partitions: values.several(partition),
        }),
        node_endpoints: if version >= 10 {
            values.endpoints()
        } else {
            Vec::new()
        },
    }
}

fn crate_produce_response(ours: &produce::ProduceResponse) -> crates::ProduceResponse {
    use crates::produce_response as theirs;
    let record_error = |error: &produce::RecordError| {
        theirs::BatchIndexAndErrorMessage::default()
            .with_batch_index(error.batch_index)
            .with_batch_index_error_message(error.message.clone())
    };
    let leader = |leader: CurrentLeader| {
        theirs::LeaderIdAndEpoch::default()
            .with_leader_id(leader.leader_id.0.into())
            .with_leader_epoch(leader.leader_epoch.0)
    };
    let partition = |partition: &produce::PartitionResponse| {
        theirs::PartitionProduceResponse::default()
            .with_index(partition.index.0)
            .with_error_code(partition.error.code())
            .with_base_offset(partition.base_offset.0)
            .with_log_append_time_ms(partition.log_append_time_ms)
            .with_log_start_offset(partition.log_start_offset.0)
            .with_record_errors(partition.record_errors.iter().map(record_error).collect())
            .with_error_message(partition.error_message.clone())
            .with_current_leader(partition.current_leader.map(leader).unwrap_or_default())
    };
    let topic = |topic: &produce::TopicResponse| {
        theirs::TopicProduceResponse::default()
            .with_name(name(&topic.topic))
            .with_topic_id(uuid(&topic.topic))
            .with_partition_responses(topic.partitions.iter().map(partition).collect())
    };
    let endpoint = |endpoint: &NodeEndpoint| {
        theirs::NodeEndpoint::default()
            .with_node_id(endpoint.node_id.0.into())
            .with_host(endpoint.host.clone())
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.clone())
    };
    crates::ProduceResponse::default()
        .with_responses(ours.topics.iter().map(topic).collect())
        .with_throttle_time_ms(ours.throttle_time_ms)
        .with_node_endpoints(ours.node_endpoints.iter().map(endpoint).collect())
}

#[test]
fn a_fetch_request_is_the_same_bytes_in_every_version() {
    let mut values = Values(Prng::new(13));
    for version in fetch::VERSION_MIN..=fetch::VERSION_MAX {
        for _ in 0..40 {
            let ours = fetch_request(&mut values, version);
            let theirs = encoded(&crate_fetch_request(&ours, version), version);
            let frame = ours.frame(version, 77, &client());
            assert_eq!(
                request_body(&frame, ApiKey::Fetch, version),
                theirs,
                "{version}"
            );
            assert_eq!(fetch::FetchRequest::decode(&theirs, version), Ok(ours));
        }
    }
}

/// With nothing in it that the version does not have.
fn fetch_request(values: &mut Values, version: i16) -> fetch::FetchRequest {
    let by_id = version >= 13;
    let partition = |values: &mut Values| {
        let mut partition =
            fetch::FetchPartition::new(values.index(), values.offset(), values.i32());
        if version >= 5 {
            partition.log_start_offset = values.offset();
        }
        if version >= 9 {
            partition.current_leader_epoch = values.epoch();
        }
        if version >= 12 {
            partition.last_fetched_epoch = values.epoch();
        }
        if version >= 17 {
            partition.replica_directory_id = values.option(Values::id).unwrap_or_default();
        }
        if version >= 18 {
            partition.high_watermark = values.option(Values::offset).unwrap_or(Offset(i64::MAX));
        }
        partition
    };
    let mut request = fetch::FetchRequest {
        max_wait_ms: values.i32(),
        min_bytes: values.i32(),
        max_bytes: values.i32(),
        isolation_level: values.i32() as i8,
        topics: values.several(|values| fetch::FetchTopic {
            topic: values.topic(by_id),
            partitions: values.several(partition),
        }),
        ..fetch::FetchRequest::default()
    };
    request.replica_id = BrokerId(values.option(Values::i32).unwrap_or(-1));
    if version >= 7 {
        request.session_id = values.i32();
        request.session_epoch = values.i32();
        request.forgotten = values.several(|values| fetch::ForgottenTopic {
            topic: values.topic(by_id),
            partitions: values.several(Values::index),
        });
    }
    if version >= 11 {
        request.rack_id = values.text();
    }
    if version >= 12 {
        request.cluster_id = values.option(Values::text);
    }
    if version >= 15 {
        request.replica_epoch = values.option(Values::i64).unwrap_or(-1);
    }
    request
}

fn crate_fetch_request(ours: &fetch::FetchRequest, version: i16) -> crates::FetchRequest {
    use crates::fetch_request as theirs;
    let partition = |partition: &fetch::FetchPartition| {
        theirs::FetchPartition::default()
            .with_partition(partition.index.0)
            .with_current_leader_epoch(partition.current_leader_epoch.0)
            .with_fetch_offset(partition.fetch_offset.0)
            .with_last_fetched_epoch(partition.last_fetched_epoch.0)
            .with_log_start_offset(partition.log_start_offset.0)
            .with_partition_max_bytes(partition.max_bytes)
            .with_replica_directory_id(crates::Uuid::from_bytes(partition.replica_directory_id))
            .with_high_watermark(partition.high_watermark.0)
    };
    let topic = |topic: &fetch::FetchTopic| {
        theirs::FetchTopic::default()
            .with_topic(name(&topic.topic))
            .with_topic_id(uuid(&topic.topic))
            .with_partitions(topic.partitions.iter().map(partition).collect())
    };
    let forgotten = |topic: &fetch::ForgottenTopic| {
        theirs::ForgottenTopic::default()
            .with_topic(name(&topic.topic))
            .with_topic_id(uuid(&topic.topic))
            .with_partitions(topic.partitions.iter().map(|index| index.0).collect())
    };
    let request = crates::FetchRequest::default()
        .with_cluster_id(ours.cluster_id.clone())
        .with_max_wait_ms(ours.max_wait_ms)
        .with_min_bytes(ours.min_bytes)
        .with_max_bytes(ours.max_bytes)
        .with_isolation_level(ours.isolation_level)
        .with_session_id(ours.session_id)
        .with_session_epoch(ours.session_epoch)
        .with_topics(ours.topics.iter().map(topic).collect())
        .with_forgotten_topics_data(ours.forgotten.iter().map(forgotten).collect())
        .with_rack_id(ours.rack_id.clone());
    if version <= 14 {
        return request.with_replica_id(ours.replica_id.0.into());
    }
    let state = theirs::ReplicaState::default()
        .with_replica_id(ours.replica_id.0.into())
        .with_replica_epoch(ours.replica_epoch);
    request
        .with_replica_id((-1).into())
        .with_replica_state(state)
}

#[test]
fn a_fetch_response_is_the_same_bytes_in_every_version() {
    let mut values = Values(Prng::new(14));
    for version in fetch::VERSION_MIN..=fetch::VERSION_MAX {
        for _ in 0..40 {
            let ours = fetch_response(&mut values, version);
            let theirs = encoded(&crate_fetch_response(&ours), version);
            let mut frame = BytesMut::new();
            for piece in ours.clone().frame(version, 77) {
                match piece {
                    Piece::Bytes(bytes) | Piece::Records(bytes) => frame.extend_from_slice(&bytes),
                }
            }
            let body = response_body(&frame.freeze(), ApiKey::Fetch, version);
            assert_eq!(body, theirs, "{version}");
            assert_eq!(fetch::FetchResponse::decode(&theirs, version), Ok(ours));
        }
    }
}

/// With nothing in it that the version does not have.
fn fetch_response(values: &mut Values, version: i16) -> fetch::FetchResponse<Bytes> {
    let partition = |values: &mut Values| {
        let mut partition = fetch::FetchedPartition::refused(values.index(), values.error());
        partition.high_watermark = values.offset();
        partition.last_stable_offset = values.offset();
        if version >= 5 {
            partition.log_start_offset = values.offset();
        }
        partition.aborted = values.option(|values| {
            values.several(|values| fetch::AbortedTransaction {
                producer_id: ProducerId(values.i64()),
                first_offset: values.offset(),
            })
        });
        if version >= 11 {
            partition.preferred_read_replica = BrokerId(values.i32());
        }
        if version >= 12 {
            partition.diverging_epoch = values.option(|values| fetch::EpochEnd {
                epoch: values.epoch(),
                end_offset: values.offset(),
            });
            partition.current_leader = values.option(Values::leader);
            partition.snapshot_id = values.option(|values| fetch::SnapshotId {
                end_offset: values.offset(),
                epoch: values.epoch(),
            });
        }
        let records = values
            .option(Values::bytes)
            .filter(|records| !records.is_empty());
        partition.records_length = records.as_ref().map_or(0, Bytes::len);
        partition.records = records.into_iter().collect();
        partition
    };
    let mut response = fetch::FetchResponse {
        throttle_time_ms: values.i32(),
        topics: values.several(|values| fetch::FetchedTopic {
            topic: values.topic(version >= 13),
            partitions: values.several(partition),
        }),
        ..fetch::FetchResponse::default()
    };
    if version >= 7 {
        response.error = values.error();
        response.session_id = values.i32();
    }
    if version >= 16 {
        response.node_endpoints = values.endpoints();
    }
    response
}

fn crate_fetch_response(ours: &fetch::FetchResponse<Bytes>) -> crates::FetchResponse {
    use crates::fetch_response as theirs;
    let aborted = |transaction: &fetch::AbortedTransaction| {
        theirs::AbortedTransaction::default()
            .with_producer_id(transaction.producer_id.0.into())
            .with_first_offset(transaction.first_offset.0)
    };
    let end = |end: fetch::EpochEnd| {
        theirs::EpochEndOffset::default()
            .with_epoch(end.epoch.0)
            .with_end_offset(end.end_offset.0)
    };
    let leader = |leader: CurrentLeader| {
        theirs::LeaderIdAndEpoch::default()
            .with_leader_id(leader.leader_id.0.into())
            .with_leader_epoch(leader.leader_epoch.0)
    };
    let snapshot = |id: fetch::SnapshotId| {
        theirs::SnapshotId::default()
            .with_end_offset(id.end_offset.0)
            .with_epoch(id.epoch.0)
    };
    let partition = |partition: &fetch::FetchedPartition<Bytes>| {
        let list = partition
            .aborted
            .as_ref()
            .map(|list| list.iter().map(aborted).collect());
        theirs::PartitionData::default()
            .with_partition_index(partition.index.0)
            .with_error_code(partition.error.code())
            .with_high_watermark(partition.high_watermark.0)
            .with_last_stable_offset(partition.last_stable_offset.0)
            .with_log_start_offset(partition.log_start_offset.0)
            .with_diverging_epoch(partition.diverging_epoch.map(end).unwrap_or_default())
            .with_current_leader(partition.current_leader.map(leader).unwrap_or_default())
            .with_snapshot_id(partition.snapshot_id.map(snapshot).unwrap_or_default())
            .with_aborted_transactions(list)
            .with_preferred_read_replica(partition.preferred_read_replica.0.into())
            .with_records(Some(partition.records.first().cloned().unwrap_or_default()))
    };
    let topic = |topic: &fetch::FetchedTopic<Bytes>| {
        theirs::FetchableTopicResponse::default()
            .with_topic(name(&topic.topic))
            .with_topic_id(uuid(&topic.topic))
            .with_partitions(topic.partitions.iter().map(partition).collect())
    };
    let endpoint = |endpoint: &NodeEndpoint| {
        theirs::NodeEndpoint::default()
            .with_node_id(endpoint.node_id.0.into())
            .with_host(endpoint.host.clone())
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.clone())
    };
    crates::FetchResponse::default()
        .with_throttle_time_ms(ours.throttle_time_ms)
        .with_error_code(ours.error.code())
        .with_session_id(ours.session_id)
        .with_responses(ours.topics.iter().map(topic).collect())
        .with_node_endpoints(ours.node_endpoints.iter().map(endpoint).collect())
}

#[test]
fn a_framed_message_of_the_crate_reads_back_on_the_other_side() {
    let request = crates::HeartbeatRequest::default().with_generation_id(5);
    let frame = crates::encode_request(4, 77, &client(), &request).unwrap();
    let body = request_body(&frame, ApiKey::Heartbeat, 4);
    assert_eq!(
        crates::decode::<crates::HeartbeatRequest>(body, 4),
        Ok(request)
    );
    let response = crates::HeartbeatResponse::default().with_throttle_time_ms(3);
    let frame = crates::reply_frame(ApiKey::Heartbeat, 4, 77, &response).unwrap();
    let body = response_body(&frame, ApiKey::Heartbeat, 4);
    assert_eq!(
        crates::decode_response::<crates::HeartbeatRequest>(body, 4),
        Ok(response)
    );
}

#[test]
fn bytes_after_the_last_field_are_let_pass_as_kafka_does() {
    let body = Bytes::from_static(&[0, 0, 0, 7, 1, 0xaa, 0xbb]);
    let crates_way = crates::ListPartitionReassignmentsRequest::decode(&mut body.clone(), 0);
    assert!(crates_way.is_err(), "not a good sample");
    let body = Bytes::from_static(&[0, 0, 0, 7, 0, 0, 0xaa, 0xbb]);
    let request = crates::decode::<crates::ListPartitionReassignmentsRequest>(body, 0).unwrap();
    assert_eq!((request.timeout_ms, request.topics), (7, None));
}

#[test]
fn a_field_that_the_version_does_not_have_is_an_error_that_says_so() {
    let response = crates::FindCoordinatorResponse::default().with_host(client());
    let refused = crates::reply_frame(ApiKey::FindCoordinator, 5, 1, &response).unwrap_err();
    assert_eq!((refused.key, refused.version), (10, 5));
    assert!(!refused.reason.is_empty());
}
