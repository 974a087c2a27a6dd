//! Credentials that end while something goes on under them.
//!
//! Owns the look at calls without a session; sessions look for themselves. Invariant: nothing goes on
//! for more than a minute after its credential has ended.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::http::Server;

impl Server {
    /// Ends what outlives its credential, until the gateway closes.
    pub async fn watch_credentials(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.drain.closing() => return,
            }
            self.stateless.sweep(SystemTime::now());
        }
    }
}

const LOOK: Duration = Duration::from_secs(10);
