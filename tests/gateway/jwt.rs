//! Tokens: which are good, what they let their bearer do, and everything that was tried with them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    events_log::{LOGGED, events, noted, text},
    issuer::{AUDIENCE, Issuer, now},
    mcp::{Mcp, Sse, tool_call},
};

const ISSUER: &str = "https://login.example/realm";

/// Roles of which each has its use below.
const ROLES: &str = r#"
[server]
public_url = "https://mcp.example.com"
[limits]
failed_auth = "100000/min"
[roles.reader]
m = { tools = ["echo", "env"] }
[roles.writer]
m = { tools = ["slow*"] }
[roles.other]
other = {}
[backends.m]
command = ["misbehave"]
[backends.m.filter]
tools = { deny = ["slow-hidden"] }
[backends.other]
command = ["misbehave"]
"#;

async fn start(issuer: &Issuer, more: &str) -> Rig {
    let config = format!("{LOGGED}{}{ROLES}", issuer.config(more));
    Rig::start(&config).await
}

fn challenge(error: &str, path: &str, scope: &str) -> String {
    let scope = match scope {
        "" => String::new(),
        scope => format!(", scope=\"{scope}\""),
    };
    format!(
        "Bearer realm=\"gatehouse\"{error}, resource_metadata=\"https://mcp.example.com/\
         .well-known/oauth-protected-resource{path}\"{scope}"
    )
}

