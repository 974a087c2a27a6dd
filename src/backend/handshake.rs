//! The one handshake with an instance that several sessions use.
//!
//! Owns the child's `InitializeResult`. Invariant: a child is initialized once, with capabilities
//! that hold for everybody who will use it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    backend::{
        ask::{self, Unanswered},
        era,
        instance::Instance,
    },
    drain::Drain,
    frame::{self, Frame, Kind},
};

/// What a handshake is made of.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// The first client's `initialize`.
    pub initialize: Frame,
    /// Say nothing of that client: the instance serves several principals.
    pub anonymous: bool,
    /// For the child's answer.
    pub timeout: Duration,
}

/// Runs once; everybody gets its result, also who comes when it is over.
#[derive(Debug, Default)]
pub struct Handshake {
    result: Mutex<Option<watch::Receiver<Option<Outcome>>>>,
}

/// Why a handshake came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotGreeted {
    /// The child said nothing in time.
    Silent,
    /// It answered with an error, or ended; `clearly`: as one that has no handshake.
    Refused {
        /// By an error that says so, or by its end.
        clearly: bool,
    },
}

/// The child's raw `InitializeResult`.
type Outcome = Result<Bytes, NotGreeted>;

impl Handshake {
    /// One that has not run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The result of `greeting`, which is started if none was before. It goes on when its caller
    /// doesn't wait for it: a child must not be greeted twice.
    ///
    /// # Errors
    /// [`NotGreeted`].
    pub async fn run<F>(&self, drain: &Drain, greeting: impl FnOnce() -> F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut told = self.started(drain, greeting);
        let result = told.wait_for(Option::is_some).await;
        let result = result.map_err(|_| NotGreeted::Silent)?;
        result.clone().unwrap_or(Err(NotGreeted::Silent))
    }

    fn started<F>(
        &self,
        drain: &Drain,
        greeting: impl FnOnce() -> F,
    ) -> watch::Receiver<Option<Outcome>>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut result = self.result.lock();
        if let Some(told) = &*result {
            return told.clone();
        }
        let (tell, told) = watch::channel(None);
        *result = Some(told.clone());
        let greeting = greeting();
        drain.spawn(async move {
            let outcome = greeting.await;
            let _ = tell.send(Some(outcome));
        });
        told
    }
}

/// Shakes hands with a child; its raw `InitializeResult`.
///
/// # Errors
/// [`NotGreeted`].
pub async fn greet(instance: Arc<Instance>, greeting: Greeting) -> Outcome {
    const ENDED: NotGreeted = NotGreeted::Refused { clearly: true };
    const UNFIT: NotGreeted = NotGreeted::Refused { clearly: false };
    let request = if greeting.anonymous {
        let params = serde_json::json!({
            "protocolVersion": LATEST_LEGACY,
            "capabilities": {},
            "clientInfo": { "name": "gatehouse", "version": env!("CARGO_PKG_VERSION") },
        })
        .to_string();
        let request = frame::request(b"0", "initialize", Some(params.as_bytes()));
        Frame::from_child(request).map_err(|_| UNFIT)?
    } else {
        greeting.initialize
    };
    let answer = match ask::ask(&instance, &request, greeting.timeout).await {
        Ok(answer) => answer,
        Err(Unanswered::Silent) => return Err(NotGreeted::Silent),
        Err(Unanswered::Gone) => return Err(ENDED),
        Err(Unanswered::Unreadable) => return Err(UNFIT),
    };
    let Some(result) = answer.result().filter(|_| answer.kind() == Kind::Result) else {
        let clearly = answer.error().is_some_and(era::disowns_handshake);
        return Err(NotGreeted::Refused { clearly });
    };
    let done = frame::notification("notifications/initialized", None);
    let done = Frame::from_child(done).map_err(|_| UNFIT)?;
    instance.notify(&done).map_err(|_| ENDED)?;
    Ok(Bytes::copy_from_slice(result))
}

/// The newest revision with a handshake.
pub const LATEST_LEGACY: &str = "2025-11-25";
