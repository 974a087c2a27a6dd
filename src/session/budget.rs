//! How much may wait for slow readers: of one principal, and over all.
//!
//! Owns the count, and the large pieces that are on their way out. Invariants: what was taken is
//! given back once; a large piece that its reader doesn't take is let go after [`STALL`].

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A number of bytes that many share.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    /// Less than is used where it was lowered; then nothing is taken until enough was given back.
    limit: AtomicUsize,
    /// What is taken here is taken there too.
    whole: Option<Arc<Budget>>,
    /// Large pieces on their way out; in the whole only.
    leaving: Mutex<Vec<Weak<Leaving>>>,
}

/// Nothing is left of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much waits to be read")]
pub(crate) struct Spent;

/// A large piece on its way to a reader, taken bit by bit.
#[derive(Debug)]
pub(crate) struct Leaving {
    state: Mutex<Rest>,
    charge: usize,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Rest {
    data: Bytes,
    /// What comes behind it.
    tail: Bytes,
    moved: Instant,
    given_up: bool,
}

impl Budget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            whole: None,
            leaving: Mutex::default(),
        }
    }

    /// A part of a budget: `limit` bytes of it at most.
    #[must_use]
    pub fn share(whole: Arc<Self>, limit: usize) -> Self {
        Self {
            whole: Some(whole),
            ..Self::new(limit)
        }
    }

    /// From now on it has `limit` bytes; what was taken stays taken.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes `bytes`; false, and nothing is taken, when they aren't left.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        if !self.take_here(bytes) {
            return false;
        }
        let taken = self
            .whole
            .as_ref()
            .is_none_or(|whole| whole.take_here(bytes));
        if !taken {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }

    fn take_here(&self, bytes: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .is_ok()
    }

    /// Gives `bytes` back.
    pub fn put(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Sends a large piece on its way, charged until it has left.
    pub(crate) fn send(self: &Arc<Self>, data: Bytes) -> Result<Arc<Leaving>, Spent> {
        self.send_both(data, Bytes::new())
    }

    /// As [`Budget::send`], for a piece in two parts that need not be put together for it.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn send_both(
        self: &Arc<Self>,
        data: Bytes,
        tail: Bytes,
    ) -> Result<Arc<Leaving>, Spent> {
        let charge = data.len() + tail.len();
        if self.take(charge) {
            Ok(self.leave((data, tail), charge))
        } else {
            Err(Spent)
        }
    }

    /// Sends a large piece on its way that is charged elsewhere, or was until now.
    pub(crate) fn send_free(self: &Arc<Self>, data: Bytes) -> Arc<Leaving> {
        self.leave((data, Bytes::new()), 0)
    }

    fn leave(self: &Arc<Self>, (data, tail): (Bytes, Bytes), charge: usize) -> Arc<Leaving> {
        let rest = Rest {
            data,
            tail,
            moved: Instant::now(),
            given_up: false,
        };
        let leaving = Arc::new(Leaving {
            state: Mutex::new(rest),
            charge,
            budget: self.clone(),
        });
        let whole = self.whole.as_ref().unwrap_or(self);
        whole.leaving.lock().push(Arc::downgrade(&leaving));
        leaving
    }

    /// Lets go of the pieces that nobody takes.
    pub(crate) fn sweep(&self, now: Instant) {
        self.leaving.lock().retain(|leaving| {
            let Some(leaving) = leaving.upgrade() else {
                return false;
            };
            let mut rest = leaving.state.lock();
            if rest.moved + STALL <= now {
                rest.data = Bytes::new();
                rest.tail = Bytes::new();
                rest.given_up = true;
            }
            !rest.given_up
        });
    }
}

