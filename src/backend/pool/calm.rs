//! When the place of a warm instance is filled again.
//!
//! Owns the pause before such a start: it takes processor time that the session which has just got
//! the instance, and those that come with it, need themselves. Invariant: the pause is bounded,
//! however many sessions come.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// When somebody last asked for an instance.
#[derive(Debug, Default)]
pub(super) struct Calm(Mutex<Option<Instant>>);

impl Calm {
    /// Somebody needs an instance now.
    pub(super) fn disturb(&self) {
        *self.0.lock() = Some(Instant::now());
    }

    /// Waits until nobody has for a moment, but not for long. At once when nobody ever has.
    pub(super) async fn wait(&self) {
        let latest = Instant::now() + LONGEST;
        while let Some(until) = self.until(latest) {
            sleep_until(until).await;
        }
    }

    /// `None`: now.
    fn until(&self, latest: Instant) -> Option<Instant> {
        let last = *self.0.lock();
        let until = (last? + QUIET).min(latest);
        (until > Instant::now()).then_some(until)
    }
}

/// A session on a child that is ready is open well within this, also one in a crowd.
const QUIET: Duration = Duration::from_millis(50);
/// Where sessions come all the time, each instance is started after so long.
const LONGEST: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::{Calm, Instant, LONGEST, QUIET};
    use std::time::Duration;
    use tokio::time::advance;

    /// How long a wait lasts during which somebody comes `each`.
    async fn waited(calm: &Calm, each: Duration, times: u32) -> Duration {
        let started = Instant::now();
        let disturbing = async {
            for _ in 0..times {
                tokio::time::sleep(each).await;
                calm.disturb();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = disturbing => {}
            () = calm.wait() => {}
        }
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_for_a_quiet_moment_and_no_longer_than_it_may() {
        let (calm, often) = (Calm::default(), QUIET / 2);
        assert_eq!(waited(&calm, often, 0).await, Duration::ZERO);
        calm.disturb();
        assert_eq!(waited(&calm, often, 0).await, QUIET);
        assert_eq!(waited(&calm, often, 0).await, Duration::ZERO);
        calm.disturb();
        assert_eq!(waited(&calm, often, 2).await, QUIET * 2);
        calm.disturb();
        assert_eq!(waited(&calm, often, u32::MAX).await, LONGEST);
        advance(QUIET).await;
        assert_eq!(waited(&calm, often, 0).await, Duration::ZERO);
    }
}
