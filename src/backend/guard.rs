//! A backend held against its lock file.
//!
//! Owns the verdict about each start, each definition and the instructions, and the telling of what
//! differs: to the audit log and to the operator, once for each change. It must never know sessions.
//! Invariant: with `enforce`, what was not found to be the reviewed one counts as different.

mod clear;
mod screen;

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

use crate::{
    audit,
    backend::{
        Config,
        child::{self, SpawnError},
    },
    pin::{
        Definition, Digest, Item, Kind, Mode, Pins,
        hidden::escape,
        lock::difference,
        origin::{Cache, Origin},
    },
};

pub use self::{clear::Withheld, screen::screened};

/// Holds the instances of one backend against its pins.
pub struct Guard {
    backend: String,
    pins: Pins,
    /// What is started, to look at it again.
    child: child::Config,
    log: audit::Current,
    cache: Arc<Cache>,
    /// What was told already.
    told: Mutex<HashSet<Told>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Told {
    Origin(Vec<String>),
    Missing,
    Instructions(Option<Digest>),
    Item(Kind, Option<String>, Option<Digest>),
}

/// Why a backend is not started.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// It was never reviewed.
    #[error("it has no entry in gatehouse.lock: run `gatehouse pin --backend {0}`")]
    Missing(String),
    /// What would be started is not what was reviewed.
    #[error(
        "its program is not the one in gatehouse.lock; if the change is yours, run `gatehouse pin --backend {0}`"
    )]
    Differs(String),
    /// What would be started can't be read.
    #[error("its program can't be compared with gatehouse.lock: {0}")]
    Unreadable(String),
}

impl Guard {
    /// A guard; `None` where nothing is looked at.
    #[must_use]
    pub fn new(config: &Config, log: audit::Current) -> Option<Arc<Self>> {
        config.pins.is_on().then(|| {
            Arc::new(Self {
                backend: config.name.clone(),
                pins: config.pins.clone(),
                child: config.child.clone(),
                log,
                cache: Arc::default(),
                told: Mutex::default(),
            })
        })
    }

    /// Looks at what is about to be started.
    ///
    /// # Errors
    /// [`PinError`], with `enforce` only.
    pub async fn admit(&self) -> Result<(), PinError> {
        let Some(locked) = &self.pins.locked else {
            self.tell(Told::Missing, "the backend is not in the lock file", &[]);
            return self.verdict(PinError::Missing(self.backend.clone()));
        };
        match look(&self.child, &self.cache).await {
            Ok(now) => match locked.origin.differs(&now) {
                None => Ok(()),
                Some(lines) => {
                    self.tell(Told::Origin(lines.clone()), "the program", &lines);
                    self.verdict(PinError::Differs(self.backend.clone()))
                }
            },
            Err(error) => self.verdict(PinError::Unreadable(error)),
        }
    }

    fn verdict(&self, error: PinError) -> Result<(), PinError> {
        if self.pins.enforces() {
            return Err(error);
        }
        if matches!(error, PinError::Unreadable(_)) {
            tracing::warn!(backend = self.backend, %error, "pins can't be compared");
        }
        Ok(())
    }

    /// Looks at an item that a child lists; true when it may be seen.
    pub(super) fn judge(&self, instance: u64, kind: Kind, item: &Item<'_>) -> bool {
        // Where nothing was pinned that was told, once.
        if self.pins.locked.is_none() {
            return !self.pins.enforces();
        }
        let name = item.name.as_deref();
        if name.is_some_and(|name| self.pins.matches(kind, name, item.digest)) {
            return true;
        }
        let told = Told::Item(kind, item.name.clone(), item.digest);
        if self.is_new(told) {
            self.tell_item(instance, kind, item);
        }
        !self.pins.enforces()
    }

    /// Looks at the raw instructions of an `InitializeResult`; true when they may be seen.
    fn judge_instructions(&self, instance: u64, raw: &[u8]) -> bool {
        let Some(locked) = &self.pins.locked else {
            return !self.pins.enforces();
        };
        let now = Definition::of_instructions(raw);
        let digest = now.as_ref().map(|now| now.digest);
        if digest.is_some_and(|digest| self.pins.matches_instructions(digest)) {
            return true;
        }
        if self.is_new(Told::Instructions(digest)) {
            let before = locked.instructions.as_ref();
            let lines = difference(
                before.map_or(&[], |before| &before.shows),
                now.as_ref().map_or(&[], |now| &now.shows),
            );
            let what = Change {
                instance: Some(instance),
                method: Some("initialize"),
                tool: None,
                detail: "instructions",
            };
            self.record(&what, "the instructions", &lines);
        }
        !self.pins.enforces()
    }

