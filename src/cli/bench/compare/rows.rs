//! The rows of the comparison: what is measured, with which flags, and what the goal is. Data; the
//! doing is elsewhere.

use super::Side;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    More,
    Less,
}

/// A figure of a row that two brokers are compared by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// Ours over theirs must be at least (`More`) or at most (`Less`) this, for each of
    /// [`super::results::PAIRS`]. None: no goal.
    pub(super) goals: Goals,
    /// What our own figure must be, whatever Kafka's is.
    pub(super) own: Option<Own>,
}

/// Goals by pairing: durable against durable, relaxed against Kafka's default, ours durable against
/// Kafka's default, ours durable against the machine itself.
pub(super) type Goals = [Option<f64>; 4];

/// A goal of ours alone, durable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Own {
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// At least this share of what the same figure is in another row.
    ShareOf(&'static str, f64),
}

/// Something to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) sides: &'static [Side],
    pub(super) action: Action,
    pub(super) figures: &'static [Figure],
    /// True if it is measured with each of Kafka's settings; else with the first one alone.
    pub(super) setting_matters: bool,
}

impl Row {
    /// True if it is measured at half of a rate that must be known before.
    pub(super) fn needs_knee(&self) -> bool {
        matches!(self.action, Action::Bench(flags) if flags.contains(&"{rate}"))
    }
}

/// How a row is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// `corelane bench` with these flags; `{seconds}`, and `{rate}` as half of Kafka's knee.
    Bench(&'static [&'static str]),
    /// The knee of Kafka's durability that goes with the side.
    Ladder(&'static [&'static str]),
    /// The broker's start itself.
    Start,
    /// Kafka's own tools.
    Tools,
    /// Fetches of what is on the disk only, by ours and by a bare loop. Ours is started anew for it.
    ColdFetch,
}

const ALL: &[Side] = &[
    Side::OursDurable,
    Side::OursRelaxed,
    Side::KafkaDurable,
    Side::KafkaDefault,
];
const THEIRS: &[Side] = &[Side::KafkaDurable, Side::KafkaDefault];
const DURABLE: &[Side] = &[Side::OursDurable, Side::KafkaDurable];
const RELAXED: &[Side] = &[Side::OursRelaxed, Side::KafkaDefault];
const MACHINE: &[Side] = &[Side::OursDurable, Side::Machine];
const HEADLINE: &[Side] = &[Side::OursDurable, Side::KafkaDefault];

const fn figure(name: &'static str, unit: &'static str, better: Better, goals: Goals) -> Figure {
    Figure {
        name,
        unit,
        better,
        goals,
        own: None,
    }
}

const fn with(own: Own, figure: Figure) -> Figure {
    Figure {
        own: Some(own),
        ..figure
    }
}

/// Writing at half of a knee: `{rate}` is half of that of the row's own Kafka.
const HALF_A_KNEE: &[&str] = &["produce", "--rate", "{rate}", "--seconds", "{seconds}"];
const THIRD: Goals = kafka([Some(1.0 / 3.0); 3]);
const NONE: Goals = [None; 4];

/// Goals against Kafka in the three pairings with it.
const fn kafka(goals: [Option<f64>; 3]) -> Goals {
    [goals[0], goals[1], goals[2], None]
}

