//! One function per kind of step.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rmcp::{
    model::{
        CallToolRequest, CallToolRequestParams, ClientRequest, GetPromptRequestParams, PingRequest,
        ReadResourceRequestParams, SetLevelRequestParams, SubscribeRequestParams,
    },
    service::{Peer, PeerRequestOptions, RequestHandle, RoleClient},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::heard::Heard;

type Server = Peer<RoleClient>;

/// Runs the plan in an open session, noting in `report` what was done.
pub(crate) async fn run(
    server: &Server,
    plan: &Value,
    heard: &Heard,
    report: &mut Value,
) -> Result<()> {
    let info = server.peer_info().context("no answer to initialize")?;
    let info = json!(&*info);
    report["server"] = info["serverInfo"]["name"].clone();
    report["protocol"] = info["protocolVersion"].clone();
    let want = text(&plan["server"]);
    ensure!(
        text(&report["server"]).contains(want),
        "the server calls itself {info}, want {want}"
    );
    for step in list(&plan["steps"]) {
        let of = step.get("name").or(step.get("uri")).unwrap_or(&Value::Null);
        let label = format!("{} {}", text(&step["do"]), text(of))
            .trim()
            .to_owned();
        let started = Instant::now();
        Box::pin(run_step(server, step, heard))
            .await
            .with_context(|| label.clone())?;
        let done = format!("{label} {}ms", started.elapsed().as_millis());
        report["steps"]
            .as_array_mut()
            .context("no steps")?
            .push(json!(done));
    }
    Ok(())
}

async fn run_step(server: &Server, step: &Value, heard: &Heard) -> Result<()> {
    match text(&step["do"]) {
        "tools" => listed(step, json!(server.list_all_tools().await?), "name"),
        "resources" => listed(step, json!(server.list_all_resources().await?), "uri"),
        "prompts" => listed(step, json!(server.list_all_prompts().await?), "name"),
        "call" => call(server, step, heard).await,
        "concurrent" => concurrent(server, step).await,
        "cancel" => cancel(server, step, heard).await,
        "read" => {
            let params: ReadResourceRequestParams = from(json!({"uri": step["uri"]}))?;
            let result = json!(server.read_resource(params).await?);
            compare(&text_of(list(&result["contents"])), &step["want"])
        }
        "prompt" => {
            let params = json!({"name": step["name"], "arguments": step["arguments"]});
            let params: GetPromptRequestParams = from(params)?;
            let result = json!(server.get_prompt(params).await?);
            let contents: Vec<Value> = list(&result["messages"])
                .iter()
                .map(|message| message["content"].clone())
                .collect();
            compare(&text_of(&contents), &step["want"])
        }
        "complete" => {
            let (prompt, argument, value) = (&step["prompt"], &step["argument"], &step["value"]);
            let prompt = text(prompt);
            let done = server.complete_prompt_argument(prompt, text(argument), text(value), None);
            let have = done.await?.values;
            includes_all(step, &have)
        }
        "ping" => ping(server).await,
        "level" => {
            let params: SetLevelRequestParams = from(json!({"level": step["level"]}))?;
            Ok(server.set_level(params).await?)
        }
        "subscribe" => {
            let params: SubscribeRequestParams = from(json!({"uri": step["uri"]}))?;
            Ok(server.subscribe(params).await?)
        }
        other => bail!("no such step: {other}"),
    }
}

