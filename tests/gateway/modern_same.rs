//! The revision without sessions in front of a child that speaks it itself.

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig,
    modern::{MODERN, Modern},
    soon,
};

const CHILD: &str = "[backends.c]\ncommand = [\"conformance\", \"--era\", \"modern\"]\n";
const ID: &str = "io.modelcontextprotocol/subscriptionId";

#[tokio::test]
async fn what_the_child_is_is_found_out_and_it_is_passed_through() {
    let rig = Rig::start(CHILD).await;
    let alice = Modern::new(&rig, "c", ALICE);
    let found = alice.result("server/discover", json!({})).await;
    assert_eq!(found["supportedVersions"], json!([MODERN]));
    assert!(found["capabilities"]["tools"].is_object(), "{found}");
    let text = alice.text("test_simple_text", json!({})).await;
    assert!(text.contains("simple text response"), "{text}");
    let unknown = alice.request("no/such", json!({})).await;
    assert_eq!(
        (unknown.status, &unknown.json()["error"]["code"]),
        (404, &json!(-32601))
    );
    let lacks = alice
        .request(
            "tools/call",
            json!({"name": "test_missing_capability", "arguments": {}}),
        )
        .await;
    assert_eq!(
        (lacks.status, &lacks.json()["error"]["code"]),
        (400, &json!(-32021)),
        "{lacks:?}"
    );
}

#[tokio::test]
async fn arguments_that_headers_repeat_must_be_the_same() {
    let rig = Rig::start(CHILD).await;
    let alice = Modern::new(&rig, "c", ALICE);
    let params = json!({"name": "test_x_mcp_header", "arguments": {"region": "eu"}});
    let message = alice.message(&json!(1), "tools/call", &params);
    for (region, status) in [
        ("eu", 200),
        ("EU", 400),
        ("us", 400),
        ("=?base64?ZXU=?=", 200),
    ] {
        let reply = alice
            .ask(&message)
            .header("Mcp-Param-Region", region)
            .send()
            .await;
        assert_eq!(reply.status, status, "{region}: {reply:?}");
        if status == 400 {
            assert_eq!(reply.json()["error"]["code"], -32020);
        }
    }
    let without = alice.ask(&message).send().await;
    assert_eq!(
        (without.status, &without.json()["error"]["code"]),
        (400, &json!(-32020))
    );
}

/// Calls a tool until it is done with, giving the same answer to whatever it asks.
async fn round(client: &Modern, params: &Value) -> (Value, Value) {
    let asked = client.result("tools/call", params.clone()).await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let mut responses = json!({});
    for (key, _) in asked["inputRequests"].as_object().unwrap() {
        responses[key] = json!({"action": "accept", "content": {"ok": true}});
    }
    let mut again = params.clone();
    again["requestState"] = asked["requestState"].clone();
    again["inputResponses"] = responses;
    (asked, again)
}

#[tokio::test]
async fn the_childs_own_state_passes_and_where_all_share_it_it_is_bound() {
    for (isolation, bound) in [("session", false), ("shared", true)] {
        let rig = Rig::start(&format!("{CHILD}isolation = \"{isolation}\"\n")).await;
        let declared = json!({"elicitation": {}, "sampling": {}, "roots": {}});
        let alice = Modern::new(&rig, "c", ALICE).declaring(declared.clone());
        let params = json!({"name": "test_input_required_result_request_state", "arguments": {}});
        let (_, again) = round(&alice, &params).await;
        let bob = Modern::new(&rig, "c", BOB).declaring(declared);
        let stolen = bob.request("tools/call", again.clone()).await;
        if bound {
            assert_eq!(stolen.json()["error"]["code"], -32602, "{stolen:?}");
        }
        let done = alice.result("tools/call", again).await;
        assert_eq!(done["resultType"], "complete", "{isolation}: {done}");
    }
}

#[tokio::test]
async fn subscriptions_are_the_childs_and_carry_the_clients_id() {
    let rig = Rig::start(CHILD).await;
    let alice = Modern::new(&rig, "c", ALICE);
    let wants = json!({"notifications": {"toolsListChanged": true}});
    let mut one = alice
        .stream(&json!(7), "subscriptions/listen", wants.clone())
        .await;
    let mut two = alice
        .stream(&json!("7"), "subscriptions/listen", wants)
        .await;
    for (events, id) in [(&mut one, json!(7)), (&mut two, json!("7"))] {
        let first = events.message().await;
        assert_eq!(
            first["method"], "notifications/subscriptions/acknowledged",
            "{first}"
        );
        assert_eq!(first["params"]["_meta"][ID], id);
    }
    alice.call("test_trigger_tool_change", json!({})).await;
    for (events, id) in [(&mut one, json!(7)), (&mut two, json!("7"))] {
        let changed = events.message().await;
        assert_eq!(
            changed["method"], "notifications/tools/list_changed",
            "{changed}"
        );
        assert_eq!(changed["params"]["_meta"][ID], id);
    }
    drop(one);
    alice.call("test_trigger_tool_change", json!({})).await;
    assert_eq!(two.message().await["params"]["_meta"][ID], "7");
    soon("another", alice.text("test_simple_text", json!({}))).await;
}

#[tokio::test]
async fn a_pruned_list_is_not_for_everybody() {
    let rig = Rig::start(&format!(
        "{CHILD}[backends.c.filter]\ntools = {{ deny = [\"test_image*\"] }}\n"
    ))
    .await;
    let listed = Modern::new(&rig, "c", ALICE)
        .result("tools/list", json!({}))
        .await;
    assert_eq!(listed["cacheScope"], "private", "{listed}");
    assert!(!listed.to_string().contains("test_image_content"));
}

#[tokio::test]
async fn a_task_does_not_reach_who_did_not_declare_them() {
    let rig = Rig::start(CHILD).await;
    let alice = Modern::new(&rig, "c", ALICE);
    let reply = alice
        .request(
            "tools/call",
            json!({"name": "slow_compute", "arguments": {"seconds": 0}}),
        )
        .await;
    assert_ne!(reply.json()["result"]["resultType"], "task", "{reply:?}");
}
