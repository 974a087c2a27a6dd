//! What goes over the pipes: lines in, lines out, and who waits for what.
//!
//! Owns stdout and all that is shared between requests, under one lock. Ids are kept as the text
//! they came as, so that every kind comes back unchanged.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json, value::RawValue};

use crate::{
    call::{Cancelled, Fault},
    legacy::Session,
    listen::Filter,
    tasks::Task,
};

/// One message from the client.
#[derive(Debug)]
pub(crate) struct Line {
    /// JSON text of the id.
    pub(crate) id: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) params: Value,
    /// Of a response.
    pub(crate) answer: Result<Value, Value>,
}

impl Line {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(bytes).ok()?;
        let value = |name: &str| {
            let text = members.get(name)?.get();
            serde_json::from_str::<Value>(text).ok()
        };
        let error = value("error");
        Some(Self {
            id: members.get("id").map(|id| id.get().to_owned()),
            method: value("method").and_then(|method| method.as_str().map(str::to_owned)),
            params: value("params").unwrap_or(Value::Null),
            answer: error.map_or_else(|| Ok(value("result").unwrap_or(Value::Null)), Err),
        })
    }
}

/// Set once; whoever works for it stops.
pub(crate) type Flag = Arc<AtomicBool>;

/// The other end of the pipes; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    out: Mutex<()>,
    shared: Mutex<Shared>,
    changed: Condvar,
}

/// All that outlives one request.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) session: Option<Session>,
    pub(crate) listens: BTreeMap<String, Filter>,
    pub(crate) tasks: BTreeMap<String, Task>,
    /// How many calls `test_url_elicitation_required` has had.
    pub(crate) visits: u64,
    /// Requests under way, by id.
    running: BTreeMap<String, Flag>,
    /// Answers to our own requests, by id; none yet for those still open.
    asked: BTreeMap<String, Option<Result<Value, Value>>>,
}

impl Peer {
    pub(crate) fn new(name: &str) -> Self {
        Self(Arc::new(Inner {
            name: name.to_owned(),
            out: Mutex::default(),
            shared: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    pub(crate) fn server_info(&self) -> Value {
        json!({"name": self.0.name, "version": env!("CARGO_PKG_VERSION")})
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one line. A pipe that is gone is no error: the reader will see its end.
    fn write(&self, text: &str) {
        let _whole = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Answers a request.
    pub(crate) fn answer(&self, id: &str, outcome: Result<Value, Fault>) {
        let (key, value) = match outcome {
            Ok(result) => ("result", result),
            Err(fault) => ("error", fault.to_json()),
        };
        self.write(&format!(r#"{{"jsonrpc":"2.0","id":{id},"{key}":{value}}}"#));
    }

    /// Sends a notification.
    pub(crate) fn notify(&self, method: &str, params: &Value) {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.write(&message.to_string());
    }

    /// Notes that a request is under way; the flag is set when the client cancels it.
    pub(crate) fn begin(&self, id: &str) -> Flag {
        let flag = Flag::default();
        self.shared().running.insert(id.to_owned(), flag.clone());
        flag
    }

    pub(crate) fn end(&self, id: &str) {
        self.shared().running.remove(id);
    }

    /// Cancels a request or a listen; an id that is none of them is passed over.
    pub(crate) fn cancel(&self, id: &str) {
        let mut shared = self.shared();
        shared.listens.remove(id);
        if let Some(flag) = shared.running.get(id) {
            flag.store(true, Ordering::Relaxed);
        }
        drop(shared);
        self.wake();
    }

    /// Makes everyone who waits look again.
    pub(crate) fn wake(&self) {
        self.0.changed.notify_all();
    }

    /// Waits until `ready` finds what it looks for.
    pub(crate) fn wait<T>(
        &self,
        flag: &Flag,
        mut ready: impl FnMut(&mut Shared) -> Option<T>,
    ) -> Result<T, Cancelled> {
        let mut shared = self.shared();
        loop {
            if flag.load(Ordering::Relaxed) {
                return Err(Cancelled);
            }
            if let Some(found) = ready(&mut shared) {
                return Ok(found);
            }
            shared = self
                .0
                .changed
                .wait(shared)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for that long.
    pub(crate) fn pause(&self, flag: &Flag, time: Duration) -> Result<(), Cancelled> {
        let until = Instant::now() + time;
        let mut shared = self.shared();
        while !flag.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let woken = self.0.changed.wait_timeout(shared, left);
            shared = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(Cancelled)
    }

    /// Sends a request under the id `key`, or under one like it if that is still open; the JSON
    /// text of the id.
    pub(crate) fn ask(&self, key: &str, method: &str, params: &Value) -> String {
        let mut shared = self.shared();
        let id = (1..)
            .map(|count| match count {
                1 => json!(key).to_string(),
                _ => json!(format!("{key}-{count}")).to_string(),
            })
            .find(|id| !shared.asked.contains_key(id))
            .unwrap_or_default();
        shared.asked.insert(id.clone(), None);
        drop(shared);
        let params = if params.is_null() {
            String::new()
        } else {
            format!(r#","params":{params}"#)
        };
        let method = json!(method);
        self.write(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":{method}{params}}}"#
        ));
        id
    }

    /// Waits for the answers to requests of ours, and forgets them in any case.
    pub(crate) fn answers(
        &self,
        flag: &Flag,
        ids: &[String],
    ) -> Result<Vec<Result<Value, Value>>, Cancelled> {
        let answers = self.wait(flag, |shared| {
            ids.iter()
                .map(|id| shared.asked.get(id).cloned().flatten())
                .collect()
        });
        let mut shared = self.shared();
        for id in ids {
            shared.asked.remove(id);
        }
        answers
    }

    /// Hands a response to whoever asked.
    pub(crate) fn deliver(&self, line: &Line) {
        let Some(id) = &line.id else { return };
        if let Some(open) = self.shared().asked.get_mut(id) {
            *open = Some(line.answer.clone());
        }
        self.wake();
    }
}
