//! The read side of an HTTP/1 connection: which bytes hyper may see, and until when they must come.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{Watch, body::Body, fault::Fault, head::Head, linger::Refusal, response::Response};

/// One connection. Requests are let through one by one: the next head isn't looked at before the
/// response to the one before it has been written.
#[derive(Debug)]
pub(super) struct Http1 {
    stage: Stage,
    request: Request,
    response: Response,
    /// hyper has a head and its response isn't complete.
    in_flight: bool,
    /// hyper has seen bytes of the current request.
    delivered: bool,
    /// No request came yet.
    first: bool,
    /// A byte of the current head came.
    begun: bool,
    /// When the current wait began: for a head, through a head, through a body.
    since: Instant,
    /// Bytes of the current body.
    received: u64,
    held: Held,
    /// Who waits for the end of the response.
    reader: Option<Waker>,
}

#[derive(Debug)]
enum Stage {
    Open,
    Refusing(Box<Refusal>),
    /// The refusal is out and nobody speaks any more.
    Refused(Fault),
    /// Closed without a word.
    Closed,
    /// hyper has to end what it began.
    Failed(Fault),
}

#[derive(Debug)]
enum Request {
    Head(Head),
    Body(Body),
    /// Complete, but not answered.
    Done,
}

/// Bytes that came before hyper may have them: part of a head, or of the next request. Never more
/// than a head and one read.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    start: usize,
    /// So many of them may pass.
    cleared: usize,
}

