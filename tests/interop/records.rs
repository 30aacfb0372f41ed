//! The records that every writer writes and every reader must see, and their form as lines of JSON.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub const PARTITIONS: i32 = 3;
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const LARGE_VALUE_BYTES: usize = 900 * 1024;
/// Small records that follow each other, so that batches hold more than one.
const RUN: usize = 120;

pub type Header = (String, Option<Vec<u8>>);

#[derive(Clone, Debug)]
pub struct Specified {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
    pub timestamp: i64,
}

/// The lines of each partition, in the order of their offsets.
pub type Dump = BTreeMap<(String, i32), Vec<String>>;

#[derive(Serialize)]
struct SpecifiedLine<'a> {
    partition: i32,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(&'a str, Option<String>)>,
    timestamp: i64,
}

#[derive(Serialize)]
struct DumpedLine<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(&'a str, Option<String>)>,
    timestamp: i64,
}

fn hexadecimal(bytes: Option<&[u8]>) -> Option<String> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS[usize::from(value)] as char;
    bytes.map(|bytes| {
        bytes
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    })
}

fn headers(headers: &[Header]) -> Vec<(&str, Option<String>)> {
    headers
        .iter()
        .map(|(name, content)| (name.as_str(), hexadecimal(content.as_deref())))
        .collect()
}

impl Specified {
    fn line(&self) -> String {
        let line = SpecifiedLine {
            partition: self.partition,
            key: hexadecimal(self.key.as_deref()),
            value: hexadecimal(self.value.as_deref()),
            headers: headers(&self.headers),
            timestamp: self.timestamp,
        };
        serde_json::to_string(&line).expect("JSON")
    }

    pub fn dumped(&self, topic: &str, offset: i64) -> String {
        let line = DumpedLine {
            topic,
            partition: self.partition,
            offset,
            key: hexadecimal(self.key.as_deref()),
            value: hexadecimal(self.value.as_deref()),
            headers: headers(&self.headers),
            timestamp: self.timestamp,
        };
        serde_json::to_string(&line).expect("JSON")
    }
}

/// What `write` programs read: a record a line.
pub fn specification(records: &[Specified]) -> String {
    records.iter().map(|record| record.line() + "\n").collect()
}

/// What readers must print for these topics.
pub fn expected(topics: &[String], records: &[Specified]) -> Dump {
    let mut dump = Dump::new();
    for topic in topics {
        for record in records {
            let lines = dump.entry((topic.clone(), record.partition)).or_default();
            lines.push(record.dumped(topic, lines.len() as i64));
        }
    }
    dump
}

/// Every kind of record in every partition; the large value in each of them once.
pub fn every_kind() -> Vec<Specified> {
    // Not a fixed date: brokers delete by the records' own timestamps.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_millis() as i64;
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        let mut put = |key: Option<&[u8]>, value: Option<&[u8]>, headers: Vec<Header>| {
            // Some go back in time: a batch's first timestamp is not its smallest.
            let count = records.len() as i64;
            let timestamp = now - 60_000 + count * 3 - if count % 7 == 3 { 1_000 } else { 0 };
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            let (key, value) = (owned(key), owned(value));
            records.push(Specified {
                partition,
                key,
                value,
                headers,
                timestamp,
            });
        };
        put(None, Some(b"a null key"), vec![]);
        put(Some(b"a null value"), None, vec![]);
        put(None, None, vec![]);
        put(Some(b"an empty value"), Some(b""), vec![]);
        put(Some(b""), Some(b"an empty key"), vec![]);
        put(
            Some(b"headers"),
            Some(b"of every kind"),
            headers_of_every_kind(),
        );
        put(
            None,
            None,
            vec![("only".into(), Some(b"a header".to_vec()))],
        );
        put(
            Some(&(0..=255).collect::<Vec<u8>>()),
            Some(b"\0\xff\xfe not UTF-8"),
            vec![],
        );
        for number in 0..RUN {
            let value = format!(
                "{{\"number\":{number},\"text\":\"{}\"}}",
                "again ".repeat(number % 9)
            );
            put(
                Some(format!("key-{}", number % 10).as_bytes()),
                Some(value.as_bytes()),
                vec![],
            );
        }
        put(Some(b"large"), Some(&large_value(partition)), vec![]);
        put(
            Some(b"last"),
            Some(b"after the large one"),
            headers_of_every_kind(),
        );
    }
    records
}

fn headers_of_every_kind() -> Vec<Header> {
    vec![
        ("repeated".into(), Some(b"first".to_vec())),
        ("null".into(), None),
        ("empty".into(), Some(vec![])),
        ("repeated".into(), Some(b"second".to_vec())),
        ("bytes".into(), Some((0..=255).collect())),
        ("schlüssel".into(), Some("größe".into())),
        ("repeated".into(), Some(b"first".to_vec())),
    ]
}

/// Half noise, half text, in stretches: neither wholly compressible nor wholly not.
fn large_value(seed: i32) -> Vec<u8> {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut value = Vec::with_capacity(LARGE_VALUE_BYTES);
    while value.len() < LARGE_VALUE_BYTES {
        for _ in 0..256 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            value.extend_from_slice(&state.to_le_bytes());
        }
        value.extend_from_slice(&b"the same words once more; ".repeat(80));
    }
    value.truncate(LARGE_VALUE_BYTES);
    value
}

/// Sorts a program's lines by partition, keeping their order within each.
pub fn parse(output: &[u8]) -> Result<Dump, String> {
    let text = std::str::from_utf8(output).map_err(|error| format!("not UTF-8: {error}"))?;
    let mut dump = Dump::new();
    for line in text.lines() {
        let fields: serde_json::Value =
            serde_json::from_str(line).map_err(|error| format!("{error}: {}", shortened(line)))?;
        let topic = fields["topic"].as_str().ok_or("a line without a topic")?;
        let partition = fields["partition"]
            .as_i64()
            .ok_or("a line without a partition")?;
        dump.entry((topic.to_owned(), partition as i32))
            .or_default()
            .push(line.to_owned());
    }
    Ok(dump)
}

/// Fails with the first few lines that differ.
pub fn compare(wanted: &Dump, seen: &Dump) -> Result<(), String> {
    let mut wrong = Vec::new();
    let empty = Vec::new();
    for (partition, wanted) in wanted {
        let seen = seen.get(partition).unwrap_or(&empty);
        if wanted.len() != seen.len() {
            wrong.push(format!(
                "{partition:?}: {} records, not {}",
                seen.len(),
                wanted.len()
            ));
        }
        for (wanted, seen) in wanted.iter().zip(seen) {
            if wanted != seen {
                wrong.push(format!(
                    "wanted {}\n  seen {}",
                    shortened(wanted),
                    shortened(seen)
                ));
            }
        }
    }
    wrong.extend(
        seen.keys()
            .filter(|key| !wanted.contains_key(key))
            .map(|key| format!("{key:?} was not written")),
    );
    let count = wrong.len();
    wrong.truncate(6);
    if count == 0 {
        Ok(())
    } else {
        Err(format!(
            "{count} differences, such as\n{}",
            wrong.join("\n")
        ))
    }
}

fn shortened(line: &str) -> String {
    let count = line.chars().count();
    if count <= 1_200 {
        return line.to_owned();
    }
    let head: String = line.chars().take(600).collect();
    let tail: String = line.chars().skip(count - 600).collect();
    format!("{head} … {tail}")
}
