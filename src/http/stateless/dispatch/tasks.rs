//! Requests about tasks, where there are none.
//!
//! Invariant: a task belongs to one principal, so that where others use the same child nobody can
//! begin one, ask for one or hear of one.

use super::Way;
use crate::{backend::Isolation, bridge::untasked};

impl Way<'_> {
    /// Takes out of a request what it says of tasks, where it can't have any; `None`: it is about
    /// nothing else.
    pub(super) fn settle_tasks(&mut self, is_modern: bool) -> Option<()> {
        let shared = self.is_among_others();
        // They don't cross between eras either.
        if (shared || !is_modern) && self.frame.method().starts_with("tasks/") {
            return None;
        }
        if shared {
            self.declared.tasks = false;
            self.frame = untasked::request(&self.frame)?;
            if let Some(instead) = &mut self.instead {
                *instead = untasked::request(instead)?;
            }
        }
        Some(())
    }

    /// True when other principals use its backend's instances.
    pub(super) fn is_among_others(&self) -> bool {
        let served = self.granted.served();
        served.is_ok_and(|served| served.backend.config().isolation == Isolation::Shared)
    }
}
