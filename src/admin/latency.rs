//! Latencies of the whole node as JSON: what a person asks first, without a Prometheus at hand.

use serde::Serialize;

use crate::obs::{CoreSnapshot, Reading, merge};

use super::Names;
use super::exposition::word;

/// One distribution, all cores together. Times are in seconds and none where nothing happened.
#[derive(Serialize)]
pub(super) struct Latency {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    count: u64,
    p50: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    max: Option<f64>,
}

/// The distributions of all cores added up, to two significant digits.
pub(super) fn latencies(snapshots: &[CoreSnapshot], names: Names) -> Vec<Latency> {
    let figures = merge(snapshots).into_iter();
    let histograms = figures.filter_map(|figure| match figure.reading {
        Reading::Histogram(histogram) => Some((figure.family, figure.label, histogram)),
        Reading::Number(_) => None,
    });
    let rows = histograms.map(|(family, label, histogram)| {
        let quantile = |share| histogram.quantile_ns(share).map(|ns| ns as f64 / 1e9);
        Latency {
            name: family.name,
            of: label.map(|label| word(label.value, names)),
            count: histogram.count(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: quantile(1.0),
        }
    });
    rows.collect()
}
