//! Clients of revisions with sessions in front of a child of the one without: what crosses.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    client::Reply,
    events::Events,
    mcp::{Mcp, Sse, initialize, text_of, tool_call},
    modern::recorded,
    until,
};

const MODERN: &str = r#"
[backends.m]
command = ["conformance", "--era", "modern", "--name", "behind"]
"#;

async fn rig(more: &str) -> Rig {
    Rig::start(&format!("{MODERN}{more}")).await
}

/// A session that declares what `capabilities` says.
async fn declaring(rig: &Rig, key: &str, capabilities: Value) -> (Reply, String) {
    let mut hello = initialize("2025-11-25");
    hello["params"]["capabilities"] = capabilities;
    let reply = rig
        .client()
        .post("/m/mcp", key, &[], hello.to_string())
        .await;
    let session = reply
        .header("mcp-session-id")
        .expect("a session")
        .to_owned();
    (reply, session)
}

/// Calls a tool on a stream of its own.
async fn streamed(mcp: &Mcp, tool: &str, arguments: Value) -> Events {
    mcp.post_stream(&tool_call(&json!("call"), tool, arguments))
        .await
}

/// Answers what a child asked; it is taken.
async fn answer(mcp: &Mcp, question: &Value, result: Value) {
    let body = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
    let reply = mcp.post(body.to_string()).await;
    assert_eq!(reply.status, 202, "{reply:?}");
}

fn accept(content: Value) -> Value {
    json!({"action": "accept", "content": content})
}

#[tokio::test]
async fn a_client_of_any_revision_finds_a_session_and_nothing_of_the_other_revision() {
    for isolation in ["session", "principal", "shared"] {
        let rig = rig(&format!("isolation = \"{isolation}\"\n")).await;
        for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
            let mcp = Mcp::open_as(&rig, "m", ALICE, version).await;
            assert_eq!(mcp.hello["protocolVersion"], version);
            assert_eq!(mcp.hello["serverInfo"]["name"], "behind");
            assert!(
                mcp.hello["capabilities"]["extensions"].is_null(),
                "{}",
                mcp.hello
            );
            assert!(mcp.hello.get("resultType").is_none(), "{}", mcp.hello);
            let list = mcp.request("tools/list", json!({})).await;
            for gone in ["resultType", "ttlMs", "cacheScope", "_meta"] {
                assert!(list["result"].get(gone).is_none(), "{gone}: {list}");
            }
            let text = mcp.text("test_simple_text", json!({})).await;
            assert_eq!(text, "This is a simple text response for testing.");
            let pong = mcp.request("ping", json!({})).await;
            assert_eq!(pong["result"], json!({}));
        }
        let mut sse = Sse::open(&rig, "m", BOB).await;
        let answer = sse.call("test_simple_text", json!({})).await;
        assert!(text_of(&answer).starts_with("This is a simple"));
    }
}

#[tokio::test]
async fn a_child_of_both_eras_is_spoken_to_in_the_clients() {
    let rig = Rig::start("[backends.m]\ncommand = [\"conformance\"]\n").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let known = mcp.text("test_client", json!({})).await;
    assert!(known.contains("2025-11-25"), "{known}");
    assert!(!rig.log().contains("found out"), "it was asked for nothing");
}

#[tokio::test]
async fn a_child_learns_who_its_client_is_with_each_call() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let known = mcp.text("test_client", json!({})).await;
    assert!(
        known.contains("2026-07-28") && known.contains("gateway-test"),
        "{known}"
    );
    assert!(
        known.contains("sampling") && known.contains("roots"),
        "{known}"
    );
}

