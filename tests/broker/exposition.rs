//! What `/metrics` and `/v1/latency` show of a broker that has served: by Prometheus' own checker
//! where it is installed, by a reader of our own everywhere, and held against what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use corelane::protocol::ErrorCode;

use crate::support::client::batch;
use crate::support::{Broker, until};

/// Produces and fetches this often.
const REQUESTS: i32 = 24;

/// A broker that has produced, fetched, refused and seen a core's way to another one.
fn served() -> Broker {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 2, &[]);
    for number in 0..REQUESTS {
        let batch = batch(&[b"a", b"b", b"c"]);
        assert_eq!(
            client.produce("t", number % 2, batch).error,
            ErrorCode::None
        );
    }
    assert_eq!(
        client.produce("nowhere", 0, batch(&[b"x"])).error,
        ErrorCode::UnknownTopicOrPartition
    );
    for partition in 0..2 {
        assert!(!client.read_all("t", partition).is_empty());
    }
    until("all replies counted", || {
        let of = |name: &str, api: &str| broker.metric(name, &[api]);
        ["api=\"Produce\"", "api=\"Fetch\""]
            .iter()
            .all(|api| of("corelane_replies_total", api) == of("corelane_requests_total", api))
    });
    broker
}

/// One sample: its series' name, its labels, its value.
struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, &'a str>,
    value: f64,
}

/// Reads a line `name{label="value",...} number`, by the rules of text format 0.0.4.
fn sample(line: &str) -> Sample<'_> {
    let (series, value) = line.rsplit_once(' ').expect("series and value");
    let (name, rest) = series.split_once('{').unwrap_or((series, ""));
    let is_name = |text: &str| {
        let mut letters = text.bytes();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_')
    };
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let inside = rest.strip_suffix('}').unwrap_or(rest);
    for pair in inside.split(',').filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=').expect("label and value");
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
        let value = value.unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(label) && !value.contains(['"', '\\']), "{line}");
        assert!(labels.insert(label, value).is_none(), "{line}");
    }
    let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
    Sample {
        name,
        labels,
        value,
    }
}

/// Checks that each family stands once, with help and type before its samples, and that each
/// histogram's buckets rise to its count.
fn check(text: &str) {
    assert!(text.ends_with('\n'));
    let (mut typed, mut closed) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind, mut helped) = ("", "", "");
    let mut series = BTreeSet::new();
    let mut last_bucket: Option<(String, f64, f64)> = None;
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help text");
            assert!(!words.is_empty(), "{line}");
            helped = name;
            continue;
        }
        if let Some(told) = line.strip_prefix("# TYPE ") {
            let (name, what) = told.split_once(' ').expect("a type");
            assert_eq!(name, helped, "type and help of one family together");
            assert!(typed.insert(name, what).is_none() && closed.insert(name));
            (family, kind) = (name, what);
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
            continue;
        }
        let sample = sample(line);
        assert!(
            series.insert(line.rsplit_once(' ').expect("two").0),
            "{line}"
        );
        assert!(sample.value >= 0.0, "{line}");
        let part = sample.name.strip_prefix(family).expect("of this family");
        if kind != "histogram" {
            assert_eq!(part, "", "{line}");
            continue;
        }
        let mut others = sample.labels.clone();
        let bound = others.remove("le");
        let which = format!("{others:?}");
        match (part, bound) {
            ("_bucket", Some(bound)) => {
                let bound: f64 = bound.replace("+Inf", "inf").parse().expect("a bound");
                if let Some((same, below, count)) = &last_bucket
                    && *same == which
                {
                    assert!(bound > *below && sample.value >= *count, "{line}");
                }
                last_bucket = Some((which, bound, sample.value));
            }
            ("_sum", None) => {}
            ("_count", None) => {
                let (same, bound, count) = last_bucket.as_ref().expect("buckets before");
                assert!(*same == which && bound.is_infinite(), "{line}");
                assert_eq!(*count, sample.value, "{line}");
            }
            _ => panic!("{line}"),
        }
    }
    assert!(series.len() > 500, "{} series", series.len());
}

