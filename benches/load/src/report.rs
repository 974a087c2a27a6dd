//! The outcome of one run: a JSON line for programs, a few lines for people.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::drive::Plan;
use crate::proc::Cpu;
use crate::tally::Run;

/// Everything that one run found out. Times are microseconds where they don't say otherwise.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// http, sse or pipe.
    pub target: String,
    /// Sessions open at once.
    pub sessions: usize,
    /// Calls in flight in each.
    pub inflight: usize,
    /// Bytes of text in a call.
    pub payload: usize,
    /// Bytes of text asked for; 0: the call's own.
    pub result_bytes: usize,
    /// The measured phase.
    pub seconds: f64,
    /// Right answers in the measured phase.
    pub calls: u64,
    /// The same per second.
    pub calls_per_s: f64,
    /// Latency of right answers.
    pub p50_us: f64,
    /// The same.
    pub p99_us: f64,
    /// The same.
    pub max_us: f64,
    /// Processor time of the server's process for each right answer.
    pub server_cpu_us: f64,
    /// The same of its descendants.
    pub children_cpu_us: f64,
    /// The same of the load generator.
    pub client_cpu_us: f64,
    /// Resident memory of the server's process at the end.
    pub rss_kib: u64,
    /// Proportional memory of the server's process at the end.
    pub pss_kib: u64,
    /// Growth of proportional memory for each idle session.
    pub kib_per_idle_session: Option<f64>,
    /// Share of one core that the server used while all sessions were idle.
    pub idle_core_share: Option<f64>,
    /// All sessions open, seconds.
    pub opened_in_s: f64,
    /// From dial to connection, TLS included.
    pub connect_p50_us: f64,
    /// The same.
    pub connect_p99_us: f64,
    /// From `initialize` to the acknowledgement of `initialized`.
    pub open_p50_us: f64,
    /// The same.
    pub open_p99_us: f64,
    /// Refusals in the measured phase.
    pub refused: u64,
    /// Latency of refusals.
    pub refused_p99_us: f64,
    /// Calls without any end.
    pub lost: u64,
    /// Answers with a text that wasn't the caller's.
    pub wrong: u64,
    /// Answers to no call in flight.
    pub stray: u64,
    /// Refusals and failures by code, over the whole run.
    pub errors: BTreeMap<String, u64>,
}

impl Report {
    /// What doesn't depend on the measured phase.
    #[must_use]
    pub fn new(target: &str, plan: &Plan, run: &Run) -> Self {
        let tally = run.tally.borrow();
        Self {
            target: target.to_owned(),
            sessions: plan.sessions,
            inflight: plan.inflight,
            payload: plan.shape.payload,
            result_bytes: plan.shape.result_bytes,
            connect_p50_us: tally.connect.quantile_us(0.5),
            connect_p99_us: tally.connect.quantile_us(0.99),
            open_p50_us: tally.open.quantile_us(0.5),
            open_p99_us: tally.open.quantile_us(0.99),
            lost: run.sent.get() - run.finished.get(),
            wrong: tally.wrong,
            stray: tally.stray,
            errors: tally.errors.clone(),
            ..Self::default()
        }
    }

    /// Adds the measured phase. `client` is in microseconds.
    pub fn timed(&mut self, run: &Run, measured: Duration, server: Cpu, client: u64) {
        let tally = run.tally.borrow();
        self.seconds = measured.as_secs_f64();
        self.calls = tally.latency.count();
        self.calls_per_s = self.calls as f64 / self.seconds;
        self.p50_us = tally.latency.quantile_us(0.5);
        self.p99_us = tally.latency.quantile_us(0.99);
        self.max_us = tally.latency.max_us();
        self.refused = tally.refusals.count();
        self.refused_p99_us = tally.refusals.quantile_us(0.99);
        let calls = self.calls.max(1) as f64;
        self.server_cpu_us = server.own as f64 / calls;
        self.children_cpu_us = server.descendants as f64 / calls;
        self.client_cpu_us = client as f64 / calls;
    }

    /// Whether every answer came back to its caller, once.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.lost == 0 && self.wrong == 0 && self.stray == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = if self.result_bytes == 0 {
            self.payload
        } else {
            self.result_bytes
        };
        let Self {
            target,
            sessions,
            inflight,
            payload,
            ..
        } = self;
        writeln!(
            out,
            "{target}: {sessions} sessions x {inflight} in flight, {payload} B -> {result} B"
        )?;
        writeln!(
            out,
            "  opened     all in {:.2} s; connect p50 {:.0} us p99 {:.0} us; initialize p50 {:.0} us p99 {:.0} us",
            self.opened_in_s,
            self.connect_p50_us,
            self.connect_p99_us,
            self.open_p50_us,
            self.open_p99_us
        )?;
        if let Some(each) = self.kib_per_idle_session {
            write!(
                out,
                "  idle       {each:.1} KiB a session, {} KiB in all",
                self.pss_kib
            )?;
            if let Some(share) = self.idle_core_share {
                write!(out, ", {:.2} % of a core", share * 100.0)?;
            }
            writeln!(out)?;
        } else {
            self.fmt_calls(out)?;
        }
        write!(
            out,
            "  answers    lost {}, wrong {}, stray {}",
            self.lost, self.wrong, self.stray
        )?;
        for (code, count) in &self.errors {
            write!(out, "; {code}: {count}")?;
        }
        Ok(())
    }
}

impl Report {
    fn fmt_calls(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "  calls      {} in {:.2} s: {:.0}/s, p50 {:.0} us, p99 {:.0} us, max {:.0} us",
            self.calls, self.seconds, self.calls_per_s, self.p50_us, self.p99_us, self.max_us
        )?;
        writeln!(
            out,
            "  cpu/call   server {:.1} us, its children {:.1} us, load generator {:.1} us",
            self.server_cpu_us, self.children_cpu_us, self.client_cpu_us
        )?;
        writeln!(
            out,
            "  memory     server {} KiB resident, {} KiB proportional",
            self.rss_kib, self.pss_kib
        )?;
        if self.refused > 0 {
            writeln!(
                out,
                "  refused    {}, p99 {:.0} us",
                self.refused, self.refused_p99_us
            )?;
        }
        Ok(())
    }
}
