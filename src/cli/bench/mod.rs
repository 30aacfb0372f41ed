//! `corelane bench`: a load generator for any Kafka broker, and the comparison with Apache Kafka.
//!
//! The load itself is [`crate::bench`]'s; here are the flags, the topic that it runs against, what
//! each mode means, and how results are shown.

mod arguments;
mod compare;
mod load;
mod show;
mod target;

use clap::{Args, Subcommand};

use super::Failed;
use crate::rt::limits;

const EXAMPLES: &str = "\
Examples:
  corelane bench produce                                   as fast as it goes (closed loop)
  corelane bench produce --rate 50000                      50,000 records a second (open loop)
  corelane bench produce --ladder --html ladder.html       which rate can it keep?
  corelane bench end-to-end --rate 10000 --seconds 60
  corelane bench consume --fill 2GiB
  corelane bench catch-up --rate 1000 --readers 3 --fill 2GiB --drop-caches
  corelane bench many-partitions --partitions 1000 --rate 20000
  corelane bench connections --idle 5000
  corelane bench compare --rows produce,end-to-end-1000    against Apache Kafka, fetched by itself
  corelane bench produce -b kafka1:9092 --config flush.messages=1 --broker-pid 4711

Open and closed loop answer different questions. A closed loop sends the next request when an answer
came: it finds the highest throughput, but when the broker stops for a second it stops asking, too,
and so hides that second. An open loop sends at a fixed rate whatever happens, and the latency of a
record counts from the time at which it was due. Quote latencies from open loops only, at a rate that
is kept (`achieved 100 %`).

Every record says who wrote it, which it is and what its checksum is, so a result says how many were
lost, repeated or damaged; a result that is not valid ends with exit code 1.";

/// What to measure.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

/// The modes, and what is done with results.
#[derive(Subcommand, Clone, Debug)]
enum Mode {
    /// Write records: throughput, and latency to the acknowledgement
    Produce(Box<arguments::Load>),
    /// Read records that are there: throughput
    Consume(Box<arguments::Load>),
    /// Write at a rate and read what was written: latency from when a record was due to its arrival
    EndToEnd(Box<arguments::Load>),
    /// Write and read at the same time, as fast as it goes
    Mixed(Box<arguments::Load>),
    /// Write at a rate, with several readers who each read everything
    FanOut(Box<arguments::Load>),
    /// Readers of old records beside a tail: how fast are they, and what do they cost the others?
    CatchUp(Box<arguments::Load>),
    /// Write small batches to many partitions
    ManyPartitions(Box<arguments::Load>),
    /// Hold many connections open, with or without a load beside them
    Connections(Box<arguments::Load>),
    /// Run this broker and Apache Kafka side by side, and show who is better at what
    Compare(Box<compare::Arguments>),
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    match &arguments.mode {
        Mode::Produce(load) => load::run(load::Mode::Produce, load),
        Mode::Consume(load) => load::run(load::Mode::Consume, load),
        Mode::EndToEnd(load) => load::run(load::Mode::EndToEnd, load),
        Mode::Mixed(load) => load::run(load::Mode::Mixed, load),
        Mode::FanOut(load) => load::run(load::Mode::FanOut, load),
        Mode::CatchUp(load) => load::run(load::Mode::CatchUp, load),
        Mode::ManyPartitions(load) => load::run(load::Mode::ManyPartitions, load),
        Mode::Connections(load) => load::run(load::Mode::Connections, load),
        Mode::Compare(arguments) => compare::run(arguments),
    }
}

/// A number for names and runs.
fn random() -> u32 {
    u32::from_le_bytes(limits::random())
}
