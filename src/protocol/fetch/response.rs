//! The response of Fetch, generic over where the records are: in memory, in a file, anywhere.

use bytes::Bytes;

use super::{CurrentLeader, Form, NodeEndpoint, TopicRef};
use crate::base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId};
use crate::protocol::api::ApiKey;
use crate::protocol::error::ErrorCode;
use crate::protocol::header::{response_header_size, write_response_header};
use crate::protocol::malformed::Malformed;
use crate::protocol::reader::Reader;
use crate::protocol::writer::Writer;

/// A part of a response frame, to be sent in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<R> {
    /// Bytes of the message; the first piece of a frame begins with the frame's size.
    Bytes(Bytes),
    /// Records, as the caller gave them.
    Records(R),
}

/// The answer to a [`super::FetchRequest`]. `R` says where records are; a decoded response has
/// slices of its frame there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse<R> {
    /// For how long the client was throttled by a quota, in milliseconds.
    pub throttle_time_ms: i32,
    /// An error of the whole request, such as of its session (from version 7).
    pub error: ErrorCode,
    /// The fetch session, 0 for none (from version 7).
    pub session_id: i32,
    /// The records, by topic.
    pub topics: Vec<FetchedTopic<R>>,
    /// Where the leaders are that the partitions name; sent from version 16 on.
    pub node_endpoints: Vec<NodeEndpoint>,
}

impl<R> Default for FetchResponse<R> {
    /// A response without a session, a topic or an error.
    fn default() -> FetchResponse<R> {
        FetchResponse {
            throttle_time_ms: 0,
            error: ErrorCode::None,
            session_id: 0,
            topics: Vec::new(),
            node_endpoints: Vec::new(),
        }
    }
}

/// The records of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic<R> {
    /// The topic, in the form in which the request named it.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<FetchedPartition<R>>,
}

/// The records of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition<R> {
    /// The partition.
    pub index: PartitionIndex,
    /// The error, or none. A code that is not known reads as `UnknownServerError`.
    pub error: ErrorCode,
    /// The high watermark, -1 with an error.
    pub high_watermark: Offset,
    /// The last stable offset, -1 when not known.
    pub last_stable_offset: Offset,
    /// Where the log starts, -1 when not known; sent from version 5 on.
    pub log_start_offset: Offset,
    /// Where the sender's log and this one part ways; sent from version 12 on.
    pub diverging_epoch: Option<EpochEnd>,
    /// Who leads the partition instead; sent from version 12 on.
    pub current_leader: Option<CurrentLeader>,
    /// The snapshot to fetch instead (KRaft's metadata log); sent from version 12 on.
    pub snapshot_id: Option<SnapshotId>,
    /// The aborted transactions among the records; none (null) for read uncommitted.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// The replica to read from instead, -1 for none; sent from version 11 on.
    pub preferred_read_replica: BrokerId,
    /// The records, one after the other. Nothing stands on the wire as zero bytes, never as null.
    pub records: Vec<R>,
    /// Bytes of all `records` together.
    pub records_length: usize,
}

impl<R> FetchedPartition<R> {
    /// Nothing but `error`.
    pub fn refused(index: PartitionIndex, error: ErrorCode) -> FetchedPartition<R> {
        FetchedPartition {
            index,
            error,
            high_watermark: Offset(-1),
            last_stable_offset: Offset(-1),
            log_start_offset: Offset(-1),
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted: None,
            preferred_read_replica: BrokerId(-1),
            records: Vec::new(),
            records_length: 0,
        }
    }
}

/// The largest epoch that both logs may share, and where it ends here (KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The offset after its last record.
    pub end_offset: Offset,
}

/// A snapshot of a metadata log (KIP-630).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    /// The offset after the last record that is in it.
    pub end_offset: Offset,
    /// The epoch of that record.
    pub epoch: LeaderEpoch,
}

/// A transaction that was aborted: the client skips its records from `first_offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer_id: ProducerId,
    /// Its first offset in the partition.
    pub first_offset: Offset,
}

/// A response while it is being written: one buffer for everything but the records, and the places
/// in it where records go.
struct Pieces<R> {
    writer: Writer,
    cuts: Vec<(usize, Vec<R>)>,
    records_length: usize,
}

