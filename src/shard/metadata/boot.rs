//! The start of the metadata on core 0: its log is replayed, the directories on the disks are held
//! against it, and the first image goes out.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{
    CoreId, DirectoryEntry, DiskDone, DiskFault, DiskOp, DiskOutput, FilePath, Now, Offset, OpId,
    TopicId,
};
use crate::cluster::Record;
use crate::log::{DELETED_SUFFIX, Read, STRAY_SUFFIX, Slice, moved_away_name};
use crate::record::Batches;
use crate::shard::core::Core;
use crate::shard::journal::Replay;
use crate::shard::lifecycle::{directory_name, parse_directory_name};
use crate::shard::message::{Effects, Found, PeerMessage};

use super::{Asker, BOOT_OWNER, METADATA_DIRECTORY, Metadata, Stage, snapshot};

/// How many bytes of the metadata log are replayed at a time.
const REPLAY_BYTES: usize = 1 << 20;
/// The number of the operations that remove what is left of deleted topics, whatever becomes of them.
const REMOVALS: u32 = u32::MAX;

impl Metadata {
    /// The log is open: what lies before it is in a snapshot, if there is one.
    pub(super) fn look_for_snapshots(&mut self, disk: &mut Vec<DiskOp>) {
        self.stage = Stage::Listing;
        disk.push(DiskOp::List {
            id: self.boot_id(),
            directory: FilePath::new(0, METADATA_DIRECTORY),
        });
    }

    fn boot_id(&self) -> OpId {
        OpId {
            owner: BOOT_OWNER,
            sequence: u32::from(self.disks),
        }
    }

