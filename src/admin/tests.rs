use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::Offset;
use crate::group::overview::{Detail, GroupRow, PartitionRow};
use crate::obs::{DiskVerb, FetchStage, Measurements, ProduceStage};

use super::*;

pub(super) const NAMES: Names = Names {
    api: |key| (key == 0).then_some("Produce"),
    error: |code| (code == 3).then_some("UNKNOWN_TOPIC_OR_PARTITION"),
};

pub(super) const PROCESS: Process = Process {
    cpu_seconds: 1.5,
    resident_memory_bytes: 8 << 20,
    virtual_memory_bytes: 1 << 30,
    threads: 3,
    start_time_seconds: 1_700_000_000.25,
    open_fds: 12,
    max_fds: Some(1024),
};

/// A core that has seen a bit of everything.
pub(super) fn busy(core: u16) -> Measurements {
    let mut measurements = Measurements::new(CoreId(core));
    for key in [0, 0, 77, -5] {
        measurements.requests.received(key);
        measurements
            .requests
            .answered(key, Duration::from_micros(150));
    }
    measurements.requests.refused(0, 3);
    measurements.produce.appended(10, 1000);
    measurements
        .produce
        .passed(ProduceStage::Total, Duration::from_micros(120));
    measurements
        .produce
        .passed(ProduceStage::Total, Duration::from_millis(3));
    measurements
        .fetch
        .passed(FetchStage::Wait, Duration::from_millis(500));
    measurements
        .disk
        .done(DiskVerb::DurableWrite, 4096, Duration::from_micros(90));
    measurements
}

/// A handle of `cores` cores whose questions go to `ask`; not ready, 3 of 10 partitions opened.
pub(super) fn handle_that(
    cores: u16,
    ask: impl Fn(CoreId, Answer<CoreSnapshot>) + Send + Sync + 'static,
) -> Handle {
    Handle {
        health: Box::new(|| Health {
            status: "ok",
            data_directories: Vec::new(),
            offline_partitions: Vec::new(),
        }),
        cores,
        ask: Box::new(ask),
        readiness: Box::new(|| Readiness {
            ready: false,
            partitions_opened: 3,
            partitions: 10,
            ..Readiness::default()
        }),
        process: Box::new(|| Some(PROCESS)),
        names: NAMES,
    }
}

fn group_row(group: &str) -> GroupRow {
    GroupRow {
        group: group.to_owned(),
        kind: "Classic",
        state: "Empty",
        protocol_type: "consumer".to_owned(),
        members: 0,
        offsets: 1,
    }
}

fn partition_row(partition: i32, committed_offset: Option<i64>) -> PartitionRow {
    PartitionRow {
        topic: "t-a".to_owned(),
        partition,
        committed_offset,
        leader_epoch: -1,
        metadata: String::new(),
        committed_at_ms: committed_offset,
        member: None,
    }
}

