//! When a backend may start another instance.
//!
//! Owns the count of failures in a row, the pause after each and the open circuit. It must never
//! know what failed. Invariant: after `give_up_after` failures nothing is started but one trial
//! each `max_backoff`, until one works.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backend::Restart;

/// The circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit is open")]
pub struct Open {
    /// When to ask again.
    pub retry_after: Duration,
}

/// Counts failures, and says when to start again.
#[derive(Debug)]
pub struct Breaker {
    config: Restart,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    not_before: Option<Instant>,
    /// Until then the one trial of an open circuit may run.
    trial_until: Option<Instant>,
}

impl Breaker {
    /// A closed circuit.
    #[must_use]
    pub fn new(config: Restart) -> Self {
        Self {
            config,
            state: Mutex::default(),
        }
    }

    /// Asks to start an instance: how long to pause first.
    ///
    /// # Errors
    /// [`Open`] while the circuit is open, or its one trial is under way.
    pub fn admit(&self, now: Instant) -> Result<Duration, Open> {
        let mut state = self.state.lock();
        let pause = state
            .not_before
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        if state.failures < self.config.give_up_after {
            return Ok(pause);
        }
        if !pause.is_zero() {
            return Err(Open { retry_after: pause });
        }
        if let Some(trial) = state.trial_until.filter(|trial| *trial > now) {
            return Err(Open {
                retry_after: trial.saturating_duration_since(now),
            });
        }
        state.trial_until = Some(now + self.config.max_backoff);
        Ok(Duration::ZERO)
    }

    /// An instance works: the circuit closes.
    pub fn succeeded(&self) {
        *self.state.lock() = State::default();
    }

    /// An instance couldn't be started, or ended before it was of use.
    pub fn failed(&self, now: Instant) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        state.trial_until = None;
        state.not_before = Some(now + self.pause(state.failures));
    }

    /// True when nothing failed since the last success.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.state.lock().failures == 0
    }

    /// True once the circuit is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.lock().failures >= self.config.give_up_after
    }

    fn pause(&self, failures: u32) -> Duration {
        if failures >= self.config.give_up_after {
            return self.config.max_backoff;
        }
        let doublings = failures.saturating_sub(1).min(20);
        let full = self
            .config
            .backoff
            .saturating_mul(1 << doublings)
            .min(self.config.max_backoff);
        // Between half and all of it, so that backends that fell together don't rise together.
        full.mul_f64(0.5 + random_fraction() / 2.0)
    }
}

fn random_fraction() -> f64 {
    let number = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(number) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Breaker, Restart};
    use std::time::Duration;
    use tokio::time::Instant;

    fn breaker() -> Breaker {
        Breaker::new(Restart {
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(30),
            give_up_after: 3,
        })
    }

    #[test]
    fn pauses_grow_and_the_circuit_opens() {
        let (breaker, now) = (breaker(), Instant::now());
        assert_eq!(breaker.admit(now).unwrap(), Duration::ZERO);
        breaker.failed(now);
        let first = breaker.admit(now).unwrap();
        assert!(first >= Duration::from_millis(100) && first <= Duration::from_millis(200));
        breaker.failed(now);
        let second = breaker.admit(now).unwrap();
        assert!(second >= Duration::from_millis(200) && second <= Duration::from_millis(400));
        breaker.failed(now);
        assert!(breaker.is_open());
        assert_eq!(
            breaker.admit(now).unwrap_err().retry_after,
            Duration::from_secs(30)
        );
    }

    #[test]
    fn an_open_circuit_lets_one_trial_through_and_closes_when_it_works() {
        let (breaker, now) = (breaker(), Instant::now());
        (0..3).for_each(|_| breaker.failed(now));
        let later = now + Duration::from_secs(31);
        assert_eq!(breaker.admit(later).unwrap(), Duration::ZERO);
        assert!(
            breaker.admit(later).is_err(),
            "a second trial ran beside the first"
        );
        breaker.succeeded();
        assert_eq!(breaker.admit(later).unwrap(), Duration::ZERO);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_failed_trial_opens_it_again() {
        let (breaker, now) = (breaker(), Instant::now());
        (0..3).for_each(|_| breaker.failed(now));
        let later = now + Duration::from_secs(31);
        breaker.admit(later).unwrap();
        breaker.failed(later);
        assert!(breaker.admit(later + Duration::from_secs(1)).is_err());
    }
}
