use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use super::{Config, SpawnError, prepare, resolve};
use crate::secret::Secret;

fn config(command: &[&str], cwd: &Path, path: &str) -> Config {
    Config {
        command: command.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: Some(cwd.to_owned()),
        env: vec![("PATH".to_owned(), Secret::new(path))],
        inherit_env: Vec::new(),
        stop_timeout: Duration::from_secs(1),
        sandbox: crate::sandbox::Config::off(),
        installed: None,
    }
}

fn file(dir: &Path, name: &str, mode: u32) {
    fs::create_dir_all(dir).unwrap();
    let path = dir.join(name);
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_name_is_looked_up_on_the_path_of_the_child() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    file(&one, "tool", 0o644);
    file(&two, "tool", 0o755);
    let path = format!("{}:{}", one.display(), two.display());
    let found = resolve(&config(&["tool"], dir.path(), &path)).unwrap();
    assert_eq!(found, two.join("tool"));
    let relative = resolve(&config(&["tool"], dir.path(), "one:two")).unwrap();
    assert_eq!(relative, two.join("tool"));
}

#[test]
fn a_path_is_relative_to_the_working_directory_of_the_child() {
    let dir = tempfile::tempdir().unwrap();
    file(&dir.path().join("bin"), "tool", 0o755);
    let found = resolve(&config(&["bin/tool"], dir.path(), "")).unwrap();
    assert_eq!(found, dir.path().join("bin/tool"));
}

#[test]
fn what_cannot_be_run_is_told_apart_from_what_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "tool", 0o644);
    fs::create_dir(dir.path().join("folder")).unwrap();
    let refuse = |name: &str| resolve(&config(&[name], dir.path(), ".")).unwrap_err();
    assert!(matches!(refuse("tool"), SpawnError::NotExecutable(path) if path.ends_with("tool")));
    assert!(matches!(refuse("./folder"), SpawnError::NotExecutable(_)));
    assert!(matches!(refuse("absent"), SpawnError::NotFound(name) if name == "absent"));
    assert!(matches!(refuse("./absent"), SpawnError::NotFound(_)));
    assert!(matches!(refuse(""), SpawnError::NotFound(_)));
}

#[test]
fn a_working_directory_must_be_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "tool", 0o755);
    for cwd in ["absent", "tool"] {
        let refused = resolve(&config(&["true"], &dir.path().join(cwd), "/bin"));
        assert!(matches!(refused, Err(SpawnError::BadCwd(_))), "{cwd}");
    }
}

#[test]
fn the_first_argument_stays_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "tool", 0o755);
    let spec = prepare(&config(&["tool", "a b", ""], dir.path(), "."), None).unwrap();
    assert_eq!(spec.argv, ["tool", "a b", ""]);
    assert_eq!(spec.program, dir.path().join("tool").as_os_str());
}

#[test]
fn what_exec_cannot_carry_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "tool", 0o755);
    let mut nul_argument = config(&["tool", "a\0b"], dir.path(), ".");
    assert!(matches!(
        prepare(&nul_argument, None),
        Err(SpawnError::Launch(_))
    ));
    nul_argument.command.pop();
    for (name, value) in [("A=B", "c"), ("", "c"), ("A", "c\0d")] {
        let mut bad = nul_argument.clone();
        bad.env.push((name.to_owned(), Secret::new(value)));
        assert!(
            matches!(prepare(&bad, None), Err(SpawnError::Launch(_))),
            "{name}"
        );
    }
}
