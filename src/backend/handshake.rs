//! The one handshake with an instance that several sessions use.
//!
//! Owns the child's `InitializeResult`. Invariant: a child is initialized once, with capabilities
//! that hold for everybody who will use it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    backend::{ask, instance::Instance},
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

/// The child's raw `InitializeResult`; `None` when it refused or took too long.
type Outcome = Option<Bytes>;

impl Handshake {
    /// One that has not run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The result of `greeting`, which is started if none was before. It goes on when its caller
    /// doesn't wait for it: a child must not be greeted twice.
    pub async fn run<F>(&self, drain: &Drain, greeting: impl FnOnce() -> F) -> Option<Bytes>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut told = self.started(drain, greeting);
        let result = told.wait_for(Option::is_some).await.ok()?;
        result.clone().flatten()
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
pub async fn greet(instance: Arc<Instance>, greeting: Greeting) -> Option<Bytes> {
    let request = if greeting.anonymous {
        let params = serde_json::json!({
            "protocolVersion": LATEST_LEGACY,
            "capabilities": {},
            "clientInfo": { "name": "gatehouse", "version": env!("CARGO_PKG_VERSION") },
        })
        .to_string();
        Frame::from_child(frame::request(b"0", "initialize", Some(params.as_bytes()))).ok()?
    } else {
        greeting.initialize
    };
    let answer = ask::ask(&instance, &request, greeting.timeout).await.ok()?;
    let result = (answer.kind() == Kind::Result)
        .then(|| answer.result())
        .flatten()?;
    let done = Frame::from_child(frame::notification("notifications/initialized", None)).ok()?;
    instance.notify(&done).ok()?;
    Some(Bytes::copy_from_slice(result))
}

/// The newest revision with a handshake.
pub const LATEST_LEGACY: &str = "2025-11-25";
