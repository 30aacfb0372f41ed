//! What a node is started with: flags, a TOML file and Kafka's config names, gathered into one
//! [`Options`]. Knows no socket and no thread; of the machine it asks for its CPUs, its memory, the
//! addresses of a host name, and one file.
//!
//! The stronger first: a flag; `--set` with a Kafka name; the file's key of the flag's name; the
//! file's Kafka name; the default.

mod file;
mod gather;
mod listeners;
mod quantities;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cluster::configs::StaticConfigs;

/// Where clients connect if nothing is said.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:9092";
/// Where the HTTP door is if nothing is said.
pub const ADMIN_DEFAULT: &str = "127.0.0.1:9644";
/// Where the data is if nothing is said.
pub const DATA_DIRECTORY_DEFAULT: &str = "./corelane-data";
/// The least memory a core may be given, in bytes.
pub const MEMORY_PER_CORE_MIN: u64 = 16 << 20;
/// The most memory a core is given if nothing is said, in bytes: half of it holds batches for readers
/// of the tail, three eighths requests, an eighth writes and reads under way. More gained nothing in
/// `corelane bench compare` (rows produce, consume, end-to-end-10000, tail: 96 MiB was slower at
/// consume by a third; 128 MiB, 256 MiB and 1 GiB were within their spread), and what readers far
/// behind want is the page cache's to keep.
pub const MEMORY_PER_CORE_DEFAULT_MAX: u64 = 128 << 20;

/// Everything a node is started with, checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the data is (`log.dirs`), at least one directory; made if missing.
    pub data_directories: Vec<PathBuf>,
    /// Where Kafka clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host and port that clients are told; the listening address if not set.
    pub advertise: Option<(String, u16)>,
    /// Where the HTTP door is; none if it is off.
    pub admin: Option<SocketAddr>,
    /// The CPUs to run on, one shard each, as the kernel numbers them.
    pub cpus: Vec<usize>,
    /// The budget for receive buffers, caches and indexes of all cores together, in bytes.
    pub memory_bytes: u64,
    /// What each data directory keeps for the broker's own needs, in bytes; none: a twentieth of
    /// its file system, at most 1 GiB.
    pub reserve_bytes: Option<u64>,
    /// Whether connections move to the core that owns their partitions; off only to measure it.
    pub hand_over: bool,
    /// Whether each core has a port, and a broker id for clients, of its own.
    pub listen_per_core: bool,
    /// Kafka's broker configs by name, from the file and the flags.
    pub configs: Arc<StaticConfigs>,
}

/// What a person said, as text: nothing is checked yet.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The TOML file.
    pub config_file: Option<PathBuf>,
    /// The data directories.
    pub data_dir: Vec<PathBuf>,
    /// `HOST:PORT`.
    pub listen: Option<String>,
    /// `HOST:PORT`.
    pub advertise: Option<String>,
    /// `HOST:PORT` or `off`.
    pub admin: Option<String>,
    /// How many CPUs (`4`), or which (`0,2-3`).
    pub cores: Option<String>,
    /// Bytes with a unit: `512MiB`, `2G`.
    pub memory: Option<String>,
    /// Bytes with a unit: `1GiB`, `0`.
    pub reserve: Option<String>,
    /// See [`Options::hand_over`].
    pub hand_over: Option<bool>,
    /// See [`Options::listen_per_core`].
    pub listen_per_core: Option<bool>,
    /// `KEY=VALUE`, Kafka's broker configs; a later one of the same name counts.
    pub set: Vec<String>,
}

/// Why a node cannot be started like this: one line that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}
