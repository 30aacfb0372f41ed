//! A consumer: reads a partition from somewhere on, long polling, and holds every record against
//! what is known. The auditor reads everything.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{CoreId, FilePath, LeaderEpoch, Offset, TopicPartition};
use crate::log::Slice;
use crate::partition::Refusal;
use crate::record::{Batches, Scratch};
use crate::shard::{Event, ReadQuery, ReadRequest, ReadResult, Reply, Request};

use super::broker::Answer;
use super::files::Inode;
use super::world::{Happening, World};

/// The most that one of our batches unpacks to.
const UNPACKED_BYTES_MAX: usize = 1 << 20;

/// What a read in flight is about.
#[derive(Clone, Copy, Debug)]
struct Asked {
    partition: TopicPartition,
    from: Offset,
    /// The end of what was known to be committed when it was sent.
    known: Offset,
}

/// One consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    index: usize,
    home: CoreId,
    at: Option<(TopicPartition, Offset)>,
    asked: Option<Asked>,
    /// What else is read with the same request, only to be checked.
    beside: Vec<Asked>,
    /// For the auditor: what is still to be read, each up to its high watermark.
    audit: Option<VecDeque<TopicPartition>>,
}

impl Consumer {
    pub(super) fn new(index: usize) -> Consumer {
        Consumer {
            index,
            home: CoreId(0),
            at: None,
            asked: None,
            beside: Vec::new(),
            audit: None,
        }
    }

    /// Reads these partitions, each to its end.
    pub(super) fn auditor(index: usize, wanted: Vec<TopicPartition>) -> Consumer {
        Consumer {
            audit: Some(wanted.into()),
            ..Consumer::new(index)
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.asked.is_none() && self.audit.as_ref().is_none_or(VecDeque::is_empty)
    }

    pub(super) fn restarted(&mut self, home: CoreId) {
        self.home = home;
        self.asked = None;
        self.beside.clear();
        self.at = None;
    }

    pub(super) fn wake(&mut self, world: &mut World) {
        if self.asked.is_none() && world.is_ready() {
            if let Some(wanted) = &self.audit {
                let next = wanted.front().copied();
                if self.at.is_none_or(|(partition, _)| Some(partition) != next) {
                    self.at = next.map(|partition| (partition, Offset(0)));
                    next.inspect(|id| world.model.compacted.audit(*id));
                }
            } else if self.at.is_none() || world.prng.one_in(15) {
                let partition = world.some_partition(self.home);
                let offset = Offset(world.prng.below(4) as i64);
                self.at = partition.map(|partition| (partition, offset));
            }
            if self.audit.is_some() || !world.calm {
                self.read(world);
            }
        }
        let finished = self.audit.as_ref().map_or(world.calm, VecDeque::is_empty);
        if !finished {
            let after = 10_000 + world.prng.below(400_000);
            world.later(after, Happening::Client(self.index));
        }
    }

    fn read(&mut self, world: &mut World) {
        let Some((partition, offset)) = self.at else {
            return;
        };
        let known = world.model.history(partition).end();
        let asked = Asked {
            partition,
            from: offset,
            known,
        };
        self.asked = Some(asked);
        let auditing = self.audit.is_some();
        let now = world.now().mono;
        let max_bytes = if world.prng.one_in(3) { 1 << 20 } else { 500 };
        self.beside = if auditing {
            Vec::new()
        } else {
            self.more(world, partition)
        };
        let query = |asked: &Asked| ReadQuery {
            partition: asked.partition,
            offset: asked.from,
            max_bytes,
            current_leader_epoch: LeaderEpoch(-1),
            last_fetched_epoch: LeaderEpoch(-1),
        };
        let request = ReadRequest {
            partitions: [asked].iter().chain(&self.beside).map(query).collect(),
            max_bytes,
            min_bytes: if auditing {
                0
            } else {
                world.prng.below(300) as i64
            },
            deadline: now.after_ms(world.prng.below(20) as i64),
            sent: now,
        };
        let to = world.owner(partition);
        let ticket = world.ask((self.index, 0), self.home, to, Request::Read(request));
        if !auditing && world.prng.one_in(8) {
            world.mail(self.home, to, Happening::Event(to, Event::Cancel(ticket)));
        }
    }

    /// Some more partitions of the same core, each from somewhere.
    fn more(&self, world: &mut World, first: TopicPartition) -> Vec<Asked> {
        let mut more: Vec<Asked> = Vec::new();
        for _ in 0..world.prng.below(4) {
            let Some(partition) = world.some_partition(self.home) else {
                continue;
            };
            let taken = more.iter().any(|asked| asked.partition == partition);
            if taken || partition == first || world.owner(partition) != world.owner(first) {
                continue;
            }
            let known = world.model.history(partition).end();
            let from = Offset(world.prng.below(known.0 as u64 + 1) as i64);
            more.push(Asked {
                partition,
                from,
                known,
            });
        }
        more
    }

    pub(super) fn answered(
        &mut self,
        world: &mut World,
        _mark: u64,
        answer: Answer,
    ) -> Result<(), String> {
        let Some(asked) = self.asked.take() else {
            return Err("a consumer was answered twice".to_owned());
        };
        let Answer {
            reply: Reply::Read(results),
            files,
        } = answer
        else {
            return Err(format!("a consumer was answered with {:?}", answer.reply));
        };
        let beside = std::mem::take(&mut self.beside);
        let Some((result, others)) = results
            .split_first()
            .filter(|(_, others)| others.len() == beside.len())
        else {
            return Err(format!(
                "{} partitions were asked for, {} answered",
                beside.len() + 1,
                results.len()
            ));
        };
        for (asked, result) in beside.into_iter().zip(others) {
            check_beside(world, asked, result, &files)?;
        }
        match &result.slices {
            Err(refusal) => self.refused(asked, refusal, result),
            Ok(slices) => match bytes_of(world, slices, &files) {
                Some(bytes) => self.take(world, asked, &bytes, result),
                // The host refuses the read then; the client asks again.
                None => Ok(()),
            },
        }
    }

    fn refused(
        &mut self,
        asked: Asked,
        refusal: &Refusal,
        result: &ReadResult,
    ) -> Result<(), String> {
        match refusal {
            Refusal::OffsetOutOfRange { start, end, .. } => {
                if (*start..=*end).contains(&asked.from) {
                    return Err(format!(
                        "{asked:?} is out of range, but {start} to {end} is not"
                    ));
                }
                self.at = Some((asked.partition, result.log_start_offset));
                Ok(())
            }
            Refusal::NotLeader | Refusal::Fenced => {
                if let Some(wanted) = &self.audit {
                    return Err(format!("{:?} cannot be read: {refusal:?}", wanted.front()));
                }
                self.at = None;
                Ok(())
            }
            other => Err(format!("a read was refused: {other:?}")),
        }
    }

    fn take(
        &mut self,
        world: &mut World,
        asked: Asked,
        bytes: &[u8],
        result: &ReadResult,
    ) -> Result<(), String> {
        let Asked {
            partition,
            from,
            known,
        } = asked;
        if bytes.len() != result.size {
            return Err(format!(
                "{partition:?}: {} bytes of {}",
                bytes.len(),
                result.size
            ));
        }
        if result.high_watermark < known {
            let high_watermark = result.high_watermark;
            return Err(format!(
                "{partition:?} shows {high_watermark}, {known} is committed"
            ));
        }
        let next = check(world, asked, bytes, result.high_watermark)?;
        self.at = Some((partition, next));
        if let Some(wanted) = &mut self.audit
            && next >= result.high_watermark
        {
            wanted.pop_front();
            let range = (result.log_start_offset, result.high_watermark);
            world.model.check_compacted(partition, range)?;
        } else if bytes.is_empty() && self.audit.is_some() && from < result.high_watermark {
            return Err(format!(
                "{partition:?}: nothing at {from}, below the high watermark"
            ));
        }
        Ok(())
    }
}

/// What the slices hold; none if a file could not be opened.
fn bytes_of(
    world: &World,
    slices: &[Slice],
    files: &BTreeMap<FilePath, Option<Inode>>,
) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for slice in slices {
        match slice {
            Slice::Memory(part) => bytes.extend_from_slice(part),
            Slice::File { file, at, len, .. } => {
                let inode = files.get(file).copied().flatten()?;
                bytes.extend(world.disk.content(inode).read(*at, *len));
            }
        }
    }
    Some(bytes)
}

