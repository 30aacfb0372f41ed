//! Whoever makes topics, grows and deletes them, deletes records and looks offsets up.

use std::collections::BTreeMap;

use crate::base::{CoreId, LeaderEpoch, Offset, TopicId, TopicPartition};
use crate::cluster::controller::{
    ConfigChange, ConfigOperation, MorePartitions, NewTopic, TopicKey,
};
use crate::cluster::{ControlReply, ControlRequest, Resource};
use crate::partition::Refusal;
use crate::shard::{FoundOffset, OffsetQuery, OffsetSpec, Reply, Request};

use super::compacted;
use super::invariants::SEGMENT_BYTES_MAX;
use super::world::{Happening, RETENTION_MS_MAX, World};

/// Names of topics; few, so that they are used again.
const NAMES: [&str; 3] = ["orders", "a.b", "x-1"];

/// What a question in flight was.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Create,
    Grow {
        topic: TopicId,
        count: usize,
    },
    Delete,
    Configure {
        topic: TopicId,
        /// The number of a change of `flush.messages`, and whether it becomes 1.
        flush: Option<(u64, bool)>,
    },
    DeleteRecords {
        partition: TopicPartition,
    },
    Offsets {
        partition: TopicPartition,
        spec: OffsetSpec,
        known: Offset,
    },
}

/// The one who administers.
#[derive(Debug)]
pub(super) struct Admin {
    index: usize,
    home: CoreId,
    asked: BTreeMap<u64, Asked>,
    marks: u64,
}

impl Admin {
    pub(super) fn new(index: usize) -> Admin {
        Admin {
            index,
            home: CoreId(0),
            asked: BTreeMap::new(),
            marks: 0,
        }
    }

    pub(super) fn restarted(&mut self, home: CoreId) {
        self.home = home;
        self.asked.clear();
    }

    pub(super) fn wake(&mut self, world: &mut World) {
        if world.calm {
            return;
        }
        if world.is_ready() && self.asked.len() < 3 {
            self.do_something(world);
        }
        let after = 100_000 + world.prng.below(4_000_000);
        world.later(after, Happening::Client(self.index));
    }

    fn do_something(&mut self, world: &mut World) {
        let name = NAMES[world.prng.below(NAMES.len() as u64) as usize];
        let image = world.image(self.home);
        let topic = image.topic(name).cloned();
        match (topic, world.prng.below(10)) {
            (None, _) => self.create(world, name),
            (Some(topic), 0) => {
                world.model.may_go(topic.id);
                let request = ControlRequest::DeleteTopics(vec![TopicKey::Id(topic.id)]);
                self.control(world, Asked::Delete, request);
            }
            (Some(topic), 1) if topic.partitions.len() < 4 => {
                let count = topic.partitions.len() + 1;
                let request = ControlRequest::CreatePartitions {
                    topics: vec![MorePartitions {
                        name: name.to_owned(),
                        count: count as i32,
                        assignments: None,
                    }],
                    validate_only: false,
                };
                self.control(
                    world,
                    Asked::Grow {
                        topic: topic.id,
                        count,
                    },
                    request,
                );
            }
            (Some(_), 2..4) => self.delete_records(world),
            (Some(topic), 4..7) => self.configure(world, topic.id, name),
            (Some(_), _) => self.look_up(world),
        }
    }

