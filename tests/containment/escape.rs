//! Nothing that a command starts is left behind.

use std::{env, fs, os::unix::fs::PermissionsExt, time::Duration};

use gatehouse::{
    backend::child::{Containment, Exit, Spawner},
    drain::Drain,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::io::AsyncReadExt;

use super::{
    config, containments,
    host::{self, Host},
    launcher,
    observe::{descendants, mark, sleepers, stat, status_line, until, until_sleepers},
    spawn,
};

/// Starts a grandchild that does all it can to get away: forked twice, a session of its own, every
/// descriptor closed.
fn escapee(mark: &str) -> String {
    format!(
        "setsid sh -c 'setsid sh -c \"exec 0<&- 1>&- 2>&-; exec sleep {mark}\" & exit' & wait $!"
    )
}

/// Then stays until its stdin ends.
fn escapee_and_stay(mark: &str) -> String {
    format!("{}; cat", escapee(mark))
}

#[tokio::test]
async fn an_escaped_grandchild_ends_with_stop() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let child = spawn(containment, &escapee_and_stay(&mark)).await;
        until_sleepers(&mark, 1).await;
        drop(child.stdin);
        let exit = child.process.stop(Duration::from_secs(20)).await;
        assert_eq!(
            (exit, sleepers(&mark)),
            (Exit::Code(0), vec![]),
            "{containment}"
        );
    }
}

#[tokio::test]
async fn an_escaped_grandchild_ends_with_kill() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let child = spawn(containment, &escapee_and_stay(&mark)).await;
        until_sleepers(&mark, 1).await;
        let exit = child.process.kill().await;
        assert_eq!(
            (exit, sleepers(&mark)),
            (Exit::Signal(9), vec![]),
            "{containment}"
        );
    }
}

#[tokio::test]
async fn an_escaped_grandchild_ends_with_the_handle() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let child = spawn(containment, &escapee_and_stay(&mark)).await;
        until_sleepers(&mark, 1).await;
        drop(child.process);
        until_sleepers(&mark, 0).await;
    }
}

#[tokio::test]
async fn an_escaped_grandchild_ends_with_the_command() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        // The last line waits for the test, so that the grandchild surely ran.
        let mut child = spawn(
            containment,
            &format!("{}; read line; exit 7", escapee(&mark)),
        )
        .await;
        until_sleepers(&mark, 1).await;
        child.stdin.try_write(b"\n").unwrap();
        let exit = child.process.wait().await;
        assert_eq!(
            (exit, sleepers(&mark)),
            (Exit::Code(7), vec![]),
            "{containment}"
        );
    }
}

#[tokio::test]
async fn an_escaped_grandchild_ends_with_the_runtime_of_the_gateway() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let script = escapee_and_stay(&mark);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let child = runtime
            .spawn(async move { spawn(containment, &script).await })
            .await
            .unwrap();
        until_sleepers(&mark, 1).await;
        runtime.shutdown_background();
        until_sleepers(&mark, 0).await;
        drop(child);
    }
}

#[tokio::test]
async fn an_escaped_grandchild_ends_with_a_gateway_that_is_killed() {
    if host::serve().await {
        return;
    }
    let _guard = host::alone().await;
    for containment in containments().await {
        let mark = mark();
        let test = "escape::an_escaped_grandchild_ends_with_a_gateway_that_is_killed";
        let host = Host::start(test, containment, &escapee_and_stay(&mark));
        until_sleepers(&mark, 1).await;
        host.kill();
        until_sleepers(&mark, 0).await;
    }
}

#[tokio::test]
async fn a_command_that_stops_what_watches_it_ends_with_a_killed_gateway() {
    if host::serve().await {
        return;
    }
    let _guard = host::alone().await;
    for containment in containments().await {
        let mark = mark();
        let test = "escape::a_command_that_stops_what_watches_it_ends_with_a_killed_gateway";
        let script = format!("kill -STOP $PPID; {}", escapee_and_stay(&mark));
        let host = Host::start(test, containment, &script);
        until_sleepers(&mark, 1).await;
        host.kill();
        until_sleepers(&mark, 0).await;
    }
}

