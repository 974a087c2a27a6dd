//! What is hidden from sandboxed children.
//!
//! Owns the list of the gateway's own files, as it is when a child starts. It must never open one of
//! them. Invariant: what came into being since the list was made is on it for the next child.

use std::{fmt, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

/// Shared by all clones of a spawner.
#[derive(Clone, Default)]
pub(super) struct Hidden(Arc<Mutex<List>>);

#[derive(Default)]
struct List {
    files: Vec<PathBuf>,
    more: Option<Arc<More>>,
}

/// Tells of files that others than the configuration name.
type More = dyn Fn() -> Vec<PathBuf> + Send + Sync;

impl Hidden {
    pub(super) fn set(&self, files: Vec<PathBuf>, more: Option<Arc<More>>) {
        *self.0.lock() = List { files, more };
    }

    /// All of them at this moment.
    pub(super) fn now(&self) -> Vec<PathBuf> {
        let (mut files, more) = {
            let list = self.0.lock();
            (list.files.clone(), list.more.clone())
        };
        // It may look at a folder: not under the lock.
        files.extend(more.map(|more| more()).unwrap_or_default());
        files.sort();
        files.dedup();
        files
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hidden").field(&self.0.lock().files).finish()
    }
}
