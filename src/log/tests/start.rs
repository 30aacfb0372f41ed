//! What the next start finds: nothing that looks like damage and is none, and little to scan.

use super::*;

/// Runs everything but what lets a file grow beyond `size` bytes, which is put aside.
fn run_without_growth(world: &mut World, size: u64, held: &mut Vec<DiskOp>) {
    loop {
        world.disk.pending.append(&mut world.out);
        let grows = |op: &DiskOp| matches!(op, DiskOp::Allocate { size: to, .. } if *to > size);
        let (growth, rest) = world.disk.pending.drain(..).partition(grows);
        world.disk.pending = rest;
        held.extend::<Vec<DiskOp>>(growth);
        if !world.step() {
            return;
        }
    }
}

#[test]
fn a_full_segment_is_trimmed_when_its_file_has_stopped_growing() {
    let options = Options {
        segment_bytes: 60_000,
        ..Options::default()
    };
    let (mut world, mut held) = (World::new(1, options), Vec::new());
    for size in [20_000, 5_000, 50_000] {
        world.append(&batch(1, size, 0, 0)).expect("taken");
        world.flush();
        run_without_growth(&mut world, 32 << 10, &mut held);
    }
    let first = directory().join("00000000000000000000.log");
    assert!(!held.is_empty(), "the first segment grows ahead");
    assert_eq!(world.disk.files[&first].now.len(), 32 << 10, "not trimmed");
    world.disk.pending.append(&mut held);
    world.run();
    assert_eq!(world.log.committed_end(), Offset(3));
    assert!(
        world.disk.files[&first].now.len() < 32 << 10,
        "exactly its batches"
    );
    world.reopen();
    world.ready();
    assert_eq!(world.log.end_offset(), Offset(3));
}

#[test]
fn an_emptied_log_goes_on_where_it_was_even_without_its_checkpoint() {
    let options = Options {
        segment_bytes: 9000,
        retention_ms: 10,
        file_delete_delay_ms: 0,
        ..Options::default()
    };
    let mut world = World::new(1, options);
    for n in 0..5 {
        world.append_all(&batch(2, 3000, 1_000_000, n));
    }
    for _ in 0..3 {
        world.tick(100);
        world.log.enforce_retention(world.now, &mut world.out);
        world.run_with_checkpoint(b"");
    }
    assert_eq!(world.log.start_offset(), Offset(10));
    let segments = || world.disk.files.keys();
    assert_eq!(
        segments()
            .filter(|file| file.name().ends_with(".log"))
            .count(),
        1,
        "only the new one: {:?}",
        segments().collect::<Vec<_>>()
    );
    world
        .disk
        .files
        .retain(|file, _| file.name() != "checkpoint");
    world.reopen();
    world.ready();
    assert_eq!(
        world.log.end_offset(),
        Offset(10),
        "no offset is given twice"
    );
}

/// Found by the simulation (seeds 10893 and 18342): the start removed the files below the start offset
/// before another one said where the log goes on.
#[test]
fn a_log_that_is_opened_before_its_old_files_are_gone_keeps_its_end_even_without_its_checkpoint() {
    let options = Options {
        retention_ms: 10,
        file_delete_delay_ms: 0,
        ..Options::default()
    };
    let mut world = World::new(1, options);
    world.append_all(&batch(2, 3000, 1_000_000, 0));
    world.tick(100);
    world.log.enforce_retention(world.now, &mut world.out);
    world.run();
    let file = directory().join("checkpoint");
    let before = world
        .disk
        .files
        .get(&file)
        .map(|checkpoint| checkpoint.now.clone());
    world
        .log
        .checkpoint(Bytes::from_static(b""), &mut world.out);
    let changed = |world: &World| {
        let now = world.disk.files.get(&file);
        now.map(|checkpoint| &checkpoint.now) != before.as_ref()
    };
    while !changed(&world) {
        world.disk.pending.append(&mut world.out);
        assert!(world.step(), "the checkpoint is written");
    }
    world.reopen();
    world.ready();
    assert_eq!(world.log.start_offset(), Offset(2), "all is expired");
    world.disk.files.remove(&file);
    world.reopen();
    world.ready();
    assert_eq!(
        world.log.end_offset(),
        Offset(2),
        "no offset is given twice"
    );
    for _ in 0..2 {
        world.tick(100);
        world.log.enforce_retention(world.now, &mut world.out);
        world.run_with_checkpoint(b"");
    }
    let first = directory().join("00000000000000000000.log");
    assert!(!world.disk.files.contains_key(&first), "gone in the end");
}

