//! Values that must not be printed.
//!
//! Owns the one type that holds a secret in memory. It must never reach a log, an error or an
//! audit event: `Debug` and `Display` show a fixed word.

mod exposure;

use std::fmt;

pub use self::exposure::{exposes, is_exposed};

/// A secret string; read it with [`Secret::expose`], nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}
