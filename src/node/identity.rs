//! What a data directory is: `meta.properties`, as Kafka keeps it, with our format's version.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::base::{BrokerId, TopicId};
use crate::rt::limits::random;
use crate::rt::properties::{list_names, read_properties, write_properties};

/// The version of everything that is written below a data directory. Counts up when an older
/// corelane could no longer read it: 2 has snapshots of the metadata, without which its log cannot be
/// understood, 3 may have journals, without which what was acknowledged last is not there, 4 has
/// entries in them that begin within a block. Older ones are read, and become ours with the first
/// start.
pub const FORMAT_VERSION: u32 = 4;

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

/// Why a data directory cannot be taken.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It cannot be read or written.
    Broken(io::Error),
    /// It is somebody else's, or damaged: one line that says what to do.
    Mistaken(String),
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
/// node's other directories.
pub(super) fn establish(
    directory: &Path,
    broker: BrokerId,
    cluster_id: Option<&str>,
) -> Result<Identity, Unfit> {
    let shown = directory.display();
    let path = directory.join(FILE);
    let found = match read_properties(&path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(Unfit::Mistaken(format!("{}: {error}", path.display())));
        }
        other => other?,
    };
    match found {
        Some(found) => {
            let identity = check(&found, &shown.to_string(), broker, cluster_id);
            let identity = identity.map_err(Unfit::Mistaken)?;
            if found
                .get(FORMAT)
                .is_some_and(|format| *format != FORMAT_VERSION.to_string())
            {
                write(&path, &identity)?;
            }
            Ok(identity)
        }
        None => {
            let names = list_names(directory)?;
            let foreign = names
                .iter()
                .find(|name| *name != ".lock" && *name != "lost+found");
            if let Some(name) = foreign {
                return Err(Unfit::Mistaken(format!(
                    "data directory {shown} is not empty ({name} is in it) and has no {FILE}: \
                     choose an empty one with --data-dir"
                )));
            }
            Ok(make_ours(directory, broker, cluster_id)?)
        }
    }
}

/// Writes who the directory belongs to: the node `broker` of the cluster, or of a new one.
pub fn make_directory_ours(
    directory: &Path,
    broker: BrokerId,
    cluster_id: Option<&str>,
) -> Result<Identity, String> {
    let made = make_ours(directory, broker, cluster_id);
    made.map_err(|error| {
        format!(
            "{} cannot be written: {error}",
            directory.join(FILE).display()
        )
    })
}

fn make_ours(directory: &Path, broker: BrokerId, cluster_id: Option<&str>) -> io::Result<Identity> {
    let identity = Identity {
        cluster_id: cluster_id.map_or_else(|| new_uuid().to_string(), str::to_owned),
        broker,
        directory: new_uuid(),
    };
    write(&directory.join(FILE), &identity)?;
    Ok(identity)
}

fn write(path: &Path, identity: &Identity) -> io::Result<()> {
    let lines = [
        ("version", "1".to_owned()),
        ("cluster.id", identity.cluster_id.clone()),
        ("node.id", identity.broker.to_string()),
        ("directory.id", identity.directory.to_string()),
        (FORMAT, FORMAT_VERSION.to_string()),
    ];
    let lines = lines.map(|(key, value)| (key.to_owned(), value)).into();
    write_properties(path, &lines)
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
        Ok(1..=FORMAT_VERSION) => {}
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

    fn refusal(directory: &Path, broker: i32, cluster: Option<&str>) -> String {
        match establish(directory, BrokerId(broker), cluster) {
            Err(Unfit::Mistaken(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn an_empty_directory_becomes_ours_and_is_known_again() {
        let directory = directory();
        let first = establish(directory.path(), BrokerId(1), None).expect("an empty directory");
        let again = establish(directory.path(), BrokerId(1), None).expect("ours");
        assert_eq!(again, first);
    }

    #[test]
    fn a_directory_of_an_older_format_becomes_one_of_this_format() {
        let directory = directory();
        let first = establish(directory.path(), BrokerId(1), None).expect("an empty directory");
        let path = directory.path().join(FILE);
        let mut lines = read_properties(&path).expect("readable").expect("there");
        lines.insert(FORMAT.to_owned(), "1".to_owned());
        write_properties(&path, &lines).expect("writable");
        let again = establish(directory.path(), BrokerId(1), None).expect("an older one");
        assert_eq!(again, first);
        let lines = read_properties(&path).expect("readable").expect("there");
        assert_eq!(lines.get(FORMAT), Some(&FORMAT_VERSION.to_string()));
    }

    #[test]
    fn another_nodes_another_clusters_and_a_newer_directory_are_refused() {
        let directory = directory();
        establish(directory.path(), BrokerId(1), None).expect("an empty directory");
        let other_node = refusal(directory.path(), 2, None);
        assert!(other_node.contains("belongs to node 1"), "{other_node}");
        let other = refusal(directory.path(), 1, Some("other"));
        assert!(other.contains("belongs to cluster"), "{other}");
        let path = directory.path().join(FILE);
        let mut lines = read_properties(&path).expect("readable").expect("there");
        lines.insert(FORMAT.to_owned(), "99".to_owned());
        write_properties(&path, &lines).expect("writable");
        let newer = refusal(directory.path(), 1, None);
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
        let refused = refusal(kafkas.path(), 1, None);
        assert!(refused.contains("belongs to Apache Kafka"), "{refused}");
        let full = directory();
        write_properties(&full.path().join("photos.zip"), &BTreeMap::new()).expect("writable");
        let refused = refusal(full.path(), 1, None);
        assert!(refused.contains("is not empty"), "{refused}");
    }
}
