//! `corelane sim`: the broker's logic in a simulated world.

use std::io::Write;

use clap::Args;

use super::Failed;
use crate::group::simulation;
use crate::sim;

const EXAMPLES: &str = "\
Examples:
  corelane sim --runs 1000                    a thousand worlds, from seed 1 on
  corelane sim --seed 4711                    this one again, event by event
  corelane sim --groups --runs 1000           consumer groups and their coordinator instead
  corelane sim --canary --runs 20             with a bug planted, which must be found; also --groups

In each world one broker with several cores runs on one thread: its disk tears and forgets writes,
the power fails, clients try again. A broken promise names its seed, which shows it again; all seeds
are run, the first that broke is shown whole, and the exit code is 1.";

/// Which worlds.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The first seed
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,

    /// How many seeds, one after the other
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    runs: u64,

    /// So many events before the faults end [default: the seed's own choice]
    #[arg(long, value_name = "N", conflicts_with = "groups")]
    steps: Option<u32>,

    /// Simulate consumer groups and their coordinator
    #[arg(long)]
    groups: bool,

    /// Plant a bug; the command fails if none of the runs finds it
    #[arg(long)]
    canary: bool,
}

/// Seeds that are named in the last line when many broke.
const NAMED_MAX: usize = 20;

/// Runs the simulations, all of them: how many seeds break says what kind of bug it is.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    let mut found = 0;
    let (mut broken, mut first) = (Vec::new(), None);
    for run in 0..arguments.runs {
        let seed = arguments.seed.wrapping_add(run);
        let outcome = match (arguments.groups, arguments.canary) {
            (true, false) => groups(seed),
            (false, false) => world(seed, arguments),
            (groups, true) => match planted(seed, groups, arguments) {
                None => Ok(format!("seed {seed}: the planted bug did not show")),
                Some(what) => {
                    found += 1;
                    Ok(format!("seed {seed}: found {what}"))
                }
            },
        };
        let line = outcome.unwrap_or_else(|Broken { line, whole }| {
            broken.push(seed);
            first.get_or_insert(whole);
            line
        });
        writeln!(out, "{line}").map_err(Failed::output)?;
    }
    if let Some(first) = first {
        return Err(Failed::operation(summary(&broken, arguments.runs, &first)));
    }
    if arguments.canary && found == 0 {
        return Err(Failed::operation(
            "no run found the planted bug: try more --runs; if it stays hidden, the simulation is \
             broken",
        ));
    }
    Ok(())
}

/// A seed that broke a promise: in one line, and with the events that led to it.
struct Broken {
    line: String,
    whole: String,
}

/// The first that broke, whole, and which others did.
fn summary(broken: &[u64], runs: u64, first: &str) -> String {
    if runs == 1 {
        return first.to_owned();
    }
    let named: Vec<String> = broken.iter().take(NAMED_MAX).map(u64::to_string).collect();
    let more = if broken.len() > NAMED_MAX {
        ", ..."
    } else {
        ""
    };
    format!(
        "{first}\n{} of {runs} seeds broke: {}{more}",
        broken.len(),
        named.join(", ")
    )
}

impl Arguments {
    fn options(&self) -> sim::Options {
        sim::Options {
            steps: self.steps,
            canary: self.canary,
        }
    }
}

fn world(seed: u64, arguments: &Arguments) -> Result<String, Broken> {
    match sim::run(seed, &arguments.options()) {
        Ok(report) => Ok(report.to_string()),
        Err(failure) => Err(Broken {
            line: format!(
                "seed {seed}: broke at step {}: {}",
                failure.step, failure.broken
            ),
            whole: failure.to_string(),
        }),
    }
}

/// How a planted bug shows, if it does.
fn planted(seed: u64, groups: bool, arguments: &Arguments) -> Option<String> {
    if groups {
        let canary = simulation::Canary::of(seed);
        let broken = simulation::run_with(seed, Some(canary)).err()?;
        return Some(format!("at {} ms: {}", broken.at_ms, broken.what));
    }
    let failure = sim::run(seed, &arguments.options()).err()?;
    Some(format!("at step {}: {}", failure.step, failure.broken))
}

fn groups(seed: u64) -> Result<String, Broken> {
    match simulation::run(seed) {
        Ok(report) => Ok(format!(
            "seed {seed}: sound after {} requests, {} restarts, {} records",
            report.requests, report.restarts, report.records
        )),
        Err(broken) => Err(Broken {
            line: format!("seed {seed}: broke at {} ms: {}", broken.at_ms, broken.what),
            whole: broken.to_string(),
        }),
    }
}
