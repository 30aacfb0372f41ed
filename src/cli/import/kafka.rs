//! What a stopped Apache Kafka left in a log directory: whose it is, its topics with their configs,
//! its partitions. Only reads.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::{LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId};
use crate::cluster::Record;
use crate::record::{Batches, Scratch};
use crate::rt::limits::record_lock_holder;
use crate::rt::properties::read_properties;
use crate::shard::{METADATA_DIRECTORY, parse_directory_name};

/// Written by Kafka as the last thing of a clean shutdown (apache/kafka `CleanShutdownFileHandler`).
const CLEAN: &str = ".kafka_cleanshutdown";
/// Kafka's topics that corelane has no use for.
const NOT_TAKEN: [&str; 3] = [
    "__transaction_state",
    "__share_group_state",
    "__cluster_metadata",
];
/// The most bytes that one batch of metadata may unpack to.
const METADATA_BATCH_BYTES_MAX: usize = 64 << 20;

/// One partition's directory.
#[derive(Debug)]
pub(super) struct Partition {
    pub index: PartitionIndex,
    /// Its segment files by base offset.
    pub segments: BTreeMap<Offset, PathBuf>,
    /// The first offset that may be read.
    pub start: Offset,
    /// The newest term of a leader that it knows.
    pub epoch: LeaderEpoch,
}

/// One topic.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub id: TopicId,
    /// By number: those that are here.
    pub partitions: BTreeMap<PartitionIndex, Partition>,
    /// Its configs, as far as the metadata log is here.
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    /// True when records may have been compacted away.
    pub(super) fn is_compacted(&self, name: &str) -> bool {
        let policy = self.configs.get("cleanup.policy");
        name.starts_with("__") || policy.is_some_and(|policy| policy.contains("compact"))
    }
}

/// A log directory.
#[derive(Debug)]
pub(super) struct Found {
    pub cluster_id: String,
    pub node_id: i32,
    pub topics: BTreeMap<String, Topic>,
    /// What is left out, and why: a line each.
    pub left_out: Vec<String>,
    /// True when the configs of the topics are known.
    pub knows_configs: bool,
    /// Kafka gave away the producer ids below, as far as is known.
    pub next_producer: ProducerId,
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Refuses a directory that is in use, or (unless `unclean` is accepted) was not left in order.
pub(super) fn check(from: &Path, unclean: bool) -> Result<(), String> {
    let shown = from.display();
    if !from.join("meta.properties").is_file() {
        return Err(format!(
            "{shown} is no log directory of Apache Kafka: it has no meta.properties"
        ));
    }
    let lock = from.join(".lock");
    match record_lock_holder(&lock) {
        Ok(Some(holder)) => {
            return Err(format!(
                "{shown} is in use by process {holder}: stop that broker first"
            ));
        }
        Ok(None) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&lock, &error)),
    }
    if !unclean && !from.join(CLEAN).is_file() {
        return Err(format!(
            "{shown} was not left by a clean shutdown ({CLEAN} is missing): start and stop Kafka \
             once more, or say --unclean to take what is there; a torn end is then cut off"
        ));
    }
    Ok(())
}