#[test]
fn metrics_are_text_that_a_strict_reader_takes() {
    let (status, text) = served().http("/metrics");
    assert_eq!(status, 200);
    check(&text);
}

#[test]
fn metrics_pass_promtools_check_without_a_warning() {
    let Ok(mut checker) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        println!("skipped: promtool is not installed");
        return;
    };
    let (_, text) = served().http("/metrics");
    let mut stdin = checker.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("a reader");
    drop(stdin);
    let output = checker.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn every_stage_of_a_request_is_measured_once_for_each_request() {
    let broker = served();
    let count = |name: &str, label: &str| broker.metric(&format!("{name}_count"), &[label]);
    let produces = f64::from(REQUESTS);
    for stage in ["queue", "append", "durable", "reply"] {
        let stage = format!("stage=\"{stage}\"");
        assert_eq!(
            count("corelane_produce_seconds", &stage),
            produces,
            "{stage}"
        );
    }
    // The refused one was read and answered as well.
    for stage in ["parse", "total"] {
        let stage = format!("stage=\"{stage}\"");
        let counted = count("corelane_produce_seconds", &stage);
        assert_eq!(counted, produces + 1.0, "{stage}");
    }
    let fetches = broker.metric("corelane_replies_total", &["api=\"Fetch\""]);
    assert!(fetches >= 2.0, "{fetches}");
    for stage in ["parse", "queue", "locate", "send", "total"] {
        let stage = format!("stage=\"{stage}\"");
        assert_eq!(count("corelane_fetch_seconds", &stage), fetches, "{stage}");
    }
    let of_all_routes = |name: &str| broker.metric(name, &["route="]);
    let routed = of_all_routes("corelane_produce_route_seconds_count");
    assert_eq!(routed, produces + 1.0);
    assert_eq!(of_all_routes("corelane_fetch_route_seconds_count"), fetches);
    let sum = |label: &str| broker.metric("corelane_produce_seconds_sum", &[label]);
    let stages: f64 = ["parse", "queue", "durable", "reply"]
        .iter()
        .map(|stage| sum(&format!("stage=\"{stage}\"")))
        .sum();
    let total = sum("stage=\"total\"");
    // Appending lies within durable; the stages follow each other, but for a moment between them.
    assert!((0.8..=1.05).contains(&(stages / total)), "{stages} {total}");
}

#[test]
fn requests_that_go_to_another_core_are_told_apart_by_route() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 2, &[]);
    let route = |name: &str| {
        let label = format!("route=\"{name}\"");
        broker.metric("corelane_produce_route_seconds_count", &[&label])
    };
    // In turn to both partitions: the connection settles nowhere and stays where it is.
    for number in 0..REQUESTS {
        client.produce("t", number % 2, batch(&[b"x"]));
    }
    until("every produce counted", || {
        route("local") + route("forwarded") == f64::from(REQUESTS)
    });
    if route("forwarded") == 0.0 {
        println!("one core: nothing is forwarded");
        return;
    }
    assert_eq!(route("forwarded"), f64::from(REQUESTS) / 2.0);
    let hops = |what: &str| broker.metric("corelane_mesh_seconds_count", &[what]);
    assert!(hops("what=\"request\"") >= f64::from(REQUESTS) / 2.0);
    assert!(hops("what=\"answer\"") >= f64::from(REQUESTS) / 2.0);
    // One partition after the other: at one of them the connection moves to the other core.
    for number in 0..4 * REQUESTS {
        client.produce("t", number / (2 * REQUESTS), batch(&[b"x"]));
    }
    until("a connection handed over", || route("handed_over") > 0.0);
    assert_eq!(
        hops("what=\"connection\""),
        broker.metric("corelane_connections_adopted_total", &[])
    );
}
