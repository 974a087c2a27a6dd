//! What of a request its child gets to see.
//!
//! Invariant: a state that is none of ours reaches no child that serves several principals, and none
//! with a handshake.

use super::Way;
use crate::{
    bridge::{modern, seal::Bond},
    frame::{self, Frame, Slot},
    http::stateless::translate::INPUT,
};

impl Way<'_> {
    /// The message as the child may see it; `None` when its state is none of ours.
    pub(super) fn wire(&self, is_modern: bool, bond: Option<&Bond>) -> Option<Frame> {
        let state = self.frame.request_state();
        let state = state.filter(|_| INPUT.contains(&self.frame.method()));
        // What is asked in the place of something hidden: with a state that is none of ours it is
        // refused as that would be.
        let sent = self.instead.as_ref().unwrap_or(&self.frame);
        match (is_modern, state, bond) {
            // No parked call stands for it.
            (false, Some(_), _) => None,
            (false, None, _) => Some(modern::request(sent)),
            (true, Some(state), Some(bond)) => {
                let seal = &self.granted.server.stateless.seal;
                let own = seal.open(&frame::unescape(state)?, bond)?;
                Some(sent.rewritten(&[(Slot::RequestState, &own)]))
            }
            (true, ..) => Some(sent.clone()),
        }
    }
}
