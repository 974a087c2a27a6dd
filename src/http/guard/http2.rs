//! The two deadlines of an HTTP/2 connection that need no look at its frames.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{Activity, Config, Fault, timer::Timer};

#[derive(Debug)]
pub(super) struct Http2 {
    activity: Activity,
    /// Bytes, up to a whole preface.
    received: usize,
    /// When bytes came last.
    last: Instant,
}

impl Http2 {
    pub(super) fn new(activity: Activity) -> Self {
        Self {
            activity,
            received: 0,
            last: Instant::now(),
        }
    }

    /// Bytes came.
    pub(super) fn read(&mut self, bytes: usize) {
        // The preface's deadline counts from the start, not from its first byte.
        self.received = PREFACE.min(self.received + bytes);
        if self.received == PREFACE {
            self.last = Instant::now();
        }
    }

    /// None came: the connection fails, ends or goes on.
    pub(super) fn poll_deadline(
        &mut self,
        clock: &mut Timer,
        config: &Config,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received < PREFACE {
            return match clock.is_due(cx, self.last + config.header_timeout) {
                true => Poll::Ready(Err(Fault::HeadTimeout.into())),
                false => Poll::Pending,
            };
        }
        // What was just read may be a request that the service hasn't begun yet.
        let grace = self.last + config.header_timeout;
        let deadline = match self.activity.idle_since() {
            Some(since) => grace.max(since + config.idle_timeout),
            None => Instant::now() + config.idle_timeout,
        };
        match clock.is_due(cx, deadline) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }
}

/// RFC 9113, 3.4.
const PREFACE: usize = 24;
