//! Produce (key 0), versions 3 to 13, both directions, without a copy of the records.
//!
//! | version | what it added |
//! |---|---|
//! | 3 | transactional id; record batches v2 only (KIP-98) |
//! | 5 | response: log start offset |
//! | 7 | zstd may be sent (KIP-110) |
//! | 8 | response: record errors and error message (KIP-467) |
//! | 9 | flexible (KIP-482) |
//! | 10 | response, tagged: current leader, node endpoints (KIP-951) |
//! | 11, 12 | more error codes; partitions join a transaction by themselves (KIP-890) |
//! | 13 | topics by id (KIP-516) |
//!
//! Knows nothing of what is inside records. Truth: apache/kafka `ProduceRequest.json`,
//! `ProduceResponse.json`.

use bytes::Bytes;

use super::api::{ApiKey, decodable_max, is_flexible};
use super::error::ErrorCode;
use super::header::{RequestHeader, response_header_size, write_response_header};
use super::malformed::Malformed;
use super::messages::StrBytes;
use super::reader::Reader;
pub use super::topic::{CurrentLeader, NodeEndpoint, TopicRef};
use super::writer::Writer;
use crate::base::{Offset, PartitionIndex};

/// The lowest version that there is a codec for.
pub const VERSION_MIN: i16 = 3;
/// The highest version that there is a codec for.
pub const VERSION_MAX: i16 = decodable_max(ApiKey::Produce);

/// A request to append records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The transactional id, if the records belong to a transaction.
    pub transactional_id: Option<StrBytes>,
    /// What to wait for: 0 nothing (and no response), 1 the leader, -1 all in-sync replicas.
    /// Anything else is for the caller to refuse.
    pub acks: i16,
    /// How long to wait for the replicas, in milliseconds.
    pub timeout_ms: i32,
    /// The records, by topic.
    pub topics: Vec<TopicData>,
}

/// The records for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicData {
    /// The topic.
    pub topic: TopicRef,
    /// The records, by partition.
    pub partitions: Vec<PartitionData>,
}

/// The records for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionData {
    /// The partition.
    pub index: PartitionIndex,
    /// The records, a slice of the frame that they came in. Null is for the caller to refuse.
    pub records: Option<Bytes>,
}

/// The answer to a [`ProduceRequest`], in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// What happened, by topic.
    pub topics: Vec<TopicResponse>,
    /// For how long the client was throttled by a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// Where the leaders are that the partitions name; sent from version 10 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

/// What happened to the records for one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicResponse {
    /// The topic, in the form in which the request named it.
    pub topic: TopicRef,
    /// What happened, by partition.
    pub partitions: Vec<PartitionResponse>,
}

/// What happened to the records for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResponse {
    /// The partition.
    pub index: PartitionIndex,
    /// The error, or none. A code that is not known reads as `UnknownServerError`, as in Kafka's
    /// clients.
    pub error: ErrorCode,
    /// The offset of the first record; -1 with an error.
    pub base_offset: Offset,
    /// When the broker appended, in milliseconds since 1970; -1 where records keep their own time.
    pub log_append_time_ms: i64,
    /// Where the log starts; sent from version 5 on, -1 when not known.
    pub log_start_offset: Offset,
    /// The records that made the broker refuse the batch; sent from version 8 on.
    pub record_errors: Vec<RecordError>,
    /// Why the batch was refused, in words; sent from version 8 on.
    pub error_message: Option<StrBytes>,
    /// Who leads the partition instead; sent from version 10 on.
    pub current_leader: Option<CurrentLeader>,
}

impl PartitionResponse {
    /// The records were appended from `base_offset` on.
    pub fn appended(index: PartitionIndex, base_offset: Offset) -> PartitionResponse {
        PartitionResponse {
            base_offset,
            ..PartitionResponse::refused(index, ErrorCode::None)
        }
    }

    /// The records were not appended.
    pub fn refused(index: PartitionIndex, error: ErrorCode) -> PartitionResponse {
        PartitionResponse {
            index,
            error,
            base_offset: Offset(-1),
            log_append_time_ms: -1,
            log_start_offset: Offset(-1),
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }
}

/// A record that made the broker refuse its batch (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in the batch, 0 or greater.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<StrBytes>,
}

/// What a version decides about the form of the message.
#[derive(Clone, Copy)]
struct Form {
    version: i16,
    compact: bool,
    by_id: bool,
}

impl Form {
    fn of(version: i16) -> Result<Form, Malformed> {
        if !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            return Err(Malformed::UnknownVersion {
                key: ApiKey::Produce.code(),
                version,
            });
        }
        let compact = is_flexible(ApiKey::Produce, version);
        Ok(Form {
            version,
            compact,
            by_id: version >= 13,
        })
    }

    /// For writing: we choose the version, so a wrong one is a bug.
    fn to_write(version: i16) -> Form {
        Form::of(version).unwrap_or_else(|malformed| panic!("{malformed}"))
    }
}

