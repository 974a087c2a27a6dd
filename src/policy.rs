//! What a principal may do: (Principal, Frame) to [`Permit`] or [`Denied`].
//!
//! Owns roles and filters. It must never know HTTP or sessions. Invariant: a message reaches a
//! child only inside a [`Permit`], and only this module makes one; what was looked at is what is
//! sent, because the permit holds the very frame that was checked.

pub mod filter;
pub mod prune;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    frame::{Frame, Kind},
    principal::Principal,
};

pub use self::prune::Prune;

/// The roles of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// Role name to what it grants.
    pub roles: BTreeMap<String, Role>,
}

/// `[roles.NAME]`: backend name (or `*`) to what is granted there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Role {
    /// Backend name, or `*` for all.
    pub backends: BTreeMap<String, Grant>,
}

/// What a role grants on a backend; `None` grants everything of that kind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// Tool names.
    pub tools: Option<filter::Globs>,
    /// Prompt names.
    pub prompts: Option<filter::Globs>,
    /// Resource URIs.
    pub resources: Option<filter::Globs>,
}

/// What one principal may do on one backend. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    grants: Vec<Grant>,
    filter: filter::Config,
    restricted: bool,
}

/// A message that may be sent. Only [`Access::check`] makes one.
#[derive(Debug)]
pub struct Permit {
    frame: Frame,
    prune: Prune,
}

/// Why a message may not be sent; what it names doesn't exist for this principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// A tool outside the role or the filter.
    #[error("Unknown tool: {0}")]
    Tool(String),
    /// A prompt outside the role or the filter.
    #[error("Unknown prompt: {0}")]
    Prompt(String),
    /// A resource outside the role or the filter.
    #[error("Resource not found")]
    Resource(String),
    /// A method outside the filter.
    #[error("Method not found")]
    Method,
    /// The message doesn't say what it is about, so it can't be checked.
    #[error("Invalid params")]
    Params,
}

impl Denied {
    /// The JSON-RPC error code.
    #[must_use]
    pub fn code(&self) -> i32 {
        match self {
            Self::Tool(_) | Self::Prompt(_) | Self::Params => -32602,
            Self::Resource(_) => -32002,
            Self::Method => -32601,
        }
    }

    /// The JSON-RPC error's `data`, raw.
    #[must_use]
    pub fn data(&self) -> Option<String> {
        match self {
            Self::Resource(uri) => Some(serde_json::json!({ "uri": uri }).to_string()),
            _ => None,
        }
    }
}

impl Config {
    /// What a principal may do on a backend; `None` when no role of his grants it.
    #[must_use]
    pub fn access(
        &self,
        principal: &Principal,
        backend: &str,
        filter: &filter::Config,
    ) -> Option<Access> {
        let mut grants: Vec<Grant> = principal
            .roles()
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flat_map(|role| [role.backends.get(backend), role.backends.get("*")])
            .flatten()
            .cloned()
            .collect();
        if grants.is_empty() {
            return None;
        }
        if grants.contains(&Grant::default()) {
            grants = vec![Grant::default()];
        }
        let restricted = *filter != filter::Config::default() || grants[0] != Grant::default();
        Some(Access {
            inner: Arc::new(Inner {
                grants,
                filter: filter.clone(),
                restricted,
            }),
        })
    }
}

impl Access {
    /// Decides about a client's message.
    ///
    /// # Errors
    /// [`Denied`]: to be answered as if the thing did not exist.
    pub fn check(&self, frame: Frame) -> Result<Permit, Denied> {
        if !self.inner.restricted || !matches!(frame.kind(), Kind::Request | Kind::Notification) {
            return Ok(Permit {
                frame,
                prune: Prune::nothing(),
            });
        }
        if !self.inner.filter.methods.permits(frame.method()) {
            return Err(Denied::Method);
        }
        self.check_target(&frame)?;
        let prune = Prune::of_answer_to(frame.method(), self);
        Ok(Permit { frame, prune })
    }

    /// True when a message of the child may pass to this principal.
    #[must_use]
    pub fn permits_from_child(&self, frame: &Frame) -> bool {
        if !self.inner.restricted {
            return true;
        }
        self.inner.filter.methods.permits(frame.method())
            && (frame.method() != "notifications/resources/updated"
                || frame.uri().is_some_and(|uri| self.permits_resource(&uri)))
    }

    fn check_target(&self, frame: &Frame) -> Result<(), Denied> {
        match frame.method() {
            "tools/call" => {
                let name = frame.name().ok_or(Denied::Params)?;
                if self.permits_tool(&name) {
                    Ok(())
                } else {
                    Err(Denied::Tool(name.into_owned()))
                }
            }
            "prompts/get" => self.check_prompt(&frame.name().ok_or(Denied::Params)?),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                self.check_resource(&frame.uri().ok_or(Denied::Params)?)
            }
            "completion/complete" => self.check_reference(frame),
            _ => Ok(()),
        }
    }

    fn check_prompt(&self, name: &str) -> Result<(), Denied> {
        if self.permits_prompt(name) {
            Ok(())
        } else {
            Err(Denied::Prompt(name.to_owned()))
        }
    }

    fn check_resource(&self, uri: &str) -> Result<(), Denied> {
        if self.permits_resource(uri) {
            Ok(())
        } else {
            Err(Denied::Resource(uri.to_owned()))
        }
    }

    /// What a completion is for: a prompt by name or a resource by URI (template).
    fn check_reference(&self, frame: &Frame) -> Result<(), Denied> {
        #[derive(serde::Deserialize)]
        struct Params {
            r#ref: Reference,
        }
        #[derive(serde::Deserialize)]
        struct Reference {
            r#type: String,
            name: Option<String>,
            uri: Option<String>,
        }
        let params: Params = serde_json::from_slice(frame.params().ok_or(Denied::Params)?)
            .map_err(|_| Denied::Params)?;
        match (
            params.r#ref.r#type.as_str(),
            params.r#ref.name,
            params.r#ref.uri,
        ) {
            ("ref/prompt", Some(name), _) => self.check_prompt(&name),
            ("ref/resource", _, Some(uri)) => self.check_resource(&uri),
            _ => Err(Denied::Params),
        }
    }

    fn permits_tool(&self, name: &str) -> bool {
        self.inner.filter.tools.permits(name)
            && self
                .inner
                .grants
                .iter()
                .any(|grant| grants(grant.tools.as_ref(), name))
    }

    fn permits_prompt(&self, name: &str) -> bool {
        self.inner.filter.prompts.permits(name)
            && self
                .inner
                .grants
                .iter()
                .any(|grant| grants(grant.prompts.as_ref(), name))
    }

    fn permits_resource(&self, uri: &str) -> bool {
        let limited = !self.inner.filter.resources.is_open()
            || self
                .inner
                .grants
                .iter()
                .all(|grant| grant.resources.is_some());
        // A glob over the text can't tell where `a/../b` leads.
        if limited && filter::climbs(uri) {
            return false;
        }
        self.inner.filter.resources.permits(uri)
            && self
                .inner
                .grants
                .iter()
                .any(|grant| grants(grant.resources.as_ref(), uri))
    }
}

impl Permit {
    /// The message.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The message, and what must be taken out of its answer.
    #[must_use]
    pub fn into_parts(self) -> (Frame, Prune) {
        (self.frame, self.prune)
    }
}

fn grants(globs: Option<&filter::Globs>, name: &str) -> bool {
    globs.is_none_or(|globs| globs.matches(name))
}
