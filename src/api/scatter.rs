//! Splits a request over the cores that own its parts and puts the answers back in place.

use crate::base::CoreId;
use crate::host::{Answer, Call, Host, Stopping};
use crate::partition::Refusal;
use crate::protocol::ErrorCode;
use crate::protocol::messages::TopicName;
use crate::shard;

/// Questions by core, each with its place in the client's request.
#[derive(Debug)]
pub(crate) struct Scatter<Q> {
    lanes: Vec<(CoreId, Vec<Q>)>,
}

/// Where the answer to a question will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    lane: usize,
    index: usize,
}

/// A part of the client's request: refused or answered at once, or asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Slot<R> {
    /// The answer is known.
    Filled(R),
    /// The answer will be at this place.
    Asked(Place),
}

/// The partitions of a request, by topic, with the place of each answer.
pub(crate) type Topics = Vec<(TopicName, Vec<(i32, Slot<ErrorCode>)>)>;

/// Walks over the topics and partitions of a request: each partition's owner is asked `question`'s
/// question, and the slots of what it refuses are filled.
pub(crate) fn plan<'a, P: 'a, Q>(
    topics: impl Iterator<Item = (&'a TopicName, &'a [P])>,
    question: impl Fn(&TopicName, &P) -> (i32, Result<(CoreId, Q), ErrorCode>),
) -> (Topics, Scatter<Q>) {
    let mut questions = Scatter::default();
    let topics = topics.map(|(name, partitions)| {
        let partitions = partitions.iter().map(|partition| {
            let (index, question) = question(name, partition);
            let slot = match question {
                Ok((core, question)) => Slot::Asked(questions.ask(core, question)),
                Err(error) => Slot::Filled(error),
            };
            (index, slot)
        });
        (name.clone(), partitions.collect())
    });
    (topics.collect(), questions)
}

/// The answers, by lane and index. Each is taken once.
#[derive(Debug)]
pub(crate) struct Gathered<A>(Vec<Vec<Option<A>>>);

impl<Q> Default for Scatter<Q> {
    fn default() -> Scatter<Q> {
        Scatter { lanes: Vec::new() }
    }
}

impl<Q> Scatter<Q> {
    /// Adds a question for `core`.
    pub(crate) fn ask(&mut self, core: CoreId, question: Q) -> Place {
        let lane = match self.lanes.iter().position(|(of, _)| *of == core) {
            Some(lane) => lane,
            None => {
                self.lanes.push((core, Vec::new()));
                self.lanes.len() - 1
            }
        };
        let questions = &mut self.lanes[lane].1;
        questions.push(question);
        Place {
            lane,
            index: questions.len() - 1,
        }
    }

    /// The cores that are asked.
    pub(crate) fn cores(&self) -> impl Iterator<Item = CoreId> {
        self.lanes.iter().map(|(core, _)| *core)
    }

    /// The questions by core, in the order in which cores were first asked.
    #[cfg(test)]
    pub(crate) fn lanes(&self) -> &[(CoreId, Vec<Q>)] {
        &self.lanes
    }

    /// The questions by core, to be sent more than once.
    pub(crate) fn into_lanes(self) -> Vec<(CoreId, Vec<Q>)> {
        self.lanes
    }

    /// Sends every lane, in order, at once.
    pub(crate) fn send(self, host: &Host, request: impl Fn(Vec<Q>) -> shard::Request) -> Vec<Call> {
        let send = |(core, questions)| host.call(core, request(questions));
        self.lanes.into_iter().map(send).collect()
    }
}

impl<A> Gathered<A> {
    /// The answers of the lanes, in the order of the lanes.
    pub(crate) fn new(lanes: impl IntoIterator<Item = Vec<A>>) -> Gathered<A> {
        let some = |answers: Vec<A>| answers.into_iter().map(Some).collect();
        Gathered(lanes.into_iter().map(some).collect())
    }

    /// Takes the answer at `place`; none if the core answered less than it was asked, which would
    /// be a bug of ours, or if it was taken before.
    pub(crate) fn take(&mut self, place: Place) -> Option<A> {
        self.0.get_mut(place.lane)?.get_mut(place.index)?.take()
    }
}

impl<A> Gathered<Result<A, Refusal>> {
    /// Puts the cores' answers into their slots: `partition` makes an answer of each, `topic` one
    /// of those of a topic.
    pub(crate) fn fill<P, T>(
        mut self,
        topics: Topics,
        partition: impl Fn(i32, Result<A, ErrorCode>) -> P,
        topic: impl Fn(TopicName, Vec<P>) -> T,
    ) -> Vec<T> {
        let topics = topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, slot)| {
                let answer = match slot {
                    Slot::Filled(error) => Err(error),
                    Slot::Asked(place) => match self.take(place) {
                        Some(answer) => answer.map_err(|refusal| refusal.code()),
                        None => Err(ErrorCode::UnknownServerError),
                    },
                };
                partition(index, answer)
            });
            let partitions = partitions.collect();
            topic(name, partitions)
        });
        topics.collect()
    }
}

/// Waits for all calls, in any order, and gives their answers in the order of the calls.
pub(crate) async fn all(calls: Vec<Call>) -> Result<Vec<Answer>, Stopping> {
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        answers.push(call.await?);
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_to_the_place_of_their_question() {
        let mut scatter = Scatter::default();
        let places = [
            scatter.ask(CoreId(1), 'a'),
            scatter.ask(CoreId(0), 'b'),
            scatter.ask(CoreId(1), 'c'),
        ];
        assert_eq!(
            scatter.lanes(),
            [(CoreId(1), vec!['a', 'c']), (CoreId(0), vec!['b'])]
        );
        let mut gathered = Gathered::new([vec!["A", "C"], vec!["B"]]);
        assert_eq!(
            places.map(|place| gathered.take(place)),
            [Some("A"), Some("B"), Some("C")]
        );
        assert_eq!(gathered.take(places[0]), None);
    }
}
