//! Random work, random crashes: what was acknowledged is there afterwards.

use bytes::Bytes;

use super::disk::Trouble;
use super::*;
use crate::base::Prng;

fn small(flush_messages: i64) -> Options {
    Options {
        segment_bytes: 60_000,
        index_interval_bytes: 1000,
        flush_messages,
        flush_ms: 50,
        ..Options::default()
    }
}

/// Runs one seed; panics when a promise is broken.
fn torture(seed: u64, flush_messages: i64) {
    let mut world = World::new(seed, small(flush_messages));
    let mut prng = Prng::new(seed ^ 0xabcd);
    // What was appended since the beginning: (base offset, size, stamped bytes or none yet).
    let mut expected: Vec<(Offset, Vec<u8>)> = Vec::new();
    for life in 0..6 {
        for turn in 0..prng.below(40) {
            for _ in 0..prng.below(4) {
                let size = if prng.one_in(6) {
                    12_000
                } else {
                    prng.below(900) as usize
                };
                let bytes = batch(1 + prng.below(3) as i64, size, turn as i64, prng.next_u64());
                if let Ok(appended) = world.append(&bytes) {
                    let mut stamped = bytes;
                    crate::record::stamp(&mut stamped, appended.base_offset, LeaderEpoch(0));
                    expected.push((appended.base_offset, stamped));
                }
            }
            world.flush();
            for _ in 0..prng.below(8) {
                world.step();
            }
            if prng.one_in(10) {
                world
                    .log
                    .checkpoint(Bytes::from_static(b"p"), &mut world.out);
            }
            if prng.one_in(8) {
                world.log.evict(1 << 20, false);
            }
            if prng.one_in(30) {
                let to = Offset(prng.below(world.log.end_offset().0 as u64 + 1) as i64);
                world.log.raise_start_offset(to, &mut world.out);
            }
            if prng.one_in(40) {
                world.disk.trouble = if prng.one_in(2) {
                    Trouble::Full
                } else {
                    Trouble::None
                };
            }
            if prng.one_in(5) {
                world.now.mono = world.now.mono.after_ms(30);
                world.log.tick(world.now, &mut world.out, &mut world.events);
            }
            assert!(
                world.log.fault().is_none(),
                "seed {seed} life {life}: {:?}",
                world.log.fault()
            );
        }
        world.disk.trouble = Trouble::None;
        world.now.mono = world.now.mono.after_ms(5000);
        world.log.tick(world.now, &mut world.out, &mut world.events);
        let durable = world.log.durable_end();
        let told = world.events.iter().rev().find_map(|event| match event {
            Event::StartOffsetDurable(offset) => Some(*offset),
            _ => None,
        });
        assert!(
            durable <= world.log.committed_end()
                && world.log.committed_end() <= world.log.end_offset()
        );
        let close = prng.one_in(3);
        if close {
            world.close();
        } else {
            world.disk.cut_power();
        }
        world.reopen();
        let fault = world.log.fault().cloned();
        assert!(
            fault.is_none(),
            "seed {seed} life {life} close {close}: {fault:?}"
        );
        world.ready();
        let end = world.log.end_offset();
        assert!(
            end >= durable,
            "seed {seed} life {life}: {end} {durable} lost"
        );
        expected.retain(|(offset, _)| *offset < end);
        let max_bytes = [100, 5000, 1 << 20][prng.below(3) as usize];
        let start = world.log.start_offset();
        assert!(
            start >= told.unwrap_or(Offset(0)),
            "seed {seed} life {life}: start {start}"
        );
        let found = world.read_all(start, max_bytes);
        let first = found.first().map_or(end, |(offset, _)| *offset);
        assert!(first <= start, "seed {seed} life {life}");
        expected.retain(|(offset, _)| *offset >= first);
        assert_eq!(found.len(), expected.len(), "seed {seed} life {life}");
        assert!(found == expected, "seed {seed} life {life}: bytes changed");
    }
}

#[test]
fn no_acknowledged_batch_is_lost_and_none_changes_whatever_a_power_cut_tears() {
    for seed in 0..200 {
        torture(seed, 1);
    }
}

#[test]
fn a_relaxed_log_loses_at_most_what_was_not_synced_and_nothing_in_the_middle() {
    for seed in 1700..1900 {
        torture(seed, 20);
    }
}

#[test]
fn every_step_of_the_first_append_and_of_a_roll_can_be_the_last_one() {
    for steps in 0..60 {
        for seed in 0..4 {
            let options = Options {
                segment_bytes: 9000,
                ..small(1)
            };
            let mut world = World::new(seed, options);
            for n in 0..3 {
                world.append(&batch(1, 6000, n, n as u64)).expect("taken");
                world.flush();
            }
            for _ in 0..steps {
                world.step();
            }
            let committed = world.log.committed_end();
            world.disk.cut_power();
            world.reopen();
            world.ready();
            assert!(world.log.end_offset() >= committed, "{steps} {seed}");
            let end = world.log.end_offset();
            let appended = world.append_all(&batch(1, 100, 0, 0));
            assert_eq!(appended.base_offset, end);
            assert_eq!(world.read_all(Offset(0), 1 << 20).len() as i64, end.0 + 1);
        }
    }
}
