//! `[backends.NAME]`: the servers behind the gateway.
//!
//! Owns the names they may have, how their commands are written, and the bounds of their counts and
//! times.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{Spanned, de::DeValue};

use super::{
    BackendEntry,
    context::{Context, Span},
    environment::Environment,
    expand::{Text, is_env_name, literal_ranges},
    judge,
    limits::Limits,
    packages, pin,
    problem::Problem,
    quotas,
    roles::{check_name, globs},
    secrets,
    table::{Table, string},
    word,
};
use crate::{
    backend::{self, Isolation, Protocol, Restart, child},
    policy::filter,
    sandbox,
    secret::Secret,
};

/// A backend, and all that was named even if it was refused.
pub(super) struct Backends {
    pub(super) entries: Vec<BackendEntry>,
    pub(super) names: Vec<String>,
}

/// Reads all backends in the order of the file.
pub(super) fn read(root: &mut Table<'_>, limits: &Limits, packages: &Path) -> Backends {
    let place = root.place("backends");
    let mut table = root.table("backends");
    let members = table.as_ref().map(Table::members).unwrap_or_default();
    let names: Vec<_> = members
        .into_iter()
        .map(|(name, _)| name.into_inner())
        .collect();
    if names.is_empty() && (table.is_some() || !root.has("backends")) {
        root.cx.report(
            Problem::error("there are no backends")
                .at(&place)
                .help("write `[backends.NAME]` and below it command = [\"program\", \"argument\"]")
                .distant(),
        );
    }
    let blocks = table.as_mut().map(Table::named).unwrap_or_default();
    let beside = Beside {
        lock: pin::LockFile::beside(root.cx),
        packages,
    };
    let entries = blocks
        .into_iter()
        .filter_map(|(name, table)| one(&name, table, limits, &beside));
    Backends {
        entries: entries.collect(),
        names,
    }
}

/// What is kept beside the file for its backends.
struct Beside<'a> {
    lock: pin::LockFile,
    packages: &'a Path,
}

fn one(
    name: &Spanned<String>,
    mut table: Table<'_>,
    limits: &Limits,
    beside: &Beside<'_>,
) -> Option<BackendEntry> {
    check_name(
        table.cx,
        "backend",
        name,
        is_backend_name(name.get_ref()),
        BACKEND_HELP,
    );
    let base = defaults(name.get_ref().clone(), Vec::new());
    let child = child(&mut table, &base, beside.packages);
    let isolation = word::read(&mut table, "isolation", &ISOLATIONS).unwrap_or(base.isolation);
    let protocol = word::read(&mut table, "protocol", &PROTOCOLS).unwrap_or(base.protocol);
    let max_instances = table.count("max_instances", MAX_INSTANCES, 1..=INSTANCES);
    let values = match &child {
        Some(child) => secrets::read(&mut table, &child.env),
        None => secrets::read(&mut table, &[]),
    };
    let mut warm = table.count("warm", WARM.min(max_instances), 0..=INSTANCES);
    if table.has("principal_env") {
        secrets::check(&table, isolation, warm);
        // A child that is started ahead is nobody's.
        warm = 0;
    }
    let pins = pin::read(&mut table, name.get_ref(), &beside.lock);
    judge::warm(&table, warm, max_instances, isolation);
    judge::room(&table, max_instances, isolation);
    let start_timeout = table.duration("start_timeout", base.start_timeout, TENTH..=HOUR);
    let restart = restart(&mut table, base.restart);
    let filter = filter(&mut table);
    let quotas = quotas::read(&mut table);
    table.finish();
    let config = backend::Config {
        child: child?,
        secrets: backend::secrets::Secrets {
            values,
            qualified: false,
        },
        pins,
        protocol,
        isolation,
        warm: warm as usize,
        max_instances: max_instances as usize,
        start_timeout,
        restart,
        limits: bounds(limits),
        ..base
    };
    Some(BackendEntry {
        config,
        filter,
        limits: quotas,
    })
}

/// What a backend is when only its command is known.
pub(super) fn defaults(name: String, command: Vec<String>) -> backend::Config {
    let limits = Limits::default();
    backend::Config {
        name,
        child: child::Config {
            command,
            cwd: None,
            env: Vec::new(),
            inherit_env: Vec::new(),
            stop_timeout: Duration::from_secs(5),
            sandbox: sandbox::Config::default(),
            installed: None,
        },
        secrets: backend::secrets::Secrets::default(),
        pins: crate::pin::Pins::default(),
        protocol: Protocol::Auto,
        isolation: Isolation::Session,
        warm: WARM as usize,
        max_instances: MAX_INSTANCES as usize,
        start_timeout: Duration::from_secs(30),
        restart: Restart {
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(30),
            give_up_after: 10,
        },
        limits: bounds(&limits),
    }
}

/// What a server-wide table says of every backend.
fn bounds(limits: &Limits) -> backend::Limits {
    backend::Limits {
        max_message: limits.sessions.max_message,
        max_outbox: limits.max_body.saturating_mul(OUTBOX_BODIES),
        request_timeout: limits.request_timeout,
    }
}

