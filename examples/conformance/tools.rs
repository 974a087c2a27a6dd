//! The tools: their table, and those that ask the client nothing.

use serde_json::{Value, json};

use crate::{
    asking,
    call::{Answers, Call, Fault, Outcome, Question, Stop},
    content::{self, failed, said},
    listen,
    options::Era,
};

/// Whether a tool can run as a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    No,
    May,
    Must,
}

pub(crate) struct Tool {
    pub(crate) name: &'static str,
    about: &'static str,
    /// Properties of the arguments, all of them required, and of type string unless they say more.
    arguments: &'static [&'static str],
    pub(crate) task: Task,
    pub(crate) run: Run,
}

pub(crate) enum Run {
    Plain(fn(&Call) -> Outcome),
    Asks(Asks),
}

/// What a tool asks and what it makes of it.
pub(crate) struct Asks {
    pub(crate) rounds: fn(&Call) -> Vec<Vec<Question>>,
    pub(crate) finish: fn(&Call, &Answers) -> Outcome,
    /// Modern: a state goes along.
    pub(crate) stateful: bool,
    /// Legacy: asks a client that said it can't be asked.
    pub(crate) insists: bool,
    /// Modern: asks before the task begins, not in it.
    pub(crate) gathers: bool,
}

const fn plain(name: &'static str, about: &'static str, run: fn(&Call) -> Outcome) -> Tool {
    Tool {
        name,
        about,
        arguments: &[],
        task: Task::No,
        run: Run::Plain(run),
    }
}

const fn asks(
    name: &'static str,
    about: &'static str,
    rounds: fn(&Call) -> Vec<Vec<Question>>,
    finish: fn(&Call, &Answers) -> Outcome,
) -> Tool {
    Tool {
        name,
        about,
        arguments: &[],
        task: Task::No,
        run: Run::Asks(Asks {
            rounds,
            finish,
            stateful: false,
            insists: false,
            gathers: false,
        }),
    }
}

impl Tool {
    const fn takes(mut self, arguments: &'static [&'static str]) -> Self {
        self.arguments = arguments;
        self
    }

    const fn task(mut self, task: Task) -> Self {
        self.task = task;
        self
    }

    const fn stateful(mut self) -> Self {
        if let Run::Asks(asks) = &mut self.run {
            asks.stateful = true;
        }
        self
    }

    const fn insists(mut self) -> Self {
        if let Run::Asks(asks) = &mut self.run {
            asks.insists = true;
        }
        self
    }

    const fn gathers(mut self) -> Self {
        if let Run::Asks(asks) = &mut self.run {
            asks.gathers = true;
        }
        self
    }

    fn schema(&self) -> Value {
        if self.name == "json_schema_2020_12_tool" {
            return json_schema();
        }
        let mut properties = json!({});
        for name in self.arguments {
            let schema = match *name {
                "region" => json!({"type": "string", "x-mcp-header": "Region"}),
                "seconds" => json!({"type": "number"}),
                _ => json!({"type": "string"}),
            };
            properties[name] = schema;
        }
        json!({"type": "object", "properties": properties, "required": self.arguments})
    }

    pub(crate) fn run(
        &self,
        call: &Call,
        mut ask: impl FnMut(&Asks, Vec<Question>) -> Result<Answers, Stop>,
    ) -> Outcome {
        let result = match &self.run {
            Run::Plain(run) => run(call),
            Run::Asks(asks) => {
                let mut answers = Answers::new();
                let rounds = (asks.rounds)(call).into_iter();
                let asked = rounds
                    .filter(|round| !round.is_empty())
                    .try_for_each(|round| {
                        answers.extend(ask(asks, round)?);
                        Ok(())
                    });
                asked.and_then(|()| (asks.finish)(call, &answers))
            }
        };
        match result {
            Err(Stop::Refused(why)) => Ok(failed(why)),
            result => result,
        }
    }
}

/// The one with this name.
pub(crate) fn find(name: &str) -> Result<&'static Tool, Fault> {
    TOOLS
        .iter()
        .find(|tool| tool.name == name)
        .ok_or_else(|| Fault::params(format!("Unknown tool: {name}")))
}

