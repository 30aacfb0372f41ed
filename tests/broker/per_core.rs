//! A port and a broker id for each core (`--listen-per-core`), as clients see them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use corelane::protocol::messages::describe_configs_request::DescribeConfigsResource;
use corelane::protocol::messages::{
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest, FindCoordinatorRequest,
};

use crate::support::Broker;
use crate::support::client::{Client, batch, text};

const PARTITIONS: i32 = 12;

fn start() -> Broker {
    Broker::start_in(None, &["--cores", "2", "--listen-per-core"])
}

/// The addresses by broker id.
fn brokers(client: &mut Client) -> BTreeMap<i32, SocketAddr> {
    let brokers = client.metadata(Some(&[]), false).brokers;
    let place = |host: &str, port: i32| format!("{host}:{port}").parse().expect("an address");
    brokers
        .iter()
        .map(|one| (one.node_id.0, place(&one.host, one.port)))
        .collect()
}

/// The leader of each partition of `t`.
fn leaders(client: &mut Client) -> Vec<i32> {
    let topic = client.metadata(Some(&["t"]), false).topics.remove(0);
    let mut partitions = topic.partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    for partition in &partitions {
        assert_eq!(partition.replica_nodes, [partition.leader_id]);
        assert_eq!(partition.isr_nodes, [partition.leader_id]);
    }
    partitions.iter().map(|one| one.leader_id.0).collect()
}

/// Produce requests that went this way.
fn routed(broker: &Broker, way: &str) -> f64 {
    let route = format!("route=\"{way}\"");
    broker.metric("corelane_produce_route_seconds_count", &[&route])
}

#[test]
fn each_core_is_a_broker_and_nothing_is_handed_on_between_them() {
    let mut broker = start();
    let mut client = broker.client();
    client.create("t", PARTITIONS, &[]);
    let all = brokers(&mut client);
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), [1000, 1001]);
    assert_eq!(all.values().collect::<BTreeSet<_>>().len(), 2, "ports");
    let led = leaders(&mut client);
    assert_eq!(led.iter().collect::<BTreeSet<_>>().len(), 2, "{led:?}");
    let mut at: BTreeMap<i32, Client> = all
        .iter()
        .map(|(id, address)| (*id, Client::connect(*address)))
        .collect();
    for (partition, leader) in (0..).zip(&led) {
        let client = at.get_mut(leader).expect("one of the brokers");
        let answer = client.produce("t", partition, batch(&[b"here"]));
        assert_eq!((answer.error.code(), answer.base_offset.0), (0, 0));
    }
    assert_eq!(routed(&broker, "local"), f64::from(PARTITIONS));
    assert_eq!(routed(&broker, "forwarded"), 0.0);
    // A client whose knowledge is old, or that knows no brokers, is served at the wrong port too.
    for (partition, leader) in (0..).zip(&led) {
        let other = at.iter_mut().find(|(id, _)| *id != leader);
        let (_, client) = other.expect("the other broker");
        let answer = client.produce("t", partition, batch(&[b"there"]));
        assert_eq!((answer.error.code(), answer.base_offset.0), (0, 1));
        assert_eq!(client.read_all_from_start("t", partition).len(), 2);
    }
    // What a broker has on its disks is told once, by the core that owns it.
    let mut seen = BTreeSet::new();
    for client in at.values_mut() {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        for directory in client.call(4, &request).results {
            for topic in directory
                .topics
                .iter()
                .filter(|topic| &*topic.name.0 == "t")
            {
                for partition in &topic.partitions {
                    assert!(seen.insert(partition.partition_index), "told twice");
                }
            }
        }
    }
    assert_eq!(seen, (0..PARTITIONS).collect());
    broker.stop();
    broker.run();
    let mut client = broker.client();
    assert_eq!(leaders(&mut client), led, "the same after a restart");
}

#[test]
fn every_core_answers_for_the_brokers_configs_and_its_own_groups() {
    let broker = start();
    let mut client = broker.client();
    let all = brokers(&mut client);
    let cluster = client.call(1, &DescribeClusterRequest::default().with_endpoint_type(1));
    let told: Vec<i32> = cluster.brokers.iter().map(|one| one.broker_id.0).collect();
    assert_eq!((told, cluster.controller_id.0), (vec![1000, 1001], 1000));
    for (id, address) in &all {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(text(&id.to_string()))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = Client::connect(*address).call(4, &request);
        assert_eq!(answer.results[0].error_code, 0, "{id}");
        assert!(answer.results[0].configs.len() > 50);
    }
    let mut coordinators = BTreeSet::new();
    crate::support::until("the coordinators are there", || {
        coordinators.clear();
        for number in 0..20 {
            let request = FindCoordinatorRequest::default()
                .with_key(text(&format!("group-{number}")))
                .with_key_type(0);
            let found = client.call(3, &request);
            if found.error_code != 0 {
                return false;
            }
            assert_eq!(found.port, i32::from(all[&found.node_id.0].port()));
            coordinators.insert(found.node_id.0);
        }
        true
    });
    assert_eq!(coordinators, BTreeSet::from([1000, 1001]));
}