/// Reads everything but the records.
pub(super) fn read(from: &Path) -> Result<Found, String> {
    let path = from.join("meta.properties");
    let lines = read_properties(&path).map_err(|error| failed(&path, &error))?;
    let lines = lines.unwrap_or_default();
    if lines.keys().any(|key| key.starts_with("corelane.")) {
        return Err(format!(
            "{} belongs to corelane already: give it to --data-dir",
            from.display()
        ));
    }
    let get = |key: &str| lines.get(key).map(String::as_str);
    let node = get("node.id").or_else(|| get("broker.id")).unwrap_or("1");
    let mut found = Found {
        cluster_id: get("cluster.id").unwrap_or_default().to_owned(),
        node_id: node.parse().unwrap_or(1),
        topics: BTreeMap::new(),
        left_out: Vec::new(),
        knows_configs: false,
        next_producer: ProducerId(0),
    };
    let starts = offsets_of(&from.join("log-start-offset-checkpoint"));
    let entries = fs::read_dir(from).map_err(|error| failed(from, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| failed(from, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            found.take_directory(&path, &name, &starts)?;
        }
    }
    found.read_configs(&from.join(METADATA_DIRECTORY))?;
    found.check_whole();
    Ok(found)
}

impl Found {
    fn take_directory(
        &mut self,
        path: &Path,
        name: &str,
        starts: &BTreeMap<String, i64>,
    ) -> Result<(), String> {
        if name == METADATA_DIRECTORY {
            return Ok(());
        }
        let Some((topic, index)) = parse_directory_name(name) else {
            self.left_out
                .push(format!("{name}: not a partition's directory"));
            return Ok(());
        };
        if NOT_TAKEN.contains(&topic) {
            self.left_out
                .push(format!("{name}: corelane has no use for {topic}"));
            return Ok(());
        }
        let file = path.join("partition.metadata");
        let metadata = fs::read_to_string(&file).map_err(|error| failed(&file, &error))?;
        let id = metadata
            .lines()
            .find_map(|line| line.strip_prefix("topic_id: "));
        let id: TopicId = id
            .and_then(|id| id.trim().parse().ok())
            .ok_or_else(|| format!("{} names no topic id", file.display()))?;
        let taken = self.topics.entry(topic.to_owned()).or_default();
        if !taken.partitions.is_empty() && taken.id != id {
            return Err(format!(
                "{topic} has partitions of two topic ids: {id}, {}",
                taken.id
            ));
        }
        taken.id = id;
        let mut segments = BTreeMap::new();
        for entry in fs::read_dir(path).map_err(|error| failed(path, &error))? {
            let file = entry.map_err(|error| failed(path, &error))?.path();
            if let Some(base) = crate::cli::inspect::base_of(&file) {
                segments.insert(base, file);
            }
        }
        let first = segments.keys().next().copied().unwrap_or_default();
        let start = starts.get(name).copied().map_or(first, Offset).max(first);
        taken.partitions.insert(
            index,
            Partition {
                index,
                segments,
                start,
                epoch: newest_epoch(&path.join("leader-epoch-checkpoint")),
            },
        );
        Ok(())
    }

    /// Topic configs, from the metadata log where the broker was a controller too.
    fn read_configs(&mut self, directory: &Path) -> Result<(), String> {
        let Ok(entries) = fs::read_dir(directory) else {
            return Ok(());
        };
        let mut files: Vec<PathBuf> = entries
            .map_while(Result::ok)
            .map(|entry| entry.path())
            .collect();
        files.retain(|file| {
            let extension = file.extension().unwrap_or_default();
            extension == "log" || extension == "checkpoint"
        });
        // Snapshots are named by the offset they end at, segments by the one they begin at.
        files.sort();
        for file in files {
            let bytes = fs::read(&file).map_err(|error| failed(&file, &error))?;
            self.knows_configs = true;
            self.take_configs(&bytes);
        }
        Ok(())
    }

    fn take_configs(&mut self, bytes: &[u8]) {
        let mut scratch = Scratch::new();
        for batch in Batches::new(bytes).map_while(Result::ok) {
            if batch.header.is_control() || batch.verify().is_err() {
                continue;
            }
            let Ok(records) = batch.records(&mut scratch, METADATA_BATCH_BYTES_MAX) else {
                continue;
            };
            for record in records.map_while(Result::ok) {
                match Record::decode(record.value.unwrap_or_default()) {
                    Ok(Record::Config {
                        resource_type: 2,
                        resource_name,
                        name,
                        value,
                    }) => {
                        let Some(topic) = self.topics.get_mut(&resource_name) else {
                            continue;
                        };
                        match value {
                            Some(value) => topic.configs.insert(name, value),
                            None => topic.configs.remove(&name),
                        };
                    }
                    Ok(Record::ProducerIds { next, .. }) => {
                        self.next_producer = self.next_producer.max(next);
                    }
                    // Records of kinds that are not served here are passed over.
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }

    /// A topic is taken as a whole or not at all: nobody here could make up the missing records.
    fn check_whole(&mut self) {
        let left_out = &mut self.left_out;
        self.topics.retain(|name, topic| {
            let last = topic.partitions.keys().next_back().map_or(0, |last| last.0);
            let whole = topic.partitions.len() as i64 == i64::from(last) + 1;
            if !whole {
                let here = topic.partitions.len();
                left_out.push(format!(
                    "{name}: only {here} of at least {} partitions are here",
                    last + 1
                ));
            }
            whole
        });
    }
}

/// Kafka's checkpoint files: a version, a count, then `topic partition offset` lines.
fn offsets_of(path: &Path) -> BTreeMap<String, i64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().skip(2).filter_map(|line| {
        let (rest, offset) = line.rsplit_once(' ')?;
        let (topic, partition) = rest.rsplit_once(' ')?;
        Some((format!("{topic}-{partition}"), offset.parse().ok()?))
    });
    lines.collect()
}

/// The last of the `epoch offset` lines; 0 if there is none.
fn newest_epoch(path: &Path) -> LeaderEpoch {
    let text = fs::read_to_string(path).unwrap_or_default();
    let epochs = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split(' ').next()?.parse().ok());
    LeaderEpoch(epochs.max().unwrap_or(0))
}
