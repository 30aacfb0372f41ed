//! Reading: offsets by time, and records from an offset on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Client, ClientError, Topic, error_of};
use crate::base::{BrokerId, Offset, PartitionIndex};
use crate::protocol::fetch::{self, FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use crate::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::{ListOffsetsRequest, StrBytes, TopicName};
use crate::protocol::{ApiKey, ErrorCode, TopicRef};

/// Bytes that one partition's part of an answer may have, the first batch excepted.
const PARTITION_BYTES_MAX: i32 = 1 << 20;
/// Bytes that one answer may have, the first batch excepted.
const ANSWER_BYTES_MAX: i32 = 16 << 20;
/// The last version that names topics and not their ids.
const FETCH_VERSION_MAX: i16 = 12;

/// Where to read on in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset wanted.
    pub offset: Offset,
}

/// What was read of a partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset after the last record that may be read.
    pub high_watermark: Offset,
    /// Whole batches; the first may begin below the offset asked for, the last may be cut off.
    pub records: Vec<Bytes>,
}

impl Client {
    /// For each partition of `topic` that is wanted, the offset for a timestamp (milliseconds since
    /// the Unix epoch, -2 for the first offset, -1 for the end); -1 where nothing is that late.
    pub fn offsets(
        &mut self,
        topic: &Topic,
        partitions: &[PartitionIndex],
        timestamp: i64,
    ) -> Result<BTreeMap<PartitionIndex, Offset>, ClientError> {
        let mut found = BTreeMap::new();
        for (leader, partitions) in by_leader(topic, partitions)? {
            let asked = partitions.iter().map(|partition| {
                ListOffsetsPartition::default()
                    .with_partition_index(partition.0)
                    .with_timestamp(timestamp)
            });
            let asked = ListOffsetsTopic::default()
                .with_name(TopicName(StrBytes::from_string(topic.name.clone())))
                .with_partitions(asked.collect());
            let request = ListOffsetsRequest::default()
                .with_replica_id(crate::protocol::messages::BrokerId(-1))
                .with_topics(vec![asked]);
            // Version 10 adds a timeout that nobody needs here.
            let response = self.broker(leader)?.call(&request, 9)?;
            for told in response.topics.iter().flat_map(|topic| &topic.partitions) {
                if told.error_code != 0 {
                    let what = format!("offsets of {}-{}", topic.name, told.partition_index);
                    return Err(ClientError::refused(what, error_of(told.error_code), None));
                }
                found.insert(PartitionIndex(told.partition_index), Offset(told.offset));
            }
        }
        Ok(found)
    }

    /// Reads from all `positions`, waiting up to `wait` at each leader for a first record.
    pub fn fetch(
        &mut self,
        topic: &Topic,
        positions: &[Position],
        wait: Duration,
    ) -> Result<Vec<Fetched>, ClientError> {
        let mut fetched = Vec::new();
        let partitions: Vec<_> = positions.iter().map(|at| at.partition).collect();
        for (leader, partitions) in by_leader(topic, &partitions)? {
            let wanted = positions
                .iter()
                .filter(|at| partitions.contains(&at.partition));
            let wanted =
                wanted.map(|at| FetchPartition::new(at.partition, at.offset, PARTITION_BYTES_MAX));
            let name = TopicRef::Name(StrBytes::from_string(topic.name.clone()));
            let request = FetchRequest {
                max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
                min_bytes: 1,
                max_bytes: ANSWER_BYTES_MAX,
                topics: vec![FetchTopic {
                    topic: name,
                    partitions: wanted.collect(),
                }],
                ..FetchRequest::default()
            };
            let response = self.fetch_from(leader, &request)?;
            if !response.error.is_none() {
                return Err(ClientError::refused("fetch", response.error, None));
            }
            for told in response
                .topics
                .into_iter()
                .flat_map(|topic| topic.partitions)
            {
                if !told.error.is_none() {
                    let what = format!("fetch of {}-{}", topic.name, told.index);
                    return Err(ClientError::refused(what, told.error, None));
                }
                fetched.push(Fetched {
                    partition: told.index,
                    high_watermark: told.high_watermark,
                    records: told.records,
                });
            }
        }
        Ok(fetched)
    }

    fn fetch_from(
        &mut self,
        leader: BrokerId,
        request: &FetchRequest,
    ) -> Result<FetchResponse<Bytes>, ClientError> {
        let connection = self.broker(leader)?;
        let key = ApiKey::Fetch;
        let version = connection.version(key, fetch::VERSION_MIN, FETCH_VERSION_MAX)?;
        let id = connection.next_correlation_id();
        let frame = request.frame(version, id, connection.client_id());
        connection.send(&frame)?;
        let body = connection.receive(key, version, id)?;
        FetchResponse::decode(&body, version).map_err(|malformed| connection.broken(malformed))
    }
}

/// The partitions, by who leads them.
pub(super) fn by_leader(
    topic: &Topic,
    partitions: &[PartitionIndex],
) -> Result<BTreeMap<BrokerId, Vec<PartitionIndex>>, ClientError> {
    let mut leaders: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for wanted in partitions {
        let known = topic
            .partitions
            .iter()
            .find(|partition| partition.index == *wanted);
        let what = || format!("partition {}-{wanted}", topic.name);
        let Some(known) = known else {
            let error = ErrorCode::UnknownTopicOrPartition;
            return Err(ClientError::refused(what(), error, None));
        };
        if known.leader.0 < 0 {
            return Err(ClientError::refused(
                what(),
                ErrorCode::LeaderNotAvailable,
                None,
            ));
        }
        leaders.entry(known.leader).or_default().push(*wanted);
    }
    Ok(leaders)
}
