//! What goes over the pipes: lines in, lines out, and who waits for what.
//!
//! Owns stdout. Ids are kept as the text they came as, so that every kind comes back unchanged.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Write},
    process,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json, value::RawValue};

use crate::child::Options;

/// One line from the client.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// As it was read, without its newline.
    pub(crate) raw: String,
    /// JSON text of the id.
    pub(crate) id: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) params: Value,
}

impl Line {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let raw = String::from_utf8_lossy(bytes);
        let raw = raw.trim_end_matches('\n').to_owned();
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&raw).ok()?;
        let text = |name: &str| members.get(name).map(|value| value.get().to_owned());
        Some(Self {
            id: text("id"),
            method: text("method").and_then(|method| serde_json::from_str(&method).ok()),
            params: text("params")
                .and_then(|params| serde_json::from_str(&params).ok())
                .unwrap_or(Value::Null),
            raw,
        })
    }

    /// One argument of a tool call.
    pub(crate) fn argument(&self, name: &str) -> &Value {
        &self.params["arguments"][name]
    }

    /// A number among the arguments of a tool call.
    pub(crate) fn number(&self, name: &str, absent: u64) -> u64 {
        self.argument(name).as_u64().unwrap_or(absent)
    }

    /// A text among the arguments of a tool call.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.argument(name).as_str().unwrap_or_default()
    }
}

