//! Each principal's own secret in his own child, and nowhere else.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::rig::{
    ALICE, BOB, Rig, binary,
    mcp::{Mcp, NEWEST, initialize},
    misbehave,
    modern::Modern,
    soon, until,
};

const OF_ALICE: &str = "the-secret-of-alice";
const OF_BOB: &str = "the-secret-of-bob";

fn put(folder: &Path, principal: &str, text: &str, mode: u32) {
    let folder = folder.join("secrets").join(principal);
    fs::create_dir_all(&folder).expect("a folder");
    let (new, file) = (folder.join("new"), folder.join("token"));
    fs::write(&new, format!("{text}\n")).expect("a file");
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("a mode");
    fs::rename(new, file).expect("a file");
}

fn fragment(more: &str) -> String {
    format!(
        "[audit]\npath = \"audit/log.jsonl\"\n[backends.m]\ncommand = [\"misbehave\"]\nprincipal_env = {{ TOKEN = \"${{file:secrets/{{principal}}/token}}\" }}\n{more}\n"
    )
}

async fn rig(more: &str) -> Rig {
    let rig = Rig::start(&fragment(more)).await;
    put(rig.folder(), "alice", OF_ALICE, 0o600);
    put(rig.folder(), "bob", OF_BOB, 0o600);
    rig
}

async fn environment(mcp: &Mcp) -> Value {
    serde_json::from_str(&mcp.text("env", json!({})).await).expect("JSON")
}

