//! What the client wants to hear of, whatever the revision.
//!
//! A legacy session hears of every list, and of the resources that it subscribed to. A modern
//! client hears what its listens name, tagged with their ids.

use serde_json::{Value, json};

use crate::{call::Call, modern, options::Era, resources, wire::Peer};

/// What one listen asked for, as it asked.
pub(crate) type Filter = Value;

const LISTS: [(&str, &str); 3] = [
    ("tools", "toolsListChanged"),
    ("prompts", "promptsListChanged"),
    ("resources", "resourcesListChanged"),
];

/// Begins a listen, and says so.
pub(crate) fn begin(peer: &Peer, id: &str, asked: &Value) {
    let mut honoured = json!({});
    for (_, key) in LISTS {
        if asked[key] == true {
            honoured[key] = json!(true);
        }
    }
    if let Some(uris) = asked["resourceSubscriptions"].as_array() {
        let known = |uri: &&Value| uri.as_str().and_then(resources::read).is_some();
        let known: Vec<_> = uris.iter().filter(known).collect();
        honoured["resourceSubscriptions"] = json!(known);
    }
    let params = json!({"notifications": honoured});
    peer.shared().listens.insert(id.to_owned(), honoured);
    tell(peer, id, "notifications/subscriptions/acknowledged", params);
}

/// Tells whom it concerns that a list has changed.
pub(crate) fn list_changed(call: &Call, what: &str) {
    let method = format!("notifications/{what}/list_changed");
    match call.era {
        Era::Legacy => call.peer.notify(&method, &json!({})),
        Era::Modern => {
            let key = LISTS.iter().find(|(list, _)| *list == what);
            let key = key.map_or("", |(_, key)| key);
            tell_each(&call.peer, &method, &json!({}), |filter| {
                filter[key] == true
            });
        }
    }
}

/// Tells whom it concerns that a resource has changed.
pub(crate) fn resource_updated(call: &Call, uri: &str) {
    let method = "notifications/resources/updated";
    let params = json!({"uri": uri});
    match call.era {
        Era::Legacy => {
            let shared = call.peer.shared();
            let session = shared.session.as_ref();
            let wanted = session.is_some_and(|session| session.subscribed.contains(uri));
            drop(shared);
            if wanted {
                call.peer.notify(method, &params);
            }
        }
        Era::Modern => tell_each(&call.peer, method, &params, |filter| {
            let uris = filter["resourceSubscriptions"].as_array();
            uris.is_some_and(|uris| uris.iter().any(|known| known == uri))
        }),
    }
}

fn tell_each(peer: &Peer, method: &str, params: &Value, concerns: impl Fn(&Filter) -> bool) {
    let listens = peer.shared().listens.clone();
    for (id, filter) in &listens {
        if concerns(filter) {
            tell(peer, id, method, params.clone());
        }
    }
}

fn tell(peer: &Peer, id: &str, method: &str, mut params: Value) {
    let id: Value = serde_json::from_str(id).unwrap_or(Value::Null);
    params["_meta"] = json!({modern::SUBSCRIPTION_KEY: id});
    peer.notify(method, &params);
}
