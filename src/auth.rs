//! Credentials to a [`Principal`](crate::principal::Principal).

pub mod key;

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Requests without credentials are the principal `anonymous`.
    pub anonymous: bool,
    /// The API keys.
    pub keys: Vec<key::Entry>,
}
