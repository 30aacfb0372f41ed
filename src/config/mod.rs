//! What a node is started with: flags, a TOML file and Kafka's config names, gathered into one
//! [`Options`]. Knows no socket and no thread.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cluster::configs::StaticConfigs;

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
    /// Kafka's broker configs by name, from the file and the flags.
    pub configs: Arc<StaticConfigs>,
}
