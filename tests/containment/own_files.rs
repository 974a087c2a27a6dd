//! The gateway's own files, from the places where they are hard to hide.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use gatehouse::{
    backend::child::{Containment, Exit, Spawner},
    drain::Drain,
    sandbox::{self, Profile},
};
use tokio::io::AsyncReadExt;

use super::{
    config, containments,
    host::{self, Host},
    launcher,
    observe::{mark, sleepers, until, until_sleepers},
};

/// What a script says under `basic`, in a folder of which its environment speaks.
async fn basic(spawner: &Spawner, folder: &Path, script: &str) -> String {
    let mut config = config(&["sh", "-c", script, "sh", folder.to_str().unwrap()]);
    config.sandbox = sandbox::Config {
        profile: Profile::Basic,
        ..sandbox::Config::default()
    };
    let mut child = spawner.spawn(&config).await.unwrap();
    let mut said = String::new();
    child.stdout.read_to_string(&mut said).await.unwrap();
    child.process.wait().await;
    said
}

#[tokio::test]
async fn with_strict_too_nobody_changes_modes_where_there_are_namespaces() {
    let _guard = host::no_hosts().await;
    for containment in ways().await {
        if containment != Containment::Namespace {
            continue;
        }
        let top = tempfile::tempdir().unwrap();
        let (folder, data) = (top.path().join("own"), top.path().join("data"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&data).unwrap();
        let (own, beside) = (folder.join("file"), data.join("file"));
        for file in [&own, &beside] {
            fs::write(file, "secret").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        // One in a folder of its own, one in a folder of which another part is granted.
        spawner.hide(vec![own.clone(), beside.clone()]);
        let granted = data.join("granted");
        fs::create_dir(&granted).unwrap();
        let script = "chmod 666 $1/own/file $1/data/file; chmod 777 $1/own; \
                      touch -d 2001-01-01 $1/own/file; echo x > $1/data/granted/x";
        let mut config = config(&["sh", "-c", script, "sh", top.path().to_str().unwrap()]);
        config.sandbox = sandbox::Config {
            profile: Profile::Strict,
            write: vec![granted.clone()],
            ..sandbox::Config::default()
        };
        config.cwd = Some(granted.clone());
        let mut child = spawner.spawn(&config).await.unwrap();
        child.process.wait().await;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&own), mode(&beside)), (0o600, 0o600));
        assert_ne!(mode(&folder), 0o777);
        assert_eq!(fs::read_to_string(granted.join("x")).unwrap(), "x\n");
    }
}

/// Both ways to hide, but that of root without namespaces, which is refused.
async fn ways() -> Vec<Containment> {
    let mut ways = containments().await;
    if nix::unistd::geteuid().is_root() {
        ways.retain(|way| *way == Containment::Namespace);
    }
    ways
}

#[tokio::test]
async fn the_folders_above_a_hidden_file_can_be_neither_renamed_nor_replaced() {
    let _guard = host::no_hosts().await;
    for containment in ways().await {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("one/two/own");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        fs::write(&own, "secret").unwrap();
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        spawner.hide(vec![own.clone()]);
        let script = "cat $1/one/two/own; for at in one/two/own one/two one; do \
                      mv $1/$at $1/$at.away; rm -rf $1/$at; ln -f $1/$at $1/linked; done 2>/dev/null; \
                      cat $1/*/*/own $1/*/own $1/linked $1/*.away/* 2>/dev/null; echo tried";
        let said = basic(&spawner, top.path(), script).await;
        assert_eq!(said, "tried\n", "{containment}");
        assert_eq!(fs::read_to_string(&own).unwrap(), "secret", "{containment}");
    }
}

#[tokio::test]
async fn what_came_into_being_since_the_start_is_hidden_from_later_children() {
    let _guard = host::no_hosts().await;
    for containment in ways().await {
        let top = tempfile::tempdir().unwrap();
        let (log, archive) = (top.path().join("log"), top.path().join("log.1"));
        fs::write(&log, "now").unwrap();
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        let growing = archive.clone();
        spawner.hide_growing(vec![log], move || {
            growing
                .exists()
                .then(|| growing.clone())
                .into_iter()
                .collect()
        });
        let script = "cat $1/log $1/log.1 2>/dev/null; echo tried";
        assert_eq!(basic(&spawner, top.path(), script).await, "tried\n");
        fs::write(&archive, "before").unwrap();
        let said = basic(&spawner, top.path(), script).await;
        assert_eq!(said, "tried\n", "{containment}");
    }
}

