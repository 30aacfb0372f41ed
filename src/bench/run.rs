//! A run: threads are started, seconds are gathered as they pass, and everything is added up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::content::Maker;
use super::latency::Latency;
use super::outcome::{self, Outcome, Throughput, Validity};
use super::plan::{ConsumerPlan, Pace, Plan, ProducerPlan};
use super::process::{self, Cost, Counts};
use super::shared::{self, Window};
use super::tally::{Flow, Second, Tally};
use super::worker::{Manner, Worker};
use crate::rt::clock;

/// Threads have so long to start before the first record is due.
const HEAD_START: u64 = 5_000_000;

/// What is told of a run while it goes on.
pub type Progress<'a> = &'a mut dyn FnMut(&outcome::Second);

/// Does what `plan` says, and watches process `broker` meanwhile. `told` is called once a second.
/// An error is a sentence.
pub fn run(plan: &Plan, broker: Option<u32>, told: Progress) -> Result<Outcome, String> {
    let catching_up = plan.consumers.iter().filter(|one| one.catches_up());
    let progress =
        shared::Progress::new(plan.partitions, plan.producers.len(), catching_up.count());
    let progress = Arc::new(progress);
    let mut connected = Vec::new();
    for (producers, consumers, manner) in shares(plan) {
        let maker = Maker::new(&plan.shape, plan.run);
        connected.push((Worker::connect(plan, producers, consumers, manner)?, maker));
    }
    let threads = connected.len();
    let began = clock::mono().0 + HEAD_START;
    let from = began + plan.warm_up.as_nanos() as u64;
    let until = from.saturating_add(plan.measured.as_nanos() as u64);
    let window = Window::new(began, from, until, plan.ends_with_catch_up);
    let (sender, seconds) = mpsc::channel();
    let mut workers = Vec::new();
    for (number, (worker, mut maker)) in connected.into_iter().enumerate() {
        let mut tally = Tally::new(window.clone(), sender.clone());
        let (window, progress) = (window.clone(), progress.clone());
        let drain = plan.drain.as_nanos() as u64;
        let work = move || {
            let done = worker.run(&window, drain, &mut maker, &progress, &mut tally);
            if done.is_err() {
                // The others need not wait for what cannot come.
                window.end(clock::mono().0);
            }
            done.map(|()| tally)
        };
        let builder = thread::Builder::new().name(format!("bench-{number}"));
        workers.push(builder.spawn(work).map_err(|error| error.to_string())?);
    }
    drop(sender);
    let watched = watch(&window, broker, threads, &seconds, told);
    let mut sum: Option<Tally> = None;
    for worker in workers {
        let tally = worker
            .join()
            .map_err(|_| "a thread of the load generator failed")??;
        match &mut sum {
            None => sum = Some(tally),
            Some(sum) => sum.merge(&tally),
        }
    }
    let tally = sum.ok_or("nothing to do")?;
    window.end(clock::mono().0);
    Ok(conclude(plan, &window, &tally, watched))
}

/// What one thread does.
type Share = (Vec<ProducerPlan>, Vec<ConsumerPlan>, Manner);

/// The connections by thread. Readers that catch up beside somebody whose latency is measured have
/// threads of their own, which let the others go first: else the latency would be, for the most part,
/// that of a client that is busy with something else.
fn shares(plan: &Plan) -> Vec<Share> {
    let (behind, rest): (Vec<_>, Vec<_>) = plan.consumers.iter().partition(|one| one.catches_up());
    let (producers, threads) = (&plan.producers[..], plan.threads);
    if behind.is_empty() {
        return deal(producers, &rest, threads, Manner::Alone);
    }
    if producers.is_empty() && rest.is_empty() {
        return deal(&[], &behind, threads, Manner::Alone);
    }
    let mut shares = deal(producers, &rest, threads, Manner::First);
    shares.extend(deal(&[], &behind, threads, Manner::Last));
    shares
}

