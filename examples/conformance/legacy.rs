//! The revisions with a handshake: one session, and questions that are requests of our own.

use std::{collections::BTreeSet, process};

use serde_json::{Value, json};

use crate::{
    call::{Answers, Call, Client, Fault, LEVELS, Outcome, Question, Stop},
    legacy_tasks,
    options::{Early, Era, Options},
    prompts, resources, tools,
    tools::Task,
    wire::{Flag, Line, Peer},
};

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
const LATEST: &str = "2025-11-25";

/// What `initialize` began.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) subscribed: BTreeSet<String>,
}

pub(crate) fn receive(peer: &Peer, options: &Options, line: Line) {
    let (Some(id), Some(method)) = (line.id, line.method) else {
        return;
    };
    if method == "ping" {
        return peer.answer(&id, Ok(json!({})));
    }
    if method == "initialize" {
        return peer.answer(&id, initialize(peer, &line.params));
    }
    let session = peer.shared().session.as_ref().map(|it| it.client.clone());
    let Some(client) = session else {
        return too_early(peer, options, &id, &method);
    };
    let call = Call {
        peer: peer.clone(),
        era: Era::Legacy,
        flag: Flag::default(),
        params: line.params,
        client,
    };
    match method.as_str() {
        "tools/call" => call.work(id, call_tool),
        "prompts/get" => call.work(id, get_prompt),
        "tasks/result" if legacy_tasks::known(&call.client.revision) => {
            call.work(id, legacy_tasks::result);
        }
        method => match at_once(&call, method) {
            Err(fault) if fault.code == -32601 && options.mute_unknown => {}
            outcome => peer.answer(&id, outcome),
        },
    }
}

fn too_early(peer: &Peer, options: &Options, id: &str, method: &str) {
    let code = match options.early {
        Early::Exit => process::exit(1),
        Early::Silent => return,
        Early::RefuseWith(code) => code,
        Early::Refuse if method == "server/discover" => -32601,
        Early::Refuse => -32600,
    };
    if code == -32601 && options.mute_unknown {
        return;
    }
    peer.answer(id, Err(Fault::new(code, "Not initialized")));
}

fn initialize(peer: &Peer, params: &Value) -> Result<Value, Fault> {
    let mut shared = peer.shared();
    if shared.session.is_some() {
        return Err(Fault::new(-32600, "Initialized already"));
    }
    let wanted = params["protocolVersion"].as_str().unwrap_or_default();
    let revision = if REVISIONS.contains(&wanted) {
        wanted
    } else {
        LATEST
    };
    shared.session = Some(Session {
        client: Client {
            revision: revision.to_owned(),
            info: params["clientInfo"].clone(),
            capabilities: params["capabilities"].clone(),
            level: Some("info".to_owned()),
        },
        subscribed: BTreeSet::new(),
    });
    drop(shared);
    let mut capabilities = json!({
        "tools": {"listChanged": true},
        "prompts": {"listChanged": true},
        "resources": {"listChanged": true, "subscribe": true},
        "logging": {},
        "completions": {},
    });
    if legacy_tasks::known(revision) {
        let requests = json!({"tools": {"call": {}}});
        capabilities["tasks"] = json!({"list": {}, "cancel": {}, "requests": requests});
    }
    Ok(json!({
        "protocolVersion": revision,
        "capabilities": capabilities,
        "serverInfo": peer.server_info(),
        "instructions": "Call whatever you like.",
    }))
}

