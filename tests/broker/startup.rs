//! Starting, refusing to start, stopping, and being watched.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::client::batch;
use crate::support::{self, Broker, directory, refused, refused_within};

fn check_refusal(refusal: &support::Refused, says: &str) {
    assert_eq!(refusal.status.code(), Some(2), "{}", refusal.stderr);
    let last = refusal.stderr.lines().last().unwrap_or_default();
    assert!(
        last.contains(says),
        "{says:?} is not in {:?}",
        refusal.stderr
    );
}

#[test]
fn a_port_that_is_taken_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let data = directory();
    let refusal = refused(&data.path().join("data"), &address);
    check_refusal(&refusal, &address);
}

#[test]
fn too_few_descriptors_are_said_with_the_remedy() {
    let data = directory();
    let refusal = refused_within(&data.path().join("data"), 100);
    check_refusal(&refusal, "ulimit -n");
}

#[test]
fn a_signal_and_its_echo_are_one_clean_stop() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    let status = broker.stop_twice();
    assert!(status.success(), "{status}: {}", broker.log_text());
}

/// `corelane flame --core N` and whoever looks with `top -H` finds a core by this name.
#[test]
fn each_core_is_one_thread_named_after_it() {
    let broker = Broker::start();
    let tasks = fs::read_dir(format!("/proc/{}/task", broker.pid())).expect("its threads");
    let names: Vec<String> = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    for core in 0..broker.cores() {
        let name = format!("shard-{core}");
        let count = names.iter().filter(|one| **one == name).count();
        assert_eq!(count, 1, "{name} in {names:?}");
    }
}

#[test]
fn a_directory_of_a_running_broker_is_refused_and_the_broker_lives_on() {
    let broker = Broker::start();
    let refusal = refused(&broker.data(), "127.0.0.1:0");
    check_refusal(&refusal, &broker.data().display().to_string());
    broker.client().create("t", 1, &[]);
}

#[test]
fn foreign_directories_and_files_are_refused() {
    let foreign = directory();
    fs::write(foreign.path().join("photos.zip"), "x").expect("written");
    check_refusal(&refused(foreign.path(), "127.0.0.1:0"), "is not empty");
    assert_eq!(
        fs::read(foreign.path().join("photos.zip")).expect("there"),
        b"x"
    );
    let file = foreign.path().join("photos.zip");
    check_refusal(&refused(&file, "127.0.0.1:0"), &file.display().to_string());
}

#[test]
fn a_directory_of_a_newer_format_is_refused() {
    let mut broker = Broker::start();
    broker.stop();
    let path = broker.data().join("meta.properties");
    let text = fs::read_to_string(&path).expect("meta.properties");
    let mut lines: Vec<&str> = text.lines().collect();
    let format = lines
        .iter_mut()
        .find(|line| line.starts_with("corelane.format="));
    *format.expect("a format") = "corelane.format=99";
    let newer = lines.join("\n");
    fs::write(&path, newer).expect("written");
    check_refusal(&refused(&broker.data(), "127.0.0.1:0"), "has format 99");
    fs::write(&path, text).expect("written");
    broker.run();
}

#[test]
fn a_directory_of_another_node_and_of_another_cluster_are_refused() {
    let mut broker = Broker::start();
    broker.stop();
    let path = broker.data().join("meta.properties");
    let text = fs::read_to_string(&path).expect("meta.properties");
    let others = text.replace("node.id=1", "node.id=7");
    assert_ne!(text, others);
    fs::write(&path, others).expect("written");
    check_refusal(&refused(&broker.data(), "127.0.0.1:0"), "belongs to node 7");
    fs::write(&path, text).expect("written");

    let mut stranger = Broker::start();
    stranger.stop();
    let both = [
        "--data-dir".to_owned(),
        stranger.data().display().to_string(),
    ];
    let both = [both[0].as_str(), both[1].as_str()];
    let refusal = support::refused_with(&broker.data(), "127.0.0.1:0", &both);
    check_refusal(&refusal, "belongs to cluster");
    broker.run();
    assert_eq!(broker.client().metadata(None, false).topics.len(), 0);
}

#[test]
fn both_signals_end_it_quickly_with_success_and_nothing_is_lost() {
    let mut broker = Broker::start();
    broker.client().create("t", 2, &[]);
    for (round, signal) in ["TERM", "INT"].into_iter().enumerate() {
        let answer = broker.client().produce("t", 0, batch(&[b"a", b"b"]));
        assert_eq!(answer.error.code(), 0);
        assert_eq!(answer.base_offset.0, 2 * round as i64);
        // A client that stays must not hold the broker back.
        let _stays = broker.client();
        let began = Instant::now();
        let status = broker.stop_with(signal);
        assert!(status.success(), "{signal}: {status}");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{signal}: {:?}",
            began.elapsed()
        );
        broker.run();
    }
    assert_eq!(broker.client().read_all("t", 0).len(), 4);
}

#[test]
fn metrics_and_health_tell_of_what_was_served() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    for _ in 0..10 {
        assert_eq!(client.produce("t", 0, batch(&[b"x"])).error.code(), 0);
    }
    assert_eq!(broker.http("/health/live").0, 200);
    assert_eq!(broker.http("/health/ready").0, 200);
    assert_eq!(broker.http("/nothing").0, 404);
    let (status, metrics) = broker.http("/metrics");
    assert_eq!(status, 200);
    let mut produced = 0.0;
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
        if name.contains("requests_total") && name.contains("\"Produce\"") {
            produced += value;
        }
    }
    assert_eq!(produced, 10.0, "{metrics}");
}

#[test]
fn an_idle_broker_uses_less_than_one_percent_of_a_core() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 4, &[]);
    assert_eq!(client.produce("t", 0, batch(&[b"x"])).error.code(), 0);
    // Two seconds of silence on an open connection, after one that lets the start settle.
    assert!(client.wire.is_silent(Duration::from_secs(1)));
    let before = broker.ticks();
    assert!(client.wire.is_silent(Duration::from_secs(2)));
    let used = broker.ticks() - before;
    println!("idle: {used} ticks in 2 s");
    assert!(used <= 2, "{used} ticks of 200");
}
