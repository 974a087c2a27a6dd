//! `subscriptions/listen` that passes through to a child of its own era.

use serde_json::{Value, json};

use crate::rig::{ALICE, Rig, events::Events, modern::Modern};

const CHILD: &str = "[backends.c]\ncommand = [\"conformance\", \"--era\", \"modern\"]\n";
const ID: &str = "io.modelcontextprotocol/subscriptionId";

/// Acknowledges more than it was asked for, and tells what nobody asked for.
const LYING: &str = r#"while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
tell() { printf '{"jsonrpc":"2.0","method":"notifications/%s","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}%s}}\n' "$1" "$id" "$2"; }
case "$line" in
*server/discover*) printf '{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"resources":{"subscribe":true}},"ttlMs":0,"cacheScope":"private"}}\n' "$id";;
*subscriptions/listen*)
tell subscriptions/acknowledged ',"notifications":{"resourceSubscriptions":["x://a","x://hidden","x://ruled","x://more"]}'
for uri in x://hidden x://ruled x://more x://a/ruled x://a/hidden x://a/part; do tell resources/updated ",\"uri\":\"$uri\""; done
tell tools/list_changed ''
tell resources/updated ',"uri":"x://a"'
;;
esac
done"#;

async fn listen(client: &Modern, wants: Value) -> (Events, Value) {
    let params = json!({"notifications": wants});
    let mut events = client
        .stream(&json!("me"), "subscriptions/listen", params)
        .await;
    let first = events.message().await;
    assert_eq!(
        first["method"], "notifications/subscriptions/acknowledged",
        "{first}"
    );
    assert_eq!(first["params"]["_meta"][ID], "me");
    (events, first["params"]["notifications"].clone())
}

#[tokio::test]
async fn only_what_may_be_read_is_asked_for_and_acknowledged() {
    let rules = "[[backends.c.filter.rules]]\nname = \"ruled\"\naction = \"deny\"\nreason = \"no\"\n\
                 when = 'uri.startsWith(\"test://template/\")'\n";
    let rig = Rig::start(&format!(
        "{CHILD}[backends.c.filter]\nresources = {{ deny = [\"test://static-*\"] }}\n{rules}"
    ))
    .await;
    let alice = Modern::new(&rig, "c", ALICE);
    let all = [
        "test://static-text",
        "test://template/1/data",
        "test://watched-resource",
    ];
    let (mut events, honoured) = listen(&alice, json!({"resourceSubscriptions": all})).await;
    assert_eq!(
        honoured,
        json!({"resourceSubscriptions": ["test://watched-resource"]})
    );
    for uri in all {
        alice
            .call("test_trigger_resource_update", json!({"uri": uri}))
            .await;
    }
    let updated = events.message().await;
    assert_eq!(
        updated["params"]["uri"], "test://watched-resource",
        "{updated}"
    );
}

#[tokio::test]
async fn a_child_that_says_more_than_it_was_asked_is_not_heard() {
    let child = format!(
        "[backends.c]\nprotocol = \"modern\"\ncommand = [\"sh\", \"-c\", {}]\n",
        Value::from(LYING)
    );
    let rules = "[[backends.c.filter.rules]]\nname = \"ruled\"\naction = \"deny\"\nreason = \"no\"\n\
                 when = 'uri.endsWith(\"ruled\")'\n";
    let rig = Rig::start(&format!(
        "{child}[backends.c.filter]\nresources = {{ deny = [\"**hidden\"] }}\n{rules}"
    ))
    .await;
    let alice = Modern::new(&rig, "c", ALICE);
    let wants = json!({"resourceSubscriptions": ["x://ruled", "x://hidden", "x://a", "x://a"]});
    let (mut events, honoured) = listen(&alice, wants).await;
    assert_eq!(honoured, json!({"resourceSubscriptions": ["x://a"]}));
    for uri in ["x://a/part", "x://a"] {
        assert_eq!(events.message().await["params"]["uri"], uri);
    }
}

#[tokio::test]
async fn a_request_that_doesnt_say_what_it_wants_is_refused() {
    let rig = Rig::start(CHILD).await;
    let alice = Modern::new(&rig, "c", ALICE);
    for params in [
        json!({}),
        json!({"notifications": null}),
        json!({"notifications": [true]}),
        json!({"notifications": {"resourceSubscriptions": "test://static-text"}}),
        json!({"notifications": {"resourceSubscriptions": [1]}}),
    ] {
        let reply = alice.request("subscriptions/listen", params.clone()).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (200, &json!(-32602)),
            "{params}"
        );
    }
}
