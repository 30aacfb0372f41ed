//! Idempotent producers over the wire: duplicates, gaps, epochs, wrap-around, and restarts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use corelane::base::{Prng, ProducerEpoch, ProducerId, Sequence};
use corelane::protocol::ErrorCode;
use corelane::protocol::messages::InitProducerIdRequest;
use corelane::record::{BatchBuilder, Batches, Codec};

use crate::support::client::{Client, PRODUCE, batch, named, produce_request};
use crate::support::{Broker, setting};

/// A batch of `count` records from `sequence` on.
fn from(producer: (i64, i16), sequence: i32, count: i32) -> Vec<u8> {
    let (id, epoch) = (ProducerId(producer.0), ProducerEpoch(producer.1));
    let mut builder = BatchBuilder::new(Codec::None).producer(id, epoch, Sequence(sequence));
    for index in 0..count {
        builder.append(1, None, Some(format!("{sequence}+{index}").as_bytes()), &[]);
    }
    builder.finish()
}

/// Produces and gives error and offset.
fn send(client: &mut Client, producer: (i64, i16), sequence: i32, count: i32) -> (ErrorCode, i64) {
    let answer = client.produce("t", 0, from(producer, sequence, count));
    (answer.error, answer.base_offset.0)
}

fn scene() -> (Broker, (i64, i16)) {
    let broker = Broker::start();
    let mut client = broker.client();
    client.create("t", 2, &[]);
    let producer = client.producer_id();
    (broker, producer)
}

const DONE: fn(i64) -> (ErrorCode, i64) = |offset| (ErrorCode::None, offset);
const GAP: (ErrorCode, i64) = (ErrorCode::OutOfOrderSequenceNumber, -1);

#[test]
fn producer_ids_are_never_given_out_twice_not_even_after_kill_and_restart() {
    let mut broker = Broker::start();
    let mut seen = BTreeSet::new();
    for round in 0..4 {
        for _ in 0..2 {
            let mut client = broker.client();
            for _ in 0..20 {
                let (id, epoch) = client.producer_id();
                assert_eq!(epoch, 0);
                assert!(seen.insert(id), "{id} was given out twice");
            }
        }
        if round % 2 == 0 {
            broker.crash();
        } else {
            broker.restart();
        }
    }
}

#[test]
fn an_id_that_asks_again_gets_the_next_epoch() {
    let (broker, (id, epoch)) = scene();
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(id.into())
        .with_producer_epoch(epoch);
    let response = broker.client().call(4, &request);
    assert_eq!(response.error_code, 0);
    let again = (response.producer_id.0, response.producer_epoch);
    assert!(
        again == (id, epoch + 1) || (again.0 != id && again.1 == 0),
        "{again:?}"
    );
}

#[test]
fn the_last_five_batches_are_known_again_and_older_ones_are_not() {
    let (broker, producer) = scene();
    let mut client = broker.client();
    for number in 0..7 {
        assert_eq!(
            send(&mut client, producer, number * 2, 2),
            DONE(i64::from(number) * 2)
        );
    }
    for number in 2..7 {
        assert_eq!(
            send(&mut client, producer, number * 2, 2),
            DONE(i64::from(number) * 2)
        );
    }
    let (older, _) = send(&mut client, producer, 2, 2);
    assert!(
        matches!(
            older,
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::DuplicateSequenceNumber
        ),
        "{older}"
    );
    assert_eq!(client.read_all("t", 0).len(), 14);
}

#[test]
fn duplicates_are_known_again_after_a_kill_and_after_a_clean_restart() {
    let (mut broker, producer) = scene();
    let mut client = broker.client();
    for number in 0..6 {
        assert_eq!(
            send(&mut client, producer, number * 3, 3),
            DONE(i64::from(number) * 3)
        );
    }
    for restart in [Broker::crash, Broker::restart, Broker::crash] {
        restart(&mut broker);
        let mut client = broker.client();
        for number in 1..6 {
            assert_eq!(
                send(&mut client, producer, number * 3, 3),
                DONE(i64::from(number) * 3)
            );
        }
        assert_eq!(send(&mut client, producer, 19, 1), GAP);
        assert_eq!(client.read_all("t", 0).len(), 18);
    }
    assert_eq!(send(&mut broker.client(), producer, 18, 1), DONE(18));
}

