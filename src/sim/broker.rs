//! The cores of the simulated broker, and what the host does for them: disk operations, the mesh,
//! replies, ticks, turns.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{
    BrokerId, CoreId, DiskOp, FaultKind, FilePath, Mono, Now, Pool, Prng, TopicId, Wall,
};
use crate::cluster::Image;
use crate::cluster::configs::StaticConfigs;
use crate::cluster::records::{Endpoint, RegisterBroker};
use crate::log::{Fault, Slice};
use crate::shard::{Core, Effects, Event, METADATA_DIRECTORY, Reply, Setup, Ticket};

use super::files::Inode;
use super::invariants::DISK_OPERATIONS_MAX;
use super::plan::Canary;
use super::world::{Happening, World};

/// The broker's only id.
const BROKER: BrokerId = BrokerId(1);
/// The wall clock when the world begins, in milliseconds.
const WALL_START_MS: i64 = 1_750_000_000_000;

/// An answer on its way: with the files that its slices name, opened when it was given.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) files: BTreeMap<FilePath, Option<Inode>>,
}

/// One core and what its host remembers.
pub(super) struct Seat {
    pub(super) core: Core,
    pub(super) ready: bool,
    pub(super) stopped: bool,
    turn_ends: bool,
    tick_at: Option<u64>,
}

/// The running process.
#[derive(Default)]
pub(super) struct Broker {
    pub(super) seats: Vec<Seat>,
    /// When the newest message from one core to another arrives: they keep their order.
    mesh: BTreeMap<(CoreId, CoreId), u64>,
    /// The metadata log failed on purpose: the process ends.
    pub(super) fatal: bool,
    /// For the canary: the last answer to an append.
    stale: Option<Reply>,
}

impl World {
    /// Starts the process with `cores` cores on what the disk holds.
    pub(super) fn start_broker(&mut self, cores: u16, pool: &Pool) -> Result<(), String> {
        self.broker = Broker::default();
        let now = self.now();
        let static_configs = Arc::new(self.static_configs());
        for core in 0..cores {
            let setup = Setup {
                core: CoreId(core),
                cores,
                broker: BROKER,
                disks: self.plan.disks,
                failed_disks: BTreeMap::new(),
                pool: pool.clone(),
                cache_bytes_max: self.cache_bytes_max,
                static_configs: static_configs.clone(),
                registration: registration(self.plan.disks, &mut self.prng),
                seed: self.prng.next_u64(),
            };
            let mut effects = Effects::default();
            let core = Core::new(setup, now, &mut effects);
            let seat = Seat {
                core,
                ready: false,
                stopped: false,
                turn_ends: false,
                tick_at: None,
            };
            self.broker.seats.push(seat);
            let index = self.broker.seats.len() - 1;
            self.carry_out(index, effects)?;
            self.after_step(index)?;
        }
        Ok(())
    }

    /// What the broker's own configs say: housekeeping often enough for a life of milliseconds.
    fn static_configs(&self) -> StaticConfigs {
        let often = self.plan.housekeeping_ms;
        let mut configs = vec![
            ("log.retention.check.interval.ms", often),
            ("producer.id.expiration.check.interval.ms", often),
            // Often, so that the cleaner gets its turn in a short run.
            ("log.cleaner.backoff.ms", 1 + self.plan.seed % 8),
            (
                "metadata.log.max.record.bytes.between.snapshots",
                self.plan.metadata_snapshot_bytes,
            ),
        ];
        let expiration = self.plan.producer_expiration_ms;
        configs.extend(expiration.map(|ms| ("producer.id.expiration.ms", ms)));
        configs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .collect()
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        let wall = WALL_START_MS + (self.now_ns / 1_000_000) as i64;
        Now {
            mono: Mono(self.now_ns),
            wall: Wall(wall),
        }
    }

    /// Cores of the running process.
    pub(super) fn cores(&self) -> u16 {
        self.broker.seats.len() as u16
    }

    /// The cluster as core `home` sees it.
    pub(super) fn image(&self, home: CoreId) -> Arc<Image> {
        self.broker.seats[usize::from(home.0)].core.image().clone()
    }

    /// True when every core has opened what it owns.
    pub(super) fn is_ready(&self) -> bool {
        self.broker.seats.iter().all(|seat| seat.ready)
    }

    /// Hands an event to a core.
    pub(super) fn step(&mut self, index: usize, event: Event) -> Result<(), String> {
        let (what, numbers) = told(&event);
        self.trace.note(self.now_ns, index as u64, what, numbers);
        let mut effects = Effects::default();
        let now = self.now();
        self.broker.seats[index].core.step(now, event, &mut effects);
        self.carry_out(index, effects)?;
        self.after_step(index)
    }

