//! One function per kind of step.

use std::{
    ops::Deref,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use rmcp::{
    model::{
        CallToolRequest, CallToolRequestParams, ClientRequest, GetPromptRequestParams, PingRequest,
        ProtocolVersion, ReadResourceRequestParams, ServerNotification, SetLevelRequestParams,
        SubscribeRequestParams, SubscriptionFilter,
    },
    service::{PeerRequestOptions, RequestHandle, RoleClient, RunningService},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::heard::Heard;

/// The server as this client has it.
struct Server<'a> {
    client: &'a RunningService<RoleClient, Heard>,
    heard: &'a Heard,
    modern: bool,
    /// What a session remembers, every modern call says.
    level: Mutex<Option<Value>>,
}

impl Deref for Server<'_> {
    type Target = RunningService<RoleClient, Heard>;

    fn deref(&self) -> &Self::Target {
        self.client
    }
}

/// Runs the plan, noting in `report` what was done and what was not.
pub(crate) async fn run(
    client: &RunningService<RoleClient, Heard>,
    plan: &Value,
    heard: &Heard,
    report: &mut Value,
) -> Result<()> {
    let info = client.peer_info().context("the server told nothing")?;
    let revision = info.protocol_version.clone();
    let info = json!(&*info);
    report["server"] = info["serverInfo"]["name"].clone();
    report["protocol"] = json!(revision);
    let server = &Server {
        client,
        heard,
        modern: revision == ProtocolVersion::V_2026_07_28,
        level: Mutex::default(),
    };
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
        if server.modern && list(&step["needs"]).contains(&json!("session")) {
            note(report, "skipped", format!("{label} (session)"))?;
            continue;
        }
        let started = Instant::now();
        Box::pin(run_step(server, step))
            .await
            .with_context(|| label.clone())?;
        let done = format!("{label} {}ms", started.elapsed().as_millis());
        note(report, "steps", done)?;
    }
    Ok(())
}

fn note(report: &mut Value, list: &str, step: String) -> Result<()> {
    let list = report[list].as_array_mut().context("no such list")?;
    list.push(json!(step));
    Ok(())
}

async fn run_step(server: &Server<'_>, step: &Value) -> Result<()> {
    match text(&step["do"]) {
        "tools" => listed(step, json!(server.list_all_tools().await?), "name"),
        "resources" => listed(step, json!(server.list_all_resources().await?), "uri"),
        "prompts" => listed(step, json!(server.list_all_prompts().await?), "name"),
        "call" => call(server, step).await,
        "concurrent" => concurrent(server, step).await,
        "cancel" => cancel(server, step).await,
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
        "level" if server.modern => {
            let mut level = server.level.lock().unwrap_or_else(PoisonError::into_inner);
            *level = Some(step["level"].clone());
            Ok(())
        }
        "level" => {
            let params: SetLevelRequestParams = from(json!({"level": step["level"]}))?;
            Ok(server.set_level(params).await?)
        }
        "subscribe" if server.modern => listen(server, text(&step["uri"])).await,
        "subscribe" => {
            let params: SubscribeRequestParams = from(json!({"uri": step["uri"]}))?;
            Ok(server.subscribe(params).await?)
        }
        other => bail!("no such step: {other}"),
    }
}

/// Opens a listen, and counts what it hears.
async fn listen(server: &Server<'_>, uri: &str) -> Result<()> {
    let filter: SubscriptionFilter = from(json!({"resourceSubscriptions": [uri]}))?;
    let mut subscription = server.listen(filter.clone()).await?;
    let honored = subscription.acknowledged();
    ensure!(*honored == filter, "the subscription is {honored:?}");
    let heard = server.heard.clone();
    tokio::spawn(async move {
        while let Ok(Some(notification)) = subscription.next().await {
            if let ServerNotification::ResourceUpdatedNotification(_) = notification {
                heard.note("updates");
            }
        }
    });
    Ok(())
}

