//! What happened: the last events for a person, and a hash over all of them for the comparison of
//! two runs.

use std::collections::VecDeque;

/// How many events a failure shows.
const SHOWN: usize = 40;

/// One event, kept as numbers: it is put into words only when a run fails.
#[derive(Clone, Copy, Debug)]
struct Note {
    step: u64,
    at_ns: u64,
    place: u64,
    what: &'static str,
    numbers: [i64; 3],
}

/// The story of a run.
#[derive(Debug, Default)]
pub(super) struct Trace {
    notes: VecDeque<Note>,
    hash: u64,
    pub(super) step: u64,
}

impl Trace {
    /// Something happened at `at_ns` on core `place`.
    pub(super) fn note(&mut self, at_ns: u64, place: u64, what: &'static str, numbers: [i64; 3]) {
        let words = [
            at_ns,
            place,
            what.len() as u64,
            numbers[0] as u64,
            numbers[1] as u64,
        ];
        for word in words.into_iter().chain([numbers[2] as u64]) {
            self.hash = (self.hash ^ word)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
        if self.notes.len() == SHOWN {
            self.notes.pop_front();
        }
        self.notes.push_back(Note {
            step: self.step,
            at_ns,
            place,
            what,
            numbers,
        });
    }

    /// The hash over everything noted.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last events in words.
    pub(super) fn story(&self) -> Vec<String> {
        let told = self.notes.iter().map(|note| {
            let [a, b, c] = note.numbers;
            let at_us = note.at_ns / 1000;
            format!(
                "#{} {at_us} us, core {}: {} {a} {b} {c}",
                note.step, note.place, note.what
            )
        });
        told.collect()
    }
}
