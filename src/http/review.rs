//! What a new configuration means for a session that is open.
//!
//! Invariant: no session goes on with what its principal may not do any more, whenever it opened.

use std::sync::Arc;

use crate::{
    http::{Server, Snapshot},
    policy::Access,
    principal::Principal,
    session::{EndReason, Session},
};

/// What a new configuration leaves a principal on a backend.
pub(crate) enum Standing {
    /// Nothing: he lost his key or his role.
    Nothing,
    /// What he had: his backend was replaced, and drains.
    Unchanged,
    /// This, under the credential that he has now.
    May(Principal, Access),
}

/// What a principal who was let in under `old` may do under `new`.
pub(crate) fn standing(
    principal: &Principal,
    backend: &str,
    old: &Snapshot,
    new: &Snapshot,
) -> Standing {
    let Some(principal) = new.auth.principal_now(principal, &old.auth) else {
        return Standing::Nothing;
    };
    let Some(served) = new.backends.get(backend) else {
        return Standing::Unchanged;
    };
    match new.policy.access(&principal, backend, &served.filter) {
        Some(access) => Standing::May(principal, access),
        None => Standing::Nothing,
    }
}

/// Ends a session whose principal lost his key or his role; else gives it what he may do now.
pub fn review(session: &Session, old: &Snapshot, new: &Snapshot) {
    let name = &session.backend().config().name;
    match standing(&session.credential(), name, old, new) {
        Standing::Nothing => session.end(EndReason::Principal),
        Standing::Unchanged => {}
        Standing::May(principal, access) => session.set_standing(principal, access),
    }
}

/// Reviews a session that has just opened, as of `opened`: the configuration may have been replaced
/// after its request came and before it could be found among the sessions.
pub(crate) fn review_opened(server: &Server, session: &Session, opened: &Arc<Snapshot>) {
    let now = server.snapshot();
    if !Arc::ptr_eq(&now, opened) {
        review(session, opened, &now);
    }
}
