//! One core with one topic on a disk that does at once whatever it is asked, without a runtime: for
//! what is measured at [`Core::step`] itself.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use corelane::base::{
    BrokerId, CoreId, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, LeaderEpoch, Mono, Now,
    Offset, PartitionIndex, Pool, TopicId, TopicPartition, Wall,
};
use corelane::cluster::ControlRequest;
use corelane::cluster::configs::StaticConfigs;
use corelane::cluster::controller::NewTopic;
use corelane::cluster::records::RegisterBroker;
use corelane::partition::Partition;
use corelane::record::{BatchBuilder, Codec};
use corelane::shard::{
    AppendRequest, Core, Effects, Event, ReadQuery, ReadRequest, Reply, Request, Setup, Ticket,
};

/// The time at which everything happens.
pub const NOW: Now = Now {
    mono: Mono(1_000_000),
    wall: Wall(1_750_000_000_000),
};

/// What the core may keep in memory for readers.
pub const CACHE_BYTES_MAX: usize = 64 << 20;

/// The core and what it waits for.
pub struct OneCore {
    core: Core,
    effects: Effects,
    /// The partitions of the topic.
    pub partitions: Vec<TopicPartition>,
}

/// A batch of `records` records with values of `bytes` bytes each.
pub fn batch(records: usize, bytes: usize) -> Bytes {
    let (mut batch, value) = (BatchBuilder::new(Codec::None), vec![b'x'; bytes]);
    for _ in 0..records {
        batch.append(NOW.wall.0, None, Some(&value), &[]);
    }
    Bytes::from(batch.finish())
}

fn setup() -> Setup {
    let registration = RegisterBroker {
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
    };
    Setup {
        core: CoreId(0),
        cores: 1,
        broker: BrokerId(1),
        disks: 1,
        failed_disks: std::collections::BTreeMap::new(),
        pool: Pool::new(128 << 20),
        cache_bytes_max: CACHE_BYTES_MAX,
        static_configs: Arc::new(StaticConfigs::new()),
        registration,
        seed: 1,
    }
}

fn ticket(number: u64) -> Ticket {
    let core = CoreId(0);
    Ticket { core, number }
}

impl OneCore {
    /// A core that serves a topic with so many partitions.
    pub fn start(partitions: i32) -> OneCore {
        let mut effects = Effects::default();
        let core = Core::new(setup(), NOW, &mut effects);
        let mut one = OneCore {
            core,
            effects,
            partitions: Vec::new(),
        };
        one.settle();
        let topic = NewTopic {
            name: "t".to_owned(),
            partitions,
            replication_factor: 1,
            ..NewTopic::default()
        };
        let topics = vec![topic];
        one.request(Request::Control(ControlRequest::CreateTopics {
            topics,
            validate_only: false,
        }));
        one.settle();
        let topic = one.core.image().topics().next().expect("the topic").id;
        let id = |index| TopicPartition {
            topic,
            partition: PartitionIndex(index),
        };
        one.partitions = (0..partitions).map(id).collect();
        one
    }

    fn request(&mut self, request: Request) {
        let ticket = ticket(1);
        let event = Event::Request { ticket, request };
        self.core.step(NOW, event, &mut self.effects);
    }

    /// Ends the turn and does all that follows, until nothing does.
    fn settle(&mut self) {
        let mut mail = VecDeque::new();
        loop {
            self.core.end_turn(NOW, &mut self.effects);
            mail.extend(self.effects.peers.drain(..).map(|(_, message)| message));
            if let Some(op) = self.effects.disk.pop() {
                let event = Event::Disk(complete(op));
                self.core.step(NOW, event, &mut self.effects);
            } else if let Some(message) = mail.pop_front() {
                let from = CoreId(0);
                let event = Event::Peer { from, message };
                self.core.step(NOW, event, &mut self.effects);
            } else {
                return;
            }
        }
    }

    /// Bytes of batches that the core's partitions hold in memory, and how many it believes.
    #[allow(dead_code, reason = "not everybody asks")]
    pub fn cached_bytes(&self) -> (usize, usize) {
        let held = self.core.partitions().map(Partition::cached_bytes).sum();
        (held, self.core.cache_bytes())
    }

    /// Produces the batches and carries them through to the answer, which must be an offset each.
    pub fn produce(&mut self, batches: Vec<(TopicPartition, Bytes)>) {
        self.effects.replies.clear();
        self.request(Request::Append(AppendRequest {
            produce_version: 12,
            from_coordinator: false,
            batches,
            sent: NOW.mono,
        }));
        self.settle();
        match self.effects.replies.pop() {
            Some((_, Reply::Append(answers))) => {
                assert!(answers.iter().all(Result::is_ok), "{answers:?}");
            }
            other => panic!("an append was answered with {other:?}"),
        }
    }

    /// Reads from an offset what is in memory; the bytes of it.
    #[allow(dead_code, reason = "not everybody reads")]
    pub fn read(&mut self, partition: TopicPartition, offset: i64, max_bytes: usize) -> usize {
        self.effects.replies.clear();
        let query = ReadQuery {
            partition,
            offset: Offset(offset),
            max_bytes,
            current_leader_epoch: LeaderEpoch(-1),
            last_fetched_epoch: LeaderEpoch(-1),
        };
        self.request(Request::Read(ReadRequest {
            partitions: vec![query],
            max_bytes,
            min_bytes: 1,
            deadline: NOW.mono,
            sent: NOW.mono,
        }));
        self.settle();
        match self.effects.replies.pop() {
            Some((_, Reply::Read(results))) => {
                assert!(results.iter().all(|one| one.slices.is_ok()), "{results:?}");
                results.iter().map(|one| one.size).sum()
            }
            other => panic!("a read was answered with {other:?}"),
        }
    }
}

/// As a disk would on which nothing is yet.
fn complete(op: DiskOp) -> DiskDone {
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
    DiskDone { id, result }
}
