//! One sentence each.
use super::*;
use crate::log::{Fault, Lookup};
use disk::Trouble;

#[test]
fn a_new_log_makes_no_io_until_its_first_append() {
    let mut world = World::new(1, Options::default());
    world.flush();
    assert!(world.disk.pending.is_empty());
    world.append_all(&batch(3, 10, 5, 1));
    assert_eq!(world.log.committed_end(), Offset(3));
    let metadata = &world.disk.files[&directory().join("partition.metadata")].now;
    assert_eq!(
        metadata,
        format!("version: 0\ntopic_id: {}\n", topic()).as_bytes()
    );
}

#[test]
fn what_is_appended_in_a_turn_becomes_one_write_and_the_next_gathers_meanwhile() {
    let mut world = World::new(1, Options::default());
    world.append_all(&batch(1, 10, 0, 0));
    let before = world.disk.writes;
    for n in 0..10 {
        world.append(&batch(1, 10, 0, n)).expect("taken");
    }
    world.flush();
    for n in 0..10 {
        world.append(&batch(1, 10, 0, n)).expect("taken");
        world.flush();
    }
    world.run();
    assert_eq!(world.disk.writes - before, 2);
    assert_eq!(world.log.committed_end(), Offset(21));
}

#[test]
fn nothing_is_acknowledged_after_a_failed_write_or_sync_and_neither_is_tried_again() {
    for (trouble, flush_messages) in [
        (Trouble::WriteFails, 1),
        (Trouble::WriteFull, 1),
        (Trouble::SyncFails, 2),
    ] {
        let mut world = World::new(
            3,
            Options {
                flush_messages,
                ..Options::default()
            },
        );
        world.append_all(&batch(2, 10, 0, 0));
        let (durable, writes) = (world.log.durable_end(), world.disk.writes);
        assert_eq!(durable, Offset(2));
        world.disk.trouble = trouble;
        world.append(&batch(2, 10, 0, 0)).expect("taken");
        world.flush();
        world.run();
        world.disk.trouble = Trouble::None;
        assert!(matches!(world.log.fault(), Some(Fault::Disk(_))));
        assert_eq!(
            world.append(&batch(1, 10, 0, 0)),
            Err(AppendRefused::Fenced)
        );
        world.flush();
        world.tick(10_000);
        assert_eq!(world.log.durable_end(), durable);
        assert!(world.disk.writes <= writes + 1);
        assert!(
            !world.read_all(Offset(0), 1 << 20).is_empty(),
            "what is committed can be read"
        );
    }
}

#[test]
fn a_full_disk_refuses_appends_and_writes_resume_by_themselves() {
    let mut world = World::new(3, Options::default());
    world.disk.trouble = Trouble::Full;
    world.append(&batch(1, 10, 0, 0)).expect("nobody knows yet");
    world.flush();
    world.run();
    assert!(world.log.fault().is_none());
    assert_eq!(
        world.append(&batch(1, 10, 0, 0)),
        Err(AppendRefused::NoSpace)
    );
    assert!(world.log.next_deadline().is_some());
    world.disk.trouble = Trouble::None;
    world.tick(2000);
    assert_eq!(world.log.committed_end(), Offset(1));
    world.log.set_short(false);
    world.append_all(&batch(1, 10, 0, 0));
}

#[test]
fn what_was_taken_before_the_space_ran_short_is_written_from_the_reserve() {
    let mut world = World::new(3, Options::default());
    world.disk.trouble = Trouble::Short;
    world.append(&batch(1, 10, 0, 0)).expect("nobody knows yet");
    world.flush();
    world.run();
    assert_eq!(world.log.committed_end(), Offset(1), "from the reserve");
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::SpaceShort))
    );
    assert_eq!(
        world.append(&batch(1, 10, 0, 0)),
        Err(AppendRefused::NoSpace)
    );
    world.disk.trouble = Trouble::None;
    world.log.set_short(false);
    world.append_all(&batch(1, 10, 0, 0));
}

#[test]
fn the_brokers_own_records_are_written_from_the_reserve() {
    let own = Options {
        from_reserve: true,
        ..Options::default()
    };
    let mut world = World::new(3, own);
    world.disk.trouble = Trouble::Short;
    world.log.set_short(true);
    for _ in 0..3 {
        world.append_all(&batch(1, 10, 0, 0));
    }
    assert_eq!(world.log.committed_end(), Offset(3));
}

