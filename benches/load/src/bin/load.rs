//! `load`: one run against one server. People read standard error, programs standard output.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use load::call::{MIN_PAYLOAD, Shape};
use load::drive::{Plan, Target, load};
use load::idle::idle;
use load::net::Endpoint;
use load::opens::opens;
use load::target::Server;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const USAGE: &str = "\
load --target http|sse --url URL [--key KEY] [--ca PEM] [--http2] [--modern] [--pid PID] [options]
load --target pipe [options] -- COMMAND [ARG...]

  --sessions N       sessions open at once                                  [8]
  --inflight K       calls in flight in each                                [4]
  --seconds S        how long calls are counted, at most 3600               [5]
  --warm-up S        how long they run before that                          [0.5]
  --drain S          calls that take longer after the end are lost          [10]
  --payload BYTES    text in each call                                      [64]
  --result-bytes B   ask the `big` tool for this much text instead          [0]
  --idle             open the sessions, call nothing, measure memory
  --hold S           with --idle: how long they idle, at most 3600          [0]
  --open R           open the sessions R times, call each once, close them
  --pause S          with --open: rest before each time                     [0.5]
  --modern           calls of the revision without sessions, on Streamable HTTP
  --openers N        sessions being opened at once                          [4]
  --patience S       what a client waits after a refusal (Streamable HTTP)  [0]
  --sources N        loopback addresses to come from, in turns              [1]
  --pid PID          the server's process: its processor time and memory

Exit code 1 when an answer was lost, wrong or stray.";

struct Options {
    target: Target,
    plan: Plan,
    idle: bool,
    hold: Duration,
    opens: Option<u32>,
    pause: Duration,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "load: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<bool> {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() || arguments.iter().any(|word| word == "--help") {
        writeln!(std::io::stderr(), "{USAGE}")?;
        return Ok(true);
    }
    let command = match arguments.iter().position(|word| word == "--") {
        Some(at) => arguments.split_off(at).split_off(1),
        None => Vec::new(),
    };
    let options = parse(pico_args::Arguments::from_vec(arguments), command)?;
    // A session needs up to K + 1 descriptors; the soft limit is often 1024.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let report = local.block_on(&runtime, async {
        if let Some(rounds) = options.opens {
            opens(&options.target, &options.plan, rounds, options.pause).await
        } else if options.idle {
            idle(&options.target, &options.plan, options.hold).await
        } else {
            load(&options.target, &options.plan).await
        }
    })?;
    writeln!(std::io::stderr(), "{report}")?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(report.sound())
}

fn parse(mut args: pico_args::Arguments, command: Vec<OsString>) -> anyhow::Result<Options> {
    let name: String = args.value_from_str("--target")?;
    let (http2, is_idle) = (args.contains("--http2"), args.contains("--idle"));
    let modern = args.contains("--modern");
    let ca: Option<PathBuf> = args.opt_value_from_str("--ca")?;
    let url: Option<String> = args.opt_value_from_str("--url")?;
    let key: Option<String> = args.opt_value_from_str("--key")?;
    let plan = plan(&mut args, modern)?;
    let sources: u8 = args.opt_value_from_str("--sources")?.unwrap_or(1);
    let hold = seconds(args.opt_value_from_str("--hold")?.unwrap_or(0.0))?;
    let opens = args.opt_value_from_str("--open")?;
    let pause = seconds(args.opt_value_from_str("--pause")?.unwrap_or(0.5))?;
    if let Some(word) = args.finish().first() {
        bail!("unknown argument {}", word.to_string_lossy());
    }
    let server = || -> anyhow::Result<Rc<Server>> {
        let url = url.as_deref().context("--url is missing")?;
        let endpoint = Endpoint::load(url, ca.as_deref(), http2)?.from_sources(sources);
        Ok(Rc::new(Server {
            endpoint,
            key: key.clone(),
            http2,
            modern,
            tool: plan.shape.tool(),
        }))
    };
    let target = match name.as_str() {
        "http" => Target::Http(server()?),
        "sse" | "pipe" if http2 || modern => bail!("--http2 and --modern go with --target http"),
        "sse" => Target::Sse(server()?),
        "pipe" if is_idle || opens.is_some() => bail!("--idle and --open go with a server"),
        "pipe" => {
            let words = command.into_iter().map(|word| word.into_string());
            let words: Result<Vec<_>, _> = words.collect();
            Target::Pipe(Rc::new(
                words.map_err(|_| anyhow::anyhow!("COMMAND isn't UTF-8"))?,
            ))
        }
        _ => bail!("--target is http, sse or pipe"),
    };
    Ok(Options {
        target,
        plan,
        idle: is_idle,
        hold,
        opens,
        pause,
    })
}

/// How much of what.
fn plan(args: &mut pico_args::Arguments, modern: bool) -> anyhow::Result<Plan> {
    let sessions = args.opt_value_from_str("--sessions")?.unwrap_or(8);
    let inflight = args.opt_value_from_str("--inflight")?.unwrap_or(4);
    if !(1..=100_000).contains(&sessions) || !(1..=10_000).contains(&inflight) {
        bail!("--sessions is 1 to 100000, --inflight 1 to 10000");
    }
    Ok(Plan {
        sessions,
        inflight,
        openers: args.opt_value_from_str("--openers")?.unwrap_or(4),
        warm_up: seconds(args.opt_value_from_str("--warm-up")?.unwrap_or(0.5))?,
        measure: seconds(args.opt_value_from_str("--seconds")?.unwrap_or(5.0))?,
        drain: seconds(args.opt_value_from_str("--drain")?.unwrap_or(10.0))?,
        patience: seconds(args.opt_value_from_str("--patience")?.unwrap_or(0.0))?,
        shape: Shape {
            payload: args
                .opt_value_from_str("--payload")?
                .unwrap_or(64)
                .max(MIN_PAYLOAD),
            result_bytes: args.opt_value_from_str("--result-bytes")?.unwrap_or(0),
            run: std::process::id(),
            modern,
        },
        pid: args.opt_value_from_str("--pid")?,
    })
}

fn seconds(value: f64) -> anyhow::Result<Duration> {
    if !(0.0..=3600.0).contains(&value) {
        bail!("seconds are 0 to 3600");
    }
    Ok(Duration::from_secs_f64(value))
}
