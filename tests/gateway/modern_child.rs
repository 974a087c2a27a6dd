//! What children do that stand behind clients without sessions: slow ones, mute ones, odd ones.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    modern::{Modern, recorded},
    until,
};

/// A child with a handshake that does one thing at `tools/call`.
fn doing(act: &str) -> String {
    let script = format!(
        r#"while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
say() {{ printf '%s\n' "$1" | sed "s/ID/$id/"; }}
case "$line" in
*'"initialize"'*) say '{{"jsonrpc":"2.0","id":ID,"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"x","version":"1"}}}}}}';;
*tools/list*) say '{{"jsonrpc":"2.0","id":ID,"result":{{"tools":[]}}}}';;
*'"id":"q1"'*) n=$((n+1));;
*tools/call*) {act};;
esac
done"#
    );
    format!(
        "[backends.m]\ncommand = [\"sh\", \"-c\", {}]\nprotocol = \"legacy\"\n",
        Value::from(script)
    )
}

#[tokio::test]
async fn a_child_that_passes_over_the_question_is_known_by_its_handshake() {
    for more in ["", "--start-delay\", \"8000"] {
        let more = if more.is_empty() {
            String::new()
        } else {
            format!(", \"{more}\"")
        };
        let rig = Rig::start(&format!(
            "[backends.c]\nwarm = 0\nstart_timeout = \"60s\"\ncommand = [\"conformance\", \"--era\", \
             \"legacy\", \"--before-initialize\", \"silent\"{more}]\n"
        ))
        .await;
        let alice = Modern::new(&rig, "c", ALICE);
        let found = alice.result("server/discover", json!({})).await;
        assert_eq!(found["supportedVersions"], json!(["2026-07-28"]), "{found}");
        assert_eq!(
            found["capabilities"]["tools"],
            json!({"listChanged": true}),
            "{found}"
        );
        rig.logged("found out what its children speak").await;
    }
}

#[tokio::test]
async fn a_child_that_is_slow_to_start_is_not_taken_for_one_of_the_other_era() {
    let rig = Rig::start(
        "[backends.c]\nwarm = 0\nstart_timeout = \"60s\"\ncommand = [\"conformance\", \"--era\", \
         \"modern\", \"--start-delay\", \"9000\"]\n",
    )
    .await;
    let alice = Modern::new(&rig, "c", ALICE);
    let found = alice.result("server/discover", json!({})).await;
    assert_eq!(found["resultType"], "complete", "{found}");
    rig.logged("modern=true").await;
    assert_eq!(
        alice.call("test_simple_text", json!({})).await["resultType"],
        "complete"
    );
}

#[tokio::test]
async fn a_child_that_can_t_start_is_no_child_of_another_era() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\", \"--exit-at-start\", \"1\"]\nwarm = 0\n[audit]\npath = \"audit.jsonl\"\n",
    )
    .await;
    let reply = Modern::new(&rig, "m", ALICE)
        .request("server/discover", json!({}))
        .await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (503, &json!(-32603)),
        "{reply:?}"
    );
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    until("the outcome", || {
        recorded(&rig).iter().any(|line| {
            line["event"] == "response" && line["status"].to_string().contains("-32603")
        })
    })
    .await;
}

