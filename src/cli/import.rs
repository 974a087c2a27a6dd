//! placeholder
use std::process::ExitCode;
/// x
#[must_use]
pub fn run(_: &crate::cli::ImportArgs) -> ExitCode {
    ExitCode::FAILURE
}
