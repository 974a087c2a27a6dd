//! Response bodies: a whole one, or a session's stream.
//!
//! Invariants: one `data:` line per event; a stream gives its lane back when it is dropped; several
//! events that wait leave together.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::{
    http::guard::Busy,
    session::{
        Budget, Session,
        streams::{Claim, Event},
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
    /// Events as they come.
    Events(Box<Events>),
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

    pub(crate) fn events(events: Events) -> Self {
        Self {
            content: Content::Events(Box::new(events)),
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
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut self.get_mut().content {
            Content::Full(bytes) => Poll::Ready(bytes.take()),
            Content::Events(events) => events.poll_next(cx),
        };
        data.map(|data| data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Content::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Events(_) => SizeHint::default(),
        }
    }
}

/// What stands before an event's number in its `id:`.
#[derive(Debug, Clone)]
pub(crate) enum EventIds {
    /// The number of the lane (Streamable HTTP: the session's id is a header of its own).
    Lane,
    /// The session's id (HTTP+SSE: a client that reconnects has nothing else to show).
    Session(String),
}

/// A lane as a stream of server-sent events.
pub(crate) struct Events {
    session: Arc<Session>,
    budget: Arc<Budget>,
    claim: Claim,
    ids: EventIds,
    /// Encoded and not yet taken.
    ready: VecDeque<Bytes>,
    keep_alive: Pin<Box<Sleep>>,
    last: Instant,
}

impl Events {
    /// Reads a lane; `missed` comes first.
    pub(crate) fn new(
        session: Arc<Session>,
        claim: Claim,
        ids: EventIds,
        missed: &[Event],
    ) -> Self {
        let now = Instant::now();
        let keep_alive = Box::pin(tokio::time::sleep_until(now + KEEP_ALIVE));
        let mut events = Self {
            budget: session.budget(),
            session,
            claim,
            ids,
            ready: VecDeque::new(),
            keep_alive,
            last: now,
        };
        events.encode(missed);
        events
    }

    /// Puts raw text before what comes.
    pub(crate) fn preface(&mut self, text: Bytes) {
        self.ready.push_front(text);
    }

    /// Begins with an event that has an id and nothing else, so that the stream can be resumed from
    /// its start (2025-11-25, basic/transports). Its id says what the reader had before, since other
    /// events may have been numbered already.
    pub(crate) fn prime(&mut self) {
        let Claim {
            lane,
            from,
            generation,
        } = self.claim;
        self.preface(Bytes::from(format!(
            "id: {lane}-{from}-{generation}\nretry: {RETRY}\ndata: \n\n"
        )));
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                self.last = Instant::now();
                return Poll::Ready(Some(bytes));
            }
            let claim = self.claim;
            let polled = self
                .session
                .with_streams(|streams| streams.poll(claim, CHUNK, cx.waker()));
            match polled {
                Poll::Ready(events) if events.is_empty() => return Poll::Ready(None),
                Poll::Ready(events) => self.encode(&events),
                Poll::Pending => return self.poll_keep_alive(cx),
            }
        }
    }

    fn poll_keep_alive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while self.keep_alive.as_mut().poll(cx).is_ready() {
            // The timer is set anew only here, not for every event.
            let due = self.last + KEEP_ALIVE;
            let now = Instant::now();
            if due > now {
                self.keep_alive.as_mut().reset(due);
                continue;
            }
            self.last = now;
            self.keep_alive.as_mut().reset(now + KEEP_ALIVE);
            return Poll::Ready(Some(Bytes::from_static(b": keep-alive\n\n")));
        }
        Poll::Pending
    }

    /// Small events leave in one piece; a large one is not copied.
    fn encode(&mut self, events: &[Event]) {
        let small: usize = events
            .iter()
            .map(|e| e.data.len())
            .filter(|len| *len < LARGE)
            .sum();
        let mut text = BytesMut::with_capacity(small + events.len() * EVENT_FRAME);
        for event in events {
            text.extend_from_slice(b"event: message\n");
            self.put_id(event, &mut text);
            text.extend_from_slice(b"data: ");
            if event.data.len() >= LARGE {
                self.ready.push_back(text.split().freeze());
                self.ready
                    .push_back(self.budget.keep_holding(event.data.clone()));
            } else {
                text.extend_from_slice(&event.data);
            }
            text.extend_from_slice(b"\n\n");
        }
        if !text.is_empty() {
            self.ready.push_back(text.freeze());
        }
    }

    fn put_id(&self, event: &Event, text: &mut BytesMut) {
        use std::fmt::Write as _;
        text.put_slice(b"id: ");
        // Writing to memory can't fail.
        let _ = match &self.ids {
            EventIds::Lane => write!(text, "{}-{}", self.claim.lane, event.seq),
            EventIds::Session(id) => write!(text, "{id}-{}", event.seq),
        };
        text.put_u8(b'\n');
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.session.detach(self.claim);
    }
}

/// A silent stream says this often that it is there: proxies cut what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Taken from a lane at once, bytes.
const CHUNK: usize = 64 * 1024;
/// Copying this much costs more than a piece of its own.
const LARGE: usize = 16 * 1024;
/// `event:`, `id:`, `data:` and line ends.
const EVENT_FRAME: usize = 80;
/// How long a client shall wait before it resumes, milliseconds.
const RETRY: u32 = 1000;