#[tokio::test]
async fn what_is_known_of_a_child_serves_later_sessions_and_one_that_must_be_asked_first() {
    let rig = rig("max_instances = 1\nwarm = 0\n").await;
    for sessions in 1..=3 {
        // A place is free a moment after its instance has stopped.
        let hello = initialize("2025-11-25").to_string();
        let session = loop {
            let reply = rig.client().post("/m/mcp", ALICE, &[], hello.clone()).await;
            match reply.status {
                429 => {}
                _ => {
                    break reply
                        .header("mcp-session-id")
                        .expect("a session")
                        .to_owned();
                }
            }
        };
        let ask = rig.client().ask("DELETE", "/m/mcp").key(ALICE);
        ask.header("mcp-session-id", session).send().await;
        // The refusing one, the one that was asked, and one for each session.
        until("the end of its child", || {
            rig.log().matches("instance stopped").count() == sessions + 2
        })
        .await;
    }
    assert_eq!(rig.log().matches("found out what").count(), 1);
    let said = Rig::start(&format!("{MODERN}protocol = \"modern\"\n")).await;
    Mcp::open(&said, "m", ALICE).await;
    assert_eq!(said.log().matches("found out what").count(), 0);
    let wrong = Rig::start(&format!("{MODERN}protocol = \"legacy\"\n")).await;
    let reply = wrong
        .client()
        .post("/m/mcp", ALICE, &[], initialize("2025-11-25").to_string())
        .await;
    assert_eq!(reply.json()["error"]["code"], -32022, "{reply:?}");
}

#[tokio::test]
async fn a_handshake_that_fails_for_another_reason_fails_as_ever() {
    let rig = Rig::start("[backends.m]\ncommand = [\"misbehave\", \"--refuse\"]\n").await;
    let hello = initialize("2025-11-25").to_string();
    for _ in 0..2 {
        let reply = rig.client().post("/m/mcp", ALICE, &[], hello.clone()).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.json()["error"]["code"], -32603, "{reply:?}");
        assert_eq!(reply.json()["error"]["message"], "it will not start");
        assert!(reply.header("mcp-session-id").is_none());
    }
    assert_eq!(rig.log().matches("found out what").count(), 1);
    let rig = Rig::start("[backends.m]\ncommand = [\"misbehave\", \"--exit-at-start\", \"3\"]\n");
    let rig = rig.await;
    let reply = rig.client().post("/m/mcp", ALICE, &[], hello).await;
    let code = &reply.json()["error"]["code"];
    assert_eq!(code, -32011, "{reply:?}");
}

#[tokio::test]
async fn a_client_is_asked_on_the_stream_of_its_call() {
    let rig = rig("[audit]\npath = \"audit.jsonl\"\n").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut stream = streamed(&mcp, "test_input_required_result_elicitation", json!({})).await;
    let question = stream.message().await;
    assert_eq!(question["method"], "elicitation/create", "{question}");
    answer(&mcp, &question, accept(json!({"name": "Ada"}))).await;
    let done = stream.message().await;
    assert_eq!(done["id"], "call", "{done}");
    assert_eq!(text_of(&done), "Hello, Ada!");
    assert!(stream.rest().await.is_empty());
    // One decision, one outcome, however many rounds.
    let of = |event: &str| {
        let is = |line: &&Value| line["event"] == event && line["id"] == "call";
        recorded(&rig).iter().filter(is).count()
    };
    until("the outcome", || of("response") > 0).await;
    assert_eq!((of("request"), of("response")), (1, 1));
}

#[tokio::test]
async fn a_client_of_http_and_sse_is_asked_on_its_stream() {
    let rig = rig("").await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let call = tool_call(&json!(7), "test_input_required_result_sampling", json!({}));
    let question = sse.exchange(&call).await;
    assert_eq!(question["method"], "sampling/createMessage", "{question}");
    let result =
        json!({"role": "assistant", "model": "x", "content": {"type": "text", "text": "Paris"}});
    let body = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
    let done = sse.exchange(&body).await;
    assert_eq!(done["id"], 7, "{done}");
    assert!(text_of(&done).contains("Paris"), "{done}");
}

