//! Tokens that only their issuer can read, as long as it may have to be asked again.
//!
//! Owns the only tokens that are kept, in memory. Invariants: one is kept after its issuer has vouched
//! for it, until the issuer says otherwise or its time is over; so many and no more.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use crate::secret::Secret;

#[derive(Default)]
pub(super) struct Held {
    tokens: Mutex<HashMap<[u8; 32], (Secret, SystemTime)>>,
}

impl Held {
    /// Keeps a token that its issuer has just vouched for. Without room it is asked about when it comes
    /// again, and what goes on under it ends before.
    pub(super) fn keep(&self, digest: [u8; 32], token: &str, now: SystemTime) {
        let mut tokens = self.tokens.lock();
        if tokens.len() >= MAX_HELD && !tokens.contains_key(&digest) {
            tokens.retain(|_, (_, until)| *until > now);
        }
        if tokens.len() < MAX_HELD || tokens.contains_key(&digest) {
            tokens.insert(digest, (Secret::new(token), now + KEPT));
        }
    }

    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Secret> {
        let tokens = self.tokens.lock();
        tokens.get(digest).map(|(token, _)| token.clone())
    }

    /// True for a token that was good, and of which nobody has said anything else.
    pub(super) fn has(&self, digest: &[u8; 32], now: SystemTime) -> bool {
        let tokens = self.tokens.lock();
        tokens.get(digest).is_some_and(|(_, until)| *until > now)
    }

    pub(super) fn forget(&self, digest: &[u8; 32]) {
        self.tokens.lock().remove(digest);
    }
}

/// Tokens, of 8 KiB at the very most.
const MAX_HELD: usize = 4096;
/// After its issuer's last good word.
const KEPT: Duration = Duration::from_secs(3600);
