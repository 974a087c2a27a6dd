//! `gatehouse install`: what a runner would fetch is fetched once, whole or not at all, and what is
//! run is what was installed for this very command.
//!
//! `npm` and `uv` are scripts here, for what no registry does on demand; `tests/matrix` has the
//! real ones.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::{
    ALICE, Rig, binary,
    mcp::{Mcp, NEWEST, initialize},
    misbehave, until,
};

/// A PATH with runners of ours in front.
struct Tools {
    folder: TempDir,
}

/// Makes a package whose program is the tests' server; the version is the last word's.
const NPM: &str = r#"#!/bin/sh
[ "$1" != root ] || { echo TOOLS/global/lib/node_modules; exit; }
for last; do :; done
version=${last##*@}
echo "$*" >>TOOLS/npm.calls
env >TOOLS/npm.env
[ ! -e TOOLS/broken ] || { echo "registry says no" >&2; exit 7; }
mkdir -p node_modules/server node_modules/.bin
printf '{"name":"server","version":"%s","bin":{"server":"run","other":"other"}}' "$version" >node_modules/server/package.json
printf '#!/bin/sh\n# %s\nexec MISBEHAVE "$@"\n' "$version" >node_modules/server/run
chmod 777 node_modules/server/run
chmod 777 node_modules/server
ln -s ../server/run node_modules/.bin/server
printf '{"packages":{"":{},"node_modules/server":{"version":"%s","integrity":"sha512-x","hasInstallScript":true}}}' "$version" >package-lock.json
"#;
/// What must not be run once something is installed.
const NPX: &str = "#!/bin/sh\necho ran >>TOOLS/npx.ran\nexec MISBEHAVE\n";

impl Tools {
    fn new() -> Self {
        let tools = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        tools.script("npm", NPM);
        tools.script("npx", NPX);
        tools
    }

    fn script(&self, name: &str, text: &str) {
        let text = text
            .replace("TOOLS", &self.folder.path().display().to_string())
            .replace("MISBEHAVE", &misbehave().display().to_string());
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    fn path(&self) -> String {
        let rest = std::env::var("PATH").expect("a PATH");
        format!("{}:{rest}", self.folder.path().display())
    }

    async fn rig(&self, fragment: &str) -> Rig {
        Rig::start_with(fragment, |gateway| {
            gateway.env("PATH", self.path());
        })
        .await
    }

    fn command(&self, words: &[&str], folder: &Path) -> Command {
        let mut command = Command::new(binary());
        command
            .args(words)
            .arg("--config")
            .arg(folder.join("proxy.toml"))
            .env("PATH", self.path())
            .env("NODE_AUTH_TOKEN", "the-operators-token");
        command
    }

    fn run(&self, words: &[&str], folder: &Path) -> (Option<i32>, String) {
        let output = self.command(words, folder).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }
}

fn fragment(package: &str, profile: &str) -> String {
    // What the server is in isn't part of the package.
    let server = misbehave();
    let target = server.parent().expect("a folder");
    let read = if profile == "strict" {
        format!("read = [{target:?}]")
    } else {
        String::new()
    };
    format!(
        "[audit]\npath = \"audit/log.jsonl\"\n\
         [backends.m]\ncommand = [\"npx\", \"-y\", {package:?}, \"--marker\", \"m\"]\nwarm = 0\n\
         env = {{ SECRET = \"of-the-backend\", npm_config_registry = \"https://r.example/\" }}\n\
         [backends.m.sandbox]\nprofile = {profile:?}\n{read}\n"
    )
}

async fn open(rig: &Rig) -> Mcp {
    Mcp::open(rig, "m", ALICE).await
}

async fn reloaded(rig: &Rig, change: impl FnOnce()) {
    let count = || rig.log().matches("configuration reloaded").count();
    change();
    // The first one may have begun before, for a change that the gateway has seen by itself.
    for _ in 0..2 {
        let before = count();
        rig.signal(Signal::SIGHUP);
        until("a reload", || count() > before).await;
    }
}

fn record(rig: &Rig) -> Option<Value> {
    let path = rig.folder().join("gatehouse-packages/m/installed.json");
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn installations(rig: &Rig) -> usize {
    let entries = fs::read_dir(rig.folder().join("gatehouse-packages/m")).expect("a folder");
    let folders = entries.filter(|entry| entry.as_ref().is_ok_and(|it| it.path().is_dir()));
    folders.count()
}

/// A session can't be opened; the answer says no more than that, and the audit log why.
async fn refused_to_start(rig: &Rig) {
    let reply = rig
        .client()
        .post("/m/mcp", ALICE, &[], initialize(NEWEST).to_string())
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let error = json!({"code": -32011, "message": "The server is not available"});
    assert_eq!(reply.json()["error"], error);
    until("a denied event", || {
        let log = fs::read_to_string(rig.folder().join("audit/log.jsonl")).unwrap_or_default();
        log.contains("\"denied\"") && log.contains("\"unavailable\"")
    })
    .await;
}

#[tokio::test]
async fn under_strict_a_runner_is_not_started_and_what_was_installed_is() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "strict")).await;
    refused_to_start(&rig).await;
    rig.logged("run `gatehouse install").await;
    let (code, said) = tools.run(&["check"], rig.folder());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("run `gatehouse install"), "{said}");

    let install = || {
        let (code, said) = tools.run(&["install"], rig.folder());
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("m: installed server 1"), "{said}");
        assert!(
            said.contains("install scripts, which were not run: server"),
            "{said}"
        );
    };
    reloaded(&rig, install).await;
    let mcp = open(&rig).await;
    assert_eq!(mcp.text("echo", json!({"text": "hello"})).await, "hello");
    assert_eq!(tools.read("npx.ran"), "", "npx was not needed");

    let (code, said) = tools.run(&["check"], rig.folder());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("server 1, installed"), "{said}");
}

