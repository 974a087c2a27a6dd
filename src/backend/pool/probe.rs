//! Finding out what the children of a backend speak, once.
//!
//! Owns the verdict and who waits for it. A throw-away sibling is asked, because some servers end at
//! a question that they don't know, and others stay with the era of the first one that they hear.
//! Invariants: one probe at a time; its sibling serves nobody; a verdict lasts until a child
//! contradicts it, and children can't make the gateway probe without end.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{Backend, LeaseError, Tenant};
use crate::backend::{
    era::{self, Discovered, Era, Heard, Protocol},
    instance::Instance,
};

/// `None`: its children speak revisions with a handshake.
type Verdict = Result<Option<Arc<Discovered>>, LeaseError>;

/// What is known of a backend's era.
#[derive(Default)]
pub(super) struct Eras(Mutex<State>, Notify);

#[derive(Default)]
struct State {
    /// The verdict, or the probe that will bring it.
    told: Option<watch::Receiver<Option<Verdict>>>,
    /// A child refused the handshake, and speaks the other era.
    refused: bool,
    /// Contradictions that were believed lately.
    believed: u32,
    /// When the last of them was.
    last: Option<Instant>,
}

impl State {
    fn verdict(&self) -> Option<Verdict> {
        self.told.as_ref().and_then(|told| told.borrow().clone())
    }
}

impl Backend {
    /// What a child of this backend says of itself if it speaks 2026-07-28; `None` if it doesn't.
    /// The first who asks has a sibling started and questioned; the answer is kept.
    ///
    /// # Errors
    /// [`LeaseError`], which is not kept. With `protocol = "modern"` also when it isn't true.
    pub async fn speaks_modern(&self) -> Result<Option<Arc<Discovered>>, LeaseError> {
        if self.config.protocol == Protocol::Legacy {
            return Ok(None);
        }
        if self.drain.is_draining() {
            return Err(LeaseError::Draining);
        }
        let mut told = self.probing().ok_or(LeaseError::Draining)?;
        let verdict = told.wait_for(Option::is_some).await;
        let verdict = verdict.map_err(|_| LeaseError::Draining)?.clone();
        verdict.unwrap_or(Err(LeaseError::Draining))
    }

    /// As [`Backend::speaks_modern`], for somebody who needs an instance in any case. Where the
    /// question isn't answered at once, `greeting` begins, a handshake with another child: some
    /// servers pass over what they don't know, and those that are slow to start are not to be taken
    /// for such. True: it has succeeded, which settles the question.
    ///
    /// # Errors
    /// As there.
    pub async fn speaks_modern_or(
        &self,
        greeting: impl Future<Output = bool>,
    ) -> Result<Option<Arc<Discovered>>, LeaseError> {
        let mut probed = Box::pin(self.speaks_modern());
        if let Ok(verdict) = timeout(AT_ONCE, &mut probed).await {
            return verdict;
        }
        tokio::select! {
            verdict = &mut probed => return verdict,
            greeted = greeting => if !greeted {
                return probed.await;
            },
        }
        // One that speaks both is about to say so.
        if let Ok(verdict) = timeout(AT_ONCE, &mut probed).await {
            return verdict;
        }
        self.settle();
        Ok(None)
    }

    /// A child has taken the handshake, and none has answered the question.
    fn settle(&self) {
        let mut state = self.eras.0.lock();
        if state.verdict().is_none() {
            let (_, told) = watch::channel(Some(Ok(None)));
            state.told = Some(told);
            self.eras.1.notify_waiters();
            let backend = &self.config.name;
            tracing::info!(backend, modern = false, "found out what its children speak");
        }
    }

    /// The era that is known without asking.
    #[must_use]
    pub fn known_era(&self) -> Option<Era> {
        match self.config.protocol {
            Protocol::Legacy => Some(Era::Legacy),
            Protocol::Modern => Some(Era::Modern),
            Protocol::Auto => match self.eras.0.lock().verdict()? {
                Ok(Some(_)) => Some(Era::Modern),
                Ok(None) => Some(Era::Legacy),
                Err(_) => None,
            },
        }
    }

