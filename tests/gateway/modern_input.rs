//! Input that a child with a handshake asks for during a call of the revision without sessions.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::rig::{
    ALICE, BOB, Rig,
    client::Reply,
    modern::{Modern, recorded},
    soon, until,
};

const LEGACY: &str = "[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\n";

fn all() -> Value {
    json!({"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}})
}

/// The parameters of a tool's call, and of its retries.
fn elicit() -> Value {
    json!({"name": "elicit", "arguments": {"message": "who?"}})
}

fn refused(reply: &Reply, status: u16, code: i64) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.json()["error"]["code"], code, "{reply:?}");
}

/// The one request of an answer that wants input: key and request.
fn wanted(result: &Value) -> (String, Value) {
    assert_eq!(result["resultType"], "input_required", "{result}");
    let requests = result["inputRequests"].as_object().expect("requests");
    assert_eq!(requests.len(), 1, "{result}");
    let (key, request) = requests.iter().next().expect("one");
    (key.clone(), request.clone())
}

fn retry(params: &Value, state: &Value, responses: Value) -> Value {
    let mut params = params.clone();
    params["requestState"] = state.clone();
    params["inputResponses"] = responses;
    params
}

#[tokio::test]
async fn what_a_child_asks_is_asked_of_the_client_and_its_answer_goes_back() {
    let rig = Rig::start(&format!("{LEGACY}[audit]\npath = \"audit.jsonl\"\n")).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    for (tool, method, response) in [
        (
            "elicit",
            "elicitation/create",
            json!({"action": "accept", "content": {"name": "Ada"}}),
        ),
        (
            "sample",
            "sampling/createMessage",
            json!({"role": "assistant", "model": "x", "content": {"type": "text", "text": "Ada"}}),
        ),
        (
            "roots",
            "roots/list",
            json!({"roots": [{"uri": "file:///Ada"}]}),
        ),
    ] {
        let params = json!({"name": tool, "arguments": {"message": "who?", "prompt": "who?"}});
        let asked = alice.result("tools/call", params.clone()).await;
        let (key, request) = wanted(&asked);
        assert_eq!(request["method"], method);
        let again = retry(
            &params,
            &asked["requestState"],
            json!({key: response, "extra": {}}),
        );
        let done = alice.result("tools/call", again).await;
        assert_eq!(done["resultType"], "complete", "{done}");
        let text = done["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("Ada"), "{text}");
    }
    let of = |event: &str| {
        let lines = recorded(&rig);
        lines.iter().filter(|line| line["event"] == event).count()
    };
    until("each outcome", || (of("request"), of("response")) == (6, 6)).await;
    let lines = recorded(&rig);
    let asked = lines
        .iter()
        .filter(|line| line["status"] == "input_required");
    assert_eq!(asked.count(), 3);
}

#[tokio::test]
async fn a_state_is_good_once_for_its_principal_and_its_request() {
    let rig = Rig::start(&format!(
        "{LEGACY}[backends.n]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\n"
    ))
    .await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    let asked = alice.result("tools/call", elicit()).await;
    let (key, _) = wanted(&asked);
    let state = &asked["requestState"];
    let answer = json!({key: {"action": "accept", "content": {"name": "Ada"}}});
    let send = async |client: &Modern, params: Value| client.request("tools/call", params).await;
    let good = retry(&elicit(), state, answer.clone());
    // Another principal, another backend, another request.
    let bob = Modern::new(&rig, "m", BOB).declaring(all());
    refused(&send(&bob, good.clone()).await, 200, -32602);
    let elsewhere = Modern::new(&rig, "n", ALICE).declaring(all());
    refused(&send(&elsewhere, good.clone()).await, 200, -32602);
    let mut other = good.clone();
    other["arguments"]["message"] = json!("else?");
    refused(&send(&alice, other).await, 200, -32602);
    let mut other = good.clone();
    other["name"] = json!("sample");
    refused(&send(&alice, other).await, 200, -32602);
    let mut forged = state.as_str().unwrap().to_owned();
    forged.replace_range(20..21, if &forged[20..21] == "A" { "B" } else { "A" });
    for state in [json!(forged), json!(""), json!("AAAA"), json!(5), json!({})] {
        refused(
            &send(&alice, retry(&elicit(), &state, answer.clone())).await,
            200,
            -32602,
        );
    }
    // Responses that are none don't use it up.
    for responses in [json!([]), json!("x"), json!({"a": 5}), Value::Null] {
        refused(
            &send(&alice, retry(&elicit(), state, responses)).await,
            200,
            -32602,
        );
    }
    let done = send(&alice, good.clone()).await;
    assert_eq!(done.json()["result"]["resultType"], "complete", "{done:?}");
    refused(&send(&alice, good).await, 200, -32602);
}

#[tokio::test]
async fn what_is_missing_is_asked_for_again_with_a_new_state() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    let params =
        json!({"name": "ask", "arguments": {"method": "roots/list", "params": {}, "count": 3}});
    let first = alice.result("tools/call", params.clone()).await;
    let keys: Vec<String> = first["inputRequests"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(keys.len(), 3, "gathered into one: {first}");
    let some = json!({&keys[1]: {"roots": []}});
    let second = alice
        .result("tools/call", retry(&params, &first["requestState"], some))
        .await;
    let left: Vec<&String> = second["inputRequests"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(left, [&keys[0], &keys[2]]);
    assert_ne!(first["requestState"], second["requestState"]);
    let none = alice
        .result(
            "tools/call",
            retry(&params, &second["requestState"], json!({})),
        )
        .await;
    assert_eq!(none["resultType"], "input_required");
    let stale = retry(&params, &second["requestState"], json!({}));
    refused(&alice.request("tools/call", stale).await, 200, -32602);
    let rest = json!({&keys[0]: {"roots": []}, &keys[2]: {"roots": []}});
    let done = alice
        .result("tools/call", retry(&params, &none["requestState"], rest))
        .await;
    assert_eq!(done["resultType"], "complete", "{done}");
}

#[tokio::test]
async fn a_retry_hears_what_its_call_said_while_nobody_could_be_told() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    let alice = alice.logging("info");
    // The child waits for the answer, or ends the call meanwhile.
    for waits in [true, false] {
        let gate = tempfile::tempdir().unwrap();
        let then = gate.path().join("then");
        let arguments = json!({"method": "roots/list", "wait": waits, "then": then});
        let params = json!({"name": "ask", "arguments": arguments, "_meta": {"progressToken": 1}});
        let asked = alice.result("tools/call", params.clone()).await;
        let (key, _) = wanted(&asked);
        std::fs::write(&then, "").unwrap();
        // Enough for the child to say it; a retry that is quicker hears it as it comes.
        alice.text("slow", json!({"ms": 100})).await;
        let mut again = retry(&params, &asked["requestState"], json!({key: {"roots": []}}));
        again["_meta"] = json!({"progressToken": "new"});
        let mut events = alice.stream(&json!("a"), "tools/call", again).await;
        for done in 1..=3 {
            let told = events.next().await.expect("progress").json();
            assert_eq!(told["params"]["progress"], done, "{told}");
            assert_eq!(told["params"]["progressToken"], "new", "{told}");
        }
        let told = events.next().await.expect("a log line").json();
        assert_eq!(told["params"]["data"], "meanwhile", "{told}");
        let done = events.next().await.expect("an answer").json();
        assert_eq!(done["result"]["resultType"], "complete", "{done}");
        assert_eq!(events.next().await, None);
    }
}

#[tokio::test]
async fn what_a_client_brings_before_it_is_asked_is_not_asked_for() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    let (key, _) = wanted(&alice.result("tools/call", elicit()).await);
    let mut params = elicit();
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});
    params["inputResponses"] = json!({&key: answer, "extra": {}});
    params["task"] = json!({"ttl": 5});
    // Another instance, which counts its questions from the beginning.
    let bob = Modern::new(&rig, "m", BOB).declaring(all());
    let done = bob.result("tools/call", params.clone()).await;
    assert_eq!(done["resultType"], "complete", "{done}");
    params["inputResponses"] = json!({&key: 5});
    refused(
        &bob.request("tools/call", params.clone()).await,
        200,
        -32602,
    );
    params["inputResponses"] = json!({"other": {}});
    wanted(&bob.result("tools/call", params).await);
    refused(
        &bob.request("tasks/get", json!({"taskId": "x"})).await,
        400,
        -32020,
    );
}