#[tokio::test]
async fn a_token_is_its_subject_with_the_roles_that_it_names() {
    let issuer = Issuer::new(ISSUER);
    let rig = start(&issuer, "").await;
    for (alg, kid) in [("EdDSA", "ed"), ("ES256", "ec"), ("RS256", "rsa")] {
        for kind in [
            r#","typ":"at+jwt""#,
            r#","typ":"application/AT+JWT""#,
            r#","typ":"JWT""#,
            "",
        ] {
            let header = format!(r#"{{"alg":"{alg}","kid":"{kid}"{kind}}}"#);
            let claims = issuer.claims("sub-1", "openid reader unknown").to_string();
            let token = issuer.sign_text(&header, &claims);
            let mcp = Mcp::open(&rig, "m", &token).await;
            let said = mcp.text("echo", json!({"text": "hello"})).await;
            assert_eq!(said, "hello");
        }
    }
    let opened = events(&rig, &json!({"event": "session.open"}));
    assert_eq!(opened.len(), 12);
    for event in opened {
        assert_eq!(
            (&event["principal"], &event["auth"]),
            (&json!("sub-1"), &json!("jwt"))
        );
    }
    // Keys are as good as ever, tokens in the header for keys are not.
    Mcp::open(&rig, "m", ALICE).await;
    let token = issuer.token("sub-1", "reader");
    let ask = rig
        .client()
        .ask("GET", "/m/mcp")
        .header("x-api-key", &token);
    ask.send().await.assert_refused(401, "unauthorized");
    let path = format!("/m/mcp?access_token={token}");
    let query = rig.client().ask("GET", &path).send().await;
    query.assert_refused(401, "unauthorized");
    let wanted = challenge("", "/m/mcp", "reader writer");
    assert_eq!(query.header("www-authenticate"), Some(&*wanted));
}

/// Tokens that must not be taken, and the reason that the audit log has.
#[allow(clippy::too_many_lines, reason = "one attack after the other")]
fn bad_tokens(issuer: &Issuer) -> Vec<(&'static str, String, &'static str)> {
    let good = issuer.claims("sub-1", "reader");
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        issuer.sign(&claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        issuer.sign(&claims)
    };
    let header = |header: &str| issuer.sign_text(header, &good.to_string());
    let token = issuer.sign(&good);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let stranger = Issuer::new(ISSUER);
    let text = good.to_string();
    let twice = format!("{},\"scope\":\"admin\"}}", &text[..text.len() - 1]);
    let deep = format!("{},\"x\":{{\"a\":1,\"a\":2}}}}", &text[..text.len() - 1]);
    let ed = r#"{"alg":"EdDSA","kid":"ed""#;
    vec![
        (
            "alg none",
            format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&text)),
            "token_algorithm",
        ),
        ("alg None", header(r#"{"alg":"None"}"#), "token_algorithm"),
        ("no alg", header(r#"{"kid":"ed"}"#), "token_algorithm"),
        (
            "HMAC",
            header(r#"{"alg":"HS256","kid":"secret"}"#),
            "token_algorithm",
        ),
        (
            "HMAC with a public key",
            header(r#"{"alg":"HS256","kid":"rsa"}"#),
            "token_algorithm",
        ),
        (
            "not configured",
            header(r#"{"alg":"PS256","kid":"rsa"}"#),
            "token_algorithm",
        ),
        (
            "key of another kind",
            header(r#"{"alg":"EdDSA","kid":"ec"}"#),
            "token_signature",
        ),
        (
            "ES256 with RSA",
            header(r#"{"alg":"ES256","kid":"rsa"}"#),
            "token_signature",
        ),
        (
            "a secret key",
            header(r#"{"alg":"EdDSA","kid":"secret"}"#),
            "token_key",
        ),
        (
            "unknown key",
            header(r#"{"alg":"EdDSA","kid":"xx"}"#),
            "token_key",
        ),
        (
            "a path as kid",
            header(r#"{"alg":"EdDSA","kid":"../../dev/null"}"#),
            "token_key",
        ),
        (
            "SQL as kid",
            header(r#"{"alg":"EdDSA","kid":"x' OR 1=1 --"}"#),
            "token_key",
        ),
        (
            "empty kid",
            header(r#"{"alg":"EdDSA","kid":""}"#),
            "token_header",
        ),
        (
            "a number as kid",
            header(r#"{"alg":"EdDSA","kid":1}"#),
            "token_header",
        ),
        (
            "control in kid",
            header(r#"{"alg":"EdDSA","kid":"e\u0000d"}"#),
            "token_header",
        ),
        (
            "long kid",
            header(&format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, "k".repeat(300))),
            "token_header",
        ),
        (
            "jku",
            header(&format!(r#"{ed},"jku":"https://evil.example/keys"}}"#)),
            "token_header",
        ),
        (
            "jwk",
            header(&format!(r#"{ed},"jwk":{{"kty":"OKP"}}}}"#)),
            "token_header",
        ),
        (
            "x5u",
            header(&format!(r#"{ed},"x5u":"https://evil.example/c"}}"#)),
            "token_header",
        ),
        (
            "x5c",
            header(&format!(r#"{ed},"x5c":["AA"]}}"#)),
            "token_header",
        ),
        (
            "crit",
            header(&format!(r#"{ed},"crit":["exp"]}}"#)),
            "token_header",
        ),
        (
            "b64",
            header(&format!(r#"{ed},"b64":false}}"#)),
            "token_header",
        ),
        (
            "nested",
            header(&format!(r#"{ed},"cty":"JWT"}}"#)),
            "token_header",
        ),
        (
            "encrypted",
            header(r#"{"alg":"EdDSA","enc":"A128GCM","kid":"ed"}"#),
            "token_header",
        ),
        (
            "typ of an ID token",
            header(&format!(r#"{ed},"typ":"id+jwt"}}"#)),
            "token_header",
        ),
        (
            "typ of a log-out",
            header(&format!(r#"{ed},"typ":"logout+jwt"}}"#)),
            "token_header",
        ),
        (
            "typ of a wrong type",
            header(&format!(r#"{ed},"typ":1}}"#)),
            "token_header",
        ),
        (
            "alg twice",
            header(r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#),
            "token_malformed",
        ),
        (
            "scope twice",
            issuer.sign_text(&format!("{ed}}}"), &twice),
            "token_malformed",
        ),
        (
            "twice inside",
            issuer.sign_text(&format!("{ed}}}"), &deep),
            "token_malformed",
        ),
        (
            "claims no object",
            issuer.sign_text(&format!("{ed}}}"), "[]"),
            "token_malformed",
        ),
        (
            "padded",
            format!("{signed}.{signature}=="),
            "token_malformed",
        ),
        ("no signature", format!("{signed}."), "token_signature"),
        (
            "cut signature",
            format!("{signed}.{}", &signature[..40]),
            "token_signature",
        ),
        (
            "another's signature",
            stranger.sign(&good),
            "token_signature",
        ),
        (
            "changed claims",
            format!(
                "{}.{}.{signature}",
                part(r#"{"alg":"EdDSA","kid":"ed"}"#),
                part(&text.replace("sub-1", "admin"))
            ),
            "token_signature",
        ),
        (
            "encrypted, five parts",
            format!("{token}.a.b"),
            "unauthorized",
        ),
        (
            "another issuer",
            with("iss", json!("https://evil.example")),
            "token_issuer",
        ),
        (
            "issuer with a slash",
            with("iss", json!(format!("{ISSUER}/"))),
            "token_issuer",
        ),
        (
            "issuer in capitals",
            with("iss", json!(ISSUER.to_uppercase())),
            "token_issuer",
        ),
        (
            "issuer in a list",
            with("iss", json!([ISSUER])),
            "token_issuer",
        ),
        ("no issuer", without("iss"), "token_issuer"),
        (
            "another audience",
            with("aud", json!("https://other.example")),
            "token_audience",
        ),
        (
            "audience that begins alike",
            with("aud", json!("https://mcp.example.com.evil.example")),
            "token_audience",
        ),
        (
            "another backend's audience",
            with("aud", json!("https://mcp.example.com/other/mcp")),
            "token_audience",
        ),
        (
            "audiences of others",
            with("aud", json!(["a", "https://mcp.example.com/m/mcp/x"])),
            "token_audience",
        ),
        ("no audience", without("aud"), "token_claims"),
        (
            "empty list of audiences",
            with("aud", json!([])),
            "token_audience",
        ),
        (
            "a number among audiences",
            with("aud", json!([AUDIENCE, 1])),
            "token_claims",
        ),
        (
            "audience of a wrong type",
            with("aud", json!({"a": AUDIENCE})),
            "token_claims",
        ),
        ("expired", with("exp", json!(now() - 31)), "token_expired"),
        ("no exp", without("exp"), "token_claims"),
        (
            "exp as a text",
            with("exp", json!("9999999999")),
            "token_claims",
        ),
        ("exp before all", with("exp", json!(-1)), "token_claims"),
        ("exp beyond all", with("exp", json!(1e300)), "token_claims"),
        ("exp null", with("exp", Value::Null), "token_claims"),
        (
            "not yet",
            with("nbf", json!(now() + 90)),
            "token_not_yet_valid",
        ),
        ("nbf as a text", with("nbf", json!("0")), "token_claims"),
        (
            "made in the future",
            with("iat", json!(now() + 90)),
            "token_not_yet_valid",
        ),
        ("no subject", without("sub"), "token_claims"),
        ("empty subject", with("sub", json!("")), "token_claims"),
        ("a number as subject", with("sub", json!(7)), "token_claims"),
        (
            "line feed in subject",
            with("sub", json!("a\nb")),
            "token_claims",
        ),
        (
            "long subject",
            with("sub", json!("s".repeat(256))),
            "token_claims",
        ),
        (
            "bound by DPoP",
            with("cnf", json!({"jkt": "abc"})),
            "token_bound",
        ),
        (
            "bound to a certificate",
            with("cnf", json!({"x5t#S256": part(&"c".repeat(32))})),
            "token_bound",
        ),
        ("bound somehow", with("cnf", json!("x")), "token_bound"),
        (
            "log-out token",
            with_untyped(issuer, "events", json!({})),
            "token_kind",
        ),
        (
            "ID token by at_hash",
            with_untyped(issuer, "at_hash", json!("x")),
            "token_kind",
        ),
        (
            "ID token by nonce",
            with_untyped(issuer, "nonce", json!("x")),
            "token_kind",
        ),
        (
            "ID token by typ",
            with_untyped(issuer, "typ", json!("ID")),
            "token_kind",
        ),
        (
            "refresh token by typ",
            with_untyped(issuer, "typ", json!("Refresh")),
            "token_kind",
        ),
        (
            "ID token by token_use",
            with_untyped(issuer, "token_use", json!("id")),
            "token_kind",
        ),
        (
            "oversize",
            format!("{signed}.{}", "a".repeat(9000)),
            "unauthorized",
        ),
        (
            "oversize but whole",
            with("x", json!("x".repeat(7000))),
            "unauthorized",
        ),
        ("only dots", "..".to_owned(), "token_malformed"),
        ("no JSON", "abc.def.ghi".to_owned(), "token_malformed"),
    ]
}

fn with_untyped(issuer: &Issuer, name: &str, value: Value) -> String {
    let mut claims = issuer.claims("sub-1", "reader");
    claims[name] = value;
    issuer.sign_text(
        r#"{"alg":"EdDSA","kid":"ed","typ":"JWT"}"#,
        &claims.to_string(),
    )
}

#[tokio::test]
async fn every_token_that_is_not_good_is_the_same_401_and_leaves_its_reason() {
    let issuer = Issuer::new(ISSUER);
    let rig = start(&issuer, "").await;
    let wanted = challenge(", error=\"invalid_token\"", "/m/mcp", "reader writer");
    let mut counts = std::collections::BTreeMap::new();
    let mut first: Option<String> = None;
    for (what, token, reason) in bad_tokens(&issuer) {
        let reply = rig
            .client()
            .ask("POST", "/m/mcp")
            .key(&token)
            .json("{}")
            .send()
            .await;
        reply.assert_refused(401, "unauthorized");
        assert_eq!(reply.header("www-authenticate"), Some(&*wanted), "{what}");
        let first = first.get_or_insert_with(|| reply.without_date());
        assert_eq!(*first, reply.without_date(), "{what}");
        let count = counts.entry(reason).or_insert(0);
        *count += 1;
        let refused = json!({
            "event": "auth.failed", "rule": reason, "status": "401", "decision": "deny",
            "client": "127.0.0.1",
        });
        noted(&rig, *count, refused).await;
        for text in [text(&rig), rig.log()] {
            assert!(!text.contains(&token), "{what}: the token is written down");
        }
    }
    assert_eq!(events(&rig, &json!({"event": "session.open"})).len(), 0);
    Mcp::open(&rig, "m", &issuer.token("sub-1", "reader")).await;
}

#[tokio::test]
async fn a_claim_grants_no_role_by_accident() {
    let issuer = Issuer::new(ISSUER);
    let roles = "[roles.anonymous]\n\"*\" = {}\n[roles.\"*\"]\n\"*\" = {}\n[roles.all]\n\"*\" = {}\n\
                 [roles.offline_access]\n\"*\" = {}\n";
    let config = format!("{LOGGED}{}{ROLES}{roles}", issuer.config(""));
    let rig = Rig::start(&config).await;
    let body = crate::rig::mcp::initialize("2025-11-25").to_string();
    for scope in [
        json!(""),
        json!("*"),
        json!("anonymous"),
        json!("READER"),
        json!("reader\u{a0}x"),
        json!("reader,writer"),
        json!("reader\twriter"),
        json!(["reader writer"]),
        json!([["reader"]]),
        json!(["reader", 1]),
        json!({"reader": true}),
        json!(true),
        json!(1),
        Value::Null,
        json!(" "),
        json!("openid profile"),
        json!("openid offline_access"),
    ] {
        let mut claims = issuer.claims("sub-1", "");
        claims["scope"] = scope.clone();
        let token = issuer.sign(&claims);
        let reply = rig.client().post("/m/mcp", &token, &[], body.clone()).await;
        reply.assert_refused(403, "insufficient_scope");
        let wanted = "Bearer realm=\"gatehouse\", error=\"insufficient_scope\", \
                      scope=\"reader writer\", resource_metadata=\"https://mcp.example.com/\
                      .well-known/oauth-protected-resource/m/mcp\"";
        assert_eq!(reply.header("www-authenticate"), Some(wanted), "{scope}");
    }
    let refused = json!({
        "event": "denied", "rule": "insufficient_scope", "status": "403", "principal": "sub-1",
        "auth": "jwt", "backend": "m",
    });
    noted(&rig, 17, refused).await;
    for scope in [
        json!("reader"),
        json!("x reader"),
        json!("reader reader"),
        json!(["reader", "*"]),
    ] {
        let mut claims = issuer.claims("sub-1", "");
        claims["scope"] = scope;
        Mcp::open(&rig, "m", &issuer.sign(&claims)).await;
    }
}

#[tokio::test]
async fn what_another_scope_would_allow_is_asked_for_and_what_none_allows_is_unknown() {
    let issuer = Issuer::new(ISSUER);
    let rig = start(&issuer, "").await;
    let token = issuer.token("sub-1", "openid reader");
    let mcp = Mcp::open(&rig, "m", &token).await;
    let reply = mcp
        .post(tool_call(&json!(1), "slow", json!({})).to_string())
        .await;
    reply.assert_refused(403, "insufficient_scope");
    let wanted = "Bearer realm=\"gatehouse\", error=\"insufficient_scope\", \
                  scope=\"reader writer\", resource_metadata=\"https://mcp.example.com/\
                  .well-known/oauth-protected-resource/m/mcp\"";
    assert_eq!(reply.header("www-authenticate"), Some(wanted));
    let refused = json!({
        "event": "denied", "rule": "insufficient_scope", "status": "403", "tool": "slow",
        "method": "tools/call", "principal": "sub-1",
    });
    noted(&rig, 1, refused).await;
    // The filter of the backend hides it from all.
    let answer = mcp.call("slow-hidden", json!({})).await;
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(answer["error"]["message"], "Unknown tool: slow-hidden");
    // What isn't there is as unknown as what is: only names in roles decide.
    let absent = tool_call(&json!(1), "slow-not-there", json!({}));
    let same = mcp.post(absent.to_string()).await;
    assert_eq!(same.without_date(), reply.without_date());
    let wide = mcp
        .post(tool_call(&json!(1), "wide", json!({})).to_string())
        .await;
    wide.assert_refused(403, "insufficient_scope");
    let all = wide.header("www-authenticate").unwrap();
    assert!(all.contains("scope=\"reader all\""), "{all}");
    // Another backend: all that the token has, and what it lacks.
    let other = rig.client().post("/other/mcp", &token, &[], "{}").await;
    other.assert_refused(403, "insufficient_scope");
    let challenge = other.header("www-authenticate").unwrap();
    assert!(challenge.contains("scope=\"reader other\""), "{challenge}");
    // Clients of HTTP+SSE can't be told so.
    let mut sse = Sse::open(&rig, "m", &token).await;
    let answer = sse.call("slow", json!({})).await;
    assert_eq!(answer["error"]["message"], "Unknown tool: slow");
    // The session goes on.
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
}

#[tokio::test]
async fn a_token_for_one_backend_is_good_for_that_one_only() {
    let issuer = Issuer::new(ISSUER);
    let rig = start(&issuer, "").await;
    let token = |audience: Value| {
        let mut claims = issuer.claims("sub-1", "reader other");
        claims["aud"] = audience;
        issuer.sign(&claims)
    };
    for audience in [
        json!("https://mcp.example.com/m/mcp"),
        json!("https://mcp.example.com/m/sse"),
        json!("https://mcp.example.com/m"),
        json!(["https://elsewhere.example", "https://mcp.example.com/m/mcp"]),
    ] {
        let token = token(audience.clone());
        Mcp::open(&rig, "m", &token).await;
        Sse::connect(&rig, "m", &token).await;
        let reply = rig.client().get("/other/mcp", &token, &[]).await;
        reply.assert_refused(401, "unauthorized");
        let unknown = rig.client().get("/unknown/mcp", &token, &[]).await;
        // Whether there is such a backend must not show.
        unknown.assert_refused(401, "unauthorized");
    }
    noted(
        &rig,
        8,
        json!({"event": "auth.failed", "rule": "token_audience"}),
    )
    .await;
    let both = token(json!([
        "https://mcp.example.com/m/mcp",
        "https://mcp.example.com/other/sse"
    ]));
    Mcp::open(&rig, "m", &both).await;
    Mcp::open(&rig, "other", &both).await;
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one path after the other")]
async fn metadata_is_there_for_every_resource_and_for_every_page() {
    let issuer = Issuer::new(ISSUER);
    let rig = start(&issuer, "").await;
    let known = "/.well-known/oauth-protected-resource";
    for (path, resource, scopes) in [
        (
            "/m/mcp",
            "https://mcp.example.com/m/mcp",
            Some(json!(["reader", "writer"])),
        ),
        (
            "/m/sse",
            "https://mcp.example.com/m/sse",
            Some(json!(["reader", "writer"])),
        ),
        (
            "/other/mcp/",
            "https://mcp.example.com/other/mcp",
            Some(json!(["other"])),
        ),
        ("", "https://mcp.example.com", None),
    ] {
        let ask = rig.client().ask("GET", &format!("{known}{path}"));
        let reply = ask
            .header("origin", "https://anywhere.example")
            .send()
            .await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        let mut wanted = json!({
            "resource": resource, "authorization_servers": [ISSUER],
            "bearer_methods_supported": ["header"],
        });
        if let Some(scopes) = scopes {
            wanted["scopes_supported"] = scopes;
        }
        assert_eq!(reply.json(), wanted);
    }
    let preflight = rig
        .client()
        .ask("OPTIONS", &format!("{known}/m/mcp"))
        .header("origin", "https://anywhere.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "mcp-protocol-version")
        .send()
        .await;
    assert_eq!(preflight.status, 204, "{preflight:?}");
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("mcp-protocol-version")
    );
    for path in [
        "/.well-known/oauth-protected-resource/unknown/mcp",
        "/.well-known/oauth-protected-resource/m",
        "/.well-known/oauth-protected-resource/m/messages",
        "/.well-known/oauth-protected-resource//m/mcp",
        "/.well-known/oauth-protected-resourcex",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/m/mcp/.well-known/oauth-protected-resource",
        "/authorize",
    ] {
        let reply = rig.client().ask("GET", path).send().await;
        reply.assert_refused(404, "not_found");
    }
    let post = rig.client().ask("POST", known).json("{}").send().await;
    post.assert_refused(405, "method_not_allowed");
    // A name that the client chose stands nowhere.
    let ask = rig.client().ask("GET", &format!("{known}/m/mcp"));
    let reply = ask.header("host", "evil.example").send().await;
    reply.assert_refused(421, "host_not_allowed");
    // The message URL belongs to the stream.
    let reply = rig
        .client()
        .ask("POST", "/m/messages")
        .json("{}")
        .send()
        .await;
    let wanted = challenge("", "/m/sse", "reader writer");
    assert_eq!(reply.header("www-authenticate"), Some(&*wanted));
    let reply = rig.client().ask("GET", "/nothing").send().await;
    assert_eq!(
        reply.header("www-authenticate"),
        Some(&*challenge("", "", ""))
    );
}

#[tokio::test]
async fn a_token_goes_nowhere_else() {
    let issuer = Issuer::new(ISSUER);
    let rig = start(&issuer, "").await;
    let token = issuer.token("sub-1", "reader");
    let mcp = Mcp::open(&rig, "m", &token).await;
    let body = tool_call(&json!(1), "echo", json!({"text": "x"})).to_string();
    let ask = mcp.ask("POST").header("cookie", "session=secret-cookie");
    assert_eq!(ask.json(body).send().await.status, 200);
    let told = mcp.text("env", json!({})).await;
    let signature = token.rsplit('.').next().unwrap();
    for text in [told, text(&rig), rig.log()] {
        assert!(!text.contains(signature), "{text}");
        assert!(!text.contains("secret-cookie"), "{text}");
        assert!(!text.contains("\"exp\""), "{text}");
    }
}

#[tokio::test]
async fn bad_tokens_use_up_the_guesses_of_an_address_and_expired_ones_do_not() {
    let issuer = Issuer::new(ISSUER);
    let limited = ROLES.replace("100000/min", "3/min");
    let rig = Rig::start(&format!("{LOGGED}{}{limited}", issuer.config(""))).await;
    let mut claims = issuer.claims("sub-1", "reader");
    claims["exp"] = json!(now() - 60);
    let old = issuer.sign(&claims);
    for _ in 0..10 {
        rig.client()
            .get("/m/mcp", &old, &[])
            .await
            .assert_refused(401, "unauthorized");
    }
    let mcp = Mcp::open(&rig, "m", &issuer.token("sub-1", "reader")).await;
    let forged = Issuer::new(ISSUER).token("sub-1", "reader");
    for _ in 0..3 {
        let reply = rig.client().get("/m/mcp", &forged, &[]).await;
        reply.assert_refused(401, "unauthorized");
    }
    let reply = rig.client().get("/m/mcp", &forged, &[]).await;
    reply.assert_refused(429, "rate_limited");
    assert!(reply.header("retry-after").is_some());
    noted(
        &rig,
        1,
        json!({"event": "denied", "rule": "rate_limited", "status": "429"}),
    )
    .await;
    // Who was here before is not locked out, with a new token neither.
    assert_eq!(mcp.text("echo", json!({"text": "on"})).await, "on");
    let fresh = issuer.token("sub-1", "reader openid");
    rig.client()
        .get("/m/nothing", &fresh, &[])
        .await
        .assert_refused(404, "not_found");
    let stranger = issuer.token("sub-2", "reader");
    let reply = rig.client().get("/m/nothing", &stranger, &[]).await;
    reply.assert_refused(429, "rate_limited");
}

#[tokio::test]
async fn claims_can_be_read_by_rules_and_name_the_principal() {
    let issuer = Issuer::new(ISSUER);
    let more = "principal_claim = \"email\"\nroles_claim = \"realm_access.roles\"";
    let rules = r#"
        [[backends.m.filter.rules]]
        name = "own-team"
        when = 'method == "tools/call" && !(has(principal.claims.team) && principal.claims.team == "blue")'
        action = "deny"
        reason = "only the blue team"
    "#;
    let config = format!("{LOGGED}{}{ROLES}{rules}", issuer.config(more));
    let rig = Rig::start(&config).await;
    let open = async |team: Value| {
        let mut claims = issuer.claims("sub-1", "");
        claims["email"] = json!("ann@example.com");
        claims["realm_access"] = json!({"roles": ["reader"]});
        claims["team"] = team;
        Mcp::open(&rig, "m", &issuer.sign(&claims)).await
    };
    let blue = open(json!("blue")).await;
    assert_eq!(blue.text("echo", json!({"text": "x"})).await, "x");
    for team in [json!("red"), Value::Null, json!(["blue"])] {
        let denied = open(team).await.call("echo", json!({})).await;
        assert_eq!(denied["error"]["code"], -32010, "{denied}");
    }
    let seen = json!({"event": "request", "principal": "ann@example.com", "auth": "jwt"});
    assert!(!events(&rig, &seen).is_empty());
    let nameless = issuer.token("sub-1", "reader");
    let reply = rig.client().get("/m/mcp", &nameless, &[]).await;
    reply.assert_refused(401, "unauthorized");
    noted(
        &rig,
        1,
        json!({"event": "auth.failed", "rule": "token_claims"}),
    )
    .await;
}
