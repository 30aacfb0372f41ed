//! A journal by itself: the test is the log that asks and the disk that answers.

use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::base::{DiskOutput, FaultKind, Space};

const OWNER: u32 = 900;

struct World {
    journal: Journal,
    /// What the disk was asked and has not answered yet.
    asked: VecDeque<DiskOp>,
    /// Answers to the logs.
    answered: Vec<DiskDone>,
    next: u32,
    space: Space,
}

impl World {
    fn new(options: Options) -> World {
        let space = Space {
            total: u64::MAX,
            usable: SPACE_TIMES * options.bytes + 1000,
            reserve: 1000,
        };
        let world = World::within(space, options);
        assert_eq!(world.journal.stage, Stage::Ready);
        world
    }

    fn within(space: Space, options: Options) -> World {
        let mut world = World {
            journal: Journal::new(OWNER, 0, 0, Pool::new(1 << 20), options),
            asked: VecDeque::new(),
            answered: Vec::new(),
            next: 0,
            space,
        };
        // The first small write makes the journal and goes past it.
        world.write("first-0", 0, 1);
        world.end_turn();
        world.serve_all();
        world.answered.clear();
        world
    }

    /// A log's durable write of so many blocks.
    fn write(&mut self, log: &str, at: usize, blocks: usize) {
        let sequence = self.next;
        self.next += 1;
        let mut data = Buf::allocate(blocks * BLOCK);
        data.set_len(blocks * BLOCK);
        data.fill(7);
        let file = FilePath::new(0, &format!("{log}/0.log"));
        let id = OpId { owner: 1, sequence };
        let op = durable_write(id, file, (at * BLOCK) as u64, Arc::new(data));
        let mut out = Outcome::default();
        self.journal.route(TopicId([1; 16]), op, &mut out);
        self.take(out);
    }

    fn end_turn(&mut self) {
        let mut out = Outcome::default();
        self.journal.pump(&mut out);
        self.journal.end_turn(&mut out);
        self.take(out);
    }

    fn take(&mut self, out: Outcome) {
        self.asked.extend(out.ops);
        self.answered.extend(out.done);
    }

    /// The disk does the oldest of what it was asked.
    fn serve(&mut self) -> Option<DiskOp> {
        self.answer(0, None)
    }

    /// The disk does one of the things that it was asked, or fails.
    fn answer(&mut self, index: usize, fault: Option<FaultKind>) -> Option<DiskOp> {
        let op = self.asked.remove(index)?;
        let id = op.id();
        let output = match op {
            DiskOp::Space { .. } => DiskOutput::Space(self.space),
            _ => DiskOutput::Done,
        };
        let fault = fault.map(|kind| DiskFault {
            file: op.target().clone(),
            op: "write",
            kind,
        });
        let done = DiskDone {
            id,
            result: fault.map_or(Ok(output), Err),
        };
        if id.owner == OWNER {
            let mut out = Outcome::default();
            self.journal.own_done(done, &mut out);
            self.take(out);
        } else {
            self.journal.direct_done(id);
            self.answered.push(done);
        }
        self.end_turn();
        Some(op)
    }

    fn serve_all(&mut self) -> usize {
        let mut count = 0;
        while self.serve().is_some() {
            count += 1;
            assert!(count < 10_000, "it never comes to rest");
        }
        count
    }
}

fn options() -> Options {
    Options {
        bytes: 4 << 20,
        writes_min: 0,
        memory_bytes: 16 * BLOCK,
    }
}

#[test]
fn what_takes_too_much_memory_goes_home_though_no_frame_can_be_written() {
    let mut world = World::new(options());
    // The second frame alone is more than may be in memory; the third has to wait for that.
    for round in 0..32 {
        for log in 0..8 {
            world.write(&format!("log-{log}"), round, 1);
        }
        world.end_turn();
    }
    world.serve_all();
    assert_eq!(world.answered.len(), 256, "nobody waits for a timer");
    assert!(
        world.journal.memory <= options().memory_bytes,
        "{} bytes in memory",
        world.journal.memory
    );
}

#[test]
fn the_files_with_the_most_in_memory_go_home_first_and_the_others_gather_more() {
    let mut world = World::new(options());
    for at in 0..12 {
        world.write("much-0", at, 1);
    }
    for log in 0..8 {
        world.write(&format!("little-{log}"), 0, 1);
    }
    world.end_turn();
    world.serve_all();
    let held = |log: &str| {
        let file = FilePath::new(0, &format!("{log}/0.log"));
        let tracked = world.journal.tracked.get(&file);
        tracked.map_or(0, |tracked| tracked.images.len())
    };
    assert_eq!(held("much-0"), 0, "it went home in one write");
    assert_eq!(world.journal.counts.brought_home, 1);
    assert!((0..8).all(|log| held(&format!("little-{log}")) == 1));
}

