//! Places that nobody uses, given to who needs one.
//!
//! Invariant: whatever it was started for, an instance that serves nobody keeps nobody else out: a
//! session's child never serves requests without one, nor the reverse, and so neither may wait for
//! the other's end.

use std::sync::Arc;

use super::{Backend, PATIENCE};
use crate::backend::instance::Instance;

impl Backend {
    /// Ends an instance that nobody uses, where one is needed elsewhere; false: there is none.
    pub(super) async fn make_room(&self) -> bool {
        let Some(instance) = self.seats.evict(None).or_else(|| self.unused()) else {
            return false;
        };
        instance.stop();
        instance.ended().await;
        // Its place is given back a moment later.
        let _ = tokio::time::timeout(PATIENCE, self.slots.acquire()).await;
        true
    }

    /// Takes out a common instance whose last session has ended.
    fn unused(&self) -> Option<Arc<Instance>> {
        let mut state = self.state.lock();
        let mut common = state.common.iter();
        // Nobody can come to use it meanwhile: who joins it holds the same lock.
        let (key, _) = common.find(|(_, common)| *common.users.lock() == 0)?;
        let key = key.clone();
        let common = state.common.remove(&key)?;
        Some(common.instance.clone())
    }
}