/// Checks one partition of a read that asked for more than one.
fn check_beside(
    world: &mut World,
    asked: Asked,
    result: &ReadResult,
    files: &BTreeMap<FilePath, Option<Inode>>,
) -> Result<(), String> {
    match &result.slices {
        Ok(slices) => match bytes_of(world, slices, files) {
            Some(bytes) => check(world, asked, &bytes, result.high_watermark).map(|_| ()),
            None => Ok(()),
        },
        Err(Refusal::OffsetOutOfRange { start, end, .. }) => {
            match (*start..=*end).contains(&asked.from) {
                true => Err(format!("{asked:?} is refused, but {start} to {end} is not")),
                false => Ok(()),
            }
        }
        Err(Refusal::NotLeader | Refusal::Fenced) => Ok(()),
        Err(other) => Err(format!("a read was refused: {other:?}")),
    }
}

/// Checks what was read: whole batches in a row, records that are known. Gives the next offset.
fn check(world: &mut World, asked: Asked, bytes: &[u8], end: Offset) -> Result<Offset, String> {
    let Asked {
        partition, from, ..
    } = asked;
    let mut next = from;
    let mut scratch = Scratch::new();
    let gaps = world.model.compacted.retention(partition).is_some();
    for (index, batch) in Batches::new(bytes).enumerate() {
        let wrong = |why: &dyn std::fmt::Display| {
            format!("{partition:?} from {from}, batch {index}: {why}")
        };
        let batch = batch.map_err(|why| wrong(&why))?;
        batch.verify().map_err(|why| wrong(&why))?;
        let header = batch.header;
        let begins_right = if index == 0 {
            header.base_offset <= next
        } else {
            header.base_offset == next
        } || (gaps && header.base_offset > next);
        if !begins_right || header.last_offset() < next {
            return Err(wrong(&format!(
                "{} to {}",
                header.base_offset,
                header.last_offset()
            )));
        }
        if header.last_offset() >= end {
            return Err(wrong(&format!(
                "{} is not below {end}",
                header.last_offset()
            )));
        }
        let records = batch
            .records(&mut scratch, UNPACKED_BYTES_MAX)
            .map_err(|why| wrong(&why))?;
        for record in records {
            let record = record.map_err(|why| wrong(&why))?;
            let marked = record.headers.clone().find_map(|(_, value)| value);
            let number = record
                .value
                .or(marked)
                .and_then(|value| value.first_chunk::<8>());
            let number = number.ok_or_else(|| wrong(&"a record without a number"))?;
            let number = u64::from_be_bytes(*number);
            world
                .model
                .read(partition, record.offset, number, record.timestamp)?;
        }
        next = header.last_offset().plus(1);
    }
    Ok(next)
}