    fn tell_item(&self, instance: u64, kind: Kind, item: &Item<'_>) {
        let name = item.name.as_deref();
        let pinned = name.and_then(|name| self.pins.pinned(kind, name));
        let now = Definition::of_item(kind, item.raw);
        let shown = escape(name.unwrap_or("without a readable name"));
        let shown: String = shown.chars().take(MAX_NAME).collect();
        let (detail, lines) = match (pinned, &now) {
            (Some(pinned), Some(now)) => ("changed", difference(&pinned.shows, &now.shows)),
            (None, Some(now)) => ("not in the lock file", difference(&[], &now.shows)),
            (_, None) => ("can't be read", Vec::new()),
        };
        let what = Change {
            instance: Some(instance),
            method: Some(kind.method()),
            tool: name,
            detail,
        };
        self.record(
            &what,
            &format!("{} `{shown}` ({detail})", kind.word()),
            &lines,
        );
    }

    fn tell(&self, told: Told, what: &str, lines: &[String]) {
        if self.is_new(told) {
            let change = Change {
                instance: None,
                method: None,
                tool: None,
                detail: what,
            };
            self.record(&change, what, lines);
        }
    }

    /// True the first time. A child that makes up a new name each time is told of so often, and no
    /// more.
    fn is_new(&self, told: Told) -> bool {
        let mut known = self.told.lock();
        if known.len() < MAX_TOLD {
            return known.insert(told);
        }
        if known.len() == MAX_TOLD && !known.contains(&told) {
            known.insert(told);
            let backend = &self.backend;
            tracing::warn!(
                backend,
                "more differs from gatehouse.lock than is told one by one"
            );
        }
        false
    }

    fn record(&self, change: &Change<'_>, what: &str, lines: &[String]) {
        let (decision, done) = match self.pins.mode {
            Mode::Enforce => (audit::Decision::Deny, "is withheld"),
            Mode::Warn | Mode::Off => (audit::Decision::Allow, "passes"),
        };
        self.log.load().note(&audit::Event {
            backend: Some(&self.backend),
            instance: change.instance,
            method: change.method,
            tool: change.tool,
            decision: Some(decision),
            rule: Some("pin"),
            detail: Some(change.detail),
            ..audit::Event::new(audit::Name::PinChanged)
        });
        let diff: String = lines.join(" | ").chars().take(MAX_DIFF).collect();
        let backend = &self.backend;
        tracing::warn!(
            backend,
            instance = change.instance,
            "{what} differs from gatehouse.lock and {done}; if that is right: `gatehouse pin --backend {backend}`: {diff}"
        );
    }

    /// Looks again at what a runner has installed: it may have installed something newer on its way.
    pub(super) async fn recheck(&self) -> Result<(), PinError> {
        let locked = self.pins.locked.as_ref();
        match locked.and_then(|locked| locked.origin.package.as_ref()) {
            Some(_) => self.admit().await,
            None => Ok(()),
        }
    }
}

/// What stands in the event of a change.
struct Change<'a> {
    instance: Option<u64>,
    method: Option<&'a str>,
    tool: Option<&'a str>,
    detail: &'a str,
}

/// Where a backend's server would come from now.
///
/// # Errors
/// What can't be found or read.
pub async fn look(child: &child::Config, cache: &Arc<Cache>) -> Result<Origin, String> {
    let around = child::surroundings(child).map_err(|error: SpawnError| error.to_string())?;
    let cache = cache.clone();
    // Executables are large.
    let looked = tokio::task::spawn_blocking(move || Origin::look(&around, &cache)).await;
    looked
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// Changes that are told one by one, until something is pinned again.
const MAX_TOLD: usize = 1000;
/// A difference in the log, characters.
const MAX_DIFF: usize = 4000;
/// A name in the log, characters.
const MAX_NAME: usize = 200;
