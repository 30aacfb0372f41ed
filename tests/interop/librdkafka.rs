//! librdkafka, in this process: the admin of the suites, a writer and a reader.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
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

fn headers(message: &impl Message) -> Vec<(String, Option<Vec<u8>>)> {
    let Some(headers) = message.headers() else {
        return Vec::new();
    };
    headers
        .iter()
        .map(|each| (each.key.to_owned(), each.value.map(<[u8]>::to_vec)))
        .collect()
}
