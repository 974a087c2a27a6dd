//! Who gets what a child says of its own accord.
//!
//! Owns the attached peers, the requests that the child has open with them, and their resource
//! subscriptions. Invariant: a response is taken only from the peer that was asked, and every table
//! is bounded.

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;

use crate::backend::instance::{Peer, PeerId};

/// The tables of one instance.
#[derive(Default)]
pub struct Routes {
    peers: HashMap<PeerId, Arc<dyn Peer>>,
    /// Requests of the child that a peer has not answered: the child's id, raw, to the peer.
    asked: HashMap<Bytes, PeerId>,
    subscriptions: HashMap<String, Vec<PeerId>>,
    /// Elicitations by URL, raw id to the peer that was asked.
    elicitations: HashMap<Bytes, PeerId>,
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
        self.asked.retain(|asked, peer| {
            if *peer == id {
                left.asked.push(asked.clone());
            }
            *peer != id
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

    /// Notes that the child asked a peer something. False: it has that id open already, or too many.
    pub fn ask(&mut self, id: Bytes, peer: PeerId) -> bool {
        if self.asked.len() >= MAX_ASKED || self.asked.contains_key(&id) {
            return false;
        }
        self.asked.insert(id, peer);
        true
    }

    /// True when `peer` was asked under `id`, which is closed by this.
    pub fn answered(&mut self, peer: PeerId, id: &[u8]) -> bool {
        if self.asked.get(id) != Some(&peer) {
            return false;
        }
        self.asked.remove(id);
        true
    }

    /// The peer that has the child's request open; closes it.
    pub fn withdrawn(&mut self, id: &[u8]) -> Option<Arc<dyn Peer>> {
        let peer = self.asked.remove(id)?;
        self.peers.get(&peer).cloned()
    }

    /// Remembers who was sent to a URL.
    pub fn elicit(&mut self, elicitation: Bytes, peer: PeerId) {
        if self.elicitations.len() < MAX_ASKED && elicitation.len() <= MAX_NAME {
            self.elicitations.insert(elicitation, peer);
        }
    }

    /// Whose elicitation has completed.
    pub fn elicited(&mut self, elicitation: &[u8]) -> Option<Arc<dyn Peer>> {
        let peer = self.elicitations.remove(elicitation)?;
        self.peers.get(&peer).cloned()
    }

    /// True when this is the first subscriber.
    pub fn subscribe(&mut self, peer: PeerId, uri: &str) -> bool {
        if let Some(peers) = self.subscriptions.get_mut(uri) {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
            return false;
        }
        if self.subscriptions.len() < MAX_SUBSCRIPTIONS && uri.len() <= MAX_NAME {
            self.subscriptions.insert(uri.to_owned(), vec![peer]);
        }
        true
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
        if let Some((_, only)) = self.only() {
            return vec![only];
        }
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

fn is_self_or_parent(parent: &str, uri: &str) -> bool {
    match uri.strip_prefix(parent) {
        Some("") => true,
        Some(rest) => parent.ends_with('/') || rest.starts_with(['/', '#', '?']),
        None => false,
    }
}

/// Requests of one child that wait for clients at once.
const MAX_ASKED: usize = 256;
/// The longest URI or elicitation id that is remembered, bytes.
const MAX_NAME: usize = 8 * 1024;
/// Resources with subscribers on one instance.
const MAX_SUBSCRIPTIONS: usize = 4096;

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
