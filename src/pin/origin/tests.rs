use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Cache, Origin, Surroundings, npx};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn around(folder: &Path, argv: &[&str]) -> Surroundings {
    Surroundings {
        program: folder.join("bin").join(argv[0]),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        cwd: folder.to_owned(),
        env: vec![
            ("PATH".into(), folder.join("bin").into()),
            ("HOME".into(), folder.into()),
        ],
        installed: None,
    }
}

fn names(origin: &Origin) -> Vec<&str> {
    let name = |path: &'_ PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let names: Vec<String> = origin.files.iter().map(|file| name(&file.path)).collect();
    names.into_iter().map(|name| &*name.leak()).collect()
}

#[test]
fn script_and_interpreter_count_and_what_they_are_given_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("bin/node"), "elf");
    write(&folder.join("bin/tool"), "#!/usr/bin/env -S node --x\n");
    write(&folder.join("hook.js"), "hook");
    write(&folder.join("server.js"), "server");
    write(&folder.join("data.db"), "data");
    let cache = Cache::default();
    let look = |argv: &[&str]| Origin::look(&around(folder, argv), &cache).unwrap();
    assert_eq!(
        names(&look(&["node", "server.js", "data.db"])),
        ["node", "server.js"]
    );
    let argv = ["node", "-r", "hook.js", "--flag", "server.js", "data.db"];
    assert_eq!(names(&look(&argv)), ["node", "hook.js", "server.js"]);
    assert_eq!(
        names(&look(&["node", "--import=hook.js", "server.js"])),
        ["node", "hook.js", "server.js"]
    );
    assert_eq!(names(&look(&["node", "-e", "server.js"])), ["node"]);
    let tool = look(&["tool", "data.db"]);
    assert!(names(&tool).ends_with(&["node"]), "{tool:?}");
    assert_eq!(names(&tool)[0], "tool");
    // What is no plain name is no interpreter.
    for line in ["-S -u KEY node", "KEY", "-S X=1 node", "-u node"] {
        let line = line.replace("KEY", &folder.join("data.db").display().to_string());
        write(
            &folder.join("bin/tool"),
            &format!("#!/usr/bin/env {line}\n"),
        );
        assert_eq!(names(&look(&["tool"])), ["tool", "env"], "{line}");
    }
}

#[test]
fn a_changed_file_differs_and_a_moved_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("bin/server"), "one");
    let cache = Cache::default();
    let argv = ["server"];
    let before = Origin::look(&around(folder, &argv), &cache).unwrap();
    assert_eq!(before.differs(&before), None);
    write(&folder.join("bin/server"), "two");
    let after = Origin::look(&around(folder, &argv), &cache).unwrap();
    assert_eq!(before.differs(&after).unwrap().len(), 2);
    write(&folder.join("elsewhere"), "one");
    fs::remove_file(folder.join("bin/server")).unwrap();
    symlink(folder.join("elsewhere"), folder.join("bin/server")).unwrap();
    let moved = Origin::look(&around(folder, &argv), &cache).unwrap();
    assert_eq!(before.differs(&moved), None);
    fs::remove_file(folder.join("elsewhere")).unwrap();
    assert!(Origin::look(&around(folder, &argv), &cache).is_err());
}

#[test]
fn the_package_of_npx_counts_with_its_files_and_those_it_depends_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("bin/npx"), "elf");
    let argv = [
        "npx",
        "-y",
        "@modelcontextprotocol/server-filesystem",
        "/srv",
    ];
    let cache = Cache::default();
    let look = || {
        Origin::look(&around(folder, &argv), &cache)
            .unwrap()
            .package
            .unwrap()
    };
    assert_eq!(
        look().unknown.as_deref(),
        Some("not installed in the npm cache yet")
    );
    let base = folder.join(".npm/_npx/a3241bba59c344f5");
    let lock = |dependency: &str| {
        format!(
            r#"{{"packages":{{"":{{}},"node_modules/z":{{"version":"{dependency}","integrity":"sha512-z"}},"node_modules/@modelcontextprotocol/server-filesystem":{{"version":"1.2.3","integrity":"sha512-a"}}}}}}"#
        )
    };
    write(&base.join("package-lock.json"), &lock("9.0.0"));
    let own = base.join("node_modules/@modelcontextprotocol/server-filesystem");
    write(&own.join("dist/index.js"), "serve()");
    write(&own.join("node_modules/y/index.js"), "y");
    let first = look();
    assert_eq!(first.unknown, None);
    let wanted = [
        "@modelcontextprotocol/server-filesystem 1.2.3 sha512-a",
        "z 9.0.0 sha512-z",
    ];
    assert_eq!(first.packages, wanted);
    write(&own.join("dist/index.js"), "serve();steal()");
    assert_ne!(look().files, first.files);
    write(&own.join("dist/index.js"), "serve()");
    assert_eq!(look(), first);
    write(&base.join("package-lock.json"), &lock("9.0.1"));
    assert_ne!(look(), first);
}

