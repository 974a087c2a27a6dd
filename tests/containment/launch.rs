//! What a command gets, and how it is told apart what became of it.

use std::{
    collections::BTreeSet, env, fs, io::ErrorKind::BrokenPipe, os::fd::AsFd,
    os::unix::fs::PermissionsExt, time::Duration,
};

use gatehouse::{
    backend::child::{Child, Containment, Exit, Spawner, Stderr, Tag},
    drain::Drain,
    secret::Secret,
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    config, containments,
    host::{self, Host},
    launcher,
    observe::{descendants, descriptors, mark, sleepers, stat, status_line, until, until_sleepers},
    spawn, spawn_as,
};

/// All it says on stdout, and how it ended.
async fn output(mut child: Child) -> (Vec<u8>, Exit) {
    let mut said = Vec::new();
    child.stdout.read_to_end(&mut said).await.unwrap();
    (said, child.process.wait().await)
}

#[tokio::test]
async fn the_environment_is_what_is_promised_and_no_more() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mut config = config(&["cat", "/proc/self/environ"]);
        config.inherit_env = vec![
            "CARGO_MANIFEST_DIR".to_owned(),
            "NOT_SET_ANYWHERE".to_owned(),
        ];
        config.env = vec![
            ("LANG".to_owned(), Secret::new("xx")),
            ("LD_DEBUG_OUTPUT".to_owned(), Secret::new("a=b c\n")),
        ];
        let mut expected: BTreeSet<String> = ["PATH", "HOME", "TZ", "TMPDIR", "CARGO_MANIFEST_DIR"]
            .iter()
            .filter_map(|name| Some(format!("{name}={}", env::var(name).ok()?)))
            .collect();
        expected.extend(["LANG=xx".to_owned(), "LD_DEBUG_OUTPUT=a=b c\n".to_owned()]);
        let (said, exit) = output(spawn_as(containment, &config).await).await;
        let said = String::from_utf8(said).unwrap();
        let said: BTreeSet<String> = said.split_terminator('\0').map(str::to_owned).collect();
        assert_eq!((said, exit), (expected, Exit::Code(0)), "{containment}");
    }
}

#[tokio::test]
async fn arguments_arrive_byte_for_byte_and_unread_by_any_shell() {
    let _guard = host::no_hosts().await;
    let odd = ["a b", "", "$HOME", "`id`", "'\"\\", "new\nline", "ü", "*"];
    for containment in containments().await {
        let argv = [
            &["sh", "-c", "printf '%s\\0' \"$0\" \"$@\"", "--"],
            odd.as_slice(),
        ]
        .concat();
        let (said, _) = output(spawn_as(containment, &config(&argv)).await).await;
        let expected: String = ["--"]
            .iter()
            .chain(&odd)
            .map(|arg| format!("{arg}\0"))
            .collect();
        assert_eq!(said, expected.as_bytes(), "{containment}");
    }
}

#[tokio::test]
async fn an_environment_beyond_what_a_pipe_holds_arrives() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mut config = config(&["sh", "-c", "echo ${#A} ${#B} ${#C}; cat"]);
        let value = Secret::new("x".repeat(100_000));
        config.env = ["A", "B", "C"]
            .map(|name| (name.to_owned(), value.clone()))
            .to_vec();
        let mut child = spawn_as(containment, &config).await;
        child
            .stdin
            .write_all(b"and the first line\n")
            .await
            .unwrap();
        drop(child.stdin);
        let mut said = String::new();
        child.stdout.read_to_string(&mut said).await.unwrap();
        assert_eq!(
            said, "100000 100000 100000\nand the first line\n",
            "{containment}"
        );
    }
}