fn child(table: &mut Table<'_>, base: &backend::Config, packages: &Path) -> Option<child::Config> {
    let command = command(table);
    let cwd = cwd(table);
    let env = env(table);
    let inherit_env = inherited(table, &env);
    let stop_timeout = table.duration(
        "stop_timeout",
        base.child.stop_timeout,
        Duration::ZERO..=HOUR,
    );
    let sandbox = super::sandbox::read(table);
    if let Some((path, _)) = sandbox::covered(&sandbox.write, &[packages.to_owned()]) {
        let message = format!(
            "children could write {}, where packages are installed",
            path.display()
        );
        let problem = Problem::error(message).at(&table.place("sandbox"));
        let help = "name the folders that they need, or move `packages.folder`";
        table.cx.report(problem.help(help));
    }
    let (command, span) = command?;
    let search = env.iter().find(|(name, _)| name == "PATH");
    let path = match search {
        Some((_, path)) => Some(std::ffi::OsString::from(path.expose())),
        None => table.cx.world.var("PATH"),
    };
    let mut child = child::Config {
        command,
        cwd,
        env,
        inherit_env,
        stop_timeout,
        sandbox,
        installed: None,
    };
    child.installed = packages::find(table.cx, packages, &base.name, &child, &span);
    if child.installed.is_none() {
        find(table.cx, &child.command[0], &span, path);
    }
    Some(child)
}

/// The argv array and the place of the program in the file.
fn command(table: &mut Table<'_>) -> Option<(Vec<String>, Span)> {
    let node = table.take("command");
    let example = "write program and arguments: command = [\"npx\", \"-y\", \"package\"]";
    match node.map(|node| (node, node.get_ref())) {
        None => {
            table.missing("command", example);
            return None;
        }
        Some((node, DeValue::String(line))) => {
            let words: Vec<_> = line
                .split_whitespace()
                .map(|word| format!("{word:?}"))
                .collect();
            let help = format!("no shell reads it: write command = [{}]", words.join(", "));
            table.wrong_type("command", node, "a list of strings", &help);
            return None;
        }
        Some(_) => {}
    }
    let texts = table.strings("command")?;
    let program = texts.first().filter(|text| !text.value.is_empty());
    let Some(program) = program else {
        let span = texts
            .first()
            .map_or_else(|| table.place("command"), |text| text.span.clone());
        let message = format!("`{}` names no program", table.name("command"));
        table
            .cx
            .report(Problem::error(message).at(&span).help(example));
        return None;
    };
    if !texts.iter().all(|text| no_nul(table, "command", text)) {
        return None;
    }
    let span = program.span.clone();
    let mut command: Vec<_> = texts.iter().map(|text| text.value.clone()).collect();
    if command[0].contains('/') {
        match table.cx.path(&command[0]).into_os_string().into_string() {
            Ok(path) => command[0] = path,
            Err(_) => {
                let problem = Problem::error("the path of this file is not UTF-8 text");
                let help = "write the program's whole path, or move this file";
                table.cx.report(problem.at(&span).help(help));
            }
        }
    }
    Some((command, span))
}

fn no_nul(table: &Table<'_>, key: &str, text: &Text) -> bool {
    let good = !text.value.contains('\0');
    if !good {
        let message = format!("a NUL character in `{}`", table.name(key));
        table
            .cx
            .report(Problem::error(message).at(&text.span).help("remove it"));
    }
    good
}

/// Says when the program isn't there.
fn find(cx: &Context<'_>, program: &str, span: &Span, path: Option<std::ffi::OsString>) {
    let world: &dyn Environment = cx.world;
    if program.contains('/') {
        if !world.executable(program.as_ref()) {
            cx.report(
                cx.absent("no program is here that can be executed".to_owned())
                    .at(span)
                    .help("the path is relative to this file; `chmod +x` makes a file executable"),
            );
        }
        return;
    }
    let found = path.is_some_and(|path| {
        std::env::split_paths(&path).any(|dir| world.executable(&dir.join(program)))
    });
    if !found {
        cx.report(
            cx.absent("this program is not on PATH".to_owned())
                .at(span)
                .help("install it, or write its whole path"),
        );
    }
}

fn cwd(table: &mut Table<'_>) -> Option<PathBuf> {
    let text = table.string("cwd")?;
    if !no_nul(table, "cwd", &text) {
        return None;
    }
    let path = table.cx.path(&text.value);
    if !table.cx.world.folder(&path) {
        let message = format!("`{}` is not a folder", table.name("cwd"));
        table.cx.report(
            table
                .cx
                .absent(message)
                .at(&text.span)
                .help("make it, or name another; the path is relative to this file"),
        );
    }
    Some(path)
}

