//! Fetches of known places of one partition, as the reader of the bare loop sends them
//! ([`crate::rt::bare`]): what they cost beyond the loop is the broker's.

use std::io;

use bytes::Bytes;

use crate::base::{Offset, PartitionIndex};
use crate::protocol::TopicRef;
use crate::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
#[cfg(test)]
use crate::protocol::fetch::{FetchResponse, Piece};
use crate::protocol::messages::StrBytes;
use crate::record::{BatchBuilder, Codec};
use crate::rt::bare::{Script, nth_place};

/// The version of the requests.
pub const FETCH: i16 = 12;
/// Records of 1 KiB in a batch.
pub const RECORDS_PER_BATCH: usize = 63;
/// More than a reply holds besides records.
const HEAD_BYTES_MAX: u64 = 200;
/// Where the error of a reply's only partition stands, without the topic's name.
const ERROR_AT: usize = 26;

/// A batch of 63 records of 1 KiB, all alike: each has the same number of bytes.
pub fn batch() -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    let value = [b'x'; 1024];
    for _ in 0..RECORDS_PER_BATCH {
        batch.append(1_700_000_000_000, None, Some(&value), &[]);
    }
    Bytes::from(batch.finish())
}

/// A request for `bytes` of partition 0 from `offset`.
pub fn fetch_frame(topic: &str, offset: i64, bytes: i32) -> Bytes {
    let partition = FetchPartition::new(PartitionIndex(0), Offset(offset), bytes);
    let topic = TopicRef::Name(StrBytes::from_string(topic.to_owned()));
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: bytes,
        topics: vec![FetchTopic {
            topic,
            partitions: vec![partition],
        }],
        ..FetchRequest::default()
    }
    .frame(FETCH, 1, &StrBytes::from_static_str("bench"))
}

/// Each connection fetches its own stretch of partition 0, which holds nothing but batches alike.
#[derive(Clone, Debug)]
pub struct Fetches {
    /// The topic's name, below 127 bytes.
    pub topic: String,
    /// Bytes of a batch.
    pub batch_bytes: u64,
    /// Batches in a reply.
    pub batches: u64,
    /// Batches in a connection's stretch, a multiple of `batches`.
    pub stretch: u64,
    /// How often it is read.
    pub passes: u64,
}

impl Script for Fetches {
    fn request(&self, connection: usize, n: u64) -> Option<Vec<u8>> {
        let batch = nth_place(connection, n, (self.stretch, self.batches), self.passes)?;
        let offset = batch * RECORDS_PER_BATCH as u64;
        let bytes = (self.batches * self.batch_bytes) as i32;
        Some(fetch_frame(&self.topic, offset as i64, bytes).to_vec())
    }

    fn records(&self, head: &[u8], size: usize) -> io::Result<u64> {
        let error = head.get(ERROR_AT + self.topic.len()..ERROR_AT + 2 + self.topic.len());
        if error != Some(&[0, 0]) {
            return Err(io::Error::other(format!(
                "a reply with the error {error:?}"
            )));
        }
        let records = self.batches * self.batch_bytes;
        match (records..records + HEAD_BYTES_MAX).contains(&(size as u64)) {
            true => Ok(records),
            false => Err(io::Error::other(format!("a reply of {size} bytes"))),
        }
    }
}

/// The bytes of a reply as a broker sends them, its length first.
#[cfg(test)]
pub(super) fn reply_frame(reply: FetchResponse<Bytes>, correlation_id: i32) -> Vec<u8> {
    let pieces = reply.frame(FETCH, correlation_id).into_iter();
    let pieces = pieces.flat_map(|piece| match piece {
        Piece::Bytes(bytes) => bytes.to_vec(),
        Piece::Records(records) => records.to_vec(),
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ErrorCode;
    use crate::protocol::fetch::{FetchedPartition, FetchedTopic};

    fn reply(topic: &str, error: ErrorCode) -> Vec<u8> {
        let response = FetchResponse {
            topics: vec![FetchedTopic {
                topic: TopicRef::Name(StrBytes::from_string(topic.to_owned())),
                partitions: vec![FetchedPartition::refused(PartitionIndex(0), error)],
            }],
            ..FetchResponse::<Bytes>::default()
        };
        reply_frame(response, 1)
    }

    #[test]
    fn a_reply_s_error_is_found_behind_the_topic_s_name() {
        let fetches = Fetches {
            topic: "cold".to_owned(),
            batch_bytes: 1000,
            batches: 1,
            stretch: 2,
            passes: 1,
        };
        assert!(fetches.request(1, 1).is_some());
        assert!(fetches.request(1, 2).is_none());
        let good = reply("cold", ErrorCode::None);
        // As if its records followed.
        let size = good.len() + 1000;
        assert_eq!(fetches.records(&good, size).expect("records"), 1000);
        assert!(fetches.records(&good, good.len()).is_err(), "no records");
        let refused = reply("cold", ErrorCode::OffsetOutOfRange);
        let error = fetches.records(&refused, size).expect_err("an error");
        assert!(error.to_string().contains("with the error"), "{error}");
    }
}