#[test]
fn what_npx_would_run_instead_of_its_package_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("bin/npx"), "elf");
    let cache = Cache::default();
    let work = folder.join("work/below");
    fs::create_dir_all(&work).unwrap();
    let look = || {
        let mut around = around(folder, &["npx", "server"]);
        around.cwd = work.clone();
        Origin::look(&around, &cache).unwrap().package.unwrap()
    };
    let base = folder
        .join(".npm/_npx")
        .join(npx::folder_name(&["server".to_owned()]));
    let lock = r#"{"packages":{"node_modules/server":{"version":"1.0.0","integrity":"sha512-a"}}}"#;
    write(&base.join("package-lock.json"), lock);
    write(&base.join("node_modules/server/index.js"), "serve()");
    let first = look();
    assert_eq!(first.packages, ["server 1.0.0 sha512-a"]);
    for (name, text, expected) in [
        (
            "package.json",
            r#"{"bin":{"server":"evil.js"}}"#,
            "it runs what",
        ),
        ("node_modules/.bin/server", "evil", "it runs what"),
        (".npmrc", "cache=/evil", ""),
    ] {
        write(&folder.join("work").join(name), text);
        let now = look();
        assert_ne!(now, first, "{name}");
        assert!(
            now.unknown
                .clone()
                .unwrap_or_default()
                .starts_with(expected),
            "{now:?}"
        );
        fs::remove_file(folder.join("work").join(name)).unwrap();
        assert_eq!(look(), first);
    }
    // The settings of a project are pinned with the rest.
    write(&folder.join("work/.npmrc"), "registry=https://r.example/");
    let with = look();
    assert!(with.unknown.is_none() && with.packages[1].starts_with("goes by .npmrc sha256:"));
    write(&folder.join("work/.npmrc"), "cache=/evil");
    assert_ne!(look(), with);
    // Those of the user are not of a project.
    write(&folder.join(".npmrc"), "registry=https://r.example/");
    assert_eq!(look().packages.len(), 2);
}

#[test]
fn a_package_of_the_project_is_run_by_its_own_program() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("bin/npx"), "elf");
    let own = folder.join("node_modules/server");
    write(&own.join("package.json"), r#"{"version":"2.0.0"}"#);
    write(&own.join("run.js"), "serve()");
    fs::create_dir_all(folder.join("node_modules/.bin")).unwrap();
    let program = folder.join("node_modules/.bin/server");
    symlink("../server/run.js", &program).unwrap();
    let cache = Cache::default();
    let look = || {
        let around = around(folder, &["npx", "server"]);
        Origin::look(&around, &cache).unwrap().package.unwrap()
    };
    assert_eq!(look().packages, ["server 2.0.0 in node_modules"]);
    fs::remove_file(&program).unwrap();
    write(&folder.join("evil.js"), "steal()");
    symlink("../../evil.js", &program).unwrap();
    assert!(look().unknown.unwrap().starts_with("it runs what"));
}

#[test]
fn every_environment_of_uvx_that_holds_the_package_counts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("bin/uvx"), "elf");
    let cache = Cache::default();
    let look = || {
        Origin::look(&around(folder, &["uvx", "mcp-server-time@latest"]), &cache)
            .unwrap()
            .package
            .unwrap()
    };
    assert_eq!(
        look().unknown.as_deref(),
        Some("not installed in uv's cache yet")
    );
    let wheel = |environment: &str, name: &str| {
        let site = folder.join(format!(
            ".cache/uv/archive-v0/{environment}/lib/python3.12/site-packages"
        ));
        write(
            &site.join(format!("{name}.dist-info/RECORD")),
            &format!("{name}.py,sha256=x,1\n"),
        );
        write(&site.join(format!("{name}.py")), name);
        site
    };
    let site = wheel("one", "mcp_server_time-1.0");
    wheel("one", "anyio-4.0");
    wheel("other", "unrelated-1.0");
    let first = look();
    assert_eq!(first.packages.len(), 2);
    assert!(first.packages[0].starts_with("mcp_server_time 1.0 RECORD sha256:"));
    write(&site.join("mcp_server_time-1.0.py"), "changed");
    assert_ne!(look().files, first.files);
    write(&site.join("mcp_server_time-1.0.py"), "mcp_server_time-1.0");
    assert_eq!(look(), first);
    // A tool that is installed goes before all of them.
    let tool = folder.join(".local/share/uv/tools/mcp-server-time");
    fs::create_dir_all(&tool).unwrap();
    assert!(look().unknown.unwrap().starts_with("it runs the tool"));
    fs::remove_dir(&tool).unwrap();
    assert_eq!(look(), first);
    wheel("two", "mcp_server_time-1.1");
    assert_ne!(look(), first);
}