/// Deals connections out to at most `threads` threads, in turn.
fn deal(
    producers: &[ProducerPlan],
    consumers: &[&ConsumerPlan],
    threads: usize,
    manner: Manner,
) -> Vec<Share> {
    let threads = threads.clamp(1, (producers.len() + consumers.len()).max(1));
    let mut dealt: Vec<Share> = (0..threads).map(|_| (vec![], vec![], manner)).collect();
    for (index, producer) in producers.iter().enumerate() {
        dealt[index % threads].0.push(producer.clone());
    }
    for (index, consumer) in consumers.iter().enumerate() {
        dealt[index % threads].1.push((*consumer).clone());
    }
    dealt
}

/// What was seen while the threads worked.
struct Watched {
    timeline: Vec<outcome::Second>,
    broker: Option<Cost>,
    client: Option<Cost>,
}

/// Counts of the broker and of this process, and when they were read.
type Reading = (u64, Option<Counts>, Option<Counts>);

fn reading(broker: Option<u32>) -> Reading {
    let client = process::read(std::process::id());
    (clock::mono().0, broker.and_then(process::read), client)
}

/// Gathers seconds until all threads are done.
fn watch(
    window: &Window,
    broker: Option<u32>,
    threads: usize,
    seconds: &Receiver<Second>,
    told: Progress,
) -> Watched {
    let mut gathered: BTreeMap<u64, (Second, usize)> = BTreeMap::new();
    let mut timeline = Vec::new();
    let (mut before, mut after): (Option<Reading>, Option<Reading>) = (None, None);
    loop {
        let now = clock::mono().0;
        if before.is_none() && now >= window.from {
            before = Some(reading(broker));
        }
        if after.is_none() && now >= window.until() {
            after = Some(reading(broker));
        }
        let next = match (&before, &after) {
            (None, _) => window.from,
            (_, None) => window.until(),
            _ => u64::MAX,
        };
        // The end may be brought forward meanwhile, so it is looked at often.
        let wait = Duration::from_nanos(next.saturating_sub(now)).min(Duration::from_millis(20));
        match seconds.recv_timeout(wait) {
            Ok(second) => {
                let index = second.index;
                let empty = || (Second::new(index), 0);
                let (sum, heard) = gathered.entry(index).or_insert_with(empty);
                sum.add(&second);
                *heard += 1;
                if *heard == threads
                    && let Some((sum, _)) = gathered.remove(&index)
                {
                    let second = reduce(&sum, window);
                    told(&second);
                    timeline.push(second);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Seconds in which a thread had nothing to tell.
    timeline.extend(gathered.values().map(|(sum, _)| reduce(sum, window)));
    timeline.sort_by_key(|second| second.at);
    let after = after.unwrap_or_else(|| reading(broker));
    let before = before.unwrap_or(after);
    let took = (after.0 - before.0) as f64 / 1e9;
    let cost = |before: Option<Counts>, after: Option<Counts>| {
        Some(process::between(&before?, &after?, took))
    };
    Watched {
        timeline,
        broker: cost(before.1, after.1),
        client: cost(before.2, after.2),
    }
}

fn reduce(second: &Second, window: &Window) -> outcome::Second {
    let latency = match second.arrived.is_empty() {
        true => &second.acknowledged,
        false => &second.arrived,
    };
    let micros = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    let begins = window.began + second.index * 1_000_000_000;
    outcome::Second {
        at: second.index,
        measured: begins >= window.from && begins + 1_000_000_000 <= window.until(),
        written: second.written.records,
        written_bytes: second.written.bytes,
        read: second.read.records + second.caught_up.records,
        read_bytes: second.read.bytes + second.caught_up.bytes,
        p50: micros(0.5),
        p99: micros(0.99),
        max: latency.max() as f64 / 1e3,
    }
}

fn conclude(plan: &Plan, window: &Window, tally: &Tally, watched: Watched) -> Outcome {
    let seconds = (window.until().saturating_sub(window.from)) as f64 / 1e9;
    let throughput = |flow: Flow| {
        (flow.records > 0).then(|| Throughput {
            records: flow.records,
            bytes: flow.bytes,
            requests: flow.requests,
            records_a_second: flow.records as f64 / seconds,
            megabytes_a_second: flow.bytes as f64 / seconds / 1e6,
        })
    };
    let measured = watched.timeline.iter().filter(|second| second.measured);
    let worst = measured.map(|second| second.p99).fold(0.0, f64::max);
    let has_tail = !tally.arrived.is_empty();
    let rate: f64 = plan
        .producers
        .iter()
        .map(|producer| match producer.pace {
            Pace::Closed => 0.0,
            Pace::Open { rate, .. } => rate,
        })
        .sum();
    let mut histograms = Vec::new();
    for (name, histogram) in [
        ("acknowledged", &tally.acknowledged),
        ("end-to-end", &tally.arrived),
    ] {
        if !histogram.is_empty() {
            histograms.push((name, histogram.clone()));
        }
    }
    let mut outcome = Outcome {
        seconds,
        rate: (rate > 0.0).then_some(rate),
        written: throughput(tally.written),
        read: throughput(tally.read),
        caught_up: throughput(tally.caught_up),
        acknowledged: Latency::of(&tally.acknowledged, if has_tail { 0.0 } else { worst }),
        end_to_end: Latency::of(&tally.arrived, worst),
        broker: watched.broker,
        client: watched.client,
        validity: Validity {
            sent: tally.sent_in_all,
            acknowledged: tally.acked_in_all,
            failed: tally.failed,
            unsent: tally.unsent,
            retries: tally.retries,
            read: tally.arrived_in_all,
            missing: tally.missing,
            repeated: tally.repeated,
            damaged: tally.damaged,
            log_growth: None,
            errors: tally.errors.clone(),
            good: false,
        },
        timeline: watched.timeline,
        histograms,
        ..Outcome::default()
    };
    outcome.judge();
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::content::Shape;
    use super::super::plan::Role;
    use super::*;
    use crate::protocol::messages::StrBytes;
    use crate::record::Codec;

    fn reader(role: Role) -> ConsumerPlan {
        ConsumerPlan {
            address: String::new(),
            version: 12,
            positions: Vec::new(),
            role,
            partition_bytes_max: 1,
            answer_bytes_max: 1,
            bytes_min: 1,
            wait: Duration::ZERO,
            from_first: false,
        }
    }

    fn plan(roles: &[Role], threads: usize) -> Plan {
        Plan {
            run: 1,
            topic: StrBytes::from_static_str("t"),
            partitions: 1,
            threads,
            producers: Vec::new(),
            consumers: roles.iter().copied().map(reader).collect(),
            shape: Shape {
                value_bytes: 1024,
                key_bytes: None,
                keys: 1,
                compressible: 0.5,
                codec: Codec::None,
                level: None,
                batch_records: 1,
            },
            warm_up: Duration::ZERO,
            measured: Duration::ZERO,
            drain: Duration::ZERO,
            ends_with_catch_up: false,
        }
    }

    fn dealt(roles: &[Role], threads: usize) -> Vec<(usize, Manner)> {
        let shares = shares(&plan(roles, threads)).into_iter();
        shares
            .map(|(_, readers, manner)| (readers.len(), manner))
            .collect()
    }

    #[test]
    fn readers_that_catch_up_beside_a_measured_tail_have_threads_of_their_own() {
        use Role::{CatchUp, Repeat, Tail};
        let beside = dealt(&[Tail, CatchUp, CatchUp, CatchUp], 1);
        assert_eq!(beside, [(1, Manner::First), (3, Manner::Last)]);
        let two = dealt(&[Tail, CatchUp, CatchUp, CatchUp], 2);
        let last = [(2, Manner::Last), (1, Manner::Last)];
        assert_eq!(two, [&[(1, Manner::First)], &last[..]].concat());
        assert_eq!(dealt(&[CatchUp, CatchUp], 1), [(2, Manner::Alone)]);
        assert_eq!(dealt(&[Tail, Repeat], 8), [(1, Manner::Alone); 2]);
    }
}
