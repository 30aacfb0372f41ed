//! A journal under logs that write as logs do, a disk that answers in any order, and kills at any
//! time: what was answered must be in the files after a replay.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::{TRAILER_BYTES, read_file};
use super::replay::lay_over;
use super::*;
use crate::base::{DiskOutput, Prng, Space};

const OWNER: u32 = 900;
const TOPIC: TopicId = TopicId([3; 16]);

/// A log: what it wrote, of which the last write may be on its way.
#[derive(Default)]
struct Log {
    written: Vec<u8>,
    answered: usize,
    writing: bool,
}

impl Log {
    /// The next write, with the block that the one before left unfinished.
    fn write(&mut self, bytes: usize, prng: &mut Prng) -> (u64, Buf) {
        let at = self.written.len() - self.written.len() % BLOCK;
        let fresh = (0..bytes).map(|_| 1 + prng.below(255) as u8);
        self.written.extend(fresh);
        let news = &self.written[at..];
        let length = (news.len() + TRAILER_BYTES).next_multiple_of(BLOCK);
        let mut data = Buf::allocate(length);
        data.set_len(length);
        data.whole_mut().fill(0);
        data.whole_mut()[..news.len()].copy_from_slice(news);
        data.whole_mut()[length - TRAILER_BYTES..length].fill(prng.below(256) as u8);
        self.writing = true;
        (at as u64, data)
    }
}

struct World {
    prng: Prng,
    journal: Journal,
    logs: Vec<Log>,
    files: BTreeMap<String, Vec<u8>>,
    asked: Vec<DiskOp>,
}

fn put(file: &mut Vec<u8>, at: u64, data: &[u8]) {
    let end = at as usize + data.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at as usize..end].copy_from_slice(data);
}

fn path(log: usize) -> FilePath {
    FilePath::new(0, &format!("log-{log}/0.log"))
}

impl World {
    fn new(seed: u64) -> World {
        let mut prng = Prng::new(seed);
        let options = Options {
            bytes: 2 * EXTENT_BYTES_MIN,
            writes_min: prng.below(3) as usize,
            memory_bytes: (8 + prng.below(100) as usize) * BLOCK,
        };
        let logs = 1 + prng.below(5);
        World {
            prng,
            journal: Journal::new(OWNER, 0, 0, Pool::new(1 << 20), options),
            logs: (0..logs).map(|_| Log::default()).collect(),
            files: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    fn take(&mut self, out: Outcome) {
        self.asked.extend(out.ops);
        for done in out.done {
            self.log_answered(done);
        }
        let mut memory = 0;
        for tracked in self.journal.tracked.values() {
            let images = tracked.images.iter().map(|image| image.data.capacity());
            assert_eq!(tracked.bytes, images.sum::<usize>());
            memory += tracked.bytes;
        }
        assert_eq!(self.journal.memory, memory);
        let place = |op: &DiskOp| match op {
            DiskOp::Write { file, at, data, .. } => {
                let frame = file.path.starts_with(FILE_PREFIX) && data.starts_with(b"corejrnl");
                frame.then_some(at / EXTENT_BYTES_MIN)
            }
            _ => None,
        };
        let mut extents: Vec<u64> = self.asked.iter().filter_map(place).collect();
        extents.dedup();
        assert!(
            extents.len() <= 1,
            "frames in both extents are on their way"
        );
    }

    fn log_answered(&mut self, done: DiskDone) {
        done.result.expect("no disk fails here");
        let log = &mut self.logs[done.id.sequence as usize];
        log.answered = log.written.len();
        log.writing = false;
    }

    /// What the disk does is in the files; of a kill amid it, so many of its blocks are.
    fn perform(&mut self, op: &DiskOp, blocks: usize) {
        if let DiskOp::Write { file, at, data, .. } = op {
            let file = self.files.entry(file.path.to_string()).or_default();
            put(file, *at, &data[..data.len().min(blocks * BLOCK)]);
        }
    }

    fn step(&mut self) {
        let mut out = Outcome::default();
        match self.prng.below(5) {
            0 | 1 => {
                let log = self.prng.below(self.logs.len() as u64) as usize;
                if !self.logs[log].writing {
                    let bytes = 1 + self.prng.below(6000) as usize;
                    let (at, data) = self.logs[log].write(bytes, &mut self.prng);
                    let id = OpId {
                        owner: 1,
                        sequence: log as u32,
                    };
                    let op = durable_write(id, path(log), at, Arc::new(data));
                    self.journal.route(TOPIC, op, &mut out);
                }
            }
            2 => {
                self.journal.pump(&mut out);
                self.journal.end_turn(&mut out);
            }
            _ if self.asked.is_empty() => self.journal.rest(&mut out),
            _ => {
                let index = self.prng.below(self.asked.len() as u64) as usize;
                let op = self.asked.swap_remove(index);
                self.perform(&op, usize::MAX / BLOCK);
                let space = Space {
                    total: u64::MAX,
                    usable: u64::MAX,
                    reserve: 0,
                };
                let output = match op {
                    DiskOp::Space { .. } => DiskOutput::Space(space),
                    _ => DiskOutput::Done,
                };
                let (id, result) = (op.id(), Ok(output));
                if id.owner == OWNER {
                    self.journal.own_done(DiskDone { id, result }, &mut out);
                } else {
                    self.journal.direct_done(id);
                    self.log_answered(DiskDone { id, result });
                }
            }
        }
        self.take(out);
    }

    /// Everything ends here, and the next start replays. How many images there were to replay, and how
    /// many of them without what the ones before have.
    fn kill(mut self, seed: u64) -> (usize, usize) {
        for op in std::mem::take(&mut self.asked) {
            let blocks = self.prng.below(9) as usize;
            self.perform(&op, blocks);
        }
        let journal = self.files.remove(&format!("{FILE_PREFIX}0"));
        let mut journal = journal.unwrap_or_default();
        journal.resize(2 * EXTENT_BYTES_MIN as usize, 0);
        let (_, entries) = read_file(&journal).expect("nothing was damaged");
        let images = entries.iter().filter_map(|entry| entry.image.as_ref());
        let short = images.filter(|(at, _)| at % BLOCK as u64 != 0).count();
        let count = entries.len();
        let found = lay_over(entries).expect("no image lacks its front");
        for ((path, topic), images) in found {
            assert_eq!(topic, TOPIC);
            let file = self.files.entry(path).or_default();
            for (at, bytes) in images {
                put(file, at, &bytes);
            }
        }
        for (number, log) in self.logs.iter().enumerate() {
            let file = self.files.entry(path(number).path.to_string()).or_default();
            let kept = file.len().min(log.answered);
            assert!(
                file[..kept] == log.written[..log.answered],
                "seed {seed}: log {number} lost something"
            );
        }
        (count, short)
    }
}

#[test]
fn whatever_was_answered_is_there_after_a_kill_at_any_time() {
    let (mut replayed, mut without_front, mut recycled) = (0, 0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..200 + seed * 3 {
            world.step();
        }
        recycled += world.journal.counts.recycles;
        let (images, short) = world.kill(seed);
        (replayed, without_front) = (replayed + images, without_front + short);
    }
    assert!(replayed > 3000, "only {replayed} images were replayed");
    assert!(
        without_front > 1000,
        "{without_front} of them lack their front"
    );
    assert!(recycled > 900, "only {recycled} extents were begun");
}