#[tokio::test]
async fn a_command_that_stops_what_watches_it_can_still_be_stopped() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let script = format!("kill -STOP $PPID; {}", escapee_and_stay(&mark));
        let child = spawn(containment, &script).await;
        until_sleepers(&mark, 1).await;
        child.process.stop(Duration::from_millis(1)).await;
        assert_eq!(sleepers(&mark), [0; 0], "{containment}");
    }
}

#[tokio::test]
async fn a_command_that_kills_what_watches_it_takes_all_along() {
    if host::serve().await {
        return;
    }
    let _guard = host::alone().await;
    for containment in containments().await {
        let mark = mark();
        let test = "escape::a_command_that_kills_what_watches_it_takes_all_along";
        // Its parent, then its own group, itself included.
        let script = format!(
            "{}; read line <&- ; kill -9 $PPID; kill -9 0",
            escapee_and_settle(&mark)
        );
        let mut host = Host::start(test, containment, &script);
        host.line("exit");
        assert_eq!(sleepers(&mark), [0; 0], "{containment}");
    }
}

/// The escapee, and no going on before it runs.
fn escapee_and_settle(mark: &str) -> String {
    format!(
        "{}; until grep -qs 'sleep.{mark}' /proc/[0-9]*/cmdline; do :; done",
        escapee(mark)
    )
}

#[tokio::test]
async fn the_whole_tree_ends_when_its_root_is_killed_from_outside() {
    if host::serve().await {
        return;
    }
    let _guard = host::alone().await;
    for containment in containments().await {
        let mark = mark();
        let test = "escape::the_whole_tree_ends_when_its_root_is_killed_from_outside";
        let mut host = Host::start(test, containment, &escapee_and_stay(&mark));
        let root = host.line("root").parse().unwrap();
        until_sleepers(&mark, 1).await;
        kill(Pid::from_raw(root), Signal::SIGKILL).unwrap();
        assert_eq!(host.line("exit"), "signal 9", "{containment}");
        assert_eq!(sleepers(&mark), [0; 0], "{containment}");
    }
}

#[tokio::test]
async fn an_init_that_is_killed_from_outside_takes_the_namespace_along() {
    let _guard = host::no_hosts().await;
    if !containments().await.contains(&Containment::Namespace) {
        return;
    }
    let mark = mark();
    let mut child = spawn(Containment::Namespace, &escapee_and_stay(&mark)).await;
    until_sleepers(&mark, 1).await;
    let root = i32::try_from(child.process.pid()).unwrap();
    let init = descendants(root)
        .into_iter()
        .find(|pid| stat(*pid).unwrap().parent == root);
    kill(Pid::from_raw(init.unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(child.process.wait().await, Exit::Signal(9));
    assert_eq!(sleepers(&mark), [0; 0]);
}

#[tokio::test]
async fn nothing_in_a_namespace_can_name_what_watches_it() {
    let _guard = host::no_hosts().await;
    if !containments().await.contains(&Containment::Namespace) {
        return;
    }
    // Signal 9 to all it may reach: pid 1 and itself are spared by the kernel.
    let mut child = spawn(
        Containment::Namespace,
        "kill -9 1; kill -9 -1; echo $$ $PPID",
    )
    .await;
    let mut said = String::new();
    child.stdout.read_to_string(&mut said).await.unwrap();
    let pids: Vec<i32> = said
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(pids[1], 1);
    assert_eq!(child.process.wait().await, Exit::Code(0));
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let script = format!("trap '' TERM; sleep {mark} & while :; do wait; done");
        let child = spawn(containment, &script).await;
        until_sleepers(&mark, 1).await;
        drop(child.stdin);
        let exit = child.process.stop(Duration::from_millis(50)).await;
        assert_eq!(
            (exit, sleepers(&mark)),
            (Exit::Signal(9), vec![]),
            "{containment}"
        );
    }
}

#[tokio::test]
async fn sigterm_goes_to_the_process_group_of_the_command() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        // The shell survives it and tells how its child, in the same group, ended.
        let script = format!("trap : TERM; sleep {mark} & wait; wait $!; echo child $?; exit 5");
        let mut child = spawn(containment, &script).await;
        until_sleepers(&mark, 1).await;
        drop(child.stdin);
        let exit = child.process.stop(Duration::from_millis(500)).await;
        let mut said = String::new();
        child.stdout.read_to_string(&mut said).await.unwrap();
        assert_eq!(
            (exit, said.as_str()),
            (Exit::Code(5), "child 143\n"),
            "{containment}"
        );
    }
}

