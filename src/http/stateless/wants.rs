//! What a client wants to hear of, and what of it it may.
//!
//! Owns the reading of a filter of subscriptions. Invariant: each resource is judged as if it had been
//! asked for by itself, whatever the child speaks, and so is each part of one of which it says that it
//! has changed.

use serde::Deserialize;
use serde_json::json;

use super::translate::rebuilt;
use crate::{
    backend::routes::is_self_or_parent,
    bridge::modern,
    frame::{self, Frame},
    http::{exchange::Granted, send},
    policy::Listed,
};

/// What a client wants to hear of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wants {
    pub(super) tools_list_changed: bool,
    pub(super) prompts_list_changed: bool,
    pub(super) resources_list_changed: bool,
    pub(super) resource_subscriptions: Vec<String>,
}

impl Wants {
    /// What a request asks for; `None`: it doesn't say.
    pub(super) fn of(frame: &Frame) -> Option<Self> {
        let wanted = modern::find(frame.params()?, NOTIFICATIONS)?;
        // A list would be read as one, field by field.
        wanted.starts_with(b"{").then_some(())?;
        serde_json::from_slice(wanted).ok()
    }

    /// Without the resources that its principal may not subscribe to.
    pub(super) fn permitted(mut self, granted: &Granted) -> Self {
        let resources = &mut self.resource_subscriptions;
        resources.sort_unstable();
        resources.dedup();
        resources.truncate(MAX_RESOURCES);
        resources.retain(|uri| may_hear(granted, uri));
        self
    }

    /// Whether a message is of what was asked for; `None` for a kind that isn't known here.
    pub(super) fn hears(&self, frame: &Frame, granted: &Granted) -> Option<bool> {
        Some(match frame.method() {
            "notifications/tools/list_changed" => self.tools_list_changed,
            "notifications/prompts/list_changed" => self.prompts_list_changed,
            "notifications/resources/list_changed" => self.resources_list_changed,
            "notifications/resources/updated" => {
                let uri = frame.uri()?;
                let mut wanted = self.resource_subscriptions.iter();
                self.names(&uri)
                    || (wanted.any(|parent| is_self_or_parent(parent, &uri))
                        && may_hear(granted, &uri))
            }
            _ => return None,
        })
    }

    /// The request for no more than this.
    pub(super) fn request(&self, frame: &Frame) -> Option<Frame> {
        let params = self.narrowed(frame.params()?)?;
        Frame::from_child(frame::request(frame.id()?, frame.method(), Some(&params))).ok()
    }

    /// A child's acknowledgement, which names no more than this.
    pub(super) fn acknowledged(&self, frame: &Frame) -> Option<Frame> {
        let params = self.narrowed(frame.params()?)?;
        Frame::from_child(frame::notification(frame.method(), Some(&params))).ok()
    }

    /// Parameters whose resources are none but these.
    fn narrowed(&self, params: &[u8]) -> Option<Vec<u8>> {
        let resources = |raw: &[u8]| {
            let mut named: Vec<String> = serde_json::from_slice(raw).unwrap_or_default();
            named.retain(|uri| self.names(uri));
            json!(named).to_string().into_bytes()
        };
        rebuilt(params, |key, value| match key {
            NOTIFICATIONS if value.starts_with(b"{") => rebuilt(value, |key, value| {
                (key == "resourceSubscriptions").then(|| resources(value))
            }),
            _ => None,
        })
    }

    fn names(&self, uri: &str) -> bool {
        let found = self
            .resource_subscriptions
            .binary_search_by(|own| own.as_str().cmp(uri));
        found.is_ok()
    }
}

/// `resources/subscribe`, as older revisions ask for one.
pub(super) fn subscribe(uri: &str) -> Option<Frame> {
    let params = json!({ "uri": uri }).to_string();
    Frame::from_child(frame::request(
        b"0",
        "resources/subscribe",
        Some(params.as_bytes()),
    ))
    .ok()
}

fn may_hear(granted: &Granted, uri: &str) -> bool {
    subscribe(uri).is_some_and(|ask| send::check(granted, None, ask, &Listed::unknown()).is_ok())
}

const NOTIFICATIONS: &str = "notifications";
/// Resources of one stream.
const MAX_RESOURCES: usize = 256;