    fn create(&mut self, world: &mut World, name: &str) {
        let mut configs: Vec<(String, Option<String>)> = Vec::new();
        let mut set = |name: &str, value: u64| {
            configs.push((name.to_owned(), Some(value.to_string())));
        };
        if world.prng.one_in(3) && !world.plan.strict {
            set("flush.messages", 5 + world.prng.below(1000));
            set("flush.ms", world.prng.below(40));
        }
        if !world.prng.one_in(3) {
            set("internal.segment.bytes", segment_bytes(world));
        }
        if world.prng.one_in(4) {
            set("retention.ms", 1 + world.prng.below(RETENTION_MS_MAX));
        }
        if world.prng.one_in(4) {
            set("retention.bytes", world.prng.below(60_000));
        }
        if world.prng.one_in(3) {
            let compacted = compacted::topic_configs(&mut world.prng);
            configs.retain(|(name, _)| name != "internal.segment.bytes");
            let named = |(name, value): (&str, String)| (name.to_owned(), Some(value));
            configs.extend(compacted.into_iter().map(named));
        }
        let mut set = |name: &str, value: u64| {
            configs.push((name.to_owned(), Some(value.to_string())));
        };
        set("index.interval.bytes", world.prng.below(4096));
        set("file.delete.delay.ms", world.prng.below(20));
        let request = ControlRequest::CreateTopics {
            topics: vec![NewTopic {
                name: name.to_owned(),
                partitions: 1 + world.prng.below(3) as i32,
                replication_factor: 1,
                assignments: Vec::new(),
                configs,
                internal: false,
            }],
            validate_only: false,
        };
        self.control(world, Asked::Create, request);
    }

    /// Changes one or two configs of a topic under load.
    fn configure(&mut self, world: &mut World, topic: TopicId, name: &str) {
        let mut operations = Vec::new();
        let mut flush = None;
        for _ in 0..1 + world.prng.below(2) {
            let (config, value) = match world.prng.below(7) {
                0 => ("retention.ms", 1 + world.prng.below(RETENTION_MS_MAX)),
                1 => ("retention.bytes", world.prng.below(60_000)),
                2 => ("internal.segment.bytes", segment_bytes(world)),
                3 => ("segment.ms", 1 + world.prng.below(40)),
                4 => ("index.interval.bytes", world.prng.below(4096)),
                5 => ("file.delete.delay.ms", world.prng.below(20)),
                _ if world.plan.strict => ("flush.ms", world.prng.below(40)),
                _ => {
                    let messages = [1, 5 + world.prng.below(1000)][world.prng.below(2) as usize];
                    flush = Some((world.model.flush_asked(topic), messages == 1));
                    ("flush.messages", messages)
                }
            };
            let is_retention = config.starts_with("retention");
            let operation = if is_retention && world.prng.one_in(3) {
                ConfigOperation::Delete
            } else {
                ConfigOperation::Set(Some(value.to_string()))
            };
            operations.retain(|(other, _)| other != config);
            operations.push((config.to_owned(), operation));
        }
        let change = ConfigChange {
            resource: Ok(Resource::Topic(name.to_owned())),
            replace: false,
            operations,
        };
        let request = ControlRequest::AlterConfigs {
            changes: vec![change],
            validate_only: false,
        };
        self.control(world, Asked::Configure { topic, flush }, request);
    }

    fn control(&mut self, world: &mut World, asked: Asked, request: ControlRequest) {
        self.ask(world, asked, CoreId(0), Request::Control(request));
    }

    fn ask(&mut self, world: &mut World, asked: Asked, to: CoreId, request: Request) {
        self.marks += 1;
        self.asked.insert(self.marks, asked);
        world.ask((self.index, self.marks), self.home, to, request);
    }

    fn delete_records(&mut self, world: &mut World) {
        let Some(partition) = world.some_partition(self.home) else {
            return;
        };
        let end = world.model.history(partition).end();
        let to = Offset(world.prng.below(end.0 as u64 + 1) as i64);
        world.model.start_asked(partition, to);
        let to_core = world.owner(partition);
        let request = Request::DeleteRecords(vec![(partition, to)]);
        self.ask(world, Asked::DeleteRecords { partition }, to_core, request);
    }

