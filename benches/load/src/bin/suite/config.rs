//! The configuration that the gateway is measured with.

use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::Options;

/// The key that the load generator sends. It opens a gateway on the loopback interface that lives
/// as long as one run; what it costs to check doesn't depend on its value.
pub(crate) const KEY: &str = "gh_bench_0123456789abcdefghijklmnopqrstuvwxyzABCDEF";

/// `proxy.toml` with one backend of the isolation asked for (`echo`) and a shared one for idle
/// sessions (`idle`). `full` switches on everything that a call can pass through.
pub(crate) fn proxy_toml(options: &Options, port: u16, child: &Path) -> String {
    let digest = Sha256::digest(KEY.as_bytes());
    let digest = digest.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let mut text = format!(
        r#"[server]
listen = "127.0.0.1:{port}"

[server.tls]
self_signed = true

[[auth.keys]]
name = "bench"
sha256 = "{digest}"
roles = ["bench"]

[roles.bench]
echo = {{ tools = ["echo", "big"] }}
idle = {{ tools = ["echo", "big"] }}

[limits]
max_sessions = 20000
max_sessions_per_principal = 20000
"#
    );
    if options.full {
        text.push_str(
            r#"rate = "1000000000/min"

[admin]
enabled = false

[audit]
path = "audit.jsonl"
sync = "batch"
"#,
        );
    }
    for (name, isolation) in [("echo", options.isolation.as_str()), ("idle", "shared")] {
        let _ = write!(
            text,
            r#"
[backends.{name}]
command = [{child:?}]
isolation = "{isolation}"
max_instances = 64

[backends.{name}.filter]
tools = {{ allow = ["*"], deny = ["write_*"] }}
"#
        );
        if options.full {
            let _ = write!(
                text,
                r#"
[[backends.{name}.filter.rules]]
name = "no-secrets"
when = 'method == "tools/call" && has(args.text) && args.text.startsWith("secret")'
action = "deny"
reason = "secrets are not echoed"

[backends.{name}.limits]
rate = "1000000000/min"
concurrency = 100000
tools = {{ "echo" = "1000000000/min" }}
"#
            );
        }
    }
    text
}
