//! The comparison as a page: the table with its spreads, charts, and the commands.

use std::fmt::Write;

use super::Side;
use super::results::{PAIRS, Results, cell, lines, ratio_cell};
use super::rows::{Action, ROWS, Row};
use crate::bench::chart::{self, Axis, Scale, Series};
use crate::bench::page::{MICROSECONDS, PERCENTILES, RATE, escaped, page as whole, table};

/// The page. An error is a chart's.
pub(super) fn page(results: &Results) -> Result<String, String> {
    let mut body = String::from(
        "<p>Medians of the rounds, with the lowest and highest in parentheses. Ratios are ours over \
         theirs. <b>Durable</b>: an acknowledgement means that the disk has it. <b>Relaxed</b> and \
         Kafka's <b>default</b>: that the kernel has it. The last pairing compares our stronger \
         promise with Kafka's weaker one.</p>",
    );
    let mut head = vec!["what", "unit"];
    head.extend(Side::ALL.map(Side::words));
    head.extend(PAIRS.map(|(name, _, _)| name));
    head.push("rounds");
    let rows = lines(results).into_iter().map(|line| {
        let mut cells = vec![
            format!("<b>{}</b>: {}", line.row.name, escaped(line.figure.name)),
            escaped(line.figure.unit),
        ];
        cells.extend(line.sides.map(cell));
        for pair in 0..PAIRS.len() {
            let class = match line.ratios[pair] {
                Some((_, Some(true))) => "good",
                Some((_, Some(false))) => "bad",
                _ => "",
            };
            let text = escaped(&ratio_cell(&line, pair));
            cells.push(format!("<span class=\"{class}\">{text}</span>"));
        }
        cells.push(line.rounds.to_string());
        cells
    });
    body.push_str(&table(&head, &rows.collect::<Vec<_>>()));
    let wrong = results.measurements.iter().filter(|one| !one.valid);
    let wrong = wrong.count();
    let _ = match wrong {
        0 => writeln!(body, "<p class=\"good\">All measurements are valid.</p>"),
        _ => writeln!(
            body,
            "<p class=\"bad\">{wrong} measurements are not valid.</p>"
        ),
    };
    for row in ROWS {
        body.push_str(&of_row(results, row)?);
    }
    body.push_str("<h2>Where and with what</h2>");
    let facts = results.facts.iter();
    let facts = facts.map(|(name, value)| vec![escaped(name), escaped(value)]);
    body.push_str(&table(&["", ""], &facts.collect::<Vec<_>>()));
    Ok(whole("corelane and Apache Kafka, side by side", &body))
}

/// What was done for a row, and its chart if it has one.
fn of_row(results: &Results, row: &Row) -> Result<String, String> {
    let of_row = || {
        results
            .measurements
            .iter()
            .filter(|one| one.row == row.name)
    };
    let Some(any) = of_row().next_back() else {
        return Ok(String::new());
    };
    let mut text = format!(
        "<h2>{}</h2><p>{}<br><code>{}</code></p>",
        row.name,
        escaped(row.what),
        escaped(&any.command)
    );
    let mut series = Vec::new();
    for side in Side::ALL {
        let Some(one) = of_row().rfind(|one| one.side == side) else {
            continue;
        };
        let points = match row.action {
            Action::Ladder(_) => one.ladder.iter().map(|step| (step.0, step.2)).collect(),
            _ => one.curve.clone(),
        };
        series.push(Series {
            name: side.words().to_owned(),
            points,
            marked: matches!(row.action, Action::Ladder(_)),
        });
    }
    let chart = match row.action {
        Action::Ladder(_) => chart::lines("p99 by rate, last round", RATE, MICROSECONDS, &series)?,
        _ => chart::lines("Latency, last round", PERCENTILES, MICROSECONDS, &series)?,
    };
    text.push_str(&chart);
    text.push_str(&over_rounds(results, row)?);
    Ok(text)
}

/// The first figure of a row, round by round: a drift of the machine is seen there.
fn over_rounds(results: &Results, row: &Row) -> Result<String, String> {
    let Some(figure) = row.figures.first() else {
        return Ok(String::new());
    };
    let mut series = Vec::new();
    for side in Side::ALL {
        let values = results.values(row.name, side, figure.name);
        if values.len() < 2 {
            continue;
        }
        let points = values.into_iter().enumerate();
        series.push(Series {
            name: side.words().to_owned(),
            points: points.map(|(at, value)| (at as f64 + 1.0, value)).collect(),
            marked: true,
        });
    }
    let axis = |name| Axis {
        name,
        scale: Scale::Linear,
    };
    let title = format!("{}, round by round", figure.name);
    chart::lines(&title, axis("round"), axis(figure.unit), &series)
}
