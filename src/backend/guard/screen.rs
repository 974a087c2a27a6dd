//! What of a child's answer may be seen.
//!
//! Owns the peer that stands before another and takes out of list answers and of `InitializeResult`
//! what is not the reviewed one. Invariant: it sees the answer before anybody else does.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
};

use crate::{
    backend::{Call, Failure, Instance, Outcome, Peer, guard::Guard},
    frame::{Frame, Slot},
    pin::{Kind, Listing, Unreadable, without_instructions},
};

/// The peer for a request: `peer` itself, or one before it that looks at the answer.
pub fn screened(instance: &Arc<Instance>, frame: &Frame, peer: &Arc<dyn Peer>) -> Arc<dyn Peer> {
    let subject = match frame.method() {
        "initialize" | "server/discover" => Subject::Hello,
        method => match Kind::ALL.into_iter().find(|kind| kind.method() == method) {
            Some(kind) => Subject::List(kind),
            None => return peer.clone(),
        },
    };
    Arc::new(Screen {
        inner: peer.clone(),
        instance: Arc::downgrade(instance),
        subject,
    })
}

#[derive(Debug, Clone, Copy)]
enum Subject {
    Hello,
    List(Kind),
}

struct Screen {
    inner: Arc<dyn Peer>,
    instance: Weak<Instance>,
    subject: Subject,
}

impl Screen {
    fn look(&self, frame: Frame) -> Result<Frame, Unreadable> {
        let Some(result) = frame.result() else {
            return Ok(frame);
        };
        let instance = self.instance.upgrade().ok_or(Unreadable)?;
        let guard = instance.guard();
        let shown = match (self.subject, guard) {
            (Subject::Hello, guard) => {
                instance.inventory().declare(result);
                match guard {
                    Some(guard) => without_instructions(result, |raw| {
                        guard.judge_instructions(instance.number(), raw)
                    })
                    .or_else(|error| guard.lenient(error))?,
                    None => None,
                }
            }
            (Subject::List(_), None) => None,
            (Subject::List(kind), Some(guard)) => match Listing::read(kind, result) {
                Ok(listing) => list(guard, &instance, kind, &listing),
                Err(error) => guard.lenient(error)?,
            },
        };
        Ok(match shown {
            Some(result) => frame.rewritten(&[(Slot::Result, &result)]),
            None => frame,
        })
    }
}

/// The list without what is withheld; `None` when nothing is.
fn list(guard: &Guard, instance: &Instance, kind: Kind, listing: &Listing<'_>) -> Option<Vec<u8>> {
    let mut differs = HashSet::new();
    for item in listing.items() {
        if !guard.judge(instance.number(), kind, item) {
            // Called by the name that it was shown under, whatever the gateway itself was shown.
            if let Some(name) = &item.name {
                instance.inventory().taint(kind, name);
            }
            differs.insert(item.raw.as_ptr());
        }
    }
    (guard.pins.enforces() && (!differs.is_empty() || listing.has_lookalikes()))
        .then(|| listing.written(|item| !differs.contains(&item.raw.as_ptr())))
}

impl Guard {
    /// With `warn`, what can't be read passes like everything else.
    fn lenient<T>(&self, error: Unreadable) -> Result<Option<T>, Unreadable> {
        match self.pins.enforces() {
            true => Err(error),
            false => Ok(None),
        }
    }
}

impl Peer for Screen {
    fn answer(&self, call: Call, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Answer(frame) => match self.look(frame) {
                Ok(frame) => Outcome::Answer(frame),
                Err(error) => {
                    tracing::warn!(%error, "withheld a list that can't be compared with gatehouse.lock");
                    Outcome::Failed(Failure::Unreadable)
                }
            },
            failed => failed,
        };
        self.inner.answer(call, outcome);
    }

    fn progress(&self, lane: u32, frame: Frame) {
        self.inner.progress(lane, frame);
    }

    fn request(&self, frame: Frame) -> bool {
        self.inner.request(frame)
    }

    fn notify(&self, frame: Frame) {
        self.inner.notify(frame);
    }

    fn ended(&self) {
        self.inner.ended();
    }
}