impl<R> FetchResponse<R> {
    /// A whole response frame, in pieces: size, header and body in one buffer that is cut where
    /// records go. What the version does not have is left out. Panics when the version has no codec
    /// or wants topics in the other form, or when the frame would pass 2 GiB.
    pub fn frame(self, version: i16, correlation_id: i32) -> Vec<Piece<R>> {
        let form = Form::to_write(version);
        let writer = Writer::with_capacity(self.size_guess(version));
        let mut out = Pieces {
            writer,
            cuts: Vec::new(),
            records_length: 0,
        };
        let writer = &mut out.writer;
        writer.begin_frame();
        write_response_header(writer, ApiKey::Fetch, version, correlation_id);
        writer.i32(self.throttle_time_ms);
        if version >= 7 {
            writer.i16(self.error.code());
            writer.i32(self.session_id);
        }
        writer.length(form.compact, Some(self.topics.len()));
        for topic in self.topics {
            topic.topic.write(&mut out.writer, form.by_id, form.compact);
            out.writer
                .length(form.compact, Some(topic.partitions.len()));
            topic
                .partitions
                .into_iter()
                .for_each(|partition| partition.write(&mut out, form));
            out.writer.no_tagged_fields(form.compact);
        }
        if version >= 16 {
            NodeEndpoint::write_as_tag(&self.node_endpoints, &mut out.writer);
        } else {
            out.writer.no_tagged_fields(form.compact);
        }
        out.finish()
    }

    fn size_guess(&self, version: i16) -> usize {
        let topic =
            |topic: &FetchedTopic<R>| topic.topic.size_max() + 6 + 48 * topic.partitions.len();
        let header = response_header_size(ApiKey::Fetch, version);
        header + 24 + self.topics.iter().map(topic).sum::<usize>()
    }
}

impl<R> Pieces<R> {
    fn finish(self) -> Vec<Piece<R>> {
        let bytes = self.writer.finish_frame(self.records_length);
        let records: usize = self.cuts.iter().map(|(_, records)| records.len()).sum();
        let mut pieces = Vec::with_capacity(records + self.cuts.len() + 1);
        let mut from = 0;
        for (at, records) in self.cuts {
            pieces.push(Piece::Bytes(bytes.slice(from..at)));
            pieces.extend(records.into_iter().map(Piece::Records));
            from = at;
        }
        if from < bytes.len() {
            pieces.push(Piece::Bytes(bytes.slice(from..)));
        }
        pieces
    }
}

impl<R> FetchedPartition<R> {
    fn write(self, out: &mut Pieces<R>, form: Form) {
        let writer = &mut out.writer;
        writer.i32(self.index.0);
        writer.i16(self.error.code());
        writer.i64(self.high_watermark.0);
        writer.i64(self.last_stable_offset.0);
        if form.version >= 5 {
            writer.i64(self.log_start_offset.0);
        }
        writer.length(form.compact, self.aborted.as_ref().map(Vec::len));
        for transaction in self.aborted.iter().flatten() {
            writer.i64(transaction.producer_id.0);
            writer.i64(transaction.first_offset.0);
            writer.no_tagged_fields(form.compact);
        }
        if form.version >= 11 {
            writer.i32(self.preferred_read_replica.0);
        }
        writer.length(form.compact, Some(self.records_length));
        let cut = writer.len();
        if form.compact {
            self.write_tagged(writer);
        }
        if !self.records.is_empty() {
            out.records_length += self.records_length;
            out.cuts.push((cut, self.records));
        }
    }

    fn write_tagged(&self, writer: &mut Writer) {
        let count = u32::from(self.diverging_epoch.is_some())
            + u32::from(self.current_leader.is_some())
            + u32::from(self.snapshot_id.is_some());
        writer.uvarint(count);
        if let Some(end) = self.diverging_epoch {
            writer.tagged_field(0, |writer| {
                writer.i32(end.epoch.0);
                writer.i64(end.end_offset.0);
                writer.no_tagged_fields(true);
            });
        }
        if let Some(leader) = self.current_leader {
            writer.tagged_field(1, |writer| leader.write(writer));
        }
        if let Some(snapshot) = self.snapshot_id {
            writer.tagged_field(2, |writer| {
                writer.i64(snapshot.end_offset.0);
                writer.i32(snapshot.epoch.0);
                writer.no_tagged_fields(true);
            });
        }
    }
}

