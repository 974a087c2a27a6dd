//! Who is let in: keys, and what happens without a good one.

use crate::rig::{ALICE, BOB, CAROL, Rig, client::Reply, mcp::Mcp};

const PATHS: &[&str] = &[
    "/m/mcp",
    "/m/mcp/",
    "/m/sse",
    "/m/messages",
    "/m/messages?session_id=AAAAAAAAAAAAAAAAAAAAAA",
    "/m",
    "/m/",
    "/m/nothing",
    "/m/mcp/further",
    "/unknown/mcp",
    "/unknown/sse",
    "/unknown/messages",
    "/nothing",
    "/",
];
const METHODS: &[&str] = &[
    "GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "TRACE", "PURGE",
];

fn assert_unauthorized(reply: &Reply, challenge: &str) {
    reply.assert_refused(401, "unauthorized");
    assert_eq!(
        reply.header("www-authenticate"),
        Some(challenge),
        "{reply:?}"
    );
}

#[tokio::test]
async fn without_a_key_every_path_and_method_is_the_same_401() {
    let rig = Rig::start("").await;
    let first = rig.client().ask("GET", "/m/mcp").send().await;
    assert_unauthorized(&first, r#"Bearer realm="gatehouse""#);
    for path in PATHS {
        for method in METHODS {
            let reply = rig.client().ask(method, path).send().await;
            assert_eq!(
                reply.without_date(),
                first.without_date(),
                "{method} {path}"
            );
        }
        let head = rig.client().ask("HEAD", path).send().await;
        assert_eq!((head.status, head.body.len()), (401, 0), "HEAD {path}");
        assert_eq!(
            head.header("www-authenticate"),
            first.header("www-authenticate")
        );
    }
}

#[tokio::test]
async fn without_a_key_every_path_is_401_over_http2_too() {
    let rig = Rig::start("").await;
    let client = rig.client().http2().await;
    for path in PATHS {
        let reply = client.ask("POST", path).json("{}").send().await;
        assert_unauthorized(&reply, r#"Bearer realm="gatehouse""#);
    }
}

#[tokio::test]
async fn a_key_that_is_not_good_is_the_same_401_whatever_is_wrong_with_it() {
    let rig = Rig::start(
        r#"
        [limits]
        failed_auth = "10000/min"
        [[auth.keys]]
        name = "dora"
        key = "dora-had-a-key-once"
        roles = ["all"]
        expires = 2020-01-01T00:00:00Z
        "#,
    )
    .await;
    let long = format!("Bearer {}", "k".repeat(5000));
    let mut cases = BAD_CREDENTIALS.to_vec();
    let long = [("authorization", long.as_str())];
    cases.push(&long);
    let mut first: Option<Reply> = None;
    for headers in cases {
        let ask = rig.client().ask("GET", "/m/mcp").headers(headers);
        let reply = ask.send().await;
        assert_unauthorized(&reply, r#"Bearer realm="gatehouse", error="invalid_token""#);
        let first = first.get_or_insert_with(|| reply.clone());
        assert_eq!(reply.without_date(), first.without_date(), "{headers:?}");
    }
    let plain = rig.client().ask("GET", "/m/mcp").send().await;
    for value in OTHER_SCHEMES {
        let ask = rig.client().ask("GET", "/m/mcp");
        let reply = ask.header("authorization", value).send().await;
        // Nothing was sent that could be a bad token.
        assert_unauthorized(&reply, r#"Bearer realm="gatehouse""#);
        assert_eq!(reply.without_date(), plain.without_date(), "{value}");
    }
    rig.logged("expired").await;
    for secret in ["nobody-has-this-key", "dora-had-a-key-once", ALICE, BOB] {
        assert!(!rig.log().contains(secret), "{secret} is in the log");
    }
}

/// What may stand in a request instead of one good key.
const BAD_CREDENTIALS: &[&[(&str, &str)]] = &[
    &[("authorization", "Bearer nobody-has-this-key")],
    &[("authorization", "Bearer dora-had-a-key-once")],
    &[("x-api-key", "dora-had-a-key-once")],
    &[("authorization", "Bearer alice-has-a-key-of-her-ow")],
    &[("authorization", "Bearer alice-has-a-key-of-her-ownx")],
    &[("authorization", "Bearer alice-has-a-key-of-her-own x")],
    &[("authorization", "Bearer ALICE-HAS-A-KEY-OF-HER-OWN")],
    &[(
        "authorization",
        "Bearer alice-has-a-key-of-her-own, Bearer x",
    )],
    &[("authorization", "Bearer \u{e9}")],
    &[("x-api-key", "nobody-has-this-key")],
    &[("x-api-key", "")],
    &[("x-api-key", "\u{e9}")],
    &[("x-api-key", "alice-has-a-key-of-her-own x")],
    &[("x-api-key", ALICE), ("x-api-key", ALICE)],
    &[("x-api-key", ALICE), ("x-api-key", BOB)],
    &[
        ("authorization", BEARER_ALICE),
        ("authorization", BEARER_ALICE),
    ],
    &[("authorization", BEARER_ALICE), ("x-api-key", BOB)],
    &[("authorization", BEARER_ALICE), ("x-api-key", "wrong")],
    &[("authorization", "Bearer wrong"), ("x-api-key", ALICE)],
    &[("authorization", "Basic x"), ("x-api-key", ALICE)],
];

/// What says nothing about a key or token.
const OTHER_SCHEMES: &[&str] = &[
    "Token alice-has-a-key-of-her-own",
    "Basic YWxpY2U6YWxpY2UtaGFzLWEta2V5LW9mLWhlci1vd24=",
    "DPoP alice-has-a-key-of-her-own",
    ALICE,
    "Bearer",
    "Bearer ",
    "",
];

const BEARER_ALICE: &str = "Bearer alice-has-a-key-of-her-own";

#[tokio::test]
async fn a_key_in_the_query_or_a_cookie_is_no_key() {
    let rig = Rig::start("").await;
    for name in ["key", "api_key", "access_token", "token", "authorization"] {
        let path = format!("/m/mcp?{name}={ALICE}");
        let reply = rig.client().ask("GET", &path).send().await;
        assert_unauthorized(&reply, r#"Bearer realm="gatehouse""#);
    }
    let cookie = format!("access_token={ALICE}");
    let ask = rig.client().ask("GET", "/m/mcp").header("cookie", &cookie);
    assert_unauthorized(&ask.send().await, r#"Bearer realm="gatehouse""#);
}

#[tokio::test]
async fn a_good_key_is_taken_in_every_spelling_that_is_allowed() {
    let rig = Rig::start("").await;
    let (lower, upper) = (format!("bearer {ALICE}"), format!("BEARER   {ALICE} "));
    let cases: &[&[(&str, &str)]] = &[
        &[("authorization", BEARER_ALICE)],
        &[("authorization", &lower)],
        &[("authorization", &upper)],
        &[("x-api-key", ALICE)],
        &[("authorization", BEARER_ALICE), ("x-api-key", ALICE)],
    ];
    for headers in cases {
        let reply = rig
            .client()
            .ask("GET", "/m/nothing")
            .headers(headers)
            .send()
            .await;
        reply.assert_refused(404, "not_found");
    }
}

#[tokio::test]
async fn authentication_comes_before_everything_about_the_request() {
    let rig = Rig::start("[limits]\nmax_body = \"1KiB\"").await;
    let client = rig.client();
    let cases = [
        client.ask("PUT", "/m/mcp"),
        client
            .ask("POST", "/m/mcp")
            .header("content-type", "text/plain"),
        client
            .ask("POST", "/m/mcp")
            .header("accept", "image/png")
            .json("{}"),
        client.ask("POST", "/m/mcp").json("{"),
        client.ask("POST", "/m/mcp").json("a".repeat(2000)),
        client
            .ask("POST", "/m/mcp")
            .header("mcp-session-id", "x")
            .json("{}"),
        client
            .ask("GET", "/m/mcp")
            .header("mcp-protocol-version", "1"),
    ];
    for ask in cases {
        assert_unauthorized(&ask.send().await, r#"Bearer realm="gatehouse""#);
    }
}

#[tokio::test]
async fn without_a_role_for_it_a_backend_is_403_and_a_backend_that_is_not_there_404() {
    let rig = Rig::start(
        r#"
        [[auth.keys]]
        name = "eve"
        key = "eve-may-use-the-other-one"
        roles = ["other", "all-but-undefined-elsewhere"]
        [roles.other]
        other = {}
        [roles.all-but-undefined-elsewhere]
        other = { tools = ["none"] }
        [backends.m]
        command = ["misbehave"]
        [backends.other]
        command = ["misbehave"]
        "#,
    )
    .await;
    for key in [CAROL, "eve-may-use-the-other-one"] {
        for (method, path) in [
            ("POST", "/m/mcp"),
            ("GET", "/m/mcp"),
            ("DELETE", "/m/mcp"),
            ("PUT", "/m/mcp"),
            ("GET", "/m/sse"),
            ("POST", "/m/messages"),
        ] {
            let reply = rig.client().ask(method, path).key(key).send().await;
            reply.assert_refused(403, "forbidden");
            assert_eq!(reply.header("www-authenticate"), None);
        }
        for path in ["/unknown/mcp", "/nothing", "/", "/m/nothing", "/m"] {
            let reply = rig.client().get(path, key, &[]).await;
            reply.assert_refused(404, "not_found");
        }
    }
    Mcp::open(&rig, "other", "eve-may-use-the-other-one").await;
}

#[tokio::test]
async fn anonymous_requests_are_let_in_only_where_no_key_is_shown() {
    let rig = Rig::start("[auth]\nanonymous = true").await;
    let mcp = Mcp::open(&rig, "m", "").await;
    assert_eq!(
        mcp.text("echo", serde_json::json!({"text": "hello"})).await,
        "hello"
    );
    let wrong = rig.client().post("/m/mcp", "wrong", &[], "{}").await;
    assert_unauthorized(&wrong, r#"Bearer realm="gatehouse", error="invalid_token""#);
    // A session of nobody's is not one of alice's.
    let ask = rig.client().ask("DELETE", "/m/mcp").key(ALICE);
    let reply = ask.header("mcp-session-id", &mcp.session).send().await;
    reply.assert_refused(404, "not_found");
    assert_eq!(mcp.delete().await.status, 204);
}

#[tokio::test]
async fn what_needs_no_key_tells_nothing_more_than_it_must() {
    let rig = Rig::start("").await;
    let health = rig.client().ask("GET", "/healthz").send().await;
    assert_eq!((health.status, health.text()), (200, "ok"));
    for header in ["server", "x-powered-by", "via", "www-authenticate"] {
        assert_eq!(health.header(header), None);
    }
    let head = rig.client().ask("HEAD", "/healthz").send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let reply = rig.client().ask(method, "/healthz").send().await;
        reply.assert_refused(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    }
    // Clients look for metadata without a key; where there is none they want a plain 404.
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/m/mcp",
        "/.well-known/oauth-protected-resource/unknown/mcp",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/m/mcp/.well-known/oauth-protected-resource",
        "/authorize",
        "/token",
        "/register",
    ] {
        let reply = rig.client().ask("GET", path).send().await;
        reply.assert_refused(404, "not_found");
    }
}
