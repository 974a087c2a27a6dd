//! Lists as a file says, read anew each time, so that a test can change them while it runs.
//!
//! The file is a JSON object: under `instructions` a text; under a method (`tools/list`) its pages,
//! each the raw text of a result; under `tools/list#N` those from the Nth time on that the first page
//! is asked for. A page `refuse` is an error, a page `silent` no answer.

use serde_json::Value;

use crate::wire::Peer;

/// What the file says of a method.
pub(crate) enum Page {
    /// The raw result.
    Result(String),
    /// An error.
    Refuse,
    /// Nothing.
    Silent,
}

/// The page that is asked for; `None` when the file says nothing of the method.
pub(crate) fn page(peer: &Peer, file: &str, method: &str, params: &Value) -> Option<Page> {
    let lists = read(file)?;
    let cursor = params["cursor"].as_str();
    let times = peer.listed(method, cursor.is_none());
    let later = (1..=times).rev().find_map(|times| {
        let key = format!("{method}#{times}");
        lists.get(&key).cloned()
    });
    let pages = later.or_else(|| lists.get(method).cloned())?;
    let index: usize = cursor.unwrap_or("0").parse().unwrap_or(0);
    let page = pages
        .get(index)
        .or_else(|| pages.get(0))?
        .as_str()?
        .to_owned();
    Some(match page.as_str() {
        "refuse" => Page::Refuse,
        "silent" => Page::Silent,
        _ => Page::Result(page),
    })
}

/// The instructions that the file has.
pub(crate) fn instructions(file: &str) -> Option<Value> {
    read(file)?.get("instructions").cloned()
}

fn read(file: &str) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
}