/// Two cores: core 0 has the groups a and c, core 1 has b, loads more, and has all partitions,
/// which go from 2 to 10.
fn groups() -> Groups {
    let first = |core: CoreId| match core {
        CoreId(0) => vec!["a", "c"],
        _ => vec!["b"],
    };
    Groups {
        page: Box::new(move |core, listing, answer| {
            let after = listing.after.as_deref().unwrap_or_default();
            let rows = first(core).into_iter().filter(|id| *id > after);
            answer.give(GroupPage {
                rows: rows.take(listing.limit).map(group_row).collect(),
                incomplete: core == CoreId(1),
            });
        }),
        detail: Box::new(|core, group, page, answer| match (core, group.as_str()) {
            (CoreId(0), "a b") => {
                let from = page
                    .partitions_after
                    .as_ref()
                    .map_or(0, |(_, last)| last + 1);
                answer.give(FoundGroup::Here(Box::new(Detail {
                    row: group_row("a b"),
                    epoch: 4,
                    assignment_epoch: None,
                    protocol: Some("range".to_owned()),
                    members: Vec::new(),
                    partitions: vec![partition_row(from, (from == 0).then_some(3))],
                    more_members: false,
                    more_partitions: from == 0,
                })));
            }
            (CoreId(0), "loading") => answer.give(FoundGroup::NotNow),
            (CoreId(0), "missing") => answer.give(FoundGroup::Unknown),
            _ => answer.give(FoundGroup::Elsewhere),
        }),
        committed: Box::new(|_, answer| answer.give(Committed::default())),
        log_ends: Box::new(|core, partitions, answer| {
            let (start, end) = (Offset(2), Offset(10));
            let mine = (core == CoreId(1)).then_some(LogEnds { start, end });
            answer.give(partitions.iter().map(|_| mine).collect());
        }),
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn started(handle: Handle) -> Running {
    serve(any_port(), handle, groups()).expect("a free port")
}

/// Status, head and body of one GET on a connection of its own.
fn get(addr: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    let (head, body) = reply.split_once("\r\n\r\n").expect("head and body");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    (status, head.to_owned(), body.to_owned())
}

fn answering(core: CoreId, answer: Answer<CoreSnapshot>) {
    answer.give(busy(core.0).snapshot());
}

#[test]
fn metrics_of_all_cores_and_of_the_process_are_served_as_text() {
    let running = started(handle_that(2, answering));
    let (status, head, body) = get(running.addr, "/metrics");
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{head}"
    );
    for line in [
        "corelane_core_up{core=\"1\"} 1",
        "corelane_produced_records_total{core=\"1\"} 10",
        "process_resident_memory_bytes 8388608",
        "process_start_time_seconds 1700000000.25",
    ] {
        assert!(body.lines().any(|shown| shown == line), "{line} is missing");
    }
    assert!(body.contains("corelane_build_info{version="));
    running.stop();
}

#[test]
fn live_is_live_while_no_core_answers() {
    let running = started(handle_that(1, |_, answer| drop(answer)));
    let (status, _, body) = get(running.addr, "/health/live");
    assert_eq!((status, body.as_str()), (200, "{\"live\":true}"));
    let (status, _, body) = get(running.addr, "/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("corelane_core_up{core=\"0\"} 0"));
    running.stop();
}

#[test]
fn ready_tells_the_progress_with_503_and_then_200() {
    let opened = Arc::new(AtomicU64::new(3));
    let progress = opened.clone();
    let readiness = move || {
        let partitions_opened = progress.load(Ordering::SeqCst);
        Readiness {
            ready: partitions_opened == 10,
            partitions_opened,
            partitions: 10,
            scanned_bytes: 7,
            scan_bytes: 9,
        }
    };
    let handle = Handle {
        readiness: Box::new(readiness),
        ..handle_that(1, answering)
    };
    let running = started(handle);
    let (status, _, body) = get(running.addr, "/health/ready");
    assert_eq!(status, 503);
    assert_eq!(
        body,
        "{\"ready\":false,\"partitions_opened\":3,\"partitions\":10,\"scanned_bytes\":7,\"scan_bytes\":9}"
    );
    opened.store(10, Ordering::SeqCst);
    let (status, _, body) = get(running.addr, "/health/ready");
    assert_eq!(status, 200);
    assert_eq!(
        body,
        "{\"ready\":true,\"partitions_opened\":10,\"partitions\":10,\"scanned_bytes\":7,\"scan_bytes\":9}"
    );
    running.stop();
}

#[test]
fn latency_adds_the_cores_up_and_tells_quantiles_in_seconds() {
    let running = started(handle_that(2, answering));
    let (status, _, body) = get(running.addr, "/v1/latency");
    assert_eq!(status, 200);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&body).expect("JSON");
    let row = |of: &str| {
        let found = rows
            .iter()
            .find(|row| row["name"] == "corelane_produce_seconds" && row["of"] == of);
        found.expect("the row")
    };
    assert_eq!(row("total")["count"], 4);
    let p50 = row("total")["p50"].as_f64().expect("a number");
    assert!((0.000_120..0.000_122).contains(&p50), "{p50}");
    assert!(row("parse")["p50"].is_null());
    running.stop();
}

