//! `${VAR}` and `${file:PATH}` in string values; `$$` is a plain dollar sign.
//!
//! Owns the expansion and the knowledge of which text came from outside. It must never put an
//! expanded value into a problem: those speak of the reference only.

use super::{
    context::{Context, Span},
    problem::Problem,
};

/// A string value after expansion.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// What the program works with.
    pub(super) value: String,
    /// Where it stands in the file, quotes included.
    pub(super) span: Span,
    /// True when any of it came from outside the file and so must not be shown.
    pub(super) outside: bool,
}

impl Text {
    /// The value for a message, unless it came from outside the file.
    pub(super) fn shown(&self) -> &str {
        if self.outside {
            "[expanded]"
        } else {
            &self.value
        }
    }
}

/// Expands `raw`, which stands at `span`. `None` after a problem was reported.
pub(super) fn expand(cx: &Context<'_>, raw: &str, span: &Span) -> Option<Text> {
    let inner = inner(cx.text, raw, span);
    let mut value = String::with_capacity(raw.len());
    let (mut good, mut outside) = (true, false);
    for piece in pieces(raw) {
        let place = |range: Span| match inner {
            Some(start) => start + range.start..start + range.end,
            None => span.clone(),
        };
        match piece {
            Piece::Plain(text) => value.push_str(text),
            Piece::Open(range) => {
                cx.report(
                    Problem::error("`${` without a closing `}`")
                        .at(&place(range))
                        .help("write `${NAME}` or `${file:PATH}`; `$$` stands for a dollar sign"),
                );
                good = false;
            }
            Piece::Reference(name, range) => match resolve(cx, name, &place(range)) {
                Some(text) => {
                    outside = true;
                    value.push_str(&text);
                }
                None => good = false,
            },
        }
    }
    good.then(|| Text {
        value,
        span: span.clone(),
        outside,
    })
}

/// The parts of a literal that are no references: what has to be masked in a secret.
pub(super) fn literal_ranges(cx: &Context<'_>, raw: &str, span: &Span) -> Vec<Span> {
    let Some(start) = inner(cx.text, raw, span) else {
        return vec![span.clone()];
    };
    let mut at = 0;
    let mut ranges = Vec::new();
    for piece in pieces(raw) {
        if let Piece::Reference(_, range) = piece {
            ranges.push(start + at..start + range.start);
            at = range.end;
        }
    }
    ranges.push(start + at..start + raw.len());
    ranges
}

/// Where the characters of a string begin, when they stand in the file as they are.
fn inner(text: &str, raw: &str, span: &Span) -> Option<usize> {
    let source = text.get(span.clone())?;
    [3, 1]
        .into_iter()
        .find(|quotes| {
            source.len() == raw.len() + 2 * quotes
                && source.get(*quotes..quotes + raw.len()) == Some(raw)
        })
        .map(|quotes| span.start + quotes)
}

enum Piece<'a> {
    Plain(&'a str),
    Reference(&'a str, Span),
    Open(Span),
}

fn pieces(raw: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(found) = raw[at..].find('$') {
        let dollar = at + found;
        pieces.push(Piece::Plain(&raw[at..dollar]));
        let rest = &raw[dollar + 1..];
        if rest.starts_with('$') {
            pieces.push(Piece::Plain("$"));
            at = dollar + 2;
        } else if let Some(open) = rest.strip_prefix('{') {
            let Some(length) = open.find('}') else {
                pieces.push(Piece::Open(dollar..raw.len()));
                return pieces;
            };
            at = dollar + 2 + length + 1;
            pieces.push(Piece::Reference(&open[..length], dollar..at));
        } else {
            pieces.push(Piece::Plain("$"));
            at = dollar + 1;
        }
    }
    pieces.push(Piece::Plain(&raw[at..]));
    pieces
}

fn resolve(cx: &Context<'_>, name: &str, span: &Span) -> Option<String> {
    match name.strip_prefix("file:") {
        Some(path) => file(cx, path, span),
        None => variable(cx, name, span),
    }
}

fn variable(cx: &Context<'_>, name: &str, span: &Span) -> Option<String> {
    let problem = if !is_variable_name(name) {
        let help = match name.split_once(':') {
            Some(("env", rest)) if is_variable_name(rest) => format!("write `${{{rest}}}`"),
            Some((rest, _)) if is_variable_name(rest) => {
                format!("there are no defaults: write `${{{rest}}}` and set the variable")
            }
            _ => "write `${NAME}` or `${file:PATH}`; `$${` stands for a plain `${`".to_owned(),
        };
        Problem::error("not the name of an environment variable").help(help)
    } else {
        match cx.world.var(name).map(std::ffi::OsString::into_string) {
            Some(Ok(value)) => return Some(value),
            Some(Err(_)) => Problem::error(format!("the variable `{name}` is not UTF-8 text"))
                .help(format!("set `{name}` to text")),
            None => Problem::error(format!("the environment variable `{name}` is not set")).help(
                format!("set `{name}` before the start, or write `${{file:PATH}}`"),
            ),
        }
    };
    cx.report(problem.at(span));
    None
}

fn file(cx: &Context<'_>, path: &str, span: &Span) -> Option<String> {
    if path.is_empty() {
        cx.report(
            Problem::error("no path after `file:`")
                .at(span)
                .help("write `${file:PATH}`, relative to this file"),
        );
        return None;
    }
    let full = cx.path(path);
    cx.watch(full.clone());
    let mut content = match cx.world.read(&full) {
        Ok(content) => content,
        Err(error) => {
            cx.report(
                Problem::error(format!("can't read `{}`: {error}", full.display()))
                    .at(span)
                    .help("the path is relative to this file; it must be a readable regular file"),
            );
            return None;
        }
    };
    if cx.world.exposed(&full) {
        let shown = full.display();
        cx.report(
            Problem::error(format!("other users can read the secret in `{shown}`"))
                .at(span)
                .help(format!("run `chmod 600 {shown}`")),
        );
    }
    if content.ends_with(b"\n") {
        content.pop();
        if content.ends_with(b"\r") {
            content.pop();
        }
    }
    match String::from_utf8(content) {
        Ok(text) => Some(text),
        Err(_) => {
            let shown = full.display();
            cx.report(
                Problem::error(format!("`{shown}` is not UTF-8 text"))
                    .at(span)
                    .help("name a text file"),
            );
            None
        }
    }
}

/// True for what a child's environment can hold as a name.
#[must_use]
pub fn is_env_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
}

/// True for what can be named in `${…}`.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
