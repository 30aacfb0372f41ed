//! The comparison as a page: the table with its spreads, charts, and the commands.

use std::fmt::Write;

use super::Side;
use super::results::{
    Measurement, PAIRS, Results, Values, cell, head, lines, own_cell, ratio_cell, without_empty,
};
use super::rows::{Action, ROWS, Row};
use crate::bench::chart::{self, Axis, Scale, Series};
use crate::bench::page::{MICROSECONDS, PERCENTILES, RATE, bar, escaped, page as whole, table};

/// The page. An error is a chart's.
pub(super) fn page(results: &Results) -> Result<String, String> {
    let mut body = String::from(
        "<p>Medians of the rounds, with the lowest and highest in parentheses. Ratios are ours over \
         theirs. <b>Durable</b>: an acknowledgement means that the disk has it. <b>Relaxed</b> and \
         Kafka's <b>default</b>: that the kernel has it. The last pairing compares our stronger \
         promise with Kafka's weaker one. Kafka is measured with two settings of heap and threads; for each \
         figure the one counts that is better for Kafka, and is named.</p>",
    );
    let rows = lines(results).into_iter().map(|line| {
        let mut cells = vec![
            format!("<b>{}</b>: {}", line.row.name, escaped(line.figure.name)),
            escaped(line.figure.unit),
        ];
        cells.extend(line.sides.each_ref().map(|side| escaped(&cell(side))));
        for pair in 0..PAIRS.len() {
            let class = match line.ratios[pair] {
                Some((_, Some(true))) => "good",
                Some((_, Some(false))) => "bad",
                _ => "",
            };
            cells.push(coloured(class, &ratio_cell(&line, pair)));
        }
        let class = match &line.own {
            Some((_, true)) => "good",
            Some((_, false)) => "bad",
            None => "",
        };
        cells.push(coloured(class, &own_cell(&line)));
        cells.push(line.rounds.to_string());
        cells
    });
    let head = head(["what", "unit", "ours alone", "rounds"]);
    let (head, rows) = without_empty(head, rows.collect());
    body.push_str(&table(&head, &rows));
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

/// Text in a colour; nothing if there is none.
fn coloured(class: &str, text: &str) -> String {
    match text {
        "" => String::new(),
        _ => format!("<span class=\"{class}\">{}</span>", escaped(text)),
    }
}

/// What was done for a row, and its chart if it has one.
fn of_row(results: &Results, row: &Row) -> Result<String, String> {
    let of_row = || {
        results
            .measurements
            .iter()
            .filter(|one| one.row == row.name)
    };
    if of_row().next().is_none() {
        return Ok(String::new());
    }
    let mut text = format!("<h2>{}</h2><p>{}", row.name, escaped(row.what));
    // Of each side one, the last; most differ in a flag of the topic alone.
    let mut commands: Vec<&str> = Vec::new();
    for side in Side::ALL {
        let command = of_row().rfind(|one| one.side == side);
        let command = command.map(|one| one.command.as_str());
        commands.extend(command.filter(|command| !commands.contains(command)));
    }
    for command in commands {
        let _ = write!(text, "<br><code>{}</code>", escaped(command));
    }
    text.push_str("</p>");
    let mut series = Vec::new();
    for side in Side::ALL {
        for setting in settings(results, row, side) {
            let of = |one: &&Measurement| one.side == side && one.setting == setting;
            let Some(one) = of_row().rfind(of) else {
                continue;
            };
            let points: Vec<_> = match row.action {
                Action::Ladder(_) => one.ladder.iter().map(|step| (step.0, step.2)).collect(),
                _ => one.curve.clone(),
            };
            if points.is_empty() {
                continue;
            }
            series.push(Series {
                name: whose(side, setting.as_deref()),
                points,
                marked: one.curve.len() < 10,
            });
        }
    }
    let chart = match row.action {
        Action::Ladder(_) => chart::lines("p99 by rate, last round", RATE, MICROSECONDS, &series)?,
        _ => chart::lines("Latency, last round", PERCENTILES, MICROSECONDS, &series)?,
    };
    if matches!(row.action, Action::Tools) || row.sides.contains(&Side::Machine) {
        text.push_str(&bars(results, row));
    }
    text.push_str(&by_setting(results, row));
    text.push_str(&chart);
    text.push_str(&over_rounds(results, row)?);
    Ok(text)
}

/// Kafka's settings that a row was measured with, each once; one without a name for other sides.
fn settings(results: &Results, row: &Row, side: Side) -> Vec<Option<String>> {
    let of = |one: &&Measurement| one.row == row.name && one.side == side;
    let mut all: Vec<Option<String>> = Vec::new();
    for one in results.measurements.iter().filter(of) {
        if !all.contains(&one.setting) {
            all.push(one.setting.clone());
        }
    }
    all
}

fn whose(side: Side, setting: Option<&str>) -> String {
    match setting {
        Some(setting) => format!("{}, {setting}", side.words()),
        None => side.words().to_owned(),
    }
}

/// Every figure of a row with each of Kafka's settings; nothing if there was one alone.
fn by_setting(results: &Results, row: &Row) -> String {
    let mut rows = Vec::new();
    for figure in row.figures {
        for side in Side::ALL.into_iter().filter(|side| side.is_kafka()) {
            let all = results.by_setting(row.name, side, figure.name);
            let best = results.best(row.name, side, figure);
            for one in all.iter().filter(|_| all.len() > 1) {
                let counts = best
                    .as_ref()
                    .is_some_and(|best| best.setting == one.setting);
                rows.push(vec![
                    escaped(figure.name),
                    escaped(figure.unit),
                    whose(side, one.setting.as_deref()),
                    one.words(),
                    if counts { "counts" } else { "" }.to_owned(),
                ]);
            }
        }
    }
    match rows.is_empty() {
        true => String::new(),
        false => table(&["Kafka's settings", "unit", "", "", "the better"], &rows),
    }
}

/// Every figure of a row as bars, for rows that have more to compare than one chart shows.
fn bars(results: &Results, row: &Row) -> String {
    let mut rows = Vec::new();
    for figure in row.figures {
        let sides = Side::ALL.map(|side| (side, results.best(row.name, side, figure)));
        let longest = sides
            .iter()
            .filter_map(|(_, values)| Some(values.as_ref()?.median()));
        let longest = longest.fold(0.0, f64::max);
        let mut name = format!("{}, {}", figure.name, figure.unit);
        for (side, values) in &sides {
            let Some(values) = values else { continue };
            rows.push(vec![
                escaped(&std::mem::take(&mut name)),
                whose(*side, values.setting.as_deref()),
                bar(values.median() / longest),
                values.words(),
            ]);
        }
    }
    table(&["", "", "", ""], &rows)
}

/// The first figure of a row, round by round: a drift of the machine is seen there.
fn over_rounds(results: &Results, row: &Row) -> Result<String, String> {
    let Some(figure) = row.figures.first() else {
        return Ok(String::new());
    };
    let mut series = Vec::new();
    for side in Side::ALL {
        for Values { setting, values } in results.by_setting(row.name, side, figure.name) {
            if values.len() < 2 {
                continue;
            }
            let points = values.into_iter().enumerate();
            series.push(Series {
                name: whose(side, setting.as_deref()),
                points: points.map(|(at, value)| (at as f64 + 1.0, value)).collect(),
                marked: true,
            });
        }
    }
    let axis = |name| Axis {
        name,
        scale: Scale::Linear,
    };
    let title = format!("{}, round by round", figure.name);
    chart::lines(&title, axis("round"), axis(figure.unit), &series)
}
