//! A core's figures at one moment, to be sent away and added up.

use std::collections::BTreeMap;

use crate::base::CoreId;

use super::{Family, HistogramSnapshot, Label, Measurements, Value};

/// Figures in a snapshot are about this many before any API was called; a first guess for the
/// allocation only.
const FIGURES_EXPECTED: usize = 128;

/// All figures of one core at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct CoreSnapshot {
    /// Whose they are.
    pub core: CoreId,
    /// Them, in the order of the walk. The pair of name and label occurs once.
    pub figures: Vec<Figure>,
}

/// One value of a family, without ties to the core it was taken from.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub family: Family,
    /// Which one.
    pub label: Option<Label>,
    /// How much.
    pub reading: Reading,
}

/// How much.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Of a counter or gauge, in the family's unit.
    Number(u64),
    /// Of a histogram.
    Histogram(HistogramSnapshot),
}

impl Reading {
    /// Adds another reading of the same family. Gauges add up as well: each is about one core's
    /// share of the node. A number and a histogram have nothing to add up.
    fn add(&mut self, other: &Reading) {
        match (self, other) {
            (Reading::Number(mine), Reading::Number(theirs)) => *mine += theirs,
            (Reading::Histogram(mine), Reading::Histogram(theirs)) => mine.merge(theirs),
            (Reading::Number(_), Reading::Histogram(_))
            | (Reading::Histogram(_), Reading::Number(_)) => {}
        }
    }
}

/// Takes the figures of `measurements` now.
pub(super) fn take(measurements: &Measurements) -> CoreSnapshot {
    let mut figures = Vec::with_capacity(FIGURES_EXPECTED);
    measurements.visit(&mut |sample| {
        let reading = match sample.value {
            Value::Number(number) => Reading::Number(number),
            Value::Histogram(histogram) => Reading::Histogram(histogram.snapshot()),
        };
        figures.push(Figure {
            family: sample.family,
            label: sample.label,
            reading,
        });
    });
    CoreSnapshot {
        core: measurements.core,
        figures,
    }
}

/// The figures of all cores added up, in order of name and label.
pub fn merge(snapshots: &[CoreSnapshot]) -> Vec<Figure> {
    let mut merged: BTreeMap<(&str, Option<Label>), Figure> = BTreeMap::new();
    for figure in snapshots.iter().flat_map(|snapshot| &snapshot.figures) {
        merged
            .entry((figure.family.name, figure.label))
            .and_modify(|sum| sum.reading.add(&figure.reading))
            .or_insert_with(|| figure.clone());
    }
    merged.into_values().collect()
}
