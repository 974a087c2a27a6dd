//! The command line: what can be asked for, and the commands that start no gateway.
//!
//! Owns every command's name, flags and help. It must never decide what a gateway does: commands
//! are turned into configurations and handed down. Invariant: human output goes to standard error,
//! machine output to standard output; 0 is success, 1 failure, 2 wrong usage or configuration.

pub mod audit;
pub mod check;
pub mod completions;
pub mod demo;
pub mod example_server;
pub mod import;
pub mod install;
pub mod key;
mod life;
pub mod man;
pub mod pin;
pub mod serve;
mod welcome;
pub mod wrap;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{
    Args, CommandFactory, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::{backend::Isolation, config, telemetry};

/// Turns local stdio MCP servers into safe remote ones.
///
/// Without a command: `serve` when there is a proxy.toml in the current folder, otherwise `demo`.
#[derive(Debug, Clone, Parser)]
#[command(name = "gatehouse", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// How log lines look
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// The least important lines to log; RUST_LOG can say more precisely
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// The least important lines to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Nothing
    Off,
    /// What needs attention now
    Error,
    /// What may need attention
    Warn,
    /// What happens
    Info,
    /// Why it happens
    Debug,
    /// Everything
    Trace,
}

impl LogLevel {
    /// The word that `tracing` knows it by.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What can be asked for.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Start at once, with an example server, a certificate and a key made for the occasion
    Demo,
    /// Run the gateway that a configuration file declares
    Serve(ServeArgs),
    /// Serve one command without a configuration file
    Wrap(WrapArgs),
    /// Validate a configuration file without starting anything
    Check(CheckArgs),
    /// Turn a client's JSON file (Claude Desktop, Cursor, VS Code, mcp-proxy) into a proxy.toml
    Import(ImportArgs),
    /// Fetch once what npx and uvx backends run, so that they start offline and confined
    Install(InstallArgs),
    /// Run each backend once and record what it is in gatehouse.lock
    Pin(PinArgs),
    /// Make API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Verify and read audit logs
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
    /// Run the built-in example MCP server on standard input and output
    ExampleServer,
}

/// `gatehouse serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// `gatehouse check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
}

/// `gatehouse install`.
#[derive(Debug, Clone, Args)]
pub struct InstallArgs {
    /// The configuration file; packages are kept in gatehouse-packages beside it, or in the folder
    /// that its table of packages names
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Only this backend
    #[arg(long, value_name = "B")]
    pub backend: Option<String>,
    /// Fetch again what is installed already: the newest that the command allows
    #[arg(long)]
    pub upgrade: bool,
    /// Let packages run their install scripts and build native code, outside of any sandbox
    #[arg(long)]
    pub allow_scripts: bool,
}

/// `gatehouse pin`.
#[derive(Debug, Clone, Args)]
pub struct PinArgs {
    /// The configuration file; gatehouse.lock stands beside it
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Only this backend; the others stay as they are recorded
    #[arg(long, value_name = "B")]
    pub backend: Option<String>,
}

/// `gatehouse wrap`.
#[derive(Debug, Clone, Args)]
pub struct WrapArgs {
    /// The backend's name in the URL [default: from CMD]
    #[arg(long, value_name = "NAME", value_parser = backend_name)]
    pub name: Option<String>,
    /// Where to listen
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8443")]
    pub listen: Vec<SocketAddr>,
    /// A certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Make a certificate of our own, kept in ~/.local/state/gatehouse: one for this machine's own
    /// addresses, and one for each other set of --listen (the default without --tls-cert)
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    pub self_signed: bool,
    /// A file whose first line is the API key; without it one is made and printed
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Who shares one running instance
    #[arg(long, value_name = "WHO", default_value = "session", value_parser = isolation_parser())]
    pub isolation: Isolation,
    /// Serve only tools that match (repeat for more)
    #[arg(long, value_name = "GLOB")]
    pub allow_tool: Vec<String>,
    /// Hide tools that match (repeat for more)
    #[arg(long, value_name = "GLOB")]
    pub deny_tool: Vec<String>,
    /// Set an environment variable for the command (repeat for more)
    #[arg(long, value_name = "K=V", value_parser = assignment)]
    pub env: Vec<Assignment>,
    /// The command's working directory
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// One `--env K=V`; the value is not shown by `Debug`.
#[derive(Clone)]
pub struct Assignment {
    /// The variable.
    pub name: String,
    /// Its value.
    pub value: crate::secret::Secret,
}

impl std::fmt::Debug for Assignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={:?}", self.name, self.value)
    }
}

