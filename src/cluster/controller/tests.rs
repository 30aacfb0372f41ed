use super::*;
use crate::base::{Mono, Offset, PartitionIndex, Wall};
use crate::cluster::configs::Source;
use crate::cluster::image::Resource;
use crate::cluster::records::Endpoint;

/// A controller with its image; every decision is applied at once.
struct Cluster {
    controller: Controller,
    image: Image,
    offset: i64,
}

fn registration(broker: i32) -> RegisterBroker {
    RegisterBroker {
        broker: BrokerId(broker),
        is_migrating_zk_broker: false,
        incarnation: TopicId([9; 16]),
        epoch: 0,
        endpoints: vec![Endpoint {
            name: "PLAINTEXT".into(),
            host: "localhost".into(),
            port: 9092,
            security_protocol: 0,
        }],
        features: vec![],
        rack: None,
        fenced: false,
        in_controlled_shutdown: false,
        log_dirs: vec![TopicId([8; 16])],
    }
}

impl Cluster {
    /// One broker, number 1, started with `statics`.
    fn with(statics: &[(&str, &str)]) -> Cluster {
        let statics: StaticConfigs = statics
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let controller = Controller::new(BrokerId(1), Arc::new(statics), Prng::new(1));
        let mut cluster = Cluster {
            controller,
            image: Image::default(),
            offset: 0,
        };
        let decision = cluster.controller.start(registration(1), &cluster.image);
        cluster.apply(&decision.records);
        cluster
    }

    fn new() -> Cluster {
        Cluster::with(&[])
    }

    fn apply(&mut self, records: &[Record]) {
        for record in records {
            let decoded = Record::decode(&record.encode()).expect("what is written can be read");
            self.image
                .apply(Offset(self.offset), &decoded)
                .expect("a decision applies");
            self.offset += 1;
        }
    }

    fn ask(&mut self, request: &ControlRequest) -> ControlReply {
        let now = Now {
            mono: Mono(0),
            wall: Wall(0),
        };
        let decision = self.controller.handle(now, request, &self.image);
        self.apply(&decision.records);
        decision.reply
    }

