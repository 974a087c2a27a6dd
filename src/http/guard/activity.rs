//! How many requests of an HTTP/2 connection are being answered.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The open requests of one connection; clones share it.
///
/// The guard doesn't read HTTP/2 frames, so the service says when it begins and ends an exchange.
#[derive(Debug, Clone)]
pub struct Activity {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    open: usize,
    idle_since: Instant,
}

impl Activity {
    /// A connection that has no request yet.
    #[must_use]
    pub fn new() -> Self {
        let state = State {
            open: 0,
            idle_since: Instant::now(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// A request begins; drop what is returned together with its response's body.
    #[must_use]
    pub fn begin(&self) -> Busy {
        self.state.lock().open += 1;
        Busy {
            activity: self.clone(),
        }
    }

    /// When the last request ended, if none is open.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.open == 0).then_some(state.idle_since)
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Busy {
    activity: Activity,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.activity.state.lock();
        state.open = state.open.saturating_sub(1);
        state.idle_since = Instant::now();
    }
}
