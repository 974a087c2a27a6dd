//! Finds secrets in environments and arguments, and puts variables in their place.
//!
//! Owns the judgement of what looks like a secret; when in doubt it is one, because a variable too
//! many costs a line and a secret in a file costs more. Invariant: two different values never get
//! the same variable.

use std::collections::HashMap;

use super::{
    source::Server,
    template::{Piece, Template, variable_name},
};

/// A variable that the new file needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    /// Its name.
    pub(super) name: String,
    /// Where its value stood.
    pub(super) origin: String,
}

/// Replaces secrets, and lists every variable that the file now needs.
pub(super) fn extract(servers: &mut [Server]) -> Vec<Variable> {
    let mut names = Names::default();
    for server in servers.iter() {
        let env = server.env.iter().map(|(_, value)| value);
        for template in server.command.iter().chain(env).chain(&server.cwd) {
            names.reserve(template, &server.name);
        }
    }
    for server in servers {
        let name = server.name.clone();
        for (key, value) in &mut server.env {
            if let Some(text) = value.literal()
                && is_secret(key, text)
            {
                let origin = format!("{name}: env.{key}");
                *value =
                    Template::variable(&names.assign(&variable_name_of(key), text, &name, origin));
            } else {
                hide_in_text(value, &name, &mut names);
            }
        }
        hide_in_command(&name, &mut server.command, &mut names);
    }
    names.list
}

fn variable_name_of(key: &str) -> String {
    if crate::config::is_variable_name(key) {
        key.to_owned()
    } else {
        variable_name(key)
    }
}

/// What variables of a server's own begin with; its name's capitals say nothing about words.
fn prefix(server: &str) -> String {
    variable_name(&server.to_ascii_lowercase())
}

/// The variables in use, and whose values they stand for.
#[derive(Default)]
struct Names {
    values: HashMap<String, Option<String>>,
    list: Vec<Variable>,
}

impl Names {
    /// Notes the variables that a template already refers to.
    fn reserve(&mut self, template: &Template, server: &str) {
        for piece in &template.0 {
            if let Piece::Variable(name) = piece
                && self.values.insert(name.clone(), None).is_none()
                && !ALWAYS_SET.contains(&name.as_str())
                && !self.list.iter().any(|variable| variable.name == *name)
            {
                self.list.push(Variable {
                    name: name.clone(),
                    origin: format!("{server}: referred to in the file"),
                });
            }
        }
    }

    /// A variable for a value: the wanted name, unless that stands for something else.
    fn assign(&mut self, wanted: &str, value: &str, server: &str, origin: String) -> String {
        let long = format!("{}_{wanted}", prefix(server));
        let numbered = (2..).map(|number| format!("{long}_{number}"));
        let candidates = [wanted.to_owned(), long.clone()]
            .into_iter()
            .chain(numbered);
        for name in candidates {
            match self.values.get(&name) {
                Some(Some(other)) if other == value => return name,
                Some(_) => {}
                None => {
                    self.values.insert(name.clone(), Some(value.to_owned()));
                    self.list.push(Variable {
                        name: name.clone(),
                        origin,
                    });
                    return name;
                }
            }
        }
        wanted.to_owned()
    }
}

fn hide_in_command(server: &str, command: &mut [Template], names: &mut Names) {
    let mut before: Option<String> = None;
    let runs_another = command
        .first()
        .and_then(Template::literal)
        .is_some_and(is_runner);
    for (index, word) in command.iter_mut().enumerate() {
        let flag = before.take();
        let Some(text) = word.literal().map(str::to_owned) else {
            continue;
        };
        if index == 0 {
            continue;
        }
        let secret_flag = flag.filter(|flag| {
            is_secret_flag(flag) || (!runs_another && is_short_password(flag, &text))
        });
        if let Some(flag) = secret_flag.filter(|_| !text.starts_with('-') && !text.is_empty()) {
            let origin = format!("{server}: argument after {flag}");
            let wanted = format!("{}_{}", prefix(server), variable_name(&flag));
            *word = Template::variable(&names.assign(&wanted, &text, server, origin));
            continue;
        }
        if text.starts_with('-') && !text.contains('=') {
            before = Some(text.clone());
        }
        hide_in_text(word, server, names);
    }
}

