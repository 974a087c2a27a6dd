//! Credentials that end while something goes on under them.
//!
//! Owns the question to issuers whose tokens can be withdrawn, and the end of calls and streams without a
//! session; sessions look for themselves. Invariants: nothing goes on for more than a minute after its
//! credential has ended; an issuer that doesn't answer holds up nobody's end.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{http::Server, principal::Principal};

impl Server {
    /// Ends what outlives its credential, until the gateway closes.
    pub async fn watch_credentials(self: Arc<Self>) {
        let ask = async {
            loop {
                tokio::time::sleep(LOOK).await;
                Box::pin(self.confirm()).await;
            }
        };
        let end = async {
            loop {
                tokio::time::sleep(SWEEP).await;
                self.check_keys();
                self.stateless.sweep(SystemTime::now());
            }
        };
        tokio::select! {
            () = ask => {}
            () = end => {}
            () = self.drain.closing() => {}
        }
    }

    /// Asks about the tokens under which something goes on, a few at a time.
    async fn confirm(&self) {
        let mut principals = self.at_work();
        principals.retain(|principal| principal.asked_by().is_some());
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

    fn check_keys(&self) {
        let snapshot = self.snapshot();
        for principal in self.at_work() {
            snapshot.auth.check_key(&principal);
        }
    }

    /// Those under whose credentials something goes on.
    fn at_work(&self) -> Vec<Principal> {
        let sessions = self.sessions.all().into_iter();
        let busy = sessions.filter(|session| session.is_busy());
        let all = busy.map(|session| session.credential());
        let all = all.chain(self.stateless.principals());
        let all: HashMap<usize, Principal> = all.map(|who| (who.address(), who)).collect();
        all.into_values().collect()
    }
}

/// How often: an issuer's word is believed for a minute.
const LOOK: Duration = Duration::from_secs(15);
/// How often it is looked who is not believed any more.
const SWEEP: Duration = Duration::from_secs(5);
/// Questions at once.
const LANES: usize = 4;
