//! `corelane bench compare`: this broker and Apache Kafka side by side, on the same CPUs, in turns.

mod broker;
mod draw;
mod kafka;
mod measure;
mod results;
mod rows;
mod tools;

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::super::Failed;
use broker::{Broker, Room, Source};
use kafka::{Kafka, SETTINGS, Setting};
use results::Results;
use rows::{ROWS, Row};

const EXAMPLES: &str = "\
Examples:
  corelane bench compare                        everything, five rounds: takes an hour or more
  corelane bench compare --rows produce,latency --rounds 3
  corelane bench compare --rows produce --rounds 2      two more: results add up in --results
  corelane bench compare --rounds 0             show what was measured so far
  corelane bench compare --theirs './corelane-old serve --listen 127.0.0.1:{port} --data-dir {dir}'
  corelane bench compare --rows produce --kafka-setting few-threads --results other.json

How it is fair: both brokers have the same CPUs, the same limit of memory (page cache included), the
same file system, the same client on other CPUs, and a fresh directory in each round; rounds alternate
between them, so that a slow minute of the machine hits both, and the disk is synced before each
measurement. After its start each is loaded for
--settle seconds that do not count, so that the JVM has compiled what it needs.

Durability is compared in pairs, named in the table: durable (flush.messages=1, every acknowledgement
after the disk has it) against durable; relaxed (acknowledged when the kernel has it) against Kafka's
default, which is the same promise; and, as the headline, ours durable against Kafka's default.

Where BBR is the machine's congestion control, connections pace themselves by kernel timers, on the
loopback interface too, and both brokers' reads are measured as fast as that goes. A network namespace
without it, for all of them alike:
  unshare -n sh -c 'ip link set lo up; echo reno >/proc/sys/net/ipv4/tcp_congestion_control;
                    exec corelane bench compare --kafka-home DIR --rows consume'

Kafka runs as its scripts start it, with the better of two settings of heap and threads: measure the
row produce with each --kafka-setting (into two --results files), and keep the better.";

/// What to compare, and how.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Which rows [default: all]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    rows: Vec<String>,

    /// Rounds to add to what was measured before
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: usize,

    /// Seconds that each measurement takes
    #[arg(long, value_name = "N", default_value = "10")]
    seconds: u32,

    /// Seconds of load before each measurement that do not count
    #[arg(long, value_name = "N", default_value = "3")]
    warm_up: u32,

    /// Seconds of load after each start that do not count
    #[arg(long, value_name = "N", default_value = "8")]
    settle: u32,

    /// CPUs of the broker, as taskset takes them
    #[arg(long, value_name = "LIST", default_value = "0")]
    broker_cpus: String,

    /// CPUs of the client
    #[arg(long, value_name = "LIST", default_value = "1")]
    client_cpus: String,

    /// The most memory that a broker may use, page cache included (a control group, where one can be
    /// made)
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    memory: String,

    /// Make the brokers' directories here; it decides which disk is measured
    #[arg(long, value_name = "DIR", default_value = "corelane-bench-data")]
    dir: PathBuf,

    /// Measure this in corelane's place: the HOST:PORT of a broker that runs, or a command with {port}
    /// and {dir} in it
    #[arg(long, value_name = "BROKER")]
    ours: Option<String>,

    /// Measure this in Kafka's place, in the same way: another build, another broker
    #[arg(long, value_name = "BROKER")]
    theirs: Option<String>,

    /// An unpacked release of Apache Kafka [default: fetched from Maven Central by mvn, once]
    #[arg(long, value_name = "DIR")]
    kafka_home: Option<PathBuf>,

    /// Kafka's heap and threads: as-delivered or few-threads
    #[arg(long, value_name = "NAME", default_value = "as-delivered")]
    kafka_setting: String,

    /// Only these sides: ours, kafka
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<String>,

    /// The file that results are added to
    #[arg(
        long,
        value_name = "FILE",
        default_value = "benches/results/compare.json"
    )]
    results: PathBuf,

    /// The page with charts [default: beside --results, .html]
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Who is measured, and what an acknowledgement means there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Side {
    /// corelane, acknowledging what is on the disk.
    OursDurable,
    /// corelane, acknowledging what the kernel has.
    OursRelaxed,
    /// Kafka with flush.messages=1.
    KafkaDurable,
    /// Kafka as it is.
    KafkaDefault,
}

