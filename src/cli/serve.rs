//! `corelane serve`: a broker.

use std::path::PathBuf;

use clap::Args;

use super::Failed;
use crate::config::{Given, Options};
use crate::node;

const EXAMPLES: &str = "\
Examples:
  corelane serve --data-dir /nvme/a --data-dir /nvme/b --listen 0.0.0.0:9092 --advertise kafka1:9092
  corelane serve --cores 2-7 --memory 8GiB --set log.retention.hours=24
  corelane serve --config corelane.toml

A config file is TOML. Its keys are the flags' names and Kafka's broker config names:
  data-dir = [\"/nvme/a\", \"/nvme/b\"]
  listen = \"0.0.0.0:9092\"
  cores = \"2-7\"
  [kafka]
  log.retention.hours = 24
  num.partitions = 6

The stronger first: a flag; --set; the file's key of the flag's name; its Kafka name. Of Kafka's
names, log.dirs, listeners, advertised.listeners, node.id and broker.rack work as in Kafka.

When clients can connect, one line that begins with `ready` is printed, with the addresses. SIGTERM
and SIGINT shut down cleanly. Acknowledged records are on stable storage; to answer once the kernel
has them instead, set log.flush.interval.messages (or a topic's flush.messages) above 1.";

/// What a broker is started with.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Read this TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Keep data here; repeat it for several disks [default: ./corelane-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<PathBuf>,

    /// Serve Kafka clients here; port 0 takes a free one [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Tell clients to connect here [default: what --listen says]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,

    /// Serve HTTP (metrics, health) here [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT|off")]
    admin: Option<String>,

    /// Run on so many CPUs (4), or on these (0,2-3); a single one is 2-2 [default: all]
    #[arg(long, value_name = "N|LIST")]
    cores: Option<String>,

    /// Use so much memory for requests, batches and writes under way, such as 512MiB or 2G; the page
    /// cache is the kernel's, beside it [default: a quarter of the machine's, at most 128 MiB and at
    /// least 16 MiB a core]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,

    /// Keep so much of each data directory's file system for the broker's own needs: below it,
    /// records are refused (KAFKA_STORAGE_ERROR) until there is space again [default: a twentieth
    /// of the file system, at most 1 GiB]
    #[arg(long, value_name = "SIZE")]
    reserve: Option<String>,

    /// Set a broker config by Kafka's name; repeat it for more
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Give each core a port of its own, from --listen's on (and from --advertise's), and tell clients
    /// that it is a broker of its own: they connect to the core that owns a partition, and nothing is
    /// handed on. Core K of node N is broker N * 1000 + K; node.id must be from 1 to 999
    #[arg(long)]
    listen_per_core: bool,

    /// Leave connections on the core that accepted them, only to measure what moving them gains
    #[arg(long, hide = true)]
    no_hand_over: bool,
}

/// Runs a broker until it is told to stop.
pub fn run(arguments: Arguments) -> Result<(), Failed> {
    let given = Given {
        config_file: arguments.config,
        data_dir: arguments.data_dir,
        listen: arguments.listen,
        advertise: arguments.advertise,
        admin: arguments.admin,
        cores: arguments.cores,
        memory: arguments.memory,
        reserve: arguments.reserve,
        listen_per_core: arguments.listen_per_core.then_some(true),
        hand_over: arguments.no_hand_over.then_some(false),
        set: arguments.set,
    };
    let (options, warnings) = Options::gather(given).map_err(Failed::usage)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    node::run(&options).map_err(Failed::usage)
}
