//! What one core does for a produce, from the request to the answer, on a disk that takes no time:
//! checks, offsets, the copy into the tail, the write's description and its completion.
//!
//! `cargo bench --bench core`

#[path = "../tests/support/one_core.rs"]
mod one_core;

use bytes::Bytes;
use corelane::base::TopicPartition;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use one_core::{OneCore, batch};

fn bench(criterion: &mut Criterion, name: &str, partitions: usize, records: &Bytes) {
    let mut core = OneCore::start(partitions as i32);
    let batches: Vec<(TopicPartition, Bytes)> = core
        .partitions
        .iter()
        .map(|id| (*id, records.clone()))
        .collect();
    let mut group = criterion.benchmark_group("core_produce");
    group.throughput(Throughput::Elements(partitions as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || batches.clone(),
            |batches| core.produce(batches),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

fn produce(criterion: &mut Criterion) {
    bench(criterion, "1 record of 1 KiB", 1, &batch(1, 1024));
    bench(criterion, "63 records of 1 KiB", 1, &batch(63, 1024));
    bench(
        criterion,
        "1 record to each of 100 partitions",
        100,
        &batch(1, 100),
    );
}

criterion_group!(benches, produce);
criterion_main!(benches);