#[test]
fn a_clean_close_leaves_kafkas_files_and_nothing_to_scan() {
    let mut world = World::new(4, Options::default());
    let mut bytes = batch(3, 100, 7, 1);
    world.append_all(&bytes);
    world.close();
    crate::record::stamp(&mut bytes, Offset(0), LeaderEpoch(0));
    let file = directory().join("00000000000000000000.log");
    assert_eq!(
        world.disk.files[&file].now, bytes,
        "byte for byte as on the wire"
    );
    world.reopen();
    assert_eq!(world.ready(), (true, 0, 0));
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::Snapshot(p) if &p[..] == b"producers"))
    );
    world.append_all(&batch(1, 10, 0, 0));
    world.reopen();
    assert!(
        !world.ready().0,
        "the marker was gone before the first write"
    );
    assert_eq!(world.log.end_offset(), Offset(4));
}

#[test]
fn a_segment_rolls_by_record_time_and_lookups_by_time_find_the_first_record() {
    let mut world = World::new(
        5,
        Options {
            segment_ms: 1000,
            ..Options::default()
        },
    );
    for n in 0..10 {
        world.append_all(&batch(2, 50, n * 400, n as u64));
    }
    let segments = world
        .disk
        .files
        .keys()
        .filter(|file| file.name().ends_with(".log"))
        .count();
    assert_eq!(segments, 4);
    let found = world.log.offset_for_timestamp(801, Offset(i64::MAX));
    let epoch = LeaderEpoch(0);
    assert_eq!(
        found,
        Lookup::Found {
            offset: Offset(5),
            timestamp: 801,
            leader_epoch: epoch
        }
    );
    assert_eq!(
        world.log.offset_for_timestamp(9999, Offset(i64::MAX)),
        Lookup::None
    );
    let newest = Lookup::Found {
        offset: Offset(19),
        timestamp: 3601,
        leader_epoch: epoch,
    };
    assert_eq!(world.log.max_timestamp(), newest);
}

#[test]
fn a_raised_start_is_durable_and_whole_segments_below_it_go_after_the_delay() {
    let mut world = World::new(
        6,
        Options {
            segment_bytes: 3000,
            ..Options::default()
        },
    );
    for n in 0..20 {
        world.append_all(&batch(1, 700, n, n as u64));
    }
    world.log.raise_start_offset(Offset(10), &mut world.out);
    world.run_with_checkpoint(b"");
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::StartOffsetDurable(Offset(10))))
    );
    assert!(matches!(world.read(Offset(9), 100), Err(Read::BelowStart)));
    let old = |world: &World| {
        world
            .disk
            .files
            .keys()
            .filter(|file| file.name().ends_with(".deleted"))
            .count()
    };
    assert!(old(&world) > 0);
    world.tick(61_000);
    assert_eq!(old(&world), 0);
    world.disk.cut_power();
    world.reopen();
    world.ready();
    assert_eq!(
        (world.log.start_offset(), world.log.end_offset()),
        (Offset(10), Offset(20))
    );
    assert_eq!(world.read_all(Offset(10), 2000).len(), 10);
}

/// The log remembers for the producers what no checkpoint does: a retry of what was deleted is not
/// new.
#[test]
fn a_start_is_durable_and_segments_go_only_with_the_state_of_the_producers_whose_batches_go() {
    let (segment_bytes, file_delete_delay_ms) = (3000, 0);
    for flush_messages in [1, i64::MAX] {
        let options = Options {
            segment_bytes,
            file_delete_delay_ms,
            flush_messages,
            ..Options::default()
        };
        let mut world = World::new(6, options);
        for n in 0..8 {
            world.append_all(&batch(1, 700, n, n as u64));
        }
        world.run_with_checkpoint(b"after 8");
        for n in 8..20 {
            world.append_all(&batch(1, 700, n, n as u64));
        }
        world.events.clear();
        world.log.raise_start_offset(Offset(20), &mut world.out);
        world.run();
        let durable = |world: &World, start| {
            let told =
                |event: &Event| matches!(event, Event::StartOffsetDurable(at) if *at == start);
            world.events.iter().any(told)
        };
        assert!(!durable(&world, Offset(20)), "nothing speaks for them yet");
        let crashed = world.disk.files.clone();
        world.run_with_checkpoint(b"after 20");
        assert!(durable(&world, Offset(20)));
        let snapshot = |world: &World| {
            let found = world.events.iter().find_map(|event| match event {
                Event::Snapshot(bytes) => Some(bytes.clone()),
                _ => None,
            });
            found.expect("a checkpoint")
        };
        world.reopen();
        world.ready();
        assert_eq!(&snapshot(&world)[..], b"after 20");
        assert_eq!(world.log.start_offset(), Offset(20));
        // Killed before: what the snapshot does not know is replayed.
        world.disk.files = crashed;
        world.reopen();
        world.ready();
        assert_eq!(&snapshot(&world)[..], b"after 8");
        let replayed = world.events.iter().filter_map(|event| match event {
            Event::Replayed { header } => Some(header.base_offset.0),
            _ => None,
        });
        assert!(replayed.eq(8..20));
        assert!(world.log.start_offset() <= Offset(8));
        assert_eq!(world.log.end_offset(), Offset(20));
    }
}

