//! `[backends.NAME.filter]`: `redact` and `rules`.
//!
//! Owns how expressions and patterns are written in the file, and where in it their faults are
//! shown.

use std::collections::BTreeMap;

use super::{
    context::{Context, Span},
    expand::Text,
    known::nearest,
    problem::Problem,
    table::Table,
};
use crate::policy::{
    PatternError,
    redact::{Redaction, Redactions},
    rules::{Action, Rule, Rules},
};

/// The list of patterns and what replaces their matches.
pub(super) fn redact(filter: &mut Table<'_>) -> Redactions {
    let blocks = filter.tables("redact");
    let redactions = blocks.into_iter().filter_map(|mut table| {
        let pattern = table.string("pattern");
        if pattern.is_none() && !table.has("pattern") {
            table.missing("pattern", "write the regular expression to look for");
        }
        let replace = table.string("replace");
        let broken = replace.is_none() && table.has("replace");
        let redaction = redaction(&table, pattern, replace.filter(|_| !broken));
        table.finish();
        redaction
    });
    Redactions::new(redactions.collect())
}

fn redaction(table: &Table<'_>, pattern: Option<Text>, replace: Option<Text>) -> Option<Redaction> {
    if let Some(text) = replace
        .as_ref()
        .filter(|text| text.value.len() > MAX_REPLACE)
    {
        let problem = Problem::error(format!("longer than {MAX_REPLACE} bytes"));
        let problem = problem
            .at(&text.span)
            .help("write a short mark, such as \"[key]\"");
        table.cx.report(problem);
    }
    if let Some(text) = replace.as_ref().filter(|text| refers_to_group(&text.value)) {
        let problem = Problem::warning("`$` stands for itself here: groups can't be referred to");
        let help = "match only what is to be replaced";
        table.cx.report(problem.at(&text.span).help(help));
    }
    let pattern = pattern?;
    let replace = replace.map_or_else(|| REPLACE.to_owned(), |text| text.value);
    match Redaction::new(&pattern.value, &replace) {
        Ok(redaction) => Some(redaction),
        Err(error) => {
            let (range, message, help) = match error {
                PatternError::Syntax { range, message } => {
                    let what = if pattern.outside {
                        String::new()
                    } else {
                        format!(": {message}")
                    };
                    let help = "see https://docs.rs/regex/#syntax; in '…' backslashes stand for themselves";
                    (range, format!("not a regular expression{what}"), help)
                }
                PatternError::TooLarge => {
                    let message = "this pattern is too large to be searched for in bounded time";
                    let help = "use smaller repetitions, and fewer of them one after the other";
                    (0..pattern.value.len(), message.to_owned(), help)
                }
                PatternError::Empty => {
                    let message = "this pattern matches the empty text, and so everywhere";
                    (
                        0..pattern.value.len(),
                        message.to_owned(),
                        "let it match a character at least",
                    )
                }
            };
            let place = part(table.cx, &pattern, range);
            table
                .cx
                .report(Problem::error(message).at(&place).help(help));
            None
        }
    }
}

fn refers_to_group(text: &str) -> bool {
    text.match_indices('$').any(|(at, _)| {
        let next = text[at + 1..].chars().next();
        next.is_some_and(|next| next.is_ascii_alphanumeric() || next == '{')
    })
}

/// The rules, in the order of the file.
pub(super) fn rules(filter: &mut Table<'_>) -> Rules {
    let mut names: BTreeMap<String, Span> = BTreeMap::new();
    let mut rules = Vec::new();
    for mut table in filter.tables("rules") {
        let name = name(&mut table, &mut names);
        let when = required(
            &mut table,
            "when",
            "write a condition in CEL: when = 'tool == \"x\"'",
        );
        let action = action(&mut table);
        let reason = reason(&mut table, action);
        let parts = (name, action, reason);
        if let Some(when) = when {
            rules.extend(rule(table.cx, &when, parts));
        }
        table.finish();
    }
    Rules::new(rules)
}

