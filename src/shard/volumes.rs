//! The data directories as one core sees them: which are short of space, which have failed, and
//! which logs wait to be opened again.
//!
//! A directory is short when nothing is left but its reserve. Then its logs refuse clients' records
//! (committed offsets and metadata go on, from the reserve), and the directory is asked often, so
//! that writes resume by themselves. A log's failing makes the core try the directory as a whole:
//! if that fails too, everything in it goes offline, alone.
//!
//! A log whose *write* was refused for lack of space is fenced like any other, and opened again
//! once there is space. That is sound where a failed sync is not: the refused bytes went past the
//! page cache, so what recovery reads is what the disk holds; all that was acknowledged was durable
//! by earlier writes, which the reopened log must still end with, or it stays fenced.

use std::collections::BTreeMap;

use crate::base::{
    CoreId, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, Mono, Now, OpId, Space,
};
use crate::log::Fault;

use super::core::{Core, Slot, Timer};
use super::message::{Effects, PeerMessage, VolumeDescription, VolumeState};

/// The owner of what a core asks of its data directories.
pub(super) const VOLUME_OWNER: u32 = u32::MAX - 2;
/// How often a directory that is short of space is asked, in milliseconds.
const SHORT_ASKED_EVERY_MS: i64 = 100;
/// How often any directory is asked, for the figures, in milliseconds.
const ASKED_EVERY_MS: i64 = 10_000;
/// How long a log whose write was refused for lack of space is left alone, in milliseconds.
const OPENED_AGAIN_AFTER_MS: i64 = 1000;
/// The sequences of trials begin here; below, a directory's space is asked for.
const TRIALS: u32 = 1 << 16;
/// The file that a trial replaces.
const TRIAL_FILE: &str = ".trial";

/// One data directory.
#[derive(Debug, Default)]
struct Volume {
    space: Space,
    short: bool,
    asking: bool,
    trying: bool,
    failed: Option<DiskFault>,
    /// Logs to be opened again when there is space.
    starved: Vec<(Mono, Slot)>,
}

/// All data directories, in the order of [`FilePath::disk`].
#[derive(Debug, Default)]
pub(super) struct Volumes {
    volumes: Vec<Volume>,
}

impl Volumes {
    pub(super) fn new(disks: u16, failed: &BTreeMap<u16, DiskFault>) -> Volumes {
        let volume = |disk| Volume {
            failed: failed.get(&disk).cloned(),
            ..Volume::default()
        };
        Volumes {
            volumes: (0..disks.max(1)).map(volume).collect(),
        }
    }

    /// Why nothing can be done in the directory, if so; one that is not among ours is as good as
    /// failed.
    pub(super) fn fault(&self, directory: &FilePath) -> Option<DiskFault> {
        match self.volumes.get(usize::from(directory.disk)) {
            Some(volume) => volume.failed.clone(),
            None => Some(DiskFault {
                file: directory.clone(),
                op: "look-up of the data directory",
                kind: FaultKind::NotFound,
            }),
        }
    }

    pub(super) fn is_short(&self, disk: u16) -> bool {
        let volume = self.volumes.get(usize::from(disk));
        volume.is_some_and(|volume| volume.short)
    }

    /// How many are short of space, and how many have failed.
    pub(super) fn count(&self) -> (u64, u64) {
        let count = |is: fn(&&Volume) -> bool| self.volumes.iter().filter(is).count() as u64;
        (
            count(|volume| volume.short),
            count(|volume| volume.failed.is_some()),
        )
    }

    pub(super) fn describe(&self) -> Vec<VolumeDescription> {
        let describe = |(disk, volume): (usize, &Volume)| VolumeDescription {
            disk: disk as u16,
            space: volume.space,
            state: volume.state(),
        };
        self.volumes.iter().enumerate().map(describe).collect()
    }
}

impl Volume {
    fn state(&self) -> VolumeState {
        match &self.failed {
            Some(fault) => VolumeState::Failed(fault.clone()),
            None if self.short => VolumeState::Short(self.space),
            None => VolumeState::Well,
        }
    }
}

impl Core {
    /// Asks all data directories for their space.
    pub(super) fn ask_volumes(&mut self, now: Now, effects: &mut Effects) {
        for (disk, volume) in self.volumes.volumes.iter_mut().enumerate() {
            if volume.failed.is_none() && !std::mem::replace(&mut volume.asking, true) {
                effects.disk.push(DiskOp::Space {
                    id: id(disk as u32),
                    directory: FilePath::new(disk as u16, ""),
                });
            }
        }
        self.schedule_volumes(now);
    }

    fn schedule_volumes(&mut self, now: Now) {
        let waits = |volume: &Volume| volume.short || !volume.starved.is_empty();
        let soon = self.volumes.volumes.iter().any(waits);
        let after = if soon {
            SHORT_ASKED_EVERY_MS
        } else {
            ASKED_EVERY_MS
        };
        self.timers.set(Timer::Volumes, now.mono.after_ms(after));
    }

    /// The outcome of something that was asked of a directory.
    pub(super) fn volume_disk(&mut self, now: Now, done: DiskDone, effects: &mut Effects) {
        let trial = done.id.sequence >= TRIALS;
        let disk = done.id.sequence % TRIALS;
        let Some(volume) = self.volumes.volumes.get_mut(disk as usize) else {
            return;
        };
        if trial {
            volume.trying = false;
            if let Err(fault) = done.result
                && matches!(fault.kind, FaultKind::Io(_) | FaultKind::NotFound)
            {
                self.volume_failed(now, disk as u16, &fault, effects);
                let disk = disk as u16;
                self.tell_others(&PeerMessage::VolumeFailed { disk, fault }, effects);
            }
            return;
        }
        volume.asking = false;
        let space = match done.result {
            Ok(DiskOutput::Space(space)) => space,
            Ok(_) => return,
            Err(_) => {
                // Gone, perhaps: nothing else might touch it for long.
                self.try_volume(disk as u16, effects);
                self.schedule_volumes(now);
                return;
            }
        };
        volume.space = space;
        if !volume.short && space.is_short() {
            self.volume_found_short(now, disk as u16, effects);
        } else if space.is_ample() {
            self.volume_ample(now, disk as u16, effects);
        }
        self.schedule_volumes(now);
    }