#[tokio::test]
async fn many_grandchildren_end_too() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let one = format!("setsid sh -c 'exec 0<&- 1>&- 2>&-; sleep {mark} & sleep {mark}' &");
        let script = format!("for i in $(seq 25); do {one} done; cat");
        let child = spawn(containment, &script).await;
        until_sleepers(&mark, 50).await;
        child.process.kill().await;
        assert_eq!(sleepers(&mark), [0; 0], "{containment}");
    }
}

#[tokio::test]
async fn a_tree_that_goes_on_forking_ends() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let fork = format!("while :; do sleep {mark} & done");
        let script = format!("({fork}) & setsid sh -c '{fork}' & cat");
        let child = spawn(containment, &script).await;
        until("it forks", || sleepers(&mark).len() > 20).await;
        child.process.kill().await;
        assert_eq!(sleepers(&mark), [0; 0], "{containment}");
    }
}

#[tokio::test]
async fn zombies_of_orphans_are_reaped() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let script = format!("for i in $(seq 20); do (sh -c 'exit 1' &); done; sleep {mark}");
        let child = spawn(containment, &script).await;
        until_sleepers(&mark, 1).await;
        let root = i32::try_from(child.process.pid()).unwrap();
        let zombie = |pid: &i32| stat(*pid).is_some_and(|stat| stat.state == 'Z');
        until("no zombies", || !descendants(root).iter().any(zombie)).await;
        child.process.kill().await;
    }
}

#[tokio::test]
async fn the_drain_waits_for_the_whole_tree() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let drain = Drain::new();
        let spawner = Spawner::with(launcher(), containment, drain.clone());
        let script = escapee_and_stay(&mark);
        let child = spawner
            .spawn(&config(&["sh", "-c", &script]))
            .await
            .unwrap();
        until_sleepers(&mark, 1).await;
        drop(child);
        drain.wait().await;
        assert_eq!(sleepers(&mark), [0; 0], "{containment}");
    }
}

#[tokio::test]
async fn a_handle_dropped_while_it_starts_leaves_nothing() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let mark = mark();
        let drain = Drain::new();
        let spawner = Spawner::with(launcher(), containment, drain.clone());
        for _ in 0..20 {
            let command = config(&["sleep", &mark]);
            drop(spawner.spawn(&command).await.unwrap());
        }
        drain.wait().await;
        assert_eq!(sleepers(&mark), [0; 0], "{containment}");
    }
}

#[tokio::test]
async fn a_gateway_without_privileges_contains_as_well() {
    if host::serve().await {
        return;
    }
    let _guard = host::alone().await;
    if !nix::unistd::geteuid().is_root() {
        // Then every other test runs without privileges.
        return;
    }
    // Copies where another user may read them.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (exe, launcher_copy) = (dir.path().join("tests"), dir.path().join("gatehouse"));
    fs::copy(env::current_exe().unwrap(), &exe).unwrap();
    fs::copy(launcher(), &launcher_copy).unwrap();
    let launcher = format!("{}={}", host::LAUNCHER, launcher_copy.display());
    let mut prefix = "setpriv --reuid=65534 --regid=65534 --clear-groups env -C"
        .split(' ')
        .collect::<Vec<_>>();
    prefix.extend([dir.path().to_str().unwrap(), &launcher]);
    for containment in containments().await {
        let mark = mark();
        let test = "escape::a_gateway_without_privileges_contains_as_well";
        let script = escapee_and_stay(&mark);
        let host = Host::start_with(&prefix, &exe, test, containment, &script);
        until_sleepers(&mark, 1).await;
        let command = sleepers(&mark)[0];
        for line in ["CapPrm", "CapEff", "CapAmb", "CapInh"] {
            assert_eq!(
                status_line(command, line),
                "0".repeat(16),
                "{containment}: {line}"
            );
        }
        assert!(status_line(command, "Uid").starts_with("65534"));
        host.kill();
        until_sleepers(&mark, 0).await;
    }
}
