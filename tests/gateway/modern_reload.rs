//! What a new configuration means for calls without a session.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::rig::{
    ALICE, Rig,
    modern::{Modern, recorded},
    soon, until,
};

const BASE: &str = "[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\n[audit]\npath = \"audit.jsonl\"\n";
const DAVE: &str = "dave-has-a-key-that-will-be-taken-away";
const DAVES: &str = "[[auth.keys]]\nname = \"dave\"\nkey = \"dave-has-a-key-that-will-be-taken-away\"\nroles = [\"all\"]\n";

fn asking() -> Value {
    json!({"name": "elicit", "arguments": {"message": "who?"}})
}

fn retry(asked: &Value) -> Value {
    let (key, _) = asked["inputRequests"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    let mut params = asking();
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = json!({key: {"action": "accept", "content": {"name": "AKIA-Ada"}}});
    params
}

async fn reload(rig: &Rig, fragment: &str) {
    let count = || {
        let lines = recorded(rig);
        lines
            .iter()
            .filter(|line| line["event"] == "config.reload")
            .count()
    };
    let before = count();
    rig.rewrite(fragment);
    rig.signal(Signal::SIGHUP);
    until("the reload", || count() > before).await;
}

/// Outcomes of requests with this id and status.
fn outcomes(rig: &Rig, id: &str, status: &str) -> usize {
    let lines = recorded(rig);
    let is = |line: &&Value| {
        line["event"] == "response"
            && line["id"] == id
            && line["status"].to_string().contains(status)
    };
    lines.iter().filter(is).count()
}

#[tokio::test]
async fn a_running_call_ends_when_its_key_is_taken_away() {
    let rig = Rig::start(&format!("{BASE}{DAVES}")).await;
    let dave = Modern::new(&rig, "m", DAVE);
    let alice = Modern::new(&rig, "m", ALICE);
    let slow = |client: &Modern, id: &str, ms: u32| {
        let params = json!({"name": "slow", "arguments": {"ms": ms}});
        client.ask(&client.message(&json!(id), "tools/call", &params))
    };
    let (daves, alices) = (
        slow(&dave, "daves", 3_600_000),
        slow(&alice, "alices", 3000),
    );
    let daves = tokio::spawn(async move { daves.send().await });
    let alices = tokio::spawn(async move { alices.send().await });
    let decided = |id: &str| {
        let lines = recorded(&rig);
        lines
            .iter()
            .any(|line| line["event"] == "request" && line["id"].to_string().contains(id))
    };
    until("both", || decided("daves") && decided("alices")).await;
    reload(&rig, BASE).await;
    let ended = soon("the end", daves).await.unwrap();
    assert_eq!(ended.status, 200, "{ended:?}");
    assert_eq!(ended.json()["error"]["code"], -32603, "{ended:?}");
    assert_eq!(
        ended.json()["error"]["message"],
        "The request ended with its credentials"
    );
    let done = soon("the other", alices).await.unwrap();
    assert_eq!(
        done.json()["result"]["content"][0]["text"],
        "done",
        "{done:?}"
    );
    until("the outcome", || outcomes(&rig, "daves", "-32603") == 1).await;
    let refused = dave.request("tools/list", json!({})).await;
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn a_parked_call_ends_when_its_key_is_taken_away_even_if_it_comes_back() {
    let rig = Rig::start(&format!("{BASE}{DAVES}")).await;
    let dave = Modern::new(&rig, "m", DAVE).declaring(json!({"elicitation": {}}));
    let asked = dave.result("tools/call", asking()).await;
    reload(&rig, BASE).await;
    // The same name with another key has another credential, but is the same principal.
    reload(&rig, &format!("{BASE}{DAVES}")).await;
    let late = dave.request("tools/call", retry(&asked)).await;
    assert_eq!(late.json()["error"]["code"], -32602, "{late:?}");
}

#[tokio::test]
async fn a_call_that_is_taken_up_again_is_shown_what_may_be_seen_now() {
    let rig = Rig::start(BASE).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(json!({"elicitation": {}}));
    let asked = alice.result("tools/call", asking()).await;
    let redact = "[backends.m.filter]\nredact = [{ pattern = \"AKIA\", replace = \"[key]\" }]\n";
    reload(&rig, &format!("{BASE}{redact}")).await;
    let done = alice.result("tools/call", retry(&asked)).await.to_string();
    assert!(
        done.contains("[key]-Ada") && !done.contains("AKIA"),
        "{done}"
    );
    // And what may not be called any more isn't taken up.
    let asked = alice.result("tools/call", asking()).await;
    let denied = "[backends.m.filter]\ntools = { deny = [\"elicit\"] }\n";
    reload(&rig, &format!("{BASE}{denied}")).await;
    let late = alice.request("tools/call", retry(&asked)).await;
    assert_eq!(
        late.json()["error"]["message"],
        "Unknown tool: elicit",
        "{late:?}"
    );
}

#[tokio::test]
async fn a_list_that_is_under_way_is_pruned_as_of_now() {
    let gate = tempfile::tempdir().unwrap();
    let file = gate.path().join("now");
    let script = format!(
        r#"while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
case "$line" in
*server/discover*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},"ttlMs":0,"cacheScope":"private"}}}}\n' "$id";;
*tools/list*) while [ ! -e {file} ]; do sleep 0.01; done
printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","tools":[{{"name":"shown"}},{{"name":"hidden"}}],"ttlMs":0,"cacheScope":"private"}}}}\n' "$id";;
esac
done"#,
        file = file.display()
    );
    let base = format!(
        "[backends.m]\ncommand = [\"sh\", \"-c\", {}]\nprotocol = \"modern\"\n[audit]\npath = \"audit.jsonl\"\n",
        Value::from(script)
    );
    let rig = Rig::start(&base).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let listing = tokio::spawn(async move { alice.result("tools/list", json!({})).await });
    until("the decision", || {
        recorded(&rig).iter().any(|line| line["event"] == "request")
    })
    .await;
    let filter = "[backends.m.filter]\ntools = { deny = [\"hidden\"] }\n";
    reload(&rig, &format!("{base}{filter}")).await;
    std::fs::write(&file, "").unwrap();
    let listed = soon("the list", listing).await.unwrap();
    assert_eq!(listed["tools"], json!([{"name": "shown"}]), "{listed}");
}
