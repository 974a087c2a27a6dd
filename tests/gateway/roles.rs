//! What a role or a filter hides does not exist: not in lists, not when it is named.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    client::{Reply, assert_error},
    mcp::{Mcp, Sse, tool_call},
};

const READER: &str = "rita-reads-only";

/// A reader who may use a few things, on a server that hides a few others.
const CONFIG: &str = r#"
[[auth.keys]]
name = "rita"
key = "rita-reads-only"
roles = ["reader"]

[roles.reader]
m = { tools = ["e*", "raw", "seen", "flood", "fail"], prompts = [], resources = ["misbehave://one"] }

[backends.m]
command = ["misbehave"]

[backends.m.filter]
tools = { deny = ["env", "exit", "crash"] }
resources = { deny = ["secret://**"] }
methods = { deny = ["sampling/*", "logging/*", "notifications/roots/*", "notifications/message"] }
"#;

fn names(answer: &Value, list: &str, key: &str) -> Vec<String> {
    let list = answer["result"][list]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let name = |item: &Value| item[key].as_str().unwrap_or_default().to_owned();
    list.iter().map(name).collect()
}

#[tokio::test]
async fn lists_show_only_what_may_be_used() {
    let rig = Rig::start(CONFIG).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let tools = names(
        &reader.request("tools/list", json!({})).await,
        "tools",
        "name",
    );
    assert_eq!(
        tools,
        [
            "echo", "raw", "seen", "endless", "flood", "elicit", "fail", "error"
        ]
    );
    let prompts = reader.request("prompts/list", json!({})).await;
    assert_eq!(prompts["result"], json!({"prompts": []}));
    let resources = reader.request("resources/list", json!({})).await;
    assert_eq!(names(&resources, "resources", "uri"), ["misbehave://one"]);

    let all = Mcp::open(&rig, "m", ALICE).await;
    let tools = names(&all.request("tools/list", json!({})).await, "tools", "name");
    assert!(tools.len() > 40, "{tools:?}");
    for hidden in ["env", "exit", "crash"] {
        assert!(!tools.iter().any(|tool| tool == hidden), "{hidden}");
    }
    let prompts = all.request("prompts/list", json!({})).await;
    assert_eq!(names(&prompts, "prompts", "name"), ["greet"]);
    let resources = all.request("resources/list", json!({})).await;
    assert_eq!(
        names(&resources, "resources", "uri"),
        ["misbehave://one", "misbehave://two"]
    );
}

