//! What each mode means: which connections there are, and in which order things happen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::Failed;
use super::arguments::{Load, Verify};
use super::target::{Offsets, Target};
use super::{random, show};
use crate::bench::outcome::Step;
use crate::bench::{self, ConsumerPlan, Outcome, Pace, Plan, ProducerPlan, Role};
use crate::protocol::messages::StrBytes;

/// How long replies and readers are waited for after the measured time.
const DRAIN: Duration = Duration::from_secs(10);
/// Nothing takes longer than this.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// The steps of a ladder, in shares of the closed loop's throughput.
const LADDER: [f64; 9] = [0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
/// A rate is kept if at least this share of it was achieved.
const KEPT: f64 = 0.99;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Produce,
    Consume,
    EndToEnd,
    Mixed,
    FanOut,
    CatchUp,
    ManyPartitions,
    Connections,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Produce => "produce",
            Mode::Consume => "consume",
            Mode::EndToEnd => "end-to-end",
            Mode::Mixed => "mixed",
            Mode::FanOut => "fan-out",
            Mode::CatchUp => "catch-up",
            Mode::ManyPartitions => "many-partitions",
            Mode::Connections => "connections",
        }
    }

    /// True where a latency from writer to reader is the point, and a rate must be given.
    fn is_paced(self) -> bool {
        matches!(self, Mode::EndToEnd | Mode::FanOut | Mode::CatchUp)
    }

    fn writes(self, load: &Load) -> bool {
        match self {
            Mode::Consume => false,
            Mode::Connections => load.rate.is_some(),
            _ => true,
        }
    }

    fn reads_tail(self) -> bool {
        matches!(
            self,
            Mode::EndToEnd | Mode::Mixed | Mode::FanOut | Mode::CatchUp
        )
    }
}

/// Measures, shows, and fails if the result is not valid.
pub(super) fn run(mode: Mode, load: &Load) -> Result<(), Failed> {
    let mut load = load.clone();
    if mode == Mode::ManyPartitions && load.partitions.is_none() {
        load.partitions = Some(1000);
    }
    if mode.is_paced() && load.rate.is_none() {
        load.rate = Some(1000.0);
    }
    if load.rate.is_some_and(|rate| rate <= 0.0) {
        return Err(Failed::usage("--rate: a number above 0 is wanted"));
    }
    let target = Target::find(&load, load.partitions.unwrap_or(1))?;
    let mut session = Session {
        mode,
        load: &load,
        target,
    };
    let measured = session.measure();
    let left = session.target.leave();
    let mut outcome = measured?;
    outcome.mode = mode.name().to_owned();
    outcome.command = command();
    show::deliver(&outcome, &load)?;
    left?;
    match outcome.validity.good {
        true => Ok(()),
        false => Err(Failed::Quietly),
    }
}

