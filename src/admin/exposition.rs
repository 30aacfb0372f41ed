//! Prometheus' text format: families built from the figures of all cores, a label for the core.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::obs::{CoreSnapshot, Family, Figure, HistogramSnapshot, Kind, LabelValue};
use crate::obs::{Reading, Unit};

use super::lag::Lag;
use super::{Names, Process};

/// What the text is, for the reply's `Content-Type`.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the latency buckets in nanoseconds: 1, 2 and 5 of each decade from one
/// microsecond to ten seconds. What a core keeps is finer (two digits); this is what each of its
/// histograms costs a scraper.
const BOUNDS_NS: [u64; 22] = bounds_ns();

const fn bounds_ns() -> [u64; 22] {
    let mut bounds = [0; 22];
    let (mut place, mut decade) = (0, 1_000);
    while place < 22 {
        bounds[place] = decade * [1, 2, 5][place % 3];
        if place % 3 == 2 {
            decade *= 10;
        }
        place += 1;
    }
    bounds
}

/// All figures as text. `cores` holds none for a core that did not answer.
///
/// Errors are the library's refusal of a family, which would be a bug here; it is told rather than
/// half a text shown.
pub(super) fn text(
    cores: &[Option<CoreSnapshot>],
    process: Option<Process>,
    names: Names,
    lag: &Lag,
) -> Result<String, String> {
    let mut families = Families::default();
    families.add_build();
    families.add_cores(cores);
    for snapshot in cores.iter().flatten() {
        for figure in &snapshot.figures {
            families.add_figure(snapshot.core.0, figure, names);
        }
    }
    families.add_lag(lag);
    if let Some(process) = process {
        families.add_process(process);
    }
    families.encode()
}

/// The families by name: each occurs once in the text, however many cores have it.
#[derive(Default)]
struct Families(BTreeMap<&'static str, MetricFamily>);

impl Families {
    fn add(&mut self, name: &'static str, help: &str, kind: Kind, metric: Metric) {
        let family = self.0.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(match kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family
        });
        family.mut_metric().push(metric);
    }

    fn add_figure(&mut self, core: u16, figure: &Figure, names: Names) {
        let Family {
            name,
            help,
            kind,
            unit,
        } = figure.family;
        let mut labels = vec![label_pair("core", core.to_string())];
        if let Some(label) = figure.label {
            labels.push(label_pair(label.name, word(label.value, names)));
        }
        let metric = match &figure.reading {
            Reading::Number(number) => numbered(labels, kind, in_base_unit(*number, unit)),
            Reading::Histogram(histogram) => distributed(labels, histogram),
        };
        self.add(name, help, kind, metric);
    }

    fn add_build(&mut self) {
        let labels = vec![label_pair("version", env!("CARGO_PKG_VERSION").to_owned())];
        let help = "The running version, as a label of the number 1.";
        let metric = numbered(labels, Kind::Gauge, 1.0);
        self.add("corelane_build_info", help, Kind::Gauge, metric);
    }

    fn add_cores(&mut self, cores: &[Option<CoreSnapshot>]) {
        for (core, answer) in cores.iter().enumerate() {
            let labels = vec![label_pair("core", core.to_string())];
            let help = "1 for a core that answered in time, 0 for one that is stuck.";
            let up = if answer.is_some() { 1.0 } else { 0.0 };
            let metric = numbered(labels, Kind::Gauge, up);
            self.add("corelane_core_up", help, Kind::Gauge, metric);
        }
    }

    fn add_lag(&mut self, lag: &Lag) {
        for (row, records) in &lag.rows {
            let labels = vec![
                label_pair("group", row.group.clone()),
                label_pair("topic", row.topic.clone()),
                label_pair("partition", row.partition.to_string()),
            ];
            let help = "Records below the high watermark from the group's committed offset on.";
            let metric = numbered(labels, Kind::Gauge, *records as f64);
            self.add("corelane_group_lag_records", help, Kind::Gauge, metric);
        }
        let help = "Committed offsets whose lag is not shown: beyond corelane.metrics.lag.series.max, \
                    or of a partition that did not answer.";
        let metric = numbered(Vec::new(), Kind::Gauge, lag.left_out as f64);
        self.add("corelane_group_lag_left_out", help, Kind::Gauge, metric);
    }

    /// The names are those of Prometheus' own client libraries, which dashboards expect.
    fn add_process(&mut self, process: Process) {
        let mut one = |name, help: &str, kind, value| {
            self.add(name, help, kind, numbered(Vec::new(), kind, value));
        };
        let cpu = "CPU time used in user and kernel mode.";
        one(
            "process_cpu_seconds_total",
            cpu,
            Kind::Counter,
            process.cpu_seconds,
        );
        let resident = process.resident_memory_bytes as f64;
        one(
            "process_resident_memory_bytes",
            "Physical memory.",
            Kind::Gauge,
            resident,
        );
        let address_space = process.virtual_memory_bytes as f64;
        one(
            "process_virtual_memory_bytes",
            "Address space.",
            Kind::Gauge,
            address_space,
        );
        one(
            "process_threads",
            "Threads.",
            Kind::Gauge,
            process.threads as f64,
        );
        let start = "When the process was started, in seconds since the Unix epoch.";
        one(
            "process_start_time_seconds",
            start,
            Kind::Gauge,
            process.start_time_seconds,
        );
        let open = "Open file descriptors.";
        one(
            "process_open_fds",
            open,
            Kind::Gauge,
            process.open_fds as f64,
        );
        if let Some(max) = process.max_fds {
            one(
                "process_max_fds",
                "Descriptors it may have open.",
                Kind::Gauge,
                max as f64,
            );
        }
    }

    fn encode(self) -> Result<String, String> {
        let families: Vec<MetricFamily> = self.0.into_values().collect();
        TextEncoder::new()
            .encode_to_string(&families)
            .map_err(|refusal| refusal.to_string())
    }
}