fn rule(
    cx: &Context<'_>,
    when: &Text,
    (name, action, reason): (Option<String>, Option<Action>, Option<String>),
) -> Option<Rule> {
    // The condition is judged even when something else is missing.
    let checked = Rule::new(
        name.as_deref().unwrap_or_default(),
        &when.value,
        action.unwrap_or(Action::Deny),
        reason.as_deref().unwrap_or_default(),
    );
    match checked {
        Ok(rule) => (name.is_some() && action.is_some()).then_some(rule),
        Err(faults) => {
            for fault in faults {
                let shown = if when.outside {
                    "not a condition"
                } else {
                    &fault.message
                };
                let help = fault.help.filter(|_| !when.outside);
                let help = help.unwrap_or_else(|| "try it with its text written out".to_owned());
                let problem = Problem::error(shown).at(&part(cx, when, fault.range));
                cx.report(problem.help(help));
            }
            None
        }
    }
}

fn required(table: &mut Table<'_>, key: &'static str, help: &str) -> Option<Text> {
    let text = table.string(key);
    if text.is_none() && !table.has(key) {
        table.missing(key, help);
    }
    text
}

fn name(table: &mut Table<'_>, names: &mut BTreeMap<String, Span>) -> Option<String> {
    let text = required(table, "name", "name it: clients and the audit log are told")?;
    let good =
        (1..=MAX_NAME).contains(&text.value.len()) && text.value.chars().all(|c| !c.is_control());
    if !good {
        let problem = Problem::error("not a name for a rule").at(&text.span);
        let help = format!("write 1 to {MAX_NAME} printable characters");
        table.cx.report(problem.help(help));
    }
    if let Some(first) = names.insert(text.value.clone(), text.span.clone()) {
        let problem = Problem::error("two rules have this name").at(&text.span);
        table.cx.report(
            problem
                .also(&first, "the first one")
                .help("name one of them otherwise"),
        );
    }
    Some(text.value)
}

fn action(table: &mut Table<'_>) -> Option<Action> {
    let text = required(table, "action", "write \"deny\", \"allow\" or \"log\"")?;
    let action = match text.value.as_str() {
        "deny" => Some(Action::Deny),
        "allow" => Some(Action::Allow),
        "log" => Some(Action::Log),
        _ => None,
    };
    if action.is_none() {
        let near = nearest(&text.value, ["deny", "allow", "log"]).filter(|_| !text.outside);
        let help = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "write \"deny\", \"allow\" or \"log\"".to_owned(),
        };
        let message = format!("`{}` is none of its values", table.name("action"));
        table
            .cx
            .report(Problem::error(message).at(&text.span).help(help));
    }
    action
}

/// What a client is told; only a rule that denies must have it.
fn reason(table: &mut Table<'_>, action: Option<Action>) -> Option<String> {
    let text = table.string("reason");
    if text.is_none() && !table.has("reason") && action == Some(Action::Deny) {
        table.missing("reason", "write what the client is told");
    }
    let text = text?;
    if text.value.is_empty() || text.value.len() > MAX_REASON {
        let problem = Problem::error("not a reason").at(&text.span);
        table
            .cx
            .report(problem.help(format!("write 1 to {MAX_REASON} bytes")));
    }
    Some(text.value)
}

/// Where a part of a value stands in the file, if it can be told, else the whole value.
fn part(cx: &Context<'_>, text: &Text, range: Span) -> Span {
    let source = cx.text.get(text.span.clone()).unwrap_or_default();
    let opening = ["'''\n", "\"\"\"\n", "'''", "\"\"\"", "'", "\""]
        .into_iter()
        .find(|opening| {
            source
                .strip_prefix(opening)
                .and_then(|rest| rest.strip_suffix(opening.trim_end()))
                == Some(&text.value)
        });
    match opening {
        Some(opening) => {
            let start = text.span.start + opening.len();
            start + range.start..start + range.end
        }
        None => text.span.clone(),
    }
}

/// Stands where nothing is said of what is to stand there.
const REPLACE: &str = "[redacted]";
/// Bytes that may take the place of a match.
const MAX_REPLACE: usize = 256;
/// Bytes of a rule's name.
const MAX_NAME: usize = 128;
/// Bytes of a rule's reason.
const MAX_REASON: usize = 1024;
