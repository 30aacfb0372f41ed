//! The self-test of a disk: which way of durable writing suits it, and what it can do.

use std::path::Path;
use std::time::Duration;

use super::super::{Failed, table};
use crate::bench::latency::shown;
use crate::rt::trial::{Way, trial};

/// Sizes of a write, bytes, and how many are under way.
const CASES: [(usize, usize); 6] = [
    (4 << 10, 1),
    (4 << 10, 8),
    (64 << 10, 1),
    (64 << 10, 4),
    (1 << 20, 1),
    (1 << 20, 4),
];
/// For each case and way: two seconds together.
const TIME: Duration = Duration::from_millis(160);

/// Tests and shows.
pub(super) fn run(directory: &Path) -> Result<(), Failed> {
    let told =
        |error: std::io::Error| Failed::operation(format!("{}: {error}", directory.display()));
    let facts = crate::rt::probe_device(directory).map_err(told)?;
    println!("{facts}");
    let mut rows = Vec::new();
    for (size, depth) in CASES {
        for (way, name) in [
            (Way::WithTheWrite, "RWF_DSYNC on the write"),
            (Way::SyncAfterwards, "write, then fdatasync"),
        ] {
            let result = trial(directory, size, depth, way, TIME).map_err(told)?;
            rows.push(vec![
                format!("{} KiB", size >> 10),
                depth.to_string(),
                name.to_owned(),
                format!("{:.0}", result.writes_a_second),
                format!("{:.0}", result.writes_a_second * size as f64 / 1e6),
                shown(result.p50.as_nanos() as f64 / 1e3),
                shown(result.p99.as_nanos() as f64 / 1e3),
            ]);
        }
    }
    let head = ["SIZE", "DEPTH", "HOW", "WRITES/S", "MB/S", "p50", "p99"];
    for line in table::lines(&head, &rows) {
        println!("{line}");
    }
    Ok(())
}