fn numbered(labels: Vec<LabelPair>, kind: Kind, value: f64) -> Metric {
    let mut metric = Metric::from_label(labels);
    match kind {
        Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Kind::Gauge | Kind::Histogram => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

fn distributed(labels: Vec<LabelPair>, snapshot: &HistogramSnapshot) -> Metric {
    let cumulative = snapshot.cumulative(&BOUNDS_NS);
    let buckets = BOUNDS_NS
        .into_iter()
        .zip(cumulative)
        .map(|(bound_ns, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(in_base_unit(bound_ns, Unit::Nanoseconds));
            bucket.set_cumulative_count(count);
            bucket
        });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(snapshot.count());
    histogram.set_sample_sum(in_base_unit(snapshot.sum_ns, Unit::Nanoseconds));
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}

fn in_base_unit(value: u64, unit: Unit) -> f64 {
    match unit {
        Unit::Plain => value as f64,
        Unit::Nanoseconds => value as f64 / 1e9,
    }
}

/// A label's value as text.
pub(super) fn word(value: LabelValue, names: Names) -> String {
    let named = |name: Option<&str>, number: i16| name.map_or(number.to_string(), str::to_owned);
    match value {
        LabelValue::Text(text) => text.to_owned(),
        LabelValue::Api(key) => named((names.api)(key), key),
        LabelValue::Error(code) => named((names.error)(code), code),
        LabelValue::Other => "other".to_owned(),
    }
}

fn label_pair(name: &str, value: String) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value);
    pair
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::admin::tests::{NAMES, PROCESS, busy};
    use crate::group::overview::CommittedRow;

    use super::*;

    fn shown() -> String {
        let cores = [Some(busy(0).snapshot()), Some(busy(1).snapshot()), None];
        text(&cores, Some(PROCESS), NAMES, &lagging()).expect("a text")
    }

    fn lagging() -> Lag {
        let row = CommittedRow {
            group: "a \"group\"".to_owned(),
            topic: "t".to_owned(),
            partition: 3,
            offset: 5,
        };
        Lag {
            rows: vec![(row, 7)],
            left_out: 2,
        }
    }

    #[test]
    fn lag_is_told_by_group_and_partition_and_what_is_left_out_is_counted() {
        let text = shown();
        let series = r#"corelane_group_lag_records{group="a \"group\"",topic="t",partition="3"} 7"#;
        assert!(text.lines().any(|line| line == series), "{text}");
        assert!(text.contains("corelane_group_lag_left_out 2\n"));
    }

    /// The name of a sample's family: without the suffixes of a histogram's parts.
    fn family_of<'a>(line: &'a str, histograms: &BTreeSet<&str>) -> &'a str {
        let name = line.split(['{', ' ']).next().expect("a name");
        let parts = ["_bucket", "_sum", "_count"];
        let stem = parts.iter().find_map(|part| name.strip_suffix(part));
        stem.filter(|stem| histograms.contains(stem))
            .unwrap_or(name)
    }

    #[test]
    fn each_family_has_one_help_and_one_type_before_all_its_samples() {
        let text = shown();
        let (mut helped, mut typed, mut histograms) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("a help text");
                assert!(helped.insert(name) && !words.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert!(helped.contains(name) && typed.insert(name), "{line}");
                if kind == "histogram" {
                    histograms.insert(name);
                }
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            } else {
                let last = typed.contains(family_of(line, &histograms));
                assert!(last, "a sample before its type: {line}");
            }
        }
        assert_eq!(helped, typed);
    }

    #[test]
    fn no_series_occurs_twice_and_every_value_is_a_number() {
        let text = shown();
        let mut series = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("name and value");
            assert!(series.insert(name), "{name} twice");
            assert!(
                value.parse::<f64>().is_ok_and(|value| value >= 0.0),
                "{line}"
            );
        }
        assert!(series.len() > 500, "{}", series.len());
    }

    #[test]
    fn names_stand_for_known_numbers_and_unknown_ones_stay_numbers() {
        let text = shown();
        for line in [
            "corelane_requests_total{core=\"0\",api=\"Produce\"} 2",
            "corelane_requests_total{core=\"1\",api=\"77\"} 1",
            "corelane_requests_total{core=\"0\",api=\"other\"} 1",
            "corelane_errors_total{core=\"0\",error=\"UNKNOWN_TOPIC_OR_PARTITION\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing");
        }
    }

    #[test]
    fn latencies_are_in_seconds_and_buckets_rise_to_the_count() {
        let text = shown();
        let total = |line: &&str| {
            line.starts_with("corelane_produce_seconds_")
                && line.contains("core=\"0\",stage=\"total\"")
        };
        let values: Vec<(&str, f64)> = text
            .lines()
            .filter(total)
            .map(|line| line.rsplit_once(' ').expect("name and value"))
            .map(|(name, value)| (name, value.parse().expect("a number")))
            .collect();
        assert_eq!(values.len(), BOUNDS_NS.len() + 3);
        let buckets = &values[..=BOUNDS_NS.len()];
        assert!(buckets.is_sorted_by(|(_, left), (_, right)| left <= right));
        assert!(buckets[BOUNDS_NS.len()].0.contains("le=\"+Inf\""));
        assert_eq!(buckets[BOUNDS_NS.len()].1, 2.0);
        let sum = values
            .iter()
            .find(|(name, _)| name.contains("_sum"))
            .expect("the sum")
            .1;
        assert!((sum - 0.003_12).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn a_core_without_an_answer_is_shown_as_down() {
        let text = shown();
        assert!(text.contains("corelane_core_up{core=\"1\"} 1\n"));
        assert!(text.contains("corelane_core_up{core=\"2\"} 0\n"));
        assert!(!text.contains("corelane_connections{core=\"2\"}"));
    }

    #[test]
    fn bounds_are_one_two_five_from_a_microsecond_to_ten_seconds() {
        assert_eq!(BOUNDS_NS[..4], [1_000, 2_000, 5_000, 10_000]);
        assert_eq!(BOUNDS_NS[21], 10_000_000_000);
    }
}
