//! Which pages may talk to the gateway, and under which names it answers.

use crate::rig::{ALICE, Rig, client::Reply, mcp::initialize, raw};

const APP: &str = "https://app.example.com";

async fn rig() -> Rig {
    Rig::start(
        r#"
        [server]
        public_url = "https://mcp.example.com/gate"
        allowed_origins = ["https://app.example.com", "http://localhost:3000"]
        "#,
    )
    .await
}

fn assert_no_cors(reply: &Reply) {
    let cors = |name: &&str| name.starts_with("access-control-");
    let names: Vec<&str> = reply.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names.into_iter().find(cors), None, "{reply:?}");
}

#[tokio::test]
async fn a_foreign_origin_is_403_on_every_path_and_method_and_before_authentication() {
    let rig = rig().await;
    let port = rig.address().port();
    let other_port = format!("https://localhost:{}", port.wrapping_add(1));
    let origins = [
        "https://evil.example",
        "null",
        "",
        "file://",
        "https://app.example.com.evil.example",
        "https://evil.example/https://app.example.com",
        "https://app.example.com:444",
        "http://app.example.com",
        "https://app.example.com/",
        "https://app.example.com https://evil.example",
        "http://localhost",
        "http://localhost:3001",
        "https://127.0.0.1",
        "https://user@app.example.com",
        &other_port,
    ];
    for origin in origins {
        for key in ["", ALICE] {
            let ask = rig
                .client()
                .ask("POST", "/m/mcp")
                .key(key)
                .header("origin", origin);
            let reply = ask.json(initialize("2025-11-25").to_string()).send().await;
            reply.assert_refused(403, "origin_not_allowed");
            assert_no_cors(&reply);
        }
    }
    for path in [
        "/m/mcp",
        "/m/sse",
        "/m/messages",
        "/nothing",
        "/",
        "/unknown/sse",
    ] {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "PUT"] {
            let ask = rig.client().ask(method, path).key(ALICE);
            let reply = ask.header("origin", "https://evil.example").send().await;
            reply.assert_refused(403, "origin_not_allowed");
            assert_no_cors(&reply);
        }
    }
    let http2 = rig.client().http2().await;
    let ask = http2.ask("GET", "/m/sse").key(ALICE);
    let reply = ask.header("origin", "https://evil.example").send().await;
    reply.assert_refused(403, "origin_not_allowed");
}

#[tokio::test]
async fn two_origins_are_403_even_if_both_are_allowed() {
    let rig = rig().await;
    let ask = rig.client().ask("GET", "/m/mcp").key(ALICE);
    let reply = ask.header("origin", APP).header("origin", APP).send().await;
    reply.assert_refused(403, "origin_not_allowed");
}

#[tokio::test]
async fn an_absent_origin_and_our_own_pass_without_cors() {
    let rig = rig().await;
    let own = format!("https://{}", rig.address());
    let local = format!("https://localhost:{}", rig.address().port());
    for origin in [
        None,
        Some(own.as_str()),
        Some(&local),
        Some("https://mcp.example.com"),
    ] {
        let mut ask = rig.client().ask("POST", "/m/mcp").key(ALICE);
        if let Some(origin) = origin {
            ask = ask.header("origin", origin);
        }
        let reply = ask.json(initialize("2025-11-25").to_string()).send().await;
        assert_eq!(reply.status, 200, "{origin:?}: {reply:?}");
        assert_no_cors(&reply);
    }
}

#[tokio::test]
async fn an_allowed_origin_may_read_every_answer_and_the_headers_it_needs() {
    let rig = rig().await;
    for origin in [APP, "http://localhost:3000"] {
        let ask = rig
            .client()
            .ask("POST", "/m/mcp")
            .key(ALICE)
            .header("origin", origin);
        let hello = ask.json(initialize("2025-11-25").to_string()).send().await;
        assert_eq!(hello.status, 200, "{hello:?}");
        let refused = rig
            .client()
            .ask("GET", "/m/mcp")
            .header("origin", origin)
            .send()
            .await;
        refused.assert_refused(401, "unauthorized");
        let missing = rig
            .client()
            .get("/nothing", ALICE, &[("origin", origin)])
            .await;
        missing.assert_refused(404, "not_found");
        let ask = rig
            .client()
            .ask("GET", "/m/sse")
            .key(ALICE)
            .header("origin", origin);
        let stream = ask.events().await;
        assert_eq!(stream.header("access-control-allow-origin"), Some(origin));
        for reply in [hello, refused, missing] {
            assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
            assert_eq!(reply.header("vary"), Some("Origin"));
            assert_eq!(reply.header("access-control-allow-credentials"), None);
            let exposed = reply
                .header("access-control-expose-headers")
                .unwrap_or_default();
            for name in ["Mcp-Session-Id", "WWW-Authenticate"] {
                assert!(exposed.contains(name), "{exposed}");
            }
        }
    }
}

