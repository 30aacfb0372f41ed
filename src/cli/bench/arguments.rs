//! The flags of a load: what all modes have in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::Failed;
use super::super::connect::Broker;
use crate::bench::content::{STAMP_BYTES, Shape};
use crate::record::Codec;

/// What records are compressed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Acks {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    All,
}

/// How the result is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Verify {
    /// Not at all
    None,
    /// The logs' offsets must have grown by what was acknowledged
    Offsets,
    /// Everything is read back: each record's checksum and number
    Full,
}

/// A load, and how to measure it.
#[derive(Args, Clone, Debug)]
pub struct Load {
    #[command(flatten)]
    pub(super) broker: Broker,

    /// Use this topic, made if it is missing and kept [default: one of its own, deleted afterwards]
    #[arg(long, value_name = "NAME", help_heading = "Topic")]
    pub(super) topic: Option<String>,

    /// Partitions of a topic that is made [default: 1; many-partitions: 1000]
    #[arg(short, long, value_name = "N", help_heading = "Topic",
          value_parser = clap::value_parser!(i32).range(1..))]
    pub(super) partitions: Option<i32>,

    /// A config of a topic that is made, such as flush.messages=1; repeat it for more
    #[arg(long = "config", value_name = "KEY=VALUE", help_heading = "Topic")]
    pub(super) configs: Vec<String>,

    /// Records a second, all producers together: an open loop; latency counts from when a record
    /// was due. Without it, a closed loop: as fast as it goes [default: end-to-end, fan-out and
    /// catch-up: 1000; else none]
    #[arg(short, long, value_name = "N", help_heading = "Load")]
    pub(super) rate: Option<f64>,

    /// Climb these rates, and say at which the broker stops keeping up
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', help_heading = "Load",
          conflicts_with_all = ["rate", "ladder"])]
    pub(super) rates: Vec<f64>,

    /// Find the knee: measure a closed loop, then climb from a tenth of that to all of it
    #[arg(long, help_heading = "Load", conflicts_with = "rate")]
    pub(super) ladder: bool,

    /// Seconds that are measured
    #[arg(
        short,
        long,
        value_name = "N",
        default_value = "20",
        help_heading = "Load"
    )]
    pub(super) seconds: f64,

    /// Seconds of load before that which do not count
    #[arg(long, value_name = "N", default_value = "3", help_heading = "Load")]
    pub(super) warm_up: f64,

    /// Connections that write [default: 4; end-to-end, fan-out and catch-up: 1]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(super) producers: Option<usize>,

    /// Connections of each reader, which share the partitions
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Load")]
    pub(super) consumers: usize,

    /// Readers, each of which reads everything [default: fan-out: 4; catch-up: 3; else 1]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(super) readers: Option<usize>,

    /// Connections that are held open and do nothing [default: connections: 1000; else 0]
    #[arg(long, value_name = "N", help_heading = "Load")]
    pub(super) idle: Option<usize>,

    /// Requests in flight on a connection that writes
    #[arg(long, value_name = "N", default_value = "5", help_heading = "Load")]
    pub(super) in_flight: usize,

    /// Threads of this program; readers that catch up have as many of their own
    #[arg(long, value_name = "N", default_value = "1", help_heading = "Load")]
    pub(super) threads: usize,

    /// Bytes to write before measuring, for those who read: 512MiB
    #[arg(long, value_name = "SIZE", help_heading = "Load")]
    pub(super) fill: Option<String>,

    /// Read what is there once and end, instead of over and over
    #[arg(long, help_heading = "Load")]
    pub(super) once: bool,

    /// Have everything written to the disks and drop the machine's page cache between filling and
    /// reading (needs root); readers that catch up have read it once before, which does not count
    #[arg(long, help_heading = "Load")]
    pub(super) drop_caches: bool,

    /// Bytes of a record's value
    #[arg(
        long,
        value_name = "N",
        default_value = "1024",
        help_heading = "Records"
    )]
    pub(super) record_bytes: usize,

    /// Bytes of a record's key, none for 0
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Records")]
    pub(super) key_bytes: usize,

    /// How many different keys there are
    #[arg(
        long,
        value_name = "N",
        default_value = "1000000",
        help_heading = "Records"
    )]
    pub(super) keys: u64,

    /// How much of a value is easy to compress, in percent; the rest is random
    #[arg(long, value_name = "PERCENT", default_value = "50", help_heading = "Records",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(super) compressible: u32,

    /// Compress batches
    #[arg(
        short = 'z',
        long,
        value_enum,
        default_value = "none",
        value_name = "CODEC",
        help_heading = "Records"
    )]
    pub(super) compression: Compression,

    /// The compression level, on the codec's own scale
    #[arg(
        long,
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "Records"
    )]
    pub(super) compression_level: Option<i32>,

    /// Bytes of a full batch (Kafka's batch.size)
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "16384",
        help_heading = "Producing"
    )]
    pub(super) batch_bytes: usize,

    /// In an open loop, milliseconds that a record waits for others (Kafka's linger.ms)
    #[arg(
        long,
        value_name = "MS",
        default_value = "0",
        help_heading = "Producing"
    )]
    pub(super) linger: f64,

    /// Partitions in one request
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        help_heading = "Producing"
    )]
    pub(super) partitions_per_request: usize,

    /// A record counts as written when it was sent (0), when the leader has it (1), or when all
    /// in-sync replicas have it (all)
    #[arg(
        long,
        value_enum,
        default_value = "all",
        value_name = "WHEN",
        help_heading = "Producing"
    )]
    pub(super) acks: Acks,

    /// Do without producer ids
    #[arg(long, help_heading = "Producing")]
    pub(super) no_idempotence: bool,

    /// Bytes of one partition in one answer (Kafka's max.partition.fetch.bytes)
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "1048576",
        help_heading = "Consuming"
    )]
    pub(super) fetch_bytes: i32,

    /// Bytes that a fetch waits for (Kafka's fetch.min.bytes)
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "1",
        help_heading = "Consuming"
    )]
    pub(super) fetch_min_bytes: i32,

    /// Milliseconds that it waits at most (Kafka's fetch.max.wait.ms)
    #[arg(
        long,
        value_name = "MS",
        default_value = "500",
        help_heading = "Consuming"
    )]
    pub(super) fetch_wait: u64,

    /// Check the result
    #[arg(
        long,
        value_enum,
        default_value = "offsets",
        value_name = "HOW",
        help_heading = "Result"
    )]
    pub(super) verify: Verify,

    /// The broker's process on this machine: its CPU time, memory, disk writes and context switches
    /// become part of the result
    #[arg(long, value_name = "PID", help_heading = "Result")]
    pub(super) broker_pid: Option<u32>,

    /// Write the result as JSON (- is standard output, instead of the table)
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(super) json: Option<PathBuf>,

    /// Write latencies for HdrHistogram's plotter: FILE.acknowledged.hgrm, FILE.end-to-end.hgrm
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(super) hgrm: Option<PathBuf>,

    /// Write a page with charts: one file, nothing to load
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(super) html: Option<PathBuf>,
}

