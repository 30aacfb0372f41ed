//! A latency histogram of bounded size, and its sparse copy that travels between threads.

use std::time::Duration;

/// The finest step told apart, in nanoseconds. Below 256 steps (16 µs) values are kept to this
/// step, above that to two significant digits.
const STEP_NS: u64 = 64;

/// The longest latency told apart, in nanoseconds (one minute). Longer ones count as this long in
/// the buckets and in full in the sum.
const LONGEST_NS: u64 = 60_000_000_000;

/// Significant decimal digits kept. Two digits and the range above are 3,072 counters, 24 KiB a
/// histogram; a third digit would be 150 KiB, which a core with twenty of them should not pay.
const DIGITS: u8 = 2;

/// Latencies of one thing on one core. Recording is a few nanoseconds and allocates nothing; all
/// memory is taken when it is made.
#[derive(Debug)]
pub struct Histogram {
    counts: hdrhistogram::Histogram<u64>,
    sum_ns: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Histogram {
        let counts = hdrhistogram::Histogram::new_with_bounds(STEP_NS, LONGEST_NS, DIGITS)
            .expect("constant bounds that the library takes");
        Histogram { counts, sum_ns: 0 }
    }

    /// Counts one latency.
    #[inline]
    pub fn record(&mut self, took: Duration) {
        self.record_ns(nanoseconds(took));
    }

    /// Counts one latency given in nanoseconds.
    #[inline]
    pub fn record_ns(&mut self, took_ns: u64) {
        self.counts.saturating_record(took_ns);
        self.sum_ns = self.sum_ns.wrapping_add(took_ns);
    }

    /// How many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// A copy that holds only the counters in use, to be sent away.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut counts = Vec::new();
        if !self.counts.is_empty() {
            counts.reserve_exact(64);
            let used = self.counts.iter_recorded();
            counts.extend(used.map(|step| (step.value_iterated_to(), step.count_at_value())));
        }
        HistogramSnapshot {
            counts,
            sum_ns: self.sum_ns,
        }
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

/// The duration in nanoseconds; the largest number above 584 years.
#[inline]
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    let seconds_ns = duration.as_secs().saturating_mul(1_000_000_000);
    seconds_ns.saturating_add(u64::from(duration.subsec_nanos()))
}

/// The counters in use of a [`Histogram`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// For each counter in use, in rising order: the highest latency it stands for in nanoseconds,
    /// and how many latencies it counted (more than 0).
    pub counts: Vec<(u64, u64)>,
    /// The sum of all latencies in nanoseconds, exact.
    pub sum_ns: u64,
}

impl HistogramSnapshot {
    /// How many latencies were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// The latency in nanoseconds that a share `quantile` (0 to 1) of all stays at or below, never
    /// told too short; none if nothing was recorded.
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        let all = self.count();
        let wanted = ((all as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).clamp(1, all.max(1));
        let mut seen = 0;
        self.counts.iter().find_map(|&(highest_ns, count)| {
            seen += count;
            (seen >= wanted).then_some(highest_ns)
        })
    }

    /// How many latencies stay at or below each of `bounds_ns` (rising). A latency is taken for
    /// the highest one that its counter stands for, so that none is told too short.
    pub fn cumulative(&self, bounds_ns: &[u64]) -> Vec<u64> {
        let (mut seen, mut next) = (0, 0);
        let below = bounds_ns.iter().map(|&bound_ns| {
            while let Some(&(_, count)) = self.counts.get(next).filter(|(ns, _)| *ns <= bound_ns) {
                seen += count;
                next += 1;
            }
            seen
        });
        below.collect()
    }

    /// Adds the latencies of `other`.
    pub fn merge(&mut self, other: &HistogramSnapshot) {
        let mut merged = Vec::with_capacity(self.counts.len().max(other.counts.len()));
        let (mut left, mut right) = (
            self.counts.iter().peekable(),
            other.counts.iter().peekable(),
        );
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(&&(a, mine)), Some(&&(b, theirs))) if a == b => {
                    left.next();
                    right.next();
                    (a, mine + theirs)
                }
                (Some(&&mine), Some(&&theirs)) if mine.0 < theirs.0 => {
                    left.next();
                    mine
                }
                (Some(&&mine), None) => {
                    left.next();
                    mine
                }
                (_, Some(&&theirs)) => {
                    right.next();
                    theirs
                }
                (None, None) => break,
            };
            merged.push(next);
        }
        self.counts = merged;
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(latencies_ns: &[u64]) -> HistogramSnapshot {
        let mut histogram = Histogram::new();
        latencies_ns.iter().for_each(|&ns| histogram.record_ns(ns));
        histogram.snapshot()
    }

    #[test]
    fn latencies_are_kept_to_two_digits_and_never_told_too_short() {
        for ns in [
            0,
            1,
            63,
            64,
            999,
            20_000,
            123_456,
            7_654_321,
            59_999_999_999,
        ] {
            let told = of(&[ns]).quantile_ns(0.5).expect("one latency");
            assert!(told >= ns, "{ns} told as {told}");
            assert!(told - ns <= STEP_NS.max(ns / 100), "{ns} told as {told}");
        }
    }

    #[test]
    fn a_latency_beyond_the_longest_is_counted_as_the_longest_and_summed_in_full() {
        let snapshot = of(&[u64::MAX / 2]);
        assert_eq!(snapshot.count(), 1);
        assert!(snapshot.counts[0].0 >= LONGEST_NS);
        assert_eq!(snapshot.sum_ns, u64::MAX / 2);
    }

    #[test]
    fn merged_snapshots_are_those_of_one_histogram_with_all_latencies() {
        let (left, right) = ([500, 500, 7_000, 1_000_000], [400, 7_000, 90_000_000]);
        let mut merged = of(&left);
        merged.merge(&of(&right));
        let all: Vec<u64> = left.into_iter().chain(right).collect();
        assert_eq!(merged, of(&all));
    }

    #[test]
    fn cumulative_counts_rise_to_the_count_and_respect_the_bounds() {
        let snapshot = of(&[500, 500, 7_000, 1_000_000]);
        assert_eq!(
            snapshot.cumulative(&[100, 1_000, 10_000, u64::MAX]),
            [0, 2, 3, 4]
        );
        assert_eq!(HistogramSnapshot::default().cumulative(&[1, 2]), [0, 0]);
    }

    #[test]
    fn quantiles_of_nothing_are_none_and_the_ends_are_the_ends() {
        assert_eq!(HistogramSnapshot::default().quantile_ns(0.5), None);
        let snapshot = of(&[64_000, 1_000_000, 2_000_000]);
        assert!(snapshot.quantile_ns(0.0).expect("some") < 70_000);
        assert!(snapshot.quantile_ns(1.0).expect("some") >= 2_000_000);
    }

    #[test]
    fn a_histogram_takes_24_kib_and_no_more() {
        let histogram = Histogram::new();
        assert!(histogram.counts.distinct_values() * size_of::<u64>() <= 24 * 1024);
    }
}