#[test]
fn a_file_keeps_its_name_while_a_sync_of_it_is_in_flight() {
    let options = Options {
        segment_bytes: 3000,
        flush_messages: 2,
        flush_ms: i64::MAX,
        ..Options::default()
    };
    let mut world = World::new(1, options);
    let mut held = Vec::new();
    for n in 0..12 {
        world.append(&batch(1, 700, n, n as u64)).expect("taken");
        world.flush();
        world.run_but_for_a_sync(&mut held);
        if n == 3 {
            // Written when the first segment is sealed.
            world.log.checkpoint(Bytes::new(), &mut world.out);
        }
    }
    assert!(!held.is_empty());
    world.log.raise_start_offset(Offset(4), &mut world.out);
    world.run();
    assert_eq!(world.log.keeper.start_on_disk, Offset(4));
    let first = directory().join("00000000000000000000.log");
    assert!(world.disk.files.contains_key(&first), "it is being synced");
    world.disk.pending.append(&mut held);
    world.run();
    assert!(world.log.fault().is_none(), "{:?}", world.log.fault());
    assert!(!world.disk.files.contains_key(&first));
}

#[test]
fn retention_by_time_and_size_drops_whole_segments() {
    let options = Options {
        segment_bytes: 3000,
        retention_bytes: 7000,
        retention_ms: -1,
        ..Options::default()
    };
    let mut world = World::new(7, options);
    for n in 0..20 {
        world.append_all(&batch(1, 700, n, n as u64));
    }
    world.log.enforce_retention(world.now, &mut world.out);
    world.run_with_checkpoint(b"");
    assert!(world.log.size_bytes() >= 7000 && world.log.size_bytes() < 10_000);
    world.options.retention_ms = 1000;
    world.log.set_options(world.options.clone());
    world.log.enforce_retention(world.now, &mut world.out);
    world.run_with_checkpoint(b"");
    assert_eq!(
        world.log.size_bytes(),
        0,
        "an expired active segment is rolled first"
    );
    assert_eq!(world.log.start_offset(), Offset(20));
    world.reopen();
    world.ready();
    assert_eq!(
        (world.log.start_offset(), world.log.end_offset()),
        (Offset(20), Offset(20))
    );
    assert_eq!(
        world.append_all(&batch(1, 10, 0, 0)).base_offset,
        Offset(20)
    );
}

#[test]
fn a_deleted_log_is_renamed_away_before_it_is_removed() {
    let mut world = World::new(8, Options::default());
    world.append_all(&batch(1, 10, 0, 0));
    world.log.delete(&mut world.out);
    world.run();
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::Deleted))
    );
    assert!(world.disk.files.is_empty() && world.disk.directories.is_empty());
    let mut never_written = World::new(8, Options::default());
    never_written.log.delete(&mut never_written.out);
    never_written.run();
    assert!(
        never_written
            .events
            .iter()
            .any(|event| matches!(event, Event::Deleted))
    );
}

#[test]
fn reads_are_whole_batches_within_the_limit_and_the_first_one_always() {
    let mut world = World::new(
        9,
        Options {
            index_interval_bytes: 1000,
            ..Options::default()
        },
    );
    for n in 0..50 {
        world.append_all(&batch(1, 700, n, n as u64));
    }
    for evicted in [false, true] {
        if evicted {
            assert!(world.log.evict(usize::MAX, false) > 0);
        }
        assert!(
            world
                .read(Offset(0), 1)
                .is_ok_and(|bytes| verify(&bytes).is_ok())
        );
        let two = world.read(Offset(7), 2000).expect("two batches");
        assert_eq!(verify(&two).map(|header| header.base_offset), Ok(Offset(7)));
        assert!(two.len() <= 2000 && two.len() > 700);
        assert!(matches!(world.read(Offset(50), 100), Err(Read::Nothing)));
        assert!(matches!(world.read(Offset(51), 100), Err(Read::AboveEnd)));
        assert_eq!(world.read_all(Offset(0), 3000).len(), 50);
        assert!(matches!(
            world.log.read(Offset(3), Offset(3), 100, true),
            Read::Nothing
        ));
    }
}

