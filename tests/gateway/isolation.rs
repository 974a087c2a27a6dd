//! Who shares an instance with whom, and that what is meant for one session reaches no other.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::rig::{
    ALICE, BOB, Rig,
    events::Events,
    mcp::{Mcp, Sse, text_of, tool_call},
    soon,
};

async fn rig(isolation: &str) -> Rig {
    Rig::start(&format!(
        "[backends.m]\ncommand = [\"misbehave\"]\nisolation = \"{isolation}\"\n"
    ))
    .await
}

/// Calls a tool and takes its answer alone; what else it says goes to the standing stream.
async fn plain(mcp: &Mcp, tool: &str, arguments: Value) -> String {
    let ask = mcp.ask("POST").header("accept", "application/json");
    let body = tool_call(&json!(format!("{tool}, alone")), tool, arguments).to_string();
    text_of(&ask.json(body).send().await.json())
}

/// The next message must be the mark that `changed` leaves: whatever came before it is a stray.
async fn is_clean(mcp: &Mcp, stream: &mut Events) {
    plain(mcp, "changed", json!({"what": "prompts"})).await;
    let first = stream.message().await;
    assert_eq!(
        first["method"], "notifications/prompts/list_changed",
        "{first}"
    );
}

async fn identity(mcp: &Mcp) -> String {
    mcp.text("self", json!({})).await
}

#[tokio::test]
async fn each_isolation_gives_an_instance_to_whom_it_says() {
    for (isolation, of_one_principal, of_two) in [
        ("session", false, false),
        ("principal", true, false),
        ("shared", true, true),
    ] {
        let rig = rig(isolation).await;
        let alice = Mcp::open(&rig, "m", ALICE).await;
        let again = Mcp::open(&rig, "m", ALICE).await;
        let mut sse = Sse::open(&rig, "m", ALICE).await;
        let bob = Mcp::open(&rig, "m", BOB).await;
        let first = identity(&alice).await;
        assert_eq!(
            identity(&again).await == first,
            of_one_principal,
            "{isolation}"
        );
        let sse = text_of(&sse.call("self", json!({})).await);
        assert_eq!(sse == first, of_one_principal, "{isolation}");
        assert_eq!(identity(&bob).await == first, of_two, "{isolation}");
        assert_eq!(identity(&alice).await, first, "{isolation}: it moved");
    }
}

#[tokio::test]
async fn a_principals_instance_ends_with_his_last_session() {
    let rig = rig("principal").await;
    let alice = Mcp::open(&rig, "m", ALICE).await;
    let again = Mcp::open(&rig, "m", ALICE).await;
    let first = identity(&alice).await;
    assert_eq!(alice.delete().await.status, 204);
    assert_eq!(identity(&again).await, first);
    assert_eq!(again.delete().await.status, 204);
    rig.logged("instance stopped").await;
    let alice = Mcp::open(&rig, "m", ALICE).await;
    assert_ne!(identity(&alice).await, first, "used again after its end");
}

#[tokio::test]
async fn many_who_open_at_once_get_the_one_instance_there_may_be() {
    let rig = Rig::start(
        r#"
        [backends.m]
        command = ["misbehave", "--slow-start", "200"]
        isolation = "shared"
        warm = 0
        max_instances = 1
        "#,
    )
    .await;
    let rig = Arc::new(rig);
    let mut opening = JoinSet::new();
    for index in 0..16 {
        let rig = rig.clone();
        let key = if index % 2 == 0 { ALICE } else { BOB };
        opening.spawn(async move { identity(&Mcp::open(&rig, "m", key).await).await });
    }
    let mut seen = soon("all sessions", opening.join_all()).await;
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
}

/// One session's load: calls with texts of their own in flight together, each with progress.
async fn load(mcp: Arc<Mcp>, name: String, calls: usize) {
    let mut running = JoinSet::new();
    for index in 0..calls {
        let (mcp, name) = (mcp.clone(), name.clone());
        running.spawn(async move {
            // The same ids and tokens in every session.
            let (id, token) = (json!(index), json!(format!("token {index}")));
            if index % 2 == 0 {
                let text = format!("{name} says {index}");
                let echo = tool_call(&id, "echo", json!({"text": text}));
                let answer = mcp.post(echo.to_string()).await.json();
                assert_eq!(answer["id"], id);
                assert_eq!(text_of(&answer), text);
                return;
            }
            let mut call = tool_call(
                &id,
                "progress",
                json!({"count": 5, "foreign": 2, "after": 1}),
            );
            call["params"]["_meta"] = json!({"progressToken": token});
            let mut stream = mcp.post_stream(&call).await;
            for done in 1..=5 {
                let message = stream.message().await;
                assert_eq!(
                    message["params"]["progressToken"], token,
                    "{name}: {message}"
                );
                assert_eq!(message["params"]["progress"], done, "{name}: {message}");
            }
            assert_eq!(stream.message().await["id"], id, "{name}");
            assert!(stream.rest().await.is_empty(), "{name}: a stray");
        });
    }
    while let Some(done) = soon("all calls", running.join_next()).await {
        done.expect("its own answers");
    }
}

