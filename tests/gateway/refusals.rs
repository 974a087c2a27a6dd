//! What is wrong with a request, and the status, body and headers of the answer to it.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, CAROL, Rig,
    client::{Client, Reply, assert_error},
    events_log::{LOGGED, noted},
    mcp::{Mcp, Sse, initialize, tool_call},
    raw, soon,
};

#[tokio::test]
async fn what_is_not_there_is_404() {
    let rig = Rig::start("").await;
    for client in [rig.client().clone(), rig.client().http2().await] {
        for path in [
            "/",
            "/m",
            "/m/",
            "/m/nothing",
            "/m/mcp/further",
            "/m/mcp//",
            "/m//mcp",
            "//m/mcp",
            "/M/mcp",
            "/m/MCP",
            "/m%2Fmcp",
            "/%6d/mcp",
            "/m/mc%70",
            "/x/../m/mcp",
            "/m/./mcp",
            "/m/mcp;v=1",
            "/unknown/mcp",
            "/unknown/sse",
            "/unknown/messages",
            "/healthz/",
            "/metrics",
            "/readyz",
            "/api/sessions",
            "/favicon.ico",
            "/.well-known",
        ] {
            for method in ["GET", "POST", "DELETE", "PUT"] {
                let reply = client.ask(method, path).key(ALICE).send().await;
                reply.assert_refused(404, "not_found");
            }
        }
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_405_and_says_which_it_has() {
    let rig = Rig::start("").await;
    let client = rig.client();
    let cases: [(&str, &[&str], &str); 4] = [
        (
            "/m/mcp",
            &["PUT", "PATCH", "OPTIONS", "TRACE", "PURGE"],
            "GET, POST, DELETE",
        ),
        (
            "/m/sse",
            &["POST", "DELETE", "PUT", "PATCH", "OPTIONS"],
            "GET",
        ),
        (
            "/m/messages",
            &["GET", "DELETE", "PUT", "PATCH", "OPTIONS"],
            "POST",
        ),
        ("/healthz", &["POST", "DELETE", "OPTIONS"], "GET, HEAD"),
    ];
    for (path, methods, allowed) in cases {
        for path in [
            path.to_owned(),
            format!("{path}/"),
            format!("{path}?session_id=x"),
        ] {
            if path == "/healthz/" {
                continue;
            }
            for method in methods {
                let reply = client.ask(method, &path).key(ALICE).send().await;
                reply.assert_refused(405, "method_not_allowed");
                assert_eq!(reply.header("allow"), Some(allowed), "{method} {path}");
            }
        }
    }
    for path in ["/m/mcp", "/m/sse", "/m/messages"] {
        let head = client.ask("HEAD", path).key(ALICE).send().await;
        assert_eq!((head.status, head.body.len()), (405, 0), "{path}");
        assert!(head.header("allow").is_some(), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_session_is_404_whatever_its_message_and_does_not_have_a_large_one_read() {
    const STRANGE: (&str, &str) = ("mcp-session-id", "AAAAAAAAAAAAAAAAAAAAAA");
    let rig = Rig::start(LOGGED).await;
    let client = rig.client();
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","id":1}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        "{",
        "",
    ] {
        let reply = client.post("/m/mcp", ALICE, &[STRANGE], body.to_owned());
        reply.await.assert_refused(404, "not_found");
    }
    // Nothing of this body ever comes.
    let mut raw = raw::Raw::connect(&rig).await;
    let head = format!(
        "POST /m/mcp HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {ALICE}\r\n\
         Content-Type: application/json\r\n{}: {}\r\nContent-Length: 3000000\r\n\r\n",
        STRANGE.0, STRANGE.1
    );
    raw.write(head.as_bytes()).await;
    let answer = raw.read_answer().await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let denied = json!({"event": "denied", "rule": "not_found", "status": "404"});
    noted(&rig, 6, denied).await;
    // In the revision without sessions there is nothing to be unknown.
    let modern = [STRANGE, ("mcp-protocol-version", "2026-07-28")];
    let reply = client.post("/m/mcp", ALICE, &modern, "{").await;
    reply.assert_error(400, &Value::Null, -32700);
}

#[tokio::test]
async fn head_is_answered_like_get_and_without_a_body_on_every_protocol() {
    let rig = Rig::start("[auth.jwt]\nissuer = \"http://127.0.0.1:9\"").await;
    let (one, two) = (rig.client().clone(), rig.client().http2().await);
    for (path, key, status) in [
        ("/healthz", "", 200),
        ("/.well-known/oauth-protected-resource/m/mcp", "", 200),
        ("/.well-known/oauth-authorization-server", "", 404),
        ("/m/mcp", "", 401),
        ("/m/mcp", CAROL, 403),
        ("/m/mcp", ALICE, 405),
        ("/nothing", ALICE, 404),
    ] {
        let get = one.ask("GET", path).key(key).send().await;
        for client in [&one, &two] {
            let head = client.ask("HEAD", path).key(key).send().await;
            assert_eq!((head.status, head.body.len()), (status, 0), "{path}");
            if get.status == status {
                assert_same_head(&head, &get);
            }
        }
    }
}

fn assert_same_head(head: &Reply, get: &Reply) {
    let length = get.body.len().to_string();
    assert_eq!(head.header("content-length"), Some(&*length), "{head:?}");
    for name in ["content-type", "www-authenticate", "cache-control"] {
        assert_eq!(head.header(name), get.header(name), "{head:?}");
    }
}

#[tokio::test]
async fn a_body_that_does_not_say_that_it_is_json_is_415() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let sse = Sse::open(&rig, "m", ALICE).await;
    for path in ["/m/mcp", &sse.endpoint] {
        for kind in [
            "text/plain",
            "text/plain; application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonx",
            "application/json-seq",
            "application/json, text/plain",
            "application/json; charset=utf-16",
            "json",
            "",
        ] {
            let ask = rig.client().ask("POST", path).key(ALICE);
            let ask = ask
                .header("mcp-session-id", &mcp.session)
                .header("content-type", kind);
            let reply = ask
                .body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
                .send()
                .await;
            reply.assert_refused(415, "unsupported_media_type");
        }
        let ask = rig.client().ask("POST", path).key(ALICE).body("{}");
        ask.send()
            .await
            .assert_refused(415, "unsupported_media_type");
        let ask = rig.client().ask("POST", path).key(ALICE);
        let ask = ask.header("content-type", "application/json");
        let reply = ask
            .header("content-type", "text/plain")
            .body("{}")
            .send()
            .await;
        reply.assert_refused(415, "unsupported_media_type");
    }
    for kind in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
        "application/json ; charset=utf-8 ; v=1",
    ] {
        let ask = mcp.ask("POST").header("content-type", kind);
        let reply = ask
            .body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
            .send()
            .await;
        assert_eq!(
            (reply.status, reply.json()["result"].clone()),
            (200, json!({})),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn an_answer_in_a_form_that_nobody_makes_is_406() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for accept in [
        "text/html",
        "image/*",
        "application/xml",
        "",
        "application/json;q=0",
    ] {
        let ask = mcp.ask("POST").header("accept", accept);
        let reply = ask
            .json(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
            .send()
            .await;
        reply.assert_refused(406, "not_acceptable");
    }
    for accept in ["application/json", "text/html", "text/event-stream;q=0.0"] {
        let reply = mcp.ask("GET").header("accept", accept).send().await;
        reply.assert_refused(406, "not_acceptable");
        let ask = rig
            .client()
            .ask("GET", "/m/sse")
            .key(ALICE)
            .header("accept", accept);
        ask.send().await.assert_refused(406, "not_acceptable");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_it_says_so_or_not() {
    let rig = Rig::start("[limits]\nmax_body = \"4KiB\"").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let sse = Sse::open(&rig, "m", ALICE).await;
    let message = |bytes: usize| {
        let empty = tool_call(&json!(1), "echo", json!({"text": ""}))
            .to_string()
            .len();
        tool_call(
            &json!(1),
            "echo",
            json!({"text": "a".repeat(bytes - empty)}),
        )
        .to_string()
    };
    let fits = mcp.post(message(4096)).await;
    assert_eq!(fits.status, 200, "{fits:?}");
    mcp.post(message(4097))
        .await
        .assert_refused(413, "body_too_large");
    sse.post(message(4097))
        .await
        .assert_refused(413, "body_too_large");
    let http2 = rig.client().http2().await;
    let reply = http2.post("/m/mcp", ALICE, &[], message(4097)).await;
    reply.assert_refused(413, "body_too_large");

    // In chunks nobody says how much there will be; and a promise is enough to be refused.
    let chunks = format!("1000\r\n{}\r\n1\r\nx\r\n", "a".repeat(4096));
    for (framing, body) in [
        ("Transfer-Encoding: chunked", chunks.as_str()),
        ("Content-Length: 4097", ""),
        ("Content-Length: 999999999999999", ""),
        ("Content-Length: 4097\r\nExpect: 100-continue", ""),
    ] {
        let head = format!(
            "POST /m/mcp HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {ALICE}\r\n\
             Content-Type: application/json\r\n{framing}\r\n\r\n{body}"
        );
        let answer = raw::exchange(&rig, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{framing}: {answer}");
        assert!(
            answer.to_lowercase().contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
        assert!(answer.contains(r#""error":"body_too_large""#), "{answer}");
    }
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
}

#[tokio::test]
async fn a_header_section_over_the_limit_is_431() {
    let rig = Rig::start("").await;
    let large = "a".repeat(17 * 1024);
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    for head in [
        format!("GET /m/mcp HTTP/1.1\r\nHost: localhost\r\nX-Large: {large}\r\n\r\n"),
        format!("GET /m/mcp?{large} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /m/mcp HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        // It need not end to be too large.
        format!("GET /m/mcp HTTP/1.1\r\nHost: localhost\r\nX-Large: {large}"),
    ] {
        let answer = raw::exchange(&rig, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(
            answer.contains(r#"{"error":"headers_too_large","message":""#),
            "{answer}"
        );
    }
    let http2 = rig.client().http2().await;
    let ask = http2
        .ask("GET", "/m/mcp")
        .key(ALICE)
        .header("x-large", &large);
    ask.send().await.assert_refused(431, "headers_too_large");
    let ask = http2.ask("GET", "/nothing").key(ALICE);
    ask.send().await.assert_refused(404, "not_found");
}

/// Bodies that are no message; the id in the answer (none: it has none) and its code.
#[rustfmt::skip]
const BAD_MESSAGES: &[(&str, Option<i64>, i64)] = &[
    // Not JSON.
    ("", None, -32700),
    (" ", None, -32700),
    ("{", None, -32700),
    ("hello", None, -32700),
    ("{'jsonrpc':'2.0'}", None, -32700),
    (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}}"#, None, -32700),
    (r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#, None, -32700),
    (r#"{"jsonrpc":"2.0","id":1,"method":"ping",}"#, None, -32700),
    (r#"{"jsonrpc":"2.0","id":NaN,"method":"ping"}"#, None, -32700),
    (r#"{"jsonrpc":"2.0","id":01,"method":"ping"}"#, None, -32700),
    ("{\"jsonrpc\":\"2.0\",\"id\":\"a\nb\",\"method\":\"ping\"}", None, -32700),
    ("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}", None, -32700),
    // JSON, but no JSON-RPC.
    ("{}", None, -32600),
    ("1", None, -32600),
    ("null", None, -32600),
    (r#""ping""#, None, -32600),
    (r#"{"id":7,"method":"ping"}"#, Some(7), -32600),
    (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, Some(7), -32600),
    (r#"{"jsonrpc":2.0,"id":7,"method":"ping"}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":1}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":[1]}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"ping","params":"x"}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{}}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, None, -32600),
    (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, None, -32600),
    (r#"{"jsonrpc":"2.0","id":1e3,"method":"ping"}"#, None, -32600),
    (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, None, -32600),
    (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, None, -32600),
    (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, None, -32600),
    // The same key twice, in whatever spelling and at whatever depth.
    (r#"{"jsonrpc":"2.0","id":7,"method":"ping","method":"ping"}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}"#, None, -32600),
    (r#"{"jsonrpc":"2.0","id":7,"\u0069d":8,"method":"ping"}"#, None, -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","name":"b"}}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":1}}}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{"x":[[{"y":{"k":1,"\u006b":2}}]]}}}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{"/":1,"\/":2}}}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","arguments":{"😀":1,"\ud83d\ude00":2}}}"#, Some(7), -32600),
    // Keys that other readers would take for ours.
    (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"a","Name":"b"}}"#, Some(7), -32600),
    (r#"{"jsonrpc":"2.0","id":7,"Method":"tools/call","method":"ping"}"#, Some(7), -32600),
    // Many where one must be.
    ("[]", None, -32600),
    (r#"[{"jsonrpc":"2.0","id":7,"method":"ping"}]"#, None, -32600),
];

/// What is no UTF-8, or too long to be written down.
fn more_bad_messages() -> Vec<(Vec<u8>, Option<i64>, i64)> {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 2), "]".repeat(depth - 2));
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"a":{open}{close}}}}}"#
        )
        .into_bytes()
    };
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#,
        "i".repeat(1025)
    );
    vec![
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"p\xffing\"}".to_vec(),
            None,
            -32700,
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xc0\xaf\"}".to_vec(),
            None,
            -32700,
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\0".to_vec(),
            None,
            -32700,
        ),
        (b"\xff\xfe{\0}\0".to_vec(), None, -32700),
        (nested(129), Some(7), -32600),
        (nested(5000), Some(7), -32600),
        (long.into_bytes(), None, -32600),
    ]
}

fn assert_same(reply: &Reply, body: &[u8], id: Option<i64>, code: i64) {
    let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    assert_eq!(reply.status, 400, "{body}: {reply:?}");
    let answer = reply.json();
    assert_eq!(answer["error"]["code"], code, "{body}: {reply:?}");
    assert_eq!(
        answer.get("id").and_then(Value::as_i64),
        id,
        "{body}: {reply:?}"
    );
    reply.assert_error(400, &id.map_or(Value::Null, Value::from), code);
}

#[tokio::test]
async fn a_body_that_is_not_one_message_is_400_with_the_id_where_it_can_be_told() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let written = BAD_MESSAGES
        .iter()
        .map(|(body, id, code)| (body.as_bytes().to_vec(), *id, *code));
    for (body, id, code) in written.chain(more_bad_messages()) {
        assert_same(&mcp.post(body.clone()).await, &body, id, code);
        // There a request fails on the stream, if it can be told which one it is.
        let asks = body.windows(8).any(|bytes| bytes == b"\"method\"");
        match id.filter(|_| asks) {
            None => assert_same(&sse.post(body.clone()).await, &body, id, code),
            Some(id) => {
                let reply = sse.post(body.clone()).await;
                assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
                assert_error(&sse.events.message().await, &json!(id), code);
            }
        }
        // Nor does it open a session.
        let reply = rig.client().post("/m/mcp", ALICE, &[], body.clone()).await;
        assert_same(&reply, &body, id, code);
    }
    // Nothing of it came to the child.
    let seen: Value = serde_json::from_str(&mcp.text("seen", json!({})).await).unwrap();
    assert_eq!(
        seen["methods"],
        json!(["initialize", "notifications/initialized", "tools/call"])
    );
}

#[tokio::test]
async fn nesting_up_to_128_passes() {
    let rig = Rig::start("").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let deep = format!("{}{}", "[".repeat(125), "]".repeat(125));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"raw","arguments":{{"a":{deep}}}}}}}"#
    );
    let reply = mcp.post(body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.text().contains(&deep), "{reply:?}");
}

async fn hello(client: &Client, backend: &str, key: &str) -> Reply {
    let path = format!("/{backend}/mcp");
    client
        .post(&path, key, &[], initialize("2025-11-25").to_string())
        .await
}

fn assert_retry_after(reply: &Reply) {
    let seconds = reply
        .header("retry-after")
        .unwrap_or_else(|| panic!("no Retry-After: {reply:?}"));
    assert!(
        seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1),
        "{reply:?}"
    );
}

fn assert_limited(reply: &Reply) {
    reply.assert_error(429, &json!("hello"), -32013);
    assert_retry_after(reply);
}

#[tokio::test]
async fn sessions_over_a_cap_are_429_until_one_ends() {
    let rig = Rig::start("[limits]\nmax_sessions = 3\nmax_sessions_per_principal = 2").await;
    let first = Mcp::open(&rig, "m", ALICE).await;
    let second = Sse::open(&rig, "m", ALICE).await;
    assert_limited(&hello(rig.client(), "m", ALICE).await);
    let refused = rig.client().get("/m/sse", ALICE, &[]).await;
    refused.assert_refused(429, "too_many");
    assert_retry_after(&refused);
    // Another principal has his own cap; all together have one, too.
    let third = Mcp::open(&rig, "m", BOB).await;
    assert_limited(&hello(rig.client(), "m", BOB).await);
    assert_eq!(first.delete().await.status, 204);
    let fourth = Mcp::open(&rig, "m", BOB).await;
    assert_limited(&hello(rig.client(), "m", ALICE).await);
    assert_eq!(fourth.text("echo", json!({"text": "4"})).await, "4");
    assert_eq!(third.text("echo", json!({"text": "3"})).await, "3");
    drop(second);
}

#[tokio::test]
async fn instances_over_a_cap_are_429_and_what_runs_goes_on() {
    let rig = Rig::start(
        r#"
        [backends.m]
        command = ["misbehave"]
        max_instances = 1
        "#,
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for key in [ALICE, BOB] {
        assert_limited(&hello(rig.client(), "m", key).await);
        let refused = rig.client().get("/m/sse", key, &[]).await;
        refused.assert_refused(429, "too_many");
        assert_retry_after(&refused);
    }
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
}

/// An `initialize` that failed because of the backend.
fn assert_unavailable(reply: &Reply) {
    assert_eq!(reply.header("mcp-session-id"), None, "{reply:?}");
    reply.assert_error(200, &json!("hello"), -32011);
}

#[tokio::test]
async fn a_backend_that_does_not_start_is_unavailable_and_tells_nothing() {
    let rig = Rig::start(
        r#"
        [backends.missing]
        command = ["/usr/nowhere/no-such-server", "--token", "s3cr3t-argument"]
        env = { API_TOKEN = "s3cr3t-value" }
        restart = { backoff = "1ms", max_backoff = "2ms", give_up_after = 100 }
        [backends.exits]
        command = ["misbehave", "--exit-at-start", "3", "--marker", "s3cr3t-argument"]
        env = { API_TOKEN = "s3cr3t-value" }
        restart = { backoff = "1ms", max_backoff = "2ms", give_up_after = 100 }
        [backends.speaks]
        command = ["sh", "-c", "echo s3cr3t-value >&2; exit 1"]
        restart = { backoff = "1ms", max_backoff = "2ms", give_up_after = 100 }
        "#,
    )
    .await;
    for backend in ["missing", "exits", "speaks"] {
        let reply = hello(rig.client(), backend, ALICE).await;
        assert_unavailable(&reply);
        assert!(!format!("{reply:?}").contains("s3cr3t"), "{reply:?}");
        assert!(
            !format!("{reply:?}").contains("no-such-server"),
            "{reply:?}"
        );
    }
    let refused = rig.client().get("/missing/sse", ALICE, &[]).await;
    refused.assert_refused(503, "unavailable");
    assert_retry_after(&refused);
}

#[tokio::test]
async fn a_backend_that_refuses_initialize_says_so_itself_and_has_no_session() {
    let rig = Rig::start("[backends.m]\ncommand = [\"misbehave\", \"--refuse\"]").await;
    let reply = hello(rig.client(), "m", ALICE).await;
    assert_eq!(reply.header("mcp-session-id"), None, "{reply:?}");
    let error = reply.assert_error(200, &json!("hello"), -32603);
    assert_eq!(error["message"], "it will not start");
}

#[tokio::test]
async fn a_backend_that_never_answers_initialize_times_out() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\", \"--mute\"]\nstart_timeout = \"300ms\"",
    )
    .await;
    let reply = hello(rig.client(), "m", ALICE).await;
    assert_eq!(reply.header("mcp-session-id"), None, "{reply:?}");
    reply.assert_error(200, &json!("hello"), -32011);
}

#[tokio::test]
async fn an_open_circuit_is_said_at_once_with_the_time_to_wait() {
    let rig = Rig::start(
        r#"
        [backends.m]
        command = ["misbehave", "--exit-at-start", "1"]
        warm = 0
        restart = { backoff = "1ms", max_backoff = "90s", give_up_after = 1 }
        "#,
    )
    .await;
    assert_unavailable(&hello(rig.client(), "m", ALICE).await);
    // The client is told before the failure counts.
    let opens = async {
        while hello(rig.client(), "m", ALICE)
            .await
            .header("retry-after")
            .is_none()
        {}
    };
    soon("the circuit to open", opens).await;
    let assert_wait = |reply: &Reply| {
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((45..=90).contains(&seconds), "{reply:?}");
    };
    for key in [ALICE, BOB] {
        let reply = hello(rig.client(), "m", key).await;
        assert_unavailable(&reply);
        assert_wait(&reply);
        let refused = rig.client().get("/m/sse", key, &[]).await;
        refused.assert_refused(503, "unavailable");
        assert_wait(&refused);
    }
}

#[tokio::test]
async fn a_call_without_an_answer_in_time_is_an_error_and_is_cancelled_at_the_child() {
    let rig = Rig::start("[limits]\nrequest_timeout = \"1s\"").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let answer = mcp.call("slow", json!({"ms": 600_000})).await;
    crate::rig::client::assert_error(&answer, &answer["id"], -32012);
    let cancelled: Value = serde_json::from_str(&mcp.text("cancelled", json!({})).await).unwrap();
    assert_eq!(cancelled.as_array().unwrap().len(), 1, "{cancelled}");
}

#[tokio::test]
async fn a_crash_fails_the_calls_in_flight_and_ends_the_session() {
    let rig = Rig::start("").await;
    for how in ["exit", "abort", "segv"] {
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        let slow = tool_call(&json!("slow"), "slow", json!({"ms": 600_000})).to_string();
        let crash = tool_call(&json!("crash"), "crash", json!({"how": how})).to_string();
        // The slow call is with the child before the crash is.
        let mut stream = mcp.ask("POST").header("accept", "text/event-stream");
        stream = stream.json(slow);
        let mut stream = stream.events().await;
        let crashed = mcp.post(crash).await;
        crashed.assert_error(200, &json!("crash"), -32011);
        let answer = stream.message().await;
        crate::rig::client::assert_error(&answer, &json!("slow"), -32011);
        let reply = mcp
            .post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
            .await;
        reply.assert_refused(404, "not_found");
    }
    let mut sse = Sse::open(&rig, "m", ALICE).await;
    let answer = sse.call("crash", json!({})).await;
    crate::rig::client::assert_error(&answer, &answer["id"], -32011);
    assert_eq!(sse.events.next().await, None);
    let reply = sse
        .post(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .await;
    reply.assert_refused(404, "not_found");
}

#[tokio::test]
async fn a_draining_gateway_takes_nothing_new_and_says_when_to_come_back() {
    let mut rig = Rig::start("[server]\ndrain_timeout = \"20s\"").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let sse = Sse::open(&rig, "m", ALICE).await;
    let slow = tool_call(&json!("slow"), "slow", json!({"ms": 600_000}));
    let mut stream = mcp
        .ask("POST")
        .header("accept", "text/event-stream")
        .json(slow.to_string())
        .events()
        .await;
    // A connection for what comes: a gateway that drains accepts no further one.
    let client = rig.client().http2().await;
    rig.signal(nix::sys::signal::Signal::SIGTERM);
    rig.logged("drain").await;
    let health = client.ask("GET", "/healthz").send().await;
    assert_eq!((health.status, health.text()), (503, "draining"));
    let refused = [
        hello(&client, "m", ALICE).await,
        client.get("/m/sse", ALICE, &[]).await,
        client
            .post("/m/mcp", ALICE, &[("mcp-session-id", &mcp.session)], PING)
            .await,
        client.post(&sse.endpoint, ALICE, &[], PING).await,
    ];
    for reply in refused {
        reply.assert_refused(503, "draining");
        assert_retry_after(&reply);
    }
    // What is under way may still be cancelled.
    let cancel =
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}"#;
    let reply = client
        .post("/m/mcp", ALICE, &[("mcp-session-id", &mcp.session)], cancel)
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    stream.rest().await;
    assert_eq!(rig.ended().await, Some(0));
}

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

#[tokio::test]
async fn too_many_wrong_keys_from_an_address_are_429_and_a_key_that_was_good_stays_so() {
    let rig = Rig::start("[limits]\nfailed_auth = \"5/min\"").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    for _ in 0..5 {
        let reply = rig.client().get("/m/mcp", "wrong", &[]).await;
        reply.assert_refused(401, "unauthorized");
    }
    let reply = rig.client().get("/m/mcp", "wrong", &[]).await;
    reply.assert_refused(429, "rate_limited");
    assert_retry_after(&reply);
    // Nobody is locked out by what others guess, least of all in a session.
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    // And whoever sends no key at all has not guessed.
    let reply = rig.client().get("/m/mcp", "", &[]).await;
    reply.assert_refused(401, "unauthorized");
}

#[tokio::test]
async fn over_a_rate_a_call_in_a_session_fails_alone_and_all_else_is_429() {
    let rig = Rig::start(
        r#"
        [backends.m]
        command = ["misbehave"]
        [backends.m.limits]
        tools = { "pid" = "1/min" }
        [backends.slow]
        command = ["misbehave"]
        [backends.slow.limits]
        rate = "2/min"
        "#,
    )
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut sse = Sse::open(&rig, "m", BOB).await;
    let call = tool_call(&json!("over"), "pid", json!({}));
    assert_eq!(mcp.post(call.to_string()).await.status, 200);
    let over = mcp.post(call.to_string()).await;
    let error = over.assert_error(200, &json!("over"), -32013);
    assert_retry_after(&over);
    let seconds: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(error["data"], json!({"retry_after": seconds}));
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    // Each principal has a rate of his own; on HTTP+SSE the stream tells.
    assert!(sse.call("pid", json!({})).await["result"].is_object());
    let over = sse.call("pid", json!({})).await;
    let error = crate::rig::client::assert_error(&over, &over["id"], -32013);
    assert!(error["data"]["retry_after"].as_u64() >= Some(1), "{error}");

    // Opening a session counts, and so does what has no id.
    let hello = Mcp::open(&rig, "slow", ALICE).await;
    let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}).to_string();
    assert_eq!(hello.post(note.clone()).await.status, 202);
    let refused = hello.post(note).await;
    refused.assert_refused(429, "rate_limited");
    assert_retry_after(&refused);
    assert_limited(&self::hello(rig.client(), "slow", ALICE).await);
    let refused = rig.client().get("/slow/sse", ALICE, &[]).await;
    refused.assert_refused(429, "rate_limited");
    assert_retry_after(&refused);
    // What takes work away is never too much.
    let cancel = hello
        .notify("notifications/cancelled", json!({"requestId": "x"}))
        .await;
    assert_eq!(cancel.status, 202, "{cancel:?}");
}

#[tokio::test]
async fn over_a_concurrency_a_call_fails_alone_until_another_is_done() {
    let rig =
        Rig::start("[backends.m]\ncommand = [\"misbehave\"]\nlimits = { concurrency = 1 }").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let mut first = mcp
        .post_stream(&tool_call(&json!(1), "sample", json!({"prompt": "p"})))
        .await;
    let asked = first.message().await;
    let over = mcp
        .post(tool_call(&json!("over"), "echo", json!({})).to_string())
        .await;
    over.assert_error(200, &json!("over"), -32013);
    assert_retry_after(&over);
    let bob = Mcp::open(&rig, "m", BOB).await;
    assert_eq!(bob.text("echo", json!({"text": "on"})).await, "on");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}});
    assert_eq!(mcp.post(answer.to_string()).await.status, 202);
    assert_eq!(first.message().await["id"], 1);
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
}

#[tokio::test]
async fn a_child_that_stops_reading_has_too_much_to_do_and_says_so() {
    let rig = Rig::start("[limits]\nmax_body = \"256KiB\"").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(mcp.text("deaf", json!({})).await, "done");
    let text = "a".repeat(192 << 10);
    let mut calls = Vec::new();
    let filling = async {
        for id in 0.. {
            let call = tool_call(&json!(id), "echo", json!({"text": text})).to_string();
            let ask = mcp
                .ask("POST")
                .header("accept", "text/event-stream")
                .json(call);
            let mut events = ask.events().await;
            if let Some(retry) = events.header("retry-after") {
                assert!(
                    retry.parse::<u64>().is_ok_and(|seconds| seconds >= 1),
                    "{retry}"
                );
                let busy = events.message().await;
                return crate::rig::client::assert_error(&busy, &json!(id), -32013);
            }
            calls.push(events);
        }
        unreachable!("it takes everything")
    };
    let error = soon("the queue to be full", filling).await;
    assert_eq!(error["data"], json!({"retry_after": 1}));
}
