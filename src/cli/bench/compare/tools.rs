//! The second opinion: Kafka's own performance tools, run against either broker.

use std::collections::BTreeMap;

use super::super::super::Failed;
use super::super::super::client::{Client, Settings};
use super::Side;
use super::kafka::{Kafka, last_lines, output};
use crate::protocol::messages::StrBytes;

/// Records of 1 KiB for the two throughput tools.
const RECORDS: u32 = 200_000;
/// The same for Kafka where each request waits for the disk: about as many seconds as the others.
const RECORDS_DURABLE_KAFKA: u32 = 60_000;
/// Records for the latency tool, one after the other.
const ROUND_TRIPS: u32 = 3_000;
/// Longer than any of them takes.
const TIMEOUT: &str = "120";

/// What the tools said.
pub(super) struct Told {
    /// Figures by name.
    pub(super) figures: BTreeMap<String, f64>,
    /// Quantile and latency from end to end, microseconds.
    pub(super) curve: Vec<(f64, f64)>,
    /// The tools with their flags.
    pub(super) command: String,
}

/// Runs all three, the consumer twice, against the broker of `side`, on topics of their own with its configs, on `cpus`.
pub(super) fn run(kafka: &Kafka, cpus: &str, address: &str, side: Side) -> Result<Told, Failed> {
    let topic = format!("tools-{:08x}", super::super::random());
    let latency_topic = format!("{topic}-latency");
    let mut client = Client::new(Settings {
        bootstrap: vec![address.to_owned()],
        client_id: StrBytes::from_static_str("corelane-bench"),
        timeout: std::time::Duration::from_secs(20),
    });
    for name in [&topic, &latency_topic] {
        super::super::target::create(&mut client, name, 1, &side.configs())?;
    }
    let records = match side {
        Side::KafkaDurable => RECORDS_DURABLE_KAFKA,
        _ => RECORDS,
    };
    let wrapper = ["timeout", TIMEOUT, "taskset", "-c", cpus].map(str::to_owned);
    let heap = ["-Xmx512M".to_owned()];
    let mut commands = Vec::new();
    let mut tool = |class: &str, words: &str| {
        let plain = words.replace(address, "ADDRESS").replace(&topic, "TOPIC");
        commands.push(format!("{class} {plain}"));
        let mut command = kafka.java(&wrapper, &heap, &format!("org.apache.kafka.tools.{class}"));
        command.args(words.split(' '));
        output(&mut command).map_err(|failed| Failed::operation(format!("{class}: {failed}")))
    };
    let mut figures = BTreeMap::new();
    let words = format!(
        "--topic {topic} --num-records {records} --record-size 1024 --throughput -1 \
         --producer-props bootstrap.servers={address} acks=all"
    );
    let text = tool("ProducerPerformance", &words)?;
    say("producer", produced(&text), &text, &mut figures)?;
    let words = format!("--bootstrap-server {address} --topic {topic} --messages {records}");
    // Twice: the first reading finds what was just written where the broker left it (Kafka in the page
    // cache, corelane on the disk but for the newest), the second finds it in the page cache of either.
    for name in ["consumer", "consumer again"] {
        let text = tool("ConsumerPerformance", &words)?;
        say(name, consumed(&text), &text, &mut figures)?;
    }
    let words = format!("{address} {latency_topic} {ROUND_TRIPS} all 1024");
    let text = tool("EndToEndLatency", &words)?;
    say("end to end", travelled(&text), &text, &mut figures)?;
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    let curve =
        quantiles.map(|(name, quantile)| (quantile, figures[&format!("end to end {name}")]));
    // Whole milliseconds: what was faster than one has no place on a logarithmic axis.
    let curve = curve.into_iter().filter(|(_, latency)| *latency > 0.0);
    Ok(Told {
        curve: curve.collect(),
        figures,
        command: commands.join("; "),
    })
}

