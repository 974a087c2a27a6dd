//! How much may be on its way to clients, over all sessions.
//!
//! Owns the count of bytes that were taken from children and not yet by clients. Invariant: what
//! was taken is given back once, when the last of the bytes it was taken for is dropped, wherever
//! that is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

/// A number of bytes that many share.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// Takes `bytes`; false, and nothing is taken, when they aren't left.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }

    /// Gives `bytes` back.
    pub fn put(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes in all.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// One principal's part of the budget of all.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    all: Arc<Budget>,
    own: Arc<Budget>,
}

impl Share {
    pub(crate) fn new(all: Arc<Budget>, own: Arc<Budget>) -> Self {
        Self { all, own }
    }

    /// Takes `bytes`, if they are left to this principal and to all.
    pub(crate) fn charge(&self, bytes: usize) -> Option<Charge> {
        if !self.own.take(bytes) {
            return None;
        }
        if !self.all.take(bytes) {
            self.own.put(bytes);
            return None;
        }
        Some(Charge {
            share: self.clone(),
            bytes,
        })
    }
}

/// Bytes that were taken; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    share: Share,
    bytes: usize,
}

impl Charge {
    /// Both as one; they are the same principal's.
    pub(crate) fn sum(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(mut one), Some(mut other)) => {
                one.bytes += std::mem::take(&mut other.bytes);
                Some(one)
            }
            (one, other) => one.or(other),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.share.own.put(self.bytes);
            self.share.all.put(self.bytes);
        }
    }
}

/// A message on its way to a client, with what it was charged.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) data: Bytes,
    pub(crate) charge: Option<Charge>,
}

impl Parcel {
    /// Its bytes, which give back the charge when the last of them is dropped.
    pub(crate) fn into_bytes(self) -> Bytes {
        hold(self.data, self.charge)
    }
}

impl From<Bytes> for Parcel {
    fn from(data: Bytes) -> Self {
        Self { data, charge: None }
    }
}

/// Bytes that give a charge back when the last of them is dropped.
pub(crate) fn hold(bytes: Bytes, charge: Option<Charge>) -> Bytes {
    match charge {
        Some(charge) => Bytes::from_owner(Held {
            bytes,
            _charge: charge,
        }),
        None => bytes,
    }
}

struct Held {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{Budget, Charge, Share, hold};

    #[test]
    fn one_principal_has_a_part_and_it_comes_back_with_the_last_byte() {
        let all = Arc::new(Budget::new(10));
        let share = |own| Share::new(all.clone(), Arc::new(Budget::new(own)));
        let (alice, bob) = (share(6), share(6));
        let first = Charge::sum(alice.charge(4), alice.charge(2));
        assert!(alice.charge(1).is_none());
        let second = bob.charge(4).unwrap();
        assert!(bob.charge(1).is_none(), "more than there is for all");
        let bytes = hold(Bytes::from_static(b"answer"), first);
        let part = bytes.slice(2..3);
        drop(bytes);
        assert_eq!(all.used(), 10);
        drop(part);
        assert_eq!(all.used(), 4);
        drop(second);
        assert_eq!(all.used(), 0);
        assert!(alice.charge(6).is_some());
    }
}
