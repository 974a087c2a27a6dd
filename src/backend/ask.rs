//! A question of the gateway's own to a child.
//!
//! Owns the peer that waits for one answer. Invariant: it takes nothing else that the child says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    audit::Pending,
    backend::{
        call::{Call, Failure, Outcome, Peer},
        instance::{FIRST_OF_OURS, Instance},
    },
    frame::Frame,
    limit::InFlight,
    policy::Prune,
};

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The child said nothing in time.
    #[error("the child doesn't answer")]
    Silent,
    /// The child has ended, or takes no input.
    #[error("the child has ended")]
    Gone,
    /// What it said can't be read.
    #[error("the answer can't be read")]
    Unreadable,
}

/// Puts `request` to the child and waits for the answer, with the id `0`, whether result or error.
///
/// # Errors
/// [`Unanswered`].
pub async fn ask(
    instance: &Arc<Instance>,
    request: &Frame,
    timeout: Duration,
) -> Result<Frame, Unanswered> {
    let told = put(instance, request)?;
    answer(told, timeout).await
}

/// Puts `request` to the child; what is given waits for the answer.
///
/// # Errors
/// [`Unanswered::Gone`].
pub(super) fn put(
    instance: &Arc<Instance>,
    request: &Frame,
) -> Result<oneshot::Receiver<Outcome>, Unanswered> {
    let (peer, call, told) = question();
    let id = NEXT_ASKER.fetch_add(1, Ordering::Relaxed);
    let put = instance.call((id, &peer), request, call);
    put.map_err(|_| Unanswered::Gone)?;
    Ok(told)
}

/// As [`ask`], for the one that compares what the child says with what was reviewed.
///
/// # Errors
/// [`Unanswered`].
pub(super) async fn ask_unscreened(
    instance: &Instance,
    request: &Frame,
    timeout: Duration,
) -> Result<Frame, Unanswered> {
    let (peer, call, told) = question();
    let id = NEXT_ASKER.fetch_add(1, Ordering::Relaxed);
    let put = instance.put((id, &peer), request, call);
    put.map_err(|_| Unanswered::Gone)?;
    answer(told, timeout).await
}

/// The code of an answer that is an error.
pub(super) fn error_code(answer: &Frame) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Error {
        code: i64,
    }
    let error = serde_json::from_slice::<Error>(answer.error()?);
    error.ok().map(|error| error.code)
}

fn question() -> (Arc<dyn Peer>, Call, oneshot::Receiver<Outcome>) {
    let (tell, told) = oneshot::channel();
    let peer: Arc<dyn Peer> = Arc::new(Asker {
        tell: Mutex::new(Some(tell)),
    });
    let call = Call {
        id: Bytes::from_static(b"0"),
        token: None,
        lane: 0,
        prune: Prune::nothing(),
        slot: InFlight::free(),
        pending: Pending::nothing(),
        started: Instant::now(),
    };
    (peer, call, told)
}

/// Waits for what [`put`] asked for.
///
/// # Errors
/// [`Unanswered`].
pub(super) async fn answer(
    told: oneshot::Receiver<Outcome>,
    timeout: Duration,
) -> Result<Frame, Unanswered> {
    match tokio::time::timeout(timeout, told).await {
        Ok(Ok(Outcome::Answer(answer))) => Ok(answer),
        Ok(Ok(Outcome::Failed(Failure::Unreadable))) => Err(Unanswered::Unreadable),
        Ok(Ok(Outcome::Failed(Failure::TimedOut))) | Err(_) => Err(Unanswered::Silent),
        Ok(_) => Err(Unanswered::Gone),
    }
}

/// A peer that waits for one answer and takes nothing else.
struct Asker {
    tell: Mutex<Option<oneshot::Sender<Outcome>>>,
}

impl Peer for Asker {
    fn answer(&self, _: Call, outcome: Outcome) {
        if let Some(tell) = self.tell.lock().take() {
            let _ = tell.send(outcome);
        }
    }

    fn progress(&self, _: u32, _: Frame) {}

    fn request(&self, _: Frame) -> bool {
        false
    }

    fn notify(&self, _: Frame) {}

    fn ended(&self) {}
}

static NEXT_ASKER: AtomicU64 = AtomicU64::new(FIRST_OF_OURS);
