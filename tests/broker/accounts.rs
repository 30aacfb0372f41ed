//! What the broker and the kernel count, held against what was done.

use std::time::{Duration, Instant};

use corelane::protocol::ErrorCode;

use crate::support::client::batch;
use crate::support::{Broker, until};

/// For how long the HTTP door shows the same figures again, with room to spare.
const SHOWN_AGAIN_MAX: Duration = Duration::from_millis(300);

/// Writes and syncs after which what was written survives a loss of power.
fn durable_writes(broker: &Broker) -> f64 {
    let of = |operation| broker.metric("corelane_disk_seconds_count", &[operation]);
    of("operation=\"durable_write\"") + of("operation=\"sync\"")
}

/// A figure once it stands still for longer than a scrape is shown again.
fn settled(figure: impl Fn() -> f64) -> f64 {
    let (mut last, mut since) = (figure(), Instant::now());
    until("a figure that stands still", || {
        let now = figure();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > SHOWN_AGAIN_MAX
    });
    last
}

#[test]
fn before_each_ack_the_kernel_has_written_the_batch_durably() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[]);
    let durable = settled(|| durable_writes(&broker));
    for number in 0..30 {
        let written = broker.written_bytes();
        let batch = batch(&[&[7; 2000]]);
        let size = batch.len() as u64;
        assert_eq!(client.produce("t", 0, batch).error, ErrorCode::None);
        let grown = broker.written_bytes() - written;
        assert!(
            grown >= size,
            "batch {number}: {grown} bytes written of {size}"
        );
    }
    // One at a time: as many acks as durable writes means one for each.
    let grown = settled(|| durable_writes(&broker)) - durable;
    println!("{grown} durable writes for 30 acks");
    assert!(grown >= 30.0, "{grown}");
}

#[test]
fn a_relaxed_topic_is_acked_without_a_durable_write_each() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[("flush.messages", "9223372036854775807")]);
    client.produce("t", 0, batch(&[b"the first makes the files"]));
    let durable = settled(|| durable_writes(&broker));
    for _ in 0..200 {
        assert_eq!(
            client.produce("t", 0, batch(&[b"x"])).error,
            ErrorCode::None
        );
    }
    let grown = settled(|| durable_writes(&broker)) - durable;
    println!("{grown} durable writes for 200 acks");
    assert!(grown <= 5.0, "{grown}");
}

#[test]
fn flush_messages_of_ten_costs_a_durable_write_for_ten_records() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 1, &[("flush.messages", "10")]);
    client.produce("t", 0, batch(&[b"the first makes the files"]));
    let durable = settled(|| durable_writes(&broker));
    for _ in 0..200 {
        assert_eq!(
            client.produce("t", 0, batch(&[b"x"])).error,
            ErrorCode::None
        );
    }
    let grown = settled(|| durable_writes(&broker)) - durable;
    println!("{grown} durable writes for 200 records");
    assert!((15.0..=60.0).contains(&grown), "{grown}");
}

#[test]
fn what_was_produced_fetched_and_refused_is_counted_once() {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 2, &[]);
    let mut bytes = 0;
    for number in 0..20 {
        let batch = batch(&[b"a", b"b", b"c"]);
        bytes += batch.len();
        assert_eq!(
            client.produce("t", number % 2, batch).error,
            ErrorCode::None
        );
    }
    assert_eq!(
        client.produce("nowhere", 0, batch(&[b"x"])).error,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(client.read_all("t", 0).len(), 30);
    let counted = |name: &str| broker.metric(name, &[]);
    settled(|| counted("corelane_requests_total"));
    assert_eq!(counted("corelane_produced_batches_total"), 20.0);
    assert_eq!(counted("corelane_produced_records_total"), 60.0);
    assert_eq!(counted("corelane_produced_bytes_total"), bytes as f64);
    assert_eq!(
        broker.metric("corelane_requests_total", &["api=\"Produce\""]),
        21.0
    );
    assert!(broker.metric("corelane_errors_total", &["UNKNOWN_TOPIC_OR_PARTITION"]) >= 1.0);
    assert_eq!(counted("corelane_partitions"), 2.0);
    let (memory, file) = (
        counted("corelane_fetched_memory_bytes_total"),
        counted("corelane_fetched_file_bytes_total"),
    );
    assert!(
        memory + file >= bytes as f64 / 2.0,
        "{memory} and {file} of {bytes}"
    );
    assert!(counted("corelane_connections") >= 1.0);
}

#[test]
fn a_start_after_a_clean_stop_scans_nothing_and_one_after_a_kill_little() {
    let mut broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 4, &[]);
    for number in 0..40 {
        client.produce("t", number % 4, batch(&[&[7; 20_000]]));
    }
    let scanned = |broker: &Broker| broker.metric("corelane_log_recovery_scanned_bytes_total", &[]);
    broker.crash();
    let written = (0..4).map(|partition| {
        let records = broker.client().read_all("t", partition);
        records.len() * 20_000
    });
    let written = written.sum::<usize>() as f64;
    // Batches, and not the preallocated ends of the files behind them.
    let after_the_kill = scanned(&broker);
    println!("scanned {after_the_kill} bytes after a kill, {written} written");
    assert!(after_the_kill >= written && after_the_kill < written * 1.1);
    assert_eq!(
        broker.metric("corelane_log_recovery_cut_bytes_total", &[]),
        0.0
    );
    broker.restart();
    assert_eq!(scanned(&broker), 0.0, "after a clean stop");
    for partition in 0..4 {
        assert_eq!(broker.client().read_all("t", partition).len(), 10);
    }
}
