//! All pages of a list.
//!
//! Invariant: however the child pages, the asking ends: by the clock, by the number of pages, or by
//! a cursor that comes again.

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    backend::{
        Instance,
        ask::{self, Unanswered},
    },
    frame::{self, Frame},
    pin::{Item, Kind, Listing},
};

/// Why a list can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// No answer.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// An answer that is no list.
    #[error("the answer is no list")]
    NotList,
    /// An error.
    #[error("the child answers with an error")]
    Refused,
    /// Pages without end.
    #[error("its pages come to no end")]
    Endless,
    /// More than can be kept.
    #[error("it lists too much")]
    TooMuch,
}

/// Reads a list; `take` gets each item. A child that doesn't know the method has none.
///
/// # Errors
/// [`Flaw`], also what `take` says.
pub async fn read_all(
    instance: &Instance,
    kind: Kind,
    patience: Duration,
    mut take: impl FnMut(&Item<'_>) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let end = Instant::now() + patience;
    let mut seen = HashSet::new();
    let mut cursor: Option<String> = None;
    loop {
        let request = request(instance, kind, cursor.as_deref()).ok_or(Flaw::NotList)?;
        let asked = ask::ask_unscreened(instance, &request, patience);
        let answer = timeout_at(end, asked).await;
        let answer = answer.map_err(|_| Flaw::Unanswered(Unanswered::Silent))??;
        let Some(result) = answer.result() else {
            return match (ask::error_code(&answer) == Some(-32601)) && cursor.is_none() {
                true => Ok(()),
                false => Err(Flaw::Refused),
            };
        };
        let listing = Listing::read(kind, result).map_err(|_| Flaw::NotList)?;
        listing.items().try_for_each(&mut take)?;
        let Some(next) = &listing.next else {
            return Ok(());
        };
        let new = next.len() <= MAX_CURSOR && seen.insert(next.to_string());
        if !new || seen.len() > MAX_PAGES {
            return Err(Flaw::Endless);
        }
        cursor = Some(next.to_string());
    }
}

fn request(instance: &Instance, kind: Kind, cursor: Option<&str>) -> Option<Frame> {
    let mut params = serde_json::Map::new();
    if let Some(version) = instance.inventory().stateless() {
        let meta = serde_json::json!({
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {
                "name": "gatehouse",
                "version": env!("CARGO_PKG_VERSION"),
            },
        });
        params.insert("_meta".to_owned(), meta);
    }
    if let Some(cursor) = cursor {
        params.insert("cursor".to_owned(), cursor.into());
    }
    let params = (!params.is_empty()).then(|| serde_json::Value::Object(params).to_string());
    let line = frame::request(b"0", kind.method(), params.as_deref().map(str::as_bytes));
    Frame::from_child(line).ok()
}

/// Pages of one list.
const MAX_PAGES: usize = 1000;
/// A cursor, bytes.
const MAX_CURSOR: usize = 8 * 1024;