#[tokio::test]
async fn the_installer_gets_the_operators_environment_and_nothing_of_it_reaches_the_child() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "basic")).await;
    let install = || {
        let (code, said) = tools.run(&["install", "--backend", "m"], rig.folder());
        assert_eq!(code, Some(0), "{said}");
    };
    reloaded(&rig, install).await;
    let calls = tools.read("npm.calls");
    assert!(calls.starts_with("install "), "{calls}");
    assert!(calls.contains("--ignore-scripts=true"), "{calls}");
    // Of what is no package of a registry npm runs git, and what that finds.
    assert!(
        calls.contains("--allow-git=none --allow-remote=none --git=/nonexistent/git"),
        "{calls}"
    );
    // The child reads the lock file, and addresses may hold credentials.
    assert!(
        calls.contains("--omit-lockfile-registry-resolved=true"),
        "{calls}"
    );
    assert!(calls.trim_end().ends_with("-- server@1"), "{calls}");
    let env = tools.read("npm.env");
    assert!(env.contains("NODE_AUTH_TOKEN=the-operators-token"));
    assert!(env.contains("npm_config_registry=https://r.example/"));
    assert!(!env.contains("of-the-backend"), "its secrets are not npm's");

    let mcp = open(&rig).await;
    let answer = mcp.text("env", json!({})).await;
    assert!(answer.contains("of-the-backend"), "{answer}");
    assert!(!answer.contains("the-operators-token"), "{answer}");
}

