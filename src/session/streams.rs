//! What waits to be read by a session's client, stream by stream.
//!
//! Owns the lanes (lane 0 is the standing stream, each POST that is answered by a stream has one of
//! its own) and what was sent and may be asked for again. It must never know HTTP or JSON-RPC: an
//! event is bytes. Invariants: an event is on one lane only; what nobody reads is bounded: a lane
//! that holds too much loses its reader, never the other way round.

mod sent;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::{Poll, Waker},
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use self::sent::Sent;
use crate::session::budget::{Budget, STALL};

/// One event of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Unique in the session, growing.
    pub(crate) seq: u64,
    /// One JSON-RPC message; empty for a priming event.
    pub(crate) data: Bytes,
    charged: bool,
}

/// What a POST gets first.
#[derive(Debug)]
pub(crate) enum First {
    /// Its answer, alone: a JSON body will do.
    Answer(Bytes),
    /// Something else came before the answer: a stream is needed.
    Stream,
    /// There will be no answer.
    Nothing,
}

/// A reader's claim to a lane; a later one takes it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) lane: u32,
    generation: u64,
}

/// What a reader that attaches finds.
#[derive(Debug)]
pub(crate) enum Attached {
    /// There never was such a lane, or event.
    Unknown,
    /// The lane has ended, and nothing of it is left to read.
    Over,
    /// It reads.
    Reading(Reading),
}

/// A reader's beginning.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) claim: Claim,
    /// The number of an event without content that may stand before all that comes.
    pub(crate) prime: Option<u64>,
    /// What it missed.
    pub(crate) missed: Vec<Event>,
}

/// Bounds of one session's streams.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Bytes kept of what was sent.
    pub(crate) replay: usize,
    /// Bytes that may wait for one reader (or one event, however long).
    pub(crate) waiting: usize,
    /// Shared by all sessions.
    pub(crate) budget: Arc<Budget>,
    /// What may be kept of what was sent, shared by all sessions.
    pub(crate) kept: Arc<Budget>,
}

/// The lanes of one session.
#[derive(Debug)]
pub(crate) struct Streams {
    bounds: Bounds,
    /// Boxed: a map has room for eleven, and a session at rest has one.
    lanes: BTreeMap<u32, Box<Lane>>,
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    next_seq: u64,
    next_lane: u32,
    next_generation: u64,
}

#[derive(Debug, Default)]
struct Lane {
    live: VecDeque<Event>,
    bytes: usize,
    /// Since when the first of them waits.
    waiting: Option<Instant>,
    reader: Option<u64>,
    waker: Option<Waker>,
    /// A POST that has got nothing yet.
    first: Option<oneshot::Sender<First>>,
    /// Since when.
    opened: Option<Instant>,
    /// Its client takes a stream.
    streams: bool,
    /// Answers still to come; `None` on the standing stream.
    owed: Option<usize>,
    /// The last event that a reader took.
    delivered: u64,
    /// A number for the event that the next reader's stream begins with: older than all that it
    /// will get.
    prime: Option<u64>,
}