#[tokio::test]
async fn a_preflight_of_an_allowed_origin_grants_what_clients_send_and_no_more() {
    let rig = rig().await;
    let asked = "authorization, x-api-key, content-type, accept, last-event-id, mcp-session-id, \
                 Mcp-Protocol-Version, mcp-method, x-evil, cookie";
    for path in ["/m/mcp", "/m/sse", "/m/messages"] {
        let preflight = |origin: &str| {
            rig.client()
                .ask("OPTIONS", path)
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", asked)
        };
        let reply = preflight(APP).send().await;
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), Some(APP));
        let vary = reply.header("vary").unwrap_or_default();
        assert!(vary.contains("Origin"), "{reply:?}");
        let methods = reply
            .header("access-control-allow-methods")
            .unwrap_or_default();
        assert_eq!(methods, "GET, POST, DELETE");
        let headers = reply
            .header("access-control-allow-headers")
            .unwrap_or_default();
        assert_eq!(
            headers.to_lowercase(),
            "authorization, x-api-key, content-type, accept, last-event-id, mcp-session-id, \
             mcp-protocol-version, mcp-method"
        );
        let foreign = preflight("https://evil.example").send().await;
        foreign.assert_refused(403, "origin_not_allowed");
        assert_no_cors(&foreign);
    }
    // Without an origin it is no page that asks.
    let ask = rig.client().ask("OPTIONS", "/m/mcp");
    let reply = ask
        .header("access-control-request-method", "POST")
        .send()
        .await;
    assert!(matches!(reply.status, 401 | 403), "{reply:?}");
    assert_no_cors(&reply);
}

#[tokio::test]
async fn a_foreign_host_is_421_before_authentication() {
    let rig = rig().await;
    for host in [
        "evil.example",
        "mcp.example.com.evil.example",
        "xmcp.example.com",
        "127.0.0.2",
        "[::1]",
        "localhost.evil.example:8443",
        "0.0.0.0",
        "2130706433",
        "evil.example:443",
        "mcp.example.com@evil.example",
        "",
    ] {
        for key in ["", ALICE] {
            for path in ["/m/mcp", "/nothing", "/m/sse"] {
                let ask = rig.client().ask("GET", path).key(key).header("host", host);
                ask.send().await.assert_refused(421, "host_not_allowed");
            }
        }
    }
}

#[tokio::test]
async fn every_name_of_ours_and_the_address_itself_are_good_hosts() {
    let rig = rig().await;
    let port = rig.address().port();
    for host in [
        format!("127.0.0.1:{port}"),
        "127.0.0.1".to_owned(),
        format!("localhost:{port}"),
        "LOCALHOST".to_owned(),
        "mcp.example.com".to_owned(),
        "Mcp.Example.Com:443".to_owned(),
    ] {
        let ask = rig
            .client()
            .ask("GET", "/nothing")
            .key(ALICE)
            .header("host", &host);
        ask.send().await.assert_refused(404, "not_found");
    }
}

#[tokio::test]
async fn allowed_hosts_replace_the_names_that_are_known_by_default() {
    let rig = Rig::start("[server]\nallowed_hosts = [\"gate.internal\"]").await;
    let ask = |host: &str| {
        rig.client()
            .ask("GET", "/nothing")
            .key(ALICE)
            .header("host", host)
    };
    ask("gate.internal")
        .send()
        .await
        .assert_refused(404, "not_found");
    let own = rig.address().to_string();
    for other in ["localhost", "127.0.0.1", &own] {
        let reply = ask(other).send().await;
        reply.assert_refused(421, "host_not_allowed");
    }
}

#[tokio::test]
async fn a_request_without_a_host_or_with_two_is_refused() {
    let rig = rig().await;
    for head in [
        "GET /m/mcp HTTP/1.1\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n",
        "GET /m/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        "GET /m/mcp HTTP/1.0\r\n\r\n",
    ] {
        let answer = raw::exchange(&rig, head.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.0 400 "),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_target_that_names_another_host_than_the_header_is_refused() {
    let rig = rig().await;
    let own = rig.address();
    for (target, host, status) in [
        (format!("https://{own}/nothing"), own.to_string(), "404"),
        (
            "https://evil.example/nothing".to_owned(),
            own.to_string(),
            "421",
        ),
        (
            format!("https://{own}/nothing"),
            "evil.example".to_owned(),
            "421",
        ),
        (
            "https://evil.example/nothing".to_owned(),
            "evil.example".to_owned(),
            "421",
        ),
        (
            "http://mcp.example.com/nothing".to_owned(),
            "localhost".to_owned(),
            "421",
        ),
    ] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {ALICE}\r\nConnection: close\r\n\r\n"
        );
        let answer = raw::exchange(&rig, request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{target}: {answer}"
        );
    }
}
