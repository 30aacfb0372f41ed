//! `corelane import` from a directory that a running Apache Kafka wrote: all codecs, idempotent and
//! transactional producers, a compacted topic, leader epochs, topic ids, committed offsets. What a
//! client read from Kafka it reads from corelane, byte for byte; Kafka's own tool reads the files.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::{Broker, Kind};
use crate::clients;
use crate::librdkafka::{self, PATIENCE, config};
use crate::records::{CODECS, Dump, PARTITIONS, every_kind};

/// Segments of the least size that Kafka takes, cleaned as soon as they are full.
const CONFIGS: [(&str, &str); 4] = [
    ("log.segment.bytes", "1048576"),
    ("log.cleaner.backoff.ms", "100"),
    ("log.cleaner.min.cleanable.ratio", "0.01"),
    ("log.initial.task.delay.ms", "1"),
];
const TRANSACTIONS: &str = "transactions";
const COMPACTED: &str = "compacted";
const GROUP: &str = "readers";
const KEYS: usize = 50;

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What Kafka held when it was stopped.
struct Before {
    kafka: Broker,
    topics: Vec<String>,
    dump: Dump,
    described: String,
    committed: Vec<(i32, i64)>,
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    runtime_of(runtime).block_on(future)
}

fn runtime_of(mut builder: tokio::runtime::Builder) -> tokio::runtime::Runtime {
    builder.enable_all().build().expect("a runtime")
}

fn create_compacted(bootstrap: &str) -> Result<(), String> {
    let admin: AdminClient<DefaultClientContext> = config(bootstrap).create().map_err(told)?;
    let topic = NewTopic::new(COMPACTED, 2, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", "1048576");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let results = wait(admin.create_topics(&[topic], &options)).map_err(told)?;
    for result in results {
        result.map_err(|(topic, code)| format!("creating {topic}: {code}"))?;
    }
    Ok(())
}

/// Five transactions in three, the third of each aborted; one is left open.
fn write_transactions(bootstrap: &str) -> Result<(), String> {
    let producer = |id: &str| -> Result<BaseProducer, String> {
        let mut config = config(bootstrap);
        config.set("transactional.id", id).set("linger.ms", "5");
        let producer: BaseProducer = config.create().map_err(told)?;
        producer.init_transactions(PATIENCE).map_err(told)?;
        Ok(producer)
    };
    let send = |producer: &BaseProducer, text: &str| -> Result<(), String> {
        for number in 0..30 {
            let value = format!("{text} {number} {}", "x".repeat(4000));
            let record: BaseRecord<'_, str, str> = BaseRecord::to(TRANSACTIONS);
            let record = record.partition(number % PARTITIONS).payload(&value);
            producer.send(record).map_err(|(error, _)| told(error))?;
        }
        producer.flush(PATIENCE).map_err(told)
    };
    let (first, second) = (producer("first")?, producer("second")?);
    for round in 0..30 {
        // Two transactions whose records lie among each other.
        first.begin_transaction().map_err(told)?;
        second.begin_transaction().map_err(told)?;
        send(&first, &format!("first {round}"))?;
        send(&second, &format!("second {round}"))?;
        first.commit_transaction(PATIENCE).map_err(told)?;
        match round % 3 {
            0 => second.abort_transaction(PATIENCE).map_err(told)?,
            _ => second.commit_transaction(PATIENCE).map_err(told)?,
        }
    }
    let left_open = producer("third")?;
    left_open.begin_transaction().map_err(told)?;
    send(&left_open, "open")?;
    // Its coordinator would abort it in the end; it is gone before that.
    std::mem::forget(left_open);
    Ok(())
}

fn write_keys(bootstrap: &str, rounds: usize) -> Result<(), String> {
    let producer: BaseProducer = config(bootstrap)
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .create()
        .map_err(told)?;
    // Noise, so that it stays large when it is packed: Kafka cleans full segments only.
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state >> 32) as u8 % 90)
    };
    for round in 0..rounds {
        for key in 0..KEYS {
            let name = format!("key-{key}");
            let noise: String = (0..2000).map(|_| letter()).collect();
            let value = format!("{round} {noise}");
            let record = BaseRecord::to(COMPACTED).key(name.as_str());
            let record: BaseRecord<'_, str, str> = record.partition((key % 2) as i32);
            let tombstone = key % 10 == 0 && round + 1 == rounds;
            let record = if tombstone {
                record
            } else {
                record.payload(&value)
            };
            producer.send(record).map_err(|(error, _)| told(error))?;
        }
        producer.flush(PATIENCE).map_err(told)?;
    }
    Ok(())
}

