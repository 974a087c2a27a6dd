//! API keys: hashed at rest, compared in constant time.

use std::time::SystemTime;

/// One block of `[[auth.keys]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The principal's name.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// Roles the key holds.
    pub roles: Vec<String>,
    /// After this the key is refused.
    pub expires: Option<SystemTime>,
}
