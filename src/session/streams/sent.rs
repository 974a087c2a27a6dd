//! What was sent and may be asked for again.
//!
//! Invariant: at most `replay` bytes of it are kept, and of all sessions together what the shared
//! budget has; the oldest of the session go first.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::session::streams::{Event, Streams};

#[derive(Debug)]
pub(super) struct Sent {
    lane: u32,
    event: Event,
    at: Instant,
}

impl Streams {
    /// True when nothing waits: neither a POST for its answer nor an event for its reader.
    pub(crate) fn is_quiet(&self) -> bool {
        self.lanes.len() == 1 && self.lanes.values().all(|lane| lane.live.is_empty())
    }

    /// Forgets what was sent before `before`.
    pub(crate) fn forget(&mut self, before: Instant) {
        while self.sent.front().is_some_and(|sent| sent.at < before) {
            self.drop_oldest();
        }
    }

    pub(super) fn sent_after(&self, lane: u32, seq: u64) -> Vec<Event> {
        let missed = self
            .sent
            .iter()
            .filter(|sent| sent.lane == lane && sent.event.seq > seq);
        missed.map(|sent| sent.event.clone()).collect()
    }

    pub(super) fn keep(&mut self, lane: u32, event: Event) {
        let cost = event.data.len() + EVENT_COST;
        while self.sent_bytes + cost > self.bounds.replay || !self.bounds.kept.take(cost) {
            if self.sent.is_empty() {
                return;
            }
            self.drop_oldest();
        }
        self.sent_bytes += cost;
        self.sent.push_back(Sent {
            lane,
            event,
            at: Instant::now(),
        });
    }

    /// What was kept is given back.
    pub(super) fn forget_all(&mut self) {
        while !self.sent.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(old) = self.sent.pop_front() {
            let cost = old.event.data.len() + EVENT_COST;
            self.sent_bytes -= cost;
            self.bounds.kept.put(cost);
        }
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
    }
}

/// What an event costs beside its bytes.
const EVENT_COST: usize = 96;