    fn create_all(&mut self, topics: Vec<NewTopic>) -> Vec<Result<CreatedTopic, Refused>> {
        match self.ask(&ControlRequest::CreateTopics {
            topics,
            validate_only: false,
        }) {
            ControlReply::CreateTopics(results) => {
                results.into_iter().map(|(_, result)| result).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, topic: NewTopic) -> Result<CreatedTopic, Refused> {
        self.create_all(vec![topic]).pop().expect("one result")
    }

    fn delete(&mut self, keys: &[TopicKey]) -> Vec<Option<ErrorCode>> {
        match self.ask(&ControlRequest::DeleteTopics(keys.to_vec())) {
            ControlReply::DeleteTopics(results) => results
                .into_iter()
                .map(|(_, result)| result.err().map(|why| why.error))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn grow(&mut self, topics: Vec<MorePartitions>) -> Vec<Option<ErrorCode>> {
        match self.ask(&ControlRequest::CreatePartitions {
            topics,
            validate_only: false,
        }) {
            ControlReply::CreatePartitions(results) => results
                .into_iter()
                .map(|(_, result)| result.err().map(|why| why.error))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn alter(&mut self, changes: Vec<ConfigChange>) -> Vec<Option<ErrorCode>> {
        match self.ask(&ControlRequest::AlterConfigs {
            changes,
            validate_only: false,
        }) {
            ControlReply::AlterConfigs(results) => results
                .into_iter()
                .map(|result| result.err().map(|why| why.error))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn update(&mut self, updates: Vec<FeatureUpdate>) -> Vec<Option<ErrorCode>> {
        match self.ask(&ControlRequest::UpdateFeatures {
            updates,
            validate_only: false,
        }) {
            ControlReply::UpdateFeatures(results) => results
                .into_iter()
                .map(|(_, result)| result.err().map(|why| why.error))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn config(&self, resource: &Resource, name: &str) -> Option<&str> {
        self.image.configs(resource)?.get(name).map(String::as_str)
    }
}

fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.into(),
        partitions,
        replication_factor: -1,
        ..NewTopic::default()
    }
}

fn with_config(name: &str, config: &str, value: Option<&str>) -> NewTopic {
    let configs = vec![(config.to_owned(), value.map(str::to_owned))];
    NewTopic {
        configs,
        ..topic(name, 1)
    }
}

fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
    let brokers = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
    let assignments = assignments
        .iter()
        .map(|(index, ids)| (PartitionIndex(*index), brokers(ids)))
        .collect();
    NewTopic {
        assignments,
        ..topic(name, -1)
    }
}

fn code<T>(result: Result<T, Refused>) -> Option<ErrorCode> {
    result.err().map(|refused| refused.error)
}

fn more(name: &str, count: i32) -> MorePartitions {
    MorePartitions {
        name: name.into(),
        count,
        assignments: None,
    }
}

fn on(resource: Resource, operations: &[(&str, ConfigOperation)]) -> ConfigChange {
    let operations = operations
        .iter()
        .map(|(name, of)| ((*name).to_owned(), of.clone()))
        .collect();
    ConfigChange {
        resource: Ok(resource),
        replace: false,
        operations,
    }
}

fn set(value: &str) -> ConfigOperation {
    ConfigOperation::Set(Some(value.to_owned()))
}

fn orders() -> Resource {
    Resource::Topic("orders".to_owned())
}

#[test]
fn the_first_start_finalises_features_and_later_ones_do_not() {
    let mut cluster = Cluster::new();
    assert_eq!(cluster.image.features().get("metadata.version"), Some(&27));
    assert_eq!(cluster.image.features().get("group.version"), Some(&1));
    assert_eq!(
        cluster.image.active_brokers().collect::<Vec<_>>(),
        [BrokerId(1)]
    );
    assert_eq!(
        cluster.image.brokers()[&BrokerId(1)].features.len(),
        FEATURES.len()
    );
    let again = cluster.controller.start(registration(1), &cluster.image);
    assert!(matches!(
        again.records.as_slice(),
        [Record::RegisterBroker(_)]
    ));
}

#[test]
fn a_topic_gets_the_brokers_defaults_where_it_does_not_say_rows_89_and_96() {
    let mut cluster = Cluster::with(&[("num.partitions", "3"), ("log.retention.ms", "77")]);
    let made = cluster.create(topic("orders", -1)).expect("a good topic");
    assert_eq!((made.partitions, made.replication_factor), (3, 1));
    let found = cluster.image.topic("orders").expect("it is there");
    assert_eq!((found.id, found.partitions.len()), (made.id, 3));
    for partition in &found.partitions {
        assert_eq!(partition.leader, Some(BrokerId(1)));
        assert_eq!(
            (&partition.replicas, &partition.isr),
            (&vec![BrokerId(1)], &vec![BrokerId(1)])
        );
        assert_eq!(partition.directories, [TopicId([8; 16])]);
    }
    let retention = made
        .configs
        .iter()
        .find(|entry| entry.name() == "retention.ms");
    let retention = retention.map(|entry| (entry.value.as_deref(), entry.source));
    assert_eq!(retention, Some((Some("77"), Source::StaticBroker)));
}

#[test]
fn bad_names_and_look_alikes_are_refused_row_90() {
    let mut cluster = Cluster::new();
    cluster.create(topic("a.b", 1)).expect("a good topic");
    for bad in ["", ".", "..", "a b", "a/b", &"x".repeat(250), "a_b"] {
        let refused = code(cluster.create(topic(bad, 1)));
        assert_eq!(refused, Some(ErrorCode::InvalidTopicException), "{bad:?}");
    }
    let metadata = code(cluster.create(topic("__cluster_metadata", 1)));
    assert_eq!(metadata, Some(ErrorCode::InvalidRequest));
    let both = cluster.create_all(vec![topic("c.d", 1), topic("c_d", 1)]);
    let codes: Vec<_> = both.into_iter().map(code).collect();
    assert_eq!(codes, [None, Some(ErrorCode::InvalidTopicException)]);
}

#[test]
fn what_create_topics_refuses_has_kafkas_codes_row_96() {
    let mut cluster = Cluster::new();
    cluster.create(topic("orders", 1)).expect("a good topic");
    let replicated = |factor| NewTopic {
        replication_factor: factor,
        ..topic("x", 1)
    };
    let manual = |assignments: &[(i32, &[i32])]| assigned("x", assignments);
    for (request, expected) in [
        (topic("orders", 1), ErrorCode::TopicAlreadyExists),
        (topic("x", 0), ErrorCode::InvalidPartitions),
        (topic("x", -2), ErrorCode::InvalidPartitions),
        (topic("x", i32::MAX), ErrorCode::InvalidPartitions),
        (topic("x", 100_001), ErrorCode::InvalidPartitions),
        (replicated(0), ErrorCode::InvalidReplicationFactor),
        (replicated(-2), ErrorCode::InvalidReplicationFactor),
        (replicated(2), ErrorCode::InvalidReplicationFactor),
        (replicated(i16::MAX), ErrorCode::InvalidReplicationFactor),
        (manual(&[(0, &[2])]), ErrorCode::InvalidReplicaAssignment),
        (manual(&[(0, &[1, 1])]), ErrorCode::InvalidReplicaAssignment),
        (manual(&[(0, &[])]), ErrorCode::InvalidReplicaAssignment),
        (manual(&[(1, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (
            manual(&[(0, &[1]), (0, &[1])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (manual(&[(-1, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (
            NewTopic {
                partitions: 1,
                ..manual(&[(0, &[1])])
            },
            ErrorCode::InvalidRequest,
        ),
        (
            NewTopic {
                replication_factor: 1,
                ..manual(&[(0, &[1])])
            },
            ErrorCode::InvalidRequest,
        ),
        (
            with_config("x", "no.such.config", Some("1")),
            ErrorCode::InvalidConfig,
        ),
        (
            with_config("x", "retention.ms", Some("soon")),
            ErrorCode::InvalidConfig,
        ),
        (
            with_config("x", "retention.ms", None),
            ErrorCode::InvalidConfig,
        ),
        (
            with_config("x", "remote.storage.enable", Some("true")),
            ErrorCode::InvalidConfig,
        ),
        (
            with_config(
                "x",
                "leader.replication.throttled.replicas",
                Some(&"1:1,".repeat(9000)),
            ),
            ErrorCode::InvalidConfig,
        ),
    ] {
        let shown = format!("{:.200?}", request);
        assert_eq!(code(cluster.create(request)), Some(expected), "{shown}");
    }
    assert_eq!(cluster.image.topic_count(), 1);
    let made = cluster
        .create(assigned("x", &[(1, &[1]), (0, &[1])]))
        .expect("a good choice");
    assert_eq!((made.partitions, made.replication_factor), (2, 1));
}

#[test]
fn a_name_that_comes_twice_is_refused_once_and_the_others_are_made() {
    let mut cluster = Cluster::new();
    let topics = vec![topic("a", 1), topic("b", 1), topic("a", 2)];
    let reply = cluster.ask(&ControlRequest::CreateTopics {
        topics,
        validate_only: false,
    });
    let ControlReply::CreateTopics(results) = reply else {
        panic!("{reply:?}")
    };
    let results: Vec<_> = results
        .into_iter()
        .map(|(name, result)| (name, code(result)))
        .collect();
    let expected = [
        ("a".to_owned(), Some(ErrorCode::InvalidRequest)),
        ("b".to_owned(), None),
    ];
    assert_eq!(results, expected);
    assert!(cluster.image.topic("a").is_none() && cluster.image.topic("b").is_some());
}

#[test]
fn validate_only_says_the_same_and_changes_nothing_row_96() {
    let mut cluster = Cluster::new();
    cluster.create(topic("orders", 1)).expect("a good topic");
    let (before, validate_only) = (cluster.image.clone(), true);
    let topics = vec![topic("a", 5), topic("orders", 1)];
    let reply = cluster.ask(&ControlRequest::CreateTopics {
        topics,
        validate_only,
    });
    let ControlReply::CreateTopics(results) = reply else {
        panic!("{reply:?}")
    };
    let partitions = results[0]
        .1
        .as_ref()
        .map(|made| (made.partitions, made.configs.len() > 30));
    assert_eq!(partitions, Ok((5, true)));
    assert!(results[1].1.is_err());
    let topics = vec![more("orders", 2)];
    cluster.ask(&ControlRequest::CreatePartitions {
        topics,
        validate_only,
    });
    let changes = vec![on(orders(), &[("retention.ms", set("1"))])];
    cluster.ask(&ControlRequest::AlterConfigs {
        changes,
        validate_only,
    });
    let (name, upgrade_type) = ("group.version".to_owned(), UpgradeType::SafeDowngrade);
    let updates = vec![FeatureUpdate {
        name,
        level: 0,
        upgrade_type,
    }];
    cluster.ask(&ControlRequest::UpdateFeatures {
        updates,
        validate_only,
    });
    assert!(cluster.image == before);
}

/// Each topic alone is allowed; together they would take gigabytes.
#[test]
fn absurd_counts_are_refused_for_the_request_as_a_whole_before_memory_is_taken() {
    let mut cluster = Cluster::new();
    let topics = (0..1000)
        .map(|number| topic(&format!("t{number}"), 60_000))
        .collect();
    let results = cluster.create_all(topics);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(code(results[999].clone()), Some(ErrorCode::PolicyViolation));
    assert_eq!(cluster.image.partition_count(), 60_000);
    for number in 0..3 {
        cluster
            .create(topic(&format!("s{number}"), 1))
            .expect("a good topic");
    }
    let grown = cluster.grow(
        (0..3)
            .map(|number| more(&format!("s{number}"), 60_000))
            .collect(),
    );
    let refused = Some(ErrorCode::PolicyViolation);
    assert_eq!(grown, [None, refused, refused]);
}

#[test]
fn topics_are_deleted_by_name_or_by_id_row_98() {
    let mut cluster = Cluster::new();
    let mut id = |name: &str| cluster.create(topic(name, 1)).expect("a good topic").id;
    let (_, b, c, _) = (id("a"), id("b"), id("c"), id("d"));
    let name = |name: &str| TopicKey::Name(name.to_owned());
    let unknown = TopicKey::Id(TopicId([1; 16]));
    let keys = [
        name("a"),
        TopicKey::Id(b),
        name("nothing"),
        unknown,
        TopicKey::Id(c),
        name("c"),
    ];
    let codes = cluster.delete(&keys);
    let invalid = Some(ErrorCode::InvalidRequest);
    let (no_name, no_id) = (
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicId,
    );
    assert_eq!(
        codes,
        [None, None, Some(no_name), Some(no_id), None, invalid]
    );
    assert_eq!(cluster.delete(&[name("d"), name("d")]), [invalid]);
    assert_eq!(
        cluster
            .image
            .topics()
            .map(|topic| &*topic.name)
            .collect::<Vec<_>>(),
        ["d"]
    );
}

#[test]
fn deletion_can_be_switched_off_row_98() {
    let mut cluster = Cluster::with(&[("delete.topic.enable", "false")]);
    cluster.create(topic("a", 1)).expect("a good topic");
    let codes = cluster.delete(&[TopicKey::Name("a".into()), TopicKey::Name("nothing".into())]);
    assert_eq!(codes, [Some(ErrorCode::TopicDeletionDisabled); 2]);
    assert!(cluster.image.topic("a").is_some());
}

#[test]
fn a_deleted_name_is_free_when_every_core_has_let_go_of_it_and_gets_another_id() {
    let mut cluster = Cluster::new();
    let first = cluster.create(topic("a", 1)).expect("a good topic").id;
    assert_eq!(cluster.delete(&[TopicKey::Name("a".into())]), [None]);
    let early = code(cluster.create(topic("a", 1)));
    assert_eq!(early, Some(ErrorCode::TopicAlreadyExists));
    cluster.controller.deletion_finished(first);
    let second = cluster.create(topic("a", 1)).expect("the name is free").id;
    assert_ne!(first, second);
}

#[test]
fn partitions_only_grow_and_each_topic_is_answered_once_row_97() {
    let mut cluster = Cluster::new();
    cluster.create(topic("a", 2)).expect("a good topic");
    let chosen = |count, brokers: &[&[i32]]| MorePartitions {
        assignments: Some(
            brokers
                .iter()
                .map(|ids| ids.iter().map(|id| BrokerId(*id)).collect())
                .collect(),
        ),
        ..more("a", count)
    };
    for (request, expected) in [
        (more("nothing", 3), ErrorCode::UnknownTopicOrPartition),
        (more("a", 2), ErrorCode::InvalidPartitions),
        (more("a", 1), ErrorCode::InvalidPartitions),
        (more("a", -1), ErrorCode::InvalidPartitions),
        (more("a", i32::MAX), ErrorCode::InvalidPartitions),
        (chosen(4, &[&[1]]), ErrorCode::InvalidReplicaAssignment),
        (chosen(3, &[&[2]]), ErrorCode::InvalidReplicaAssignment),
        (chosen(3, &[&[1, 2]]), ErrorCode::InvalidReplicaAssignment),
        (chosen(3, &[&[]]), ErrorCode::InvalidReplicaAssignment),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(cluster.grow(vec![request]), [Some(expected)], "{shown}");
    }
    let twice = cluster.grow(vec![more("a", 3), more("a", 4)]);
    assert_eq!(twice, [Some(ErrorCode::InvalidRequest)]);
    assert_eq!(cluster.grow(vec![more("a", 5)]), [None]);
    assert_eq!(cluster.grow(vec![chosen(6, &[&[1]])]), [None]);
    assert_eq!(
        cluster.image.topic("a").map(|topic| topic.partitions.len()),
        Some(6)
    );
}

#[test]
fn replicas_go_round_the_active_brokers_only() {
    let mut cluster = Cluster::new();
    let fenced = RegisterBroker {
        fenced: true,
        ..registration(3)
    };
    let records = [registration(2), fenced].map(Record::RegisterBroker);
    cluster.apply(&records);
    let wanted = NewTopic {
        replication_factor: 2,
        ..topic("a", 3)
    };
    cluster.create(wanted).expect("two brokers are active");
    let leaders = |cluster: &Cluster, name: &str| -> Vec<Option<BrokerId>> {
        let topic = cluster.image.topic(name).expect("a topic");
        topic
            .partitions
            .iter()
            .map(|partition| partition.leader)
            .collect()
    };
    assert_eq!(
        leaders(&cluster, "a"),
        [1, 2, 1].map(|id| Some(BrokerId(id)))
    );
    assert_eq!(cluster.grow(vec![more("a", 4)]), [None]);
    assert_eq!(leaders(&cluster, "a")[3], Some(BrokerId(2)));
    let three = NewTopic {
        replication_factor: 3,
        ..topic("b", 1)
    };
    assert_eq!(
        code(cluster.create(three)),
        Some(ErrorCode::InvalidReplicationFactor)
    );
    cluster
        .create(assigned("c", &[(0, &[3, 2])]))
        .expect("one of them is active");
    assert_eq!(leaders(&cluster, "c"), [Some(BrokerId(2))]);
    let only_fenced = code(cluster.create(assigned("d", &[(0, &[3])])));
    assert_eq!(only_fenced, Some(ErrorCode::InvalidReplicaAssignment));
}

#[test]
fn configs_are_set_deleted_appended_and_subtracted_row_101() {
    let mut cluster = Cluster::new();
    cluster.create(topic("orders", 1)).expect("a good topic");
    let item = |value: &str| Some(value.to_owned());
    let policy = "cleanup.policy";
    let append = ConfigOperation::Append(item("compact,delete"));
    let changes = [("retention.ms", set("5")), (policy, append)];
    assert_eq!(cluster.alter(vec![on(orders(), &changes)]), [None]);
    assert_eq!(cluster.config(&orders(), "retention.ms"), Some("5"));
    assert_eq!(cluster.config(&orders(), policy), Some("delete,compact"));
    let subtract = ConfigOperation::Subtract(item("delete"));
    let changes = [
        ("retention.ms", ConfigOperation::Delete),
        (policy, subtract),
    ];
    assert_eq!(cluster.alter(vec![on(orders(), &changes)]), [None]);
    assert_eq!(cluster.config(&orders(), "retention.ms"), None);
    assert_eq!(cluster.config(&orders(), policy), Some("compact"));
}

#[test]
fn what_config_changes_refuse_has_kafkas_codes_and_spares_the_others_row_101() {
    let mut cluster = Cluster::new();
    cluster.create(topic("orders", 1)).expect("a good topic");
    let null = ConfigOperation::Set(None);
    let append = ConfigOperation::Append(Some("1".to_owned()));
    let config = ErrorCode::InvalidConfig;
    let request = ErrorCode::InvalidRequest;
    for (change, expected) in [
        (on(orders(), &[("no.such.config", set("1"))]), config),
        (on(orders(), &[("retention.ms", set("soon"))]), config),
        (on(orders(), &[("retention.ms", append)]), config),
        (on(orders(), &[("cleanup.policy", set("archive"))]), config),
        (
            on(
                orders(),
                &[(
                    "leader.replication.throttled.replicas",
                    set(&"x".repeat(40_000)),
                )],
            ),
            config,
        ),
        (on(orders(), &[("retention.ms", null)]), request),
        (
            on(
                orders(),
                &[("retention.ms", set("1")), ("retention.ms", set("2"))],
            ),
            request,
        ),
        (
            on(Resource::Topic("none".into()), &[]),
            ErrorCode::UnknownTopicOrPartition,
        ),
        (on(Resource::Topic(String::new()), &[]), request),
        (on(Resource::Broker(BrokerId(2)), &[]), request),
        (
            on(Resource::BrokerDefault, &[("no.such.config", set("1"))]),
            config,
        ),
        (
            on(Resource::BrokerDefault, &[("num.partitions", set("2"))]),
            request,
        ),
        (
            on(
                Resource::BrokerDefault,
                &[("ssl.keystore.location", set("x"))],
            ),
            request,
        ),
        (
            ConfigChange {
                resource: Err("Unknown resource type 9".into()),
                ..on(orders(), &[])
            },
            request,
        ),
    ] {
        let shown = format!("{change:.200?}");
        assert_eq!(cluster.alter(vec![change]), [Some(expected)], "{shown}");
    }
    let good = on(Resource::BrokerDefault, &[("log.retention.ms", set("7"))]);
    let twice = on(orders(), &[("retention.ms", set("1"))]);
    let codes = cluster.alter(vec![twice.clone(), good, twice]);
    assert_eq!(codes, [Some(request), None, Some(request)]);
    assert_eq!(
        cluster.config(&Resource::BrokerDefault, "log.retention.ms"),
        Some("7")
    );
    assert_eq!(cluster.config(&orders(), "retention.ms"), None);
}

#[test]
fn the_older_alter_configs_replaces_the_whole_set_row_101() {
    let mut cluster = Cluster::new();
    cluster
        .create(with_config("orders", "retention.ms", Some("5")))
        .expect("a good topic");
    let change = on(orders(), &[("segment.ms", set("6"))]);
    let change = ConfigChange {
        replace: true,
        ..change
    };
    assert_eq!(cluster.alter(vec![change]), [None]);
    assert_eq!(cluster.config(&orders(), "retention.ms"), None);
    assert_eq!(cluster.config(&orders(), "segment.ms"), Some("6"));
    let nothing = ConfigChange {
        replace: true,
        ..on(orders(), &[])
    };
    assert_eq!(cluster.alter(vec![nothing]), [None]);
    assert_eq!(cluster.image.configs(&orders()), None);
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    let mut cluster = Cluster::new();
    cluster
        .create(with_config("orders", "retention.ms", Some("5")))
        .expect("a good topic");
    let before = cluster.offset;
    assert_eq!(
        cluster.alter(vec![on(orders(), &[("retention.ms", set("5"))])]),
        [None]
    );
    let name = "group.version".to_owned();
    let same = FeatureUpdate {
        name,
        level: 1,
        upgrade_type: UpgradeType::Upgrade,
    };
    assert_eq!(cluster.update(vec![same]), [None]);
    assert_eq!(cluster.offset, before);
}

#[test]
fn blocks_of_producer_ids_do_not_overlap_and_end_in_a_refusal() {
    let mut cluster = Cluster::new();
    for block in 0..3 {
        let expected = ControlReply::ProducerIds {
            first: ProducerId(block * 1000),
            count: 1000,
        };
        assert_eq!(cluster.ask(&ControlRequest::AllocateProducerIds), expected);
    }
    let next = ProducerId(i64::MAX - 10);
    cluster.apply(&[Record::ProducerIds {
        broker: BrokerId(1),
        broker_epoch: 0,
        next,
    }]);
    let reply = cluster.ask(&ControlRequest::AllocateProducerIds);
    assert!(matches!(reply, ControlReply::Unavailable(_)), "{reply:?}");
}

#[test]
fn features_go_up_and_down_as_far_as_supported_and_all_or_none() {
    let mut cluster = Cluster::new();
    let update = |name: &str, level, upgrade_type| FeatureUpdate {
        name: name.to_owned(),
        level,
        upgrade_type,
    };
    use UpgradeType::{SafeDowngrade, UnsafeDowngrade, Upgrade};
    let refused = Some(ErrorCode::InvalidUpdateVersion);
    for bad in [
        update("group.version", 2, Upgrade),
        update("group.version", -1, Upgrade),
        update("group.version", 0, Upgrade),
        update("metadata.version", 26, UnsafeDowngrade),
        update("metadata.version", 0, UnsafeDowngrade),
        update("metadata.version", 28, Upgrade),
        update("no.such.feature", 1, Upgrade),
    ] {
        let good = update("group.version", 0, SafeDowngrade);
        assert_eq!(cluster.update(vec![bad.clone()]), [refused], "{bad:?}");
        if bad.name != good.name {
            assert_eq!(cluster.update(vec![good, bad]), [None, refused]);
        }
    }
    assert_eq!(cluster.image.features().get("group.version"), Some(&1));
    assert_eq!(
        cluster.update(vec![update("group.version", 0, SafeDowngrade)]),
        [None]
    );
    assert_eq!(cluster.image.features().get("group.version"), None);
    assert_eq!(
        cluster.update(vec![update("group.version", 1, SafeDowngrade)]),
        [refused]
    );
    assert_eq!(
        cluster.update(vec![update("group.version", 1, Upgrade)]),
        [None]
    );
}

/// Whatever is asked: no panic, and every decision applies to the image that it was made on.
#[test]
fn random_requests_never_panic_and_their_records_always_apply() {
    let mut prng = Prng::new(5);
    let mut cluster = Cluster::new();
    let names = ["a", "b", "a.b", "a_b", "", "..", "__consumer_offsets"];
    let configs = [
        "retention.ms",
        "cleanup.policy",
        "log.retention.ms",
        "nothing",
    ];
    let values = ["1", "-5", "compact", "delete,compact", ""];
    for _ in 0..3000 {
        let mut pick = |from: &[&str]| from[prng.below(from.len() as u64) as usize].to_owned();
        let (name, config, value) = (pick(&names), pick(&configs), pick(&values));
        let number = prng.below(8) as i32 - 2;
        let request = match prng.below(6) {
            0 => {
                let configs = vec![(config, Some(value))];
                let configs = if prng.one_in(2) { configs } else { Vec::new() };
                let topics = vec![NewTopic {
                    configs,
                    ..topic(&name, number)
                }];
                ControlRequest::CreateTopics {
                    topics,
                    validate_only: prng.one_in(4),
                }
            }
            1 => ControlRequest::DeleteTopics(vec![TopicKey::Name(name)]),
            2 => {
                let topics = vec![more(&name, number)];
                ControlRequest::CreatePartitions {
                    topics,
                    validate_only: false,
                }
            }
            3 | 4 => {
                let resource = match prng.below(3) {
                    0 => Resource::BrokerDefault,
                    1 => Resource::Broker(BrokerId(number)),
                    _ => Resource::Topic(name),
                };
                let operation = match prng.below(4) {
                    0 => ConfigOperation::Set(Some(value)),
                    1 => ConfigOperation::Delete,
                    2 => ConfigOperation::Append(Some(value)),
                    _ => ConfigOperation::Subtract(Some(value)),
                };
                let changes = vec![on(resource, &[(&config, operation)])];
                ControlRequest::AlterConfigs {
                    changes,
                    validate_only: false,
                }
            }
            _ => ControlRequest::AllocateProducerIds,
        };
        let reply = cluster.ask(&request);
        if let ControlReply::DeleteTopics(results) = reply
            && prng.one_in(2)
        {
            for (_, id) in results.into_iter().filter_map(|(_, result)| result.ok()) {
                cluster.controller.deletion_finished(id);
            }
        }
    }
    assert!(cluster.offset > 500, "{} records", cluster.offset);
}
