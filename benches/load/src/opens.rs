//! Sessions that open on a server at rest: what a client waits before its first call.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::drive::{Plan, Target, open_all};
use crate::report::Report;
use crate::tally::{Phase, Run};

/// Opens the plan's sessions `rounds` times, each time after `pause`, in which the server can get
/// ready again; makes one call on each and closes it.
///
/// # Errors
/// A session that can't be opened, or a call that isn't answered rightly.
pub async fn opens(
    target: &Target,
    plan: &Plan,
    rounds: u32,
    pause: Duration,
) -> anyhow::Result<Report> {
    let run = Rc::new(Run::new(plan.shape, 1));
    run.phase.set(Phase::Measure);
    let mut opened_in = Duration::ZERO;
    for _ in 0..rounds {
        tokio::time::sleep(pause).await;
        let opening = Instant::now();
        let sessions = open_all(target, plan, &run).await?;
        opened_in += opening.elapsed();
        for mut session in sessions {
            session.probe(&run).await?;
            session.close().await;
        }
    }
    let mut report = Report::new(target.name(), plan, &run);
    report.opened_in_s = opened_in.as_secs_f64();
    Ok(report)
}
