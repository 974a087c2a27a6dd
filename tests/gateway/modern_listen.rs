//! `subscriptions/listen` in front of a child with a handshake.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    events::Events,
    modern::{Modern, recorded},
};

const LEGACY: &str = "[backends.m]\ncommand = [\"misbehave\"]\nprotocol = \"legacy\"\n";

const ID: &str = "io.modelcontextprotocol/subscriptionId";

async fn listen(client: &Modern, id: &Value, wants: Value) -> (Events, Value) {
    let mut events = client
        .stream(id, "subscriptions/listen", json!({"notifications": wants}))
        .await;
    let first = events.message().await;
    assert_eq!(
        first["method"], "notifications/subscriptions/acknowledged",
        "{first}"
    );
    assert_eq!(first["params"]["_meta"][ID], *id);
    (events, first["params"]["notifications"].clone())
}

#[tokio::test]
async fn who_listens_hears_what_it_asked_for_and_nothing_else() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let wants = json!({"toolsListChanged": true, "resourceSubscriptions": ["misbehave://a"], "other": true});
    let (mut events, honoured) = listen(&alice, &json!(7), wants).await;
    assert_eq!(
        honoured,
        json!({"toolsListChanged": true, "resourceSubscriptions": ["misbehave://a"]})
    );
    alice.call("changed", json!({"what": "prompts"})).await;
    alice
        .call("touch", json!({"uri": "misbehave://b", "unasked": true}))
        .await;
    alice.call("touch", json!({"uri": "misbehave://a"})).await;
    let updated = events.message().await;
    assert_eq!(updated["method"], "notifications/resources/updated");
    assert_eq!(
        updated["params"],
        json!({"_meta": {ID: 7}, "uri": "misbehave://a"})
    );
    // Whatever the instance: another set of capabilities has another.
    let roots = alice.declaring(json!({"roots": {}}));
    roots.call("changed", json!({"what": "tools"})).await;
    let changed = events.message().await;
    assert_eq!(changed["method"], "notifications/tools/list_changed");
    assert_eq!(changed["params"]["_meta"][ID], 7);
    // Another principal's instance is no business of hers.
    Modern::new(&rig, "m", BOB)
        .call("changed", json!({"what": "tools"}))
        .await;
    alice.call("touch", json!({"uri": "misbehave://a"})).await;
    assert_eq!(
        events.message().await["method"],
        "notifications/resources/updated"
    );
}

#[tokio::test]
async fn a_child_is_told_when_the_last_listener_has_gone() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let wants = json!({"resourceSubscriptions": ["misbehave://a"]});
    let (one, _) = listen(&alice, &json!(1), wants.clone()).await;
    let (mut two, _) = listen(&alice, &json!("1"), wants).await;
    drop(one);
    alice.call("touch", json!({"uri": "misbehave://a"})).await;
    assert_eq!(two.message().await["params"]["_meta"][ID], "1");
}

#[tokio::test]
async fn what_may_not_be_read_is_not_listened_to() {
    let rig = Rig::start(&format!(
        "{LEGACY}[backends.m.filter]\nresources = {{ deny = [\"misbehave://b\"] }}\n"
    ))
    .await;
    let alice = Modern::new(&rig, "m", ALICE);
    let wants = json!({"resourceSubscriptions": ["misbehave://a", "misbehave://b"]});
    let (_, honoured) = listen(&alice, &json!(1), wants).await;
    assert_eq!(
        honoured,
        json!({"resourceSubscriptions": ["misbehave://a"]})
    );
}

#[tokio::test]
async fn a_stream_that_the_gateway_ends_says_so() {
    let mut rig = Rig::start(&format!("{LEGACY}[audit]\npath = \"audit.jsonl\"\n")).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let (mut events, _) = listen(&alice, &json!("x"), json!({"toolsListChanged": true})).await;
    rig.signal(nix::sys::signal::Signal::SIGTERM);
    let last = events.message().await;
    assert_eq!(last["id"], "x");
    assert_eq!(
        last["result"],
        json!({"resultType": "complete", "_meta": {ID: "x"}})
    );
    assert_eq!(events.next().await, None);
    assert_eq!(rig.ended().await, Some(0));
    let lines = recorded(&rig);
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((of("request"), of("response")), (1, 1));
}

#[tokio::test]
async fn a_stream_ends_with_its_child_and_with_a_reload() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let (mut events, _) = listen(&alice, &json!(1), json!({"toolsListChanged": true})).await;
    alice
        .request("tools/call", json!({"name": "crash", "arguments": {}}))
        .await;
    assert_eq!(events.message().await["result"]["resultType"], "complete");
    let (mut events, _) = listen(&alice, &json!(2), json!({"toolsListChanged": true})).await;
    rig.rewrite(&format!(
        "{LEGACY}[backends.m.filter]\ntools = {{ deny = [\"env\"] }}\n"
    ));
    rig.signal(nix::sys::signal::Signal::SIGHUP);
    assert_eq!(events.message().await["id"], 2);
}

#[tokio::test]
async fn streams_of_one_principal_are_bounded() {
    let rig = Rig::start(LEGACY).await;
    let alice = Modern::new(&rig, "m", ALICE);
    let mut open = Vec::new();
    for id in 0..64 {
        open.push(listen(&alice, &json!(id), json!({})).await);
    }
    let params = json!({"notifications": {}});
    let over = alice.request("subscriptions/listen", params.clone()).await;
    assert_eq!(
        (over.status, &over.json()["error"]["code"]),
        (429, &json!(-32013)),
        "{over:?}"
    );
    drop(open);
    let message = alice.message(&json!(1), "subscriptions/listen", &params);
    while alice.ask(&message).open().await.status != 200 {}
}

#[tokio::test]
async fn a_subscription_that_the_child_does_not_answer_is_not_honoured_and_taken_back() {
    let rig = Rig::start(
        "[backends.m]\ncommand = [\"misbehave\", \"--lists\", \"lists.json\"]\ncwd = \".\"\nwarm = 0\n\
         protocol = \"legacy\"\n",
    )
    .await;
    let silent = json!({"resources/subscribe": ["silent"]}).to_string();
    std::fs::write(rig.folder().join("lists.json"), silent).expect("a file");
    let alice = Modern::new(&rig, "m", ALICE);
    let wants = json!({"toolsListChanged": true, "resourceSubscriptions": ["misbehave://a"]});
    let (mut events, honoured) = listen(&alice, &json!(1), wants).await;
    assert_eq!(honoured, json!({"toolsListChanged": true}));
    // The child may have subscribed all the same: it is told that nobody listens.
    let seen = alice.text("seen", json!({})).await;
    let (asked, taken) = (
        seen.find("resources/subscribe"),
        seen.find("resources/unsubscribe"),
    );
    assert!(asked.is_some() && asked < taken, "{seen}");
    alice
        .call("touch", json!({"uri": "misbehave://a", "unasked": true}))
        .await;
    alice.call("changed", json!({"what": "tools"})).await;
    assert_eq!(
        events.message().await["method"],
        "notifications/tools/list_changed"
    );
}