#[tokio::test]
async fn only_what_was_installed_for_this_command_is_run() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "basic")).await;
    let install = |words: &[&str]| {
        let (code, said) = tools.run(words, rig.folder());
        assert_eq!(code, Some(0), "{said}");
        said
    };
    reloaded(&rig, || {
        install(&["install"]);
    })
    .await;
    open(&rig).await;
    assert_eq!(tools.read("npx.ran"), "");

    // Another version is another command: npx is asked again, and it is said.
    reloaded(&rig, || rig.rewrite(&fragment("server@2", "basic"))).await;
    rig.logged("is not what it asks for").await;
    open(&rig).await;
    assert_eq!(tools.read("npx.ran"), "ran\n");
    reloaded(&rig, || rig.rewrite(&fragment("server@2", "strict"))).await;
    refused_to_start(&rig).await;

    reloaded(&rig, || {
        install(&["install"]);
    })
    .await;
    open(&rig).await;
    assert_eq!(tools.read("npx.ran"), "ran\n", "not once more");
    assert!(
        record(&rig)
            .expect("a record")
            .to_string()
            .contains("server 2")
    );

    // What is there is there; `--upgrade` asks again, and keeps what may be running.
    let calls = || tools.read("npm.calls").lines().count();
    let before = calls();
    assert!(install(&["install"]).contains("m: is installed"));
    assert_eq!(calls(), before);
    install(&["install", "--upgrade"]);
    install(&["install", "--upgrade", "--allow-scripts"]);
    assert_eq!(calls(), before + 2);
    assert!(tools.read("npm.calls").contains("--ignore-scripts=false"));
    assert!(
        !tools
            .read("npm.calls")
            .lines()
            .last()
            .expect("a call")
            .contains("--allow-git")
    );
    assert_eq!(installations(&rig), 4, "those before were in use today");
}

#[tokio::test]
async fn what_fails_changes_nothing_and_leaves_nothing() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "strict")).await;
    fs::write(tools.file("broken"), "").expect("a file");
    let (code, said) = tools.run(&["install"], rig.folder());
    assert_eq!(code, Some(1));
    assert!(said.contains("registry says no"), "{said}");
    assert_eq!((record(&rig), installations(&rig)), (None, 0));

    fs::remove_file(tools.file("broken")).expect("a file");
    assert_eq!(tools.run(&["install"], rig.folder()).0, Some(0));
    let first = record(&rig);
    fs::write(tools.file("broken"), "").expect("a file");
    assert_eq!(
        tools.run(&["install", "--upgrade"], rig.folder()).0,
        Some(1)
    );
    assert_eq!((record(&rig), installations(&rig)), (first, 1));
}

#[tokio::test]
async fn several_at_once_end_with_one_that_is_whole() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "strict")).await;
    let running: Vec<_> = (0..3)
        .map(|_| {
            let mut command = tools.command(&["install", "--upgrade"], rig.folder());
            command.stderr(Stdio::null()).spawn().expect("it runs")
        })
        .collect();
    for mut one in running {
        assert!(one.wait().expect("it ends").success());
    }
    let (code, said) = tools.run(&["check"], rig.folder());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(installations(&rig), 3, "each one was in use");
}

#[tokio::test]
async fn what_others_can_change_or_somebody_has_changed_is_refused() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "strict")).await;
    assert_eq!(tools.run(&["install"], rig.folder()).0, Some(0));
    let all = rig.folder().join("gatehouse-packages");
    let folder = record(&rig).expect("a record")["folder"].clone();
    let one = all.join("m").join(folder.as_str().expect("a name"));
    let mode = |path: &Path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        mode(&one.join("node_modules/server/run")),
        0o755,
        "npm left it open"
    );
    assert_eq!(mode(&one.join("node_modules/server")), 0o755);
    assert_eq!(mode(&one.join("package-lock.json")), 0o644);

    fs::set_permissions(&all, fs::Permissions::from_mode(0o777)).expect("a mode");
    let (code, said) = tools.run(&["check"], rig.folder());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("can't be trusted"), "{said}");
    let (code, said) = tools.run(&["serve"], rig.folder());
    assert_eq!(code, Some(2), "{said}");
    fs::set_permissions(&all, fs::Permissions::from_mode(0o755)).expect("a mode");

    let program = one.join("node_modules/server/run");
    let text = fs::read_to_string(&program).expect("a script");
    fs::write(&program, text + "# more\n").expect("a script");
    let (code, said) = tools.run(&["check"], rig.folder());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not what was installed"), "{said}");
    let (code, said) = tools.run(&["install"], rig.folder());
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("m: installed"),
        "it is installed anew: {said}"
    );
    assert_eq!(tools.run(&["check"], rig.folder()).0, Some(0));
}

