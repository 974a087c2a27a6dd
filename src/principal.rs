//! Who a request was authenticated as.
//!
//! Owns the identity that sessions, limits and audit events are keyed by. It must never hold the
//! credential itself. Invariant: two principals are the same exactly when method and name are.

use std::{sync::Arc, time::SystemTime};

/// How a principal proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// An API key of `[[auth.keys]]`.
    Key,
    /// `[auth] anonymous = true`: no proof at all, loopback only.
    Anonymous,
}

impl Method {
    /// The word that stands in logs and audit events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Anonymous => "anonymous",
        }
    }
}

/// An authenticated caller: cheap to clone, compared by method and name.
#[derive(Debug, Clone)]
pub struct Principal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    method: Method,
    name: String,
    roles: Vec<String>,
    expires: Option<SystemTime>,
}

impl Principal {
    /// A principal with the roles it was given; `expires` ends its sessions too.
    #[must_use]
    pub fn new(
        method: Method,
        name: impl Into<String>,
        roles: Vec<String>,
        expires: Option<SystemTime>,
    ) -> Self {
        let name = name.into();
        Self {
            inner: Arc::new(Inner {
                method,
                name,
                roles,
                expires,
            }),
        }
    }

    /// How it authenticated.
    #[must_use]
    pub fn method(&self) -> Method {
        self.inner.method
    }

    /// Distinguishes this very value and its clones from every other one alive, namesakes included.
    #[must_use]
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    /// Its name, unique within its method.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The names of the roles it holds.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.inner.roles
    }

    /// When its credential ends, if it does.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.inner.expires
    }

    /// True once the credential has ended.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> bool {
        self.inner.expires.is_some_and(|end| end <= now)
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.inner.method == other.inner.method && self.inner.name == other.inner.name
    }
}

impl Eq for Principal {}

impl std::hash::Hash for Principal {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.inner.method.hash(state);
        self.inner.name.hash(state);
    }
}
