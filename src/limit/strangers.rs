//! How many refusals of callers without a name are recorded one by one.
//!
//! Owns the count of those that are not. Invariant: whoever has no credentials can't fill a disk.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use governor::clock::{Clock, MonotonicClock};

use crate::limit::{Rate, Rates, login::network};

/// Refusals of callers without a name.
pub struct Strangers<C: Clock = MonotonicClock> {
    /// Of one address.
    each: Rates<IpAddr, C>,
    all: Rates<(), C>,
    left_out: AtomicU64,
}

impl Strangers {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(MonotonicClock)
    }
}

impl<C: Clock + Clone> Strangers<C> {
    /// With a clock of the caller's.
    pub fn with_clock(clock: C) -> Self {
        let a_minute = |count| Rate {
            count,
            per: Duration::from_secs(60),
        };
        Self {
            each: Rates::with_clock(a_minute(EACH), clock.clone()),
            all: Rates::with_clock(a_minute(ALL), clock),
            left_out: AtomicU64::new(0),
        }
    }

    /// True when a refusal is to be recorded; else it is counted.
    pub fn admit(&self, address: IpAddr) -> bool {
        let admitted = self.each.check(&network(address)).is_ok() && self.all.check(&()).is_ok();
        if !admitted {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// How many were not recorded since this was asked last.
    pub fn left_out(&self) -> u64 {
        self.left_out.swap(0, Ordering::Relaxed)
    }
}

impl Default for Strangers {
    fn default() -> Self {
        Self::new()
    }
}

/// Of one address, a minute: more than somebody needs who looks for his mistake.
const EACH: NonZeroU32 = NonZeroU32::MIN.saturating_add(299);
/// Of all, a minute: some 500 MiB a day at most.
const ALL: NonZeroU32 = NonZeroU32::MIN.saturating_add(1199);

#[cfg(test)]
mod tests {
    use super::{ALL, EACH, Strangers};
    use governor::clock::FakeRelativeClock;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn a_flood_is_counted_for_each_address_and_in_all() {
        let strangers = Strangers::with_clock(FakeRelativeClock::default());
        let from = |net: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, net));
        let recorded = (0..1000).filter(|_| strangers.admit(from(1))).count();
        assert_eq!(recorded, EACH.get() as usize);
        assert_eq!(strangers.left_out(), 1000 - recorded as u64);
        assert_eq!(strangers.left_out(), 0);
        let many = (2..=255).flat_map(|net| (0..30).map(move |_| from(net)));
        let recorded = many.filter(|address| strangers.admit(*address)).count();
        assert_eq!(recorded, (ALL.get() - EACH.get()) as usize);
    }
}