#[tokio::test]
async fn pins_hold_the_whole_installation_and_not_the_folder_it_is_in() {
    let tools = Tools::new();
    let pins = "[backends.m.pin]\nmode = \"enforce\"\n";
    let rig = tools.rig(&(fragment("server@1", "strict") + pins)).await;
    let run = |words: &[&str]| {
        let (code, said) = tools.run(words, rig.folder());
        assert_eq!(code, Some(0), "{said}");
        said
    };
    let said = run(&["install"]);
    assert!(said.contains("gatehouse pin --backend m"), "{said}");
    reloaded(&rig, || {
        run(&["pin"]);
    })
    .await;
    open(&rig).await;
    let lock = fs::read_to_string(rig.folder().join("gatehouse.lock")).expect("a lock");
    assert!(lock.contains("server 1 sha512-x"), "{lock}");
    assert!(!lock.contains("gatehouse-packages"), "{lock}");

    // The same again is the same, wherever it stands.
    let said = run(&["install", "--upgrade"]);
    assert!(!said.contains("gatehouse pin"), "{said}");
    assert!(run(&["pin"]).contains("nothing has changed"));
    reloaded(&rig, || {}).await;
    open(&rig).await;

    // Any file counts.
    let folder = record(&rig).expect("a record")["folder"].clone();
    let one = rig.folder().join("gatehouse-packages/m");
    let one = one.join(folder.as_str().expect("a name"));
    fs::write(one.join("node_modules/added.js"), "").expect("a file");
    refused_to_start(&rig).await;
    let log = fs::read_to_string(rig.folder().join("audit/log.jsonl")).expect("a log");
    assert!(log.contains("pin.changed"), "{log}");
}

#[tokio::test]
async fn what_cant_be_installed_is_said_in_words() {
    let tools = Tools::new();
    let more = "[backends.shell]\ncommand = [\"npx\", \"-c\", \"ls\"]\n\
                [backends.plain]\ncommand = [\"misbehave\"]\n\
                [backends.python]\ncommand = [\"./uvx\", \"a\"]\n";
    let rig = tools.rig(&(fragment("server@1", "basic") + more)).await;
    let wrong = |words: &[&str], code: i32, words_said: &str| {
        let (found, said) = tools.run(words, rig.folder());
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(words_said), "{said}");
    };
    wrong(
        &["install", "--backend", "shell"],
        1,
        "runs a shell command",
    );
    wrong(
        &["install", "--backend", "plain"],
        1,
        "runs neither `npx` nor `uvx`",
    );
    wrong(
        &["install", "--backend", "nobody"],
        2,
        "has no such backend",
    );
    tools.script(
        "npm",
        "#!/bin/sh\n[ $1 != root ] || echo /nonexistent/lib/node_modules\n",
    );
    wrong(
        &["install", "--backend", "m"],
        1,
        "server was not installed",
    );
    assert_eq!(installations(&rig), 0);
    let two = NPM.replace("{\"server\":", "{\"a\":");
    tools.script("npm", &two);
    wrong(&["install", "--backend", "m"], 1, "there are a, other");

    // A machine that has no uv.
    let mut command = tools.command(&["install", "--backend", "python"], rig.folder());
    let output = command
        .env("PATH", tools.folder.path())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("`uvx` needs `uv`, which is not on PATH"),
        "{said}"
    );
}

