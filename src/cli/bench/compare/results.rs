//! What was measured so far: a JSON file that grows, and the medians and ratios over it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::super::{Failed, table};
use super::Side;
use super::rows::{Better, Figure, Own, ROWS, Row};

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measurement {
    /// The row's name.
    pub(super) row: String,
    /// Who was measured, how durable.
    pub(super) side: Side,
    /// Kafka's setting of heap and threads, by name; none for others.
    #[serde(default)]
    pub(super) setting: Option<String>,
    /// When, in seconds since 1970: measurements of one round have one time.
    pub(super) round: u64,
    /// The command that does it again; `ADDRESS` for the broker's.
    pub(super) command: String,
    /// Figures by name.
    pub(super) figures: BTreeMap<String, f64>,
    /// Quantile and latency in microseconds, for a chart.
    pub(super) curve: Vec<(f64, f64)>,
    /// Rate, p50, p99 in microseconds of each step of a ladder.
    pub(super) ladder: Vec<(f64, f64, f64)>,
    /// False if records were lost, damaged or refused: it does not count.
    pub(super) valid: bool,
    /// What speaks against it.
    #[serde(default)]
    pub(super) why: String,
}

/// All measurements, and where they were taken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Results {
    /// Facts about the machine, the versions, the settings.
    pub(super) facts: BTreeMap<String, String>,
    /// In the order in which they were taken.
    pub(super) measurements: Vec<Measurement>,
}

impl Results {
    /// What the file holds; nothing if there is none.
    pub(super) fn read(path: &Path) -> Result<Results, Failed> {
        let told = |why: String| Failed::operation(format!("{}: {why}", path.display()));
        match fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| told(error.to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Results::default()),
            Err(error) => Err(told(error.to_string())),
        }
    }

    /// Writes the file: a new one, then renamed, so that an interruption loses nothing.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failed> {
        if let Some(parent) = path.parent() {
            let _ = fs::create_dir_all(parent);
        }
        let text = serde_json::to_string(self).map_err(Failed::operation)?;
        let new = path.with_extension("new");
        super::super::show::write(&new, &text)?;
        fs::rename(&new, path)
            .map_err(|error| Failed::operation(format!("{}: {error}", path.display())))
    }

    /// Adds a measurement, and writes the file.
    pub(super) fn add(&mut self, measured: Measurement, path: &Path) -> Result<(), Failed> {
        self.measurements.push(measured);
        self.write(path)
    }

    /// Measurements of a row that count.
    fn of(&self, row: &str, side: Side) -> impl Iterator<Item = &Measurement> {
        let measured = self.measurements.iter();
        measured.filter(move |one| one.row == row && one.side == side && one.valid)
    }

    /// True if there is a measurement of that row that counts.
    pub(super) fn has(&self, row: &str, side: Side, setting: Option<&str>) -> bool {
        self.of(row, side)
            .any(|one| one.setting.as_deref() == setting)
    }

    /// All values of a figure that count, for each setting with which it was measured.
    pub(super) fn by_setting(&self, row: &str, side: Side, figure: &str) -> Vec<Values> {
        let mut all: Vec<Values> = Vec::new();
        for one in self.of(row, side) {
            let Some(value) = one.figures.get(figure) else {
                continue;
            };
            match all.iter_mut().find(|known| known.setting == one.setting) {
                Some(known) => known.values.push(*value),
                None => all.push(Values {
                    setting: one.setting.clone(),
                    values: vec![*value],
                }),
            }
        }
        all
    }

    /// Those of the setting with the better median: for Kafka its best counts.
    pub(super) fn best(&self, row: &str, side: Side, figure: &Figure) -> Option<Values> {
        let all = self.by_setting(row, side, figure.name);
        all.into_iter().reduce(|best, one| {
            let is_better = match figure.better {
                Better::More => one.median() > best.median(),
                Better::Less => one.median() < best.median(),
            };
            if is_better { one } else { best }
        })
    }
}

/// Values of one figure with one setting; there is at least one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Values {
    /// Kafka's setting, where there is one.
    pub(super) setting: Option<String>,
    /// In the order in which they were measured.
    pub(super) values: Vec<f64>,
}

impl Values {
    /// The middle one.
    pub(super) fn median(&self) -> f64 {
        median(self.values.clone()).unwrap_or(f64::NAN)
    }

