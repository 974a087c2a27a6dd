//! `gatehouse check`: is this file good, and what would it do?
//!
//! Owns the summary of a good file. Starts no backend, connects to nothing, changes nothing; what a
//! sandbox promises is tried on a process that then ends.

use std::{fmt::Write as _, io::Write, process::ExitCode};

use super::CheckArgs;
use crate::{
    backend::child::{self, Installed, Spawner},
    config::{self, Config, Environment, Process, Strictness},
    drain::Drain,
    package::{self, Spec},
    pin::origin,
    sandbox::Means,
    tls::Source,
};

/// Judges the file and says everything on standard error: 0 when it is good, 1 when it isn't.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let try_sandboxes = Some(means as Try);
    judge(args, &Process, try_sandboxes, &mut std::io::stderr().lock())
}

/// [`run`] in a world of the caller's, where no sandbox is tried.
pub fn run_in(args: &CheckArgs, world: &dyn Environment, err: &mut dyn Write) -> ExitCode {
    judge(args, world, None, err)
}

fn judge(
    args: &CheckArgs,
    world: &dyn Environment,
    try_sandboxes: Option<Try>,
    err: &mut dyn Write,
) -> ExitCode {
    let (text, code) = match Config::load_in(&args.config, Strictness::Check, world) {
        Ok(config) => match try_sandboxes.map(|tried| tried(&config)).transpose() {
            Err(errors) => (errors, 1),
            Ok(means) => good(args, &config, means.as_ref()),
        },
        Err(problems) => (problems.for_stderr(), 1),
    };
    // Nothing is left to tell it to when standard error is gone; the code still says it.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    ExitCode::from(code)
}

/// Tries the sandboxes of a file.
type Try = fn(&Config) -> Result<Means, String>;

/// By what children are held here; or what of the sandboxes can't be enforced, a line each.
fn means(config: &Config) -> Result<Means, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Err(format!("error: can't try the sandboxes: {error}\n")),
    };
    runtime.block_on(async {
        let drain = Drain::new();
        let spawner = match Spawner::new(drain.clone()).await {
            Ok(spawner) => spawner,
            Err(error) => return Err(format!("error: can't contain children: {error}\n")),
        };
        spawner.hide(config.own_files.clone());
        spawner.fix(config.packages.clone());
        let mut errors = String::new();
        for entry in &config.backends {
            let name = &entry.config.name;
            let child = &entry.config.child;
            if let Err(error) = spawner.examine(child).await {
                let _ = writeln!(errors, "error: backend {name}: {error}");
            }
            if let Some(what) = unreachable(child) {
                let _ = writeln!(errors, "error: backend {name}: {what}");
            }
            if child.installed.as_ref().is_some_and(|it| !is_whole(it)) {
                let _ = writeln!(
                    errors,
                    "error: backend {name}: what is installed for it is not what was installed: run \
                     `gatehouse install --backend {name}`"
                );
            }
        }
        if errors.is_empty() {
            Ok(spawner.means())
        } else {
            Err(errors)
        }
    })
}

/// What the user of a child can't reach of what was installed for it.
pub(super) fn unreachable(child: &child::Config) -> Option<String> {
    let user = child.sandbox.user.as_ref()?;
    let program = child.installed.as_ref()?.command.first()?;
    let files = child::surroundings(child).and_then(|around| Ok(origin::run_files(&around)?));
    let files = files.unwrap_or_else(|_| vec![program.into()]);
    let closed = files
        .iter()
        .find_map(|file| package::out_of_reach(file, user.uid, user.gid))?;
    Some(format!(
        "its user `{}` can't read {}",
        user.name,
        closed.display()
    ))
}

/// Whether all files of an installation are what they were.
fn is_whole(installed: &Installed) -> bool {
    let found = origin::installed(&installed.folder, &origin::Cache::default());
    found.is_ok_and(|(_, digest)| digest.to_string() == installed.digest)
}

fn good(args: &CheckArgs, config: &Config, means: Option<&Means>) -> (String, u8) {
    let warnings = if config.warnings.is_empty() {
        String::new()
    } else {
        format!("{}\n", config.warnings.for_stderr())
    };
    let name = args.config.display().to_string();
    (warnings + &summary(&name, config, means), 0)
}

fn summary(name: &str, config: &Config, means: Option<&Means>) -> String {
    let mut out = format!("{name} is good\n");
    let scheme = match config.tls.source {
        Source::None => "http, this machine only",
        Source::Files { .. } => "https, certificate from files",
        Source::SelfSigned { .. } => "https, certificate made at start",
    };
    for address in &config.listener.addresses {
        line(&mut out, "listen", &format!("{address} ({scheme})"));
    }
    for entry in &config.backends {
        let backend = &entry.config;
        let isolation = config::show_isolation(backend.isolation);
        let text = format!(
            "{} ({isolation}, {} warm, at most {})",
            backend.name, backend.warm, backend.max_instances
        );
        line(&mut out, "backend", &text);
        if let Some(words) = packages(&backend.child) {
            line(&mut out, "", &format!("  {:<7} {words}", "runs"));
        }
        let sandbox = &backend.child.sandbox;
        let profile = config::show_profile(sandbox.profile);
        for (place, words) in sandbox.words(means).into_iter().enumerate() {
            let title = if place == 0 { profile } else { "" };
            line(&mut out, "", &format!("  {title:<7} {words}"));
        }
    }
    for (name, role) in &config.policy.roles {
        let backends: Vec<_> = role.backends.keys().map(String::as_str).collect();
        let grants = match backends.as_slice() {
            [] => "nothing".to_owned(),
            ["*"] => "every backend".to_owned(),
            some => some.join(", "),
        };
        line(&mut out, "role", &format!("{name}: {grants}"));
    }
    for key in &config.auth.keys {
        let roles = if key.roles.is_empty() {
            "no role".to_owned()
        } else {
            key.roles.join(", ")
        };
        line(&mut out, "key", &format!("{}: {roles}", key.name));
    }
    if config.auth.anonymous {
        line(&mut out, "access", "without a key, this machine only");
    }
    out
}

/// Where the packages of a runner come from.
fn packages(child: &child::Config) -> Option<String> {
    let runner = child.command.first()?;
    Spec::of(&child.command)?.ok()?;
    Some(match &child.installed {
        Some(installed) => format!("{}, installed", installed.summary),
        None => format!("what {runner} fetches when it starts: it is not installed"),
    })
}

fn line(out: &mut String, what: &str, text: &str) {
    // Names are checked, but a summary must not be a way to write to the terminal either.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let _ = writeln!(out, "  {what:<8} {text}");
}