/// A log that is always written to would never be trimmed, and a full disk never freed.
#[test]
fn retention_does_not_wait_for_writes_in_flight() {
    let options = Options {
        segment_bytes: 9000,
        retention_ms: 10,
        ..Options::default()
    };
    let mut world = World::new(1, options);
    for n in 0..4 {
        world.append_all(&batch(2, 8000, 1_000_000, n));
    }
    world.tick(100);
    world
        .append(&batch(2, 3000, 2_000_000_000_000, 4))
        .expect("taken");
    world.flush();
    world.log.enforce_retention(world.now, &mut world.out);
    assert!(world.log.start_offset() >= Offset(6), "what is full goes");
    world.run();
    assert_eq!(world.log.committed_end(), Offset(10));
    world.reopen();
    world.ready();
    assert_eq!(world.log.end_offset(), Offset(10));
}

#[test]
fn segments_that_are_deleted_get_their_other_names_in_order_whatever_the_disk_does_first() {
    for seed in 0..50 {
        let options = Options {
            segment_bytes: 9000,
            retention_ms: 10,
            ..Options::default()
        };
        let mut world = World::new(seed, options);
        for n in 0..6 {
            world.append_all(&batch(2, 8000, 1_000_000, n));
        }
        world.tick(100);
        world.log.enforce_retention(world.now, &mut world.out);
        world.run();
        world
            .log
            .checkpoint(Bytes::from_static(b""), &mut world.out);
        loop {
            world.disk.pending.append(&mut world.out);
            let mut bases: Vec<i64> = Vec::new();
            let names = world.disk.files.keys().map(|file| file.name().to_owned());
            for name in names.filter(|name| name.ends_with(".log")) {
                bases.push(name[..20].parse().expect("a base offset"));
            }
            bases.sort_unstable();
            let follow = bases.windows(2).all(|pair| pair[1] - pair[0] == 2);
            assert!(follow, "seed {seed}: a gap in {bases:?}");
            if !world.step() {
                break;
            }
        }
        assert!(world.log.start_offset() > Offset(8), "all is expired");
    }
}

/// Otherwise each life could add as much again before the first checkpoint.
#[test]
fn what_was_scanned_counts_towards_the_next_checkpoint() {
    let mut world = World::new(1, Options::default());
    let batch = batch(1, 100_000, 0, 0);
    for life in 1..4 {
        world.append_all(&batch);
        world.reopen();
        world.ready();
        assert_eq!(world.log.unvouched_bytes(), life * batch.len() as u64);
        assert_eq!(world.log.tail.since_checkpoint, world.log.unvouched_bytes());
    }
    world.log.checkpoint(Bytes::new(), &mut world.out);
    assert!(world.log.is_checkpointing());
    world.run();
    assert_eq!(world.log.unvouched_bytes(), 0);
    world.reopen();
    world.ready();
    assert_eq!(world.log.unvouched_bytes(), 0);
}

/// A write goes into space that its file has only just grown by; the power goes, and the growth with
/// it. Only a length that growing leaves behind is believed to come from that.
#[test]
fn a_torn_write_past_the_end_of_its_file_is_cut_and_a_cut_file_is_damage() {
    for (length, torn) in [(32 << 10, true), (28 << 10, false)] {
        let mut world = World::new(1, Options::default());
        for n in 0..2 {
            world.append_all(&batch(1, 20_000, 0, n));
        }
        let first = directory().join("00000000000000000000.log");
        let file = world.disk.files.get_mut(&first).expect("the segment");
        file.now.truncate(length);
        file.durable.truncate(length);
        world.reopen();
        assert_eq!(world.log.fault().is_none(), torn, "{length} bytes");
        assert_eq!(world.log.end_offset(), Offset(1), "{length} bytes");
    }
}
