//! librdkafka, in this process: the admin of the suites, a writer, a reader and a member of groups.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::records::{Dump, Specified};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Waits for a future of the admin client; its work is done by librdkafka's own threads.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

pub fn create_topics(bootstrap: &str, topics: &[String], partitions: i32) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap)
        .create()
        .map_err(|error| error.to_string())?;
    let new = topics
        .iter()
        .map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(1)));
    let new: Vec<NewTopic<'_>> = new.collect();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let results = wait(admin.create_topics(&new, &options)).map_err(|error| error.to_string())?;
    for result in results {
        result.map_err(|(topic, code)| format!("creating {topic}: {code}"))?;
    }
    Ok(())
}

/// Collects what became of the records that were sent.
#[derive(Clone, Default)]
pub struct Deliveries {
    delivered: Arc<AtomicUsize>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => self
                .refused
                .lock()
                .expect("unpoisoned")
                .push(error.to_string()),
        }
    }
}

impl Deliveries {
    pub fn check(&self, sent: usize) -> Result<(), String> {
        let refused = self.refused.lock().expect("unpoisoned");
        if let Some(first) = refused.first() {
            return Err(format!(
                "{} of {sent} records refused: {first}",
                refused.len()
            ));
        }
        let delivered = self.delivered.load(Ordering::Relaxed);
        if delivered == sent {
            Ok(())
        } else {
            Err(format!("{delivered} of {sent} records delivered"))
        }
    }
}

pub fn write(
    bootstrap: &str,
    topic: &str,
    codec: &str,
    records: &[Specified],
) -> Result<(), String> {
    let deliveries = Deliveries::default();
    let mut config = config(bootstrap);
    config
        .set("compression.type", codec)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20");
    let producer: ThreadedProducer<Deliveries> = config
        .create_with_context(deliveries.clone())
        .map_err(|error| error.to_string())?;
    for record in records {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header {
                key,
                value: value.as_deref(),
            });
        }
        let mut to: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
            .partition(record.partition)
            .timestamp(record.timestamp);
        to.key = record.key.as_deref();
        to.payload = record.value.as_deref();
        if !record.headers.is_empty() {
            to = to.headers(headers);
        }
        producer.send(to).map_err(|(error, _)| error.to_string())?;
    }
    producer
        .flush(PATIENCE)
        .map_err(|error| error.to_string())?;
    deliveries.check(records.len())
}

/// Reads `wanted` records from the beginning of every partition, assigned by hand.
pub fn read(bootstrap: &str, wanted: usize, topics: &[String]) -> Result<Dump, String> {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", "unused: partitions are assigned by hand")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .create()
        .map_err(|error| error.to_string())?;
    let mut partitions = TopicPartitionList::new();
    for topic in topics {
        let known = consumer
            .fetch_metadata(Some(topic), PATIENCE)
            .map_err(|error| error.to_string())?;
        for partition in known.topics()[0].partitions() {
            partitions
                .add_partition_offset(topic, partition.id(), Offset::Offset(0))
                .map_err(|error| error.to_string())?;
        }
    }
    consumer
        .assign(&partitions)
        .map_err(|error| error.to_string())?;
    let end = Instant::now() + PATIENCE;
    let (mut dump, mut seen) = (Dump::new(), 0);
    while seen < wanted {
        if Instant::now() > end {
            return Err(format!("read {seen} of {wanted} records in {PATIENCE:?}"));
        }
        let Some(message) = consumer.poll(Duration::from_millis(500)) else {
            continue;
        };
        let message = message.map_err(|error| error.to_string())?;
        let record = Specified {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers(&message),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
        };
        let lines = dump
            .entry((message.topic().to_owned(), message.partition()))
            .or_default();
        lines.push(record.dumped(message.topic(), message.offset()));
        seen += 1;
    }
    Ok(dump)
}

