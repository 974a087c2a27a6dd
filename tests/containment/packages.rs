//! What is run the next time can't be changed by what runs now.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use gatehouse::{
    backend::child::{Containment, Spawner},
    drain::Drain,
    sandbox::{self, Profile, User},
};
use tokio::io::AsyncReadExt;

use super::{config, containments, launcher};

/// Opens all to all, so that nothing but the sandbox keeps a child out.
fn open(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            open(&entry.unwrap().path());
        }
    }
}

#[tokio::test]
async fn a_basic_child_can_read_installed_packages_and_put_nothing_in_their_place() {
    for containment in containments().await {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let packages = top.join("gateway/gatehouse-packages");
        fs::create_dir_all(packages.join("own/one")).unwrap();
        fs::create_dir_all(top.join("data")).unwrap();
        fs::write(packages.join("own/one/run"), "it reads\n").unwrap();
        fs::write(packages.join("own/installed.json"), "{}\n").unwrap();
        let file = top.join("gateway/proxy.toml");
        fs::write(&file, "own\n").unwrap();
        open(&top);
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        spawner.hide(vec![file, packages.join("own/installed.json")]);
        spawner.fix(packages.clone());
        let script = r#"
            cat P/own/one/run
            echo data >T/data/file && cat T/data/file
            for it in 'mkdir P/victim' 'touch P/new' 'echo x >P/own/one/run' 'rm P/own/one/run' \
                'mkdir P/own/two' 'mv P/own T/data/own' 'mv T/data P/victim' \
                'ln P/own/one/run T/data/link && echo x >T/data/link' \
                'mv P T/data/old' 'mv T/gateway T/old' 'cat P/own/installed.json' \
                'umount P' 'mount -o remount,bind,rw P'
            do eval "$it" 2>/dev/null && echo "$it"; done
            echo end"#;
        let script = script
            .replace("P/", &format!("{}/", packages.display()))
            .replace("P T", &format!("{} T", packages.display()))
            .replace("T/", &format!("{}/", top.display()));
        // Nothing there holds root to a number of processes.
        let root = nix::unistd::geteuid().is_root() && containment == Containment::Reaper;
        let nobody = root.then(|| User {
            name: "nobody".to_owned(),
            uid: 65_534,
            gid: 65_534,
        });
        let mut child = config(&["sh", "-c", &script]);
        child.sandbox = sandbox::Config {
            profile: Profile::Basic,
            user: nobody,
            ..sandbox::Config::default()
        };
        let mut child = spawner.spawn(&child).await.unwrap();
        let (mut said, mut complaint) = (String::new(), String::new());
        child.stdout.read_to_string(&mut said).await.unwrap();
        child.stderr.read_to_string(&mut complaint).await.unwrap();
        assert_eq!(
            said, "it reads\ndata\nend\n",
            "{containment:?}: {complaint}"
        );
        let text = fs::read_to_string(packages.join("own/one/run")).unwrap();
        assert_eq!(text, "it reads\n", "{containment:?}");
    }
}

#[tokio::test]
async fn no_strict_child_may_write_where_packages_are() {
    for containment in containments().await {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let packages = top.join("gatehouse-packages");
        fs::create_dir_all(packages.join("victim")).unwrap();
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        spawner.fix(packages.clone());
        for write in [top.clone(), packages.clone(), packages.join("victim")] {
            let mut child = config(&["true"]);
            child.sandbox = sandbox::Config {
                profile: Profile::Strict,
                write: vec![write.clone()],
                ..sandbox::Config::default()
            };
            let error = spawner.spawn(&child).await.map(|_| ()).unwrap_err();
            let expected = "so could the folder of installed packages";
            assert!(error.to_string().contains(expected), "{write:?}: {error}");
        }
    }
}