#[tokio::test]
async fn under_load_every_answer_and_all_progress_reach_their_own_call() {
    for isolation in ["session", "principal", "shared"] {
        let rig = rig(isolation).await;
        let mut running = JoinSet::new();
        let mut watched = Vec::new();
        for index in 0..8 {
            let key = if index % 2 == 0 { ALICE } else { BOB };
            let mcp = Arc::new(Mcp::open(&rig, "m", key).await);
            let stream = mcp.stream().await;
            running.spawn(load(mcp.clone(), format!("session {index}"), 20));
            watched.push((mcp, stream));
        }
        while let Some(done) = running.join_next().await {
            done.expect("its own answers");
        }
        // No strays on any standing stream either. A mark reaches all who share the instance, so
        // each gets the marks of those before it, and nothing else.
        for (mcp, stream) in &mut watched {
            is_clean(mcp, stream).await;
        }
    }
}

#[tokio::test]
async fn what_a_child_logs_for_one_session_reaches_no_other() {
    let rig = rig("principal").await;
    let alice = Mcp::open(&rig, "m", ALICE).await;
    let again = Mcp::open(&rig, "m", ALICE).await;
    let mut again_stream = again.stream().await;
    let bob = Mcp::open(&rig, "m", BOB).await;
    let mut bob_stream = bob.stream().await;
    let log = tool_call(
        &json!(1),
        "log",
        json!({"text": "alice's secret", "count": 20}),
    );
    let mut stream = alice.post_stream(&log).await;
    for _ in 0..20 {
        assert_eq!(stream.message().await["params"]["data"], "alice's secret");
    }
    assert_eq!(text_of(&stream.message().await), "done");
    is_clean(&bob, &mut bob_stream).await;
    is_clean(&again, &mut again_stream).await;
}

#[tokio::test]
async fn a_shared_child_is_never_asked_to_carry_what_is_one_clients_own() {
    let rig = rig("shared").await;
    let alice = Mcp::open(&rig, "m", ALICE).await;
    let mut standing = alice.stream().await;
    for tool in ["sample", "elicit", "roots"] {
        let answer = alice.text(tool, json!({})).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer[0]["error"]["code"], -32601, "{tool}: {answer}");
    }
    let seen = alice.text("seen", json!({})).await;
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!(seen["initialize"]["capabilities"], json!({}), "{seen}");
    assert_eq!(
        seen["initialize"]["clientInfo"]["name"], "gatehouse",
        "{seen}"
    );
    is_clean(&alice, &mut standing).await;
}

/// Asks a child to ask its client; the stream of the call and the request that came on it.
async fn asked(mcp: &Mcp, id: &str) -> (Events, Value) {
    let call = tool_call(&json!(id), "sample", json!({"prompt": id}));
    let mut stream = mcp.post_stream(&call).await;
    let request = stream.message().await;
    assert_eq!(request["method"], "sampling/createMessage", "{request}");
    let prompt = &request["params"]["messages"][0]["content"]["text"];
    assert_eq!(prompt, id, "{request}");
    (stream, request["id"].clone())
}

fn response(id: &Value, text: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"said": text}}).to_string()
}

#[tokio::test]
async fn a_childs_question_goes_to_whom_it_is_about_and_only_his_answer_counts() {
    for isolation in ["session", "principal"] {
        let rig = rig(isolation).await;
        let alice = Mcp::open(&rig, "m", ALICE).await;
        let again = Mcp::open(&rig, "m", ALICE).await;
        let bob = Mcp::open(&rig, "m", BOB).await;
        let mut bob_stream = bob.stream().await;
        let (mut stream, id) = asked(&alice, "whose is this").await;
        for other in [&again, &bob] {
            let stolen = other.post(response(&id, "stolen")).await;
            assert!(matches!(stolen.status, 202 | 404), "{stolen:?}");
        }
        let own = alice.post(response(&id, "alice's")).await;
        assert_eq!(own.status, 202, "{own:?}");
        let answer = text_of(&stream.message().await);
        assert!(answer.contains("alice's"), "{isolation}: {answer}");
        // A second answer to the same question is nobody's.
        assert_eq!(alice.post(response(&id, "twice")).await.status, 202);
        assert_eq!(alice.text("echo", json!({"text": "on"})).await, "on");
        is_clean(&bob, &mut bob_stream).await;
    }
}

#[tokio::test]
async fn a_question_whose_client_leaves_is_answered_with_an_error() {
    let rig = rig("principal").await;
    let alice = Mcp::open(&rig, "m", ALICE).await;
    let (stream, _) = asked(&alice, "nobody answers").await;
    let again = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(alice.delete().await.status, 204);
    drop(stream);
    // The child goes on, and can ask the one who is left.
    let (mut stream, id) = asked(&again, "and now").await;
    assert_eq!(again.post(response(&id, "here")).await.status, 202);
    assert!(text_of(&stream.message().await).contains("here"));
}

