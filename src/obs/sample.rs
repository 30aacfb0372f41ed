//! One figure as a walk over the measurements shows it.

use std::time::Duration;

use super::Histogram;
use super::histogram::nanoseconds;

/// A named figure: what a reader needs to make sense of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The full name by Prometheus' rules: base units, `_total` after counters.
    pub name: &'static str,
    /// One sentence about it.
    pub help: &'static str,
    /// How its values move.
    pub kind: Kind,
    /// What its values are counted in here.
    pub unit: Unit,
}

/// How a figure moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
    /// A distribution of latencies.
    Histogram,
}

/// What a value is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// As the name says: things or bytes.
    Plain,
    /// Nanoseconds, whose name says seconds: to be divided by 1e9 when shown.
    Nanoseconds,
}

/// What sets one value of a family apart from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// The label's name.
    pub name: &'static str,
    /// Its value.
    pub value: LabelValue,
}

/// The value of a label. Numbers of the protocol stay numbers: this room knows no names for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelValue {
    /// A fixed word.
    Text(&'static str),
    /// An API key.
    Api(i16),
    /// An error code.
    Error(i16),
    /// All numbers beyond those counted apart.
    Other,
}

/// One value of a family.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// What it is.
    pub family: Family,
    /// Which one, if the family has several on a core.
    pub label: Option<Label>,
    /// How much.
    pub value: Value<'a>,
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Of a counter or gauge, in the family's unit.
    Number(u64),
    /// Of a histogram.
    Histogram(&'a Histogram),
}

/// Hands the figures of one part of the measurements to whoever walks over them.
pub(super) struct Walk<'a> {
    visitor: &'a mut dyn FnMut(Sample<'_>),
}

impl Walk<'_> {
    pub(super) fn new(visitor: &mut dyn FnMut(Sample<'_>)) -> Walk<'_> {
        Walk { visitor }
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.number(family(name, help, Kind::Counter), None, value);
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.number(family(name, help, Kind::Gauge), None, value);
    }

    /// A gauge whose name says seconds.
    pub(super) fn duration(&mut self, name: &'static str, help: &'static str, value: Duration) {
        let family = Family {
            unit: Unit::Nanoseconds,
            ..family(name, help, Kind::Gauge)
        };
        self.number(family, None, nanoseconds(value));
    }

    /// One sample of `family` with a label.
    pub(super) fn number(&mut self, family: Family, label: Option<Label>, value: u64) {
        (self.visitor)(Sample {
            family,
            label,
            value: Value::Number(value),
        });
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: Option<Label>,
        histogram: &Histogram,
    ) {
        let family = Family {
            unit: Unit::Nanoseconds,
            ..family(name, help, Kind::Histogram)
        };
        (self.visitor)(Sample {
            family,
            label,
            value: Value::Histogram(histogram),
        });
    }
}

/// A family counted in things or bytes.
pub(super) fn family(name: &'static str, help: &'static str, kind: Kind) -> Family {
    Family {
        name,
        help,
        kind,
        unit: Unit::Plain,
    }
}

/// A label with a fixed word.
pub(super) fn text(name: &'static str, value: &'static str) -> Option<Label> {
    Some(Label {
        name,
        value: LabelValue::Text(value),
    })
}
