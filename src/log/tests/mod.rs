//! The log on a disk in memory.

mod compaction;
mod crash;
mod damage;
mod disk;
mod fuzz;
mod removal;
mod rules;
mod start;

use bytes::Bytes;

use crate::base::{DiskOp, FilePath, LeaderEpoch, Mono, Now, Offset, Pool, TopicId, Wall};
use crate::record::{BatchBuilder, Codec, verify};

use super::{AppendRefused, Appended, Event, Log, Options, Read, Slice};
use disk::Disk;

/// A log and its disk.
struct World {
    disk: Disk,
    log: Log,
    options: Options,
    now: Now,
    events: Vec<Event>,
    out: Vec<DiskOp>,
}

fn directory() -> FilePath {
    FilePath::new(0, "orders-0")
}

fn topic() -> TopicId {
    TopicId([9; 16])
}

thread_local! {
    /// One for all logs of a test: thousands of them come and go.
    static POOL: Pool = Pool::new(4 << 20);
}

fn pool() -> Pool {
    POOL.with(Pool::clone)
}

/// A batch of `count` records that carry `size` random bytes each, from `timestamp` on.
fn batch(count: i64, size: usize, timestamp: i64, seed: u64) -> Vec<u8> {
    let mut prng = crate::base::Prng::new(seed);
    let mut builder = BatchBuilder::new(Codec::None);
    for n in 0..count {
        let mut value = vec![0; size];
        prng.fill(&mut value);
        // No sector of a payload is all zeros, as in most real data.
        builder.append(timestamp + n, Some(b"key"), Some(&value), &[]);
    }
    builder.finish()
}

impl World {
    fn new(seed: u64, options: Options) -> World {
        World {
            disk: Disk::new(seed),
            log: Log::new(directory(), 1, topic(), options.clone(), pool()),
            options,
            now: Now {
                mono: Mono(1),
                wall: Wall(1_000_000),
            },
            events: Vec::new(),
            out: Vec::new(),
        }
    }

    fn append(&mut self, batch: &[u8]) -> Result<Appended, AppendRefused> {
        self.log.append(self.now, batch, LeaderEpoch(0))
    }

    fn flush(&mut self) {
        self.log.flush_turn(self.now, &mut self.out);
        self.disk.pending.append(&mut self.out);
    }

    /// One completion; false when nothing is in flight.
    fn step(&mut self) -> bool {
        self.disk.pending.append(&mut self.out);
        let Some(done) = self.disk.complete_one() else {
            return false;
        };
        self.log
            .handle_disk(self.now, done, &mut self.out, &mut self.events);
        self.disk.pending.append(&mut self.out);
        true
    }

    fn run(&mut self) {
        while self.step() {}
    }

    /// Runs, but for the first sync, which goes into `held`, unless one is there already, and takes
    /// until somebody puts it back.
    fn run_but_for_a_sync(&mut self, held: &mut Vec<DiskOp>) {
        let sync = |op: &DiskOp| matches!(op, DiskOp::Sync { .. });
        loop {
            self.disk.pending.append(&mut self.out);
            if held.is_empty()
                && let Some(at) = self.disk.pending.iter().position(sync)
            {
                held.push(self.disk.pending.remove(at));
            }
            if !self.step() {
                break;
            }
        }
    }

    fn append_all(&mut self, batch: &[u8]) -> Appended {
        let appended = self.append(batch).expect("taken");
        self.flush();
        self.run();
        appended
    }

    /// Runs, and answers if a checkpoint is wanted.
    fn run_with_checkpoint(&mut self, producers: &'static [u8]) {
        self.run();
        let wanted = |event: &Event| matches!(event, Event::CheckpointWanted);
        if self.events.iter().any(wanted) {
            self.events.retain(|event| !wanted(event));
            let producers = Bytes::from_static(producers);
            self.log.checkpoint(producers, &mut self.out);
            self.run();
        }
    }

    fn tick(&mut self, millis: i64) {
        self.now.mono = self.now.mono.after_ms(millis);
        self.now.wall.0 += millis;
        self.log.tick(self.now, &mut self.out, &mut self.events);
        self.run();
    }

    /// A new process over the same disk.
    fn reopen(&mut self) {
        self.disk.pending.clear();
        self.out.clear();
        self.events.clear();
        let options = self.options.clone();
        self.log = Log::open(directory(), 1, topic(), options, pool(), &mut self.out);
        self.run();
    }

    fn close(&mut self) {
        self.log
            .close(Bytes::from_static(b"producers"), &mut self.out);
        self.run();
        assert!(
            self.events
                .iter()
                .any(|event| matches!(event, Event::Closed))
        );
    }

    fn ready(&self) -> (bool, u64, u64) {
        let found = self.events.iter().find_map(|event| match event {
            Event::Ready {
                clean,
                bytes_scanned,
                bytes_cut,
            } => Some((*clean, *bytes_scanned, *bytes_cut)),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("not ready: {:?}", self.log.fault()))
    }

    /// One read, its fills carried out, as bytes.
    fn read(&mut self, from: Offset, max_bytes: usize) -> Result<Vec<u8>, Read> {
        for _ in 0..100 {
            match self.log.read(from, Offset(i64::MAX), max_bytes, true) {
                Read::Slices(slices) => return Ok(self.bytes_of(&slices)),
                Read::Fill(range) => {
                    self.log.fill(range, &mut self.out);
                    self.run();
                }
                other => return Err(other),
            }
        }
        panic!("a read that never ends at {from}");
    }

    fn bytes_of(&self, slices: &[Slice]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for slice in slices {
            match slice {
                Slice::Memory(memory) => bytes.extend_from_slice(memory),
                Slice::File { file, at, len, .. } => {
                    let contents = &self.disk.files[file].now;
                    bytes.extend_from_slice(&contents[*at as usize..*at as usize + len]);
                }
            }
        }
        bytes
    }

    /// All batches from `from` to the end, verified: (base offset, bytes).
    fn read_all(&mut self, mut from: Offset, max_bytes: usize) -> Vec<(Offset, Vec<u8>)> {
        let mut batches = Vec::new();
        while let Ok(bytes) = self.read(from, max_bytes) {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let header = verify(rest).expect("only whole valid batches are served");
                batches.push((header.base_offset, rest[..header.size()].to_vec()));
                from = header.last_offset().plus(1);
                rest = &rest[header.size()..];
            }
        }
        batches
    }
}
