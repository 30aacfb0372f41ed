//! A tiny blocking Kafka client over the broker's own codecs.

use bytes::Bytes;
use corelane::base::{Offset, PartitionIndex, TopicId};
use corelane::protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition,
};
use corelane::protocol::header::parse_response_header;
use corelane::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use corelane::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use corelane::protocol::messages::delete_topics_request::DeleteTopicState;
use corelane::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use corelane::protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use corelane::protocol::messages::{self, *};
use corelane::protocol::produce::{
    PartitionData, PartitionResponse, ProduceRequest, ProduceResponse, TopicData,
};
use corelane::protocol::{ApiKey, ErrorCode, TopicRef};
use corelane::record::{BatchBuilder, Batches, Codec, Scratch};

use super::wire::Wire;

/// The version of Produce that helpers use; the latest that has topics by name.
pub const PRODUCE: i16 = 12;
/// The version of Fetch that helpers use; the latest that has topics by name.
pub const FETCH: i16 = 12;

/// One connection.
pub struct Client {
    pub wire: Wire,
    next: i32,
}

/// A record as a test compares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn named(topic: &str) -> TopicRef {
    TopicRef::Name(text(topic))
}

/// A batch of one record for each value, without a producer.
pub fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        builder.append(1_700_000_000_000, None, Some(value), &[]);
    }
    builder.finish()
}

/// All records of batches that stand one after the other.
pub fn records(bytes: &[u8]) -> Vec<Read> {
    let mut scratch = Scratch::new();
    let mut all = Vec::new();
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { break };
        batch.verify().expect("a good CRC");
        for record in batch
            .records(&mut scratch, 64 << 20)
            .expect("readable records")
        {
            let record = record.expect("a readable record");
            all.push(Read {
                offset: record.offset.0,
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
            });
        }
    }
    all
}

/// A request to append `records` to one partition.
pub fn produce_request(
    topic: TopicRef,
    partition: i32,
    records: Option<Bytes>,
    acks: i16,
) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: 30_000,
        topics: vec![TopicData {
            topic,
            partitions: vec![PartitionData {
                index: PartitionIndex(partition),
                records,
            }],
        }],
    }
}

/// A request for one partition that waits for nothing.
pub fn fetch_request(topic: TopicRef, partition: i32, from: i64, max_bytes: i32) -> FetchRequest {
    FetchRequest {
        topics: vec![FetchTopic {
            topic,
            partitions: vec![FetchPartition::new(
                PartitionIndex(partition),
                Offset(from),
                max_bytes,
            )],
        }],
        ..FetchRequest::default()
    }
}

impl Client {
    pub fn connect(address: std::net::SocketAddr) -> Client {
        Client {
            wire: Wire::connect(address),
            next: 0,
        }
    }

    fn number(&mut self) -> i32 {
        self.next += 1;
        self.next
    }

    /// The body of the answer to the request numbered `number`; none when the broker has closed.
    fn try_body(&mut self, key: ApiKey, version: i16, number: i32) -> Option<Bytes> {
        let frame = self.wire.try_receive()?;
        let (answered, body) = parse_response_header(&frame, key, version).expect("a header");
        assert_eq!(answered, number, "{key}: the answer to another request");
        Some(body)
    }

    fn body(&mut self, key: ApiKey, version: i16, number: i32) -> Bytes {
        let body = self.try_body(key, version, number);
        body.expect("an answer, not a closed connection")
    }

    /// Any request but Produce and Fetch; none when the broker has closed.
    pub fn try_call<T: messages::Request>(
        &mut self,
        version: i16,
        request: &T,
    ) -> Option<T::Response> {
        let number = self.number();
        let frame = messages::encode_request(version, number, &text("test"), request);
        let frame = frame.expect("a request that the version can say");
        self.wire.try_send(&frame).ok()?;
        let key = ApiKey::from_code(T::KEY).expect("an API");
        let body = self.try_body(key, version, number)?;
        Some(messages::decode_response::<T>(body, version).expect("a response of that version"))
    }

    /// Any request but Produce and Fetch.
    pub fn call<T: messages::Request>(&mut self, version: i16, request: &T) -> T::Response {
        self.try_call(version, request)
            .expect("an answer, not a closed connection")
    }

