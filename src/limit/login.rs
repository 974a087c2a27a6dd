//! Failed log-ins, by client address.
//!
//! Invariant: from one address no more guesses are judged than the rate allows, right ones
//! included; who came in from there before is not locked out by somebody else's guesses.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    limit::{Limited, MAX_KEYS, Rate, Rates},
    principal::Principal,
};

/// The failures of every address.
pub struct Logins {
    failures: Rates<IpAddr>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Addresses without guesses left, and until when.
    blocked: HashMap<IpAddr, Instant>,
    /// Who opened a session from where.
    known: HashSet<(IpAddr, Principal)>,
}

impl Logins {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            failures: Rates::new(rate),
            state: Mutex::default(),
        }
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// [`Limited`]: the address has used up its guesses.
    pub fn failed(&self, address: IpAddr, now: Instant) -> Result<(), Limited> {
        let address = network(address);
        let limited = match self.failures.check(&address) {
            Ok(()) => return Ok(()),
            Err(limited) => limited,
        };
        let mut state = self.state.lock();
        if state.blocked.len() >= MAX_KEYS {
            state.blocked.retain(|_, until| *until > now);
        }
        if state.blocked.len() < MAX_KEYS {
            state.blocked.insert(address, now + limited.retry_after);
        }
        Err(limited)
    }

    /// True when there is any address that may not guess now.
    #[must_use]
    pub fn any_blocked(&self) -> bool {
        !self.state.lock().blocked.is_empty()
    }

    /// True when an address has guesses left; counts nothing.
    ///
    /// # Errors
    /// [`Limited`]: it has none.
    pub fn may_guess(&self, address: IpAddr, now: Instant) -> Result<(), Limited> {
        let state = self.state.lock();
        let until = state.blocked.get(&network(address)).copied();
        let retry_after = until.map(|until| until.saturating_duration_since(now));
        match retry_after {
            Some(retry_after) if retry_after > Duration::ZERO => Err(Limited { retry_after }),
            _ => Ok(()),
        }
    }

    /// Judges good credentials.
    ///
    /// # Errors
    /// [`Limited`]: they come from an address without guesses left, and may be a guess too.
    pub fn succeeded(
        &self,
        address: IpAddr,
        principal: &Principal,
        now: Instant,
    ) -> Result<(), Limited> {
        let mut state = self.state.lock();
        if state.blocked.is_empty() {
            return Ok(());
        }
        let address = network(address);
        let Some(until) = state.blocked.get(&address).copied() else {
            return Ok(());
        };
        let retry_after = until.saturating_duration_since(now);
        if retry_after == Duration::ZERO {
            state.blocked.remove(&address);
            return Ok(());
        }
        if state.known.contains(&(address, principal.clone())) {
            return Ok(());
        }
        Err(Limited { retry_after })
    }

    /// Remembers that a principal opened a session from an address.
    pub fn remember(&self, address: IpAddr, principal: &Principal) {
        let mut state = self.state.lock();
        if state.known.len() >= MAX_KEYS {
            state.known.clear();
        }
        state.known.insert((network(address), principal.clone()));
    }
}

/// Whoever has an IPv6 address has 2^64 of them.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Logins;
    use crate::{
        limit::Rate,
        principal::{Method, Principal},
    };
    use std::{net::IpAddr, num::NonZeroU32, time::Duration};
    use tokio::time::Instant;

    fn logins() -> Logins {
        let count = NonZeroU32::new(3).unwrap();
        Logins::new(Rate {
            count,
            per: Duration::from_secs(60),
        })
    }

    fn principal(name: &str) -> Principal {
        Principal::new(Method::Key, name, Vec::new(), None)
    }

    #[test]
    fn guesses_run_out_for_everybody_who_was_not_there_before() {
        let (logins, now) = (logins(), Instant::now());
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        logins.remember(here, &principal("alice"));
        (0..3).for_each(|_| logins.failed(here, now).unwrap());
        assert!(logins.failed(here, now).is_err());
        assert!(logins.succeeded(here, &principal("bob"), now).is_err());
        logins.succeeded(here, &principal("alice"), now).unwrap();
        logins
            .succeeded("192.0.2.2".parse().unwrap(), &principal("bob"), now)
            .unwrap();
        logins
            .succeeded(here, &principal("bob"), now + Duration::from_secs(21))
            .unwrap();
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let (logins, now) = (logins(), Instant::now());
        let address = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
        (0..3).for_each(|host| logins.failed(address(host), now).unwrap());
        assert!(logins.failed(address(9), now).is_err());
        logins
            .failed("2001:db8:0:2::1".parse().unwrap(), now)
            .unwrap();
        logins
            .failed("::ffff:192.0.2.9".parse().unwrap(), now)
            .unwrap();
    }
}
