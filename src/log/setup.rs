//! The partition's directory and `partition.metadata`: made by the first write, not before.

use bytes::Bytes;

use crate::base::{DiskOp, TopicId};

use super::Log;
use super::ops::Job;

/// The name of the file that says whose the directory is.
pub const METADATA: &str = "partition.metadata";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Progress {
    #[default]
    Missing,
    UnderWay,
    Done,
}

/// How far the directory has come.
#[derive(Debug, Default)]
pub(super) struct Setup {
    directory: Progress,
    metadata: Progress,
}

impl Setup {
    /// What recovery found.
    pub(super) fn found(metadata: bool) -> Setup {
        let metadata = if metadata {
            Progress::Done
        } else {
            Progress::Missing
        };
        Setup {
            directory: Progress::Done,
            metadata,
        }
    }

    /// The directory is there.
    pub(super) fn is_made(&self) -> bool {
        self.directory == Progress::Done
    }

    pub(super) fn directory_made(&mut self) {
        self.directory = Progress::Done;
    }

    pub(super) fn directory_failed(&mut self) {
        self.directory = Progress::Missing;
    }

    pub(super) fn metadata_written(&mut self) {
        self.metadata = Progress::Done;
    }

    pub(super) fn metadata_failed(&mut self) {
        self.metadata = Progress::Missing;
    }
}

impl Log {
    /// True when the directory is there; otherwise it is under way.
    pub(super) fn directory_is_made(&mut self, out: &mut Vec<DiskOp>) -> bool {
        if self.setup.directory == Progress::Missing {
            self.setup.directory = Progress::UnderWay;
            let directory = self.directory.clone();
            out.push(DiskOp::MakeDirectory {
                id: self.ops.start(Job::Directory),
                directory,
            });
        }
        self.setup.directory == Progress::Done
    }

    /// True when `partition.metadata` is in place; otherwise it is under way.
    pub(super) fn metadata_is_written(&mut self, out: &mut Vec<DiskOp>) -> bool {
        if self.setup.metadata == Progress::Missing {
            self.setup.metadata = Progress::UnderWay;
            let file = self.directory.join(METADATA);
            let contents = metadata(self.topic);
            out.push(DiskOp::ReplaceFile {
                id: self.ops.start(Job::Metadata),
                file,
                contents,
            });
        }
        self.setup.metadata == Progress::Done
    }
}

/// The file's contents (apache/kafka `PartitionMetadataFile`).
fn metadata(topic: TopicId) -> Bytes {
    Bytes::from(format!("version: 0\ntopic_id: {topic}\n"))
}

/// The topic id in the file's contents; none if they are not of version 0.
pub fn topic_of(contents: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(contents).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(": "));
    let version = fields.next()?;
    let topic = fields.next()?;
    let known = version == ("version", "0") && topic.0 == "topic_id";
    known.then(|| topic.1.trim().parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_metadata_is_kafkas_two_lines_and_reads_back() {
        let topic = TopicId([7; 16]);
        let contents = metadata(topic);
        assert_eq!(
            &contents[..],
            format!("version: 0\ntopic_id: {topic}\n").as_bytes()
        );
        assert_eq!(topic_of(&contents), Some(topic));
        assert_eq!(
            topic_of(b"version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA\n"),
            None
        );
        assert_eq!(topic_of(b"\0\0\0"), None);
    }
}