impl Side {
    const ALL: [Side; 4] = [
        Side::OursDurable,
        Side::OursRelaxed,
        Side::KafkaDurable,
        Side::KafkaDefault,
    ];

    fn is_kafka(self) -> bool {
        matches!(self, Side::KafkaDurable | Side::KafkaDefault)
    }

    /// The broker, whatever its durability.
    fn broker(self) -> &'static str {
        if self.is_kafka() { "kafka" } else { "corelane" }
    }

    fn words(self) -> &'static str {
        match self {
            Side::OursDurable => "corelane durable",
            Side::OursRelaxed => "corelane relaxed",
            Side::KafkaDurable => "Kafka flush.messages=1",
            Side::KafkaDefault => "Kafka default",
        }
    }

    /// The topic's configs.
    fn configs(self) -> Vec<String> {
        match self {
            Side::OursDurable | Side::KafkaDurable => vec!["flush.messages=1".to_owned()],
            Side::OursRelaxed => vec![format!("flush.messages={}", i64::MAX)],
            Side::KafkaDefault => Vec::new(),
        }
    }
}

/// Measures, adds to the results, and shows them all.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let rows = chosen(&arguments.rows)?;
    let setting = SETTINGS
        .into_iter()
        .find(|setting| setting.name == arguments.kafka_setting)
        .ok_or_else(|| {
            let names = SETTINGS.map(|setting| setting.name).join(", ");
            Failed::usage(format!("--kafka-setting: one of {names}"))
        })?;
    let memory = super::arguments::size(&arguments.memory)
        .ok_or_else(|| Failed::usage("--memory: a size such as 4GiB is wanted"))?;
    let mut results = Results::read(&arguments.results)?;
    if arguments.rounds > 0 {
        let comparison = Comparison {
            arguments,
            kafka: match (
                &arguments.theirs,
                rows.iter().any(|row| row.action == rows::Action::Tools),
            ) {
                (Some(_), false) => None,
                _ => Some(Kafka::find(arguments.kafka_home.as_deref())?),
            },
            setting,
            room: Room {
                directory: arguments.dir.clone(),
                cpus: arguments.broker_cpus.clone(),
                memory,
            },
        };
        results.facts.extend(comparison.facts());
        for round in 0..arguments.rounds {
            eprintln!("round {} of {}", round + 1, arguments.rounds);
            comparison.round(&rows, &mut results)?;
        }
        let _ = std::fs::remove_dir(&arguments.dir);
    }
    for line in results::text(&results) {
        println!("{line}");
    }
    let page = arguments.html.clone();
    let page = page.unwrap_or_else(|| arguments.results.with_extension("html"));
    super::show::write(&page, &draw::page(&results).map_err(Failed::operation)?)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Row>, Failed> {
    if names.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    let find = |name: &String| {
        ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
            let all: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            Failed::usage(format!("--rows {name}: there are {}", all.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

struct Comparison<'a> {
    arguments: &'a Arguments,
    /// None where it is not needed.
    kafka: Option<Kafka>,
    setting: Setting,
    room: Room,
}

impl Comparison<'_> {
    /// One round: each broker in a fresh directory, one after the other, through all rows.
    fn round(&self, rows: &[&'static Row], results: &mut Results) -> Result<(), Failed> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let round = now.map_or(0, |since| since.as_secs());
        // Kafka first: its knee decides at which rates both are measured.
        for first in [Side::KafkaDefault, Side::OursDurable] {
            let only = &self.arguments.only;
            let name = if first.is_kafka() { "kafka" } else { "ours" };
            if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
                continue;
            }
            let mut broker = Broker::start(first, &self.room, &self.source(first)?)?;
            for row in rows.iter().filter(|row| row.action == rows::Action::Start) {
                let measured = measure::start(row, first, round, &broker);
                results.measurements.push(measured);
                results.write(&self.arguments.results)?;
            }
            if rows.iter().any(|row| row.action != rows::Action::Start) {
                self.settle(&mut broker)?;
            }
            for row in rows.iter().filter(|row| row.action != rows::Action::Start) {
                let sides = row.sides.iter().copied();
                for side in sides.filter(|side| side.is_kafka() == first.is_kafka()) {
                    // What the row before has written is still on its way to the disk, and whoever
                    // wrote more would pay more for it.
                    let _ = std::process::Command::new("sync").status();
                    let begun = std::time::Instant::now();
                    let measured = match self.measure(row, side, round, &mut broker, results) {
                        Ok(measured) => measured,
                        // One row less: the others, and the rounds to come, are worth having.
                        Err(failed) => {
                            let whose = side.words();
                            eprintln!("  {:<18} {whose:<24} NOT MEASURED: {failed}", row.name);
                            if broker.death().is_some() {
                                broker = Broker::start(first, &self.room, &self.source(first)?)?;
                            }
                            continue;
                        }
                    };
                    let figures = row.figures.iter().filter_map(|figure| {
                        let value = results::number(*measured.figures.get(figure.name)?);
                        Some(format!("{} {value} {}", figure.name, figure.unit))
                    });
                    let figures: Vec<_> = figures.collect();
                    eprintln!(
                        "  {:<18} {:<24} {} [{:.0} s]{}",
                        row.name,
                        side.words(),
                        figures.join(", "),
                        begun.elapsed().as_secs_f64(),
                        match measured.valid {
                            true => String::new(),
                            false => format!(" NOT VALID: {}", measured.why),
                        }
                    );
                    results.measurements.push(measured);
                    results.write(&self.arguments.results)?;
                }
            }
        }
        Ok(())
    }

    fn kafka(&self) -> Result<&Kafka, Failed> {
        let none = || Failed::usage("Apache Kafka is needed for this row");
        self.kafka.as_ref().ok_or_else(none)
    }

    /// Where the broker of a side comes from.
    fn source(&self, side: Side) -> Result<Source<'_>, Failed> {
        let given = match side.is_kafka() {
            true => &self.arguments.theirs,
            false => &self.arguments.ours,
        };
        Ok(match given {
            Some(text) if text.contains("{port}") => Source::Command(text),
            Some(address) => Source::Address(address),
            None if side.is_kafka() => Source::Kafka(self.kafka()?, self.setting),
            None => Source::Corelane,
        })
    }

    /// What is the same for all measurements.
    fn facts(&self) -> Vec<(String, String)> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let model = model.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']));
        let directory = std::fs::create_dir_all(&self.room.directory);
        let file_system = directory.ok().and_then(|()| {
            let mut command = Command::new("df");
            command
                .args(["--output=source,fstype"])
                .arg(&self.room.directory);
            let text = kafka::output(&mut command).ok()?;
            text.lines().nth(1).map(str::to_owned)
        });
        let java = Command::new("java").arg("-version").output();
        let java = java.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        let java = java.unwrap_or_default();
        let limit = match broker::can_limit_memory() {
            true => self.arguments.memory.clone(),
            false => "not enforced: no control group can be made here".to_owned(),
        };
        let fact = |name: &str, value: String| (name.to_owned(), value);
        vec![
            fact(
                "kernel",
                read("/proc/sys/kernel/osrelease").trim().to_owned(),
            ),
            fact(
                "CPU",
                format!("{model}, {} of them", crate::rt::limits::cpus().len()),
            ),
            fact("broker's CPUs", self.arguments.broker_cpus.clone()),
            fact("client's CPUs", self.arguments.client_cpus.clone()),
            fact("memory limit of a broker", limit),
            fact(
                "congestion control",
                read("/proc/sys/net/ipv4/tcp_congestion_control")
                    .trim()
                    .to_owned(),
            ),
            fact("file system", file_system.unwrap_or_default()),
            fact(
                "corelane",
                format!("{}, as it is", env!("CARGO_PKG_VERSION")),
            ),
            fact(
                "Kafka",
                format!("{} ({})", kafka::VERSION, self.setting.name),
            ),
            fact("Kafka's JVM", self.setting.words()),
            fact("Java", java.lines().next().unwrap_or_default().to_owned()),
        ]
    }
}