async fn call(server: &Server, step: &Value, heard: &Heard) -> Result<()> {
    let asks = pairs(&step["asks"]).map(|(kind, count)| (kind, count, heard.count(kind)));
    let asks: Vec<_> = asks.collect();
    let hears = pairs(&step["hears"]).map(|(kind, count)| (kind, count, heard.count(kind)));
    let hears: Vec<_> = hears.collect();
    let handle = send(server, step).await?;
    let token = handle.progress_token.clone();
    let fails = step["fails"] == true;
    let (answer, is_error) = match handle.await_response().await {
        Ok(result) => outcome(&json!(result)),
        Err(error) if fails => (error.to_string(), true),
        Err(error) => return Err(error.into()),
    };
    ensure!(is_error == fails, "is_error is {is_error}: {answer}");
    compare(&answer, &step["want"])?;
    if let Some(count) = step["progress"].as_u64() {
        // The handler runs in a task of its own, perhaps after the answer was taken.
        let enough = |heard: &Heard| heard.progress(&token).len() as u64 >= count;
        heard.until("progress", enough).await?;
        let progress = heard.progress(&token);
        let rising = progress.is_sorted_by(|a, b| a < b);
        ensure!(
            rising && progress.len() as u64 == count,
            "progress was {progress:?}"
        );
    }
    for (kind, count, before) in hears {
        heard
            .until(kind, |heard| heard.count(kind) - before >= count)
            .await?;
    }
    for (kind, count, before) in asks {
        let asked = heard.count(kind) - before;
        ensure!(
            asked == count,
            "asked for {kind} {asked} times, want {count}"
        );
    }
    Ok(())
}

async fn concurrent(server: &Server, step: &Value) -> Result<()> {
    let mut calls = Vec::new();
    for i in 0..step["count"].as_u64().unwrap_or(0) {
        let own = format!("{i}-{}", "x".repeat(usize::try_from(i)? * 37));
        let arguments = json!({text(&step["argument"]): own});
        let call = json!({"name": step["name"], "arguments": arguments});
        calls.push((own, send(server, &call).await?));
    }
    for (own, handle) in calls {
        let (answer, _) = outcome(&json!(handle.await_response().await?));
        let want = format!("{}{own}", text(&step["prefix"]));
        ensure!(answer == want, "want {want:?}, got {answer:?}");
    }
    Ok(())
}

async fn cancel(server: &Server, step: &Value, heard: &Heard) -> Result<()> {
    let handle = send(server, step).await?;
    let token = handle.progress_token.clone();
    heard
        .until("progress", |heard| !heard.progress(&token).is_empty())
        .await?;
    handle.cancel(Some("the test cancels".to_owned())).await?;
    ping(server).await
}

async fn ping(server: &Server) -> Result<()> {
    server
        .send_request(ClientRequest::PingRequest(PingRequest::default()))
        .await?;
    Ok(())
}

async fn send(server: &Server, step: &Value) -> Result<RequestHandle<RoleClient>> {
    let arguments = step.get("arguments").cloned().unwrap_or(json!({}));
    let params = json!({"name": step["name"], "arguments": arguments});
    let params: CallToolRequestParams = from(params)?;
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    Ok(server
        .send_cancellable_request(request, PeerRequestOptions::no_options())
        .await?)
}

fn outcome(result: &Value) -> (String, bool) {
    (text_of(list(&result["content"])), result["isError"] == true)
}

fn listed(step: &Value, items: Value, key: &str) -> Result<()> {
    let have: Vec<String> = list(&items)
        .iter()
        .map(|item| text(&item[key]).to_owned())
        .collect();
    includes_all(step, &have)
}

fn includes_all(step: &Value, have: &[String]) -> Result<()> {
    for want in list(&step["want"]) {
        ensure!(
            have.iter().any(|name| name == text(want)),
            "{want} not among {have:?}"
        );
    }
    Ok(())
}

fn compare(text: &str, want: &Value) -> Result<()> {
    if let Some(exact) = want["equals"].as_str() {
        ensure!(text == exact, "want exactly {exact:?}, got {text:?}");
    }
    for part in list(&want["contains"]) {
        let part = part.as_str().context("contains takes strings")?;
        ensure!(text.contains(part), "want {part:?} in {text:?}");
    }
    Ok(())
}

/// The text of a tool result, resource or prompt: its text parts, one a line.
fn text_of(parts: &[Value]) -> String {
    let texts = parts.iter().map(|part| {
        let places = [&part["text"], &part["resource"]["text"], &part["blob"]];
        places
            .iter()
            .find_map(|place| place.as_str())
            .unwrap_or_default()
    });
    texts
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}

fn pairs(object: &Value) -> impl Iterator<Item = (&str, u64)> {
    let object = object.as_object().into_iter().flatten();
    object.map(|(kind, count)| (kind.as_str(), count.as_u64().unwrap_or(0)))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn from<T: DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}
