//! What was measured so far: a JSON file that grows, and the medians and ratios over it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::super::{Failed, table};
use super::Side;
use super::rows::{Better, Figure, ROWS, Row};

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measurement {
    /// The row's name.
    pub(super) row: String,
    /// Who was measured, how durable.
    pub(super) side: Side,
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

    /// All values of a figure that count.
    pub(super) fn values(&self, row: &str, side: Side, figure: &str) -> Vec<f64> {
        let of = |measured: &&Measurement| {
            measured.row == row && measured.side == side && measured.valid
        };
        let measured = self.measurements.iter().filter(of);
        measured
            .filter_map(|measured| measured.figures.get(figure).copied())
            .collect()
    }

    /// The median of a figure; none if it was never measured.
    pub(super) fn median(&self, row: &str, side: Side, figure: &str) -> Option<f64> {
        median(self.values(row, side, figure))
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

/// The pairings, with the names that they are quoted by.
pub(super) const PAIRS: [(&str, Side, Side); 3] = [
    ("durable / durable", Side::OursDurable, Side::KafkaDurable),
    ("relaxed / default", Side::OursRelaxed, Side::KafkaDefault),
    (
        "ours durable / default",
        Side::OursDurable,
        Side::KafkaDefault,
    ),
];

/// One line of the comparison.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) row: &'static Row,
    pub(super) figure: &'static Figure,
    /// Median, lowest and highest of each side, in the order of [`Side::ALL`].
    pub(super) sides: [Option<(f64, f64, f64)>; 4],
    /// Ours over theirs for each of [`PAIRS`], and whether the goal was met, where there is one.
    pub(super) ratios: [Option<(f64, Option<bool>)>; 3],
    /// Rounds, of the side with the fewest.
    pub(super) rounds: usize,
}

/// All lines for which something was measured.
pub(super) fn lines(results: &Results) -> Vec<Line> {
    let mut lines = Vec::new();
    for row in ROWS {
        for figure in row.figures {
            let mut rounds = usize::MAX;
            let sides = Side::ALL.map(|side| {
                let values = results.values(row.name, side, figure.name);
                let middle = median(values.clone())?;
                rounds = rounds.min(values.len());
                let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                Some((middle, low, high))
            });
            if sides.iter().all(Option::is_none) {
                continue;
            }
            let middle = |side: Side| Some(sides[side as usize]?.0);
            let mut ratios = [None; 3];
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
            lines.push(Line {
                row,
                figure,
                sides,
                ratios,
                rounds,
            });
        }
    }
    lines
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

/// Median with its spread.
pub(super) fn cell(side: Option<(f64, f64, f64)>) -> String {
    match side {
        None => String::new(),
        Some((middle, low, high)) if low == high => number(middle),
        Some((middle, low, high)) => {
            format!("{} ({}..{})", number(middle), number(low), number(high))
        }
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
            cells.extend(line.sides.map(cell));
            cells.extend([0, 1, 2].map(|pair| ratio_cell(line, pair)));
            cells.push(line.rounds.to_string());
            cells
        })
        .collect();
    let mut head = vec!["WHAT", "UNIT"];
    head.extend(Side::ALL.map(Side::words));
    head.extend(PAIRS.map(|(name, _, _)| name));
    head.push("ROUNDS");
    table::lines(&head, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_and_held_against_their_goals() {
        let mut results = Results::default();
        for (side, values) in [
            (Side::OursDurable, [100.0, 300.0, 200.0]),
            (Side::KafkaDurable, [50.0, 40.0, 20.0]),
            (Side::KafkaDefault, [180.0, 170.0, 400.0]),
        ] {
            for value in values {
                results.measurements.push(Measurement {
                    row: "produce".into(),
                    side,
                    round: 0,
                    command: String::new(),
                    figures: [("MB/s".to_owned(), value)].into(),
                    curve: Vec::new(),
                    ladder: Vec::new(),
                    valid: true,
                    why: String::new(),
                });
            }
        }
        let lines = lines(&results);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].rounds, 3);
        assert_eq!(lines[0].ratios[0], Some((5.0, Some(true))));
        assert_eq!(lines[0].ratios[1], None);
        assert_eq!(lines[0].ratios[2].map(|(_, met)| met), Some(Some(false)));
        assert_eq!(median(vec![1.0, 2.0]), Some(1.5));
        assert_eq!(median(Vec::new()), None);
    }
}
