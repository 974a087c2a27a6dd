//! What stands before the registry for `npx`, in its working directory and above.
//!
//! Somebody may have put it there to be run instead of a package: it is found as npm finds it, and
//! what can't be read counts as found. Invariant: where this says nothing, npm takes a package.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde_json::Value;

/// What `npx WORD` runs without looking for a package: a file in `node_modules/.bin`, or a program
/// that a `package.json` names for its own folder.
#[must_use]
pub fn program_before_registry(word: &str, cwd: &Path) -> Option<PathBuf> {
    cwd.ancestors().find_map(|folder| {
        let program = folder.join("node_modules/.bin").join(word);
        if program.symlink_metadata().is_ok() {
            return Some(program);
        }
        let manifest = folder.join("package.json");
        names(&manifest, word).then_some(manifest)
    })
}

/// The settings of projects that npm may go by; those of its user stand in `home`.
#[must_use]
pub fn project_settings(cwd: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let folders = cwd.ancestors().filter(|folder| home != Some(folder));
    folders
        .map(|folder| folder.join(".npmrc"))
        .filter(|file| file.symlink_metadata().is_ok())
        .collect()
}

/// Whether a `package.json` has a program of this name.
fn names(manifest: &Path, word: &str) -> bool {
    let text = match read(manifest) {
        Ok(text) => text,
        Err(error) => return error.kind() != io::ErrorKind::NotFound,
    };
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
    let Ok(manifest) = serde_json::from_slice::<Value>(text) else {
        return true;
    };
    let is = |name: &str| program(name) == word;
    match &manifest["bin"] {
        Value::Object(programs) => programs.keys().any(|name| is(name)),
        Value::Array(files) => files.iter().filter_map(Value::as_str).any(is),
        Value::String(file) if !file.is_empty() => manifest["name"].as_str().is_some_and(is),
        // All files of a folder are programs then, and it may have more below.
        _ => !manifest["directories"]["bin"].is_null(),
    }
}

/// A program's name as npm makes it.
fn program(name: &str) -> String {
    let name = name.replace(['\\', ':'], "/");
    let name = name.trim_end_matches('/');
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    // A pipe would wait for a writer.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    File::open(file)?.take(MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// More can't be read whole, and so counts as found.
const MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(manifest: &str, word: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("package.json"), manifest).unwrap();
        program_before_registry(word, &folder.path().join("below")).is_some()
    }

    #[test]
    fn a_program_of_a_package_json_above_is_found_as_npm_finds_it() {
        for manifest in [
            r#"{"bin": {"server": "./x"}}"#,
            r#"{"bin": {"a/b\\c:server/": "./x"}}"#,
            r#"{"bin": ["bin/server"]}"#,
            r#"{"name": "@own/server", "bin": "x"}"#,
            r#"{"name": "server", "bin": "x"}"#,
            "\u{feff}{\"bin\": {\"server\": \"x\"}}",
            r#"{"directories": {"bin": "bin"}}"#,
            r#"{"bin": {"#,
        ] {
            assert!(found(manifest, "server"), "{manifest}");
        }
        for manifest in [
            "{}",
            r#"{"name": "server"}"#,
            r#"{"name": "server", "bin": ""}"#,
            r#"{"name": "other", "bin": "server"}"#,
            r#"{"bin": {"servers": "server"}}"#,
        ] {
            assert!(!found(manifest, "server"), "{manifest}");
        }
        assert!(found(r#"{"bin": {"server@1": "x"}}"#, "server@1"));
        // A name is the last part, so no scoped one is ever there.
        assert!(!found(r#"{"bin": {"@a/b": "x"}}"#, "@a/b"));
    }

    #[test]
    fn a_file_in_bin_goes_first_and_settings_of_the_user_are_no_projects() {
        let top = tempfile::tempdir().unwrap();
        let (home, cwd) = (top.path().join("home"), top.path().join("home/work"));
        fs::create_dir_all(home.join("node_modules/.bin/@a")).unwrap();
        fs::create_dir_all(&cwd).unwrap();
        // It leads nowhere yet.
        std::os::unix::fs::symlink("/nowhere", home.join("node_modules/.bin/@a/b")).unwrap();
        let expected = home.join("node_modules/.bin/@a/b");
        assert_eq!(program_before_registry("@a/b", &cwd), Some(expected));
        assert_eq!(program_before_registry("c", &cwd), None);
        for folder in [&home, &cwd] {
            fs::write(folder.join(".npmrc"), "").unwrap();
        }
        assert_eq!(project_settings(&cwd, Some(&home)), [cwd.join(".npmrc")]);
        assert_eq!(project_settings(&cwd, None).len(), 2);
    }
}
