//! Compaction on a disk in memory: what stays, what goes, and that any step of it can be the last.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::base::{Prng, ProducerEpoch, ProducerId, Sequence};
use crate::log::{Abandoned, Assignment, Compacted, LastBatch, Progress};
use crate::record::{BatchHeader, Batches, Scratch};

const RETENTION_MS: i64 = 10_000;

fn options() -> Options {
    Options {
        segment_bytes: 6000,
        index_interval_bytes: 500,
        compact: true,
        dirty_ratio_min: 0.0,
        delete_retention_ms: RETENTION_MS,
        file_delete_delay_ms: 5,
        ..Options::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    key: u64,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

/// What was appended, by offset.
#[derive(Default)]
struct Model {
    records: BTreeMap<i64, Record>,
    /// When each tombstone may have been seen first by a round.
    seen: BTreeMap<i64, i64>,
}

impl Model {
    /// The newest record of the same key below `end`, if it is another one.
    fn newer(&self, offset: i64, end: i64) -> Option<i64> {
        let key = self.records[&offset].key;
        let mut later = self.records.range(offset + 1..end).rev();
        later
            .find(|(_, record)| record.key == key)
            .map(|(offset, _)| *offset)
    }

    /// Holds what is in the log against what was appended.
    fn check(&self, found: &BTreeMap<i64, Record>, (start, end): (i64, i64), now: i64, what: &str) {
        for (offset, record) in found {
            assert_eq!(
                Some(record),
                self.records.get(offset),
                "{what}: {offset} changed"
            );
        }
        for (offset, record) in self.records.range(start..end) {
            if found.contains_key(offset) || self.newer(*offset, end).is_some() {
                continue;
            }
            let seen = self.seen.get(offset).copied().unwrap_or(i64::MAX);
            let may_go = record.value.is_none() && now >= seen.saturating_add(RETENTION_MS);
            assert!(
                may_go,
                "{what}: the newest of key {} at {offset} is gone: {record:?}",
                record.key
            );
        }
    }

    fn cut(&mut self, end: i64) {
        self.records.split_off(&end);
    }
}

/// One log with its model.
struct Bench {
    world: World,
    model: Model,
    prng: Prng,
    sequence: i32,
}

impl Bench {
    fn new(seed: u64, options: Options) -> Bench {
        Bench {
            world: World::new(seed, options),
            model: Model::default(),
            prng: Prng::new(seed ^ 0x77),
            sequence: 0,
        }
    }

    /// Appends a batch of random records over `keys` keys.
    fn append(&mut self, keys: u64) {
        let now = self.world.now.wall.0;
        let codecs = [
            Codec::None,
            Codec::None,
            Codec::Lz4,
            Codec::Zstd,
            Codec::Snappy,
        ];
        let codec = codecs[self.prng.below(5) as usize];
        let count = 1 + self.prng.below(4) as i32;
        let producer = (ProducerId(4), ProducerEpoch(0), Sequence(self.sequence));
        let mut builder = BatchBuilder::new(codec).producer(producer.0, producer.1, producer.2);
        let mut records = Vec::new();
        for n in 0..i64::from(count) {
            let key = self.prng.below(keys);
            let mut bytes = vec![0; self.prng.below(200) as usize];
            self.prng.fill(&mut bytes);
            let value = (!self.prng.one_in(6)).then_some(bytes);
            builder.append(now + n, Some(&key.to_be_bytes()), value.as_deref(), &[]);
            records.push(Record {
                key,
                value,
                timestamp: now + n,
            });
        }
        if let Ok(appended) = self.world.append(&builder.finish()) {
            self.sequence += count;
            for (record, offset) in records.into_iter().zip(appended.base_offset.0..) {
                self.model.records.insert(offset, record);
            }
        }
    }

    fn fill(&mut self, batches: usize, keys: u64) {
        for _ in 0..batches {
            self.append(keys);
            self.world.flush();
            self.run();
        }
    }

    /// Everything in flight, and the checkpoints that are asked for.
    fn run(&mut self) {
        loop {
            self.world.run();
            let wanted = |event: &Event| matches!(event, Event::CheckpointWanted);
            if !self.world.events.iter().any(wanted) {
                return;
            }
            self.world.events.retain(|event| !wanted(event));
            self.world
                .log
                .checkpoint(Bytes::from_static(b"p"), &mut self.world.out);
        }
    }

    fn last_batch(&mut self) -> LastBatch {
        let last_offset = self.world.log.end_offset().plus(-1);
        LastBatch {
            last_offset: Some(last_offset),
            epoch: ProducerEpoch(0),
        }
    }

    fn begin_with(&mut self, key_bytes_max: usize) -> bool {
        let last = self.last_batch();
        let assignment = Assignment {
            stable: self.world.log.committed_end(),
            key_bytes_max,
            load_factor: 0.9,
            secret: (1, 2),
            producers: BTreeMap::from([(ProducerId(4), last)]),
            aborted: Vec::new(),
        };
        let now = self.world.now;
        let begun = self.world.log.begin_compaction(now, assignment);
        if begun {
            let wall = now.wall.0;
            for (offset, record) in &self.model.records {
                if record.value.is_none() {
                    self.model.seen.entry(*offset).or_insert(wall);
                }
            }
        }
        begun
    }

    fn begin(&mut self) -> bool {
        self.begin_with(1 << 20)
    }

    fn slice(&mut self) -> Progress {
        let world = &mut self.world;
        world
            .log
            .compact(world.now, &mut world.out, &mut world.events)
            .0
    }

    /// A round to its end.
    fn compact(&mut self) -> Compacted {
        assert!(self.begin(), "something to do");
        self.finish()
    }

    fn finish(&mut self) -> Compacted {
        for _ in 0..100_000 {
            match self.slice() {
                Progress::More => {}
                Progress::Waiting => assert!(self.world.step(), "an operation in flight"),
                Progress::Blocked => {
                    self.world.tick(20);
                    self.run();
                }
                Progress::Done(done) => {
                    // The names, which nobody waits for.
                    self.run();
                    self.world.tick(50);
                    self.run();
                    return *done;
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("a round that never ends");
    }

    fn found(&mut self, max_bytes: usize) -> BTreeMap<i64, Record> {
        let start = self.world.log.start_offset();
        let mut found = BTreeMap::new();
        let mut scratch = Scratch::new();
        for (_, bytes) in self.world.read_all(start, max_bytes) {
            for batch in Batches::new(&bytes) {
                let batch = batch.expect("a batch");
                for record in batch.records(&mut scratch, 1 << 20).expect("records") {
                    let record = record.expect("a record");
                    let key = record.key.expect("a key").try_into().expect("eight bytes");
                    let shown = Record {
                        key: u64::from_be_bytes(key),
                        value: record.value.map(<[u8]>::to_vec),
                        timestamp: record.timestamp,
                    };
                    assert_eq!(found.insert(record.offset.0, shown), None);
                }
            }
        }
        found
    }

    fn check(&mut self, what: &str) {
        let max_bytes = [100, 3000, 1 << 20][self.prng.below(3) as usize];
        let found = self.found(max_bytes);
        let (start, end) = (
            self.world.log.start_offset().0,
            self.world.log.end_offset().0,
        );
        self.model
            .check(&found, (start, end), self.world.now.wall.0, what);
    }

    /// Below `cleaned_to` every key has one record.
    fn check_clean(&mut self, what: &str) {
        let cleaned_to = self.world.log.cleaned_to().expect("a round is over");
        let found = self.found(1 << 20);
        let mut keys = BTreeMap::new();
        for (offset, record) in found.range(..cleaned_to.0) {
            let before = keys.insert(record.key, *offset);
            assert_eq!(before, None, "{what}: key {} at {offset} too", record.key);
        }
    }

    fn files(&self) -> Vec<String> {
        let names = self.world.disk.files.keys();
        names.map(|file| file.name().to_owned()).collect()
    }

    fn reopen(&mut self) {
        self.world.reopen();
        self.run();
    }
}

#[test]
fn of_each_key_only_the_newest_value_stays_at_its_offset() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed, options());
        bench.fill(200, 12);
        let end = bench.world.log.end_offset();
        let done = bench.compact();
        assert!(done.bytes_after * 4 < done.bytes_before, "{done:?}");
        assert!(done.segments_after < done.segments_before, "{done:?}");
        assert_eq!((done.from, bench.world.log.end_offset()), (Offset(0), end));
        assert_eq!(bench.world.log.cleaned_to(), Some(done.to));
        bench.check("after a round");
        bench.check_clean("after a round");
        let strange = |name: &String| name.contains(".swap") || name.contains(".cleaned");
        assert!(!bench.files().iter().any(strange), "{:?}", bench.files());
        assert!(!bench.begin(), "nothing is dirty");
        bench.fill(60, 12);
        let again = bench.compact();
        assert_eq!(again.from, done.to);
        bench.check("after two rounds");
        bench.check_clean("after two rounds");
        bench.world.close();
        bench.reopen();
        assert!(bench.world.ready().0, "clean");
        bench.check("after a start");
        bench.check_clean("after a start");
    }
}

impl Bench {
    /// Appends to three keys that nobody else uses, so that the rest of the log gets dirty neighbours.
    fn fill_others(&mut self, batches: u64) {
        for n in 0..batches {
            let (key, value, now) = (1000 + n % 3, vec![1; 300], self.world.now.wall.0);
            let mut builder = BatchBuilder::new(Codec::None);
            builder.append(now, Some(&key.to_be_bytes()), Some(&value), &[]);
            let appended = self.world.append_all(&builder.finish());
            let record = Record {
                key,
                value: Some(value),
                timestamp: now,
            };
            self.model.records.insert(appended.base_offset.0, record);
            self.run();
        }
    }

    fn tombstones_below(&mut self, end: Offset) -> usize {
        let found = self.found(1 << 20);
        let below = found.range(..end.0);
        below.filter(|(_, record)| record.value.is_none()).count()
    }
}

#[test]
fn tombstones_go_when_their_horizon_is_over_and_not_before() {
    let mut bench = Bench::new(3, options());
    bench.fill(200, 40);
    // All of them out of the active segment.
    bench.fill_others(60);
    let cleaned_to = bench.compact().to;
    let before = bench.tombstones_below(cleaned_to);
    assert!(before > 2, "{before}");
    bench.world.tick(RETENTION_MS / 2);
    bench.fill_others(60);
    bench.compact();
    bench.check("not yet");
    assert_eq!(bench.tombstones_below(cleaned_to), before);
    bench.world.tick(RETENTION_MS);
    bench.fill_others(60);
    bench.compact();
    bench.check("after the horizon");
    assert_eq!(bench.tombstones_below(cleaned_to), 0, "over");
}

#[test]
fn neither_the_active_segment_nor_what_is_young_or_not_stable_is_touched() {
    let mut bench = Bench::new(
        5,
        Options {
            compaction_lag_min_ms: 1000,
            ..options()
        },
    );
    bench.fill(100, 5);
    let (now, end) = (bench.world.now, bench.world.log.end_offset());
    let young = bench.world.log.dirtiness(now, end).expect("compacted");
    assert_eq!((young.dirty_bytes, young.upto), (0, Offset(0)));
    assert!(!bench.begin());
    bench.world.tick(2000);
    let now = bench.world.now;
    let unstable = bench
        .world
        .log
        .dirtiness(now, Offset(1))
        .expect("compacted");
    assert_eq!(unstable.dirty_bytes, 0);
    let all = bench.world.log.dirtiness(now, end).expect("compacted");
    assert!(all.dirty_bytes > 0 && all.upto < end && all.ratio() == 1.0 && all.is_due());
    let active = bench.world.log.segments.last().expect("active").base;
    assert_eq!(all.upto, active);
    bench.compact();
    bench.check("after a round");
}

#[test]
fn a_little_dirt_waits_for_the_ratio_or_for_the_longest_lag() {
    let lag = Options {
        dirty_ratio_min: 0.9,
        compaction_lag_max_ms: 60_000,
        ..options()
    };
    let mut bench = Bench::new(6, lag);
    bench.fill(150, 100_000);
    bench.compact();
    bench.fill(30, 100_000);
    let dirtiness = |bench: &Bench| {
        let log = &bench.world.log;
        log.dirtiness(bench.world.now, log.committed_end())
            .expect("compacted")
    };
    let little = dirtiness(&bench);
    assert!(
        little.dirty_bytes > 0 && little.ratio() < 0.5 && !little.is_due(),
        "{little:?}"
    );
    bench.world.tick(70_000);
    let overdue = dirtiness(&bench);
    assert!(overdue.overdue_ms > 9000 && overdue.is_due(), "{overdue:?}");
}

#[test]
fn a_full_table_of_keys_ends_the_round_and_the_next_ones_go_on() {
    let mut bench = Bench::new(7, options());
    bench.fill(150, 60);
    let mut rounds = 0;
    while bench.begin_with(24 * 30) {
        let done = bench.finish();
        assert!(done.to > done.from, "{done:?}");
        bench.check("a partial round");
        rounds += 1;
        assert!(rounds < 100, "no progress");
    }
    assert!(rounds > 3, "{rounds}");
    bench.check_clean("after all of them");
}

#[test]
fn the_name_of_a_replaced_file_is_not_given_away_while_a_reader_may_open_it() {
    let mut bench = Bench::new(11, options());
    bench.fill(80, 9);
    let first = &bench.world.log.segments[0];
    let slice = Slice::File {
        file: first.file.clone(),
        at: 0,
        len: first.size as usize,
        hold: first.hold.clone(),
    };
    let before = bench.world.bytes_of(std::slice::from_ref(&slice));
    bench.compact();
    bench.world.tick(1000);
    bench.run();
    assert!(bench.files().iter().any(|name| name.ends_with(".swap")));
    assert_eq!(bench.world.bytes_of(std::slice::from_ref(&slice)), before);
    bench.check("read from the file that waits for its name");
    drop(slice);
    bench.world.tick(1000);
    bench.run();
    assert!(!bench.files().iter().any(|name| name.ends_with(".swap")));
    bench.check("read from the file that has its name");
}

#[test]
fn the_name_of_a_replaced_file_is_not_given_away_while_a_sync_of_it_is_in_flight() {
    let relaxed = Options {
        flush_messages: 2,
        flush_ms: i64::MAX,
        ..options()
    };
    let mut bench = Bench::new(11, relaxed);
    let mut held = Vec::new();
    for _ in 0..80 {
        bench.append(9);
        bench.world.flush();
        bench.world.run_but_for_a_sync(&mut held);
        bench.run();
    }
    assert!(!held.is_empty());
    bench.compact();
    bench.world.tick(1000);
    bench.run();
    let first = directory().join("00000000000000000000.log");
    assert!(bench.world.disk.files.contains_key(&first));
    assert!(bench.files().iter().any(|name| name.ends_with(".swap")));
    bench.world.disk.pending.append(&mut held);
    bench.run();
    bench.world.tick(1000);
    bench.run();
    let fault = bench.world.log.fault();
    assert!(fault.is_none(), "{fault:?}");
    assert!(!bench.files().iter().any(|name| name.ends_with(".swap")));
    bench.check("read after the names were given away");
}

#[test]
fn a_clean_segment_in_which_nothing_has_changed_is_not_replaced() {
    let mut bench = Bench::new(
        8,
        Options {
            segment_bytes: 3000,
            ..options()
        },
    );
    bench.fill(100, 1_000_000);
    let before: BTreeMap<_, _> = bench
        .world
        .log
        .segments
        .iter()
        .map(|segment| (segment.base, segment.size))
        .collect();
    bench.world.tick(1);
    let done = bench.compact();
    assert_eq!(done.records_before, done.records_after);
    let tombstones = bench
        .model
        .records
        .values()
        .filter(|record| record.value.is_none())
        .count();
    assert!(tombstones > 0);
    // Those with tombstones got a horizon; a second round finds nothing to do in any of them.
    bench.fill(20, 1_000_000);
    let swaps = bench.world.log.compaction.replaced;
    bench.compact();
    let later = bench.world.log.compaction.replaced - swaps;
    assert!(
        later < before.len() as u64 / 2,
        "{later} of {}",
        before.len()
    );
    bench.check("twice");
}

#[test]
fn the_last_batch_of_a_producer_is_there_after_everything_in_it_has_gone() {
    let mut bench = Bench::new(9, options());
    let write = |bench: &mut Bench, producer: i64, sequence: i32, value: &[u8]| {
        let mut builder = BatchBuilder::new(Codec::None).producer(
            ProducerId(producer),
            ProducerEpoch(0),
            Sequence(sequence),
        );
        builder.append(1, Some(&7u64.to_be_bytes()), Some(value), &[]);
        let appended = bench.world.append_all(&builder.finish());
        bench.run();
        appended.last_offset
    };
    let last_of_quiet = write(&mut bench, 77, 5, b"old");
    for n in 0..100 {
        write(&mut bench, 4, n, &[1; 200]);
    }
    let last = bench.last_batch();
    let quiet = LastBatch {
        last_offset: Some(last_of_quiet),
        epoch: ProducerEpoch(0),
    };
    let assignment = Assignment {
        stable: bench.world.log.committed_end(),
        key_bytes_max: 1 << 20,
        load_factor: 0.9,
        secret: (1, 2),
        producers: BTreeMap::from([(ProducerId(4), last), (ProducerId(77), quiet)]),
        aborted: Vec::new(),
    };
    assert!(
        bench
            .world
            .log
            .begin_compaction(bench.world.now, assignment)
    );
    bench.finish();
    bench
        .world
        .disk
        .files
        .retain(|file, _| file.name() != "checkpoint");
    bench.reopen();
    let headers = bench.world.events.iter().filter_map(|event| match event {
        Event::Replayed { header } => Some(*header),
        _ => None,
    });
    let of_quiet: Vec<BatchHeader> = headers
        .filter(|header| header.producer_id == ProducerId(77))
        .collect();
    let [header] = of_quiet.as_slice() else {
        panic!("{of_quiet:?}")
    };
    assert_eq!(
        (
            header.base_offset,
            header.last_sequence(),
            header.record_count
        ),
        (Offset(0), Sequence(5), 0)
    );
}

#[test]
fn every_step_of_a_compaction_can_be_the_last_one() {
    for steps in 0..120 {
        for seed in 0..4 {
            let what = format!("steps {steps} seed {seed}");
            let mut bench = Bench::new(
                seed,
                Options {
                    segment_bytes: 4000,
                    ..options()
                },
            );
            bench.fill(40, 9);
            assert!(bench.begin(), "{what}");
            let mut left = steps;
            while left > 0 {
                match bench.slice() {
                    Progress::Done(_) | Progress::Idle => {
                        if !bench.world.step() {
                            bench.world.tick(20);
                        }
                    }
                    Progress::GivenUp(why) => panic!("{what}: {why:?}"),
                    Progress::Blocked => bench.world.tick(20),
                    Progress::More | Progress::Waiting => {
                        bench.world.step();
                    }
                }
                left -= 1;
            }
            match (seed + steps) % 3 {
                0 => bench.world.disk.cut_power(),
                1 => bench.world.disk.pending.clear(),
                _ => bench.world.close(),
            }
            if seed % 2 == 1 && steps % 2 == 0 {
                bench
                    .world
                    .disk
                    .files
                    .retain(|file, _| file.name() != "checkpoint");
            }
            if steps % 7 == 0 {
                bench
                    .world
                    .disk
                    .files
                    .retain(|file, _| file.name() != "compaction");
            }
            bench.reopen();
            bench.world.ready();
            bench.check(&what);
            bench.fill(12, 9);
            if bench.begin() {
                bench.finish();
                bench.check(&what);
                bench.check_clean(&what);
            }
            let name = |name: &str| name.contains(".swap") || name.contains(".cleaned");
            assert!(
                !bench.files().iter().any(|file| name(file)),
                "{what}: {:?}",
                bench.files()
            );
        }
    }
}

/// Random work over several lives; panics when a promise is broken.
fn torture(seed: u64) {
    let small = Options {
        segment_bytes: 2000 + (seed % 7) as u32 * 3000,
        flush_messages: if seed.is_multiple_of(3) { 20 } else { 1 },
        flush_ms: 50,
        ..options()
    };
    let mut bench = Bench::new(seed, small);
    let mut prng = Prng::new(seed ^ 0xbeef);
    for life in 0..5 {
        for _ in 0..prng.below(120) {
            let what = format!("seed {seed} life {life}");
            match prng.below(12) {
                0..5 => {
                    bench.append(10);
                    bench.world.flush();
                }
                5 => {
                    let small = prng.one_in(3);
                    bench.begin_with(if small { 24 * 8 } else { 1 << 16 });
                }
                6..9 => {
                    if let Progress::GivenUp(why) = bench.slice() {
                        assert!(
                            matches!(why, Abandoned::Changed | Abandoned::NoSpace),
                            "{what}: {why:?}"
                        );
                    }
                }
                9 => {
                    bench.world.now.mono = bench.world.now.mono.after_ms(30);
                    bench.world.now.wall.0 += prng.below(4000) as i64;
                    let world = &mut bench.world;
                    world.log.tick(world.now, &mut world.out, &mut world.events);
                }
                10 => {
                    bench.world.log.evict(1 << 20, false);
                }
                _ if prng.one_in(6) => {
                    let end = bench.world.log.end_offset().0;
                    let to = Offset(prng.below(end as u64 / 2 + 1) as i64);
                    bench.world.log.raise_start_offset(to, &mut bench.world.out);
                }
                _ if prng.one_in(4) => {
                    let full = prng.one_in(2);
                    bench.world.disk.trouble = if full {
                        super::disk::Trouble::Full
                    } else {
                        super::disk::Trouble::None
                    };
                }
                _ => {
                    let world = &mut bench.world;
                    let held =
                        world
                            .log
                            .read(world.log.start_offset(), Offset(i64::MAX), 5000, true);
                    if let Read::Slices(slices) = held {
                        let header = world.bytes_of(&slices);
                        BatchHeader::parse(&header).unwrap_or_else(|why| panic!("{what}: {why:?}"));
                    }
                }
            }
            for _ in 0..prng.below(6) {
                bench.world.step();
            }
            let wanted = |event: &Event| matches!(event, Event::CheckpointWanted);
            if bench.world.events.iter().any(wanted) {
                bench.world.events.retain(|event| !wanted(event));
                bench
                    .world
                    .log
                    .checkpoint(Bytes::from_static(b"p"), &mut bench.world.out);
            }
            let fault = bench.world.log.fault();
            assert!(fault.is_none(), "{what}: {fault:?}");
        }
        let what = format!("seed {seed} life {life} end");
        bench.world.disk.trouble = super::disk::Trouble::None;
        let start = bench.world.log.start_offset();
        let durable = bench.world.log.durable_end();
        match prng.below(4) {
            0 => bench.world.disk.pending.clear(),
            1 => {
                bench.world.tick(3000);
                bench.world.close();
            }
            _ => bench.world.disk.cut_power(),
        }
        if prng.one_in(6) {
            bench
                .world
                .disk
                .files
                .retain(|file, _| file.name() != "checkpoint");
        }
        bench.reopen();
        let fault = bench.world.log.fault().cloned();
        assert!(fault.is_none(), "{what}: {fault:?}");
        bench.world.ready();
        assert!(bench.world.log.end_offset() >= durable, "{what}");
        assert!(bench.world.log.start_offset() <= start, "{what}");
        bench.model.cut(bench.world.log.end_offset().0);
        bench.check(&what);
    }
    bench.fill(40, 10);
    let world = &bench.world;
    let dirty = world.log.dirtiness(world.now, world.log.committed_end());
    if dirty.is_some_and(|dirty| dirty.dirty_bytes > 0) {
        bench.compact();
        bench.check(&format!("seed {seed}, the last round"));
        bench.check_clean(&format!("seed {seed}, the last round"));
    }
}

#[test]
fn the_newest_of_each_key_survives_whatever_is_torn_deleted_or_given_up() {
    for seed in 0..100 {
        torture(seed);
    }
}
