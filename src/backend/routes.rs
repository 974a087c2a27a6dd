//! Who gets what a child says of its own accord.
//!
//! Owns the attached peers, the requests that the child has open with them, and their resource
//! subscriptions. Invariant: a response is taken only from the peer that was asked, and every table
//! is bounded.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::backend::call::{Peer, PeerId};

/// The tables of one instance.
#[derive(Default)]
pub struct Routes {
    peers: HashMap<PeerId, Arc<dyn Peer>>,
    /// Requests of the child that a peer has not answered, by our own number.
    asked: BTreeMap<u64, Asked>,
    next_number: u64,
    subscriptions: HashMap<String, Vec<PeerId>>,
    /// Elicitations by URL, raw id to the peer that was asked.
    elicitations: HashMap<Bytes, PeerId>,
}

struct Asked {
    peer: PeerId,
    /// Requests without a session are peers that are not attached.
    to: Weak<dyn Peer>,
    /// The child's id, raw.
    id: Bytes,
    since: Instant,
}

/// What a peer leaves behind.
#[derive(Debug, Default)]
pub struct Left {
    /// Ids of the child's requests that it never answered.
    pub asked: Vec<Bytes>,
    /// Resources that nobody is subscribed to any more.
    pub unsubscribed: Vec<String>,
}

impl Routes {
    /// Adds a peer.
    pub fn attach(&mut self, id: PeerId, peer: Arc<dyn Peer>) {
        self.peers.insert(id, peer);
    }

    /// Takes a peer away.
    pub fn detach(&mut self, id: PeerId) -> Left {
        self.peers.remove(&id);
        let mut left = Left::default();
        self.asked.retain(|_, asked| {
            if asked.peer == id {
                left.asked.push(asked.id.clone());
            }
            asked.peer != id
        });
        self.elicitations.retain(|_, peer| *peer != id);
        self.subscriptions.retain(|uri, peers| {
            peers.retain(|peer| *peer != id);
            if peers.is_empty() {
                left.unsubscribed.push(uri.clone());
            }
            !peers.is_empty()
        });
        left
    }

    /// True when the peer is attached.
    #[must_use]
    pub fn has(&self, id: PeerId) -> bool {
        self.peers.contains_key(&id)
    }

    /// True when the number of a peer is such a one.
    #[must_use]
    pub fn any(&self, is: impl Fn(PeerId) -> bool) -> bool {
        self.peers.keys().any(|id| is(*id))
    }

    /// True without any peer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The only peer, if there is just one.
    #[must_use]
    pub fn only(&self) -> Option<(PeerId, Arc<dyn Peer>)> {
        let mut peers = self.peers.iter();
        let (id, peer) = peers.next()?;
        peers.next().is_none().then(|| (*id, peer.clone()))
    }

