//! `corelane tune`: what on this machine costs latency, throughput or safety, why, and how to mend
//! it. What is looked at is data in `tuning/`; see [`setting`].

mod apply;
mod disk;
mod limits;
mod setting;

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Failed, table};
use setting::{Found, Place, State};

const EXAMPLES: &str = "\
Examples:
  corelane tune                                 look, change nothing
  corelane tune --data-dir /nvme/a              for the disk that the data will be on
  corelane tune --explain memory.swappiness     why it matters
  sudo corelane tune --apply                    set what is safe to set
  sudo corelane tune --undo                     take it back
  corelane tune --disk --data-dir /nvme/a       two seconds of durable writes: what can this disk do?

Nothing is applied that could lose data. What is applied lasts until the next boot; the values before
are kept in a file, for --undo.";

/// Where the values before an --apply are kept.
const UNDO_FILE: &str = "/var/lib/corelane/tune-undo.json";

/// What to do with the machine.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Look and say (also what no flag does)
    #[arg(long, conflicts_with_all = ["apply", "undo", "disk"])]
    check: bool,

    /// Set what can be set safely while the machine runs (needs root)
    #[arg(long, conflicts_with_all = ["undo", "disk"])]
    apply: bool,

    /// Take back what --apply set
    #[arg(long, conflicts_with = "disk")]
    undo: bool,

    /// Test the disk: durable writes of several sizes and depths, both ways of making them durable
    #[arg(long)]
    disk: bool,

    /// Say all about one setting
    #[arg(long, value_name = "NAME", conflicts_with_all = ["apply", "undo", "disk"])]
    explain: Option<String>,

    /// The directory whose disk is meant
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: PathBuf,

    /// Where the values before --apply are kept
    #[arg(long, value_name = "FILE", default_value = UNDO_FILE)]
    undo_file: PathBuf,
}

/// Looks, or changes.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    if arguments.undo {
        return apply::undo(&arguments.undo_file);
    }
    if arguments.disk {
        return disk::run(&arguments.data_dir);
    }
    let place = Place::of(&arguments.data_dir)?;
    let mut found = setting::look(Path::new("/"), &place);
    found.extend(limits::look());
    if let Some(name) = &arguments.explain {
        return explain(&found, name);
    }
    if arguments.apply {
        return apply::apply(&found, &arguments.undo_file);
    }
    for line in report(&found) {
        println!("{line}");
    }
    Ok(())
}

/// What was found, the bad first, with what mends it.
fn report(found: &[Found]) -> Vec<String> {
    let count = |wanted: State| found.iter().filter(|one| one.state == wanted).count();
    let rows: Vec<Vec<String>> = found
        .iter()
        .filter(|one| one.state != State::Absent)
        .map(|one| {
            let word = match one.state {
                State::Good => "good",
                State::Bad => "COSTS",
                State::Absent => "-",
            };
            let costs = if one.state == State::Bad {
                one.costs.as_str()
            } else {
                ""
            };
            vec![
                word.to_owned(),
                one.name.clone(),
                one.value.clone(),
                one.wanted.clone(),
                costs.to_owned(),
            ]
        })
        .collect();
    let mut lines = table::lines(&["", "SETTING", "IS", "SHOULD BE", "COSTS"], &rows);
    for one in found.iter().filter(|one| one.state == State::Bad) {
        lines.push(String::new());
        lines.push(format!("{}: {}", one.name, one.why));
        lines.push(format!("  {}", one.mend));
    }
    lines.push(String::new());
    lines.push(format!(
        "{} good, {} cost something, {} are not there on this machine",
        count(State::Good),
        count(State::Bad),
        count(State::Absent)
    ));
    let can = found
        .iter()
        .filter(|one| one.is_safe && one.state == State::Bad);
    let can = can.count();
    if can > 0 {
        lines.push(format!(
            "`corelane tune --apply` mends {can} of them until the next boot"
        ));
    }
    lines
}

fn explain(found: &[Found], name: &str) -> Result<(), Failed> {
    let one = found.iter().find(|one| one.name == name).ok_or_else(|| {
        let names: Vec<_> = found.iter().map(|one| one.name.as_str()).collect();
        Failed::usage(format!("--explain {name}: there are {}", names.join(", ")))
    })?;
    println!("{}\n\n{}\n", one.name, one.why);
    if let Some(measured) = &one.measured {
        println!("{measured}\n");
    }
    println!("is         {}", one.value);
    println!("should be  {}", one.wanted);
    println!("costs      {}", one.costs);
    println!("to mend    {}", one.mend);
    Ok(())
}
