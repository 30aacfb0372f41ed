//! `corelane bench compare`: this broker and Apache Kafka side by side, on the same CPUs, in turns.

mod broker;
mod draw;
mod kafka;
mod machine;
mod measure;
mod results;
mod rows;
mod tools;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::super::Failed;
use broker::{Broker, Room, Source};
use kafka::{Kafka, SETTINGS, Setting};
use results::{Measurement, Results};
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

Two rows hold ours against the machine itself: durable writes in large batches against fio on the same
directory (where fio is not installed, against our own trial of the disk, and the page says so), and
fetches of what is on the disk only against a bare loop of sendfile over the same file.

Kafka runs as its scripts start it, with each of two settings of heap and threads, as delivered and fit
for few CPUs, in each round. For each figure the better one counts, better for Kafka; the table names it,
and the page and the JSON hold both. Where it makes no difference worth the time (start, idle) the first
is measured alone. Latencies are measured at half of the rate that Kafka keeps with the better setting,
which is found before the first round, once; the row knee, when it is named, is measured in each.";

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

    /// Seconds of load after each start that do not count: so long it is written, and as long read
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

    /// Only this one of Kafka's settings of heap and threads: as-delivered or few-threads [default:
    /// both, and the better of the two counts]
    #[arg(long, value_name = "NAME")]
    kafka_setting: Option<String>,

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
    /// No broker: what the disk and the kernel do by themselves.
    Machine,
}

impl Side {
    const ALL: [Side; 5] = [
        Side::OursDurable,
        Side::OursRelaxed,
        Side::KafkaDurable,
        Side::KafkaDefault,
        Side::Machine,
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
            Side::Machine => "the machine",
        }
    }

    /// The topic's configs.
    fn configs(self) -> Vec<String> {
        match self {
            Side::OursDurable | Side::KafkaDurable | Side::Machine => {
                vec!["flush.messages=1".to_owned()]
            }
            Side::OursRelaxed => vec![format!("flush.messages={}", i64::MAX)],
            Side::KafkaDefault => Vec::new(),
        }
    }
}

/// A broker of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Contender {
    Ours,
    /// With which setting; none for what is measured in Kafka's place.
    Kafka(Option<Setting>),
}

impl Contender {
    /// As `--only` names it.
    fn name(self) -> &'static str {
        match self {
            Contender::Ours => "ours",
            Contender::Kafka(_) => "kafka",
        }
    }

    /// The side that its start is counted for.
    fn side(self) -> Side {
        match self {
            Contender::Ours => Side::OursDurable,
            Contender::Kafka(_) => Side::KafkaDefault,
        }
    }

    /// True if that side is measured in its turn; the machine itself is in ours.
    fn has(self, side: Side) -> bool {
        side.is_kafka() == matches!(self, Contender::Kafka(_))
    }

    /// True for ours, and for Kafka with that setting.
    fn is(self, setting: Option<Setting>) -> bool {
        match self {
            Contender::Ours => true,
            Contender::Kafka(mine) => mine == setting,
        }
    }

    /// The name of its setting, as measurements keep it.
    fn setting(self) -> Option<String> {
        match self {
            Contender::Kafka(Some(setting)) => Some(setting.name.to_owned()),
            Contender::Kafka(None) | Contender::Ours => None,
        }
    }

    /// True if the row was measured already, on each of its sides that this broker has.
    fn known(self, row: &Row, results: &Results) -> bool {
        let mut sides = row.sides.iter().filter(|side| self.has(**side));
        sides.all(|side| results.has(row.name, *side, self.setting().as_deref()))
    }
}

/// Measures, adds to the results, and shows them all.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failed> {
    let rows = chosen(&arguments.rows)?;
    let settings = settings(arguments)?;
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
            settings,
            room: Room {
                directory: arguments.dir.clone(),
                cpus: arguments.broker_cpus.clone(),
                memory,
            },
        };
        results.facts.extend(comparison.facts());
        comparison.find_knees(&rows, &mut results)?;
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

/// Kafka's settings that are to be measured. What takes Kafka's place has none.
fn settings(arguments: &Arguments) -> Result<Vec<Option<Setting>>, Failed> {
    let chosen = |setting: &Setting| match &arguments.kafka_setting {
        Some(name) => setting.name == name,
        None => true,
    };
    let settings: Vec<_> = SETTINGS.into_iter().filter(chosen).map(Some).collect();
    if settings.is_empty() {
        let names = SETTINGS.map(|setting| setting.name).join(", ");
        return Err(Failed::usage(format!("--kafka-setting: one of {names}")));
    }
    match arguments.theirs {
        Some(_) => Ok(vec![None]),
        None => Ok(settings),
    }
}

/// Marks a round: its measurements have one time.
fn seconds_since_1970() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

/// Says what was measured, as it comes.
fn told(row: &Row, measured: &Measurement, took: Duration) {
    let figures = row.figures.iter().filter_map(|figure| {
        let value = results::number(*measured.figures.get(figure.name)?);
        Some(format!("{} {value} {}", figure.name, figure.unit))
    });
    let figures: Vec<_> = figures.collect();
    let whose = match &measured.setting {
        Some(setting) => format!("{}, {setting}", measured.side.words()),
        None => measured.side.words().to_owned(),
    };
    let valid = match measured.valid {
        true => String::new(),
        false => format!(" NOT VALID: {}", measured.why),
    };
    eprintln!(
        "  {:<18} {whose:<36} {} [{:.0} s]{valid}",
        row.name,
        figures.join(", "),
        took.as_secs_f64(),
    );
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
    /// Kafka's, in the order in which they are measured; one without a name is not Apache Kafka's.
    settings: Vec<Option<Setting>>,
    room: Room,
}

