//! Where the file is no TOML: which errors are causes, and which only follow from them.
//!
//! Owns the choice of what to show when the parser had to guess. Invariant: a file with a syntax
//! error keeps at least one error.

use std::collections::BTreeSet;

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{context::Span, problem::Problem};

/// The errors of the parser, and what was found in the rest of the file. Where the syntax is broken
/// the rest is a guess, so what is merely missing, or stands on a broken line, is left out.
pub(super) fn merge(
    text: &str,
    document: &DeTable<'_>,
    syntax: Vec<Error>,
    found: Vec<Problem>,
) -> Vec<Problem> {
    if syntax.is_empty() {
        return found;
    }
    let line = |at: usize| {
        let before = &text.as_bytes()[..at.min(text.len())];
        before.iter().filter(|byte| **byte == b'\n').count()
    };
    let open = open_brackets(text, document, &syntax);
    let mut lines = BTreeSet::new();
    let mut problems: Vec<Problem> = Vec::new();
    for error in &syntax {
        let span = error.span().unwrap_or_default();
        let inside = |bracket: &Span| bracket.start < span.start && span.start <= bracket.end;
        // One error a line, and none of those that an open bracket makes of all that follows.
        if !open.iter().any(inside) && lines.insert(line(span.start)) {
            problems.push(problem(error));
        }
    }
    for bracket in &open {
        let start = bracket.start..bracket.start + 1;
        lines.extend(line(bracket.start)..=line(bracket.end));
        problems.push(
            Problem::error("not valid TOML: this bracket is never closed")
                .at(&start)
                .help("close it where the list ends"),
        );
    }
    let kept = found.into_iter().filter(|problem| {
        problem.is_local() && problem.start().is_some_and(|at| !lines.contains(&line(at)))
    });
    problems.extend(kept);
    problems
}

/// The outermost brackets that the parser missed the end of.
fn open_brackets(text: &str, document: &DeTable<'_>, syntax: &[Error]) -> Vec<Span> {
    let mut spans = Vec::new();
    for error in syntax.iter().filter(|error| is_open(error)) {
        let Some(end) = error.span().map(|span| span.start) else {
            continue;
        };
        if let Some(start) = bracket_before(text, document.values(), end)
            && !spans.iter().any(|span: &Span| span.start == start)
        {
            spans.push(start..end);
        }
    }
    spans
}

fn is_open(error: &Error) -> bool {
    let message = error.message();
    message.starts_with("unclosed array") || message.starts_with("unclosed inline table")
}

/// Where the outermost list or inline table begins that reaches up to `end`.
fn bracket_before<'a, 'i: 'a>(
    text: &str,
    values: impl Iterator<Item = &'a Spanned<DeValue<'i>>>,
    end: usize,
) -> Option<usize> {
    values
        .filter_map(|value| {
            let span = value.span();
            let source = text.get(span.clone()).unwrap_or_default();
            // A table of a header has no bracket of its own, and its span is the header.
            let open = source.starts_with('[') && !source.ends_with(']')
                || source.starts_with('{') && !source.ends_with('}');
            if open && span.start < end {
                return Some(span.start);
            }
            match value.get_ref() {
                DeValue::Array(array) => bracket_before(text, array.iter(), end),
                DeValue::Table(table) => bracket_before(text, table.values(), end),
                _ => None,
            }
        })
        .max()
}

/// What to hide of broken lines: values can't be told from names there, and one may be a secret.
pub(super) fn masks(text: &str, syntax: &[Error]) -> Vec<Span> {
    let starts = syntax
        .iter()
        .filter_map(|error| error.span().map(|span| span.start));
    let mut masks = Vec::new();
    for at in starts {
        let at = text.floor_char_boundary(at.min(text.len()));
        let start = text[..at].rfind('\n').map_or(0, |at| at + 1);
        let end = text[at..].find('\n').map_or(text.len(), |found| at + found);
        let line = text[start..end].to_ascii_uppercase();
        let word = SECRET_WORDS.iter().filter_map(|word| line.find(word)).min();
        if let Some(word) = word
            && let Some(equals) = line[word..].find('=')
        {
            masks.push(start + word + equals + 1..end);
        }
    }
    masks
}

fn problem(error: &Error) -> Problem {
    let (what, expected) = match error.message().split_once(", expected ") {
        Some((what, expected)) => (what, Some(expected)),
        None => (error.message(), None),
    };
    let problem = Problem::error(format!("not valid TOML: {what}")).help(match expected {
        _ if what == "duplicate key" => "each key and table stands once: remove one".to_owned(),
        Some("nothing") | None => "see https://toml.io for how values are written".to_owned(),
        Some(expected) => format!("expected {expected}"),
    });
    match error.span() {
        Some(span) => problem.at(&span),
        None => problem,
    }
}

/// Parts of variable names that stand for secrets.
const SECRET_WORDS: [&str; 6] = ["TOKEN", "SECRET", "PASSW", "_KEY", "APIKEY", "CREDENTIAL"];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let (document, syntax) = DeTable::parse_recoverable(text);
        let masks = masks(text, &syntax);
        let list = merge(text, document.get_ref(), syntax, Vec::new());
        super::super::Problems::new("f".to_owned(), text, &masks, list).render(false)
    }

    #[test]
    fn an_open_bracket_is_shown_where_it_opens_and_only_once() {
        for open in ["command = [\"a\", \"b\"", "env = { A = \"b\""] {
            let text = format!("[x]\n{open}\nargs = 5\n[auth]\nanonymous = true\n");
            let shown = shown(&text);
            assert!(shown.contains("this bracket is never closed"), "{shown}");
            assert!(shown.contains("f:2:"), "{shown}");
            assert!(shown.ends_with("f: 1 error\n"), "{shown}");
        }
    }

    #[test]
    fn several_broken_lines_are_all_shown() {
        let shown = shown("a = \"x\nb = yes\nc = 1\nc = 2\n");
        for line in ["f:1:", "f:2:", "f:4:", "f: 3 errors"] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn a_broken_line_does_not_show_a_secret() {
        for text in [
            "GITHUB_TOKEN = abcdef\n",
            "env = { A = 1, API_KEY = \"abcdef }\n",
        ] {
            let shown = shown(text);
            assert!(shown.contains("f:1:"), "{shown}");
            assert!(!shown.contains("abcdef"), "{shown}");
        }
    }
}