/// Reads every partition of the topics to its end, as far as committed transactions go.
pub fn read_to_end(bootstrap: &str, topics: &[String]) -> Result<Dump, String> {
    let told = |error: KafkaError| error.to_string();
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", "unused: partitions are assigned by hand")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .create()
        .map_err(told)?;
    let mut partitions = TopicPartitionList::new();
    for topic in topics {
        let known = consumer
            .fetch_metadata(Some(topic), PATIENCE)
            .map_err(told)?;
        for partition in known.topics()[0].partitions() {
            let from = Offset::Beginning;
            let added = partitions.add_partition_offset(topic, partition.id(), from);
            added.map_err(told)?;
        }
    }
    consumer.assign(&partitions).map_err(told)?;
    let end = Instant::now() + PATIENCE;
    let (mut dump, mut left) = (Dump::new(), partitions.count());
    while left > 0 {
        if Instant::now() > end {
            return Err(format!(
                "{left} partitions are not at their end after {PATIENCE:?}"
            ));
        }
        let message = match consumer.poll(Duration::from_millis(500)) {
            None => continue,
            Some(Err(KafkaError::PartitionEOF(_))) => {
                left -= 1;
                continue;
            }
            Some(message) => message.map_err(told)?,
        };
        let record = Specified {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers(&message),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
        };
        let place = (message.topic().to_owned(), message.partition());
        let lines = dump.entry(place).or_default();
        lines.push(record.dumped(message.topic(), message.offset()));
    }
    Ok(dump)
}

fn headers(message: &impl Message) -> Vec<(String, Option<Vec<u8>>)> {
    let Some(headers) = message.headers() else {
        return Vec::new();
    };
    headers
        .iter()
        .map(|each| (each.key.to_owned(), each.value.map(<[u8]>::to_vec)))
        .collect()
}

/// Sends records that carry their number, round the partitions.
pub fn send_numbered(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    from: usize,
    count: usize,
) -> Result<(), String> {
    let deliveries = Deliveries::default();
    let mut config = config(bootstrap);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("batch.num.messages", "50");
    let producer: ThreadedProducer<Deliveries> = config
        .create_with_context(deliveries.clone())
        .map_err(|error| error.to_string())?;
    for number in from..from + count {
        let payload = number.to_string();
        let to: BaseRecord<'_, [u8], str> = BaseRecord::to(topic)
            .partition(number as i32 % partitions)
            .payload(&payload);
        producer.send(to).map_err(|(error, _)| error.to_string())?;
    }
    producer
        .flush(PATIENCE)
        .map_err(|error| error.to_string())?;
    deliveries.check(count)
}

/// Between two handfuls of records of a steady sender.
const HANDFUL_EVERY: Duration = Duration::from_millis(10);
/// How many records that is.
const HANDFUL: usize = 20;

/// Sends records that carry their number, round the partitions, at a steady rate until told to stop. How many
/// were delivered; a broker that goes away meanwhile is waited for.
pub fn send_until(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    stop: &AtomicBool,
) -> Result<usize, String> {
    let deliveries = Deliveries::default();
    let mut config = config(bootstrap);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "2")
        .set("reconnect.backoff.max.ms", "100");
    let producer: ThreadedProducer<Deliveries> = config
        .create_with_context(deliveries.clone())
        .map_err(|error| error.to_string())?;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..HANDFUL {
            let payload = sent.to_string();
            let to: BaseRecord<'_, [u8], str> = BaseRecord::to(topic)
                .partition(sent as i32 % partitions)
                .payload(&payload);
            producer.send(to).map_err(|(error, _)| error.to_string())?;
            sent += 1;
        }
        std::thread::park_timeout(HANDFUL_EVERY);
    }
    producer
        .flush(PATIENCE)
        .map_err(|error| error.to_string())?;
    deliveries.check(sent)?;
    Ok(sent)
}

/// Asks for a group's committed offsets without being a member.
pub struct Committed {
    consumer: BaseConsumer,
    partitions: TopicPartitionList,
}

