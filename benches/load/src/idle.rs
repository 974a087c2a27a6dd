//! Sessions that do nothing: what each costs in memory, and whether it still lives afterwards.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::drive::{Plan, Target, open_all};
use crate::proc;
use crate::report::Report;
use crate::tally::{Phase, Run};

/// The server's memory has come to rest after this.
const SETTLE: Duration = Duration::from_secs(1);
/// One probe takes at most this.
const PROBE: Duration = Duration::from_secs(30);

/// Opens the plan's sessions, lets them idle for `hold`, makes one call on each, and closes them.
///
/// # Errors
/// A session that can't be opened. Sessions that have died are counted as lost.
pub async fn idle(target: &Target, plan: &Plan, hold: Duration) -> anyhow::Result<Report> {
    let run = Rc::new(Run::new(plan.shape, 1));
    let pid = plan.pid.unwrap_or(0);
    // What the first session allocates for good isn't a cost of each.
    let first = open_all(
        target,
        &Plan {
            sessions: 1,
            ..plan.clone()
        },
        &run,
    )
    .await?;
    tokio::time::sleep(SETTLE).await;
    let before = proc::memory(pid);
    let run = Rc::new(Run::new(plan.shape, 1));
    let opening = Instant::now();
    let mut sessions = open_all(target, plan, &run).await?;
    for session in &mut sessions {
        session.rest().await?;
    }
    let opened_in = opening.elapsed();
    tokio::time::sleep(SETTLE).await;
    let with = proc::memory(pid);
    let cpu = proc::cpu(pid);
    tokio::time::sleep(hold).await;
    let cpu = proc::cpu(pid).since(cpu);
    run.phase.set(Phase::Measure);
    let mut lost = 0;
    let mut error = None;
    for mut session in sessions {
        let probe = tokio::time::timeout(PROBE, session.probe(&run)).await;
        if let Err(cause) = probe
            .map_err(anyhow::Error::from)
            .and_then(|outcome| outcome)
        {
            lost += 1;
            error.get_or_insert(format!("{cause:#}"));
        }
        session.close().await;
    }
    drop(first);
    let mut report = Report::new(target.name(), plan, &run);
    report.lost = lost;
    if let Some(error) = error {
        report.errors.insert(error, lost);
    }
    report.opened_in_s = opened_in.as_secs_f64();
    (report.rss_kib, report.pss_kib) = (with.rss, with.pss);
    let grown = with.pss.saturating_sub(before.pss) as f64;
    report.kib_per_idle_session = Some(grown / plan.sessions.max(1) as f64);
    if !hold.is_zero() {
        report.idle_core_share = Some(cpu.own as f64 / 1e6 / hold.as_secs_f64());
    }
    Ok(report)
}