#[test]
fn an_unknown_path_is_404_and_another_method_405() {
    let running = started(handle_that(1, answering));
    assert_eq!(get(running.addr, "/nothing").0, 404);
    let mut stream = TcpStream::connect(running.addr).expect("a connection");
    let request = "POST /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 405"), "{reply}");
    running.stop();
}

#[test]
fn stop_ends_although_a_client_has_sent_half_a_request() {
    let running = started(handle_that(1, answering));
    let mut stream = TcpStream::connect(running.addr).expect("a connection");
    stream
        .write_all(b"GET /metrics HTT")
        .expect("half a request");
    assert_eq!(get(running.addr, "/health/live").0, 200, "served beside it");
    running.stop();
    let mut rest = Vec::new();
    // Cut or reset: both are an end.
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn a_taken_address_is_told_in_one_line_that_names_it() {
    let running = started(handle_that(1, answering));
    let refused = serve(running.addr, handle_that(1, answering), groups())
        .err()
        .expect("a refusal");
    assert!(
        refused.contains(&running.addr.to_string()) && !refused.contains('\n'),
        "{refused}"
    );
    running.stop();
}

/// Status and JSON of one GET.
fn json_of(addr: SocketAddr, path: &str) -> (u16, serde_json::Value) {
    let (status, _, body) = get(addr, path);
    let value = serde_json::from_str(&body).unwrap_or_else(|why| panic!("{why}: {body}"));
    (status, value)
}

#[test]
fn groups_of_all_cores_are_listed_in_pages() {
    let running = started(handle_that(2, answering));
    let ids = |page: &serde_json::Value| -> Vec<String> {
        let rows = page["groups"].as_array().expect("rows").iter();
        rows.map(|row| row["group"].as_str().expect("an id").to_owned())
            .collect()
    };
    let (status, page) = json_of(running.addr, "/v1/groups?limit=2");
    assert_eq!((status, ids(&page)), (200, vec!["a".into(), "b".into()]));
    assert_eq!(
        (&page["next_after"], &page["incomplete"]),
        (&"b".into(), &true.into())
    );
    assert_eq!(page["groups"][0]["type"], "Classic");
    let (_, page) = json_of(running.addr, "/v1/groups?limit=2&after=b");
    assert_eq!(ids(&page), ["c"]);
    assert!(page["next_after"].is_null());
    running.stop();
}

#[test]
fn a_group_is_told_with_its_lag_in_pages() {
    let running = started(handle_that(2, answering));
    let (status, group) = json_of(running.addr, "/v1/groups/a%20b?limit=1");
    assert_eq!((status, &group["group"]), (200, &"a b".into()));
    let row = &group["partitions"][0];
    let numbers = [
        "committed_offset",
        "log_start_offset",
        "log_end_offset",
        "lag",
    ];
    assert_eq!(
        numbers.map(|name| row[name].as_i64()),
        [3, 2, 10, 7].map(Some)
    );
    assert_eq!(group["next_after"], "t-a-0");
    let (_, group) = json_of(running.addr, "/v1/groups/a%20b?limit=1&after=t-a-0");
    let row = &group["partitions"][0];
    assert!(
        row["lag"].is_null() && row["committed_offset"].is_null(),
        "{row}"
    );
    assert_eq!(
        (&row["partition"], &group["next_after"]),
        (&1.into(), &serde_json::Value::Null)
    );
    running.stop();
}

#[test]
fn what_cannot_be_told_about_groups_says_why() {
    let running = started(handle_that(2, answering));
    for (path, status, word) in [
        ("/v1/groups/missing", 404, "/v1/groups"),
        ("/v1/groups/loading", 503, "try again"),
        ("/v1/groups?limit=0", 400, "between 1 and 1000"),
        ("/v1/groups/a%20b?after=orders", 400, "TOPIC-PARTITION"),
    ] {
        let (told, body) = json_of(running.addr, path);
        let error = body["error"].as_str().expect("an error");
        assert!(
            told == status && error.contains(word),
            "{path}: {told} {error}"
        );
    }
    running.stop();
}