    /// Sends a Produce request and does not wait.
    pub fn send_produce(&mut self, version: i16, request: &ProduceRequest) -> std::io::Result<i32> {
        let number = self.number();
        self.wire
            .try_send(&request.frame(version, number, &text("test")))?;
        Ok(number)
    }

    /// The next Produce response; none when the broker has closed.
    pub fn receive_produce(&mut self, version: i16) -> Option<(i32, ProduceResponse)> {
        let frame = self.wire.try_receive()?;
        let (number, body) =
            parse_response_header(&frame, ApiKey::Produce, version).expect("a header");
        Some((
            number,
            ProduceResponse::decode(&body, version).expect("a response"),
        ))
    }

    /// A Produce request and its response.
    pub fn produce_with(&mut self, version: i16, request: &ProduceRequest) -> ProduceResponse {
        let number = self.send_produce(version, request).expect("sent");
        let body = self.body(ApiKey::Produce, version, number);
        ProduceResponse::decode(&body, version).expect("a response")
    }

    /// Appends a batch with acks=all and gives what the broker says.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: Vec<u8>) -> PartitionResponse {
        let request = produce_request(named(topic), partition, Some(batch.into()), -1);
        let mut response = self.produce_with(PRODUCE, &request);
        response.topics.remove(0).partitions.remove(0)
    }

    /// Sends a Fetch request and does not wait.
    pub fn send_fetch(&mut self, version: i16, request: &FetchRequest) -> i32 {
        let number = self.number();
        self.wire
            .send(&request.frame(version, number, &text("test")));
        number
    }

    /// The answer to the Fetch request numbered `number`.
    pub fn receive_fetch(&mut self, version: i16, number: i32) -> FetchResponse<Bytes> {
        let body = self.body(ApiKey::Fetch, version, number);
        FetchResponse::decode(&body, version).expect("a response")
    }

    pub fn fetch_with(&mut self, version: i16, request: &FetchRequest) -> FetchResponse<Bytes> {
        let number = self.send_fetch(version, request);
        self.receive_fetch(version, number)
    }

    /// What is there now of one partition.
    pub fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> FetchedPartition<Bytes> {
        let request = fetch_request(named(topic), partition, from, 1 << 20);
        let mut response = self.fetch_with(FETCH, &request);
        response.topics.remove(0).partitions.remove(0)
    }

    /// All bytes of a partition from an offset to its end.
    pub fn read_bytes(&mut self, topic: &str, partition: i32, from: i64) -> Vec<u8> {
        let read = self.try_read_bytes(topic, partition, from);
        read.unwrap_or_else(|(at, error)| panic!("{topic}-{partition} from {at}: {error}"))
    }

    /// As [`Client::read_bytes`]; or where it was refused, and how.
    pub fn try_read_bytes(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
    ) -> Result<Vec<u8>, (i64, ErrorCode)> {
        let (mut all, mut at) = (Vec::new(), from);
        loop {
            let fetched = self.fetch(topic, partition, at);
            if fetched.error != ErrorCode::None {
                return Err((at, fetched.error));
            }
            if at >= fetched.high_watermark.0 {
                return Ok(all);
            }
            let bytes = fetched.records.first().unwrap_or_else(|| {
                panic!(
                    "{topic}-{partition}: nothing at {at} of {}",
                    fetched.high_watermark
                )
            });
            let last = Batches::new(bytes)
                .map_while(Result::ok)
                .last()
                .expect("a whole batch");
            let next = last.header.last_offset().0 + 1;
            assert!(next > at, "{next} after {at}");
            all.extend_from_slice(bytes);
            at = next;
        }
    }

    /// All records of a partition.
    pub fn read_all(&mut self, topic: &str, partition: i32) -> Vec<Read> {
        records(&self.read_bytes(topic, partition, 0))
    }

    /// All records of a partition, from its first offset.
    pub fn read_all_from_start(&mut self, topic: &str, partition: i32) -> Vec<Read> {
        let start = self.fetch(topic, partition, 0).log_start_offset.0.max(0);
        records(&self.read_bytes(topic, partition, start))
            .into_iter()
            .filter(|read| read.offset >= start)
            .collect()
    }

    /// Deletes the records below `offset`; the new first offset.
    pub fn delete_records(&mut self, topic: &str, partition: i32, offset: i64) -> i64 {
        let (error, start) = self
            .try_delete_records(topic, partition, offset)
            .expect("an answer");
        assert_eq!(error, 0);
        start
    }

    /// As [`Client::delete_records`], with the error before it; none when the broker goes away.
    pub fn try_delete_records(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Option<(i16, i64)> {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(partition)
            .with_offset(offset);
        let topic = DeleteRecordsTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default()
            .with_timeout_ms(60_000)
            .with_topics(vec![topic]);
        let response = self.try_call(2, &request)?;
        let answer = &response.topics[0].partitions[0];
        Some((answer.error_code, answer.low_watermark))
    }

    /// Creates a topic and gives its id.
    pub fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicId {
        let mut results = self.create_all(&[name.to_owned()], partitions, configs);
        assert_eq!(results[0].0, 0, "creating {name}");
        results.remove(0).1
    }

    /// Creates topics in one request; error and id of each.
    pub fn create_all(
        &mut self,
        names: &[String],
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Vec<(i16, TopicId)> {
        let config = |(name, value): &(&str, &str)| {
            CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        };
        let topic = |name: &String| {
            CreatableTopic::default()
                .with_name(TopicName(text(name)))
                .with_num_partitions(partitions)
                .with_replication_factor(-1)
                .with_configs(configs.iter().map(config).collect())
        };
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(60_000)
            .with_topics(names.iter().map(topic).collect());
        let response = self.call(7, &request);
        let result = |name: &String| {
            let found = response
                .topics
                .iter()
                .find(|topic| topic.name.0.as_str() == name);
            let found = found.expect("a result for each topic");
            (found.error_code, messages::topic_id(found.topic_id))
        };
        names.iter().map(result).collect()
    }

    /// Creates a topic and gives the error; none when the broker goes away.
    pub fn try_create(&mut self, name: &str, partitions: i32) -> Option<i16> {
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(-1);
        let request = CreateTopicsRequest::default()
            .with_timeout_ms(60_000)
            .with_topics(vec![topic]);
        Some(self.try_call(7, &request)?.topics[0].error_code)
    }

    /// Deletes a topic by name and gives the error.
    pub fn delete(&mut self, name: &str) -> i16 {
        self.try_delete(name).expect("an answer")
    }

    /// As [`Client::delete`]; none when the broker goes away.
    pub fn try_delete(&mut self, name: &str) -> Option<i16> {
        let state = DeleteTopicState::default().with_name(Some(TopicName(text(name))));
        let request = DeleteTopicsRequest::default()
            .with_timeout_ms(60_000)
            .with_topics(vec![state]);
        Some(self.try_call(6, &request)?.responses[0].error_code)
    }

    /// A new producer id.
    pub fn producer_id(&mut self) -> (i64, i16) {
        let response = self.call(
            4,
            &InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(60_000)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1),
        );
        assert_eq!(response.error_code, 0);
        (response.producer_id.0, response.producer_epoch)
    }

    /// One answer of ListOffsets.
    pub fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let answer = self.try_list_offset(topic, partition, timestamp);
        answer.expect("an answer, not a closed connection")
    }

    /// As [`Client::list_offset`]; none when the broker goes away.
    pub fn try_list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Option<ListOffsetsPartitionResponse> {
        let wish = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![wish]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_topics(vec![topic]);
        Some(self.try_call(9, &request)?.topics[0].partitions[0].clone())
    }

    /// Metadata of named topics, none for all.
    pub fn metadata(&mut self, topics: Option<&[&str]>, create: bool) -> MetadataResponse {
        let topic = |name: &&str| {
            metadata_request::MetadataRequestTopic::default().with_name(Some(TopicName(text(name))))
        };
        let request = MetadataRequest::default()
            .with_allow_auto_topic_creation(create)
            .with_topics(topics.map(|names| names.iter().map(topic).collect()));
        self.call(12, &request)
    }
}