#[tokio::test]
async fn several_questions_and_several_rounds_come_to_one_answer() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let result = |question: &Value| match question["method"].as_str() {
        Some("elicitation/create") => accept(json!({"name": "Ada", "ok": true, "color": "red"})),
        Some("roots/list") => json!({"roots": [{"uri": "file:///r"}]}),
        _ => json!({"role": "assistant", "model": "x", "content": {"type": "text", "text": "t"}}),
    };
    for (tool, questions) in [
        ("test_input_required_result_multiple_inputs", 3),
        ("test_input_required_result_multi_round", 2),
        ("test_input_required_result_request_state", 1),
        ("test_input_required_result_tampered_state", 1),
        ("test_input_required_result_list_roots", 1),
    ] {
        let mut stream = streamed(&mcp, tool, json!({})).await;
        let mut asked = 0;
        let done = loop {
            let message = stream.message().await;
            if message.get("method").is_none() {
                break message;
            }
            asked += 1;
            answer(&mcp, &message, result(&message)).await;
        };
        assert_eq!(asked, questions, "{tool}");
        assert!(done["result"]["isError"] != true, "{tool}: {done}");
        assert!(!text_of(&done).is_empty(), "{tool}");
    }
    let done = mcp
        .call("test_input_required_result_state_only", json!({}))
        .await;
    assert!(done["result"]["content"].is_array(), "{done}");
}

#[tokio::test]
async fn a_prompt_may_want_input_too() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let params = json!({"name": "test_input_required_result_prompt"});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": params});
    let mut stream = mcp.post_stream(&body).await;
    let question = stream.message().await;
    answer(
        &mcp,
        &question,
        accept(json!({"context": "c", "user_context": "c"})),
    )
    .await;
    let done = stream.message().await;
    assert!(done["result"]["messages"].is_array(), "{done}");
    // Without a form for it, a refusal is an error.
    let mut stream = mcp.post_stream(&body).await;
    let question = stream.message().await;
    let error = json!({"code": -1, "message": "no"});
    let refusal = json!({"jsonrpc": "2.0", "id": question["id"], "error": error});
    assert_eq!(mcp.post(refusal.to_string()).await.status, 202);
    let done = stream.message().await;
    assert_eq!(done["error"]["code"], -32603, "{done}");
}

#[tokio::test]
async fn a_client_that_refuses_or_can_not_be_asked_gets_a_failed_tool() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut stream = streamed(
        &mcp,
        "test_input_required_result_multiple_inputs",
        json!({}),
    )
    .await;
    let (one, two, three) = (
        stream.message().await,
        stream.message().await,
        stream.message().await,
    );
    let error = json!({"code": -32603, "message": "no"});
    let refusal = json!({"jsonrpc": "2.0", "id": two["id"], "error": error});
    assert_eq!(mcp.post(refusal.to_string()).await.status, 202);
    // The other questions are taken back.
    let mut withdrawn = Vec::new();
    for _ in 0..2 {
        let message = stream.message().await;
        assert_eq!(message["method"], "notifications/cancelled", "{message}");
        withdrawn.push(message["params"]["requestId"].clone());
    }
    assert_eq!(withdrawn, [one["id"].clone(), three["id"].clone()]);
    let done = stream.message().await;
    assert_eq!(done["result"]["isError"], true, "{done}");
    answer(&mcp, &one, accept(json!({}))).await;

    let (_, session) = declaring(&rig, ALICE, json!({})).await;
    let headers = [
        ("mcp-session-id", &*session),
        ("mcp-protocol-version", "2025-11-25"),
    ];
    for tool in [
        "test_input_required_result_elicitation",
        "test_missing_capability",
    ] {
        let call = tool_call(&json!(1), tool, json!({})).to_string();
        let reply = rig.client().post("/m/mcp", ALICE, &headers, call).await;
        let done = reply.json();
        assert!(
            done["result"]["isError"] == true || done["error"]["code"] == -32603,
            "{tool}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn a_visit_is_asked_of_those_who_can_make_it() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    // It declared forms only.
    let done = mcp.call("test_url_elicitation", json!({})).await;
    assert_eq!(done["result"]["isError"], true, "{done}");
    let (_, session) = declaring(&rig, ALICE, json!({"elicitation": {"url": {}}})).await;
    let headers = [
        ("mcp-session-id", &*session),
        ("mcp-protocol-version", "2025-11-25"),
    ];
    let call = tool_call(&json!(1), "test_url_elicitation", json!({})).to_string();
    let ask = rig
        .client()
        .ask("POST", "/m/mcp")
        .key(ALICE)
        .headers(&headers);
    let mut stream = ask.json(call).events().await;
    let question = stream.message().await;
    assert_eq!(question["params"]["mode"], "url", "{question}");
    let id = question["params"]["elicitationId"].as_str().expect("an id");
    assert_eq!(id.len(), 32);
    let body = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}});
    let reply = rig
        .client()
        .post("/m/mcp", ALICE, &headers, body.to_string())
        .await;
    assert_eq!(reply.status, 202);
    assert!(!text_of(&stream.message().await).is_empty());
}

