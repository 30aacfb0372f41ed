//! `corelane inspect`: what lies in a data directory, and whether it is sound.
//!
//! Reads a segment file into memory as a whole, one at a time. Changes nothing: a repair is a copy.

mod files;
mod repair;
mod show;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failed;
use crate::shard::inspect_journal;
use files::Directory;
pub(super) use files::base_of;
use show::Shown;

const EXAMPLES: &str = "\
Examples:
  corelane inspect ./corelane-data --verify
  corelane inspect ./corelane-data/orders-0 --batches
  corelane inspect ./corelane-data --repair --output ./corelane-repaired
  corelane inspect ./corelane-data/orders-0/00000000000000000000.log --records

Stop the broker first: while it writes, the end of a file may look torn. After a crash, a torn write
at the end of a log is no harm: it was never acknowledged, and the next start cuts it off.";

/// What to look at.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// A data directory, a partition's directory or a segment file (.log)
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Unpack and read every record too; end with exit code 1 if anything is wrong
    #[arg(long)]
    verify: bool,

    /// Show each batch
    #[arg(long)]
    batches: bool,

    /// Show each record, as JSON
    #[arg(long, conflicts_with = "json")]
    records: bool,

    /// Write a copy with everything that can be saved to --output; lost records leave their offsets
    /// empty. The original is never written to
    #[arg(long, requires = "output", conflicts_with_all = ["verify", "batches", "records", "json"])]
    repair: bool,

    /// Where the repaired copy goes: a directory that is missing or empty
    #[arg(long, value_name = "DIR", requires = "repair")]
    output: Option<PathBuf>,

    /// As JSON, one object a segment
    #[arg(long)]
    json: bool,
}

/// Shows everything below the path.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let journals = files::journals(&arguments.path);
    if let Some(output) = arguments.output.as_deref().filter(|_| arguments.repair) {
        return match journals.first() {
            None => repair::run(&arguments.path, output),
            // A copy without it would lack what was acknowledged last.
            Some(journal) => Err(Failed::usage(told_of(journal))),
        };
    }
    let directories = Directory::find(&arguments.path).map_err(Failed::usage)?;
    let shown = Shown {
        batches: arguments.batches,
        records: arguments.records,
        json: arguments.json,
    };
    let mut out = std::io::stdout().lock();
    let (mut segments, mut problems) = (0, 0);
    for journal in &journals {
        eprintln!("corelane: {}", told_of(journal));
        let bytes = std::fs::read(journal)
            .map_err(|error| Failed::operation(format!("{}: {error}", journal.display())))?;
        let report = inspect_journal(&bytes);
        problems += usize::from(report.is_err());
        show::journal(journal, &report, shown, &mut out).map_err(Failed::output)?;
    }
    for directory in &directories {
        let mut end = None;
        show::directory(directory, shown, &mut out).map_err(Failed::output)?;
        for (base, path) in &directory.segments {
            let read = std::fs::read(path);
            let bytes =
                read.map_err(|error| Failed::operation(format!("{}: {error}", path.display())))?;
            let segment = files::Segment::read(&bytes, path, *base, end, arguments.verify);
            end = segment.end.or(end);
            segments += 1;
            problems += segment.problems.len();
            show::segment(&segment, &bytes, shown, &mut out).map_err(Failed::output)?;
        }
    }
    if problems > 0 {
        eprintln!("corelane: {problems} problems in {segments} segments");
        return if arguments.verify {
            Err(Failed::Quietly)
        } else {
            Ok(())
        };
    }
    if !arguments.json && !arguments.records {
        writeln!(out, "{segments} segments, nothing wrong").map_err(Failed::output)?;
    }
    Ok(())
}

/// What lies in a data directory with a journal may lack what was acknowledged last.
fn told_of(journal: &Path) -> String {
    format!(
        "{} has writes that may not be in the segments yet: start and stop the broker first, which \
         brings them there",
        journal.display()
    )
}
