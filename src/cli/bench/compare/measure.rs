//! One measurement: the load generator as a process of its own on the client's CPUs, and what its
//! result says.

use std::collections::BTreeMap;
use std::process::Command;

use super::super::super::Failed;
use super::broker::Broker;
use super::kafka::output;
use super::results::{Measurement, Results};
use super::rows::{Action, ROWS, Row};
use super::{Comparison, Side, machine, tools};
use crate::bench::{Outcome, process};

/// The broker's start as a measurement.
pub(super) fn start(row: &Row, side: Side, round: u64, broker: &Broker) -> Measurement {
    let mut figures = BTreeMap::new();
    figures.insert("first ack".to_owned(), broker.first_ack.as_secs_f64() * 1e3);
    if let Some(counts) = broker.pid().and_then(process::read) {
        figures.insert("RSS after start".to_owned(), counts.resident as f64 / 1e6);
    }
    Measurement {
        row: row.name.to_owned(),
        side,
        setting: None,
        round,
        command: "the broker is started; a topic is made and a record written".to_owned(),
        figures,
        curve: Vec::new(),
        ladder: Vec::new(),
        valid: true,
        why: String::new(),
    }
}

impl Comparison<'_> {
    /// A load that does not count, after a start: writes and reads of both kinds of topic, and then
    /// reads as fast as they go: measured alone, the row of readers found Kafka's path of a fetch not
    /// compiled yet, at half of its throughput and twice its CPU (it takes ten seconds of it).
    pub(super) fn settle(&self, broker: &mut Broker) -> Result<(), Failed> {
        let seconds = self.arguments.settle;
        if seconds == 0 {
            return Ok(());
        }
        let (half, whole) = (f64::from(seconds) / 2.0, f64::from(seconds));
        let loads: [(&str, f64, &[&str]); 3] = [
            ("mixed", half, &[]),
            ("produce", half, &["--config", "flush.messages=1"]),
            ("consume", whole, &["--fill", "128MiB"]),
        ];
        for (mode, seconds, more) in loads {
            let seconds = seconds.to_string();
            let words = [mode, "--warm-up", "0", "--seconds", &seconds];
            let words: Vec<String> = words
                .iter()
                .chain(more)
                .map(|word| (*word).to_owned())
                .collect();
            self.bench(&words, &[], broker)?;
        }
        Ok(())
    }

    /// Measures a row on a side.
    pub(super) fn measure(
        &self,
        row: &Row,
        side: Side,
        round: u64,
        broker: &mut Broker,
        results: &Results,
    ) -> Result<Measurement, Failed> {
        let configs = side.configs();
        let mut measured = Measurement {
            row: row.name.to_owned(),
            side,
            setting: None,
            round,
            command: String::new(),
            figures: BTreeMap::new(),
            curve: Vec::new(),
            ladder: Vec::new(),
            valid: true,
            why: String::new(),
        };
        let flags = match row.action {
            Action::Start => return Ok(start(row, side, round, broker)),
            Action::Tools => {
                let (cpus, address) = (&self.arguments.client_cpus, &broker.address);
                let told = tools::run(self.kafka()?, cpus, address, side)?;
                measured.figures = told.figures;
                measured.curve = told.curve;
                measured.command = told.command;
                return Ok(measured);
            }
            Action::ColdFetch => {
                let (theirs, mine) = (&self.arguments.broker_cpus, &self.arguments.client_cpus);
                (measured.figures, measured.command) = match side {
                    Side::Machine => machine::bare_loop(broker, theirs, mine)?,
                    _ => {
                        machine::fill(broker)?;
                        broker.restart(side, &self.room, &self.source(super::Contender::Ours)?)?;
                        machine::cold_fetches(broker, mine)?
                    }
                };
                return Ok(measured);
            }
            Action::Bench(_) if side == Side::Machine => {
                let (seconds, cpus) = (self.arguments.seconds, &self.arguments.broker_cpus);
                let told = machine::durable_writes(&self.room.directory, seconds, cpus)?;
                (measured.figures, measured.command) = told;
                return Ok(measured);
            }
            Action::Bench(flags) | Action::Ladder(flags) => flags,
        };
        let mut words = Vec::new();
        for flag in flags {
            words.push(self.filled(flag, row, results)?);
        }
        if !flags.contains(&"--warm-up") {
            words.push("--warm-up".to_owned());
            words.push(self.arguments.warm_up.to_string());
        }
        let outcome = self.bench(&words, &configs, broker)?;
        let configs = configs.iter().map(|config| format!(" --config {config}"));
        let configs: String = configs.collect();
        measured.command = format!("corelane bench {}{configs} -b ADDRESS", words.join(" "));
        measured.figures = figures(&outcome);
        measured.valid = outcome.validity.good;
        if !measured.valid {
            measured.why = format!("{:?}", outcome.validity);
        }
        measured.curve = outcome
            .latency()
            .map_or_else(Vec::new, |latency| latency.curve.clone());
        let steps = outcome.ladder.iter();
        let steps = steps.map(|step| (step.rate, step.latency.p50, step.latency.p99));
        measured.ladder = steps.collect();
        Ok(measured)
    }

    /// A flag with its value filled in.
    fn filled(&self, flag: &str, row: &Row, results: &Results) -> Result<String, Failed> {
        match flag {
            "{seconds}" => return Ok(self.arguments.seconds.to_string()),
            "{rate}" => {}
            _ => return Ok(flag.to_owned()),
        }
        let theirs = row.sides.iter().find(|side| side.is_kafka());
        let knee_of = theirs.copied().unwrap_or(Side::KafkaDefault);
        let knee = ROWS.iter().find(|row| row.name == "knee");
        let knee = knee.and_then(|row| results.best("knee", knee_of, row.figures.first()?));
        let knee = knee.ok_or_else(|| {
            Failed::usage(format!(
                "the knee of {} is not known yet: run --rows knee first",
                knee_of.words()
            ))
        })?;
        Ok(format!("{:.0}", knee.median() / 2.0))
    }

    /// Runs the load generator on its CPUs.
    fn bench(
        &self,
        words: &[String],
        configs: &[String],
        broker: &mut Broker,
    ) -> Result<Outcome, Failed> {
        let program = std::env::current_exe().map_err(Failed::operation)?;
        let file = self.room.directory.join("outcome.json");
        let mut command = Command::new("taskset");
        command
            .args(["-c", &self.arguments.client_cpus])
            .arg(program);
        command.arg("bench").args(words);
        for config in configs {
            command.args(["--config", config]);
        }
        command.args(["-b", &broker.address, "--timeout", "60"]);
        if let Some(pid) = broker.pid() {
            command.args(["--broker-pid", &pid.to_string()]);
        }
        command.arg("--json").arg(&file);
        let printed = output(&mut command);
        let text = std::fs::read_to_string(&file);
        let _ = std::fs::remove_file(&file);
        match text {
            // A result that is not valid is one too.
            Ok(text) => serde_json::from_str(&text).map_err(Failed::operation),
            Err(_) => Err(broker
                .death()
                .or_else(|| printed.err())
                .unwrap_or_else(|| Failed::operation("the load generator wrote no result"))),
        }
    }
}