#[test]
fn gaps_are_refused_and_each_partition_counts_for_itself() {
    let (broker, producer) = scene();
    let mut client = broker.client();
    assert_eq!(send(&mut client, producer, 0, 2), DONE(0));
    assert_eq!(send(&mut client, producer, 3, 1), GAP);
    assert_eq!(send(&mut client, producer, 1, 2), GAP);
    assert_eq!(send(&mut client, producer, 2, 1), DONE(2));
    let other = client.produce("t", 1, from(producer, 0, 1));
    assert_eq!((other.error, other.base_offset.0), DONE(0));
    assert_eq!(client.read_all("t", 0).len(), 3);
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    let (broker, _) = scene();
    let mut client = broker.client();
    assert_eq!(send(&mut client, (77_777, 3), 1000, 1), DONE(0));
    assert_eq!(send(&mut client, (77_777, 3), 1002, 1), GAP);
    assert_eq!(send(&mut client, (77_777, 3), 1001, 1), DONE(1));
}

#[test]
fn an_older_epoch_is_refused_and_a_newer_one_begins_at_zero() {
    let (mut broker, (id, _)) = scene();
    let mut client = broker.client();
    assert_eq!(send(&mut client, (id, 3), 0, 1), DONE(0));
    assert_eq!(
        send(&mut client, (id, 2), 1, 1),
        (ErrorCode::InvalidProducerEpoch, -1)
    );
    assert_eq!(send(&mut client, (id, 4), 1, 1), GAP);
    assert_eq!(send(&mut client, (id, 4), 0, 1), DONE(1));
    broker.crash();
    let mut client = broker.client();
    assert_eq!(
        send(&mut client, (id, 3), 1, 1),
        (ErrorCode::InvalidProducerEpoch, -1)
    );
    assert_eq!(send(&mut client, (id, 4), 0, 1), DONE(1));
    assert_eq!(send(&mut client, (id, 4), 1, 1), DONE(2));
}

#[test]
fn sequences_wrap_from_the_largest_to_zero() {
    let (mut broker, _) = scene();
    let mut client = broker.client();
    let producer = (88_888, 0);
    assert_eq!(send(&mut client, producer, i32::MAX - 3, 2), DONE(0));
    // The records MAX-1, MAX, 0, 1: the batch itself wraps.
    assert_eq!(send(&mut client, producer, i32::MAX - 1, 4), DONE(2));
    assert_eq!(send(&mut client, producer, i32::MAX - 1, 4), DONE(2));
    assert_eq!(send(&mut client, producer, 1, 1), GAP);
    broker.crash();
    let mut client = broker.client();
    assert_eq!(send(&mut client, producer, i32::MAX - 1, 4), DONE(2));
    assert_eq!(send(&mut client, producer, 2, 1), DONE(6));
    assert_eq!(send(&mut client, (99_999, 0), i32::MAX, 1), DONE(7));
    assert_eq!(send(&mut client, (99_999, 0), 0, 1), DONE(8));
}

#[test]
fn after_one_of_five_in_flight_fails_the_later_ones_fail_too() {
    let (broker, producer) = scene();
    let mut client = broker.client();
    assert_eq!(send(&mut client, producer, 0, 1), DONE(0));
    for sequence in [2, 3, 4, 5, 6] {
        let records = from(producer, sequence, 1).into();
        client
            .send_produce(PRODUCE, &produce_request(named("t"), 0, Some(records), -1))
            .expect("sent");
    }
    for _ in 0..5 {
        let (_, response) = client.receive_produce(PRODUCE).expect("an answer");
        let error = response.topics[0].partitions[0].error;
        assert_eq!(error, ErrorCode::OutOfOrderSequenceNumber);
    }
    for sequence in 1..7 {
        assert_eq!(
            send(&mut client, producer, sequence, 1),
            DONE(i64::from(sequence))
        );
    }
}

