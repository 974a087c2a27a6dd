//! What keeps `serve` from starting is what `check` finds: each with its place, and nothing is made
//! or changed by either.

use std::{
    collections::BTreeMap, fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path,
    process::Command,
};

use crate::rig::binary;

const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

/// Every file of a folder with its content.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder");
    let entries = entries.map(|entry| entry.expect("an entry").path());
    entries
        .map(|path| {
            (
                path.display().to_string(),
                fs::read(&path).unwrap_or_default(),
            )
        })
        .collect()
}

fn run(command: &str, file: &Path) -> (Option<i32>, String) {
    let mut gateway = Command::new(binary());
    let output = gateway.arg(command).arg("--config").arg(file).output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// A configuration; what is given stands on its lines 2, 3 and from 9 on.
fn refused(listen: &str, tls: &str, audit: &str, place: &str, word: &str) {
    refused_beside(listen, tls, audit, (place, word), |_| {});
}

fn refused_beside(
    listen: &str,
    tls: &str,
    audit: &str,
    (place, word): (&str, &str),
    prepare: impl Fn(&Path),
) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let text = format!(
        "[server]\nlisten = {listen}\ntls = {{ self_signed = true{tls} }}\n[auth]\n\
         keys = [{{ name = \"a\", sha256 = \"{}\", roles = [\"all\"] }}]\n[roles]\n\
         all = {{ \"*\" = {{}} }}\n[backends.m]\ncommand = [\"/bin/sh\"]\n{audit}",
        "0".repeat(64)
    );
    fs::write(&file, text).expect("a file");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a pair");
    for (name, text) in [
        ("ca.pem", made.cert.pem()),
        ("empty.pem", "# nothing\n".to_owned()),
        ("notes.txt", "some notes\nof mine\n".to_owned()),
        ("word", "one line that has no end".to_owned()),
    ] {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    prepare(folder.path());
    let before = content(folder.path());
    for (command, code) in [("check", 1), ("serve", 2)] {
        let (ended, said) = run(command, &file);
        assert_eq!(ended, Some(code), "{command}: {said}");
        assert!(
            said.contains(&format!("proxy.toml:{place}")),
            "{command}: {said}"
        );
        assert!(said.contains(word), "{command}: {said}");
        assert_eq!(content(folder.path()), before, "{command}: {said}");
    }
}

#[test]
fn a_file_is_good_before_anything_was_made_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let text = format!(
        "[server]\nlisten = {FREE}\ntls = {{ self_signed = true }}\n[auth]\n\
         keys = [{{ name = \"a\", sha256 = \"{}\", roles = [\"all\"] }}]\n[roles]\n\
         all = {{ \"*\" = {{}} }}\n[audit]\npath = \"audit/log.jsonl\"\n[backends.m]\n\
         command = [\"npx\", \"-y\", \"@modelcontextprotocol/server-memory\"]\n",
        "0".repeat(64)
    );
    fs::write(&file, text).expect("a file");
    let before = content(folder.path());
    // From there, as most do: so its children run in that folder too.
    let mut check = Command::new(binary());
    let checked = check.arg("check").current_dir(folder.path()).output();
    let checked = checked.expect("it runs");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert_eq!(content(folder.path()), before, "{said}");
}

const FREE: &str = "\"127.0.0.1:0\"";

#[test]
fn authorities_and_lists_that_hold_none() {
    let clients = ", client_auth = \"required\", client_ca = \"empty.pem\"";
    refused(FREE, clients, "", "3:67", "holds no certificate");
    let clients =
        ", client_auth = \"required\", client_ca = \"ca.pem\", client_crl = \"empty.pem\"";
    refused(FREE, clients, "", "3:90", "holds no revocation list");
}

#[test]
fn an_address_and_all_of_its_kind() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let listen = format!("[\"0.0.0.0:{port}\", \"127.0.0.1:{port}\"]");
    let place = format!("2:{}", 11 + "\"0.0.0.0:\", ".len() + port.to_string().len());
    refused(&listen, "", "", &place, "part of the other");
}

#[test]
fn a_key_of_an_own_certificate_that_others_can_read() {
    let open = |folder: &Path| {
        let made =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a pair");
        let key = folder.join("gatehouse-key.pem");
        fs::write(folder.join("gatehouse-cert.pem"), made.cert.pem()).expect("a file");
        fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
        fs::set_permissions(key, fs::Permissions::from_mode(0o644)).expect("a mode");
    };
    refused_beside(FREE, "", "", ("3:9", "chmod 600"), open);
}

#[test]
fn an_audit_log_that_would_be_something_else() {
    let log = |path: &str| format!("[audit]\npath = \"{path}\"\n");
    for path in ["proxy.toml", "notes.txt", "word"] {
        refused(FREE, "", &log(path), "11:8", "holds something else");
    }
    refused(FREE, "", &log("audit/"), "11:8", "names a folder");
}

#[test]
fn a_key_for_checkpoints_without_a_place_or_in_the_place_of_the_log() {
    let log = |key: &str| format!("[audit]\npath = \"log.jsonl\"\nsign_key = \"{key}\"\n");
    refused(FREE, "", &log("none/key"), "12:12", "folder isn't there");
    for key in ["log.jsonl", "log.jsonl.key", "./log.jsonl"] {
        refused(FREE, "", &log(key), "12:12", "audit log itself");
    }
    let lost = |folder: &Path| {
        let public = folder.join("key.pub");
        fs::write(public, KEY).expect("a file");
    };
    refused_beside(FREE, "", &log("key"), ("12:12", "put it back"), lost);
}
