//! Snapshots of the metadata: all that the log says below an offset, in one file beside it, so that
//! the log may begin there. Named and written as KRaft's (KIP-630), so that Kafka's tools read them.
//!
//! ```text
//! __cluster_metadata-0/<end offset, 20 digits>-<epoch, 10 digits>.checkpoint
//!   control batch: SnapshotHeader
//!   batches of the records that make the image, offsets from 0
//!   control batch: SnapshotFooter
//! ```
//!
//! Each batch has its CRC; what the CRC does not cover, the base offset, is held against the chain; a
//! file without its footer is not whole. Order: the snapshot is durable under its name, then the
//! log's start moves to its end, then older snapshots go. A crash anywhere leaves a snapshot that
//! ends at or behind the log's start, or a log that begins at 0.

use bytes::Bytes;

use crate::base::{DirectoryEntry, DiskDone, DiskOp, DiskOutput, FilePath, Now, Offset, OpId};
use crate::cluster::{Image, Record};
use crate::record::{BatchBuilder, Batches, Codec, ControlKind, Scratch};
use crate::shard::core::Core;
use crate::shard::message::Effects;

use super::{EPOCH, METADATA_DIRECTORY, Metadata, Stage};

/// The owner of what is done with snapshots once the broker serves.
pub(in crate::shard) const SNAPSHOT_OWNER: u32 = u32::MAX - 3;
/// The sequence of a snapshot's write; removals have another.
const WRITE: u32 = 0;
const REMOVAL: u32 = 1;
/// What the files' names end in.
const SUFFIX: &str = ".checkpoint";
/// The largest snapshot that is read, in bytes.
pub(super) const BYTES_MAX: usize = 1 << 30;
/// Records go into batches of about so many bytes.
const BATCH_BYTES: usize = 64 << 10;
/// The most bytes that one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 64 << 20;

/// What is known of the snapshots beside the log.
#[derive(Debug)]
pub(super) struct Snapshots {
    /// A snapshot is due when so many bytes of records were appended since the last one.
    every_bytes: u64,
    /// Bytes of records since the last one.
    since: u64,
    /// Bytes of the last one: the next one comes no sooner than as many bytes of records.
    size: u64,
    /// The file in force.
    current: Option<FilePath>,
    /// Files that are of no use any more.
    stale: Vec<FilePath>,
    /// The one that is being written.
    writing: Option<(Offset, FilePath)>,
}

impl Snapshots {
    pub(super) fn new(every_bytes: u64) -> Snapshots {
        Snapshots {
            every_bytes,
            since: 0,
            size: 0,
            current: None,
            stale: Vec::new(),
            writing: None,
        }
    }

    /// Records of so many bytes lie behind the last snapshot.
    pub(super) fn count(&mut self, bytes: usize) {
        self.since += bytes as u64;
    }

    /// Where the one in force ends.
    pub(super) fn end(&self) -> Option<Offset> {
        end_of(self.current.as_ref()?.name())
    }

    fn is_due(&self) -> bool {
        self.writing.is_none() && self.since >= self.every_bytes.max(self.size)
    }

    /// Those found beside the log, the newest first; what a crash left of others is to be removed.
    pub(super) fn found(&mut self, entries: &[DirectoryEntry]) -> Vec<(Offset, FilePath)> {
        let mut found = Vec::new();
        for entry in entries.iter().filter(|entry| !entry.is_directory) {
            let file = FilePath::new(0, METADATA_DIRECTORY).join(&entry.name);
            match end_of(&entry.name) {
                Some(end) => found.push((end, file)),
                None if entry.name.contains(SUFFIX) => self.stale.push(file),
                None => {}
            }
        }
        found.sort();
        found.reverse();
        found
    }

    /// This one is in force, those are not.
    pub(super) fn chosen(
        &mut self,
        file: Option<FilePath>,
        size: usize,
        others: impl Iterator<Item = FilePath>,
    ) {
        self.current = file;
        self.size = size as u64;
        self.stale.extend(others);
    }
}

fn name(end: Offset) -> String {
    format!("{:020}-{:010}{SUFFIX}", end.0, EPOCH.0)
}

/// The offset at which the snapshot of this name ends.
fn end_of(name: &str) -> Option<Offset> {
    let (end, epoch) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(end, 20) && digits(epoch, 10)).then(|| end.parse().ok().map(Offset))?
}