    /// The turn of a core ends.
    pub(super) fn end_turn(&mut self, index: usize) -> Result<(), String> {
        let now = self.now();
        let mut effects = Effects::default();
        let seat = &mut self.broker.seats[index];
        seat.turn_ends = false;
        seat.core.end_turn(now, &mut effects);
        self.carry_out(index, effects)?;
        self.watch_core(index)?;
        self.schedule_tick(index);
        Ok(())
    }

    /// A timer went off; it may be an old one.
    pub(super) fn tick(&mut self, index: usize) -> Result<(), String> {
        self.broker.seats[index].tick_at = None;
        let due = self.broker.seats[index].core.next_deadline();
        if due.is_some_and(|at| at.0 <= self.now_ns) {
            return self.step(index, Event::Tick);
        }
        self.schedule_tick(index);
        Ok(())
    }

    fn after_step(&mut self, index: usize) -> Result<(), String> {
        self.watch_core(index)?;
        if !std::mem::replace(&mut self.broker.seats[index].turn_ends, true) {
            let after = self.prng.below(30_000);
            self.later(after, Happening::EndTurn(index));
        }
        self.schedule_tick(index);
        Ok(())
    }

    fn watch_core(&mut self, index: usize) -> Result<(), String> {
        let core = &self.broker.seats[index].core;
        self.watch.look(core, &mut self.model)?;
        match self.disk.in_flight() {
            0..DISK_OPERATIONS_MAX => Ok(()),
            many => Err(format!("{many} disk operations are in flight")),
        }
    }

    fn schedule_tick(&mut self, index: usize) {
        let seat = &mut self.broker.seats[index];
        let Some(at) = seat.core.next_deadline() else {
            return;
        };
        if seat.tick_at.is_none_or(|planned| at.0 < planned) {
            seat.tick_at = Some(at.0);
            let after = at.0.saturating_sub(self.now_ns);
            self.later(after, Happening::Tick(index));
        }
    }

    fn carry_out(&mut self, index: usize, effects: Effects) -> Result<(), String> {
        let from = CoreId(index as u16);
        for op in effects.disk {
            self.report.snapshots += u64::from(is_snapshot(&op));
            let number = self.disk.submit(from, op)?;
            let after = self.disk_ns();
            self.later(after, Happening::Disk(number));
        }
        let rounds = effects.compactions.iter();
        self.model.compacted.rounds += rounds.filter(|(_, done)| done.is_ok()).count() as u64;
        for (ticket, reply) in effects.replies {
            self.reply(from, ticket, reply);
        }
        for (to, message) in effects.peers {
            self.mail(
                from,
                to,
                Happening::Event(to, Event::Peer { from, message }),
            );
        }
        for (partition, fault) in effects.faults {
            let disk = match &fault {
                Fault::Disk(disk) => disk,
                // Its deletion failed, and the process was gone before it was tried again.
                Fault::Foreign { directory, .. } if self.disk.may_be_left(directory) => continue,
                Fault::Foreign { .. } | Fault::Corrupt { .. } => {
                    return Err(format!("{partition:?} is fenced: {fault}"));
                }
            };
            let full = disk.kind == FaultKind::NoSpace && disk.op == "write";
            if !full && !matches!(disk.kind, FaultKind::Io(_)) {
                return Err(format!("{partition:?} is fenced: {fault}"));
            }
        }
        self.report.reopened += effects.healed.len() as u64;
        let seat = &mut self.broker.seats[index];
        if effects.ready && std::mem::replace(&mut seat.ready, true) {
            return Err(format!("{from:?} is ready twice"));
        }
        if effects.ready && index == 0 {
            self.check_topics()?;
        }
        if effects.stopped && std::mem::replace(&mut self.broker.seats[index].stopped, true) {
            return Err(format!("{from:?} stopped twice"));
        }
        if let Some(why) = effects.fatal {
            if self.disk.harmed.is_empty() {
                return Err(format!("{from:?} cannot go on: {why}"));
            }
            self.broker.fatal = true;
        }
        Ok(())
    }

    fn check_topics(&self) -> Result<(), String> {
        let image = self.image(CoreId(0));
        let found = image
            .topics()
            .map(|topic| (topic.id, topic.partitions.len()))
            .collect();
        self.model.check_topics(&found)
    }

    /// A usual disk operation is short; now and then one is not.
    fn disk_ns(&mut self) -> u64 {
        let usual = 5_000 + self.prng.below(self.plan.disk_ns_max);
        if self.prng.one_in(50) {
            usual * 20
        } else {
            usual
        }
    }

