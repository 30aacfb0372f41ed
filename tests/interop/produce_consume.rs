//! Issue 2, item 1: three writers, all readers, five codecs, every kind of record, byte for byte.
//!
//! The topics are written once; each reader is a test and reads all of them in one process.

use std::process::Command;
use std::sync::OnceLock;

use crate::broker::Broker;
use crate::records::{
    CODECS, Dump, PARTITIONS, Specified, compare, every_kind, expected, parse, specification,
};
use crate::{clients, librdkafka};

const WRITERS: [&str; 3] = ["librdkafka", "java", "franz-go"];

/// A broker with every topic written.
struct Written {
    broker: Broker,
    topics: Vec<String>,
    records: Vec<Specified>,
}

impl Written {
    fn count(&self) -> usize {
        self.topics.len() * self.records.len()
    }

    fn expected(&self) -> Dump {
        expected(&self.topics, &self.records)
    }
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Result<Written, String>> = OnceLock::new();
    let written = WRITTEN.get_or_init(|| write_everything(Broker::under_test()?));
    written.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

fn write_everything(broker: Broker) -> Result<Written, String> {
    let chosen = std::env::var("CORELANE_INTEROP_WRITERS").unwrap_or_else(|_| WRITERS.join(","));
    let writers: Vec<&str> = WRITERS
        .into_iter()
        .filter(|name| chosen.split(',').any(|each| each == *name))
        .collect();
    let records = every_kind();
    let spec = broker.scratch().join("records.jsonl");
    std::fs::write(&spec, specification(&records)).map_err(|error| error.to_string())?;
    // A name of its own for each run: the broker may be one that we did not start.
    let run = std::process::id();
    let name = |writer: &str, codec: &str| format!("w-{writer}-{codec}-{run}");
    let mut topics = Vec::new();
    for writer in &writers {
        let own: Vec<String> = CODECS.iter().map(|codec| name(writer, codec)).collect();
        librdkafka::create_topics(broker.bootstrap(), &own, PARTITIONS)?;
        let mut external = match *writer {
            "java" => Some(clients::java("Client")?),
            "franz-go" => Some(clients::go("franz-go")?),
            _ => None,
        };
        if let Some(program) = &mut external {
            program.args(["write", broker.bootstrap()]).arg(&spec);
            program.args(
                CODECS
                    .iter()
                    .map(|codec| format!("{}={codec}", name(writer, codec))),
            );
            clients::run(program).map_err(|error| format!("{writer} could not write: {error}"))?;
        } else {
            for codec in CODECS {
                librdkafka::write(broker.bootstrap(), &name(writer, codec), codec, &records)
                    .map_err(|error| format!("{writer} could not write {codec}: {error}"))?;
            }
        }
        topics.extend(own);
    }
    Ok(Written {
        broker,
        topics,
        records,
    })
}

/// Runs a reading program over all topics and compares what it saw.
fn check(program: Result<Command, String>, wanted: impl Fn(&Written) -> Dump) {
    let mut program = program.unwrap_or_else(|error| panic!("{error}"));
    let written = written();
    program.args([
        "read",
        written.broker.bootstrap(),
        &written.count().to_string(),
    ]);
    program.args(&written.topics);
    let seen = clients::run(&mut program).and_then(|output| parse(&output));
    seen.and_then(|seen| compare(&wanted(written), &seen))
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn interop_produce_consume_librdkafka_reads_what_all_wrote() {
    let written = written();
    let seen = librdkafka::read(written.broker.bootstrap(), written.count(), &written.topics);
    let checked = seen.and_then(|seen| compare(&written.expected(), &seen));
    checked.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn interop_produce_consume_java_reads_what_all_wrote() {
    check(clients::java("Client"), Written::expected);
}

#[test]
fn interop_produce_consume_franz_go_reads_what_all_wrote() {
    check(clients::go("franz-go"), Written::expected);
}

#[test]
fn interop_produce_consume_confluent_kafka_reads_what_all_wrote() {
    check(clients::python("confluent-kafka"), Written::expected);
}

#[test]
fn interop_produce_consume_kafka_python_reads_what_all_wrote() {
    check(clients::python("kafka-python"), Written::expected);
}

#[test]
fn interop_produce_consume_aiokafka_reads_what_all_wrote() {
    check(clients::python("aiokafka"), Written::expected);
}

#[test]
fn interop_produce_consume_platformatic_reads_what_all_wrote() {
    check(clients::node("platformatic"), Written::expected);
}

/// kafkajs has no consumer without a group; this one needs FindCoordinator to Heartbeat.
#[test]
fn interop_produce_consume_in_a_group_kafkajs_reads_what_all_wrote() {
    check(clients::node("kafkajs"), |written| {
        let mut records = written.records.clone();
        records.iter_mut().for_each(group_repeated_headers);
        expected(&written.topics, &records)
    });
}

/// kafkajs gives headers as an object, which keeps the order of names, and of the values of each name.
fn group_repeated_headers(record: &mut Specified) {
    let headers = std::mem::take(&mut record.headers);
    for (name, content) in headers {
        let after = record
            .headers
            .iter()
            .rposition(|(earlier, _)| *earlier == name);
        let at = after.map_or(record.headers.len(), |index| index + 1);
        record.headers.insert(at, (name, content));
    }
}

/// kcat prints lengths before bytes, so that any bytes can be read back.
const KCAT_FORMAT: &str = "%p %o %T %K %S %h\n%k%s\n";

#[test]
fn interop_produce_consume_kcat_reads_what_all_wrote() {
    let written = written();
    let mut seen = Dump::new();
    for topic in &written.topics {
        let mut kcat = Command::new("kcat");
        kcat.args([
            "-C",
            "-q",
            "-e",
            "-o",
            "beginning",
            "-X",
            "check.crcs=true",
            "-f",
            KCAT_FORMAT,
        ]);
        kcat.args(["-b", written.broker.bootstrap(), "-t", topic]);
        let output = clients::run(&mut kcat).unwrap_or_else(|error| panic!("{error}"));
        let records =
            kcat_records(&output).unwrap_or_else(|| panic!("{topic}: kcat printed nonsense"));
        for record in records {
            let lines = seen.entry((topic.clone(), record.0.partition)).or_default();
            lines.push(record.0.dumped(topic, record.1));
        }
    }
    let wanted = {
        let mut records = written.records.clone();
        records.iter_mut().for_each(as_kcat_shows_headers);
        expected(&written.topics, &records)
    };
    compare(&wanted, &seen).unwrap_or_else(|error| panic!("{error}"));
}

/// kcat writes headers as `name=content,...`, a content up to its first NUL: held here as one header.
fn as_kcat_shows_headers(record: &mut Specified) {
    let mut shown = Vec::new();
    for (name, content) in std::mem::take(&mut record.headers) {
        if !shown.is_empty() {
            shown.push(b',');
        }
        shown.extend_from_slice(name.as_bytes());
        shown.push(b'=');
        let content = content.as_deref().unwrap_or(b"NULL");
        shown.extend(content.iter().take_while(|byte| **byte != 0));
    }
    record.headers = vec![("shown".to_owned(), Some(shown))];
}

fn kcat_records(output: &[u8]) -> Option<Vec<(Specified, i64)>> {
    let mut rest = output;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let mut numbers = [0_i64; 5];
        for number in &mut numbers {
            let at = rest.iter().position(|byte| *byte == b' ')?;
            *number = std::str::from_utf8(&rest[..at]).ok()?.parse().ok()?;
            rest = &rest[at + 1..];
        }
        let [partition, offset, timestamp, key_length, value_length] = numbers;
        let key_bytes = usize::try_from(key_length).unwrap_or(0);
        let value_bytes = usize::try_from(value_length).unwrap_or(0);
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let shown = rest[..end].to_vec();
        let body = &rest[end + 1..];
        let present = |length: i64, bytes: &[u8]| (length >= 0).then(|| bytes.to_vec());
        let record = Specified {
            partition: i32::try_from(partition).ok()?,
            key: present(key_length, &body[..key_bytes]),
            value: present(value_length, &body[key_bytes..key_bytes + value_bytes]),
            headers: vec![("shown".to_owned(), Some(shown))],
            timestamp,
        };
        records.push((record, offset));
        rest = &body[key_bytes + value_bytes + 1..];
    }
    Some(records)
}

#[test]
fn interop_produce_consume_kcat_writes_to_a_topic_that_is_made_for_it() {
    let broker = written().broker.bootstrap();
    let topic = format!("w-kcat-{}", std::process::id());
    let script = "seq 1 5000 | kcat -P -b $0 -t $1 -z lz4 && kcat -C -q -e -b $0 -t $1";
    let mut kcat = Command::new("sh");
    kcat.args(["-ec", script, broker, &topic]);
    let output = clients::run(&mut kcat).unwrap_or_else(|error| panic!("{error}"));
    let wanted: String = (1..=5000).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8_lossy(&output), wanted);
}
