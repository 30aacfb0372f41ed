//! Latencies: recorded in nanoseconds at three significant digits, told in microseconds.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest latency that is told apart, nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// The percentiles of tables.
pub const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
    ("max", 1.0),
];

/// An empty histogram of so many significant digits.
pub(super) fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, digits).expect("bounds that hold")
}

/// What is told of latencies, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Records.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// 99.99 %.
    pub p9999: f64,
    /// The longest.
    pub max: f64,
    /// The p99 of the second in which it was worst.
    pub worst_second_p99: f64,
    /// Quantile and latency, for a chart.
    pub curve: Vec<(f64, f64)>,
}

impl Latency {
    /// What `histogram` (nanoseconds) holds; none if nothing.
    pub fn of(histogram: &Histogram<u64>, worst_second_p99: f64) -> Option<Latency> {
        if histogram.is_empty() {
            return None;
        }
        let micros = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let count = histogram.len();
        let mut curve: Vec<(f64, f64)> = Vec::new();
        // Eight points for each halving of what is left, as far as there are records.
        for point in 0..=200 {
            let quantile = 1.0 - 0.5_f64.powf(f64::from(point) / 8.0);
            if (1.0 - quantile) * (count as f64) < 1.0 {
                break;
            }
            curve.push((quantile, micros(quantile)));
        }
        Some(Latency {
            count,
            mean: histogram.mean() / 1e3,
            p50: micros(0.5),
            p90: micros(0.9),
            p95: micros(0.95),
            p99: micros(0.99),
            p999: micros(0.999),
            p9999: micros(0.9999),
            max: histogram.max() as f64 / 1e3,
            worst_second_p99,
            curve,
        })
    }

    /// The percentiles of [`QUANTILES`], in its order.
    pub fn percentiles(&self) -> [f64; 7] {
        [
            self.p50, self.p90, self.p95, self.p99, self.p999, self.p9999, self.max,
        ]
    }
}

/// The text that HdrHistogram's tools read and plot (`.hgrm`), in milliseconds.
pub fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    for step in histogram.iter_quantiles(5) {
        let (value, quantile) = (
            step.value_iterated_to() as f64 / 1e6,
            step.quantile_iterated_to(),
        );
        let count = histogram.count_between(0, step.value_iterated_to());
        let _ = match quantile < 1.0 {
            true => writeln!(
                text,
                "{value:12.3} {quantile:2.12} {count:10} {:14.2}",
                1.0 / (1.0 - quantile)
            ),
            false => writeln!(text, "{value:12.3} {quantile:2.12} {count:10}"),
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        histogram.mean() / 1e6,
        histogram.stdev() / 1e6
    );
    let _ = writeln!(
        text,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.max() as f64 / 1e6,
        histogram.len()
    );
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        histogram.distinct_values() / usize::from(histogram.buckets()).max(1)
    );
    text
}

/// Microseconds for people: three digits and a unit.
pub fn shown(micros: f64) -> String {
    match micros {
        _ if micros < 1000.0 => format!("{micros:.0} us"),
        _ if micros < 10_000.0 => format!("{:.2} ms", micros / 1e3),
        _ if micros < 1_000_000.0 => format!("{:.0} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_told_in_microseconds_with_three_digits() {
        let mut histogram = histogram(3);
        for micros in 1..=10_000u64 {
            histogram.record(micros * 1000).expect("in bounds");
        }
        let told = Latency::of(&histogram, 0.0).expect("records");
        assert_eq!(told.count, 10_000);
        assert!((told.p50 / 5000.0 - 1.0).abs() < 0.001, "{}", told.p50);
        assert!((told.p9999 / 9999.0 - 1.0).abs() < 0.001, "{}", told.p9999);
        assert!(told.curve.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let text = hgrm(&histogram);
        assert!(text.contains("Total count    =        10000"), "{text}");
        assert_eq!(Latency::of(&super::histogram(3), 0.0), None);
    }
}
