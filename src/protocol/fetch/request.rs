//! The request of Fetch.

use bytes::Bytes;

use super::{Form, TopicRef};
use crate::base::{BrokerId, LeaderEpoch, Offset, PartitionIndex};
use crate::protocol::api::ApiKey;
use crate::protocol::header::RequestHeader;
use crate::protocol::malformed::Malformed;
use crate::protocol::messages::StrBytes;
use crate::protocol::reader::Reader;
use crate::protocol::writer::Writer;

/// A request for records, from a consumer or from a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The cluster that the sender believes to be in (from version 12).
    pub cluster_id: Option<StrBytes>,
    /// The follower that asks; -1 for a consumer.
    pub replica_id: BrokerId,
    /// The follower's broker epoch (from version 15), -1 when there is none.
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes to wait for.
    pub min_bytes: i32,
    /// How many bytes to answer at most, the first batch excepted (KIP-74).
    pub max_bytes: i32,
    /// 0 read uncommitted, 1 read committed; anything else is for the caller to refuse.
    pub isolation_level: i8,
    /// The fetch session, 0 for none (from version 7).
    pub session_id: i32,
    /// The number of this request in its session, -1 for none, 0 to begin one (from version 7).
    pub session_epoch: i32,
    /// The partitions to fetch, or in a session those that changed; their order matters.
    pub topics: Vec<FetchTopic>,
    /// The partitions to drop from the session (from version 7).
    pub forgotten: Vec<ForgottenTopic>,
    /// The consumer's rack, empty for none (from version 11).
    pub rack_id: StrBytes,
}

impl Default for FetchRequest {
    /// A consumer's request without a session, for nothing.
    fn default() -> FetchRequest {
        FetchRequest {
            cluster_id: None,
            replica_id: BrokerId(-1),
            replica_epoch: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten: Vec::new(),
            rack_id: StrBytes::new(),
        }
    }
}

/// The partitions to fetch of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// One partition to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition.
    pub index: PartitionIndex,
    /// The leader epoch that the sender knows, -1 not to check it (from version 9).
    pub current_leader_epoch: LeaderEpoch,
    /// The first offset to answer.
    pub fetch_offset: Offset,
    /// The epoch of the last record that the sender has, -1 for none (from version 12).
    pub last_fetched_epoch: LeaderEpoch,
    /// Where the follower's log starts, -1 from a consumer (from version 5).
    pub log_start_offset: Offset,
    /// How many bytes to answer at most, the first batch excepted.
    pub max_bytes: i32,
    /// The follower's log directory, all zeros for none (from version 17).
    pub replica_directory_id: [u8; 16],
    /// The high watermark that the follower knows, `i64::MAX` when it does not say (version 18).
    pub high_watermark: Offset,
}

impl FetchPartition {
    /// A consumer's wish for `index` from `fetch_offset` on.
    pub fn new(index: PartitionIndex, fetch_offset: Offset, max_bytes: i32) -> FetchPartition {
        FetchPartition {
            index,
            current_leader_epoch: LeaderEpoch(-1),
            fetch_offset,
            last_fetched_epoch: LeaderEpoch(-1),
            log_start_offset: Offset(-1),
            max_bytes,
            replica_directory_id: [0; 16],
            high_watermark: Offset(i64::MAX),
        }
    }
}

/// The partitions of one topic to drop from the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// The topic.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<PartitionIndex>,
}

impl FetchRequest {
    /// True when the request comes from a follower.
    pub fn is_from_follower(&self) -> bool {
        self.replica_id.0 >= 0
    }

    /// Decodes a body. Strings are slices of it.
    pub fn decode(body: &Bytes, version: i16) -> Result<FetchRequest, Malformed> {
        let form = Form::of(version)?;
        let mut reader = Reader::new(body);
        let mut request = FetchRequest::default();
        if version <= 14 {
            request.replica_id = BrokerId(reader.i32()?);
        }
        request.max_wait_ms = reader.i32()?;
        request.min_bytes = reader.i32()?;
        request.max_bytes = reader.i32()?;
        request.isolation_level = reader.i8()?;
        if version >= 7 {
            request.session_id = reader.i32()?;
            request.session_epoch = reader.i32()?;
        }
        request.topics = FetchTopic::read_all(&mut reader, form)?;
        if version >= 7 {
            request.forgotten = ForgottenTopic::read_all(&mut reader, form)?;
        }
        if version >= 11 {
            request.rack_id = reader.text(form.compact)?;
        }
        request.read_tagged(&mut reader, form)?;
        Ok(request)
    }

