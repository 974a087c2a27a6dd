//! How much may wait for slow readers, over all sessions.
//!
//! Invariant: what was taken is given back once.

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

    /// Charges what leaves, until it has left: a connection drops what it has written. Small pieces
    /// are not worth counting.
    ///
    /// # Errors
    /// [`Spent`] when so much isn't left.
    pub fn hold(self: &Arc<Self>, data: Bytes) -> Result<Bytes, Spent> {
        if data.len() < SMALL {
            return Ok(data);
        }
        if !self.take(data.len()) {
            return Err(Spent);
        }
        Ok(Bytes::from_owner(Held {
            data,
            budget: self.clone(),
        }))
    }

    /// [`Budget::hold`] for what was charged until now and is on its way already.
    #[must_use]
    pub fn keep_holding(self: &Arc<Self>, data: Bytes) -> Bytes {
        self.used.fetch_add(data.len(), Ordering::Relaxed);
        Bytes::from_owner(Held {
            data,
            budget: self.clone(),
        })
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Nothing is left of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much waits to be read")]
pub struct Spent;

struct Held {
    data: Bytes,
    budget: Arc<Budget>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.put(self.data.len());
    }
}

/// Pieces below this are bounded by the number of connections.
const SMALL: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::{Budget, SMALL};
    use bytes::Bytes;
    use std::sync::Arc;

    #[test]
    fn what_leaves_is_charged_until_it_has_left() {
        let budget = Arc::new(Budget::new(3 * SMALL));
        let first = budget.hold(Bytes::from(vec![1; 2 * SMALL])).unwrap();
        assert_eq!(budget.used(), 2 * SMALL);
        assert!(budget.hold(Bytes::from(vec![2; 2 * SMALL])).is_err());
        let part = first.slice(10..20);
        drop(first);
        assert_eq!(budget.used(), 2 * SMALL, "a part of it holds all of it");
        drop(part);
        assert_eq!(budget.used(), 0);
        budget.hold(Bytes::from(vec![2; 2 * SMALL])).unwrap();
        assert_eq!(budget.used(), 0);
    }
}