#[tokio::test]
async fn a_client_is_asked_only_for_what_it_declared() {
    let rig = Rig::start(LEGACY).await;
    let roots = Modern::new(&rig, "m", ALICE).declaring(json!({"roots": {}}));
    let reply = roots.request("tools/call", elicit()).await;
    refused(&reply, 400, -32021);
    let data = &reply.json()["error"]["data"];
    assert_eq!(
        *data,
        json!({"requiredCapabilities": {"elicitation": {"form": {}}}})
    );
    // The instance goes on serving others.
    assert_eq!(roots.text("echo", json!({"text": "a"})).await, "a");
    let none = Modern::new(&rig, "m", ALICE);
    refused(&none.request("tools/call", elicit()).await, 400, -32021);
}

#[tokio::test]
async fn two_calls_of_one_principal_never_share_an_instance_that_may_ask() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    let mut calls = JoinSet::new();
    for name in ["a", "b", "c", "d"] {
        let alice = alice.clone();
        calls.spawn(async move {
            let params = json!({"name": "elicit", "arguments": {"message": name}});
            let asked = alice.result("tools/call", params.clone()).await;
            let (key, request) = wanted(&asked);
            assert_eq!(request["params"]["message"], name);
            let answer = json!({key: {"action": "accept", "content": {"name": name}}});
            let done = alice
                .result("tools/call", retry(&params, &asked["requestState"], answer))
                .await;
            assert!(
                done.to_string().contains(&format!("\\\"{name}\\\"")),
                "{done}"
            );
        });
    }
    soon("all calls", calls.join_all()).await;
}

