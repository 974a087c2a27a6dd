//! The `gatehouse` binary: parse, load, run, exit.

use std::{path::Path, process::ExitCode};

use gatehouse::{
    backend::child::launcher,
    cli::{self, Command},
};

fn main() -> ExitCode {
    // First of all: a launcher must have one thread and be quick.
    if let Some(code) = launcher::run_if_launched() {
        return code;
    }
    let cli = cli::parse();
    let log = cli.log.clone();
    let command = cli.command_in(Path::new("."));
    if let Command::Demo | Command::Serve(_) | Command::Wrap(_) = &command
        && let Err(code) = cli::start_log(&log)
    {
        return code;
    }
    cli::run(command)
}
