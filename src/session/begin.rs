//! What a session takes before and around `initialize`.
//!
//! Owns the order of a session's beginning, and the handshake with an instance that others use too.
//! Invariant: one `initialize` is handed on, and nothing else before it.

use bytes::Bytes;

use crate::{
    backend::{LeaseError, Withheld},
    bridge::untasked,
    frame::Frame,
    policy::{Access, List, Listed},
    session::{EndReason, SendError, Session, version},
};

impl Session {
    /// True when a request may be handed on: `initialize` is the first, and the only one of its
    /// kind. Some servers end when they hear anything else before it.
    #[must_use]
    pub fn is_open_for(&self, method: &str) -> bool {
        let mut state = self.state.lock();
        match method {
            // Claimed at once: of two that come together one is too late.
            "initialize" => !std::mem::replace(&mut state.begun, true),
            "ping" => true,
            _ => state.begun,
        }
    }

    /// The `initialize` that claimed the session was not handed on.
    pub(crate) fn unbegin(&self) {
        self.state.lock().begun = false;
    }

    /// True for a notification that the protocol asks of the client: the one after `initialize`,
    /// once, and the cancellation of a call in flight.
    pub(crate) fn expects(&self, frame: &Frame) -> bool {
        let mut state = self.state.lock();
        match frame.method() {
            "notifications/initialized" => !std::mem::replace(&mut state.ready, true),
            "notifications/cancelled" => frame
                .cancelled_id()
                .is_some_and(|id| state.calls.contains_key(id)),
            _ => false,
        }
    }

    /// On a common instance: the raw `InitializeResult`.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub async fn greet(&self, initialize: &Frame) -> Result<Bytes, LeaseError> {
        // The lease stays with the session, so that the end of the session gives it back; it is
        // out of its place only while the child is greeted.
        let lease = {
            let mut state = self.state.lock();
            state.begun = true;
            state.greeting = true;
            state.lease.take().ok_or(LeaseError::Draining)?
        };
        let asked = initialize.protocol_version();
        let result = lease
            .greet(initialize)
            .await
            .map(|result| version::shown(&result).map_or(result, Bytes::from))
            .map(|result| version::offer(result, asked.as_deref()))
            .map(|result| match self.is_among_others() {
                true => untasked::offer(&result).into(),
                false => result,
            });
        let mut state = self.state.lock();
        // After a refusal its end is put off further: there may be a bridge.
        state.greeting = matches!(result, Err(LeaseError::Refused { .. }));
        if let Ok(result) = &result {
            state.agreed = true;
            state.version = version::agreed(result);
        }
        if state.ended.is_none() {
            state.lease = Some(lease);
        }
        drop(state);
        if result.is_ok() && self.upstream.instance().has_ended() {
            self.end(EndReason::Instance);
        }
        result
    }

    /// Waits until it is known that what a request is about is what was reviewed.
    ///
    /// # Errors
    /// [`Withheld`].
    pub(crate) async fn cleared(&self, frame: &Frame) -> Result<(), Withheld> {
        self.upstream.instance().cleared(frame).await
    }

    /// What the child has of what a message may be about, as far as that is known.
    pub(crate) async fn listed(&self, lists: &[List]) -> Listed {
        match lists {
            [] => Listed::unknown(),
            _ => self.backend.listed(self.upstream.instance(), lists).await,
        }
    }

    /// Has the lists asked for that will be needed.
    pub(crate) fn list_ahead(&self, access: &Access) {
        let instance = self.upstream.instance();
        self.backend.list_ahead(instance, &access.lists());
    }

    /// Subscriptions on a common instance: true when the child has to be asked.
    ///
    /// # Errors
    /// [`SendError::Busy`] when there are too many.
    pub(crate) fn subscription(&self, frame: &Frame) -> Result<bool, SendError> {
        let uri = frame.uri().unwrap_or_default();
        match frame.method() {
            // The child is asked each time: only it knows whether the resource is there.
            "resources/subscribe" => {
                if self.upstream.instance().subscribe(self.number, &uri) {
                    Ok(true)
                } else {
                    Err(SendError::Busy)
                }
            }
            "resources/unsubscribe" => Ok(self.upstream.instance().unsubscribe(self.number, &uri)),
            _ => Ok(true),
        }
    }
}
