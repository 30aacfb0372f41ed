//! The broker in the simulated world: crashes, a disk that forgets and tears, retries. A seed that
//! fails says how to run it again.

use corelane::sim::{Canary, Options, Plan, run, run_plan};

/// How many seeds a test run takes; `corelane sim --runs N` takes more.
const SEEDS: u64 = 150;

#[test]
fn every_seed_keeps_its_promises() {
    let first = std::env::var("CORELANE_SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let runs = std::env::var("CORELANE_SIM_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok());
    let first: u64 = first.unwrap_or(0);
    let failures: Vec<String> = (first..first + runs.unwrap_or(SEEDS))
        .filter_map(|seed| run(seed, &Options::default()).err())
        .map(|failure| failure.to_string())
        .collect();
    let shown = failures
        .iter()
        .take(3)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n\n");
    assert!(
        failures.is_empty(),
        "{} seeds failed:\n{shown}",
        failures.len()
    );
}

fn assert_sound(seeds: impl IntoIterator<Item = u64>, options: &Options) {
    for seed in seeds {
        if let Err(failure) = run(seed, options) {
            panic!("{failure}");
        }
    }
}

/// Deeper than the usual run, for what happens seldom.
fn deep() -> Options {
    Options {
        steps: Some(10_000),
        ..Options::default()
    }
}

/// A log that a disk's error fenced was opened again, and began where its checkpoint said, below a
/// start that retention had moved and that was not durable yet.
#[test]
fn seed_1693_a_log_that_is_opened_again_begins_where_its_checkpoint_says() {
    assert_sound([1693], &Options::default());
}

/// The directory of a deleted topic could not be moved away; a topic of the same name found it, and was
/// taken for damaged at the next start. Deeper than the usual run: names fail seldom.
#[test]
fn seeds_42_158_159_and_228_a_topic_made_again_does_not_begin_in_what_a_failed_deletion_left() {
    assert_sound([42, 158, 159, 228], &deep());
}

/// The start removed all that lay below the start offset of an emptied log; then the checkpoint, which
/// alone said where it goes on, was damaged (10893, 18342). And what is offline from the start on was
/// taken for an emptied log by the simulation itself (3350).
#[test]
fn seeds_3350_10893_and_18342_an_emptied_log_gives_no_offset_out_twice() {
    assert_sound([3350, 10893, 18342], &Options::default());
}

/// A start removed what a compaction had left half-made, and nobody waited for it: the next compaction
/// had written a file of the same name by then, and found it gone.
#[test]
fn seed_28723_what_a_crash_left_half_made_is_gone_before_a_log_opens() {
    assert_sound([28723], &Options::default());
}

/// Segments below the start offset got their other names in any order: one in the middle was left, and
/// without the checkpoint the empty one at the end seemed not to follow. Deeper than the usual run.
#[test]
fn seed_1035_segments_that_are_deleted_leave_no_gap_behind() {
    assert_sound([1035], &deep());
}

/// Otherwise the promise is not put to the test at all.
#[test]
fn operations_on_names_fail_too() {
    let runs = (0..150).filter_map(|seed| run(seed, &Options::default()).ok());
    let failed: u32 = runs.map(|report| report.name_errors).sum();
    println!("{failed} failed");
    assert!(failed > 0);
}

/// The core's timers went round for ever: `flush.ms` was over while the segment was being sealed.
#[test]
fn seed_833_a_flush_that_falls_into_a_roll_is_not_due_again_and_again() {
    assert_sound([833], &Options::default());
}

/// The index of a compacted segment was loaded while the segment got its name; the load failed, and
/// the scan that followed went by the old name.
#[test]
fn seed_230_an_index_is_not_loaded_while_its_segment_changes_its_name() {
    assert_sound([230, 441, 483, 608, 754, 1729], &Options::default());
}

/// A file that had grown no further than needed on a full disk lost its next growth with the power: the
/// torn batch that reached past its end was taken for damage.
#[test]
fn seed_151_a_write_that_lost_the_growth_of_its_file_is_torn() {
    assert_sound([151], &Options::default());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 14, 159] {
        let options = Options::default();
        assert_eq!(run(seed, &options).ok(), run(seed, &options).ok());
    }
}

fn found_within(canary: Canary, seeds: u64) -> bool {
    (0..seeds).any(|seed| {
        let plan = Plan::new(seed, &Options::default());
        run_plan(&Plan {
            canary: Some(canary),
            ..plan
        })
        .is_err()
    })
}

#[test]
fn a_disk_that_lies_about_durability_is_found() {
    assert!(found_within(Canary::LyingDisk, 40));
}

/// The least seed with journals in use by which it is found.
fn found_with_journals(canary: Canary, seeds: u64) -> Option<u64> {
    (0..seeds).find(|seed| {
        let plan = Plan::new(*seed, &Options::default());
        let plan = Plan {
            canary: Some(canary),
            journal_writes_min: Some(0),
            ..plan
        };
        run_plan(&plan).is_err()
    })
}

#[test]
fn a_journal_that_answers_before_its_write_is_durable_is_found() {
    assert!(found_with_journals(Canary::HastyJournal, 40).is_some());
}

#[test]
fn a_journal_that_answers_one_of_several_writes_side_by_side_before_it_is_durable_is_found() {
    assert!(found_with_journals(Canary::LooseJournal, 100).is_some());
}

#[test]
fn a_start_that_brings_nothing_home_from_journals_is_found() {
    assert!(found_with_journals(Canary::LostJournal, 40).is_some());
}

#[test]
fn a_journal_that_is_used_again_before_its_files_are_synced_is_found() {
    assert!(found_with_journals(Canary::IdleSync, 400).is_some());
}

#[test]
fn an_answer_that_is_given_twice_is_found() {
    assert!(found_within(Canary::StaleReply, 10));
}

/// A partition that was deleted while the broker stopped was waited for without end.
#[test]
fn seeds_1348_and_1428_a_deletion_during_the_stop_does_not_hold_it_up() {
    assert_sound([1348, 1428], &Options::default());
}

/// Otherwise the promise is not put to the test at all.
#[test]
fn logs_that_find_no_space_for_a_write_come_back() {
    let runs = (0..150).filter_map(|seed| run(seed, &Options::default()).ok());
    let reopened: u64 = runs.map(|report| report.reopened).sum();
    println!("{reopened} logs came back");
    assert!(reopened > 0);
}

/// An idempotent producer tried again on a fenced log, and was never answered: its batch was taken
/// for a duplicate of one that could not be committed any more.
#[test]
fn seed_317_a_retry_on_a_fenced_log_is_answered() {
    assert_sound([317], &Options::default());
}

/// What was offline from the start on passed for an emptied log: its end was told as 0, and no record was
/// found by time.
#[test]
fn seeds_1611_2128_and_3129_what_is_offline_from_the_start_tells_no_end_of_its_log() {
    assert_sound([1611, 2128, 3129], &deep());
}