/// The other end of the pipes; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line_end: &'static str,
    bom_due: AtomicBool,
    silent: AtomicBool,
    out: Mutex<()>,
    identity: String,
    next_id: AtomicU64,
    answered: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    initialize: Value,
    methods: Vec<String>,
    calls: u64,
    cancelled: Vec<Value>,
    subscribed: BTreeSet<String>,
    waiting: BTreeMap<String, mpsc::Sender<Value>>,
    reorder: Vec<String>,
    listed: BTreeMap<String, u64>,
    deaf_until: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(options: &Options) -> Self {
        Self(Arc::new(Inner {
            line_end: if options.crlf { "\r\n" } else { "\n" },
            bom_due: AtomicBool::new(options.bom),
            silent: AtomicBool::new(false),
            out: Mutex::new(()),
            identity: identity(),
            next_id: AtomicU64::new(1),
            answered: AtomicU64::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes bytes as they are. A pipe that is gone is no error: the reader will see its end.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let _whole = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.0.silent.load(Ordering::Relaxed) {
            self.put(bytes);
        }
    }

    fn put(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        if self.0.bom_due.swap(false, Ordering::Relaxed) {
            let _ = out.write_all("\u{feff}".as_bytes());
        }
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Writes one line.
    pub(crate) fn line(&self, text: &str) {
        self.write(format!("{text}{}", self.0.line_end).as_bytes());
    }

    /// Answers a request with a result.
    pub(crate) fn answer(&self, id: &str, result: &Value) {
        self.line(&Self::envelope(id, &result.to_string()));
    }

    /// The text of an answer whose result is this text.
    pub(crate) fn envelope(id: &str, result: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
    }

    /// Answers a request with an error.
    pub(crate) fn refuse(&self, id: &str, code: i64, message: &str) {
        let error = json!({"code": code, "message": message});
        self.line(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
    }

    /// Sends a notification.
    pub(crate) fn notify(&self, method: &str, params: &Value) {
        let text = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.line(&text.to_string());
    }

    /// Sends a request; what the client answers comes on the receiver.
    pub(crate) fn ask(&self, method: &str, params: &Value) -> mpsc::Receiver<Value> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        self.state().waiting.insert(id.to_string(), sender);
        let mut text = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if !params.is_null() {
            text["params"] = params.clone();
        }
        self.line(&text.to_string());
        receiver
    }

    /// Hands a response to whoever asked.
    pub(crate) fn deliver(&self, line: &Line) {
        let Some(id) = &line.id else { return };
        let waiting = self.state().waiting.remove(id);
        if let Some(sender) = waiting {
            let answer: Value = serde_json::from_str(&line.raw).unwrap_or(Value::Null);
            let key = if answer.get("error").is_some() {
                "error"
            } else {
                "result"
            };
            let _ = sender.send(json!({key: answer[key]}));
        }
    }

    /// Notes a line for `seen` and `count`.
    pub(crate) fn saw(&self, line: &Line) {
        let mut state = self.state();
        let Some(method) = line.method.clone() else {
            return;
        };
        if method == "initialize" {
            state.initialize = line.params.clone();
        }
        if method == "tools/call" {
            state.calls += 1;
        }
        state.methods.push(method);
    }

    /// What `seen` tells.
    pub(crate) fn seen(&self) -> Value {
        let state = self.state();
        json!({"initialize": state.initialize, "methods": state.methods})
    }

    /// Tool calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Notes a cancellation, and wakes the call that it is about.
    pub(crate) fn cancel(&self, params: &Value) {
        self.state().cancelled.push(params["requestId"].clone());
        self.0.changed.notify_all();
    }

    /// What no other process has; process ids repeat in namespaces.
    pub(crate) fn identity(&self) -> &str {
        &self.0.identity
    }

    /// The ids that were cancelled.
    pub(crate) fn cancelled(&self) -> Vec<Value> {
        self.state().cancelled.clone()
    }

    /// Waits; true if the request was cancelled before the time was over.
    pub(crate) fn sleep_unless_cancelled(&self, id: &str, time: Duration) -> bool {
        let id: Value = serde_json::from_str(id).unwrap_or(Value::Null);
        let pending = |state: &mut State| !state.cancelled.contains(&id);
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.state(), time, pending);
        let (_state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// How often the first page of a list was asked for, this time included.
    pub(crate) fn listed(&self, method: &str, first: bool) -> u64 {
        let mut state = self.state();
        let times = state.listed.entry(method.to_owned()).or_default();
        *times += u64::from(first);
        *times
    }

    /// Adds or removes a subscription.
    pub(crate) fn subscribe(&self, uri: &Value, on: bool) {
        let uri = uri.as_str().unwrap_or_default().to_owned();
        let mut state = self.state();
        if on {
            state.subscribed.insert(uri);
        } else {
            state.subscribed.remove(&uri);
        }
    }

    /// Whether the client subscribed to a resource.
    pub(crate) fn is_subscribed(&self, uri: &str) -> bool {
        self.state().subscribed.contains(uri)
    }

    /// Puts a call aside; gives back all of them, newest first, once there are `n`.
    pub(crate) fn set_aside(&self, id: &str, n: u64) -> Vec<String> {
        let mut state = self.state();
        state.reorder.push(id.to_owned());
        if (state.reorder.len() as u64) < n {
            return Vec::new();
        }
        let mut ids = std::mem::take(&mut state.reorder);
        ids.reverse();
        ids
    }

    /// Reads nothing until then.
    pub(crate) fn deafen(&self, time: Duration) {
        self.state().deaf_until = Some(Instant::now() + time);
    }

    /// Sleeps while the reader is to read nothing.
    pub(crate) fn hold_if_deaf(&self) {
        let until = self.state().deaf_until.take();
        if let Some(until) = until {
            thread::sleep(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Answers with a result, and writes nothing from then on.
    pub(crate) fn answer_last(&self, id: &str, result: &Value) {
        let _whole = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        let line = Self::envelope(id, &result.to_string());
        self.put(format!("{line}{}", self.0.line_end).as_bytes());
        self.0.silent.store(true, Ordering::Relaxed);
    }

    /// True when it writes nothing any more.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.silent.load(Ordering::Relaxed)
    }

    /// Counts an answered tool call, and exits after the last one allowed.
    pub(crate) fn answered(&self, exit_after: Option<u64>) {
        let answered = self.0.answered.fetch_add(1, Ordering::Relaxed) + 1;
        if exit_after.is_some_and(|limit| answered >= limit) {
            process::exit(3);
        }
    }
}

fn identity() -> String {
    // Seeded by the system for each process.
    let random = RandomState::new().build_hasher().finish();
    format!("{random:016x}")
}
