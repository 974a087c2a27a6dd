//! What is run the next time can't be changed by what runs now.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use gatehouse::{
    backend::child::{Containment, Installed, Spawner},
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
            cat $RUN
            echo data >$T/data/file && cat $T/data/file
            for it in 'mkdir $P/victim' 'touch $P/new' 'echo x >$RUN' 'rm $RUN' \
                'mkdir $P/own/two' 'mv $P/own $T/data/own' 'mv $T/data $P/victim' \
                'ln $RUN $T/data/link && echo x >$T/data/link' \
                'mv $P $T/data/old' 'mv $T/gateway $T/old' 'cat $P/own/installed.json' \
                'umount $P' 'mount -o remount,bind,rw $P'
            do eval "$it" 2>/dev/null && echo "$it"; done
            echo end"#;
        // What its command names is its own installation; another's is hidden.
        let run = packages.join("own/one/run");
        let named = format!(
            "P='{}'; T='{}'; RUN='{}'",
            packages.display(),
            top.display(),
            run.display()
        );
        let script = format!("{named}{script}");
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

#[tokio::test]
async fn no_strict_child_may_write_where_the_python_of_its_installation_is() {
    for containment in containments().await {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let (folder, pythons) = (top.join("packages/own/one"), top.join("pythons"));
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(pythons.join("bin")).unwrap();
        // What a launcher of uv's starts by way of a shell: neither program nor first line names it.
        let server = folder.join("bin/server");
        fs::write(&server, "#!/bin/sh\n").unwrap();
        open(&server);
        fs::write(pythons.join("bin/python3"), "").unwrap();
        open(&pythons.join("bin/python3"));
        symlink(pythons.join("bin/python3"), folder.join("bin/python")).unwrap();
        let spawner = Spawner::with(launcher(), containment, Drain::new());
        spawner.fix(top.join("packages"));
        let mut child = config(&["uvx", "server"]);
        child.installed = Some(Installed {
            folder: folder.clone(),
            command: vec![server.to_str().unwrap().to_owned()],
            summary: "server 1".to_owned(),
            digest: String::new(),
        });
        child.sandbox = sandbox::Config {
            profile: Profile::Strict,
            write: vec![pythons.clone()],
            ..sandbox::Config::default()
        };
        let error = spawner.spawn(&child).await.map(|_| ()).unwrap_err();
        let expected = format!("so could {}", folder.join("bin/python").display());
        assert!(error.to_string().contains(&expected), "{error}");
    }
}
