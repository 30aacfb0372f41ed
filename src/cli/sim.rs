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
the power fails, clients try again. A broken promise ends the command with exit code 1 and names the
seed, which shows it again.";

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

/// Runs the simulations.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    let mut found = 0;
    for run in 0..arguments.runs {
        let seed = arguments.seed.wrapping_add(run);
        let line = match (arguments.groups, arguments.canary) {
            (true, false) => groups(seed)?,
            (false, false) => world(seed, arguments)?.to_string(),
            (groups, true) => match planted(seed, groups, arguments) {
                None => format!("seed {seed}: the planted bug did not show"),
                Some(what) => {
                    found += 1;
                    format!("seed {seed}: found {what}")
                }
            },
        };
        writeln!(out, "{line}").map_err(Failed::output)?;
    }
    if arguments.canary && found == 0 {
        return Err(Failed::operation(
            "no run found the planted bug: try more --runs; if it stays hidden, the simulation is \
             broken",
        ));
    }
    Ok(())
}

impl Arguments {
    fn options(&self) -> sim::Options {
        sim::Options {
            steps: self.steps,
            canary: self.canary,
        }
    }
}

fn world(seed: u64, arguments: &Arguments) -> Result<sim::Report, Failed> {
    sim::run(seed, &arguments.options()).map_err(Failed::operation)
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

fn groups(seed: u64) -> Result<String, Failed> {
    let report = simulation::run(seed).map_err(Failed::operation)?;
    Ok(format!(
        "seed {seed}: sound after {} requests, {} restarts, {} records",
        report.requests, report.restarts, report.records
    ))
}
