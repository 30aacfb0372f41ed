//! What a data directory is: `meta.properties`, as Kafka keeps it, with our format's version.

use std::collections::BTreeMap;
use std::path::Path;

use crate::base::{BrokerId, TopicId};
use crate::rt::limits::random;
use crate::rt::properties::{list_names, read_properties, write_properties};

/// The version of everything that is written below a data directory. Counts up when an older
/// corelane could no longer read it.
pub const FORMAT_VERSION: u32 = 1;

const FILE: &str = "meta.properties";
/// Marks a directory as ours: Kafka's own have the other lines only.
const FORMAT: &str = "corelane.format";

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, a UUID in Kafka's text form.
    pub cluster_id: String,
    /// The broker.
    pub broker: BrokerId,
    /// The directory's own UUID (KIP-858).
    pub directory: TopicId,
}

/// A UUID of version 4 whose text form does not begin with a dash, which tools would take for an
/// option (apache/kafka `Uuid.randomUuid`).
pub fn new_uuid() -> TopicId {
    loop {
        let mut bytes: [u8; 16] = random();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let id = TopicId(bytes);
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

/// Reads who the directory belongs to, or makes it ours if it is empty. `cluster_id`: that of the
/// node's other directories. An error is one line that says what is wrong and what to do.
pub fn establish(
    directory: &Path,
    broker: BrokerId,
    cluster_id: Option<&str>,
) -> Result<Identity, String> {
    let shown = directory.display();
    let path = directory.join(FILE);
    let found = read_properties(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match found {
        Some(found) => check(&found, &shown.to_string(), broker, cluster_id),
        None => {
            let names = list_names(directory).map_err(|error| format!("{shown}: {error}"))?;
            let foreign = names
                .iter()
                .find(|name| *name != ".lock" && *name != "lost+found");
            if let Some(name) = foreign {
                return Err(format!(
                    "data directory {shown} is not empty ({name} is in it) and has no {FILE}: \
                     choose an empty one with --data-dir"
                ));
            }
            make_directory_ours(directory, broker, cluster_id)
        }
    }
}

/// Writes who the directory belongs to: the node `broker` of the cluster, or of a new one.
pub fn make_directory_ours(
    directory: &Path,
    broker: BrokerId,
    cluster_id: Option<&str>,
) -> Result<Identity, String> {
    let path = directory.join(FILE);
    let identity = Identity {
        cluster_id: cluster_id.map_or_else(|| new_uuid().to_string(), str::to_owned),
        broker,
        directory: new_uuid(),
    };
    let lines = [
        ("version", "1".to_owned()),
        ("cluster.id", identity.cluster_id.clone()),
        ("node.id", broker.to_string()),
        ("directory.id", identity.directory.to_string()),
        (FORMAT, FORMAT_VERSION.to_string()),
    ];
    let lines = lines.map(|(key, value)| (key.to_owned(), value)).into();
    write_properties(&path, &lines)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(identity)
}

fn check(
    found: &BTreeMap<String, String>,
    shown: &str,
    broker: BrokerId,
    cluster_id: Option<&str>,
) -> Result<Identity, String> {
    let get = |key: &str| found.get(key).map(String::as_str);
    let Some(format) = get(FORMAT) else {
        return Err(format!(
            "data directory {shown} belongs to Apache Kafka: choose another with --data-dir"
        ));
    };
    match format.parse::<u32>() {
        Ok(FORMAT_VERSION) => {}
        Ok(newer) if newer > FORMAT_VERSION => {
            return Err(format!(
                "data directory {shown} has format {newer}, this corelane knows {FORMAT_VERSION}: \
                 run the corelane that wrote it, or a later one"
            ));
        }
        Ok(_) | Err(_) => {
            return Err(format!(
                "data directory {shown} has the unknown format {format:?}: restore its {FILE}"
            ));
        }
    }
    let node = get("node.id").unwrap_or_default();
    if node != broker.to_string() {
        return Err(format!(
            "data directory {shown} belongs to node {node}, this is node {broker}: \
             set node.id={node}, or choose another with --data-dir"
        ));
    }
    let cluster = get("cluster.id").unwrap_or_default();
    if let Some(other) = cluster_id.filter(|other| *other != cluster) {
        return Err(format!(
            "data directory {shown} belongs to cluster {cluster}, the first one to {other}: \
             all data directories of a node belong to one cluster"
        ));
    }
    let directory = get("directory.id").and_then(|id| id.parse().ok());
    match directory {
        Some(directory) if !cluster.is_empty() => Ok(Identity {
            cluster_id: cluster.to_owned(),
            broker,
            directory,
        }),
        _ => Err(format!(
            "data directory {shown} has a damaged {FILE}: restore it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn an_empty_directory_becomes_ours_and_is_known_again() {
        let directory = directory();
        let first = establish(directory.path(), BrokerId(1), None).expect("an empty directory");
        assert_eq!(establish(directory.path(), BrokerId(1), None), Ok(first));
    }

    #[test]
    fn another_nodes_another_clusters_and_a_newer_directory_are_refused() {
        let directory = directory();
        establish(directory.path(), BrokerId(1), None).expect("an empty directory");
        let other_node = establish(directory.path(), BrokerId(2), None).expect_err("node 1's");
        assert!(other_node.contains("belongs to node 1"), "{other_node}");
        let other = establish(directory.path(), BrokerId(1), Some("other")).expect_err("not its");
        assert!(other.contains("belongs to cluster"), "{other}");
        let path = directory.path().join(FILE);
        let mut lines = read_properties(&path).expect("readable").expect("there");
        lines.insert(FORMAT.to_owned(), "99".to_owned());
        write_properties(&path, &lines).expect("writable");
        let newer = establish(directory.path(), BrokerId(1), None).expect_err("newer");
        assert!(newer.contains("has format 99"), "{newer}");
    }

    #[test]
    fn kafkas_directory_and_one_with_other_files_are_refused() {
        let kafkas = directory();
        let lines = [("version", "1"), ("cluster.id", "x"), ("node.id", "1")];
        let lines = lines
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        write_properties(&kafkas.path().join(FILE), &lines).expect("writable");
        let refused = establish(kafkas.path(), BrokerId(1), None).expect_err("Kafka's");
        assert!(refused.contains("belongs to Apache Kafka"), "{refused}");
        let full = directory();
        write_properties(&full.path().join("photos.zip"), &BTreeMap::new()).expect("writable");
        let refused = establish(full.path(), BrokerId(1), None).expect_err("somebody's");
        assert!(refused.contains("is not empty"), "{refused}");
    }
}
