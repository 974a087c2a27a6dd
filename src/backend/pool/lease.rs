//! What the holder of a lease may do, and what its end gives back.

use std::sync::Arc;

use bytes::Bytes;

use super::{Backend, Common, Lease, LeaseError};
use crate::{
    backend::{
        breaker::Breaker,
        handshake::{self, Greeting},
        instance::Instance,
    },
    frame::Frame,
    principal::Principal,
};

impl Lease {
    pub(super) fn common(
        backend: Arc<Backend>,
        key: Option<Principal>,
        common: Arc<Common>,
    ) -> Self {
        let instance = common.instance.clone();
        Self {
            backend,
            instance,
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

    /// True when the session's own `initialize` goes to the child.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.common.is_none()
    }

    /// The instance is of use: the count of failures starts anew.
    pub fn confirm(&self) {
        self.backend.breaker_for(&self.instance, Breaker::succeeded);
    }

    /// The instance didn't answer `initialize` in time.
    pub fn reject(&self) {
        self.backend.failed(&self.instance);
        self.instance.stop();
    }

    /// On a common instance: the raw `InitializeResult` for a client that sent `initialize`; the
    /// gateway shakes hands with the child once.
    ///
    /// # Errors
    /// [`LeaseError::Start`] when the child refused or didn't answer in time.
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
                anonymous: key.is_none(),
                timeout: self.backend.config.start_timeout,
            };
            async move {
                let result = handshake::greet(lease.instance.clone(), greeting).await;
                match &result {
                    Some(_) => lease.confirm(),
                    None => lease.reject(),
                }
                result
            }
        };
        let result = common.handshake.run(&self.backend.drain, greeting).await;
        result.ok_or(LeaseError::Start)
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
