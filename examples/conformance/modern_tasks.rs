//! Tasks as the extension `io.modelcontextprotocol/tasks` has them: the server decides on them,
//! and they ask through the client's own requests.

use serde_json::{Value, json};

use crate::{
    call::{Answers, Call, Fault, Question, Stop},
    tasks::{self, KEPT_MS, POLL_MS, Task},
    tools::{Run, Tool},
    wire::Peer,
};

pub(crate) const EXTENSION: &str = "io.modelcontextprotocol/tasks";

pub(crate) fn declared(capabilities: &Value) -> bool {
    capabilities["extensions"][EXTENSION].is_object()
}

pub(crate) fn undeclared() -> Fault {
    let required = json!({"extensions": {EXTENSION: {}}});
    Fault::new(-32021, "The tasks extension is required")
        .with(json!({"requiredCapabilities": required}))
}

/// Begins a task for a tool; what was asked before it began is answered in `gathered`.
pub(crate) fn create(call: &Call, tool: &'static Tool, gathered: Answers) -> Value {
    let work = move |call: &Call, id: &str| match &tool.run {
        Run::Asks(asks) if asks.gathers => (asks.finish)(call, &gathered),
        _ => tool.run(call, |_, questions| ask(call, id, questions)),
    };
    let task = tasks::begin(call, KEPT_MS, work, |_, _| {});
    let mut result = describe(&task);
    result["resultType"] = json!("task");
    result
}

/// Parks questions with the task, and waits for their answers.
fn ask(call: &Call, id: &str, questions: Vec<Question>) -> Result<Answers, Stop> {
    let count = questions.len();
    tasks::change(&call.peer, id, |task| {
        task.questions = questions;
        task.answers.clear();
        task.set("input_required");
    });
    let answers = call.peer.wait(&call.flag, |shared| {
        let task = shared.tasks.get_mut(id)?;
        let all = task.answers.len() == count;
        all.then(|| std::mem::take(&mut task.answers))
    })?;
    Ok(answers)
}

fn describe(task: &Task) -> Value {
    let mut description = tasks::describe(task);
    description["ttlMs"] = json!(task.kept);
    description["pollIntervalMs"] = json!(POLL_MS);
    description
}

pub(crate) fn receive(peer: &Peer, method: &str, params: &Value) -> Result<Value, Fault> {
    let task = tasks::named(peer, params)?;
    match method {
        "tasks/get" => return Ok(detailed(&task)),
        "tasks/cancel" => tasks::cancel(peer, &task.id),
        _ => update(peer, &task.id, params)?,
    }
    Ok(json!({}))
}

fn detailed(task: &Task) -> Value {
    let mut description = describe(task);
    match &task.outcome {
        Some(Ok(result)) => description["result"] = result.clone(),
        Some(Err(fault)) => description["error"] = fault.to_json(),
        None => {}
    }
    if task.status == "input_required" {
        description["inputRequests"] = requests(&task.questions);
    }
    description
}

/// Questions as the client sees them.
pub(crate) fn requests(questions: &[Question]) -> Value {
    let mut requests = json!({});
    for question in questions {
        requests[&question.key] = json!({"method": question.method, "params": question.params});
    }
    requests
}

fn update(peer: &Peer, id: &str, params: &Value) -> Result<(), Fault> {
    let Some(responses) = params["inputResponses"].as_object() else {
        return Err(Fault::params("inputResponses must be an object"));
    };
    tasks::change(peer, id, |task| {
        let asked = task.questions.len();
        let (answered, open) = std::mem::take(&mut task.questions)
            .into_iter()
            .partition(|question| responses.contains_key(&question.key));
        task.questions = open;
        let answered: Vec<Question> = answered;
        for Question { key, .. } in answered {
            let answer = responses.get(&key).cloned().unwrap_or_default();
            task.answers.insert(key, answer);
        }
        if asked > 0 && task.questions.is_empty() {
            task.set("working");
        }
    });
    Ok(())
}