#[tokio::test]
async fn an_own_file_that_a_link_leads_to_is_hidden_under_both_names() {
    let _guard = host::no_hosts().await;
    for containment in ways().await {
        let top = tempfile::tempdir().unwrap();
        let (real, link) = (top.path().join("real"), top.path().join("link"));
        fs::write(&real, "secret").unwrap();
        symlink(&real, &link).unwrap();
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        spawner.hide(vec![link]);
        let script = "cat $1/real $1/link 2>/dev/null; echo tried";
        if nix::unistd::geteuid().is_root() {
            assert_eq!(
                basic(&spawner, top.path(), script).await,
                "tried\n",
                "{containment}"
            );
            continue;
        }
        // Another could stand in its place.
        let mut config = config(&["sh", "-c", script, "sh", top.path().to_str().unwrap()]);
        config.sandbox = sandbox::Config::default();
        let refused = spawner.spawn(&config).await.unwrap_err().to_string();
        assert!(
            refused.contains("is a link that a child could replace"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn strict_is_not_granted_a_folder_with_a_link_to_an_own_file() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let (granted, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let real = elsewhere.path().join("own");
        fs::write(&real, "secret").unwrap();
        let link = granted.path().join("link");
        symlink(&real, &link).unwrap();
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        spawner.hide(vec![link]);
        let mut config = config(&["true"]);
        config.sandbox = sandbox::Config {
            profile: Profile::Strict,
            write: vec![granted.path().to_owned()],
            ..sandbox::Config::default()
        };
        let refused = spawner.spawn(&config).await.unwrap_err().to_string();
        assert!(
            refused.contains("would let the child read the gateway's own"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_plan_that_is_empty_or_broken_starts_nothing() {
    assert!(sandbox::Plan::decode(b"").is_err());
    assert!(sandbox::Plan::decode(b"{}").is_err());
}

#[tokio::test]
async fn a_private_tmpdir_goes_with_its_child() {
    let _guard = host::no_hosts().await;
    for containment in containments().await {
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        let mut config = config(&["sh", "-c", "echo kept >$TMPDIR/kept && echo $TMPDIR"]);
        config.sandbox = sandbox::Config {
            profile: Profile::Strict,
            user: nix::unistd::geteuid().is_root().then(|| sandbox::User {
                name: "nobody".to_owned(),
                uid: 65_534,
                gid: 65_534,
            }),
            ..sandbox::Config::default()
        };
        let mut child = spawner.spawn(&config).await.unwrap();
        let mut said = String::new();
        child.stdout.read_to_string(&mut said).await.unwrap();
        assert_eq!(child.process.wait().await, Exit::Code(0), "{containment}");
        assert!(Path::new(said.trim()).is_absolute(), "{said}");
        assert!(!Path::new(said.trim()).exists(), "{containment}: {said}");
    }
}

#[tokio::test]
async fn a_private_tmpdir_is_gone_when_the_gateway_is_killed() {
    if host::serve().await {
        return;
    }
    let _guard = host::alone().await;
    for containment in containments().await {
        let tmp = tempfile::tempdir().unwrap();
        fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mark = mark();
        let variable = format!("TMPDIR={}", tmp.path().display());
        let profile = format!("{}=strict", host::PROFILE);
        let prefix = ["env", &variable, &profile];
        let test = "own_files::a_private_tmpdir_is_gone_when_the_gateway_is_killed";
        // Something is in it, and something holds it.
        let script =
            format!("mkdir $TMPDIR/a && echo kept >$TMPDIR/a/b && cd $TMPDIR/a && sleep {mark}");
        let exe = std::env::current_exe().unwrap();
        let host = Host::start_with(&prefix, &exe, test, containment, &script);
        until_sleepers(&mark, 1).await;
        let own = || {
            let entries = fs::read_dir(tmp.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.starts_with("gatehouse-")).count()
        };
        assert_eq!(own(), 1, "{containment}");
        host.kill();
        until("it is gone", || own() == 0).await;
        assert_eq!(sleepers(&mark), [0; 0], "{containment}");
    }
}

#[tokio::test]
async fn root_of_a_container_without_namespaces_starts_basic_children_that_see_no_own_file() {
    if host::serve().await {
        return;
    }
    let _guard = host::alone().await;
    // Open to all, so that nothing but the sandbox keeps a child out.
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    open(dir.path());
    fs::create_dir(at("own")).unwrap();
    for name in ["own/file", "other"] {
        fs::write(at(name), format!("{name}\n")).unwrap();
        open(&at(name));
    }
    open(&at("own"));
    // Copies where another user may read them.
    fs::copy(std::env::current_exe().unwrap(), at("tests")).unwrap();
    fs::copy(launcher(), at("gatehouse")).unwrap();
    let mut prefix = Vec::new();
    if nix::unistd::geteuid().is_root() {
        prefix.extend("setpriv --reuid=65534 --regid=65534 --clear-groups".split(' '));
    }
    prefix.extend("unshare --user --map-root-user".split(' '));
    #[allow(
        clippy::disallowed_methods,
        reason = "it is not a child of the gateway"
    )]
    let can = std::process::Command::new(prefix[0])
        .args(&prefix[1..])
        .arg("true")
        .status();
    if !can.is_ok_and(|status| status.success()) {
        return;
    }
    let mark = mark();
    let folder = dir.path().to_str().unwrap();
    let variables = [
        format!("{}={folder}/gatehouse", host::LAUNCHER),
        format!("{}=basic", host::PROFILE),
        format!("{}={folder}/own/file", host::OWN),
    ];
    prefix.extend(["env", "-C", folder]);
    prefix.extend(variables.iter().map(String::as_str));
    let test = "own_files::root_of_a_container_without_namespaces_starts_basic_children_that_see_no_own_file";
    let script = format!(
        "{{ id -u; cat {folder}/own/file {folder}/own/../own/file; ls {folder}/own; \
         mv {folder}/own {folder}/away; ln {folder}/own/file {folder}/linked; cat {folder}/linked; \
         cat {folder}/other; head -c 1 /dev/mem /dev/kmsg; \
         echo 1 >/proc/sys/kernel/core_uses_pid && echo set; }} >{folder}/other.said 2>/dev/null; \
         sleep {mark}"
    );
    // It may add nothing beside an own file, and so is given one to write to.
    fs::write(at("other.said"), "").unwrap();
    open(&at("other.said"));
    let host = Host::start_with(&prefix, &at("tests"), test, Containment::Reaper, &script);
    until_sleepers(&mark, 1).await;
    assert_eq!(fs::read_to_string(at("other.said")).unwrap(), "0\nother\n");
    host.kill();
    until_sleepers(&mark, 0).await;
}