impl Leaving {
    /// The next bit, `None` at the end.
    ///
    /// # Errors
    /// [`Spent`] when the piece was let go.
    pub(crate) fn next(&self) -> Result<Option<Bytes>, Spent> {
        let mut rest = self.state.lock();
        if rest.given_up {
            return Err(Spent);
        }
        rest.moved = Instant::now();
        if rest.data.is_empty() {
            rest.data = std::mem::take(&mut rest.tail);
        }
        let bit = rest.data.len().min(BIT);
        Ok((bit > 0).then(|| rest.data.split_to(bit)))
    }

    /// True when all of it was taken.
    pub(crate) fn is_over(&self) -> bool {
        let rest = self.state.lock();
        rest.data.is_empty() && rest.tail.is_empty() && !rest.given_up
    }

    /// Bytes still to come.
    pub(crate) fn left(&self) -> usize {
        let rest = self.state.lock();
        rest.data.len() + rest.tail.len()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.charge > 0 {
            self.budget.put(self.charge);
        }
    }
}

/// A reader that takes nothing for so long has left.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// Pieces below this are bounded by the number of connections, and leave whole.
pub(crate) const LARGE: usize = 64 * 1024;
/// Of a large piece, at once: what HTTP holds of it besides us. With the eight bytes that HTTP/1 puts
/// around it in a stream it is what TLS takes at once, so that no few bytes are left to be sent alone.
const BIT: usize = 64 * 1024 - 8;

#[cfg(test)]
mod tests {
    use super::{BIT, Budget, LARGE, STALL};
    use bytes::Bytes;
    use std::sync::Arc;
    use tokio::time::Instant;

    #[test]
    fn what_leaves_is_charged_until_it_has_left() {
        let budget = Arc::new(Budget::new(3 * LARGE));
        let piece = budget.send(Bytes::from(vec![1; 2 * LARGE])).unwrap();
        assert_eq!(budget.used(), 2 * LARGE);
        assert!(budget.send(Bytes::from(vec![2; 2 * LARGE])).is_err());
        assert_eq!(piece.next().unwrap().map(|bit| bit.len()), Some(BIT));
        assert_eq!(piece.left(), 2 * LARGE - BIT);
        drop(piece);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn two_parts_leave_one_after_the_other() {
        let budget = Arc::new(Budget::new(3 * LARGE));
        let (head, tail) = (Bytes::from_static(b"head"), Bytes::from(vec![1; BIT]));
        let piece = budget.send_both(head.clone(), tail.clone()).unwrap();
        assert_eq!((budget.used(), piece.left()), (4 + BIT, 4 + BIT));
        assert_eq!(piece.next().unwrap(), Some(head));
        assert!(!piece.is_over());
        assert_eq!(piece.next().unwrap(), Some(tail));
        assert!(piece.is_over());
        assert_eq!(piece.next().unwrap(), None);
    }

    #[test]
    fn what_nobody_takes_is_let_go() {
        let budget = Arc::new(Budget::new(3 * LARGE));
        let piece = budget.send(Bytes::from(vec![1; 2 * LARGE])).unwrap();
        budget.sweep(Instant::now());
        assert!(piece.next().is_ok());
        budget.sweep(Instant::now() + STALL);
        assert!(piece.next().is_err());
    }

    #[test]
    fn a_limit_that_moves_forgets_nothing_that_was_taken() {
        let budget = Budget::new(100);
        assert!(budget.take(80));
        budget.set_limit(50);
        assert!(!budget.take(1));
        budget.put(60);
        assert!(budget.take(30));
        assert!(!budget.take(1));
        budget.set_limit(51);
        assert!(budget.take(1));
        assert_eq!(budget.used(), 51);
    }

    #[test]
    fn one_share_cannot_use_up_the_whole() {
        let whole = Arc::new(Budget::new(100));
        let (one, other) = (
            Budget::share(whole.clone(), 40),
            Budget::share(whole.clone(), 80),
        );
        assert!(one.take(40));
        assert!(!one.take(1));
        assert!(!other.take(61), "more than is left of the whole");
        assert!(other.take(60));
        one.put(40);
        other.put(60);
        assert_eq!(whole.used(), 0);
    }
}
