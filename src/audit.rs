//! The audit log: what was decided, before it happens, and how it ended.
//!
//! Owns events, their order, the file they stand in and the proof that none is missing. It must
//! never know HTTP, sessions or backends, and never sees a credential or a session's id. Invariants:
//! [`Log::admit`] and [`Log::decide`] return `Ok` only when the decision is in the log; each
//! [`Pending`] leaves exactly one outcome; numbers are without gaps; each line holds the hash of
//! the one before.
//!
//! What is promised about the chain: whoever can write to the file can cut its end off, or write
//! it anew from any place on. With `sign_key` neither goes unseen up to the last checkpoint, by
//! whoever has the public key. Without it the chain finds what accidents and careless hands do.

mod arguments;
mod chain;
mod config;
mod event;
mod line;
mod pending;
mod place;
mod queue;
pub mod reader;
mod redact;
mod sign;
mod sink;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod text;
mod threads;
mod turn;
pub mod verify;
mod writer;

use std::{
    cell::Cell,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

pub use self::{
    arguments::{Arguments, DEFAULT_REDACT, patterns},
    config::{Config, Destination, OnError, OpenError, Sync},
    event::{Decision, Event, Name, SessionDigest, Status},
    line::{Line, LineError},
    pending::{Outcome, Pending},
    sign::{PublicKey, PublicKeyError},
    text::is_hostile,
    writer::Health,
};
use self::{
    arguments::{DigestKey, Scribe},
    chain::Chain,
    queue::Word,
    sign::Signer,
    sink::Sink,
    store::{LogFile, Output, Repair, Store},
    writer::{Shared, Submitted},
};

/// A decision that isn't in the log, or not surely: what was decided must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// The disk refused it.
    #[error("the audit log can't be written")]
    Failed,
    /// Too much waits to be written.
    #[error("the audit log is behind")]
    Full,
    /// The disk doesn't answer.
    #[error("the audit log is too slow")]
    Slow,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

/// The log of now, for those who outlive a change of configuration.
pub type Current = Arc<ArcSwap<Log>>;

/// The audit log. Clones share it; it closes when it is stopped, or with its last clone and
/// [`Pending`].
#[derive(Clone)]
pub struct Log {
    /// `None`: nothing is recorded, everything succeeds at once.
    inner: Option<(Arc<Handle>, Arc<Settings>)>,
}

struct Handle {
    shared: Arc<Shared>,
}

/// A log that another one has followed, as long as an outcome is owed to it.
pub struct Former {
    handle: Weak<Handle>,
    settings: Arc<Settings>,
}

impl Former {
    /// True while it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.handle.strong_count() > 0
    }

    fn log(&self) -> Option<Log> {
        let handle = self.handle.upgrade()?;
        Some(Log {
            inner: Some((handle, self.settings.clone())),
        })
    }
}

/// What can change while the log is open.
struct Settings {
    config: Config,
    scribe: Scribe,
}

impl Log {
    /// A log that records nothing.
    #[must_use]
    pub fn off() -> Self {
        Self { inner: None }
    }

    /// Opens the log, repairs a torn last line, goes on with its chain and writes `gateway.start`.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`]; nothing stays open then.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        // Before anything is made beside what may be no log.
        config.examine()?;
        if let Destination::File(path) = &config.path {
            let folder = place::folder(path);
            place::make_folder(folder).map_err(|source| OpenError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        }
        let settings = Settings::new(config)?;
        let signer = signer(config)?;
        let (store, chain, repair): (Box<dyn Store>, _, _) = match &config.path {
            Destination::File(path) => {
                let (file, chain, repair) = LogFile::open(path)?;
                (Box::new(file), chain, repair)
            }
            Destination::Stdout => (Box::new(Output::open()?), Chain::EMPTY, Repair::default()),
        };
        Self::start(settings, Sink::new(store, chain, signer), &repair)
    }

