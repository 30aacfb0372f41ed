//! Asks the cores for their figures, together and not too often.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::base::CoreId;
use crate::obs::CoreSnapshot;

use super::{Answer, Handle};

/// What the cores said.
pub(super) struct Gathered {
    /// By core; none where no answer came in time.
    pub(super) cores: Vec<Option<CoreSnapshot>>,
}

impl Gathered {
    /// The answers that came.
    pub(super) fn snapshots(&self) -> Vec<CoreSnapshot> {
        self.cores.iter().flatten().cloned().collect()
    }
}

/// One gathering at a time; whoever comes meanwhile waits for it and is given its result.
pub(super) struct Gatherer {
    answer_wait_max: Duration,
    snapshot_age_max: Duration,
    state: Mutex<State>,
}

struct State {
    /// By core: the answer still owed. It is kept across gatherings that gave up on it, so that a
    /// stuck core has one question in its inbox and not one for each scrape.
    owed: Vec<Option<oneshot::Receiver<CoreSnapshot>>>,
    last: Option<(Instant, Arc<Gathered>)>,
}

impl Gatherer {
    /// Waits `answer_wait_max` for all answers together, and shows figures younger than
    /// `snapshot_age_max` again.
    pub(super) fn new(
        cores: u16,
        answer_wait_max: Duration,
        snapshot_age_max: Duration,
    ) -> Gatherer {
        let owed = (0..cores).map(|_| None).collect();
        let state = Mutex::new(State { owed, last: None });
        Gatherer {
            answer_wait_max,
            snapshot_age_max,
            state,
        }
    }

    /// The figures of all cores.
    ///
    /// May be dropped while it waits (the client has gone): what is owed stays noted.
    pub(super) async fn gather(&self, handle: &Handle) -> Arc<Gathered> {
        let mut state = self.state.lock().await;
        if let Some((at, gathered)) = &state.last
            && at.elapsed() < self.snapshot_age_max
        {
            return gathered.clone();
        }
        for core in 0..handle.cores {
            let owed = &mut state.owed[usize::from(core)];
            if owed.is_none() {
                let (sender, receiver) = oneshot::channel();
                *owed = Some(receiver);
                (handle.ask)(CoreId(core), Answer(sender));
            }
        }
        let deadline = Instant::now() + self.answer_wait_max;
        let mut cores = Vec::with_capacity(state.owed.len());
        for owed in &mut state.owed {
            cores.push(answer(owed, deadline).await);
        }
        let gathered = Arc::new(Gathered { cores });
        state.last = Some((Instant::now(), gathered.clone()));
        gathered
    }
}

/// The answer if it comes before the deadline; then, or if it never will, nothing is owed any more.
async fn answer(
    owed: &mut Option<oneshot::Receiver<CoreSnapshot>>,
    deadline: Instant,
) -> Option<CoreSnapshot> {
    let given = timeout_at(deadline, owed.as_mut()?).await.ok()?;
    *owed = None;
    given.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Shelf;

    use crate::admin::tests::handle_that;
    use crate::obs::Measurements;

    use super::*;

    const NO_WAIT: Duration = Duration::ZERO;
    const NEVER_AGAIN: Duration = Duration::ZERO;

    fn run(work: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(work);
    }

    #[test]
    fn a_stuck_core_is_none_and_is_asked_only_once() {
        let shelf: Arc<Shelf<Vec<Answer<CoreSnapshot>>>> = Arc::default();
        let kept = shelf.clone();
        let handle = handle_that(2, move |core, answer| match core {
            CoreId(0) => answer.give(Measurements::new(core).snapshot()),
            _ => kept.lock().expect("the shelf").push(answer),
        });
        run(async {
            let gatherer = Gatherer::new(2, NO_WAIT, NEVER_AGAIN);
            for _ in 0..2 {
                let gathered = gatherer.gather(&handle).await;
                assert!(gathered.cores[0].is_some() && gathered.cores[1].is_none());
            }
            let owed = shelf
                .lock()
                .expect("the shelf")
                .pop()
                .expect("one question");
            assert!(shelf.lock().expect("the shelf").is_empty(), "asked once");
            owed.give(Measurements::new(CoreId(1)).snapshot());
            assert!(
                gatherer.gather(&handle).await.cores[1].is_some(),
                "late, but not lost"
            );
        });
    }

    #[test]
    fn a_dropped_answer_is_none_without_waiting_and_is_asked_for_again() {
        let asked: Arc<Shelf<u32>> = Arc::default();
        let count = asked.clone();
        let handle = handle_that(1, move |_, _| *count.lock().expect("the count") += 1);
        run(async {
            // Waiting would never end.
            let gatherer = Gatherer::new(1, Duration::from_secs(1 << 30), NEVER_AGAIN);
            assert_eq!(gatherer.gather(&handle).await.cores, [None]);
            assert_eq!(gatherer.gather(&handle).await.cores, [None]);
        });
        assert_eq!(*asked.lock().expect("the count"), 2);
    }

    #[test]
    fn fresh_figures_are_shown_again_without_asking() {
        let asked: Arc<Shelf<u32>> = Arc::default();
        let count = asked.clone();
        let handle = handle_that(1, move |core, answer| {
            *count.lock().expect("the count") += 1;
            answer.give(Measurements::new(core).snapshot());
        });
        run(async {
            let gatherer = Gatherer::new(1, NO_WAIT, Duration::MAX);
            gatherer.gather(&handle).await;
            assert!(gatherer.gather(&handle).await.cores[0].is_some());
        });
        assert_eq!(*asked.lock().expect("the count"), 1);
    }
}
