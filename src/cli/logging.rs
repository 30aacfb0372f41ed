//! Where logs go: to standard error, for a person or for a machine.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Failed;

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Starts logging. `filter` is a level or a list of `target=level`.
pub fn start_logging(
    format: Option<LogFormat>,
    filter: Option<&str>,
    broker: bool,
) -> Result<(), Failed> {
    let terminal = std::io::stderr().is_terminal();
    let filter = filter.unwrap_or(if broker { "info" } else { "warn" });
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failed::usage(format!("invalid value {filter:?} for --log: {error}")))?;
    let text = if terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format.unwrap_or(text) {
        LogFormat::Text => logs.with_ansi(terminal).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started.map_err(Failed::operation)
}
