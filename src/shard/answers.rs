//! Coordinators' answers on their way out. A rebalance answers all members of a group at once, and
//! each answer is a frame to build and a socket to write to: a turn hands out only so many, so that
//! what else comes to the core, a produce for instance, is not kept waiting by a large group.
//!
//! Not bounded itself: an answer stands here for a request that was taken in.

use std::collections::VecDeque;

use crate::base::Now;

use super::core::{Core, Timer};
use super::message::{Effects, Reply, Ticket};

/// How many answers a turn hands out: 32 take a core about half a millisecond.
const PER_TURN: usize = 32;

/// The answers that wait for a later turn, and how many this one has handed out.
#[derive(Default)]
pub(super) struct Answers {
    waiting: VecDeque<(Ticket, Reply)>,
    given: usize,
}

impl Answers {
    /// Hands an answer out: now if the turn may, or after those that wait already.
    pub(super) fn give(&mut self, ticket: Ticket, reply: Reply, effects: &mut Effects) {
        if self.waiting.is_empty() && self.given < PER_TURN {
            self.given += 1;
            effects.replies.push((ticket, reply));
        } else {
            self.waiting.push_back((ticket, reply));
        }
    }

    /// Hands out all that wait, since there are no more turns.
    pub(super) fn give_all(&mut self, effects: &mut Effects) {
        effects.replies.extend(self.waiting.drain(..));
    }
}

impl Core {
    /// A turn is over: what the next one may hand out is, and the next one is due at once if that
    /// is not all.
    pub(super) fn hand_out_answers(&mut self, now: Now, effects: &mut Effects) {
        let answers = &mut self.coordinators.answers;
        let count = answers.waiting.len().min(PER_TURN);
        effects.replies.extend(answers.waiting.drain(..count));
        answers.given = count;
        match answers.waiting.is_empty() {
            true => self.timers.cancel(&Timer::Answers),
            false => self.timers.set(Timer::Answers, now.mono),
        }
    }
}
