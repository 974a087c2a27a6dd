//! Response bodies: a whole one, or a session's stream.
//!
//! Invariants: one `data:` line per event; a stream gives its lane back when it is dropped; several
//! events that wait leave together.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{Response, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};

use crate::{
    http::{event::Framing, guard::Busy, keep_alive::KeepAlive, stateless::Live},
    session::{
        Budget, Session,
        budget::{LARGE, Leaving, Spent},
        streams::{Claim, Event, Reading},
    },
};

/// A response body.
pub(crate) struct Body {
    content: Content,
    /// Keeps an HTTP/2 connection from being idle until the body was sent.
    _busy: Option<Busy>,
}

enum Content {
    /// All of it; `None` once it was taken.
    Full(Option<Bytes>),
    /// All of it, bit by bit.
    Large(Arc<Leaving>),
    /// Events as they come.
    Events(Box<Events>),
    /// What a request without a session gets as it comes.
    Live(Box<Live>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self {
            content: Content::Full(None),
            _busy: None,
        }
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self {
            content: Content::Full(Some(bytes)),
            _busy: None,
        }
    }

    pub(crate) fn large(leaving: Arc<Leaving>) -> Self {
        Self {
            content: Content::Large(leaving),
            _busy: None,
        }
    }

    pub(crate) fn events(events: Events) -> Self {
        Self {
            content: Content::Events(Box::new(events)),
            _busy: None,
        }
    }

    pub(crate) fn live(live: Live) -> Self {
        Self {
            content: Content::Live(Box::new(live)),
            _busy: None,
        }
    }

    /// The same body, during which a connection is busy.
    pub(crate) fn with(self, busy: Busy) -> Self {
        Self {
            _busy: Some(busy),
            ..self
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Spent;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Spent>>> {
        let data = match &mut self.get_mut().content {
            Content::Full(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Content::Large(leaving) => Poll::Ready(leaving.next().transpose()),
            Content::Events(events) => events.poll_next(cx),
            Content::Live(live) => live.poll_next(cx),
        };
        data.map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::Large(leaving) => leaving.is_over(),
            Content::Events(_) | Content::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Large(leaving) => SizeHint::with_exact(leaving.left() as u64),
            Content::Events(_) | Content::Live(_) => SizeHint::default(),
        }
    }
}

/// What is answered to HEAD: all but the body. HTTP/1 drops it by itself; on HTTP/2 it would be sent,
/// and clients take that for a breach of the protocol.
pub(crate) fn head_only(mut response: Response<Body>) -> Response<Body> {
    let length = http_body::Body::size_hint(response.body()).exact();
    if let Some(length) = length.filter(|length| *length > 0) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response.map(|_| Body::empty())
}

/// What stands before an event's number in its `id:`.
#[derive(Debug, Clone)]
pub(crate) enum EventIds {
    /// The number of the lane (Streamable HTTP: the session's id is a header of its own).
    Lane,
    /// The session's id (HTTP+SSE: a client that reconnects has nothing else to show).
    Session(String),
}

/// What is ready to be taken.
enum Piece {
    Small(Bytes),
    Large(Arc<Leaving>),
}

/// A lane as a stream of server-sent events.
pub(crate) struct Events {
    session: Arc<Session>,
    budget: Arc<Budget>,
    claim: Claim,
    framing: Framing,
    /// Encoded and not yet taken.
    ready: VecDeque<Piece>,
    keep_alive: KeepAlive,
}

impl Events {
    /// Reads a lane; what was missed comes first. `primes`: before that an event that has an id and
    /// nothing else, so that the stream can be resumed from its start (2025-11-25,
    /// basic/transports).
    pub(crate) fn new(
        session: Arc<Session>,
        reading: &Reading,
        ids: EventIds,
        primes: bool,
    ) -> Self {
        let mut events = Self {
            budget: session.budget(),
            session,
            claim: reading.claim,
            framing: match ids {
                EventIds::Lane => Framing::new(&reading.claim.lane.to_string()),
                EventIds::Session(id) => Framing::new(&id),
            },
            ready: VecDeque::new(),
            keep_alive: KeepAlive::new(),
        };
        if let Some(seq) = reading.prime.filter(|_| primes) {
            events.prime(seq);
        }
        // It is kept for others to ask for again, and charged there.
        events.encode(&reading.missed, |budget, data| Ok(budget.send_free(data)));
        events
    }

    /// Puts raw text before what comes.
    pub(crate) fn preface(&mut self, text: Bytes) {
        self.ready.push_front(Piece::Small(text));
    }

    fn prime(&mut self, seq: u64) {
        let mut text = BytesMut::with_capacity(64);
        self.framing.id(seq, &mut text);
        text.extend_from_slice(RETRY_FIELD);
        text.extend_from_slice(b"data: \n\n");
        self.ready.push_back(Piece::Small(text.freeze()));
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Spent>>> {
        loop {
            if let Some(bit) = self.next_ready().transpose() {
                self.keep_alive.moved();
                return Poll::Ready(Some(bit));
            }
            let claim = self.claim;
            let polled = self
                .session
                .with_streams(|streams| streams.poll(claim, CHUNK, cx.waker()));
            match polled {
                Poll::Ready(events) if events.is_empty() => return Poll::Ready(None),
                Poll::Ready(events) => self.encode(&events, Budget::send),
                Poll::Pending => return self.keep_alive.poll(cx).map(|bytes| bytes.map(Ok)),
            }
        }
    }

    /// The next bit of what is encoded.
    fn next_ready(&mut self) -> Result<Option<Bytes>, Spent> {
        while let Some(piece) = self.ready.front_mut() {
            let bit = match piece {
                Piece::Small(bytes) => Some(std::mem::take(bytes)).filter(|bit| !bit.is_empty()),
                Piece::Large(leaving) => leaving.next()?,
            };
            match bit {
                Some(bit) => return Ok(Some(bit)),
                None => drop(self.ready.pop_front()),
            }
        }
        Ok(None)
    }

    /// Small events leave in one piece; a large one is not copied.
    fn encode(
        &mut self,
        events: &[Event],
        send: impl Fn(&Arc<Budget>, Bytes) -> Result<Arc<Leaving>, Spent>,
    ) {
        let small: usize = events
            .iter()
            .map(|e| e.data.len())
            .filter(|len| *len < LARGE)
            .sum();
        let mut text = BytesMut::with_capacity(small + events.len() * self.framing.around());
        for event in events {
            self.framing.begin(event.seq, &mut text);
            if event.data.len() >= LARGE {
                self.ready.push_back(Piece::Small(text.split().freeze()));
                // It was charged until it was taken from its lane. Should others have been quicker
                // to use that, it leaves all the same: there is but one of them for each reader.
                let data = event.data.clone();
                let leaving = send(&self.budget, data.clone());
                let leaving = leaving.unwrap_or_else(|_| self.budget.send_free(data));
                self.ready.push_back(Piece::Large(leaving));
            } else {
                text.extend_from_slice(&event.data);
            }
            Framing::end(&mut text);
        }
        if !text.is_empty() {
            self.ready.push_back(Piece::Small(text.freeze()));
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.session.detach(self.claim);
    }
}

/// Taken from a lane at once, bytes.
const CHUNK: usize = 64 * 1024;
/// How long a client shall wait before it resumes, milliseconds.
const RETRY_FIELD: &[u8] = b"retry: 1000\n";
