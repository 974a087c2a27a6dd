//! The end of a connection whose peer still sends.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{Watch, fault::Fault, timer::Timer};

/// Reads and drops what still comes, for a while.
///
/// Closing a socket that holds unread bytes resets the connection, and the reset may overtake the
/// response: the client would see an error in place of a 413.
#[derive(Debug)]
pub(super) struct Linger {
    left: usize,
    deadline: Instant,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self {
            left: BYTES,
            deadline: Instant::now() + TIME,
        }
    }

    pub(super) fn poll<IO: AsyncRead>(
        &mut self,
        mut io: Pin<&mut IO>,
        clock: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut scratch = [const { MaybeUninit::uninit() }; 4096];
        loop {
            if self.left == 0 || clock.is_due(cx, self.deadline) {
                return Poll::Ready(());
            }
            let mut buf = ReadBuf::uninit(&mut scratch);
            let read = ready!(io.as_mut().poll_read(cx, &mut buf));
            let bytes = buf.filled().len();
            if read.is_err() || bytes == 0 {
                return Poll::Ready(());
            }
            self.left = self.left.saturating_sub(bytes);
        }
    }
}

/// The answer to a request that hyper never saw.
#[derive(Debug)]
pub(super) struct Refusal {
    fault: Fault,
    response: Vec<u8>,
    written: usize,
    /// The response is out and the write side closed.
    said: bool,
    linger: Linger,
}

impl Refusal {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            fault,
            response: fault.response(),
            written: 0,
            said: false,
            linger: Linger::new(),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        self.fault
    }

    /// Ready when the connection may be dropped.
    pub(super) fn poll<IO: AsyncRead + AsyncWrite>(
        &mut self,
        io: Pin<&mut IO>,
        watch: &mut Watch<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if watch.clock.is_due(cx, self.linger.deadline) {
            return Poll::Ready(());
        }
        let mut io = io;
        if !self.said {
            match ready!(self.say(io.as_mut(), cx)) {
                Ok(()) => self.said = true,
                // The peer doesn't want to know.
                Err(_) => return Poll::Ready(()),
            }
        }
        self.linger.poll(io, watch.clock, cx)
    }

    fn say<IO: AsyncWrite>(
        &mut self,
        mut io: Pin<&mut IO>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .response
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
        {
            match ready!(io.as_mut().poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        io.poll_shutdown(cx)
    }
}

/// As much as a client may have under way when it learns that its body isn't wanted.
const BYTES: usize = 8 << 20;

const TIME: Duration = Duration::from_secs(2);
