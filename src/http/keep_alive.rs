//! Signs of life on silent streams: comments, which clients pass over.
//!
//! Invariant: no stream is silent for longer than `LONGEST`, and all streams together cost no more
//! than one comment every `BEAT`, as long as `LONGEST` allows.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

/// Says on a silent stream that it is there.
pub(crate) struct KeepAlive {
    timer: Pin<Box<Sleep>>,
    last: Instant,
}

impl KeepAlive {
    pub(crate) fn new() -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        Self {
            timer: Box::pin(tokio::time::sleep_until(now + SILENCE)),
            last: now,
        }
    }

    /// The first comment leaves at once.
    pub(crate) fn hurry(&mut self) {
        let now = Instant::now();
        self.last = now.checked_sub(LONGEST).unwrap_or(now);
        self.timer.as_mut().reset(now);
    }

    /// Something else was sent.
    pub(crate) fn moved(&mut self) {
        self.last = Instant::now();
    }

    /// A comment when it is time for one.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let silence = silence(OPEN.load(Ordering::Relaxed));
            // The timer is set anew only here, not for every event.
            let due = self.last + silence;
            let now = Instant::now();
            if due > now {
                self.timer.as_mut().reset(due);
                continue;
            }
            self.last = now;
            self.timer.as_mut().reset(now + silence);
            return Poll::Ready(Some(Bytes::from_static(b": keep-alive\n\n")));
        }
        Poll::Pending
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a stream may be silent where so many are open.
fn silence(open: u32) -> Duration {
    (BEAT * open).clamp(SILENCE, LONGEST)
}

/// Streams that are open.
static OPEN: AtomicU32 = AtomicU32::new(0);

/// What the streams of most gateways get.
const SILENCE: Duration = Duration::from_secs(15);
/// Proxies cut what is silent for a minute, some after 50 s.
const LONGEST: Duration = Duration::from_secs(45);
/// Waking an idle stream, its memory cold, costs a tenth of a millisecond.
const BEAT: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use super::{LONGEST, SILENCE, silence};
    use std::time::Duration;

    #[test]
    fn many_streams_speak_less_often_but_before_proxies_cut_them() {
        assert_eq!(silence(0), SILENCE);
        assert_eq!(silence(3_000), SILENCE);
        assert_eq!(silence(10_000), Duration::from_secs(40));
        assert_eq!(silence(u32::MAX), LONGEST);
    }
}
