//! What validating a produced batch costs: `cargo bench --bench record`.

use std::hint::black_box;

use corelane::base::Wall;
use corelane::record::{BatchBuilder, Codec, Rules, Scratch, TimestampType, validate, verify};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const NOW: Wall = Wall(1_700_000_000_000);
const BATCH_BYTES: usize = 64 << 10;

/// About 64 KiB of records with values of `value_bytes` bytes, half of them random.
fn batch(codec: Codec, value_bytes: usize) -> Vec<u8> {
    let (mut builder, mut seed) = (BatchBuilder::new(codec), corelane::base::Prng::new(1));
    let mut value = vec![b'.'; value_bytes];
    while builder.size() < BATCH_BYTES {
        seed.fill(&mut value[..value_bytes / 2]);
        builder.append(NOW.0, Some(b"key"), Some(&value), &[]);
    }
    builder.finish()
}

fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    let mut scratch = Scratch::new();
    let shapes = [
        ("none_1KiB", Codec::None, 1024, TimestampType::CreateTime),
        ("none_100B", Codec::None, 100, TimestampType::CreateTime),
        (
            "none_1KiB_append_time",
            Codec::None,
            1024,
            TimestampType::LogAppendTime,
        ),
        ("lz4_1KiB", Codec::Lz4, 1024, TimestampType::CreateTime),
        ("lz4_100B", Codec::Lz4, 100, TimestampType::CreateTime),
        ("zstd_1KiB", Codec::Zstd, 1024, TimestampType::CreateTime),
    ];
    for (name, codec, value_bytes, timestamp_type) in shapes {
        let bytes = batch(codec, value_bytes);
        let rules = Rules {
            timestamp_type,
            ..Rules::default()
        };
        group.throughput(Throughput::Bytes(BATCH_BYTES as u64));
        group.bench_function(format!("validate_{name}"), |bencher| {
            bencher.iter(|| {
                let valid = validate(black_box(&bytes), &rules, NOW, &mut scratch);
                black_box(valid.expect("a valid batch").header)
            });
        });
    }
    let bytes = batch(Codec::None, 1024);
    group.bench_function("verify_none_1KiB", |bencher| {
        bencher.iter(|| verify(black_box(&bytes)))
    });
    group.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);
