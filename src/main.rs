//! The `gatehouse` binary: parse, load, run, exit.

use std::process::ExitCode;

use gatehouse::backend::child::launcher;

fn main() -> ExitCode {
    // First of all: a launcher stage must still be single-threaded, and costs every spawn its time.
    if let Some(code) = launcher::run_if_launched() {
        return code;
    }
    ExitCode::SUCCESS
}