impl ProduceRequest {
    /// Decodes a body. Names and records are slices of it.
    pub fn decode(body: &Bytes, version: i16) -> Result<ProduceRequest, Malformed> {
        let form = Form::of(version)?;
        let mut reader = Reader::new(body);
        let transactional_id = reader.nullable_text(form.compact)?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let (count, mut topics) = reader.array_of(form.compact, 3)?;
        for _ in 0..count {
            topics.push(TopicData::read(&mut reader, form)?);
        }
        reader.skip_tagged_fields(form.compact)?;
        Ok(ProduceRequest {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        })
    }

    /// A whole request frame: size, header, body. The records are copied into it.
    pub fn frame(&self, version: i16, correlation_id: i32, client_id: &StrBytes) -> Bytes {
        let form = Form::to_write(version);
        let header = RequestHeader {
            key: ApiKey::Produce,
            version,
            correlation_id,
            client_id: client_id.clone(),
        };
        let mut writer = Writer::with_capacity(self.size_max() + client_id.len() + 16);
        writer.begin_frame();
        header.write(&mut writer);
        writer.nullable_text(form.compact, self.transactional_id.as_deref());
        writer.i16(self.acks);
        writer.i32(self.timeout_ms);
        writer.length(form.compact, Some(self.topics.len()));
        self.topics
            .iter()
            .for_each(|topic| topic.write(&mut writer, form));
        writer.no_tagged_fields(form.compact);
        writer.finish_frame(0)
    }

    /// Bytes that the body takes, at most.
    fn size_max(&self) -> usize {
        let partition = |data: &PartitionData| 10 + data.records.as_ref().map_or(0, Bytes::len);
        let topic = |data: &TopicData| {
            data.topic.size_max() + 6 + data.partitions.iter().map(partition).sum::<usize>()
        };
        16 + self.transactional_id.as_ref().map_or(0, |id| id.len())
            + self.topics.iter().map(topic).sum::<usize>()
    }
}

impl TopicData {
    fn read(reader: &mut Reader, form: Form) -> Result<TopicData, Malformed> {
        let topic = TopicRef::read(reader, form.by_id, form.compact)?;
        let (count, mut partitions) = reader.array_of(form.compact, 6)?;
        for _ in 0..count {
            let index = PartitionIndex(reader.i32()?);
            let records = reader.nullable_bytes(form.compact)?;
            reader.skip_tagged_fields(form.compact)?;
            partitions.push(PartitionData { index, records });
        }
        reader.skip_tagged_fields(form.compact)?;
        Ok(TopicData { topic, partitions })
    }

    fn write(&self, writer: &mut Writer, form: Form) {
        self.topic.write(writer, form.by_id, form.compact);
        writer.length(form.compact, Some(self.partitions.len()));
        for partition in &self.partitions {
            writer.i32(partition.index.0);
            writer.nullable_bytes(form.compact, partition.records.as_deref());
            writer.no_tagged_fields(form.compact);
        }
        writer.no_tagged_fields(form.compact);
    }
}

impl ProduceResponse {
    /// A whole response frame: size, header, body. What the version does not have is left out.
    /// Panics when the version has no codec, or wants topics in the other form.
    pub fn frame(&self, version: i16, correlation_id: i32) -> Bytes {
        let form = Form::to_write(version);
        let mut writer = Writer::with_capacity(self.size_guess(version));
        writer.begin_frame();
        write_response_header(&mut writer, ApiKey::Produce, version, correlation_id);
        writer.length(form.compact, Some(self.topics.len()));
        for topic in &self.topics {
            topic.topic.write(&mut writer, form.by_id, form.compact);
            writer.length(form.compact, Some(topic.partitions.len()));
            topic
                .partitions
                .iter()
                .for_each(|partition| partition.write(&mut writer, form));
            writer.no_tagged_fields(form.compact);
        }
        writer.i32(self.throttle_time_ms);
        if version >= 10 {
            NodeEndpoint::write_as_tag(&self.node_endpoints, &mut writer);
        } else {
            writer.no_tagged_fields(form.compact);
        }
        writer.finish_frame(0)
    }

    /// Bytes that the frame takes when nothing went wrong.
    fn size_guess(&self, version: i16) -> usize {
        let topic =
            |topic: &TopicResponse| topic.topic.size_max() + 6 + 44 * topic.partitions.len();
        let header = response_header_size(ApiKey::Produce, version);
        header + 16 + self.topics.iter().map(topic).sum::<usize>()
    }

    /// Decodes a body.
    pub fn decode(body: &Bytes, version: i16) -> Result<ProduceResponse, Malformed> {
        let form = Form::of(version)?;
        let mut reader = Reader::new(body);
        let (count, mut topics) = reader.array_of(form.compact, 3)?;
        for _ in 0..count {
            topics.push(TopicResponse::read(&mut reader, form)?);
        }
        let throttle_time_ms = reader.i32()?;
        let mut node_endpoints = Vec::new();
        reader.tagged_fields(form.compact, |tag, reader| {
            if tag != 0 || version < 10 {
                return Ok(false);
            }
            node_endpoints = NodeEndpoint::read_all(reader)?;
            Ok(true)
        })?;
        Ok(ProduceResponse {
            topics,
            throttle_time_ms,
            node_endpoints,
        })
    }
}

