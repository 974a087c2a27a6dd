//! Who is measured when, and what came of it.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use load::report::Report;
use tokio::process::Command;

use crate::Options;
use crate::config::OPENED;
use crate::server::{Own, Server};

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
    /// Sessions that open one after another.
    Open,
    /// Sessions that open at once.
    OpenAtOnce,
}

/// All turns of one server, one way, under one kind of load.
pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    pub(crate) server: &'static str,
    pub(crate) way: &'static str,
    pub(crate) peer: bool,
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
            Self::Open => "opening 8 sessions one after another, `warm = 8`",
            Self::OpenAtOnce => "opening 8 sessions at once, `warm = 8`",
        }
    }

    fn words(self, options: &Options) -> Vec<String> {
        let (seconds, idle) = (options.seconds.to_string(), options.idle.to_string());
        let warm = if options.quick { "0.2" } else { "0.5" };
        let timed = ["--seconds", &seconds, "--warm-up", warm];
        let times = if options.quick { "3" } else { "10" };
        let opens = ["--open", times, "--pause", "1", "--sessions", OPENED];
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
            Self::Open => [&opens[..], &["--openers", "1"]].concat(),
            Self::OpenAtOnce => [&opens[..], &["--openers", OPENED]].concat(),
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

impl Outcome {
    fn new(kind: Kind, server: &Server, way: &'static str) -> Self {
        let (peer, server) = (server.peer, server.name);
        Self {
            kind,
            server,
            way,
            peer,
            turns: Vec::new(),
            failure: None,
        }
    }

    /// One more turn, unless one has failed.
    async fn add(
        &mut self,
        options: &Options,
        server: &Server,
        words: &[String],
        round: &str,
    ) -> anyhow::Result<()> {
        if self.failure.is_some() {
            return Ok(());
        }
        let mut people = std::io::stderr();
        writeln!(
            people,
            "{}: {round}{} {}",
            self.kind.title(),
            self.server,
            self.way
        )?;
        match turn(options, self.kind, server, words).await {
            Ok(report) => self.turns.push(report),
            Err(error) => {
                writeln!(people, "  failed: {error:#}")?;
                self.failure = Some(format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// Whether every turn went through and all answers came back to their callers. What a peer does
    /// stands in the table and is not judged.
    pub(crate) fn sound(&self) -> bool {
        self.peer || self.failure.is_none() && self.turns.iter().all(Report::sound)
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

/// Weighs idle sessions. Each way gets a server that has just been started: memory that an earlier
/// load left behind would be used again and hide what the sessions cost. The server that runs is in
/// `servers`, so that it can be ended whatever happens.
pub(crate) async fn idle(
    options: &Options,
    folder: &Path,
    servers: &mut Vec<Server>,
) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for own in Own::all(options) {
        let mut next = 0;
        loop {
            servers.push(own.start(options, folder, "shared").await?);
            if let Some(server) = servers.last()
                && let Some(way) = server.ways.get(next)
                && let Some(words) = &way.idle
            {
                let mut outcome = Outcome::new(Kind::Idle, server, way.label);
                outcome.add(options, server, words, "").await?;
                outcomes.push(outcome);
            }
            next += 1;
            let Some(server) = servers.pop() else { break };
            let last = next >= server.ways.len();
            server.stop().await;
            if last {
                break;
            }
        }
    }
    Ok(outcomes)
}

/// Opens sessions, one after another and at once. What has ended in one turn may be cleared away in
/// the next one's pause.
pub(crate) async fn opens(options: &Options, servers: &[Server]) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for kind in [Kind::Open, Kind::OpenAtOnce] {
        for server in servers {
            for way in &server.ways {
                if let Some(words) = &way.warm {
                    let mut outcome = Outcome::new(kind, server, way.label);
                    outcome.add(options, server, words, "").await?;
                    outcomes.push(outcome);
                }
            }
        }
    }
    Ok(outcomes)
}

/// All turns with calls. A subject that fails is left out from then on, and says why.
pub(crate) async fn timed(options: &Options, servers: &[Server]) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for kind in [Kind::Many, Kind::One, Kind::Large] {
        let from = outcomes.len();
        let mut subjects = Vec::new();
        for server in servers {
            for way in &server.ways {
                subjects.push((server, &way.words));
                outcomes.push(Outcome::new(kind, server, way.label));
            }
        }
        let rounds = if options.quick && kind != Kind::Many {
            1
        } else {
            options.rounds
        };
        for round in 1..=rounds {
            for ((server, words), outcome) in subjects.iter().zip(&mut outcomes[from..]) {
                let round = format!("{round} of {rounds}: ");
                outcome.add(options, server, words, &round).await?;
            }
        }
    }
    Ok(outcomes)
}

/// One turn of a kind.
async fn turn(
    options: &Options,
    kind: Kind,
    server: &Server,
    words: &[String],
) -> anyhow::Result<Report> {
    let words = [words, &kind.words(options)].concat();
    run(options, server, &words).await
}

/// One run of `load`, in a process of its own so that each begins alike.
pub(crate) async fn run(
    options: &Options,
    server: &Server,
    words: &[String],
) -> anyhow::Result<Report> {
    let mut command = Command::new(options.tool("load"));
    command.args(words);
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
