//! A core on an empty disk, event by event. Most tests are seeds that the simulator once failed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{
    BrokerId, CoreId, DiskDone, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, LeaderEpoch,
    Mono, Now, Offset, PartitionIndex, Pool, TopicId, Wall,
};
use crate::cluster::configs::StaticConfigs;
use crate::cluster::records::{NewPartition, RegisterBroker};
use crate::cluster::{Image, Record};
use crate::log::Fault;
use crate::partition::Refusal;

use crate::base::TopicPartition;
use crate::record::{BatchBuilder, Codec};

use super::core::TRIMMED_IN_VAIN_MAX;
use super::message::{
    AppendRequest, EpochQuery, OffsetQuery, OffsetSpec, ReadQuery, ReadRequest, Reply, Request,
    Ticket,
};
use super::{Core, Effects, Event, Found, PeerMessage, Setup};

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
    /// Whose all partitions' directories say they are.
    metadata: Option<TopicId>,
    /// Renames that were asked for; they fail if `renames_fail`.
    renamed: Vec<(String, String)>,
    renames_fail: bool,
}

impl World {
    fn boot() -> World {
        World::with(setup())
    }

    /// The second of two cores: it has no metadata log, and is told what is on the disks.
    fn second() -> World {
        World::with(Setup {
            core: CoreId(1),
            cores: 2,
            ..setup()
        })
    }

