//! Sessions that come, call once and go without a word.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use load::call::Shape;
use load::proc;
use load::tally::Run;
use load::target::{Server as Client, http, sse};
use serde_json::{Value, json};

use super::client;
use crate::server::Server;

/// An event's name stands in this much of its line.
const HEAD: usize = 128;
/// Sessions at once.
const AT_ONCE: usize = 6;

/// What the server holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    after_s: f64,
    pss_kib: u64,
    descriptors: usize,
    children: usize,
    threads: usize,
}

/// What the audit log has no end of yet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Owed {
    requests: i64,
    sessions: i64,
}

impl Owed {
    /// Reads a log, the files that were put away of it included.
    fn of(log: &Path) -> std::io::Result<Self> {
        let mut owed = Self::default();
        for entry in log.parent().unwrap_or(Path::new(".")).read_dir()? {
            let path = entry?.path();
            if path.extension() == log.extension() {
                owed.add(BufReader::new(File::open(path)?))?;
            }
        }
        Ok(owed)
    }

    fn add(&mut self, log: impl BufRead) -> std::io::Result<()> {
        for line in log.split(b'\n') {
            let line = line?;
            let head = &line[..line.len().min(HEAD)];
            let is = |event: &str| {
                memchr::memmem::find(head, format!("\"event\":\"{event}\"").as_bytes()).is_some()
            };
            match () {
                () if is("request") => self.requests += 1,
                () if is("response") => self.requests -= 1,
                () if is("session.open") => self.sessions += 1,
                () if is("session.close") => self.sessions -= 1,
                () => {}
            }
        }
        Ok(())
    }
}

impl Held {
    fn by(pid: u32, since: Instant) -> Self {
        Self {
            after_s: since.elapsed().as_secs_f64(),
            pss_kib: proc::memory(pid).pss,
            descriptors: proc::descriptors(pid),
            children: proc::descendants(pid),
            threads: proc::threads(pid),
        }
    }

    fn json(self) -> Value {
        json!({
            "pss_kib": self.pss_kib,
            "descriptors": self.descriptors,
            "children": self.children,
            "threads": self.threads,
        })
    }
}

/// How long sessions come and go, and how many a second at most.
pub(super) struct Pace {
    pub(super) time: Duration,
    pub(super) rate: Option<f64>,
}

impl Pace {
    /// How far apart one worker's sessions begin: those of a stream and a child of its own never
    /// closer than children can be started.
    fn apart(&self, own: bool) -> Duration {
        let floor = if own {
            Duration::from_millis(250)
        } else {
            Duration::ZERO
        };
        let rated = self.rate.map_or(0.0, |rate| AT_ONCE as f64 / rate);
        floor.max(Duration::from_secs_f64(rated))
    }
}

/// What came of one worker's sessions.
#[derive(Default)]
struct Visits {
    done: u64,
    failed: u64,
}

impl Visits {
    /// Counts one that failed, and says why: the others go on. To be told to come again later is no
    /// failure: children of those that left a moment ago may not be gone yet.
    fn fail(&mut self, path: &str, error: &anyhow::Error) {
        if error.to_string().contains(" 429 ") {
            return;
        }
        self.failed += 1;
        let _ = writeln!(std::io::stderr(), "churn: {path}: {error:#}");
    }
}

