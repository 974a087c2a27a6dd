//! What a child lists, asked by the gateway itself.
//!
//! Owns the names (and digests) of one instance's tools, prompts and resource templates: unpruned,
//! all pages, asked when somebody wants to know, and again when the child says that a list has
//! changed. It must never know who asks, nor what becomes of an answer. Invariants: what is known is
//! what the child listed last; while that is uncertain nothing is known; what it keeps is bounded.

mod pages;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    backend::{Guard, Instance},
    frame::Frame,
    pin::{Digest, Item, Kind, member},
};

pub use self::pages::{Flaw, read_all};

/// The names of one kind, each with the digest of its definition; `None` where the child lists
/// several under one name, or one that can't be read.
pub type Names = HashMap<String, Option<Digest>>;

/// What an instance lists.
#[derive(Debug)]
pub struct Inventory {
    state: Mutex<State>,
    /// For the one that asks.
    due: Notify,
    /// For those who wait: counts what was settled.
    settled: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    lists: [List; 3],
    /// Which kinds the server says that it has.
    declared: Option<[bool; 3]>,
    /// The revision that the child is spoken to in, where that is one without a handshake.
    stateless: Option<String>,
    /// Names under which clients were shown something else than was reviewed.
    tainted: HashSet<(Kind, String)>,
    all_tainted: [bool; 3],
}

#[derive(Debug, Default)]
struct List {
    /// How often the child has said that it changed.
    generation: u64,
    standing: Standing,
}

#[derive(Debug, Default)]
enum Standing {
    /// Nobody wanted to know.
    #[default]
    Unasked,
    /// Somebody does.
    Wanted,
    Known(Arc<Names>),
    Failed(Instant),
}

/// The child doesn't say what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the child doesn't list what it has")]
pub struct Unsettled;

impl Inventory {
    /// One of which nothing is known.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            due: Notify::new(),
            settled: watch::Sender::new(0),
        })
    }

    /// What is known now.
    #[must_use]
    pub fn current(&self, kind: Kind) -> Option<Arc<Names>> {
        match &self.state.lock().lists[kind.index()].standing {
            Standing::Known(names) => Some(names.clone()),
            _ => None,
        }
    }

    /// Asks, if nobody did yet.
    pub fn want(&self, kind: Kind) {
        let mut state = self.state.lock();
        let standing = &mut state.lists[kind.index()].standing;
        let due = match standing {
            Standing::Unasked => true,
            // A child that can't answer is not asked all the time.
            Standing::Failed(at) => at.elapsed() > PAUSE,
            Standing::Wanted | Standing::Known(_) => false,
        };
        if due {
            *standing = Standing::Wanted;
            drop(state);
            self.due.notify_one();
        }
    }

    /// What the child lists; asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Unsettled`].
    pub async fn known(&self, kind: Kind) -> Result<Arc<Names>, Unsettled> {
        if let Some(names) = self.current(kind) {
            return Ok(names);
        }
        let mut settled = self.settled.subscribe();
        self.want(kind);
        let wait = async {
            loop {
                match &self.state.lock().lists[kind.index()].standing {
                    Standing::Known(names) => return Ok(names.clone()),
                    Standing::Failed(_) => return Err(Unsettled),
                    Standing::Unasked | Standing::Wanted => {}
                }
                settled.changed().await.map_err(|_| Unsettled)?;
            }
        };
        // Longer than the asking itself, unless the child changes its lists all the time.
        let waited = tokio::time::timeout(PATIENCE * 2, wait).await;
        waited.unwrap_or(Err(Unsettled))
    }

    /// The child says that a list has changed: what was known is not, until it was asked again.
    pub(super) fn changed(&self, method: &str) {
        let kind = match method {
            "notifications/tools/list_changed" => Kind::Tool,
            "notifications/prompts/list_changed" => Kind::Prompt,
            "notifications/resources/list_changed" => Kind::Template,
            _ => return,
        };
        let mut state = self.state.lock();
        let list = &mut state.lists[kind.index()];
        list.generation += 1;
        if !matches!(list.standing, Standing::Unasked) {
            list.standing = Standing::Wanted;
            drop(state);
            self.due.notify_one();
        }
    }

    /// Notes that something under a name was withheld from a client, though the gateway itself may
    /// have been shown something else. It stays so as long as the instance lives.
    pub(super) fn taint(&self, kind: Kind, name: &str) {
        let mut state = self.state.lock();
        if state.tainted.len() < MAX_TAINTED {
            state.tainted.insert((kind, name.to_owned()));
        } else {
            // Then nothing of the kind is trusted any more.
            state.all_tainted[kind.index()] = true;
        }
    }

    /// True when [`Inventory::taint`] was called for the name.
    pub(super) fn is_tainted(&self, kind: Kind, name: &str) -> bool {
        let state = self.state.lock();
        state.all_tainted[kind.index()]
            || (!state.tainted.is_empty() && state.tainted.contains(&(kind, name.to_owned())))
    }

    /// Notes the capabilities in a raw `InitializeResult`.
    pub(super) fn declare(&self, result: &[u8]) {
        let capabilities = member(result, "capabilities").unwrap_or(b"{}");
        let has = Kind::ALL.map(|kind| member(capabilities, kind.capability()).is_some());
        self.state.lock().declared = Some(has);
    }

    /// Notes that the child is spoken to in a revision without a handshake.
    pub fn speak(&self, version: &str) {
        let mut state = self.state.lock();
        if state.stateless.is_none() {
            state.stateless = Some(version.to_owned());
        }
    }

    /// Notes the revision of a request to the child that carries its own.
    pub(super) fn heard(&self, frame: &Frame) {
        if let Some(version) = frame.meta_protocol_version() {
            self.speak(&version);
        }
    }

    /// The list to ask for next.
    fn next(&self) -> Option<(Kind, u64)> {
        let state = self.state.lock();
        let wanted = |kind: &Kind| matches!(state.lists[kind.index()].standing, Standing::Wanted);
        let kind = Kind::ALL.into_iter().find(wanted)?;
        Some((kind, state.lists[kind.index()].generation))
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        let declared = self.state.lock().declared;
        declared.is_none_or(|has| has[kind.index()])
    }

    pub(super) fn stateless(&self) -> Option<String> {
        self.state.lock().stateless.clone()
    }

    fn settle(&self, kind: Kind, generation: u64, found: Option<Names>) {
        let mut state = self.state.lock();
        let list = &mut state.lists[kind.index()];
        // Otherwise it has changed meanwhile, and is asked for again.
        if list.generation == generation {
            list.standing = match found {
                Some(names) => Standing::Known(Arc::new(names)),
                None => Standing::Failed(Instant::now()),
            };
            drop(state);
            self.settled.send_modify(|count| *count += 1);
        }
    }
}

