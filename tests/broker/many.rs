//! Many partitions on one node: created, written, restarted, read; memory and descriptors bounded.

use std::time::Instant;

use corelane::base::PartitionIndex;
use corelane::protocol::ErrorCode;
use corelane::protocol::produce::{PartitionData, ProduceRequest, TopicData};

use crate::support::client::{Client, PRODUCE, batch, named};
use crate::support::{Broker, setting};

/// Partitions of each topic.
const TOPIC_PARTITIONS: u64 = 500;

fn topics(partitions: u64) -> Vec<(String, i32)> {
    let count = partitions.div_ceil(TOPIC_PARTITIONS);
    let size = |number| TOPIC_PARTITIONS.min(partitions - number * TOPIC_PARTITIONS) as i32;
    (0..count)
        .map(|number| (format!("many-{number}"), size(number)))
        .collect()
}

/// One batch to each partition, a topic in one request; what each value says is where it belongs.
fn produce_to_all(client: &mut Client, topics: &[(String, i32)], round: i64) {
    for (name, partitions) in topics {
        let partition = |index: i32| PartitionData {
            index: PartitionIndex(index),
            records: Some(batch(&[format!("{name}-{index}/{round}").as_bytes()]).into()),
        };
        let request = ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: 30_000,
            topics: vec![TopicData {
                topic: named(name),
                partitions: (0..*partitions).map(partition).collect(),
            }],
        };
        let response = client.produce_with(PRODUCE, &request);
        assert_eq!(response.topics[0].partitions.len(), *partitions as usize);
        for (index, answer) in response.topics[0].partitions.iter().enumerate() {
            assert_eq!(
                answer.index.0, index as i32,
                "answers stand in the order of the request"
            );
            assert_eq!(
                (answer.error, answer.base_offset.0),
                (ErrorCode::None, round),
                "{name}-{index}"
            );
        }
    }
}

fn read_all_back(client: &mut Client, topics: &[(String, i32)], rounds: i64) {
    for (name, partitions) in topics {
        for index in 0..*partitions {
            let records = client.read_all(name, index);
            assert_eq!(records.len() as i64, rounds, "{name}-{index}");
            for (round, record) in records.iter().enumerate() {
                let wanted = format!("{name}-{index}/{round}");
                assert_eq!(record.value.as_deref(), Some(wanted.as_bytes()));
            }
        }
    }
}

#[test]
fn many_partitions_are_created_written_restarted_and_read_within_bounds() {
    let partitions = setting("CORELANE_PARTITIONS", 300);
    let topics = topics(partitions);
    let mut broker = Broker::start();
    let (memory, descriptors) = (broker.resident_kib(), broker.descriptors());
    let mut client = broker.client();
    let began = Instant::now();
    for (name, count) in &topics {
        client.create(name, *count, &[]);
    }
    let took = began.elapsed();
    println!(
        "created {partitions} in {took:?}: {:.0} a second",
        partitions as f64 / took.as_secs_f64()
    );
    let mut reached = (0, 0);
    let mut note = |broker: &Broker, what: &str| {
        let (now, open) = (broker.resident_kib(), broker.descriptors());
        let bytes = (now.saturating_sub(memory) << 10) as f64 / partitions as f64;
        let each = open.saturating_sub(descriptors) as f64 / partitions as f64;
        println!(
            "{what}: {now} KiB resident, {bytes:.0} bytes a partition; {open} descriptors, {each:.2} a partition"
        );
        reached = (reached.0.max(bytes as u64), reached.1.max(open));
    };
    note(&broker, "created");
    for round in 0..3 {
        let began = Instant::now();
        produce_to_all(&mut client, &topics, round);
        println!("produced to all in {:?}", began.elapsed());
        note(&broker, "written");
        if round == 0 {
            broker.kill();
        } else {
            let began = Instant::now();
            broker.stop();
            println!("stopped in {:?}", began.elapsed());
        }
        broker.run();
        println!(
            "ready in {:?} after {}",
            broker.ready_after(),
            ["a kill", "a clean stop"][usize::from(round > 0)]
        );
        note(&broker, "restarted");
        client = broker.client();
        read_all_back(&mut client, &topics, round + 1);
        note(&broker, "read");
    }
    assert!(reached.1 < 17_000, "{} descriptors", reached.1);
}

#[test]
fn more_partitions_than_descriptors_are_served_with_few_files_open() {
    let topics = topics(300);
    let mut broker = Broker::start_within(Some(300));
    let mut client = broker.client();
    for (name, count) in &topics {
        client.create(name, *count, &[]);
    }
    for round in 0..3 {
        produce_to_all(&mut client, &topics, round);
        read_all_back(&mut client, &topics, round + 1);
        let open = broker.descriptors();
        println!("{open} descriptors");
        assert!(open < 300, "{open} descriptors");
        if round == 0 {
            broker.crash();
        } else {
            broker.restart();
        }
        client = broker.client();
        read_all_back(&mut client, &topics, round + 1);
    }
}
