//! Hard limits on a connection, between the stream and hyper.
//!
//! Owns the absolute deadlines of heads and bodies, the refusal of heads that two readers could
//! understand in two ways, and the end of peers that stop reading. It must never know routes,
//! principals or JSON-RPC. Invariants: hyper sees only whole, unambiguous heads and one request at
//! a time; the bytes that it sees are those that came; a refusal is never written into the middle
//! of another response; no wait on the peer is without a deadline.
//!
//! The refusals written here are the one place beside `reject` where status codes stand: they are
//! for bytes that never became a request.

mod activity;
mod body;
mod fault;
mod head;
mod http1;
mod http2;
mod linger;
mod response;
mod timer;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

pub use activity::{Activity, Busy};
pub use fault::Fault;

use http1::Http1;
use http2::Http2;
use linger::Linger;
use timer::Timer;

/// The limits of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// From accept to the first byte, and from a head's first byte to its last.
    pub header_timeout: Duration,
    /// Between two requests (HTTP/2: without any open request).
    pub idle_timeout: Duration,
    /// For a body, beside what `body_rate` grants.
    pub body_timeout: Duration,
    /// Bytes a second: each second's worth of body that arrived grants one more.
    pub body_rate: u32,
    /// No byte taken by the peer for this long, while some wait, ends the connection.
    pub write_stall: Duration,
    /// The largest head, bytes: request line, headers and the empty line.
    pub max_head: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            body_rate: 32 << 10,
            write_stall: Duration::from_secs(30),
            max_head: 16 << 10,
        }
    }
}

/// A stream under guard; hand it to hyper in place of the stream.
///
/// hyper must not have a header timeout of its own (`header_read_timeout(None)`): it would count
/// idle time as part of a head.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: IO,
    config: Config,
    mode: Mode,
    clock: Timer,
    stall: Stall,
    closing: Option<Linger>,
    fault: Arc<OnceLock<Fault>>,
}

#[derive(Debug)]
enum Mode {
    Http1(Box<Http1>),
    Http2(Http2),
}

impl<IO> Guarded<IO> {
    /// Guards HTTP/1.0 and 1.1; make it when the connection is ready, the clock starts here.
    pub fn http1(io: IO, config: &Config) -> Self {
        Self::new(io, config, Mode::Http1(Box::new(Http1::new())))
    }

    /// Guards HTTP/2, whose frames hyper limits itself: the preface has a deadline, a connection
    /// without open requests ends when it was idle long enough, a peer must go on reading.
    ///
    /// The service calls [`Activity::begin`] for each request, or it is cut off as idle.
    pub fn http2(io: IO, config: &Config, activity: Activity) -> Self {
        Self::new(io, config, Mode::Http2(Http2::new(activity)))
    }

    fn new(io: IO, config: &Config, mode: Mode) -> Self {
        Self {
            io,
            config: *config,
            mode,
            clock: Timer::default(),
            stall: Stall::default(),
            closing: None,
            fault: Arc::default(),
        }
    }

    /// What will be wrong with what is read, once something is.
    #[must_use]
    pub fn fault(&self) -> Arc<OnceLock<Fault>> {
        self.fault.clone()
    }

    /// The stream itself.
    pub fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let io = Pin::new(&mut this.io);
        match &mut this.mode {
            Mode::Http1(http1) => {
                let mut watch = Watch {
                    clock: &mut this.clock,
                    config: &this.config,
                };
                let read = http1.poll_read(io, &mut watch, cx, buf);
                if let Poll::Ready(Err(error)) = &read
                    && let Some(fault) = Fault::of(error)
                {
                    // Whoever reads may keep it to himself.
                    let _ = this.fault.set(fault);
                }
                read
            }
            Mode::Http2(http2) => {
                let before = buf.filled().len();
                match io.poll_read(cx, buf) {
                    Poll::Pending => http2.poll_deadline(&mut this.clock, &this.config, cx),
                    result => {
                        http2.read(buf.filled().len() - before);
                        result
                    }
                }
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_write()?;
        let result = Pin::new(&mut this.io).poll_write(cx, buf);
        let written = ready!(this.stall.watch(cx, result, this.config.write_stall))?;
        this.wrote(cx, buf.get(..written).unwrap_or(buf));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check_write()?;
        let result = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        let written = ready!(this.stall.watch(cx, result, this.config.write_stall))?;
        let mut left = written;
        for buf in bufs {
            let part = left.min(buf.len());
            this.wrote(cx, buf.get(..part).unwrap_or_default());
            left -= part;
            if left == 0 {
                break;
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_flush(cx);
        this.stall.watch(cx, result, this.config.write_stall)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            let result = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.stall.watch(cx, result, this.config.write_stall))?;
            match &this.mode {
                Mode::Http1(http1) if http1.has_unread() => {}
                Mode::Http1(_) | Mode::Http2(_) => return Poll::Ready(Ok(())),
            }
        }
        let linger = this.closing.get_or_insert_with(Linger::new);
        linger
            .poll(Pin::new(&mut this.io), &mut this.clock, cx)
            .map(Ok)
    }
}

impl<IO> Guarded<IO> {
    /// hyper has nothing to say while a refusal is on its way.
    fn check_write(&self) -> io::Result<()> {
        match &self.mode {
            Mode::Http1(http1) if http1.is_refusing() => Err(io::ErrorKind::BrokenPipe.into()),
            Mode::Http1(_) | Mode::Http2(_) => Ok(()),
        }
    }

    fn wrote(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        if let Mode::Http1(http1) = &mut self.mode {
            let mut watch = Watch {
                clock: &mut self.clock,
                config: &self.config,
            };
            http1.wrote(&mut watch, cx, bytes);
        }
    }
}

/// What a deadline is measured with.
struct Watch<'a> {
    clock: &'a mut Timer,
    config: &'a Config,
}

/// Since when a write waits for the peer.
#[derive(Debug, Default)]
struct Stall {
    timer: Timer,
    since: Option<Instant>,
}

impl Stall {
    /// Turns a wait that has lasted too long into an error.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
        limit: Duration,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.since = None;
            return result;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.timer.is_due(cx, since + limit) {
            return Poll::Ready(Err(Fault::WriteStall.into()));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