#[tokio::test]
async fn pages_of_a_list_are_filtered_each_and_their_cursors_stay() {
    let config = CONFIG.replace(r#"["misbehave"]"#, r#"["misbehave", "--page", "7"]"#);
    let rig = Rig::start(&config).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let (mut tools, mut pages, mut params) = (Vec::new(), 0, json!({}));
    loop {
        let page = reader.request("tools/list", params).await;
        tools.extend(names(&page, "tools", "name"));
        pages += 1;
        match page["result"].get("nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => break,
        }
    }
    assert_eq!(
        tools,
        [
            "echo", "raw", "seen", "endless", "flood", "elicit", "fail", "error"
        ]
    );
    assert!(pages > 5, "{pages}");
}

#[tokio::test]
async fn a_hidden_tool_is_unknown_in_whatever_way_it_is_named() {
    let rig = Rig::start(CONFIG).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let all = Mcp::open(&rig, "m", ALICE).await;
    let mut sse = Sse::open(&rig, "m", READER).await;
    let cases = [
        (&reader, "env"),
        (&all, "env"),
        (&reader, "pid"),
        (&reader, "nothing"),
    ];
    for (mcp, tool) in cases {
        let answer = mcp.call(tool, json!({})).await;
        let error = assert_error(&answer, &answer["id"], -32602);
        assert_eq!(
            error,
            json!({"code": -32602, "message": format!("Unknown tool: {tool}")})
        );
    }
    let answer = sse.call("pid", json!({})).await;
    let error = assert_error(&answer, &answer["id"], -32602);
    assert_eq!(error["message"], "Unknown tool: pid");

    for (params, message) in [
        (r#"{"name":"\u0065nv"}"#, "Unknown tool: env"),
        (
            r#"{"arguments":{"name":"echo"},"name":"env"}"#,
            "Unknown tool: env",
        ),
        (r#"{"name":"ECHO"}"#, "Unknown tool: ECHO"),
        (r#"{"name":" echo"}"#, "Unknown tool:  echo"),
        (r#"{"name":"pid\u0000echo"}"#, "Unknown tool: pid\0echo"),
        (r#"{"name":"a\nb"}"#, "Unknown tool: a\nb"),
        (r#"{"name":""}"#, "Unknown tool: "),
        (r#"{"name":1}"#, "Invalid params"),
        (r#"{"name":["echo"]}"#, "Invalid params"),
        (r#"{"name":null}"#, "Invalid params"),
        ("{}", "Invalid params"),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let reply = reader.post(body).await;
        let error = reply.assert_error(200, &json!(1), -32602);
        assert_eq!(error["message"], message, "{params}");
    }
    let reply = reader
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#)
        .await;
    reply.assert_error(200, &json!(1), -32602);
    assert_eq!(calls_seen(&reader).await, 1, "a hidden tool was called");
}

/// How many calls came to the child, the one that asks included.
async fn calls_seen(mcp: &Mcp) -> usize {
    let seen: Value = serde_json::from_str(&mcp.text("seen", json!({})).await).unwrap();
    let methods = seen["methods"].as_array().unwrap();
    methods
        .iter()
        .filter(|method| **method == "tools/call")
        .count()
}

#[tokio::test]
async fn a_method_spelled_with_escapes_is_the_same_method() {
    let rig = Rig::start(CONFIG).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    for method in [r"tools\/call", r"tools/c\u0061ll", r"\u0074ools/call"] {
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"pid"}}}}"#);
        let error = reader.post(body).await.assert_error(200, &json!(1), -32602);
        assert_eq!(error["message"], "Unknown tool: pid");
    }
}

#[tokio::test]
async fn hidden_prompts_and_resources_are_not_there() {
    let rig = Rig::start(CONFIG).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let all = Mcp::open(&rig, "m", ALICE).await;
    let prompt = reader
        .request("prompts/get", json!({"name": "greet"}))
        .await;
    let error = assert_error(&prompt, &prompt["id"], -32602);
    assert_eq!(error["message"], "Unknown prompt: greet");
    let prompt = all.request("prompts/get", json!({"name": "greet"})).await;
    assert!(prompt["result"].is_object(), "{prompt}");

    let one = json!({"uri": "misbehave://one"});
    for method in [
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
    ] {
        let answer = reader.request(method, one.clone()).await;
        assert!(answer["result"].is_object(), "{method}: {answer}");
        for (mcp, uri) in [
            (&reader, "misbehave://two"),
            (&reader, "MISBEHAVE://one"),
            (&reader, "misbehave://one/../two"),
            (&reader, "misbehave://one?x"),
            (&all, "secret://a"),
            (&all, "misbehave://x/../one"),
            (&all, "misbehave://x/%2e%2e/one"),
        ] {
            let answer = mcp.request(method, json!({"uri": uri})).await;
            let error = assert_error(&answer, &answer["id"], -32002);
            assert_eq!(
                error,
                json!({"code": -32002, "message": "Resource not found", "data": {"uri": uri}})
            );
        }
        for params in [
            json!({}),
            json!({"uri": 1}),
            json!({"uri": ["misbehave://one"]}),
        ] {
            let answer = reader.request(method, params).await;
            assert_error(&answer, &answer["id"], -32602);
        }
    }
}

#[tokio::test]
async fn completions_are_for_what_may_be_used() {
    let rig = Rig::start(CONFIG).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let argument = json!({"name": "n", "value": "v"});
    for (reference, code) in [
        (json!({"type": "ref/prompt", "name": "greet"}), -32602),
        (
            json!({"type": "ref/resource", "uri": "misbehave://two"}),
            -32002,
        ),
        (json!({"type": "ref/other", "name": "greet"}), -32602),
        (json!({"type": "ref/prompt"}), -32602),
        (json!("ref/prompt"), -32602),
        // The child knows no completions; that it says so shows that it was asked.
        (
            json!({"type": "ref/resource", "uri": "misbehave://one"}),
            -32601,
        ),
    ] {
        let params = json!({"ref": reference, "argument": argument});
        let answer = reader.request("completion/complete", params).await;
        assert_error(&answer, &answer["id"], code);
    }
}

#[tokio::test]
async fn a_hidden_method_is_unknown_and_a_hidden_notification_goes_nowhere() {
    let rig = Rig::start(CONFIG).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let answer = mcp
        .request("logging/setLevel", json!({"level": "debug"}))
        .await;
    let error = assert_error(&answer, &answer["id"], -32601);
    assert_eq!(
        error,
        json!({"code": -32601, "message": "Method not found"})
    );
    let reply = mcp
        .notify("notifications/roots/list_changed", json!({}))
        .await;
    assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
    let reply = mcp.notify("notifications/anything", json!({})).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let seen: Value = serde_json::from_str(&mcp.text("seen", json!({})).await).unwrap();
    let seen: Vec<_> = seen["methods"]
        .as_array()
        .expect("methods")
        .iter()
        .collect();
    assert_eq!(
        seen,
        [
            "initialize",
            "notifications/initialized",
            // The gateway's own: what may be called has to be there.
            "tools/list",
            "notifications/anything",
            "tools/call"
        ]
    );
}

#[tokio::test]
async fn what_a_child_may_not_ask_or_tell_does_not_reach_the_client() {
    let rig = Rig::start(CONFIG).await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut standing = mcp.stream().await;
    assert_eq!(standing.next().await.unwrap().data.as_deref(), Some(""));
    // The child is told that nobody does that, and the call goes on.
    let answer = mcp.text("sample", json!({"prompt": "hello"})).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer[0]["error"]["code"], -32601, "{answer}");
    // A log line would make this answer a stream.
    assert_eq!(mcp.text("log", json!({"text": "psst"})).await, "done");
    // Nor is either on the standing stream: this is the first thing there.
    let call = mcp
        .call("touch", json!({"uri": "secret://a", "unasked": true}))
        .await;
    assert!(call["result"].is_object(), "{call}");
    let mut own = mcp
        .post_stream(&tool_call(&json!(1), "changed", json!({"what": "tools"})))
        .await;
    assert_eq!(
        own.message().await["method"],
        "notifications/tools/list_changed"
    );
    assert_eq!(mcp.delete().await.status, 204);
    let rest = standing.rest().await;
    assert_eq!(rest, [], "{rest:?}");
}

#[tokio::test]
async fn several_roles_grant_what_any_of_them_grants() {
    let rig = Rig::start(
        r#"
        [[auth.keys]]
        name = "sue"
        key = "sue-has-two-roles"
        roles = ["one", "two"]
        [roles.one]
        m = { tools = ["echo"] }
        [roles.two]
        "*" = { tools = ["pid"], prompts = ["greet"] }
        "#,
    )
    .await;
    let mcp = Mcp::open(&rig, "m", "sue-has-two-roles").await;
    let tools = names(&mcp.request("tools/list", json!({})).await, "tools", "name");
    assert_eq!(tools, ["echo", "pid"]);
    for tool in ["echo", "pid"] {
        assert!(
            mcp.call(tool, json!({})).await["result"].is_object(),
            "{tool}"
        );
    }
    let hidden = mcp.call("env", json!({})).await;
    assert_error(&hidden, &hidden["id"], -32602);
}

#[tokio::test]
async fn principals_that_share_a_child_see_each_his_own_part_of_it() {
    let config = CONFIG.replace(
        "[backends.m.filter]",
        "isolation = \"shared\"\n[backends.m.filter]",
    );
    let rig = Rig::start(&config).await;
    let reader = Mcp::open(&rig, "m", READER).await;
    let bob = Mcp::open(&rig, "m", BOB).await;
    let tools = names(
        &reader.request("tools/list", json!({})).await,
        "tools",
        "name",
    );
    assert_eq!(tools.len(), 8, "{tools:?}");
    let tools = names(&bob.request("tools/list", json!({})).await, "tools", "name");
    assert!(tools.len() > 40, "{tools:?}");
    let hidden = reader.call("pid", json!({})).await;
    assert_error(&hidden, &hidden["id"], -32602);
    assert!(bob.call("pid", json!({})).await["result"].is_object());
}

/// A server of a few lines whose lists are odd; it answers by what stands in the request.
const ODD: &str = r##"
[[auth.keys]]
name = "rita"
key = "rita-reads-only"
roles = ["reader"]
[roles.reader]
odd = { tools = ["shown"], prompts = ["shown"], resources = ["shown://**"] }
[backends.odd]
command = ["sh", "-c", '''
while read -r line; do
    id=$${line#*\"id\":}; id=$${id%%[,\}]*}
    case $line in
    *\"initialize\"*) result='{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"odd","version":"1"}}' ;;
    *\"tools/list\"*) result='{"tools":[{"name":"hidden","name":"shown"},{"name":"shown","x":1.0},7,{"nome":"x"},{"n\u0061me":"shown"},{"name":"\u0068idden"}],"big":9007199254740993}' ;;
    *\"resources/templates/list\"*) result='{"resourceTemplates":[{"uriTemplate":"shown://{id}","name":"a"},{"uriTemplate":"hidden://{id}","name":"b"}]}' ;;
    *\"prompts/list\"*) result='{"prompts":{"name":"shown"}}' ;;
    *\"resources/list\"*) result='7' ;;
    *) continue ;;
    esac
    printf '%s\n' "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":$result}"
done
''']
"##;

#[tokio::test]
async fn lists_keep_their_bytes_and_what_cannot_be_read_is_not_shown() {
    let rig = Rig::start(ODD).await;
    let mcp = Mcp::open(&rig, "odd", READER).await;
    let result = |reply: &Reply| {
        let (_, result) = reply.text().split_once(r#","result":"#).expect("a result");
        result.strip_suffix('}').expect("an object").to_owned()
    };
    let tools = mcp
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#)
        .await;
    assert_eq!(
        result(&tools),
        r#"{"tools":[{"name":"shown","x":1.0},{"n\u0061me":"shown"}],"big":9007199254740993}"#
    );
    let templates = r#"{"jsonrpc":"2.0","id":1,"method":"resources/templates/list"}"#;
    assert_eq!(
        result(&mcp.post(templates).await),
        r#"{"resourceTemplates":[{"uriTemplate":"shown://{id}","name":"a"}]}"#
    );
    for method in ["prompts/list", "resources/list"] {
        let answer = mcp.request(method, json!({})).await;
        assert_error(&answer, &answer["id"], -32011);
    }
}