fn events(rig: &Rig) -> Vec<Value> {
    let text = fs::read_to_string(rig.folder().join("audit/log.jsonl")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

async fn assert_refused(rig: &Rig, key: &str, principal: &str) {
    let reply = rig
        .client()
        .post("/m/mcp", key, &[], initialize(NEWEST).to_string())
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    let error = json!({"code": -32011, "message": "The server is not available"});
    assert_eq!(reply.json()["error"], error);
    let reply = rig.client().get("/m/sse", key, &[]).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.json()["error"], "unavailable");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    until("both refusals in the audit log", || {
        let denied = events(rig).into_iter().filter(|event| {
            event["event"] == "denied"
                && event["principal"] == principal
                && event["rule"] == "unavailable"
        });
        denied.count() >= 2
    })
    .await;
}

#[tokio::test]
async fn each_child_has_its_own_callers_secret_and_no_other() {
    for more in ["", "isolation = \"principal\""] {
        let rig = rig(more).await;
        let alice = Mcp::open(&rig, "m", ALICE).await;
        let bob = Mcp::open(&rig, "m", BOB).await;
        let again = Mcp::open(&rig, "m", ALICE).await;
        assert_eq!(environment(&alice).await["TOKEN"], OF_ALICE);
        assert_eq!(environment(&again).await["TOKEN"], OF_ALICE);
        let his = environment(&bob).await;
        assert_eq!(his["TOKEN"], OF_BOB);
        assert!(!his.to_string().contains(OF_ALICE));
        let audit = fs::read_to_string(rig.folder().join("audit/log.jsonl")).expect("a log");
        for secret in [OF_ALICE, OF_BOB] {
            assert!(!rig.log().contains(secret) && !audit.contains(secret));
        }
    }
}

#[tokio::test]
async fn requests_without_a_session_have_their_own_callers_secret_too() {
    let rig = rig("").await;
    let (alice, bob) = (Modern::new(&rig, "m", ALICE), Modern::new(&rig, "m", BOB));
    assert!(alice.text("env", json!({})).await.contains(OF_ALICE));
    let his = bob.text("env", json!({})).await;
    assert!(his.contains(OF_BOB) && !his.contains(OF_ALICE));
    put(rig.folder(), "alice", "the-next-secret-of-alice", 0o600);
    assert!(
        alice
            .text("env", json!({}))
            .await
            .contains("the-next-secret-of-alice")
    );
    put(rig.folder(), "bob", OF_BOB, 0o644);
    let reply = bob
        .request("tools/call", json!({"name": "env", "arguments": {}}))
        .await;
    assert_eq!(reply.json()["error"]["code"], -32011, "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
}

#[tokio::test]
async fn what_a_child_prints_of_it_is_masked() {
    let script = "echo \"my token is $TOKEN\" >&2; exec \"$0\"";
    let server = misbehave().display().to_string();
    let rig = Rig::start(&fragment("").replace(
        "[\"misbehave\"]",
        &format!("[\"sh\", \"-c\", {script:?}, {server:?}]"),
    ))
    .await;
    put(rig.folder(), "alice", OF_ALICE, 0o600);
    Mcp::open(&rig, "m", ALICE).await;
    rig.logged("my token is [secret]").await;
    assert!(!rig.log().contains(OF_ALICE));
}

#[tokio::test]
async fn who_has_no_secret_is_refused_and_nobody_else() {
    let more = "restart = { give_up_after = 1 }";
    let rig = rig(more).await;
    let file = rig.folder().join("secrets/bob/token");
    let refused: [(&str, &dyn Fn()); 4] = [
        ("No such file", &|| fs::remove_file(&file).expect("a file")),
        ("others can read", &|| {
            put(rig.folder(), "bob", OF_BOB, 0o640)
        }),
        ("holds no text", &|| put(rig.folder(), "bob", "", 0o600)),
        ("leads out of", &|| {
            fs::remove_file(&file).expect("a file");
            std::os::unix::fs::symlink("../../proxy.toml", &file).expect("a link");
        }),
    ];
    for (why, spoil) in refused {
        spoil();
        assert_refused(&rig, BOB, "bob").await;
        rig.logged(why).await;
        let mcp = Mcp::open(&rig, "m", ALICE).await;
        assert_eq!(environment(&mcp).await["TOKEN"], OF_ALICE);
    }
    assert!(!rig.log().contains(OF_BOB));
    fs::remove_file(&file).expect("a link");
    put(rig.folder(), "bob", OF_BOB, 0o600);
    let mcp = Mcp::open(&rig, "m", BOB).await;
    assert_eq!(environment(&mcp).await["TOKEN"], OF_BOB);
}

#[tokio::test]
async fn a_secret_that_makes_its_child_fail_stops_nobody_else() {
    let script = "test \"$TOKEN\" = bad && exit 1; exec \"$0\"";
    let server = misbehave().display().to_string();
    let more = "restart = { give_up_after = 1, backoff = \"1h\", max_backoff = \"1h\" }";
    let rig = Rig::start(&fragment(more).replace(
        "[\"misbehave\"]",
        &format!("[\"sh\", \"-c\", {script:?}, {server:?}]"),
    ))
    .await;
    put(rig.folder(), "alice", OF_ALICE, 0o600);
    put(rig.folder(), "bob", "bad", 0o600);
    let reply = rig
        .client()
        .post("/m/mcp", BOB, &[], initialize(NEWEST).to_string())
        .await;
    assert_eq!(reply.json()["error"]["code"], -32011, "{reply:?}");
    // His circuit opens when his child has gone; hers doesn't.
    let open = async {
        loop {
            let path = "/m/mcp";
            let hello = initialize(NEWEST).to_string();
            let reply = rig.client().post(path, BOB, &[], hello).await;
            if reply.header("retry-after").is_some() {
                return;
            }
        }
    };
    soon("an open circuit", open).await;
    assert_refused(&rig, BOB, "bob").await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(environment(&mcp).await["TOKEN"], OF_ALICE);
}

#[tokio::test]
async fn a_changed_secret_is_for_new_sessions_and_old_ones_go_on() {
    let rig = rig("isolation = \"principal\"").await;
    let before = Mcp::open(&rig, "m", ALICE).await;
    let pid = before.text("self", json!({})).await;
    let same = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(same.text("self", json!({})).await, pid);
    put(rig.folder(), "alice", "the-next-secret-of-alice", 0o600);
    let after = Mcp::open(&rig, "m", ALICE).await;
    assert_eq!(
        environment(&after).await["TOKEN"],
        "the-next-secret-of-alice"
    );
    assert_eq!(environment(&before).await["TOKEN"], OF_ALICE);
    assert_eq!(before.text("self", json!({})).await, pid);
    let ended = || {
        let exits = events(&rig)
            .into_iter()
            .filter(|event| event["event"] == "instance.exit");
        exits.count()
    };
    assert_eq!(ended(), 0);
    before.delete().await;
    assert_eq!(ended(), 0);
    same.delete().await;
    until("the end of the old instance", || ended() == 1).await;
    assert_eq!(
        environment(&after).await["TOKEN"],
        "the-next-secret-of-alice"
    );
}

#[tokio::test]
async fn variables_may_differ_from_principal_to_principal_too() {
    let text = fragment("").replace(
        "${file:secrets/{principal}/token}",
        "Bearer ${TOKEN_OF_{principal}}",
    );
    let rig = Rig::start_with(&text, |gateway| {
        gateway.env("TOKEN_OF_alice", OF_ALICE);
    })
    .await;
    let mcp = Mcp::open(&rig, "m", ALICE).await;
    let environment = environment(&mcp).await;
    assert_eq!(environment["TOKEN"], format!("Bearer {OF_ALICE}"));
    assert_eq!(environment["TOKEN_OF_alice"], Value::Null);
    assert_refused(&rig, BOB, "bob").await;
    rig.logged("the variable TOKEN_OF_bob is not set").await;
}

fn run(arguments: &[&str], folder: &Path) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Command::new(binary())
        .args(arguments)
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// A gateway that would start at once.
const OPEN: &str = "[server]\nlisten = \"127.0.0.1:0\"\n[server.tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[auth]\nanonymous = true\n[roles.anonymous]\n\"*\" = {}\n[backends.m]\ncommand = [\"true\"]\n";

fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
}

#[tokio::test]
async fn a_tls_key_that_others_can_read_stops_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let write = |name: &str, text: &str, mode: u32| write(folder, name, text, mode);
    write("cert.pem", &made.cert.pem(), 0o644);
    for mode in [0o644, 0o640, 0o604, 0o622] {
        write("key.pem", &made.signing_key.serialize_pem(), mode);
        write("proxy.toml", OPEN, 0o644);
        let (code, said) = run(&["serve"], folder);
        assert_eq!(code, Some(2), "{mode:o}: {said}");
        assert!(
            said.contains("other users can read the private key") && said.contains("chmod 600"),
            "{said}"
        );
        let listen = ["wrap", "--listen", "127.0.0.1:0"];
        let tls = [
            "--tls-cert",
            "cert.pem",
            "--tls-key",
            "key.pem",
            "--",
            "true",
        ];
        let (code, said) = run(&[&listen[..], &tls].concat(), folder);
        assert_eq!(code, Some(1), "{mode:o}: {said}");
        assert!(said.contains("others can read the private key"), "{said}");
    }
    write("key.pem", &made.signing_key.serialize_pem(), 0o600);
    let (code, said) = run(&["check"], folder);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn secrets_and_signing_keys_that_others_can_read_stop_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let write = |name: &str, text: &str, mode: u32| write(folder, name, text, mode);
    write("cert.pem", &made.cert.pem(), 0o644);
    write("key.pem", &made.signing_key.serialize_pem(), 0o600);
    write("key", "a-key-that-is-long-enough-to-be-one\n", 0o644);
    write("token", "the-secret-in-a-file", 0o644);
    write(
        "proxy.toml",
        &format!("{OPEN}env = {{ TOKEN = \"${{file:token}}\" }}\n"),
        0o644,
    );
    let (code, said) = run(&["serve"], folder);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("other users can read the secret"), "{said}");
    assert!(!said.contains("the-secret-in-a-file"), "{said}");
    let (code, said) = run(
        &[
            "wrap",
            "--listen",
            "127.0.0.1:0",
            "--key-file",
            "key",
            "--",
            "true",
        ],
        folder,
    );
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("--key-file key: other users can read it") && !said.contains("a-key-that"),
        "{said}"
    );
    write(
        "proxy.toml",
        &format!("{OPEN}[audit]\npath = \"audit.jsonl\"\nsign_key = \"sign.pem\"\n"),
        0o644,
    );
    write("sign.pem", &made.signing_key.serialize_pem(), 0o640);
    for (command, ends) in [("serve", 2), ("check", 1)] {
        let (code, said) = run(&[command], folder);
        assert_eq!(code, Some(ends), "{command}: {said}");
        assert!(said.contains("other users can read this key"), "{said}");
    }
}