#[test]
fn batches_that_are_too_large_or_no_batches_are_refused_and_change_nothing() {
    let mut world = World::new(
        9,
        Options {
            batch_bytes_max: 500,
            ..Options::default()
        },
    );
    let large = batch(1, 700, 0, 0);
    let refused = AppendRefused::TooLarge {
        size: large.len(),
        limit: 500,
    };
    assert_eq!(world.append(&large), Err(refused));
    assert_eq!(world.append(&[0; 100]), Err(AppendRefused::Malformed));
    let mut two = batch(1, 10, 0, 0);
    two.extend_from_slice(&two.clone());
    assert_eq!(world.append(&two), Err(AppendRefused::Malformed));
    assert_eq!(world.log.end_offset(), Offset(0));
}

#[test]
fn a_segment_file_can_be_inspected_from_outside() {
    let mut world = World::new(9, Options::default());
    for n in 0..5 {
        world.append_all(&batch(1, 700, n, n as u64));
    }
    let mut bytes = world.disk.files[&directory().join("00000000000000000000.log")]
        .now
        .clone();
    let report = crate::log::inspect(&bytes, Offset(0));
    assert!(report.is_sound() && report.batches.len() == 5 && report.end == world.log.size_bytes());
    bytes[1000] ^= 1;
    assert!(!crate::log::inspect(&bytes, Offset(0)).is_sound());
}

/// The simulator's seed 1: the look-up asked the disk for bytes that were nowhere yet but in the
/// gather, and the missing file fenced the log.
#[test]
fn look_ups_by_time_never_ask_the_disk_for_what_is_not_committed() {
    let mut world = World::new(1, Options::default());
    world.append(&batch(2, 20, 500, 1)).expect("taken");
    let all = Offset(i64::MAX);
    assert_eq!(world.log.max_timestamp(), Lookup::None);
    assert_eq!(world.log.offset_for_timestamp(0, all), Lookup::None);
    world.flush();
    world.run();
    world.append(&batch(2, 20, 900, 2)).expect("taken");
    assert_eq!(world.log.offset_for_timestamp(800, all), Lookup::None);
    assert_eq!(world.log.max_timestamp(), Lookup::None);
}

#[test]
fn a_cold_reader_that_goes_from_index_entry_to_index_entry_asks_the_disk_for_one_batch_once() {
    let options = Options {
        segment_bytes: 20_000,
        index_interval_bytes: 1,
        ..Options::default()
    };
    let mut world = World::new(3, options);
    for n in 0..60 {
        world.append_all(&batch(1, 700, n, n as u64));
    }
    world.close();
    world.reopen();
    let (mut from, mut fills, mut batches, mut indexes) = (Offset(0), 0, 0, 0);
    while from < Offset(60) {
        match world.log.read(from, Offset(i64::MAX), 3_000, true) {
            Read::Slices(slices) => {
                let bytes = world.bytes_of(&slices);
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let header = verify(rest).expect("only whole batches are served");
                    assert_eq!(header.base_offset, from);
                    from = header.last_offset().plus(1);
                    rest = &rest[header.size()..];
                    batches += 1;
                }
            }
            Read::Fill(range) => {
                if range.file.name().ends_with(".index") {
                    indexes += 1;
                } else {
                    fills += 1;
                }
                world.log.fill(range, &mut world.out);
                world.run();
            }
            other => panic!("{other:?} at {from}"),
        }
    }
    assert_eq!(batches, 60);
    // One look at a batch for each index that came from a file, that of the active segment among
    // them, and one for its unfinished block.
    assert!(indexes >= 2 && fills <= indexes + 2, "{fills} {indexes}");
}

#[test]
fn a_read_that_begins_at_an_index_entry_ends_below_the_offset_it_may_see() {
    let options = Options {
        index_interval_bytes: 1,
        ..Options::default()
    };
    let mut world = World::new(4, options);
    for n in 0..40 {
        world.append_all(&batch(1, 700, n, n as u64));
    }
    world.close();
    world.reopen();
    // The first look at the index makes it trusted.
    assert!(world.read(Offset(0), 3_000).is_ok());
    for upto in 11..30 {
        let read = world.log.read(Offset(10), Offset(upto), 1 << 20, true);
        let Read::Slices(slices) = read else {
            panic!("{read:?} below {upto}");
        };
        let bytes = world.bytes_of(&slices);
        let (mut rest, mut next) = (&bytes[..], Offset(10));
        while !rest.is_empty() {
            let header = verify(rest).expect("whole batches");
            next = header.last_offset().plus(1);
            rest = &rest[header.size()..];
        }
        assert_eq!(next, Offset(upto));
    }
}
