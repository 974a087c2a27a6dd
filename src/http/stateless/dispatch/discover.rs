//! What a backend's children speak, and what they say of themselves.
//!
//! Owns the answer to `server/discover`. Invariant: a child that is slow is waited for as long as
//! `start_timeout` says; one that can't start is not taken for one of another era.

use std::sync::Arc;

use super::{Served, Way, owing};
use crate::{
    backend::{Backend, Capabilities, Discovered, Era, Failure, Need, Usage},
    bridge::modern,
    frame,
    http::exchange::Granted,
    http::stateless::{
        circle,
        envelope::{self, Fault},
        refusal,
        reply::Held,
        translate,
    },
    policy::{List, Listed},
    session::Admitted,
};

/// Whether the children are of the client's era; for a discovery what they say of themselves.
///
/// # Errors
/// Why that can't be known.
pub(super) async fn era(
    granted: &Granted,
    backend: &Backend,
    (capabilities, discovers): (Capabilities, bool),
) -> Result<(bool, Option<Arc<Discovered>>), Fault> {
    if let Some(era) = backend.known_era().filter(|_| !discovers) {
        return Ok((era == Era::Modern, None));
    }
    // Whoever asks needs such an instance next.
    let greeting = async {
        let need = Need::Legacy(capabilities);
        let seat = backend.seat(&granted.principal, need, Usage::Listen);
        seat.await.is_ok()
    };
    match backend.speaks_modern_or(greeting).await {
        Ok(discovered) => Ok((discovered.is_some(), discovered)),
        Err(error) if discovers => Err(refusal::undiscovered(error)),
        Err(error) => Err(refusal::unavailable(error)),
    }
}

/// What a child lists, as far as it is known.
///
/// # Errors
/// No child can be asked.
pub(in crate::http::stateless) async fn listed(
    granted: &Granted,
    capabilities: Capabilities,
    lists: &[List],
) -> Result<Listed, Fault> {
    let served = granted.served().map_err(|_| envelope::unknown())?;
    let need = match era(granted, &served.backend, (capabilities, false))
        .await?
        .0
    {
        true => Need::Modern,
        false => Need::Legacy(capabilities),
    };
    let seat = served.backend.seat(&granted.principal, need, Usage::Listen);
    let lease = seat.await.map_err(refusal::unavailable)?;
    Ok(served.backend.listed(lease.instance(), lists).await)
}

impl Way<'_> {
    pub(super) async fn discover(
        self,
        admitted: Admitted,
        modern: Option<Arc<Discovered>>,
    ) -> Served<Held> {
        let access = &self.granted.access;
        let result = match modern {
            Some(discovered) => access
                .redact_result(&discovered.result)
                .ok()
                .and_then(|result| modern::rediscover(&result)),
            None => {
                let Ok(served) = self.granted.served() else {
                    return Err(owing(admitted.pending, envelope::unknown()));
                };
                let need = Need::Legacy(self.declared.capabilities);
                let seat = served
                    .backend
                    .seat(&self.granted.principal, need, Usage::Listen);
                let hello = match seat.await {
                    Ok(lease) => {
                        circle::watch(&served.circles, &self.granted.principal, &lease);
                        lease.hello()
                    }
                    Err(error) => {
                        return Err(owing(admitted.pending, refusal::undiscovered(error)));
                    }
                };
                access
                    .redact_result(&hello)
                    .ok()
                    .and_then(|hello| modern::discover(&hello))
            }
        };
        let id = self.id();
        Ok(match result {
            Some(result) => self.say(
                admitted.pending,
                translate::done(frame::result_response(&id, &result)),
            ),
            None => self.say(
                admitted.pending,
                translate::failed(&id, Failure::Unreadable),
            ),
        })
    }
}
