use super::*;
use crate::base::{BrokerId, Offset, TopicId};
use crate::cluster::image::{Configs, Image, Resource};
use crate::cluster::records::Record;

const HOUR_MS: i64 = 3_600_000;

fn image(configs: &[(Resource, &str, &str)]) -> Image {
    let mut image = Image::default();
    let topic = Record::Topic {
        name: "orders".into(),
        id: TopicId([1; 16]),
    };
    image.apply(Offset(0), &topic).expect("a new topic");
    for (resource, name, value) in configs {
        let (resource_type, resource_name) = resource.to_kafka();
        let (name, value) = ((*name).to_owned(), Some((*value).to_owned()));
        let record = Record::Config {
            resource_type,
            resource_name,
            name,
            value,
        };
        image.apply(Offset(1), &record).expect("a known resource");
    }
    image
}

fn statics(configs: &[(&str, &str)]) -> StaticConfigs {
    configs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn overrides(configs: &[(&str, &str)]) -> Configs {
    statics(configs)
}

fn topic() -> Resource {
    Resource::Topic("orders".to_owned())
}

fn settings(image: &Image, statics: &StaticConfigs) -> TopicSettings {
    Layers::new(image, BrokerId(1), statics).topic_settings(image.configs(&topic()))
}

#[test]
fn every_default_follows_its_own_rule_and_is_documented() {
    for row in topic_configs().chain(broker_configs()) {
        if let Some(default) = row.default {
            let parsed = parse_value(row, default);
            assert!(parsed.is_ok(), "{}: {parsed:?}", row.name);
        }
        assert!(
            row.documentation.ends_with('.') || row.documentation.ends_with(')'),
            "{}",
            row.name
        );
    }
}

#[test]
fn names_are_unique_and_every_twin_is_a_broker_config_with_the_same_default() {
    let rows = broker::TABLE.len() + coordinators::TABLE.len() + security::TABLE.len();
    assert_eq!(broker_configs().count(), rows);
    assert_eq!(topic_configs().count(), topic::TABLE.len());
    for row in topic_configs() {
        for twin in row.twins {
            assert!(
                broker_config(twin.name).is_some(),
                "{} has no twin {}",
                row.name,
                twin.name
            );
        }
        let nothing = StaticConfigs::new();
        let image = Image::default();
        let layers = Layers::new(&image, BrokerId(1), &nothing);
        let default = row.twins.iter().rev().find_map(|twin| {
            let value = broker_config(twin.name)?.default?;
            match twin.times {
                1 => Some(value.to_owned()),
                times => value
                    .parse::<i64>()
                    .ok()
                    .map(|value| (value * times).to_string()),
            }
        });
        if !row.twins.is_empty() {
            assert_eq!(layers.topic_value(row, None), default, "{}", row.name);
        }
    }
}

#[test]
fn the_table_holds_all_topic_configs_of_kafka_4_1() {
    let names: Vec<&str> = topic_configs()
        .filter(|row| !row.internal)
        .map(|row| row.name)
        .collect();
    assert_eq!(names.len(), 33, "{names:?}");
    assert!(broker_configs().count() > 240);
}

#[test]
fn what_is_acked_is_durable_unless_someone_says_otherwise() {
    let nothing = StaticConfigs::new();
    assert_eq!(settings(&image(&[]), &nothing).flush_messages, 1);
    let relaxed = statics(&[("log.flush.interval.messages", "10000")]);
    assert_eq!(settings(&image(&[]), &relaxed).flush_messages, 10_000);
}

#[test]
fn retention_in_ms_beats_minutes_beats_hours_row_102() {
    let hours = statics(&[("log.retention.hours", "2")]);
    assert_eq!(settings(&image(&[]), &hours).retention_ms, 2 * HOUR_MS);
    let minutes = statics(&[("log.retention.hours", "2"), ("log.retention.minutes", "3")]);
    assert_eq!(settings(&image(&[]), &minutes).retention_ms, 180_000);
    let mut all = minutes.clone();
    all.insert("log.retention.ms".into(), "4".into());
    assert_eq!(settings(&image(&[]), &all).retention_ms, 4);
    let forever = statics(&[("log.retention.hours", "-1")]);
    assert_eq!(settings(&image(&[]), &forever).retention_ms, -1);
    assert_eq!(
        settings(&image(&[]), &StaticConfigs::new()).retention_ms,
        168 * HOUR_MS
    );
}

#[test]
fn a_topics_own_config_beats_the_broker_beats_the_default_of_brokers_beats_the_file() {
    let statics = statics(&[("log.segment.bytes", "4000000")]);
    let (broker, default) = (Resource::Broker(BrokerId(1)), Resource::BrokerDefault);
    let name = "log.segment.bytes";
    let segment_bytes =
        |configs: &[(Resource, &str, &str)]| settings(&image(configs), &statics).segment_bytes;
    assert_eq!(segment_bytes(&[]), 4_000_000);
    let mut configs = vec![(default, name, "5000000")];
    assert_eq!(segment_bytes(&configs), 5_000_000);
    configs.push((broker, name, "6000000"));
    assert_eq!(segment_bytes(&configs), 6_000_000);
    configs.push((topic(), "segment.bytes", "7000000"));
    assert_eq!(segment_bytes(&configs), 7_000_000);
    configs.push((topic(), "internal.segment.bytes", "1000"));
    assert_eq!(segment_bytes(&configs), 1000);
    let other = [(Resource::Broker(BrokerId(2)), name, "6000000")];
    assert_eq!(segment_bytes(&other), 4_000_000);
}

#[test]
fn describing_a_topic_names_every_config_its_source_and_its_synonyms_row_100() {
    let configs = [
        (topic(), "retention.ms", "1000"),
        (Resource::BrokerDefault, "log.retention.ms", "2000"),
        (Resource::BrokerDefault, "message.max.bytes", "3000"),
    ];
    let (image, statics) = (image(&configs), statics(&[("log.retention.hours", "5")]));
    let layers = Layers::new(&image, BrokerId(1), &statics);
    let entries = describe(&topic(), &layers).expect("it is there");
    assert_eq!(
        entries.len(),
        topic_configs().filter(|row| !row.internal).count()
    );
    let entry = |name: &str| {
        entries
            .iter()
            .find(|entry| entry.name() == name)
            .expect("a config")
    };
    let retention = entry("retention.ms");
    assert_eq!(
        (retention.value.as_deref(), retention.source),
        (Some("1000"), Source::Topic)
    );
    let synonyms: Vec<_> = retention
        .synonyms
        .iter()
        .map(|synonym| {
            (
                synonym.name.as_str(),
                synonym.value.as_deref(),
                synonym.source as i8,
            )
        })
        .collect();
    let expected = [
        ("retention.ms", Some("1000"), 1),
        ("log.retention.ms", Some("2000"), 3),
        ("log.retention.hours", Some("5"), 4),
    ];
    assert_eq!(synonyms, expected);
    let size = entry("max.message.bytes");
    assert_eq!(
        (size.value.as_deref(), size.source as i8),
        (Some("3000"), 3)
    );
    let policy = entry("cleanup.policy");
    assert_eq!(
        (policy.value.as_deref(), policy.is_default()),
        (Some("delete"), true)
    );
    assert_eq!((policy.definition.kind as i8, policy.read_only), (7, false));
    assert!(describe(&Resource::Topic("none".to_owned()), &layers).is_none());
}

#[test]
fn describing_a_broker_hides_secrets_and_says_what_is_read_only_row_100() {
    let statics = statics(&[("ssl.key.password", "secret"), ("num.partitions", "3")]);
    let image = image(&[]);
    let layers = Layers::new(&image, BrokerId(1), &statics);
    let entries = describe(&Resource::Broker(BrokerId(1)), &layers).expect("this broker");
    let entry = |name: &str| {
        entries
            .iter()
            .find(|entry| entry.name() == name)
            .expect("a config")
    };
    let password = entry("ssl.key.password");
    assert!(password.value.is_none() && password.definition.is_sensitive());
    assert!(
        password
            .synonyms
            .iter()
            .all(|synonym| synonym.value.is_none())
    );
    let partitions = entry("num.partitions");
    assert_eq!(
        (partitions.value.as_deref(), partitions.read_only),
        (Some("3"), true)
    );
    assert_eq!(partitions.source, Source::StaticBroker);
    assert!(!entry("log.retention.ms").read_only);
    assert!(
        entry("num.io.threads")
            .definition
            .documentation()
            .contains("no effect")
    );
    assert!(describe(&Resource::Broker(BrokerId(2)), &layers).is_none());
    assert_eq!(describe(&Resource::BrokerDefault, &layers), Some(vec![]));
}

#[test]
fn values_follow_kafkas_rules() {
    for (name, value) in [
        ("cleanup.policy", "compact,delete"),
        ("cleanup.policy", " delete , compact "),
        ("cleanup.policy", ""),
        ("retention.ms", "-1"),
        ("preallocate", "TRUE"),
        ("segment.bytes", " 1048576 "),
        ("min.cleanable.dirty.ratio", "1"),
        ("compression.gzip.level", "-1"),
        ("message.timestamp.type", "LogAppendTime"),
    ] {
        assert!(parse_topic(name, value).is_ok(), "{name}={value}");
    }
    for (name, value, why) in [
        ("cleanup.policy", "archive", "compact, delete"),
        ("retention.ms", "-2", "at least -1"),
        ("retention.ms", "soon", "LONG"),
        ("segment.bytes", "1000", "at least 1048576"),
        ("segment.bytes", "3000000000", "INT"),
        ("preallocate", "yes", "true or false"),
        ("min.cleanable.dirty.ratio", "1.1", "between 0 and 1"),
        ("min.cleanable.dirty.ratio", "NaN", "between 0 and 1"),
        ("compression.type", "brotli", "zstd"),
        ("compression.gzip.level", "0", "between 1 and 9"),
        ("message.timestamp.type", "logappendtime", "CreateTime"),
    ] {
        let refused = parse_topic(name, value).expect_err(name);
        assert!(
            refused.why.contains(why) && refused.why.contains(name),
            "{refused}"
        );
    }
    let hidden = parse_broker("log.segment.bytes", "x").expect_err("no number");
    assert_eq!(
        (hidden.name.as_str(), hidden.value.as_str()),
        ("log.segment.bytes", "x")
    );
}

#[test]
fn configs_that_contradict_each_other_are_refused_together() {
    let (image, statics) = (image(&[]), StaticConfigs::new());
    let layers = Layers::new(&image, BrokerId(1), &statics);
    let check = |configs: &[(&str, &str)]| layers.check_topic(&overrides(configs));
    assert!(check(&[("min.compaction.lag.ms", "5")]).is_ok());
    assert!(
        check(&[
            ("min.compaction.lag.ms", "5"),
            ("max.compaction.lag.ms", "4")
        ])
        .is_err()
    );
    assert!(check(&[("remote.storage.enable", "true")]).is_err());
    assert!(check(&[("no.such.config", "1")]).is_err());
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_known_one() {
    let refused = parse_topic("retention.msec", "1").expect_err("unknown");
    assert!(
        refused.why.contains("did you mean retention.ms?"),
        "{refused}"
    );
    let refused = parse_broker("log.retension.ms", "1").expect_err("unknown");
    assert!(
        refused.why.contains("did you mean log.retention.ms?"),
        "{refused}"
    );
    let refused = parse_topic("zzz", "1").expect_err("unknown");
    assert!(!refused.why.contains("did you mean"), "{refused}");
    assert_eq!(
        nearest_broker_config("num.partition"),
        Some("num.partitions")
    );
    let long = "x".repeat(1 << 20);
    assert!(parse_topic(&long, "1").expect_err("unknown").why.len() < 200);
}

#[test]
fn broker_settings_resolve_through_the_layers() {
    let image = image(&[(Resource::BrokerDefault, "message.max.bytes", "9")]);
    let statics = statics(&[
        ("group.initial.rebalance.delay.ms", "0"),
        ("offsets.retention.minutes", "1"),
        ("auto.create.topics.enable", "false"),
        ("num.partitions", "not a number"),
    ]);
    let settings = Layers::new(&image, BrokerId(1), &statics).broker_settings();
    assert_eq!(settings.message_max_bytes, 9);
    assert_eq!(settings.groups.initial_rebalance_delay_ms, 0);
    assert_eq!(settings.groups.offsets_retention_ms, 60_000);
    assert_eq!(settings.groups.consumer_assignors, ["uniform", "range"]);
    assert!(!settings.auto_create_topics && settings.delete_topics);
    assert_eq!(settings.num_partitions, 1);
}