#[tokio::test]
async fn parked_calls_are_bounded_and_leave_room_for_others() {
    let rig = Rig::start(&format!("{LEGACY}max_instances = 4\nwarm = 0\n")).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    let mut parked = Vec::new();
    for _ in 0..2 {
        parked.push(alice.result("tools/call", elicit()).await);
    }
    for _ in 0..10 {
        refused(&alice.request("tools/call", elicit()).await, 429, -32013);
    }
    assert_eq!(
        Modern::new(&rig, "m", BOB)
            .text("echo", json!({"text": "b"}))
            .await,
        "b"
    );
    let (key, _) = wanted(&parked[0]);
    let answer = json!({key: {"action": "decline"}});
    let again = retry(&elicit(), &parked[0]["requestState"], answer);
    assert_eq!(
        alice.result("tools/call", again).await["resultType"],
        "complete"
    );
    wanted(&alice.result("tools/call", elicit()).await);
}

#[tokio::test]
async fn a_parked_call_keeps_its_place_among_those_in_flight() {
    let rig = Rig::start(&format!("{LEGACY}[backends.m.limits]\nconcurrency = 1\n")).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    let asked = alice.result("tools/call", elicit()).await;
    refused(&alice.request("tools/list", json!({})).await, 429, -32013);
    let (key, _) = wanted(&asked);
    let answer = json!({key: {"action": "cancel"}});
    let done = alice
        .result(
            "tools/call",
            retry(&elicit(), &asked["requestState"], answer),
        )
        .await;
    assert_eq!(done["resultType"], "complete");
    alice.result("tools/list", json!({})).await;
}

#[tokio::test]
async fn a_parked_call_ends_in_time_and_the_child_hears_of_it() {
    // The next call waits for the only instance until it is given back.
    let rig = Rig::start(&format!(
        "{LEGACY}max_instances = 1\nwarm = 0\n[limits]\nrequest_timeout = \"3s\"\n"
    ))
    .await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    let asked = alice.result("tools/call", elicit()).await;
    let (key, _) = wanted(&asked);
    let told = async {
        while alice.text("cancelled", json!({})).await == "[]" {
            tokio::task::yield_now().await;
        }
    };
    soon("the child to be told", told).await;
    let answer = json!({key: {"action": "accept"}});
    let late = retry(&elicit(), &asked["requestState"], answer);
    refused(&alice.request("tools/call", late).await, 200, -32602);
}

#[tokio::test]
async fn a_child_that_asks_without_a_call_is_refused() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    // It asks, and answers its call at once.
    let params =
        json!({"name": "ask", "arguments": {"method": "roots/list", "params": {}, "wait": false}});
    let done = alice.result("tools/call", params).await;
    assert_eq!(done["resultType"], "complete");
    assert_eq!(alice.text("echo", json!({"text": "a"})).await, "a");
}

#[tokio::test]
async fn the_end_of_the_gateway_is_the_end_of_parked_calls() {
    let mut rig = Rig::start(&format!("{LEGACY}[audit]\npath = \"audit.jsonl\"\n")).await;
    let alice = Modern::new(&rig, "m", ALICE).declaring(all());
    wanted(&alice.result("tools/call", elicit()).await);
    rig.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(rig.ended().await, Some(0));
    until("the end in the log", || {
        recorded(&rig)
            .iter()
            .any(|line| line["event"] == "gateway.stop")
    })
    .await;
}
