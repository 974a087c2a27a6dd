//! The resources and the prompt.

use serde_json::{Value, json};

use super::wire::{Failure, RESOURCE_NOT_FOUND, Reply};

const ABOUT: &str = "example://about";
const GREETING: &str = "example://greeting/";

const ABOUT_TEXT: &str = "\
# Gatehouse example server

This is the stdio MCP server that is built into `gatehouse`. It runs as a child process, like any
server that you put behind the gateway, and knows nothing of TLS, keys or HTTP.

Things to try:

- call `echo` or `calculate`, and look at the gateway's log;
- call `count_down` with a progress token, and cancel it half-way;
- call `environment` to see how little of its surroundings a child is shown;
- read `example://greeting/YOUR-NAME`, get the prompt `introduce`.

Then put a server of your own behind the gateway: `gatehouse wrap -- COMMAND`.
";

/// The answer to `resources/list`.
pub(super) fn resources() -> Value {
    json!({ "resources": [{
        "uri": ABOUT,
        "name": "about",
        "title": "About this server",
        "description": "What this server is and what to try with it.",
        "mimeType": "text/markdown",
    }] })
}

/// The answer to `resources/templates/list`.
pub(super) fn templates() -> Value {
    json!({ "resourceTemplates": [{
        "uriTemplate": "example://greeting/{name}",
        "name": "greeting",
        "title": "A greeting",
        "description": "Greets whoever is named.",
        "mimeType": "text/plain",
    }] })
}

/// The answer to `resources/read`.
pub(super) fn read(params: &Value) -> Reply {
    let Some(uri) = params["uri"].as_str() else {
        return Err(Failure::invalid("`uri` must be a string"));
    };
    let name = uri
        .strip_prefix(GREETING)
        .filter(|name| !name.contains('/'));
    let (kind, text) = match name
        .and_then(percent_decoded)
        .filter(|name| !name.is_empty())
    {
        Some(name) => ("text/plain", format!("Hello, {name}!")),
        None if uri == ABOUT => ("text/markdown", ABOUT_TEXT.to_owned()),
        None => {
            let failure = Failure::new(RESOURCE_NOT_FOUND, "Resource not found");
            return Err(failure.with_data(json!({ "uri": uri })));
        }
    };
    Ok(json!({ "contents": [{ "uri": uri, "mimeType": kind, "text": text }] }))
}

/// The answer to `prompts/list`.
pub(super) fn prompts() -> Value {
    json!({ "prompts": [{
        "name": "introduce",
        "title": "Introduce yourself",
        "description": "Has the model introduce itself and show what this server can do.",
        "arguments": [
            { "name": "name", "description": "Who is listening.", "required": true },
        ],
    }] })
}

/// The answer to `prompts/get`.
pub(super) fn prompt(params: &Value) -> Reply {
    let name = params["name"].as_str().unwrap_or_default();
    if name != "introduce" {
        return Err(Failure::invalid(&format!("Unknown prompt: {name}")));
    }
    let Some(listener) = params["arguments"]["name"].as_str() else {
        return Err(Failure::invalid("`name` is missing, or not a string"));
    };
    let text = format!(
        "Introduce yourself to {listener} in two sentences. Then name three things that the tools \
         at hand can do, and offer to show one of them."
    );
    Ok(json!({
        "description": "An introduction",
        "messages": [{ "role": "user", "content": { "type": "text", "text": text } }],
    }))
}

/// `None` when an escape is broken, or what comes out isn't UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        decoded.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(decoded).ok()
}
