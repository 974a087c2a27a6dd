//! What the holder of a lease may do, and what its end gives back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Backend, Common, Lease, Sharers};
use crate::{
    backend::{
        breaker::Breaker,
        era::Era,
        handshake::{self, Greeting, NotGreeted},
        instance::Instance,
    },
    frame::Frame,
};

/// Why there is no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// `max_instances` run.
    #[error("all instances are in use")]
    Full,
    /// The circuit is open, or the pause after a failure outlasts the patience of a request.
    #[error("the backend failed too often")]
    CircuitOpen {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The command can't be started, or ended at once.
    #[error("the instance can't be started")]
    Start,
    /// The child answered the handshake with an error, or ended at it.
    #[error("the instance refuses the handshake")]
    Refused {
        /// As one that has none.
        clearly: bool,
    },
    /// The backend is going away.
    #[error("the backend is draining")]
    Draining,
}

impl Lease {
    pub(super) fn common(backend: Arc<Backend>, key: Sharers, common: Arc<Common>) -> Self {
        let instance = common.instance.clone();
        Self {
            backend,
            instance,
            era: key.era,
            common: Some((key, common)),
        }
    }

    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// The backend it belongs to.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// What its child is to hear.
    #[must_use]
    pub fn era(&self) -> Era {
        self.era
    }

    /// True when the session's own `initialize` goes to the child.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.common.is_none()
    }

    /// The instance is of use: the count of failures starts anew.
    pub fn confirm(&self) {
        self.backend.breaker_for(&self.instance, Breaker::succeeded);
    }

    /// The instance was of no use: it counts as a failure.
    pub fn reject(&self) {
        self.backend.failed(&self.instance);
        self.instance.stop();
    }

    /// On a common instance: the raw `InitializeResult` for a client that sent `initialize`; the
    /// gateway shakes hands with the child once.
    ///
    /// # Errors
    /// [`LeaseError::Refused`], or [`LeaseError::Start`] when the child didn't answer in time.
    pub async fn greet(&self, initialize: &Frame) -> Result<Bytes, LeaseError> {
        let Some((key, common)) = &self.common else {
            return Err(LeaseError::Start);
        };
        let greeting = || {
            // It holds the instance as long as it lasts, whoever goes away meanwhile.
            *common.users.lock() += 1;
            let lease = Self::common(self.backend.clone(), key.clone(), common.clone());
            let greeting = Greeting {
                initialize: initialize.clone(),
                // Between principals nobody's capabilities are everybody's.
                anonymous: key.principal.is_none(),
                timeout: self.backend.config.start_timeout,
            };
            async move {
                let result = handshake::greet(lease.instance.clone(), greeting).await;
                match &result {
                    Ok(_) => lease.confirm(),
                    Err(NotGreeted::Silent) => lease.reject(),
                    // Whether that was a failure is still to be found out.
                    Err(NotGreeted::Refused { .. }) => lease.instance.stop(),
                }
                result
            }
        };
        let result = common.handshake.run(&self.backend.drain, greeting).await;
        result.map_err(|why| match why {
            NotGreeted::Silent => LeaseError::Start,
            NotGreeted::Refused { clearly } => LeaseError::Refused { clearly },
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.common {
            Some((key, common)) => self.backend.leave(key, common),
            None => self.instance.stop(),
        }
    }
}
