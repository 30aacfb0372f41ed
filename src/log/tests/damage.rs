//! Damage to acknowledged bytes is never served and never cut.

use super::disk::Trouble;
use super::*;
use crate::base::Prng;
use crate::log::Fault;

fn segment() -> FilePath {
    directory().join("00000000000000000000.log")
}

/// A log of 40 small writes, killed without a close.
fn written() -> World {
    let mut world = World::new(
        1,
        Options {
            index_interval_bytes: 500,
            ..Options::default()
        },
    );
    for n in 0..40 {
        world.append_all(&batch(1, 700, n, n as u64));
    }
    world
}

fn end_of_data(world: &World) -> u64 {
    world.log.size_bytes()
}

#[test]
fn a_bit_flip_in_the_middle_is_reported_and_nothing_behind_it_is_cut() {
    let mut prng = Prng::new(5);
    for _ in 0..60 {
        let mut world = written();
        let end = end_of_data(&world);
        // All but the last write, about which only a later one could have told.
        let at = prng.below(end - 900) as usize;
        let file = world.disk.files.get_mut(&segment()).expect("a segment");
        file.now[at] ^= 1 << prng.below(8);
        let before = file.now.clone();
        world.reopen();
        let Some(Fault::Corrupt { position, .. }) = world.log.fault() else {
            panic!(
                "byte {at} of {end}: {:?} {:?}",
                world.log.fault(),
                world.events
            );
        };
        // A leader epoch that grew is noticed at the next batch: no CRC covers it.
        assert!(*position <= at as u64 + 800);
        assert_eq!(
            world.disk.files[&segment()].now,
            before,
            "kept byte for byte"
        );
        let served = world.read_all(Offset(0), 1 << 20);
        assert_eq!(
            served.len() as i64,
            world.log.committed_end().0,
            "the sound part is served"
        );
        assert!(matches!(
            world.append(&batch(1, 10, 0, 0)),
            Err(AppendRefused::Fenced)
        ));
    }
}

#[test]
fn a_zeroed_block_and_swapped_blocks_in_the_middle_are_reported() {
    for block in 0..5 {
        let mut zeroed = written();
        let file = zeroed.disk.files.get_mut(&segment()).expect("a segment");
        file.now[block * 4096..(block + 1) * 4096].fill(0);
        zeroed.reopen();
        assert!(
            matches!(zeroed.log.fault(), Some(Fault::Corrupt { .. })),
            "block {block}"
        );
        let mut swapped = written();
        let file = swapped.disk.files.get_mut(&segment()).expect("a segment");
        let (left, right) = file.now.split_at_mut((block + 1) * 4096);
        left[block * 4096..].swap_with_slice(&mut right[..4096]);
        swapped.reopen();
        assert!(
            matches!(swapped.log.fault(), Some(Fault::Corrupt { .. })),
            "block {block}"
        );
    }
}

#[test]
fn a_bit_flip_in_the_very_last_batch_is_not_taken_for_a_torn_write() {
    let mut world = written();
    let end = end_of_data(&world) as usize;
    world.disk.files.get_mut(&segment()).expect("a segment").now[end - 300] ^= 4;
    world.reopen();
    assert!(matches!(world.log.fault(), Some(Fault::Corrupt { .. })));
}

#[test]
fn a_torn_last_write_is_cut_at_the_last_whole_batch() {
    let mut world = written();
    let end = end_of_data(&world);
    world.append(&batch(1, 9000, 0, 77)).expect("taken");
    world.flush();
    let Some(DiskOp::Write { at, data, .. }) = world.disk.pending.first().cloned() else {
        panic!("a write in flight");
    };
    let file = world.disk.files.get_mut(&segment()).expect("a segment");
    // The last block arrives, the one before it does not.
    let from = data.len() - 4096;
    file.now[at as usize + from..at as usize + data.len()].copy_from_slice(&data[from..]);
    world.reopen();
    let (clean, scanned, cut) = world.ready();
    assert!(!clean && scanned > 0 && cut > 0);
    assert_eq!(world.log.end_offset(), Offset(40));
    assert_eq!(world.log.size_bytes(), end);
    assert_eq!(
        world.disk.files[&segment()].now.len() as u64,
        end,
        "cut exactly"
    );
}

