//! The configuration that the gateway is measured with.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::Options;

/// The key that the load generator sends. It opens a gateway on the loopback interface that lives
/// as long as one run; what it costs to check doesn't depend on its value.
pub(crate) const KEY: &str = "gh_bench_0123456789abcdefghijklmnopqrstuvwxyzABCDEF";

/// `proxy.toml` with one backend of the isolation asked for (`echo`), a shared one for idle
/// sessions (`idle`), one that takes 32 calls at once (`limited`, with `full`), and one that keeps
/// instances ready for all sessions that are opened at once (`warm`). `full` switches on everything
/// that a call can pass through.
pub(crate) fn proxy_toml(options: &Options, port: u16, child: &Path) -> String {
    let digest = Sha256::digest(KEY.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut text = SERVER
        .replace("PORT", &port.to_string())
        .replace("DIGEST", &digest);
    if options.full {
        text.push_str(SERVER_FULL);
    }
    let child = format!("{child:?}");
    let own = options.isolation.as_str();
    for (name, isolation, concurrency, warm) in [
        ("echo", own, "100000", "1"),
        ("idle", "shared", "100000", "1"),
        ("limited", own, "32", "1"),
        ("warm", "session", "100000", OPENED),
    ] {
        let mut backend = BACKEND.to_owned();
        if options.full {
            backend.push_str(BACKEND_FULL);
        }
        let backend = backend
            .replace("NAME", name)
            .replace("CONCURRENCY", concurrency)
            .replace("WARM", warm)
            .replace("ISOLATION", isolation);
        text.push_str(&backend.replace("CHILD", &child));
    }
    text
}

/// Sessions that are opened at once where opening is what is measured.
pub(crate) const OPENED: &str = "8";

const SERVER: &str = r#"[server]
listen = "127.0.0.1:PORT"

[server.tls]
self_signed = true

[[auth.keys]]
name = "bench"
sha256 = "DIGEST"
roles = ["bench"]

[roles.bench]
echo = { tools = ["echo", "big"] }
idle = { tools = ["echo", "big"] }
limited = { tools = ["echo", "big"] }
warm = { tools = ["echo", "big"] }

[limits]
max_sessions = 20000
max_sessions_per_principal = 20000
resume_grace = "0s"
"#;

/// Goes on in `[limits]`.
const SERVER_FULL: &str = r#"rate = "1000000000/min"

[audit]
path = "audit.jsonl"
sync = "batch"
"#;

const BACKEND: &str = r#"
[backends.NAME]
command = [CHILD]
isolation = "ISOLATION"
warm = WARM
max_instances = 64

[backends.NAME.filter]
tools = { allow = ["*"], deny = ["write_*"] }
"#;

const BACKEND_FULL: &str = r#"
[[backends.NAME.filter.rules]]
name = "no-secrets"
when = 'method == "tools/call" && has(args.text) && args.text.startsWith("secret")'
action = "deny"
reason = "secrets are not echoed"

[backends.NAME.limits]
rate = "1000000000/min"
concurrency = CONCURRENCY
tools = { "echo" = "1000000000/min" }
"#;