    fn with(setup: Setup) -> World {
        let mut effects = Effects::default();
        let core = Core::new(setup, NOW, &mut effects);
        let mut world = World {
            core,
            disk: VecDeque::new(),
            mail: VecDeque::new(),
            effects,
            metadata: None,
            renamed: Vec::new(),
            renames_fail: false,
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
            DiskOp::ReadFile { file, .. } => match self.metadata {
                Some(topic) if file.name() == "partition.metadata" => {
                    let contents = format!("version: 0\ntopic_id: {topic}\n");
                    Ok(DiskOutput::Contents(Bytes::from(contents)))
                }
                _ => Err(DiskFault {
                    file,
                    op: "read",
                    kind: FaultKind::NotFound,
                }),
            },
            DiskOp::Rename { from, to, .. } => {
                self.renamed
                    .push((from.path.to_string(), to.path.to_string()));
                match self.renames_fail {
                    true => Err(DiskFault {
                        file: from,
                        op: "rename",
                        kind: FaultKind::Io(5),
                    }),
                    false => Ok(DiskOutput::Done),
                }
            }
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

const ORDERS: TopicId = TopicId([7; 16]);
const GONE: TopicId = TopicId([8; 16]);

/// A cluster with one topic of 200 partitions, and the names of the directories that are core 1's.
fn orders() -> (Image, Vec<String>) {
    let mut image = Image::default();
    let mut apply = |record| {
        image.apply(Offset(0), &record).expect("the record applies");
    };
    apply(Record::Topic {
        name: "orders".to_owned(),
        id: ORDERS,
    });
    for index in 0..200 {
        let partition = NewPartition::on(BrokerId(1), ORDERS, PartitionIndex(index));
        apply(Record::Partition(partition));
    }
    let ours = (0..200).map(PartitionIndex);
    let ours = ours.filter(|index| Image::owner(ORDERS, *index, 2) == CoreId(1));
    let names = ours.map(|index| format!("orders-{}", index.0)).collect();
    (image, names)
}

impl World {
    /// The first image: each of the topic's partitions has a directory.
    fn first_image(&mut self, image: &Image, deleted: BTreeSet<TopicId>) {
        let directories = (0..200).map(|index| (format!("orders-{index}"), 0));
        let directories: BTreeMap<String, u16> = directories.collect();
        self.image(
            image,
            Vec::new(),
            1,
            Some(Found {
                directories,
                deleted,
            }),
        );
    }

    fn image(&mut self, image: &Image, records: Vec<Record>, version: u64, found: Option<Found>) {
        let message = PeerMessage::Image {
            version,
            image: Arc::new(image.clone()),
            records: Arc::new(records),
            found: found.map(Arc::new),
        };
        self.step(Event::Peer {
            from: CoreId(0),
            message,
        });
    }

    /// Completes everything that is asked of the disk; mail to core 0 stays.
    fn run_disk(&mut self) {
        while self.complete_one() {}
    }

    fn has_applied(&self, version: u64) -> bool {
        let applied =
            |message: &PeerMessage| matches!(message, PeerMessage::Applied(of) if *of == version);
        self.mail.iter().any(applied)
    }

    fn moved(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.renamed.iter().map(|(from, _)| from.as_str()).collect();
        names.sort_unstable();
        names
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

/// The directories of logs that still waited to be opened stayed until the next start, and a topic of
/// the same name found them.
#[test]
fn a_topic_deleted_while_its_logs_wait_to_be_opened_leaves_no_directory() {
    let (mut image, ours) = orders();
    assert!(ours.len() > 64, "not all are opened at once");
    let mut world = World::second();
    world.metadata = Some(ORDERS);
    world.first_image(&image, BTreeSet::new());
    let remove = Record::RemoveTopic { id: ORDERS };
    image.apply(Offset(1), &remove).expect("the topic is there");
    world.image(&image, vec![remove], 2, None);
    assert!(!world.has_applied(2), "the directories are still there");
    world.run_disk();
    assert!(world.has_applied(2));
    assert_eq!(world.moved(), sorted(ours));
    assert!(world.renamed.iter().all(|(_, to)| to.ends_with("-delete")));
    assert!(world.effects.ready);
}

/// The first deletion lets more logs be opened: those of the second topic were passed over, as its name
/// was not in the image any more.
#[test]
fn two_topics_deleted_at_once_while_their_logs_wait_leave_no_directory() {
    let (mut image, ours) = orders();
    let topic = Record::Topic {
        name: "other".to_owned(),
        id: GONE,
    };
    image.apply(Offset(1), &topic).expect("a new name");
    for index in 0..200 {
        let partition = NewPartition::on(BrokerId(1), GONE, PartitionIndex(index));
        let record = Record::Partition(partition);
        image.apply(Offset(2), &record).expect("a new partition");
    }
    let others = (0..200).map(PartitionIndex);
    let others = others.filter(|index| Image::owner(GONE, *index, 2) == CoreId(1));
    let others = others.map(|index| format!("other-{}", index.0));
    let mut world = World::second();
    let names = (0..200).flat_map(|n| [format!("orders-{n}"), format!("other-{n}")]);
    let found = Found {
        directories: names.map(|name| (name, 0)).collect(),
        ..Found::default()
    };
    world.image(&image, Vec::new(), 1, Some(found));
    let removals = [ORDERS, GONE].map(|id| Record::RemoveTopic { id });
    for removal in &removals {
        image.apply(Offset(3), removal).expect("it is there");
    }
    world.image(&image, removals.to_vec(), 2, None);
    world.run_disk();
    assert!(world.has_applied(2) && world.effects.ready);
    assert_eq!(
        world.moved(),
        sorted(ours.into_iter().chain(others).collect())
    );
}

/// Whoever deletes is not kept waiting for ever, and whoever looks is told.
#[test]
fn a_deletion_that_the_disk_refuses_is_told_and_answered() {
    let (mut image, ours) = orders();
    let mut world = World::second();
    world.metadata = Some(ORDERS);
    world.first_image(&image, BTreeSet::new());
    world.run_disk();
    world.renames_fail = true;
    let remove = Record::RemoveTopic { id: ORDERS };
    image.apply(Offset(1), &remove).expect("the topic is there");
    world.image(&image, vec![remove], 2, None);
    world.run_disk();
    assert!(world.has_applied(2));
    assert_eq!(world.effects.faults.len(), ours.len());
}

#[test]
fn what_a_deleted_topic_has_left_in_a_partitions_place_is_removed_at_the_start() {
    let (image, ours) = orders();
    let mut world = World::second();
    world.metadata = Some(GONE);
    world.first_image(&image, BTreeSet::from([GONE]));
    world.run_disk();
    assert!(world.effects.ready && world.effects.faults.is_empty());
    assert_eq!(world.moved(), sorted(ours));
    let mark = format!(".{}-delete", "08".repeat(16));
    assert!(world.renamed.iter().all(|(_, to)| to.ends_with(&mark)));
    assert!(
        world
            .core
            .partitions()
            .all(|partition| partition.is_ready())
    );
}

#[test]
fn a_stray_in_a_partitions_place_is_kept_under_another_name_at_the_start() {
    let (image, ours) = orders();
    let mut world = World::second();
    world.metadata = Some(GONE);
    world.first_image(&image, BTreeSet::new());
    world.run_disk();
    assert!(world.effects.ready && world.effects.faults.is_empty());
    assert_eq!(world.moved(), sorted(ours));
    assert!(world.renamed.iter().all(|(_, to)| to.ends_with("-stray")));
}

#[test]
fn what_cannot_be_moved_out_of_a_partitions_place_keeps_only_that_offline() {
    let (image, ours) = orders();
    let mut world = World::second();
    world.metadata = Some(GONE);
    world.renames_fail = true;
    world.first_image(&image, BTreeSet::from([GONE]));
    world.run_disk();
    assert!(world.effects.ready);
    assert_eq!(world.effects.faults.len(), ours.len());
}

/// Somebody has mixed up directories: nothing of them is moved.
#[test]
fn a_directory_of_a_topic_that_lives_under_another_name_is_left_to_a_person() {
    let (mut image, ours) = orders();
    let other = Record::Topic {
        name: "other".to_owned(),
        id: GONE,
    };
    image.apply(Offset(0), &other).expect("a new name");
    let mut world = World::second();
    world.metadata = Some(GONE);
    world.first_image(&image, BTreeSet::new());
    world.run_disk();
    assert!(world.renamed.is_empty());
    let foreign = |fault: &Fault| matches!(fault, Fault::Foreign { found, .. } if *found == GONE);
    let faults = world.effects.faults.iter();
    assert_eq!(
        faults.filter(|(_, fault)| foreign(fault)).count(),
        ours.len()
    );
    let mut offline = world.core.partitions();
    assert!(offline.all(|partition| !partition.is_ready()));
}

/// Found by the simulation (3129, 1611 and 2128, deeper than usual): what was offline from the start on
/// passed for an emptied log. Its end was told as 0, to which whoever read further on went back.
#[test]
fn a_partition_of_a_data_directory_that_is_missing_at_the_start_tells_no_end_of_its_log() {
    let (image, _) = orders();
    let missing = DiskFault {
        file: FilePath::new(1, ""),
        op: "list",
        kind: FaultKind::NotFound,
    };
    let mut world = World::with(Setup {
        core: CoreId(1),
        cores: 2,
        disks: 2,
        failed_disks: BTreeMap::from([(1, missing)]),
        ..setup()
    });
    let none = Some(Found::default());
    world.image(&image, Vec::new(), 1, none);
    world.run_disk();
    assert!(world.effects.ready);
    let partition = world.core.partitions().next().expect("it owns some").id();
    let (reads, no_epoch) = (Offset(350), LeaderEpoch(-1));
    let query = ReadQuery {
        partition,
        offset: reads,
        max_bytes: 1000,
        current_leader_epoch: no_epoch,
        last_fetched_epoch: LeaderEpoch(0),
    };
    let wanted = |spec| OffsetQuery {
        partition,
        current_leader_epoch: no_epoch,
        spec,
    };
    let specs = [
        OffsetSpec::Earliest,
        OffsetSpec::Latest,
        OffsetSpec::MaxTimestamp,
        OffsetSpec::AtOrAfter(1),
    ];
    let requests = [
        Request::Read(ReadRequest {
            partitions: vec![query],
            max_bytes: 1000,
            min_bytes: 0,
            deadline: NOW.mono,
            sent: NOW.mono,
        }),
        Request::ListOffsets(specs.map(wanted).to_vec()),
        Request::EpochEnds(vec![EpochQuery {
            partition,
            current_leader_epoch: no_epoch,
            epoch: LeaderEpoch(0),
        }]),
    ];
    for (number, request) in (0..).zip(requests) {
        let core = CoreId(1);
        world.step(Event::Request {
            ticket: Ticket { core, number },
            request,
        });
    }
    let refusals: Vec<Refusal> = world
        .effects
        .replies
        .drain(..)
        .flat_map(|(_, reply)| match reply {
            Reply::Read(results) => {
                assert!(results.iter().all(|result| result.diverging.is_none()));
                let refused = results.into_iter().filter_map(|result| result.slices.err());
                refused.collect::<Vec<_>>()
            }
            Reply::ListOffsets(found) => found.into_iter().filter_map(Result::err).collect(),
            Reply::EpochEnds(ends) => ends.into_iter().filter_map(Result::err).collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(refusals, [const { Refusal::Fenced }; 6]);
}

/// At 10,000 partitions, a core's time went into asking each of them in each turn for cache that none
/// of them could drop.
#[test]
fn a_turn_does_not_ask_all_partitions_for_cache_that_none_of_them_can_drop() {
    let (image, ours) = orders();
    let count = ours.len() as u32;
    assert!(count > TRIMMED_IN_VAIN_MAX, "{count}");
    let mut world = World::with(Setup {
        core: CoreId(1),
        cores: 2,
        cache_bytes_max: 1,
        ..setup()
    });
    world.metadata = Some(ORDERS);
    world.first_image(&image, BTreeSet::new());
    world.run_disk();
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(1_750_000_000_000, None, Some(b"value"), &[]);
    let batch = Bytes::from(builder.finish());
    let ours = ours.iter().map(|name| TopicPartition {
        topic: ORDERS,
        partition: PartitionIndex(name["orders-".len()..].parse().expect("a number")),
    });
    let request = AppendRequest {
        produce_version: 9,
        from_coordinator: false,
        batches: ours.map(|id| (id, batch.clone())).collect(),
        sent: NOW.mono,
    };
    world.step(Event::Request {
        ticket: Ticket {
            core: CoreId(1),
            number: 1,
        },
        request: Request::Append(request),
    });
    world.run_disk();
    assert_eq!(world.effects.replies.len(), 1);
    let mut hand = world.core.cache_hand;
    for _ in 0..count {
        world.step(Event::Tick);
        let asked = world.core.cache_hand - hand;
        assert_eq!(
            asked, TRIMMED_IN_VAIN_MAX,
            "the next turn goes on from there"
        );
        hand = world.core.cache_hand;
    }
}
