//! Orderly shutdown: every task is spawned here, so that none is forgotten.
//!
//! Owns the two signals of a stop: *draining* (take no new work, finish what runs) and *closing*
//! (end now). It must never know what the tasks do. Invariant: [`Drain::wait`] returns only when
//! every task spawned through any clone has ended.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A handle to the life of the gateway; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    draining: CancellationToken,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// A gateway that runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that [`Drain::wait`] waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// A drain of its own whose signals follow this one's; its tasks are counted apart.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            draining: self.draining.child_token(),
            closing: self.closing.child_token(),
            tasks: TaskTracker::new(),
        }
    }

    /// Starts to drain: no new work.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends what still runs.
    pub fn close(&self) {
        self.draining.cancel();
        self.closing.cancel();
    }

    /// True once draining began.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when draining begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Resolves when everything is to end now.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Waits until every task has ended.
    pub async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