/// The command as it was typed, without the program's folder.
fn command() -> String {
    let words = std::env::args().skip(1);
    let words = words.map(|word| match word.contains([' ', '\'', '"']) {
        true => format!("{word:?}"),
        false => word,
    });
    std::iter::once("corelane".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

struct Session<'a> {
    mode: Mode,
    load: &'a Load,
    target: Target,
}

impl Session<'_> {
    fn measure(&mut self) -> Result<Outcome, Failed> {
        let load = self.load;
        match self.mode {
            Mode::Consume => return self.consume(),
            Mode::CatchUp => return self.catch_up(),
            Mode::Connections => return self.connections(),
            _ => {}
        }
        if load.ladder || !load.rates.is_empty() {
            return self.ladder();
        }
        self.written(load.rate)
    }

    /// Writes, with readers of the tail if the mode has them, and checks what was written.
    fn written(&mut self, rate: Option<f64>) -> Result<Outcome, Failed> {
        let before = self.target.offsets(true)?;
        let mut plan = self.plan()?;
        plan.producers = self.producers(rate)?;
        if self.mode.reads_tail() {
            plan.consumers = self.tails(&before)?;
        }
        let mut outcome = self.run(&plan)?;
        self.verify(&before, &mut outcome)?;
        Ok(outcome)
    }

    fn plan(&self) -> Result<Plan, Failed> {
        let name = self.target.name().to_owned();
        Ok(Plan {
            run: random(),
            topic: StrBytes::from_string(name),
            partitions: self.target.partitions(),
            threads: self.load.threads,
            producers: Vec::new(),
            consumers: Vec::new(),
            shape: self.load.shape()?,
            warm_up: self.load.warm_up()?,
            measured: self.load.measured()?,
            drain: DRAIN,
            ends_with_catch_up: false,
        })
    }

    fn producers(&mut self, rate: Option<f64>) -> Result<Vec<ProducerPlan>, Failed> {
        let default = if self.mode.is_paced() { 1 } else { 4 };
        let count = self.load.producers.unwrap_or(default).max(1);
        let linger = self.load.linger()?;
        let pace = |index: usize| match rate {
            None => Pace::Closed,
            Some(rate) => Pace::Open {
                rate: rate / count as f64,
                linger,
                phase: index as f64 / count as f64,
            },
        };
        self.target.producers(self.load, count, pace)
    }

    /// Readers of what comes behind `from`.
    fn tails(&mut self, from: &Offsets) -> Result<Vec<ConsumerPlan>, Failed> {
        let default = if self.mode == Mode::FanOut { 4 } else { 1 };
        let readers = match self.mode {
            // There the flag says how many catch up.
            Mode::CatchUp => 1,
            _ => self.load.readers.unwrap_or(default),
        };
        let mut plans = Vec::new();
        for _ in 0..readers {
            let connections = self.load.consumers;
            let from_to = (from, from);
            let (load, role) = (self.load, Role::Tail);
            plans.extend(self.target.reader(load, connections, role, from_to, true)?);
        }
        Ok(plans)
    }

    fn run(&self, plan: &Plan) -> Result<Outcome, Failed> {
        let mut line = show::Line::new(self.load);
        let told = &mut |second: &bench::outcome::Second| line.tell(second);
        let outcome = bench::run(plan, self.load.broker_pid, told);
        line.finish();
        let mut outcome = outcome.map_err(Failed::operation)?;
        outcome.settings = self.settings();
        Ok(outcome)
    }

    /// Holds what was acknowledged against the logs, and reads it back if that is wanted.
    fn verify(&mut self, before: &Offsets, outcome: &mut Outcome) -> Result<(), Failed> {
        if self.load.verify == Verify::None {
            return Ok(());
        }
        let after = self.target.offsets(true)?;
        let grown = after
            .iter()
            .map(|(index, end)| end.0 - before.get(index).map_or(0, |start| start.0));
        outcome.validity.log_growth = Some(grown.sum::<i64>().max(0) as u64);
        if self.load.verify == Verify::Full {
            let read = self.read_once(before, &after, 4, true)?;
            let (seen, told) = (&read.validity, &mut outcome.validity);
            told.missing += seen.missing;
            told.repeated += seen.repeated;
            told.damaged += seen.damaged;
            if !self.mode.reads_tail() {
                told.read += seen.read;
            }
        }
        outcome.judge();
        let unknown = outcome.validity.sent - outcome.validity.acknowledged;
        if self.mode.reads_tail() && unknown == 0 {
            let readers = match self.mode {
                Mode::FanOut => self.load.readers.unwrap_or(4),
                Mode::CatchUp => 1,
                _ => self.load.readers.unwrap_or(1),
            } as u64;
            let expected = outcome.validity.acknowledged * readers;
            if outcome.validity.read < expected {
                outcome.validity.missing += expected - outcome.validity.read;
                outcome.validity.good = false;
            }
        }
        Ok(())
    }

    fn read_once(
        &mut self,
        from: &Offsets,
        until: &Offsets,
        connections: usize,
        from_first: bool,
    ) -> Result<Outcome, Failed> {
        let mut plan = self.plan()?;
        plan.warm_up = Duration::ZERO;
        plan.measured = FOR_EVER;
        plan.ends_with_catch_up = true;
        let role = Role::CatchUp;
        let (load, range) = (self.load, (from, until));
        plan.consumers = self
            .target
            .reader(load, connections, role, range, from_first)?;
        self.run(&plan)
    }

    /// Writes about `bytes` as fast as it goes.
    fn fill(&mut self, bytes: u64) -> Result<(), Failed> {
        if bytes == 0 {
            return Ok(());
        }
        let mut plan = self.plan()?;
        plan.warm_up = Duration::ZERO;
        plan.measured = FOR_EVER;
        // Writing in large batches is quick; but readers shall find batches of the size asked for.
        plan.producers = self.target.producers(self.load, 4, |_| Pace::Closed)?;
        let record = plan.shape.value_bytes + plan.shape.key_bytes.unwrap_or(0) + 10;
        let records = bytes.div_ceil(record as u64);
        let count = plan.producers.len() as u64;
        for producer in &mut plan.producers {
            producer.records_max = Some(records.div_ceil(count));
        }
        let outcome = self.run(&plan)?;
        if !outcome.validity.good {
            let errors = &outcome.validity.errors;
            return Err(Failed::operation(format!("filling the topic: {errors:?}")));
        }
        if self.load.drop_caches {
            drop_caches()?;
        }
        Ok(())
    }

    fn consume(&mut self) -> Result<Outcome, Failed> {
        let mut before = self.target.offsets(false)?;
        let mut end = self.target.offsets(true)?;
        let held = |from: &Offsets, to: &Offsets| {
            let sizes = to.iter().map(|(index, end)| end.0 - from[index].0);
            sizes.sum::<i64>()
        };
        let fill = self
            .load
            .fill_bytes(if held(&before, &end) == 0 { 1 << 29 } else { 0 })?;
        self.fill(fill)?;
        if fill > 0 {
            before = end;
            end = self.target.offsets(true)?;
        }
        let connections = self.load.consumers;
        if self.load.once {
            return self.read_once(&before, &end, connections, fill > 0);
        }
        let mut plan = self.plan()?;
        for _ in 0..self.load.readers.unwrap_or(1) {
            let (load, range) = (self.load, (&before, &end));
            let role = Role::Repeat;
            let readers = self
                .target
                .reader(load, connections, role, range, fill > 0)?;
            plan.consumers.extend(readers);
        }
        self.run(&plan)
    }

    /// A tail alone, then the same beside readers of everything that was there before.
    fn catch_up(&mut self) -> Result<Outcome, Failed> {
        let start = self.target.offsets(false)?;
        self.fill(self.load.fill_bytes(1 << 30)?)?;
        let old = self.target.offsets(true)?;
        let mut alone = self.plan()?;
        alone.producers = self.producers(self.load.rate)?;
        alone.consumers = self.tails(&old)?;
        let alone = self.run(&alone)?;
        let before = self.target.offsets(true)?;
        if self.load.drop_caches {
            // A virtual machine's host gives memory as it is touched. Without this, only a broker whose
            // writes have filled the page cache would read into memory that is there already.
            self.read_once(&start, &old, self.load.consumers, true)?;
            drop_caches()?;
        }
        let mut plan = self.plan()?;
        plan.warm_up = Duration::ZERO;
        plan.measured = FOR_EVER;
        plan.ends_with_catch_up = true;
        plan.producers = self.producers(self.load.rate)?;
        plan.consumers = self.tails(&before)?;
        for _ in 0..self.load.readers.unwrap_or(3) {
            let (load, connections) = (self.load, self.load.consumers);
            let range = (&start, &old);
            let role = Role::CatchUp;
            let readers = self.target.reader(load, connections, role, range, true)?;
            plan.consumers.extend(readers);
        }
        let mut outcome = self.run(&plan)?;
        outcome.undisturbed = alone.end_to_end;
        Ok(outcome)
    }

    fn connections(&mut self) -> Result<Outcome, Failed> {
        let address = self.target.any_address()?;
        let count = self.load.idle.unwrap_or(1000);
        let mut idle = bench::hold(&address, count).map_err(Failed::operation)?;
        let mut outcome = match self.mode.writes(self.load) {
            true => self.written(self.load.rate)?,
            false => self.rest()?,
        };
        let lost = idle.lost();
        if lost > 0 {
            let errors = &mut outcome.validity.errors;
            errors.insert("idle connection lost".to_owned(), lost as u64);
            outcome.validity.good = false;
        }
        outcome.connected = idle.connected.take();
        Ok(outcome)
    }

    /// Does nothing for the measured time but watch the broker: a reader that waits at the end.
    fn rest(&mut self) -> Result<Outcome, Failed> {
        let end = self.target.offsets(true)?;
        let mut plan = self.plan()?;
        plan.consumers = self.tails(&end)?;
        self.run(&plan)
    }

    /// Climbs; the result is that of the highest rate that was kept.
    fn ladder(&mut self) -> Result<Outcome, Failed> {
        let rates = match self.load.rates.is_empty() {
            false => self.load.rates.clone(),
            true => {
                let top = self.written(None)?.written.unwrap_or_default();
                LADDER.map(|share| share * top.records_a_second).to_vec()
            }
        };
        let mut steps = Vec::new();
        let mut best: Option<Outcome> = None;
        for rate in rates {
            let outcome = self.written(Some(rate))?;
            let kept = outcome.validity.unsent == 0 && outcome.achieved() >= KEPT;
            steps.push(Step {
                rate,
                achieved: outcome.written.unwrap_or_default().records_a_second,
                kept,
                latency: outcome.latency().cloned().unwrap_or_default(),
            });
            if kept || best.is_none() {
                best = Some(outcome);
            }
            if !kept {
                break;
            }
        }
        let mut outcome = best.ok_or_else(|| Failed::usage("--rates: at least one is wanted"))?;
        let kept = steps.iter().filter(|step| step.kept);
        outcome.knee = kept.map(|step| step.rate).reduce(f64::max);
        outcome.ladder = steps;
        Ok(outcome)
    }

    /// What was chosen, in words.
    fn settings(&self) -> BTreeMap<String, String> {
        let load = self.load;
        let mut all = BTreeMap::new();
        let mut say = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
        say("record bytes", load.record_bytes.to_string());
        say("partitions", self.target.partitions().to_string());
        say("batch bytes", load.batch_bytes.to_string());
        say("acks", format!("{:?}", load.acks).to_lowercase());
        say("codec", format!("{:?}", load.compression).to_lowercase());
        say("linger ms", load.linger.to_string());
        say("in flight", load.in_flight.to_string());
        say(
            "idempotence",
            (!load.no_idempotence && load.in_flight <= 5).to_string(),
        );
        say("threads", load.threads.to_string());
        say("seconds", load.seconds.to_string());
        say("warm-up seconds", load.warm_up.to_string());
        if !load.configs.is_empty() {
            say("topic configs", load.configs.join(" "));
        }
        all
    }
}

fn drop_caches() -> Result<(), Failed> {
    crate::rt::bare::drop_page_cache()
        .map_err(|error| Failed::operation(format!("--drop-caches: {error}; it needs root")))
}
