//! The gateway alone, under what a yardstick would not survive: idle crowds, readers that hardly
//! read, overload, sessions that come and go.
//!
//! Each part gets a gateway of its own and prints one JSON object. Nothing here judges a figure.

mod churn;
mod readers;

use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use load::net::Endpoint;
use load::report::Report;
use load::target::Server as Client;
use serde_json::{Value, json};

use crate::Options;
use crate::config::KEY;
use crate::server::{Own, Server};
use crate::turns;

/// What of it to run.
pub(crate) struct Scale {
    only: Option<String>,
    churn: churn::Pace,
}

/// The parts, in their order.
const PARTS: [&str; 5] = ["slow", "stopped", "overload", "churn", "idle"];

impl Scale {
    /// Takes its words from the command line; `None` without `--scale`.
    pub(crate) fn parse(
        args: &mut pico_args::Arguments,
        quick: bool,
    ) -> anyhow::Result<Option<Self>> {
        let wanted = args.contains("--scale");
        let only: Option<String> = args.opt_value_from_str("--only")?;
        let churn: Option<f64> = args.opt_value_from_str("--churn")?;
        let rate: Option<f64> = args.opt_value_from_str("--churn-rate")?;
        if let Some(part) = &only
            && !PARTS.contains(&part.as_str())
        {
            anyhow::bail!("--only is one of {}", PARTS.join(", "));
        }
        let churn = churn.unwrap_or(if quick { 20.0 } else { 120.0 });
        if rate.is_some_and(|rate| !(0.1..=100_000.0).contains(&rate)) {
            anyhow::bail!("--churn-rate is 0.1 to 100000 a second");
        }
        let churn = churn::Pace {
            time: Duration::from_secs_f64(churn.clamp(1.0, 7200.0)),
            rate,
        };
        Ok(wanted.then_some(Self { only, churn }))
    }

    /// How much longer than a suite it may take.
    pub(crate) fn limit(&self) -> Duration {
        self.churn.time + Duration::from_secs(1200)
    }

    /// Runs the parts. True: no call was lost or answered wrongly.
    pub(crate) async fn run(
        &self,
        options: &Options,
        folder: &Path,
        servers: &mut Vec<Server>,
    ) -> anyhow::Result<bool> {
        let mut sound = true;
        for part in PARTS {
            if self.only.as_deref().is_some_and(|only| only != part) {
                continue;
            }
            writeln!(std::io::stderr(), "{part}")?;
            servers.push(Own::Gatehouse.start(options, folder, "session").await?);
            let server = servers.last().context("just started")?;
            let local = tokio::task::LocalSet::new();
            let measured = self.part(part, options, folder, server);
            let mut figures = local.run_until(measured).await?;
            sound &= figures.get("sound").is_none_or(|sound| sound == true);
            if let Some(server) = servers.pop() {
                let stopping = Instant::now();
                server.stop().await;
                figures["stopped_in_s"] = stopping.elapsed().as_secs_f64().into();
            }
            let line = json!({ "part": part, "figures": figures });
            writeln!(std::io::stdout(), "{line}")?;
        }
        Ok(sound)
    }

    async fn part(
        &self,
        part: &str,
        options: &Options,
        folder: &Path,
        server: &Server,
    ) -> anyhow::Result<Value> {
        match part {
            "slow" => readers::slow(server, options.quick).await,
            "stopped" => readers::stopped(server).await,
            "overload" => overload(options, server).await,
            "churn" => churn::churn(server, &folder.join("audit.jsonl"), &self.churn).await,
            _ => idle(options, server).await,
        }
    }
}

/// Ten thousand idle sessions on one child, for five minutes; a thousand for ten seconds where it has
/// to be quick.
async fn idle(options: &Options, server: &Server) -> anyhow::Result<Value> {
    let words = words(server, "sse", "/idle/sse");
    let (sessions, hold) = if options.quick {
        (1_000, 10)
    } else {
        (10_000, 300)
    };
    let plan = format!("--idle --sessions {sessions} --openers 32 --hold {hold} --sources 4");
    let report = run(options, server, &words, &plan).await?;
    Ok(json!({
        "sound": report.lost == 0,
        "sessions": sessions,
        "opened_in_s": report.opened_in_s,
        "dead": report.lost,
        "pss_mib": report.pss_kib / 1024,
        "core_share": report.idle_core_share,
        "kib_each": report.kib_per_idle_session,
    }))
}

/// As many calls as it can take; five times as many, from clients that wait a second after a refusal,
/// as `Retry-After` says, and from some that ask again at once; and as before.
async fn overload(options: &Options, server: &Server) -> anyhow::Result<Value> {
    let words = words(server, "http", "/limited/mcp");
    let seconds = if options.quick { 3 } else { 10 };
    let plan = |inflight: u32| format!("--sessions 8 --inflight {inflight} --seconds {seconds}");
    let peak = run(options, server, &words, &plan(4)).await?;
    let patient = format!("{} --patience 1", plan(20));
    let patient = run(options, server, &words, &patient).await?;
    let over = run(options, server, &words, &plan(20)).await?;
    let after = run(options, server, &words, &plan(4)).await?;
    let sound = [&peak, &patient, &over, &after]
        .iter()
        .all(|report| report.sound());
    Ok(json!({
        "sound": sound,
        "peak_calls_per_s": peak.calls_per_s,
        "goodput": patient.calls_per_s / peak.calls_per_s,
        "refused_p99_ms": patient.refused_p99_us / 1e3,
        "impatient_goodput": over.calls_per_s / peak.calls_per_s,
        "impatient_refused_per_s": over.refused as f64 / f64::from(seconds),
        "impatient_refused_p99_ms": over.refused_p99_us / 1e3,
        "after": after.calls_per_s / peak.calls_per_s,
    }))
}

async fn run(
    options: &Options,
    server: &Server,
    words: &[String],
    plan: &str,
) -> anyhow::Result<Report> {
    let plan = plan.split(' ').map(str::to_owned);
    let words: Vec<String> = words.iter().cloned().chain(plan).collect();
    turns::run(options, server, &words).await
}

/// What `load` is told of a backend that no [`crate::server::Way`] leads to.
fn words(server: &Server, target: &str, path: &str) -> Vec<String> {
    let mut words = server.base.clone();
    words.extend(["--target", target, "--url"].map(str::to_owned));
    words.push(format!("{}{path}", server.url));
    words
}

/// The same for clients in this program.
fn client(server: &Server, path: &str) -> anyhow::Result<Rc<Client>> {
    let url = format!("{}{path}", server.url);
    let ca = server.base.iter().skip_while(|word| *word != "--ca").nth(1);
    let endpoint = Endpoint::load(&url, ca.map(Path::new), false)?;
    Ok(Rc::new(Client {
        endpoint,
        key: Some(KEY.to_owned()),
        http2: false,
        modern: false,
        tool: "echo",
    }))
}