#[tokio::test]
async fn what_a_child_takes_back_is_not_asked() {
    // In one write: questions are gathered for a moment only.
    let asks = r#"say '{"jsonrpc":"2.0","id":"q1","method":"roots/list"}
{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q1"}}
{"jsonrpc":"2.0","id":"q2","method":"roots/list"}'"#;
    let rig = Rig::start(&doing(asks)).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(json!({"roots": {}}));
    let asked = alice.call("t", json!({})).await;
    let keys: Vec<_> = asked["inputRequests"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["q2"], "{asked}");
}

#[tokio::test]
async fn urls_to_visit_pass_the_filter_of_methods_and_have_keys_of_their_own() {
    let error = r#"say '{"jsonrpc":"2.0","id":ID,"error":{"code":-32042,"message":"visit","data":{"elicitations":[{"mode":"url","elicitationId":"e","url":"https://a.example","message":"a"},{"mode":"url","elicitationId":"e","url":"https://b.example","message":"b"}]}}}'"#;
    let declared = json!({"elicitation": {"url": {}}});
    let rig = Rig::start(&doing(error)).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(declared.clone());
    let asked = alice.call("t", json!({})).await;
    assert_eq!(
        asked["inputRequests"].as_object().unwrap().len(),
        2,
        "{asked}"
    );
    let filter = "[backends.m.filter]\nmethods = { deny = [\"elicitation/*\"] }\n";
    let rig = Rig::start(&format!("{}{filter}", doing(error))).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(declared);
    let params = json!({"name": "t", "arguments": {}});
    let reply = alice.request("tools/call", params).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (200, &json!(-32011)),
        "{reply:?}"
    );
    assert!(
        !String::from_utf8_lossy(&reply.body).contains("example"),
        "{reply:?}"
    );
}

#[tokio::test]
async fn headers_are_compared_with_the_arguments_of_a_retry_too() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path().join("lists.json");
    let schema = json!({"type": "object", "properties": {"message": {"type": "string", "x-mcp-header": "Message"}}});
    let page = json!({"tools": [{"name": "elicit", "inputSchema": schema}]}).to_string();
    std::fs::write(&lists, json!({"tools/list": [page]}).to_string()).unwrap();
    let rig = Rig::start(&format!(
        "[backends.m]\nprotocol = \"legacy\"\ncommand = [\"misbehave\", \"--lists\", {lists:?}]\n[audit]\npath = \"audit.jsonl\"\n"
    ))
    .await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(json!({"elicitation": {}}));
    let mut params = json!({"name": "elicit", "arguments": {"message": "who"}});
    let send = async |params: &Value, header: Option<&str>| {
        let ask = alice.ask(&alice.message(&json!(1), "tools/call", params));
        match header {
            Some(header) => ask.header("mcp-param-message", header).send().await,
            None => ask.send().await,
        }
    };
    let asked = send(&params, Some("who")).await.json()["result"].clone();
    let key = asked["inputRequests"]
        .as_object()
        .unwrap()
        .keys()
        .next()
        .unwrap()
        .clone();
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = json!({key: {"action": "decline"}});
    for header in [Some("else"), None] {
        let refused = send(&params, header).await;
        let code = &refused.json()["error"]["code"];
        assert_eq!((refused.status, code), (400, &json!(-32020)), "{refused:?}");
    }
    until("the outcomes", || {
        let lines = recorded(&rig);
        lines
            .iter()
            .filter(|line| line["status"].to_string().contains("-32020"))
            .count()
            == 2
    })
    .await;
    // Its state was not used up.
    let done = send(&params, Some("who")).await;
    assert_eq!(done.json()["result"]["resultType"], "complete", "{done:?}");
}

#[tokio::test]
async fn a_rule_about_what_isnt_there_tells_no_more_than_what_is_hidden() {
    let rig = Rig::start(
        "[backends.m]\nprotocol = \"legacy\"\ncommand = [\"misbehave\"]\n[audit]\npath = \"audit.jsonl\"\n\
         [backends.m.filter]\ntools = { deny = [\"env\"] }\n\
         [[backends.m.filter.rules]]\nname = \"no\"\naction = \"deny\"\nreason = \"ruled out\"\n\
         when = 'tool == \"absent\" || tool == \"echo\" || tool == \"env\"'\n",
    )
    .await;
    let alice = Modern::new(&rig, "m", ALICE);
    let call = async |tool: &str| {
        let params = json!({"name": tool, "arguments": {}});
        let reply = alice.request("tools/call", params).await;
        assert_eq!(reply.status, 200);
        reply.json()["error"].clone()
    };
    for tool in ["absent", "env", "nothing"] {
        let error = json!({"code": -32602, "message": format!("Unknown tool: {tool}")});
        assert_eq!(call(tool).await, error);
    }
    assert_eq!(call("echo").await["code"], -32010);
    until("each refusal", || {
        let lines = recorded(&rig);
        let denied = |code: i64| {
            let is = |line: &&Value| line["status"].to_string().contains(&code.to_string());
            lines.iter().filter(is).count()
        };
        denied(-32602) == 3 && denied(-32010) == 1
    })
    .await;
}