#[tokio::test]
async fn nothing_that_is_not_ours_is_removed_or_written_to() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "basic")).await;
    let place = rig.folder().join("gatehouse-packages/m");
    fs::create_dir_all(place.join("photos")).expect("a folder");
    fs::create_dir_all(place.join("0123456789abcdef")).expect("a folder");
    fs::write(place.join("photos/file"), "").expect("a file");
    let precious = rig.folder().join("precious");
    fs::write(&precious, "precious").expect("a file");
    symlink(&precious, place.join("installed.new")).expect("a link");
    for _ in 0..2 {
        let (code, said) = tools.run(&["install", "--upgrade"], rig.folder());
        assert_eq!(code, Some(0), "{said}");
    }
    assert!(place.join("photos/file").exists());
    assert!(place.join("0123456789abcdef").exists());
    assert_eq!(fs::read_to_string(&precious).expect("a file"), "precious");

    // A place that a child could have put there leads nowhere.
    fs::remove_dir_all(&place).expect("a folder");
    let elsewhere = tempfile::tempdir().expect("a folder");
    symlink(elsewhere.path(), &place).expect("a link");
    let refused = |what: &str| {
        let (code, said) = tools.run(&["install"], rig.folder());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(what), "{said}");
    };
    let calls = tools.read("npm.calls");
    refused("is a link");
    assert_eq!(fs::read_dir(elsewhere.path()).expect("it").count(), 0);
    fs::remove_file(&place).expect("a link");
    fs::create_dir(&place).expect("a folder");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).expect("a mode");
    refused("others can change");
    assert_eq!(fs::read_dir(&place).expect("a folder").count(), 0);
    assert_eq!(tools.read("npm.calls"), calls, "npm was not run");
}

/// Makes an environment whose Python does nothing, and a package in it.
const UV: &str = r#"#!/bin/sh
[ "$1" != tool ] || { echo TOOLS/uv-tools; exit; }
echo "$*" >>TOOLS/uv.calls
for last; do :; done
if [ "$1" = venv ]; then
  mkdir -p "$last/bin"
  echo "home = /usr/bin" >"$last/pyvenv.cfg"
  ln -s /bin/true "$last/bin/python"
  exit
fi
python=$5
folder=${python%/bin/python}
mkdir -p "$folder/lib/python3/site-packages/server-1.dist-info"
printf '#!/bin/sh\nexec MISBEHAVE "$@"\n' >"$folder/bin/server"
chmod 755 "$folder/bin/server"
cd "$folder" && . TOOLS/more
"#;

