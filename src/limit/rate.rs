//! One rate for each of many keys.

use std::{hash::Hash, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};
use parking_lot::Mutex;

use crate::limit::Limited;

/// So many in so long, with a burst of all of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which time; not zero.
    pub per: Duration,
}

impl Rate {
    fn quota(self) -> Quota {
        let each = self.per / self.count.get();
        // A period of zero would be no limit at all; a nanosecond is as good as none.
        let quota = Quota::with_period(each.max(Duration::from_nanos(1)));
        quota
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(self.count)
    }
}

type Keyed<K, C> = RateLimiter<K, HashMapStateStore<K>, C, NoOpMiddleware<<C as Clock>::Instant>>;
type Single<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A rate, counted for each key apart.
pub struct Rates<K: Hash + Eq + Clone, C: Clock = MonotonicClock> {
    keyed: Keyed<K, C>,
    /// For keys that find no room: they share one count.
    crowd: Single<C>,
    clock: C,
    swept: Mutex<Option<C::Instant>>,
}

impl<K: Hash + Eq + Clone> Rates<K, MonotonicClock> {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self::with_clock(rate, MonotonicClock)
    }
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Rates<K, C> {
    /// With a clock of the caller's.
    pub fn with_clock(rate: Rate, clock: C) -> Self {
        let store = HashMapStateStore::default();
        Self {
            keyed: RateLimiter::new(rate.quota(), store, clock.clone()),
            crowd: RateLimiter::direct_with_clock(rate.quota(), clock.clone()),
            clock,
            swept: Mutex::new(None),
        }
    }

    /// Counts one for `key`.
    ///
    /// # Errors
    /// [`Limited`] when there is no room; then it isn't counted.
    pub fn check(&self, key: &K) -> Result<(), Limited> {
        let result = if self.is_crowded() {
            self.crowd.check()
        } else {
            self.keyed.check_key(key)
        };
        result.map_err(|until| Limited {
            retry_after: until.wait_time_from(self.clock.now()),
        })
    }

    /// Keys that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keyed.len()
    }

    /// True when no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keyed.is_empty()
    }

    /// True when the table is full of keys that still count.
    fn is_crowded(&self) -> bool {
        if self.keyed.len() < MAX_KEYS {
            return false;
        }
        // Looking through all of them is dear: at most once a second.
        let now = self.clock.now();
        let mut swept = self.swept.lock();
        let due = swept.is_none_or(|last| Duration::from(now.duration_since(last)) >= SWEEP);
        if due {
            *swept = Some(now);
            self.keyed.retain_recent();
        }
        self.keyed.len() >= MAX_KEYS
    }
}

/// Keys in one table.
pub const MAX_KEYS: usize = 65_536;
const SWEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::{MAX_KEYS, Rate, Rates};
    use governor::clock::FakeRelativeClock;
    use std::{num::NonZeroU32, time::Duration};

    fn rates(count: u32, per: Duration) -> (Rates<u64, FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let rate = Rate {
            count: NonZeroU32::new(count).unwrap(),
            per,
        };
        (Rates::with_clock(rate, clock.clone()), clock)
    }

    #[test]
    fn a_burst_passes_and_the_rest_waits_as_long_as_it_is_told() {
        let (rates, clock) = rates(10, Duration::from_secs(60));
        (0..10).for_each(|_| rates.check(&1).unwrap());
        let limited = rates.check(&1).unwrap_err();
        assert_eq!(limited.retry_after, Duration::from_secs(6));
        rates.check(&2).unwrap();
        clock.advance(limited.retry_after);
        rates.check(&1).unwrap();
        assert!(rates.check(&1).is_err());
    }

    #[test]
    fn a_million_keys_are_not_remembered() {
        let (rates, clock) = rates(1, Duration::from_secs(3600));
        let passed = (0..1_000_000_u64)
            .filter(|key| rates.check(key).is_ok())
            .count();
        assert_eq!(rates.len(), MAX_KEYS);
        assert_eq!(passed, MAX_KEYS + 1, "the crowd shares one count");
        clock.advance(Duration::from_secs(3 * 3600));
        rates.check(&u64::MAX).unwrap();
        assert_eq!(rates.len(), 1, "what is over is forgotten");
    }
}
