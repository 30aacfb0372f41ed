use super::*;

fn topic(name: &str, seed: u8) -> Record {
    Record::Topic {
        name: name.to_owned(),
        id: TopicId([seed; 16]),
    }
}

fn partition(seed: u8, index: i32) -> Record {
    let topic = TopicId([seed; 16]);
    Record::Partition(NewPartition {
        directories: vec![TopicId([5; 16])],
        ..NewPartition::on(BrokerId(1), topic, PartitionIndex(index))
    })
}

fn config(resource: &Resource, name: &str, value: Option<&str>) -> Record {
    let (resource_type, resource_name) = resource.to_kafka();
    let value = value.map(str::to_owned);
    Record::Config {
        resource_type,
        resource_name,
        name: name.to_owned(),
        value,
    }
}

fn image(records: &[Record]) -> Image {
    let mut image = Image::default();
    for (offset, record) in records.iter().enumerate() {
        image
            .apply(Offset(offset as i64), record)
            .expect("a record that fits");
    }
    image
}

#[test]
fn topics_are_found_by_name_and_by_id_until_they_are_removed() {
    let mut image = image(&[
        topic("a.b", 1),
        partition(1, 0),
        partition(1, 1),
        topic("c", 2),
    ]);
    assert_eq!(
        image.topic("a.b").map(|topic| topic.partitions.len()),
        Some(2)
    );
    assert_eq!(
        image
            .topic_by_id(TopicId([2; 16]))
            .map(|topic| &*topic.name),
        Some("c")
    );
    assert_eq!((image.topic_count(), image.partition_count()), (2, 2));
    assert_eq!(image.look_alike("a_b"), Some("a.b"));
    image
        .apply(
            Offset(9),
            &Record::RemoveTopic {
                id: TopicId([1; 16]),
            },
        )
        .expect("it is there");
    assert!(image.topic("a.b").is_none() && image.topic_by_id(TopicId([1; 16])).is_none());
    assert_eq!((image.topic_count(), image.partition_count()), (1, 0));
    assert_eq!(
        (image.look_alike("a_b"), image.applied()),
        (None, Some(Offset(9)))
    );
}

#[test]
fn a_removed_topic_takes_its_configs_along() {
    let resource = Resource::Topic("a".to_owned());
    let mut image = image(&[topic("a", 1), config(&resource, "retention.ms", Some("1"))]);
    assert_eq!(image.configs(&resource).map(BTreeMap::len), Some(1));
    image
        .apply(
            Offset(2),
            &Record::RemoveTopic {
                id: TopicId([1; 16]),
            },
        )
        .expect("it is there");
    assert_eq!(image.configs(&resource), None);
}

#[test]
fn a_config_without_value_is_deleted() {
    let resource = Resource::BrokerDefault;
    let mut image = image(&[
        config(&resource, "x", Some("1")),
        config(&resource, "y", Some("2")),
    ]);
    image
        .apply(Offset(2), &config(&resource, "x", None))
        .expect("a known resource");
    assert_eq!(
        image
            .configs(&resource)
            .and_then(|configs| configs.get("x")),
        None
    );
    image
        .apply(Offset(3), &config(&resource, "y", None))
        .expect("a known resource");
    assert_eq!(image.configs(&resource), None);
}

#[test]
fn a_record_that_does_not_fit_is_an_error_and_changes_nothing() {
    let mut image = image(&[topic("a", 1)]);
    let before = image.clone();
    let wrong = [
        topic("a", 2),
        topic("b", 1),
        partition(1, 1),
        partition(1, -1),
        partition(1, i32::MAX),
        partition(3, 0),
        Record::RemoveTopic {
            id: TopicId([9; 16]),
        },
        Record::PartitionChange(PartitionChange {
            topic: TopicId([1; 16]),
            ..PartitionChange::default()
        }),
        Record::UnregisterBroker {
            broker: BrokerId(4),
            epoch: 0,
        },
        Record::Config {
            resource_type: 4,
            resource_name: "x".into(),
            name: "y".into(),
            value: None,
        },
    ];
    for record in wrong {
        assert!(image.apply(Offset(7), &record).is_err(), "{record:?}");
        assert!(image == before && image.applied() == Some(Offset(0)));
    }
}

