//! The tools that ask the client for something: what they ask, in rounds, and what they make of
//! the answers.

use serde_json::{Value, json};

use crate::{
    call::{Answers, Call, Outcome, Question},
    content::{failed, said},
};

/// A question with a form of one field.
pub(crate) fn elicit(key: &str, message: &str, field: &str, schema: &Value) -> Question {
    let properties = json!({field: schema});
    form(key, message, &properties, &[field])
}

fn form(key: &str, message: &str, properties: &Value, required: &[&str]) -> Question {
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    Question {
        key: key.to_owned(),
        method: "elicitation/create",
        params: json!({"message": message, "requestedSchema": schema}),
    }
}

fn sample(key: &str, prompt: &str, tokens: u64) -> Question {
    let content = json!({"type": "text", "text": prompt});
    Question {
        key: key.to_owned(),
        method: "sampling/createMessage",
        params: json!({"messages": [{"role": "user", "content": content}], "maxTokens": tokens}),
    }
}

fn roots() -> Question {
    Question {
        key: "client_roots".to_owned(),
        method: "roots/list",
        params: json!({}),
    }
}

fn ask_name() -> Question {
    let string = json!({"type": "string"});
    elicit("user_name", "What is your name?", "name", &string)
}

fn ask_confirmation() -> Question {
    let boolean = json!({"type": "boolean"});
    elicit("confirm", "Please confirm", "ok", &boolean)
}

/// What a form has in a field.
fn field<'a>(answers: &'a Answers, key: &str, name: &str) -> Option<&'a str> {
    answers.get(key)?["content"][name].as_str()
}

fn sampled(answers: &Answers, key: &str) -> String {
    let content = &answers[key]["content"];
    // A list of blocks since 2025-11-25, or one block.
    let block = content.get(0).unwrap_or(content);
    block["text"].as_str().unwrap_or("nothing").to_owned()
}

pub(crate) fn sampling(call: &Call) -> Vec<Vec<Question>> {
    vec![vec![sample("sampling", call.text("prompt"), 100)]]
}

pub(crate) fn sampling_done(_: &Call, answers: &Answers) -> Outcome {
    let words = sampled(answers, "sampling");
    Ok(said(format!("LLM response: {words}")))
}

pub(crate) fn missing_capability(_: &Call) -> Vec<Vec<Question>> {
    vec![vec![sample("sampling", "Is anybody there?", 10)]]
}

pub(crate) fn elicitation(call: &Call) -> Vec<Vec<Question>> {
    let properties = json!({
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"},
    });
    let required = ["username", "email"];
    vec![vec![form(
        "elicitation",
        call.text("message"),
        &properties,
        &required,
    )]]
}

pub(crate) fn elicitation_done(_: &Call, answers: &Answers) -> Outcome {
    let answer = &answers["elicitation"];
    let action = answer["action"].as_str().unwrap_or("none");
    let content = &answer["content"];
    Ok(said(format!(
        "User response: action={action}, content={content}"
    )))
}

pub(crate) fn defaults(_: &Call) -> Vec<Vec<Question>> {
    let properties = json!({
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification status", "default": true},
    });
    vec![vec![form(
        "elicitation",
        "Please review and update the form fields with defaults",
        &properties,
        &[],
    )]]
}

pub(crate) fn enums(_: &Call) -> Vec<Vec<Question>> {
    let options = json!(["option1", "option2", "option3"]);
    let titled = |noun: &str| {
        json!([
            {"const": "value1", "title": format!("First {noun}")},
            {"const": "value2", "title": format!("Second {noun}")},
            {"const": "value3", "title": format!("Third {noun}")},
        ])
    };
    let properties = json!({
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
    });
    vec![vec![form(
        "elicitation",
        "Please select from every kind of list",
        &properties,
        &[],
    )]]
}

/// Asks a client that can be asked; one that can't gets its answer at once.
pub(crate) fn streaming(call: &Call) -> Vec<Vec<Question>> {
    let question = ask_name();
    let fits = question.fits(&call.client.capabilities);
    if fits { vec![vec![question]] } else { vec![] }
}

pub(crate) fn name(_: &Call) -> Vec<Vec<Question>> {
    vec![vec![ask_name()]]
}

pub(crate) fn greeting(_: &Call, answers: &Answers) -> Outcome {
    let name = field(answers, "user_name", "name").unwrap_or("stranger");
    Ok(said(format!("Hello, {name}!")))
}

pub(crate) fn capital(_: &Call) -> Vec<Vec<Question>> {
    let question = "What is the capital of France?";
    vec![vec![sample("capital_question", question, 100)]]
}

