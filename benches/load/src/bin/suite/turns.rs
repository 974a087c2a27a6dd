//! Who is measured when, and what came of it.

use std::io::Write;
use std::process::Stdio;

use anyhow::Context;
use load::report::Report;
use tokio::process::Command;

use crate::Options;
use crate::server::{Server, Way};

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 8 sessions, 4 calls in flight in each, 64 bytes.
    Many,
    /// One call at a time.
    One,
    /// As many, each answered with a mebibyte.
    Large,
    /// Sessions without calls.
    Idle,
}

/// All turns of one server, one way, under one kind of load.
pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    pub(crate) server: &'static str,
    pub(crate) way: &'static str,
    pub(crate) turns: Vec<Report>,
    /// Why turns are missing.
    pub(crate) failure: Option<String>,
}

impl Kind {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Many => "8 sessions × 4 in flight, 64-byte calls",
            Self::One => "one call at a time, 64 bytes",
            Self::Large => "8 sessions × 4 in flight, 1 MiB results",
            Self::Idle => "idle sessions on a shared backend",
        }
    }

    fn words(self, options: &Options) -> Vec<String> {
        let (seconds, idle) = (options.seconds.to_string(), options.idle.to_string());
        let warm = if options.quick { "0.2" } else { "0.5" };
        let timed = ["--seconds", &seconds, "--warm-up", warm];
        let words: Vec<&str> = match self {
            Self::Many => [&timed[..], &["--sessions", "8", "--inflight", "4"]].concat(),
            Self::One => [&timed[..], &["--sessions", "1", "--inflight", "1"]].concat(),
            Self::Large => {
                let large = [
                    "--sessions",
                    "8",
                    "--inflight",
                    "4",
                    "--result-bytes",
                    "1048576",
                ];
                [&timed[..], &large].concat()
            }
            Self::Idle => vec!["--idle", "--sessions", &idle, "--openers", "8"],
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// The shared backend holds the idle sessions, whatever the others use.
    fn target<'a>(self, way: &'a Way, options: &Options) -> Option<&'a Vec<String>> {
        match self {
            Self::Idle if way.label.is_empty() => None,
            // The bridge has only the one backend.
            Self::Idle => way.idle.as_ref().filter(|idle| {
                options.isolation == "shared" || idle.iter().any(|word| word.contains("/idle/"))
            }),
            _ => Some(&way.words),
        }
    }
}

impl Outcome {
    /// Whether all answers came back to their callers; a turn that failed is not unsound by itself
    /// for a peer, but it is for what is measured here.
    pub(crate) fn sound(&self) -> bool {
        self.failure.is_none() && self.turns.iter().all(Report::sound)
    }

    /// One line for each turn.
    pub(crate) fn json(&self, out: &mut impl Write) -> anyhow::Result<()> {
        for (round, turn) in self.turns.iter().enumerate() {
            let mut value = serde_json::to_value(turn)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("server".to_owned(), self.server.into());
                object.insert("way".to_owned(), self.way.into());
                object.insert("round".to_owned(), round.into());
            }
            writeln!(out, "{value}")?;
        }
        Ok(())
    }

    /// The median of `field` over the turns.
    pub(crate) fn median(&self, field: impl Fn(&Report) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.turns.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some(f64::midpoint(values[middle - 1], values[middle])),
        }
    }
}

/// All turns. A subject that fails is left out from then on, and says why.
pub(crate) async fn all(options: &Options, servers: &[Server]) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for kind in [Kind::Many, Kind::One, Kind::Large, Kind::Idle] {
        let from = outcomes.len();
        let mut subjects = Vec::new();
        for server in servers {
            for way in &server.ways {
                let Some(words) = kind.target(way, options) else {
                    continue;
                };
                subjects.push((server, words));
                let (server, way) = (server.name, way.label);
                outcomes.push(Outcome {
                    kind,
                    server,
                    way,
                    turns: Vec::new(),
                    failure: None,
                });
            }
        }
        let rounds = match kind {
            Kind::Many => options.rounds,
            Kind::One | Kind::Large if !options.quick => options.rounds,
            // Opening and closing sessions takes its time, and memory doesn't vary like speed.
            _ => 1,
        };
        for round in 0..rounds {
            for ((server, words), outcome) in subjects.iter().zip(&mut outcomes[from..]) {
                if outcome.failure.is_some() {
                    continue;
                }
                let mut people = std::io::stderr();
                let title = format!("{} {}", outcome.server, outcome.way);
                writeln!(
                    people,
                    "{}: {} of {rounds}: {title}",
                    kind.title(),
                    round + 1
                )?;
                match turn(options, kind, server, words).await {
                    Ok(report) => outcome.turns.push(report),
                    Err(error) => {
                        writeln!(people, "  failed: {error:#}")?;
                        outcome.failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
    }
    Ok(outcomes)
}

/// One run of `load`, in a process of its own so that each begins alike.
async fn turn(
    options: &Options,
    kind: Kind,
    server: &Server,
    words: &[String],
) -> anyhow::Result<Report> {
    let mut command = Command::new(options.tool("load"));
    command.args(words).args(kind.words(options));
    match server.pid {
        Some(pid) => command.args(["--pid", &pid.to_string()]),
        None => command.arg("--").arg(options.tool("echo-child")),
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .context("can't start load")?;
    let line = String::from_utf8_lossy(&output.stdout);
    match serde_json::from_str(line.trim()) {
        Ok(report) => Ok(report),
        Err(_) => anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}
