//! Produce decoded and Fetch encoded, per request.
//!
//! `cargo bench --bench protocol`

use std::hint::black_box;

use bytes::Bytes;
use corelane::base::{Offset, PartitionIndex};
use corelane::protocol::fetch::{FetchResponse, FetchedPartition, FetchedTopic};
use corelane::protocol::messages::{self, StrBytes};
use corelane::protocol::produce::{PartitionData, ProduceRequest, TopicData};
use corelane::protocol::{ErrorCode, RequestHeader, TopicRef};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;

fn topic() -> TopicRef {
    TopicRef::Name(StrBytes::from_static_str("orders"))
}

/// A produce frame without its size: `partitions` times `bytes` of records.
fn produce_frame(partitions: i32, bytes: usize) -> Bytes {
    let records = Bytes::from(vec![7; bytes]);
    let partition = |index| PartitionData {
        index: PartitionIndex(index),
        records: Some(records.clone()),
    };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topics: vec![TopicData {
            topic: topic(),
            partitions: (0..partitions).map(partition).collect(),
        }],
    };
    request
        .frame(PRODUCE_VERSION, 1, &StrBytes::from_static_str("bench"))
        .slice(4..)
}

fn produce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("produce_decode");
    for (name, partitions, bytes) in [
        ("1 partition of 64 KiB", 1, 64 << 10),
        ("100 partitions of 1 KiB", 100, 1 << 10),
    ] {
        let frame = produce_frame(partitions, bytes);
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (header, body) = RequestHeader::parse(black_box(&frame)).unwrap();
                ProduceRequest::decode(&body, header.version).unwrap()
            })
        });
        group.bench_function(format!("{name}, kafka-protocol after a walk"), |bencher| {
            bencher.iter(|| {
                let (header, body) = RequestHeader::parse(black_box(&frame)).unwrap();
                messages::decode::<messages::ProduceRequest>(body, header.version).unwrap()
            })
        });
    }
    group.finish();
}

fn fetched(index: i32) -> FetchedPartition<Bytes> {
    FetchedPartition {
        high_watermark: Offset(1_000_000),
        last_stable_offset: Offset(1_000_000),
        log_start_offset: Offset(0),
        records: vec![Bytes::from_static(&[7; 4096])],
        records_length: 4096,
        ..FetchedPartition::refused(PartitionIndex(index), ErrorCode::None)
    }
}

fn fetch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch_encode");
    for partitions in [1, 100] {
        group.throughput(Throughput::Elements(partitions as u64));
        let response = || FetchResponse {
            topics: vec![FetchedTopic {
                topic: topic(),
                partitions: (0..partitions).map(fetched).collect(),
            }],
            ..FetchResponse::default()
        };
        group.bench_function(format!("{partitions} partitions of 4 KiB"), |bencher| {
            bencher.iter_batched(
                response,
                |response| black_box(response).frame(FETCH_VERSION, 1),
                criterion::BatchSize::SmallInput,
            )
        });
    }
    group.finish();
}

criterion_group!(benches, produce, fetch);
criterion_main!(benches);