/// Kafka has cleaned both partitions of the compacted topic: what is below is not what was written.
fn wait_for_the_cleaner(kafka: &Broker) -> Result<(), String> {
    let file = kafka.scratch().join("data/cleaner-offset-checkpoint");
    let end = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let cleaned = text
            .lines()
            .filter(|line| line.starts_with(COMPACTED))
            .count();
        if cleaned == 2 {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("Kafka does not clean: {text:?}"));
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn commit(bootstrap: &str, topic: &str) -> Result<Vec<(i32, i64)>, String> {
    let consumer = group(bootstrap)?;
    let mut offsets = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let at = i64::from(partition) * 10 + 17;
        let added = offsets.add_partition_offset(topic, partition, Offset::Offset(at));
        added.map_err(told)?;
    }
    consumer.commit(&offsets, CommitMode::Sync).map_err(told)?;
    committed(bootstrap, topic)
}

fn group(bootstrap: &str) -> Result<BaseConsumer, String> {
    let mut config = config(bootstrap);
    config
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false");
    config.create().map_err(told)
}

fn committed(bootstrap: &str, topic: &str) -> Result<Vec<(i32, i64)>, String> {
    let mut asked = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        asked.add_partition(topic, partition);
    }
    let found = group(bootstrap)?
        .committed_offsets(asked, PATIENCE)
        .map_err(told)?;
    let number = |offset: Offset| match offset {
        Offset::Offset(offset) => offset,
        _ => -1,
    };
    let elements = found.elements();
    Ok(elements
        .iter()
        .map(|one| (one.partition(), number(one.offset())))
        .collect())
}

/// Names, ids, partition counts and configs, as Kafka's own tool tells them.
fn describe(bootstrap: &str) -> Result<String, String> {
    let mut tool = clients::java("org.apache.kafka.tools.TopicCommand")?;
    tool.args([
        "--bootstrap-server",
        bootstrap,
        "--describe",
        "--exclude-internal",
    ]);
    let said = clients::run(&mut tool)?;
    let said = String::from_utf8_lossy(&said);
    // Configs that only the topic has; the broker's own differ.
    let mut lines: Vec<String> = said
        .lines()
        .filter(|line| line.contains("TopicId"))
        .map(|line| {
            line.split("Configs:")
                .next()
                .unwrap_or(line)
                .trim()
                .to_owned()
        })
        .collect();
    lines.sort();
    Ok(lines.join("\n"))
}

fn run_kafka() -> Result<Before, String> {
    let mut kafka = Broker::start_with(Kind::Kafka, &CONFIGS)?;
    let bootstrap = kafka.bootstrap().to_owned();
    let mut topics: Vec<String> = CODECS
        .iter()
        .map(|codec| format!("codec-{codec}"))
        .collect();
    librdkafka::create_topics(&bootstrap, &topics, PARTITIONS)?;
    librdkafka::create_topics(&bootstrap, &[TRANSACTIONS.to_owned()], PARTITIONS)?;
    create_compacted(&bootstrap)?;
    let records = every_kind();
    for codec in CODECS {
        librdkafka::write(&bootstrap, &format!("codec-{codec}"), codec, &records)?;
    }
    write_keys(&bootstrap, 60)?;
    wait_for_the_cleaner(&kafka)?;
    // A new term of every leader, in the middle of the logs.
    kafka.restart()?;
    for codec in CODECS {
        librdkafka::write(&bootstrap, &format!("codec-{codec}"), codec, &records)?;
    }
    let committed = commit(&bootstrap, &topics[0])?;
    assert_eq!(committed, [(0, 17), (1, 27), (2, 37)]);
    write_transactions(&bootstrap)?;
    topics.extend([TRANSACTIONS.to_owned(), COMPACTED.to_owned()]);
    let dump = librdkafka::read_to_end(&bootstrap, &topics)?;
    let described = describe(&bootstrap)?;
    assert!(kafka.stop());
    Ok(Before {
        kafka,
        topics,
        dump,
        described,
        committed,
    })
}