/// The file's contents; `timestamp` in milliseconds since the Unix epoch.
fn encode(image: &Image, timestamp: i64) -> Bytes {
    let mut bytes = Vec::new();
    let mut next = Offset(0);
    let mut batch = begin(next, false);
    // SnapshotHeaderRecord 0: version i16, timestamp of the last record i64, no tagged fields.
    let mut header = vec![0, 0];
    header.extend_from_slice(&timestamp.to_be_bytes());
    header.push(0);
    let mut take = |batch: BatchBuilder, next: &mut Offset| {
        *next = next.plus(i64::from(batch.record_count()));
        bytes.extend_from_slice(&batch.finish());
    };
    let mut control = begin(next, true);
    let key = ControlKind::SnapshotHeader.encode_key();
    control.append(timestamp, Some(&key), Some(&header), &[]);
    take(control, &mut next);
    for record in image.to_records() {
        if batch.record_count() == 0 {
            batch = begin(next, false);
        }
        batch.append(timestamp, None, Some(&record.encode()), &[]);
        if batch.size() >= BATCH_BYTES {
            take(std::mem::replace(&mut batch, begin(next, false)), &mut next);
        }
    }
    if batch.record_count() > 0 {
        take(batch, &mut next);
    }
    let mut control = begin(next, true);
    let key = ControlKind::SnapshotFooter.encode_key();
    // SnapshotFooterRecord 0: version i16, no tagged fields.
    control.append(timestamp, Some(&key), Some(&[0, 0, 0]), &[]);
    take(control, &mut next);
    Bytes::from(bytes)
}

fn begin(base: Offset, control: bool) -> BatchBuilder {
    let batch = BatchBuilder::new(Codec::None).base_offset(base);
    batch.leader_epoch(EPOCH).control(control)
}

/// The image that a snapshot makes, as of `end`. An error says why it cannot be believed.
pub(super) fn decode(bytes: &[u8], end: Offset) -> Result<Image, String> {
    let mut image = Image::default();
    let mut scratch = Scratch::new();
    let mut next = Offset(0);
    let mut whole = false;
    for batch in Batches::new(bytes) {
        let batch = batch.map_err(|error| error.to_string())?;
        batch.verify().map_err(|error| error.to_string())?;
        if whole || batch.header.base_offset != next {
            return Err(format!("a batch at offset {next} is out of place"));
        }
        let records = batch.records(&mut scratch, UNPACKED_BYTES_MAX);
        for record in records.map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            if batch.header.is_control() {
                match ControlKind::decode_key(record.key) {
                    Some(ControlKind::SnapshotHeader) if next == Offset(0) => {}
                    Some(ControlKind::SnapshotFooter) if next > Offset(0) => whole = true,
                    _ => return Err(format!("a strange control record at offset {next}")),
                }
            } else {
                let record = Record::decode(record.value.unwrap_or_default())
                    .map_err(|error| format!("record at offset {next}: {error}"))?;
                let applied = image.apply(next, &record);
                applied.map_err(|error| format!("record at offset {next}: {error}"))?;
            }
            next = next.plus(1);
        }
    }
    if !whole {
        return Err("its end is missing".to_owned());
    }
    // What it was taken at, so that whoever asks how far the image goes is told.
    let taken = image.apply(end.plus(-1), &Record::NoOp);
    taken.map_err(|error| error.to_string())?;
    Ok(image)
}

impl Metadata {
    /// True while no change may be decided: a snapshot is due, and waits for those under way.
    pub(super) fn snapshot_is_due(&self) -> bool {
        self.stage == Stage::Serving && !self.closing && self.snapshots.is_due()
    }

    /// Every change that was decided is durable and in force everywhere: what deleted topics left
    /// is out of the way, so that nobody needs to know their names any more.
    fn is_quiet(&self) -> bool {
        let applied = self.image.applied();
        self.version > 0
            && self.committing.is_none()
            && self.rounds.is_empty()
            && applied.is_some_and(|applied| applied < self.log.committed_end())
    }