/// All of them; `tasks` says whether to tell which can be tasks.
pub(crate) fn list(tasks: bool) -> Value {
    let describe = |tool: &Tool| {
        let mut description = json!({
            "name": tool.name,
            "description": tool.about,
            "inputSchema": tool.schema(),
        });
        match tool.task {
            Task::May if tasks => description["execution"] = json!({"taskSupport": "optional"}),
            Task::Must if tasks => description["execution"] = json!({"taskSupport": "required"}),
            _ => {}
        }
        description
    };
    TOOLS.iter().map(describe).collect()
}

static TOOLS: &[Tool] = &[
    plain("test_simple_text", "Says one sentence", |_| {
        Ok(said("This is a simple text response for testing."))
    }),
    plain("test_image_content", "Shows an image", |_| {
        Ok(json!({"content": [content::image()]}))
    }),
    plain("test_audio_content", "Plays a sound", |_| {
        Ok(json!({"content": [content::audio()]}))
    }),
    plain("test_embedded_resource", "Embeds a resource", |_| {
        let text = "This is an embedded resource content.";
        let resource = content::resource("test://embedded-resource", "text/plain", text);
        Ok(json!({"content": [resource]}))
    }),
    plain(
        "test_multiple_content_types",
        "Says, shows and embeds",
        mixed,
    ),
    plain("test_error_handling", "Always fails", |_| {
        Ok(failed(
            "This tool intentionally returns an error for testing",
        ))
    }),
    plain("test_tool_with_progress", "Tells how far it is", progress),
    plain("test_tool_with_logging", "Logs what it does", logging),
    plain("test_logging_tool", "Logs what it does", logging),
    plain("test_reconnection", "Takes a while", |call| {
        call.pause(300)?;
        Ok(said("Reconnection test completed successfully"))
    }),
    plain("json_schema_2020_12_tool", "Has a rich schema", |call| {
        Ok(said(call.params["arguments"].to_string()))
    }),
    plain(
        "test_x_mcp_header",
        "Has an argument that is a header too",
        |call| Ok(said(format!("Region: {}", call.text("region")))),
    )
    .takes(&["region"]),
    plain(
        "test_trigger_tool_change",
        "Changes the list of tools",
        |call| changed(call, "tools"),
    ),
    plain(
        "test_trigger_prompt_change",
        "Changes the list of prompts",
        |call| changed(call, "prompts"),
    ),
    plain(
        "test_trigger_resource_change",
        "Changes the list of resources",
        |call| changed(call, "resources"),
    ),
    plain(
        "test_trigger_resource_update",
        "Changes a resource",
        |call| {
            listen::resource_updated(call, call.text("uri"));
            Ok(said("It has changed."))
        },
    )
    .takes(&["uri"]),
    plain("test_client", "Tells what it knows of the client", client),
    asks(
        "test_sampling",
        "Asks the client's model",
        asking::sampling,
        asking::sampling_done,
    )
    .takes(&["prompt"]),
    asks(
        "test_missing_capability",
        "Asks the client's model, whether it has one or not",
        asking::missing_capability,
        asking::sampling_done,
    )
    .insists(),
    asks(
        "test_elicitation",
        "Asks the user who they are",
        asking::elicitation,
        asking::elicitation_done,
    )
    .takes(&["message"]),
    asks(
        "test_elicitation_sep1034_defaults",
        "Shows the user a form with defaults",
        asking::defaults,
        asking::elicitation_done,
    ),
    asks(
        "test_elicitation_sep1330_enums",
        "Shows the user a form with lists",
        asking::enums,
        asking::elicitation_done,
    ),
    asks(
        "test_streaming_elicitation",
        "Asks the user for a name, if it can",
        asking::streaming,
        asking::greeting,
    ),
    asks(
        "test_url_elicitation",
        "Sends the user to a page",
        asking::visit,
        asking::visited,
    ),
    plain(
        "test_url_elicitation_required",
        "Works only after a visit to a page",
        visit_first,
    ),
    asks(
        "test_input_required_result_elicitation",
        "Greets the user by name",
        asking::name,
        asking::greeting,
    ),
    asks(
        "test_input_required_result_sampling",
        "Asks the client's model about France",
        asking::capital,
        asking::capital_done,
    ),
    asks(
        "test_input_required_result_list_roots",
        "Asks for the client's roots",
        asking::list_roots,
        asking::roots_done,
    ),
    asks(
        "test_input_required_result_request_state",
        "Asks for a confirmation",
        asking::confirmation,
        asking::confirmed,
    )
    .stateful(),
    asks(
        "test_input_required_result_multiple_inputs",
        "Asks for three things at once",
        asking::several,
        asking::several_done,
    )
    .stateful(),
    asks(
        "test_input_required_result_multi_round",
        "Asks twice",
        asking::two_steps,
        asking::two_steps_done,
    )
    .stateful(),
    asks(
        "test_input_required_result_tampered_state",
        "Asks for a confirmation",
        asking::confirmation,
        asking::confirmed,
    )
    .stateful(),
    asks(
        "test_input_required_result_capabilities",
        "Asks what the client can be asked",
        asking::capabilities,
        asking::capabilities_done,
    ),
    asks(
        "test_input_required_result_state_only",
        "Wants to be called again",
        asking::nothing,
        asking::nothing_done,
    )
    .stateful(),
    plain("greet", "Greets, at once", |call| {
        Ok(said(format!("Hello, {}!", call.text("name"))))
    })
    .takes(&["name"]),
    plain("slow_compute", "Takes its time", compute)
        .takes(&["seconds"])
        .task(Task::May),
    plain("failing_job", "A job that fails", |call| {
        call.pause(1000)?;
        Ok(failed("The job failed, as it always does."))
    })
    .task(Task::Must),
    plain("protocol_error_job", "A job that breaks", |_| {
        Err(Fault::new(-32603, "The job broke").into())
    })
    .task(Task::May),
    asks(
        "confirm_delete",
        "Deletes nothing, once it is confirmed",
        asking::deletion,
        asking::deleted,
    )
    .takes(&["filename"])
    .task(Task::May),
    asks(
        "multi_input",
        "Asks two things at once",
        asking::two_at_once,
        asking::two_at_once_done,
    )
    .task(Task::May),
    asks(
        "test_tool_with_task",
        "Asks first, then works",
        asking::name,
        asking::greeting,
    )
    .task(Task::Must)
    .gathers(),
];

