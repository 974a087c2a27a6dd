//! Whether a request may reach a child.
//!
//! Invariant: a request about something by name passes only while it is known what the child lists
//! under that name, and that this is the reviewed one.

use std::borrow::Cow;

use crate::{
    backend::{CallError, Instance, guard::Guard, inventory::Names},
    frame::{Frame, Reference},
    pin::Kind,
};

/// Why a request may not reach a child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// What it is about is not there, as far as clients are concerned.
    #[error("withheld: {1}")]
    Unknown(Kind, String),
    /// It doesn't say what it is about.
    #[error("what it is about can't be told")]
    Unclear,
    /// It can't be known what the child has.
    #[error("it is not known what the child has")]
    Unsettled,
}

impl Instance {
    /// Waits until it is known that what a request is about is what was reviewed. Without pins this
    /// is always so.
    ///
    /// # Errors
    /// [`Withheld`].
    pub async fn cleared(&self, frame: &Frame) -> Result<(), Withheld> {
        let Some(guard) = self.guard() else {
            return Ok(());
        };
        let Some((kind, name)) = target(frame)? else {
            return Ok(());
        };
        if !guard.pins.enforces() {
            self.inventory().want(kind);
            return Ok(());
        }
        let names = tokio::select! {
            known = self.inventory().known(kind) => known.map_err(|_| Withheld::Unsettled)?,
            () = self.stopping() => return Err(Withheld::Unsettled),
            () = self.ended() => return Err(Withheld::Unsettled),
        };
        match guard.permits(self, kind, &name, &names) {
            true => Ok(()),
            false => Err(Withheld::Unknown(kind, name.into_owned())),
        }
    }

    /// Looks again at the last moment, without waiting.
    ///
    /// # Errors
    /// [`CallError::Busy`]: what was known is not any more.
    pub(in crate::backend) fn still_clear(&self, frame: &Frame) -> Result<(), CallError> {
        let Some(guard) = self.guard().filter(|guard| guard.pins.enforces()) else {
            return Ok(());
        };
        let Some((kind, name)) = target(frame).map_err(|_| CallError::Busy)? else {
            return Ok(());
        };
        let Some(names) = self.inventory().current(kind) else {
            // For the next attempt of who didn't wait.
            self.inventory().want(kind);
            return Err(CallError::Busy);
        };
        match guard.permits(self, kind, &name, &names) {
            true => Ok(()),
            false => Err(CallError::Busy),
        }
    }
}

impl Guard {
    fn permits(&self, instance: &Instance, kind: Kind, name: &str, names: &Names) -> bool {
        match names.get(name) {
            Some(digest) => {
                self.pins.matches(kind, name, *digest)
                    && !instance.inventory().is_tainted(kind, name)
            }
            // A completion may be for a resource that no template stands for.
            None => kind == Kind::Template && !instance.inventory().is_tainted(kind, name),
        }
    }
}

/// What a request is about, where that has a definition.
fn target(frame: &Frame) -> Result<Option<(Kind, Cow<'_, str>)>, Withheld> {
    let named = |kind| {
        let name = frame.name().ok_or(Withheld::Unclear)?;
        Ok(Some((kind, name)))
    };
    match frame.method() {
        "tools/call" => named(Kind::Tool),
        "prompts/get" => named(Kind::Prompt),
        "completion/complete" => match frame.reference().ok_or(Withheld::Unclear)? {
            Reference::Prompt(name) => Ok(Some((Kind::Prompt, name.into()))),
            Reference::Resource(uri) => Ok(Some((Kind::Template, uri.into()))),
        },
        _ => Ok(None),
    }
}
