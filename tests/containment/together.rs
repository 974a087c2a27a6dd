//! Limits on all processes of an instance together, and how a process tree is told that they are.

use std::time::Duration;

use gatehouse::{
    backend::child::{Child, Containment, Exit, Spawner},
    drain::Drain,
    sandbox::{self, Profile, User},
};
use tokio::io::AsyncReadExt;

use super::{config, containments, host, launcher};

/// Runs a shell script with limits, under a profile that can hold them.
async fn limited(spawner: &Spawner, script: &str, limits: sandbox::Config) -> Child {
    let mut config = config(&["sh", "-c", script]);
    config.sandbox = limits;
    spawner.spawn(&config).await.unwrap()
}

async fn spawner() -> Spawner {
    Spawner::with_launcher(launcher(), Drain::new())
        .await
        .unwrap()
}

/// What a kernel is too old for is refused, and tested elsewhere.
async fn enforceable(spawner: &Spawner, limits: &sandbox::Config) -> bool {
    let mut config = config(&["true"]);
    config.sandbox = limits.clone();
    spawner.examine(&config).await.is_ok()
}

async fn said(child: &mut Child) -> String {
    let mut said = String::new();
    child.stdout.read_to_string(&mut said).await.unwrap();
    said
}

/// Three processes that each use less than the limit, and more together.
const BUSY: &str = "for i in 1 2 3; do (while :; do :; done) & done; wait; echo done";

#[tokio::test]
async fn the_cpu_time_of_all_processes_counts_together() {
    let _guard = host::no_hosts().await;
    let spawner = spawner().await;
    if !spawner.means().together.cpu_time {
        return;
    }
    let limits = sandbox::Config {
        cpu_time: Some(Duration::from_secs(1)),
        ..sandbox::Config::default()
    };
    let child = limited(&spawner, BUSY, limits).await;
    let mut child = child;
    assert_eq!(said(&mut child).await, "");
    assert_eq!(child.process.wait().await, Exit::Signal(9));
}

#[tokio::test]
async fn the_memory_of_all_processes_counts_together() {
    let _guard = host::no_hosts().await;
    let spawner = spawner().await;
    if !spawner.means().together.memory {
        return;
    }
    for profile in [Profile::Basic, Profile::Strict] {
        let limits = sandbox::Config {
            profile,
            memory: Some(64 << 20),
            ..sandbox::Config::default()
        };
        // Each far below the limit; it stays in them as long as nobody reads their pipe.
        let hoard = "for i in 1 2 3 4; do dd if=/dev/zero bs=30M count=1 2>/dev/null | sleep 60 & \
                     done; wait; echo done";
        if !enforceable(&spawner, &limits).await {
            continue;
        }
        let mut child = limited(&spawner, hoard, limits).await;
        assert!(!said(&mut child).await.contains("done"), "{profile:?}");
        assert_eq!(child.process.wait().await, Exit::Signal(9), "{profile:?}");
    }
}

#[tokio::test]
async fn the_processes_of_an_instance_are_counted_by_its_group() {
    let _guard = host::no_hosts().await;
    let spawner = spawner().await;
    if !spawner.means().together.processes {
        return;
    }
    let limits = sandbox::Config {
        processes: Some(8),
        ..sandbox::Config::default()
    };
    // The shell itself is one of the eight.
    let script = "n=1; while [ $n -lt 20 ]; do sleep 1000 & n=$((n+1)); echo $n; done 2>/dev/null";
    let mut child = limited(&spawner, script, limits).await;
    let mut lines = String::new();
    child.stdout.read_to_string(&mut lines).await.unwrap();
    assert_eq!(lines.lines().last(), Some("8"), "{lines}");
}

#[tokio::test]
async fn a_child_can_see_its_control_group_and_not_change_it() {
    let _guard = host::no_hosts().await;
    let spawner = spawner().await;
    if !spawner.means().together.cpu_time || spawner.containment() != Containment::Namespace {
        return;
    }
    for (profile, time) in [
        (Profile::Basic, 60),
        (Profile::Basic, 0),
        (Profile::Strict, 60),
    ] {
        let limits = sandbox::Config {
            profile,
            cpu_time: Some(Duration::from_secs(time)).filter(|time| !time.is_zero()),
            ..sandbox::Config::default()
        };
        if !enforceable(&spawner, &limits).await {
            continue;
        }
        let script = "for top in $(sed -n 's/^[^-]* \\(\\/[^ ]*\\) [^-]* - cgroup2.*/\\1/p' /proc/self/mountinfo); do \
                      own=$top$(sed -n 's/^0:://p' /proc/self/cgroup); \
                      for to in $top $own; do echo 0 2>/dev/null >$to/cgroup.procs && echo out of $to; \
                      mkdir $to/new 2>/dev/null && echo made $to/new; done; done; \
                      sed -n 's/^0:://p' /proc/self/cgroup";
        let mut child = limited(&spawner, script, limits).await;
        let said = said(&mut child).await;
        assert_eq!(
            said.contains("/gatehouse-"),
            time > 0,
            "{profile:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{profile:?}: {said}");
    }
}

#[tokio::test]
async fn no_child_changes_moves_freezes_or_ends_a_control_group() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        let root = nix::unistd::geteuid().is_root() && containment == Containment::Reaper;
        let nobody = root.then(|| User {
            name: "nobody".to_owned(),
            uid: 65_534,
            gid: 65_534,
        });
        for profile in [Profile::Basic, Profile::Strict] {
            let limits = sandbox::Config {
                profile,
                user: nobody.clone(),
                cpu_time: Some(Duration::from_secs(60)),
                ..sandbox::Config::default()
            };
            // Opened and not written to: groups of either version, its own, those above and below.
            let script = "for top in $(sed -n 's/^[^-]* \\(\\/[^ ]*\\) [^-]* - cgroup2* .*/\\1/p' /proc/self/mountinfo); do \
                          for at in $top $top/* $(sed \"s|^[^:]*:[^:]*:|$top|\" /proc/self/cgroup); do \
                          [ -d $at ] || continue; mkdir $at/new && echo made $at/new; \
                          for file in cgroup.procs cgroup.threads cgroup.kill cgroup.freeze cgroup.subtree_control \
                          tasks notify_on_release release_agent freezer.state memory.max pids.max; do \
                          (: >>$at/$file) && echo opened $at/$file; done; done; done; echo tried";
            let script = format!("{{ {script}; }} 2>/dev/null");
            let mut child = limited(&spawner, &script, limits).await;
            let said = said(&mut child).await;
            assert_eq!(said, "tried\n", "{profile:?} {containment}");
        }
    }
}