    /// From core to core, in order.
    pub(super) fn mail(&mut self, from: CoreId, to: CoreId, happening: Happening) {
        let usual = 500 + self.prng.below(20_000);
        let after = if self.prng.one_in(100) {
            usual * 50
        } else {
            usual
        };
        let last = self.broker.mesh.entry((from, to)).or_default();
        *last = (*last + 1).max(self.now_ns + after);
        let after = *last - self.now_ns;
        self.later(after, happening);
    }

    fn reply(&mut self, from: CoreId, ticket: Ticket, mut reply: Reply) {
        if let Reply::Append(answers) = &reply
            && self.plan.canary == Some(Canary::StaleReply)
            && answers.iter().all(Result::is_ok)
        {
            let before = self.broker.stale.replace(Reply::Append(answers.clone()));
            if let Some(before) = before
                && self.prng.one_in(8)
            {
                reply = before;
            }
        }
        let mut files = BTreeMap::new();
        for path in cold_files(&reply) {
            let inode = self.disk.open(&path);
            files.insert(path, inode);
        }
        let answer = Box::new(Answer { reply, files });
        self.mail(from, ticket.core, Happening::Answer(ticket.number, answer));
    }
}

/// A snapshot of the metadata is about to be written.
fn is_snapshot(op: &DiskOp) -> bool {
    matches!(op, DiskOp::ReplaceFile { file, .. }
        if file.path.starts_with(METADATA_DIRECTORY) && file.name().ends_with(".checkpoint"))
}

fn cold_files(reply: &Reply) -> Vec<FilePath> {
    let Reply::Read(results) = reply else {
        return Vec::new();
    };
    let slices = results
        .iter()
        .filter_map(|result| result.slices.as_ref().ok())
        .flatten();
    let files = slices.filter_map(|slice| match slice {
        Slice::File { file, .. } => Some(file.clone()),
        Slice::Memory(_) => None,
    });
    files.collect()
}

fn registration(disks: u16, prng: &mut Prng) -> RegisterBroker {
    let mut incarnation = [0; 16];
    prng.fill(&mut incarnation);
    let endpoint = Endpoint {
        name: "PLAINTEXT".to_owned(),
        host: "localhost".to_owned(),
        port: 9092,
        security_protocol: 0,
    };
    RegisterBroker {
        broker: BROKER,
        is_migrating_zk_broker: false,
        incarnation: TopicId(incarnation),
        epoch: 0,
        endpoints: vec![endpoint],
        features: Vec::new(),
        rack: None,
        fenced: false,
        in_controlled_shutdown: false,
        log_dirs: (0..disks)
            .map(|disk| TopicId([100 + disk as u8; 16]))
            .collect(),
    }
}

/// An event for the trace.
fn told(event: &Event) -> (&'static str, [i64; 3]) {
    use crate::shard::{PeerMessage, Request};
    match event {
        Event::Request { ticket, request } => {
            let what = match request {
                Request::Append(_) => "append, ticket",
                Request::Read(_) => "read, ticket",
                Request::ListOffsets(_) => "list offsets, ticket",
                Request::EpochEnds(_) => "epoch ends, ticket",
                Request::DeleteRecords(_) => "delete records, ticket",
                Request::Describe(_) => "describe, ticket",
                Request::Producers(_) => "producers, ticket",
                Request::ProducerId => "producer id, ticket",
                Request::Control(_) => "control, ticket",
                Request::Group { .. } => "group, ticket",
                Request::Measurements => "measurements, ticket",
                Request::Volumes => "volumes, ticket",
            };
            (what, [ticket.number as i64, i64::from(ticket.core.0), 0])
        }
        Event::Cancel(ticket) => ("cancel, ticket", [ticket.number as i64, 0, 0]),
        Event::Disk(done) => {
            let owner = i64::from(done.id.owner);
            let what = if done.result.is_ok() {
                "disk done"
            } else {
                "disk FAILED"
            };
            (what, [owner, i64::from(done.id.sequence), 0])
        }
        Event::Peer { from, message } => match message {
            PeerMessage::Image { version, .. } => {
                ("image from", [i64::from(from.0), *version as i64, 0])
            }
            PeerMessage::Applied(version) => {
                ("applied by", [i64::from(from.0), *version as i64, 0])
            }
            PeerMessage::WantProducerIds => ("ids wanted by", [i64::from(from.0), 0, 0]),
            PeerMessage::ProducerIds { first, .. } => ("ids from", [i64::from(from.0), first.0, 0]),
            PeerMessage::VolumeShort { disk } => {
                ("volume short, by", [i64::from(from.0), i64::from(*disk), 0])
            }
            PeerMessage::VolumeFailed { disk, .. } => (
                "volume failed, by",
                [i64::from(from.0), i64::from(*disk), 0],
            ),
        },
        Event::Tick => ("tick", [0; 3]),
        Event::Stop => ("stop", [0; 3]),
    }
}
