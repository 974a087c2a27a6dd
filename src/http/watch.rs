//! Credentials that end while something goes on under them.
//!
//! Owns the question to issuers whose tokens can be withdrawn, and the end of calls and streams without a
//! session; sessions look for themselves. Invariant: nothing goes on for more than a minute after its
//! credential has ended.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{http::Server, principal::Principal};

impl Server {
    /// Ends what outlives its credential, until the gateway closes.
    pub async fn watch_credentials(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.drain.closing() => return,
            }
            tokio::select! {
                () = self.confirm() => {}
                () = self.drain.closing() => return,
            }
            self.stateless.sweep(SystemTime::now());
        }
    }

    /// Asks about the tokens under which something goes on, a few at a time.
    async fn confirm(&self) {
        let mut principals = HashMap::new();
        let sessions = self.sessions.all().into_iter();
        let busy = sessions.filter(|session| session.is_busy());
        let all = busy.map(|session| session.credential());
        for principal in all.chain(self.stateless.principals()) {
            if principal.asked_by().is_some() {
                principals.insert(principal.address(), principal);
            }
        }
        let principals: Vec<Principal> = principals.into_values().collect();
        let lane = |first: usize| {
            let mine = principals.iter().skip(first).step_by(LANES);
            let snapshot = self.snapshot();
            async move {
                for principal in mine {
                    snapshot.auth.confirm(principal).await;
                }
            }
        };
        tokio::join!(lane(0), lane(1), lane(2), lane(3));
    }
}

/// How often: an issuer's word is believed for a minute.
const LOOK: Duration = Duration::from_secs(15);
/// Questions at once.
const LANES: usize = 4;
