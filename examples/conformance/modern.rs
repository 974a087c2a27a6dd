//! Revision 2026-07-28: every request says who asks, and questions are results.

use serde_json::{Map, Value, json};

use crate::{
    call::{Answers, Call, Client, Fault, LEVELS, Outcome, Question, Stop},
    listen, modern_tasks,
    options::{Era, Options},
    prompts, resources, state, tools,
    tools::{Asks, Run, Task, Tool},
    wire::{Flag, Line, Peer},
};

const REVISION: &str = "2026-07-28";
pub(crate) const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
pub(crate) const SUBSCRIPTION_KEY: &str = "io.modelcontextprotocol/subscriptionId";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const INFO_KEY: &str = "io.modelcontextprotocol/clientInfo";
const LEVEL_KEY: &str = "io.modelcontextprotocol/logLevel";
const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";

/// Those whose results say how long they hold.
const CACHEABLE: [&str; 6] = [
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "resources/read",
];

pub(crate) fn receive(peer: &Peer, options: &Options, line: Line) {
    let (Some(id), Some(method)) = (line.id, line.method) else {
        return;
    };
    let client = match client(&method, &line.params) {
        Ok(client) => client,
        Err(fault) => return peer.answer(&id, Err(fault)),
    };
    let call = Call {
        peer: peer.clone(),
        era: Era::Modern,
        flag: Flag::default(),
        params: line.params,
        client,
    };
    match method.as_str() {
        "tools/call" => call.work(id, |call| call_tool(call).map(|it| signed(call, it))),
        "prompts/get" => call.work(id, |call| get_prompt(call).map(|it| signed(call, it))),
        "subscriptions/listen" => match call.params["notifications"].as_object() {
            Some(asked) => listen::begin(peer, &id, &json!(asked)),
            None => peer.answer(&id, Err(Fault::params("Nothing to listen to"))),
        },
        method => match at_once(&call, method) {
            Err(fault) if fault.code == -32601 && options.mute_unknown => {}
            outcome => {
                let cacheable = CACHEABLE.contains(&method);
                let outcome = outcome.map(|mut result| {
                    if cacheable {
                        result["ttlMs"] = json!(1000);
                        result["cacheScope"] = json!("private");
                    }
                    signed(&call, result)
                });
                peer.answer(&id, outcome);
            }
        },
    }
}

/// Who asks; every request must say so.
fn client(method: &str, params: &Value) -> Result<Client, Fault> {
    let meta = &params["_meta"];
    let Some(revision) = meta[VERSION_KEY].as_str() else {
        return Err(if method == "initialize" {
            unsupported(&params["protocolVersion"])
        } else {
            Fault::params(format!("_meta has no {VERSION_KEY}"))
        });
    };
    if !meta[CAPABILITIES_KEY].is_object() {
        return Err(Fault::params(format!("_meta has no {CAPABILITIES_KEY}")));
    }
    if revision != REVISION {
        return Err(unsupported(&meta[VERSION_KEY]));
    }
    let level = meta[LEVEL_KEY].as_str();
    if level.is_some_and(|level| !LEVELS.contains(&level)) {
        return Err(Fault::params("No such level"));
    }
    Ok(Client {
        revision: revision.to_owned(),
        info: meta[INFO_KEY].clone(),
        capabilities: meta[CAPABILITIES_KEY].clone(),
        level: level.map(str::to_owned),
    })
}

fn unsupported(requested: &Value) -> Fault {
    let data = json!({"supported": [REVISION], "requested": requested});
    Fault::new(-32022, "Unsupported protocol version").with(data)
}

/// A result with what every result has.
fn signed(call: &Call, mut result: Value) -> Value {
    if result.get("resultType").is_none() {
        result["resultType"] = json!("complete");
    }
    result["_meta"] = json!({SERVER_KEY: call.peer.server_info()});
    result
}

/// What takes no time.
fn at_once(call: &Call, method: &str) -> Result<Value, Fault> {
    let (peer, params) = (&call.peer, &call.params);
    let uri = params["uri"].as_str().unwrap_or_default();
    match method {
        "server/discover" => Ok(discover()),
        "tools/list" => Ok(json!({"tools": tools::list(false)})),
        "prompts/list" => Ok(json!({"prompts": prompts::list()})),
        "resources/list" => Ok(json!({"resources": resources::list()})),
        "resources/templates/list" => Ok(json!({"resourceTemplates": resources::templates()})),
        "resources/read" => resources::read(uri)
            .ok_or_else(|| Fault::params("Resource not found").with(json!({"uri": uri}))),
        "completion/complete" => Ok(prompts::complete(params)),
        "tasks/get" | "tasks/update" | "tasks/cancel" => {
            if modern_tasks::declared(&call.client.capabilities) {
                modern_tasks::receive(peer, method, params)
            } else {
                Err(modern_tasks::undeclared())
            }
        }
        _ => Err(Fault::unknown_method()),
    }
}

