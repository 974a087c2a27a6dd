//! Client revision × server revision: what is translated.
//!
//! Owns the differences between the era with a handshake and the one without. It must never know
//! HTTP. Invariant: what neither era gives another meaning passes byte for byte.

pub(crate) mod legacy;
mod meta;
pub(crate) mod modern;
pub(crate) mod object;
pub(crate) mod seal;
