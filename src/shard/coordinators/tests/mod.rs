//! One core on a disk in memory: what it is asked, and what it answers when.

mod disk;
mod rules;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{
    BrokerId, CoreId, DiskOp, Mono, Now, PartitionIndex, Pool, TopicId, TopicPartition, Wall,
};
use crate::cluster::controller::NewTopic;
use crate::cluster::records::RegisterBroker;
use crate::cluster::{ControlReply, ControlRequest};

use crate::shard::{Core, Effects, Event, Reply, Request, Setup, Ticket};
use disk::Disk;

/// A core and its surroundings.
struct World {
    core: Core,
    disk: Disk,
    /// What the disk has not done yet.
    pending: VecDeque<DiskOp>,
    now: Now,
    replies: BTreeMap<u64, Reply>,
    next_ticket: u64,
    stopped: bool,
}

fn setup() -> Setup {
    Setup {
        core: CoreId(0),
        cores: 1,
        broker: BrokerId(1),
        disks: 1,
        failed_disks: BTreeMap::new(),
        pool: Pool::new(8 << 20),
        cache_bytes_max: 4 << 20,
        static_configs: Arc::default(),
        registration: RegisterBroker {
            broker: BrokerId(1),
            is_migrating_zk_broker: false,
            incarnation: TopicId([9; 16]),
            epoch: 0,
            endpoints: Vec::new(),
            features: Vec::new(),
            rack: None,
            fenced: false,
            in_controlled_shutdown: false,
            log_dirs: Vec::new(),
        },
        seed: 7,
    }
}

impl World {
    /// A core that has started on an empty disk.
    fn new() -> World {
        let mut world = World::started(
            Disk::default(),
            Now {
                mono: Mono(1),
                wall: Wall(1_000_000),
            },
        );
        world.settle();
        world
    }

    fn started(disk: Disk, now: Now) -> World {
        let mut effects = Effects::default();
        let core = Core::new(setup(), now, &mut effects);
        let mut world = World {
            core,
            disk,
            pending: VecDeque::new(),
            now,
            replies: BTreeMap::new(),
            next_ticket: 0,
            stopped: false,
        };
        world.perform(effects);
        world
    }

    /// The process dies, with what the disk has not done yet; another one starts.
    fn restart(self) -> World {
        World::started(self.disk, self.now)
    }

    fn perform(&mut self, effects: Effects) {
        self.pending.extend(effects.disk);
        for (ticket, reply) in effects.replies {
            self.replies.insert(ticket.number, reply);
        }
        self.stopped |= effects.stopped;
        assert_eq!(effects.fatal, None);
        for (_, message) in effects.peers {
            let from = CoreId(0);
            self.step(Event::Peer { from, message });
        }
    }

    fn step(&mut self, event: Event) {
        let mut effects = Effects::default();
        self.core.step(self.now, event, &mut effects);
        self.perform(effects);
    }

    /// The end of a turn: time passes by a little.
    fn turn(&mut self) {
        self.now.mono = self.now.mono.after(Duration::from_nanos(10));
        if self
            .core
            .next_deadline()
            .is_some_and(|at| at <= self.now.mono)
        {
            self.step(Event::Tick);
        }
        let mut effects = Effects::default();
        self.core.end_turn(self.now, &mut effects);
        self.perform(effects);
    }

    /// The disk does one thing; false if there is nothing to do.
    fn disk_step(&mut self) -> bool {
        let Some(op) = self.pending.pop_front() else {
            return false;
        };
        let done = self.disk.perform(op);
        self.step(Event::Disk(done));
        self.turn();
        true
    }

    /// Lets everything happen that happens by itself.
    fn settle(&mut self) {
        self.turn();
        while self.disk_step()
            || self
                .core
                .next_deadline()
                .is_some_and(|at| at <= self.now.mono.after_ms(0).after(Duration::from_nanos(10)))
        {
            self.turn();
        }
    }

    /// Time passes.
    fn pass_ms(&mut self, millis: i64) {
        self.now.mono = self.now.mono.after_ms(millis);
        self.now.wall = Wall(self.now.wall.0 + millis);
        self.settle();
    }

    fn ask(&mut self, request: Request) -> u64 {
        let number = self.next_ticket;
        self.next_ticket += 1;
        let ticket = Ticket {
            core: CoreId(0),
            number,
        };
        self.step(Event::Request { ticket, request });
        number
    }

    /// Makes a topic and waits for it.
    fn create(&mut self, name: &str, partitions: i32) -> TopicId {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions,
            replication_factor: 1,
            internal: true,
            ..NewTopic::default()
        };
        let number = self.ask(Request::Control(ControlRequest::CreateTopics {
            topics: vec![topic],
            validate_only: false,
        }));
        self.settle();
        match self.replies.remove(&number) {
            Some(Reply::Control(ControlReply::CreateTopics(mut results))) => {
                results.remove(0).1.expect("a topic").id
            }
            other => panic!("{other:?}"),
        }
    }
}

fn partition(topic: TopicId, index: i32) -> TopicPartition {
    TopicPartition {
        topic,
        partition: PartitionIndex(index),
    }
}