    /// This core saw it first: all others are told, so that a client is not refused here and taken
    /// there.
    pub(super) fn volume_found_short(&mut self, now: Now, disk: u16, effects: &mut Effects) {
        if !self.volumes.is_short(disk) {
            self.volume_short(now, disk, effects);
            self.tell_others(&PeerMessage::VolumeShort { disk }, effects);
        }
    }

    pub(super) fn tell_others(&self, message: &PeerMessage, effects: &mut Effects) {
        let cores = (0..self.setup.cores).map(CoreId);
        let others = cores.filter(|core| *core != self.setup.core);
        effects
            .peers
            .extend(others.map(|core| (core, message.clone())));
    }

    /// Nothing is left of a directory but its reserve: its logs take no records of clients.
    pub(super) fn volume_short(&mut self, now: Now, disk: u16, effects: &mut Effects) {
        let Some(volume) = self.volumes.volumes.get_mut(usize::from(disk)) else {
            return;
        };
        if std::mem::replace(&mut volume.short, true) {
            return;
        }
        effects.volumes.push((disk, volume.state()));
        for slot in self.slots() {
            if let Some(partition) = self.partitions.get_mut(slot)
                && partition.disk() == disk
            {
                partition.set_short(true);
            }
        }
        self.schedule_volumes(now);
    }

    /// There is space again.
    fn volume_ample(&mut self, now: Now, disk: u16, effects: &mut Effects) {
        let Some(volume) = self.volumes.volumes.get_mut(usize::from(disk)) else {
            return;
        };
        let starved = std::mem::take(&mut volume.starved);
        let (due, early): (Vec<_>, Vec<_>) =
            starved.into_iter().partition(|(at, _)| *at <= now.mono);
        volume.starved = early;
        if std::mem::take(&mut volume.short) {
            effects.volumes.push((disk, volume.state()));
            for slot in self.slots() {
                if let Some(partition) = self.partitions.get_mut(slot)
                    && partition.disk() == disk
                {
                    partition.set_short(false);
                    self.schedule(slot);
                }
            }
        }
        for (_, slot) in due {
            self.open_again(now, slot, effects);
        }
    }

    /// The log is to be opened again when there is space.
    pub(super) fn starve(&mut self, now: Now, slot: Slot) {
        if let Some(disk) = self.partitions.get(slot).map(|partition| partition.disk())
            && let Some(volume) = self.volumes.volumes.get_mut(usize::from(disk))
        {
            // Not at once: under a thin device the file system does not know that it is full.
            let at = now.mono.after_ms(OPENED_AGAIN_AFTER_MS);
            volume.starved.push((at, slot));
        }
    }

    /// A log of the directory is fenced: is it the log, or the directory? And may it come back?
    pub(super) fn volume_suspected(
        &mut self,
        now: Now,
        slot: Slot,
        fault: &Fault,
        effects: &mut Effects,
    ) {
        let Fault::Disk(fault) = fault else {
            return;
        };
        let disk = fault.file.disk;
        match fault.kind {
            FaultKind::NoSpace if fault.op == "write" => {
                self.starve(now, slot);
                self.schedule_volumes(now);
            }
            FaultKind::Io(_) | FaultKind::NotFound => self.try_volume(disk, effects),
            FaultKind::NoSpace | FaultKind::TooLarge => {}
        }
    }

    /// Writes, syncs and renames a small file in the directory.
    fn try_volume(&mut self, disk: u16, effects: &mut Effects) {
        let Some(volume) = self.volumes.volumes.get_mut(usize::from(disk)) else {
            return;
        };
        if volume.failed.is_none() && !std::mem::replace(&mut volume.trying, true) {
            effects.disk.push(DiskOp::ReplaceFile {
                id: id(TRIALS + u32::from(disk)),
                file: FilePath::new(disk, TRIAL_FILE),
                contents: bytes::Bytes::from_static(b"is this directory well?\n"),
            });
        }
    }

    /// The directory is of no use any more: everything in it goes offline.
    pub(super) fn volume_failed(
        &mut self,
        now: Now,
        disk: u16,
        fault: &DiskFault,
        effects: &mut Effects,
    ) {
        let Some(volume) = self.volumes.volumes.get_mut(usize::from(disk)) else {
            return;
        };
        if volume.failed.is_some() {
            return;
        }
        volume.failed = Some(fault.clone());
        volume.starved.clear();
        effects.volumes.push((disk, volume.state()));
        let id = self.setup.directories().find(|(number, _)| *number == disk);
        if let (Some(metadata), Some((_, id))) = (&mut self.metadata, id) {
            metadata.directory_failed(id);
        }
        for slot in self.slots() {
            let mut events = Vec::new();
            if let Some(partition) = self.partitions.get_mut(slot)
                && partition.disk() == disk
            {
                partition.give_up(Fault::Disk(fault.clone()), &mut events);
            }
            self.partition_events(now, slot, &mut events, effects);
        }
    }
}

fn id(sequence: u32) -> OpId {
    OpId {
        owner: VOLUME_OWNER,
        sequence,
    }
}
