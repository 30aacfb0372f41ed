//! How a fetch waits for `min_bytes` when its partitions live on several cores.
//!
//! A fetch of one core is one read, parked there until there is enough. A fetch of several cores
//! first reads without waiting; if that is not enough, it parks on every core for its share of what
//! is missing. The first core that has its share ends the round: the other reads are cancelled and
//! answer with what there is. Every round that did not end by the deadline has brought at least one
//! core's share, so rounds come to an end.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use crate::base::Mono;
use crate::host::{Answer, Call, Host, Stopping};
use crate::shard::{ReadQuery, ReadRequest, Reply, Request};

use super::super::scatter::{Scatter, all};
use crate::base::CoreId;

/// What limits a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// The most bytes of the reply's records.
    pub(super) max_bytes: usize,
    /// So many bytes are waited for; 0: no wait.
    pub(super) min_bytes: i64,
    /// No longer than this.
    pub(super) deadline: Mono,
}

/// The reads of one fetch, by core.
pub(super) struct Reads {
    lanes: Vec<(CoreId, Vec<ReadQuery>)>,
    limits: Limits,
    calls: Vec<Call>,
}

impl Reads {
    /// Sends the first round at once.
    pub(super) fn send(host: &Host, reads: Scatter<ReadQuery>, limits: Limits) -> Reads {
        let lanes = reads.into_lanes();
        let min_bytes = if lanes.len() == 1 {
            limits.min_bytes
        } else {
            0
        };
        let mins = vec![min_bytes; lanes.len()];
        let calls = ask(host, &lanes, limits, &mins);
        Reads {
            lanes,
            limits,
            calls,
        }
    }

    /// The answers of all cores, in the order of the lanes, when there is enough or the time is up.
    pub(super) async fn answers(self, host: &Host) -> Result<Vec<Answer>, Stopping> {
        let Reads {
            lanes,
            limits,
            calls,
        } = self;
        let mut answers = all(calls).await?;
        while lanes.len() > 1 && host.now().mono < limits.deadline {
            let sizes: Vec<Size> = answers.iter().map(|answer| size(&answer.reply)).collect();
            let Some(mins) = next_round(limits.min_bytes, &sizes) else {
                break;
            };
            answers = first_and_rest(ask(host, &lanes, limits, &mins)).await?;
        }
        Ok(answers)
    }
}

fn ask(host: &Host, lanes: &[(CoreId, Vec<ReadQuery>)], limits: Limits, mins: &[i64]) -> Vec<Call> {
    let sent = host.now().mono;
    let call = |((core, partitions), min_bytes): (&(CoreId, Vec<ReadQuery>), &i64)| {
        let request = ReadRequest {
            partitions: partitions.clone(),
            max_bytes: limits.max_bytes,
            min_bytes: *min_bytes,
            deadline: limits.deadline,
            sent,
        };
        host.call(*core, Request::Read(request))
    };
    lanes.iter().zip(mins).map(call).collect()
}

/// What one core has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// So many bytes.
    Bytes(i64),
    /// Something that the client must hear at once.
    Urgent,
}

fn size(reply: &Reply) -> Size {
    let Reply::Read(results) = reply else {
        panic!("a read was answered with {reply:?}")
    };
    let urgent =
        |result: &crate::shard::ReadResult| result.slices.is_err() || result.diverging.is_some();
    if results.iter().any(urgent) {
        return Size::Urgent;
    }
    Size::Bytes(results.iter().map(|result| result.size as i64).sum())
}

/// For how many bytes to park on each core; none when there is enough.
fn next_round(min_bytes: i64, sizes: &[Size]) -> Option<Vec<i64>> {
    let mut have = Vec::with_capacity(sizes.len());
    for size in sizes {
        match size {
            Size::Bytes(bytes) => have.push(*bytes),
            Size::Urgent => return None,
        }
    }
    let missing = min_bytes - have.iter().sum::<i64>();
    if missing <= 0 {
        return None;
    }
    let cores = have.len() as i64;
    let share = (missing + cores - 1) / cores;
    Some(have.into_iter().map(|bytes| bytes + share).collect())
}

/// Waits for one of the calls, cancels the others, and waits for them: they answer at once.
async fn first_and_rest(calls: Vec<Call>) -> Result<Vec<Answer>, Stopping> {
    let mut calls: Vec<Pin<Box<Call>>> = calls.into_iter().map(Box::pin).collect();
    let mut answers: Vec<Option<Answer>> = calls.iter().map(|_| None).collect();
    let mut cancelled = false;
    poll_fn(move |context| {
        for (call, answer) in calls.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(result) = call.as_mut().poll(context)
            {
                match result {
                    Ok(result) => *answer = Some(result),
                    Err(stopping) => return Poll::Ready(Err(stopping)),
                }
            }
        }
        if answers.iter().all(Option::is_some) {
            let answers = std::mem::take(&mut answers);
            return Poll::Ready(Ok(answers.into_iter().flatten().collect()));
        }
        if !cancelled && answers.iter().any(Option::is_some) {
            cancelled = true;
            let waiting = calls
                .iter()
                .zip(&answers)
                .filter(|(_, answer)| answer.is_none());
            waiting.for_each(|(call, _)| call.cancel());
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_bytes_end_the_wait() {
        assert_eq!(next_round(10, &[Size::Bytes(4), Size::Bytes(6)]), None);
        assert_eq!(next_round(0, &[Size::Bytes(0), Size::Bytes(0)]), None);
    }

    #[test]
    fn every_core_is_parked_for_its_share_of_what_is_missing() {
        let sizes = [Size::Bytes(4), Size::Bytes(0), Size::Bytes(0)];
        assert_eq!(next_round(11, &sizes), Some(vec![7, 3, 3]));
        assert_eq!(next_round(5, &sizes), Some(vec![5, 1, 1]));
    }

    #[test]
    fn an_error_or_a_diverging_log_is_told_at_once() {
        assert_eq!(next_round(1_000, &[Size::Bytes(0), Size::Urgent]), None);
    }
}
