//! For whom an instance is started.
//!
//! Owns what `principal_env` makes of a principal, and the count of failures of each, so that one
//! whose secret is missing or wrong is in nobody's way. Invariant: an instance with a principal's
//! secrets is that principal's alone, and one whose secrets have changed gets no new session.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Backend, LeaseError};
use crate::{
    backend::{Instance, breaker::Breaker},
    principal::Principal,
    secret::Secret,
};

/// Whose an instance is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tenant {
    /// `None` where it has nobody's secrets.
    principal: Option<Principal>,
    env: Vec<(String, Secret)>,
}

impl Tenant {
    /// Nobody's: without secrets.
    #[must_use]
    pub fn nobody() -> Self {
        Self::default()
    }

    /// What stands in its environment beside what is everybody's.
    pub(super) fn env(&self) -> &[(String, Secret)] {
        &self.env
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.principal.is_none()
    }
}

/// Failures and instances of principals that have secrets of their own.
#[derive(Default)]
pub(super) struct Tenants {
    breakers: Mutex<HashMap<Principal, Arc<Breaker>>>,
    owners: Mutex<HashMap<u64, Principal>>,
}

impl Backend {
    /// Reads a principal's secrets; nobody's where the backend has none.
    ///
    /// # Errors
    /// [`LeaseError::Start`] when one can't be had. It is this principal's trouble and counts as no
    /// failure.
    pub(super) async fn tenant(&self, principal: &Principal) -> Result<Tenant, LeaseError> {
        if self.config.secrets.is_empty() {
            return Ok(Tenant::nobody());
        }
        let (secrets, owner) = (self.config.secrets.clone(), principal.clone());
        let read = tokio::task::spawn_blocking(move || secrets.of(&owner)).await;
        match read {
            Ok(Ok(env)) => Ok(Tenant {
                principal: Some(principal.clone()),
                env,
            }),
            Ok(Err(error)) => {
                let (backend, principal) = (&self.config.name, principal.name());
                tracing::error!(backend, principal, %error, "a principal has no secret for this backend");
                Err(LeaseError::Start)
            }
            Err(_) => Err(LeaseError::Start),
        }
    }

    /// Runs `act` on the breaker that counts for a tenant.
    pub(super) fn breaker_of<T>(&self, tenant: &Tenant, act: impl FnOnce(&Breaker) -> T) -> T {
        match &tenant.principal {
            None => act(&self.breaker),
            Some(principal) => act(&self.tenants.breaker(self, principal)),
        }
    }

    /// Counts a start that failed, and says why.
    pub(super) fn not_started(&self, tenant: &Tenant, error: &dyn std::fmt::Display) -> LeaseError {
        self.breaker_of(tenant, |breaker| breaker.failed(Instant::now()));
        tracing::error!(backend = self.config.name, %error, "can't start an instance");
        LeaseError::Start
    }

    /// Notes whose an instance is.
    pub(super) fn owned(&self, instance: &Instance, tenant: &Tenant) {
        if let Some(principal) = &tenant.principal {
            let mut owners = self.tenants.owners.lock();
            owners.insert(instance.number(), principal.clone());
        }
    }

    pub(super) fn disowned(&self, instance: &Instance) {
        if !self.config.secrets.is_empty() {
            self.tenants.owners.lock().remove(&instance.number());
        }
    }

    /// Runs `act` on the breaker that counts for an instance.
    pub(super) fn breaker_for<T>(&self, instance: &Instance, act: impl FnOnce(&Breaker) -> T) -> T {
        let owner = match self.config.secrets.is_empty() {
            true => None,
            false => self.tenants.owners.lock().get(&instance.number()).cloned(),
        };
        match owner {
            None => act(&self.breaker),
            Some(principal) => act(&self.tenants.breaker(self, &principal)),
        }
    }
}

impl Tenants {
    fn breaker(&self, backend: &Backend, principal: &Principal) -> Arc<Breaker> {
        let mut breakers = self.breakers.lock();
        if let Some(breaker) = breakers.get(principal) {
            return breaker.clone();
        }
        if breakers.len() >= MAX_BREAKERS {
            breakers.retain(|_, breaker| !breaker.is_calm());
        }
        let breaker = Arc::new(Breaker::new(backend.config.restart));
        if breakers.len() < MAX_BREAKERS {
            breakers.insert(principal.clone(), breaker.clone());
        }
        breaker
    }
}

/// Principals whose failures are counted at once; who comes beyond that starts anew each time.
const MAX_BREAKERS: usize = 10_000;