/// Figures of a tool, by name without the tool's.
type Figures = Vec<(&'static str, f64)>;

/// Keeps what a tool told; fails with its last lines if that was not understood.
fn say(
    tool: &str,
    told: Option<Figures>,
    text: &str,
    figures: &mut BTreeMap<String, f64>,
) -> Result<(), Failed> {
    let Some(told) = told else {
        let last = last_lines(text);
        return Err(Failed::operation(format!("{tool}: not understood: {last}")));
    };
    let told = told.into_iter();
    figures.extend(told.map(|(name, value)| (format!("{tool} {name}"), value)));
    Ok(())
}

/// From the summary, the last line: `400000 records sent, 98765.4 records/sec (96.45 MB/sec), 250.11
/// ms avg latency, .. 350 ms 99th, 390 ms 99.9th.` Its MB are MiB.
fn produced(text: &str) -> Option<Figures> {
    let line = text.lines().rfind(|line| line.contains(" 99.9th"))?;
    Some(vec![
        ("records/s", before(line, " records/sec")?),
        ("MB/s", before(line, " MB/sec")? * MEBIBYTE),
        ("average", before(line, " ms avg latency")? * 1e3),
        ("p99", before(line, " ms 99th")? * 1e3),
        ("p99.9", before(line, " ms 99.9th")? * 1e3),
    ])
}

/// The columns `fetch.nMsg.sec` and `fetch.MB.sec`: fetching alone, without joining the group.
fn consumed(text: &str) -> Option<Figures> {
    let split = |line: &str| -> Vec<String> {
        let columns = line.split(',');
        columns.map(|column| column.trim().to_owned()).collect()
    };
    let mut lines = text.lines();
    let head = split(lines.find(|line| line.contains("fetch.MB.sec"))?);
    let values = split(lines.rfind(|line| line.split(',').count() == head.len())?);
    let column = |name: &str| -> Option<f64> {
        let at = head.iter().position(|column| column == name)?;
        values[at].parse().ok()
    };
    Some(vec![
        ("records/s", column("fetch.nMsg.sec")?),
        ("MB/s", column("fetch.MB.sec")? * MEBIBYTE),
    ])
}

/// `Avg latency: 0.5500 ms` and `Percentiles: 50th = 0, 99th = 2, 99.9th = 7`, whole milliseconds.
fn travelled(text: &str) -> Option<Figures> {
    Some(vec![
        ("average", after(text, "Avg latency: ")? * 1e3),
        ("p50", after(text, " 50th = ")? * 1e3),
        ("p99", after(text, " 99th = ")? * 1e3),
        ("p99.9", after(text, " 99.9th = ")? * 1e3),
    ])
}

/// What the tools call MB, in MB.
const MEBIBYTE: f64 = 1.048_576;

/// The number that ends where the last `mark` begins.
fn before(text: &str, mark: &str) -> Option<f64> {
    let text = &text[..text.rfind(mark)?];
    let begin = text.rfind(|c: char| !c.is_ascii_digit() && c != '.');
    text[begin.map_or(0, |at| at + 1)..].parse().ok()
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
    fn the_producer_tool_s_summary_is_read_and_not_its_progress() {
        let text = "1000 records sent, 200.0 records/sec (0.20 MB/sec), 9 ms avg latency, 9.0 ms max \
            latency.\n400000 records sent, 98765.4 records/sec (96.45 MB/sec), 250.11 ms avg latency, \
            400.00 ms max latency, 240 ms 50th, 300 ms 95th, 350 ms 99th, 390 ms 99.9th.\n";
        let told = produced(text).expect("figures");
        let expected = [
            ("records/s", 98_765.4),
            ("MB/s", 96.45 * MEBIBYTE),
            ("average", 250_110.0),
            ("p99", 350_000.0),
            ("p99.9", 390_000.0),
        ];
        assert_eq!(told, expected);
        assert_eq!(produced("1000 records sent, 200.0 records/sec"), None);
    }

    #[test]
    fn the_consumer_tool_s_columns_are_found_by_their_names() {
        let text = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, \
            nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
            2026-01-01 00:00:00:000, 2026-01-01 00:00:04:000, 390.6, 97.6, 400000, 100000.0, 3000, \
            1000, 390.5, 400000.5\n";
        let expected = [("records/s", 400_000.5), ("MB/s", 390.5 * MEBIBYTE)];
        assert_eq!(consumed(text).expect("figures"), expected);
        let head = text.lines().next().expect("a head");
        assert_eq!(consumed(head), None, "nothing was read");
    }

    #[test]
    fn the_latency_tool_s_percentiles_are_read() {
        let text = "0\t1.2\nAvg latency: 0.5500 ms\nPercentiles: 50th = 0, 99th = 2, 99.9th = 7\n";
        let expected = [
            ("average", 550.0),
            ("p50", 0.0),
            ("p99", 2000.0),
            ("p99.9", 7000.0),
        ];
        assert_eq!(travelled(text).expect("figures"), expected);
    }

    #[test]
    fn a_tool_that_is_not_understood_is_quoted() {
        let mut figures = BTreeMap::new();
        let text = "Exception in thread main\n\n  TimeoutException: no answer\n";
        let failed = say("producer", produced(text), text, &mut figures).expect_err("nothing");
        let words = failed.to_string();
        assert!(words.contains("TimeoutException: no answer"), "{words}");
        assert!(figures.is_empty());
    }
}
