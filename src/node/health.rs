//! What is wrong, by name: for `/health`. Fed by the cores' statuses, read by the HTTP door.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::admin::{DirectoryHealth, Health, OfflinePartition};
use crate::base::CoreId;
use crate::shard::VolumeState;

/// What is known of one data directory.
#[derive(Debug, Default)]
struct Directory {
    path: String,
    /// The cores that see it short of space.
    short: BTreeSet<CoreId>,
    why_short: String,
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct Sick {
    directories: Vec<Directory>,
    partitions: BTreeMap<String, String>,
}

/// All that is wrong.
#[derive(Debug, Default)]
pub(super) struct Ward(Mutex<Sick>);

impl Ward {
    /// Nothing is wrong with these data directories.
    pub(super) fn new(paths: &[String]) -> Ward {
        let directory = |path: &String| Directory {
            path: path.clone(),
            ..Directory::default()
        };
        Ward(Mutex::new(Sick {
            directories: paths.iter().map(directory).collect(),
            partitions: BTreeMap::new(),
        }))
    }

    /// A data directory could not be used at the start.
    pub(super) fn failed_at_start(&self, disk: u16, why: &str) {
        self.change(|sick| {
            if let Some(directory) = sick.directories.get_mut(usize::from(disk)) {
                directory.failed = Some(why.to_owned());
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Sick)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A partition (by name) went offline.
    pub(super) fn fenced(&self, what: String, why: String) {
        self.change(|sick| {
            sick.partitions.insert(what, why);
        });
    }

    /// A partition (by name) is online again, or gone.
    pub(super) fn healed(&self, what: &str) {
        self.change(|sick| {
            sick.partitions.remove(what);
        });
    }

    /// A data directory's state changed, as one core sees it. Said in the log when it is news.
    pub(super) fn volume(&self, core: CoreId, disk: u16, state: VolumeState) {
        self.change(|sick| {
            let Some(directory) = sick.directories.get_mut(usize::from(disk)) else {
                return;
            };
            let (was_short, path) = (!directory.short.is_empty(), directory.path.clone());
            match state {
                VolumeState::Well => {
                    directory.short.remove(&core);
                    if was_short && directory.short.is_empty() {
                        tracing::info!(directory = path, "there is space again: records are taken");
                    }
                }
                VolumeState::Short(space) => {
                    directory.short.insert(core);
                    directory.why_short = format!(
                        "{} of {} bytes are left, {} are kept in reserve: records are refused \
                         until there is space again",
                        space.usable, space.total, space.reserve
                    );
                    if !was_short {
                        let why = &directory.why_short;
                        tracing::warn!(directory = path, why, "a data directory is short of space");
                    }
                }
                VolumeState::Failed(fault) => {
                    if directory.failed.replace(fault.to_string()).is_none() {
                        tracing::error!(directory = path, %fault, "a data directory failed: its partitions are offline, all others are served; replace the disk and start again");
                    }
                }
            }
        });
    }

    /// Everything that is wrong now.
    pub(super) fn report(&self) -> Health {
        let sick = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let directories = sick.directories.iter().map(|directory| {
            let (state, why) = match &directory.failed {
                Some(why) => ("failed", Some(why.clone())),
                None if directory.short.is_empty() => ("ok", None),
                None => ("short of space", Some(directory.why_short.clone())),
            };
            DirectoryHealth {
                path: directory.path.clone(),
                state,
                why,
            }
        });
        let data_directories: Vec<DirectoryHealth> = directories.collect();
        let offline_partitions: Vec<OfflinePartition> = sick
            .partitions
            .iter()
            .map(|(partition, why)| OfflinePartition {
                partition: partition.clone(),
                why: why.clone(),
            })
            .collect();
        let fine = offline_partitions.is_empty()
            && data_directories
                .iter()
                .all(|directory| directory.state == "ok");
        Health {
            status: if fine { "ok" } else { "degraded" },
            data_directories,
            offline_partitions,
        }
    }
}
