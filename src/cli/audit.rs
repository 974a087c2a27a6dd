//! `gatehouse audit`: verify and read audit logs, offline.
//!
//! Owns the flags of both. What a log says comes from peers: no character that a terminal would
//! act on is ever printed as it is.

mod filter;
pub mod show;
pub mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand, builder::PossibleValuesParser};

use crate::audit::Name;

/// `gatehouse audit …`.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Check that no event was changed, removed or added; name the first bad line
    Verify(VerifyArgs),
    /// Print events readably
    Show(Box<ShowArgs>),
}

/// `gatehouse audit verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The log's files, in any order; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A public key (PEM) that must have signed the checkpoints (repeat for more)
    #[arg(long, value_name = "PEM")]
    pub public_key: Vec<PathBuf>,
}

/// `gatehouse audit show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The log's files, in any order; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only events of this principal
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// Only events of this backend
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Only events about tools that match
    #[arg(long, value_name = "GLOB", value_parser = filter::glob)]
    pub tool: Option<globset::Glob>,
    /// Only events with this decision
    #[arg(long, value_name = "DECISION", value_parser = ["allow", "deny"])]
    pub decision: Option<String>,
    /// Only events of this kind (repeat for more)
    #[arg(long, value_name = "EVENT", value_parser = names())]
    pub event: Vec<String>,
    /// Only events at or after this time: RFC 3339, a date (UTC), or an age such as 90s, 30m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = filter::time)]
    pub since: Option<jiff::Timestamp>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = filter::time)]
    pub until: Option<jiff::Timestamp>,
    /// Print the lines as they stand in the log
    #[arg(long)]
    pub json: bool,
}

/// Does what was asked for.
#[must_use]
pub fn run(command: &AuditCommand) -> ExitCode {
    match command {
        AuditCommand::Verify(args) => verify::run(args),
        AuditCommand::Show(args) => show::run(args),
    }
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(Name::ALL.map(Name::as_str))
}

/// Text for a terminal: what could act on it is spelt out.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if crate::audit::is_hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}
