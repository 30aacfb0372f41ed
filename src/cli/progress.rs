//! A line on the terminal that says how far a long command is.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(200);

/// Counts records; shows them on standard error if a person watches there.
pub(super) struct Progress {
    verb: &'static str,
    shown: bool,
    began: Instant,
    told: Instant,
    records: u64,
    bytes: u64,
}

impl Progress {
    /// `wanted`: false if the records themselves are on the terminal.
    pub(super) fn new(verb: &'static str, wanted: bool) -> Progress {
        let now = Instant::now();
        Progress {
            verb,
            shown: wanted && std::io::stderr().is_terminal(),
            began: now,
            told: now,
            records: 0,
            bytes: 0,
        }
    }

    /// So much more was done.
    pub(super) fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
        if self.shown && self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            self.tell("\r\x1b[K", "");
        }
    }

    /// Records so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// The last line stays.
    pub(super) fn finish(&self) {
        if self.shown {
            self.tell("\r\x1b[K", "\n");
        }
    }

    fn tell(&self, before: &str, after: &str) {
        let line = line(self.verb, self.records, self.bytes, self.began.elapsed());
        let _ = write!(std::io::stderr(), "{before}{line}{after}");
    }
}

fn line(verb: &str, records: u64, bytes: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let megabytes = bytes as f64 / 1e6;
    format!(
        "{records} records {verb}, {megabytes:.1} MB in {seconds:.1} s ({:.0} records/s, {:.1} MB/s)",
        records as f64 / seconds,
        megabytes / seconds
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_tells_how_many_and_how_fast() {
        let line = super::line("written", 10, 5_000_000, std::time::Duration::from_secs(2));
        assert_eq!(
            line,
            "10 records written, 5.0 MB in 2.0 s (5 records/s, 2.5 MB/s)"
        );
    }
}