    /// All peers.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<dyn Peer>> {
        self.peers.values().cloned().collect()
    }

    /// Notes that the child asked a peer something; gives it a number of ours. `None`: the child has
    /// that id open already, or too many.
    pub fn ask(&mut self, id: Bytes, (peer, to): (PeerId, &Arc<dyn Peer>)) -> Option<u64> {
        if self.asked.len() >= MAX_ASKED || self.asked.values().any(|asked| asked.id == id) {
            return None;
        }
        self.next_number += 1;
        self.asked.insert(
            self.next_number,
            Asked {
                peer,
                to: Arc::downgrade(to),
                id,
                since: Instant::now(),
            },
        );
        Some(self.next_number)
    }

    /// The child's id of the request that `peer` was asked under `number`.
    #[must_use]
    pub fn asked(&self, peer: PeerId, number: u64) -> Option<Bytes> {
        self.asked
            .get(&number)
            .filter(|asked| asked.peer == peer)
            .map(|asked| asked.id.clone())
    }

    /// Closes a request of the child. False: it was closed, and so answered, before.
    pub fn forget(&mut self, number: u64) -> bool {
        self.asked.remove(&number).is_some()
    }

    /// Closes the request that the child takes back; whom it was put to, under which number.
    pub fn withdraw(&mut self, id: &[u8]) -> Option<(u64, Arc<dyn Peer>)> {
        let number = *self.asked.iter().find(|(_, asked)| asked.id == id)?.0;
        let asked = self.asked.remove(&number)?;
        Some((number, asked.to.upgrade()?))
    }

    /// Closes the requests that were put before `before`; their ids at the child.
    pub fn overdue(&mut self, before: Instant) -> Vec<Bytes> {
        let mut ids = Vec::new();
        while let Some(entry) = self.asked.first_entry() {
            if entry.get().since > before {
                break;
            }
            ids.push(entry.remove().id);
        }
        ids
    }

    /// Remembers who was sent to a URL.
    pub fn elicit(&mut self, elicitation: Bytes, peer: PeerId) {
        if self.elicitations.len() < MAX_ASKED && elicitation.len() <= MAX_ELICITATION_ID {
            self.elicitations.insert(elicitation, peer);
        }
    }

    /// Whose elicitation has completed.
    pub fn elicited(&mut self, elicitation: &[u8]) -> Option<Arc<dyn Peer>> {
        let peer = self.elicitations.remove(elicitation)?;
        self.peers.get(&peer).cloned()
    }

    /// False when the peer wants too many, or too long a one.
    pub fn subscribe(&mut self, peer: PeerId, uri: &str) -> bool {
        if !self.has(peer) || uri.len() > MAX_URI || self.subscribed(peer) >= MAX_SUBSCRIPTIONS {
            return false;
        }
        let peers = self.subscriptions.entry(uri.to_owned()).or_default();
        if !peers.contains(&peer) {
            peers.push(peer);
        }
        true
    }

    fn subscribed(&self, peer: PeerId) -> usize {
        self.subscriptions
            .values()
            .filter(|peers| peers.contains(&peer))
            .count()
    }

    /// True when that was the last subscriber.
    pub fn unsubscribe(&mut self, peer: PeerId, uri: &str) -> bool {
        let Some(peers) = self.subscriptions.get_mut(uri) else {
            return true;
        };
        peers.retain(|other| *other != peer);
        if peers.is_empty() {
            self.subscriptions.remove(uri);
            return true;
        }
        false
    }

    /// Subscribers of a resource or of one of its parents.
    #[must_use]
    pub fn subscribers(&self, uri: &str) -> Vec<Arc<dyn Peer>> {
        let mut found: Vec<PeerId> = self
            .subscriptions
            .iter()
            .filter(|(subscribed, _)| is_self_or_parent(subscribed, uri))
            .flat_map(|(_, peers)| peers.iter().copied())
            .collect();
        found.sort_unstable();
        found.dedup();
        found
            .iter()
            .filter_map(|id| self.peers.get(id).cloned())
            .collect()
    }

    /// Forgets everything; returns the peers.
    pub fn clear(&mut self) -> Vec<Arc<dyn Peer>> {
        let peers = self.peers.drain().map(|(_, peer)| peer).collect();
        *self = Self::default();
        peers
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

/// True when an update of `uri` is one of `parent`.
#[must_use]
pub fn is_self_or_parent(parent: &str, uri: &str) -> bool {
    match uri.strip_prefix(parent) {
        Some("") => true,
        Some(rest) => parent.ends_with('/') || rest.starts_with(['/', '#', '?']),
        None => false,
    }
}

/// Requests of one child that wait for clients at once.
const MAX_ASKED: usize = 256;
/// Resources that one peer is subscribed to.
const MAX_SUBSCRIPTIONS: usize = 256;
/// A URI that can be subscribed to, bytes.
const MAX_URI: usize = 8 * 1024;
/// An elicitation's id, bytes; a longer one is not reported complete.
const MAX_ELICITATION_ID: usize = 1024;

#[cfg(test)]
mod tests {
    use super::is_self_or_parent;

    #[test]
    fn updates_of_parts_reach_subscribers_of_the_whole() {
        assert!(is_self_or_parent("file:///a", "file:///a"));
        assert!(is_self_or_parent("file:///a", "file:///a/b"));
        assert!(is_self_or_parent("file:///a/", "file:///a/b"));
        assert!(!is_self_or_parent("file:///a", "file:///ab"));
        assert!(!is_self_or_parent("file:///a/b", "file:///a"));
    }
}
