//! Groups from outside: lag in metrics, as JSON and by `corelane group`; what a group's operator
//! counts; the ways between the two protocols.

use std::process::{Command, Output};

use corelane::group::consumer_protocol::Subscription;
use corelane::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use corelane::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use corelane::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane::protocol::messages::*;
use serde_json::Value;

use crate::support::client::{Client, batch, text};
use crate::support::{Broker, until};

/// No group waits for more members.
const AT_ONCE: (&str, &str) = ("group.initial.rebalance.delay.ms", "0");

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

/// Waits until groups have a place to live in.
fn coordinator(client: &mut Client) {
    let request = FindCoordinatorRequest::default().with_key(text("g"));
    until("a coordinator", || client.call(3, &request).error_code == 0);
}

/// Commits an offset without being a member.
fn commit(client: &mut Client, id: &str, topic: &str, partition: i32, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    client.call(8, &request).topics[0].partitions[0].error_code
}

fn join_request(id: &str, topic: &str) -> JoinGroupRequest {
    let subscription = Subscription {
        topics: [topic.to_owned()].into(),
        ..Subscription::default()
    };
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(subscription.encode());
    JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// A member of a classic group that leads it and gives itself nothing; its id.
fn join(client: &mut Client, id: &str, topic: &str) -> String {
    let joined = client.call(3, &join_request(id, topic));
    assert_eq!(joined.error_code, 0);
    let sync = SyncGroupRequest::default()
        .with_group_id(group(id))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    assert_eq!(client.call(3, &sync).error_code, 0);
    joined.member_id.to_string()
}

fn beat(id: &str, topic: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(id))
        .with_member_id(text("member"))
        .with_member_epoch(0)
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![TopicName(text(topic))]))
        .with_topic_partitions(Some(Vec::new()))
}

fn corelane(broker: &Broker, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("group").args(arguments);
    command.args(["--broker", &broker.address().to_string()]);
    command.output().expect("the program")
}