/// Asks an instance for what is wanted, as long as it lives. Runs beside its reader.
pub(super) async fn keep(instance: &Instance) {
    let inventory = instance.inventory();
    loop {
        let Some((kind, generation)) = inventory.next() else {
            inventory.due.notified().await;
            continue;
        };
        let found = match inventory.has(kind) {
            true => list(instance, kind).await,
            false => Some(Names::new()),
        };
        inventory.settle(kind, generation, found);
    }
}

async fn list(instance: &Instance, kind: Kind) -> Option<Names> {
    if let Some(guard) = instance.guard()
        && guard.recheck().await.is_err()
    {
        instance.stop();
        return None;
    }
    let mut names = Names::new();
    let mut size = 0;
    let read = read_all(instance, kind, PATIENCE, |item| {
        take(instance.guard(), instance, kind, item);
        let Some(name) = &item.name else {
            return Ok(());
        };
        size += name.len() + 64;
        if size > MAX_SIZE {
            return Err(Flaw::TooMuch);
        }
        names
            .entry(name.clone())
            .and_modify(|known| *known = known.filter(|known| Some(*known) == item.digest))
            .or_insert(item.digest);
        Ok(())
    });
    match read.await {
        Ok(()) => Some(names),
        Err(flaw) => {
            let (backend, number) = (instance.backend(), instance.number());
            tracing::warn!(backend, instance = number, list = kind.method(), %flaw,
                "the child doesn't tell what it has");
            None
        }
    }
}

fn take(guard: Option<&Arc<Guard>>, instance: &Instance, kind: Kind, item: &Item<'_>) {
    if let Some(guard) = guard {
        guard.judge(instance.number(), kind, item);
    }
}

/// For all pages of a list.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts at a list that can't be had.
const PAUSE: Duration = Duration::from_secs(1);
/// Names that are remembered as tainted.
const MAX_TAINTED: usize = 1000;
/// The names of one kind, bytes.
const MAX_SIZE: usize = 1 << 20;