/// Replaces the secret parts of a literal: of `NAME=value`, of headers, of URLs, or all of it.
fn hide_in_text(template: &mut Template, server: &str, names: &mut Names) {
    let Some(text) = template.literal().map(str::to_owned) else {
        return;
    };
    let found = find(&text);
    if found.is_empty() {
        return;
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    for (range, what) in found {
        if range.start < at || range.is_empty() {
            continue;
        }
        if at < range.start {
            pieces.push(Piece::Literal(text[at..range.start].to_owned()));
        }
        let wanted = format!("{}_{}", prefix(server), variable_name(&what));
        let origin = format!("{server}: {what}");
        pieces.push(Piece::Variable(names.assign(
            &wanted,
            &text[range.clone()],
            server,
            origin,
        )));
        at = range.end;
    }
    if at < text.len() {
        pieces.push(Piece::Literal(text[at..].to_owned()));
    }
    template.0 = pieces;
}

type Found = Vec<(std::ops::Range<usize>, String)>;

/// The secrets in a text, in order, and what each is.
fn find(text: &str) -> Found {
    if let Some(scheme) = text.find("://") {
        let mut found = url_password(text, scheme + 3);
        found.extend(url_query(text));
        if !found.is_empty() || !text.starts_with('-') {
            return found;
        }
    }
    if let Some((name, value)) = text.split_once('=')
        && !name.contains(char::is_whitespace)
        && is_secret(name.trim_start_matches('-'), value)
    {
        return vec![(
            name.len() + 1..text.len(),
            name.trim_start_matches('-').to_owned(),
        )];
    }
    if let Some((name, value)) = text.split_once(':')
        && !name.contains(char::is_whitespace)
        && is_secret_header(name)
        && !value.trim().is_empty()
    {
        let start = text.len() - value.trim_start().len();
        let value = &text[start..];
        // The scheme stays, so that the variable holds the credential alone.
        let scheme = ["Bearer ", "Basic ", "Token "]
            .iter()
            .find(|scheme| value.starts_with(**scheme));
        return vec![(
            start + scheme.map_or(0, |scheme| scheme.len())..text.len(),
            name.to_owned(),
        )];
    }
    if looks_random(text) {
        return vec![(0..text.len(), "secret".to_owned())];
    }
    Vec::new()
}

/// The password in `scheme://user:password@host`.
fn url_password(text: &str, authority: usize) -> Found {
    let end = text[authority..]
        .find(['/', '?', '#'])
        .map_or(text.len(), |at| authority + at);
    let Some(at) = text[authority..end].rfind('@') else {
        return Vec::new();
    };
    match text[authority..authority + at].find(':') {
        Some(colon) => vec![(authority + colon + 1..authority + at, "password".to_owned())],
        // A user name alone is a token for some (`https://TOKEN@host`).
        None if looks_random(&text[authority..authority + at]) => {
            vec![(authority..authority + at, "token".to_owned())]
        }
        None => Vec::new(),
    }
}

/// The secret parameters of a URL's query.
fn url_query(text: &str) -> Found {
    let Some(query) = text.find('?') else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut start = query + 1;
    for parameter in text[query + 1..].split(['&', '#']) {
        if let Some((name, value)) = parameter.split_once('=')
            && is_secret(name, value)
        {
            found.push((
                start + name.len() + 1..start + parameter.len(),
                name.to_owned(),
            ));
        }
        start += parameter.len() + 1;
    }
    found
}

/// True when a value under this name should not stand in a file.
fn is_secret(name: &str, value: &str) -> bool {
    let harmless = ["", "true", "false", "yes", "no", "none", "null", "0", "1"];
    if harmless.contains(&value.to_ascii_lowercase().as_str()) {
        return false;
    }
    is_secret_name(name) || looks_random(value) || !find_in_url(value).is_empty()
}

fn find_in_url(value: &str) -> Found {
    match value.find("://") {
        Some(scheme) => [url_password(value, scheme + 3), url_query(value)].concat(),
        None => Vec::new(),
    }
}

/// True for names that speak of secrets.
fn is_secret_name(name: &str) -> bool {
    let name = variable_name(name);
    let mut words = name.split('_');
    let counted = name.contains("TOKENS") && !name.contains("SECRET");
    !counted
        && (PARTS.iter().any(|part| name.contains(part))
            || words.any(|word| WORDS.contains(&word))
            || name.ends_with("KEY"))
}

/// True for `--token` and its like; what names a file or a kind of log-in is no secret.
fn is_secret_flag(flag: &str) -> bool {
    let name = variable_name(flag.trim_start_matches('-'));
    let last = name.rsplit('_').next().unwrap_or_default();
    flag.starts_with('-') && is_secret_name(&name) && !ABOUT.contains(&last)
}

/// `-p hunter3` is a password to many; a number, a path, a package or a list is none.
fn is_short_password(flag: &str, value: &str) -> bool {
    let harmless = |c: char| "/.:@,".contains(c);
    flag == "-p" && !value.contains(harmless) && value.parse::<f64>().is_err()
}

/// Programs whose `-p` names a package, a port or a version.
fn is_runner(program: &str) -> bool {
    let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
    RUNNERS.contains(&name)
}

fn is_secret_header(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && is_secret_name(name)
}

/// True for what begins as tokens of well-known services do, or is long and without a pattern.
fn looks_random(value: &str) -> bool {
    if value.starts_with("-----BEGIN") {
        return true;
    }
    let value = value.strip_prefix("Bearer ").unwrap_or(value);
    let token = |b: u8| b.is_ascii_alphanumeric() || b"_-.+/=".contains(&b);
    if !value.bytes().all(token) {
        return false;
    }
    if value.len() >= 12 && PREFIXES.iter().any(|prefix| value.starts_with(prefix)) {
        return true;
    }
    let mixed =
        value.bytes().any(|b| b.is_ascii_digit()) && value.bytes().any(|b| b.is_ascii_alphabetic());
    let plain = !value.contains('.') && value.matches('/').count() < 2 && !value.starts_with('/');
    value.len() >= 20 && mixed && plain && entropy(value) > 3.3 && !is_dated_name(value)
}

/// `mcp-server-2024-11-05` and the like: words and short numbers between dashes.
fn is_dated_name(value: &str) -> bool {
    let mut parts = value.split(['-', '_', '/', '=']);
    parts.all(|part| {
        part.len() <= 4
            || part.bytes().all(|b| b.is_ascii_lowercase())
            || part.len() <= 8 && part.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Bits per byte.
fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = value.len() as f64;
    let bits = |count: u32| {
        let share = f64::from(count) / length;
        -share * share.log2()
    };
    counts
        .into_iter()
        .filter(|count| *count > 0)
        .map(bits)
        .sum()
}

const RUNNERS: [&str; 12] = [
    "npx", "npm", "pnpm", "bunx", "bun", "uvx", "uv", "pipx", "docker", "podman", "node", "deno",
];
const PARTS: [&str; 8] = [
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "APIKEY",
    "API_KEY",
];
const WORDS: [&str; 16] = [
    "KEY",
    "KEYS",
    "PASS",
    "PWD",
    "PAT",
    "AUTH",
    "OAUTH",
    "AUTHORIZATION",
    "AUTHENTICATION",
    "BEARER",
    "COOKIE",
    "COOKIES",
    "JWT",
    "DSN",
    "PRIVATE",
    "SID",
];
const ABOUT: [&str; 12] = [
    "FILE", "PATH", "DIR", "TYPE", "MODE", "METHOD", "NAME", "ID", "URL", "HOST", "PORT", "ENV",
];
const PREFIXES: [&str; 34] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xox",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "eyJ",
    "npm_",
    "pypi-",
    "hf_",
    "dop_v1_",
    "shpat_",
    "SG.",
    "tvly-",
    "ntn_",
    "secret_",
    "lin_api_",
    "figd_",
    "gsk_",
    "r8_",
    "gh_",
    "fc-",
    "whsec_",
];
/// Variables that need no mention.
const ALWAYS_SET: [&str; 3] = ["HOME", "USER", "PATH"];
