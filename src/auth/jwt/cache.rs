//! Tokens that were found out about, by their digest.
//!
//! Owns how long a finding holds, so that a call costs no signature check. It must never keep a
//! token itself. Invariant: it holds so many findings and no more, and none beyond its time.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use parking_lot::RwLock;

use super::{TokenError, Verified};

/// What was found, by which provider, and how many keys that had lost by then.
type Finding = (Result<Verified, TokenError>, usize, u64);

#[derive(Default)]
pub(super) struct Cache {
    found: RwLock<HashMap<[u8; 32], (Finding, SystemTime)>>,
}

impl Cache {
    /// What was found out about a token, while it holds.
    pub(super) fn get(&self, digest: &[u8; 32], now: SystemTime) -> Option<Finding> {
        let found = self.found.read();
        let (finding, until) = found.get(digest)?;
        (*until > now).then(|| finding.clone())
    }

    /// Keeps a finding. When there is no room left, the ones that end first make some.
    pub(super) fn keep(&self, digest: [u8; 32], finding: Finding, until: SystemTime) {
        let mut found = self.found.write();
        if found.len() >= MAX_FOUND && !found.contains_key(&digest) {
            let mut ends: Vec<SystemTime> = found.values().map(|(_, until)| *until).collect();
            let (_, median, _) = ends.select_nth_unstable(MAX_FOUND / 4);
            let end = *median;
            found.retain(|_, (_, until)| *until > end);
            if found.len() >= MAX_FOUND {
                found.clear();
            }
        }
        found.insert(digest, (finding, until));
    }

    /// Forgets what was found out about a token.
    pub(super) fn forget(&self, digest: &[u8; 32]) {
        self.found.write().remove(digest);
    }

    /// Keeps that an issuer doesn't know a token, for a little while: it may be a very new one.
    pub(super) fn refuse(&self, digest: [u8; 32], error: TokenError, now: SystemTime) {
        self.keep(digest, (Err(error), 0, 0), now + REFUSED);
    }
}

/// Findings; each holds the claims, 8 KiB at the very most.
const MAX_FOUND: usize = 4096;
const REFUSED: Duration = Duration::from_secs(5);
