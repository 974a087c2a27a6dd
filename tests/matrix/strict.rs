//! The real servers under `profile = "strict"` without a network, with the settings that
//! `proxy.toml.example` shows; and installed from the real registries by `gatehouse install`.

use std::{fs, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    check, drive,
    gateway::{Gateway, binary, deps, node, repository},
    installed,
    program::{Place, run},
};

macro_rules! strict {
    ($($client:ident { $($server:ident)* })*) => {
        $(mod $client {
            $(#[test]
            fn $server() {
                super::check(stringify!($client), "http", concat!(stringify!($server), "_strict"));
            })*
        })*
    };
}

strict! {
    typescript2 { everything filesystem memory time git }
    python1 { everything filesystem memory time git }
}

/// The backends of these tests.
pub(crate) fn backends(dir: &Path) -> String {
    let modules = repository().join("tests/servers/node/node_modules");
    let modules = fs::canonicalize(modules).expect("scripts/test ran");
    let script =
        |name: &str| modules.join(format!("@modelcontextprotocol/server-{name}/dist/index.js"));
    let python = |name: &str| deps().join("servers/bin").join(name);
    let (data, memory) = (dir.join("data"), dir.join("memory"));
    let repository = dir.join("repository");
    fs::create_dir(&memory).expect("a folder");
    let everything = json!([node(), script("everything"), "stdio"]);
    let filesystem = json!([node(), script("filesystem"), data]);
    let remember = json!([node(), script("memory")]);
    let time = json!([python("mcp-server-time"), "--local-timezone", "UTC"]);
    let git = json!([python("mcp-server-git"), "--repository", repository]);
    let file = json!(memory.join("memory.jsonl"));
    let [modules, data, memory, repository] = [
        json!(modules),
        json!(data),
        json!(memory),
        json!(repository),
    ];
    format!(
        r#"
[backends.everything_strict]
command = {everything}
sandbox = {{ profile = "strict", network = "none", read = [{modules}] }}

[backends.filesystem_strict]
command = {filesystem}
sandbox = {{ profile = "strict", network = "none", read = [{modules}], write = [{data}] }}

[backends.memory_strict]
command = {remember}
env = {{ MEMORY_FILE_PATH = {file} }}
isolation = "principal"
sandbox = {{ profile = "strict", network = "none", read = [{modules}], write = [{memory}] }}

[backends.time_strict]
command = {time}
sandbox = {{ profile = "strict", network = "none" }}

[backends.git_strict]
command = {git}
isolation = "shared"
env = {{ GIT_CONFIG_COUNT = "1", GIT_CONFIG_KEY_0 = "safe.directory", GIT_CONFIG_VALUE_0 = {repository} }}
sandbox = {{ profile = "strict", network = "none", write = [{repository}] }}
"#
    )
}

/// The registries are those of this machine's settings.
#[test]
fn what_install_fetches_from_the_registries_runs_confined_and_offline() {
    if !installed() {
        return;
    }
    let _place = Place::take();
    let gateway = Gateway::start_with(|dir| {
        let backends = from_registries();
        // It has to be there before the gateway starts, and needs no more than backends.
        let file = dir.join("install.toml");
        let listen =
            "[server]\nlisten = \"127.0.0.1:1\"\ninsecure_http = true\n[auth]\nanonymous = true\n";
        fs::write(&file, format!("{listen}{backends}")).expect("a configuration");
        let mut install = Command::new(binary());
        install.args(["install", "--config"]).arg(&file);
        let said = run(install, INSTALL_TIMEOUT);
        assert!(said.in_time, "{said}");
        for expected in [
            "everything: installed @model",
            "time: installed mcp_server_time",
        ] {
            assert!(said.stderr.contains(expected), "{said}");
        }
        let mut check = Command::new(binary());
        check.args(["check", "--config"]).arg(&file);
        let said = run(check, INSTALL_TIMEOUT);
        assert!(said.stderr.contains("is good"), "{said}");
        assert_eq!(said.stderr.matches(", installed").count(), 2, "{said}");
        backends
    });
    drive(&gateway, "typescript2", "http", "everything");
    drive(&gateway, "python1", "http", "time");
}

/// The versions that the other tests have, by the runners that a README names.
fn from_registries() -> String {
    let lock = repository().join("tests/servers/node/package.json");
    let lock: Value = serde_json::from_slice(&fs::read(lock).expect("a manifest")).expect("JSON");
    let name = "@modelcontextprotocol/server-everything";
    let version = lock["dependencies"][name].as_str().expect("a version");
    let wanted = repository().join("tests/servers/python/requirements.in");
    let wanted = fs::read_to_string(wanted).expect("requirements");
    let time = wanted
        .lines()
        .find(|line| line.starts_with("mcp-server-time"));
    let everything = json!(["npx", "-y", format!("{name}@{version}"), "stdio"]);
    let time = json!([
        deps().join("uv/bin/uvx"),
        "--from",
        time.expect("a version"),
        "mcp-server-time",
        "--local-timezone",
        "UTC"
    ]);
    format!(
        r#"
[backends.everything]
command = {everything}
sandbox = {{ profile = "strict", network = "none" }}

[backends.time]
command = {time}
sandbox = {{ profile = "strict", network = "none" }}
"#
    )
}

const INSTALL_TIMEOUT: Duration = Duration::from_secs(240);
