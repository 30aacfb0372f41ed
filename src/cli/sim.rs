//! `corelane sim`: the broker's logic in a simulated world.

use std::io::Write;

use clap::Args;

use super::Failed;
use crate::group::simulation;

const EXAMPLES: &str = "\
Examples:
  corelane sim --groups --runs 1000           a thousand worlds, from seed 1 on
  corelane sim --groups --seed 4711           this one again

A run that breaks an invariant ends the command with exit code 1 and names its seed.";

/// Which worlds.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The first seed
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,

    /// How many seeds, one after the other
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,

    /// Simulate consumer groups and their coordinator
    #[arg(long, required = true)]
    groups: bool,
}

/// Runs the simulations.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    for run in 0..arguments.runs {
        let seed = arguments.seed.wrapping_add(run);
        let report = simulation::run(seed).map_err(Failed::operation)?;
        let line = format!(
            "seed {seed}: sound after {} requests, {} restarts, {} records",
            report.requests, report.restarts, report.records
        );
        writeln!(out, "{line}").map_err(Failed::output)?;
    }
    Ok(())
}
