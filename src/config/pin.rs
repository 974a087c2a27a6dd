//! `[backends.NAME.pin]`, and the lock file beside the configuration.
//!
//! Owns what is missing in the lock file, and what `check` says of what is in it.

use std::{cell::OnceCell, path::PathBuf};

use super::{Strictness, context::Context, problem::Problem, table::Table, word};
use crate::pin::{Lock, Mode, Pins, lock};

/// The lock file, read when the first backend needs it.
pub(super) struct LockFile {
    path: PathBuf,
    read: OnceCell<Option<Lock>>,
    unsaid: OnceCell<Option<Lock>>,
}

impl LockFile {
    pub(super) fn beside(cx: &Context<'_>) -> Self {
        Self {
            path: cx.path(lock::FILE_NAME),
            read: OnceCell::new(),
            unsaid: OnceCell::new(),
        }
    }

    /// What stands in it; `None` when it isn't there or was reported.
    fn get(&self, cx: &Context<'_>, span: &super::context::Span) -> Option<&Lock> {
        self.read.get_or_init(|| self.load(cx, span)).as_ref()
    }

    /// As [`LockFile::get`] where nothing depends on it: what is wrong with it is not said.
    fn quiet(&self, cx: &Context<'_>) -> Option<&Lock> {
        let load = || {
            let bytes = cx.world.read_up_to(&self.path, lock::MAX_LEN).ok()?;
            Lock::parse(&String::from_utf8(bytes).ok()?).ok()
        };
        self.unsaid.get_or_init(load).as_ref()
    }

    fn load(&self, cx: &Context<'_>, span: &super::context::Span) -> Option<Lock> {
        cx.watch(self.path.clone());
        let shown = self.path.display();
        let problem = match cx.world.read_up_to(&self.path, lock::MAX_LEN) {
            Ok(bytes) => match String::from_utf8(bytes).map(|text| Lock::parse(&text)) {
                Ok(Ok(lock)) => return Some(lock),
                Ok(Err(error)) => format!("`{shown}` can't be read: {error}"),
                Err(_) => format!("`{shown}` is not UTF-8 text"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => format!("can't read `{shown}`: {error}"),
        };
        let help = "take it from version control again, or remove it and run `gatehouse pin`";
        cx.report(Problem::error(problem).at(span).help(help));
        None
    }
}

/// Reads `pin` of a backend.
pub(super) fn read(table: &mut Table<'_>, name: &str, file: &LockFile) -> Pins {
    let place = table.place("pin");
    let mode = mode(table);
    let cx = table.cx;
    if mode == Mode::Off && cx.strictness == Strictness::Serve {
        return Pins::default();
    }
    let locked = match mode {
        Mode::Off => file.quiet(cx),
        Mode::Warn | Mode::Enforce => file.get(cx, &place),
    };
    let locked = locked.and_then(|lock| lock.backends.get(name)).cloned();
    if let Some(locked) = &locked {
        let hidden = locked.hidden();
        for line in hidden.iter().take(SHOWN) {
            cx.report(
                Problem::warning(format!("hidden characters in {}: {line}", lock::FILE_NAME))
                    .at(&place)
                    .help("read that text with care: a model reads what you can't see"),
            );
        }
    }
    if mode == Mode::Off {
        return Pins::default();
    }
    if locked.is_none() {
        let message = format!("`{name}` is not in {}", file.path.display());
        let problem = match mode {
            Mode::Enforce => cx.absent(format!("{message}: it will not be started")),
            Mode::Warn | Mode::Off => Problem::warning(message),
        };
        let help = format!("run `gatehouse pin --backend {name}`, and read what it records");
        cx.report(problem.at(&place).help(help));
    }
    Pins {
        mode,
        locked,
        file: file.path.clone(),
    }
}

fn mode(table: &mut Table<'_>) -> Mode {
    let Some(mut inner) = table.table("pin") else {
        return Mode::Off;
    };
    let mode = word::read(&mut inner, "mode", &MODES);
    if !inner.has("mode") {
        inner.missing("mode", "write mode = \"off\", \"warn\" or \"enforce\"");
    }
    inner.finish();
    mode.unwrap_or_default()
}

const MODES: [(&str, Mode); 3] = [
    ("off", Mode::Off),
    ("warn", Mode::Warn),
    ("enforce", Mode::Enforce),
];
/// Hidden texts of one backend that are shown.
const SHOWN: usize = 10;
