//! The JSON shapes in which clients keep their servers.
//!
//! Owns where servers stand (`mcpServers`, `servers`, `mcp.servers`), what their fields are called,
//! and which can't be run as a child. It must never decide what is secret.

use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast, parse_to_serde_value};
use serde_json::{Map, Value};

use super::{ImportError, Notes, template::Template};
use crate::config::is_backend_name;

/// One server of the JSON file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// A name that a backend may have, unique among the servers.
    pub(super) name: String,
    /// Program and arguments; never empty.
    pub(super) command: Vec<Template>,
    /// Environment.
    pub(super) env: Vec<(String, Template)>,
    /// Working directory.
    pub(super) cwd: Option<Template>,
    /// Switched off in the client.
    pub(super) disabled: bool,
}

/// Reads the servers in the order of the file.
pub(super) fn read(text: &str, notes: &mut Notes) -> Result<Vec<Server>, ImportError> {
    let text = text.trim_start_matches('\u{feff}');
    if depth(text) > MAX_DEPTH {
        return Err(ImportError::Depth);
    }
    let value = parse_to_serde_value(text, &ParseOptions::default())
        .map_err(|error| ImportError::Syntax(error.to_string()))?;
    let entries = value.as_ref().and_then(entries).ok_or(ImportError::Shape)?;
    for name in repeated(text).unwrap_or_default() {
        notes.add(format!(
            "`{name}` stands in the file more than once; only the last one of that name is read"
        ));
    }
    let mut servers: Vec<Server> = Vec::new();
    for (name, entry) in entries {
        let taken = |name: &str| servers.iter().any(|server| server.name == name);
        let fresh = sanitize(name, taken);
        if fresh != *name {
            notes.add(format!(
                "`{name}` is named `{fresh}` here, so that it can stand in a URL"
            ));
        }
        servers.extend(server(fresh, entry, notes));
    }
    Ok(servers)
}

/// Names under which several servers stand: as in every other reader, the last one counts.
fn repeated(text: &str) -> Option<Vec<String>> {
    let options = (CollectOptions::default(), ParseOptions::default());
    let parsed = parse_to_ast(text, &options.0, &options.1).ok()?.value?;
    let root = parsed.as_object()?;
    let nested = root.get_object("mcp");
    let servers = [Some(root), nested]
        .into_iter()
        .flatten()
        .find_map(|place| {
            place
                .get_object("mcpServers")
                .or_else(|| place.get_object("servers"))
        })?;
    let names: Vec<_> = servers.properties.iter().map(|p| p.name.as_str()).collect();
    let first = |(at, name): (usize, &&str)| !names[..at].contains(name);
    let again = names
        .iter()
        .enumerate()
        .filter(|(at, name)| !first((*at, name)));
    Some(again.map(|(_, name)| (*name).to_owned()).collect())
}

fn entries(value: &Value) -> Option<&Map<String, Value>> {
    let places = ["/mcpServers", "/servers", "/mcp/servers", "/mcp/mcpServers"];
    places
        .iter()
        .find_map(|place| value.pointer(place)?.as_object())
}

fn server(name: String, entry: &Value, notes: &mut Notes) -> Option<Server> {
    let Some(entry) = entry.as_object() else {
        notes.add(format!("{name}: not an object; skipped"));
        return None;
    };
    if let Some(why) = remote(entry) {
        notes.add(format!(
            "{name}: {why}; a gateway for stdio servers can't wrap it; skipped"
        ));
        return None;
    }
    let command = command(&name, entry, notes)?;
    let disabled = flag(entry, "disabled") == Some(true) || flag(entry, "enabled") == Some(false);
    if disabled {
        notes.add(format!("{name}: disabled; kept as a comment"));
    }
    if entry.contains_key("envFile") {
        notes.add(format!(
            "{name}: `envFile` is not read; set what is in it under `env`"
        ));
    }
    let ignored = entry
        .keys()
        .map(String::as_str)
        .filter(|key| !FIELDS.contains(key));
    let ignored: Vec<_> = ignored.collect();
    if !ignored.is_empty() {
        notes.add(format!("{name}: left out: {}", ignored.join(", ")));
    }
    Some(Server {
        command,
        env: env(&name, entry, notes),
        cwd: text(entry, "cwd").map(|cwd| Template::read(cwd, &name, notes)),
        disabled,
        name,
    })
}

fn remote(entry: &Map<String, Value>) -> Option<String> {
    let kind = ["type", "transport", "transportType"]
        .iter()
        .find_map(|key| text(entry, key));
    match kind {
        Some(kind) if kind != "stdio" => Some(format!("a remote server (`{kind}`)")),
        Some(_) => None,
        None => ["url", "serverUrl", "httpUrl"]
            .iter()
            .any(|key| entry.contains_key(*key) && !entry.contains_key("command"))
            .then(|| "a remote server".to_owned()),
    }
}