/// On a full disk a file grows no further than needed. What it grew by once there was space again
/// went with the power, and with it all but the beginning of a batch.
#[test]
fn a_write_whose_file_lost_its_growth_is_torn_also_where_the_disk_was_full_before() {
    for flush_messages in [1, 100] {
        let mut world = World::new(
            1,
            Options {
                flush_messages,
                ..Options::default()
            },
        );
        world.disk.trouble = Trouble::Short;
        world.append_all(&batch(1, 2000, 0, 0));
        let file = &world.disk.files[&segment()];
        assert_eq!(file.now.len(), 4096, "no further than needed");
        let end = end_of_data(&world);
        world.disk.trouble = Trouble::None;
        world.log.set_short(false);
        world.append_all(&batch(1, 9000, 0, 1));
        let file = world.disk.files.get_mut(&segment()).expect("a segment");
        assert!(file.now.len() > 9000);
        file.now.truncate(4096);
        world.reopen();
        let (_, _, cut) = world.ready();
        assert_eq!(cut, 4096 - end);
        assert_eq!(world.log.end_offset(), Offset(1));
    }
}

#[test]
fn a_file_that_ends_where_growing_never_left_it_is_not_taken_for_a_torn_write() {
    for beyond in [4096 + 77, 2 * 4096, 3 * 4096] {
        let mut world = World::new(1, Options::default());
        world.append_all(&batch(1, 700, 0, 0));
        let end = end_of_data(&world) as usize;
        world.append_all(&batch(1, 20_000, 0, 1));
        let file = world.disk.files.get_mut(&segment()).expect("a segment");
        file.now.truncate(beyond);
        world.reopen();
        let position = match world.log.fault() {
            Some(Fault::Corrupt { position, .. }) => *position as usize,
            other => panic!("cut to {beyond} bytes: {other:?}"),
        };
        assert_eq!(position, end);
        assert_eq!(world.disk.files[&segment()].now.len(), beyond, "kept");
    }
}

#[test]
fn bytes_that_a_checkpoint_vouches_for_are_never_cut() {
    let mut world = written();
    world.close();
    let file = world.disk.files.get_mut(&segment()).expect("a segment");
    file.now.truncate(20_000);
    world.reopen();
    assert!(matches!(
        world.log.fault(),
        Some(Fault::Corrupt {
            position: 20_000,
            ..
        })
    ));
}

#[test]
fn a_damaged_checkpoint_costs_a_scan_and_nothing_else() {
    let mut world = written();
    world.close();
    let file = world
        .disk
        .files
        .get_mut(&directory().join("checkpoint"))
        .expect("a checkpoint");
    file.now[30] ^= 1;
    world.reopen();
    assert!(!world.ready().0);
    assert_eq!(world.log.end_offset(), Offset(40));
}

#[test]
fn a_missing_or_damaged_index_is_made_again_from_its_segment() {
    for damage in 0..2 {
        let options = Options {
            segment_bytes: 9000,
            index_interval_bytes: 500,
            ..Options::default()
        };
        let mut world = World::new(2, options);
        for n in 0..40 {
            world.append_all(&batch(1, 700, n, n as u64));
        }
        world.close();
        let before = world.disk.files.len();
        let index = directory().join("00000000000000000000.index");
        match damage {
            0 => drop(world.disk.files.remove(&index).expect("an index")),
            _ => world.disk.files.get_mut(&index).expect("an index").now[40] ^= 1,
        }
        world.reopen();
        assert!(world.ready().0);
        assert_eq!(world.read_all(Offset(0), 1500).len(), 40);
        assert_eq!(world.disk.files.len(), before, "it is written again");
    }
}

#[test]
fn damage_that_a_cold_read_meets_fences_the_log_and_is_not_served() {
    let mut world = written();
    world.close();
    world.disk.files.get_mut(&segment()).expect("a segment").now[10_000] ^= 1;
    world.reopen();
    assert!(world.ready().0, "nothing is scanned after a clean close");
    let mut from = Offset(0);
    let refused = loop {
        match world.log.read_memory(from, Offset(i64::MAX), 2000) {
            Read::Fill(range) => {
                world.log.fill(range, &mut world.out);
                world.run();
            }
            Read::Slices(slices) => {
                let bytes = world.bytes_of(&slices);
                from = verify(&bytes).expect("sound").last_offset().plus(1);
            }
            other => break other,
        }
    };
    assert!(matches!(refused, Read::Fenced));
    assert!(from < Offset(14));
    world.tick(1);
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::Fenced(_)))
    );
}
