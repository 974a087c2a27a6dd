//! Requests that two readers could understand in two ways: refused, and nothing behind them is
//! taken for a request.

use h2::client::SendRequest;
use http::{Method, Request};
use serde_json::json;

use crate::rig::{
    ALICE, Rig,
    events_log::{LOGGED, noted},
    mcp::{Mcp, initialize},
    raw::{self, Raw},
    soon,
};

/// A request that an attacker would like to have taken for one of its own.
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn post(headers: &str, body: &str) -> String {
    format!(
        "POST /m/mcp HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {ALICE}\r\n\
         Content-Type: application/json\r\n{headers}\r\n{body}"
    )
}

/// One refusal with this status, and the connection closed behind it.
fn assert_closed(answer: &str, statuses: &[u16], what: &str) {
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: {answer}");
    let status: u16 = answer[9..12]
        .parse()
        .unwrap_or_else(|_| panic!("{what}: {answer}"));
    assert!(statuses.contains(&status), "{what}: {answer}");
    let head = answer.to_lowercase();
    assert!(head.contains("connection: close"), "{what}: {answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{what}: {answer}"));
    let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["error", "message"], "{what}: {answer}");
}

#[tokio::test]
async fn a_body_whose_length_is_ambiguous_is_refused_and_ends_the_connection() {
    let rig = Rig::start("").await;
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    for (headers, body) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            &chunked,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            &chunked,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            &chunked,
        ),
        (
            "Content-Length: 0\r\nContent-Length: 60\r\n",
            &HIDDEN.to_owned(),
        ),
        (
            "Content-Length: 0\r\nContent-Length: 0\r\n",
            &HIDDEN.to_owned(),
        ),
        ("Content-Length: 0, 0\r\n", &HIDDEN.to_owned()),
        ("Content-Length: +0\r\n", &HIDDEN.to_owned()),
        ("Content-Length: -1\r\n", &HIDDEN.to_owned()),
        ("Content-Length: 0x0\r\n", &HIDDEN.to_owned()),
        ("Content-Length:\r\n", &HIDDEN.to_owned()),
        ("Content-Length: 0 0\r\n", &HIDDEN.to_owned()),
        (
            "Content-Length: 18446744073709551616\r\n",
            &HIDDEN.to_owned(),
        ),
        ("Content-Length : 0\r\n", &HIDDEN.to_owned()),
        (
            "Content-Length: 0\r\n Transfer-Encoding: chunked\r\n",
            &chunked,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            &chunked,
        ),
        ("Transfer-Encoding: chunked, chunked\r\n", &chunked),
        ("Transfer-Encoding: gzip, chunked\r\n", &chunked),
        ("Transfer-Encoding: identity\r\n", &chunked),
        ("Transfer-Encoding: chunked, identity\r\n", &chunked),
        ("Transfer-Encoding: xchunked\r\n", &chunked),
        ("Transfer-Encoding: \"chunked\"\r\n", &chunked),
        ("Transfer-Encoding: \u{b}chunked\r\n", &chunked),
        ("Transfer-Encoding : chunked\r\n", &chunked),
        ("Transfer-Encoding\r\n : chunked\r\n", &chunked),
        ("Transfer-Encoding: chunked\r\nX: a\nb: c\r\n", &chunked),
    ] {
        let answer = raw::exchange(&rig, post(headers, body).as_bytes()).await;
        assert_closed(&answer, &[400, 501], headers);
        assert!(!answer.contains("\r\n\r\nok"), "{headers}: {answer}");
    }
}

