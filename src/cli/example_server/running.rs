//! Calls that wait, for time or for the client: at most [`MAX_RUNNING`], each in its own thread.
//!
//! Every wait here ends: at its deadline, when the call is cancelled, or when the input ends.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use super::tools::{self, Arguments};
use super::wire::Id;
use super::{Server, tools::failed};

/// Calls that may wait at once.
pub(super) const MAX_RUNNING: usize = 16;

/// A client asks a person or a model; neither is quick.
const PATIENCE: Duration = Duration::from_secs(300);
/// The longest count-down.
const LONGEST: Duration = Duration::from_secs(600);

/// The calls that run.
#[derive(Default)]
pub(super) struct Running {
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    open: Vec<Arc<Call>>,
    /// The input has ended: nothing begins any more.
    closed: bool,
}

/// One running call.
pub(super) struct Call {
    id: Id,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    /// The request to the client that this call waits for.
    asked: Option<u64>,
    answer: Option<Result<Value, Value>>,
}

/// Why a call can't begin.
#[derive(Debug)]
pub(super) enum Refused {
    /// Its id belongs to another that runs.
    Duplicate,
    /// Too many run.
    Busy,
}

/// What came of asking the client.
enum Answer {
    Given(Value),
    Refused(String),
    /// It didn't answer in time.
    None,
    /// Nobody waits for the call any more.
    Cancelled,
}