impl Load {
    /// What records look like.
    pub(super) fn shape(&self) -> Result<Shape, Failed> {
        if self.record_bytes < STAMP_BYTES {
            return Err(Failed::usage(format!(
                "--record-bytes {}: {STAMP_BYTES} at least, since each record says which it is",
                self.record_bytes
            )));
        }
        let record = self.record_bytes + self.key_bytes + 10;
        Ok(Shape {
            value_bytes: self.record_bytes,
            key_bytes: (self.key_bytes > 0).then_some(self.key_bytes),
            keys: self.keys,
            compressible: f64::from(self.compressible) / 100.0,
            codec: match self.compression {
                Compression::None => Codec::None,
                Compression::Gzip => Codec::Gzip,
                Compression::Snappy => Codec::Snappy,
                Compression::Lz4 => Codec::Lz4,
                Compression::Zstd => Codec::Zstd,
            },
            level: self.compression_level,
            batch_records: (self.batch_bytes / record).max(1),
        })
    }

    /// `--acks` as requests have it.
    pub(super) fn acks(&self) -> i16 {
        match self.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }

    /// Seconds that are measured.
    pub(super) fn measured(&self) -> Result<Duration, Failed> {
        duration("--seconds", self.seconds)
    }

    /// Seconds that are not.
    pub(super) fn warm_up(&self) -> Result<Duration, Failed> {
        duration("--warm-up", self.warm_up)
    }

    /// What the first record of a batch waits.
    pub(super) fn linger(&self) -> Result<Duration, Failed> {
        duration("--linger", self.linger / 1e3)
    }

    /// Bytes to write first.
    pub(super) fn fill_bytes(&self, default: u64) -> Result<u64, Failed> {
        match &self.fill {
            None => Ok(default),
            Some(text) => size(text).ok_or_else(|| {
                Failed::usage(format!("--fill {text}: a size such as 512MiB is wanted"))
            }),
        }
    }
}

fn duration(flag: &str, seconds: f64) -> Result<Duration, Failed> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Failed::usage(format!("{flag} {seconds}: a number from 0 on is wanted")))
}

/// Bytes of `512MiB`, `1G`, `4096`.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn a_size_is_a_number_with_or_without_a_unit() {
        assert_eq!(size("4096"), Some(4096));
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("2g"), Some(2 << 30));
        assert_eq!(size("MiB"), None);
        assert_eq!(size("1 parsec"), None);
    }
}
