//! A session's state behind its lock, and when the session has to be looked over again.
//!
//! Owns the decision to pass a session over: thousands that are idle are not to be gone through twice
//! a second. It must never know what the state means. Invariant: whoever takes the lock stirs it, so
//! what is at rest is as it was when it was looked over last.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

/// State that knows whether anybody was at it.
#[derive(Debug)]
pub(super) struct Watched<T> {
    state: Mutex<T>,
    made: Instant,
    /// Milliseconds after `made` until which it may be passed over; 0 when it may not.
    rests: AtomicU64,
}

impl<T> Watched<T> {
    /// State that was not looked over yet; `now` is before every other time that it is told.
    pub(super) fn new(state: T, now: Instant) -> Self {
        Self {
            state: Mutex::new(state),
            made: now,
            rests: AtomicU64::new(0),
        }
    }

    /// Takes the lock.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        let state = self.state.lock();
        // Under the lock: it can't get between a look and what was made of it.
        self.rests.store(0, Ordering::Relaxed);
        state
    }

    /// Takes the lock to look it over: that doesn't stir it.
    pub(super) fn look(&self) -> MutexGuard<'_, T> {
        self.state.lock()
    }

    /// Says, while the lock of [`Watched::look`] is held, how long it may be passed over.
    pub(super) fn rest(&self, _looked: &MutexGuard<'_, T>, now: Instant, time: Duration) {
        let until = self.millis(now + time);
        self.rests.store(until, Ordering::Relaxed);
    }

    /// True when it need not be looked over.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        self.rests.load(Ordering::Relaxed) > self.millis(now)
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.made);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Watched;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn what_was_looked_over_rests_until_somebody_stirs_it_or_its_time_comes() {
        let now = Instant::now();
        let (second, rest) = (Duration::from_secs(1), Duration::from_secs(10));
        let watched = Watched::new(0, now);
        assert!(!watched.is_at_rest(now));
        let state = watched.look();
        watched.rest(&state, now, rest);
        drop(state);
        assert!(watched.is_at_rest(now + second));
        drop(watched.look());
        assert!(watched.is_at_rest(now + second));
        assert!(!watched.is_at_rest(now + rest));
        drop(watched.lock());
        assert!(!watched.is_at_rest(now + second));
    }
}
