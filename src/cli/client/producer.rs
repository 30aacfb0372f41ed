//! Writing: records gather into one batch a partition; a full batch, or the caller's patience,
//! sends them all. One request at a time is in flight at each leader, so order holds; with a
//! producer id a batch that is sent again is written once (KIP-98).

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use super::consumer::by_leader;
use super::{Client, ClientError, Topic, error_of};
use crate::base::{BrokerId, PartitionIndex, ProducerEpoch, ProducerId, Sequence};
use crate::protocol::messages::{InitProducerIdRequest, StrBytes};
use crate::protocol::produce::{
    self, PartitionData, PartitionResponse, ProduceRequest, ProduceResponse, TopicData,
};
use crate::protocol::{ApiKey, ErrorCode, TopicRef};
use crate::record::{BatchBuilder, Codec};

/// The last version that names topics and not their ids.
const PRODUCE_VERSION_MAX: i16 = 12;

/// What a record's headers are made of.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// When it was sent.
    None = 0,
    /// When the leader has it.
    Leader = 1,
    /// When all in-sync replicas have it.
    All = -1,
}

/// How a producer behaves.
#[derive(Clone, Copy, Debug)]
pub struct ProducerSettings {
    /// When a record counts as written.
    pub acks: Acks,
    /// What batches are compressed with.
    pub codec: Codec,
    /// How hard, on the codec's scale.
    pub level: Option<i32>,
    /// Bytes at which a batch is full, before compression.
    pub batch_bytes: usize,
    /// Write once what is sent twice; needs acks from all.
    pub idempotent: bool,
}

/// A batch on its way.
struct Batch {
    partition: PartitionIndex,
    bytes: Bytes,
}

/// Writes records to one topic.
pub struct Producer {
    client: Client,
    topic: Topic,
    settings: ProducerSettings,
    identity: Option<(ProducerId, ProducerEpoch)>,
    /// The next sequence of each partition.
    sequences: BTreeMap<PartitionIndex, Sequence>,
    open: BTreeMap<PartitionIndex, BatchBuilder>,
    /// When the first record came that was not sent yet.
    waiting_since: Option<Instant>,
    /// Where records without key and partition go until the next flush.
    sticky: usize,
}

impl Producer {
    /// Looks the topic up, and takes a producer id if idempotence is wanted. `start` chooses the
    /// partition that records without a key begin with.
    pub fn new(
        mut client: Client,
        topic: &str,
        settings: ProducerSettings,
        start: usize,
    ) -> Result<Producer, ClientError> {
        let topic = client.retrying(|client| client.topic(topic))?;
        let identity = match settings.idempotent && settings.acks == Acks::All {
            true => Some(client.retrying(take_identity)?),
            false => None,
        };
        Ok(Producer {
            client,
            topic,
            settings,
            identity,
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
            waiting_since: None,
            sticky: start,
        })
    }

    /// True if the topic has this partition.
    pub fn has(&self, partition: i32) -> bool {
        let mut partitions = self.topic.partitions.iter();
        partitions.any(|known| known.index.0 == partition)
    }

    /// Since when a record waits to be sent; none waits if none.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Takes a record: for `partition`, or where its key belongs, or where others without a key go.
    /// Sends everything first if there is no room for it.
    pub fn append(
        &mut self,
        partition: Option<PartitionIndex>,
        timestamp: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        headers: &[Header],
    ) -> Result<(), ClientError> {
        let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let partition = partition.unwrap_or_else(|| self.choose(key));
        let full = self.open.get(&partition).is_some_and(|batch| {
            batch.record_count() > 0 && batch.size() + size > self.settings.batch_bytes
        });
        if full {
            self.flush()?;
        }
        self.waiting_since.get_or_insert_with(Instant::now);
        let batch = self.open.entry(partition).or_insert_with(|| {
            let batch = BatchBuilder::new(self.settings.codec);
            self.settings
                .level
                .into_iter()
                .fold(batch, BatchBuilder::level)
        });
        batch.append(timestamp, key, value, headers);
        Ok(())
    }

    fn choose(&self, key: Option<&[u8]>) -> PartitionIndex {
        let count = self.topic.partitions.len().max(1);
        let index = match key {
            Some(key) => partition_of_key(key, count),
            None => self.sticky % count,
        };
        PartitionIndex(index as i32)
    }