/// All rows, in the order in which they are measured.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "start",
        what: "start to first ack; memory then",
        sides: HEADLINE,
        setting_matters: false,
        action: Action::Start,
        figures: &[
            figure(
                "first ack",
                "ms",
                Better::Less,
                kafka([None, None, Some(1.0 / 30.0)]),
            ),
            figure(
                "RSS after start",
                "MB",
                Better::Less,
                kafka([None, None, Some(0.1)]),
            ),
        ],
    },
    Row {
        name: "produce",
        what: "produce 1 KiB, acks=all, saturation: 4 connections x 5 in flight, 16 KiB batches",
        sides: ALL,
        setting_matters: true,
        action: Action::Bench(&["produce", "--seconds", "{seconds}"]),
        figures: &[
            figure(
                "MB/s",
                "MB/s",
                Better::More,
                kafka([Some(5.0), Some(2.0), Some(1.2)]),
            ),
            figure("CPU s/GB", "s/GB", Better::Less, THIRD),
            figure("RSS max", "MB", Better::Less, kafka([Some(0.2); 3])),
            figure("p99", "us", Better::Less, NONE),
        ],
    },
    Row {
        name: "knee",
        what: "the rate that Kafka keeps: 1 KiB, acks=all, open loop, linger 0",
        sides: THEIRS,
        setting_matters: true,
        action: Action::Ladder(&["produce", "--ladder", "--seconds", "3", "--warm-up", "1"]),
        figures: &[figure("knee", "records/s", Better::More, NONE)],
    },
    Row {
        name: "latency-durable",
        what: "produce latency, both durable, at half of durable Kafka's knee, open loop",
        sides: DURABLE,
        setting_matters: true,
        action: Action::Bench(HALF_A_KNEE),
        figures: &[
            figure("p50", "us", Better::Less, kafka([Some(0.2), None, None])),
            figure("p99", "us", Better::Less, kafka([Some(0.2), None, None])),
            figure("p99.9", "us", Better::Less, kafka([Some(0.2), None, None])),
        ],
    },
    Row {
        name: "latency-relaxed",
        what: "produce latency, ours relaxed and Kafka's default, at half of its knee",
        sides: RELAXED,
        setting_matters: true,
        action: Action::Bench(HALF_A_KNEE),
        figures: &[
            figure("p50", "us", Better::Less, kafka([None, Some(0.5), None])),
            figure("p99", "us", Better::Less, kafka([None, Some(0.5), None])),
            figure("p99.9", "us", Better::Less, kafka([None, Some(0.5), None])),
        ],
    },
    Row {
        name: "latency-headline",
        what: "produce latency, ours durable and Kafka's default, at half of its knee",
        sides: HEADLINE,
        setting_matters: true,
        action: Action::Bench(HALF_A_KNEE),
        figures: &[
            figure("p50", "us", Better::Less, kafka([None, None, Some(1.0)])),
            figure("p99", "us", Better::Less, kafka([None, None, Some(1.0)])),
            figure("p99.9", "us", Better::Less, kafka([None, None, Some(1.0)])),
        ],
    },
    Row {
        name: "end-to-end-1000",
        what: "end to end at 1,000 records/s",
        sides: ALL,
        setting_matters: true,
        action: Action::Bench(&["end-to-end", "--rate", "1000", "--seconds", "{seconds}"]),
        figures: &[
            figure("p50", "us", Better::Less, NONE),
            figure("p99", "us", Better::Less, THIRD),
        ],
    },
    Row {
        name: "end-to-end-10000",
        what: "end to end at 10,000 records/s",
        sides: ALL,
        setting_matters: true,
        action: Action::Bench(&["end-to-end", "--rate", "10000", "--seconds", "{seconds}"]),
        figures: &[
            figure("p50", "us", Better::Less, NONE),
            figure("p99", "us", Better::Less, THIRD),
        ],
    },
    Row {
        name: "consume",
        what: "consume what was just written, 512 MiB over and over",
        sides: HEADLINE,
        setting_matters: true,
        action: Action::Bench(&["consume", "--fill", "512MiB", "--seconds", "{seconds}"]),
        figures: &[
            figure(
                "read MB/s",
                "MB/s",
                Better::More,
                kafka([None, None, Some(1.5)]),
            ),
            figure(
                "CPU s/GB",
                "s/GB",
                Better::Less,
                kafka([None, None, Some(0.5)]),
            ),
        ],
    },
    Row {
        name: "tail",
        what: "tail at 1,000 records/s while three readers catch up 768 MiB from the disk",
        sides: HEADLINE,
        setting_matters: true,
        action: Action::Bench(&[
            "catch-up",
            "--rate",
            "1000",
            "--readers",
            "3",
            "--fill",
            "768MiB",
            "--drop-caches",
            "--warm-up",
            "1",
            "--seconds",
            "3",
        ]),
        figures: &[
            figure("p99", "us", Better::Less, kafka([None, None, Some(0.2)])),
            figure(
                "caught up MB/s",
                "MB/s",
                Better::More,
                kafka([None, None, Some(1.5)]),
            ),
        ],
    },
    Row {
        name: "one-partition",
        what: "small batches (4 KiB) to 1 partition, saturation",
        sides: ALL,
        setting_matters: true,
        action: Action::Bench(&[
            "many-partitions",
            "--partitions",
            "1",
            "--batch-bytes",
            "4096",
            "--seconds",
            "{seconds}",
        ]),
        figures: &[figure("MB/s", "MB/s", Better::More, NONE)],
    },
    Row {
        name: "many-partitions",
        what: "small batches (4 KiB) to 1,000 partitions, saturation",
        sides: ALL,
        setting_matters: true,
        action: Action::Bench(&[
            "many-partitions",
            "--partitions",
            "1000",
            "--batch-bytes",
            "4096",
            "--seconds",
            "{seconds}",
        ]),
        figures: &[with(
            Own::ShareOf("one-partition", 0.8),
            figure("MB/s", "MB/s", Better::More, NONE),
        )],
    },
    Row {
        name: "idle",
        what: "1,000 connections and 1,000 partitions that do nothing",
        sides: HEADLINE,
        setting_matters: false,
        action: Action::Bench(&[
            "connections",
            "--idle",
            "1000",
            "--partitions",
            "1000",
            "--seconds",
            "{seconds}",
        ]),
        figures: &[
            with(
                Own::AtMost(1.0),
                figure("CPU %", "% of a core", Better::Less, NONE),
            ),
            figure("RSS max", "MB", Better::Less, NONE),
        ],
    },
    Row {
        name: "machine-produce",
        what: "durable produce in large batches (64 KiB, 8 connections x 5 in flight) against the disk",
        sides: MACHINE,
        setting_matters: true,
        action: Action::Bench(&[
            "produce",
            "--producers",
            "8",
            "--batch-bytes",
            "65536",
            "--seconds",
            "{seconds}",
        ]),
        figures: &[figure(
            "MB/s",
            "MB/s",
            Better::More,
            [None, None, None, Some(0.85)],
        )],
    },
    Row {
        name: "tools",
        what: "second opinion: Kafka's own ProducerPerformance, ConsumerPerformance (twice: the second \
               finds everything in the page cache), EndToEndLatency, short runs of one client that is not \
               warm yet; percentiles are theirs, in whole ms",
        sides: ALL,
        setting_matters: true,
        action: Action::Tools,
        figures: &[
            figure("producer MB/s", "MB/s", Better::More, NONE),
            figure("producer records/s", "records/s", Better::More, NONE),
            figure("producer average", "us", Better::Less, NONE),
            figure("producer p99", "us", Better::Less, NONE),
            figure("producer p99.9", "us", Better::Less, NONE),
            figure("consumer MB/s", "MB/s", Better::More, NONE),
            figure("consumer records/s", "records/s", Better::More, NONE),
            figure("consumer again MB/s", "MB/s", Better::More, NONE),
            figure("end to end average", "us", Better::Less, NONE),
            figure("end to end p99", "us", Better::Less, NONE),
            figure("end to end p99.9", "us", Better::Less, NONE),
        ],
    },
    // Last: it starts ours anew.
    Row {
        name: "machine-fetch",
        what: "fetches of 750 MiB that are on the disk only, three times, against a bare sendfile loop",
        sides: MACHINE,
        setting_matters: true,
        action: Action::ColdFetch,
        figures: &[
            figure(
                "read MB/s",
                "MB/s",
                Better::More,
                [None, None, None, Some(0.8)],
            ),
            figure("CPU s/GB", "s/GB", Better::Less, NONE),
        ],
    },
];