#[tokio::test]
async fn no_secret_shows_in_a_stage_of_the_launcher() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let mut config = config(&["sleep", &mark]);
        config.env = vec![("TOKEN".to_owned(), Secret::new("hunter2hunter2"))];
        let child = spawn_as(containment, &config).await;
        until_sleepers(&mark, 1).await;
        let command = sleepers(&mark)[0];
        for pid in stages(&child, command) {
            let argv = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
            let environ = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
            assert!(
                argv.contains("__launch") && !argv.contains("hunter2"),
                "{argv}"
            );
            assert_eq!(environ, "", "{containment}");
        }
        let argv = fs::read_to_string(format!("/proc/{command}/cmdline")).unwrap();
        assert!(!argv.contains("hunter2"));
    }
}

/// The stages that stand over a command.
fn stages(child: &Child, command: i32) -> Vec<i32> {
    let root = i32::try_from(child.process.pid()).unwrap();
    let mut stages = descendants(root);
    stages.retain(|pid| *pid != command);
    stages.push(root);
    stages
}

#[tokio::test]
async fn only_descriptors_0_to_2_reach_the_command() {
    let _guard = host::no_hosts().await;
    // As a gateway that was itself given a descriptor by a careless parent.
    let leak = fs::File::open("/dev/zero").unwrap();
    fcntl(leak.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    for containment in containments().await {
        let mark = mark();
        let child = spawn(containment, &format!("exec sleep {mark}")).await;
        until_sleepers(&mark, 1).await;
        let command = sleepers(&mark)[0];
        // A command that has just begun has its libraries open for a moment.
        until("the command has descriptors 0 to 2 only", || {
            descriptors(command).into_keys().eq(0..=2)
        })
        .await;
        let open = descriptors(command);
        for stage in stages(&child, command) {
            // It lets go of them just after the command has begun.
            until("no stage holds the pipes", || {
                let held = descriptors(stage);
                !held
                    .values()
                    .any(|held| open.values().any(|open| open == held))
            })
            .await;
            let held = descriptors(stage);
            assert!(
                !held.values().any(|held| held.ends_with("zero")),
                "{containment}"
            );
        }
    }
}

#[tokio::test]
async fn the_command_starts_with_default_signals_in_a_session_of_its_own() {
    if host::serve().await {
        return;
    }
    let _guard = host::alone().await;
    for containment in containments().await {
        let mark = mark();
        let test = "launch::the_command_starts_with_default_signals_in_a_session_of_its_own";
        // As under nohup, in the background of a script.
        let prefix = [
            "sh",
            "-c",
            "trap '' HUP INT QUIT USR1 TERM; exec \"$@\"",
            "--",
        ];
        let exe = env::current_exe().unwrap();
        let script = format!("exec sleep {mark}");
        let mut host = Host::start_with(&prefix, &exe, test, containment, &script);
        host.line("root");
        until_sleepers(&mark, 1).await;
        let command = sleepers(&mark)[0];
        // Two that the C library keeps for itself, and lets nobody reset.
        let reserved = 0b11 << 31;
        for line in ["SigBlk", "SigIgn", "SigCgt"] {
            let mask = u64::from_str_radix(&status_line(command, line), 16).unwrap();
            assert_eq!(mask & !reserved, 0, "{containment}: {line}");
        }
        assert_ne!(
            stat(command).unwrap().session,
            stat(host.pid()).unwrap().session
        );
    }
}

#[tokio::test]
async fn stdout_ends_when_the_command_closes_it() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mut child = spawn(containment, "echo last; exec 1>&- 2>&-; cat <&0").await;
        let (mut said, mut complained) = (String::new(), String::new());
        child.stdout.read_to_string(&mut said).await.unwrap();
        child.stderr.read_to_string(&mut complained).await.unwrap();
        assert_eq!(
            (said.as_str(), complained.as_str()),
            ("last\n", ""),
            "{containment}"
        );
        drop(child.stdin);
        child.process.wait().await;
    }
}

#[tokio::test]
async fn a_write_fails_when_the_command_closed_its_stdin() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let child = spawn(containment, &format!("exec 0<&-; exec sleep {mark}")).await;
        until_sleepers(&mark, 1).await;
        // The stages let go of it just after the command has begun.
        let closed = || matches!(child.stdin.try_write(b"?"), Err(e) if e.kind() == BrokenPipe);
        until("a broken pipe", closed).await;
        child.process.kill().await;
    }
}