    /// Sends everything and waits until it counts as written.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.waiting_since = None;
        let mut batches = Vec::new();
        for (partition, batch) in std::mem::take(&mut self.open) {
            let count = batch.record_count();
            let sequence = self.sequences.entry(partition).or_insert(Sequence(0));
            let batch = match self.identity {
                Some((id, epoch)) => batch.producer(id, epoch, *sequence),
                None => batch,
            };
            *sequence = sequence.plus(count);
            let bytes = Bytes::from(batch.finish());
            batches.push(Batch { partition, bytes });
        }
        self.sticky = self.sticky.wrapping_add(1);
        let (topic, acks) = (&mut self.topic, self.settings.acks);
        let mut again = false;
        self.client.retrying(|client| {
            if std::mem::replace(&mut again, true) {
                *topic = client.topic(&topic.name)?;
            }
            send(client, topic, acks, &mut batches)
        })
    }
}

/// A new producer id, for an idempotent producer that belongs to no transaction.
pub fn take_identity(client: &mut Client) -> Result<(ProducerId, ProducerEpoch), ClientError> {
    let none = crate::protocol::messages::ProducerId(-1);
    // The default is an empty id, which is not the same as none.
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id(none)
        .with_producer_epoch(-1);
    let response = client.any()?.call(&request, 5)?;
    if response.error_code != 0 {
        let error = error_of(response.error_code);
        return Err(ClientError::refused("producer id", error, None));
    }
    Ok((
        ProducerId(response.producer_id.0),
        ProducerEpoch(response.producer_epoch),
    ))
}

/// Sends each batch to its leader; what was written is taken out of `batches`.
fn send(
    client: &mut Client,
    topic: &Topic,
    acks: Acks,
    batches: &mut Vec<Batch>,
) -> Result<(), ClientError> {
    let partitions: Vec<_> = batches.iter().map(|batch| batch.partition).collect();
    let mut failed = None;
    for (leader, partitions) in by_leader(topic, &partitions)? {
        let here = batches
            .iter()
            .filter(|batch| partitions.contains(&batch.partition));
        let here = here.map(|batch| PartitionData {
            index: batch.partition,
            records: Some(batch.bytes.clone()),
        });
        let name = TopicRef::Name(StrBytes::from_string(topic.name.clone()));
        let request = ProduceRequest {
            transactional_id: None,
            acks: acks as i16,
            timeout_ms: client.timeout_ms(),
            topics: vec![TopicData {
                topic: name,
                partitions: here.collect(),
            }],
        };
        let Some(response) = send_to(client, leader, &request)? else {
            batches.retain(|batch| !partitions.contains(&batch.partition));
            continue;
        };
        for told in response.topics.iter().flat_map(|topic| &topic.partitions) {
            match told.error {
                // The first try was written after all.
                ErrorCode::None | ErrorCode::DuplicateSequenceNumber => {
                    batches.retain(|batch| batch.partition != told.index);
                }
                _ => failed = Some(refusal(topic, told)),
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Sends a request; none comes back when no answer was asked for.
fn send_to(
    client: &mut Client,
    leader: BrokerId,
    request: &ProduceRequest,
) -> Result<Option<ProduceResponse>, ClientError> {
    let connection = client.broker(leader)?;
    let key = ApiKey::Produce;
    let version = connection.version(key, produce::VERSION_MIN, PRODUCE_VERSION_MAX)?;
    let id = connection.next_correlation_id();
    let frame = request.frame(version, id, connection.client_id());
    connection.send(&frame)?;
    if request.acks == 0 {
        return Ok(None);
    }
    let body = connection.receive(key, version, id)?;
    let response = ProduceResponse::decode(&body, version);
    response
        .map(Some)
        .map_err(|malformed| connection.broken(malformed))
}

fn refusal(topic: &Topic, told: &PartitionResponse) -> ClientError {
    let record = told
        .record_errors
        .iter()
        .find_map(|error| error.message.as_deref());
    let message = told.error_message.as_deref().or(record);
    ClientError::refused(
        format!("produce to {}-{}", topic.name, told.index),
        told.error,
        message,
    )
}

/// Where Kafka's clients put a key: murmur2 of it, modulo the number of partitions, which must not
/// be 0 (apache/kafka `BuiltInPartitioner.partitionForKey`).
pub fn partition_of_key(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// Austin Appleby's MurmurHash2 for 32 bits, with Kafka's seed.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafkas_clients_put_them() {
        // The cases of apache/kafka `UtilsTest.testMurmur2`.
        let cases: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert_eq!(partition_of_key(b"abc", 10), 7);
    }
}
