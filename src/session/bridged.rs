//! Sessions in front of children that have none.
//!
//! Owns the turn from an instance to a bridge, when a child refuses the handshake. Invariant: the
//! client learns of the refusal only if its backend turns out to have a handshake, and then of
//! exactly that one.

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use crate::{
    backend::{Call, CallError, Era, Failure, Instance, LeaseError, Outcome, Protocol, era},
    bridge::legacy::{Bridge, Downstream},
    frame::{Frame, Kind},
    session::{EndReason, Session, Transport, peer::choose, streams::STANDING},
};

impl Downstream for Session {
    fn ask(&self, lane: u32, frame: Frame) -> bool {
        let lane = match self.transport {
            Transport::Sse => STANDING,
            Transport::Http => lane,
        };
        self.send_on(frame, |_| lane)
    }

    fn announce(&self, frame: Frame) {
        self.send_on(frame, |streams| match self.transport {
            Transport::Http if !streams.is_standing() => choose(streams),
            _ => STANDING,
        });
    }
}

impl Session {
    /// Makes itself known to its instance.
    pub(super) fn attach_upstream(&self, era: Era) -> Result<(), CallError> {
        let instance = self.upstream.instance();
        if era == Era::Modern {
            return self.bridge(instance.clone());
        }
        let me = self.as_peer()?;
        instance.attach(self.number, me)
    }

    fn bridge(&self, instance: Arc<Instance>) -> Result<(), CallError> {
        let session: Weak<dyn Downstream> = self.me.clone();
        let bridge = Bridge::attach(self.number, self.backend.clone(), instance, session)?;
        self.upstream.set_bridge(bridge);
        Ok(())
    }

    /// True when its child is spoken to in another era than its client speaks.
    #[must_use]
    pub fn is_bridged(&self) -> bool {
        self.upstream.bridge().is_some()
    }

    /// Takes an outcome back that may mean that the child has no handshake, and finds out; anything
    /// else is returned.
    pub(super) fn reconsider(&self, call: Call, outcome: Outcome) -> Option<(Call, Outcome)> {
        let clearly = match &outcome {
            Outcome::Answer(frame) if frame.kind() == Kind::Error => {
                frame.error().is_some_and(era::disowns_handshake)
            }
            Outcome::Failed(Failure::Crashed) => true,
            _ => return Some((call, outcome)),
        };
        let direct = self.own && !self.is_bridged();
        if !direct || self.backend.config().protocol != Protocol::Auto {
            return Some((call, outcome));
        }
        let (Some(session), Some(initialize)) = (self.me.upgrade(), self.put_off(&call)) else {
            return Some((call, outcome));
        };
        self.backend.spawn(async move {
            if session.bridge_over(clearly).await {
                session.begin_again(&initialize, call);
            } else {
                session.settle(call, outcome);
                session.end_if_alone();
            }
        });
        None
    }

    /// The `initialize` that this call is, if it is; the end of its instance is no end now.
    fn put_off(&self, call: &Call) -> Option<Frame> {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return None;
        }
        let starting = state.starting.as_mut().filter(|s| s.id == call.id)?;
        starting.since = Instant::now();
        let initialize = starting.request.clone();
        state.greeting = true;
        Some(initialize)
    }

    /// Turns to a modern instance after a handshake was refused; `clearly`: as by one that has none.
    /// False: there is none.
    pub(crate) async fn bridge_over(&self, clearly: bool) -> bool {
        self.state.lock().greeting = true;
        let modern = self.is_modern(clearly).await;
        let turned = modern && self.turn().await;
        self.state.lock().greeting = false;
        turned
    }

    async fn is_modern(&self, clearly: bool) -> bool {
        let verdict = match self.backend.refused(clearly).await {
            Err(LeaseError::Full) => {
                // Its own instance has the place that the question needs.
                self.give_up_instance();
                self.upstream.instance().ended().await;
                self.backend.refused(clearly).await
            }
            verdict => verdict,
        };
        verdict.unwrap_or_else(|error| {
            tracing::debug!(session = self.number, %error, "can't find out what its child speaks");
            false
        })
    }

    async fn turn(&self) -> bool {
        self.give_up_instance();
        let lease = match self.backend.lease(&self.principal).await {
            Err(LeaseError::Full) => {
                self.upstream.instance().ended().await;
                self.backend.lease(&self.principal).await
            }
            lease => lease,
        };
        let lease = match lease {
            Ok(lease) if lease.era() == Era::Modern => lease,
            // Contradicted in this very moment.
            Ok(_) => return false,
            Err(error) => {
                tracing::warn!(session = self.number, %error, "no instance to bridge to");
                return false;
            }
        };
        if self.bridge(lease.instance().clone()).is_err() {
            return false;
        }
        let mut state = self.state.lock();
        if let Some(starting) = &mut state.starting {
            starting.since = Instant::now();
        }
        if state.ended.is_some() {
            drop(state);
            self.upstream.detach(self.number);
            return false;
        }
        state.lease = Some(lease);
        drop(state);
        tracing::info!(
            session = self.number,
            backend = self.backend.config().name,
            instance = self.instance_number(),
            "session bridged to a child without sessions"
        );
        true
    }

    /// Lets go of the instance that refused; it is on its way to its end then.
    fn give_up_instance(&self) {
        self.upstream.detach(self.number);
        let lease = self.state.lock().lease.take();
        drop(lease);
    }

    fn begin_again(&self, initialize: &Frame, call: Call) {
        let Ok(me) = self.as_peer() else { return };
        let (id, lane) = (call.id.clone(), call.lane);
        if self
            .upstream
            .call((self.number, &me), initialize, call)
            .is_err()
        {
            let error = super::peer::failure_error(&id, Failure::NotStarted);
            let mut state = self.state.lock();
            state.calls.remove(&id);
            state.starting.take_if(|starting| starting.id == id);
            state.streams.answer(lane, Some(error));
        }
    }

    /// What its instance's end would have meant while it was put off.
    pub(crate) fn end_if_alone(&self) {
        let alone = self.state.lock().lease.is_none();
        if alone || self.upstream.instance().has_ended() {
            self.end(EndReason::Instance);
        }
    }

    /// The instance that all share refused, and no other is there.
    pub(crate) fn reject_instance(&self) {
        if let Some(lease) = &self.state.lock().lease {
            lease.reject();
        }
    }
}