async fn call(server: &Server<'_>, step: &Value) -> Result<()> {
    let heard = server.heard;
    let asks = pairs(&step["asks"]).map(|(kind, count)| (kind, count, heard.count(kind)));
    let asks: Vec<_> = asks.collect();
    let hears = pairs(&step["hears"]).map(|(kind, count)| (kind, count, heard.count(kind)));
    let hears: Vec<_> = hears.collect();
    let fails = step["fails"] == true;
    // Each round of a call that is asked something has a token of its own.
    let before = heard.progress_since(0).len();
    // Answers what the server asks on the way.
    let answer = server.call_tool(tool_call(server, step)?).await;
    let answer = answer.map(|result| json!(result));
    let (answer, is_error) = match answer {
        Ok(result) => outcome(&result),
        Err(error) if fails => (error.to_string(), true),
        Err(error) => return Err(error.into()),
    };
    ensure!(is_error == fails, "is_error is {is_error}: {answer}");
    compare(&answer, &step["want"])?;
    if let Some(count) = step["progress"].as_u64() {
        // The handler runs in a task of its own, perhaps after the answer was taken.
        let enough = |heard: &Heard| heard.progress_since(before).len() as u64 >= count;
        heard.until("progress", enough).await?;
        let mut progress = heard.progress_since(before);
        // And so they may overtake each other, here in the client.
        progress.sort_by(f64::total_cmp);
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

async fn concurrent(server: &Server<'_>, step: &Value) -> Result<()> {
    let mut calls = Vec::new();
    for i in 0..step["count"].as_u64().unwrap_or(0) {
        let own = format!("{i}-{}", "x".repeat(usize::try_from(i)? * 37));
        let arguments = json!({text(&step["argument"]): own});
        let params = tool_call(
            server,
            &json!({"name": step["name"], "arguments": arguments}),
        )?;
        calls.push(async move { (own, server.call_tool(params).await) });
    }
    for (own, answer) in futures::future::join_all(calls).await {
        let (answer, _) = outcome(&json!(answer?));
        let want = format!("{}{own}{}", text(&step["prefix"]), text(&step["suffix"]));
        ensure!(answer == want, "want {want:?}, got {answer:?}");
    }
    Ok(())
}

/// Cancels a call at its first progress; on the way it may be asked for roots, and goes on.
async fn cancel(server: &Server<'_>, step: &Value) -> Result<()> {
    let mut step = step.clone();
    loop {
        let mut handle = send(server, &step).await?;
        let token = handle.progress_token.clone();
        let heard = server.heard;
        let answer = tokio::select! {
            progress = heard.until("progress", |heard| heard.progressed(&token)) => {
                progress?;
                handle.cancel(Some("the test cancels".to_owned())).await?;
                return ping(server).await;
            }
            answer = &mut handle.rx => json!(answer??),
        };
        ensure!(
            answer["resultType"] == "input_required",
            "the call to cancel ended as {answer}"
        );
        let asked = answer["inputRequests"].as_object().into_iter().flatten();
        let roots = asked.map(|(key, _)| (key.clone(), json!({"roots": []})));
        step["inputResponses"] = Value::Object(roots.collect());
        step["requestState"] = answer["requestState"].clone();
    }
}

async fn ping(server: &Server<'_>) -> Result<()> {
    if server.modern {
        server.list_tools(None).await?;
    } else {
        server
            .send_request(ClientRequest::PingRequest(PingRequest::default()))
            .await?;
    }
    Ok(())
}

/// Sends a call that asks nothing, so that it can be followed and cancelled.
async fn send(server: &Server<'_>, step: &Value) -> Result<RequestHandle<RoleClient>> {
    let request = CallToolRequest::new(tool_call(server, step)?);
    Ok(server
        .send_cancellable_request(
            ClientRequest::CallToolRequest(request),
            PeerRequestOptions::no_options(),
        )
        .await?)
}

fn tool_call(server: &Server<'_>, step: &Value) -> Result<CallToolRequestParams> {
    let arguments = step.get("arguments").cloned().unwrap_or(json!({}));
    let mut params = json!({"name": step["name"], "arguments": arguments});
    for member in ["inputResponses", "requestState"] {
        if let Some(value) = step.get(member) {
            params[member] = value.clone();
        }
    }
    let level = server.level.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(level) = &*level {
        params["_meta"] = json!({"io.modelcontextprotocol/logLevel": level});
    }
    from(params)
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