fn env(table: &mut Table<'_>) -> Vec<(String, Secret)> {
    let Some(inner) = table.table("env") else {
        return Vec::new();
    };
    let mut env = Vec::new();
    for (name, node) in inner.members() {
        if !is_env_name(name.get_ref()) {
            not_a_variable(inner.cx, &name.span());
        }
        let DeValue::String(raw) = node.get_ref() else {
            inner.cx.mask(node.span());
            inner.wrong_type(name.get_ref(), node, "a string", "write it in quotes");
            continue;
        };
        for range in literal_ranges(inner.cx, raw, &node.span()) {
            inner.cx.mask(range);
        }
        let text = string(inner.cx, &inner.name(name.get_ref()), node);
        if let Some(text) = text.filter(|text| no_nul(&inner, name.get_ref(), text)) {
            env.push((name.into_inner(), Secret::new(text.value)));
        }
    }
    env
}

fn inherited(table: &mut Table<'_>, env: &[(String, Secret)]) -> Vec<String> {
    let texts = table.strings("inherit_env").unwrap_or_default();
    for text in &texts {
        if !is_env_name(&text.value) {
            not_a_variable(table.cx, &text.span);
        } else if env.iter().any(|(name, _)| *name == text.value) {
            let message = format!("`{}` stands in `env` too, which wins", text.shown());
            table.cx.report(
                Problem::warning(message)
                    .at(&text.span)
                    .help("remove it from one of the two"),
            );
        }
    }
    texts.into_iter().map(|text| text.value).collect()
}

fn not_a_variable(cx: &Context<'_>, span: &Span) {
    cx.report(
        Problem::error("not the name of an environment variable")
            .at(span)
            .help("use printable ASCII without spaces and `=`"),
    );
}

/// The words that [`parse_isolation`] knows.
#[must_use]
pub fn isolations() -> [&'static str; 3] {
    ISOLATIONS.map(|(word, _)| word)
}

/// The word of the file for who shares one instance.
#[must_use]
pub fn parse_isolation(word: &str) -> Option<Isolation> {
    let found = ISOLATIONS.iter().find(|(known, _)| *known == word);
    found.map(|(_, isolation)| *isolation)
}

/// The word of the file for an isolation.
#[must_use]
pub fn show_isolation(isolation: Isolation) -> &'static str {
    let found = ISOLATIONS.iter().find(|(_, known)| *known == isolation);
    found.map_or("?", |(word, _)| word)
}

fn restart(table: &mut Table<'_>, base: Restart) -> Restart {
    let Some(mut inner) = table.table("restart") else {
        return base;
    };
    let backoff = inner.duration("backoff", base.backoff, MILLISECOND..=HOUR);
    let restart = Restart {
        backoff,
        max_backoff: inner.duration(
            "max_backoff",
            base.max_backoff.max(backoff),
            MILLISECOND..=HOUR,
        ),
        give_up_after: inner.count("give_up_after", base.give_up_after, 1..=1_000_000),
    };
    if restart.backoff > restart.max_backoff {
        inner.cx.report(
            Problem::error("`backoff` is longer than `max_backoff`")
                .at(&inner.place("backoff"))
                .also(&inner.place("max_backoff"), "no pause is longer than this")
                .help("write a shorter one"),
        );
    }
    inner.finish();
    restart
}

fn filter(table: &mut Table<'_>) -> filter::Config {
    let Some(mut inner) = table.table("filter") else {
        return filter::Config::default();
    };
    let methods = rule(&mut inner, "methods");
    judge::methods(&inner, &methods);
    let filter = filter::Config {
        methods,
        tools: rule(&mut inner, "tools"),
        prompts: rule(&mut inner, "prompts"),
        resources: rule(&mut inner, "resources"),
        rules: super::rules::rules(&mut inner),
        redact: super::rules::redact(&mut inner),
    };
    inner.finish();
    filter
}

fn rule(table: &mut Table<'_>, key: &'static str) -> filter::Rule {
    let Some(mut inner) = table.table(key) else {
        return filter::Rule::default();
    };
    let rule = filter::Rule {
        allow: globs(&mut inner, "allow"),
        deny: globs(&mut inner, "deny"),
    };
    inner.finish();
    rule
}

/// True for names that can stand in a path and be told apart from the gateway's own.
#[must_use]
pub fn is_backend_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && !RESERVED.contains(&name)
}

/// Paths of the gateway's own.
const RESERVED: [&str; 3] = ["healthz", "readyz", "metrics"];
/// What a backend's name may be, for a message.
pub const BACKEND_HELP: &str = "use letters, digits, `_` and `-`, at most 64; `healthz`, `readyz` and `metrics` are \
                         taken";
/// So many of the longest client messages may wait for a child that reads slowly.
const OUTBOX_BODIES: usize = 4;
/// The words for who shares one instance.
const ISOLATIONS: [(&str, Isolation); 3] = [
    ("session", Isolation::Session),
    ("principal", Isolation::Principal),
    ("shared", Isolation::Shared),
];
/// The words for what children speak.
const PROTOCOLS: [(&str, Protocol); 3] = [
    ("auto", Protocol::Auto),
    ("legacy", Protocol::Legacy),
    ("modern", Protocol::Modern),
];
const WARM: u32 = 1;
const MAX_INSTANCES: u32 = 50;
const INSTANCES: u32 = 100_000;
const MILLISECOND: Duration = Duration::from_millis(1);
const TENTH: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3_600);
