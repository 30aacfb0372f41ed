//! How directories go, and what happens where one has stayed.

use super::disk::Trouble;
use super::*;
use crate::log::Fault;

const OTHER: TopicId = TopicId([1; 16]);

fn has(world: &World, wanted: fn(&Event) -> bool) -> bool {
    world.events.iter().any(wanted)
}

fn names(world: &World) -> Vec<&str> {
    world
        .disk
        .directories
        .iter()
        .map(|path| &*path.path)
        .collect()
}

fn another_name(suffix: &str) -> String {
    format!("orders-0.{}{suffix}", "09".repeat(16))
}

/// A log of three batches whose directory could not be moved away.
fn left_over(seed: u64) -> World {
    let mut world = World::new(seed, Options::default());
    for n in 0..3 {
        world.append_all(&batch(1, 10, 0, n));
    }
    world.disk.trouble = Trouble::RenameFails;
    world.log.delete(&mut world.out);
    world.run();
    assert!(has(&world, |event| matches!(event, Event::NotDeleted(_))));
    assert!(!has(&world, |event| matches!(event, Event::Deleted)));
    assert_eq!(names(&world), ["orders-0"]);
    world.events.clear();
    world
}

fn begin_another(world: &mut World) {
    world.log = Log::new(directory(), 2, OTHER, Options::default(), pool());
}

fn open_another(world: &mut World) {
    let options = Options::default();
    world.log = Log::open(directory(), 2, OTHER, options, pool(), &mut world.out);
    world.run();
    assert!(has(
        world,
        |event| matches!(event, Event::Foreign(found) if *found == topic())
    ));
    world.events.clear();
}

#[test]
fn a_new_log_moves_what_a_refused_deletion_left_out_of_its_way() {
    for seed in 0..10 {
        let mut world = left_over(seed);
        world.disk.trouble = Trouble::None;
        begin_another(&mut world);
        let ours = batch(2, 20, 0, 7);
        assert_eq!(world.append_all(&ours).base_offset, Offset(0));
        assert_eq!(world.log.committed_end(), Offset(2));
        assert_eq!(names(&world), ["orders-0"], "the old one is removed");
        world.log = Log::open(
            directory(),
            3,
            OTHER,
            Options::default(),
            pool(),
            &mut world.out,
        );
        world.run();
        assert_eq!(world.log.fault(), None);
        assert_eq!(world.log.end_offset(), Offset(2));
        assert_eq!(world.read_all(Offset(0), 1 << 20).len(), 1);
    }
}

#[test]
fn a_new_log_is_fenced_while_what_is_in_its_way_cannot_be_moved() {
    let mut world = left_over(1);
    let before: Vec<FilePath> = world.disk.files.keys().cloned().collect();
    begin_another(&mut world);
    world.append(&batch(1, 10, 0, 7)).expect("taken");
    world.flush();
    world.run();
    assert!(has(&world, |event| matches!(
        event,
        Event::Fenced(Fault::Disk(_))
    )));
    assert_eq!(world.log.committed_end(), Offset(0));
    let after: Vec<FilePath> = world.disk.files.keys().cloned().collect();
    assert_eq!(before, after, "nothing of it was touched");
}

#[test]
fn a_directory_that_says_nothing_of_whose_it_is_is_not_begun_in() {
    let mut world = left_over(2);
    world
        .disk
        .files
        .remove(&directory().join("partition.metadata"));
    world.disk.trouble = Trouble::None;
    begin_another(&mut world);
    world.append_all(&batch(1, 10, 0, 7));
    assert_eq!(world.log.committed_end(), Offset(1));
    world.reopen();
    assert!(has(
        &world,
        |event| matches!(event, Event::Foreign(found) if *found == OTHER)
    ));
}

/// As where a disk is mounted for one partition: it cannot be renamed, and need not be.
#[test]
fn a_directory_without_files_is_begun_in() {
    let mut world = World::new(1, Options::default());
    world.disk.directories.insert(directory());
    world.disk.trouble = Trouble::RenameFails;
    begin_another(&mut world);
    world.append_all(&batch(1, 10, 0, 0));
    assert_eq!(world.log.committed_end(), Offset(1));
    assert_eq!(names(&world), ["orders-0"]);
}

