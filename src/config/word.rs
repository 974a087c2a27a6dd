//! Keys whose value is one word out of a few.
//!
//! Invariant: a word that isn't one of them is reported with those that are.

use super::{known, problem::Problem, table::Table};

/// Reads the word under `key`; what it stands for.
pub(super) fn read<T: Copy>(
    table: &mut Table<'_>,
    key: &'static str,
    words: &[(&'static str, T)],
) -> Option<T> {
    let text = table.string(key)?;
    let found = words.iter().find(|(word, _)| *word == text.value);
    if let Some((_, value)) = found {
        return Some(*value);
    }
    let near = known::nearest(&text.value, words.iter().map(|(word, _)| *word));
    let help = match near.filter(|_| !text.outside) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write {}", listed(words)),
    };
    let message = format!("`{}` is none of its values", table.name(key));
    table
        .cx
        .report(Problem::error(message).at(&text.span).help(help));
    None
}

fn listed<T>(words: &[(&'static str, T)]) -> String {
    let quoted: Vec<_> = words
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
