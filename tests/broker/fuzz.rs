//! Hostile inputs from a seed, in this process, along the way that a frame takes: size, header,
//! body, records. No panic, no memory beyond the limits.
//!
//! Each input is made from its own number, so that a failing one is named by it.

use std::time::Instant;

use bytes::Bytes;
use corelane::base::{Offset, Prng, ProducerEpoch, ProducerId, Sequence, Wall};
use corelane::protocol::api::{ApiVersions, decodable_max, is_flexible};
use corelane::protocol::fetch::FetchRequest;
use corelane::protocol::header::{FRAME_BYTES_MAX, frame_size};
use corelane::protocol::messages::{self, BrokerHeartbeatRequest};
use corelane::protocol::produce::ProduceRequest;
use corelane::protocol::{ApiKey, RequestHeader, Writer};
use corelane::record::{
    BatchBuilder, Batches, Codec, HEADER_BYTES, Rules, Scratch, TimestampType, find_timestamp,
    offset_of_timestamp_max, validate, verify,
};

use crate::support::client::{named, produce_request, text};
use crate::support::setting;

#[path = "../protocol/apis.rs"]
#[allow(dead_code)]
mod apis;
#[path = "../protocol/sample.rs"]
#[allow(dead_code)]
mod sample;

/// What a batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 64 << 10;

/// What the inputs are made from and what takes them.
struct Target {
    apis: Vec<apis::Api>,
    batches: Vec<Vec<u8>>,
    scratch: Scratch,
    /// Inputs that were frames, frames with a body, batches, and batches that passed.
    reached: [u64; 4],
}

fn good_batches() -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    for codec in Codec::ALL {
        for count in [1, 3, 20] {
            let (id, epoch) = (ProducerId(7), ProducerEpoch(0));
            let mut builder = BatchBuilder::new(codec).producer(id, epoch, Sequence(count));
            for index in 0..count {
                let value = vec![index as u8; 20 * count as usize];
                builder.append(
                    1000 + i64::from(index),
                    Some(b"key"),
                    Some(&value),
                    &[(b"h", None)],
                );
            }
            batches.push(builder.finish());
        }
    }
    batches
}

