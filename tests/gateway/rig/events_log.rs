//! The audit log of a gateway, as a test looks at it.

use std::fs;

use serde_json::Value;

use crate::rig::{Rig, until};

/// Lay this over a configuration to have one.
pub(crate) const LOGGED: &str = "[audit]\npath = \"audit/log.jsonl\"\n";

/// Its text so far.
pub(crate) fn text(rig: &Rig) -> String {
    fs::read_to_string(rig.folder().join("audit/log.jsonl")).unwrap_or_default()
}

/// The events with these fields so far.
pub(crate) fn events(rig: &Rig, expected: &Value) -> Vec<Value> {
    let text = text(rig);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let events = whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let holds = |event: &Value| {
        let mut fields = expected.as_object().expect("fields").iter();
        fields.all(|(name, value)| event[name] == *value)
    };
    events.filter(holds).collect()
}

/// Waits until so many events with these fields are there.
pub(crate) async fn noted(rig: &Rig, count: usize, expected: Value) -> Vec<Value> {
    let mut found = Vec::new();
    until(&format!("{count} × {expected} in the audit log"), || {
        found = events(rig, &expected);
        found.len() >= count
    })
    .await;
    assert_eq!(found.len(), count, "{found:?}");
    found
}