impl Running {
    pub(super) fn begin(&self, id: &Id) -> Result<Arc<Call>, Refused> {
        let mut calls = self.calls.lock();
        if calls.open.iter().any(|call| call.id == *id) {
            return Err(Refused::Duplicate);
        }
        if calls.closed || calls.open.len() >= MAX_RUNNING {
            return Err(Refused::Busy);
        }
        let call = Arc::new(Call {
            id: id.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        calls.open.push(call.clone());
        Ok(call)
    }

    pub(super) fn end(&self, call: &Arc<Call>) {
        self.calls
            .lock()
            .open
            .retain(|other| !Arc::ptr_eq(other, call));
    }

    pub(super) fn cancel(&self, id: &Value) {
        let calls = self.calls.lock();
        for call in calls.open.iter().filter(|call| call.id.is(id)) {
            call.cancel();
        }
    }

    pub(super) fn cancel_all(&self) {
        let mut calls = self.calls.lock();
        calls.closed = true;
        for call in &calls.open {
            call.cancel();
        }
    }

    /// Takes the client's answer to the call that asked for it; any other is dropped.
    pub(super) fn answer(&self, id: &Id, outcome: Result<Value, Value>) {
        let Some(number) = id.number() else { return };
        let calls = self.calls.lock();
        for call in &calls.open {
            let mut state = call.state.lock();
            if state.asked == Some(number) {
                state.asked = None;
                state.answer = Some(outcome);
                call.changed.notify_all();
                return;
            }
        }
    }
}

impl Call {
    fn cancel(&self) {
        self.state.lock().cancelled = true;
        self.changed.notify_all();
    }

    /// Waits; false when the call was cancelled meanwhile.
    fn pause(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.cancelled {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return !state.cancelled;
            }
        }
        false
    }

    /// Sends the client a request and waits for its answer.
    fn ask<W: Write + Send>(&self, server: &Server<W>, method: &str, params: &Value) -> Answer {
        let number = server.outbox.number();
        self.state.lock().asked = Some(number);
        server.outbox.request(number, method, params);
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        let answer = loop {
            if state.cancelled {
                break Answer::Cancelled;
            }
            match state.answer.take() {
                Some(Ok(result)) => return Answer::Given(result),
                Some(Err(error)) => {
                    let message = error["message"].as_str().unwrap_or("no reason given");
                    return Answer::Refused(message.to_owned());
                }
                None => {}
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() && state.answer.is_none() {
                break Answer::None;
            }
        };
        state.asked = None;
        drop(state);
        let params = json!({ "requestId": number, "reason": "no longer needed" });
        server.outbox.notify("notifications/cancelled", &params);
        answer
    }
}

/// Runs a tool that waits, to its result; `None` when it was cancelled.
pub(super) fn perform<W: Write + Send>(
    server: &Server<W>,
    call: &Call,
    params: &Value,
) -> Option<Value> {
    let arguments = &params["arguments"];
    let outcome = match params["name"].as_str() {
        Some("count_down") => count_down(server, call, arguments, &params["_meta"]),
        Some("ask") => ask(server, call, arguments),
        _ => summarize(server, call, arguments),
    };
    outcome.unwrap_or_else(|mistake| Some(failed(&mistake)))
}

/// A result, `None` for a cancelled call, or what is wrong with the arguments.
type Outcome = Result<Option<Value>, String>;

fn count_down<W: Write + Send>(
    server: &Server<W>,
    call: &Call,
    arguments: &Value,
    meta: &Value,
) -> Outcome {
    let arguments = Arguments::read(arguments, &["from", "delay_ms"])?;
    let from = arguments
        .integer("from", 0, 1_000)?
        .ok_or("`from` is missing")?;
    let delay = arguments.integer("delay_ms", 0, 10_000)?.unwrap_or(500);
    let delay = Duration::from_millis(delay);
    if delay * u32::try_from(from).unwrap_or(u32::MAX) > LONGEST {
        return Err(format!(
            "that would take longer than {} minutes",
            LONGEST.as_secs() / 60
        ));
    }
    let token = Some(&meta["progressToken"]).filter(|token| token.is_string() || token.is_number());
    server.log("info", &format!("counting down from {from}"));
    for done in 1..=from {
        if !call.pause(delay) {
            server.log("info", "the count-down was cancelled");
            return Ok(None);
        }
        if let Some(token) = token {
            let left = from - done;
            let params = json!({
                "progressToken": token,
                "progress": done,
                "total": from,
                "message": format!("{left} to go"),
            });
            server.outbox.notify("notifications/progress", &params);
        }
    }
    Ok(Some(tools::text(&format!("Counted down from {from}."))))
}

fn ask<W: Write + Send>(server: &Server<W>, call: &Call, arguments: &Value) -> Outcome {
    let arguments = Arguments::read(arguments, &["question"])?;
    let question = arguments.text("question")?.ok_or("`question` is missing")?;
    if !server.client.lock().elicitation {
        return Err("This client can't ask its user: it doesn't offer elicitation.".to_owned());
    }
    let params = json!({
        "message": question,
        "requestedSchema": {
            "type": "object",
            "properties": { "answer": { "type": "string", "title": "Answer" } },
            "required": ["answer"],
        },
    });
    Ok(match call.ask(server, "elicitation/create", &params) {
        Answer::Given(result) => Some(match (&result["action"], &result["content"]["answer"]) {
            (Value::String(action), Value::String(answer)) if action == "accept" => {
                tools::text(&format!("The user answered: {answer}"))
            }
            (Value::String(action), _) if action == "decline" => {
                tools::text("The user declined to answer.")
            }
            (Value::String(action), _) if action == "cancel" => {
                tools::text("The user dismissed the question.")
            }
            _ => failed("The client's answer makes no sense."),
        }),
        other => unanswered(other),
    })
}

fn summarize<W: Write + Send>(server: &Server<W>, call: &Call, arguments: &Value) -> Outcome {
    let arguments = Arguments::read(arguments, &["text", "max_words"])?;
    let text = arguments.text("text")?.ok_or("`text` is missing")?;
    let words = arguments.integer("max_words", 1, 1_000)?.unwrap_or(60);
    if !server.client.lock().sampling {
        return Err("This client can't ask its model: it doesn't offer sampling.".to_owned());
    }
    let prompt = format!("Summarize this text in at most {words} words:\n\n{text}");
    let params = json!({
        "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
        "systemPrompt": "You write short, faithful summaries.",
        // A word is rarely more than three tokens.
        "maxTokens": words * 3 + 50,
    });
    Ok(match call.ask(server, "sampling/createMessage", &params) {
        Answer::Given(result) => {
            // One block, or from 2025-11-25 on a list of them.
            let block = match &result["content"] {
                Value::Array(blocks) => blocks.iter().find(|block| block["text"].is_string()),
                block => Some(block),
            };
            let summary = block.and_then(|block| block["text"].as_str());
            Some(summary.map_or_else(|| failed("The client sent no text."), tools::text))
        }
        other => unanswered(other),
    })
}

fn unanswered(answer: Answer) -> Option<Value> {
    match answer {
        Answer::Refused(reason) => Some(failed(&format!("The client refused: {reason}"))),
        Answer::None => Some(failed("The client didn't answer in time.")),
        Answer::Given(_) | Answer::Cancelled => None,
    }
}