#[tokio::test]
async fn how_the_command_ended_is_reported() {
    let _guard = host::no_hosts().await;
    let cases = [
        ("exit 0", Exit::Code(0)),
        ("exit 3", Exit::Code(3)),
        ("exit 137", Exit::Code(137)),
        ("exit 255", Exit::Code(255)),
        ("kill -HUP $$", Exit::Signal(1)),
        ("kill -TERM $$", Exit::Signal(15)),
        ("kill -SEGV $$", Exit::Signal(11)),
        ("kill -ABRT $$", Exit::Signal(6)),
        ("kill -USR1 $$", Exit::Signal(10)),
        ("kill -KILL $$", Exit::Signal(9)),
        // As a shell would put it.
        ("kill -40 $$", Exit::Code(168)),
    ];
    for containment in containments().await {
        for (script, expected) in cases {
            let (_, exit) = output(spawn(containment, script).await).await;
            assert_eq!(exit, expected, "{containment}: {script}");
        }
    }
}

#[tokio::test]
async fn a_command_that_exec_refuses_ends_with_a_reason_on_stderr() {
    let _guard = host::no_hosts().await;
    let dir = tempfile::tempdir().unwrap();
    for (name, text, code) in [
        ("no-interpreter", "#!/absent/interpreter\n", 127),
        ("no-format", "neither a script nor a program", 126),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        for containment in containments().await {
            let mut child = spawn_as(containment, &config(&[path.to_str().unwrap()])).await;
            let mut reason = String::new();
            child.stderr.read_to_string(&mut reason).await.unwrap();
            assert!(
                reason.starts_with("gatehouse: cannot run the command: "),
                "{reason}"
            );
            assert_eq!(
                child.process.wait().await,
                Exit::Code(code),
                "{containment}: {name}"
            );
        }
    }
}

#[tokio::test]
async fn the_command_runs_in_its_working_directory_under_its_own_name() {
    let _guard = host::no_hosts().await;
    let dir = tempfile::tempdir().unwrap();
    for containment in containments().await {
        let mut config = config(&["sh", "-c", "pwd; tr '\\0' ' ' < /proc/$$/cmdline"]);
        config.cwd = Some(dir.path().to_owned());
        let (said, _) = output(spawn_as(containment, &config).await).await;
        let said = String::from_utf8(said).unwrap();
        let cwd = dir.path().canonicalize().unwrap();
        assert!(
            said.starts_with(&format!("{}\nsh -c pwd", cwd.display())),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_namespace_shows_only_its_own_processes() {
    let _guard = host::no_hosts().await;
    if !containments().await.contains(&Containment::Namespace) {
        return;
    }
    let child = spawn(
        Containment::Namespace,
        "cd /proc; echo [0-9]*; readlink self",
    )
    .await;
    let (said, _) = output(child).await;
    let said = String::from_utf8(said).unwrap();
    let pids = said.lines().next().unwrap().split(' ');
    assert_eq!(
        pids.filter(|pid| pid.parse::<i32>().unwrap() > 10).count(),
        0,
        "{said}"
    );
}

#[tokio::test]
async fn stderr_is_drained_however_much_there_is() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let drain = Drain::new();
        let spawner = Spawner::with(launcher(), containment, drain.clone());
        let flood = "head -c 20000000 /dev/zero >&2; echo the end >&2; echo done";
        let child = spawner.spawn(&config(&["sh", "-c", flood])).await.unwrap();
        let tag = Tag {
            backend: "flood".to_owned(),
            instance: "1".to_owned(),
        };
        let Child {
            mut stdout,
            stderr,
            process,
            ..
        } = child;
        let stderr = Stderr::drain(stderr, tag, &[], &drain);
        let mut said = String::new();
        stdout.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "done\n");
        process.stop(Duration::from_secs(20)).await;
        drain.wait().await;
        assert!(stderr.tail().ends_with(b"the end\n"), "{containment}");
    }
}
