//! What a request without a session gets back: one JSON body, or a stream that ends with it.
//!
//! Owns the choice between the two and what waits for a reader. Invariants: no status is committed
//! before the first message; a stream has no ids, so nothing is kept once it was taken; a reader who
//! is too slow misses what can be missed, never the answer.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use parking_lot::Mutex;

use crate::{
    http::keep_alive::KeepAlive,
    session::budget::{Leaving, Spent},
};

/// The way back to a client.
pub(super) struct Reply {
    inner: Mutex<Inner>,
}

struct Inner {
    events: VecDeque<Bytes>,
    waiting: usize,
    end: Option<End>,
    /// The client takes a stream.
    streams: bool,
    /// Its end was said.
    over: bool,
    waker: Option<Waker>,
}

/// The message that ends a reply.
pub(super) struct End {
    pub(super) body: Answer,
    /// Where nothing went before it.
    pub(super) status: StatusCode,
}

/// A body, charged to a budget where it is large.
pub(super) enum Answer {
    Whole(Bytes),
    Large(Arc<Leaving>),
}

/// What comes first.
pub(super) enum First {
    End(End),
    Stream,
}

/// Who has to know that a client left.
pub(super) trait Owner: Send + Sync {
    /// The reader of `reply` went away before its end.
    fn left(&self, reply: &Arc<Reply>);
}

/// A reply that is waited for or read; dropped before its end, it tells its owner.
pub(super) struct Held {
    pub(super) reply: Arc<Reply>,
    owner: Arc<dyn Owner>,
}

impl Held {
    pub(super) fn new(reply: Arc<Reply>, owner: Arc<dyn Owner>) -> Self {
        Self { reply, owner }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.reply.is_over() {
            self.owner.left(&self.reply);
        }
    }
}

impl Reply {
    pub(super) fn new(streams: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                events: VecDeque::new(),
                waiting: 0,
                end: None,
                streams,
                over: false,
                waker: None,
            }),
        })
    }

    /// Puts a notification on the way. False: the reader is too slow for it, or takes none.
    pub(super) fn push(&self, data: Bytes) -> bool {
        let mut inner = self.inner.lock();
        let full = !inner.events.is_empty() && inner.waiting + data.len() > MAX_WAITING;
        if inner.over || !inner.streams || full {
            return false;
        }
        inner.waiting += data.len() + EVENT_COST;
        inner.events.push_back(data);
        wake(inner);
        true
    }

    /// Ends it. False: it has ended before.
    pub(super) fn finish(&self, end: End) -> bool {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.over, true) {
            return false;
        }
        inner.end = Some(end);
        wake(inner);
        true
    }

    /// Ends it without a word: what is on its way still leaves.
    pub(super) fn cut(&self) {
        let mut inner = self.inner.lock();
        inner.over = true;
        wake(inner);
    }

    pub(super) fn is_over(&self) -> bool {
        self.inner.lock().over
    }

    /// Waits for what comes first.
    pub(super) fn poll_first(&self, cx: &mut Context<'_>) -> Poll<First> {
        let mut inner = self.inner.lock();
        if !inner.events.is_empty() {
            return Poll::Ready(First::Stream);
        }
        match inner.end.take() {
            Some(end) => Poll::Ready(First::End(end)),
            None if inner.over => Poll::Ready(First::Stream),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        let mut inner = self.inner.lock();
        if !inner.events.is_empty() {
            inner.waiting = 0;
            let events = std::mem::take(&mut inner.events);
            return Poll::Ready(Some(Next::Events(events)));
        }
        match inner.end.take() {
            Some(end) => Poll::Ready(Some(Next::End(end.body))),
            None if inner.over => Poll::Ready(None),
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Without the lock: the reader may run at once.
fn wake(mut inner: parking_lot::MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

enum Next {
    Events(VecDeque<Bytes>),
    End(Answer),
}

/// A request that is still on its way to its child; the message, where it got no further.
pub(super) type Arriving = Pin<Box<dyn Future<Output = Result<Held, Bytes>> + Send>>;

/// A reply as a stream of server-sent events.
pub(crate) struct Live {
    source: Source,
    /// A large answer that leaves bit by bit, and what follows it.
    large: Option<Arc<Leaving>>,
    keep_alive: KeepAlive,
}

/// Where its events come from.
enum Source {
    Arriving(Arriving),
    Held(Held),
    /// Nothing follows.
    Over,
}

impl Live {
    pub(super) fn new(held: Held) -> Self {
        Self::from(Source::Held(held))
    }

    /// One that has heard nothing for so long that it says so at once.
    pub(super) fn arriving(arriving: Arriving) -> Self {
        let mut live = Self::from(Source::Arriving(arriving));
        live.keep_alive.hurry();
        live
    }

    fn from(source: Source) -> Self {
        Self {
            source,
            large: None,
            keep_alive: KeepAlive::new(),
        }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Spent>>> {
        if let Source::Arriving(arriving) = &mut self.source {
            match arriving.as_mut().poll(cx) {
                Poll::Pending => return self.keep_alive.poll(cx).map(|b| b.map(Ok)),
                Poll::Ready(Ok(held)) => self.source = Source::Held(held),
                Poll::Ready(Err(message)) => {
                    self.source = Source::Over;
                    let mut text = BytesMut::new();
                    event(&mut text, &message);
                    return Poll::Ready(Some(Ok(text.freeze())));
                }
            }
        }
        if let Some(large) = &self.large {
            self.keep_alive.moved();
            return Poll::Ready(Some(match large.next() {
                Ok(Some(bit)) => Ok(bit),
                Ok(None) => {
                    self.large = None;
                    Ok(Bytes::from_static(b"\n\n"))
                }
                Err(spent) => Err(spent),
            }));
        }
        let Source::Held(held) = &self.source else {
            return Poll::Ready(None);
        };
        let next = match held.reply.poll_next(cx) {
            Poll::Pending => return self.keep_alive.poll(cx).map(|b| b.map(Ok)),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(next)) => next,
        };
        self.keep_alive.moved();
        let mut text = BytesMut::new();
        match next {
            Next::Events(events) => events.iter().for_each(|data| event(&mut text, data)),
            Next::End(Answer::Whole(data)) => event(&mut text, &data),
            Next::End(Answer::Large(large)) => {
                text.extend_from_slice(EVENT);
                self.large = Some(large);
            }
        }
        Poll::Ready(Some(Ok(text.freeze())))
    }
}

fn event(text: &mut BytesMut, data: &[u8]) {
    text.reserve(data.len() + EVENT.len() + 2);
    text.extend_from_slice(EVENT);
    text.extend_from_slice(data);
    text.extend_from_slice(b"\n\n");
}

const EVENT: &[u8] = b"event: message\ndata: ";
/// Bytes of notifications that wait for one reader; progress and log lines beyond that are dropped.
const MAX_WAITING: usize = 256 * 1024;
/// What an event costs beside its bytes.
const EVENT_COST: usize = 64;