    /// The log for a new configuration: this one with other settings, or another one when lines
    /// are to go elsewhere (stop this one then). One of `former` that still owes outcomes goes on.
    ///
    /// # Errors
    /// [`OpenError`]; nothing has changed then.
    pub fn reopen(&self, config: &Config, former: &[Former]) -> Result<Self, OpenError> {
        let writes_there = |log: &Self| {
            let inner = log.inner.as_ref();
            inner.is_some_and(|(_, settings)| settings.config.path == config.path)
        };
        let mut open = former.iter().filter_map(Former::log);
        let same = match writes_there(self) {
            true => Some(self.clone()),
            false => open.find(writes_there),
        };
        let Some((handle, _)) = same.and_then(|log| log.inner) else {
            return Self::open(config);
        };
        let settings = Settings::new(config)?;
        let signer = signer(config)?;
        handle.shared.configure(|sink| {
            settings.apply(sink);
            sink.signer = signer;
        });
        Ok(Self {
            inner: Some((handle, Arc::new(settings))),
        })
    }

    /// Records that events come elsewhere from now on, or nowhere; only outcomes that are owed
    /// follow. What is left to come back to.
    #[must_use]
    pub fn leave(&self, next: &Self) -> Option<Former> {
        let (handle, settings) = self.inner.as_ref()?;
        let detail = match &next.inner {
            Some((other, _)) if Arc::ptr_eq(handle, other) => return None,
            Some(_) => "from here on events are recorded in another place",
            None => "from here on nothing is recorded",
        };
        self.note(&Event {
            decision: Some(Decision::Allow),
            detail: Some(detail),
            ..Event::new(Name::ConfigReload)
        });
        Some(Former {
            handle: Arc::downgrade(handle),
            settings: settings.clone(),
        })
    }

    fn start(settings: Settings, mut sink: Sink, repair: &Repair) -> Result<Self, OpenError> {
        settings.apply(&mut sink);
        let log = Self {
            inner: Some((
                Arc::new(Handle {
                    shared: Shared::new(sink),
                }),
                Arc::new(settings),
            )),
        };
        let mut detail = concat!("version ", env!("CARGO_PKG_VERSION")).to_owned();
        if repair.cut > 0 {
            let cut = repair.cut;
            detail += &format!("; {cut} bytes of an unfinished event were cut off");
        }
        log.note(&Event {
            detail: Some(&detail),
            ..Event::new(Name::GatewayStart)
        });
        log.spawn()?;
        Ok(log)
    }

    fn spawn(&self) -> Result<(), OpenError> {
        let Some((handle, settings)) = &self.inner else {
            return Ok(());
        };
        if !handle.shared.flush() {
            return Err(OpenError::Write);
        }
        let (shared, settings) = (handle.shared.clone(), settings.clone());
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        thread("audit-sync")
            .spawn({
                let shared = shared.clone();
                move || threads::sync(&shared)
            })
            .map_err(OpenError::Thread)?;
        thread("audit-write")
            .spawn(move || threads::write(&shared, &settings.scribe))
            .map_err(OpenError::Thread)?;
        Ok(())
    }

    /// True when events are recorded: without it there is no need to gather what they say.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// Records that a request is let through. Its outcome is owed from now on, also when the
    /// future is dropped before it is done. Await it at once: others may wait for it.
    ///
    /// # Errors
    /// [`Unrecorded`], within a second: it must not be carried out.
    pub fn admit(
        &self,
        event: &Event<'_>,
    ) -> impl Future<Output = Result<Pending, Unrecorded>> + Send + use<> {
        let submitted = self.submit(event);
        async move {
            match submitted {
                None => Ok(Pending::nothing()),
                Some((submitted, pending, allow)) => settled(submitted, pending, allow).await,
            }
        }
    }

    /// Records a request that nothing waits for, and whose outcome is owed all the same.
    pub fn note_request(&self, event: &Event<'_>) -> Pending {
        let Some((handle, settings)) = &self.inner else {
            return Pending::nothing();
        };
        with_scratch(|out| {
            let parts = event.encode(&settings.scribe, out);
            handle.shared.note(out);
            Pending::new(handle.clone(), parts, out)
        })
    }

    /// Records a decision that has no outcome, such as a notification that is let through.
    ///
    /// # Errors
    /// As [`Log::admit`].
    pub fn decide(
        &self,
        event: &Event<'_>,
    ) -> impl Future<Output = Result<(), Unrecorded>> + Send + use<> {
        let admitted = self.admit(event);
        async move { admitted.await.map(Pending::forget) }
    }

    /// Records what has happened. Never waits; what finds no room is counted, and a later line
    /// says how many.
    pub fn note(&self, event: &Event<'_>) {
        if let Some((handle, settings)) = &self.inner {
            with_scratch(|out| {
                event.encode(&settings.scribe, out);
                handle.shared.note(out);
            });
        }
    }