    fn look_up(&mut self, world: &mut World) {
        let Some(partition) = world.some_partition(self.home) else {
            return;
        };
        let known = world.model.history(partition).end();
        let ago = world.prng.below(2000) as i64;
        let spec = match world.prng.below(4) {
            0 => OffsetSpec::Earliest,
            1 => OffsetSpec::Latest,
            2 => OffsetSpec::MaxTimestamp,
            _ => OffsetSpec::AtOrAfter(world.now().wall.0 - ago),
        };
        let current_leader_epoch = LeaderEpoch(-1);
        let query = OffsetQuery {
            partition,
            current_leader_epoch,
            spec,
        };
        let to = world.owner(partition);
        let asked = Asked::Offsets {
            partition,
            spec,
            known,
        };
        self.ask(world, asked, to, Request::ListOffsets(vec![query]));
    }

    pub(super) fn answered(
        &mut self,
        world: &mut World,
        mark: u64,
        reply: Reply,
    ) -> Result<(), String> {
        let Some(asked) = self.asked.remove(&mark) else {
            return Err("the administrator was answered twice".to_owned());
        };
        match (asked, reply) {
            (Asked::Create, Reply::Control(ControlReply::CreateTopics(results))) => {
                for created in results.into_iter().filter_map(|(_, result)| result.ok()) {
                    world.model.exists(created.id, created.partitions as usize);
                }
                Ok(())
            }
            (
                Asked::Grow { topic, count },
                Reply::Control(ControlReply::CreatePartitions(results)),
            ) => {
                if results.iter().all(|(_, result)| result.is_ok()) {
                    world.model.exists(topic, count);
                }
                Ok(())
            }
            (Asked::Delete, Reply::Control(ControlReply::DeleteTopics(results))) => {
                for (_, id) in results.into_iter().filter_map(|(_, result)| result.ok()) {
                    world.model.gone(id);
                }
                Ok(())
            }
            (
                Asked::Configure { topic, flush },
                Reply::Control(ControlReply::AlterConfigs(results)),
            ) => {
                if results.iter().all(Result::is_ok) {
                    world.model.config_changes += 1;
                    if let Some((number, strict)) = flush {
                        world.model.flush_changed(topic, number, strict);
                    }
                }
                Ok(())
            }
            (
                Asked::Create | Asked::Grow { .. } | Asked::Delete | Asked::Configure { .. },
                Reply::Control(_),
            ) => Ok(()),
            (Asked::DeleteRecords { partition }, Reply::DeleteRecords(results)) => {
                if let [Ok(start)] = results.as_slice() {
                    world.model.start_promised(partition, *start);
                }
                Ok(())
            }
            (
                Asked::Offsets {
                    partition,
                    spec,
                    known,
                },
                Reply::ListOffsets(results),
            ) => match results.as_slice() {
                [Ok(found)] => check(world, partition, spec, known, *found),
                [Err(Refusal::NotLeader | Refusal::Fenced)] => Ok(()),
                other => Err(format!("offsets of {partition:?}: {other:?}")),
            },
            (asked, reply) => Err(format!("{asked:?} was answered with {reply:?}")),
        }
    }
}

fn segment_bytes(world: &mut World) -> u64 {
    4100 + world.prng.below(SEGMENT_BYTES_MAX as u64 - 4100)
}

fn check(
    world: &mut World,
    partition: TopicPartition,
    spec: OffsetSpec,
    known: Offset,
    found: FoundOffset,
) -> Result<(), String> {
    let whole = world.model.compacted.retention(partition).is_none();
    let history = world.model.history(partition);
    let offset = found.offset;
    let result = match spec {
        OffsetSpec::Latest if offset < known => Err(format!("latest is {offset} below {known}")),
        // Of a compacted log, what was read once may be gone.
        OffsetSpec::AtOrAfter(wanted) if whole => {
            let found = (offset.0 >= 0).then_some(offset);
            history.check_timestamp(wanted, known, found)
        }
        OffsetSpec::Earliest
        | OffsetSpec::Latest
        | OffsetSpec::AtOrAfter(_)
        | OffsetSpec::MaxTimestamp
        | OffsetSpec::LatestTiered => Ok(()),
    };
    result.map_err(|why| format!("offsets of {partition:?}: {why}"))
}