#[test]
fn leader_epochs_only_grow_row_92() {
    let mut image = image(&[topic("a", 1), partition(1, 0)]);
    for expected in 1..4 {
        let leader = Some(Some(BrokerId(expected)));
        let topic = TopicId([1; 16]);
        let change = PartitionChange {
            topic,
            leader,
            ..PartitionChange::default()
        };
        image
            .apply(Offset(5), &Record::PartitionChange(change))
            .expect("it fits");
        let partition = &image.topic("a").expect("a topic").partitions[0];
        assert_eq!(partition.leader_epoch, LeaderEpoch(expected));
        assert_eq!(partition.partition_epoch, expected);
    }
}

#[test]
fn a_snapshot_makes_the_same_image() {
    let mut records = crate::cluster::records::tests::samples();
    records.pop();
    records.retain(|record| !matches!(record, Record::UnregisterBroker { .. }));
    records.push(topic("b.c", 1));
    records.extend((0..20).map(|index| partition(1, index)));
    let image = image(&records);
    let snapshot = image.to_records();
    assert!(
        matches!(&snapshot[0], Record::FeatureLevel { name, .. } if name == "metadata.version")
    );
    let mut copy = Image::default();
    for (offset, record) in snapshot.iter().enumerate() {
        copy.apply(Offset(offset as i64), record)
            .expect("a snapshot fits");
    }
    assert!(copy == image);
    assert_eq!(copy.look_alike("b_c"), Some("b.c"));
}

#[test]
fn partitions_of_a_topic_go_round_the_cores_and_topics_start_anywhere() {
    let mut prng = Prng::new(3);
    let mut starts = [0; 8];
    for _ in 0..800 {
        let mut id = TopicId::ZERO;
        prng.fill(&mut id.0);
        let owners: Vec<u16> = (0..16)
            .map(|index| Image::owner(id, PartitionIndex(index), 8).0)
            .collect();
        for pair in owners.windows(2) {
            assert_eq!(pair[1], (pair[0] + 1) % 8);
        }
        starts[usize::from(owners[0])] += 1;
    }
    assert!(starts.iter().all(|count| *count > 50), "{starts:?}");
}

/// Every topic gets its own image, as when 10,000 clients make one each.
#[test]
fn ten_thousand_topics_one_by_one_copy_few_entries_each() {
    let mut image = Image::default();
    let mut published = Vec::new();
    for number in 0..10_000u32 {
        let mut id = TopicId::ZERO;
        id.0[..4].copy_from_slice(&number.to_be_bytes());
        let record = Record::Topic {
            name: format!("topic-{number}"),
            id,
        };
        image
            .apply(Offset(i64::from(number)), &record)
            .expect("a new topic");
        if number % 1000 == 0 {
            published.push(image.clone());
        }
        let _reader = image.clone();
    }
    assert_eq!(image.topic_count(), 10_000);
    assert_eq!(published[3].topic_count(), 3001);
}

/// Replaying damaged logs: whatever decodes is applied or refused, never a panic.
#[test]
fn random_records_never_panic_the_image() {
    let mut prng = Prng::new(77);
    let samples = crate::cluster::records::tests::samples();
    let encoded: Vec<Vec<u8>> = samples.iter().map(Record::encode).collect();
    let mut image = Image::default();
    for round in 0..20_000 {
        let mut bytes = encoded[prng.below(encoded.len() as u64) as usize].clone();
        if round % 2 == 0 {
            let at = prng.below(bytes.len() as u64) as usize;
            bytes[at] = prng.next_u64() as u8;
        }
        if let Ok(record) = Record::decode(&bytes) {
            let _ = image.apply(Offset(round), &record);
        }
    }
    let records = image.to_records();
    assert!(self::image(&records) == image);
}
