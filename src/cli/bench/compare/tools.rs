//! The second opinion: Kafka's own performance tools, run against either broker.

use std::collections::BTreeMap;

use super::super::super::Failed;
use super::super::super::client::{Client, Settings};
use super::kafka::{Kafka, output};
use crate::protocol::messages::StrBytes;

/// Records of 1 KiB for the two throughput tools.
const RECORDS: u32 = 400_000;
/// Records for the latency tool, one after the other.
const ROUND_TRIPS: u32 = 5_000;

/// Runs all three on a topic of their own with `configs`; figures by name.
pub(super) fn run(
    kafka: &Kafka,
    wrapper: &[String],
    address: &str,
    configs: &[String],
) -> Result<BTreeMap<String, f64>, Failed> {
    let topic = format!("tools-{:08x}", super::super::random());
    let mut client = Client::new(Settings {
        bootstrap: vec![address.to_owned()],
        client_id: StrBytes::from_static_str("corelane-bench"),
        timeout: std::time::Duration::from_secs(20),
    });
    for name in [topic.clone(), format!("{topic}-latency")] {
        super::super::target::create(&mut client, &name, 1, configs)?;
    }
    let heap = ["-Xmx512M".to_owned()];
    let tool = |class: &str| kafka.java(wrapper, &heap, &format!("org.apache.kafka.tools.{class}"));
    let mut figures = BTreeMap::new();
    let mut say = |name: &str, figure: Option<f64>| {
        let figure =
            figure.ok_or_else(|| Failed::operation(format!("no {name} in the tool's words")))?;
        figures.insert(name.to_owned(), figure);
        Ok::<(), Failed>(())
    };
    let records = RECORDS.to_string();
    let bootstrap = format!("bootstrap.servers={address}");
    let mut producer = tool("ProducerPerformance");
    producer.args([
        "--topic",
        &topic,
        "--num-records",
        &records,
        "--record-size",
        "1024",
    ]);
    producer.args([
        "--throughput",
        "-1",
        "--producer-props",
        &bootstrap,
        "acks=all",
    ]);
    let text = output(&mut producer)?;
    say("producer MB/s", produced(&text))?;
    say(
        "producer p99",
        before(&text, " ms 99th").map(|ms| ms * 1000.0),
    )?;
    let mut consumer = tool("ConsumerPerformance");
    consumer.args([
        "--bootstrap-server",
        address,
        "--topic",
        &topic,
        "--messages",
        &records,
    ]);
    say("consumer MB/s", consumed(&output(&mut consumer)?))?;
    let mut latency = tool("EndToEndLatency");
    let (topic, count) = (format!("{topic}-latency"), ROUND_TRIPS.to_string());
    latency.args([address, &topic, &count, "all", "1024"]);
    let text = output(&mut latency)?;
    say(
        "end to end mean",
        after(&text, "Avg latency: ").map(|ms| ms * 1000.0),
    )?;
    say(
        "end to end p99",
        after(&text, " 99th = ").map(|ms| ms * 1000.0),
    )?;
    Ok(figures)
}

/// `.. records/sec (12.06 MB/sec)`, of the last line; MiB there, MB here.
fn produced(text: &str) -> Option<f64> {
    let last = text.lines().rfind(|line| line.contains(" 99.9th"))?;
    before(last, " MB/sec").map(|mebibytes| mebibytes * 1.048_576)
}

/// The column `fetch.MB.sec`: fetching alone, without joining the group.
fn consumed(text: &str) -> Option<f64> {
    let line = text.lines().rfind(|line| line.split(", ").count() >= 10)?;
    let columns: Vec<&str> = line.split(", ").collect();
    let mebibytes: f64 = columns.get(8)?.trim().parse().ok()?;
    Some(mebibytes * 1.048_576)
}

/// The number that ends where the last `mark` begins.
fn before(text: &str, mark: &str) -> Option<f64> {
    let text = &text[..text.rfind(mark)?];
    let begin = text.rfind(|c: char| !c.is_ascii_digit() && c != '.')? + 1;
    text[begin..].parse().ok()
}

/// The number that begins where `mark` ends.
fn after(text: &str, mark: &str) -> Option<f64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_the_tools_words() {
        let produced_text = "1000 records sent, 200.0 records/sec (0.20 MB/sec), 9 ms avg latency\n\
            400000 records sent, 98765.4 records/sec (96.45 MB/sec), 250.11 ms avg latency, \
            400.00 ms max latency, 240 ms 50th, 300 ms 95th, 350 ms 99th, 390 ms 99.9th.\n";
        assert!((produced(produced_text).expect("a figure") - 96.45 * 1.048_576).abs() < 1e-9);
        assert_eq!(before(produced_text, " ms 99th"), Some(350.0));
        let consumed_text = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, \
            nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
            2026-01-01 00:00:00:000, 2026-01-01 00:00:04:000, 390.6, 97.6, 400000, 100000.0, 3000, \
            1000, 390.6, 400000.0\n";
        assert!((consumed(consumed_text).expect("a figure") - 390.6 * 1.048_576).abs() < 1e-9);
        let latency_text =
            "0\t1.2\nAvg latency: 0.5500 ms\nPercentiles: 50th = 0, 99th = 2, 99.9th = 7\n";
        assert_eq!(after(latency_text, "Avg latency: "), Some(0.55));
        assert_eq!(after(latency_text, " 99th = "), Some(2.0));
    }
}
