//! What waits to be read by a session's client, stream by stream.
//!
//! Owns the lanes (lane 0 is the standing stream, each POST that is answered by a stream has one of
//! its own) and what was sent and may be asked for again. It must never know HTTP or JSON-RPC: an
//! event is bytes. Invariants: an event is on one lane only; what nobody reads is bounded: a lane
//! that holds too much loses its reader, never the other way round.

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Poll, Waker},
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use crate::session::budget::{Parcel, Share};

/// One event of a stream.
#[derive(Debug)]
pub(crate) struct Event {
    /// Unique in the session, growing.
    pub(crate) seq: u64,
    /// One JSON-RPC message; empty for a priming event.
    pub(crate) parcel: Parcel,
}

impl Claim {
    /// An event that carries nothing but its id, if one is to begin the stream.
    pub(crate) fn prime(&self) -> Option<Event> {
        let seq = self.prime?;
        let parcel = Bytes::new().into();
        Some(Event { seq, parcel })
    }
}

impl Event {
    /// The same for another time; what is kept for that has a bound of its own and isn't charged.
    fn again(&self) -> Self {
        Self {
            seq: self.seq,
            parcel: self.parcel.data.clone().into(),
        }
    }

    fn len(&self) -> usize {
        self.parcel.data.len()
    }
}

/// What a POST gets first.
#[derive(Debug)]
pub(crate) enum First {
    /// Its answer, alone: a JSON body will do.
    Answer(Parcel),
    /// The error that stands for an answer for which there is no room.
    NoRoom(Bytes),
    /// Something else came before the answer: a stream is needed.
    Stream,
    /// There will be no answer.
    Nothing,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// With a message.
    Message(Parcel),
    /// With an answer that there is no room for; the error that stands for it.
    NoRoom(Bytes),
    /// Without one: it was cancelled.
    Nothing,
}

/// A reader's claim to a lane; a later one takes it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) lane: u32,
    generation: u64,
    /// What it missed: events after the first number and before the second.
    missed: (u64, u64),
    /// A number for an event that carries nothing but its id: below all that comes after it.
    prime: Option<u64>,
}

/// Bounds of one session's streams.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// Bytes kept of what was sent.
    pub(crate) replay: usize,
    /// Bytes that may wait for one reader (or one event, however long).
    pub(crate) waiting: usize,
    /// For what is on its way to clients.
    pub(crate) share: Share,
}

/// The lanes of one session.
#[derive(Debug)]
pub(crate) struct Streams {
    bounds: Bounds,
    lanes: BTreeMap<u32, Lane>,
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    next_seq: u64,
    next_lane: u32,
    next_generation: u64,
}

#[derive(Debug)]
struct Sent {
    lane: u32,
    event: Event,
    at: Instant,
}

#[derive(Debug, Default)]
struct Lane {
    live: VecDeque<Event>,
    bytes: usize,
    reader: Option<u64>,
    waker: Option<Waker>,
    /// A POST that has got nothing yet.
    first: Option<oneshot::Sender<First>>,
    /// Its client takes a stream.
    streams: bool,
    /// A number below those of all its events.
    born: u64,
    /// Answers still to come; `None` on the standing stream.
    owed: Option<usize>,
    /// The last event that a reader took.
    delivered: u64,
}

