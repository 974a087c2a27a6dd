//! What a run counted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::call::{Shape, Verdict};
use crate::histogram::Histogram;

/// Which part of the run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Calls run, nothing is timed.
    Warm,
    /// Calls are counted and timed.
    Measure,
    /// No new calls.
    Stop,
}

/// Everything the workers of one run share; they all live on one thread.
pub struct Run {
    /// What each call is.
    pub shape: Shape,
    /// Calls in flight in each session.
    pub inflight: usize,
    /// What a worker waits after a refusal.
    pub patience: Duration,
    /// Set by the driver.
    pub phase: Cell<Phase>,
    /// Calls sent, over all phases.
    pub sent: Cell<u64>,
    /// Calls whose end is known, over all phases.
    pub finished: Cell<u64>,
    /// The counts.
    pub tally: RefCell<Tally>,
}

/// Counts of one run. Times cover the measured phase, faults the whole run.
#[derive(Default)]
pub struct Tally {
    /// Right answers in the measured phase, by latency.
    pub latency: Histogram,
    /// Refusals in the measured phase, by latency.
    pub refusals: Histogram,
    /// From the dial to a connection, handshake included.
    pub connect: Histogram,
    /// From `initialize` to the acknowledgement of `initialized`.
    pub open: Histogram,
    /// Answers with somebody else's text, or none.
    pub wrong: u64,
    /// Answers to no call in flight.
    pub stray: u64,
    /// Refusals and failures by code.
    pub errors: BTreeMap<String, u64>,
}

impl Run {
    /// A run that hasn't begun.
    #[must_use]
    pub fn new(shape: Shape, inflight: usize) -> Self {
        Self {
            shape,
            inflight,
            patience: Duration::ZERO,
            phase: Cell::new(Phase::Warm),
            sent: Cell::new(0),
            finished: Cell::new(0),
            tally: RefCell::default(),
        }
    }

    /// Whether workers go on.
    #[must_use]
    pub fn going(&self) -> bool {
        self.phase.get() != Phase::Stop
    }

    /// One call goes out.
    pub fn start(&self) -> Instant {
        self.sent.set(self.sent.get() + 1);
        Instant::now()
    }

    /// One call came back.
    pub fn finish(&self, started: Instant, verdict: &Verdict) {
        self.finished.set(self.finished.get() + 1);
        let measured = self.phase.get() == Phase::Measure;
        let mut tally = self.tally.borrow_mut();
        match verdict {
            Verdict::Right if measured => tally.latency.record(nanos(started.elapsed())),
            Verdict::Right => {}
            Verdict::Wrong => tally.wrong += 1,
            Verdict::Refused(code) => {
                if measured {
                    tally.refusals.record(nanos(started.elapsed()));
                }
                tally.error(&code.to_string());
            }
        }
    }

    /// One call ended without a JSON-RPC answer, for a reason that is known.
    pub fn fail(&self, started: Instant, reason: &str) {
        self.finished.set(self.finished.get() + 1);
        let mut tally = self.tally.borrow_mut();
        if self.phase.get() == Phase::Measure {
            tally.refusals.record(nanos(started.elapsed()));
        }
        tally.error(reason);
    }
}

impl Tally {
    /// Counts a refusal or failure.
    pub fn error(&mut self, code: &str) {
        if let Some(count) = self.errors.get_mut(code) {
            *count += 1;
        } else {
            self.errors.insert(code.to_owned(), 1);
        }
    }
}

/// A duration in the histogram's unit.
#[must_use]
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
