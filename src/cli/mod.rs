//! What a person types: `corelane serve`, `topic`, `group`, `produce`, `consume`, `inspect`, `sim`.
//!
//! Each command is a file: its flags with their help, and what it does. Exit codes: 0 done, 1 the
//! operation was refused or failed, 2 wrong usage or the broker cannot start. An error is one line
//! on standard error that says what to do. Standard output has what was asked for and nothing else.
//! Knows how the broker works in no more detail than [`crate::node`]'s door and Kafka's protocol.

mod bench;
pub mod client;
mod connect;
mod consume;
mod flame;
mod format;
mod group;
mod import;
mod inspect;
mod logging;
mod produce;
mod progress;
mod serve;
mod sim;
mod start;
mod table;
mod topic;
mod tune;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use logging::{LogFormat, start_logging};

/// A Kafka-protocol broker for bare-metal Linux and NVMe.
#[derive(Debug, Parser)]
#[command(
    name = "corelane",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  corelane                                    a broker on 127.0.0.1:9092, data in ./corelane-data
  corelane --listen 0.0.0.0:9092 --data-dir /nvme/a
  corelane topic create orders --partitions 6
  echo hello | corelane produce orders
  corelane consume orders --follow
  corelane group describe billing             how far a consumer group lags behind
  corelane inspect ./corelane-data --verify

Any Kafka client works with the broker, and these commands work with any Kafka broker."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub serve: serve::Arguments,

    /// How logs are written to standard error [default: text on a terminal, json otherwise]
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        help_heading = "Logs"
    )]
    pub log_format: Option<LogFormat>,

    /// Which logs: a level (error, warn, info, debug, trace) or a list such as
    /// info,corelane::log=debug [default: info for the broker, warn for other commands]
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Logs")]
    pub log: Option<String>,
}

/// What `corelane` can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker (also what `corelane` alone does)
    Serve(Box<serve::Arguments>),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(topic::Command),
    /// List, describe, reset and delete consumer groups
    #[command(subcommand)]
    Group(group::Command),
    /// Write records from standard input to a topic
    Produce(produce::Arguments),
    /// Read records of a topic to standard output
    Consume(consume::Arguments),
    /// Show and verify the files of a stopped broker
    Inspect(inspect::Arguments),
    /// Make a data directory of a stopped Apache Kafka's log directory
    Import(import::Arguments),
    /// Run the broker's logic in a simulated world, from a seed
    Sim(sim::Arguments),
    /// Measure a broker, this one or any other that speaks Kafka's protocol
    Bench(bench::Arguments),
    /// Say what on this machine costs latency or safety, and mend what can be mended
    Tune(tune::Arguments),
    /// Draw where one core of a running broker spends its time
    Flame(flame::Arguments),
}

impl Cli {
    /// True if a broker is to run, which logs more.
    pub fn is_broker(&self) -> bool {
        matches!(self.command, None | Some(Command::Serve(_)))
    }

    /// Does what was asked for.
    pub fn run(self) -> ExitCode {
        // Clap could refuse this itself, but then it would refuse --log there too.
        let misplaced = self.command.is_some() && self.serve != serve::Arguments::default();
        let done = match self.command {
            Some(_) if misplaced => Err(Failed::usage(
                "a broker's flags come after the command: corelane serve --listen HOST:PORT",
            )),
            None => serve::run(self.serve),
            Some(Command::Serve(arguments)) => serve::run(*arguments),
            Some(Command::Topic(command)) => topic::run(command),
            Some(Command::Group(command)) => group::run(command),
            Some(Command::Produce(arguments)) => produce::run(&arguments),
            Some(Command::Consume(arguments)) => consume::run(&arguments),
            Some(Command::Inspect(arguments)) => inspect::run(&arguments),
            Some(Command::Import(arguments)) => import::run(&arguments),
            Some(Command::Sim(arguments)) => sim::run(&arguments),
            Some(Command::Bench(arguments)) => bench::run(&arguments),
            Some(Command::Tune(arguments)) => tune::run(&arguments),
            Some(Command::Flame(arguments)) => flame::run(&arguments),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failed::Quietly) => ExitCode::from(1),
            Err(failed) => {
                eprintln!("corelane: {failed}");
                failed.exit_code()
            }
        }
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failed {
    /// The operation was refused or failed: exit code 1.
    Operation(String),
    /// As above, and everything was said already.
    Quietly,
    /// What was typed cannot be done, or the broker cannot start: exit code 2.
    Usage(String),
}

impl Failed {
    fn operation(why: impl fmt::Display) -> Failed {
        Failed::Operation(why.to_string())
    }

    fn usage(why: impl fmt::Display) -> Failed {
        Failed::Usage(why.to_string())
    }

    /// What writing to standard output says: a reader that went away (`| head`) is no failure to
    /// tell of.
    fn output(error: std::io::Error) -> Failed {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failed::Quietly,
            _ => Failed::Operation(format!("standard output: {error}")),
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Failed::Operation(_) | Failed::Quietly => ExitCode::from(1),
            Failed::Usage(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Operation(why) | Failed::Usage(why) => f.write_str(why),
            Failed::Quietly => Ok(()),
        }
    }
}

impl From<client::ClientError> for Failed {
    fn from(error: client::ClientError) -> Failed {
        Failed::operation(error)
    }
}
