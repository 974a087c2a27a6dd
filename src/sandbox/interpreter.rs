//! What a script's first line asks to be run by.
//!
//! A script may come with a package: its line is hostile. Invariant: nothing that it names is granted
//! but what can be run, by a path of its own or by a plain name on PATH.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

/// What a script's first line names; `env` looks on PATH.
pub(super) fn of(file: &Path, env: &[(OsString, OsString)]) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(file)
        .ok()?
        .take(FIRST_LINE)
        .read_to_end(&mut head)
        .ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
        .map(OsStr::from_bytes);
    let program = Path::new(words.next()?);
    if program.file_name() != Some(OsStr::new("env")) {
        return is_program(program).then(|| program.to_owned());
    }
    let path = env.iter().find(|(name, _)| name == "PATH")?;
    let name = plain(words.next()?, words.next())?;
    std::env::split_paths(&path.1)
        .map(|folder| folder.join(name))
        .find(|candidate| is_program(candidate))
}

/// The name behind `env`. An option of `env` with a value, or a variable, would make any word look
/// like one: only a bare `-S` may stand before it.
fn plain<'a>(first: &'a OsStr, second: Option<&'a OsStr>) -> Option<&'a OsStr> {
    let name = if first == "-S" { second? } else { first };
    let bytes = name.as_bytes();
    let odd = |byte: &u8| b"/=\"'\\$".contains(byte);
    (!bytes.starts_with(b"-") && !bytes.iter().any(odd)).then_some(name)
}

fn is_program(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// As far as the kernel reads a script's first line.
const FIRST_LINE: u64 = 256;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn nothing_is_named_but_what_can_be_run_by_a_plain_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, mode) in [("node", 0o755), ("plain", 0o644), ("key", 0o600)] {
            fs::write(at(name), "").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let env = [(OsString::from("PATH"), folder.path().into())];
        let of_line = |line: &str| {
            let line = line.replace("AT", &folder.path().display().to_string());
            fs::write(at("script"), format!("#!{line}\n")).unwrap();
            of(&at("script"), &env)
        };
        let node = Some(at("node"));
        for line in [
            "AT/node",
            "/usr/bin/env node --x",
            "/usr/bin/env -S node --x",
        ] {
            assert_eq!(of_line(line), node, "{line}");
        }
        for line in [
            "AT/key",
            "AT/plain",
            "/usr/bin/env plain",
            "/usr/bin/env AT/node",
            "/usr/bin/env -S AT/node",
            "/usr/bin/env -S -u AT/key node",
            "/usr/bin/env -S -u AT/node node",
            "/usr/bin/env -u node",
            "/usr/bin/env -S X=1 node",
            "/usr/bin/env -S ../node",
            "/usr/bin/env",
            "/usr/bin/env -S",
        ] {
            assert_eq!(of_line(line), None, "{line}");
        }
    }
}
