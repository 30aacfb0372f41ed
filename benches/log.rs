//! The log's own cost without a disk: operations are answered at once.
//!
//! `cargo bench --bench log`

use std::hint::black_box;

use corelane::base::{
    DiskDone, DiskOp, DiskOutput, FilePath, LeaderEpoch, Mono, Now, Offset, Pool, TopicId, Wall,
};
use corelane::log::{Log, Options};
use corelane::record::{BatchBuilder, Codec};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const NOW: Now = Now {
    mono: Mono(1),
    wall: Wall(1_000),
};

fn batch(bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(1_000, None, Some(&vec![b'x'; bytes]), &[]);
    builder.finish()
}

fn log() -> Log {
    let options = Options {
        segment_bytes: 256 << 20,
        ..Options::default()
    };
    Log::new(
        FilePath::new(0, "bench-0"),
        0,
        TopicId([1; 16]),
        options,
        Pool::new(64 << 20),
    )
}

/// Appends one batch and carries it through to the commit.
fn append(log: &mut Log, batch: &[u8], out: &mut Vec<DiskOp>) {
    log.append(NOW, batch, LeaderEpoch(0))
        .expect("a batch that is taken");
    log.flush_turn(NOW, out);
    let mut events = Vec::new();
    while let Some(op) = out.pop() {
        let done = DiskDone {
            id: op.id(),
            result: Ok(DiskOutput::Done),
        };
        drop(op);
        log.handle_disk(NOW, done, out, &mut events);
    }
    if log.cached_bytes() > 16 << 20 {
        log.evict(8 << 20, false);
    }
}

fn tail_append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tail_append");
    for size in [1 << 10, 64 << 10] {
        let (mut log, batch, mut out) = (log(), batch(size), Vec::new());
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| append(&mut log, &batch, &mut out));
        });
    }
    group.finish();
}

fn index_lookup(criterion: &mut Criterion) {
    let (mut log, batch, mut out) = (log(), batch(4 << 10), Vec::new());
    for _ in 0..3_000 {
        append(&mut log, &batch, &mut out);
    }
    let mut offset = 0;
    criterion.bench_function("index_lookup", |bencher| {
        bencher.iter(|| {
            offset = (offset + 7) % 500;
            let from = Offset(2_499 + offset);
            black_box(log.read(from, Offset(i64::MAX), 4096, true))
        });
    });
}

criterion_group!(benches, tail_append, index_lookup);
criterion_main!(benches);
