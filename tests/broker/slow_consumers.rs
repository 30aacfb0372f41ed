//! Consumers that ask and never read their sockets (faults row 10): what they hold is bounded, nobody
//! else notices, and they are closed in the end.

use std::time::{Duration, Instant};

use corelane::protocol::ErrorCode;

use crate::support::client::{Client, FETCH, batch, fetch_request, named};
use crate::support::{Broker, until};

/// Consumers that never read.
const SLOW: usize = 24;
/// What each of them asks for in one request, and what is written before it asks.
const ASKED_BYTES: usize = 8 << 20;
/// Requests that each of them sends.
const REQUESTS: usize = 4;
const BATCH_BYTES: usize = 512 << 10;

/// A broker with little memory, a neighbour of the slow ones, and the topic `t` with something in it.
fn scene(configs: &[&str]) -> (Broker, Client) {
    let broker = Broker::start_in(None, &[&["--memory", "128MiB"], configs].concat());
    let mut neighbour = broker.client();
    neighbour.create("t", 1, &[]);
    write_on(&mut neighbour);
    (broker, neighbour)
}

/// Writes as much as a consumer asks for at a time; returns the longest wait for an answer.
fn write_on(client: &mut Client) -> Duration {
    let record = vec![7; BATCH_BYTES];
    let mut longest = Duration::ZERO;
    for _ in 0..ASKED_BYTES / BATCH_BYTES {
        let began = Instant::now();
        let answer = client.produce("t", 0, batch(&[&record]));
        assert_eq!(answer.error, ErrorCode::None);
        longest = longest.max(began.elapsed());
    }
    longest
}

/// One that asks for what is there from `from` on, and never reads.
fn slow(broker: &Broker, from: usize) -> Client {
    let mut client = broker.client();
    for _ in 0..REQUESTS {
        let mut request = fetch_request(named("t"), 0, from as i64, ASKED_BYTES as i32);
        request.max_bytes = ASKED_BYTES as i32;
        client.send_fetch(FETCH, &request);
    }
    client
}

// The kernel keeps what was sent to them, so that only the broker can tell that they are closed.
fn connections(broker: &Broker) -> f64 {
    broker.metric("corelane_connections", &[])
}

#[test]
fn consumers_that_never_read_disturb_nobody_and_are_closed_after_a_time() {
    let (broker, mut neighbour) = scene(&["--set", "connections.max.idle.ms=3000"]);
    let before = broker.resident_kib();
    let all: Vec<Client> = (0..SLOW).map(|_| slow(&broker, 0)).collect();
    let longest = (0..SLOW).map(|_| write_on(&mut neighbour)).max();
    let grown = broker.resident_kib().saturating_sub(before);
    println!(
        "{SLOW} consumers that asked for {} MiB: resident memory grew by {grown} KiB; a neighbour's \
         longest produce took {longest:?}",
        (SLOW * ASKED_BYTES * REQUESTS) >> 20
    );
    // They hold what they asked for once, however many they are; the rest is what was written.
    assert!(grown < 96 << 10, "{grown} KiB");
    until("the slow consumers are closed", || {
        assert_eq!(neighbour.fetch("t", 0, 0).error, ErrorCode::None);
        connections(&broker) == 1.0
    });
    drop(all);
}

#[test]
fn consumers_that_hold_memory_which_the_cache_would_let_go_are_closed_beyond_a_bound() {
    let (broker, mut neighbour) = scene(&[]);
    let mut all = Vec::new();
    for n in 0..SLOW {
        // Each asks for what is newest then, which is still in memory.
        all.push(slow(&broker, n * ASKED_BYTES / BATCH_BYTES));
        write_on(&mut neighbour);
    }
    // Of 24 times 8 MiB at most 8 MiB are held on each core, and one reply that is larger than that.
    let left = 1.0 + 2.0 * f64::from(broker.cores());
    until("those who hold too much are closed", || {
        assert_eq!(neighbour.fetch("t", 0, 0).error, ErrorCode::None);
        connections(&broker) <= left
    });
    drop(all);
}