/// `gatehouse import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The JSON file; `-` reads standard input
    #[arg(value_name = "FILE.json")]
    pub file: PathBuf,
}

/// `gatehouse key …`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Print a new key once, and the block to paste into the configuration
    New(KeyNewArgs),
}

/// `gatehouse key new`.
#[derive(Debug, Clone, Args)]
pub struct KeyNewArgs {
    /// Who will hold the key
    #[arg(value_name = "NAME", value_parser = key_name)]
    pub name: String,
    /// A role that the key holds (repeat for more)
    #[arg(long = "role", value_name = "R", value_parser = role_name)]
    pub roles: Vec<String>,
}

/// `gatehouse completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

impl Cli {
    /// The command that was given, or the one that stands for none in this folder.
    #[must_use]
    pub fn command_in(self, folder: &Path) -> Command {
        let config = folder.join(DEFAULT_CONFIG);
        self.command.unwrap_or_else(|| match config.try_exists() {
            // What can't be looked at is for `serve` to explain; `demo` would hide it.
            Ok(true) | Err(_) => Command::Serve(ServeArgs {
                config: DEFAULT_CONFIG.into(),
            }),
            Ok(false) => Command::Demo,
        })
    }
}

/// Reads the command line; help, version and wrong usage end the process here.
#[must_use]
pub fn parse() -> Cli {
    Cli::parse()
}

/// Does what was asked for.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Demo => demo::run(),
        Command::Serve(args) => serve::run(&args),
        Command::Wrap(args) => wrap::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Install(args) => install::run(&args),
        Command::Pin(args) => pin::run(&args),
        Command::Key(command) => key::run(&command),
        Command::Audit(command) => audit::run(&command),
        Command::Completions(args) => completions::run(&args),
        Command::Man => man::run(),
        Command::ExampleServer => match example_server::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// Starts the log.
///
/// # Errors
/// The exit code, after the reason was said.
pub fn start_log(args: &LogArgs) -> Result<(), ExitCode> {
    let format = match args.log_format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(format, args.log_level.map(LogLevel::as_str)).map_err(|error| {
        life::say(&format!("gatehouse: {error}\n"));
        ExitCode::from(USAGE)
    })
}

/// The definition of the command line, for what is made from it.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Writes a command's whole output; a reader that went away early is no failure.
fn deliver(out: &mut dyn Write, text: &[u8]) -> ExitCode {
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn isolation_parser() -> impl TypedValueParser<Value = Isolation> {
    PossibleValuesParser::new(config::isolations())
        .try_map(|word| config::parse_isolation(&word).ok_or("none of its values"))
}

fn backend_name(name: &str) -> Result<String, String> {
    named(name, config::is_backend_name(name), config::BACKEND_HELP)
}

fn key_name(name: &str) -> Result<String, String> {
    named(name, config::is_key_name(name), config::KEY_HELP)
}

fn role_name(name: &str) -> Result<String, String> {
    named(name, config::is_role_name(name), config::ROLE_HELP)
}

fn named(name: &str, good: bool, help: &str) -> Result<String, String> {
    if good {
        Ok(name.to_owned())
    } else {
        Err(help.to_owned())
    }
}

fn assignment(text: &str) -> Result<Assignment, &'static str> {
    match text.split_once('=') {
        Some((name, value)) if config::is_env_name(name) => Ok(Assignment {
            name: name.to_owned(),
            value: crate::secret::Secret::new(value),
        }),
        _ => Err("write NAME=VALUE"),
    }
}

/// The exit code of wrong usage or configuration.
pub(crate) const USAGE: u8 = 2;

/// The configuration file that is looked for in the current folder.
pub const DEFAULT_CONFIG: &str = "proxy.toml";

#[cfg(test)]
mod tests;
