//! Calls that go on after they were answered; what both forms of tasks have in common.

use std::{fmt::Write as _, thread};

use serde_json::{Value, json};

use crate::{
    call::{Answers, Call, Fault, Outcome, Question, Stop},
    wire::{Flag, Peer},
};

/// How long a task is kept, and how often to ask for it.
pub(crate) const KEPT_MS: u64 = 300_000;
pub(crate) const POLL_MS: u64 = 200;

#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) created: String,
    pub(crate) updated: String,
    pub(crate) kept: u64,
    /// Once it is completed or failed.
    pub(crate) outcome: Option<Result<Value, Fault>>,
    /// What it waits for.
    pub(crate) questions: Vec<Question>,
    pub(crate) answers: Answers,
    /// Somebody has asked for its result, and waits.
    pub(crate) awaited: bool,
    flag: Flag,
}

impl Task {
    pub(crate) fn over(&self) -> bool {
        matches!(self.status, "completed" | "failed" | "cancelled")
    }

    pub(crate) fn set(&mut self, status: &'static str) {
        self.status = status;
        self.updated = now();
    }
}

/// Begins a task of this call's client; `work` gets the call under the task's own flag.
pub(crate) fn begin(
    call: &Call,
    kept: u64,
    work: impl FnOnce(&Call, &str) -> Outcome + Send + 'static,
    tell: impl FnOnce(&Peer, &Task) + Send + 'static,
) -> Task {
    let task = Task {
        id: fresh_id(),
        status: "working",
        created: now(),
        updated: now(),
        kept,
        outcome: None,
        questions: Vec::new(),
        answers: Answers::new(),
        awaited: false,
        flag: Flag::default(),
    };
    let id = task.id.clone();
    call.peer.shared().tasks.insert(id.clone(), task.clone());
    let mut call = call.clone();
    call.flag = task.flag.clone();
    thread::spawn(move || {
        let outcome = work(&call, &id);
        if let Some(task) = finish(&call.peer, &id, outcome) {
            tell(&call.peer, &task);
        }
    });
    task
}

fn finish(peer: &Peer, id: &str, outcome: Outcome) -> Option<Task> {
    let mut shared = peer.shared();
    let task = shared.tasks.get_mut(id)?;
    if !task.over() {
        match outcome {
            Ok(result) => {
                task.outcome = Some(Ok(result));
                task.set("completed");
            }
            Err(Stop::Fault(fault)) => {
                task.outcome = Some(Err(fault));
                task.set("failed");
            }
            Err(Stop::Refused(why)) => {
                task.outcome = Some(Err(Fault::new(-32603, why)));
                task.set("failed");
            }
            Err(Stop::Cancelled) => task.set("cancelled"),
        }
    }
    let task = task.clone();
    drop(shared);
    peer.wake();
    Some(task)
}

/// The task that params name.
pub(crate) fn named(peer: &Peer, params: &Value) -> Result<Task, Fault> {
    let id = params["taskId"].as_str().unwrap_or_default();
    let task = peer.shared().tasks.get(id).cloned();
    task.ok_or_else(|| Fault::params("No such task"))
}

/// Changes a task, if it isn't over.
pub(crate) fn change(peer: &Peer, id: &str, change: impl FnOnce(&mut Task)) {
    let mut shared = peer.shared();
    if let Some(task) = shared.tasks.get_mut(id).filter(|task| !task.over()) {
        change(task);
    }
    drop(shared);
    peer.wake();
}

pub(crate) fn cancel(peer: &Peer, id: &str) {
    change(peer, id, |task| {
        task.flag.store(true, std::sync::atomic::Ordering::Relaxed);
        task.questions.clear();
        task.set("cancelled");
    });
}

/// What both forms tell of a task in the same words.
pub(crate) fn describe(task: &Task) -> Value {
    json!({
        "taskId": task.id,
        "status": task.status,
        "createdAt": task.created,
        "lastUpdatedAt": task.updated,
    })
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

fn fresh_id() -> String {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().fold(String::new(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}
