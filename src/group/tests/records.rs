//! Row 122: the records of `__consumer_offsets`, byte for byte Kafka's.

use super::*;
use crate::group::records::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn row_122_an_offset_commit_is_key_version_1_and_value_version_3() {
    let value = OffsetValue {
        offset: 258,
        leader_epoch: 7,
        metadata: "m".to_owned(),
        commit_timestamp_ms: 5,
        expire_timestamp_ms: -1,
    };
    let (group, topic) = ("g".to_owned(), "t".to_owned());
    let record = Record::OffsetCommit {
        group,
        topic,
        partition: 3,
        value: Some(value.clone()),
    };
    let (key, encoded) = record.encode();
    assert_eq!(hex(&key), "0001000167000174".to_owned() + "00000003");
    let expected =
        "0003".to_owned() + "0000000000000102" + "00000007" + "00016d" + "0000000000000005";
    assert_eq!(encoded.map(|bytes| hex(&bytes)), Some(expected));
    let (group, topic) = ("g".to_owned(), "t".to_owned());
    let value = Some(OffsetValue {
        leader_epoch: -1,
        expire_timestamp_ms: 9,
        ..value
    });
    let record = Record::OffsetCommit {
        group,
        topic,
        partition: 3,
        value,
    };
    let expected =
        "0001".to_owned() + "0000000000000102" + "00016d" + "0000000000000005" + "0000000000000009";
    assert_eq!(record.encode().1.map(|bytes| hex(&bytes)), Some(expected));
}

#[test]
fn row_122_a_classic_group_is_key_version_2_and_value_version_3() {
    let member = ClassicMemberValue {
        id: "m".to_owned(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        rebalance_timeout_ms: 2,
        session_timeout_ms: 3,
        subscription: Bytes::from_static(b"S"),
        assignment: Bytes::new(),
    };
    let value = ClassicValue {
        protocol_type: "consumer".to_owned(),
        generation: 1,
        protocol: Some("p".to_owned()),
        leader: Some("m".to_owned()),
        state_timestamp_ms: 4,
        members: vec![member],
    };
    let record = Record::GroupMetadata {
        group: "g".to_owned(),
        value: Some(value),
    };
    let (key, encoded) = record.encode();
    assert_eq!(hex(&key), "0002000167");
    let expected = "0003".to_owned()
        + "0008636f6e73756d6572"
        + "00000001"
        + "000170"
        + "00016d"
        + "0000000000000004"
        + "00000001"
        + "00016d"
        + "ffff"
        + "000163"
        + "000168"
        + "00000002"
        + "00000003"
        + "0000000153"
        + "00000000";
    assert_eq!(encoded.map(|bytes| hex(&bytes)), Some(expected));
}

#[test]
fn row_122_a_consumer_groups_values_are_flexible() {
    let group = || "g".to_owned();
    let encoded = |record: Record| {
        let (key, value) = record.encode();
        (
            hex(&key),
            value.map(|value| hex(&value)).unwrap_or_default(),
        )
    };
    let epoch = encoded(Record::GroupEpoch {
        group: group(),
        epoch: Some(5),
    });
    assert_eq!(
        epoch,
        ("0003000167".to_owned(), "00000000000500".to_owned())
    );
    let id = TopicId([0xaa; 16]);
    let partitions = Partitions::from([(id, BTreeSet::from([1]))]);
    let target = encoded(Record::Target {
        group: group(),
        member: "m".to_owned(),
        partitions: Some(partitions.clone()),
    });
    assert_eq!(target.0, "000700016700016d");
    assert_eq!(
        target.1,
        "0000".to_owned() + "02" + &"aa".repeat(16) + "02" + "00000001" + "0000"
    );
    let classic = ClassicProtocols {
        session_timeout_ms: 6,
        protocols: vec![("p".to_owned(), Bytes::from_static(b"x"))],
    };
    let value = MemberValue {
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        rebalance_timeout_ms: 1,
        classic: Some(classic),
        ..MemberValue::default()
    };
    let member = "m".to_owned();
    let member = encoded(Record::Member {
        group: group(),
        member,
        value: Some(value),
    });
    let expected = "0000".to_owned()
        + "00"
        + "00"
        + "0263"
        + "0268"
        + "01"
        + "00"
        + "00000001"
        + "00"
        + "01"
        + "00"
        + "0c"
        + "01"
        + "00000006"
        + "02"
        + "0270"
        + "0278"
        + "00"
        + "00";
    assert_eq!(member, ("000500016700016d".to_owned(), expected));
}

fn samples() -> Vec<Record> {
    let group = || "g".to_owned();
    let member = || "m".to_owned();
    let partitions = Partitions::from([(TopicId([1; 16]), BTreeSet::from([0, 5]))]);
    let racks = BTreeMap::from([(0, BTreeSet::from(["r1".to_owned(), "r2".to_owned()]))]);
    let topic = TopicMetadata {
        id: TopicId([1; 16]),
        partitions: 6,
        racks,
    };
    let classic = ClassicProtocols {
        session_timeout_ms: 1,
        protocols: Vec::new(),
    };
    let about = MemberValue {
        instance_id: Some("i".to_owned()),
        rack_id: Some("r".to_owned()),
        topics: BTreeSet::from(["t".to_owned()]),
        regex: Some("t.*".to_owned()),
        server_assignor: Some("range".to_owned()),
        classic: Some(classic),
        ..MemberValue::default()
    };
    let current = CurrentValue {
        epoch: 4,
        previous_epoch: 3,
        state: MemberState::UnrevokedPartitions,
        assigned: partitions.clone(),
        pending_revocation: partitions.clone(),
    };
    let regex = RegexValue {
        topics: ["t".to_owned()].into(),
        version: 7,
        timestamp_ms: 8,
    };
    let topics = BTreeMap::from([("t".to_owned(), topic)]);
    vec![
        Record::GroupMetadata {
            group: group(),
            value: Some(ClassicValue::default()),
        },
        Record::SubscribedTopics {
            group: group(),
            topics: Some(topics),
        },
        Record::Member {
            group: group(),
            member: member(),
            value: Some(about),
        },
        Record::TargetEpoch {
            group: group(),
            epoch: Some(3),
        },
        Record::Target {
            group: group(),
            member: member(),
            partitions: Some(partitions),
        },
        Record::Current {
            group: group(),
            member: member(),
            value: Some(current),
        },
        Record::ResolvedRegex {
            group: group(),
            regex: "t.*".to_owned(),
            value: Some(regex),
        },
        Record::Current {
            group: group(),
            member: member(),
            value: None,
        },
        Record::GroupEpoch {
            group: group(),
            epoch: None,
        },
    ]
}

#[test]
fn records_read_back_and_cut_or_wild_ones_are_malformed_without_harm() {
    for record in samples() {
        let (key, value) = record.encode();
        assert_eq!(Record::decode(&key, value.as_deref()), Ok(Some(record)));
        let Some(value) = value else { continue };
        for cut in 0..value.len() {
            let _ = Record::decode(&key, Some(&value[..cut]));
            let mut wild = value.clone();
            wild[cut] ^= 0xff;
            let _ = Record::decode(&key, Some(&wild));
        }
        assert!(Record::decode(&key, Some(&[0, 99])).is_err());
    }
    assert_eq!(
        Record::decode(&[0, 10, 0, 0], None),
        Ok(None),
        "a share group's"
    );
    assert!(Record::decode(&[0], None).is_err());
}