impl Streams {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let standing = Lane {
            streams: true,
            prime: Some(1),
            ..Lane::default()
        };
        Self {
            bounds,
            lanes: BTreeMap::from([(STANDING, Box::new(standing))]),
            sent: VecDeque::new(),
            sent_bytes: 0,
            next_seq: 2,
            next_lane: 1,
            next_generation: 1,
        }
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.bounds.budget
    }

    /// A lane for a POST that carries `calls` requests.
    pub(crate) fn open(&mut self, calls: usize, streams: bool) -> (u32, oneshot::Receiver<First>) {
        let number = self.next_lane;
        self.next_lane += 1;
        let (first, receiver) = oneshot::channel();
        let prime = self.number();
        let lane = Lane {
            prime: Some(prime),
            delivered: prime,
            first: Some(first),
            opened: Some(Instant::now()),
            streams,
            owed: Some(calls),
            ..Lane::default()
        };
        self.lanes.insert(number, Box::new(lane));
        (number, receiver)
    }

    /// Forgets a POST whose client left before it got anything: it can't ask for more.
    pub(crate) fn abandon(&mut self, lane: u32) {
        let unread = |lane: &Lane| lane.first.is_some() || lane.reader == Some(UNCLAIMED);
        if self.lanes.get(&lane).is_some_and(|lane| unread(lane)) {
            self.cut(lane);
            self.lanes.remove(&lane);
        }
    }

    /// The lanes on which a POST waits or streams, oldest first, that take more than an answer.
    pub(crate) fn posts(&self) -> impl Iterator<Item = u32> {
        let open = |lane: &Lane| lane.streams && (lane.first.is_some() || lane.reader.is_some());
        self.lanes
            .iter()
            .filter(move |(n, lane)| **n != STANDING && open(lane))
            .map(|(n, _)| *n)
    }

    /// True when the standing stream has a reader.
    pub(crate) fn is_standing(&self) -> bool {
        self.lanes
            .get(&STANDING)
            .is_some_and(|lane| lane.reader.is_some())
    }

    /// True when any lane has a reader, or a POST waits.
    pub(crate) fn is_read(&self) -> bool {
        self.lanes
            .values()
            .any(|lane| lane.reader.is_some() || lane.first.is_some())
    }

    /// True when somebody reads a lane, or will in a moment.
    pub(crate) fn is_heard(&self, lane: u32) -> bool {
        let waits = |lane: &Lane| {
            let first = lane.first.as_ref();
            lane.reader.is_some() || first.is_some_and(|first| !first.is_closed())
        };
        self.lanes.get(&lane).is_some_and(|lane| waits(lane))
    }

    /// Puts a message that is no answer on a lane. False: that lane can't carry it.
    pub(crate) fn push(&mut self, number: u32, data: Bytes) -> bool {
        let Some(lane) = self.lanes.get_mut(&number).filter(|lane| lane.streams) else {
            return false;
        };
        if let Some(first) = lane.first.take() {
            let _ = first.send(First::Stream);
            // Its reader comes in a moment.
            lane.reader = Some(UNCLAIMED);
        }
        self.append(number, data);
        true
    }

    /// Puts an answer on a lane, the last one of a POST closes it. Without data the call has none.
    pub(crate) fn answer(&mut self, number: u32, data: Option<Bytes>) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        let last = match &mut lane.owed {
            Some(owed) => {
                *owed = owed.saturating_sub(1);
                *owed == 0
            }
            None => false,
        };
        if let Some(first) = lane.first.take() {
            if last {
                self.lanes.remove(&number);
                let _ = first.send(data.map_or(First::Nothing, First::Answer));
                return;
            }
            let _ = first.send(First::Stream);
            lane.reader = Some(UNCLAIMED);
        }
        if let Some(data) = data {
            self.append(number, data);
        } else if let Some(waker) = lane.waker.take() {
            waker.wake();
        }
        self.settle(number);
    }

    /// Turns a POST that still waits into a stream. False: it has its answer already.
    pub(crate) fn upgrade(&mut self, number: u32) -> bool {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return false;
        };
        if lane.first.take().is_none() {
            return lane.reader.is_some();
        }
        lane.reader = Some(UNCLAIMED);
        true
    }

    /// Turns POSTs that have got nothing since `before` into streams, so that proxies and clients
    /// see that they live.
    pub(crate) fn break_silence(&mut self, before: Instant) {
        let silent =
            |lane: &&mut Box<Lane>| lane.streams && lane.opened.is_some_and(|at| at <= before);
        for lane in self.lanes.values_mut().filter(silent) {
            if let Some(first) = lane.first.take() {
                lane.reader = Some(UNCLAIMED);
                let _ = first.send(First::Stream);
            }
        }
    }

    /// Lets a reader take over a lane; `after` is the last event that it has.
    pub(crate) fn attach(&mut self, lane: u32, after: Option<u64>) -> Attached {
        if lane >= self.next_lane || after.is_some_and(|seq| seq >= self.next_seq) {
            return Attached::Unknown;
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        let claim = Claim { lane, generation };
        let Some(open) = self.lanes.get_mut(&lane) else {
            let missed = self.sent_after(lane, after.unwrap_or_default());
            // It ended, and its client has all of it.
            return match missed.is_empty() {
                true => Attached::Over,
                false => Attached::Reading(Reading {
                    claim,
                    prime: None,
                    missed,
                }),
            };
        };
        if open.first.is_some() {
            return Attached::Unknown;
        }
        let from = after.unwrap_or(open.delivered);
        // What waits for a reader that is there is older than any number of now.
        let prime = match open.reader {
            Some(reader) if reader != UNCLAIMED => None,
            _ => open.prime,
        };
        let waits = !open.live.is_empty();
        open.reader = Some(generation);
        if let Some(old) = open.waker.take() {
            old.wake();
        }
        let missed = self.sent_after(lane, from);
        if let (Some(last), Some(open)) = (missed.last(), self.lanes.get_mut(&lane)) {
            open.delivered = open.delivered.max(last.seq);
        }
        let prime = match prime {
            _ if after.is_some() => None,
            None if !waits => Some(self.number()),
            prime => prime,
        };
        Attached::Reading(Reading {
            claim,
            prime,
            missed,
        })
    }

    fn number(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// Takes events for a reader, at most `most` bytes (or one). `Ready` with none: the stream ends.
    pub(crate) fn poll(&mut self, claim: Claim, most: usize, waker: &Waker) -> Poll<Vec<Event>> {
        let Some(lane) = self.lanes.get_mut(&claim.lane) else {
            return Poll::Ready(Vec::new());
        };
        if lane.reader != Some(claim.generation) {
            return Poll::Ready(Vec::new());
        }
        if lane.live.is_empty() {
            if lane.owed == Some(0) {
                self.lanes.remove(&claim.lane);
                return Poll::Ready(Vec::new());
            }
            lane.waker = Some(waker.clone());
            return Poll::Pending;
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(event) = lane.live.front() {
            if !taken.is_empty() && bytes + event.data.len() > most {
                break;
            }
            bytes += event.data.len();
            lane.delivered = event.seq;
            taken.extend(lane.live.pop_front());
        }
        lane.bytes -= bytes;
        lane.waiting = (!lane.live.is_empty()).then(Instant::now);
        for event in &mut taken {
            self.bounds.budget.give_back(event);
            self.keep(claim.lane, event.clone());
        }
        Poll::Ready(taken)
    }

    /// A reader went away. True: it was the lane's current one.
    pub(crate) fn detach(&mut self, claim: Claim) -> bool {
        let current = self
            .lanes
            .get(&claim.lane)
            .is_some_and(|lane| lane.reader == Some(claim.generation));
        if current {
            self.cut(claim.lane);
        }
        current
    }

    /// Ends every lane once it was read; POSTs that wait get nothing.
    pub(crate) fn finish(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.owed = Some(0);
            if let Some(first) = lane.first.take() {
                let _ = first.send(First::Nothing);
            }
            if let Some(waker) = lane.waker.take() {
                waker.wake();
            }
        }
        self.lanes.retain(|_, lane| lane.reader.is_some());
    }

    /// Takes all lanes from their readers; what waited can be asked for again.
    pub(crate) fn cut_all(&mut self) {
        let read = |lane: &Lane| lane.reader.is_some_and(|reader| reader != UNCLAIMED);
        let lanes = self.lanes.iter().filter(|(_, lane)| read(lane));
        for lane in lanes.map(|(n, _)| *n).collect::<Vec<_>>() {
            self.cut(lane);
        }
    }

    /// Takes lanes from readers that take nothing.
    pub(crate) fn cut_stalled(&mut self, now: Instant) {
        let stalled = |lane: &Lane| lane.waiting.is_some_and(|since| since + STALL <= now);
        let cut: Vec<u32> = self
            .lanes
            .iter()
            .filter(|(_, lane)| stalled(lane))
            .map(|(n, _)| *n)
            .collect();
        for lane in cut {
            tracing::warn!(lane, "a reader takes nothing: its stream ends");
            self.cut(lane);
        }
    }

    fn append(&mut self, number: u32, data: Bytes) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        let mut event = Event {
            seq: self.next_seq,
            data,
            charged: false,
        };
        self.next_seq += 1;
        if lane.reader.is_none() {
            self.keep(number, event);
            return;
        }
        let size = event.data.len();
        let fits = lane.live.is_empty() || lane.bytes + size <= self.bounds.waiting;
        let affordable = self.bounds.budget.charge(&mut event) || lane.bytes + size <= FREE;
        lane.bytes += size;
        lane.waiting.get_or_insert_with(Instant::now);
        lane.live.push_back(event);
        if !(fits && affordable) {
            tracing::warn!(lane = number, "a reader is too slow: its stream ends");
            self.cut(number);
        } else if let Some(waker) = lane.waker.take() {
            waker.wake();
        }
    }

    /// Takes a lane from its reader; what waited can be asked for again.
    fn cut(&mut self, number: u32) {
        let prime = self.number();
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        lane.reader = None;
        lane.bytes = 0;
        lane.waiting = None;
        // Newer than what was read, older than what will wait for the next reader; what waits now
        // is older, and its own number will do.
        lane.prime = lane.live.is_empty().then_some(prime);
        if let Some(waker) = lane.waker.take() {
            waker.wake();
        }
        let live = std::mem::take(&mut lane.live);
        for mut event in live {
            self.bounds.budget.give_back(&mut event);
            self.keep(number, event);
        }
        self.settle(number);
    }

    /// Removes a POST's lane when nothing more will come on it and nobody reads it.
    fn settle(&mut self, number: u32) {
        let over = |lane: &Lane| lane.owed == Some(0) && lane.reader.is_none();
        if self.lanes.get(&number).is_some_and(|lane| over(lane)) {
            self.lanes.remove(&number);
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.forget_all();
        for event in self.lanes.values_mut().flat_map(|lane| &mut lane.live) {
            self.bounds.budget.give_back(event);
        }
    }
}

impl Budget {
    fn charge(&self, event: &mut Event) -> bool {
        event.charged = self.take(event.data.len());
        event.charged
    }

    fn give_back(&self, event: &mut Event) {
        if std::mem::take(&mut event.charged) {
            self.put(event.data.len());
        }
    }
}

/// The lane of `GET`: what belongs to no call.
pub(crate) const STANDING: u32 = 0;
/// The reader of a stream that was promised and not yet taken.
const UNCLAIMED: u64 = 0;
/// Waits for one reader even when the budget of all is used up.
const FREE: usize = 64 * 1024;

#[cfg(test)]
mod tests;