#[test]
fn five_in_flight_stay_in_order_while_the_connection_moves_between_cores() {
    let (broker, producer) = scene();
    // One of two partitions lives on another core than the one that accepted the connection.
    for partition in 0..2 {
        let mut client = broker.client();
        let mut next = 0;
        for _ in 0..40 {
            for sequence in next..next + 5 {
                let records = from(producer, sequence, 1).into();
                let request = produce_request(named("t"), partition, Some(records), -1);
                client.send_produce(PRODUCE, &request).expect("sent");
            }
            for sequence in next..next + 5 {
                let (_, response) = client.receive_produce(PRODUCE).expect("an answer");
                let answer = &response.topics[0].partitions[0];
                assert_eq!(
                    (answer.error, answer.base_offset.0),
                    DONE(i64::from(sequence))
                );
            }
            next += 5;
        }
    }
}

#[test]
fn a_duplicate_that_arrives_with_its_original_gets_the_same_offset() {
    let (broker, producer) = scene();
    let mut client = broker.client();
    client.produce("t", 0, batch(&[b"before"]));
    for _ in 0..4 {
        let records = from(producer, 0, 3).into();
        client
            .send_produce(PRODUCE, &produce_request(named("t"), 0, Some(records), -1))
            .expect("sent");
    }
    for _ in 0..4 {
        let (_, response) = client.receive_produce(PRODUCE).expect("an answer");
        let answer = &response.topics[0].partitions[0];
        assert_eq!((answer.error, answer.base_offset.0), DONE(1));
    }
    assert_eq!(client.read_all("t", 0).len(), 4);
}

/// What one producer did, for the test's last line.
#[derive(Default)]
struct Done {
    batches: u64,
    repeated: u64,
    connections_lost: u64,
    epochs: u64,
    zombies_refused: u64,
}

/// A producer whose network is bad: sends twice, loses connections and with them answers, comes
/// back with the next epoch while its old self goes on.
struct Unlucky<'a> {
    broker: &'a Broker,
    client: Client,
    partition: i32,
    id: i64,
    epoch: i16,
    next: i32,
    /// Sequences that are not answered, and those whose answers the connection owes, in order.
    unacked: VecDeque<i32>,
    owed: VecDeque<i32>,
    /// Base offsets by epoch and sequence.
    acked: BTreeMap<(i16, i32), i64>,
    random: Prng,
    done: Done,
}

impl Unlucky<'_> {
    fn send(&mut self, sequence: i32) {
        let records = from((self.id, self.epoch), sequence, 1).into();
        let request = produce_request(named("t"), self.partition, Some(records), -1);
        self.client.send_produce(PRODUCE, &request).expect("sent");
        self.owed.push_back(sequence);
    }

    fn receive(&mut self) {
        let (_, response) = self.client.receive_produce(PRODUCE).expect("an answer");
        let answer = &response.topics[0].partitions[0];
        let sequence = self.owed.pop_front().expect("owed");
        assert_eq!(answer.error, ErrorCode::None, "{sequence} of {}", self.id);
        let place = answer.base_offset.0;
        match self.acked.insert((self.epoch, sequence), place) {
            Some(before) => {
                assert_eq!(place, before, "{sequence} of {} came twice", self.id);
                self.done.repeated += 1;
            }
            None => {
                let done = self.unacked.pop_front();
                assert_eq!(done, Some(sequence), "in order");
                self.done.batches += 1;
            }
        }
    }

    fn settle(&mut self) {
        while !self.owed.is_empty() {
            self.receive();
        }
        assert!(self.unacked.is_empty());
    }

    /// The connection breaks before its answers are read; all that is open is sent again, maybe
    /// while the broker still works on the first copies.
    fn lose_the_connection(&mut self) {
        self.client = self.broker.client();
        self.owed.clear();
        for sequence in self.unacked.clone() {
            self.send(sequence);
        }
        self.done.connections_lost += 1;
    }

    /// The producer is started again; the old one does not know it, and writes on.
    fn leave_a_zombie(&mut self) {
        self.settle();
        let (zombie, next) = ((self.id, self.epoch), self.next);
        let mut old = std::mem::replace(&mut self.client, self.broker.client());
        (self.epoch, self.next) = (self.epoch + 1, 0);
        self.step();
        self.settle();
        self.done.epochs += 1;
        // What it has sent already, and what would be its next: neither counts any more.
        for sequence in [next - 1, next] {
            let answer = old.produce("t", self.partition, from(zombie, sequence, 1));
            assert_eq!(answer.error, ErrorCode::InvalidProducerEpoch);
            self.done.zombies_refused += 1;
        }
    }

    fn step(&mut self) {
        while self.unacked.len() >= 5 {
            self.receive();
        }
        let sequence = self.next;
        self.next += 1;
        self.unacked.push_back(sequence);
        self.send(sequence);
        if self.random.one_in(4) {
            self.send(sequence);
        }
    }

    fn run(mut self, time: Duration) -> Self {
        let began = Instant::now();
        while began.elapsed() < time {
            self.step();
            if self.random.one_in(30) {
                self.lose_the_connection();
            } else if self.random.one_in(100) {
                self.leave_a_zombie();
            }
        }
        self.settle();
        self
    }
}