#[test]
fn a_directory_that_names_the_new_logs_topic_is_kept() {
    let mut world = World::new(3, Options::default());
    world.disk.directories.insert(directory());
    let metadata = directory().join("partition.metadata");
    let contents = format!("version: 0\ntopic_id: {}\n", topic());
    world.disk.put_file(&metadata, contents.as_bytes());
    world.append_all(&batch(1, 10, 0, 7));
    assert_eq!(world.log.committed_end(), Offset(1));
    assert_eq!(names(&world), ["orders-0"]);
    world.reopen();
    assert_eq!(world.log.end_offset(), Offset(1));
}

#[test]
fn another_topics_directory_is_touched_only_when_the_shard_says_so() {
    let mut world = left_over(4);
    world.disk.trouble = Trouble::None;
    let before: Vec<FilePath> = world.disk.files.keys().cloned().collect();
    open_another(&mut world);
    let after: Vec<FilePath> = world.disk.files.keys().cloned().collect();
    assert_eq!(before, after);
    let found = topic();
    let fault = Fault::Foreign {
        directory: directory(),
        found,
    };
    world.log.give_up_on(fault.clone(), &mut world.events);
    assert_eq!(world.log.fault(), Some(&fault));
    assert!(world.append(&batch(1, 10, 0, 7)).is_err());
}

#[test]
fn what_was_found_in_a_logs_place_is_removed_and_the_log_begins_anew() {
    let mut world = left_over(5);
    world.disk.trouble = Trouble::None;
    open_another(&mut world);
    world.log.begin_anew(false, &mut world.out);
    world.run();
    assert!(has(&world, |event| matches!(event, Event::Ready { .. })));
    assert!(names(&world).is_empty());
    assert_eq!(world.append_all(&batch(1, 10, 0, 7)).base_offset, Offset(0));
}

#[test]
fn a_stray_in_a_logs_place_is_kept_under_another_name() {
    let mut world = left_over(6);
    world.disk.trouble = Trouble::None;
    let files = world.disk.files.len();
    open_another(&mut world);
    world.log.begin_anew(true, &mut world.out);
    world.run();
    assert!(has(&world, |event| matches!(event, Event::Ready { .. })));
    assert_eq!(names(&world), [another_name("-stray")]);
    assert_eq!(world.disk.files.len(), files);
}

/// A fenced log's deletion was taken for settled with the fault, before its directory had moved: what
/// came in its place then was moved away with it.
#[test]
fn a_deletion_is_over_only_when_nothing_is_in_flight_and_the_directory_has_moved() {
    let mut world = World::new(7, Options::default());
    world.append_all(&batch(1, 10, 0, 0));
    world.append(&batch(1, 10, 0, 1)).expect("taken");
    world.flush();
    let in_flight = world.disk.pending.len();
    assert!(in_flight > 0);
    world.disk.trouble = Trouble::WriteFails;
    world.log.delete(&mut world.out);
    assert!(world.out.is_empty(), "it waits for the write");
    assert!(world.step());
    assert!(!has(&world, |event| matches!(event, Event::Deleted)));
    world.run();
    assert!(has(&world, |event| matches!(event, Event::Deleted)));
    assert!(names(&world).is_empty());
}

/// A topic whose partition is fenced for a stray is deleted: the stray is not its to be removed.
#[test]
fn the_deletion_of_a_log_does_not_remove_another_topics_directory() {
    let mut world = left_over(8);
    world.disk.trouble = Trouble::None;
    open_another(&mut world);
    let found = topic();
    let directory = directory();
    let fault = Fault::Foreign { directory, found };
    world.log.give_up_on(fault, &mut world.events);
    world.log.delete(&mut world.out);
    world.run();
    assert!(has(&world, |event| matches!(event, Event::Deleted)));
    assert_eq!(names(&world), [another_name("-stray")]);
}
