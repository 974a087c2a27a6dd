//! A session's lanes, as its transports use them.
//!
//! Owns a POST's place and a reader's claim. Invariant: both are given back whatever becomes of the
//! task that holds them.

use std::{sync::Arc, task::Context};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use crate::session::{
    Budget, Session, peer,
    streams::{Attached, Claim, First, Reading, STANDING, Streams},
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

    /// Reads the answers of a batch whose client takes no stream, until all are there. What is too
    /// much for one body becomes an error.
    pub(crate) async fn gather(self: &Arc<Self>, post: &mut Post, most: usize) -> Vec<Bytes> {
        match (&mut post.first).await {
            Ok(First::Answer(only)) => return vec![only],
            Ok(First::Stream) => {}
            Ok(First::Nothing) | Err(_) => return Vec::new(),
        }
        let Attached::Reading(Reading { claim, .. }) = self.attach(post.lane, None) else {
            return Vec::new();
        };
        let reader = Reader {
            session: self.clone(),
            claim,
        };
        let (mut answers, mut bytes) = (Vec::new(), 0);
        loop {
            let poll = |cx: &mut Context<'_>| {
                reader
                    .session
                    .with_streams(|streams| streams.poll(claim, usize::MAX, cx.waker()))
            };
            let events = std::future::poll_fn(poll).await;
            if events.is_empty() {
                return answers;
            }
            for event in events {
                bytes += event.data.len();
                answers.push(if bytes <= most {
                    event.data
                } else {
                    peer::too_much(event.data)
                });
            }
        }
    }

    /// What bounds all that waits for readers.
    pub(crate) fn budget(&self) -> Arc<Budget> {
        self.state.lock().streams.budget().clone()
    }

    /// Turns a POST that waits into a stream. False: its answer is there.
    pub(crate) fn upgrade(&self, lane: u32) -> bool {
        self.state.lock().streams.upgrade(lane)
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