#[test]
fn producers_that_repeat_lose_connections_and_leave_zombies_write_each_batch_once_in_order() {
    let seconds = setting("CORELANE_UNLUCKY_SECONDS", 3);
    let broker = Broker::start();
    broker.client().create("t", 2, &[]);
    let producers: Vec<Unlucky<'_>> = thread::scope(|scope| {
        let running: Vec<_> = (0..6)
            .map(|number| {
                let mut client = broker.client();
                let (id, epoch) = client.producer_id();
                let producer = Unlucky {
                    broker: &broker,
                    client,
                    partition: number % 2,
                    id,
                    epoch,
                    next: 0,
                    unacked: VecDeque::new(),
                    owed: VecDeque::new(),
                    acked: BTreeMap::new(),
                    random: Prng::new(number as u64),
                    done: Done::default(),
                };
                scope.spawn(move || producer.run(Duration::from_secs(seconds)))
            })
            .collect();
        let joined = running.into_iter().map(|one| one.join());
        joined.map(|one| one.expect("a producer")).collect()
    });
    let mut client = broker.client();
    let mut found: BTreeMap<i64, Vec<((i16, i32), i64)>> = BTreeMap::new();
    for partition in 0..2 {
        let bytes = client.read_bytes("t", partition, 0);
        for batch in Batches::new(&bytes) {
            let header = batch.expect("whole batches").header;
            let name = (header.producer_epoch.0, header.base_sequence.0);
            let batches = found.entry(header.producer_id.0).or_default();
            batches.push((name, header.base_offset.0));
        }
    }
    let mut sum = Done::default();
    for producer in &producers {
        let found = found.remove(&producer.id).unwrap_or_default();
        // In the order of the log: epochs and sequences grow, and each is there once.
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let acked: Vec<_> = producer
            .acked
            .iter()
            .map(|(name, at)| (*name, *at))
            .collect();
        assert_eq!(found, acked, "producer {}", producer.id);
        sum.batches += producer.done.batches;
        sum.repeated += producer.done.repeated;
        sum.connections_lost += producer.done.connections_lost;
        sum.epochs += producer.done.epochs;
        sum.zombies_refused += producer.done.zombies_refused;
    }
    assert!(found.is_empty());
    println!(
        "{} batches once and in order, {} repetitions answered with the first offset, {} \
         connections lost, {} new epochs, {} batches of zombies refused",
        sum.batches, sum.repeated, sum.connections_lost, sum.epochs, sum.zombies_refused
    );
    assert!(sum.repeated > 0 && sum.connections_lost > 0 && sum.zombies_refused > 0);
}
