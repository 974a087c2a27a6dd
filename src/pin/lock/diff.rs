//! What differs between two locks, for people.

use std::collections::BTreeSet;

use super::{Lock, Locked};
use crate::pin::{Definition, Kind, hidden::escape, origin::Origin};

impl Lock {
    /// What is different in `new`, one line each; nothing when nothing is.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<String> {
        let names: BTreeSet<_> = self.backends.keys().chain(new.backends.keys()).collect();
        let mut lines = Vec::new();
        for name in names {
            let (old, new) = (self.backends.get(name), new.backends.get(name));
            let found = match (old, new) {
                (None, Some(new)) => {
                    lines.push(format!("+ backend {name}"));
                    Locked::default().changes(new)
                }
                (Some(_), None) => {
                    lines.push(format!("- backend {name}"));
                    continue;
                }
                (Some(old), Some(new)) => {
                    let found = old.changes(new);
                    if !found.is_empty() {
                        lines.push(format!("  backend {name}"));
                    }
                    found
                }
                (None, None) => continue,
            };
            lines.extend(found.into_iter().map(|line| format!("  {line}")));
        }
        lines
    }
}

impl Locked {
    fn changes(&self, new: &Self) -> Vec<String> {
        let mut lines = origin(&self.origin, &new.origin);
        lines.extend(one(
            "instructions",
            self.instructions.as_ref(),
            new.instructions.as_ref(),
        ));
        for kind in Kind::ALL {
            let (old, new) = (&self.lists[kind.index()], &new.lists[kind.index()]);
            let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for name in names {
                let label = format!("{} {}", kind.word(), escape(name));
                lines.extend(one(&label, old.get(name), new.get(name)));
            }
        }
        lines
    }
}

fn one(label: &str, old: Option<&Definition>, new: Option<&Definition>) -> Vec<String> {
    let (mark, lines) = match (old, new) {
        (None, None) => return Vec::new(),
        (Some(old), Some(new)) if (old.digest, old.modern) == (new.digest, new.modern) => {
            return Vec::new();
        }
        (Some(old), Some(new)) => ('~', difference(&old.shows, &new.shows)),
        (None, Some(new)) => ('+', difference(&[], &new.shows)),
        (Some(old), None) => ('-', difference(&old.shows, &[])),
    };
    let mut out = vec![format!("{mark} {label}")];
    out.extend(lines.into_iter().map(|line| format!("    {line}")));
    out
}

/// How a definition differs from the reviewed one; never empty when the digests differ.
#[must_use]
pub fn difference(old: &[String], new: &[String]) -> Vec<String> {
    let only = |mark: char, these: &[String], those: &[String]| {
        let others: BTreeSet<_> = those.iter().collect();
        let mine = these.iter().filter(|line| !others.contains(line));
        mine.map(|line| format!("{mark} {}", escape(line)))
            .collect::<Vec<_>>()
    };
    let mut lines = only('-', old, new);
    lines.extend(only('+', new, old));
    if lines.is_empty() && old != new {
        lines.push("the same lines in another order".to_owned());
    } else if lines.is_empty() {
        lines.push("in what the lines don't show".to_owned());
    }
    lines
}

fn origin(old: &Origin, new: &Origin) -> Vec<String> {
    let lines = difference(&old.lines(), &new.lines());
    if old == new {
        return Vec::new();
    }
    let mut out = vec!["~ program".to_owned()];
    out.extend(lines.into_iter().map(|line| format!("    {line}")));
    out
}
