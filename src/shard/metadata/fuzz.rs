//! Garbled metadata: raw bytes, which must be refused, and garbled records in batches whose CRC is
//! right, which may be refused or applied, but never panic, and never be half believed.
//!
//! `CORELANE_FUZZ_METADATA` says how many inputs (default 5,000), `CORELANE_FUZZ_SEED` where the
//! seeds begin.

use std::sync::Arc;

use super::*;
use crate::base::{BrokerId, PartitionIndex, Pool};
use crate::cluster::configs::StaticConfigs;
use crate::cluster::records::{Endpoint, NewPartition, PartitionChange, RegisterBroker};

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn registration() -> RegisterBroker {
    RegisterBroker {
        broker: BrokerId(1),
        is_migrating_zk_broker: false,
        incarnation: TopicId([3; 16]),
        epoch: 0,
        endpoints: vec![Endpoint {
            name: "PLAINTEXT".to_owned(),
            host: "localhost".to_owned(),
            port: 9092,
            security_protocol: 0,
        }],
        features: Vec::new(),
        rack: Some("rack".to_owned()),
        fenced: false,
        in_controlled_shutdown: false,
        log_dirs: vec![TopicId([4; 16])],
    }
}

/// `pool`: one for all inputs, since a fresh one is cleared memory for each.
fn setup(pool: &Pool) -> Setup {
    Setup {
        core: CoreId(0),
        cores: 1,
        broker: BrokerId(1),
        disks: 1,
        failed_disks: std::collections::BTreeMap::new(),
        pool: pool.clone(),
        cache_bytes_max: 1 << 20,
        static_configs: Arc::new(StaticConfigs::new()),
        registration: registration(),
        seed: 1,
    }
}

/// A cluster's life in records.
fn records() -> Vec<Record> {
    let topic = TopicId([7; 16]);
    let partition = |index| {
        Record::Partition(NewPartition {
            directories: vec![TopicId([4; 16])],
            ..NewPartition::on(BrokerId(1), topic, PartitionIndex(index))
        })
    };
    let config = |value: Option<&str>| Record::Config {
        resource_type: 2,
        resource_name: "orders".to_owned(),
        name: "retention.ms".to_owned(),
        value: value.map(str::to_owned),
    };
    vec![
        Record::RegisterBroker(registration()),
        Record::FeatureLevel {
            name: "metadata.version".to_owned(),
            level: 20,
        },
        Record::Topic {
            name: "orders".to_owned(),
            id: topic,
        },
        partition(0),
        partition(1),
        config(Some("1000")),
        Record::PartitionChange(PartitionChange {
            partition: PartitionIndex(1),
            topic,
            isr: Some(vec![BrokerId(1)]),
            ..PartitionChange::default()
        }),
        Record::ProducerIds {
            broker: BrokerId(1),
            broker_epoch: 0,
            next: ProducerId(1000),
        },
        config(None),
        Record::NoOp,
        Record::RemoveTopic { id: topic },
    ]
}

fn batch(values: &[Vec<u8>]) -> Vec<u8> {
    let mut batch = BatchBuilder::new(Codec::None);
    for value in values {
        batch.append(0, None, Some(value), &[]);
    }
    batch.finish()
}

fn garble(bytes: &mut Vec<u8>, prng: &mut Prng) {
    for _ in 0..1 + prng.below(3) {
        let size = bytes.len() as u64;
        if size == 0 {
            return;
        }
        let at = prng.below(size) as usize;
        match prng.below(6) {
            0 => bytes[at] ^= 1 << prng.below(8),
            1 => bytes[at] = prng.below(256) as u8,
            2 => bytes[at] = 0xff,
            3 => bytes.truncate(at),
            4 => {
                let len = (1 + prng.below(8)) as usize;
                let end = (at + len).min(bytes.len());
                prng.fill(&mut bytes[at..end]);
            }
            _ => {
                let copy = bytes[at..].to_vec();
                bytes.extend_from_slice(&copy);
                bytes.truncate(4096);
            }
        }
    }
}

/// True if all of it was believed.
fn check(setup: &Setup, values: &[Vec<u8>], seed: u64) -> bool {
    let mut prng = Prng::new(seed);
    let mut metadata = Metadata::open(setup, &mut Effects::default());
    if prng.one_in(4) {
        let mut bytes = batch(values);
        let sound = bytes.clone();
        garble(&mut bytes, &mut prng);
        let believed = metadata.replay_batches(&bytes, Offset(0)).is_ok();
        // The leader epoch is not protected, and not looked at; an offset that is not is known by
        // its place, which is the log's to hold. Nothing at all is a batch less.
        let protected = |bytes: &[u8]| bytes.get(16..).map(<[u8]>::to_vec);
        let whole = bytes.len() >= sound.len();
        let same = protected(&bytes[..sound.len().min(bytes.len())]) == protected(&sound);
        assert!(
            !believed || bytes.is_empty() || (whole && same),
            "seed {seed}"
        );
        return believed;
    }
    let mut values = values.to_vec();
    for _ in 0..1 + prng.below(2) {
        let at = prng.below(values.len() as u64) as usize;
        garble(&mut values[at], &mut prng);
    }
    if prng.one_in(5) {
        let (a, b) = (prng.below(11) as usize, prng.below(11) as usize);
        values.swap(a, b);
    }
    let believed = metadata.replay_batches(&batch(&values), Offset(0)).is_ok();
    if believed {
        // What was believed can be written again, and means the same.
        for value in &values {
            let decoded = Record::decode(value).expect("it was believed");
            let again = Record::decode(&decoded.encode());
            assert_eq!(again.as_ref(), Ok(&decoded), "seed {seed}");
        }
        let topics = metadata.image.topics();
        let partitions: usize = topics.map(|topic| topic.partitions.len()).sum();
        assert!(partitions <= 2, "seed {seed}: {partitions} partitions");
    }
    believed
}

#[test]
fn garbled_metadata_never_panics_and_raw_damage_is_never_believed() {
    let values: Vec<Vec<u8>> = records().iter().map(Record::encode).collect();
    let setup = setup(&Pool::new(4 << 20));
    let mut metadata = Metadata::open(&setup, &mut Effects::default());
    let sound = metadata.replay_batches(&batch(&values), Offset(0));
    assert_eq!(sound, Ok(Offset(values.len() as i64)));
    let first = setting("CORELANE_FUZZ_SEED", 0);
    let inputs = setting("CORELANE_FUZZ_METADATA", 5000);
    let believed = (first..first + inputs).filter(|seed| check(&setup, &values, *seed));
    println!("{} of {inputs} could be believed", believed.count());
}