    /// A step of the snapshot's loading is done; true when the log can be replayed. An error is
    /// metadata that is not all there.
    fn load_snapshot(
        &mut self,
        result: Result<DiskOutput, DiskFault>,
        disk: &mut Vec<DiskOp>,
    ) -> Result<bool, String> {
        let mut candidates = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Loading(candidates) => candidates,
            _ => {
                let entries = match result {
                    Ok(DiskOutput::Entries(entries)) => entries,
                    Ok(_) => Vec::new(),
                    Err(fault) => return Err(fault.to_string()),
                };
                let found = self.snapshots.found(&entries);
                return self.read_snapshot(found.into(), None, disk);
            }
        };
        let Some((end, file)) = candidates.pop_front() else {
            return Err("a snapshot that nobody asked for".to_owned());
        };
        let decoded = match result {
            Ok(DiskOutput::Contents(contents)) => {
                snapshot::decode(&contents, end).map(|image| (image, contents.len()))
            }
            Ok(_) => Err("it cannot be read".to_owned()),
            Err(fault) => Err(fault.to_string()),
        };
        match decoded {
            Ok((image, size)) => {
                if end > self.log.end_offset() {
                    let log_end = self.log.end_offset();
                    return Err(format!(
                        "{file} ends at offset {end}, but the log at {log_end} already"
                    ));
                }
                self.image = image;
                let others = candidates.into_iter().map(|(_, file)| file);
                self.snapshots.chosen(Some(file), size, others);
                self.stage = Stage::Replaying(end.max(self.log.start_offset()));
                Ok(true)
            }
            // An older one will do, or none, as long as the log has what follows it.
            Err(why) => self.read_snapshot(candidates, Some(format!("{file}: {why}")), disk),
        }
    }

    fn read_snapshot(
        &mut self,
        candidates: VecDeque<(Offset, FilePath)>,
        why: Option<String>,
        disk: &mut Vec<DiskOp>,
    ) -> Result<bool, String> {
        let start = self.log.start_offset();
        match candidates.front() {
            Some((end, file)) if *end >= start => {
                disk.push(DiskOp::ReadFile {
                    id: self.boot_id(),
                    file: file.clone(),
                    limit: snapshot::BYTES_MAX,
                });
                self.stage = Stage::Loading(candidates);
                Ok(false)
            }
            _ if start == Offset(0) => {
                self.stage = Stage::Replaying(start);
                Ok(true)
            }
            _ => Err(why.unwrap_or_else(|| {
                format!("the log begins at offset {start}, and no snapshot tells what was before")
            })),
        }
    }

    /// Applies what the log holds, from where the last call stopped; false while the disk is busy
    /// for it. An error is a log that cannot be believed.
    fn replay(&mut self, disk: &mut Vec<DiskOp>) -> Result<bool, String> {
        loop {
            let Stage::Replaying(from) = self.stage else {
                return Ok(true);
            };
            let end = self.log.committed_end();
            if from >= end {
                return Ok(true);
            }
            match self.log.read_memory(from, end, REPLAY_BYTES) {
                Read::Slices(slices) => {
                    let mut next = from;
                    for slice in &slices {
                        let Slice::Memory(bytes) = slice else {
                            continue;
                        };
                        next = self.replay_batches(bytes, next)?;
                    }
                    if next <= from {
                        return Err(format!("no record can be read at offset {from}"));
                    }
                    self.stage = Stage::Replaying(next);
                }
                Read::Fill(range) => {
                    self.log.fill(range, disk);
                    return Ok(false);
                }
                Read::Nothing | Read::BelowStart | Read::AboveEnd | Read::Fenced => {
                    return Err(format!("no record can be read at offset {from}"));
                }
            }
        }
    }

    pub(super) fn replay_batches(&mut self, bytes: &[u8], from: Offset) -> Result<Offset, String> {
        let mut next = from;
        for batch in Batches::new(bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            batch.verify().map_err(|error| error.to_string())?;
            let mut scratch = std::mem::take(&mut self.scratch);
            let records = batch.records(&mut scratch, REPLAY_BYTES * 64);
            for record in records.map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                if record.offset < from {
                    continue;
                }
                let value = record.value.unwrap_or_default();
                let decoded = Record::decode(value)
                    .map_err(|error| format!("record at offset {}: {error}", record.offset))?;
                self.apply(record.offset, &decoded)?;
            }
            next = batch.header.last_offset().plus(1);
            self.snapshots.count(batch.bytes.len());
            self.scratch = scratch;
        }
        Ok(next)
    }

    pub(super) fn apply(&mut self, offset: Offset, record: &Record) -> Result<(), String> {
        if let Record::RemoveTopic { id } = record {
            self.deleted.insert(*id);
            if let Some(topic) = self.image.topic_by_id(*id) {
                self.deleted_names.insert(topic.name.to_string());
            }
        }
        if let Record::Topic { name, .. } = record {
            self.deleted_names.remove(name);
        }
        self.image
            .apply(offset, record)
            .map_err(|error| format!("record at offset {offset}: {error}"))
    }

    /// All directories are listed: which of the places that a partition was found in is the one?
    /// That which its record names. If that directory is here and has nothing, somebody has moved
    /// the files; if it is not here, the partition is offline, and what another one has of it is
    /// left as it is. Returns how many operations follow.
    fn choose(&mut self, out: &mut Vec<DiskOp>) -> usize {
        let id = self.boot_id();
        let mut operations = 0;
        for (name, mut disks) in std::mem::take(&mut self.found) {
            disks.sort_unstable();
            let partition = parse_directory_name(&name)
                .and_then(|(topic, index)| self.image.topic(topic)?.partition(index));
            let named = partition.and_then(|partition| partition.directory_on(self.broker));
            let mut here = self.directory_ids.iter();
            let named =
                named.map(|named| here.find(|(_, id)| **id == named).map(|(disk, _)| *disk));
            let chosen = match named {
                Some(None) => continue,
                Some(Some(disk)) if disks.contains(&disk) => disk,
                Some(Some(_)) | None => disks[0],
            };
            for disk in disks.into_iter().filter(|disk| *disk != chosen) {
                let from = FilePath::new(disk, &name);
                let to = FilePath::new(disk, &format!("{name}{STRAY_SUFFIX}"));
                out.push(DiskOp::Rename { id, from, to });
                operations += 1;
            }
            self.directories.insert(name, chosen);
        }
        for directory in std::mem::take(&mut self.removals) {
            out.push(DiskOp::RemoveDirectory {
                id: OpId {
                    owner: BOOT_OWNER,
                    sequence: REMOVALS,
                },
                directory,
            });
            operations += 1;
        }
        operations
    }

    /// Every partition is given the data directory that it was found in, once for all.
    fn assign_directories(&self) -> Vec<Record> {
        let here: Vec<TopicId> = self.directory_ids.values().copied().collect();
        let all_here = here.len() == usize::from(self.disks);
        let controller = &self.controller;
        controller.assign_directories(&self.image, &here, all_here, |topic, index| {
            let disk = self.directories.get(&directory_name(topic, index))?;
            self.directory_ids.get(disk).copied()
        })
    }

    /// Asks what is on the data directories that are there.
    fn list_directories(&mut self, disks: &[u16], out: &mut Vec<DiskOp>) {
        self.stage = Stage::SortingOut(disks.len());
        for disk in disks {
            let id = OpId {
                owner: BOOT_OWNER,
                sequence: u32::from(*disk),
            };
            let directory = FilePath::new(*disk, "");
            out.push(DiskOp::List { id, directory });
        }
    }

    /// What is on the data directories goes where it belongs: partitions are noted, deleted ones
    /// renamed, to be removed when all names are in order, strays renamed. Returns how many
    /// operations that takes.
    fn sort_out(&mut self, disk: u16, entries: &[DirectoryEntry], out: &mut Vec<DiskOp>) -> usize {
        let mut operations = 0;
        let id = self.boot_id();
        for entry in entries.iter().filter(|entry| entry.is_directory) {
            let path = FilePath::new(disk, &entry.name);
            if entry.name == METADATA_DIRECTORY || entry.name.ends_with(STRAY_SUFFIX) {
                continue;
            }
            if entry.name.ends_with(DELETED_SUFFIX) {
                self.removals.push(path);
                continue;
            }
            let Some((topic, partition)) = parse_directory_name(&entry.name) else {
                continue;
            };
            let live = self
                .image
                .topic(topic)
                .and_then(|topic| topic.partition(partition));
            if live.is_some() {
                let found = self.found.entry(entry.name.clone()).or_default();
                found.push(disk);
            } else {
                // Not removed under this name: a removal that a crash cuts short may leave segments
                // that say nothing of whose they are, and the name may be wanted again.
                let deleted = self.deleted_names.contains(topic);
                let suffix = if deleted {
                    DELETED_SUFFIX
                } else {
                    STRAY_SUFFIX
                };
                let to = FilePath::new(disk, &free_name(&entry.name, suffix, entries));
                if deleted {
                    self.removals.push(to.clone());
                }
                out.push(DiskOp::Rename { id, from: path, to });
                operations += 1;
            }
        }
        operations
    }
}