#[tokio::test]
async fn a_call_can_be_cancelled_while_its_client_is_asked() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut stream = streamed(&mcp, "test_input_required_result_elicitation", json!({})).await;
    let question = stream.message().await;
    let params = json!({"requestId": "call"});
    assert_eq!(
        mcp.notify("notifications/cancelled", params).await.status,
        202
    );
    let withdrawn = stream.message().await;
    assert_eq!(
        withdrawn["params"]["requestId"], question["id"],
        "{withdrawn}"
    );
    assert!(stream.rest().await.is_empty(), "no answer");
    answer(&mcp, &question, accept(json!({"name": "Ada"}))).await;
    // The id is free again.
    let done = mcp
        .post(tool_call(&json!("call"), "test_simple_text", json!({})).to_string())
        .await;
    assert_eq!(done.json()["id"], "call");
}

#[tokio::test]
async fn changes_and_updates_come_on_the_standing_stream() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let other = Mcp::open(&rig, "m", ALICE).await;
    let (mut stream, mut others) = (mcp.stream().await, other.stream().await);
    let uri = json!({"uri": "test://watched-resource"});
    let subscribed = mcp.request("resources/subscribe", uri.clone()).await;
    assert_eq!(subscribed["result"], json!({}), "{subscribed}");
    mcp.call("test_trigger_resource_update", uri.clone()).await;
    let update = stream.message().await;
    assert_eq!(
        update["method"], "notifications/resources/updated",
        "{update}"
    );
    assert_eq!(update["params"]["uri"], uri["uri"]);
    assert!(!update.to_string().contains("subscriptionId"), "{update}");
    mcp.call("test_trigger_tool_change", json!({})).await;
    let changed = stream.message().await;
    assert_eq!(
        changed["method"], "notifications/tools/list_changed",
        "{changed}"
    );
    assert!(!changed.to_string().contains("subscriptionId"), "{changed}");
    let unsubscribed = mcp.request("resources/unsubscribe", uri.clone()).await;
    assert_eq!(unsubscribed["result"], json!({}));
    mcp.call("test_trigger_resource_update", uri.clone()).await;
    mcp.call("test_trigger_prompt_change", json!({})).await;
    let next = stream.message().await;
    assert_eq!(
        next["method"], "notifications/prompts/list_changed",
        "{next}"
    );
    // The other session has a child of its own and heard nothing of this.
    other.call("test_trigger_prompt_change", json!({})).await;
    let first = others.message().await;
    assert_eq!(
        first["method"], "notifications/prompts/list_changed",
        "{first}"
    );
}

#[tokio::test]
async fn on_a_shared_child_updates_reach_those_who_subscribed() {
    let rig = rig("isolation = \"shared\"\n").await;
    let (alice, bob) = (
        Mcp::open(&rig, "m", ALICE).await,
        Mcp::open(&rig, "m", BOB).await,
    );
    let (mut hers, mut his) = (alice.stream().await, bob.stream().await);
    let uri = json!({"uri": "test://watched-resource"});
    alice.request("resources/subscribe", uri.clone()).await;
    bob.call("test_trigger_resource_update", uri.clone()).await;
    let update = hers.message().await;
    assert_eq!(
        update["method"], "notifications/resources/updated",
        "{update}"
    );
    bob.request("resources/subscribe", json!({"uri": "test://static-text"}))
        .await;
    bob.call(
        "test_trigger_resource_update",
        json!({"uri": "test://static-text"}),
    )
    .await;
    let update = his.message().await;
    assert_eq!(update["params"]["uri"], "test://static-text", "{update}");
    // And input is asked of the one whose call wants it.
    let mut stream = streamed(&bob, "test_input_required_result_elicitation", json!({})).await;
    let question = stream.message().await;
    answer(&alice, &question, accept(json!({"name": "Eve"}))).await;
    answer(&bob, &question, accept(json!({"name": "Bob"}))).await;
    assert_eq!(text_of(&stream.message().await), "Hello, Bob!");
}