impl Comparison<'_> {
    /// The brokers of a round, in turns. Ours is between Kafka's settings, so that a drift of the
    /// machine favours neither.
    fn contenders(&self) -> Vec<Contender> {
        let mut all: Vec<_> = self
            .settings
            .iter()
            .copied()
            .map(Contender::Kafka)
            .collect();
        all.insert(1.min(all.len()), Contender::Ours);
        let only = &self.arguments.only;
        all.retain(|one| only.is_empty() || only.iter().any(|name| name == one.name()));
        all
    }

    /// Before the first round: latencies are measured at half of the rate that Kafka keeps, with the
    /// better of its settings, so that all of them have to be known. They are found once: each round
    /// then asks for the same rate.
    fn find_knees(&self, rows: &[&'static Row], results: &mut Results) -> Result<(), Failed> {
        let wanted = rows.iter().any(|row| row.needs_knee());
        let knee = ROWS.iter().find(|row| row.name == "knee");
        let (true, Some(knee)) = (wanted, knee) else {
            return Ok(());
        };
        for contender in self.contenders() {
            if contender.known(knee, results) {
                continue;
            }
            eprintln!("which rate does Kafka keep?");
            self.turn(contender, &[knee], seconds_since_1970(), results)?;
        }
        Ok(())
    }

    /// One round: each broker in a fresh directory, one after the other, through all rows.
    fn round(&self, rows: &[&'static Row], results: &mut Results) -> Result<(), Failed> {
        let round = seconds_since_1970();
        // Named, it is measured again in each round.
        let again = !self.arguments.rows.is_empty();
        for contender in self.contenders() {
            let first = self.settings.first().copied().flatten();
            let wanted = |row: &&&'static Row| {
                let has_part = row.sides.iter().any(|side| contender.has(*side));
                let alike = !row.setting_matters && !contender.is(first);
                let found = row.name == "knee" && !again && contender.known(row, results);
                has_part && !alike && !found
            };
            let rows: Vec<_> = rows.iter().filter(wanted).copied().collect();
            self.turn(contender, &rows, round, results)?;
        }
        Ok(())
    }

    /// One broker's turn: its start, and the rows.
    fn turn(
        &self,
        contender: Contender,
        rows: &[&'static Row],
        round: u64,
        results: &mut Results,
    ) -> Result<(), Failed> {
        if rows.is_empty() {
            return Ok(());
        }
        let source = self.source(contender)?;
        let mut broker = Broker::start(contender.side(), &self.room, &source)?;
        let setting = contender.setting();
        let is_start = |row: &&&'static Row| row.action == rows::Action::Start;
        for row in rows.iter().filter(is_start) {
            let mut measured = measure::start(row, contender.side(), round, &broker);
            measured.setting = setting.clone();
            told(row, &measured, Duration::ZERO);
            results.add(measured, &self.arguments.results)?;
        }
        if rows.iter().any(|row| row.action != rows::Action::Start) {
            self.settle(&mut broker)?;
        }
        for row in rows.iter().filter(|row| !is_start(row)) {
            for side in row.sides.iter().filter(|side| contender.has(**side)) {
                // What the row before has written is still on its way to the disk, and whoever wrote
                // more would pay more for it.
                let _ = Command::new("sync").status();
                let begun = Instant::now();
                match self.measure(row, *side, round, &mut broker, results) {
                    Ok(mut measured) => {
                        measured.setting = setting.clone();
                        told(row, &measured, begun.elapsed());
                        results.add(measured, &self.arguments.results)?;
                    }
                    // One row less: the others, and the rounds to come, are worth having.
                    Err(failed) => {
                        let whose = side.words();
                        eprintln!("  {:<18} {whose:<24} NOT MEASURED: {failed}", row.name);
                        if broker.death().is_some() {
                            broker = Broker::start(contender.side(), &self.room, &source)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn kafka(&self) -> Result<&Kafka, Failed> {
        let none = || Failed::usage("Apache Kafka is needed for this row");
        self.kafka.as_ref().ok_or_else(none)
    }

    /// Where a broker comes from.
    fn source(&self, contender: Contender) -> Result<Source<'_>, Failed> {
        let given = match contender {
            Contender::Kafka(_) => &self.arguments.theirs,
            Contender::Ours => &self.arguments.ours,
        };
        Ok(match (given, contender) {
            (Some(text), _) if text.contains("{port}") => Source::Command(text),
            (Some(address), _) => Source::Address(address),
            (None, Contender::Kafka(Some(setting))) => Source::Kafka(self.kafka()?, setting),
            (None, Contender::Kafka(None)) => Source::Kafka(self.kafka()?, SETTINGS[0]),
            (None, Contender::Ours) => Source::Corelane,
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
        let mut facts = vec![
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
            fact("Java", java.lines().next().unwrap_or_default().to_owned()),
        ];
        for setting in self.settings.iter().flatten() {
            let name = format!("Kafka {} {}", kafka::VERSION, setting.name);
            facts.push((name, setting.words()));
        }
        if let Some(theirs) = &self.arguments.theirs {
            facts.push(fact("in Kafka's place", theirs.clone()));
        }
        if let Some(ours) = &self.arguments.ours {
            facts.push(fact("in corelane's place", ours.clone()));
        }
        facts
    }
}
