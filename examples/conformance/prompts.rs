//! The prompts.

use serde_json::{Value, json};

use crate::{
    asking::elicit,
    call::{Answers, Call, Outcome, Question},
    content,
};

pub(crate) fn list() -> Value {
    let argument =
        |name: &str, about: &str| json!({"name": name, "description": about, "required": true});
    json!([
        {"name": "test_simple_prompt", "description": "A prompt without arguments"},
        {
            "name": "test_prompt_with_arguments",
            "description": "A prompt that repeats its arguments",
            "arguments": [
                argument("arg1", "The first argument"),
                argument("arg2", "The second argument"),
            ],
        },
        {
            "name": "test_prompt_with_embedded_resource",
            "description": "A prompt with a resource in it",
            "arguments": [argument("resourceUri", "The URI of the resource")],
        },
        {"name": "test_prompt_with_image", "description": "A prompt with an image in it"},
        {
            "name": "test_input_required_result_prompt",
            "description": "A prompt that asks what it is for",
        },
    ])
}

/// What a prompt asks, in rounds; none, if there is no such prompt.
pub(crate) fn rounds(call: &Call) -> Option<Vec<Vec<Question>>> {
    match call.name() {
        "test_simple_prompt"
        | "test_prompt_with_arguments"
        | "test_prompt_with_embedded_resource"
        | "test_prompt_with_image" => Some(vec![]),
        "test_input_required_result_prompt" => {
            let message = "What context should the prompt use?";
            let question = elicit(
                "user_context",
                message,
                "context",
                &json!({"type": "string"}),
            );
            Some(vec![vec![question]])
        }
        _ => None,
    }
}

pub(crate) fn get(call: &Call, answers: &Answers) -> Outcome {
    let contents = match call.name() {
        "test_simple_prompt" => vec![content::text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => vec![content::text(format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            call.text("arg1"),
            call.text("arg2")
        ))],
        "test_prompt_with_embedded_resource" => vec![
            content::resource(
                call.text("resourceUri"),
                "text/plain",
                "Embedded resource content for testing.",
            ),
            content::text("Please process the embedded resource above."),
        ],
        "test_prompt_with_image" => vec![
            content::image(),
            content::text("Please analyze the image above."),
        ],
        _ => {
            let context = &answers["user_context"]["content"]["context"];
            let context = context.as_str().unwrap_or("no context");
            vec![content::text(format!("Use this context: {context}"))]
        }
    };
    let message = |content: Value| json!({"role": "user", "content": content});
    let messages: Vec<_> = contents.into_iter().map(message).collect();
    Ok(json!({"messages": messages}))
}

/// Completes an argument of a prompt.
pub(crate) fn complete(params: &Value) -> Value {
    let typed = params["argument"]["value"].as_str().unwrap_or_default();
    let values: Vec<_> = ["paris", "park", "party", "rome"]
        .into_iter()
        .filter(|word| word.starts_with(typed))
        .collect();
    json!({"completion": {"values": values, "total": values.len(), "hasMore": false}})
}