#[test]
fn with_enough_files_in_the_journal_others_are_written_for_themselves_until_it_lets_go_of_some() {
    let mut world = World::new(options());
    let most = (options().bytes / 2 / BYTES_A_FILE) as usize;
    // Each of them twice: what is tracked goes on through the journal.
    for round in 0..2 {
        for log in 0..most + 8 {
            world.write(&format!("log-{log}"), round, 1);
        }
    }
    assert_eq!(
        world.asked.len(),
        16,
        "two writes to each of the last eight"
    );
    let direct = |op: &DiskOp| op.target().path.starts_with("log-") && op.id().owner != OWNER;
    assert!(world.asked.iter().all(direct));
    world.end_turn();
    world.serve_all();
    assert_eq!(world.journal.counts.entries, 2 * most as u64);
    assert_eq!(world.journal.counts.bypasses, 16);
    assert_eq!(world.journal.tracked.len(), most);
    assert_eq!(world.answered.len(), 2 * (most + 8));

    // Looked at again and again without anything new, it is emptied: the others have their turn.
    for _ in 0..5 {
        let mut out = Outcome::default();
        world.journal.rest(&mut out);
        world.take(out);
        world.serve_all();
    }
    assert_eq!(world.journal.tracked.len(), 0);
    world.write("log-last", 0, 1);
    world.end_turn();
    world.serve_all();
    assert_eq!(world.journal.tracked.len(), 1);
    assert_eq!(world.journal.counts.bypasses, 16);
}

#[test]
fn no_journal_is_made_on_a_disk_that_it_would_take_a_large_part_of() {
    let space = Space {
        total: u64::MAX,
        usable: SPACE_TIMES * options().bytes + 999,
        reserve: 1000,
    };
    let mut world = World::within(space, options());
    assert_eq!(world.journal.stage, Stage::Gone);
    world.write("log-0", 0, 1);
    assert_eq!(world.asked.len(), 1, "written as if there were none");
    world.end_turn();
    assert_eq!(world.serve_all(), 1);
    assert_eq!(world.answered.len(), 1);
    assert!(world.journal.is_closed());
}

/// Three frames on their way, of one write each: 0, 1 and 2.
fn three_frames() -> World {
    let mut world = World::new(options());
    world.next = 0;
    for log in 0..3 {
        world.write(&format!("log-{log}"), 0, 1);
        world.end_turn();
    }
    assert_eq!(world.asked.len(), 3, "they are on their way side by side");
    world
}

/// Which writes were answered, and how.
fn answers(world: &World) -> Vec<(u32, bool)> {
    let answers = world.answered.iter();
    answers
        .map(|done| (done.id.sequence, done.result.is_ok()))
        .collect()
}

#[test]
fn a_frame_is_answered_when_all_before_it_are_on_the_disk() {
    let mut world = three_frames();
    world.write("log-3", 0, 1);
    world.end_turn();
    assert_eq!(world.asked.len(), 3, "no more than that at a time");
    world.answer(2, None);
    world.answer(1, None);
    assert_eq!(answers(&world), []);
    assert_eq!(world.asked.len(), 1, "nor while they are not answered");
    world.answer(0, None);
    assert_eq!(answers(&world), [(0, true), (1, true), (2, true)]);
    world.serve_all();
    assert_eq!(world.answered.len(), 4);
}

#[test]
fn when_a_frame_fails_those_behind_it_fail_and_those_before_it_count() {
    let mut world = three_frames();
    world.answer(2, None);
    world.answer(1, Some(FaultKind::Io(EIO)));
    assert_eq!(answers(&world), [(1, false), (2, false)]);
    world.serve_all();
    assert_eq!(answers(&world), [(1, false), (2, false), (0, true)]);
    assert!(
        world.journal.is_closed(),
        "what it held is home, and it is gone"
    );
}

#[test]
fn beside_others_a_frame_goes_when_it_has_as_many_writes_as_are_gathered_for() {
    let mut world = World::new(options());
    world.journal.options.writes_min = 2;
    for log in 0..2 {
        world.write(&format!("log-{log}"), 0, 1);
    }
    assert_eq!(world.asked.len(), 2, "these go past it");
    world.write("log-2", 0, 1);
    world.end_turn();
    assert_eq!(world.asked.len(), 3);
    world.write("log-3", 0, 1);
    world.end_turn();
    assert_eq!(world.asked.len(), 3, "one more is waited for");
    world.write("log-4", 0, 1);
    world.end_turn();
    assert_eq!(world.asked.len(), 4);
    world.serve_all();
    assert_eq!(world.answered.len(), 5);
}
