//! Which log lines the sessions want that share a child between principals.
//!
//! A child has one level for all. Owns what each session asked for. Invariant: the child is told the
//! lowest of them, and `info` at the highest, since whoever asked for nothing hears that much.

use std::{collections::HashMap, sync::Arc};

use crate::{
    backend::{
        ask::{self, Unanswered},
        call::PeerId,
        instance::Instance,
    },
    frame::{self, Frame, Kind},
};

/// The levels of one instance's peers; 0 is `debug`.
#[derive(Debug, Default)]
pub struct Levels {
    wanted: HashMap<PeerId, u8>,
    told: Option<u8>,
}

impl Levels {
    /// Notes what a peer wants. The level that the child has to be told, if it was told another.
    pub fn want(&mut self, peer: PeerId, level: u8) -> Option<u8> {
        self.wanted.insert(peer, level);
        let lowest = self.wanted.values().copied().min().unwrap_or(INFO);
        let lowest = Some(lowest.min(INFO));
        if self.told == lowest {
            return None;
        }
        self.told = lowest;
        lowest
    }

    /// The child didn't take what it was told.
    pub fn untold(&mut self) {
        self.told = None;
    }

    /// Takes a peer's wish away.
    pub fn forget(&mut self, peer: PeerId) {
        self.wanted.remove(&peer);
    }

    /// True when a peer is to hear a line of this level. One that asked for nothing hears what the
    /// child says without having been told to say more.
    #[must_use]
    pub fn hears(&self, peer: PeerId, level: u8) -> bool {
        match self.wanted.get(&peer) {
            Some(wanted) => level >= *wanted,
            None => self.told.is_none() || level >= INFO,
        }
    }
}

impl Instance {
    /// Notes which lines a peer wants, and tells the child where it has to say more or less. The
    /// child's answer where it is an error.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn set_level(
        self: &Arc<Self>,
        peer: PeerId,
        level: u8,
    ) -> Result<Option<Frame>, Unanswered> {
        let told = {
            // One after the other, so that the child hears the last of them last; nobody waits for
            // what it answers to another.
            let _alone = self.telling.lock().await;
            let told = self.with_routes(|routes| routes.levels().want(peer, level));
            let Some(name) = told.and_then(|told| LEVELS.get(usize::from(told))) else {
                return Ok(None);
            };
            let params = format!(r#"{{"level":"{name}"}}"#);
            let request = frame::request(b"0", "logging/setLevel", Some(params.as_bytes()));
            let request = Frame::from_child(request).map_err(|_| Unanswered::Unreadable)?;
            ask::put(self, &request)
        };
        let answer = match told {
            Ok(told) => ask::answer(told, self.limits().request_timeout).await,
            Err(gone) => Err(gone),
        };
        match answer {
            Ok(answer) if answer.kind() == Kind::Result => Ok(None),
            refused => {
                self.with_routes(|routes| routes.levels().untold());
                refused.map(Some)
            }
        }
    }

    /// True when a peer is to hear a line of the level with this name.
    #[must_use]
    pub fn hears(&self, peer: PeerId, level: &str) -> bool {
        // One that isn't known is told to everybody.
        let level = LEVELS.iter().position(|known| *known == level);
        let level = level.and_then(|level| u8::try_from(level).ok());
        level.is_none_or(|level| self.with_routes(|routes| routes.levels().hears(peer, level)))
    }
}

/// The levels of logs (RFC 5424).
pub const LEVELS: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];
const INFO: u8 = 1;

#[cfg(test)]
mod tests {
    use super::Levels;

    #[test]
    fn the_child_is_told_the_lowest_that_anybody_wants() {
        let mut levels = Levels::default();
        assert!(levels.hears(1, 0));
        assert_eq!(levels.want(1, 7), Some(1));
        assert_eq!(levels.want(2, 0), Some(0));
        assert_eq!(levels.want(1, 4), None);
        assert!(levels.hears(2, 0) && levels.hears(1, 4) && !levels.hears(1, 3));
        assert!(levels.hears(3, 1) && !levels.hears(3, 0));
        levels.forget(2);
        assert_eq!(levels.want(1, 4), Some(1));
        levels.untold();
        assert_eq!(levels.want(1, 4), Some(1));
    }
}