/// Opens, calls and drops sessions, half of them with a child of their own. What the gateway holds
/// is told from outside; which requests and sessions it thinks of as open, by its audit `log`.
pub(super) async fn churn(server: &Server, log: &Path, pace: &Pace) -> anyhow::Result<Value> {
    let pid = server.pid.unwrap_or(0);
    let started = Instant::now();
    // The first ones leave what stays: tables, pools, the common child.
    for _ in 0..20 {
        visit(server, 0).await?;
        visit(server, 1).await?;
    }
    let before = at_rest(pid, started).await;
    let deadline = Instant::now() + pace.time;
    let mut workers = Vec::new();
    for number in 0..AT_ONCE {
        let (path, stream) = way(number);
        let apart = pace.apart(stream && path.starts_with("/echo"));
        let client = client(server, path)?;
        workers.push(tokio::task::spawn_local(async move {
            let mut visits = Visits::default();
            while Instant::now() < deadline {
                let next = Instant::now() + apart;
                match once(&client, stream).await {
                    Ok(()) => visits.done += 1,
                    Err(error) => {
                        visits.fail(path, &error);
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                tokio::time::sleep_until(next.into()).await;
            }
            visits
        }));
    }
    let mut samples = Vec::new();
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
        samples.push(Held::by(pid, started));
    }
    let mut visits = Visits::default();
    for worker in workers {
        let of_one = worker.await?;
        visits.done += of_one.done;
        visits.failed += of_one.failed;
    }
    let after = at_rest(pid, started).await;
    let owed = Owed::of(log)?;
    // The first fifth is the way to the level of this load.
    let settled = &samples[samples.len() / 5..];
    Ok(json!({
        "sound": visits.failed == 0 && visits.done > 0,
        "sessions": visits.done,
        "failed": visits.failed,
        "seconds": pace.time.as_secs(),
        "mib_per_hour": slope(settled) * 3600.0 / 1024.0,
        "before": before.json(),
        "after": after.json(),
        "requests_without_outcome": owed.requests,
        "sessions_without_end": owed.sessions,
    }))
}

/// HTTP+SSE and Streamable HTTP, on a child of its own and on a common one.
fn way(number: usize) -> (&'static str, bool) {
    match number % 4 {
        0 => ("/idle/sse", true),
        1 => ("/echo/mcp", false),
        2 => ("/idle/mcp", false),
        _ => ("/echo/sse", true),
    }
}

async fn visit(server: &Server, number: usize) -> anyhow::Result<()> {
    let (path, stream) = way(number);
    once(&client(server, path)?, stream).await
}

/// One session, with one call; it goes without saying so.
async fn once(client: &Rc<Client>, stream: bool) -> anyhow::Result<()> {
    let shape = Shape {
        payload: 64,
        result_bytes: 0,
        run: std::process::id(),
        modern: false,
    };
    let run = Rc::new(Run::new(shape, 1));
    run.phase.set(load::tally::Phase::Measure);
    if stream {
        sse::Session::open(client, 0, &run).await?.probe().await
    } else {
        let mut session = http::Session::open(client, 0, &run).await?;
        session.probe(&run).await?;
        // Without it the session would rightly stay for `session_idle_timeout`.
        session.close().await;
        Ok(())
    }
}

/// When the last sessions have been cleared away: `resume_grace`, `stop_timeout` and some.
async fn at_rest(pid: u32, since: Instant) -> Held {
    tokio::time::sleep(Duration::from_secs(20)).await;
    Held::by(pid, since)
}

/// KiB a second, by least squares.
fn slope(samples: &[Held]) -> f64 {
    let count = samples.len().max(1) as f64;
    let mean = |of: fn(&Held) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, memory) = (mean(|held| held.after_s), mean(|held| held.pss_kib as f64));
    let sum = |of: &dyn Fn(&Held) -> f64| samples.iter().map(of).sum::<f64>();
    let both = sum(&|held| (held.after_s - time) * (held.pss_kib as f64 - memory));
    let square = sum(&|held| (held.after_s - time).powi(2));
    if square > 0.0 { both / square } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{Held, Owed, slope};

    #[test]
    fn what_has_no_end_in_the_log_is_owed() {
        let log = r#"{"seq":1,"time":"2026-01-01T00:00:00.000000Z","event":"session.open"}
{"seq":2,"time":"2026-01-01T00:00:00.000000Z","event":"request","args":{"event":"response"}}
{"seq":3,"time":"2026-01-01T00:00:00.000000Z","event":"request"}
{"seq":4,"time":"2026-01-01T00:00:00.000000Z","event":"response"}
"#;
        let mut owed = Owed::default();
        owed.add(log.as_bytes()).unwrap();
        assert_eq!((owed.requests, owed.sessions), (1, 1));
    }

    #[test]
    fn a_slope_is_growth_by_the_second() {
        let samples: Vec<_> = (0..10_u32)
            .map(|at| Held {
                after_s: f64::from(at),
                pss_kib: 100 + 3 * u64::from(at),
                descriptors: 0,
                children: 0,
                threads: 0,
            })
            .collect();
        assert!((slope(&samples) - 3.0).abs() < 1e-9);
        assert!(slope(&[]).abs() < 1e-9);
    }
}