/// Another name for a partition's directory, which none of the others has.
fn free_name(directory: &str, suffix: &str, entries: &[DirectoryEntry]) -> String {
    let mut names =
        (0..).map(|number: u32| moved_away_name(directory, &number.to_string(), suffix));
    let free = |name: &String| entries.iter().all(|entry| entry.name != *name);
    names
        .find(free)
        .expect("there are more numbers than entries")
}

impl Core {
    pub(super) fn replay_metadata(&mut self, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        match metadata.replay(&mut effects.disk) {
            Ok(false) => {}
            Ok(true) => {
                metadata.stage = Stage::BringingHome;
                let replay = Replay::new(BOOT_OWNER, &self.setup.disks_here(), &mut effects.disk);
                metadata.replay = Some(replay);
            }
            Err(why) => {
                metadata.stage = Stage::Failed;
                effects.fatal = Some(format!("the metadata log cannot be replayed: {why}"));
            }
        }
    }

    /// The outcome of something core 0 did before its first image.
    pub(in crate::shard) fn boot_disk(&mut self, now: Now, done: DiskDone, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        if let Some(replay) = &mut metadata.replay {
            if replay.step(done, &mut effects.disk) {
                self.journals.replayed = replay.images;
                metadata.unreplayed = std::mem::take(&mut replay.failed);
                metadata.replay = None;
                match metadata.unreplayed.get(&0) {
                    None => metadata.list_directories(&self.setup.disks_here(), &mut effects.disk),
                    // The metadata lives there: without that directory there is no start.
                    Some(fault) => {
                        let why = format!("a journal cannot be replayed: {fault}");
                        metadata.stage = Stage::Failed;
                        effects.fatal = Some(why);
                    }
                }
            }
            return;
        }
        if matches!(metadata.stage, Stage::Listing | Stage::Loading(_)) {
            match metadata.load_snapshot(done.result, &mut effects.disk) {
                Ok(true) => self.replay_metadata(effects),
                Ok(false) => {}
                Err(why) => {
                    metadata.stage = Stage::Failed;
                    effects.fatal = Some(format!("the metadata cannot be read: {why}"));
                }
            }
            return;
        }
        let Stage::SortingOut(outstanding) = metadata.stage else {
            return;
        };
        let mut outstanding = outstanding - 1;
        match done.result {
            Ok(DiskOutput::Entries(entries)) => {
                let disk = done.id.sequence as u16;
                outstanding += metadata.sort_out(disk, &entries, &mut effects.disk);
            }
            Ok(_) => {}
            // The next start tries again.
            Err(_) if done.id.sequence == REMOVALS => {}
            Err(fault) => {
                metadata.stage = Stage::Failed;
                effects.fatal = Some(fault.to_string());
                return;
            }
        }
        if outstanding == 0 {
            outstanding = metadata.choose(&mut effects.disk);
        }
        metadata.stage = Stage::SortingOut(outstanding);
        if outstanding == 0 {
            metadata.stage = Stage::Serving;
            self.begin_serving(now, effects);
        }
    }

