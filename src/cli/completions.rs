//! `gatehouse completions`: a script that teaches a shell the commands and flags.

use std::{io::Write, process::ExitCode};

use super::{CompletionsArgs, definition, deliver};

/// Prints the script.
#[must_use]
pub fn run(args: &CompletionsArgs) -> ExitCode {
    run_to(args, &mut std::io::stdout().lock())
}

/// [`run`] to a place of the caller's.
pub fn run_to(args: &CompletionsArgs, out: &mut dyn Write) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "gatehouse", &mut script);
    deliver(out, &script)
}
