//! `corelane flame`: where one core of a running broker spends its time, as a flame graph.
//!
//! The samples are taken by `perf`, which is there on every machine where people profile and knows
//! its kernel; the graph is drawn by `inferno`. Knows the broker by its threads' names only.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options as FolderOptions};
use inferno::flamegraph;

use super::Failed;

const EXAMPLES: &str = "\
Examples:
  corelane flame                                core 0 of the broker that runs here, ten seconds
  corelane flame --core 2 --seconds 30 --output busy.svg
  corelane flame --pid 4711 --kernel            with what the kernel does for it (needs root)

Open the file in a browser: each box is a function, as wide as its share of the time; a click enlarges
it. Load the broker meanwhile, for instance with `corelane bench`: an idle core has no samples.";

/// What to sample.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The broker's process [default: the one that runs on this machine]
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,

    /// Which of its cores
    #[arg(long, value_name = "N", default_value = "0")]
    core: u32,

    /// For how many seconds
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,

    /// Samples a second
    #[arg(long, value_name = "N", default_value = "997", value_parser = clap::value_parser!(u32).range(1..=20000))]
    frequency: u32,

    /// With what the kernel does on the core's behalf
    #[arg(long)]
    kernel: bool,

    /// Where to write the graph
    #[arg(short, long, value_name = "FILE", default_value = "flame.svg")]
    output: PathBuf,
}

/// Samples and draws.
pub fn run(arguments: &Arguments) -> Result<(), Failed> {
    let thread = format!("shard-{}", arguments.core);
    let (pid, tid) = find(Path::new("/proc"), arguments.pid, &thread)?;
    let data = std::env::temp_dir().join(format!("corelane-flame-{}", std::process::id()));
    let drawn = record(arguments, tid, &data).and_then(|()| {
        let title = format!(
            "corelane {pid}, core {}, {} s",
            arguments.core, arguments.seconds
        );
        draw(&data, &title, &arguments.output)
    });
    let _ = fs::remove_file(&data);
    drawn?;
    println!("{}", arguments.output.display());
    Ok(())
}

/// The process and the thread of this name: of `pid`, or of the only process that has one.
fn find(proc: &Path, pid: Option<u32>, thread: &str) -> Result<(u32, u32), Failed> {
    let numbers = |path: &Path| -> Vec<u32> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut numbers: Vec<u32> = entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers
    };
    let mut found = Vec::new();
    for process in pid.map_or_else(|| numbers(proc), |pid| vec![pid]) {
        let tasks = proc.join(format!("{process}/task"));
        for task in numbers(&tasks) {
            let name = fs::read_to_string(tasks.join(format!("{task}/comm")));
            if name.is_ok_and(|name| name.trim() == thread) {
                found.push((process, task));
            }
        }
    }
    match found[..] {
        [one] => Ok(one),
        [] => Err(Failed::operation(format!(
            "no broker with a thread {thread} {}",
            match pid {
                Some(pid) => format!("in process {pid}: see `corelane serve --cores`"),
                None => "runs here: start one, or name its process with --pid".to_owned(),
            }
        ))),
        _ => {
            let pids: Vec<_> = found.iter().map(|(pid, _)| pid.to_string()).collect();
            let pids = pids.join(", ");
            Err(Failed::usage(format!(
                "several brokers run here: choose one with --pid ({pids})"
            )))
        }
    }
}

/// Has `perf` sample thread `tid` into `data`.
fn record(arguments: &Arguments, tid: u32, data: &Path) -> Result<(), Failed> {
    let event = if arguments.kernel {
        "cpu-clock"
    } else {
        "cpu-clock:u"
    };
    let mut perf = Command::new("perf");
    perf.args([
        "record",
        "--quiet",
        "-e",
        event,
        "--call-graph",
        "dwarf,16384",
    ]);
    perf.args([
        "-F",
        &arguments.frequency.to_string(),
        "-t",
        &tid.to_string(),
    ]);
    perf.arg("-o").arg(data);
    perf.args(["--", "sleep", &arguments.seconds.to_string()]);
    let output = perf.stdin(Stdio::null()).output().map_err(|error| {
        Failed::operation(match error.kind() {
            std::io::ErrorKind::NotFound => "perf is not installed: install linux-perf (Debian), \
                 linux-tools (Ubuntu) or perf (Fedora)"
                .to_owned(),
            _ => format!("perf: {error}"),
        })
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = words
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default();
    Err(Failed::operation(format!(
        "perf record: {}: {last}; as another user than root, set kernel.perf_event_paranoid to 2 or \
         less (see `corelane tune`)",
        output.status
    )))
}

/// Turns what was sampled into a graph.
fn draw(data: &Path, title: &str, output: &Path) -> Result<(), Failed> {
    let mut script = Command::new("perf")
        .arg("script")
        .arg("-i")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Failed::operation(format!("perf script: {error}")))?;
    let samples = script.stdout.take().expect("its standard output");
    let mut stacks = Vec::new();
    let mut folder = Folder::from(FolderOptions::default());
    let folded = folder.collapse(BufReader::new(samples), &mut stacks);
    let _ = script.wait();
    folded.map_err(|error| Failed::operation(format!("perf script: {error}")))?;
    if stacks.is_empty() {
        return Err(Failed::operation(
            "no samples: the core did nothing meanwhile; load the broker, for instance with \
             `corelane bench produce`",
        ));
    }
    let told = |error: std::io::Error| Failed::operation(format!("{}: {error}", output.display()));
    let file = BufWriter::new(File::create(output).map_err(told)?);
    let mut options = flamegraph::Options::default();
    options.title = title.to_owned();
    options.count_name = "samples".to_owned();
    let text = String::from_utf8_lossy(&stacks);
    flamegraph::from_lines(&mut options, text.lines(), file).map_err(Failed::operation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_found_by_its_threads_name() {
        let proc = tempfile::tempdir().expect("a directory");
        let task = |pid: u32, tid: u32, name: &str| {
            let directory = proc.path().join(format!("{pid}/task/{tid}"));
            fs::create_dir_all(&directory).expect("a directory");
            fs::write(directory.join("comm"), format!("{name}\n")).expect("a file");
        };
        task(7, 7, "corelane");
        task(7, 9, "shard-1");
        task(8, 8, "shard");
        let find = |pid, name| find(proc.path(), pid, name).map_err(|failed| failed.to_string());
        assert_eq!(find(None, "shard-1"), Ok((7, 9)));
        assert!(find(Some(8), "shard-1").is_err_and(|why| why.contains("process 8")));
        assert!(find(None, "shard-0").is_err_and(|why| why.contains("--pid")));
        task(8, 10, "shard-1");
        assert!(find(None, "shard-1").is_err_and(|why| why.contains("7, 8")));
        assert_eq!(find(Some(8), "shard-1"), Ok((8, 10)));
    }
}