/// What takes no time.
fn at_once(call: &Call, method: &str) -> Result<Value, Fault> {
    let (peer, params) = (&call.peer, &call.params);
    let uri = params["uri"].as_str().unwrap_or_default();
    let tasks = legacy_tasks::known(&call.client.revision);
    match method {
        "tools/list" => Ok(json!({"tools": tools::list(tasks)})),
        "prompts/list" => Ok(json!({"prompts": prompts::list()})),
        "resources/list" => Ok(json!({"resources": resources::list()})),
        "resources/templates/list" => Ok(json!({"resourceTemplates": resources::templates()})),
        "resources/read" => resources::read(uri)
            .ok_or_else(|| Fault::new(-32002, "Resource not found").with(json!({"uri": uri}))),
        "resources/subscribe" => subscribe(peer, uri, true),
        "resources/unsubscribe" => subscribe(peer, uri, false),
        "completion/complete" => Ok(prompts::complete(params)),
        "logging/setLevel" => set_level(peer, params),
        "tasks/get" | "tasks/list" | "tasks/cancel" if tasks => {
            legacy_tasks::receive(peer, method, params)
        }
        _ => Err(Fault::unknown_method()),
    }
}

fn subscribe(peer: &Peer, uri: &str, wanted: bool) -> Result<Value, Fault> {
    if resources::read(uri).is_none() {
        return Err(Fault::new(-32002, "Resource not found").with(json!({"uri": uri})));
    }
    if let Some(session) = &mut peer.shared().session {
        if wanted {
            session.subscribed.insert(uri.to_owned());
        } else {
            session.subscribed.remove(uri);
        }
    }
    Ok(json!({}))
}

fn set_level(peer: &Peer, params: &Value) -> Result<Value, Fault> {
    let level = params["level"].as_str().unwrap_or_default();
    if !LEVELS.contains(&level) {
        return Err(Fault::params("No such level"));
    }
    if let Some(session) = &mut peer.shared().session {
        session.client.level = Some(level.to_owned());
    }
    Ok(json!({}))
}

fn call_tool(call: &Call) -> Outcome {
    let tool = tools::find(call.name())?;
    let wanted = call.params.get("task").is_some() && legacy_tasks::known(&call.client.revision);
    match tool.task {
        Task::No if wanted => Err(Fault::new(-32601, "This tool is never a task").into()),
        Task::Must if !wanted => Err(Fault::new(-32601, "This tool is always a task").into()),
        _ if wanted => Ok(legacy_tasks::create(call, tool)),
        _ => tool.run(call, |asks, questions| {
            ask(call, asks.insists, questions, None)
        }),
    }
}

fn get_prompt(call: &Call) -> Outcome {
    let Some(rounds) = prompts::rounds(call) else {
        return Err(Fault::params(format!("Unknown prompt: {}", call.name())).into());
    };
    let mut answers = Answers::new();
    for round in rounds {
        answers.extend(ask(call, false, round, None)?);
    }
    prompts::get(call, &answers)
}

/// Asks the client; the key of each question is the id of its request.
pub(crate) fn ask(
    call: &Call,
    insist: bool,
    mut questions: Vec<Question>,
    meta: Option<&Value>,
) -> Result<Answers, Stop> {
    let peer = &call.peer;
    let fits = |question: &Question| question.fits(&call.client.capabilities);
    if !insist && !questions.iter().all(fits) {
        return Err(Stop::Refused("The client can't be asked that.".to_owned()));
    }
    for question in &mut questions {
        if let Some(meta) = meta {
            question.params["_meta"] = meta.clone();
        }
        if question.params["mode"] == "url" {
            question.params["elicitationId"] = json!("visit");
        }
    }
    let ids: Vec<_> = questions
        .iter()
        .map(|question| peer.ask(&question.key, question.method, &question.params))
        .collect();
    let answers = peer.answers(&call.flag, &ids).inspect_err(|_| {
        for id in &ids {
            let id: Value = serde_json::from_str(id).unwrap_or_default();
            peer.notify("notifications/cancelled", &json!({"requestId": id}));
        }
    })?;
    let mut all = Answers::new();
    for (question, answer) in questions.into_iter().zip(answers) {
        let answer = answer.map_err(|error| {
            let message = error["message"].as_str().unwrap_or_default();
            Stop::Refused(format!("The client refused: {message}"))
        })?;
        if question.params["mode"] == "url" && answer["action"] == "accept" {
            let params = json!({"elicitationId": "visit"});
            peer.notify("notifications/elicitation/complete", &params);
        }
        all.insert(question.key, answer);
    }
    Ok(all)
}
