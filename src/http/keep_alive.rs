//! Signs of life on silent streams: comments, which clients pass over.
//!
//! Invariant: no stream is silent for longer than `LONGEST` and a `TICK`, and all streams together
//! send no more than one comment every `BEAT`, as long as `LONGEST` allows.

use std::{
    pin::Pin,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
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
            timer: Box::pin(tokio::time::sleep_until(tick(now + SILENCE))),
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
                self.timer.as_mut().reset(tick(due));
                continue;
            }
            self.last = now;
            self.timer.as_mut().reset(tick(now + silence));
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

/// The moment, or the next one in which others speak too: most of what a comment costs is that the
/// runtime wakes for it.
fn tick(at: Instant) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let Some(since) = at.checked_duration_since(*START) else {
        return at;
    };
    let over = since.as_nanos() % TICK.as_nanos();
    match u64::try_from(over) {
        Ok(over @ 1..) => at + (TICK - Duration::from_nanos(over)),
        _ => at,
    }
}

/// Streams that are open.
static OPEN: AtomicU32 = AtomicU32::new(0);

/// What the streams of most gateways get.
const SILENCE: Duration = Duration::from_secs(15);
/// Proxies cut what is silent for a minute, some after 50 s.
const LONGEST: Duration = Duration::from_secs(45);
/// What comes so close together comes at once.
const TICK: Duration = Duration::from_millis(200);
/// Waking an idle stream, its memory cold, costs a tenth of a millisecond.
const BEAT: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use super::{LONGEST, SILENCE, TICK, silence, tick};
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn streams_speak_together_and_hardly_later_than_each_would() {
        let now = Instant::now();
        let times = (0..1000).map(|i| (now + TICK * i / 100, tick(now + TICK * i / 100)));
        let times: Vec<_> = times.collect();
        for (at, tick) in &times {
            assert!(*tick >= *at && *tick < *at + TICK);
        }
        let mut ticks: Vec<_> = times.iter().map(|(_, tick)| tick).collect();
        ticks.dedup();
        assert!((10..=11).contains(&ticks.len()), "{}", ticks.len());
    }

    #[test]
    fn many_streams_speak_less_often_but_before_proxies_cut_them() {
        assert_eq!(silence(0), SILENCE);
        assert_eq!(silence(3_000), SILENCE);
        assert_eq!(silence(10_000), Duration::from_secs(40));
        assert_eq!(silence(u32::MAX), LONGEST);
    }
}
