//! How a result is shown: a line while it runs, a table, files.

use std::io::{IsTerminal, Write};
use std::path::Path;

use super::super::{Failed, table};
use super::arguments::Load;
use crate::bench::latency::{self, Latency, QUANTILES, shown};
use crate::bench::outcome::{Second, Throughput};
use crate::bench::process::Cost;
use crate::bench::{Outcome, page};

/// A line on the terminal that says how it goes.
pub(super) struct Line {
    is_shown: bool,
    seconds: f64,
}

impl Line {
    pub(super) fn new(load: &Load) -> Line {
        Line {
            is_shown: std::io::stderr().is_terminal(),
            seconds: load.warm_up + load.seconds,
        }
    }

    /// A second is over.
    pub(super) fn tell(&mut self, second: &Second) {
        if !self.is_shown {
            return;
        }
        let Second {
            at, written, read, ..
        } = second;
        let bytes = (second.written_bytes + second.read_bytes) as f64 / 1e6;
        let phase = if second.measured { "" } else { " warming up" };
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[K{}/{:.0} s{phase}  written {written}/s  read {read}/s  {bytes:.1} MB/s  \
             p50 {}  p99 {}  max {}",
            at + 1,
            self.seconds,
            shown(second.p50),
            shown(second.p99),
            shown(second.max)
        );
    }

    /// The line goes.
    pub(super) fn finish(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// Shows the result and writes the files that were asked for.
pub(super) fn deliver(outcome: &Outcome, load: &Load) -> Result<(), Failed> {
    let json = || serde_json::to_string_pretty(outcome).map_err(Failed::operation);
    let mut out = std::io::stdout().lock();
    match &load.json {
        Some(path) if path == Path::new("-") => {
            writeln!(out, "{}", json()?).map_err(Failed::output)?;
        }
        chosen => {
            if let Some(path) = chosen {
                write(path, &json()?)?;
            }
            for line in lines(outcome) {
                writeln!(out, "{line}").map_err(Failed::output)?;
            }
        }
    }
    if let Some(path) = &load.hgrm {
        for (name, histogram) in &outcome.histograms {
            let mut file = path.clone().into_os_string();
            file.push(format!(".{name}.hgrm"));
            write(Path::new(&file), &latency::hgrm(histogram))?;
        }
    }
    if let Some(path) = &load.html {
        write(path, &page::of_run(outcome).map_err(Failed::operation)?)?;
    }
    Ok(())
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), Failed> {
    std::fs::write(path, text)
        .map_err(|error| Failed::operation(format!("{}: {error}", path.display())))
}

/// The table.
fn lines(outcome: &Outcome) -> Vec<String> {
    let mut lines = vec![format!(
        "{}, {:.1} s measured{}",
        outcome.mode,
        outcome.seconds,
        match outcome.rate {
            Some(rate) => format!(
                ", {rate:.0} records/s asked for, {:.1} % achieved",
                outcome.achieved() * 100.0
            ),
            None => ", closed loop".to_owned(),
        }
    )];
    let flows = [
        ("written", outcome.written),
        ("read", outcome.read),
        ("read behind", outcome.caught_up),
    ];
    let rows: Vec<Vec<String>> = flows
        .into_iter()
        .filter_map(|(name, flow)| Some(flow_row(name, &flow?)))
        .collect();
    if !rows.is_empty() {
        let head = ["", "RECORDS/S", "MB/S", "RECORDS", "REQUESTS"];
        lines.extend(table::lines(&head, &rows));
    }
    let latencies = [
        ("acknowledged", &outcome.acknowledged),
        ("end to end", &outcome.end_to_end),
        ("undisturbed", &outcome.undisturbed),
        ("connected", &outcome.connected),
    ];
    let rows: Vec<Vec<String>> = latencies
        .into_iter()
        .filter_map(|(name, latency)| Some(latency_row(name, latency.as_ref()?)))
        .collect();
    if !rows.is_empty() {
        let mut head = vec!["LATENCY"];
        head.extend(QUANTILES.iter().map(|(name, _)| *name));
        head.push("worst second's p99");
        lines.extend(table::lines(&head, &rows));
    }
    if !outcome.ladder.is_empty() {
        let rows: Vec<Vec<String>> = outcome
            .ladder
            .iter()
            .map(|step| {
                vec![
                    format!("{:.0}", step.rate),
                    format!("{:.0}", step.achieved),
                    shown(step.latency.p50),
                    shown(step.latency.p99),
                    shown(step.latency.p999),
                    if step.kept { "yes" } else { "no" }.to_owned(),
                ]
            })
            .collect();
        let head = ["RATE", "ACHIEVED", "p50", "p99", "p99.9", "KEPT"];
        lines.extend(table::lines(&head, &rows));
        lines.push(match outcome.knee {
            Some(knee) => format!("knee: {knee:.0} records/s is the highest rate that was kept"),
            None => "knee: none of these rates was kept".to_owned(),
        });
    }
    for (name, cost) in [("broker", &outcome.broker), ("client", &outcome.client)] {
        if let Some(cost) = cost {
            lines.push(cost_line(name, cost, outcome));
        }
    }
    lines.push(validity_line(outcome));
    lines
}

fn flow_row(name: &str, flow: &Throughput) -> Vec<String> {
    vec![
        name.to_owned(),
        format!("{:.0}", flow.records_a_second),
        format!("{:.1}", flow.megabytes_a_second),
        flow.records.to_string(),
        flow.requests.to_string(),
    ]
}

fn latency_row(name: &str, latency: &Latency) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend(latency.percentiles().map(shown));
    row.push(match latency.worst_second_p99 > 0.0 {
        true => shown(latency.worst_second_p99),
        false => "-".to_owned(),
    });
    row
}

fn cost_line(name: &str, cost: &Cost, outcome: &Outcome) -> String {
    let moved: u64 = [outcome.written, outcome.read, outcome.caught_up]
        .into_iter()
        .flatten()
        .map(|flow| flow.bytes)
        .sum();
    let gigabytes = moved as f64 / 1e9;
    let a_gigabyte = match gigabytes > 0.001 {
        true => format!(", {:.2} s a GB", cost.cpu_seconds / gigabytes),
        false => String::new(),
    };
    format!(
        "{name}: CPU {:.2} s ({:.1} % of a core{a_gigabyte}), RSS {} MB (max {}), disk {} MB written, \
         {} MB read, {} context switches, {} threads",
        cost.cpu_seconds,
        cost.cpu_seconds / cost.seconds.max(1e-9) * 100.0,
        cost.resident / 1_000_000,
        cost.resident_max / 1_000_000,
        cost.disk_written / 1_000_000,
        cost.disk_read / 1_000_000,
        cost.switches,
        cost.threads
    )
}

fn validity_line(outcome: &Outcome) -> String {
    let told = &outcome.validity;
    let mut parts = Vec::new();
    if told.sent > 0 {
        parts.push(format!(
            "{} sent, {} acknowledged",
            told.sent, told.acknowledged
        ));
    }
    if let Some(grown) = told.log_growth {
        parts.push(format!("logs grew by {grown}"));
    }
    if told.read > 0 {
        parts.push(format!("{} read back", told.read));
    }
    for (count, what) in [
        (told.failed, "failed"),
        (told.unsent, "never sent"),
        (told.missing, "missing"),
        (told.repeated, "repeated"),
        (told.damaged, "damaged"),
        (told.retries, "batches sent again"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    for (what, count) in &told.errors {
        parts.push(format!("{count} x {what}"));
    }
    let word = if told.good { "valid" } else { "NOT VALID" };
    format!("{word}: {}", parts.join(", "))
}