impl Streams {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let standing = Lane {
            streams: true,
            ..Lane::default()
        };
        Self {
            bounds,
            lanes: BTreeMap::from([(STANDING, standing)]),
            sent: VecDeque::new(),
            sent_bytes: 0,
            next_seq: 1,
            next_lane: 1,
            next_generation: 1,
        }
    }

    /// A lane for a POST that carries `calls` requests.
    pub(crate) fn open(&mut self, calls: usize, streams: bool) -> (u32, oneshot::Receiver<First>) {
        let number = self.next_lane;
        self.next_lane += 1;
        let (first, receiver) = oneshot::channel();
        let lane = Lane {
            first: Some(first),
            streams,
            owed: Some(calls),
            born: self.next_seq,
            ..Lane::default()
        };
        self.next_seq += 1;
        self.lanes.insert(number, lane);
        (number, receiver)
    }

    /// Forgets a POST whose client left before it got anything: it can't ask for more.
    pub(crate) fn abandon(&mut self, lane: u32) {
        let unread = |lane: &Lane| lane.first.is_some() || lane.reader == Some(UNCLAIMED);
        if self.lanes.get(&lane).is_some_and(unread) {
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
        self.append(number, data.into());
        true
    }

    /// Makes a parcel of a message; `Err` when there is no room for it.
    pub(crate) fn weigh(&self, data: Bytes) -> Result<Parcel, ()> {
        if data.len() <= FREE {
            return Ok(data.into());
        }
        let charge = self.bounds.share.charge(data.len()).ok_or(())?;
        Ok(Parcel {
            data,
            charge: Some(charge),
        })
    }

    /// Puts an answer on a lane, the last one of a POST closes it.
    pub(crate) fn answer(&mut self, number: u32, answer: Answer) {
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
                let _ = first.send(match answer {
                    Answer::Message(parcel) => First::Answer(parcel),
                    Answer::NoRoom(error) => First::NoRoom(error),
                    Answer::Nothing => First::Nothing,
                });
                return;
            }
            let _ = first.send(First::Stream);
            lane.reader = Some(UNCLAIMED);
        }
        match answer {
            Answer::Message(parcel) => self.append(number, parcel),
            Answer::NoRoom(error) => self.append(number, error.into()),
            Answer::Nothing => {
                if let Some(waker) = lane.waker.take() {
                    waker.wake();
                }
            }
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

    /// Lets a reader take over a lane; `after` is the last event that it has. What it missed it
    /// gets by [`Streams::replay`]. `None`: there never was such a lane.
    pub(crate) fn attach(&mut self, lane: u32, after: Option<u64>) -> Option<Claim> {
        if lane >= self.next_lane || after.is_some_and(|seq| seq >= self.next_seq) {
            return None;
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        let until = self.next_seq;
        let mut from = after.unwrap_or_default();
        let mut prime = None;
        if let Some(open) = self.lanes.get_mut(&lane) {
            if open.first.is_some() {
                return None;
            }
            from = after.unwrap_or(open.delivered);
            if lane != STANDING {
                prime = Some(open.born);
            } else if open.live.is_empty() {
                // What was missed comes before it.
                prime = Some(until);
                self.next_seq += 1;
            }
            open.reader = Some(generation);
            if let Some(old) = open.waker.take() {
                old.wake();
            }
        }
        Some(Claim {
            lane,
            generation,
            missed: (from, until),
            prime,
        })
    }

    /// Some of what a reader missed, at most `most` bytes (or one event); nothing once it has all
    /// that is left. It is read piece by piece, so that many readers that don't read on hold
    /// nothing of it.
    pub(crate) fn replay(&self, claim: &mut Claim, most: usize) -> Vec<Event> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let (from, until) = claim.missed;
        let missed = self.sent.iter().filter(|sent| {
            let seq = sent.event.seq;
            sent.lane == claim.lane && seq > from && seq < until
        });
        for sent in missed {
            if !taken.is_empty() && bytes + sent.event.len() > most {
                break;
            }
            bytes += sent.event.len();
            claim.missed.0 = sent.event.seq;
            taken.push(sent.event.again());
        }
        taken
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
            if !taken.is_empty() && bytes + event.len() > most {
                break;
            }
            bytes += event.len();
            lane.delivered = event.seq;
            taken.extend(lane.live.pop_front());
        }
        lane.bytes -= bytes;
        for event in &taken {
            self.keep(claim.lane, event.again());
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

    /// Forgets what was sent before `before`.
    pub(crate) fn forget(&mut self, before: Instant) {
        while self.sent.front().is_some_and(|sent| sent.at < before) {
            self.drop_oldest();
        }
    }

    fn append(&mut self, number: u32, parcel: Parcel) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        let mut event = Event {
            seq: self.next_seq,
            parcel,
        };
        self.next_seq += 1;
        if lane.reader.is_none() {
            self.keep(number, event);
            return;
        }
        let size = event.len();
        let fits = lane.live.is_empty() || lane.bytes + size <= self.bounds.waiting;
        if event.parcel.charge.is_none() {
            event.parcel.charge = self.bounds.share.charge(size);
        }
        let affordable = event.parcel.charge.is_some() || lane.bytes + size <= FREE;
        lane.bytes += size;
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
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        lane.reader = None;
        lane.bytes = 0;
        if let Some(waker) = lane.waker.take() {
            waker.wake();
        }
        let live = std::mem::take(&mut lane.live);
        for event in live {
            self.keep(number, event);
        }
        self.settle(number);
    }

    /// Removes a POST's lane when nothing more will come on it and nobody reads it.
    fn settle(&mut self, number: u32) {
        let over = |lane: &Lane| lane.owed == Some(0) && lane.reader.is_none();
        if self.lanes.get(&number).is_some_and(over) {
            self.lanes.remove(&number);
        }
    }

    fn keep(&mut self, lane: u32, mut event: Event) {
        event.parcel.charge = None;
        self.sent_bytes += event.len() + EVENT_COST;
        self.sent.push_back(Sent {
            lane,
            event,
            at: Instant::now(),
        });
        while self.sent_bytes > self.bounds.replay && !self.sent.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(old) = self.sent.pop_front() {
            self.sent_bytes -= old.event.len() + EVENT_COST;
        }
        if self.sent.is_empty() {
            self.sent = VecDeque::new();
        }
    }
}

/// The lane of `GET`: what belongs to no call.
pub(crate) const STANDING: u32 = 0;
/// The reader of a stream that was promised and not yet taken.
const UNCLAIMED: u64 = 0;
/// What an event costs beside its bytes.
const EVENT_COST: usize = 96;
/// So much passes to one reader even when there is no room: errors, pings, small answers.
const FREE: usize = 4 * 1024;