#[tokio::test]
async fn a_resource_that_sends_no_updates_can_not_be_subscribed_to() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let refused = mcp
        .request("resources/subscribe", json!({"uri": "nowhere://x"}))
        .await;
    if refused.get("error").is_some() {
        assert_eq!(refused["error"]["code"], -32002, "{refused}");
        assert_eq!(refused["error"]["data"]["uri"], "nowhere://x");
    }
    let missing = mcp
        .request("resources/read", json!({"uri": "nowhere://x"}))
        .await;
    assert_eq!(missing["error"]["code"], -32002, "{missing}");
    assert_eq!(missing["error"]["data"]["uri"], "nowhere://x");
}

#[tokio::test]
async fn logs_come_at_the_level_that_the_client_set() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut stream = streamed(&mcp, "test_logging_tool", json!({})).await;
    assert_eq!(stream.message().await["method"], "notifications/message");
    stream.rest().await;
    for (level, code) in [("loud", -32602), ("", -32602)] {
        let refused = mcp
            .request("logging/setLevel", json!({"level": level}))
            .await;
        assert_eq!(refused["error"]["code"], code, "{refused}");
    }
    let set = mcp
        .request("logging/setLevel", json!({"level": "error"}))
        .await;
    assert_eq!(set["result"], json!({}));
    let quiet = mcp.call("test_logging_tool", json!({})).await;
    assert!(quiet["result"]["content"].is_array(), "{quiet}");
}

#[tokio::test]
async fn progress_has_the_clients_token() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut call = tool_call(&json!(1), "test_tool_with_progress", json!({}));
    call["params"]["_meta"] =
        json!({"progressToken": "mine", "io.modelcontextprotocol/logLevel": "debug"});
    let mut stream = mcp.post_stream(&call).await;
    let mut seen = Vec::new();
    for event in stream.rest().await {
        let Some(message) = event.data.filter(|data| !data.is_empty()) else {
            continue;
        };
        let message: Value = serde_json::from_str(&message).expect("JSON");
        if message["method"] == "notifications/progress" {
            assert_eq!(message["params"]["progressToken"], "mine", "{message}");
            seen.push(message["params"]["progress"].as_f64().expect("a number"));
        }
    }
    assert_eq!(seen, [0.0, 50.0, 100.0]);
}

#[tokio::test]
async fn requests_of_the_other_era_and_of_tasks_are_unknown() {
    let rig = rig("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for method in [
        "server/discover",
        "subscriptions/listen",
        "tasks/list",
        "tasks/get",
    ] {
        let refused = mcp.request(method, json!({"notifications": {}})).await;
        assert_eq!(refused["error"]["code"], -32601, "{refused}");
    }
    for told in [
        "notifications/roots/list_changed",
        "notifications/initialized",
    ] {
        assert_eq!(mcp.notify(told, json!({})).await.status, 202);
    }
    assert!(
        mcp.text("test_simple_text", json!({}))
            .await
            .starts_with("This")
    );
}

#[tokio::test]
async fn policy_holds_on_both_sides_of_the_bridge() {
    let rig = rig(r#"
[backends.m.filter]
methods = { deny = ["sampling/*"] }
tools = { deny = ["test_error_handling"] }
redact = [{ pattern = "(?i)name", replace = "[hidden]" }]
"#)
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let hidden = mcp.call("test_error_handling", json!({})).await;
    assert_eq!(
        hidden["error"]["message"],
        "Unknown tool: test_error_handling"
    );
    let list = mcp.request("tools/list", json!({})).await;
    assert!(!list.to_string().contains("test_error_handling"));
    let failed = mcp
        .call("test_input_required_result_sampling", json!({}))
        .await;
    assert_eq!(failed["result"]["isError"], true, "{failed}");
    let mut stream = streamed(&mcp, "test_input_required_result_elicitation", json!({})).await;
    let question = stream.message().await;
    let message = question["params"]["message"].as_str().expect("a text");
    assert!(!message.to_lowercase().contains("name"), "{message}");
}
