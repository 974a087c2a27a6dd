//! What one principal may ask of one backend: how often, how much at once, which tool how often.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    glob::Globs,
    limit::{Limited, Rate, Rates},
    principal::Principal,
};

/// `[backends.X.limits]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Messages of one principal.
    pub rate: Option<Rate>,
    /// Requests in flight of one principal.
    pub concurrency: Option<usize>,
    /// Calls of tools that match a glob, of one principal: the globs count apart, the tools under
    /// one glob together.
    pub tools: Vec<(Globs, Rate)>,
}

/// The counters of one backend.
pub struct BackendLimits {
    rate: Option<Rates<Principal>>,
    tools: Vec<(Globs, Rates<Principal>)>,
    concurrency: Option<Arc<Concurrency>>,
}

#[derive(Debug)]
struct Concurrency {
    most: usize,
    /// Principals with requests in flight, and how many.
    running: Mutex<HashMap<Principal, usize>>,
}

/// A request in flight; dropping it makes room for another.
#[derive(Debug)]
pub struct InFlight(Option<(Arc<Concurrency>, Principal)>);

impl BackendLimits {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let tools = config.tools.iter();
        Self {
            rate: config.rate.map(Rates::new),
            tools: tools
                .map(|(glob, rate)| (glob.clone(), Rates::new(*rate)))
                .collect(),
            concurrency: config.concurrency.map(|most| {
                Arc::new(Concurrency {
                    most,
                    running: Mutex::default(),
                })
            }),
        }
    }

    /// Counts one message of a principal; `tool` is the one that it calls.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn check(&self, principal: &Principal, tool: Option<&str>) -> Result<(), Limited> {
        self.check_rate(principal)?;
        self.check_tool(principal, tool)
    }

    /// Counts one request of a principal, and takes a place for it among those in flight. One for
    /// which there is no place has not used its tool.
    ///
    /// # Errors
    /// [`Limited`].
    pub fn admit(&self, principal: &Principal, tool: Option<&str>) -> Result<InFlight, Limited> {
        self.check_rate(principal)?;
        let place = self.enter(principal)?;
        self.check_tool(principal, tool)?;
        Ok(place)
    }

    fn check_rate(&self, principal: &Principal) -> Result<(), Limited> {
        self.rate
            .as_ref()
            .map_or(Ok(()), |rate| rate.check(principal))
    }

    fn check_tool(&self, principal: &Principal, tool: Option<&str>) -> Result<(), Limited> {
        let Some(tool) = tool else { return Ok(()) };
        let matching = self.tools.iter().filter(|(glob, _)| glob.matches(tool));
        for (_, rate) in matching {
            rate.check(principal)?;
        }
        Ok(())
    }

    /// Takes a place among the requests in flight of a principal.
    ///
    /// # Errors
    /// [`Limited`] when there is none; nobody knows when there will be, so it says a second.
    pub fn enter(&self, principal: &Principal) -> Result<InFlight, Limited> {
        let Some(concurrency) = &self.concurrency else {
            return Ok(InFlight(None));
        };
        let mut running = concurrency.running.lock();
        let count = running.entry(principal.clone()).or_default();
        if *count >= concurrency.most {
            return Err(Limited {
                retry_after: std::time::Duration::from_secs(1),
            });
        }
        *count += 1;
        Ok(InFlight(Some((concurrency.clone(), principal.clone()))))
    }
}

impl InFlight {
    /// True where there is a limit.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.0.is_some()
    }

    /// A place where there is no limit.
    #[must_use]
    pub fn free() -> Self {
        Self(None)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some((concurrency, principal)) = self.0.take() else {
            return;
        };
        let mut running = concurrency.running.lock();
        if let Some(count) = running.get_mut(&principal) {
            *count -= 1;
            if *count == 0 {
                running.remove(&principal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BackendLimits, Config};
    use crate::{
        glob::Globs,
        limit::Rate,
        principal::{Method, Principal},
    };
    use std::{num::NonZeroU32, time::Duration};

    fn principal(name: &str) -> Principal {
        Principal::new(Method::Key, name, Vec::new(), None)
    }

    #[test]
    fn a_place_is_given_back_when_its_slot_is_dropped() {
        let limits = BackendLimits::new(&Config {
            concurrency: Some(1),
            ..Config::default()
        });
        let slot = limits.enter(&principal("a")).unwrap();
        assert!(limits.enter(&principal("a")).is_err());
        limits.enter(&principal("b")).unwrap();
        drop(slot);
        limits.enter(&principal("a")).unwrap();
    }

    #[test]
    fn a_call_without_a_place_has_not_used_its_tool() {
        let rate = Rate {
            count: NonZeroU32::MIN,
            per: Duration::from_secs(60),
        };
        let limits = BackendLimits::new(&Config {
            concurrency: Some(1),
            tools: vec![(Globs::new(vec!["search".to_owned()]).unwrap(), rate)],
            ..Config::default()
        });
        let a = principal("a");
        let slot = limits.enter(&a).unwrap();
        assert!(limits.admit(&a, Some("search")).is_err());
        drop(slot);
        limits.admit(&a, Some("search")).unwrap();
        // One that its rate refuses gives its place back.
        assert!(limits.admit(&a, Some("search")).is_err());
        limits.enter(&a).unwrap();
    }

    #[test]
    fn a_tools_rate_counts_its_own_calls_only() {
        let rate = Rate {
            count: NonZeroU32::MIN,
            per: Duration::from_secs(60),
        };
        let tools = vec![(Globs::new(vec!["search_*".to_owned()]).unwrap(), rate)];
        let limits = BackendLimits::new(&Config {
            tools,
            ..Config::default()
        });
        let a = principal("a");
        limits.check(&a, Some("search_web")).unwrap();
        assert!(limits.check(&a, Some("search_mail")).is_err());
        limits.check(&a, Some("read")).unwrap();
        limits.check(&a, None).unwrap();
        limits.check(&principal("b"), Some("search_web")).unwrap();
    }
}
