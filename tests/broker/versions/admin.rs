//! Configs, directories, replicas, quotas, features, permissions.

use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource as Replaced, AlterableConfig as ReplacedConfig,
};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics as Listed;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::*;

use super::topics::TOPIC;
use super::{Sweep, text, topic};

/// Kinds of resources.
const OF_TOPIC: i8 = 2;
const OF_BROKER: i8 = 4;

pub fn sweep(sweep: &mut Sweep) {
    change_configs(sweep);
    describe_configs(sweep);
    replace_configs(sweep);
    directories(sweep);
    replicas(sweep);
    permissions(sweep);
    cluster(sweep);
    features(sweep);
}

fn change_configs(sweep: &mut Sweep) {
    let make = |version: i16| {
        let value = (3_600_000 + i64::from(version)).to_string();
        let change = |kind, name: &str, key: &str| {
            let config = AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(0)
                .with_value(Some(text(&value)));
            AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configs(vec![config])
        };
        IncrementalAlterConfigsRequest::default().with_resources(vec![
            change(OF_TOPIC, TOPIC, "retention.ms"),
            change(OF_TOPIC, "compacted", "no.such.config"),
            change(OF_BROKER, "", "log.retention.ms"),
        ])
    };
    sweep.each(make, |version, response| {
        let told = response.responses.iter();
        let codes: Vec<i16> = told.map(|told| told.error_code).collect();
        assert_eq!(codes, [0, 40, 0], "{version}");
    });
}

