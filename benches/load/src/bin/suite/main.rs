//! `suite`: the gateway, the yardsticks and (when asked) its peers under the same load, in turns.
//!
//! Every server is started once and idles while another is measured; each round measures all of
//! them, so that what else the machine does falls on all alike. What is reported is the median of
//! the rounds. Nothing here judges a time: the exit code tells only whether answers went astray.

mod config;
mod scale;
mod server;
mod table;
mod turns;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use scale::Scale;
use server::Server;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
suite [options]: measures beside each other the bare pipe, a bare HTTP bridge and the gateway

  --gatehouse FILE     the gateway's binary; without it only the yardsticks run
  --isolation KIND     session or shared: gateway and bridge alike         [session]
  --config KIND        basic or full: how much of the gateway is switched on [basic]
  --peers DIR          also measure the gateways installed in DIR/node_modules
  --quick              shorter turns, fewer of them
  --seconds S          one turn                                            [4]
  --rounds N           turns of each                                       [3]
  --idle N             idle sessions whose memory is measured              [500]
  --table              print Markdown on standard output instead of JSON lines
  --scale              instead: the gateway under slow readers, overload, churn, 10,000 sessions
  --only PART          of --scale: idle, slow, stopped, overload or churn
  --churn S            how long sessions come and go                       [120]
  --churn-rate N       how many a second at most                           [all it can]
                       (with --quick each part is a short one, to see that it works)

Exit code 1 when an answer was lost, wrong or stray.";

/// What to measure, from the command line.
pub(crate) struct Options {
    gatehouse: Option<PathBuf>,
    isolation: String,
    full: bool,
    peers: Option<PathBuf>,
    quick: bool,
    seconds: f64,
    rounds: usize,
    idle: usize,
    table: bool,
    scale: Option<Scale>,
    /// Where this program and its siblings are.
    tools: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "suite: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<bool> {
    let args = pico_args::Arguments::from_env();
    let Some(options) = parse(args)? else {
        writeln!(std::io::stderr(), "{USAGE}")?;
        return Ok(true);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        );
        let folder = tempfile::Builder::new()
            .prefix("gatehouse-bench-")
            .tempdir()?;
        let mut servers = Vec::new();
        let outcome = tokio::select! {
            outcome = measure(&options, folder.path(), &mut servers) => outcome,
            _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
            _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
            () = tokio::time::sleep(options.limit()) => Err(anyhow::anyhow!("took too long")),
        };
        for server in servers {
            server.stop().await;
        }
        outcome
    })
}

/// Starts everything into `servers`, measures it, prints.
async fn measure(
    options: &Options,
    folder: &Path,
    servers: &mut Vec<Server>,
) -> anyhow::Result<bool> {
    if let Some(scale) = &options.scale {
        return scale.run(options, folder, servers).await;
    }
    let idle = turns::idle(options, folder, servers).await?;
    server::start_all(options, folder, servers).await?;
    let mut outcomes = turns::timed(options, servers).await?;
    outcomes.extend(turns::opens(options, servers).await?);
    outcomes.extend(idle);
    let machine = table::Machine::read(options).await;
    let mut people = std::io::stderr();
    let mut programs = std::io::stdout();
    if options.table {
        table::markdown(&mut programs, &machine, &outcomes)?;
    } else {
        for outcome in &outcomes {
            outcome.json(&mut programs)?;
        }
        table::markdown(&mut people, &machine, &outcomes)?;
    }
    Ok(outcomes.iter().all(turns::Outcome::sound))
}

fn parse(mut args: pico_args::Arguments) -> anyhow::Result<Option<Options>> {
    if args.contains("--help") {
        return Ok(None);
    }
    let tools = std::env::current_exe()?;
    let quick = args.contains("--quick");
    let kind: Option<String> = args.opt_value_from_str("--config")?;
    let scale = Scale::parse(&mut args, quick)?;
    let options = Options {
        gatehouse: args.opt_value_from_str("--gatehouse")?,
        isolation: args
            .opt_value_from_str("--isolation")?
            .unwrap_or("session".to_owned()),
        full: kind.as_deref() == Some("full") || scale.is_some(),
        peers: args.opt_value_from_str("--peers")?,
        quick,
        seconds: args
            .opt_value_from_str("--seconds")?
            .unwrap_or(if quick { 0.8 } else { 4.0 }),
        rounds: args.opt_value_from_str("--rounds")?.unwrap_or(3),
        idle: args
            .opt_value_from_str("--idle")?
            .unwrap_or(if quick { 100 } else { 500 }),
        table: args.contains("--table"),
        scale,
        tools: tools.parent().unwrap_or(Path::new(".")).to_owned(),
    };
    if let Some(word) = args.finish().first() {
        bail!("unknown argument {}", word.to_string_lossy());
    }
    if !matches!(kind.as_deref(), None | Some("basic" | "full")) {
        bail!("--config is basic or full");
    }
    if !matches!(options.isolation.as_str(), "session" | "shared") {
        bail!("--isolation is session or shared");
    }
    let bounded = (0.1..=600.0).contains(&options.seconds)
        && (1..=100).contains(&options.rounds)
        && (1..=20_000).contains(&options.idle);
    if !bounded {
        bail!("--seconds is 0.1 to 600, --rounds 1 to 100, --idle 1 to 20000");
    }
    Ok(Some(options))
}

impl Options {
    /// No suite runs longer, whatever hangs. At most a dozen subjects in three kinds of turn, each
    /// with its own deadlines around the measured time.
    fn limit(&self) -> Duration {
        let turn = Duration::from_secs_f64(self.seconds) + Duration::from_secs(10);
        let scale = self.scale.as_ref().map_or(Duration::ZERO, Scale::limit);
        turn * 36 * u32::try_from(self.rounds).unwrap_or(u32::MAX)
            + Duration::from_secs(600)
            + scale
    }

    /// A sibling of this program.
    fn tool(&self, name: &str) -> PathBuf {
        self.tools.join(name)
    }
}
