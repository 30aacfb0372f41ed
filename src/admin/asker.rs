//! One question to every core, and the wait for their answers.

use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::base::CoreId;

use super::Answer;

/// Asks all cores, one asking at a time. A core that has not even answered an earlier question is
/// not asked another one: it has one question in its inbox, however many people look.
pub(super) struct Asker<A> {
    answer_wait_max: Duration,
    /// By core: the answer still owed.
    owed: Mutex<Vec<Option<oneshot::Receiver<A>>>>,
}

impl<A> Asker<A> {
    /// Waits `answer_wait_max` for all answers together.
    pub(super) fn new(cores: u16, answer_wait_max: Duration) -> Asker<A> {
        let owed = Mutex::new((0..cores).map(|_| None).collect());
        Asker {
            answer_wait_max,
            owed,
        }
    }

    /// The answers by core; none where no answer came in time.
    ///
    /// May be dropped while it waits (the client has gone): what is owed stays noted.
    pub(super) async fn ask(&self, ask: impl Fn(CoreId, Answer<A>)) -> Vec<Option<A>> {
        let mut owed = self.owed.lock().await;
        let mut asked = vec![false; owed.len()];
        for (core, owed) in owed.iter_mut().enumerate() {
            // A late answer is one to another question.
            let stuck = owed
                .as_mut()
                .is_some_and(|late| matches!(late.try_recv(), Err(TryRecvError::Empty)));
            if !stuck {
                let (sender, receiver) = oneshot::channel();
                *owed = Some(receiver);
                asked[core] = true;
                ask(CoreId(core as u16), Answer(sender));
            }
        }
        let deadline = Instant::now() + self.answer_wait_max;
        let mut answers = Vec::with_capacity(owed.len());
        for (owed, asked) in owed.iter_mut().zip(asked) {
            answers.push(match owed {
                Some(answer) if asked => match timeout_at(deadline, answer).await {
                    Ok(given) => {
                        *owed = None;
                        given.ok()
                    }
                    Err(_) => None,
                },
                Some(_) | None => None,
            });
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Shelf;

    use super::*;

    #[test]
    fn a_late_answer_is_not_taken_for_one_to_the_next_question() {
        let shelf: Shelf<Vec<Answer<u32>>> = Shelf::default();
        let keep = |_, answer| shelf.lock().expect("the shelf").push(answer);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(async {
            let asker = Asker::new(1, Duration::ZERO);
            assert_eq!(asker.ask(keep).await, [None]);
            assert_eq!(asker.ask(keep).await, [None]);
            let mut kept = std::mem::take(&mut *shelf.lock().expect("the shelf"));
            assert_eq!(kept.len(), 1, "asked once while it owes an answer");
            kept.pop().expect("the question").give(1);
            let answers = asker.ask(|_, answer: Answer<u32>| answer.give(2)).await;
            assert_eq!(answers, [Some(2)]);
        });
    }
}
