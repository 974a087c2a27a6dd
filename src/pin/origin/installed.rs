//! What was installed ahead, in a folder of its own.
//!
//! All its files count, whoever wrote them. Invariant: the same packages, installed elsewhere or
//! again, have the same digest: where a file names the folder it is in, that name doesn't count.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use super::{Cache, Found, npx, text, tree, uvx};
use crate::pin::Digest;

/// The packages in a folder: `npm`'s with their lock file, or those of a Python environment.
///
/// # Errors
/// What can't be read.
pub fn packages(folder: &Path, cache: &Cache) -> Found {
    // A wheel may bring a lock file along; an npm package puts nothing beside `node_modules`.
    let mut packages = if folder.join("pyvenv.cfg").exists() {
        uvx::all(folder)
    } else {
        let lock = text(&folder.join("package-lock.json"))
            .map_err(|error| format!("its package-lock.json: {error}"))?;
        npx::all(&lock)?
    };
    if packages.is_empty() {
        return Err("there is no package in its folder".to_owned());
    }
    packages.sort();
    let files = tree::every_file(folder)
        .and_then(|files| tree::of_files_with(folder, files, |path| digest(folder, path, cache)))
        .map_err(|error| format!("its files can't be read: {error}"))?;
    Ok((packages, files))
}

/// Of a file, whatever the folder is called.
fn digest(folder: &Path, path: &Path, cache: &Cache) -> io::Result<Digest> {
    let named_by_folder = path.parent() == Some(&folder.join("bin"));
    let record = path.file_name().is_some_and(|name| name == "RECORD");
    if !named_by_folder && !record {
        return cache.digest(path);
    }
    let mut content = Vec::new();
    if fs::metadata(path)?.len() > MAX_SCRIPT {
        return cache.digest(path);
    }
    File::open(path)?
        .take(MAX_SCRIPT)
        .read_to_end(&mut content)?;
    if record {
        // What a wheel has outside of its folder are scripts, which count by themselves.
        let lines = content.split_inclusive(|byte| *byte == b'\n');
        let inside: Vec<_> = lines.filter(|line| !line.starts_with(b"../")).collect();
        return Ok(Digest::of(&inside.concat()));
    }
    let name = folder.as_os_str().as_encoded_bytes();
    let mut plain = Vec::with_capacity(content.len());
    let mut rest = content.as_slice();
    while let Some(at) = memchr::memmem::find(rest, name) {
        plain.extend_from_slice(&rest[..at]);
        // No name has it: a file that says `.` is another one.
        plain.push(b'\0');
        rest = &rest[at + name.len()..];
    }
    plain.extend_from_slice(rest);
    Ok(Digest::of(&plain))
}

/// A larger file is a program, and doesn't name its folder.
const MAX_SCRIPT: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_folder_is_told_from_what_stands_for_it() {
        let digest_of = |line: &str| {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            fs::create_dir(folder.join("bin")).unwrap();
            let text = line.replace("FOLDER", &folder.display().to_string());
            fs::write(folder.join("bin/server"), text).unwrap();
            digest(folder, &folder.join("bin/server"), &Cache::default()).unwrap()
        };
        let named = digest_of("#!FOLDER/bin/python\n");
        assert_eq!(named, digest_of("#!FOLDER/bin/python\n"));
        assert_ne!(named, digest_of("#!./bin/python\n"));
        assert_ne!(named, digest_of("#!/bin/python\n"));
    }
}