    /// How it does; `None` when nothing is recorded.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        self.inner
            .as_ref()
            .map(|(handle, _)| handle.shared.health())
    }

    /// Takes no more decisions, writes what waits and `gateway.stop`. Returns when it is on the
    /// disk, or after a few seconds.
    pub async fn stop(&self) {
        if let Some((handle, _)) = &self.inner {
            let ended = handle.shared.close();
            if tokio::time::timeout(LAST, ended).await.is_err() {
                tracing::error!("the audit log could not be finished in time");
            }
        }
    }

    fn submit(&self, event: &Event<'_>) -> Option<(Submitted, Pending, bool)> {
        let (handle, settings) = self.inner.as_ref()?;
        let allow = settings.config.on_error == OnError::Allow;
        Some(with_scratch(|out| {
            let parts = event.encode(&settings.scribe, out);
            let pending = Pending::new(handle.clone(), parts, out);
            if allow && !handle.shared.health().ok {
                handle.shared.note(out);
                return (Submitted::Done(Ok(())), pending, allow);
            }
            (handle.shared.submit(out), pending, allow)
        }))
    }
}

/// Waits until a decision is in the log.
async fn settled(
    submitted: Submitted,
    pending: Pending,
    allow: bool,
) -> Result<Pending, Unrecorded> {
    let result = match submitted {
        Submitted::Done(result) => result,
        Submitted::Gathers(gathering, receiver) => {
            // Whoever is ready to run brings his decision meanwhile.
            turn::give_way().await;
            drop(gathering);
            told_in_time(receiver).await
        }
        Submitted::Waits(receiver) => told_in_time(receiver).await,
    };
    match result {
        Ok(()) => Ok(pending),
        Err(_) if allow => Ok(pending),
        Err(Unrecorded::Slow) => {
            // It may still come to stand in the log, and then its outcome has to.
            pending.finish(Outcome::new(Status::Unrecorded));
            Err(Unrecorded::Slow)
        }
        Err(error) => {
            pending.forget();
            Err(error)
        }
    }
}

async fn told_in_time(receiver: oneshot::Receiver<Word>) -> Result<(), Unrecorded> {
    let told = tokio::time::timeout(PATIENCE, told(receiver)).await;
    told.unwrap_or(Err(Unrecorded::Slow))
}

/// What becomes of a decision; whoever is asked to writes meanwhile.
async fn told(mut receiver: oneshot::Receiver<Word>) -> Result<(), Unrecorded> {
    loop {
        match receiver.await {
            Ok(Word::Done(result)) => return result,
            Ok(Word::Write(gathering, next)) => {
                drop(gathering);
                receiver = next;
            }
            Err(_) => return Err(Unrecorded::Failed),
        }
    }
}

impl Settings {
    fn new(config: &Config) -> Result<Self, OpenError> {
        let key = match &config.path {
            _ if config.arguments == Arguments::None => [0; 32],
            Destination::File(path) => place::secret(path)?,
            Destination::Stdout => place::passing_secret()?,
        };
        let redact = patterns(&config.redact)?;
        Ok(Self {
            config: config.clone(),
            scribe: Scribe::new(config.arguments, redact, DigestKey::new(&key)),
        })
    }

    fn apply(&self, sink: &mut Sink) {
        sink.rotate = self.config.rotate;
        sink.sync = self.config.sync;
        sink.keep = self.config.on_error == OnError::Allow;
    }
}

fn signer(config: &Config) -> Result<Option<Signer>, OpenError> {
    config.sign_key.as_deref().map(Signer::load).transpose()
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.shared.close());
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = self.inner.as_ref().map(|(_, settings)| &settings.config);
        f.debug_tuple("Log").field(&config).finish()
    }
}

/// Runs `write` with this thread's scratch memory, empty.
fn with_scratch<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let out = write(&mut scratch);
    if scratch.capacity() <= KEPT {
        SCRATCH.set(scratch);
    }
    out
}

/// How long a decision waits for the disk.
const PATIENCE: Duration = Duration::from_millis(800);

/// How long the end waits for the disk.
const LAST: Duration = Duration::from_secs(5);

/// Scratch memory that a thread keeps.
const KEPT: usize = 64 * 1024;