/// Makes length and CRC true again, so that the input gets past them.
fn mend(batch: &mut [u8]) {
    if batch.len() >= HEADER_BYTES {
        let length = (batch.len() - 12) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[16] = 2;
        let crc = corelane::base::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

impl Target {
    fn new() -> Target {
        Target {
            apis: apis::all(),
            batches: good_batches(),
            scratch: Scratch::new(),
            reached: [0; 4],
        }
    }

    fn hostile_batch(&self, random: &mut Prng) -> Vec<u8> {
        let mut batch = self.batches[random.below(self.batches.len() as u64) as usize].clone();
        sample::damage(random, &mut batch);
        batch.truncate(32 << 10);
        if !random.one_in(4) {
            mend(&mut batch);
        }
        batch
    }

    /// A frame with its size: of any API in any version, or a Produce with a hostile batch.
    fn hostile_frame(&self, random: &mut Prng) -> Vec<u8> {
        if random.one_in(3) {
            let version = 3 + random.below(10) as i16;
            let records = Some(self.hostile_batch(random).into());
            let request = produce_request(named("topic"), 0, records, -1);
            let mut frame = request.frame(version, 1, &text("c")).to_vec();
            if random.one_in(2) {
                sample::damage(random, &mut frame);
            }
            return frame;
        }
        let api = &self.apis[random.below(self.apis.len() as u64) as usize];
        let lowest = ApiVersions::of(api.key).min;
        let version = lowest + random.below((decodable_max(api.key) - lowest + 1) as u64) as i16;
        let mut body = match random.one_in(4) {
            true => sample::noise(random),
            false => sample::body(
                random,
                api.request.shape,
                version,
                is_flexible(api.key, version),
            ),
        };
        if !random.one_in(8) {
            sample::damage(random, &mut body);
        }
        let header = RequestHeader {
            key: api.key,
            version: if random.one_in(30) {
                random.next_u64() as i16
            } else {
                version
            },
            correlation_id: 1,
            client_id: text("c"),
        };
        let mut writer = Writer::default();
        writer.begin_frame();
        header.write(&mut writer);
        writer.raw(&body);
        let mut frame = writer.finish_frame(0).to_vec();
        if random.one_in(10) {
            sample::damage(random, &mut frame);
        }
        frame
    }

    /// As a connection does: size, header, the API's decoder; records go on to validation.
    fn take_frame(&mut self, frame: &[u8], random: &mut Prng) {
        let Some((size, contents)) = frame.split_first_chunk::<4>() else {
            return;
        };
        let Ok(size) = frame_size(*size, FRAME_BYTES_MAX) else {
            return;
        };
        let contents = Bytes::copy_from_slice(&contents[..size.min(contents.len())]);
        let Ok((header, body)) = RequestHeader::parse(&contents) else {
            return;
        };
        self.reached[0] += 1;
        let (key, version) = (header.key, header.version);
        if version < ApiVersions::of(key).min || version > decodable_max(key) {
            return;
        }
        let whole = match key {
            ApiKey::Produce => match ProduceRequest::decode(&body, version) {
                Ok(request) => {
                    let partitions = request
                        .topics
                        .into_iter()
                        .flat_map(|topic| topic.partitions);
                    partitions
                        .filter_map(|partition| partition.records)
                        .take(20)
                        .for_each(|records| self.take_batch(&records, random));
                    true
                }
                Err(_) => false,
            },
            ApiKey::Fetch => FetchRequest::decode(&body, version).is_ok(),
            _ => {
                let api = self
                    .apis
                    .iter()
                    .find(|api| api.key == key)
                    .expect("every key");
                (api.request.decode)(body, version).is_ok()
            }
        };
        self.reached[1] += u64::from(whole);
    }

    /// As a partition does with what it is sent, and a reader with what is there.
    fn take_batch(&mut self, batch: &[u8], random: &mut Prng) {
        self.reached[2] += 1;
        let rules = Rules {
            timestamp_type: match random.one_in(4) {
                true => TimestampType::LogAppendTime,
                false => TimestampType::CreateTime,
            },
            compacted: random.one_in(4),
            produce_version: 3 + random.below(10) as i16,
            decompressed_bytes_max: UNPACKED_BYTES_MAX,
            ..Rules::default()
        };
        if let Ok(valid) = validate(batch, &rules, Wall(1_700_000_000_000), &mut self.scratch) {
            self.reached[3] += 1;
            assert_eq!(verify(&valid.batch), Ok(valid.header));
        }
        if random.one_in(4) {
            for batch in Batches::new(batch).map_while(Result::ok) {
                if let Ok(records) = batch.records(&mut self.scratch, UNPACKED_BYTES_MAX) {
                    records.for_each(drop);
                }
            }
            let _ = find_timestamp(
                batch,
                random.next_u64() as i64,
                Offset(0),
                &mut self.scratch,
                UNPACKED_BYTES_MAX,
            );
            let _ = offset_of_timestamp_max(batch, &mut self.scratch, UNPACKED_BYTES_MAX);
        }
    }
}

/// The most memory that this process has had, in KiB.
fn resident_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .expect("VmHWM")
}

#[test]
fn no_frame_and_no_batch_panics_or_takes_unbounded_memory() {
    let inputs = setting("CORELANE_FUZZ_INPUTS", 20_000);
    let (mut target, began) = (Target::new(), Instant::now());
    for input in 0..inputs {
        let mut random = Prng::new(input);
        if random.one_in(3) {
            let batch = target.hostile_batch(&mut random);
            target.take_batch(&batch, &mut random);
        } else {
            let frame = target.hostile_frame(&mut random);
            target.take_frame(&frame, &mut random);
        }
        assert!(target.scratch.kept_bytes() <= 8 << 20, "input {input}");
    }
    let [headers, bodies, batches, passed] = target.reached;
    println!(
        "{inputs} inputs in {:.1} s: {headers} headers, {bodies} whole bodies, {batches} batches, {passed} of them valid; peak {} KiB",
        began.elapsed().as_secs_f64(),
        resident_peak_kib()
    );
    assert!(
        bodies > inputs / 50 && passed > inputs / 200,
        "{:?}: too few get through",
        target.reached
    );
}

#[test]
fn a_tagged_array_of_two_to_the_32_in_a_broker_heartbeat_is_refused_unallocated() {
    let mut body = vec![0; 22];
    // One tagged field, 0, of five bytes: an array of 2^32 - 2 ids.
    body.extend([1, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let request = messages::decode::<BrokerHeartbeatRequest>(body.into(), 1);
    assert!(request.is_err(), "{request:?}");
}
