//! The room in a child's pipe.
//!
//! Owns the one setting that the kernel's default is too small for. Invariant: what can't be had is
//! done without.

use std::os::fd::AsFd;

/// Lets a child that writes long messages write more of one at once: each time that it fills the
/// pipe costs a switch between it and its reader.
///
/// Only for those that do: what all pipes of a user hold is limited, and beyond that limit the
/// kernel makes new ones small.
pub(in crate::backend) fn widen(pipe: impl AsFd) {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::fcntl::fcntl(pipe, nix::fcntl::FcntlArg::F_SETPIPE_SZ(WIDE)) {
        tracing::debug!(%error, "a pipe stays as narrow as it is");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = pipe;
}

/// What a pipe holds at first (pipe(7)); a message beyond it is a long one.
pub(in crate::backend) const NARROW: usize = 64 * 1024;

#[cfg(target_os = "linux")]
const WIDE: i32 = 512 * 1024;