    fn read_tagged(&mut self, reader: &mut Reader, form: Form) -> Result<(), Malformed> {
        reader.tagged_fields(form.compact, |tag, reader| {
            match tag {
                0 => self.cluster_id = reader.nullable_text(true)?,
                1 if form.version >= 15 => {
                    self.replica_id = BrokerId(reader.i32()?);
                    self.replica_epoch = reader.i64()?;
                    reader.skip_tagged_fields(true)?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })
    }

    /// A whole request frame: size, header, body. What the version does not have is left out.
    /// Panics when the version has no codec, or wants topics in the other form.
    pub fn frame(&self, version: i16, correlation_id: i32, client_id: &StrBytes) -> Bytes {
        let form = Form::to_write(version);
        let key = ApiKey::Fetch;
        let header = RequestHeader {
            key,
            version,
            correlation_id,
            client_id: client_id.clone(),
        };
        let mut writer = Writer::with_capacity(self.size_guess() + client_id.len());
        writer.begin_frame();
        header.write(&mut writer);
        if version <= 14 {
            writer.i32(self.replica_id.0);
        }
        writer.i32(self.max_wait_ms);
        writer.i32(self.min_bytes);
        writer.i32(self.max_bytes);
        writer.i8(self.isolation_level);
        if version >= 7 {
            writer.i32(self.session_id);
            writer.i32(self.session_epoch);
        }
        writer.length(form.compact, Some(self.topics.len()));
        self.topics
            .iter()
            .for_each(|topic| topic.write(&mut writer, form));
        if version >= 7 {
            writer.length(form.compact, Some(self.forgotten.len()));
            self.forgotten
                .iter()
                .for_each(|topic| topic.write(&mut writer, form));
        }
        if version >= 11 {
            writer.text(form.compact, &self.rack_id);
        }
        self.write_tagged(&mut writer, form);
        writer.finish_frame(0)
    }

    fn write_tagged(&self, writer: &mut Writer, form: Form) {
        if !form.compact {
            return;
        }
        let follower = self.replica_id.0 != -1 || self.replica_epoch != -1;
        let state = form.version >= 15 && follower;
        writer.uvarint(u32::from(self.cluster_id.is_some()) + u32::from(state));
        if let Some(cluster_id) = &self.cluster_id {
            writer.tagged_field(0, |writer| writer.text(true, cluster_id));
        }
        if state {
            writer.tagged_field(1, |writer| {
                writer.i32(self.replica_id.0);
                writer.i64(self.replica_epoch);
                writer.no_tagged_fields(true);
            });
        }
    }

    fn size_guess(&self) -> usize {
        let topic = |topic: &FetchTopic| topic.topic.size_max() + 6 + 34 * topic.partitions.len();
        64 + self.topics.iter().map(topic).sum::<usize>()
    }
}

impl FetchTopic {
    fn read_all(reader: &mut Reader, form: Form) -> Result<Vec<FetchTopic>, Malformed> {
        let (count, mut topics) = reader.array_of(form.compact, 3)?;
        for _ in 0..count {
            let topic = TopicRef::read(reader, form.by_id, form.compact)?;
            let (count, mut partitions) = reader.array_of(form.compact, 16)?;
            for _ in 0..count {
                partitions.push(FetchPartition::read(reader, form)?);
            }
            reader.skip_tagged_fields(form.compact)?;
            topics.push(FetchTopic { topic, partitions });
        }
        Ok(topics)
    }

    fn write(&self, writer: &mut Writer, form: Form) {
        self.topic.write(writer, form.by_id, form.compact);
        writer.length(form.compact, Some(self.partitions.len()));
        self.partitions
            .iter()
            .for_each(|partition| partition.write(writer, form));
        writer.no_tagged_fields(form.compact);
    }
}

impl FetchPartition {
    fn read(reader: &mut Reader, form: Form) -> Result<FetchPartition, Malformed> {
        let index = PartitionIndex(reader.i32()?);
        let mut partition = FetchPartition::new(index, Offset(0), 0);
        if form.version >= 9 {
            partition.current_leader_epoch = LeaderEpoch(reader.i32()?);
        }
        partition.fetch_offset = Offset(reader.i64()?);
        if form.version >= 12 {
            partition.last_fetched_epoch = LeaderEpoch(reader.i32()?);
        }
        if form.version >= 5 {
            partition.log_start_offset = Offset(reader.i64()?);
        }
        partition.max_bytes = reader.i32()?;
        reader.tagged_fields(form.compact, |tag, reader| {
            match tag {
                0 if form.version >= 17 => partition.replica_directory_id = reader.topic_id()?.0,
                1 if form.version >= 18 => partition.high_watermark = Offset(reader.i64()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(partition)
    }

    fn write(&self, writer: &mut Writer, form: Form) {
        writer.i32(self.index.0);
        if form.version >= 9 {
            writer.i32(self.current_leader_epoch.0);
        }
        writer.i64(self.fetch_offset.0);
        if form.version >= 12 {
            writer.i32(self.last_fetched_epoch.0);
        }
        if form.version >= 5 {
            writer.i64(self.log_start_offset.0);
        }
        writer.i32(self.max_bytes);
        if form.compact {
            self.write_tagged(writer, form);
        }
    }

    fn write_tagged(&self, writer: &mut Writer, form: Form) {
        let directory = form.version >= 17 && self.replica_directory_id != [0; 16];
        let watermark = form.version >= 18 && self.high_watermark.0 != i64::MAX;
        writer.uvarint(u32::from(directory) + u32::from(watermark));
        if directory {
            writer.tagged_field(0, |writer| writer.raw(&self.replica_directory_id));
        }
        if watermark {
            writer.tagged_field(1, |writer| writer.i64(self.high_watermark.0));
        }
    }
}

impl ForgottenTopic {
    fn read_all(reader: &mut Reader, form: Form) -> Result<Vec<ForgottenTopic>, Malformed> {
        let (count, mut topics) = reader.array_of(form.compact, 3)?;
        for _ in 0..count {
            let topic = TopicRef::read(reader, form.by_id, form.compact)?;
            let (count, mut partitions) = reader.array_of(form.compact, 4)?;
            for _ in 0..count {
                partitions.push(PartitionIndex(reader.i32()?));
            }
            reader.skip_tagged_fields(form.compact)?;
            topics.push(ForgottenTopic { topic, partitions });
        }
        Ok(topics)
    }

    fn write(&self, writer: &mut Writer, form: Form) {
        self.topic.write(writer, form.by_id, form.compact);
        writer.length(form.compact, Some(self.partitions.len()));
        self.partitions
            .iter()
            .for_each(|partition| writer.i32(partition.0));
        writer.no_tagged_fields(form.compact);
    }
}
