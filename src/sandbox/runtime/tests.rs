use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What is granted to a program beside what every one gets, below `top`.
fn granted(top: &Path, program: &Path, packages: Option<&Path>) -> Vec<PathBuf> {
    let env = [(OsString::from("PATH"), top.join("bin").into())];
    let command = Command {
        program,
        cwd: Path::new("/"),
        argv: &[],
        env: &env,
        packages,
        tmp: None,
        shared: None,
    };
    let mut paths = paths(&command);
    paths.retain(|path| path.starts_with(top));
    paths
}

#[test]
fn what_a_package_names_is_granted_alone_and_what_the_operator_names_with_its_packages() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    let at = |name: &str| top.join(name);
    let line = |name: &str| format!("#!{}\n", at(name).display());
    program(&at("other/node_modules/tool/run"), "elf");
    program(&at("other/bin/python"), "elf");
    fs::create_dir_all(at("venv/bin")).unwrap();
    symlink(at("other/bin/python"), at("venv/bin/python")).unwrap();
    fs::write(at("venv/pyvenv.cfg"), "").unwrap();
    let foreign = [
        ("other/node_modules/tool/run", "other/node_modules/tool/run"),
        ("venv/bin/python", "other/bin/python"),
        ("place/bin/../../venv/bin/python", "other/bin/python"),
    ];
    for (named, real) in foreign {
        for script in ["place/bin/server", "mine/node_modules/server/run"] {
            program(&at(script), &line(named));
            let place = at("place");
            let paths = granted(&top, &at(script), Some(&place));
            let inside = |path: &&PathBuf| path.starts_with(&place) || path.starts_with(at("mine"));
            let outside: Vec<_> = paths.iter().filter(|path| !inside(path)).collect();
            assert_eq!(outside, [&at(real)], "{script} {named}");
        }
    }
    program(&at("server"), &line("venv/bin/python"));
    assert!(granted(&top, &at("server"), None).contains(&at("venv")));
}

#[test]
fn a_link_to_an_environments_program_has_that_environment() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    let at = |name: &str| top.join(name);
    program(&at("venv/bin/python"), "elf");
    program(
        &at("venv/bin/server"),
        &format!("#!{}\n", at("venv/bin/python").display()),
    );
    fs::write(at("venv/pyvenv.cfg"), "").unwrap();
    symlink(at("venv/bin/server"), at("link")).unwrap();
    assert!(granted(&top, &at("link"), None).contains(&at("venv")));
}

#[test]
fn a_key_that_a_packages_first_line_speaks_of_is_not_granted() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().canonicalize().unwrap();
    let at = |name: &str| top.join(name);
    program(&at("bin/node"), "elf");
    fs::write(at("key"), "secret").unwrap();
    let key = at("key").display().to_string();
    for line in [
        format!("/usr/bin/env -S -u {key} node"),
        format!("/usr/bin/env {key}"),
        key,
    ] {
        program(&at("place/bin/server"), &format!("#!{line}\n"));
        let paths = granted(&top, &at("place/bin/server"), Some(&at("place")));
        assert!(!paths.contains(&at("key")), "{line}: {paths:?}");
    }
}
