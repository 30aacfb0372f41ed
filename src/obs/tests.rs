use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

fn number(figures: &[Figure], name: &str) -> u64 {
    let figure = figures
        .iter()
        .find(|figure| figure.family.name == name)
        .expect("the figure");
    match figure.reading {
        Reading::Number(number) => number,
        Reading::Histogram(_) => panic!("{name} is a histogram"),
    }
}

/// A core that has seen a bit of everything.
fn busy(core: u16) -> Measurements {
    let mut measurements = Measurements::new(CoreId(core));
    measurements.requests.received(0);
    measurements.requests.refused(0, 3);
    measurements.network.accepted = 5;
    measurements.network.handed_over = 2;
    measurements.produce.appended(10, 1000);
    measurements
        .produce
        .passed(ProduceStage::Total, Duration::from_micros(120));
    measurements
        .fetch
        .passed(FetchStage::Wait, Duration::from_millis(500));
    measurements
        .disk
        .done(DiskVerb::DurableWrite, 4096, Duration::from_micros(90));
    measurements.turns.parked(1, Duration::from_millis(3));
    measurements
}

#[test]
fn a_snapshot_holds_each_name_and_label_once() {
    let snapshot = busy(0).snapshot();
    let mut seen = BTreeSet::new();
    for figure in &snapshot.figures {
        assert!(
            seen.insert((figure.family.name, figure.label)),
            "{figure:?} twice"
        );
    }
    assert!(seen.len() > 60, "{}", seen.len());
}

#[test]
fn one_name_has_one_help_kind_and_unit() {
    let snapshot = busy(0).snapshot();
    for figure in &snapshot.figures {
        let same = snapshot
            .figures
            .iter()
            .filter(|other| other.family.name == figure.family.name);
        for other in same {
            assert_eq!(other.family, figure.family);
        }
    }
}

#[test]
fn names_follow_the_rules_of_prometheus() {
    busy(0).visit(&mut |sample| {
        let Family {
            name,
            kind,
            unit,
            help,
        } = sample.family;
        assert!(name.starts_with("corelane_") && !help.is_empty(), "{name}");
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        assert_eq!(
            name.contains("seconds"),
            unit == Unit::Nanoseconds,
            "{name}"
        );
        let is_histogram = matches!(sample.value, Value::Histogram(_));
        assert_eq!(is_histogram, kind == Kind::Histogram, "{name}");
    });
}

#[test]
fn merged_cores_add_up_counters_gauges_and_latencies() {
    let merged = merge(&[busy(0).snapshot(), busy(1).snapshot(), busy(2).snapshot()]);
    assert_eq!(number(&merged, "corelane_produced_records_total"), 30);
    assert_eq!(number(&merged, "corelane_connections"), 9);
    let total = merged.iter().find(|figure| {
        figure.family.name == "corelane_produce_seconds"
            && figure
                .label
                .is_some_and(|label| label.value == LabelValue::Text("total"))
    });
    match &total.expect("the total").reading {
        Reading::Histogram(histogram) => {
            assert_eq!((histogram.count(), histogram.sum_ns), (3, 360_000));
        }
        Reading::Number(_) => panic!("a histogram"),
    }
}

#[test]
fn merging_keeps_what_only_one_core_has_seen() {
    let mut other = Measurements::new(CoreId(1));
    other.requests.received(18);
    let merged = merge(&[busy(0).snapshot(), other.snapshot()]);
    let apis: Vec<Option<Label>> = merged
        .iter()
        .filter(|figure| figure.family.name == "corelane_requests_total")
        .map(|figure| figure.label)
        .collect();
    let label = |key| {
        Some(Label {
            name: "api",
            value: LabelValue::Api(key),
        })
    };
    assert_eq!(apis, [label(0), label(18)]);
}

#[test]
fn a_snapshot_may_be_sent_to_another_thread() {
    fn sendable<T: Send + 'static>(_: &T) {}
    sendable(&busy(0).snapshot());
}
