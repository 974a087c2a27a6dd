//! Strings with references to variables, as clients write them and as we do.
//!
//! Owns the meaning of `${…}` in the files of Claude Code, Cursor and VS Code. Invariant: a literal
//! dollar sign stays a literal dollar sign.

use super::Notes;
use crate::config::is_variable_name;

/// A string in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Template(pub(super) Vec<Piece>);

/// A part of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Itself.
    Literal(String),
    /// The variable of this name.
    Variable(String),
}

impl Template {
    /// A reference and nothing else.
    pub(super) fn variable(name: &str) -> Self {
        Self(vec![Piece::Variable(name.to_owned())])
    }

    /// The string, if it has no references.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Reads a client's notation; `server` is whose string it is, for notes.
    pub(super) fn read(text: &str, server: &str, notes: &mut Notes) -> Self {
        let mut template = Self::default();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let Some(length) = rest[at..].find('}') else {
                break;
            };
            let inner = &rest[at + 2..at + length];
            let whole = &rest[at..=at + length];
            template.push_literal(&rest[..at]);
            match variable(inner, server, notes) {
                Some(Piece::Literal(text)) => template.push_literal(&text),
                Some(piece) => template.0.push(piece),
                None => template.push_literal(whole),
            }
            rest = &rest[at + length + 1..];
        }
        template.push_literal(rest);
        template
    }

    fn push_literal(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Literal(last)) => last.push_str(text),
            _ => self.0.push(Piece::Literal(text.to_owned())),
        }
    }

    /// The string as `proxy.toml` expands it.
    pub(super) fn expandable(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Literal(text) => text.replace('$', "$$"),
            Piece::Variable(name) => format!("${{{name}}}"),
        };
        self.0.iter().map(piece).collect()
    }
}

/// What stands between `${` and `}`; `None` when it is no reference in any client.
fn variable(inner: &str, server: &str, notes: &mut Notes) -> Option<Piece> {
    let known = |name: &str| Some(Piece::Variable(name.to_owned()));
    if let Some(id) = inner.strip_prefix("input:") {
        return known(&variable_name(id));
    }
    if let Some(name) = inner.strip_prefix("env:") {
        let name = name.split(':').next().unwrap_or(name);
        return known(&variable_name_kept(name));
    }
    match inner {
        "userHome" => return known("HOME"),
        "pathSeparator" | "/" => return Some(Piece::Literal("/".to_owned())),
        "workspaceFolder" | "workspaceFolderBasename" | "cwd" => {
            let name = variable_name(inner);
            notes.add(format!(
                "{server}: the gateway has no workspace: ${{{inner}}} became ${{{name}}}; set it, or write a path"
            ));
            return known(&name);
        }
        _ => {}
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_variable_name(name) {
        return None;
    }
    if default.is_some_and(|default| !default.is_empty()) {
        notes.add(format!(
            "{server}: the default of ${{{name}}} was left out; set the variable"
        ));
    }
    known(name)
}

fn variable_name_kept(name: &str) -> String {
    if is_variable_name(name) {
        name.to_owned()
    } else {
        variable_name(name)
    }
}

/// The name of an environment variable made from any text: `apiKey` and `api-key` become `API_KEY`.
pub(super) fn variable_name(text: &str) -> String {
    let mut name = String::new();
    let mut lower = false;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            if c.is_ascii_uppercase() && lower {
                name.push('_');
            }
            lower = c.is_ascii_lowercase() || c.is_ascii_digit();
            name.push(c.to_ascii_uppercase());
        } else {
            lower = false;
            if !name.is_empty() && !name.ends_with('_') {
                name.push('_');
            }
        }
    }
    let name = name.trim_end_matches('_');
    match name.bytes().next() {
        None => "VALUE".to_owned(),
        Some(b) if b.is_ascii_digit() => format!("V_{name}"),
        Some(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> (String, String) {
        let mut notes = Notes::default();
        let template = Template::read(text, "srv", &mut notes);
        (template.expandable(), notes.to_string())
    }

    #[test]
    fn references_of_each_client_become_ours() {
        for (theirs, ours) in [
            ("${input:github-token}", "${GITHUB_TOKEN}"),
            ("${input:perplexityKey}", "${PERPLEXITY_KEY}"),
            ("${env:MY_VAR}", "${MY_VAR}"),
            ("Bearer ${API_KEY}", "Bearer ${API_KEY}"),
            ("${userHome}/x", "${HOME}/x"),
            ("a${/}b", "a/b"),
            ("${workspaceFolder}/db", "${WORKSPACE_FOLDER}/db"),
            ("${PORT:-80}", "${PORT}"),
        ] {
            assert_eq!(expand(theirs).0, ours);
        }
        assert!(expand("${workspaceFolder}").1.contains("no workspace"));
        assert!(expand("${PORT:-80}").1.contains("default"));
        assert!(expand("${env:A}").1.is_empty());
    }

    #[test]
    fn literal_dollars_stay_literal() {
        for (theirs, ours) in [
            ("pa$$word$", "pa$$$$word$$"),
            ("$HOME", "$$HOME"),
            ("${not a name}", "$${not a name}"),
            ("${open", "$${open"),
            ("", ""),
        ] {
            assert_eq!(expand(theirs).0, ours);
        }
    }

    #[test]
    fn any_text_gives_a_usable_name() {
        for text in ["", "9lives", "äöü", "--", "a b", "x_"] {
            assert!(is_variable_name(&variable_name(text)), "{text}");
        }
    }
}
