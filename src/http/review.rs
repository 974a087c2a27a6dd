//! What a new configuration means for a session that is open.
//!
//! Invariant: no session goes on with what its principal may not do any more, whenever it opened.

use std::sync::Arc;

use crate::{
    http::{Server, Snapshot},
    session::{EndReason, Session},
};

/// Ends a session whose principal lost his key or his role; else gives it what he may do now.
pub fn review(session: &Session, old: &Snapshot, new: &Snapshot) {
    let principal = &session.credential();
    if !new.auth.principal_still_valid(principal, &old.auth) {
        session.end(EndReason::Principal);
        return;
    }
    let name = &session.backend().config().name;
    // A session on a backend that was replaced keeps what it had until that has drained.
    let Some(served) = new.backends.get(name) else {
        return;
    };
    match new.policy.access(principal, name, &served.filter) {
        Some(access) => session.set_access(access),
        None => session.end(EndReason::Principal),
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