impl FetchResponse<Bytes> {
    /// Decodes a body. Records are slices of it, one per partition, none where there are none.
    pub fn decode(body: &Bytes, version: i16) -> Result<FetchResponse<Bytes>, Malformed> {
        let form = Form::of(version)?;
        let mut reader = Reader::new(body);
        let mut response = FetchResponse {
            throttle_time_ms: reader.i32()?,
            ..Default::default()
        };
        if version >= 7 {
            response.error = reader.error()?;
            response.session_id = reader.i32()?;
        }
        let (count, mut topics) = reader.array_of(form.compact, 3)?;
        for _ in 0..count {
            topics.push(FetchedTopic::read(&mut reader, form)?);
        }
        response.topics = topics;
        reader.tagged_fields(form.compact, |tag, reader| {
            if tag != 0 || version < 16 {
                return Ok(false);
            }
            response.node_endpoints = NodeEndpoint::read_all(reader)?;
            Ok(true)
        })?;
        Ok(response)
    }
}

impl FetchedTopic<Bytes> {
    fn read(reader: &mut Reader, form: Form) -> Result<FetchedTopic<Bytes>, Malformed> {
        let topic = TopicRef::read(reader, form.by_id, form.compact)?;
        let (count, mut partitions) = reader.array_of(form.compact, 24)?;
        for _ in 0..count {
            partitions.push(FetchedPartition::read(reader, form)?);
        }
        reader.skip_tagged_fields(form.compact)?;
        Ok(FetchedTopic { topic, partitions })
    }
}

impl FetchedPartition<Bytes> {
    fn read(reader: &mut Reader, form: Form) -> Result<FetchedPartition<Bytes>, Malformed> {
        let index = PartitionIndex(reader.i32()?);
        let error = reader.error()?;
        let mut partition = FetchedPartition::refused(index, error);
        partition.high_watermark = Offset(reader.i64()?);
        partition.last_stable_offset = Offset(reader.i64()?);
        if form.version >= 5 {
            partition.log_start_offset = Offset(reader.i64()?);
        }
        partition.aborted = AbortedTransaction::read_all(reader, form)?;
        if form.version >= 11 {
            partition.preferred_read_replica = BrokerId(reader.i32()?);
        }
        let records = reader
            .nullable_bytes(form.compact)?
            .filter(|records| !records.is_empty());
        partition.records_length = records.as_ref().map_or(0, Bytes::len);
        partition.records = records.into_iter().collect();
        partition.read_tagged(reader, form)?;
        Ok(partition)
    }

    fn read_tagged(&mut self, reader: &mut Reader, form: Form) -> Result<(), Malformed> {
        reader.tagged_fields(form.compact, |tag, reader| {
            match tag {
                0 => {
                    let epoch = LeaderEpoch(reader.i32()?);
                    let end_offset = Offset(reader.i64()?);
                    reader.skip_tagged_fields(true)?;
                    self.diverging_epoch = Some(EpochEnd { epoch, end_offset });
                }
                1 => self.current_leader = Some(CurrentLeader::read(reader)?),
                2 => {
                    let end_offset = Offset(reader.i64()?);
                    let epoch = LeaderEpoch(reader.i32()?);
                    reader.skip_tagged_fields(true)?;
                    self.snapshot_id = Some(SnapshotId { end_offset, epoch });
                }
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

impl AbortedTransaction {
    fn read_all(
        reader: &mut Reader,
        form: Form,
    ) -> Result<Option<Vec<AbortedTransaction>>, Malformed> {
        let Some((count, mut aborted)) = reader.nullable_array(form.compact, 16)? else {
            return Ok(None);
        };
        for _ in 0..count {
            let producer_id = ProducerId(reader.i64()?);
            let first_offset = Offset(reader.i64()?);
            reader.skip_tagged_fields(form.compact)?;
            aborted.push(AbortedTransaction {
                producer_id,
                first_offset,
            });
        }
        Ok(Some(aborted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::StrBytes;

    #[test]
    fn records_are_pieces_of_their_own_and_count_in_the_frame_size() {
        let mut partition = FetchedPartition::refused(PartitionIndex(0), ErrorCode::None);
        partition.records = vec!["file range", "memory"];
        partition.records_length = 1000;
        let empty = FetchedPartition::refused(PartitionIndex(1), ErrorCode::None);
        let topic = TopicRef::Name(StrBytes::from_static_str("t"));
        let topics = vec![FetchedTopic {
            topic,
            partitions: vec![partition, empty],
        }];
        let pieces = FetchResponse {
            topics,
            ..FetchResponse::default()
        }
        .frame(12, 7);
        let [
            Piece::Bytes(head),
            Piece::Records(a),
            Piece::Records(b),
            Piece::Bytes(tail),
        ] = &pieces[..]
        else {
            panic!("{pieces:?}");
        };
        assert_eq!((*a, *b), ("file range", "memory"));
        let size = i32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        assert_eq!(size, head.len() - 4 + 1000 + tail.len());
    }
}
