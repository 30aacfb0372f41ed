//! What a process costs, as `/proc` says: processor time, memory, bytes to the disk, switches.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::rt::process::machine_constants;

/// A process's counts so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Processor time of all its threads, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident: u64,
    /// The most it ever had resident, bytes.
    pub resident_max: u64,
    /// Bytes that it has had sent to a disk.
    pub written: u64,
    /// Bytes that it has had brought from a disk.
    pub read: u64,
    /// Times that its threads gave their CPU up, and times that it was taken from them.
    pub switches: u64,
    /// Threads.
    pub threads: u64,
}

/// What a process cost over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Over so many seconds.
    pub seconds: f64,
    /// Processor time, seconds.
    pub cpu_seconds: f64,
    /// Resident memory at the end, bytes.
    pub resident: u64,
    /// The most it ever had resident, bytes.
    pub resident_max: u64,
    /// Bytes to the disk.
    pub disk_written: u64,
    /// Bytes from the disk.
    pub disk_read: u64,
    /// Context switches of all threads that lived through it.
    pub switches: u64,
    /// Threads at the end.
    pub threads: u64,
}

/// The counts of process `pid`; none when there is no such process or it may not be read.
pub fn read(pid: u32) -> Option<Counts> {
    let root = format!("/proc/{pid}");
    let stat = fs::read_to_string(format!("{root}/stat")).ok()?;
    let status = fs::read_to_string(format!("{root}/status")).ok()?;
    let mut counts = parse(&stat, &status, machine_constants().0)?;
    // Only the owner may read this one.
    let io = fs::read_to_string(format!("{root}/io")).unwrap_or_default();
    counts.written = field(&io, "write_bytes:").unwrap_or(0);
    counts.read = field(&io, "read_bytes:").unwrap_or(0);
    counts.switches = 0;
    for thread in fs::read_dir(format!("{root}/task")).ok()?.flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        counts.switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        counts.switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Some(counts)
}

/// What lies between two readings.
pub fn between(before: &Counts, after: &Counts, seconds: f64) -> Cost {
    Cost {
        seconds,
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        resident: after.resident,
        resident_max: after.resident_max,
        disk_written: after.written.saturating_sub(before.written),
        disk_read: after.read.saturating_sub(before.read),
        switches: after.switches.saturating_sub(before.switches),
        threads: after.threads,
    }
}

fn parse(stat: &str, status: &str, ticks_a_second: u64) -> Option<Counts> {
    // The program's name, in parentheses, may hold anything: what follows the last one counts.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let kibibytes = |name| field(status, name).unwrap_or(0) << 10;
    Some(Counts {
        cpu_seconds: (ticks(11)? + ticks(12)?) as f64 / ticks_a_second as f64,
        resident: kibibytes("VmRSS:"),
        resident_max: kibibytes("VmHWM:"),
        threads: field(status, "Threads:").unwrap_or(0),
        ..Counts::default()
    })
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        let status = "Name:\tx\nVmHWM:\t   20 kB\nVmRSS:\t   10 kB\nThreads:\t9\n";
        let counts = parse(stat, status, 100).expect("counts");
        assert_eq!(counts.cpu_seconds, 3.0);
        assert_eq!((counts.resident, counts.resident_max), (10240, 20480));
        assert_eq!(counts.threads, 9);
        assert!(read(std::process::id()).expect("this process").resident > 0);
        assert_eq!(read(u32::MAX), None);
    }
}
