//! The program: which allocator, which logs, which command. Everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use corelane::cli::{Cli, start_logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start_logging(cli.log_format, cli.log.as_deref(), cli.is_broker()) {
        Ok(()) => cli.run(),
        Err(why) => {
            eprintln!("corelane: {why}");
            ExitCode::from(2)
        }
    }
}
