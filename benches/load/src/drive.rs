//! One run: open the sessions, warm up, measure, let the last calls come back, close.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::task::JoinSet;

use crate::call::Shape;
use crate::proc::{self, Cpu};
use crate::report::Report;
use crate::tally::{Phase, Run};
use crate::target::{Server, http, pipe, sse};

/// How much of what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Sessions open at once.
    pub sessions: usize,
    /// Sessions that are being opened at once.
    pub openers: usize,
    /// Calls in flight in each session.
    pub inflight: usize,
    /// How long calls run before they count.
    pub warm_up: Duration,
    /// How long they count.
    pub measure: Duration,
    /// Calls that haven't come back this long after the last one was sent are lost.
    pub drain: Duration,
    /// What a client waits after a refusal; zero: it asks again at once, as none should.
    pub patience: Duration,
    /// What each call is.
    pub shape: Shape,
    /// The server's process, for its processor time and memory.
    pub pid: Option<u32>,
}

/// What is being loaded.
#[derive(Clone)]
pub enum Target {
    /// Streamable HTTP.
    Http(Rc<Server>),
    /// HTTP+SSE.
    Sse(Rc<Server>),
    /// The command's own pipes.
    Pipe(Rc<Vec<String>>),
}

/// An open session of any target.
pub enum Session {
    /// Streamable HTTP.
    Http(http::Session),
    /// HTTP+SSE.
    Sse(sse::Session),
    /// A child.
    Pipe(pipe::Session),
}

/// Opening all sessions takes at most this and a bit for each.
const OPENING: Duration = Duration::from_secs(30);
const OPENING_EACH: Duration = Duration::from_millis(50);

impl Target {
    /// Its name on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Sse(_) => "sse",
            Self::Pipe(_) => "pipe",
        }
    }

    async fn open(&self, number: usize, run: &Rc<Run>) -> anyhow::Result<Session> {
        Ok(match self {
            Self::Http(server) => Session::Http(http::Session::open(server, number, run).await?),
            Self::Sse(server) => Session::Sse(sse::Session::open(server, number, run).await?),
            Self::Pipe(command) => Session::Pipe(pipe::Session::open(command, number, run).await?),
        })
    }
}

impl Session {
    async fn work(self, run: Rc<Run>) {
        match self {
            Self::Http(session) => session.work(run).await,
            Self::Sse(session) => session.work().await,
            Self::Pipe(session) => session.work(run).await,
        }
    }

    /// Lets go of whatever a client without calls wouldn't hold.
    ///
    /// # Errors
    /// No connection, or an answer that isn't HTTP.
    pub async fn rest(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Http(session) => session.rest().await,
            Self::Sse(_) | Self::Pipe(_) => Ok(()),
        }
    }

    /// One call that must be answered rightly.
    ///
    /// # Errors
    /// Any other outcome.
    pub async fn probe(&mut self, run: &Run) -> anyhow::Result<()> {
        match self {
            Self::Http(session) => session.probe(run).await,
            Self::Sse(session) => session.probe().await,
            Self::Pipe(_) => bail!("a pipe has no idle sessions"),
        }
    }

    /// Ends the session.
    pub async fn close(self) {
        if let Self::Http(session) = self {
            session.close().await;
        }
    }
}

/// Opens the plan's sessions, at most `openers` at a time.
///
/// # Errors
/// The first session that can't be opened, or all of them taking too long.
pub async fn open_all(target: &Target, plan: &Plan, run: &Rc<Run>) -> anyhow::Result<Vec<Session>> {
    let next = Rc::new(std::cell::Cell::new(0));
    let mut openers = JoinSet::new();
    for _ in 0..plan.openers.clamp(1, plan.sessions.max(1)) {
        let (target, run, next, sessions) =
            (target.clone(), run.clone(), next.clone(), plan.sessions);
        openers.spawn_local(async move {
            let mut opened = Vec::new();
            while next.get() < sessions {
                let number = next.replace(next.get() + 1);
                let session = target.open(number, &run).await;
                opened.push(session.with_context(|| format!("session {number}"))?);
            }
            anyhow::Ok(opened)
        });
    }
    let all = async {
        let mut sessions = Vec::new();
        while let Some(opened) = openers.join_next().await {
            sessions.extend(opened??);
        }
        anyhow::Ok(sessions)
    };
    let count = u32::try_from(plan.sessions).unwrap_or(u32::MAX);
    let limit = OPENING + OPENING_EACH.saturating_mul(count);
    tokio::time::timeout(limit, all)
        .await
        .context("opening the sessions took too long")?
}

/// Runs `plan` against `target`.
///
/// # Errors
/// A session that can't be opened. Faults of single calls are counted, not returned.
pub async fn load(target: &Target, plan: &Plan) -> anyhow::Result<Report> {
    let run = Rc::new(Run {
        patience: plan.patience,
        ..Run::new(plan.shape, plan.inflight)
    });
    let opening = Instant::now();
    let sessions = open_all(target, plan, &run).await?;
    let opened_in = opening.elapsed();
    let mut workers = JoinSet::new();
    for session in sessions {
        workers.spawn_local(session.work(run.clone()));
    }
    tokio::time::sleep(plan.warm_up).await;
    let watched = plan.pid.unwrap_or_else(std::process::id);
    let (own, server) = (proc::cpu(std::process::id()), proc::cpu(watched));
    let started = Instant::now();
    run.phase.set(Phase::Measure);
    tokio::time::sleep(plan.measure).await;
    run.phase.set(Phase::Stop);
    let measured = started.elapsed();
    let (own, server) = (
        proc::cpu(std::process::id()).since(own),
        proc::cpu(watched).since(server),
    );
    let memory = plan.pid.map(proc::memory).unwrap_or_default();
    let _ = tokio::time::timeout(plan.drain, async {
        while workers.join_next().await.is_some() {}
    })
    .await;
    workers.abort_all();
    let mut report = Report::new(target.name(), plan, &run);
    let server = match target {
        // The pipe has no server: its client's children are the children.
        Target::Pipe(_) => Cpu { own: 0, ..server },
        _ => server,
    };
    report.timed(&run, measured, server, own.own);
    report.opened_in_s = opened_in.as_secs_f64();
    (report.rss_kib, report.pss_kib) = (memory.rss, memory.pss);
    Ok(report)
}
