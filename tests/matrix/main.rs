//! Every real client with every real server through one gateway, over TLS with a key; and the
//! official conformance suite with the server of this repository.
//!
//! `scripts/test` installs the clients and servers and names their folder in
//! `GATEHOUSE_TEST_DEPS`; without it these tests say so and check nothing. `GATEHOUSE_BIN` names
//! the gateway to test (default: the one that cargo built beside this test).
//!
//! One pair alone: `cargo test --test matrix python2::sse::git`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test starts programs and stops at the first surprise"
)]

mod conformance;
mod gateway;
mod program;
mod strict;

use std::{
    io::{self, Write as _},
    sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError},
};

use serde_json::json;

use gateway::{GATEWAY, Gateway, KEY};
use program::Place;

macro_rules! matrix {
    ($($client:ident { $($transport:ident)* })*) => {
        $(mod $client {
            $(mod $transport {
                matrix!(@servers $client $transport);

                #[test]
                fn a_wrong_key_is_refused() {
                    crate::check_refusal(stringify!($client), stringify!($transport));
                }
            })*
        })*
    };
    // It can't be asked anything, and takes seconds for each step.
    (@servers inspector $transport:ident) => {
        matrix!(@tests inspector $transport: everything filesystem memory time git);
    };
    (@servers $client:ident $transport:ident) => {
        matrix!(@tests $client $transport: everything filesystem memory time git
            conformance_legacy conformance_modern asks_auto asks_legacy asks_modern);
    };
    (@tests $client:ident $transport:ident: $($server:ident)*) => {
        $(#[test]
        fn $server() {
            crate::check(stringify!($client), stringify!($transport), stringify!($server));
        })*
    };
}

matrix! {
    typescript1 { sse http }
    typescript2 { http }
    python1 { sse http }
    python2 { sse http }
    inspector { sse http }
    rmcp { http }
    rmcp_auto { http }
}

/// The revision without sessions.
const MODERN: &str = "2026-07-28";
/// The clients that find out whether a server speaks it.
const PROBING: [&str; 3] = ["typescript2", "python2", "rmcp_auto"];

/// Runs one client's plan for one server.
fn check(client: &str, transport: &str, server: &str) {
    if !installed() {
        return;
    }
    let _place = Place::take();
    let _alone = server.starts_with("memory").then(memory_file);
    drive(LazyLock::force(&GATEWAY), client, transport, server);
}

/// Runs one client's plan for one server of a gateway, which has to go well.
fn drive(gateway: &Gateway, client: &str, transport: &str, server: &str) {
    let (said, report) = gateway.drive(client, transport, server, KEY);
    if report["ok"] != true {
        let log = gateway.log_end();
        panic!("{client} over {transport} with {server} failed:\n{said}\ngateway:\n{log}");
    }
    if client != "inspector" {
        let modern = report["protocol"] == MODERN;
        let probes = transport == "http" && PROBING.contains(&client);
        assert_eq!(modern, probes, "it speaks {}", report["protocol"]);
        let skipped = report["skipped"].as_array().expect("a list");
        let needless = skipped.iter().filter(|step| {
            let step = step.as_str().expect("a text");
            !(modern && step.ends_with("(session)"))
        });
        let needless: Vec<_> = needless.collect();
        assert!(
            needless.is_empty(),
            "a full client does every step: {needless:?}"
        );
    }
}

/// A client with a wrong key learns so at once, before anything else.
fn check_refusal(client: &str, transport: &str) {
    if !installed() {
        return;
    }
    let _place = Place::take();
    let gateway = LazyLock::force(&GATEWAY);
    let (said, report) = gateway.drive(client, transport, "time", "a-key-that-nobody-has");
    assert!(said.in_time, "it hangs:\n{said}");
    assert_eq!(report["ok"], false, "it was let in, or broke down:\n{said}");
    assert_eq!(report["steps"], json!([]), "it got somewhere:\n{said}");
}

/// Whether the clients and servers are there; says so if not.
fn installed() -> bool {
    static SAID: Once = Once::new();
    let installed = std::env::var_os("GATEHOUSE_TEST_DEPS").is_some();
    if !installed {
        // Not captured, as `eprintln!` would be: nobody may take these for tests that passed.
        SAID.call_once(|| {
            let _ = writeln!(
                io::stderr(),
                "\n*** skipped: the real clients and servers are not installed; run scripts/test ***"
            );
        });
    }
    installed
}

/// The memory server rewrites its whole file at each change, so two of its clients at once would
/// undo each other's work.
fn memory_file() -> MutexGuard<'static, ()> {
    static FILE: Mutex<()> = Mutex::new(());
    FILE.lock().unwrap_or_else(PoisonError::into_inner)
}