    /// The log is replayed and the disks are in order: what this broker has to say of itself goes
    /// into the log, and the first image goes out.
    fn begin_serving(&mut self, now: Now, effects: &mut Effects) {
        let registration = self.setup.registration.clone();
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        if metadata.closing {
            // Told to stop before it could serve: its log takes no records any more.
            return;
        }
        // What a crash kept the last snapshot from.
        if let Some(end) = metadata.snapshots.end() {
            metadata.begin_log_at(end, &mut effects.disk);
        }
        let mut decision = metadata.controller.start(registration, &metadata.image);
        decision.records.append(&mut metadata.assign_directories());
        if metadata.commit(now, Asker::Start, decision).is_err() {
            metadata.stage = Stage::Failed;
            effects.fatal = Some("the metadata log takes no records".to_owned());
            return;
        }
        // Nobody is promised these records, each start writes them anew, and whatever is promised
        // later lies behind them in the log: they are in force before they are durable.
        if let Some(commit) = metadata.committing.take() {
            metadata.apply_commit(&commit);
        }
        // Before anybody opens a log there, without what only the journal has.
        let unreplayed = std::mem::take(&mut metadata.unreplayed);
        let directories = &mut metadata.directories;
        directories.retain(|_, disk| !unreplayed.contains_key(disk));
        for (disk, fault) in unreplayed {
            self.volume_failed(now, disk, &fault, effects);
            self.tell_others(&PeerMessage::VolumeFailed { disk, fault }, effects);
        }
        self.first_image(effects);
    }

    pub(super) fn first_image(&mut self, effects: &mut Effects) {
        let Some(metadata) = &mut self.metadata else {
            return;
        };
        metadata.version = 1;
        let found = Arc::new(Found {
            directories: std::mem::take(&mut metadata.directories),
            deleted: std::mem::take(&mut metadata.deleted),
        });
        let image = Arc::new(metadata.image.clone());
        for core in 0..metadata.cores {
            effects.peers.push((
                CoreId(core),
                PeerMessage::Image {
                    version: 1,
                    image: image.clone(),
                    records: Arc::default(),
                    found: Some(found.clone()),
                },
            ));
        }
    }
}
