//! The names that an instance's child lists, asked for by the gateway itself.
//!
//! Owns the question and how long its answer holds. It must never know who may see what.
//! Invariants: a list is asked for once, however many want to know; an answer holds until the child
//! says that the list has changed; nobody waits longer than `PATIENCE`.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use crate::{
    backend::{Backend, Instance, ask},
    drain::Drain,
    frame::{self, Frame, Kind},
    policy::{
        List, Listed, Names,
        listed::{Next, Unlistable},
    },
};

/// What is known of an instance's lists.
#[derive(Debug, Default)]
pub struct Catalogue {
    lists: Mutex<[Entry; 4]>,
    /// Of the backend, from the first question on.
    drain: OnceLock<Drain>,
}

#[derive(Debug, Default)]
struct Entry {
    state: State,
    /// Counts questions: an answer to an older one is not kept.
    asked: u64,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unasked,
    Asking(watch::Receiver<bool>),
    Known(Arc<Names>),
    /// It can't be had; not asked again before.
    Failed(Instant),
}

impl Backend {
    /// What a child of this backend lists, as far as it can be had within three seconds.
    pub async fn listed(&self, instance: &Arc<Instance>, lists: &[List]) -> Listed {
        let Some(first) = lists.first() else {
            return Listed::unknown();
        };
        let first = self.names(instance, *first).await;
        let second = match lists.get(1) {
            Some(second) => Some(self.names(instance, *second).await),
            None => None,
        };
        Listed::of(first, second)
    }

    /// Asks for lists that will be needed, without waiting for them.
    pub fn list_ahead(&self, instance: &Arc<Instance>, lists: &[List]) {
        for list in lists {
            drop(instance.names.ask(instance, *list, self.drain()));
        }
    }

    async fn names(&self, instance: &Arc<Instance>, list: List) -> Option<Arc<Names>> {
        let mut told = match instance.names.ask(instance, list, self.drain()) {
            Asked::Known(names) => return names,
            Asked::Asking(told) => told,
        };
        // An answer, or a task that is no more.
        let _ = tokio::time::timeout(PATIENCE, told.wait_for(|told| *told)).await;
        instance.names.known(list)
    }
}

enum Asked {
    /// The names, or that they can't be had.
    Known(Option<Arc<Names>>),
    /// Somebody asks.
    Asking(watch::Receiver<bool>),
}

impl Catalogue {
    /// The child says that a list has changed: what was known is forgotten, and asked anew at once
    /// where somebody wanted it.
    pub(super) fn changed(&self, instance: &Arc<Instance>, method: &str) {
        let lists: &[List] = match method {
            "notifications/tools/list_changed" => &[List::Tools],
            "notifications/prompts/list_changed" => &[List::Prompts],
            "notifications/resources/list_changed" => &[List::Resources, List::Templates],
            _ => return,
        };
        let Some(drain) = self.drain.get() else {
            return;
        };
        for list in lists {
            let wanted = {
                let mut entries = self.lists.lock();
                let entry = &mut entries[*list as usize];
                entry.asked += 1;
                !matches!(std::mem::take(&mut entry.state), State::Unasked)
            };
            if wanted {
                drop(self.ask(instance, *list, drain));
            }
        }
    }

    fn known(&self, list: List) -> Option<Arc<Names>> {
        match &self.lists.lock()[list as usize].state {
            State::Known(names) => Some(names.clone()),
            _ => None,
        }
    }

    fn ask(&self, instance: &Arc<Instance>, list: List, drain: &Drain) -> Asked {
        let mut entries = self.lists.lock();
        let entry = &mut entries[list as usize];
        match &entry.state {
            State::Known(names) => return Asked::Known(Some(names.clone())),
            State::Asking(told) => return Asked::Asking(told.clone()),
            State::Failed(until) if *until > Instant::now() => return Asked::Known(None),
            State::Failed(_) | State::Unasked => {}
        }
        let (tell, told) = watch::channel(false);
        entry.state = State::Asking(told.clone());
        entry.asked += 1;
        let question = entry.asked;
        drop(entries);
        let _ = self.drain.set(drain.clone());
        let instance = instance.clone();
        drain.spawn(async move {
            let names = tokio::time::timeout(DEADLINE, fetch(&instance, list)).await;
            instance
                .names
                .learn(list, question, names.ok().and_then(Result::ok));
            let _ = tell.send(true);
        });
        Asked::Asking(told)
    }

    fn learn(&self, list: List, question: u64, names: Option<Names>) {
        let mut entries = self.lists.lock();
        let entry = &mut entries[list as usize];
        if entry.asked != question {
            return;
        }
        entry.state = match names {
            Some(names) => State::Known(Arc::new(names)),
            None => State::Failed(Instant::now() + AGAIN),
        };
    }
}

/// What a question is asked with; `cursor` is raw.
fn params(instance: &Instance, cursor: Option<&str>) -> String {
    let mut members = Vec::new();
    if let Some(version) = instance.inventory().stateless() {
        let meta = serde_json::json!({
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        members.push(format!(r#""_meta":{meta}"#));
    }
    members.extend(cursor.map(|cursor| format!(r#""cursor":{cursor}"#)));
    format!("{{{}}}", members.join(","))
}

/// All pages of a list.
async fn fetch(instance: &Arc<Instance>, list: List) -> Result<Names, Unlistable> {
    let mut names = Names::default();
    let mut params = params(instance, None);
    for _ in 0..MAX_PAGES {
        let request = frame::request(b"0", list.method(), Some(params.as_bytes()));
        let request = Frame::from_child(request).map_err(|_| Unlistable)?;
        let answer = ask::ask(instance, &request, DEADLINE).await;
        let answer = answer.map_err(|_| Unlistable)?;
        let Some(result) = answer.result().filter(|_| answer.kind() == Kind::Result) else {
            // A child without such a list has nothing that could stand in it.
            return match answer.error_code() {
                Some(-32601) if names.is_empty() => Ok(names),
                _ => Err(Unlistable),
            };
        };
        match names.add(list, result)? {
            Next::Nothing => return Ok(names),
            Next::Page(cursor) => params = self::params(instance, Some(&cursor)),
        }
    }
    Err(Unlistable)
}

/// A caller waits this long for names: HTTP+SSE clients give up a POST after five seconds.
const PATIENCE: Duration = Duration::from_secs(3);
/// For one page, and for all of them.
const DEADLINE: Duration = Duration::from_secs(30);
/// Pages of one list.
const MAX_PAGES: usize = 200;
/// When a list that can't be had is asked for again.
const AGAIN: Duration = Duration::from_secs(5);
