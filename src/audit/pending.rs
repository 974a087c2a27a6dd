//! A request that was let through and whose outcome is owed.
//!
//! Owns the promise that there is an outcome: also when the task that serves it is dropped or
//! panics.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{
    Event, Handle, Name, Status,
    event::{self, Parts},
};

/// What is owed to the log; dropping it says that the request was cancelled, or that its task
/// panicked.
#[must_use = "dropping it records a cancelled request"]
pub struct Pending {
    /// `None` once it is said, or without a log.
    log: Option<Arc<Handle>>,
    /// What the outcome repeats of the decision.
    parts: Box<[u8]>,
    /// Where in `parts` the second and third part begin.
    cuts: (usize, usize),
    started: Instant,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// How.
    pub status: Status<'a>,
    /// Which instance served it.
    pub instance: Option<u64>,
    /// Bytes of its answer.
    pub bytes_out: Option<u64>,
}

impl<'a> Outcome<'a> {
    /// An outcome that says no more.
    #[must_use]
    pub const fn new(status: Status<'a>) -> Self {
        Self {
            status,
            instance: None,
            bytes_out: None,
        }
    }
}

impl Pending {
    pub(super) fn new(log: Arc<Handle>, parts: Parts, encoded: &[u8]) -> Self {
        let (parts, cuts) = parts.copy(encoded);
        log.shared.owed.fetch_add(1, Ordering::Relaxed);
        Self {
            log: Some(log),
            parts,
            cuts,
            started: Instant::now(),
        }
    }

    /// One that owes nothing.
    pub fn nothing() -> Self {
        Self {
            log: None,
            parts: Box::default(),
            cuts: (0, 0),
            started: Instant::now(),
        }
    }

    /// Says how it ended.
    pub fn finish(mut self, outcome: Outcome<'_>) {
        self.say(outcome);
    }

    /// Nothing happened that there could be an outcome of.
    pub fn forget(mut self) {
        self.settle();
    }

    /// Nothing is owed any more.
    fn settle(&mut self) -> Option<Arc<Handle>> {
        let log = self.log.take()?;
        log.shared.owed.fetch_sub(1, Ordering::Relaxed);
        Some(log)
    }

    fn say(&mut self, outcome: Outcome<'_>) {
        let Some(log) = self.settle() else { return };
        super::with_scratch(|out| {
            let (who, rest) = self.parts.split_at(self.cuts.0);
            let (what, trace) = rest.split_at(self.cuts.1 - self.cuts.0);
            event::head(Name::Response, out);
            out.extend_from_slice(who);
            event::field_number("instance", outcome.instance, out);
            out.extend_from_slice(what);
            let end = Event {
                status: Some(outcome.status),
                duration: Some(self.started.elapsed()),
                bytes_out: outcome.bytes_out,
                ..Event::new(Name::Response)
            };
            end.end(out);
            out.extend_from_slice(trace);
            log.shared.note(out);
        });
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let status = if std::thread::panicking() {
            Status::Panicked
        } else {
            Status::Cancelled
        };
        self.say(Outcome::new(status));
    }
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