fn discover() -> Value {
    json!({
        "supportedVersions": [REVISION],
        "capabilities": {
            "tools": {"listChanged": true},
            "prompts": {"listChanged": true},
            "resources": {"listChanged": true, "subscribe": true},
            "logging": {},
            "completions": {},
            "extensions": {modern_tasks::EXTENSION: {}},
        },
        "instructions": "Call whatever you like.",
    })
}

fn call_tool(call: &Call) -> Outcome {
    let tool = tools::find(call.name())?;
    let declared = modern_tasks::declared(&call.client.capabilities);
    if tool.task == Task::Must && !declared {
        return Err(modern_tasks::undeclared().into());
    }
    let task = tool.task != Task::No && declared;
    match &tool.run {
        Run::Asks(asks) if asks.gathers || !task => gather(call, tool, asks, task),
        _ if task => Ok(modern_tasks::create(call, tool, Answers::new())),
        Run::Plain(run) => run(call),
        Run::Asks(_) => Err(Fault::new(-32603, "Not reached").into()),
    }
}

/// Asks in results, then finishes the call, or goes on in a task.
fn gather(call: &Call, tool: &'static Tool, asks: &Asks, task: bool) -> Outcome {
    let rounds = (asks.rounds)(call);
    match progress(call, rounds, asks.stateful)? {
        Progress::Asks(result) => Ok(result),
        Progress::Done(answers) if task => Ok(modern_tasks::create(call, tool, answers)),
        Progress::Done(answers) => (asks.finish)(call, &answers),
    }
}

fn get_prompt(call: &Call) -> Outcome {
    let Some(rounds) = prompts::rounds(call) else {
        return Err(Fault::params(format!("Unknown prompt: {}", call.name())).into());
    };
    match progress(call, rounds, false)? {
        Progress::Asks(result) => Ok(result),
        Progress::Done(answers) => prompts::get(call, &answers),
    }
}

enum Progress {
    Asks(Value),
    Done(Answers),
}

/// Where a call stands that asks in rounds: what the client sent along decides.
fn progress(call: &Call, rounds: Vec<Vec<Question>>, stateful: bool) -> Result<Progress, Stop> {
    let responses = responses(&call.params)?;
    let (mut round, mut answers) = match call.params.get("requestState") {
        Some(sealed) => opened(call.name(), sealed)?,
        None => (0, Answers::new()),
    };
    let retry = call.params.get("requestState").is_some();
    // What answers a state must come with it.
    if let Some(questions) = rounds.get(round)
        && (retry || !stateful)
        && questions.iter().all(|asked| answered(asked, &responses))
    {
        for question in questions {
            let answer = responses.get(&question.key).cloned();
            answers.insert(question.key.clone(), answer.unwrap_or_default());
        }
        round += 1;
    }
    let Some(questions) = rounds.into_iter().nth(round) else {
        return Ok(Progress::Done(answers));
    };
    for question in &questions {
        if !question.fits(&call.client.capabilities) {
            let data = json!({"requiredCapabilities": question.needs()});
            let fault = Fault::new(-32021, "The client can't be asked that").with(data);
            return Err(fault.into());
        }
    }
    let mut result = json!({"resultType": "input_required"});
    if !questions.is_empty() {
        result["inputRequests"] = modern_tasks::requests(&questions);
    }
    if stateful {
        result["requestState"] = json!(state::seal(call.name(), round, &json!(answers)));
    }
    Ok(Progress::Asks(result))
}

fn responses(params: &Value) -> Result<Map<String, Value>, Fault> {
    match params.get("inputResponses") {
        None => Ok(Map::new()),
        Some(Value::Object(responses)) if responses.values().all(Value::is_object) => {
            Ok(responses.clone())
        }
        Some(_) => Err(Fault::params("inputResponses must be an object of objects")),
    }
}

fn opened(what: &str, sealed: &Value) -> Result<(usize, Answers), Fault> {
    let opened = sealed.as_str().and_then(|sealed| state::open(what, sealed));
    match opened {
        Some((round, Value::Object(answers))) => Ok((round, answers)),
        _ => Err(Fault::params("requestState is not one of ours")),
    }
}

/// Whether there is an answer to this, in its form.
fn answered(question: &Question, responses: &Map<String, Value>) -> bool {
    let Some(response) = responses.get(&question.key) else {
        return false;
    };
    match question.method {
        "sampling/createMessage" => response.get("content").is_some(),
        "roots/list" => response["roots"].is_array(),
        _ => response["action"].is_string(),
    }
}
