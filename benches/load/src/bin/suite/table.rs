//! The outcomes as Markdown tables, readable as they are.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use load::report::Report;
use tokio::process::Command;

use crate::Options;
use crate::turns::{Kind, Outcome};

/// What a reader needs to run it again.
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    system: String,
    gatehouse: Option<String>,
    settings: String,
    /// What is switched on beside TLS and a key.
    features: &'static str,
    /// The others, with their versions.
    peers: Option<String>,
    command: String,
}

impl Machine {
    /// Asks the kernel and the gateway's binary.
    pub(crate) async fn read(options: &Options) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo");
        let processor = processor
            .lines()
            .find(|line| line.starts_with("model name"));
        let processor = processor
            .and_then(|line| line.split_once(": "))
            .map_or("", |pair| pair.1);
        let gatehouse = match &options.gatehouse {
            Some(binary) => {
                let mut command = Command::new(binary);
                command
                    .arg("--version")
                    .stdin(Stdio::null())
                    .kill_on_drop(true);
                let output = command.output().await;
                output
                    .ok()
                    .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
            }
            None => None,
        };
        let config = if options.full { "full" } else { "basic" };
        let features = if options.full {
            "a role, a tool filter, an argument rule, rates, a concurrency limit and the audit log on `batch`"
        } else {
            "a role and a tool filter"
        };
        Self {
            features,
            peers: options.peers.as_deref().map(versions),
            command: format!(
                "scripts/bench --table --config {config} --isolation {}{} --seconds {} --rounds {}",
                options.isolation,
                options.peers.as_ref().map_or("", |_| " --peers"),
                options.seconds,
                options.rounds
            ),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor.to_owned(),
            system: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            gatehouse,
            settings: format!(
                "isolation `{}`, configuration `{config}`, {} turns of {} s each, median",
                options.isolation, options.rounds, options.seconds
            ),
        }
    }
}

/// Names and versions of what is pinned in `peers`.
fn versions(peers: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(peers.join(name)).unwrap_or_default();
    let package: serde_json::Value =
        serde_json::from_str(&read("package.json")).unwrap_or_default();
    let npm = package["dependencies"].as_object().into_iter().flatten();
    let npm =
        npm.map(|(name, version)| format!("{name} {} (npm)", version.as_str().unwrap_or("?")));
    let python = read("requirements.in");
    let python = python
        .lines()
        .map(|line| format!("{} (PyPI)", line.replace("==", " ")));
    npm.chain(python).collect::<Vec<_>>().join(", ")
}

/// Writes a table for each kind of load.
pub(crate) fn markdown(
    out: &mut impl Write,
    machine: &Machine,
    outcomes: &[Outcome],
) -> anyhow::Result<()> {
    let Machine {
        cores,
        processor,
        system,
        settings,
        features,
        ..
    } = machine;
    writeln!(out, "{processor}, {cores} cores, {system}; {settings}.")?;
    match &machine.gatehouse {
        Some(version) => {
            writeln!(out, "`{version}` with TLS 1.3, a key, {features}; the bare")?;
            writeln!(
                out,
                "bridge has none of these. Load, servers and children share the cores."
            )?;
        }
        None => writeln!(
            out,
            "Yardsticks only. Load, servers and children share the cores."
        )?,
    }
    if let Some(peers) = &machine.peers {
        writeln!(out, "Beside it, without TLS or a key: {peers}.")?;
    }
    writeln!(out, "Made by `{}`.", machine.command)?;
    for kind in [
        Kind::Many,
        Kind::One,
        Kind::Large,
        Kind::Open,
        Kind::OpenAtOnce,
        Kind::Idle,
    ] {
        let of_kind: Vec<_> = outcomes
            .iter()
            .filter(|outcome| outcome.kind == kind)
            .collect();
        if of_kind.is_empty() {
            continue;
        }
        writeln!(out, "\n**{}**\n", kind.title())?;
        match kind {
            Kind::Idle => idle(out, &of_kind)?,
            Kind::Open | Kind::OpenAtOnce => opens(out, &of_kind)?,
            Kind::Many | Kind::One | Kind::Large => {
                timed(out, &of_kind)?;
                beside_peers(out, &of_kind)?;
            }
        }
    }
    Ok(())
}