/// A child without a handshake that answers each call with a result.
fn modern(result: &str) -> String {
    let script = format!(
        r#"while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
say() {{ printf '%s\n' "{{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$1}}"; }}
case "$line" in
*server/discover*) say '{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},"ttlMs":0,"cacheScope":"private"}}';;
*tools/list*) say '{{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}}';;
*) say '{result}';;
esac
done"#
    );
    format!(
        "[backends.m]\ncommand = [\"sh\", \"-c\", {}]\nprotocol = \"modern\"\n",
        Value::from(script)
    )
}

#[tokio::test]
async fn a_child_of_the_clients_era_asks_only_for_what_may_be_asked() {
    let wants = r#"{"resultType":"input_required","inputRequests":{"k":{"method":"METHOD","params":{"mode":"url","url":"https://a.example","message":"x"}}},"requestState":"s"}"#;
    let ask = async |rig: &Rig, declared: Value| {
        let alice = Modern::new(rig, "m", ALICE).declaring(declared);
        let params = json!({"name": "t", "arguments": {}});
        alice.request("tools/call", params).await
    };
    let eliciting = modern(&wants.replace("METHOD", "elicitation/create"));
    let rig = Rig::start(&eliciting).await;
    // Forms are not URLs.
    let lacks = ask(&rig, json!({"elicitation": {}})).await;
    let error = &lacks.json()["error"];
    assert_eq!(
        (lacks.status, &error["code"]),
        (400, &json!(-32021)),
        "{lacks:?}"
    );
    assert_eq!(
        error["data"],
        json!({"requiredCapabilities": {"elicitation": {"url": {}}}})
    );
    let asked = ask(&rig, json!({"elicitation": {"url": {}}})).await;
    assert_eq!(
        asked.json()["result"]["resultType"],
        "input_required",
        "{asked:?}"
    );
    let filter = "[backends.m.filter]\nmethods = { deny = [\"elicitation/*\"] }\n";
    let rig = Rig::start(&format!("{eliciting}{filter}")).await;
    let denied = ask(&rig, json!({"elicitation": {"url": {}}})).await;
    assert_eq!(denied.json()["error"]["code"], -32011, "{denied:?}");
    assert!(
        !String::from_utf8_lossy(&denied.body).contains("example"),
        "{denied:?}"
    );
    // And nothing that no client is asked.
    let rig = Rig::start(&modern(&wants.replace("METHOD", "tools/call"))).await;
    let odd = ask(
        &rig,
        json!({"elicitation": {"url": {}}, "sampling": {}, "roots": {}}),
    )
    .await;
    assert!(odd.json().get("error").is_some(), "{odd:?}");
}

#[tokio::test]
async fn a_large_result_has_what_the_revision_wants_before_it() {
    let rig = Rig::start("[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\n").await;
    let alice = Modern::new(&rig, "m", ALICE);
    for mib in [0, 1, 3] {
        let result = alice.call("huge", json!({"mib": mib})).await;
        assert_eq!(result["resultType"], "complete");
        assert_eq!(
            result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
            "misbehave"
        );
        let text = result["content"][0]["text"].as_str().unwrap();
        assert_eq!((text.len(), text.trim_matches('a')), (mib << 20, ""));
    }
}

#[tokio::test]
async fn a_question_that_ends_its_call_is_answered_once() {
    // What is answered to it is counted, and told with the next call.
    let asks = r#"case "$line" in
*count*) say '{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"'$n'"}]}}';;
*) say '{"jsonrpc":"2.0","id":"q1","method":"roots/list"}';;
esac"#;
    let rig = Rig::start(&doing(asks)).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let params = json!({"name": "t", "arguments": {}});
    let refused = alice.request("tools/call", params).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (400, &json!(-32021)),
        "{refused:?}"
    );
    assert_eq!(alice.text("count", json!({})).await, "1");
    assert_eq!(alice.text("count", json!({})).await, "1");
}
