//! Pages: one HTML file each, with its charts inside and nothing to load.

use std::fmt::Write;

use super::Outcome;
use super::chart::{Axis, Scale, Series, lines};
use super::latency::{QUANTILES, shown};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:1400px;margin:2em auto;padding:0 1em;color:#222;\
background:#fff}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;\
margin:1em 0;font-size:.9em}td,th{border-bottom:1px solid #ddd;padding:.25em .8em .25em 0;\
text-align:left;vertical-align:top}td.number{text-align:right;font-variant-numeric:tabular-nums}\
.good{color:#00704f}.bad{color:#b00020;font-weight:600}code{background:#f4f4f4;padding:.1em .3em}\
svg{max-width:100%;height:auto}.bar{display:inline-block;height:.8em;background:#0072b2}";

/// Axes of the charts.
pub const PERCENTILES: Axis = Axis {
    name: "percentile",
    scale: Scale::Percentile,
};
/// Latency on a logarithmic axis, in microseconds.
pub const MICROSECONDS: Axis = Axis {
    name: "latency, us",
    scale: Scale::Logarithmic,
};
const TIME: Axis = Axis {
    name: "seconds since the run began",
    scale: Scale::Linear,
};
const MEGABYTES: Axis = Axis {
    name: "MB/s",
    scale: Scale::Linear,
};
/// Records a second.
pub const RATE: Axis = Axis {
    name: "records/s asked for",
    scale: Scale::Linear,
};

/// Text as HTML shows it.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A whole page.
pub fn page(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n\
         <body><h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// Rows of cells that are HTML already.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = String::from("<table><tr>");
    for cell in head {
        let _ = write!(text, "<th>{}</th>", escaped(cell));
    }
    text.push_str("</tr>\n");
    for row in rows {
        text.push_str("<tr>");
        for cell in row {
            let number = cell.starts_with(|c: char| c.is_ascii_digit());
            let class = if number { " class=\"number\"" } else { "" };
            let _ = write!(text, "<td{class}>{cell}</td>");
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table>\n");
    text
}

/// A bar as a cell of a table: `share` of the longest, 0 to 1.
pub fn bar(share: f64) -> String {
    let width = share.clamp(0.0, 1.0) * 20.0;
    format!("<span class=\"bar\" style=\"width:{width:.2}em\"></span>")
}

/// The page of one run. An error is the chart's.
pub fn of_run(outcome: &Outcome) -> Result<String, String> {
    let mut body = String::new();
    let _ = writeln!(body, "<p><code>{}</code></p>", escaped(&outcome.command));
    let verdict = match outcome.validity.good {
        true => "<p class=\"good\">Valid: what was acknowledged is there, once and whole.</p>",
        false => "<p class=\"bad\">Not valid: see below.</p>",
    };
    body.push_str(verdict);
    let rate = outcome.rate.map_or_else(
        || "Closed loop.".to_owned(),
        |rate| {
            format!(
                "{rate:.0} records/s asked for, {:.1} % achieved.",
                outcome.achieved() * 100.0
            )
        },
    );
    let _ = writeln!(body, "<p>{:.1} s measured. {rate}</p>", outcome.seconds);
    body.push_str(&tables(outcome));
    body.push_str(&charts(outcome)?);
    Ok(page(&format!("corelane bench {}", outcome.mode), &body))
}

fn tables(outcome: &Outcome) -> String {
    let flows = [
        ("written", outcome.written),
        ("read", outcome.read),
        ("read behind the tail", outcome.caught_up),
    ];
    let flows = flows.into_iter().filter_map(|(name, flow)| {
        let flow = flow?;
        Some(vec![
            name.to_owned(),
            format!("{:.0}", flow.records_a_second),
            format!("{:.1}", flow.megabytes_a_second),
            flow.records.to_string(),
        ])
    });
    let mut text = table(
        &["", "records/s", "MB/s", "records"],
        &flows.collect::<Vec<_>>(),
    );
    let latencies = [
        ("acknowledged", &outcome.acknowledged),
        ("end to end", &outcome.end_to_end),
        ("undisturbed", &outcome.undisturbed),
        ("connected", &outcome.connected),
    ];
    let latencies = latencies.into_iter().filter_map(|(name, latency)| {
        let mut row = vec![name.to_owned()];
        row.extend(latency.as_ref()?.percentiles().map(shown));
        Some(row)
    });
    let mut head = vec!["latency"];
    head.extend(QUANTILES.map(|(name, _)| name));
    text.push_str(&table(&head, &latencies.collect::<Vec<_>>()));
    let facts = outcome.settings.iter();
    let mut facts: Vec<Vec<String>> = facts
        .map(|(name, value)| vec![escaped(name), escaped(value)])
        .collect();
    let validity = &outcome.validity;
    let mut say = |name: &str, value: String| facts.push(vec![name.to_owned(), escaped(&value)]);
    say("sent", validity.sent.to_string());
    say("acknowledged", validity.acknowledged.to_string());
    say(
        "failed, never sent",
        format!("{}, {}", validity.failed, validity.unsent),
    );
    say("read", validity.read.to_string());
    say(
        "missing, repeated, damaged",
        format!(
            "{}, {}, {}",
            validity.missing, validity.repeated, validity.damaged
        ),
    );
    say("batches sent again", validity.retries.to_string());
    for (what, count) in &validity.errors {
        say("error", format!("{count} x {what}"));
    }
    for (name, cost) in [("broker", outcome.broker), ("client", outcome.client)] {
        if let Some(cost) = cost {
            say(
                name,
                format!(
                    "CPU {:.2} s, RSS {} MB, disk {} MB written, {} MB read, {} context switches",
                    cost.cpu_seconds,
                    cost.resident / 1_000_000,
                    cost.disk_written / 1_000_000,
                    cost.disk_read / 1_000_000,
                    cost.switches
                ),
            );
        }
    }
    text.push_str(&table(&["", ""], &facts));
    text
}

fn charts(outcome: &Outcome) -> Result<String, String> {
    let series = |name: &str, points: Vec<(f64, f64)>| Series {
        name: name.to_owned(),
        points,
        marked: false,
    };
    let curves = [
        ("acknowledged", &outcome.acknowledged),
        ("end to end", &outcome.end_to_end),
        ("undisturbed", &outcome.undisturbed),
    ];
    let curves = curves.into_iter().filter_map(|(name, latency)| {
        let latency = latency.as_ref()?;
        Some(series(name, latency.curve.clone()))
    });
    let curves: Vec<_> = curves.collect();
    let mut text = lines("Latency by percentile", PERCENTILES, MICROSECONDS, &curves)?;
    let over_time = |value: &dyn Fn(&super::outcome::Second) -> f64| -> Vec<(f64, f64)> {
        let seconds = outcome.timeline.iter();
        seconds
            .map(|second| (second.at as f64, value(second)))
            .collect()
    };
    let flow = [
        series(
            "written",
            over_time(&|second| second.written_bytes as f64 / 1e6),
        ),
        series("read", over_time(&|second| second.read_bytes as f64 / 1e6)),
    ];
    text.push_str(&lines("Throughput over time", TIME, MEGABYTES, &flow)?);
    let above_zero = |points: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
        points
            .into_iter()
            .filter(|(_, value)| *value > 0.0)
            .collect()
    };
    let latency = [
        series("p50", above_zero(over_time(&|second| second.p50))),
        series("p99", above_zero(over_time(&|second| second.p99))),
        series("max", above_zero(over_time(&|second| second.max))),
    ];
    text.push_str(&lines("Latency over time", TIME, MICROSECONDS, &latency)?);
    let climbed = |value: &dyn Fn(&super::latency::Latency) -> f64| -> Vec<(f64, f64)> {
        let steps = outcome.ladder.iter();
        steps
            .map(|step| (step.rate, value(&step.latency)))
            .collect()
    };
    let mut ladder = [
        series("p50", climbed(&|latency| latency.p50)),
        series("p99", climbed(&|latency| latency.p99)),
        series("p99.9", climbed(&|latency| latency.p999)),
    ];
    ladder.iter_mut().for_each(|series| series.marked = true);
    text.push_str(&lines("Latency by rate", RATE, MICROSECONDS, &ladder)?);
    Ok(text)
}