    /// Begins a snapshot if one is due and nothing is under way.
    pub(super) fn snapshot_if_due(&mut self, now: Now, disk: &mut Vec<DiskOp>) {
        if !self.snapshot_is_due() || !self.is_quiet() {
            return;
        }
        let Some(end) = self.image.applied().map(|applied| applied.plus(1)) else {
            return;
        };
        let contents = encode(&self.image, now.wall.0);
        let file = FilePath::new(0, METADATA_DIRECTORY).join(&name(end));
        self.snapshots.since = 0;
        self.snapshots.size = contents.len() as u64;
        self.snapshots.writing = Some((end, file.clone()));
        disk.push(DiskOp::ReplaceFile {
            id: id(WRITE),
            file,
            contents,
        });
    }

    /// The log begins where the snapshot ends, and what is of no use any more goes.
    pub(super) fn begin_log_at(&mut self, end: Offset, disk: &mut Vec<DiskOp>) {
        if self.closing {
            return;
        }
        self.log.raise_start_offset(end, disk);
        for file in self.snapshots.stale.drain(..) {
            disk.push(DiskOp::Remove {
                id: id(REMOVAL),
                file,
            });
        }
    }
}

impl Core {
    /// The outcome of a snapshot's write, or of an old one's removal, which nobody waits for.
    pub(in crate::shard) fn snapshot_disk(
        &mut self,
        now: Now,
        done: DiskDone,
        effects: &mut Effects,
    ) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        if done.id.sequence != WRITE {
            return;
        }
        let Some((end, file)) = metadata.snapshots.writing.take() else {
            return;
        };
        match done.result {
            Ok(DiskOutput::Done) => {
                let before = metadata.snapshots.current.replace(file);
                metadata.snapshots.stale.extend(before);
                metadata.begin_log_at(end, &mut effects.disk);
                self.schedule_metadata();
                self.decide(now, effects);
            }
            // The log has all of it: tried again when it has grown by a quarter more.
            _ => {
                let every = metadata.snapshots.every_bytes;
                metadata.snapshots.since = every.max(metadata.snapshots.size) - every / 4;
            }
        }
    }
}

fn id(sequence: u32) -> OpId {
    OpId {
        owner: SNAPSHOT_OWNER,
        sequence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{PartitionIndex, TopicId};
    use crate::cluster::records::NewPartition;

    fn image(topics: u8) -> Image {
        let mut image = Image::default();
        let mut offset = Offset(0);
        let mut apply = |record: &Record| {
            image.apply(offset, record).expect("it fits");
            offset = offset.plus(1);
        };
        for number in 0..topics {
            let id = TopicId([number + 1; 16]);
            apply(&Record::Topic {
                name: format!("topic.{number}"),
                id,
            });
            for index in 0..20 {
                apply(&Record::Partition(NewPartition {
                    leader_epoch: crate::base::LeaderEpoch(3),
                    partition_epoch: 7,
                    directories: vec![TopicId([9; 16])],
                    ..NewPartition::on(crate::base::BrokerId(1), id, PartitionIndex(index))
                }));
            }
        }
        image
    }

    #[test]
    fn a_snapshot_makes_the_same_image_again() {
        for topics in [0, 1, 100] {
            let before = image(topics);
            let bytes = encode(&before, 5);
            let after = decode(&bytes, Offset(12_345)).expect("whole");
            assert!(after == before);
            assert_eq!(after.applied(), Some(Offset(12_344)));
        }
    }

    #[test]
    fn a_snapshot_that_was_cut_or_garbled_anywhere_is_not_believed() {
        let bytes = encode(&image(2), 5);
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], Offset(9)).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut garbled = bytes.to_vec();
            garbled[at] ^= 0x41;
            let believed = decode(&garbled, Offset(9));
            // The leader epoch, 12 to 16 in each batch, is neither protected nor looked at.
            assert!(
                believed.is_err() || believed.is_ok_and(|after| after == image(2)),
                "garbled at {at}"
            );
        }
    }

    #[test]
    fn names_are_krafts() {
        assert_eq!(
            name(Offset(4711)),
            "00000000000000004711-0000000001.checkpoint"
        );
        assert_eq!(end_of(&name(Offset(4711))), Some(Offset(4711)));
        for other in [
            "checkpoint",
            "00000000000000004711.log",
            "4711-1.checkpoint",
            "00000000000000004711-0000000001.checkpoint.tmp",
        ] {
            assert_eq!(end_of(other), None);
        }
    }
}
