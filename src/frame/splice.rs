//! Replacing an id or a token in place.
//!
//! Owns the only edit of a message that passes through: the raw text of a slot. Invariant: every
//! byte outside the slots is the byte that came.

use bytes::{Buf, BytesMut};

use super::{
    Frame,
    span::{Part, Span},
};

/// What can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The message's id.
    Id,
    /// What [`Frame::progress_token`] gives.
    ProgressToken,
    /// What [`Frame::cancelled_id`] gives.
    CancelledId,
    /// What [`Frame::result`] gives; the new text must be compact JSON.
    Result,
    /// What [`Frame::error`] gives; the new text must be a compact JSON object.
    Error,
    /// What [`Frame::params`] gives; the new text must be a compact JSON object. What was in it is
    /// not located again.
    Params,
    /// What [`Frame::subscription_id`] gives.
    SubscriptionId,
    /// What [`Frame::request_state`] gives.
    RequestState,
}

const SLOTS: usize = 8;

type Edit<'a> = (Span, &'a [u8]);

impl Frame {
    /// Appends the message with the slots' raw JSON text replaced; the last edit of a slot wins.
    ///
    /// A slot that the message does not have is passed over: a request without progress token
    /// needs none.
    pub fn rewrite(&self, edits: &[(Slot, &[u8])], out: &mut BytesMut) {
        self.splice(&self.planned(edits), out);
    }

    /// The message with the slots replaced, as [`Frame::rewrite`], ready to be looked at.
    #[must_use]
    pub fn rewritten(&self, edits: &[(Slot, &[u8])]) -> Self {
        let planned = self.planned(edits);
        let growth: usize = planned.iter().flatten().map(|(_, text)| text.len()).sum();
        let mut out = BytesMut::with_capacity(self.bytes.len() + growth);
        self.splice(&planned, &mut out);
        let mut spans = self.spans;
        // From the last to the first, so that the spans of the others still hold.
        for (span, text) in planned.iter().rev().flatten() {
            spans.shift(*span, text.len() as i64 - span.len() as i64);
        }
        Self {
            bytes: out.freeze(),
            spans,
            kind: self.kind,
            method: self.method.clone(),
        }
    }

    /// The message with another id, where it has one; in place when nobody else holds its bytes and
    /// the new id is no longer than the old, so that a large answer is not copied for its id.
    #[must_use]
    pub fn with_id(mut self, id: &[u8]) -> Self {
        let Some(span) = self
            .spans
            .get(Part::Id)
            .filter(|span| id.len() <= span.len())
        else {
            return self.rewritten(&[(Slot::Id, id)]);
        };
        self.bytes = match self.bytes.try_into_mut() {
            Ok(bytes) => {
                let spare = span.len() - id.len();
                self.spans.shift(span, -(spare as i64));
                closed_up(bytes, span, id).freeze()
            }
            Err(shared) => {
                self.bytes = shared;
                return self.rewritten(&[(Slot::Id, id)]);
            }
        };
        self
    }

    fn splice(&self, planned: &[Option<Edit<'_>>; SLOTS], out: &mut BytesMut) {
        let mut copied = 0;
        for (span, text) in planned.iter().flatten() {
            out.extend_from_slice(&self.bytes[copied..span.start as usize]);
            out.extend_from_slice(text);
            copied = span.end as usize;
        }
        out.extend_from_slice(&self.bytes[copied..]);
    }

    /// The edits that apply, in the order of the bytes.
    fn planned<'a>(&self, edits: &[(Slot, &'a [u8])]) -> [Option<Edit<'a>>; SLOTS] {
        let mut planned = [None; SLOTS];
        for (slot, text) in edits {
            planned[*slot as usize] = self
                .slot_part(*slot)
                .and_then(|part| self.spans.get(part))
                .map(|span| (span, *text));
        }
        planned.sort_unstable_by_key(|edit| edit.map_or(u32::MAX, |(span, _)| span.start));
        planned
    }

    fn slot_part(&self, slot: Slot) -> Option<Part> {
        match slot {
            Slot::Id => Some(Part::Id),
            Slot::ProgressToken => self.token_part(),
            Slot::CancelledId => self.cancelled_part(),
            Slot::Result => Some(Part::Result),
            Slot::Error => Some(Part::Error),
            Slot::Params => Some(Part::Params),
            Slot::SubscriptionId => Some(Part::MetaSubscription),
            Slot::RequestState => Some(Part::RequestState),
        }
    }
}

/// Puts `text` in the place of `span`, which is at least as long; the shorter side moves up.
fn closed_up(mut bytes: BytesMut, span: Span, text: &[u8]) -> BytesMut {
    let (start, end) = (span.start as usize, span.end as usize);
    let spare = span.len() - text.len();
    if start <= bytes.len() - end {
        bytes.copy_within(..start, spare);
        bytes[start + spare..end].copy_from_slice(text);
        bytes.advance(spare);
    } else {
        bytes.copy_within(end.., end - spare);
        bytes[start..end - spare].copy_from_slice(text);
        bytes.truncate(bytes.len() - spare);
    }
    bytes
}
