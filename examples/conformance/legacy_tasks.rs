//! Tasks as 2025-11-25 has them: the client asks for one, and fetches its result.

use serde_json::{Value, json};

use crate::{
    call::{Call, Fault, Outcome},
    legacy,
    tasks::{self, KEPT_MS, POLL_MS, Task},
    tools::Tool,
    wire::Peer,
};

const RELATED_KEY: &str = "io.modelcontextprotocol/related-task";

/// Whether this revision knows them.
pub(crate) fn known(revision: &str) -> bool {
    revision == "2025-11-25"
}

pub(crate) fn create(call: &Call, tool: &'static Tool) -> Value {
    let kept = call.params["task"]["ttl"].as_u64().unwrap_or(KEPT_MS);
    let work = move |call: &Call, id: &str| {
        let meta = json!({RELATED_KEY: {"taskId": id}});
        tool.run(call, |asks, questions| {
            tasks::change(&call.peer, id, |task| task.set("input_required"));
            // The questions of a task come while the client waits for its result.
            call.peer.wait(&call.flag, |shared| {
                shared.tasks.get(id)?.awaited.then_some(())
            })?;
            let answers = legacy::ask(call, asks.insists, questions, Some(&meta));
            tasks::change(&call.peer, id, |task| task.set("working"));
            answers
        })
    };
    let tell = |peer: &Peer, task: &Task| {
        peer.notify("notifications/tasks/status", &describe(task));
    };
    let task = tasks::begin(call, kept, work, tell);
    json!({"task": describe(&task)})
}

fn describe(task: &Task) -> Value {
    let mut description = tasks::describe(task);
    description["ttl"] = json!(task.kept);
    description["pollInterval"] = json!(POLL_MS);
    description
}

pub(crate) fn receive(peer: &Peer, method: &str, params: &Value) -> Result<Value, Fault> {
    match method {
        "tasks/list" => {
            let tasks: Vec<_> = peer.shared().tasks.values().map(describe).collect();
            Ok(json!({"tasks": tasks}))
        }
        "tasks/get" => Ok(describe(&tasks::named(peer, params)?)),
        "tasks/cancel" => {
            let task = tasks::named(peer, params)?;
            if task.over() {
                return Err(Fault::params("The task is over"));
            }
            tasks::cancel(peer, &task.id);
            Ok(describe(&tasks::named(peer, params)?))
        }
        _ => Err(Fault::unknown_method()),
    }
}

/// Waits for the result of a task.
pub(crate) fn result(call: &Call) -> Outcome {
    let id = tasks::named(&call.peer, &call.params)?.id;
    tasks::change(&call.peer, &id, |task| task.awaited = true);
    let task = call.peer.wait(&call.flag, |shared| {
        shared.tasks.get(&id).filter(|task| task.over()).cloned()
    })?;
    match task.outcome {
        Some(Ok(mut result)) => {
            result["_meta"] = json!({RELATED_KEY: {"taskId": id}});
            Ok(result)
        }
        Some(Err(fault)) => Err(fault.into()),
        None => Err(Fault::params("The task was cancelled").into()),
    }
}
