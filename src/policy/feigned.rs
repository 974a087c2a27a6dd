//! A request in the place of one about what is hidden.
//!
//! Where the child's lists tell what isn't there, what is hidden and what isn't there are refused
//! alike, at once. Where only the child itself can tell (a resource that may be made of a template, a
//! child that lists nothing), what isn't there costs a question to it: a count of the rate, a place in
//! flight, the time that the child takes, its failures. What is hidden has to cost the same. Owns that
//! question. Invariants: the child learns nothing of what was asked; the client gets nothing of what
//! the child says.

use crate::{
    frame::{self, Frame},
    policy::{Access, Denied, List, Listed, Permit, Prune, rules::Passed},
};

/// What a feigned permit stands for.
#[derive(Debug)]
pub(super) struct Feigned {
    asked: Frame,
    denied: Denied,
}

impl Access {
    /// True when only the child can say that what a request is about isn't there; `listed` is what is
    /// known of its lists.
    #[must_use]
    pub fn is_for_child_to_say(&self, frame: &Frame, listed: &Listed) -> bool {
        !listed.is_whole() && self.is_restricted() && TARGETED.contains(&frame.method())
    }

    /// A harmless question in the place of `asked`, to which the client hears that it was `denied`.
    /// `None`: that is not about what is hidden.
    #[must_use]
    pub fn feign(&self, asked: Frame, denied: Denied) -> Option<Permit> {
        if !matches!(
            denied,
            Denied::Tool(_) | Denied::Prompt(_) | Denied::Resource(_)
        ) {
            return None;
        }
        let meta = asked.meta();
        let params = meta.map(|meta| [b"{\"_meta\":", meta, b"}"].concat());
        let method = List::Templates.method();
        let question = frame::request(asked.id()?, method, params.as_deref());
        Some(Permit {
            frame: Frame::from_child(question).ok()?,
            prune: Prune::to_denial(denied.clone()),
            passed: Passed::default(),
            feigned: Some(Box::new(Feigned { asked, denied })),
        })
    }
}

impl Permit {
    /// What the client asked; a feigned permit sends something else.
    #[must_use]
    pub fn asked(&self) -> &Frame {
        self.feigned
            .as_ref()
            .map_or(&self.frame, |feigned| &feigned.asked)
    }

    /// What the client hears instead of the child's answer.
    #[must_use]
    pub fn denied(&self) -> Option<&Denied> {
        self.feigned.as_ref().map(|feigned| &feigned.denied)
    }

    /// What the client asked, where something else is sent; the message; and what must be taken out of
    /// its answer.
    #[must_use]
    pub fn into_whole(self) -> (Option<Frame>, Frame, Prune) {
        let asked = self.feigned.map(|feigned| feigned.asked);
        (asked, self.frame, self.prune)
    }
}

/// Requests that are about something with a name.
const TARGETED: [&str; 6] = [
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "completion/complete",
];
