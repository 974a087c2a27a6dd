//! `[packages]`, and what `gatehouse install` has put there for each backend.
//!
//! Owns what is said of a backend whose packages are no longer the ones that its command asks for.
//! Invariant: what is run from there was installed for this very command, and nobody but the
//! gateway's user and root could change it; what can't be read is not what isn't there.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    BackendEntry,
    context::{Context, Span},
    problem::Problem,
    table::Table,
};
use crate::{
    backend::child::{self, Installed},
    package::{self, Place, Record, Spec},
    sandbox::Profile,
};

/// Reads `[packages]`: the folder of all packages.
pub(super) fn read(root: &mut Table<'_>) -> PathBuf {
    let default = root.cx.path(package::FOLDER);
    let Some(mut table) = root.table("packages") else {
        return default;
    };
    let folder = table.string("folder");
    let folder = folder.filter(|text| {
        let good = !text.value.is_empty() && !text.value.contains('\0');
        if !good {
            let problem = Problem::error("`packages.folder` has no path here");
            let help = "name a folder that only the gateway's user can change";
            table.cx.report(problem.at(&text.span).help(help));
        }
        good
    });
    let folder = folder.map(|text| table.cx.path(&text.value));
    table.finish();
    folder.unwrap_or(default)
}

/// The records of all backends that runners run, whether they are there or not.
pub(super) fn records(folder: &Path, backends: &[BackendEntry]) -> Vec<PathBuf> {
    let run = backends
        .iter()
        .filter(|entry| Spec::of(&entry.config.child.command).is_some());
    run.map(|entry| Place::of(folder, &entry.config.name).record())
        .collect()
}

/// What is installed for a backend; `span` is where its command stands.
pub(super) fn find(
    cx: &Context<'_>,
    folder: &Path,
    name: &str,
    child: &child::Config,
    span: &Span,
) -> Option<Installed> {
    let spec = Spec::of(&child.command)?;
    let place = Place::of(folder, name);
    let text = match cx.world.read(&place.record()) {
        Ok(text) => text,
        // Who starts it says so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let path = place.record();
            let message = format!("can't read {}: {error}", path.display());
            let help = "let the gateway's user read it, or remove it";
            cx.report(Problem::error(message).at(span).help(help));
            return None;
        }
    };
    let spec = spec.ok()?;
    let strict = child.sandbox.profile == Profile::Strict;
    let install = format!("run `gatehouse install --backend {name}`");
    let found = Record::parse(&text).filter(|found| found.spec == spec.digest());
    let Some(found) = found else {
        let message = match strict {
            true => "what is installed for it is not what it asks for: it won't start",
            false => "what is installed for it is not what it asks for, and is not used",
        };
        cx.report(Problem::warning(message).at(span).help(install));
        return None;
    };
    if let Err(flaw) = place.check(&found, |path| cx.world.alterable(path)) {
        let help = "give it to the gateway's user and `chmod go-w` it";
        cx.report(
            Problem::error(format!("{flaw}: what is installed there can't be trusted"))
                .at(span)
                .help(help),
        );
        return None;
    }
    let program = place.program(&found);
    if !cx.world.executable(&program) {
        let message = "what was installed for it is gone";
        cx.report(cx.absent(message.to_owned()).at(span).help(install));
        return None;
    }
    let mut command = vec![program.into_os_string().into_string().ok()?];
    command.extend(spec.arguments);
    Some(Installed {
        folder: place.folder.join(&found.folder),
        command,
        summary: found.summary(),
        digest: found.digest,
    })
}
