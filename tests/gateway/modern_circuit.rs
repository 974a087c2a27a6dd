//! What closes the circuit of a server without a handshake, and what doesn't open it.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    modern::{Modern, recorded},
    until,
};

const AUDIT: &str = "[audit]\npath = \"audit.jsonl\"\n";

/// A child in the shell: `answers` are further cases of what it hears.
fn child(answers: &str, settings: &str) -> String {
    let script = format!(
        r#"while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
say() {{ printf '%s\n' "{{\"jsonrpc\":\"2.0\",\"id\":$id,$1}}"; }}
found() {{ say '"result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},"ttlMs":0,"cacheScope":"private"}}'; }}
list() {{ say '"result":{{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}}'; }}
await() {{ until [ -e "$1" ]; do sleep 0.05; done; }}
case "$line" in
{answers}
esac
done"#
    );
    let command = Value::from(script);
    format!(
        "{AUDIT}[backends.m]\ncommand = [\"sh\", \"-c\", {command}]\nwarm = 0\n{settings}\
         restart = {{ backoff = \"1ms\", max_backoff = \"1h\", give_up_after = "
    )
}

fn exits(rig: &Rig) -> usize {
    let exit = |line: &&Value| line["event"] == "instance.exit";
    recorded(rig).iter().filter(exit).count()
}

#[tokio::test]
async fn a_modern_child_that_answers_closes_the_circuit() {
    let answers = "*server/discover*) found;;\n*tools/list*) list;;\n*) exit 3;;";
    let config = child(answers, "protocol = \"modern\"\nisolation = \"shared\"\n");
    let rig = Rig::start(&format!("{config}3 }}\n")).await;
    let alice = Modern::new(&rig, "m", ALICE);
    for round in 1..=5 {
        let list = alice.request("tools/list", json!({})).await;
        assert_eq!(list.status, 200, "{round}: {list:?}");
        let fell = alice.request("prompts/list", json!({})).await;
        assert!(fell.json()["error"].is_object(), "{fell:?}");
        until("its end", || exits(&rig) == round).await;
    }
}

#[tokio::test]
async fn a_slow_child_that_refuses_the_handshake_counts_no_failure() {
    let gate = tempfile::tempdir().expect("a folder");
    let at = |name: &str| gate.path().join(name).display().to_string();
    let (heard, found, go) = (at("heard"), at("found"), at("go"));
    let answers = format!(
        "*server/discover*) await {heard}; found;;\n\
         *initialize*) touch {heard}; await {found}; say '\"error\":{{\"code\":-32601,\"message\":\"no\"}}';;\n\
         *tools/list*) list;;\n*prompts/list*) await {go}; say '\"result\":{{}}';;"
    );
    let rig = Rig::start(&format!(
        "{}1 }}\n",
        child(&answers, "start_timeout = \"60s\"\n")
    ))
    .await;
    let alice = Modern::new(&rig, "m", ALICE);
    let call = alice.ask(&alice.message(&json!(1), "prompts/list", &json!({})));
    let first = tokio::spawn(async move { call.send().await });
    rig.logged("modern=true").await;
    std::fs::write(&found, "").expect("a file");
    // The one that was asked, and the one that was greeted; nobody has been answered yet.
    until("both ends", || exits(&rig) == 2).await;
    let bob = Modern::new(&rig, "m", BOB);
    let list = bob.request("tools/list", json!({})).await;
    assert_eq!(list.status, 200, "{list:?}");
    std::fs::write(&go, "").expect("a file");
    first.await.expect("it is answered");
}
