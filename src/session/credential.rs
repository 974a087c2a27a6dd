//! The credential that a session goes on with.
//!
//! Owns the change from one credential of a principal to the next. It must never know what a
//! credential is. Invariant: a session's principal never changes; what he may do follows the
//! credential that lasts longest.

use std::time::SystemTime;

use crate::{policy::Access, principal::Principal, session::Session};

impl Session {
    /// Takes over what the session's principal has shown with a request, unless what was shown already
    /// is still good, and will be for longer.
    pub(crate) fn renew(&self, principal: &Principal, access: &Access) {
        if !principal.is_renewable() {
            return;
        }
        let mut state = self.state.lock();
        let known = &state.credential;
        let outlasts = known.outlasts(principal) && !known.expired(SystemTime::now());
        if known.is_identical(principal) || outlasts {
            return;
        }
        state.credential = principal.clone();
        state.access = access.clone();
    }

    /// What its principal has shown last.
    #[must_use]
    pub fn credential(&self) -> Principal {
        self.state.lock().credential.clone()
    }
}
