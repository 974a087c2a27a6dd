//! A session's lanes, as its transports use them.
//!
//! Owns a POST's place and a reader's claim. Invariant: both are given back whatever becomes of the
//! task that holds them.

use std::{sync::Arc, task::Context};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use crate::session::{
    Budget, Session, peer,
    streams::{Attached, Claim, Event, First, STANDING, Streams},
};

/// A POST's place on a session; a client that goes away before it got anything leaves it.
pub(crate) struct Post {
    pub(crate) lane: u32,
    pub(crate) first: oneshot::Receiver<First>,
    session: Arc<Session>,
}

impl Session {
    /// A place for a POST with `calls` requests; `streams`: its client takes a stream.
    pub(crate) fn post(self: &Arc<Self>, calls: usize, streams: bool) -> Post {
        let (lane, first) = self.state.lock().streams.open(calls, streams);
        Post {
            lane,
            first,
            session: self.clone(),
        }
    }

    /// Puts a message of the gateway's own on a lane: the answer to a call that it took itself.
    pub(crate) fn answer(&self, lane: u32, data: Bytes) {
        self.state.lock().streams.answer(lane, Some(data));
    }

    /// Reads the answers of a batch whose client takes no stream, until all are there; its POST was
    /// upgraded before they could come. What is too much for one body becomes an error.
    pub(crate) async fn gather(self: &Arc<Self>, post: &Post, most: usize) -> Vec<Bytes> {
        let Attached::Reading(reading) = self.attach_post(post.lane) else {
            return Vec::new();
        };
        let claim = reading.claim;
        let reader = Reader {
            session: self.clone(),
            claim,
        };
        let (mut answers, mut bytes) = (Vec::new(), 0);
        let mut take = |events: Vec<Event>| {
            for event in events {
                bytes += event.data.len();
                answers.push(match bytes <= most {
                    true => event.data,
                    false => peer::too_much(event.data),
                });
            }
        };
        take(reading.missed);
        loop {
            let poll = |cx: &mut Context<'_>| {
                reader
                    .session
                    .with_streams(|streams| streams.poll(claim, usize::MAX, cx.waker()))
            };
            let events = std::future::poll_fn(poll).await;
            if events.is_empty() {
                break;
            }
            take(events);
        }
        answers
    }

    /// What bounds all that waits for readers.
    pub(crate) fn budget(&self) -> Arc<Budget> {
        self.state.lock().streams.budget().clone()
    }

    /// Turns a POST that waits into a stream. False: its answer is there.
    pub(crate) fn upgrade(&self, lane: u32) -> bool {
        self.state.lock().streams.upgrade(lane)
    }

    /// Reads the lane of a POST that has not answered: also of a session that has ended, because
    /// what came before that is owed.
    pub(crate) fn attach_post(&self, lane: u32) -> Attached {
        self.state.lock().streams.attach(lane, None)
    }

    /// Reads a lane.
    pub(crate) fn attach(self: &Arc<Self>, lane: u32, after: Option<u64>) -> Attached {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return Attached::Unknown;
        }
        let attached = state.streams.attach(lane, after);
        if let (STANDING, Attached::Reading(_)) = (lane, &attached) {
            state.broken = None;
        }
        state.last_used = Instant::now();
        attached
    }

    /// Runs `act` on the streams.
    pub(crate) fn with_streams<T>(&self, act: impl FnOnce(&mut Streams) -> T) -> T {
        act(&mut self.state.lock().streams)
    }

    /// A reader has gone.
    pub(crate) fn detach(&self, claim: Claim) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.streams.detach(claim) && claim.lane == STANDING {
            state.broken = Some(now);
        }
        state.last_used = now;
    }
}

/// A claim that is given back whatever happens.
struct Reader {
    session: Arc<Session>,
    claim: Claim,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.session.detach(self.claim);
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.session.state.lock().streams.abandon(self.lane);
    }
}