    /// Median with its spread.
    pub(super) fn words(&self) -> String {
        let low = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self
            .values
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let middle = number(self.median());
        match low == high {
            true => middle,
            false => format!("{middle} ({}..{})", number(low), number(high)),
        }
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

/// The pairings, with the names that they are quoted by.
pub(super) const PAIRS: [(&str, Side, Side); 4] = [
    ("durable / durable", Side::OursDurable, Side::KafkaDurable),
    ("relaxed / default", Side::OursRelaxed, Side::KafkaDefault),
    (
        "ours durable / default",
        Side::OursDurable,
        Side::KafkaDefault,
    ),
    ("ours / machine", Side::OursDurable, Side::Machine),
];

/// One line of the comparison.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) row: &'static Row,
    pub(super) figure: &'static Figure,
    /// Of each side, in the order of [`Side::ALL`], those that count.
    pub(super) sides: [Option<Values>; 5],
    /// Ours over theirs for each of [`PAIRS`], and whether the goal was met, where there is one.
    pub(super) ratios: [Option<(f64, Option<bool>)>; 4],
    /// The goal of ours alone with the value that is held against it, and whether it was met.
    pub(super) own: Option<(String, bool)>,
    /// Rounds, of the side with the fewest.
    pub(super) rounds: usize,
}

/// All lines for which something was measured.
pub(super) fn lines(results: &Results) -> Vec<Line> {
    let all = ROWS
        .iter()
        .flat_map(|row| row.figures.iter().map(move |figure| (row, figure)));
    all.filter_map(|(row, figure)| line(results, row, figure))
        .collect()
}

fn line(results: &Results, row: &'static Row, figure: &'static Figure) -> Option<Line> {
    let sides = Side::ALL.map(|side| results.best(row.name, side, figure));
    let rounds = sides.iter().flatten().map(|side| side.values.len()).min()?;
    let middle = |side: Side| Some(sides[side as usize].as_ref()?.median());
    let mut ratios = [None; 4];
    for (at, (_, ours, theirs)) in PAIRS.into_iter().enumerate() {
        let (Some(ours), Some(theirs)) = (middle(ours), middle(theirs)) else {
            continue;
        };
        let ratio = ours / theirs;
        let met = figure.goals[at].map(|goal| match figure.better {
            Better::More => ratio >= goal,
            Better::Less => ratio <= goal,
        });
        ratios[at] = ratio.is_finite().then_some((ratio, met));
    }
    let own = figure.own.zip(middle(Side::OursDurable));
    let own = own.and_then(|(own, value)| match own {
        Own::AtMost(most) => {
            let met = value <= most;
            Some((format!("<= {} {}", number(most), figure.unit), met))
        }
        Own::ShareOf(other, least) => {
            let whole = results.best(other, Side::OursDurable, figure)?.median();
            let (share, least_words) = (number(value / whole), number(least));
            let words = format!("{share}x of {other}, goal >= {least_words}");
            Some((words, value / whole >= least))
        }
    });
    Some(Line {
        row,
        figure,
        sides,
        ratios,
        own,
        rounds,
    })
}

/// A number with three digits.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 && value.abs() < 1e6 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// Median with its spread, and the setting of Kafka that it belongs to.
pub(super) fn cell(side: &Option<Values>) -> String {
    let Some(values) = side else {
        return String::new();
    };
    match &values.setting {
        Some(setting) => format!("{} {setting}", values.words()),
        None => values.words(),
    }
}

/// The goal of ours alone.
pub(super) fn own_cell(line: &Line) -> String {
    match &line.own {
        None => String::new(),
        Some((words, true)) => format!("{words}: met"),
        Some((words, false)) => format!("{words}: MISSED"),
    }
}

/// The ratio of a pair with its goal.
pub(super) fn ratio_cell(line: &Line, pair: usize) -> String {
    let Some((ratio, met)) = line.ratios[pair] else {
        return String::new();
    };
    let Some((met, goal)) = met.zip(line.figure.goals[pair]) else {
        return format!("{}x", number(ratio));
    };
    let sign = if line.figure.better == Better::More {
        ">="
    } else {
        "<="
    };
    let word = if met { "met" } else { "MISSED" };
    format!("{}x (goal {sign} {}: {word})", number(ratio), number(goal))
}

/// The comparison as text.
pub(super) fn text(results: &Results) -> Vec<String> {
    let rows: Vec<Vec<String>> = lines(results)
        .iter()
        .map(|line| {
            let mut cells = vec![
                format!("{}: {}", line.row.name, line.figure.name),
                line.figure.unit.to_owned(),
            ];
            cells.extend(line.sides.each_ref().map(cell));
            cells.extend([0, 1, 2, 3].map(|pair| ratio_cell(line, pair)));
            cells.push(own_cell(line));
            cells.push(line.rounds.to_string());
            cells
        })
        .collect();
    let (head, rows) = without_empty(head(["WHAT", "UNIT", "OURS ALONE", "ROUNDS"]), rows);
    table::lines(&head, &rows)
}

/// The names of all columns, with those that are not sides or pairings given.
pub(super) fn head([what, unit, alone, rounds]: [&'static str; 4]) -> Vec<&'static str> {
    let mut head = vec![what, unit];
    head.extend(Side::ALL.map(Side::words));
    head.extend(PAIRS.map(|(name, _, _)| name));
    head.extend([alone, rounds]);
    head
}

/// The table without the columns that nothing stands in.
pub(super) fn without_empty(
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let used: Vec<bool> = (0..head.len())
        .map(|at| rows.iter().any(|row| !row[at].is_empty()))
        .collect();
    let keep = |at: &usize| used[*at];
    let head_kept = (0..head.len()).filter(keep).map(|at| head[at]).collect();
    let rows = rows
        .into_iter()
        .map(|row| {
            let cells = row.into_iter().zip(&used);
            cells
                .filter(|(_, used)| **used)
                .map(|(cell, _)| cell)
                .collect()
        })
        .collect();
    (head_kept, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(row: &str, side: Side, setting: Option<&str>, figure: (&str, f64)) -> Measurement {
        Measurement {
            row: row.into(),
            side,
            setting: setting.map(str::to_owned),
            round: 0,
            command: String::new(),
            figures: [(figure.0.to_owned(), figure.1)].into(),
            curve: Vec::new(),
            ladder: Vec::new(),
            valid: true,
            why: String::new(),
        }
    }

    fn results(all: &[(&str, Side, Option<&str>, (&str, f64))]) -> Results {
        let all = all.iter();
        Results {
            measurements: all
                .map(|one| measured(one.0, one.1, one.2, one.3))
                .collect(),
            ..Results::default()
        }
    }

    #[test]
    fn ratios_are_of_medians_and_held_against_their_goals() {
        let mut all = Vec::new();
        for (side, values) in [
            (Side::OursDurable, [100.0, 300.0, 200.0]),
            (Side::KafkaDurable, [50.0, 40.0, 20.0]),
            (Side::KafkaDefault, [180.0, 170.0, 400.0]),
        ] {
            all.extend(values.map(|value| ("produce", side, None, ("MB/s", value))));
        }
        let lines = lines(&results(&all));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].rounds, 3);
        assert_eq!(lines[0].ratios[0], Some((5.0, Some(true))));
        assert_eq!(lines[0].ratios[1], None);
        assert_eq!(lines[0].ratios[2].map(|(_, met)| met), Some(Some(false)));
        assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn of_two_settings_the_one_counts_that_is_better_for_kafka_in_that_figure() {
        let (first, second) = (Some("as-delivered"), Some("few-threads"));
        let mut all = Vec::new();
        for (setting, speeds, memory) in [
            (first, [100.0, 900.0, 110.0], 400.0),
            (second, [200.0, 10.0, 220.0], 900.0),
        ] {
            let side = Side::KafkaDefault;
            all.extend(speeds.map(|speed| ("produce", side, setting, ("MB/s", speed))));
            all.push(("produce", side, setting, ("RSS max", memory)));
        }
        all.push(("produce", Side::OursDurable, None, ("MB/s", 400.0)));
        let mut results = results(&all);
        // Fast, but records were lost.
        let mut lost = measured("produce", Side::KafkaDefault, first, ("MB/s", 1e6));
        lost.valid = false;
        results.measurements.extend([lost.clone(), lost]);
        let lines = lines(&results);
        let of = |name: &str| lines.iter().find(|line| line.figure.name == name);
        let (speed, memory) = (of("MB/s").expect("a line"), of("RSS max").expect("a line"));
        let default = Side::KafkaDefault as usize;
        assert_eq!(cell(&speed.sides[default]), "200 (10..220) few-threads");
        assert_eq!(cell(&memory.sides[default]), "400 as-delivered");
        assert_eq!(speed.ratios[2], Some((2.0, Some(true))));
        // Both can be had, for whoever wants to judge for themselves.
        let both = results.by_setting("produce", Side::KafkaDefault, "MB/s");
        let medians: Vec<_> = both.iter().map(Values::median).collect();
        assert_eq!(medians, [110.0, 200.0]);
        assert!(results.has("produce", Side::KafkaDefault, second));
        assert!(!results.has("produce", Side::KafkaDefault, None));
    }

    #[test]
    fn goals_of_ours_alone_are_told_with_their_value() {
        let ours = Side::OursDurable;
        let results = results(&[
            ("one-partition", ours, None, ("MB/s", 200.0)),
            ("many-partitions", ours, None, ("MB/s", 100.0)),
            ("idle", ours, None, ("CPU %", 0.5)),
        ]);
        let told: Vec<_> = lines(&results).iter().map(own_cell).collect();
        let share = "0.50x of one-partition, goal >= 0.80: MISSED";
        assert_eq!(told, ["", share, "<= 1 % of a core: met"]);
    }

    #[test]
    fn results_of_before_there_were_settings_are_read() {
        let text = r#"{"facts":{},"measurements":[{"row":"produce","side":"kafka-default","round":1,
            "command":"x","figures":{"MB/s":1.0},"curve":[],"ladder":[],"valid":true}]}"#;
        let results: Results = serde_json::from_str(text).expect("results");
        assert_eq!(results.measurements[0].setting, None);
        assert_eq!(lines(&results).len(), 1);
    }

    #[test]
    fn columns_without_anything_in_them_are_left_out() {
        let rows = vec![vec!["a".to_owned(), String::new(), "b".to_owned()]];
        let (head, rows) = without_empty(vec!["1", "2", "3"], rows);
        assert_eq!(
            (head, rows),
            (vec!["1", "3"], vec![vec!["a".into(), "b".into()]])
        );
    }
}
