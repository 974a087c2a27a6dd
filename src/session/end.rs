//! The end of a session, and what brings it about.
//!
//! Invariant: when a session has ended its calls are answered, its instance is given back, and its
//! streams end when they were read.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::{
    audit::{Decision, Event, Name, Outcome, Status},
    backend::{Call, Failure},
    session::{
        Config, EndReason, REPLAY_AGE, SendError, Session, Starting, State, Transport, peer,
    },
};

impl Session {
    /// Ends the session: what is in flight is cancelled at the child and answered by an error, the
    /// instance given back, the streams end when they were read.
    pub fn end(&self, reason: EndReason) {
        let (lease, _unanswered) = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(reason);
            state.calls.clear();
            (state.lease.take(), std::mem::take(&mut state.asked))
        };
        tracing::info!(
            session = self.number,
            backend = self.upstream.instance().backend(),
            principal = self.principal.name(),
            ?reason,
            "session ended"
        );
        let calls = self.upstream.detach(self.number);
        self.cut_off(calls);
        drop(lease);
        self.record(Name::SessionClose, Some(Status::Other(reason.as_str())));
        if let Some(table) = self.table.upgrade() {
            table.forget(self);
        }
    }

    /// The end of calls that no child will answer any more, and of all lanes. Who still waits for
    /// one is told; for who has gone it is as if he had cancelled it.
    fn cut_off(&self, calls: Vec<Call>) {
        let heard: Vec<bool> = {
            let state = self.state.lock();
            let lanes = calls.iter().map(|call| call.lane);
            lanes.map(|lane| state.streams.is_heard(lane)).collect()
        };
        let mut errors = Vec::new();
        for (call, heard) in calls.into_iter().zip(heard) {
            let error = heard.then(|| peer::ended_error(&call.id));
            call.pending.finish(Outcome {
                instance: Some(self.upstream.instance().number()),
                bytes_out: error.as_ref().map(|error| error.len() as u64),
                ..Outcome::new(match heard {
                    true => Status::Error(SendError::Ended.code().into()),
                    false => Status::Cancelled,
                })
            });
            errors.extend(error.map(|error| (call.lane, error)));
        }
        let mut state = self.state.lock();
        for (lane, error) in errors {
            state.streams.answer(lane, Some(error));
        }
        state.streams.finish();
    }

    /// Records that it began or ended.
    pub(super) fn record(&self, name: Name, status: Option<Status<'_>>) {
        let Some(table) = self.table.upgrade() else {
            return;
        };
        table.log().note(&Event {
            principal: Some(&self.principal),
            client: Some(self.client),
            backend: Some(self.upstream.instance().backend()),
            session: Some(self.audit_digest),
            instance: Some(self.upstream.instance().number()),
            decision: (name == Name::SessionOpen).then_some(Decision::Allow),
            status,
            ..Event::new(name)
        });
    }

    /// True once it has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.state.look().ended.is_some()
    }

    /// True while somebody reads, or waits for an answer.
    pub(crate) fn is_busy(&self) -> bool {
        let state = self.state.look();
        !state.calls.is_empty() || state.streams.is_read()
    }

    /// Ends the session if its time is over.
    pub(crate) fn sweep(&self, now: Instant, config: &Config) {
        self.record_unanswered(now);
        self.upstream.tick(now);
        let over = self.overdue(now, config);
        if over == Some(EndReason::NoStart) {
            self.fail_start();
        }
        if let Some(reason) = over {
            self.end(reason);
        }
    }

    fn overdue(&self, now: Instant, config: &Config) -> Option<EndReason> {
        let mut state = self.state.look();
        if state.credential.expired(SystemTime::now()) {
            if !state.credential.is_renewable() {
                return Some(EndReason::Principal);
            }
            // The principal may come back with a new one; until then it hears nothing.
            state.streams.cut_all();
        }
        let start_timeout = self.backend.config().start_timeout;
        if state
            .starting
            .as_ref()
            .is_some_and(|s| s.since + start_timeout <= now)
        {
            return Some(EndReason::NoStart);
        }
        state.streams.cut_stalled(now);
        // A reader that was too slow has lost its stream without leaving.
        if self.transport == Transport::Sse && !state.streams.is_standing() {
            state.broken.get_or_insert(now);
        }
        if let Some(before) = now.checked_sub(SILENCE) {
            state.streams.break_silence(before);
        }
        if state
            .broken
            .is_some_and(|since| since + config.resume_grace <= now)
            && self.transport == Transport::Sse
        {
            return Some(EndReason::Client);
        }
        let busy = !state.calls.is_empty() || state.streams.is_read();
        if !busy && state.last_used + config.idle_timeout <= now {
            return Some(EndReason::Idle);
        }
        if let Some(before) = now.checked_sub(REPLAY_AGE) {
            state.streams.forget(before);
        }
        // Nothing here comes to its time soon unless somebody is at it.
        let quiet = state.is_quiet() && !self.is_bridged();
        let (rest, idle) = (REST, state.last_used + config.idle_timeout);
        if quiet && (busy || now + rest <= idle) {
            self.state.rest(&state, now, rest);
        }
        None
    }

    /// The child has not answered `initialize`: the client gets an error, the backend a failure.
    fn fail_start(&self) {
        let state = self.state.lock();
        let ticket = state.starting.as_ref().and_then(|starting| {
            let ticket = state.calls.get(&starting.id).copied();
            ticket.filter(|ticket| *ticket > 0)
        });
        drop(state);
        if let Some(ticket) = ticket {
            let failure = Failure::NotStarted;
            self.upstream.give_up(self.number, ticket, failure);
        }
        let mut state = self.state.lock();
        if let Some(Starting { id, lane, .. }) = state.starting.take()
            && state.calls.contains_key(&id)
        {
            let error = peer::failure_error(&id, Failure::NotStarted);
            state.streams.answer(lane, Some(error));
        }
        if let Some(lease) = &state.lease {
            lease.reject();
        }
    }
}

impl State {
    /// True when only somebody who takes the lock can make it be over, or its idle time.
    fn is_quiet(&self) -> bool {
        let waits = !self.calls.is_empty() || self.starting.is_some() || !self.asked.is_empty();
        !waits && self.broken.is_none() && !self.credential.ends() && self.streams.is_quiet()
    }
}

/// So long a session that is quiet may be passed over.
const REST: Duration = Duration::from_secs(10);

/// A POST that has heard nothing for so long becomes a stream.
const SILENCE: Duration = Duration::from_secs(10);