#[tokio::test]
async fn a_body_whose_chunks_are_malformed_is_refused() {
    let rig = Rig::start("").await;
    for body in [
        "x\r\n",
        "-1\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "1\na\r\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "\r\n1\r\na\r\n0\r\n\r\n",
        "0\r\nX: y\n\r\n",
    ] {
        let request = post("Transfer-Encoding: chunked\r\n", &format!("{body}{HIDDEN}"));
        let answer = raw::exchange(&rig, request.as_bytes()).await;
        assert!(!answer.contains("\r\n\r\nok"), "{body:?}: {answer}");
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{body:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_head_that_is_no_head_is_refused_and_ends_the_connection() {
    let rig = Rig::start("").await;
    for head in [
        "GET  /m/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /m/mcp  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /m/mcp\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /m mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /m/mcp\r\nHost: localhost\r\n\r\n",
        "GET m/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /m/\u{e9} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /m/mcp\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "G@T /m/mcp HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /m/mcp HTTP/1.1\nHost: localhost\n\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\r\n X: a\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\n Host: localhost\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\r\nX: a\r\n\tb\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\r\n: a\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: localhost\r\nX(y): a\r\n\r\n",
    ] {
        let answer = raw::exchange(&rig, format!("{head}{HIDDEN}").as_bytes()).await;
        assert_closed(&answer, &[400], head);
    }
    for version in [
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/3",
        "HTTP/0.9",
        "HTTP/1.10",
        "http/1.1",
    ] {
        let head = format!("GET /m/mcp {version}\r\nHost: localhost\r\n\r\n{HIDDEN}");
        let answer = raw::exchange(&rig, head.as_bytes()).await;
        assert_closed(&answer, &[400, 505], version);
    }
    // What is no HTTP at all.
    for noise in [
        "\u{16}\u{3}\u{1}\u{2}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n\r\n",
    ] {
        let answer = raw::exchange(&rig, noise.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{noise:?}: {answer}");
    }
}

#[tokio::test]
async fn tunnels_and_upgrades_are_refused() {
    let rig = Rig::start("").await;
    let own = rig.address();
    for head in [
        format!("CONNECT {own} HTTP/1.1\r\nHost: {own}\r\n\r\n"),
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n".to_owned(),
        format!("CONNECT /m/mcp HTTP/1.1\r\nHost: {own}\r\n\r\n"),
        format!(
            "GET /m/mcp HTTP/1.1\r\nHost: {own}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        ),
        format!(
            "GET /healthz HTTP/1.1\r\nHost: {own}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
        ),
        format!("GET /healthz HTTP/1.1\r\nHost: {own}\r\nUpgrade: TLS/1.2\r\n\r\n"),
    ] {
        let answer = raw::exchange(&rig, format!("{head}{HIDDEN}").as_bytes()).await;
        assert_closed(&answer, &[400, 421], &head);
        assert!(!answer.contains(" 101 "), "{answer}");
    }
}

#[tokio::test]
async fn a_target_in_another_form_is_the_path_in_it_or_nothing() {
    let rig = Rig::start("").await;
    let own = rig.address();
    for (target, status) in [
        (format!("https://{own}/healthz"), "200"),
        (format!("http://{own}/healthz"), "200"),
        (format!("https://{own}/m/mcp"), "401"),
        (format!("https://{own}"), "401"),
        ("*".to_owned(), "401"),
        ("/healthz?x=y".to_owned(), "200"),
        ("/healthz/".to_owned(), "401"),
        ("//healthz".to_owned(), "401"),
        ("/./healthz".to_owned(), "401"),
        ("/x/../healthz".to_owned(), "401"),
        ("/%68ealthz".to_owned(), "401"),
        ("/healthz%00".to_owned(), "401"),
        ("/healthz;x".to_owned(), "401"),
        ("/.well-known/../m/mcp".to_owned(), "404"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(&rig, head.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{target}: {answer}"
        );
    }
}

#[tokio::test]
async fn requests_one_behind_the_other_are_answered_in_order() {
    let rig = Rig::start("").await;
    let mut raw = Raw::connect(&rig).await;
    let body = initialize("2025-11-25").to_string();
    let one = post(&format!("Content-Length: {}\r\n", body.len()), &body);
    let two = "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
    raw.write(format!("{one}{two}{HIDDEN}").as_bytes()).await;
    let answers = [
        raw.read_answer().await,
        raw.read_answer().await,
        raw.read_answer().await,
    ];
    assert!(answers[0].starts_with("HTTP/1.1 200 "), "{}", answers[0]);
    assert!(answers[1].starts_with("HTTP/1.1 401 "), "{}", answers[1]);
    assert!(answers[2].ends_with("\r\n\r\nok"), "{}", answers[2]);
}

#[tokio::test]
async fn a_body_that_was_refused_unread_is_not_taken_for_the_next_request() {
    let rig = Rig::start("[limits]\nmax_body = \"1KiB\"").await;
    for (headers, status) in [
        (
            "Content-Type: application/json\r\nX-API-Key: wrong\r\n",
            "401",
        ),
        (
            "Content-Type: text/plain\r\nX-API-Key: alice-has-a-key-of-her-own\r\n",
            "415",
        ),
        (
            "Content-Type: application/json\r\nX-API-Key: alice-has-a-key-of-her-own\r\n",
            "413",
        ),
    ] {
        let body = format!("{HIDDEN}{}", HIDDEN.repeat(40));
        let request = format!(
            "POST /m/mcp HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut raw = Raw::connect(&rig).await;
        raw.write(request.as_bytes()).await;
        raw.write(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await;
        let answer = raw.read_to_end().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(!answer.contains("\r\n\r\nok"), "{answer}");
    }
}

#[tokio::test]
async fn chunks_with_extensions_and_trailers_are_one_body() {
    let rig = Rig::start("").await;
    let body = initialize("2025-11-25").to_string();
    let (one, two) = body.split_at(20);
    let chunks = format!(
        "{:x}\r\n{one}\r\n{:X}\r\n{two}\r\n0\r\nX-Trailer: yes\r\n\r\n",
        one.len(),
        two.len()
    );
    let request = post(
        "Transfer-Encoding: chunked\r\nConnection: close\r\n",
        &chunks,
    );
    let answer = raw::exchange(&rig, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

async fn http2(rig: &Rig) -> SendRequest<bytes::Bytes> {
    let io = rig.client().connect(&[b"h2"]).await;
    let (sender, connection) = h2::client::handshake(io).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// The status of a request that no client library would send; `None`: its stream was reset.
async fn http2_status(rig: &Rig, request: Request<()>) -> Option<u16> {
    let sender = http2(rig).await;
    let mut sender = soon("room for a stream", sender.ready()).await.ok()?;
    let (response, _) = sender.send_request(request, true).ok()?;
    let response = soon("an answer", response).await.ok()?;
    Some(response.status().as_u16())
}

#[tokio::test]
async fn over_http2_too_what_is_ambiguous_is_refused() {
    let rig = Rig::start("").await;
    let own = rig.address();
    let build = |method: Method, uri: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    };
    let health = format!("https://{own}/healthz");
    let refused = [
        build(Method::CONNECT, &own.to_string(), &[]),
        build(Method::GET, &health, &[("connection", "keep-alive")]),
        build(Method::GET, &health, &[("transfer-encoding", "chunked")]),
        build(Method::GET, &health, &[("upgrade", "websocket")]),
        build(Method::GET, &health, &[("te", "gzip")]),
        build(Method::GET, &health, &[("host", "evil.example")]),
        build(Method::GET, &health, &[("content-length", "5")]),
        build(Method::GET, "https://evil.example/healthz", &[]),
    ];
    for request in refused {
        let what = format!("{request:?}");
        let status = http2_status(&rig, request).await;
        assert!(
            matches!(status, None | Some(400 | 421)),
            "{what}: {status:?}"
        );
    }
    let good = build(
        Method::GET,
        &health,
        &[("host", &own.to_string()), ("te", "trailers")],
    );
    assert_eq!(http2_status(&rig, good).await, Some(200));
    // The gateway is none the worse.
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
}

#[tokio::test]
async fn over_http2_a_head_far_too_large_is_431_and_stands_in_the_log() {
    let rig = Rig::start(LOGGED).await;
    let http2 = rig.client().http2().await;
    for (count, size) in [(1, 20), (2, 40), (3, 70), (4, 150)] {
        let large = "a".repeat(size << 10);
        let ask = http2.ask("GET", "/m/mcp").key(ALICE);
        let reply = ask.header("x-large", large).send().await;
        reply.assert_refused(431, "headers_too_large");
        let denied = json!({"event": "denied", "rule": "headers_too_large", "status": "431"});
        noted(&rig, count, denied).await;
    }
    // Beyond all measure there is no answer, but a line.
    let endless = Request::builder()
        .uri(format!("https://{}/m/mcp", rig.address()))
        .header("x-large", "a".repeat(2 << 20));
    let endless = endless.body(()).unwrap();
    assert_eq!(http2_status(&rig, endless).await, None);
    let denied = json!({
        "event": "denied", "rule": "http2_overrun", "status": "connection ended",
    });
    noted(&rig, 1, denied).await;
    let health = http2.ask("GET", "/healthz").send().await;
    assert_eq!(health.status, 200, "{health:?}");
}
