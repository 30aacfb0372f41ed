use super::*;
use crate::base::{LeaderEpoch, PartitionIndex, Prng};

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

/// One record of each type, with its optional fields filled.
pub(crate) fn samples() -> Vec<Record> {
    let id = TopicId([7; 16]);
    vec![
        Record::FeatureLevel {
            name: "metadata.version".into(),
            level: 27,
        },
        Record::RegisterBroker(RegisterBroker {
            broker: BrokerId(1),
            is_migrating_zk_broker: false,
            incarnation: TopicId([9; 16]),
            epoch: 5,
            endpoints: vec![Endpoint {
                name: "PLAINTEXT".into(),
                host: "localhost".into(),
                port: 65535,
                security_protocol: 0,
            }],
            features: vec![BrokerFeature {
                name: "group.version".into(),
                min: 0,
                max: 1,
            }],
            rack: Some("a".into()),
            fenced: false,
            in_controlled_shutdown: true,
            log_dirs: vec![TopicId([3; 16])],
        }),
        Record::Topic {
            name: "orders".into(),
            id,
        },
        Record::Config {
            resource_type: 2,
            resource_name: "orders".into(),
            name: "retention.ms".into(),
            value: Some("1".into()),
        },
        Record::Config {
            resource_type: 4,
            resource_name: String::new(),
            name: "x".into(),
            value: None,
        },
        Record::Partition(NewPartition {
            partition: PartitionIndex(0),
            topic: id,
            replicas: brokers(&[1, 2]),
            isr: brokers(&[1]),
            removing: vec![],
            adding: brokers(&[2]),
            leader: Some(BrokerId(1)),
            recovering: true,
            leader_epoch: LeaderEpoch(3),
            partition_epoch: 4,
            directories: vec![TopicId::ZERO; 2],
            eligible_leaders: Some(brokers(&[2])),
            last_known_eligible: Some(vec![]),
        }),
        Record::PartitionChange(PartitionChange {
            partition: PartitionIndex(0),
            topic: id,
            isr: Some(brokers(&[1, 2])),
            leader: Some(None),
            replicas: Some(brokers(&[2, 1])),
            removing: Some(vec![]),
            adding: Some(vec![]),
            recovering: Some(false),
            eligible_leaders: Some(vec![]),
            last_known_eligible: Some(brokers(&[1])),
            directories: Some(vec![id; 2]),
        }),
        Record::ProducerIds {
            broker: BrokerId(1),
            broker_epoch: 5,
            next: ProducerId(1000),
        },
        Record::BrokerChange {
            broker: BrokerId(1),
            epoch: 5,
            fenced: Some(false),
            in_controlled_shutdown: true,
        },
        Record::UnregisterBroker {
            broker: BrokerId(1),
            epoch: 5,
        },
        Record::NoOp,
        Record::RemoveTopic { id },
    ]
}

#[test]
fn every_record_reads_back_as_it_was_written() {
    for record in samples() {
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }
}

#[test]
fn the_bytes_are_those_of_kafkas_schemas() {
    let feature = Record::FeatureLevel {
        name: "group.version".into(),
        level: 1,
    };
    assert_eq!(
        feature.encode(),
        b"\x01\x0c\x00\x0egroup.version\x00\x01\x00"
    );
    let topic = Record::Topic {
        name: "a".into(),
        id: TopicId([2; 16]),
    };
    assert_eq!(
        topic.encode(),
        [&b"\x01\x02\x00\x02a"[..], &[2; 16], &[0]].concat()
    );
    let deleted = Record::Config {
        resource_type: 2,
        resource_name: "a".into(),
        name: "b".into(),
        value: None,
    };
    assert_eq!(deleted.encode(), b"\x01\x04\x00\x02\x02a\x02b\x00\x00");
    assert_eq!(Record::NoOp.encode(), b"\x01\x14\x00\x00");
}

#[test]
fn an_unknown_type_or_version_is_named() {
    assert_eq!(
        Record::decode(&[1, 99, 0, 0]),
        Err(DecodeError::UnknownType { api_key: 99 })
    );
    let newer = DecodeError::UnknownVersion {
        record: "TopicRecord",
        version: 7,
    };
    assert_eq!(Record::decode(&[1, 2, 7]), Err(newer));
    assert_eq!(
        Record::decode(&[2, 2, 0]),
        Err(DecodeError::FrameVersion(2))
    );
}

#[test]
fn an_unknown_tag_is_skipped_and_trailing_bytes_are_refused() {
    assert_eq!(
        Record::decode(&[1, 20, 0, 1, 77, 2, 0, 0]),
        Ok(Record::NoOp)
    );
    let trailing = DecodeError::TrailingBytes { count: 1 };
    assert_eq!(Record::decode(&[1, 20, 0, 0, 0]), Err(trailing));
}

#[test]
fn a_partition_of_version_zero_has_no_directories() {
    let bytes = [
        &[1u8, 3, 0][..],
        &[0, 0, 0, 1],
        &[7; 16],
        &[2, 0, 0, 0, 1],
        &[2, 0, 0, 0, 1],
        &[1, 1],
        &[0, 0, 0, 1],
        &[0, 0, 0, 0],
        &[0, 0, 0, 0],
        &[0],
    ]
    .concat();
    let Ok(Record::Partition(partition)) = Record::decode(&bytes) else {
        panic!("no partition")
    };
    assert_eq!(
        (partition.replicas, partition.directories),
        (brokers(&[1]), vec![])
    );
}

#[test]
fn damaged_and_random_bytes_never_panic() {
    let mut prng = Prng::new(42);
    let samples: Vec<Vec<u8>> = samples().iter().map(Record::encode).collect();
    for round in 0..20_000 {
        let mut bytes = samples[round % samples.len()].clone();
        match round % 3 {
            0 => bytes.truncate(prng.below(bytes.len() as u64) as usize),
            1 => {
                let at = prng.below(bytes.len() as u64) as usize;
                bytes[at] = prng.next_u64() as u8;
            }
            _ => {
                bytes.resize(prng.below(64) as usize + 3, 0);
                prng.fill(&mut bytes[2..]);
            }
        }
        if let Ok(record) = Record::decode(&bytes) {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }
}