fn describe_configs(sweep: &mut Sweep) {
    let make = |version| {
        let resource = |kind, name: &str| {
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let resources = vec![
            resource(OF_TOPIC, TOPIC),
            resource(OF_BROKER, "1"),
            resource(OF_BROKER, ""),
            resource(OF_TOPIC, "nowhere"),
        ];
        DescribeConfigsRequest::default()
            .with_resources(resources)
            .with_include_synonyms(true)
            .with_include_documentation(version >= 3)
    };
    sweep.each(make, |version, response| {
        let told = response.results.iter();
        let codes: Vec<i16> = told.map(|told| told.error_code).collect();
        assert_eq!(codes, [0, 0, 0, 3], "{version}");
        let mut configs = response.results[0].configs.iter();
        let retention = configs.find(|config| &*config.name == "retention.ms");
        let retention = retention.expect("retention.ms");
        assert!(retention.config_source == 1 && retention.synonyms.len() > 1);
        let documentation = retention.documentation.as_deref().unwrap_or_default();
        assert_eq!(!documentation.is_empty(), version >= 3);
        assert!(response.results[1].configs.len() > 200);
    });
    let make = |version| {
        let mut request = ListConfigResourcesRequest::default();
        if version >= 1 {
            request.resource_types = vec![OF_TOPIC, OF_BROKER];
        }
        request
    };
    sweep.each(make, |version, response| {
        assert_eq!(response.error_code, 0);
        // Version 0 is about client metrics only, of which there are none.
        assert_eq!(response.config_resources.is_empty(), version == 0);
    });
}

fn replace_configs(sweep: &mut Sweep) {
    let make = |version: i16| {
        let value = (600_000 + i64::from(version)).to_string();
        let config = ReplacedConfig::default()
            .with_name(text("segment.ms"))
            .with_value(Some(text(&value)));
        let resource = |name: &str| {
            Replaced::default()
                .with_resource_type(OF_TOPIC)
                .with_resource_name(text(name))
                .with_configs(vec![config.clone()])
        };
        AlterConfigsRequest::default().with_resources(vec![resource(TOPIC), resource("nowhere")])
    };
    sweep.each(make, |version, response| {
        let told = response.responses.iter();
        let codes: Vec<i16> = told.map(|told| told.error_code).collect();
        assert_eq!(codes, [0, 3], "{version}");
    });
}

fn directories(sweep: &mut Sweep) {
    for all in [true, false] {
        let make = |_| {
            let shelf = DescribableLogDirTopic::default()
                .with_topic(topic(TOPIC))
                .with_partitions(vec![0, 1]);
            DescribeLogDirsRequest::default().with_topics((!all).then_some(vec![shelf]))
        };
        sweep.each(make, |version, response| {
            let told = &response.results[0];
            assert_eq!(told.error_code, 0);
            assert!(told.topics.iter().any(|told| told.name == topic(TOPIC)));
            assert_eq!(told.total_bytes > 0, version >= 4);
        });
    }
}

fn replicas(sweep: &mut Sweep) {
    let make = |version| {
        let some = |name: &str, partitions: &[i32]| {
            let some = TopicPartitions::default().with_topic(topic(name));
            some.with_partitions(partitions.to_vec())
        };
        let topics = vec![some(TOPIC, &[0, 99]), some("nowhere", &[0])];
        let request = ElectLeadersRequest::default()
            .with_topic_partitions(Some(topics))
            .with_timeout_ms(30_000);
        request.with_election_type(if version == 2 { 1 } else { 0 })
    };
    sweep.each(make, |version, response| {
        let topics = response.replica_election_results.iter();
        let told = topics.flat_map(|topic| &topic.partition_result);
        let mut codes: Vec<i16> = told.map(|told| told.error_code).collect();
        codes.sort_unstable();
        assert_eq!(codes, [3, 3, 84], "{version}");
    });
    let make = |version| {
        let part = |index, replicas: Option<i32>| {
            ReassignablePartition::default()
                .with_partition_index(index)
                .with_replicas(replicas.map(|id| vec![BrokerId(id)]))
        };
        let parts = vec![part(0, Some(1)), part(1, Some(2)), part(2, None)];
        let shelf = ReassignableTopic::default()
            .with_name(topic(TOPIC))
            .with_partitions(parts);
        AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(30_000)
            .with_allow_replication_factor_change(version == 0)
            .with_topics(vec![shelf])
    };
    sweep.each(make, |version, response| {
        let told = response.responses[0].partitions.iter();
        let codes: Vec<i16> = told.map(|told| told.error_code).collect();
        assert_eq!(codes, [0, 39, 85], "{version}");
    });
    let some = Listed::default()
        .with_name(topic(TOPIC))
        .with_partition_indexes(vec![0]);
    for topics in [None, Some(vec![some])] {
        let request = ListPartitionReassignmentsRequest::default().with_topics(topics);
        let response = sweep.ask(0, &request);
        assert_eq!((response.error_code, response.topics.len()), (0, 0));
    }
}

fn permissions(sweep: &mut Sweep) {
    const SECURITY_DISABLED: i16 = 54;
    let make = |_| {
        DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(1)
            .with_operation(1)
            .with_permission_type(1)
    };
    sweep.each(make, |_, response| {
        assert_eq!(response.error_code, SECURITY_DISABLED);
    });
    let make = |_| {
        let creation = AclCreation::default()
            .with_resource_type(OF_TOPIC)
            .with_resource_name(text(TOPIC))
            .with_resource_pattern_type(3)
            .with_principal(text("User:me"))
            .with_host(text("*"))
            .with_operation(3)
            .with_permission_type(3);
        CreateAclsRequest::default().with_creations(vec![creation])
    };
    sweep.each(make, |_, response| {
        assert_eq!(response.results[0].error_code, SECURITY_DISABLED);
    });
    let make = |_| {
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(1)
            .with_operation(1)
            .with_permission_type(1);
        DeleteAclsRequest::default().with_filters(vec![filter])
    };
    sweep.each(make, |_, response| {
        assert_eq!(response.filter_results[0].error_code, SECURITY_DISABLED);
    });
}

fn cluster(sweep: &mut Sweep) {
    let make = |_| {
        let any = ComponentData::default().with_entity_type(text("client-id"));
        DescribeClientQuotasRequest::default().with_components(vec![any.with_match_type(2)])
    };
    sweep.each(make, |_, response| {
        let none = response.entries.as_ref().is_some_and(Vec::is_empty);
        assert!(response.error_code == 0 && none, "none are set");
    });
    let make = |_| {
        let partition = PartitionData::default().with_partition_index(0);
        let metadata = TopicData::default()
            .with_topic_name(topic("__cluster_metadata"))
            .with_partitions(vec![partition]);
        DescribeQuorumRequest::default().with_topics(vec![metadata])
    };
    sweep.each(make, |_, response| {
        let told = &response.topics[0].partitions[0];
        assert_eq!((response.error_code, told.error_code), (0, 0));
        let voter = &told.current_voters[0];
        assert_eq!((told.leader_id.0, voter.replica_id.0), (1, 1));
        assert!(voter.log_end_offset > 10);
    });
}

fn features(sweep: &mut Sweep) {
    let make = |version| {
        let to = |name: &str, level| {
            FeatureUpdateKey::default()
                .with_feature(text(name))
                .with_max_version_level(level)
                .with_upgrade_type(1)
        };
        let updates = match version {
            0 => vec![to("group.version", 1)],
            _ => vec![to("group.version", 1), to("no.such.feature", 1)],
        };
        UpdateFeaturesRequest::default()
            .with_timeout_ms(30_000)
            .with_feature_updates(updates)
            .with_validate_only(version >= 1)
    };
    sweep.each(make, |version, response| {
        let results = response.results.iter();
        let codes: Vec<i16> = results.map(|told| told.error_code).collect();
        match version {
            0 => assert_eq!((response.error_code, &codes[..]), (0, &[0][..])),
            // Told feature by feature until version 1, then as a whole.
            1 => assert!(codes.iter().any(|code| *code != 0), "{codes:?}"),
            _ => assert_ne!(response.error_code, 0),
        }
    });
}
