//! A core on an empty disk, event by event. Each test is a seed that the simulator once failed.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::{
    BrokerId, CoreId, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, Mono, Now, Pool, TopicId,
    Wall,
};
use crate::cluster::configs::StaticConfigs;
use crate::cluster::records::RegisterBroker;

use super::{Core, Effects, Event, PeerMessage, Setup};

const NOW: Now = Now {
    mono: Mono(1_000_000),
    wall: Wall(1_750_000_000_000),
};

fn setup() -> Setup {
    Setup {
        core: CoreId(0),
        cores: 1,
        broker: BrokerId(1),
        disks: 1,
        failed_disks: std::collections::BTreeMap::new(),
        pool: Pool::new(4 << 20),
        cache_bytes_max: 1 << 20,
        static_configs: Arc::new(StaticConfigs::new()),
        registration: RegisterBroker {
            broker: BrokerId(1),
            is_migrating_zk_broker: false,
            incarnation: TopicId([1; 16]),
            epoch: 0,
            endpoints: Vec::new(),
            features: Vec::new(),
            rack: None,
            fenced: false,
            in_controlled_shutdown: false,
            log_dirs: Vec::new(),
        },
        seed: 1,
    }
}

/// One core, its mail to itself, and a disk on which nothing is yet.
struct World {
    core: Core,
    disk: VecDeque<DiskOp>,
    mail: VecDeque<PeerMessage>,
    effects: Effects,
}

impl World {
    fn boot() -> World {
        let mut effects = Effects::default();
        let core = Core::new(setup(), NOW, &mut effects);
        let mut world = World {
            core,
            disk: VecDeque::new(),
            mail: VecDeque::new(),
            effects,
        };
        world.take();
        world
    }

    fn take(&mut self) {
        self.core.end_turn(NOW, &mut self.effects);
        self.disk.extend(self.effects.disk.drain(..));
        self.mail
            .extend(self.effects.peers.drain(..).map(|(_, message)| message));
    }

    fn step(&mut self, event: Event) {
        self.core.step(NOW, event, &mut self.effects);
        self.take();
    }

    /// Completes the oldest operation, as an empty disk would; false if there is none.
    fn complete_one(&mut self) -> bool {
        let Some(op) = self.disk.pop_front() else {
            return false;
        };
        let id = op.id();
        let result = match op {
            DiskOp::List { .. } => Ok(DiskOutput::Entries(Vec::new())),
            DiskOp::ReadFile { file, .. } => Err(DiskFault {
                file,
                op: "read",
                kind: FaultKind::NotFound,
            }),
            _ => Ok(DiskOutput::Done),
        };
        self.step(Event::Disk(DiskDone { id, result }));
        true
    }

    fn settle(&mut self) {
        loop {
            if let Some(message) = self.mail.pop_front() {
                self.step(Event::Peer {
                    from: CoreId(0),
                    message,
                });
            } else if !self.complete_one() {
                break;
            }
        }
    }
}

/// Seed 29: the metadata log was closed already when the first records were to be appended.
#[test]
fn a_stop_at_any_point_of_the_boot_is_a_clean_stop() {
    for completions in 0..30 {
        let mut world = World::boot();
        for _ in 0..completions {
            world.complete_one();
        }
        world.step(Event::Stop);
        world.settle();
        assert_eq!(
            world.effects.fatal, None,
            "stopped after {completions} completions"
        );
        assert!(
            world.effects.stopped,
            "stopped after {completions} completions"
        );
    }
}