fn timed(out: &mut impl Write, outcomes: &[&Outcome]) -> anyhow::Result<()> {
    writeln!(
        out,
        "| server | calls/s | × bridge | p50 | p99 | CPU/call | × bridge | children | open p50 | faults |"
    )?;
    writeln!(
        out,
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    )?;
    for outcome in outcomes {
        let family = outcome.way.split('/').next();
        let bridge = outcomes
            .iter()
            .find(|other| other.server == "bare bridge" && Some(other.way) == family);
        let ratio = |field: fn(&Report) -> f64| {
            let (own, base) = (outcome.median(field)?, bridge?.median(field)?);
            (own > 0.0 && base > 0.0).then(|| format!("{:.2}", own / base))
        };
        let rate = outcome.median(|turn| turn.calls_per_s);
        let cpu = outcome
            .median(|turn| turn.server_cpu_us)
            .filter(|_| outcome.server != "pipe");
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            title(outcome),
            cell(rate.map(|rate| format!("{rate:.0}"))),
            cell(ratio(|turn| turn.calls_per_s)),
            cell(outcome.median(|turn| turn.p50_us).map(time)),
            cell(outcome.median(|turn| turn.p99_us).map(time)),
            cell(cpu.map(time)),
            cell(ratio(|turn| turn.server_cpu_us)),
            cell(outcome.median(|turn| turn.children_cpu_us).map(time)),
            cell(outcome.median(|turn| turn.open_p50_us).map(time)),
            faults(outcome),
        )?;
    }
    Ok(())
}

/// How the gateway's rate compares with that of the quickest peer, way by way.
fn beside_peers(out: &mut impl Write, outcomes: &[&Outcome]) -> anyhow::Result<()> {
    let rate = |outcome: &Outcome| outcome.median(|turn| turn.calls_per_s).unwrap_or(0.0);
    for own in outcomes.iter().filter(|own| own.server == "gatehouse") {
        let peers = outcomes
            .iter()
            .filter(|peer| peer.peer && peer.way == own.way);
        let best = peers.max_by(|one, other| rate(one).total_cmp(&rate(other)));
        if let Some(best) = best.filter(|best| rate(best) > 0.0) {
            let (ratio, way) = (rate(own) / rate(best), own.way);
            let peer = best.server;
            writeln!(
                out,
                "\n{way}: {ratio:.1} × the calls of {peer}, the quickest of the others."
            )?;
        }
    }
    Ok(())
}

fn opens(out: &mut impl Write, outcomes: &[&Outcome]) -> anyhow::Result<()> {
    writeln!(
        out,
        "| server | connect p50 | open p50 | open p99 | faults |"
    )?;
    writeln!(out, "| --- | ---: | ---: | ---: | --- |")?;
    for outcome in outcomes {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            title(outcome),
            cell(outcome.median(|turn| turn.connect_p50_us).map(time)),
            cell(outcome.median(|turn| turn.open_p50_us).map(time)),
            cell(outcome.median(|turn| turn.open_p99_us).map(time)),
            faults(outcome),
        )?;
    }
    Ok(())
}

fn idle(out: &mut impl Write, outcomes: &[&Outcome]) -> anyhow::Result<()> {
    writeln!(
        out,
        "| server | sessions | each | server in all | opened in | open p50 | faults |"
    )?;
    writeln!(out, "| --- | ---: | ---: | ---: | ---: | ---: | --- |")?;
    for outcome in outcomes {
        let each = outcome.median(|turn| turn.kib_per_idle_session.unwrap_or_default());
        let all = outcome.median(|turn| turn.pss_kib as f64);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            title(outcome),
            outcome.turns.first().map_or(0, |turn| turn.sessions),
            cell(each.map(|kib| format!("{kib:.1} KiB"))),
            cell(all.map(|kib| format!("{:.1} MiB", kib / 1024.0))),
            cell(outcome.median(|turn| turn.opened_in_s * 1e6).map(time)),
            cell(outcome.median(|turn| turn.open_p50_us).map(time)),
            faults(outcome),
        )?;
    }
    Ok(())
}

fn title(outcome: &Outcome) -> String {
    format!("{} {}", outcome.server, outcome.way)
        .trim()
        .to_owned()
}

fn cell(text: Option<String>) -> String {
    text.unwrap_or_else(|| "–".to_owned())
}

/// Three digits and a unit.
fn time(us: f64) -> String {
    match us {
        _ if us < 10.0 => format!("{us:.1} µs"),
        _ if us < 1_000.0 => format!("{us:.0} µs"),
        _ if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

/// Everything that went wrong in any turn.
fn faults(outcome: &Outcome) -> String {
    if let Some(failure) = &outcome.failure {
        return format!(
            "failed: {}",
            failure.lines().next().unwrap_or_default().replace('|', "/")
        );
    }
    let sum = |field: fn(&Report) -> u64| outcome.turns.iter().map(field).sum::<u64>();
    let mut faults = Vec::new();
    for (count, name) in [
        (sum(|t| t.lost), "lost"),
        (sum(|t| t.wrong), "wrong"),
        (sum(|t| t.stray), "stray"),
    ] {
        if count > 0 {
            faults.push(format!("{count} {name}"));
        }
    }
    for (code, count) in outcome.turns.iter().flat_map(|turn| &turn.errors) {
        faults.push(format!("{count} × {}", code.replace('|', "/")));
    }
    if faults.is_empty() {
        "none".to_owned()
    } else {
        faults.join(", ")
    }
}