/// What a command that succeeds prints.
fn printed(broker: &Broker, arguments: &[&str]) -> String {
    let output = corelane(broker, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(broker: &Broker, arguments: &[&str]) -> Value {
    let text = printed(broker, &[arguments, &["--output", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// The one line that a command says which is refused.
fn refusal(broker: &Broker, arguments: &[&str]) -> String {
    let output = corelane(broker, arguments);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

fn get(broker: &Broker, path: &str) -> Value {
    let (status, body) = broker.http(path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// A broker with a topic of three partitions, ten records in each.
fn stocked() -> (Broker, Client) {
    let broker = Broker::start_with(&[AT_ONCE]);
    let mut client = broker.client();
    client.create("orders", 3, &[]);
    for partition in 0..3 {
        let values: Vec<&[u8]> = vec![b"value"; 10];
        assert!(
            client
                .produce("orders", partition, batch(&values))
                .error
                .is_none()
        );
    }
    coordinator(&mut client);
    (broker, client)
}

#[test]
fn lag_is_in_the_metrics_and_told_as_json() {
    let (broker, mut client) = stocked();
    assert_eq!(commit(&mut client, "billing", "orders", 0, 4), 0);
    assert_eq!(commit(&mut client, "billing", "orders", 2, 10), 0);
    let lag = |partition: &str| {
        let label = format!("partition=\"{partition}\"");
        broker.metric("corelane_group_lag_records", &["group=\"billing\"", &label])
    };
    until("lag", || {
        broker.metric("corelane_group_offsets", &[]) == 2.0
    });
    assert_eq!((lag("0"), lag("2")), (6.0, 0.0));
    assert_eq!(broker.metric("corelane_group_lag_left_out", &[]), 0.0);

    let list = get(&broker, "/v1/groups?state=empty");
    assert_eq!(list["groups"][0]["group"], "billing");
    assert_eq!(
        (&list["groups"][0]["offsets"], &list["incomplete"]),
        (&2.into(), &false.into())
    );
    let told = get(&broker, "/v1/groups/billing");
    let row = &told["partitions"][0];
    for (name, value) in [("committed_offset", 4), ("log_end_offset", 10), ("lag", 6)] {
        assert_eq!(row[name], value, "{name} in {row}");
    }
    let page = get(&broker, "/v1/groups/billing?limit=1&after=orders-0");
    assert_eq!(page["partitions"][0]["partition"], 2);
    let (status, body) = broker.http("/v1/groups/nobody");
    assert!(status == 404 && body.contains("/v1/groups"), "{body}");
}

#[test]
fn the_series_of_lag_are_bounded_and_what_is_left_out_is_counted() {
    let (broker, mut client) = stocked();
    for group in ["a", "b"] {
        for partition in 0..3 {
            assert_eq!(commit(&mut client, group, "orders", partition, 1), 0);
        }
    }
    let config = AlterableConfig::default()
        .with_name(text("corelane.metrics.lag.series.max"))
        .with_value(Some(text("4")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(4)
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(client.call(1, &request).responses[0].error_code, 0);
    until("the bound", || {
        broker.metric("corelane_group_lag_left_out", &[]) == 2.0
    });
    let (_, text) = broker.http("/metrics");
    let series = text
        .lines()
        .filter(|line| line.starts_with("corelane_group_lag_records{"));
    assert_eq!(series.count(), 4);
}

#[test]
fn an_operator_sees_states_members_rebalances_commits_and_loading() {
    let (mut broker, mut client) = stocked();
    let member = join(&mut client, "classic", "orders");
    assert_eq!(client.call(1, &beat("consumers", "orders")).error_code, 0);
    commit(&mut client, "simple", "orders", 0, 1);
    let count = |broker: &Broker, name: &str, labels: &[&str]| broker.metric(name, labels);
    until("a rebalance each", || {
        count(&broker, "corelane_group_rebalances_total", &[]) == 2.0
    });
    assert_eq!(
        count(&broker, "corelane_groups", &["state=\"Stable\""]),
        2.0
    );
    assert_eq!(count(&broker, "corelane_groups", &["state=\"Empty\""]), 1.0);
    let consumers = ["protocol=\"consumer\""];
    assert_eq!(
        count(&broker, "corelane_groups_by_protocol", &consumers),
        1.0
    );
    assert_eq!(count(&broker, "corelane_group_members", &[]), 2.0);
    assert_eq!(
        count(&broker, "corelane_group_offset_commits_total", &[]),
        1.0
    );
    let active = ["stage=\"active\""];
    assert_eq!(count(&broker, "corelane_group_coordinators", &active), 50.0);

    let told = get(&broker, "/v1/groups/classic");
    assert_eq!(
        (&told["state"], &told["epoch"]),
        (&"Stable".into(), &1.into())
    );
    assert_eq!(told["member_list"][0]["member"], member);
    let told = get(&broker, "/v1/groups/consumers");
    let assigned = &told["member_list"][0]["assignment"]["orders"];
    assert_eq!(assigned.as_array().map(Vec::len), Some(3));
    assert_eq!(told["partitions"][0]["member"], "member");
    assert!(
        told["partitions"][0]["lag"].is_null(),
        "nothing is committed"
    );

    broker.restart();
    until("loading", || {
        count(&broker, "corelane_group_coordinators", &active) == 50.0
    });
    assert_eq!(
        count(&broker, "corelane_group_load_seconds_count", &[]),
        50.0
    );
    assert!(count(&broker, "corelane_group_records_loaded_total", &[]) > 5.0);
}

#[test]
fn a_group_is_listed_described_reset_and_deleted_from_the_command_line() {
    let (broker, mut client) = stocked();
    for partition in 0..2 {
        assert_eq!(commit(&mut client, "billing", "orders", partition, 4), 0);
    }
    assert_eq!(printed(&broker, &["list", "--names"]), "billing\n");
    assert_eq!(printed(&broker, &["list", "--state", "stable"]), "");
    let listed = json(&broker, &["list"]);
    assert_eq!(
        (&listed[0]["type"], &listed[0]["state"]),
        (&"Classic".into(), &"Empty".into())
    );
    let shown = printed(&broker, &["describe", "billing"]);
    assert!(
        shown.contains("COMMITTED") && shown.contains("0 members"),
        "{shown}"
    );
    let lag =
        |row: usize| json(&broker, &["describe", "--all"])[0]["partitions"][row]["lag"].clone();
    assert_eq!((lag(0), lag(1)), (6.into(), 6.into()));

    let shown = printed(&broker, &["reset", "billing", "--to", "earliest"]);
    assert!(shown.contains("--execute"), "{shown}");
    assert_eq!(lag(0), 6, "a dry run changes nothing");
    let reset = |to: &str, topic: &str| {
        let arguments = [
            "reset",
            "billing",
            "--to",
            to,
            "--topic",
            topic,
            "--execute",
        ];
        json(&broker, &arguments)["partitions"][0]["after"].clone()
    };
    assert_eq!(reset("earliest", "orders:1"), 0);
    assert_eq!((lag(0), lag(1)), (6.into(), 10.into()));
    assert_eq!(reset("+3", "orders:1"), 3);
    assert_eq!(reset("-2", "orders:1"), 1);
    assert_eq!(reset("-9", "orders:1"), 0, "not before the first record");
    assert_eq!(reset("7", "orders:1"), 7);
    assert_eq!(reset("99", "orders:1"), 10, "not behind the last record");
    // All records are from November 2023.
    assert_eq!(reset("2023-11-01", "orders:2"), 0);
    assert_eq!(reset("2024-01-01T00:00:00Z", "orders:2"), 10);
    let unknown = refusal(
        &broker,
        &["reset", "billing", "--to", "+1", "--topic", "orders:3"],
    );
    assert!(unknown.contains("counted from 0"), "{unknown}");
    printed(
        &broker,
        &[
            "reset",
            "new",
            "--to",
            "latest",
            "--topic",
            "orders",
            "--execute",
        ],
    );
    assert_eq!(printed(&broker, &["list", "--names"]), "billing\nnew\n");

    let deleted = printed(&broker, &["delete", "billing", "--topic", "orders:0,1"]);
    assert_eq!(deleted, "deleted 2 offsets of billing\n");
    assert_eq!(
        printed(&broker, &["delete", "billing", "new"]),
        "deleted billing\ndeleted new\n"
    );
    let gone = refusal(&broker, &["delete", "billing"]);
    assert!(gone.contains("corelane group list"), "{gone}");
    printed(&broker, &["delete", "billing", "--if-exists"]);
    for arguments in [
        &["describe", "billing"][..],
        &["reset", "billing", "--to", "latest"],
    ] {
        assert!(refusal(&broker, arguments).contains("no group billing"));
    }
}

#[test]
fn a_group_with_members_is_described_with_them_and_changed_only_without() {
    let (broker, mut client) = stocked();
    client.call(1, &beat("consumers", "orders"));
    commit(&mut client, "other", "orders", 0, 0);
    let member = join(&mut client, "classic", "orders");
    let shown = printed(&broker, &["describe", "consumers", "--members"]);
    assert!(shown.contains("orders:0,1,2"), "{shown}");
    let told = json(&broker, &["describe", "classic"]);
    assert_eq!(told[0]["members"][0]["member"], member);
    for group in ["consumers", "classic"] {
        for arguments in [
            &["reset", group, "--to", "earliest", "--topic", "orders"][..],
            &["delete", group],
        ] {
            let refused = refusal(&broker, arguments);
            assert!(refused.contains("stop its consumers"), "{refused}");
        }
    }
}

#[test]
fn the_migration_policy_decides_whether_a_classic_group_is_upgraded() {
    for (policy, upgraded) in [("DISABLED", false), ("downgrade", false), ("upgrade", true)] {
        let broker = Broker::start_with(&[AT_ONCE, ("group.consumer.migration.policy", policy)]);
        let mut client = broker.client();
        client.create("orders", 3, &[]);
        coordinator(&mut client);
        join(&mut client, "g", "orders");
        let answer = client.call(1, &beat("g", "orders"));
        let wanted = if upgraded { 0 } else { 69 };
        assert_eq!(
            answer.error_code, wanted,
            "{policy}: {:?}",
            answer.error_message
        );
        let kind = get(&broker, "/v1/groups/g")["type"].clone();
        assert_eq!(
            kind,
            if upgraded { "Consumer" } else { "Classic" },
            "{policy}"
        );
    }
}

#[test]
fn the_migration_policy_decides_whether_a_consumer_group_is_downgraded() {
    for (policy, downgraded) in [("upgrade", false), ("bidirectional", true)] {
        let broker = Broker::start_with(&[AT_ONCE, ("group.consumer.migration.policy", policy)]);
        let mut client = broker.client();
        client.create("orders", 3, &[]);
        coordinator(&mut client);
        join(&mut client, "g", "orders");
        assert_eq!(
            client.call(1, &beat("g", "orders")).error_code,
            0,
            "{policy}"
        );
        // The last member of the new protocol leaves, the classic one stays.
        let leave = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group("g"))
            .with_member_id(text("member"))
            .with_member_epoch(-1);
        assert_eq!(client.call(1, &leave).error_code, 0, "{policy}");
        let kind = get(&broker, "/v1/groups/g")["type"].clone();
        assert_eq!(
            kind,
            if downgraded { "Classic" } else { "Consumer" },
            "{policy}"
        );
    }
}