#[tokio::test]
async fn changed_lists_are_told_to_all_who_share_and_to_nobody_else() {
    for (isolation, bobs) in [("principal", false), ("shared", true)] {
        let rig = rig(isolation).await;
        let alice = Mcp::open(&rig, "m", ALICE).await;
        let again = Mcp::open(&rig, "m", ALICE).await;
        let bob = Mcp::open(&rig, "m", BOB).await;
        let (mut hers, mut his) = (again.stream().await, bob.stream().await);
        let mut sse = Sse::open(&rig, "m", ALICE).await;
        plain(&alice, "changed", json!({"what": "tools"})).await;
        let tools = "notifications/tools/list_changed";
        assert_eq!(hers.message().await["method"], tools, "{isolation}");
        assert_eq!(sse.events.message().await["method"], tools, "{isolation}");
        if bobs {
            assert_eq!(his.message().await["method"], tools, "{isolation}");
        }
        is_clean(&bob, &mut his).await;
    }
}

#[tokio::test]
async fn updates_of_resources_reach_subscribers_only() {
    let rig = rig("shared").await;
    let mut sessions = BTreeMap::new();
    for (name, key) in [("one", ALICE), ("two", ALICE), ("three", BOB)] {
        let mcp = Mcp::open(&rig, "m", key).await;
        let stream = mcp.stream().await;
        sessions.insert(name, (mcp, stream));
    }
    let subscribe = |name: &str, verb: &str, uri: &str| {
        let mcp = &sessions[name].0;
        let method = format!("resources/{verb}");
        let params = json!({"uri": uri});
        async move {
            let answer = mcp.request(&method, params).await;
            assert_eq!(answer["result"], json!({}), "{answer}");
        }
    };
    subscribe("one", "subscribe", "misbehave://one").await;
    subscribe("three", "subscribe", "misbehave://one").await;
    subscribe("two", "subscribe", "misbehave://two").await;
    let touch = json!({"uri": "misbehave://one", "unasked": true});
    plain(&sessions["two"].0, "touch", touch.clone()).await;
    for name in ["one", "three"] {
        let (_, stream) = sessions.get_mut(name).expect("a session");
        let update = stream.message().await;
        assert_eq!(
            update["method"], "notifications/resources/updated",
            "{update}"
        );
        assert_eq!(update["params"]["uri"], "misbehave://one", "{update}");
    }
    // The child is told that nobody wants more only when nobody does.
    let (three, _) = &sessions["three"];
    let answer = three
        .request("resources/unsubscribe", json!({"uri": "misbehave://one"}))
        .await;
    assert_eq!(answer["result"], json!({}), "{answer}");
    plain(
        &sessions["two"].0,
        "touch",
        json!({"uri": "misbehave://one"}),
    )
    .await;
    let (_, stream) = sessions.get_mut("one").expect("a session");
    assert_eq!(
        stream.message().await["method"],
        "notifications/resources/updated"
    );
    for name in ["two", "three"] {
        let (mcp, stream) = sessions.get_mut(name).expect("a session");
        plain(mcp, "changed", json!({"what": format!("{name}")})).await;
        let first = stream.message().await;
        let marked = first["method"]
            .as_str()
            .unwrap_or_default()
            .ends_with("/list_changed");
        assert!(marked, "{name}: {first}");
    }
}

#[tokio::test]
async fn nobody_can_cancel_anothers_call() {
    for isolation in ["session", "principal", "shared"] {
        let rig = rig(isolation).await;
        let alice = Arc::new(Mcp::open(&rig, "m", ALICE).await);
        let again = Mcp::open(&rig, "m", ALICE).await;
        let bob = Mcp::open(&rig, "m", BOB).await;
        let slow = tool_call(&json!(7), "slow", json!({"ms": 1500}));
        let posting = alice.clone();
        let call = tokio::spawn(async move { posting.post(slow.to_string()).await });
        soon("the call at the child", async {
            while !alice
                .text("seen", json!({}))
                .await
                .contains("tools/call\",\"tools/call")
            {}
        })
        .await;
        for other in [&again, &bob] {
            // Also by the ids that the child knows its calls by.
            for id in 1..=20 {
                other
                    .notify("notifications/cancelled", json!({"requestId": id}))
                    .await;
            }
        }
        let answer = soon("its own answer", call).await.expect("an answer");
        assert_eq!(text_of(&answer.json()), "done", "{isolation}");
        assert_eq!(
            alice.text("cancelled", json!({})).await,
            "[]",
            "{isolation}"
        );
    }
}

#[tokio::test]
async fn a_crash_of_a_shared_instance_ends_its_sessions_and_the_next_gets_a_new_one() {
    let rig = rig("shared").await;
    let alice = Mcp::open(&rig, "m", ALICE).await;
    let bob = Mcp::open(&rig, "m", BOB).await;
    let first = identity(&alice).await;
    assert_eq!(bob.call("crash", json!({})).await["error"]["code"], -32011);
    for mcp in [&alice, &bob] {
        mcp.is_over().await;
    }
    let alice = Mcp::open(&rig, "m", ALICE).await;
    assert_ne!(identity(&alice).await, first);
}