impl Committed {
    pub fn of(
        bootstrap: &str,
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<Committed, String> {
        let mut config = config(bootstrap);
        let consumer = config
            .set("group.id", group)
            .set("reconnect.backoff.max.ms", "100")
            .create()
            .map_err(|error| error.to_string())?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        Ok(Committed {
            consumer,
            partitions: list,
        })
    }

    /// The partitions that have a commit, and it. A coordinator that is only just chosen, as after the first
    /// use of any group, or that is away, is asked again.
    pub fn sample(&mut self) -> Result<Vec<(i32, i64)>, String> {
        let end = Instant::now() + PATIENCE;
        let offsets = loop {
            match self
                .consumer
                .committed_offsets(self.partitions.clone(), PATIENCE)
            {
                Ok(offsets) => break offsets,
                Err(error) if Instant::now() < end && is_moving(&error) => {
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        let offset = |offset| {
            if let Offset::Offset(number) = offset {
                Some(number)
            } else {
                None
            }
        };
        let known = offsets.elements();
        Ok(known
            .iter()
            .filter_map(|each| Some((each.partition(), offset(each.offset())?)))
            .collect())
    }
}

fn is_moving(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, CoordinatorLoadInProgress, CoordinatorNotAvailable,
        NotCoordinator, OperationTimedOut, WaitingForCoordinator,
    };
    let moving = [
        AllBrokersDown,
        BrokerTransportFailure,
        CoordinatorLoadInProgress,
        CoordinatorNotAvailable,
        NotCoordinator,
        OperationTimedOut,
        WaitingForCoordinator,
    ];
    error
        .rdkafka_error_code()
        .is_some_and(|code| moving.contains(&code))
}

const RECORDS_PER_COMMIT: usize = 500;

/// What a member did and has not committed: partition to next offset.
type Done = Arc<Mutex<BTreeMap<i32, i64>>>;

/// Writes the member's diary when partitions come and go; commits before they go.
struct Diarist {
    topic: String,
    done: Done,
}

impl ClientContext for Diarist {
    /// Into the member's own file, with the time.
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        eprintln!("{} {facility} {message}", crate::diary::now());
    }
}

impl ConsumerContext for Diarist {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => event(&format!("assigned - {}", numbers(list))),
            Rebalance::Revoke(list) if consumer.assignment_lost() => {
                forget(&self.done, list);
                event(&format!("lost - {}", numbers(list)));
            }
            Rebalance::Revoke(list) => {
                commit(consumer, &self.topic, &self.done);
                forget(&self.done, list);
                event(&format!("revoked - {}", numbers(list)));
            }
            Rebalance::Error(error) => event(&format!("refused {error}")),
        }
    }
}

fn numbers(list: &TopicPartitionList) -> String {
    let numbers: Vec<String> = list
        .elements()
        .iter()
        .map(|each| each.partition().to_string())
        .collect();
    if numbers.is_empty() {
        "-".to_owned()
    } else {
        numbers.join(",")
    }
}

fn event(words: &str) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_micros();
    println!("@ {now} {words}");
}

fn commit(consumer: &BaseConsumer<Diarist>, topic: &str, done: &Done) {
    let mut done = done.lock().expect("unpoisoned");
    if done.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::new();
    for (partition, next) in &*done {
        list.add_partition_offset(topic, *partition, Offset::Offset(*next))
            .expect("an offset");
    }
    match consumer.commit(&list, CommitMode::Sync) {
        Ok(()) => done.clear(),
        // Kept: a commit in the middle of a cooperative rebalance is refused, and due again after it.
        Err(error) => event(&format!("refused {error}")),
    }
}

fn forget(done: &Done, list: &TopicPartitionList) {
    let mut done = done.lock().expect("unpoisoned");
    for each in list.elements() {
        done.remove(&each.partition());
    }
}

/// The session timeout that the test wants.
fn session_ms() -> String {
    std::env::var("CORELANE_INTEROP_SESSION_MS").unwrap_or_else(|_| "6000".to_owned())
}

/// A member of a group, until stdin closes. Its diary goes to stdout.
pub fn work(bootstrap: &str, group: &str, topic: &str, assignor: &str) {
    let mut config = config(bootstrap);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    if assignor == "consumer" {
        config.set("group.protocol", "consumer");
    } else {
        config.set("partition.assignment.strategy", assignor);
        config
            .set("session.timeout.ms", session_ms())
            .set("heartbeat.interval.ms", "300");
    }
    if let Ok(contexts) = std::env::var("CORELANE_INTEROP_DEBUG") {
        config.set("debug", contexts);
        config.set_log_level(RDKafkaLogLevel::Debug);
    }
    let done = Done::default();
    let diarist = Diarist {
        topic: topic.to_owned(),
        done: Arc::clone(&done),
    };
    let consumer: BaseConsumer<Diarist> = config.create_with_context(diarist).expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    event("started");
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        told.store(true, Ordering::Relaxed);
    });
    let mut uncommitted = 0;
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                event(&format!(
                    "record {} {}",
                    message.partition(),
                    message.offset()
                ));
                done.lock()
                    .expect("unpoisoned")
                    .insert(message.partition(), message.offset() + 1);
                uncommitted += 1;
            }
            Some(Err(error)) => event(&format!("refused {error}")),
            None => uncommitted = RECORDS_PER_COMMIT,
        }
        if uncommitted >= RECORDS_PER_COMMIT {
            commit(&consumer, topic, &done);
            uncommitted = 0;
        }
    }
    commit(&consumer, topic, &done);
    // Nothing is processed from here on. In the middle of a rebalance, librdkafka leaves the group before it calls
    // back for the revocation, and it waits for an answer that a killed broker does not give.
    if let Ok(list) = consumer.assignment() {
        event(&format!("revoked - {}", numbers(&list)));
    }
    drop(consumer);
    event("left");
}