fn text<'a>(entry: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    entry.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn flag(entry: &Map<String, Value>, key: &str) -> Option<bool> {
    entry.get(key)?.as_bool()
}

fn command(name: &str, entry: &Map<String, Value>, notes: &mut Notes) -> Option<Vec<Template>> {
    let mut words: Vec<String> = match entry.get("command") {
        Some(Value::String(program)) => vec![program.clone()],
        Some(Value::Array(words)) => words.iter().filter_map(scalar).collect(),
        _ => Vec::new(),
    };
    if words
        .first()
        .is_none_or(|program| program.trim().is_empty())
    {
        notes.add(format!("{name}: has no `command`; skipped"));
        return None;
    }
    let args = entry.get("args").and_then(Value::as_array);
    let args: Vec<_> = args.into_iter().flatten().collect();
    let count = words.len() + args.len();
    words.extend(args.into_iter().filter_map(scalar));
    if words.len() != count {
        notes.add(format!(
            "{name}: `args` that are neither text nor numbers were left out"
        ));
    }
    let words = split(name, unwrap_windows(name, words, notes), notes);
    if words.is_empty() {
        notes.add(format!("{name}: has no `command`; skipped"));
        return None;
    }
    Some(
        words
            .iter()
            .map(|word| Template::read(word, name, notes))
            .collect(),
    )
}

/// `cmd /c npx …` is how Windows starts scripts; elsewhere the script is the program.
fn unwrap_windows(name: &str, mut words: Vec<String>, notes: &mut Notes) -> Vec<String> {
    let base = |word: &str| {
        word.rsplit(['/', '\\'])
            .next()
            .unwrap_or(word)
            .to_ascii_lowercase()
    };
    let shell = matches!(base(&words[0]).as_str(), "cmd" | "cmd.exe");
    if shell
        && words
            .get(1)
            .is_some_and(|switch| switch.eq_ignore_ascii_case("/c"))
    {
        words.drain(..2);
        notes.add(format!("{name}: `cmd /c` was removed"));
    }
    if let Some(program) = words.first_mut() {
        let lower = program.to_ascii_lowercase();
        let script = [
            "npx.cmd",
            "npm.cmd",
            "uvx.exe",
            "uv.exe",
            "node.exe",
            "python.exe",
        ];
        if script.contains(&lower.as_str()) {
            program.truncate(program.len() - 4);
        }
    }
    words
}

/// Some clients hand the whole line to a shell; a lone program name with spaces was meant so.
fn split(name: &str, words: Vec<String>, notes: &mut Notes) -> Vec<String> {
    match words.as_slice() {
        [line] if line.contains(' ') && !line.contains(['/', '\\', '"', '\'']) => {
            notes.add(format!("{name}: `command` was split at its spaces"));
            line.split_whitespace().map(str::to_owned).collect()
        }
        _ => words,
    }
}

fn env(name: &str, entry: &Map<String, Value>, notes: &mut Notes) -> Vec<(String, Template)> {
    let mut env = Vec::new();
    for (key, value) in entry
        .get("env")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        match scalar(value) {
            Some(value) if crate::config::is_env_name(key) => {
                env.push((key.clone(), Template::read(&value, name, notes)));
            }
            _ => notes.add(format!("{name}: `env.{key}` can't be set; left out")),
        }
    }
    env
}

/// Text, numbers and booleans as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.contains('\0') => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A name that a backend may have and that isn't taken.
fn sanitize(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut clean = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            clean.push(c);
        } else if !clean.is_empty() && !clean.ends_with('-') {
            clean.push('-');
        }
    }
    clean.truncate(56);
    let clean = clean.trim_matches('-');
    let clean = if clean.is_empty() { "server" } else { clean };
    let mut fresh = clean.to_owned();
    let mut number = 2;
    while taken(&fresh) || !is_backend_name(&fresh) {
        fresh = format!("{clean}-{number}");
        number += 1;
    }
    fresh
}

/// How deep brackets are nested outside of strings: the parser below recurses.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut quote = None;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                bytes.next();
            }
            (Some(open), _) if open == byte => quote = None,
            (Some(_), b'\n') => quote = None,
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'[' | b'{') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (None, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Deeper files come from no client.
pub(super) const MAX_DEPTH: usize = 64;

/// Fields that are carried over or spoken of.
const FIELDS: [&str; 10] = [
    "command",
    "args",
    "env",
    "cwd",
    "type",
    "transport",
    "transportType",
    "disabled",
    "enabled",
    "envFile",
];