/// What rows may be compared by.
fn figures(outcome: &Outcome) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    let mut say = |name: &str, value: f64| {
        if value.is_finite() {
            figures.insert(name.to_owned(), value);
        }
    };
    let mut bytes = 0;
    for (name, flow) in [
        ("MB/s", outcome.written),
        ("read MB/s", outcome.read.or(outcome.caught_up)),
        ("caught up MB/s", outcome.caught_up),
    ] {
        if let Some(flow) = flow {
            say(name, flow.megabytes_a_second);
        }
    }
    for flow in [outcome.written, outcome.read, outcome.caught_up] {
        bytes += flow.map_or(0, |flow| flow.bytes);
    }
    if let Some(latency) = outcome.latency() {
        say("p50", latency.p50);
        say("p99", latency.p99);
        say("p99.9", latency.p999);
        say("p99.99", latency.p9999);
        say("max", latency.max);
        say("worst second p99", latency.worst_second_p99);
    }
    if let Some(alone) = &outcome.undisturbed {
        say("undisturbed p99", alone.p99);
    }
    if let Some(knee) = outcome.knee {
        say("knee", knee);
    }
    if let Some(rate) = outcome.rate {
        say("rate", rate);
        say("achieved", outcome.achieved());
    }
    if let Some(cost) = outcome.broker {
        say("CPU s/GB", cost.cpu_seconds / (bytes as f64 / 1e9));
        say("CPU %", cost.cpu_seconds / cost.seconds * 100.0);
        say("RSS max", cost.resident_max as f64 / 1e6);
        say("RSS", cost.resident as f64 / 1e6);
        say("disk MB", cost.disk_written as f64 / 1e6);
        say("switches", cost.switches as f64);
    }
    if let Some(cost) = outcome.client {
        say("client CPU %", cost.cpu_seconds / cost.seconds * 100.0);
    }
    figures
}