impl TopicResponse {
    fn read(reader: &mut Reader, form: Form) -> Result<TopicResponse, Malformed> {
        let topic = TopicRef::read(reader, form.by_id, form.compact)?;
        let (count, mut partitions) = reader.array_of(form.compact, 22)?;
        for _ in 0..count {
            partitions.push(PartitionResponse::read(reader, form)?);
        }
        reader.skip_tagged_fields(form.compact)?;
        Ok(TopicResponse { topic, partitions })
    }
}

impl PartitionResponse {
    fn read(reader: &mut Reader, form: Form) -> Result<PartitionResponse, Malformed> {
        let index = PartitionIndex(reader.i32()?);
        let error = reader.error()?;
        let mut partition = PartitionResponse::refused(index, error);
        partition.base_offset = Offset(reader.i64()?);
        partition.log_append_time_ms = reader.i64()?;
        if form.version >= 5 {
            partition.log_start_offset = Offset(reader.i64()?);
        }
        if form.version >= 8 {
            partition.record_errors = RecordError::read_all(reader, form)?;
            partition.error_message = reader.nullable_text(form.compact)?;
        }
        reader.tagged_fields(form.compact, |tag, reader| {
            if tag != 0 || form.version < 10 {
                return Ok(false);
            }
            partition.current_leader = Some(CurrentLeader::read(reader)?);
            Ok(true)
        })?;
        Ok(partition)
    }

    fn write(&self, writer: &mut Writer, form: Form) {
        writer.i32(self.index.0);
        writer.i16(self.error.code());
        writer.i64(self.base_offset.0);
        writer.i64(self.log_append_time_ms);
        if form.version >= 5 {
            writer.i64(self.log_start_offset.0);
        }
        if form.version >= 8 {
            writer.length(form.compact, Some(self.record_errors.len()));
            for error in &self.record_errors {
                writer.i32(error.batch_index);
                writer.nullable_text(form.compact, error.message.as_deref());
                writer.no_tagged_fields(form.compact);
            }
            writer.nullable_text(form.compact, self.error_message.as_deref());
        }
        match self.current_leader.filter(|_| form.version >= 10) {
            Some(leader) => {
                writer.uvarint(1);
                writer.tagged_field(0, |writer| leader.write(writer));
            }
            None => writer.no_tagged_fields(form.compact),
        }
    }
}

impl RecordError {
    fn read_all(reader: &mut Reader, form: Form) -> Result<Vec<RecordError>, Malformed> {
        let (count, mut errors) = reader.array_of(form.compact, 6)?;
        for _ in 0..count {
            let batch_index = reader.i32()?;
            let message = reader.nullable_text(form.compact)?;
            reader.skip_tagged_fields(form.compact)?;
            errors.push(RecordError {
                batch_index,
                message,
            });
        }
        Ok(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_where_they_are() {
        let request = ProduceRequest {
            acks: -1,
            topics: vec![TopicData {
                topic: TopicRef::Name(StrBytes::from_static_str("t")),
                partitions: vec![PartitionData {
                    index: PartitionIndex(3),
                    records: Some(Bytes::from_static(b"records")),
                }],
            }],
            ..ProduceRequest::default()
        };
        let frame = request.frame(9, 1, &StrBytes::from_static_str("me"));
        let (header, body) = RequestHeader::parse(&frame.slice(4..)).unwrap();
        let decoded = ProduceRequest::decode(&body, header.version).unwrap();
        assert_eq!(decoded, request);
        let records = decoded.topics[0].partitions[0].records.clone().unwrap();
        let inside = frame.as_ptr_range();
        assert!(
            inside.contains(&records.as_ptr()),
            "the records were copied"
        );
    }

    #[test]
    fn a_version_without_a_codec_is_refused() {
        for version in [-1, 0, 2, 14] {
            let refused = ProduceRequest::decode(&Bytes::new(), version).unwrap_err();
            assert_eq!(refused, Malformed::UnknownVersion { key: 0, version });
        }
    }

    #[test]
    fn a_topic_array_of_bare_names_is_refused_before_it_fills_the_memory() {
        // acks, timeout and four million topics with an empty name and no partitions.
        let count = 4_000_000u32;
        let mut writer = Writer::default();
        writer.nullable_text(true, None);
        writer.i16(1);
        writer.i32(0);
        writer.length(true, Some(count as usize));
        writer.raw(&vec![1; 3 * count as usize]);
        let refused = ProduceRequest::decode(&writer.finish(), 9).unwrap_err();
        assert!(
            matches!(refused, Malformed::TooManyElements { .. }),
            "{refused}"
        );
    }
}