fn import(from: &Path, to: &Path, more: &[&str]) -> Result<String, String> {
    let named = std::env::var_os("CORELANE_BINARY");
    let program = named.unwrap_or_else(|| env!("CARGO_BIN_EXE_corelane").into());
    let mut command = Command::new(program);
    command.arg("import").arg("--from").arg(from);
    command.arg("--data-dir").arg(to).args(more);
    let output = command.output().map_err(told)?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{said}");
    output.status.success().then_some(said.clone()).ok_or(said)
}

/// Every line that was read from Kafka, and no other, is read from corelane.
fn compare(before: &Dump, now: &Dump) {
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        now.keys().collect::<Vec<_>>()
    );
    for (place, lines) in before {
        let others = &now[place];
        let differs = lines
            .iter()
            .zip(others)
            .position(|(one, other)| one != other);
        if let Some(at) = differs {
            let short = |line: &String| line.chars().take(300).collect::<String>();
            panic!(
                "{place:?}, {at}: {} is {}",
                short(&lines[at]),
                short(&others[at])
            );
        }
        assert_eq!(lines.len(), others.len(), "{place:?}");
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a partition");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut logs: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    logs.sort();
    logs
}

/// Kafka's tool reads each segment, and finds nothing wrong in it.
fn dump_segments(data: &Path, partition: &str) {
    let logs = segments(&data.join(partition));
    let names: Vec<String> = logs.iter().map(|path| path.display().to_string()).collect();
    let mut tool =
        clients::java("kafka.tools.DumpLogSegments").unwrap_or_else(|error| panic!("{error}"));
    tool.args(["--deep-iteration", "--files", &names.join(",")]);
    let said = clients::run(&mut tool).unwrap_or_else(|error| panic!("{error}"));
    let said = String::from_utf8_lossy(&said);
    assert_eq!(
        said.matches("tarting offset: ").count(),
        logs.len(),
        "{said}"
    );
    assert!(said.contains("isvalid: true") && !said.contains("isvalid: false"));
}

#[test]
fn interop_import_what_a_running_kafka_wrote_is_read_byte_for_byte() {
    let before = run_kafka().unwrap_or_else(|error| panic!("{error}"));
    let records: usize = before.dump.values().map(Vec::len).sum();
    let from = before.kafka.scratch().join("data");
    for more in [&[][..], &["--copy"]] {
        let mut said = String::new();
        let broker = Broker::start_on(|data| {
            said = import(&from, data, more)?;
            Ok(())
        });
        let mut broker = broker.unwrap_or_else(|error| panic!("{error}"));
        assert!(said.contains("aborted transactions"), "{said}");
        assert_eq!(
            !said.contains(" 0 segments linked"),
            more.is_empty(),
            "{said}"
        );
        let bootstrap = broker.bootstrap().to_owned();
        let data = broker.scratch().join("data");
        for round in 0..2 {
            let now = librdkafka::read_to_end(&bootstrap, &before.topics);
            compare(&before.dump, &now.unwrap_or_else(|error| panic!("{error}")));
            let found = describe(&bootstrap).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(found, before.described);
            let found = committed(&bootstrap, &before.topics[0]);
            assert_eq!(found.as_ref(), Ok(&before.committed));
            if round == 0 {
                broker.crash().unwrap_or_else(|error| panic!("{error}"));
            }
        }
        // Life goes on: clients of Kafka's terms are told of the new ones, and write.
        let records = every_kind();
        for codec in ["none", "zstd"] {
            let topic = format!("codec-{codec}");
            let written = librdkafka::write(&bootstrap, &topic, codec, &records);
            written.unwrap_or_else(|error| panic!("{error}"));
        }
        let topics = ["codec-none".to_owned(), "codec-zstd".to_owned()];
        let more = librdkafka::read_to_end(&bootstrap, &topics);
        for (place, lines) in more.unwrap_or_else(|error| panic!("{error}")) {
            let old = &before.dump[&place];
            assert_eq!(lines[..old.len()], old[..], "{place:?}");
            assert_eq!(lines.len(), old.len() * 3 / 2, "{place:?}");
        }
        assert!(broker.stop());
        for partition in [
            "codec-none-0",
            "codec-zstd-1",
            "transactions-0",
            "compacted-1",
        ] {
            dump_segments(&data, partition);
        }
    }
    println!(
        "{records} records of {} topics, by link and by copy",
        before.topics.len()
    );
}