impl Http1 {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Open,
            request: Request::Head(Head::default()),
            response: Response::default(),
            in_flight: false,
            delivered: false,
            first: true,
            begun: false,
            since: Instant::now(),
            received: 0,
            held: Held::default(),
            reader: None,
        }
    }

    pub(super) fn is_refusing(&self) -> bool {
        matches!(self.stage, Stage::Refusing(_) | Stage::Refused(_))
    }

    /// True when the peer may still be sending something that nobody will read.
    pub(super) fn has_unread(&self) -> bool {
        match self.stage {
            Stage::Refusing(_) | Stage::Refused(_) | Stage::Closed => false,
            Stage::Failed(_) => true,
            Stage::Open => matches!(self.request, Request::Body(_)) || !self.held.is_empty(),
        }
    }

    pub(super) fn poll_read<IO: AsyncRead + AsyncWrite>(
        &mut self,
        mut io: Pin<&mut IO>,
        watch: &mut Watch<'_>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.stage {
                Stage::Open => {}
                Stage::Closed => return Poll::Ready(Ok(())),
                Stage::Failed(fault) | Stage::Refused(fault) => {
                    return Poll::Ready(Err((*fault).into()));
                }
                Stage::Refusing(refusal) => {
                    std::task::ready!(refusal.poll(io.as_mut(), watch, cx));
                    self.stage = Stage::Refused(refusal.fault());
                    continue;
                }
            }
            if !self.held.is_empty() {
                if self.unhold(watch, buf) {
                    return Poll::Ready(Ok(()));
                }
                if !matches!(self.stage, Stage::Open) {
                    continue;
                }
                if matches!(self.request, Request::Done) {
                    self.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            let before = buf.filled().len();
            match io.as_mut().poll_read(cx, buf) {
                Poll::Ready(Ok(())) => {
                    if buf.filled().len() == before || self.fresh(watch, buf, before) {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if !self.is_overdue(watch, cx) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Passes held bytes on as far as they may; true when there were any.
    fn unhold(&mut self, watch: &Watch<'_>, buf: &mut ReadBuf<'_>) -> bool {
        if self.held.cleared == 0 && !matches!(self.request, Request::Done) {
            let mut held = std::mem::take(&mut self.held);
            match self.admit(held.unread(), watch) {
                Ok(cleared) => held.cleared = cleared,
                Err(fault) => self.fail(fault),
            }
            self.held = held;
        }
        let passed = self.held.pass(buf);
        self.delivered |= passed;
        passed
    }

    /// Treats what was just read into the buffer; true when hyper has something to look at.
    fn fresh(&mut self, watch: &Watch<'_>, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let bytes = buf.filled().get(before..).unwrap_or_default();
        let admitted = if !self.held.is_empty() || matches!(self.request, Request::Done) {
            Ok(0)
        } else {
            self.admit(bytes, watch)
        };
        match admitted {
            Ok(admitted) => {
                self.held.keep(bytes.get(admitted..).unwrap_or_default());
                buf.set_filled(before + admitted);
                self.delivered |= admitted > 0;
                admitted > 0
            }
            Err(fault) => {
                buf.set_filled(before);
                self.fail(fault);
                false
            }
        }
    }

    /// How many of the bytes hyper may see: those up to the end of the current request, none as
    /// long as its head isn't complete.
    fn admit(&mut self, bytes: &[u8], watch: &Watch<'_>) -> Result<usize, Fault> {
        let mut admitted = 0;
        if let Request::Head(head) = &mut self.request {
            if !std::mem::replace(&mut self.begun, true) {
                self.since = Instant::now();
            }
            let Some(parsed) = head.advance(bytes, watch.config.max_head)? else {
                return Ok(0);
            };
            admitted = parsed.len;
            self.response.expect(parsed.head_method);
            self.in_flight = true;
            self.first = false;
            self.received = 0;
            if !parsed.body.is_done() {
                self.since = Instant::now();
            }
            self.request = Request::Body(parsed.body);
        }
        if let Request::Body(body) = &mut self.request {
            let used = body.advance(bytes.get(admitted..).unwrap_or_default())?;
            admitted += used;
            self.received += used as u64;
            if body.is_done() {
                self.request = Request::Done;
                self.settle();
            }
        }
        Ok(admitted)
    }

    /// Makes way for the next request when this one is complete and answered.
    fn settle(&mut self) -> bool {
        let settled = matches!(self.request, Request::Done) && !self.in_flight;
        if settled {
            self.request = Request::Head(Head::default());
            self.delivered = false;
            self.begun = false;
            self.since = Instant::now();
        }
        settled
    }

    /// Bytes of a response were written.
    pub(super) fn wrote(&mut self, watch: &mut Watch<'_>, cx: &mut Context<'_>, bytes: &[u8]) {
        if !self.response.sent(bytes) {
            return;
        }
        self.in_flight = false;
        if !self.settle() {
            return;
        }
        match self.reader.take() {
            Some(reader) => reader.wake(),
            // Nothing else might poll the connection before it is idle for too long.
            None => {
                watch
                    .clock
                    .is_due(cx, self.since + watch.config.idle_timeout);
            }
        }
    }

    /// hyper may have seen the head: then it gets an error. It hasn't: then the peer gets an answer.
    fn fail(&mut self, fault: Fault) {
        tracing::debug!(%fault, answered = !self.delivered, "request refused");
        self.stage = if self.delivered {
            Stage::Failed(fault)
        } else {
            Stage::Refusing(Box::new(Refusal::new(fault)))
        };
    }

    /// True when the deadline of the current wait has passed and the stage has changed.
    fn is_overdue(&mut self, watch: &mut Watch<'_>, cx: &mut Context<'_>) -> bool {
        let config = watch.config;
        let (limit, fault) = match &self.request {
            Request::Done => return false,
            Request::Head(_) if self.begun => (config.header_timeout, Some(Fault::HeadTimeout)),
            Request::Head(_) if self.first => (config.header_timeout, None),
            Request::Head(_) => (config.idle_timeout, None),
            Request::Body(_) => {
                let earned = self.received / u64::from(config.body_rate.max(1));
                let limit = config.body_timeout + Duration::from_secs(earned);
                (limit, Some(Fault::BodyTimeout))
            }
        };
        if !watch.clock.is_due(cx, self.since + limit) {
            return false;
        }
        match fault {
            Some(fault) => self.fail(fault),
            None => self.stage = Stage::Closed,
        }
        true
    }
}

impl Held {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn keep(&mut self, bytes: &[u8]) {
        // What has passed is dropped here too: a peer that always sends a part of the next head
        // along never lets the whole become empty.
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Hands cleared bytes on; true when there were any.
    fn pass(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let passed = self.cleared.min(buf.remaining());
        buf.put_slice(self.unread().get(..passed).unwrap_or_default());
        self.start += passed;
        self.cleared -= passed;
        if self.start == self.bytes.len() {
            // An idle connection holds no memory for what it once held.
            *self = Self::default();
        }
        passed > 0
    }
}