#[tokio::test]
async fn a_wheel_can_t_put_itself_in_the_place_of_its_environment() {
    let tools = Tools::new();
    tools.script("uv", UV);
    tools.script("uvx", NPX);
    let text = fragment("server@1", "basic").replace("\"npx\", \"-y\"", "\"uvx\"");
    let rig = tools.rig(&text).await;
    let install = |more: &str, code: i32, wanted: &str| {
        tools.script("more", more);
        let (found, said) = tools.run(&["install", "--upgrade"], rig.folder());
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(wanted), "{said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    };
    for (more, named) in [
        ("printf 'home = /var/lib/x\\n' >>pyvenv.cfg", "`pyvenv.cfg`"),
        ("touch bin/pyvenv.cfg", "`bin/pyvenv.cfg`"),
        ("rm bin/python; cp /bin/true bin/python", "`bin/python`"),
        (
            "mkdir lib/python3/site-packages/x-$(printf '\\033')c.dist-info",
            "x \\u{001B}c",
        ),
    ] {
        install(more, 1, named);
    }
    assert_eq!((record(&rig), installations(&rig)), (None, 0));
    let forged =
        r#"{"packages":{"":{},"node_modules/forged":{"version":"9","hasInstallScript":true}}}"#;
    install(
        &format!("echo '{forged}' >package-lock.json"),
        0,
        "m: installed server 1\n",
    );
    assert!(
        tools
            .read("uv.calls")
            .contains("--no-compile-bytecode --no-build")
    );
    let packages = &record(&rig).expect("a record")["packages"];
    assert_eq!(packages, &json!(["server 1"]));
    fs::create_dir_all(tools.file("uv-tools/server")).expect("a folder");
    install("", 1, "uv-tools/server, which is there without a registry");
}

#[tokio::test]
async fn two_files_in_one_folder_do_not_take_each_others_installations() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "strict")).await;
    let other = rig.folder().join("other.toml");
    let install = |file: &Path, words: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("install").args(words).arg("--config").arg(file);
        let output = command.env("PATH", tools.path()).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let text = fs::read_to_string(rig.folder().join("proxy.toml")).expect("a file");
    fs::write(&other, text.replace("server@1", "server@2")).expect("a file");
    let (code, said) = install(&other, &[]);
    assert_eq!(code, Some(0), "{said}");
    let first = record(&rig);
    assert!(first.is_some());

    let own = rig.folder().join("proxy.toml");
    let (code, said) = install(&own, &[]);
    assert_eq!(code, Some(1), "{said}");
    let reason = format!("in use by {}", other.display());
    assert!(
        said.contains(&reason) && said.contains("[packages] folder"),
        "{said}"
    );
    assert_eq!((record(&rig), installations(&rig)), (first.clone(), 1));

    // What both ask for serves both, and is one's to change.
    fs::write(&own, text.replace("server@1", "server@2")).expect("a file");
    let (code, said) = install(&own, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(install(&own, &["--upgrade"]).0, Some(1));
    assert_eq!(record(&rig), first);

    // Another folder, or no other file, and it is nobody else's.
    let elsewhere = format!("[packages]\nfolder = \"elsewhere\"\n{text}");
    fs::write(&own, elsewhere).expect("a file");
    assert_eq!(install(&own, &[]).0, Some(0));
    fs::remove_file(&other).expect("a file");
    fs::write(&own, &text).expect("a file");
    assert_eq!(install(&own, &[]).0, Some(0));
    assert_ne!(record(&rig), first);
}

#[tokio::test]
async fn what_a_runner_finds_without_a_registry_is_not_replaced_from_one() {
    let tools = Tools::new();
    let work = tempfile::tempdir().expect("a folder");
    let cwd = work.path().join("a/b");
    fs::create_dir_all(&cwd).expect("a folder");
    let cwd = format!("warm = 0\ncwd = {cwd:?}\n");
    let text = fragment("server", "basic").replacen("warm = 0\n", &cwd, 1);
    let rig = tools.rig(&text).await;
    for there in [
        work.path().join("a/.npmrc"),
        // Empty, and so nobody knows what it would have named.
        work.path().join("a/package.json"),
        work.path().join("a/node_modules/.bin/server"),
        work.path().join("a/b/node_modules/server"),
        tools.file("global/bin/server"),
        tools.file("global/lib/node_modules/server"),
    ] {
        fs::create_dir_all(there.parent().expect("a folder")).expect("a folder");
        fs::write(&there, "").expect("a file");
        let (code, said) = tools.run(&["install"], rig.folder());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&there.display().to_string()), "{said}");
        assert_eq!((record(&rig), installations(&rig)), (None, 0));
        fs::remove_file(&there).expect("a file");
    }
    assert_eq!(tools.read("npm.calls"), "", "npm was not asked for it");
    let (code, said) = tools.run(&["install"], rig.folder());
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn a_record_that_cant_be_read_is_not_one_that_isnt_there() {
    let tools = Tools::new();
    let rig = tools.rig(&fragment("server@1", "basic")).await;
    assert_eq!(tools.run(&["check"], rig.folder()).0, Some(0));
    let path = rig.folder().join("gatehouse-packages/m/installed.json");
    fs::create_dir_all(&path).expect("a folder");
    for (words, expected) in [("check", 1), ("serve", 2)] {
        let (code, said) = tools.run(&[words], rig.folder());
        assert_eq!(code, Some(expected), "{said}");
        assert!(said.contains("can't read"), "{said}");
        assert!(
            said.contains("installed.json: not a regular file"),
            "{said}"
        );
    }
}