pub(crate) fn capital_done(_: &Call, answers: &Answers) -> Outcome {
    let words = sampled(answers, "capital_question");
    Ok(said(format!("The client's model says: {words}")))
}

pub(crate) fn list_roots(_: &Call) -> Vec<Vec<Question>> {
    vec![vec![roots()]]
}

pub(crate) fn roots_done(_: &Call, answers: &Answers) -> Outcome {
    Ok(said(format!("Roots: {}", uris(answers))))
}

fn uris(answers: &Answers) -> String {
    let roots = answers["client_roots"]["roots"].as_array();
    let uris = roots.into_iter().flatten().map(|root| &root["uri"]);
    let uris: Vec<_> = uris.filter_map(Value::as_str).collect();
    uris.join(", ")
}

pub(crate) fn confirmation(_: &Call) -> Vec<Vec<Question>> {
    vec![vec![ask_confirmation()]]
}

pub(crate) fn confirmed(_: &Call, answers: &Answers) -> Outcome {
    let ok = &answers["confirm"]["content"]["ok"];
    Ok(said(format!("state-ok: confirmed={ok}")))
}

pub(crate) fn several(_: &Call) -> Vec<Vec<Question>> {
    let greeting = sample("greeting", "Generate a greeting", 50);
    vec![vec![ask_name(), greeting, roots()]]
}

pub(crate) fn several_done(_: &Call, answers: &Answers) -> Outcome {
    let name = field(answers, "user_name", "name").unwrap_or("stranger");
    let words = sampled(answers, "greeting");
    Ok(said(format!("{name}: {words} ({})", uris(answers))))
}

pub(crate) fn two_steps(_: &Call) -> Vec<Vec<Question>> {
    let string = json!({"type": "string"});
    let name = elicit("step1", "Step 1: What is your name?", "name", &string);
    let color = "Step 2: What is your favorite color?";
    vec![vec![name], vec![elicit("step2", color, "color", &string)]]
}

pub(crate) fn two_steps_done(_: &Call, answers: &Answers) -> Outcome {
    let name = field(answers, "step1", "name").unwrap_or("somebody");
    let color = field(answers, "step2", "color").unwrap_or("no color");
    Ok(said(format!("{name} likes {color}")))
}

/// Asks only what the client says it can be asked.
pub(crate) fn capabilities(call: &Call) -> Vec<Vec<Question>> {
    let mut questions = vec![
        ask_name(),
        sample("greeting", "Generate a greeting", 50),
        roots(),
    ];
    questions.retain(|question| question.fits(&call.client.capabilities));
    vec![questions]
}

pub(crate) fn capabilities_done(_: &Call, answers: &Answers) -> Outcome {
    let keys: Vec<_> = answers.keys().map(String::as_str).collect();
    Ok(said(format!("Answered: {}", keys.join(", "))))
}

/// One round in which nothing is asked.
pub(crate) fn nothing(_: &Call) -> Vec<Vec<Question>> {
    vec![vec![]]
}

pub(crate) fn nothing_done(_: &Call, _: &Answers) -> Outcome {
    Ok(said("It came back."))
}

pub(crate) fn visit(_: &Call) -> Vec<Vec<Question>> {
    vec![vec![Question {
        key: "visit".to_owned(),
        method: "elicitation/create",
        params: json!({
            "mode": "url",
            "message": "Please sign in",
            "url": "https://example.com/sign-in",
        }),
    }]]
}

pub(crate) fn visited(_: &Call, answers: &Answers) -> Outcome {
    let action = answers["visit"]["action"].as_str().unwrap_or("none");
    Ok(said(format!("Sign-in: {action}")))
}

pub(crate) fn deletion(call: &Call) -> Vec<Vec<Question>> {
    let message = format!("Delete {}?", call.text("filename"));
    let boolean = json!({"type": "boolean"});
    vec![vec![elicit("confirm", &message, "confirm", &boolean)]]
}

pub(crate) fn deleted(call: &Call, answers: &Answers) -> Outcome {
    let file = call.text("filename");
    if answers["confirm"]["content"]["confirm"] == true {
        Ok(said(format!("Deleted {file}")))
    } else {
        Ok(failed(format!("{file} was kept")))
    }
}

pub(crate) fn two_at_once(_: &Call) -> Vec<Vec<Question>> {
    let string = json!({"type": "string"});
    let first = elicit("first", "The first name?", "name", &string);
    vec![vec![
        first,
        elicit("second", "The second name?", "name", &string),
    ]]
}

pub(crate) fn two_at_once_done(_: &Call, answers: &Answers) -> Outcome {
    let first = field(answers, "first", "name").unwrap_or("nobody");
    let second = field(answers, "second", "name").unwrap_or("nobody");
    Ok(said(format!("{first} and {second}")))
}
