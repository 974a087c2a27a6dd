//! `gatehouse serve`: the gateway that a file declares.

use std::process::ExitCode;

use crate::{
    cli::{ServeArgs, USAGE, life},
    config::{Config, Strictness},
};

/// Runs until it is told to stop. Exits with 2 when the file doesn't hold.
#[must_use]
pub fn run(args: &ServeArgs) -> ExitCode {
    match Config::load(&args.config, Strictness::Serve) {
        Ok(config) => {
            life::warn(&config.warnings);
            if config.auth.anonymous {
                tracing::warn!("anonymous = true: requests without a key are let in");
            }
            life::run(config, Some(&args.config), |_| {})
        }
        Err(problems) => {
            life::say(&problems.for_stderr());
            ExitCode::from(USAGE)
        }
    }
}