fn mixed(_: &Call) -> Outcome {
    let json = r#"{"test":"data","value":123}"#;
    let uri = "test://mixed-content-resource";
    Ok(json!({"content": [
        content::text("Multiple content types test:"),
        content::image(),
        content::resource(uri, "application/json", json),
    ]}))
}

fn progress(call: &Call) -> Outcome {
    for done in [0, 50, 100] {
        if done > 0 {
            call.pause(50)?;
        }
        call.progress(done, 100);
    }
    Ok(said("Tool execution completed with progress"))
}

fn logging(call: &Call) -> Outcome {
    call.log("info", "Tool execution started");
    call.pause(50)?;
    call.log("info", "Tool processing data");
    call.pause(50)?;
    call.log("info", "Tool execution completed");
    Ok(said("Tool execution completed with logging"))
}

fn changed(call: &Call, what: &str) -> Outcome {
    listen::list_changed(call, what);
    Ok(said(format!("The {what} have changed.")))
}

fn client(call: &Call) -> Outcome {
    let client = &call.client;
    let known = json!({
        "revision": client.revision,
        "clientInfo": client.info,
        "capabilities": client.capabilities,
        "level": client.level,
    });
    Ok(said(known.to_string()))
}

fn compute(call: &Call) -> Outcome {
    let seconds = call.params["arguments"]["seconds"].as_f64().unwrap_or(0.0);
    for step in 0..10 {
        call.progress(step, 10);
        call.pause((seconds.clamp(0.0, 600.0) * 100.0) as u64)?;
    }
    Ok(said(format!("Computed for {seconds} s")))
}

fn visit_first(call: &Call) -> Outcome {
    let mut shared = call.peer.shared();
    shared.visits += 1;
    let first = shared.visits % 2 == 1;
    drop(shared);
    if call.era == Era::Modern || !first {
        return Ok(said("Welcome back."));
    }
    let visit = json!({
        "mode": "url",
        "message": "Please sign in",
        "url": "https://example.com/sign-in",
        "elicitationId": "sign-in",
    });
    let fault = Fault::new(-32042, "A visit is required");
    Err(fault.with(json!({"elicitations": [visit]})).into())
}

fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }},
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false,
    })
}
