//! A folder of an instance's own.
//!
//! Owns its making and its end. It must never remove what it has not made. Invariant: the folder
//! is new, empty, and open to its owner only; it is gone when the [`Tmp`] is. Should the gateway be
//! killed, the launcher's first stage removes it.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// The folder; dropping it removes it with all that is in it.
#[derive(Debug)]
pub(super) struct Tmp(PathBuf);

impl Tmp {
    /// Makes it, for a user other than the gateway's if one is given.
    pub(super) fn make(owner: Option<(u32, u32)>) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("gatehouse-{:016x}", u64::from_ne_bytes(random));
        let path = std::env::temp_dir().join(name);
        let path = std::path::absolute(path)?;
        // It must not be there: a path that others could foresee would not be the instance's own.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let tmp = Self(path);
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&tmp.0, Some(uid), Some(gid))?;
        }
        Ok(tmp)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tmp {
    fn drop(&mut self) {
        // As a rule the launcher has already done it.
        let _ = fs::remove_dir_all(&self.0);
    }
}