    /// True when its children have no handshake, so that sessions need a bridge. Children that speak
    /// both eras have one.
    #[must_use]
    pub fn bridges(&self) -> bool {
        match self.config.protocol {
            Protocol::Legacy => false,
            Protocol::Modern => true,
            Protocol::Auto => self.eras.0.lock().refused,
        }
    }

    /// A child refused the handshake, or ended at it; `clearly`: as one that has none. True when its
    /// backend is modern: sessions are bridged from now on.
    ///
    /// # Errors
    /// As [`Backend::speaks_modern`].
    pub async fn refused(&self, clearly: bool) -> Result<bool, LeaseError> {
        if clearly {
            self.contradict(Era::Legacy);
        }
        let modern = self.speaks_modern().await?.is_some();
        if modern {
            self.eras.0.lock().refused = true;
        }
        Ok(modern)
    }

    /// A child says that it doesn't speak `era` after all. True: it is found out anew by the next
    /// who asks. False: that wasn't the verdict, or it changes too often.
    pub fn contradict(&self, era: Era) -> bool {
        if self.config.protocol == Protocol::Legacy || self.known_era() != Some(era) {
            return false;
        }
        let mut state = self.eras.0.lock();
        let now = Instant::now();
        let calm = state.last.is_none_or(|last| last + CALM <= now);
        state.believed = if calm { 1 } else { state.believed + 1 };
        if state.believed > MAX_BELIEVED {
            return false;
        }
        state.last = Some(now);
        state.told = None;
        state.refused = false;
        tracing::info!(backend = self.config.name, was = ?era, "a child contradicts what is known of its era");
        true
    }

    fn probing(&self) -> Option<watch::Receiver<Option<Verdict>>> {
        let mut state = self.eras.0.lock();
        if let Some(told) = &state.told {
            return Some(told.clone());
        }
        let backend = self.me.upgrade()?;
        let (tell, told) = watch::channel(None);
        state.told = Some(told.clone());
        let asked = told.clone();
        // Not part of who asks: others may wait for it when he has gone.
        self.drain.spawn(async move {
            let verdict = backend.probe().await;
            if verdict.is_err() {
                let mut state = backend.eras.0.lock();
                state.told.take_if(|told| told.same_channel(&asked));
            }
            let _ = tell.send(Some(verdict));
        });
        Some(told)
    }

    async fn probe(&self) -> Verdict {
        let sure = self.config.protocol == Protocol::Modern;
        // One that is kept warm has heard nothing either, and is there at once.
        let sibling = Sibling(self.own(&Tenant::nobody()).await?);
        // With room for another child, that one's handshake will tell.
        let patience = match sure || self.slots.available_permits() > 0 {
            true => self.config.start_timeout,
            false => self.config.start_timeout.min(PATIENCE),
        };
        let settled = self.eras.1.notified();
        // What it makes of a question that it may not know says nothing of how it works.
        sibling.0.blame();
        let heard = tokio::select! {
            heard = era::interview(&sibling.0, patience) => heard,
            () = settled => Heard::Nothing,
            () = self.drain.draining() => return Err(LeaseError::Draining),
        };
        sibling.0.stop();
        if self.slots.available_permits() == 0 {
            // Who asked will want its place.
            sibling.0.ended().await;
        }
        let name = &self.config.name;
        let modern = match heard {
            Heard::Modern(discovered) => Some(Arc::new(discovered)),
            Heard::Other | Heard::Nothing if sure => {
                tracing::error!(
                    backend = name,
                    ?heard,
                    "`protocol` is \"modern\", but its child is not"
                );
                self.breaker.failed(Instant::now());
                return Err(LeaseError::Start);
            }
            Heard::Other | Heard::Nothing => None,
        };
        if modern.is_some() {
            self.breaker.succeeded();
        }
        tracing::info!(
            backend = name,
            modern = modern.is_some(),
            "found out what its children speak"
        );
        Ok(modern)
    }
}

/// Ends with who asked it.
struct Sibling(Arc<Instance>);

impl Drop for Sibling {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A good child that runs already answers within this.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Silence for so long means that a child doesn't know the question, where there is no room for
/// another one. Clients wait ten seconds for the answer to theirs.
const PATIENCE: Duration = Duration::from_secs(8);
/// Contradictions that are believed one after the other.
const MAX_BELIEVED: u32 = 4;
/// After so long without one they count anew.
const CALM: Duration = Duration::from_secs(60);
